"""How the trial all-reduce went, where one was asked for."""

from __future__ import annotations

from launcher.check.finding import Finding, Seen, Verdict


def check(seen: Seen) -> list[Finding]:
    findings = []
    causes = [told for told in seen.deep if told.why and not told.victim]
    for told in causes or [one for one in seen.deep if one.why]:
        what = f"rank {told.rank} on {told.host} did not do its two steps: {told.why}"
        fix = "what it printed last says why; without a word, see whether all ports are open between the hosts"
        findings.append(Finding((told.host,), "deep", Verdict.FAIL, what, fix, brief="failed"))
    named = {name for finding in findings for name in finding.hosts}
    for name in seen.names():
        mine = [told for told in seen.deep if told.host == name and not told.why]
        if mine and name not in named:
            slowest = max(told.step_s for told in mine) * 1000
            what = f"{mine[0].replicas} replicas added up 1 MB right, twice; the second time in {slowest:.0f} ms"
            findings.append(Finding((name,), "deep", Verdict.OK, what, brief=f"{slowest:.0f} ms"))
    return findings
