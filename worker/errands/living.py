"""What runs of this user have alive on this host: agents, wardens and workers, whoever started them; and the end of
what nobody minds.

Orders, each answered by its own type:
  living                                    → living {machine, found: [process]}, in frames; `last`
  kill    processes: [[pid, start_time]]    → kill {killed: [pid]}
A process is {pid, start_time, created, kind, run, host, rank, minded, command}; `machine` is the same for all hosts
that are one machine. Who is to be killed is looked at again, and spared if an agent minds it by now; of kind `kept` is
what an agent that stays warm after its run has, and it may be killed, too.
"""

from __future__ import annotations

import os
import re
import socket
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

from ..agent import processes
from ..agent.processes import Process
from ..contract import names, wire
from ..contract.peers import peer_of
from .talk import Talk

PROBE_S = 1.0
MOST_COMMAND = 500
_FRAME = 500
_SOCKET = re.compile(r"@launcher-(\d+-[0-9a-f]{24})$")
_KEPT = b"(launcher-kept)"
_OURS = (b"(launcher-agent)", b"(launcher-warden)", _KEPT)


class Mark(NamedTuple):
    """Of which run on which host a process is: `name` is the mark, and the end of its agent's socket's name."""

    name: str
    run: str
    host: str
    rank: Optional[int]


def main(argv: List[str]) -> int:
    """Serve one coordinator to the end of its input."""
    del argv
    talk = Talk()
    try:
        while True:
            frame = talk.receive()
            if frame is None:
                return 0
            order = frame[0]
            if order["type"] == "living":
                _tell(talk)
            elif order["type"] == "kill":
                talk.send({"type": "kill", "killed": kill_left_over(order.get("processes") or [])})
            else:
                raise wire.WireError(f"{order['type']} is not known here")
    except BrokenPipeError:
        return 0
    except (wire.WireError, OSError) as error:
        talk.send({"type": "error", "why": str(error)})
        return 1


def _tell(talk: Talk) -> None:
    found = living()
    about = {"type": "living", "machine": _machine()}
    for at in range(0, len(found), _FRAME):
        talk.send({**about, "last": False, "found": found[at : at + _FRAME]})
    talk.send({**about, "last": True, "found": []})


def living() -> List[Dict[str, Any]]:
    """Every process of every run of this user here, but for the caller and what it descends from."""
    everyone = {process.pid: process for process in processes.everyone()}
    found: Dict[int, Dict[str, Any]] = {}
    taken = agent_sockets()
    for name in sorted(taken):
        agent = _agent(name)
        if agent is None:
            continue
        for pid, kind in ((agent["pid"], "agent"), (agent["parent"], "warden")):
            process = everyone.get(pid)
            if process is not None and pid > 1 and _is_mine(pid):
                found[pid] = _about(process, kind, Mark(name, agent["run"], agent["host"], None), True)
    for pid in _named((_KEPT,), everyone):
        about = _about_kept(pid, everyone)
        found[pid] = _about(everyone[pid], "kept", about, True)
        if everyone[pid].parent in everyone and everyone[pid].parent > 1:
            found[everyone[pid].parent] = _about(everyone[everyone[pid].parent], "warden", about, True)
    below = _named(_OURS, everyone) | {pid for pid, one in found.items() if one["kind"] in ("agent", "kept")}
    spared = set(_ancestors(os.getpid(), everyone)) | {os.getpid()}
    for pid, process in everyone.items():
        if pid in found or pid in spared or not _is_mine(pid):
            continue
        above = next((found.get(one) for one in _ancestors(pid, everyone) if one in below), None)
        mark = mark_of(pid)
        if mark is not None:
            # An agent that is frozen or too busy to be asked is there all the same, and so is a warden at its work.
            minded = mark.name in taken or any(one in below for one in _ancestors(pid, everyone))
            if above is not None and mark.run == "?":
                mark = mark._replace(run=above["run"], host=above["host"])
            kind = "kept" if above is not None and above["kind"] == "kept" else "worker"
            found[pid] = _about(process, kind, mark, minded)
        elif above is not None and not _is_zombie(pid):
            found[pid] = _about(process, "worker", Mark("", above["run"], above["host"], None), True)
    return [found[pid] for pid in sorted(found)]


def kill_left_over(wanted: List[Any]) -> List[int]:
    """SIGKILL those of [pid, start time] that nobody minds now, or that are kept. Returns the pids to which it was
    sent."""
    named = {(int(pid), int(start_time)) for pid, start_time in wanted}
    killed = []
    for one in living():
        if (not one["minded"] or one["kind"] == "kept") and (one["pid"], one["start_time"]) in named:
            processes.kill(Process(one["pid"], 0, one["start_time"]))
            killed.append(one["pid"])
    return killed


