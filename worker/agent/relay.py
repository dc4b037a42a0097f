"""The relay: a host's end of every connection to an agent, between standard input and output and the agent's socket.

It starts the agent if nobody listens and it was told to; after that it only moves bytes, and its end harms nobody.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import stat
import struct
import sys
import time
from typing import Dict, List, Optional

from ..contract import layout, wire
from ..contract.peers import peer_of

MOST_BUFFERED = 1 << 18
PIECE = 1 << 16
START_S = 20.0
MOST_STARTS = 3
_LENGTH = struct.Struct(">I")


class ReachError(Exception):
    """No agent can be reached, for a reason that another try would not change."""


def main(argv: List[str]) -> int:
    """Serve one connection over standard input and output; returns when either end closes it."""
    if argv:
        print("usage: python WORKER_FOLDER relay    (speaks over standard input and output)", file=sys.stderr)
        return 2
    try:
        _write_all(wire.MAGIC)
        reach = _read_reach()
    except (wire.WireError, OSError) as error:
        return _absent(str(error))
    return 0 if reach is None else _serve(reach, b"")


def serve(reach: wire.Message, ahead: bytes) -> int:
    """As `main`, for who has read the `reach` already, and perhaps what comes after it."""
    try:
        _write_all(wire.MAGIC)
        _check_reach(reach)
    except (wire.WireError, OSError) as error:
        return _absent(str(error))
    return _serve(reach, ahead)


def _serve(reach: wire.Message, ahead: bytes) -> int:
    try:
        agent, first = _reach(reach)
    except (ReachError, wire.WireError) as error:
        return _absent(str(error))
    except OSError as error:
        return _absent(f"{error.strerror}: {error.filename or ''}".rstrip(": "))
    if agent is None:
        return _absent("no agent of this run is alive here")
    _pump(agent, ahead, first)
    return 0


def _absent(why: str) -> int:
    with contextlib.suppress(OSError):
        _write_all(wire.encode({"type": wire.ABSENT, "why": why[:2000], "boot_id": _boot_id()}))
    return 1


def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.readline().strip()
    except OSError:
        return ""


def _write_all(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]


def _read_exactly(count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = os.read(0, count - len(data))
        if not piece:
            return b""
        data += piece
    return data


def _read_reach() -> Optional[wire.Message]:
    """The first frame, and not a byte more: what follows is the agent's. None if the other side left."""
    head = _read_exactly(_LENGTH.size)
    if not head:
        return None
    (length,) = _LENGTH.unpack(head)
    if length > wire.MAX_FRAME:
        raise wire.WireError(f"a frame of {length} bytes, and {wire.MAX_FRAME} are allowed")
    body = _read_exactly(length)
    if not body:
        return None
    (message,) = wire.Decoder().feed(head + body)
    if message["type"] != wire.REACH:
        raise wire.WireError("the first message must be reach")
    _check_reach(message)
    return message


def _check_reach(message: wire.Message) -> None:
    for key, kinds in (("folder", str), ("host", str), ("run", str), ("start", bool), ("lease_s", (int, float))):
        if not isinstance(message.get(key), kinds):
            raise wire.WireError(f"reach has no proper {key}")
    if not os.path.isabs(message["folder"]) or "\0" in message["folder"]:
        raise wire.WireError("the folder must be an absolute path")


def _reach(reach: wire.Message) -> "tuple[Optional[socket.socket], bytes]":
    """A connection to the agent and the first bytes that it said; nobody, if there is none and none may be started."""
    if reach["start"]:
        os.makedirs(reach["folder"], 0o700, exist_ok=True)
    name = layout.agent_socket(reach["folder"])
    deadline = time.monotonic() + START_S
    starts = 0
    pause = 0.002
    while True:
        agent = _connect(name)
        if agent is not None:
            # An agent that is just leaving may never have seen us: only its first word says that it is there.
            first = _first_word(agent, deadline)
            if first:
                return agent, first
            agent.close()
        elif not reach["start"]:
            return None, b""
        elif starts == MOST_STARTS:
            raise ReachError(f"the agent ended at once: see {layout.HostFolder(reach['folder']).agent_log}")
        elif _start(name, reach):
            starts += 1
            continue
        if time.monotonic() > deadline:
            raise ReachError("an earlier agent of this run has not ended, or another user has taken its name")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


def _connect(name: str) -> Optional[socket.socket]:
    agent = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        agent.connect(name)
    except ConnectionRefusedError:
        agent.close()
        return None
    peer = peer_of(agent)
    if not peer.mine:
        agent.close()
        raise ReachError(
            f"user {peer.uid} has taken the name of this run's agent: ask who that is, and start again under a new name"
        )
    return agent


