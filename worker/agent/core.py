"""The agent's mind: who commands it, until when, and when it leaves. Events in, instructions out.

Pure: no clock, no process, no socket. `now` is CLOCK_BOOTTIME in seconds, which counts a suspended machine's time; the
lease is held against it. All other deadlines are held against awake seconds: a long gap between two calls counts as
two seconds, since it says that this machine slept, and nothing about its ranks or peers.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Set

from ..contract import records, wire
from ..contract.states import RankState
from . import events
from .events import RANK_EVENTS, Event, Follow, Instruction, Leave, Outbox, RankEvent, Send
from .generation import Generation
from .going import Going
from .keeping import Keeping
from .orders import BadOrderError, parse_order, seconds, whole
from .told import MOST_TEXT
from .who import Identity, Past

LONGEST_GAP_S = 2.0
BEAT_S = 1.0
GRACE_S = 1.0  # an idle agent waits this long before it leaves
FIRST_GRACE_S = 5.0  # the relay that starts it has to connect first
GUEST_S = 15.0  # how long a connection that does not command keeps an idle agent


class Core:
    """Feed it with `on` for what happened and `tick` for the time; carry out what they return."""

    def __init__(self, identity: Identity, past: Past, lease_s: float, now: float) -> None:
        self._identity = identity
        self._out = Outbox(past.seq)
        self._term = past.term
        self._last_generation = past.generation
        self._generation: Optional[Generation] = None
        self._commander: Optional[int] = None
        self._clients: Dict[int, float] = {}  # since when
        self._guests: Set[int] = set()  # clients that have said something: who only looks keeps nobody here
        self._lease_s = lease_s
        self._lease_until = now + lease_s
        self._renewed_at = now  # when the newest nonce that came back was sent
        self._lease_over = False
        self._now = now
        self._t = 0.0
        self._beat_at = 0.0
        self._idle_until = FIRST_GRACE_S
        self._must_leave = ""
        self._going = Going()
        self._disk_is_full = False
        self._keeping = Keeping(self._out)
        self.left = False
        self._out.write(records.AGENT_STARTED, host=identity.host, run=identity.run, pid=identity.pid,
                        boot_id=identity.boot_id, code=identity.code, **identity.more)  # fmt: skip
        for generation, ranks in sorted(past.unended.items()):
            for rank in ranks:
                self._out.write(records.RANK_ENDED, generation=generation, rank=rank, state=str(RankState.ENDED),
                                step=None, reason="its agent died")  # fmt: skip
            self._out.write(records.GENERATION_ENDED, generation=generation, reason="the agent died")

    def on(self, event: Event, now: float) -> List[Instruction]:
        """What to do about an event."""
        self._advance(now)
        if not self.left:
            self._EVENTS[type(event)](self, event)
        return self._out.take()

    def tick(self, now: float) -> List[Instruction]:
        """What to do now that it is `now`. To be called before any input is read: the lease is looked at here."""
        self._advance(now)
        if not self.left:
            self._look_at_lease()
            if self._generation is not None:
                if self._disk_is_full:
                    self._generation.excuse_silence(self._t)
                self._generation.tick(self._t)
            self._beat()
            self._maybe_leave()
        return self._out.take()

    def wait(self) -> float:
        """In how many seconds `tick` has something to do, if nothing happens before."""
        due = [self._beat_at] if self._clients else []
        if not self._busy():
            due.append(self._idle_until)
        elif self._generation is not None:
            at = self._generation.next_due()
            due += [] if at is None else [at]
        lease = [] if self._lease_over else [self._lease_until - self._now]
        return max(0.0, min([at - self._t for at in due] + lease + [BEAT_S]))

    @property
    def seq(self) -> int:
        return self._out.seq

    @property
    def alive(self) -> List[int]:
        """The ranks that have a process, or may have one."""
        return self._generation.alive() if self._generation is not None else []

    def _advance(self, now: float) -> None:
        self._t += min(max(now - self._now, 0.0), LONGEST_GAP_S)
        self._now = max(now, self._now)

    def _busy(self) -> bool:
        return self._generation is not None and not self._generation.over

    # Connections and messages.

    def _connected(self, event: events.Connected) -> None:
        self._clients[event.client] = self._t
        self._beat_at = min(self._beat_at, self._t + BEAT_S)
        self._hello(event.client)

    def _disconnected(self, event: events.Disconnected) -> None:
        self._clients.pop(event.client, None)
        if event.client == self._commander:
            self._commander = None
            self._out.write(records.COORDINATOR_GONE, term=self._term)
        if event.client in self._guests:
            self._guests.discard(event.client)
            self._idle_until = self._t + GRACE_S

    def _received(self, event: events.Received) -> None:
        self._guests.add(event.client)
        handler = self._MESSAGES.get(event.message["type"])
        if handler is None:
            self._refuse(event.client, event.message, "it is not known here")
            return
        try:
            handler(self, event.client, event.message)
        except BadOrderError as error:
            self._refuse(event.client, event.message, str(error))

    def _send(self, client: int, type_: str, **fields: Any) -> None:
        self._out.add(Send(client, {"type": type_, **fields}))

    def _refuse(self, client: int, message: wire.Message, why: str) -> None:
        self._send(client, wire.REFUSED, what=message["type"][:64], why=why, term=self._term)

    def _nonce(self) -> str:
        return f"{self._identity.token}@{self._now:.6f}"

    def _hello(self, client: int, _: Optional[wire.Message] = None) -> None:
        who = self._identity
        self._send(client, wire.HELLO, major=wire.MAJOR, code=who.code, host=who.host, run=who.run, pid=who.pid,
                   boot_id=who.boot_id, term=self._term, nonce=self._nonce(), generation=self._last_generation,
                   alive=self.alive, busy=self._busy(), seq=self._out.seq)  # fmt: skip

    def _command(self, client: int, message: wire.Message) -> None:
        term = whole(message.get("term"), "term", least=1)
        if message.get("major", wire.MAJOR) != wire.MAJOR:
            raise BadOrderError(f"this agent speaks version {wire.MAJOR}")
        if term < self._term:
            raise BadOrderError(f"a coordinator of term {self._term} has taken over")
        if term == self._term and client < (self._commander or 0):  # it lay in a stream that was given up since
            raise BadOrderError("a later connection of this coordinator commands")
        if self._must_leave or self._lease_over:
            raise BadOrderError(f"the agent is leaving: {self._must_leave or 'the lease ended'}")
        since = self._out.seq if message.get("since") is None else whole(message["since"], "since")
        lease_s = seconds(message.get("lease_s", self._lease_s), "lease_s")
        self._term = term
        if self._commander not in (None, client):  # with the new term: that is what tells it to go
            self._refuse(self._commander or 0, {"type": wire.COMMAND}, f"term {term} has taken over")
        self._lease_s = lease_s
        self._commander = client
        # As it is now: between hello and command another coordinator may have started a generation.
        self._send(client, wire.COMMANDED, term=term, nonce=self._nonce(), generation=self._last_generation,
                   alive=self.alive, busy=self._busy())  # fmt: skip
        self._out.add(Follow(client, since))
        self._out.write(records.COMMANDED_BY, term=term)

    def _of_commander(self, client: int, message: wire.Message) -> None:
        if client != self._commander:
            raise BadOrderError("this connection does not command")
        if whole(message.get("term"), "term") != self._term:
            raise BadOrderError(f"a coordinator of term {self._term} commands")

    def _renew(self, client: int, message: wire.Message) -> None:
        self._of_commander(client, message)
        token, _, sent = str(message.get("nonce")).rpartition("@")
        try:
            sent_at = float(sent)
        except ValueError:
            sent_at = float("inf")
        if token != self._identity.token or not sent_at <= self._now + 1e-3:
            raise BadOrderError("the nonce is none of this agent's")
        if self._lease_over:
            raise BadOrderError("the lease ended")
        if sent_at >= self._renewed_at:  # an older one was overtaken on its way
            self._renewed_at = sent_at
            self._lease_until = sent_at + self._lease_s

    def _start(self, client: int, message: wire.Message) -> None:
        self._of_commander(client, message)
        order = parse_order(message)
        if self._busy():
            raise BadOrderError(f"generation {self._last_generation} has not ended")
        if order.generation <= self._last_generation:
            raise BadOrderError(f"generation {self._last_generation} has been here already")
        if self._must_leave or self._lease_over:
            raise BadOrderError(f"the agent is leaving: {self._must_leave or 'the lease ended'}")
        self._last_generation = order.generation
        if self._going.why:  # it was on its way when this host had to go: over before it began, and no failure
            self._tell_going()
            self._out.write(records.GENERATION_ENDED, generation=order.generation, reason=self._going.told)
        else:
            self._generation = Generation(order, self._out, self._t)

    def _stop(self, _client: int, message: wire.Message) -> None:
        how = message.get("how")
        if how not in ("graceful", "now", "failed", "stalled"):
            raise BadOrderError("how must be graceful, now, failed or stalled")
        if message.get("generation") not in (None, self._last_generation):
            raise BadOrderError(f"this is generation {self._last_generation}")
        generation = self._generation
        if generation is None or generation.over:
            return
        reason = str(message.get("reason") or "asked to stop")[:MOST_TEXT]
        if how == "stalled":
            generation.break_stall(whole(message.get("rank"), "rank"), reason, self._t)
            return
        {"graceful": generation.stop, "now": generation.stop_now, "failed": generation.break_up}[how](reason, self._t)

    def _leave(self, client: int, message: wire.Message) -> None:
        self._of_commander(client, message)
        if self._busy():
            raise BadOrderError(f"generation {self._last_generation} has not ended")
        keep_s = seconds(message.get("keep_s", 0.0), "keep_s")
        if not self._must_leave:
            self._must_leave = "asked to leave"
            self._keeping.wish(0.0 if self._disk_is_full or self._going.why else keep_s, self._generation)
        self._maybe_leave()

    # The ranks.

    def _of_ranks(self, event: RankEvent) -> None:
        generation = self._generation
        if generation is None or generation.over:
            return
        generation.on(event, self._t)
        if generation.going and not self._going.why:
            self._go(generation.going)
        if generation.over:
            self._keeping.ended(generation)
            self._idle_until = self._t + GRACE_S
            if self._must_leave:
                self._maybe_leave()

    def _disk_full(self, event: events.DiskFull) -> None:
        self._disk_is_full = True
        self._out.write(records.DISK_FULL, message=event.message[:MOST_TEXT])

    def _disk_room(self, _: events.DiskRoom) -> None:
        self._disk_is_full = False
        self._out.write(records.DISK_ROOM)

    def _termed(self, _: events.Termed) -> None:
        if self._going.why:
            self._going.hasten()
        else:
            self._go("the agent was sent SIGTERM")

    def _go(self, why: str) -> None:
        """All ranks agree on the step at which they save and stop: to ask those here is enough, with a coordinator or
        without."""
        self._going.begin(why)
        self._tell_going()
        if self._generation is not None and self._busy():
            self._generation.stop(self._going.told, self._t)
        self._maybe_leave()

    def _tell_going(self) -> None:
        self._out.write(records.HOST_GOING, generation=self._last_generation, why=self._going.why[:MOST_TEXT])

    def _bereft(self, event: events.Bereft) -> None:
        if not self._must_leave:
            self._must_leave = event.reason
            if self._generation is not None and self._busy():
                self._generation.stop_bereft(event.reason, self._t)
            self._maybe_leave()

    def _of_zygote(self, event: events.ZygoteEvent) -> None:
        self._keeping.on(event)
        if self._must_leave:
            self._maybe_leave()

    # Time.

    def _look_at_lease(self) -> None:
        if self._lease_over or self._now < self._lease_until:
            return
        self._lease_over = True
        self._out.write(records.LEASE_ENDED, term=self._term)
        self._must_leave = self._must_leave or "the lease ended"
        if self._generation is not None and self._busy():
            self._generation.stop("the lease ended", self._t)

    def _beat(self) -> None:
        if self._t < self._beat_at:
            return
        self._beat_at = self._t + BEAT_S
        lives = self._generation.ranks if self._generation is not None else {}
        for client in self._clients:
            self._send(client, wire.BEAT, nonce=self._nonce(), generation=self._last_generation,
                       ranks={str(rank): life.newest for rank, life in lives.items() if life.newest},
                       states={str(rank): str(life.state) for rank, life in lives.items()})  # fmt: skip

    def _maybe_leave(self) -> None:
        if self._busy() or self._keeping.asked:
            return
        reason = self._must_leave
        if not reason and self._going.why:
            if self._going.stays(self._commander is not None, self._t):
                self._idle_until = self._t + GRACE_S
                return
            reason = self._going.told
        if not reason:
            guests = any(self._t < self._clients.get(client, 0.0) + GUEST_S for client in self._guests)
            if self._commander is not None or guests:
                self._idle_until = max(self._idle_until, self._t + GRACE_S)
            if self._t < self._idle_until:
                return
            reason = "no workers and no coordinator"
        self.left = True
        self._out.write(records.AGENT_LEFT, reason=reason)
        self._out.add(Leave())

    _EVENTS: Dict[type, Callable[["Core", Any], None]] = {  # noqa: RUF012
        events.Connected: _connected,
        events.Disconnected: _disconnected,
        events.Received: _received,
        events.DiskFull: _disk_full,
        events.DiskRoom: _disk_room,
        events.Termed: _termed,
        events.Bereft: _bereft,
        **dict.fromkeys(events.ZYGOTE_EVENTS, _of_zygote),
        **dict.fromkeys(RANK_EVENTS, _of_ranks),
    }
    _MESSAGES: Dict[str, Callable[["Core", int, wire.Message], None]] = {  # noqa: RUF012
        wire.COMMAND: _command,
        wire.RENEW: _renew,
        wire.START: _start,
        wire.STOP: _stop,
        wire.STATUS: _hello,
        wire.LEAVE: _leave,
    }
