"""Something done in a child process: the threads that it needs, and leaves behind when they hang, are not ours."""

from __future__ import annotations

import json
import os
import struct
from typing import Any, Callable

_LENGTH = struct.Struct(">I")


def done(do: Callable[[], Any]) -> Any:
    """What `do` returns, as JSON has it. It must have a deadline of its own. Raises RuntimeError if it failed, with its
    traceback on standard error. To be called by a process with a single thread."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _answer(writer, do)
    os.close(writer)
    try:
        head = _read(reader, _LENGTH.size)
        body = _read(reader, _LENGTH.unpack(head)[0]) if head else b""
    finally:
        os.close(reader)
    if not body:
        os.waitpid(child, 0)
        raise RuntimeError("it ended without an answer")
    # Its end is not waited for: with a thread that hangs in the kernel it cannot end. `reap` does it later.
    return json.loads(body)


def reap() -> None:
    """Take leave of children that have ended since."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _answer(writer: int, do: Callable[[], Any]) -> None:
    code = 1
    try:
        body = json.dumps(do()).encode("ascii")
        rest = memoryview(_LENGTH.pack(len(body)) + body)
        while rest:
            rest = rest[os.write(writer, rest) :]
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def _read(reader: int, count: int) -> bytes:
    pieces = []
    while count:
        piece = os.read(reader, min(count, 1 << 16))
        if not piece:
            return b""
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)