def _first_word(agent: socket.socket, deadline: float) -> bytes:
    agent.settimeout(max(0.1, deadline - time.monotonic()))
    try:
        return agent.recv(PIECE)
    except socket.timeout as error:
        raise ReachError("the agent does not answer") from error
    except OSError:
        return b""


def _start(name: str, reach: wire.Message) -> bool:
    """Become the one who starts the agent: whoever binds the name. False if another one did, or an old one lingers."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(name)
    except OSError:
        listener.close()
        return False
    listener.listen(64)
    # An agent without a journal would be of no use: say so here, where somebody listens.
    journal = layout.HostFolder(reach["folder"]).journal
    os.close(os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600))
    from . import birth, warden  # not needed to reach an agent that is there

    place = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    package = os.path.basename(place)
    folder = os.path.realpath(reach["folder"])
    about = (folder, reach["host"], reach["run"], float(reach["lease_s"]), package, str(reach.get("warm", "")))
    try:
        not_warm: Optional[str] = ""
        if reach.get("warm"):
            from .offer import offer  # nor for a run that keeps nothing

            not_warm = offer(listener, birth.Birth(*about), place)
        if not_warm is not None:
            birth.in_background(listener, birth.Birth(*about, not_warm), warden.main)
    finally:
        listener.close()
    return True


def _pump(agent: socket.socket, ahead: bytes, first: bytes) -> None:
    """Both ways, beginning with what was read before, until the agent has closed, or the client is gone and all that it
    said is handed on.

    Never holds more than 256 KiB each way. A client that hangs up right after its last word is heard: only what is
    said to it is dropped then.
    """
    agent.setblocking(False)
    to_agent, to_client = bytearray(ahead), bytearray(first)
    reading, listening, closed = True, True, False  # the client still talks; it still reads; the agent has closed
    piece = _safe_piece()
    while to_client or not closed:
        ready = _wait(agent, to_agent, to_client, reading, listening, closed)
        if 0 in ready:
            data = _read_client()
            to_agent += data
            reading = bool(data)
        if 1 in ready:
            listening = not ready[1] & ~select.POLLOUT and _write_client(to_client, piece)
        if agent.fileno() in ready:
            closed = _exchange(agent, to_agent, to_client)
        if not listening:
            to_client.clear()
        if not reading and not to_agent and not closed:
            if not listening:
                return
            with contextlib.suppress(OSError):
                agent.shutdown(socket.SHUT_WR)


def _wait(
    agent: socket.socket, to_agent: bytearray, to_client: bytearray, reading: bool, listening: bool, closed: bool
) -> Dict[int, int]:
    """What can be done now: descriptors and poll's bits."""
    poll = select.poll()
    if listening:
        poll.register(1, select.POLLOUT if to_client else 0)  # that its reader is gone is told in any case
    if not closed:
        if reading and len(to_agent) < MOST_BUFFERED:
            poll.register(0, select.POLLIN)
        wanted = select.POLLIN if len(to_client) < MOST_BUFFERED else 0
        poll.register(agent, wanted | (select.POLLOUT if to_agent else 0))
    return dict(poll.poll())


def _read_client() -> bytes:
    try:
        return os.read(0, PIECE)
    except OSError:
        return b""


def _write_client(to_client: bytearray, piece: int) -> bool:
    """Write what fits; False if nobody reads any more."""
    try:
        del to_client[: os.write(1, to_client[:piece])]
    except OSError:
        return False
    return True


def _exchange(agent: socket.socket, to_agent: bytearray, to_client: bytearray) -> bool:
    """Move what can be moved without waiting; True once the agent has closed."""
    try:
        if to_agent:
            del to_agent[: agent.send(to_agent)]
    except BlockingIOError:
        pass
    except OSError:
        to_agent.clear()  # it has closed; what it said before can still be read
    if len(to_client) >= MOST_BUFFERED:
        time.sleep(0.01)  # it has closed, or is writable only: do not spin while the client does not read
        return False
    try:
        data = agent.recv(PIECE)
    except BlockingIOError:
        return False
    except OSError:
        return True
    to_client += data
    return not data


def _safe_piece() -> int:
    """How much a write to standard output takes at once without waiting, once poll has said that it is writable.

    The descriptor may be shared with other processes, so it must not be made non-blocking. A pipe that is writable has
    room for PIPE_BUF bytes; so has a socket.
    """
    return PIECE if stat.S_ISREG(os.fstat(1).st_mode) else select.PIPE_BUF
