"""`setup:` of the spec: commands that make a host ready, run once for each content of what they depend on.

<workdir>/setup/<key>/
  folder/     what they ran in: a copy of the user's folder
  log         what they printed
  done.json   written last, when all have succeeded: what they left in the folder

The key is a hash of their inputs and of the machine: hosts that share a home each run them, one after the other, since
nobody knows whether a command installs into the home or into the machine. What they leave in the folder is given to
every run; then the folder's content is one of the inputs, and they run again when it changes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from typing import Dict, List, Optional, Tuple

from ..contract.trees import DIR, FILE, LINK, PROGRAM, Item, name_bytes, ordered
from . import shell, trees
from .room import TroubleError, locked, own_folder, troubling
from .talk import Talk
from .trees import Index


def run(talk: Talk, workdir: str, source: str, commands: List[str], inputs: str, umask: int) -> Dict[str, object]:
    """Run the commands if they have not been run; `source` is the staged tree, or empty for none.

    Returns `source`, the folder that a run's copy is to be made from, `log`, and whether they `ran` now. Raises
    TroubleError with the last lines of what was printed if one fails, GoneError if the client is gone: then they run
    again the next time.
    """
    place, known = _known(workdir, source, inputs)
    if known is not None:
        return _answer(place, known, source, ran=False)
    with locked(talk, workdir, "setup"):
        place, known = _known(workdir, source, inputs)
        if known is not None:
            return _answer(place, known, source, ran=False)
        done = _run_all(talk, own_folder(place), source, commands, umask)
    return _answer(place, done, source, ran=True)


def _known(workdir: str, source: str, inputs: str) -> Tuple[str, Optional[Dict[str, object]]]:
    """(The folder of this setup, what its done.json says if that holds for this source)."""
    key = _hash(inputs, os.uname().nodename, _first_line("/etc/machine-id"))
    place = os.path.join(own_folder(workdir, "setup"), key)
    done = _read_done(place)
    if done is None or not done.get("left") or done.get("source") == source:
        return place, done
    place = os.path.join(workdir, "setup", _hash(key, source))
    return place, _read_done(place)


def _answer(place: str, done: Dict[str, object], source: str, *, ran: bool) -> Dict[str, object]:
    return {
        "source": os.path.join(place, "folder") if done.get("left") else source,
        "log": os.path.join(place, "log"),
        "ran": ran,
    }


def _run_all(talk: Talk, place: str, source: str, commands: List[str], umask: int) -> Dict[str, object]:
    folder = os.path.join(place, "folder")
    index = trees.read_index(source) if source else Index([], {})
    if index is None:
        raise TroubleError("order", why="the tree is not here")
    trees.remove(os.fsencode(folder))  # of a setup that was interrupted
    with troubling(folder):
        trees.copy_tree(source, folder, index.items)
    for number, command in enumerate(commands):
        talk.send({"type": "command", "number": number})
        _run_one(talk, place, folder, command, umask)
    with troubling(place):
        items = _as_left(folder, index.items)
        left = items != ordered(index.items)
        if left:
            trees.write_index(folder, Index(items, {}))
        done: Dict[str, object] = {"left": left, "source": source}
        _write_done(place, done)
    return done


def _run_one(talk: Talk, place: str, folder: str, command: str, umask: int) -> None:
    tail = shell.Tail()
    path = os.path.join(place, "log")
    with troubling(path):
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def told(data: bytes) -> None:
        tail.add(data)
        with contextlib.suppress(OSError):  # a full disk fails the command itself, with words of its own
            os.write(log, data)
        talk.send({"type": "output"}, data)

    try:
        with contextlib.suppress(OSError):
            os.write(log, f"$ {command}\n".encode("utf-8", "surrogateescape"))
        status = shell.run(talk, command, place, folder, umask, told)
    finally:
        os.close(log)
    if status != 0:
        raise TroubleError("setup", command=command, status=status, tail=tail.text(), log=path)


def _as_left(folder: str, items: List[Item]) -> List[Item]:
    """The listing of a folder after the setup. A folder that is new stands in it as a link to where it is: a virtual
    environment is neither small nor fond of being moved."""
    before = {item.path: item for item in items}
    found: List[Item] = []
    waiting = [""]
    while waiting:
        base = waiting.pop()
        for entry in os.scandir(os.path.join(os.fsencode(folder), name_bytes(base))):
            path = base + entry.name.decode("utf-8", "surrogateescape")
            old = before.get(path)
            if entry.is_symlink():
                target = os.readlink(entry.path).decode("utf-8", "surrogateescape")
                found.append(Item(LINK, path, target, 0))
            elif entry.is_dir():
                if old is not None and old.kind == DIR:
                    found.append(old)
                    waiting.append(path + "/")
                elif entry.name != b"__pycache__":
                    found.append(Item(LINK, path, os.path.join(folder, path), 0))
            elif entry.is_file():
                about = entry.stat()
                kind = PROGRAM if about.st_mode & 0o100 else FILE
                found.append(Item(kind, path, trees.hash_of(entry.path), about.st_size))
    return ordered(found)


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _first_line(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.readline().strip()
    except OSError:
        return ""


def _read_done(place: str) -> Optional[Dict[str, object]]:
    try:
        with open(os.path.join(place, "done.json"), encoding="utf-8") as file:
            done = json.load(file)
    except (OSError, ValueError):
        return None
    return done if isinstance(done, dict) else None


def _write_done(place: str, done: Dict[str, object]) -> None:
    path = os.path.join(place, "done.json")
    with open(path + ".tmp", "w", encoding="utf-8") as file:
        json.dump(done, file)
        file.flush()
        os.fsync(file.fileno())
    os.rename(path + ".tmp", path)
