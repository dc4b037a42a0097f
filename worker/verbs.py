"""What `python <worker folder> VERB` can do on a host."""

from __future__ import annotations

import gc
import importlib
import sys
from typing import List

VERBS = {
    "relay": (".agent.relay", "reach a run's agent over standard input and output, starting it if asked to"),
    "visit": (".errands.visit", "all that is asked of this host before a run, in one conversation; then the relay"),
    "check": (".errands.check", "tell the facts of this host, and try whether it and others reach each other"),
    "deep": (".errands.deep", "start this host's workers of a trial all-reduce, and tell how they end"),
    "allreduce": (".train.allreduce", "add up a tensor over the cluster of TF_CONFIG, twice: one rank of `deep`"),
    "stage": (".errands.stage", "bring trees here, run setup commands, make a run's copy of the sources"),
    "living": (".errands.living", "tell what runs have alive here, and kill what nobody minds"),
    "pull": (".errands.pull", "send the coordinator what a run has left here"),
    "receive": (".errands.receive", "take a checkpoint from the coordinator"),
    "zygote": (".train.zygote", "import the trainer once, and fork ranks of it when the agent asks for them"),
    "train": (".train.main", "train one rank of the cluster with the built-in trainer"),
}


def main(argv: List[str]) -> int:
    """Run one verb; returns the exit code of the process."""
    if not argv or argv[0] not in VERBS:
        lines = ["usage: python WORKER_FOLDER VERB", ""]
        lines += [f"  {verb:8} {text}" for verb, (_, text) in VERBS.items()]
        print("\n".join(lines), file=sys.stderr)
        return 2
    module = importlib.import_module(VERBS[argv[0]][0], package=__package__)
    gc.enable()  # the door has it off while modules come, of which nothing is garbage
    return int(module.main(argv[1:]))
