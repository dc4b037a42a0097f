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
    if len(raw) > MAX_RAW:
        raise wire.WireError(f"{len(raw)} bytes in one piece, and {MAX_RAW} are allowed")
    return wire.encode({**message, "raw": len(raw)} if raw else message) + raw


class Decoder:
    """Bytes in, frames out, in whatever pieces they come. With `magic`, skips everything up to and with wire.MAGIC."""

    def __init__(self, magic: bool = False) -> None:
        self._buffer = bytearray()
        self._awaits_magic = magic
        self._message: Optional[wire.Message] = None  # whose bytes are still coming

    @property
    def awaits_magic(self) -> bool:
        """True until the other side has said that it speaks this protocol."""
        return self._awaits_magic

    def feed(self, data: bytes) -> List[Frame]:
        """The frames completed by `data`. Raises wire.WireError on an oversized or malformed one."""
        self._buffer += data
        if self._awaits_magic:
            if not wire.skip_to_magic(self._buffer):
                return []
            self._awaits_magic = False
        frames: List[Frame] = []
        while True:
            if self._message is None:
                self._message = wire.take(self._buffer)
            if self._message is None:
                return frames
            size = _size(self._message)
            if len(self._buffer) < size:
                return frames
            with memoryview(self._buffer) as view:  # a slice of the buffer itself would be copied twice
                frames.append((self._message, bytes(view[:size])))
            del self._buffer[:size]
            self._message = None


def _size(message: wire.Message) -> int:
    size = message.get("raw", 0)
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= MAX_RAW:
        raise wire.WireError("a frame with an impossible count of bytes")
    return size
