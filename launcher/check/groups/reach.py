"""Whether a host answers, and our package runs there."""

from __future__ import annotations

from collections.abc import Iterator

from launcher.check.finding import Finding, Seen, Verdict
from launcher.errors import some, without_host


def check(seen: Seen) -> list[Finding]:
    findings = list(_unreached(seen))
    for host in seen.spec.hosts:
        found = seen.found.get(host.name)
        if host.name not in seen.failed and found is not None:
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


def _unreached(seen: Seen) -> Iterator[Finding]:
    """Hosts that do not answer; those that say the same, as all behind one jump host, are one thing to mend."""
    told: dict[tuple[str, str], list[str]] = {}
    for host in seen.spec.hosts:
        if error := seen.failed.get(host.name):
            told.setdefault((without_host(error.message, host.name), error.hint), []).append(host.name)
    for (what, fix), hosts in told.items():
        yield Finding(tuple(hosts), "reach", Verdict.FAIL, f"{some(hosts)}: {what}", fix, brief="no answer")
