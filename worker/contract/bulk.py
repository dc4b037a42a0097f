"""Frames that carry bytes: a message as in `wire`, and behind it, if it has a `raw`, as many bytes as that says.

An errand's conversation is made of these; a run's agent speaks `wire` alone.
"""

from __future__ import annotations

from typing import List, Optional, Tuple

from . import wire

MAX_RAW = 1 << 20

Frame = Tuple[wire.Message, bytes]


def encode(message: wire.Message, raw: bytes = b"") -> bytes:
    """One frame. Raises wire.WireError if message or bytes are over 1 MiB."""
    return head(message, raw) + raw


def head(message: wire.Message, raw: bytes) -> bytes:
    """What comes before the bytes of a frame, for who would rather not copy them. Raises as `encode` does."""
    if len(raw) > MAX_RAW:
        raise wire.WireError(f"{len(raw)} bytes in one piece, and {MAX_RAW} are allowed")
    return wire.encode({**message, "raw": len(raw)} if raw else message)


class Decoder:
    """Bytes in, frames out, in whatever pieces they come. With `magic`, skips everything up to and with wire.MAGIC."""

    def __init__(self, magic: bool = False) -> None:
        self._buffer = bytearray()
        self._awaits_magic = magic
        self._message: Optional[wire.Message] = None  # whose bytes are still coming
        self._pieces: List[bytes] = []  # of them; joined once, since there may be gigabytes
        self._missing = 0

    @property
    def awaits_magic(self) -> bool:
        """True until the other side has said that it speaks this protocol."""
        return self._awaits_magic

    def rest(self) -> bytes:
        """What was fed and belongs to no frame yet, between two of them; it is forgotten here."""
        data = bytes(self._buffer)
        self._buffer.clear()
        return data

    def feed(self, data: bytes) -> List[Frame]:
        """The frames completed by `data`. Raises wire.WireError on an oversized or malformed one."""
        frames: List[Frame] = []
        if self._message is not None:
            if len(data) < self._missing:
                self._pieces.append(data)
                self._missing -= len(data)
                return frames
            self._pieces.append(data[: self._missing])
            frames.append((self._message, b"".join(self._pieces)))
            data = data[self._missing :]
            self._message, self._pieces = None, []
        self._buffer += data
        if self._awaits_magic:
            if not wire.skip_to_magic(self._buffer):
                return frames
            self._awaits_magic = False
        while True:
            message = wire.take(self._buffer)
            if message is None:
                return frames
            size = _size(message)
            if len(self._buffer) < size:
                self._message, self._pieces = message, [bytes(self._buffer)]
                self._missing = size - len(self._buffer)
                self._buffer.clear()
                return frames
            with memoryview(self._buffer) as view:  # a slice of the buffer itself would be copied twice
                frames.append((message, bytes(view[:size])))
            del self._buffer[:size]


def _size(message: wire.Message) -> int:
    size = message.get("raw", 0)
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= MAX_RAW:
        raise wire.WireError("a frame with an impossible count of bytes")
    return size
