"""A command that a control master runs for us."""

from __future__ import annotations

import select
from collections.abc import Callable

from launcher.hosts.mux import Kind, Line, exit_status
from launcher.hosts.openssh_master import Master
from launcher.hosts.pipe_channel import PipeChannel, Pipes


class OpensshChannel(PipeChannel):
    """A command whose streams the control master holds by their other ends."""

    def __init__(self, pipes: Pipes, line: Line, master: Master, host: str, on_end: Callable[[], None]) -> None:
        super().__init__(pipes)
        self._line: Line | None = line
        self._master = master
        self._host = host
        self._on_end: Callable[[], None] | None = on_end
        self._status: int | None = None
        self._hung_up = False  # no status will come any more
        self._probe: Line | None = None  # asks the master whether it lives, once the output has ended
        self._ended_well = False
        # One descriptor for whoever waits, though what it waits for changes at the end.
        self._poll = select.epoll()
        self._poll.register(self._stdout, select.EPOLLIN)

    def fileno(self) -> int:
        return self._poll.fileno()

    def read(self, most: int = 1 << 18) -> bytes | None:
        if self._ended_well:
            return b""
        if self._probe is None:
            data = super().read(most)
            if data is None or data:
                return data
            # A pipe ends in the same way when ssh has died. One that answers now had not died before the end.
            self._poll.unregister(self._stdout)
            try:
                self._probe = self._master.line()
                self._probe.ask_whether_alive()
            except OSError as error:
                raise self._broken() from error
            self._poll.register(self._probe.fileno(), select.EPOLLIN)
        if any(kind == Kind.ALIVE for kind, _ in self._probe.receive()):
            self._ended_well = True
            self.exit_status()
            return b""
        if self._probe.ended:
            raise self._broken()
        return None

    def write(self, data: bytes | memoryview) -> int:
        try:
            return super().write(data)
        except BrokenPipeError as error:
            raise (error if self._master.alive else self._broken()) from error

    def exit_status(self) -> int | None:
        if self._status is None and self._line is not None and not self._hung_up:
            for kind, body in self._line.receive():
                if kind == Kind.EXIT_MESSAGE:
                    self._status = exit_status(body)
            self._hung_up = self._line.ended
            if self._hung_up and self._status is None:
                self._status = 255  # as with ssh: it was killed, or the connection broke
            if self._status is not None:
                self._release()
        return self._status

    def close(self) -> None:
        if self._line is None:
            return
        line, self._line = self._line, None
        super().close()
        line.close()
        if self._probe is not None:
            self._probe.close()
        self._poll.close()
        self._release()

    @property
    def closed(self) -> bool:
        return self._line is None

    def _release(self) -> None:
        on_end, self._on_end = self._on_end, None
        if on_end:
            on_end()

    def _broken(self) -> ConnectionResetError:
        self._release()
        return ConnectionResetError(f"the connection to {self._host} broke: {self._master.last_words()}")
