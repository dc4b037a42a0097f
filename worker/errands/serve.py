"""Sends files, each from a given byte on, many small ones in one frame."""

from __future__ import annotations

import hashlib
import os
from typing import Any, Dict, List, Optional

from ..contract import pulling, wire
from ..contract.inside import Inside
from .flow import Flow

_MOST_PARTS = 2000
_LARGE = 1 << 17  # worth a frame of its own, which is not put together here
_FIRST_PIECE = 1 << 16  # doubled with each: over a link that breaks again and again, something must come through


class Server:
    """Answers `get` and `digest`. `opened` are files that are held open, by path."""

    def __init__(self, root: Inside, opened: Dict[str, int], flow: Flow) -> None:
        self._root = root
        self._opened = opened
        self._flow = flow
        self._parts: List[List[Any]] = []
        self._ends: List[List[Any]] = []
        self._pieces: List[bytes] = []
        self._buffer = memoryview(bytearray(pulling.PIECE))
        self._piece = self._room = _FIRST_PIECE

    def send(self, files: List[Any], with_hash: bool) -> None:
        """Every file in turn. Raises OSError when the connection is gone, EndedError."""
        self._root.forget()
        for index, order in enumerate(files):
            try:
                path, offset, tail = order
                self._file(index, str(path), int(offset), str(tail), with_hash)
            except _UnreadableError as error:
                self._end([index, 0, None, 0, 0, str(error)])
            except (TypeError, ValueError) as error:
                self._end([index, 0, None, 0, 0, f"refused: {error}"])
        self._flush()
        self._flow.send({"type": pulling.DONE})

    def digests(self, files: List[Any]) -> List[Optional[str]]:
        """The SHA-256 of the first bytes of each file, or None where there are not that many."""
        return [self._digest(str(order[0]), int(order[1])) for order in files if isinstance(order, list)]

    def _file(self, index: int, path: str, offset: int, tail: str, with_hash: bool) -> None:
        descriptor = self._open(path)
        try:
            before = os.fstat(descriptor)
            size = before.st_size
            if offset and not _goes_on(descriptor, size, offset, tail):
                offset = 0
            digest = hashlib.sha256() if with_hash else None
            if digest is not None:
                self._hash(descriptor, 0, offset, digest)
            self._send_range(index, descriptor, offset, size, digest)
            after = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        why = None if (after.st_size, after.st_mtime_ns) == (size, before.st_mtime_ns) else pulling.CHANGED
        hexes = digest.hexdigest() if digest is not None else None
        self._end([index, size, hexes, before.st_ino, before.st_mtime_ns, why])

    def _send_range(self, index: int, descriptor: int, offset: int, size: int, digest: Any) -> None:
        # A part without bytes tells where the file goes on, even if there is nothing left to send.
        self._parts.append([index, offset, 0])
        while offset < size:
            # Into the same memory each time, so that it stays in the processor's cache.
            data = self._buffer[: min(self._room, size - offset)]
            try:
                data = data[: os.preadv(descriptor, [data], offset)]
            except OSError as error:
                raise _UnreadableError(error.strerror or str(error)) from error
            if not data:
                raise _UnreadableError("it shrank while it was read")
            if digest is not None:
                digest.update(data)
            self._parts.append([index, offset, len(data)])
            if not self._pieces and len(data) >= _LARGE:
                self._send_at_once(descriptor, offset, data)
                offset += len(data)
                continue
            self._pieces.append(bytes(data))
            self._room -= len(data)
            offset += len(data)
            if not self._room:
                self._flush()

    def _send_at_once(self, descriptor: int, offset: int, data: memoryview) -> None:
        self._flow.wait()
        self._flow.send_file(self._message(), descriptor, offset, data)
        self._next_frame()

    def _end(self, end: List[Any]) -> None:
        self._ends.append(end)
        if len(self._ends) + len(self._parts) >= _MOST_PARTS:
            self._flush()

    def _flush(self) -> None:
        if not self._parts and not self._ends:
            return
        self._flow.wait()
        raw = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._flow.send(self._message(), raw)
        self._next_frame()

    def _message(self) -> wire.Message:
        return {"type": pulling.PARTS, "parts": self._parts, "ends": self._ends}

    def _next_frame(self) -> None:
        self._piece = min(pulling.PIECE, 2 * self._piece)
        self._parts, self._ends, self._pieces, self._room = [], [], [], self._piece

    def _open(self, path: str) -> int:
        try:
            held = self._opened.get(path)
            return os.dup(held) if held is not None else self._root.read(path)
        except (OSError, ValueError) as error:
            raise _UnreadableError(getattr(error, "strerror", None) or str(error)) from error

    def _hash(self, descriptor: int, start: int, end: int, digest: Any) -> None:
        while start < end:
            data = os.pread(descriptor, min(pulling.PIECE, end - start), start)
            if not data:
                raise _UnreadableError("it shrank while it was read")
            digest.update(data)
            start += len(data)
            self._flow.beat()

    def _digest(self, path: str, size: int) -> Optional[str]:
        try:
            descriptor = self._open(path)
        except _UnreadableError:
            return None
        digest = hashlib.sha256()
        try:
            if os.fstat(descriptor).st_size < size:
                return None
            self._hash(descriptor, 0, size, digest)
        except _UnreadableError:
            return None
        finally:
            os.close(descriptor)
        return digest.hexdigest()


class _UnreadableError(Exception):
    pass


def _goes_on(descriptor: int, size: int, offset: int, tail: str) -> bool:
    try:
        return goes_on(descriptor, size, offset, tail)
    except OSError as error:
        raise _UnreadableError(error.strerror or str(error)) from error


def goes_on(descriptor: int, size: int, offset: int, tail: str) -> bool:
    """Whether the file still has the bytes before `offset` that somebody has seen there. Raises OSError."""
    if offset < 0 or offset > size:
        return False
    count = min(offset, pulling.TAIL)
    return pulling.fingerprint(os.pread(descriptor, count, offset - count)) == tail
