"""TensorFlow and Keras: there, and equal where they must be. Nothing was imported to find out."""

from __future__ import annotations

from launcher.check.finding import Finding, Seen, Verdict, odd, several
from launcher.check.found import Found
from launcher.spec.model import HostSpec

_VERSIONS = ">=2.20,<2.22"


def check(seen: Seen) -> list[Finding]:
    findings = [_one(seen, host, found) for host, found in seen.hosts if found.python.path and not found.python.missing]
    for package, versions in (
        ("TensorFlow", {host.name: found.python.tensorflow for host, found in seen.hosts}),
        ("Keras", {host.name: found.python.keras for host, found in seen.hosts}),
    ):
        findings += _equal(seen, package, {host: version for host, version in versions.items() if version})
    return findings


def _one(seen: Seen, host: HostSpec, found: Found) -> Finding:
    python = found.python
    absent = [name for name, version in (("TensorFlow", python.tensorflow), ("Keras", python.keras)) if not version]
    if absent:
        coming = seen.may_still_come(host)
        # A program may be any program; the trainer is one of TensorFlow's.
        failed = seen.spec.train is not None and not coming
        extra = "[and-cuda]" if found.nvidia else ""
        wanted = "keras" if python.tensorflow else f"tensorflow{extra}{_VERSIONS}"
        return Finding(
            (host.name,),
            "tensorflow",
            Verdict.FAIL if failed else Verdict.WARN,
            f"{host.name}: {several(absent)} {'is' if len(absent) == 1 else 'are'} not installed for {python.path}"
            + (", before `setup:` has run" if coming else ""),
            "" if coming else f"on {host.name}: {python.path} -m pip install '{wanted}', or set `python:` or `setup:`",
            brief="not yet" if coming else "missing",
        )
    if found.instructions.startswith("x86_64") and " avx" not in found.instructions:
        return Finding(
            (host.name,),
            "tensorflow",
            Verdict.FAIL,
            f"{host.name}: its processor has no AVX, and TensorFlow's packages need it: a worker would die at once",
            f"leave out {host.name}, or install a TensorFlow there that was built for it",
            brief="no AVX",
        )
    return Finding(
        (host.name,),
        "tensorflow",
        Verdict.OK,
        f"TensorFlow {python.tensorflow}, Keras {python.keras}",
        brief=python.tensorflow,
    )


def _equal(seen: Seen, package: str, versions: dict[str, str]) -> list[Finding]:
    """Workers of other minor versions compute, name and serialise differently; patches mend without that."""
    most, others = odd(versions)
    if not others:
        return []
    unequal = {host: v for host, v in others.items() if v.split(".")[:2] != most.split(".")[:2]}
    coming = all(seen.may_still_come(host) for host, _ in seen.hosts if host.name in others)
    told = several([f"{host} has {version}" for host, version in others.items()])
    name = "keras" if package == "Keras" else "tensorflow"
    pythons = "; ".join(
        f"on {host}: {seen.found[host].python.path} -m pip install '{name}=={most}'" for host in list(others)[:4]
    )
    return [
        Finding(
            tuple(unequal or others),
            "tensorflow",
            Verdict.FAIL if unequal and seen.spec.train is not None and not coming else Verdict.WARN,
            f"{package} must be the same everywhere: {told}, and the others have {most}",
            pythons,
            brief="differs",
        )
    ]
