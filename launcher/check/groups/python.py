"""The workers' Python: there, new enough, the same everywhere."""

from __future__ import annotations

from launcher.check.finding import Finding, Seen, Verdict, odd, several
from launcher.check.found import Found
from launcher.spec.model import HostSpec

OLDEST = (3, 9)


def check(seen: Seen) -> list[Finding]:
    findings = [_one(seen, host, found) for host, found in seen.hosts]
    versions = {
        host.name: ".".join(found.python.version.split(".")[:2]) for host, found in seen.hosts if found.python.version
    }
    most, others = odd(versions)
    if others:
        told = several([f"{host} has {version}" for host, version in others.items()])
        findings.append(
            Finding(
                tuple(others),
                "python",
                Verdict.WARN,
                f"the workers' Pythons differ: {told}, and the others have {most}",
                f"set `python:` to a Python {most} for {several(list(others))}",
            )
        )
    return findings


def _one(seen: Seen, host: HostSpec, found: Found) -> Finding:
    python = found.python
    missing = python.missing or found.failures.get("python", "")
    if missing or not python.path:
        coming = seen.may_still_come(host)
        return Finding(
            (host.name,),
            "python",
            Verdict.WARN if coming else Verdict.FAIL,
            f"{host.name}: {missing or 'its Python is not known'}" + (", before `setup:` has run" if coming else ""),
            "" if coming else f"set `python:` for host {host.name} to one that has TensorFlow",
            brief="not yet" if coming else "missing",
        )
    if _numbers(python.version) < OLDEST:
        return Finding(
            (host.name,),
            "python",
            Verdict.FAIL,
            f"{host.name}: {python.path} is Python {python.version}, and {OLDEST[0]}.{OLDEST[1]} or later is needed",
            f"set `python:` for host {host.name} to a newer one",
            brief=python.version,
        )
    return Finding((host.name,), "python", Verdict.OK, f"{python.path} is {python.version}", brief=python.version)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
