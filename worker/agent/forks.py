"""What passes between the agent and a zygote: requests for ranks, and the lines on which they are answered."""

from __future__ import annotations

import array
import json
import os
import socket
import time
from typing import Any, Dict, List, Optional, Tuple

from . import processes
from .processes import Process
from .spawn import Berth

MOST_MESSAGE = 4096


class Request:
    """For one rank. `wait_s`: how long an import may be waited for."""

    def __init__(self, rank: int, berth: Berth, body: bytes, deadline: float, wait_s: float) -> None:
        self.rank = rank
        self.berth = berth
        self.body = body
        self.deadline = deadline
        self.wait_s = wait_s
        self.line: Optional[socket.socket] = None  # to the child, once it has been asked for


def pair() -> Tuple[socket.socket, socket.socket]:
    """Our end, which never blocks, and theirs. Raises OSError."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    return ours, theirs


def send(channel: socket.socket, body: bytes, descriptors: List[int]) -> None:
    """Raises OSError, also if it would block: the other side has not read what it was asked before."""
    channel.sendmsg([body], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))])


def clock() -> float:
    """Seconds that this machine was awake: one that was suspended meanwhile has made nobody late."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def parse(data: bytes) -> Dict[str, Any]:
    try:
        message = json.loads(data.decode("utf-8"))
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def told_seconds(value: Any) -> float:
    return round(float(value), 3) if isinstance(value, (int, float)) else 0.0


def child_of_ours(pid: Any) -> Optional[Process]:
    """The process of this pid, if it is our own child."""
    process = processes.look_up(pid) if isinstance(pid, int) and pid > 0 else None
    return process if process is not None and process.parent == os.getpid() else None
