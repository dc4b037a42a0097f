"""Proxies in a host's environment: gRPC would go to them for a peer, and the start would hang."""

from __future__ import annotations

from launcher.check.finding import Finding, Seen, Verdict


def check(seen: Seen) -> list[Finding]:
    findings = []
    for host, found in seen.hosts:
        # `env:` of the spec is part of what the host was asked about.
        if not found.proxies:
            findings.append(Finding((host.name,), "proxies", Verdict.OK, "none is set", brief="none"))
            continue
        names = ", ".join(found.proxies)
        what = (
            f"{host.name}: {names} {'is' if len(found.proxies) == 1 else 'are'} set; the plan's no_proxy leads past it"
        )
        findings.append(Finding((host.name,), "proxies", Verdict.NOTE, what, brief="passed by"))
    return findings
