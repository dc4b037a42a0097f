"""The planned ports: free, and none that the kernel gives to others."""

from __future__ import annotations

from launcher.check.finding import Finding, Seen, Verdict


def check(seen: Seen) -> list[Finding]:
    findings = []
    unopened = seen.tried.unopened if seen.tried else ()
    for host, found in seen.hosts:
        name, (low, high) = (host.name,), host.ports
        planned = [str(r.port) for r in seen.plan.ranks if r.host == host.name and r.port] if seen.plan else []
        taken = [f"{port} ({why})" for whose, port, why in unopened if whose == host.name]
        if "ports" in found.failures or not found.free_ports or taken:
            why = found.failures.get("ports") or (", ".join(taken) if taken else f"nothing is free in {low}-{high}")
            what = f"{host.name}: its ports cannot be opened: {why}"
            fix = f"run it again, or give {host.name} other `ports:` (`ss -ltnp` on it names who has these)"
            findings.append(Finding(name, "ports", Verdict.FAIL, what, fix, brief="taken"))
        elif found.ephemeral and low <= found.ephemeral[1] and high >= found.ephemeral[0]:
            first, last = found.ephemeral
            what = f"{host.name}: ports {low}-{high} are among those that its kernel gives away, {first}-{last}"
            fix = f"set `ports:` outside of that, such as {_outside(first, high - low)}"
            findings.append(Finding(name, "ports", Verdict.WARN, what, fix, brief=", ".join(planned) or "shared"))
        else:
            what = f"{len(found.free_ports)} of {low}-{high} are known to be free"
            findings.append(Finding(name, "ports", Verdict.OK, what, brief=", ".join(planned[:3]) or "free"))
    return findings


def _outside(first: int, length: int) -> str:
    low = 20000 if first > 20000 + length else max(1024, first - 1 - length)
    return f"{low}-{low + length}"
