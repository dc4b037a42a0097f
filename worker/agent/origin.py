"""Which ranks may be forked off a zygote, and off which: one that was started as the rank would be. Pure.

What is set in the environment before TensorFlow is imported may matter to the import, whatever its name. So all of it
is part of a zygote's origin, but for what is known to be read later.
"""

from __future__ import annotations

import posixpath
import re
from typing import Dict, List, Mapping, MutableMapping, NamedTuple, Tuple

from ..contract import names
from .orders import RankOrder

VERB = "zygote"
_TRAINER = "train"
# Read when the cluster is joined or a device is looked for, or by us: set in the child, after the fork.
_LATE = frozenset({names.TF_CONFIG, "CUDA_VISIBLE_DEVICES", "TMPDIR", "no_proxy", "no_grpc_proxy"})
# What tells of a login or a terminal, and is another one each time.
_OF_A_SESSION = frozenset({"PWD", "OLDPWD", "SHLVL", "_", "WINDOWID", "TMUX", "TMUX_PANE", "STY", "XDG_SESSION_ID"})
_OURS, _SSH = "LAUNCHER_", "SSH_"
# What the zygote is told of ours: the data set, to read it early, and by what it and all that it forks are found in
# /proc. The latter stands together, with some room at its end: a zygote that is kept may come to serve another run.
_MARKED = (names.MARK, names.RUN, names.HOST)
_ROOM = "LAUNCHER_ROOM"
_ROOM_BYTES = 128
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


def environment(found: Origin, env: Mapping[str, str], warm: bool = False) -> Dict[str, str]:
    """What the zygote itself is started with. `warm`: it may be kept, and serve another run."""
    told = {name: env[name] for name in (names.TRAIN, *_MARKED) if name in env}
    room = {_ROOM: " " * _ROOM_BYTES} if warm else {}
    return {**found.env, _BLAS: "1", **told, names.RANK: NO_RANK, **room}


def may_be_kept(env: Mapping[str, str]) -> bool:
    """Whether a zygote with this environment may be kept after its run."""
    return _ROOM in env


def clear_room(env: MutableMapping[str, str]) -> None:
    """In a zygote, before its block of memory is used for something else."""
    env.pop(_ROOM, None)


def remarked(shown: bytes, marked: Mapping[str, str]) -> bytes:
    """The block of memory in which /proc shows a zygote's environment, of another run now. Raises ValueError if there
    is no room for that."""
    begin = shown.index(f"\0{names.MARK}=".encode())
    end = shown.index(b"\0", shown.index(f"\0{_ROOM}=".encode()) + 1)
    told = {**{name: marked[name] for name in _MARKED}, names.RANK: NO_RANK, _ROOM: ""}
    entries = b"".join(b"\0" + f"{name}={value}".encode("utf-8", "surrogateescape") for name, value in told.items())
    if len(entries) > end - begin:
        raise ValueError("no room")
    return shown[:begin] + entries.ljust(end - begin, b" ") + shown[end:]


def marks_of(env: Mapping[str, str]) -> Dict[str, str]:
    """By what a process of a run is found in /proc."""
    return {name: env.get(name, "") for name in _MARKED}


def unlike(kept: Origin, wanted: Origin) -> str:
    """Why a zygote of the one origin, kept by another run, cannot stand for one of the other; or nothing.

    Each run has its code in a folder of its own, under its hash: only the hash has to be the same.
    """
    ours, theirs = _anywhere(kept), _anywhere(wanted)
    if ours.argv[0] != theirs.argv[0]:
        return "it is of another Python"
    if ours.argv != theirs.argv:
        return "it is of another version of this program"
    if ours.cwd != theirs.cwd:
        return "the code has been edited"
    both: List[str] = sorted({*ours.env, *theirs.env})
    other = [name for name in both if ours.env.get(name) != theirs.env.get(name)]
    return f"its environment is another one: {', '.join(other)[:500]}" if other else ""


def _anywhere(found: Origin) -> Origin:
    """Without the place of its run's folder, in which the program's working directory is."""
    place = posixpath.dirname(posixpath.dirname(found.cwd))
    if len(place) < 2:
        return found

    def freed(text: str) -> str:
        return text.replace(place + "/", "{run}/")

    argv = tuple(freed(word) for word in found.argv)
    return Origin(argv, freed(found.cwd), {name: freed(value) for name, value in found.env.items()})


def _is_late(name: str) -> bool:
    return name in _LATE or name in _OF_A_SESSION or name.startswith((_OURS, _SSH))
