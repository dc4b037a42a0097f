"""A session to this machine that counts what goes to the host, and can be cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from launcher.hosts.local_session import LocalChannel, LocalSession
from launcher.hosts.session import Channel


class Wire(LocalSession):
    """`sent` bytes went to the host, in so many `turns`: a turn ends when something comes from there."""

    def __init__(
        self,
        name: str = "far",
        *,
        shell: Sequence[str] = ("/bin/sh", "-c"),
        environ: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(name, shell=shell, environ=environ)
        self.sent = 0
        self.turns = 0
        self.cut_after: int | None = None  # bytes

    def run(self, command: str) -> Channel:
        channel = super().run(command)
        assert isinstance(channel, LocalChannel)
        write, read = channel.write, channel.read
        speaking = False

        def counted_write(data: bytes | memoryview) -> int:
            nonlocal speaking
            if self.cut_after is not None and self.sent > self.cut_after:
                channel.end_input()
                raise OSError(32, "cut")
            taken = write(data)
            self.sent += taken
            self.turns += not speaking
            speaking = True
            return taken

        def counted_read(most: int = 1 << 18) -> bytes | None:
            nonlocal speaking
            data = read(most)
            speaking = speaking and not data
            return data

        channel.write = counted_write  # type: ignore[method-assign]
        channel.read = counted_read  # type: ignore[method-assign]
        return channel
