"""What is alive of a run: asked of the kernel, by environment, ancestry, sockets and locks."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

DEADLINE_S = 25.0


def left_alive(
    run: Path,
    rooms: Mapping[str, Path],
    *,
    tag: str,
    keepers: Mapping[str, int],
    ours: Collection[int],
    deadline_s: float = DEADLINE_S,
) -> list[str]:
    """Processes, sockets and locks of a run, once there are none, or after the deadline: an agent leaves by itself.

    `tag` is in the environment of every process that this machine's launcher has started; `keepers` are the ancestors
    of everything on hosts; `ours` are processes that may be there.
    """
    deadline = time.monotonic() + deadline_s
    while True:
        found = [*_processes(run.name, tag, keepers, ours), *_sockets(run, rooms, keepers), *_locks(run, rooms)]
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


def _processes(run: str, tag: str, keepers: Mapping[str, int], ours: Collection[int]) -> Iterator[str]:
    parents: dict[int, int] = {}
    marked: dict[int, str] = {}
    names: dict[int, str] = {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        pid = int(entry.name)
        with contextlib.suppress(OSError):
            stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
            head, _, tail = stat.rpartition(")")
            if tail.split()[0] == "Z":
                continue
            parents[pid], names[pid] = int(tail.split()[1]), head.partition("(")[2]
            about = Path(f"/proc/{pid}/environ").read_bytes() + Path(f"/proc/{pid}/cmdline").read_bytes()
            if tag.encode() in about or f"LAUNCHER_RUN={run}".encode() in about:
                marked[pid] = "by its environment"
    for pid in parents:
        above, host = pid, ""
        while above in parents and not host:
            above = parents[above]
            host = next((name for name, keeper in keepers.items() if keeper == above), "")
        if host and not names[pid].startswith("sshd"):
            marked[pid] = f"on {host}"
    for pid, why in marked.items():
        if pid not in ours:
            words = b""
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
            yield f"process {pid} ({why}): {words.decode(errors='replace')[:300]}"


def _sockets(run: Path, rooms: Mapping[str, Path], keepers: Mapping[str, int]) -> Iterator[str]:
    """Abstract sockets of this run, here and in the hosts' own networks."""
    wanted = {_digest(run), *(_digest(room) for room in rooms.values())}
    own = Path("/proc/self/ns/net").readlink()
    tables = {"here": Path("/proc/self/net/unix")}
    for host, pid in keepers.items():
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/ns/net").readlink() != own:
                tables[host] = Path(f"/proc/{pid}/net/unix")
    for place, table in tables.items():
        with contextlib.suppress(OSError):
            for line in table.read_text(errors="replace").splitlines():
                name = line.rpartition(" ")[2]
                if name.startswith("@launcher-") and (place != "here" or name.rpartition("-")[2] in wanted):
                    yield f"socket {name} ({place})"


def _digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:24]


def _locks(run: Path, rooms: Mapping[str, Path]) -> Iterator[str]:
    """Locks on files of the run."""
    files = {}
    for folder in {run, *rooms.values()}:
        for path in folder.rglob("*"):
            with contextlib.suppress(OSError):
                found = path.lstat()
                files[f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"] = path
    for line in Path("/proc/locks").read_text().splitlines():
        for word in line.split():
            if word in files:
                yield f"lock on {files[word]}"
