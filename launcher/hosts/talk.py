"""The coordinator's end of an errand's conversation, over a channel."""

from __future__ import annotations

import select
import time

from launcher.errors import NotFitError
from launcher.hosts.session import Channel
from worker.contract import bulk, wire


class Talk:
    """Frames over a channel, blocking, each call with a deadline. For one thread."""

    def __init__(self, host: str, channel: Channel) -> None:
        self.host = host
        self._channel = channel
        self._decoder = bulk.Decoder(magic=True)
        self._frames: list[bulk.Frame] = []

    def send(self, message: wire.Message, raw: bytes = b"", *, timeout_s: float = 60.0) -> None:
        """Blocks until all is handed over. Raises NotFitError: the far side is gone, or takes nothing for so long."""
        rest = memoryview(bulk.encode(message, raw))
        deadline = time.monotonic() + timeout_s
        try:
            while rest:
                sent = self._channel.write(rest)
                rest = rest[sent:]
                if sent:
                    deadline = time.monotonic() + timeout_s
                elif rest and not self._channel.wait_writable(max(0.0, deadline - time.monotonic())):
                    raise NotFitError(f"{self.host} takes nothing any more: {timeout_s:g} s without progress")
        except OSError as error:
            raise self._gone(error) from error

    def receive(self, *, timeout_s: float) -> bulk.Frame | None:
        """The next frame; None at a clean end of the conversation. Raises NotFitError: nothing came for so long, the
        connection broke, or what came is nonsense."""
        deadline = time.monotonic() + timeout_s
        while not self._frames:
            try:
                data = self._channel.read()
                if data is None:
                    self._wait(deadline, timeout_s)
                elif data:
                    self._frames = self._decoder.feed(data)
                    deadline = time.monotonic() + timeout_s  # a large frame may come slowly
                elif self._decoder.awaits_magic:
                    raise self._gone(None)
                else:
                    return None
            except OSError as error:
                raise self._gone(error) from error
            except wire.WireError as error:
                raise NotFitError(f"{self.host} answers with what is not our protocol: {error}") from error
        return self._frames.pop(0)

    def fileno(self) -> int:
        """For one who waits for more than this conversation. Frames already read may be waiting: see `pending`."""
        return self._channel.fileno()

    @property
    def pending(self) -> bool:
        """Whether `receive` will return at once."""
        return bool(self._frames)

    def end_input(self) -> None:
        """Nothing more will be sent."""
        self._channel.end_input()

    def close(self) -> None:
        """Let go of the errand. May be called twice."""
        self._channel.close()

    def _wait(self, deadline: float, timeout_s: float) -> None:
        poll = select.poll()
        poll.register(self._channel.fileno(), select.POLLIN)
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(max(1, int(left * 1000))):
            said = self._channel.errors()
            raise NotFitError(f"{self.host} has not answered for {timeout_s:g} s" + (f": {said}" if said else ""))

    def _gone(self, error: OSError | None) -> NotFitError:
        said = self._channel.errors().strip()
        why = said or (error.strerror or str(error) if error else "it ended without a word")
        return NotFitError(f"{self.host}: {why}")
