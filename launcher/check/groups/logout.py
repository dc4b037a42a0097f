"""Whether a host's system ends processes when we log out: then a lost connection would end the run there."""

from __future__ import annotations

from launcher.check.finding import Finding, Seen, Verdict


def check(seen: Seen) -> list[Finding]:
    findings = []
    for host, found in seen.hosts:
        if host.local or not found.kills_at_logout:
            findings.append(Finding((host.name,), "logout", Verdict.OK, "processes outlive a logout", brief="ok"))
            continue
        what = f"{host.name}: systemd ends {found.user}'s processes at logout: a lost connection would end its workers"
        fix = (
            f"as root on {host.name}: `KillUserProcesses=no`, or `KillExcludeUsers=root {found.user}`, in "
            "/etc/systemd/logind.conf, then `systemctl restart systemd-logind`"
        )
        findings.append(Finding((host.name,), "logout", Verdict.WARN, what, fix, brief="ends them"))
    return findings