def agent_sockets() -> Set[str]:
    """The marks of all runs of this user whose agent's or warden's socket is there."""
    mine = f"{os.getuid()}-"
    with open("/proc/net/unix", encoding="utf-8", errors="replace") as file:
        names_there = {match.group(1) for line in file for match in [_SOCKET.search(line.rstrip("\n"))] if match}
    return {name for name in names_there if name.startswith(mine)}


def marks() -> Set[str]:
    """The marks that living processes of this user carry."""
    pids = (process.pid for process in processes.everyone())
    return {mark.name for mark in map(mark_of, pids) if mark is not None}


def mark_of(pid: int) -> Optional[Mark]:
    """The mark in a process's environment, None without one, or if the process is another user's, or a zombie."""
    try:
        if not _is_mine(pid):
            return None
        with open(f"/proc/{pid}/environ", "rb") as file:
            entries = file.read().split(b"\0")
    except OSError:
        return None
    environ = dict(os.fsdecode(entry).partition("=")[::2] for entry in entries)
    name = environ.get(names.MARK, "")
    if not name.startswith(f"{os.getuid()}-"):
        return None
    rank = environ.get(names.RANK, "")
    is_number = rank.isascii() and rank.isdigit()
    return Mark(name, environ.get(names.RUN, "?"), environ.get(names.HOST, "?"), int(rank) if is_number else None)


def _agent(name: str) -> Optional[Dict[str, Any]]:
    """What the agent behind a socket says of itself. The kernel names only who called listen(): its relay."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.settimeout(PROBE_S)
        decoder = wire.Decoder()
        try:
            peer.connect("\0launcher-" + name)
            if not peer_of(peer).mine:
                return None
            while True:
                data = peer.recv(1 << 16)
                if not data:
                    return None
                for message in decoder.feed(data):
                    if message["type"] == wire.HELLO:
                        process = processes.look_up(int(message.get("pid", 0)))
                        if process is None:
                            return None
                        run, host = str(message.get("run", "?")), str(message.get("host", "?"))
                        return {"pid": process.pid, "parent": process.parent, "run": run, "host": host}
        except (OSError, wire.WireError, ValueError):
            return None


def _about_kept(agent: int, everyone: Dict[int, Process]) -> Mark:
    """An agent that is kept has no socket of a run: its zygote tells of which run it was."""
    marks_below = (mark_of(pid) for pid, process in everyone.items() if process.parent == agent)
    return next((mark for mark in marks_below if mark is not None), Mark("", "?", "?", None))


def _named(ours: Tuple[bytes, ...], everyone: Dict[int, Process]) -> Set[int]:
    """Agents and wardens by the names that they give themselves: their sockets may be in another network's space."""
    found = set()
    for pid in everyone:
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                text = file.read()
        except OSError:
            continue
        if text[text.find(b"(") : text.rfind(b")") + 1] in ours and _is_mine(pid):
            found.add(pid)
    return found


def _ancestors(pid: int, everyone: Dict[int, Process]) -> Iterator[int]:
    seen = {pid}
    process = everyone.get(pid)
    while process is not None and process.parent > 0 and process.parent not in seen:
        seen.add(process.parent)
        yield process.parent
        process = everyone.get(process.parent)


def _about(process: Process, kind: str, mark: Mark, minded: bool) -> Dict[str, Any]:
    return {
        "pid": process.pid,
        "start_time": process.start_time,
        "created": _booted_at() + process.start_time / os.sysconf("SC_CLK_TCK"),
        "kind": kind,
        "run": mark.run,
        "host": mark.host,
        "rank": mark.rank,
        "minded": minded,
        "command": _command(process.pid),
    }


def _is_mine(pid: int) -> bool:
    """By the real uid, which is what may send signals."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            for line in file:
                if line.startswith(b"Uid:"):
                    return int(line.split()[1]) == os.getuid()
    except OSError:
        pass
    return False


def _is_zombie(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except OSError:
        return True
    return text[text.rfind(b")") + 2 :][:1] in (b"Z", b"X")


def _command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            data = file.read(MOST_COMMAND)
    except OSError:
        return ""
    return data.rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "replace")


def _booted_at() -> float:
    with open("/proc/stat", "rb") as file:
        for line in file:
            if line.startswith(b"btime "):
                return float(line.split()[1])
    return 0.0


def _machine() -> str:
    """One boot, one space of pids, one user: hosts that say the same see the same processes."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        boot = file.read().strip()
    return f"{boot} {os.readlink('/proc/self/ns/pid')} {os.getuid()}"
