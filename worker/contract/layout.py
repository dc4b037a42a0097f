"""Every path of a run on a host, in one class. The coordinator's mirror of a host has the same shape.

<host folder>/
  events.jsonl                   the agent's journal
  agent.log                      what agent and warden print if something is wrong with them
  zygote.log                     what the process prints off which workers are forked
  code/<hash>/                   our `worker` package, staged
  sources/<hash>/                the user's folder, staged
  g<generation>/                 one folder for each life of the cluster
    rank<rank>.log               what the worker printed, standard output and error together
    rank<rank>.progress.jsonl    phases, steps, epochs
    rank<rank>.stacks            where its threads stood when it made no progress
    rank<rank>/                  the worker's own: tmp/, checkpoints/ (not published yet), output/
  checkpoints/g<generation>-s<step>/   published by the agent, whole
  output/                        what the run leaves: model.keras, a program's files
"""

from __future__ import annotations

import os
import re

from .hashes import sha256_of
from .value import Value

# What a checkpoint holds; see `checkpoints`, which an agent does not load for its names' sake.
ARRAYS = "arrays.npz"
STATE = "state.json"
MANIFEST = "manifest.json"
AT_HOME_MARK = ".home-"  # before the name of a checkpoint, beside it: a copy of it is home
_CHECKPOINT = re.compile(r"g(0|[1-9][0-9]{0,8})-s(0|[1-9][0-9]{0,17})")


class HostFolder(Value):
    """The folder of one run on one host. Pure: no method touches the disk."""

    root: str

    @property
    def journal(self) -> str:
        return os.path.join(self.root, "events.jsonl")

    @property
    def agent_log(self) -> str:
        return os.path.join(self.root, "agent.log")

    @property
    def zygote_log(self) -> str:
        return os.path.join(self.root, "zygote.log")

    @property
    def checkpoints(self) -> str:
        return os.path.join(self.root, "checkpoints")

    @property
    def output(self) -> str:
        return os.path.join(self.root, "output")

    def code(self, digest: str) -> str:
        return os.path.join(self.root, "code", digest)

    def sources(self, digest: str) -> str:
        return os.path.join(self.root, "sources", digest)

    def generation(self, generation: int) -> str:
        return os.path.join(self.root, f"g{generation}")

    def log(self, generation: int, rank: int) -> str:
        return os.path.join(self.generation(generation), f"rank{rank}.log")

    def progress(self, generation: int, rank: int) -> str:
        return os.path.join(self.generation(generation), f"rank{rank}.progress.jsonl")

    def stacks(self, generation: int, rank: int) -> str:
        return os.path.join(self.generation(generation), f"rank{rank}.stacks")

    def rank(self, generation: int, rank: int) -> str:
        return os.path.join(self.generation(generation), f"rank{rank}")

    def rank_tmp(self, generation: int, rank: int) -> str:
        return os.path.join(self.rank(generation, rank), "tmp")

    def rank_checkpoints(self, generation: int, rank: int) -> str:
        return os.path.join(self.rank(generation, rank), "checkpoints")

    def rank_output(self, generation: int, rank: int) -> str:
        return os.path.join(self.rank(generation, rank), "output")


def checkpoint_name(generation: int, step: int) -> str:
    """The name of a checkpoint: `g2-s1880`."""
    return f"g{generation}-s{step}"


def parse_checkpoint_name(name: str) -> "tuple[int, int] | None":
    """(generation, step) of a checkpoint's name, or None for anything else."""
    found = _CHECKPOINT.fullmatch(name)  # digits of other scripts and endless numbers are no names of ours
    return (int(found[1]), int(found[2])) if found else None


def _digest(text: str) -> str:
    return sha256_of(text.encode("utf-8", "surrogateescape"))[:24]


def agent_socket(root: str) -> str:
    """The abstract socket of the agent of a host folder: start lock and meeting point at once."""
    return f"\0launcher-{os.getuid()}-{_digest(os.path.realpath(root))}"


def kept_socket(key: str) -> str:
    """The abstract socket at which an agent that is kept warm waits for the next run with this key."""
    return f"\0launcher-kept-{os.getuid()}-{_digest(key)}"


def coordinator_socket(run_folder: str) -> str:
    """The abstract socket of the coordinator of a run folder."""
    return f"\0launcher-run-{os.getuid()}-{_digest(os.path.realpath(run_folder))}"


def mark(root: str) -> str:
    """What LAUNCHER_MARK holds in every process of the run on this host."""
    return f"{os.getuid()}-{_digest(os.path.realpath(root))}"
