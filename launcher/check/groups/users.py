"""Who else can log in: from there TensorFlow's ports are within reach, whatever a firewall at the door says."""

from __future__ import annotations

from launcher.check.finding import Finding, Seen, Verdict
from launcher.errors import some


def check(seen: Seen) -> list[Finding]:
    findings = []
    alike: dict[tuple[str, str, str], list[str]] = {}
    for host, found in seen.hosts:
        others = list(dict.fromkeys([*found.active, *found.accounts]))
        count = max(len(others), found.accounts_count)
        if not others:
            findings.append(Finding((host.name,), "users", Verdict.OK, "nobody else can log in", brief="none"))
            continue
        number = f"{count} other{'s' if count > 1 else ''}"
        told = ", ".join(others[:5]) + (", …" if count > 5 else "")
        what = f"{number} can log in ({told})"
        what += f", and {', '.join(found.active[:5])} have processes there now" if found.active else ""
        low, high = host.ports
        rule = f"iptables -I OUTPUT -o lo -p tcp --dport {low}:{high} -m owner ! --uid-owner {found.user} -j REJECT"
        alike.setdefault((what, rule, number), []).append(host.name)
    for (what, rule, number), hosts in alike.items():
        told = f"{some(hosts)}: {what}: whoever reaches TensorFlow's ports, through loopback too, runs code as you"
        fix = f"if you do not trust them, as root on {some(hosts)}: {rule}"
        findings.append(Finding(tuple(hosts), "users", Verdict.WARN, told, fix, brief=number))
    return findings
