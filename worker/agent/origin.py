"""Which ranks may be forked off a zygote, and off which: one that was started as the rank would be. Pure.

What is set in the environment before TensorFlow is imported may matter to the import, whatever its name. So all of it
is part of a zygote's origin, but for what is known to be read later.
"""

from __future__ import annotations

import re
from typing import Dict, Mapping, NamedTuple, Tuple

from ..contract import names
from .orders import RankOrder

VERB = "zygote"
_TRAINER = "train"
# Read when the cluster is joined or a device is looked for, or by us: set in the child, after the fork.
_LATE = frozenset({names.TF_CONFIG, "CUDA_VISIBLE_DEVICES", "TMPDIR", "no_proxy", "no_grpc_proxy"})
_OURS = "LAUNCHER_"
# What the zygote is told of ours: by these it and all that it forks are found in /proc, and the data set is read early.
_TOLD = (names.MARK, names.RUN, names.HOST, names.TRAIN)
_BLAS = "OPENBLAS_NUM_THREADS"
# Room for a forked rank's number in what /proc shows as its environment, which is the zygote's; see `train.zygote`.
NO_RANK = " " * 8
_EARLY = re.compile(r"(TF|XLA|CUDA|CUDNN|NCCL|LD|PYTHON|MALLOC|OMP|MKL|KMP|DNNL|ONEDNN|OPENBLAS|KERAS|GRPC|ABSL)_?")


class Origin(NamedTuple):
    """A zygote's program, folder and environment: equal ones can stand for each other."""

    argv: Tuple[str, ...]
    cwd: str
    env: Mapping[str, str]


def is_trainer(order: RankOrder) -> bool:
    """Whether it is the built-in trainer. A program may set variables before it imports TensorFlow: it starts cold."""
    return order.message and len(order.argv) == 3 and order.argv[2] == _TRAINER


def doubt(order: RankOrder, env: Mapping[str, str]) -> str:
    """Why a rank with this environment had better start cold, or nothing."""
    if env.get(_BLAS, "1") != "1":
        return f"{_BLAS} asks for threads, and a process that has some cannot be forked"
    early = [name for name in sorted(order.secrets) if _EARLY.match(name)]
    if early:
        return f"the secret {early[0]} may matter to the import"
    return ""


def origin(order: RankOrder, env: Mapping[str, str]) -> Origin:
    """The origin of a trainer's rank with this whole environment. Secrets stay out: they come with the fork."""
    early = {name: value for name, value in env.items() if not _is_late(name) and name not in order.secrets}
    python, code, _ = order.argv
    return Origin((python, code, VERB), order.cwd, early)


def environment(found: Origin, env: Mapping[str, str]) -> Dict[str, str]:
    """What the zygote itself is started with."""
    told = {name: env[name] for name in _TOLD if name in env}
    return {**found.env, **told, names.RANK: NO_RANK, _BLAS: "1"}


def _is_late(name: str) -> bool:
    return name in _LATE or name.startswith(_OURS)
