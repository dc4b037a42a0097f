"""The GPUs: seen, alike, and whether TensorFlow can use them. Who gets which is the plan's to say."""

from __future__ import annotations

from collections import Counter

from launcher.check.finding import Finding, Seen, Verdict, odd, several
from launcher.check.found import Found
from launcher.spec.model import HostSpec

_CUDNN = ("nvidia-cudnn-cu12", "nvidia-cudnn-cu13")


def check(seen: Seen) -> list[Finding]:
    findings = [finding for host, found in seen.hosts for finding in _one(host, found)]
    used = {host.name: found for host, found in seen.hosts if host.gpus not in (0, ()) and found.gpus}
    findings += _alike("GPUs differ", {name: found.gpus[0].name for name, found in used.items()})
    findings += _alike("NVIDIA drivers differ", {name: found.driver for name, found in used.items()})
    return findings


def _one(host: HostSpec, found: Found) -> list[Finding]:
    name = (host.name,)
    if host.gpus in (0, ()):
        return [Finding(name, "gpus", Verdict.OK, "trains on the CPU, as the spec says", brief="not used")]
    if "gpus" in found.failures:
        return [
            Finding(
                name,
                "gpus",
                Verdict.FAIL,
                f"{host.name}: {found.failures['gpus']}",
                f"see what nvidia-smi says on {host.name}, or set `gpus: 0` to train on the CPU",
                brief="no answer",
            )
        ]
    if not found.gpus:
        if found.nvidia:
            what = f"{host.name}: there is an NVIDIA driver, and nvidia-smi shows no GPU"
            fix = f"see what nvidia-smi says on {host.name}: without it no GPU is used"
            return [Finding(name, "gpus", Verdict.WARN, what, fix, brief="none seen")]
        return [Finding(name, "gpus", Verdict.OK, "no GPU: trains on the CPU", brief="none")]
    kinds = Counter(gpu.name.removeprefix("NVIDIA ") for gpu in found.gpus)
    told = ", ".join(f"{count} × {kind}" for kind, count in kinds.items())
    return [Finding(name, "gpus", Verdict.OK, told, brief=told), *_busy(host, found), *_usable(host, found)]


def _busy(host: HostSpec, found: Found) -> list[Finding]:
    held = [f"GPU {gpu.index} by {gpu.holder}" for gpu in found.gpus if gpu.holder]
    if not held:
        return []
    return [
        Finding(
            (host.name,),
            "gpus",
            Verdict.WARN,
            f"{host.name}: {len(held)} of {len(found.gpus)} GPUs are held: {'; '.join(held)}",
            "end what holds them, or train on the others with `gpus: free`",
            brief=f"{len(held)} held",
        )
    ]


def _usable(host: HostSpec, found: Found) -> list[Finding]:
    python = found.python
    if not python.tensorflow:
        return []
    if not python.cuda or python.distribution.endswith("-cpu"):
        what = f"{host.name}: its TensorFlow {python.tensorflow} was built without CUDA, and sees no GPU"
        fix = f"on {host.name}: {python.path} -m pip install 'tensorflow[and-cuda]', or set `gpus: 0`"
        return [Finding((host.name,), "gpus", Verdict.FAIL, what, fix, brief="no CUDA")]
    if not any(package in python.packages for package in _CUDNN):
        what = (
            f"{host.name}: {python.path} has no cuDNN of its own: TensorFlow needs the system's, for CUDA {python.cuda}"
        )
        fix = f"if it finds none: {python.path} -m pip install 'tensorflow[and-cuda]' on {host.name}"
        return [Finding((host.name,), "gpus", Verdict.WARN, what, fix)]
    return []


def _alike(what: str, values: dict[str, str]) -> list[Finding]:
    most, others = odd({host: value for host, value in values.items() if value})
    if not others:
        return []
    told = several([f"{host} has {value}" for host, value in others.items()])
    fix = "the slowest sets the pace of all, and results may differ in their last bits"
    return [Finding(tuple(others), "gpus", Verdict.WARN, f"{what}: {told}, and the others have {most}", fix)]
