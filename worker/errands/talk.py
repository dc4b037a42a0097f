"""A host's end of an errand's conversation, over standard input and output."""

from __future__ import annotations

import os
import select
import sys
from typing import List, Optional

from ..contract import bulk, wire

_PIECE = 1 << 18


class Talk:
    """Frames over two descriptors, blocking. Makes sure that nothing else is printed between them."""

    def __init__(self) -> None:
        self._in = os.dup(0)
        self._out = os.dup(1)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)
        sys.stdout = sys.stderr
        self._decoder = bulk.Decoder()
        self._frames: List[bulk.Frame] = []
        self._write(wire.MAGIC)

    def receive(self, silence_s: Optional[float] = None) -> Optional[bulk.Frame]:
        """The next frame; None at the end of the input, or when nothing has come for so long. Raises wire.WireError."""
        while not self._frames:
            if silence_s is not None and not select.select([self._in], [], [], silence_s)[0]:
                return None
            data = os.read(self._in, _PIECE)
            if not data:
                return None
            self._frames = self._decoder.feed(data)
        return self._frames.pop(0)

    def send(self, message: wire.Message, raw: bytes = b"") -> None:
        """Raises OSError when nobody reads any more."""
        if len(raw) < _PIECE:
            self._write(bulk.encode(message, raw))
            return
        self._write(bulk.head(message, raw))
        self._write(raw)

    def input_fileno(self) -> int:
        """For an errand that waits for more than its input. Frames already read may be waiting: see `pending`."""
        return self._in

    @property
    def pending(self) -> bool:
        return bool(self._frames)

    def hand_over(self) -> bytes:
        """Give standard input and output back; what was read of it beyond the last frame. The end of this talk."""
        os.dup2(self._in, 0)
        os.dup2(self._out, 1)
        os.close(self._in)
        os.close(self._out)
        return b"".join(bulk.encode(*frame) for frame in self._frames) + self._decoder.rest()

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._out, rest) :]
