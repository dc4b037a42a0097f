"""Whether a host answers, and our package runs there."""

from __future__ import annotations

from launcher.check.finding import Finding, Seen, Verdict


def check(seen: Seen) -> list[Finding]:
    findings = []
    for host in seen.spec.hosts:
        error, found = seen.failed.get(host.name), seen.found.get(host.name)
        if error is not None:
            findings.append(Finding((host.name,), "reach", Verdict.FAIL, error.message, error.hint, brief="no answer"))
        elif found is not None:
            findings.append(
                Finding(
                    (host.name,),
                    "reach",
                    Verdict.OK,
                    f"answers as {found.user} on {found.hostname}, under Python {found.python3}",
                    brief="here" if host.local else f"{max(1, round(found.clock_error_s * 2000))} ms",
                )
            )
            findings += [
                Finding((host.name,), "reach", Verdict.WARN, f"{host.name} could not tell its {name}: {why}")
                for name, why in found.failures.items()
                if name not in ("python", "gpus", "workdir", "ports", "names")  # those have checks that say so
            ]
    return findings
