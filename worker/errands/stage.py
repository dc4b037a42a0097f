"""The errand that makes a host ready for a run: trees brought, setup run, environment captured, the run's copy made.

The coordinator asks, one thing after another, and each is answered by one frame of the same type, or by `error`; what
comes in between is said in `contract.trees` and here. All paths are absolute.
  stage    workdir, kind, digest                    → here {path}
  setup    workdir, source, commands, inputs        → setup {source, log, ran}; before: command {number}, output + bytes
  activate workdir, line                            → activate {env, gone}
  copy     workdir, source, to                      → copy {path}
  look     paths                                    → look {paths, found: [kind or empty]}
  list     workdir                                  → list {found: [{kind, name, bytes, used, busy}]}, in frames; `last`
  remove   workdir, kind, name                      → remove {}
  runs     workdir, host                            → runs {found: [{run, bytes, used, busy, begun}], now, alive, last}
  forget   workdir, run, host, used                 → forget {}
"""

from __future__ import annotations

import os
import stat
from typing import Any, Callable, Dict, List

from ..contract import wire
from ..contract.trees import name_bytes
from . import store, trees
from .room import GoneError, Pulse, TroubleError, own_folder, trouble, troubling
from .talk import Talk
from .trees import Index


def main(argv: List[str]) -> int:
    """Serve one coordinator to the end of its input."""
    del argv
    umask = os.umask(0o077)
    talk = Talk()
    try:
        while True:
            frame = talk.receive()
            if frame is None:
                return 0
            if not serve(talk, frame[0], umask):
                return 1
    except (GoneError, BrokenPipeError):
        return 0
    except wire.WireError as error:
        talk.send({"type": "error", "kind": "order", "why": str(error)})
        return 1


def serve(talk: Talk, order: wire.Message, umask: int) -> bool:
    """Answer one order; whether the conversation can go on: after an error nobody knows what is still in the pipe.

    Raises wire.WireError for what is no order of staging.
    """
    handle = HANDLERS.get(order["type"])
    if handle is None:
        raise wire.WireError(f"{order['type']} is not known here")
    try:
        answer = handle(talk, order, umask)
    except OSError as error:
        answer = {"type": "error", **trouble(error, error.filename or order.get("workdir", "")).about}
    except TroubleError as problem:
        answer = {"type": "error", **problem.about}
    talk.send(answer)
    return bool(answer["type"] != "error")


def _stage(talk: Talk, order: wire.Message, umask: int) -> wire.Message:
    del umask
    path = store.stage(talk, _text(order, "workdir"), _text(order, "kind"), _text(order, "digest"))
    os.utime(path)  # for `list`: used now
    return {"type": "here", "path": path}


def _setup(talk: Talk, order: wire.Message, umask: int) -> wire.Message:
    from . import setup  # with subprocess and ctypes: not needed by every errand

    commands = [str(command) for command in order.get("commands", ())]
    done = setup.run(talk, _text(order, "workdir"), _text(order, "source"), commands, _text(order, "inputs"), umask)
    os.utime(os.path.dirname(str(done["log"])))
    return {"type": "setup", **done}


def _activate(talk: Talk, order: wire.Message, umask: int) -> wire.Message:
    from . import shell

    folder = own_folder(_text(order, "workdir"), "setup")
    env, gone = shell.capture(talk, _text(order, "line"), folder, umask)
    return {"type": "activate", "env": env, "gone": gone}


def _copy(talk: Talk, order: wire.Message, umask: int) -> wire.Message:
    """A run's own copy of a staged tree: what its programs write there meets no other run and no other host.

    In a copy that is there already what a program has changed is put back, and its version kept beside it.
    """
    del talk, umask
    source, to = _text(order, "source"), _text(order, "to")
    own_folder(os.path.dirname(to))
    if not source:
        return {"type": "copy", "path": own_folder(to)}
    index = trees.read_index(source)
    if index is None:
        raise TroubleError("order", why="the tree is not here")
    with troubling(to):
        if os.path.isdir(to):
            _put_back(source, to, index)
        else:
            temporary = f"{to}.{os.urandom(4).hex()}.tmp"
            try:
                trees.copy_tree(source, temporary, index.items)
                os.rename(temporary, to)
            finally:
                trees.remove(os.fsencode(temporary))
        trees.write_index(to, Index(index.items, trees.stamps_of(to, index.items)))
    return {"type": "copy", "path": to}


def _put_back(source: str, to: str, index: Index) -> None:
    known = trees.read_index(to)
    wrong, _ = trees.check(to, Index(index.items, known.stamps if known else {}))
    base = os.fsencode(source)
    contents = {i.content: os.path.join(base, name_bytes(i.path)) for i in index.items if i.is_file}
    trees.repair(to, wrong, contents)


def _look(talk: Talk, order: wire.Message, umask: int) -> wire.Message:
    del talk, umask
    paths = [os.path.expanduser(str(path)) for path in order.get("paths", ())]
    return {"type": "look", "paths": paths, "found": [_kind_at(path) for path in paths]}


def _kind_at(path: str) -> str:
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"not readable: {error.strerror or error}"
    if not os.access(path, os.R_OK):
        return "not readable: Permission denied"
    return "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "neither file nor folder"


def _list(talk: Talk, order: wire.Message, umask: int) -> wire.Message:
    from . import inventory

    del umask
    found = inventory.listed(_text(order, "workdir"), Pulse(talk))
    for at in range(0, len(found), 1000):
        talk.send({"type": "list", "last": False, "found": found[at : at + 1000]})
    return {"type": "list", "last": True, "found": []}


def _remove(talk: Talk, order: wire.Message, umask: int) -> wire.Message:
    from . import inventory

    del talk, umask
    inventory.remove(_text(order, "workdir"), _text(order, "kind"), _text(order, "name"))
    return {"type": "remove"}


def _runs(talk: Talk, order: wire.Message, umask: int) -> wire.Message:
    from . import runs

    del umask
    found = runs.listed(_text(order, "workdir"), _text(order, "host"), Pulse(talk))
    about = {"type": "runs", "now": runs.now(), "alive": runs.anyone()}
    for at in range(0, len(found), 1000):
        talk.send({**about, "last": False, "found": found[at : at + 1000]})
    return {**about, "last": True, "found": []}


def _forget(talk: Talk, order: wire.Message, umask: int) -> wire.Message:
    from . import runs

    del umask
    workdir, run, host = _text(order, "workdir"), _text(order, "run"), _text(order, "host")
    runs.remove(workdir, run, host, float(order.get("used", 0.0)), Pulse(talk))
    return {"type": "forget"}


def _text(order: wire.Message, name: str) -> str:
    value = order.get(name)
    if not isinstance(value, str) or "\0" in value:
        raise TroubleError("order", why=f"{name} is not a text")
    return value


HANDLERS: Dict[str, Callable[[Talk, wire.Message, int], Dict[str, Any]]] = {
    "stage": _stage,
    "setup": _setup,
    "activate": _activate,
    "copy": _copy,
    "look": _look,
    "list": _list,
    "remove": _remove,
    "runs": _runs,
    "forget": _forget,
}
