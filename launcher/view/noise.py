"""TensorFlow's noise: what it prints at every start, and when a peer is lost, and that says nothing about this run."""

from __future__ import annotations

import re

_ABSL = r"\d{4} \d\d:\d\d:[\d.:]+\s+\d+ "  # after its level: I0000 00:00:1767323050.268258    5937
_OLDER = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: "  # 2026-01-02 03:04:05.268258: I tensorflow/…
_SOURCE = r"[\w./+-]+\.(?:cc|h|cu|mm):\d+\] "

# Every INFO line of TensorFlow's C++ is noise; of its warnings and errors only those that are known to mean nothing.
_HARMLESS = (
    r"(?:failed call to cuInit: .*(?:UNKNOWN ERROR \(303\)|CUDA_ERROR_NO_DEVICE|no CUDA-capable device)"
    r"|Unable to register cu\w+ factory"
    r"|computation placer already registered"
    r"|TF-TRT Warning: Could not find TensorRT"
    r"|Could not find TensorRT"
    r"|successful NUMA node read"
    r"|Your kernel may have been built without NUMA support"
    r"|could not open file to read NUMA node)"
)
# How every survivor's collectives complain once one worker is gone; its trainer says the same in a line.
_BROKEN = (
    rf"[WE]{_ABSL}(?:ring_\w+|base_collective_executor|local_rendezvous|rpc_rendezvous_mgr|base_rendezvous_mgr"
    r"|hierarchical_tree_broadcaster|collective_\w+)\.cc:\d+\] .*(?i:abort)"
)
_NOISE = re.compile(
    "|".join(
        (
            rf"I{_ABSL}{_SOURCE}",
            rf"{_OLDER}I {_SOURCE}",
            rf"[WE]{_ABSL}{_SOURCE}{_HARMLESS}",
            rf"{_OLDER}[WE] {_SOURCE}{_HARMLESS}",
            _BROKEN,
            r"Additional GRPC error information from remote target /job:worker/",
            r":UNKNOWN:Error received from peer ",
            r"The error could be from a previous operation\. Restart your program to reset\.\s*$",
            r"\t \[\[\{\{(?:function_)?node [^{}]*\}\}(?:\{\{node [^{}]*\}\})?\]\]",
            r"WARNING: All log messages before absl::InitializeLog\(\) is called are written to STDERR",
            r"To enable the following instructions: .* rebuild TensorFlow with the appropriate compiler flags",
            r"Skipping registering GPU devices",
            r"/job:worker/(?:replica:\d+/)?task:\d+\s*$",  # the list under "Example stragglers:"
            r"INFO:tensorflow:(?:Using|Enabled multi-worker collective|MultiWorkerMirroredStrategy|Check health"
            r"|Waiting for the cluster|Cluster is ready|Collective all_reduce|Single-worker|Reduce to)",
        )
    )
)


def is_noise(line: str) -> bool:
    """Whether a line is one that TensorFlow prints at every start, or in every survivor of a lost peer."""
    return _NOISE.match(line) is not None


class Folder:
    """Takes the noise out of one rank's lines and counts it."""

    def __init__(self) -> None:
        self._count = 0
        self._told = False

    def keep(self, line: str) -> bool:
        """False for a line of noise, which is counted."""
        if is_noise(line):
            self._count += 1
            return False
        return True

    def notice(self) -> str:
        """One line that stands for what was folded since the last one; empty when that was nothing."""
        count, self._count = self._count, 0
        if not count:
            return ""
        what = "TensorFlow's own" if self._told else "TensorFlow's start-up"
        self._told = True
        lines, them = ("line", "it") if count == 1 else ("lines", "them")
        return f"({count} {lines} of {what} folded; --verbose shows {them})"
