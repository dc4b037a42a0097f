"""Who else can log in: from there TensorFlow's ports are within reach, whatever a firewall at the door says."""

from __future__ import annotations

from launcher.check.finding import Finding, Seen, Verdict


def check(seen: Seen) -> list[Finding]:
    findings = []
    for host, found in seen.hosts:
        others = list(dict.fromkeys([*found.active, *found.accounts]))
        count = max(len(others), found.accounts_count)
        if not others:
            findings.append(Finding((host.name,), "users", Verdict.OK, "nobody else can log in", brief="none"))
            continue
        number = f"{count} other{'s' if count > 1 else ''}"
        told = ", ".join(others[:5]) + (", …" if count > 5 else "")
        what = f"{host.name}: {number} can log in ({told})"
        what += f", and {', '.join(found.active[:5])} have processes there now" if found.active else ""
        what += ": whoever reaches TensorFlow's ports, through loopback too, runs code as you"
        low, high = host.ports
        fix = (
            f"if you do not trust them, as root on {host.name}: iptables -I OUTPUT -o lo -p tcp --dport {low}:{high} "
            f"-m owner ! --uid-owner {found.user} -j REJECT"
        )
        findings.append(Finding((host.name,), "users", Verdict.WARN, what, fix, brief=number))
    return findings
