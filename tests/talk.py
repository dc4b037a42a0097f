"""A coordinator's end of the stream to an agent, without the stream: bytes in, messages out, and the frames to send.

It remembers what a coordinator must not forget between two connections: the newest nonce, which a renewal of the lease
echoes, and the number of the last event, after which a new connection goes on.
"""

from __future__ import annotations

from typing import Any

from worker.contract import wire


class Talk:
    """One agent as its coordinator (or a viewer) talks to it. Pure: whoever uses it moves the bytes."""

    def __init__(self, folder: str, host: str, run: str, lease_s: float, warm: str = "") -> None:
        self._where = {"folder": folder, "host": host, "run": run, "lease_s": lease_s}
        self._where |= {"warm": warm} if warm else {}
        self._lease_s = lease_s
        self._decoder = wire.Decoder(magic=True)
        self.term = 0
        self.seq = 0  # of the last event that was read
        self.nonce = ""
        self.hello: wire.Message | None = None

    def reach(self, start: bool) -> bytes:
        """The first frame on a fresh stream; forgets whatever half frame the last connection ended with."""
        self._decoder = wire.Decoder(magic=True)
        self.hello = None
        return wire.encode({"type": wire.REACH, "start": start, **self._where})

    def feed(self, data: bytes) -> list[wire.Message]:
        """The messages completed by `data`, in order; events that were read before are left out. Raises WireError."""
        return [message for message in self._decoder.feed(data) if self._note(message)]

    def command(self, term: int) -> bytes:
        """Ask to be the agent's coordinator, and for the events after the last one that was read."""
        self.term = term
        return self._send(wire.COMMAND, term=term, since=self.seq, major=wire.MAJOR, lease_s=self._lease_s)

    def renew(self) -> bytes:
        """Let the lease run from the moment at which the newest nonce was sent."""
        return self._send(wire.RENEW, term=self.term, nonce=self.nonce)

    def start(
        self,
        generation: int,
        ranks: list[Any],
        timeouts: Any,
        keep: int | None,
        until_home: bool = False,
        zygote: bool | None = None,
    ) -> bytes:
        """Start a generation; `ranks` are rank orders (see wire and the docs of the agent)."""
        more = {"timeouts": timeouts, "keep": keep, "until_home": until_home}
        more |= {} if zygote is None else {"zygote": zygote}
        return self._send(wire.START, term=self.term, generation=generation, ranks=ranks, **more)

    def stop(self, how: str, reason: str) -> bytes:
        """`how` is graceful, now or failed; needs no command."""
        return self._send(wire.STOP, how=how, reason=reason)

    def status(self) -> bytes:
        """Ask for a fresh hello; needs no command."""
        return self._send(wire.STATUS)

    def leave(self, keep_s: float = 0.0) -> bytes:
        """Let the agent go; it refuses while a rank is alive. `keep_s`: it is to stay warm for the next run."""
        return self._send(wire.LEAVE, term=self.term, **({"keep_s": keep_s} if keep_s else {}))

    def _send(self, type_: str, **fields: Any) -> bytes:
        return wire.encode({"type": type_, **fields})

    def _note(self, message: wire.Message) -> bool:
        if isinstance(message.get("nonce"), str):
            self.nonce = message["nonce"]
        if message["type"] == wire.HELLO:
            self.hello = message
        if message["type"] != wire.EVENT:
            return True
        event = message.get("event")
        seq = event.get("seq") if isinstance(event, dict) else None
        if not isinstance(seq, int):
            raise wire.WireError("an event without a number")
        fresh = seq > self.seq
        self.seq = max(self.seq, seq)
        return fresh
