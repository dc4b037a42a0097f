"""Whether a plan can be made: equal devices for every worker, and whatever else it refuses."""

from __future__ import annotations

from launcher.check.finding import Finding, Seen, Verdict


def check(seen: Seen) -> list[Finding]:
    if seen.plan_error is not None:
        error = seen.plan_error
        named = tuple(name for name in seen.names() if f"host {name}:" in error.message) or seen.names()
        return [Finding(named, "plan", Verdict.FAIL, error.message, error.hint, brief="no plan")]
    if seen.plan is None:
        return []
    findings = []
    for host in seen.plan.hosts:
        ranks = [seen.plan.ranks[rank] for rank in host.ranks]
        if host.name not in seen.facts:
            continue
        if not ranks:
            what = f"{host.name} is held in reserve, for {_workers(host.workers)}"
            findings.append(Finding((host.name,), "plan", Verdict.OK, what, brief="spare"))
            continue
        count = len(ranks[0].gpus)
        devices = f"{count} GPU{'s' if count > 1 else ''}" if count else "CPU"
        what = f"{_workers(len(ranks))} on {host.name}, each on {devices}"
        findings.append(Finding((host.name,), "plan", Verdict.OK, what, brief=f"{len(ranks)} × {devices}"))
    return findings


def _workers(count: int) -> str:
    return f"{count} worker{'s' if count > 1 else ''}"
