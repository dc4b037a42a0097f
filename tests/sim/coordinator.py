"""The real machine, policy and links of a coordinator in a thin body: a loop, turn by turn."""

from __future__ import annotations

import selectors
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from launcher.hosts.base import RunOnHost
from launcher.supervise.core.events import (
    AgentSaid,
    End,
    Event,
    HostGone,
    HostReached,
    Instruction,
    LetGo,
    MakePlan,
    Note,
    PlanFailed,
    PlanMade,
    Reach,
    Send,
    StartRanks,
    StopAsked,
    StopHow,
    Tick,
    Yield,
)
from launcher.supervise.core.machine import Machine
from launcher.supervise.core.patience import UNKILLABLE_S, patience_s
from launcher.supervise.core.policy import Policy
from launcher.supervise.links import Links
from launcher.supervise.order import UnderWay
from launcher.supervise.partings import Partings
from tests.sim.host import Reached, SimStream
from worker.contract import records, wire

if TYPE_CHECKING:
    from tests.sim.lab import Lab

TURN_S = 0.5
LEAVE_S = 3.0


class Streams(selectors.BaseSelector):
    """Which streams are open, and what is to be called when one is readable."""

    def __init__(self) -> None:
        self.calls: dict[Any, Callable[[], None]] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        self.calls[fileobj] = data
        return selectors.SelectorKey(fileobj, -1, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return selectors.SelectorKey(fileobj, -1, 0, self.calls.pop(fileobj))

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:  # noqa: ARG002
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return {}


class SimCoordinator:
    """As `launcher.supervise.coordinator`, turn by turn."""

    def __init__(self, lab: Lab, term: int, under_way: UnderWay | None) -> None:
        self.lab, self.world, self.term = lab, lab.world, term
        self.frozen, self.dead, self.yielded = False, False, False
        self.ended: End | None = None  # written down, and everything left
        self._streams = Streams()
        self._readable: dict[SimStream, None] = {}
        self._gone: set[str] = set()  # hosts that the machine was told are gone
        policy = Policy(lab.settings.restart, self._jitter)
        failures = under_way.failures_at(self.world.now) if under_way is not None else ()
        self.machine = Machine(lab.home.plan, term, lab.settings.timeouts.connect, policy, failures)
        hosts = {name: Reached(self, host) for name, host in lab.hosts.items()}
        silent_s = lab.settings.timeouts.host
        self.links = Links(hosts, self._streams, _target, self, silent_s, self.world.steady, self._jitter)
        self.partings = Partings(self.links, self.machine, self._perform, lab.home.note, self.world.steady)
        self._over = set(self.machine.hosts) - set(self.machine.at_work)
        self._parting: End | None = None
        self._part_until = 0.0
        self._leaving = False
        self._turning = False
        if under_way is None:
            self._perform(self.machine.begin(self.world.now))
        else:
            for host in self.machine.at_work:
                self.links.expect(host)
            self._perform(self.machine.take_over(under_way.stop, under_way.ending, under_way.leaving))
        self._again()

    @property
    def name(self) -> str:
        return f"coordinator {self.term}"

    @property
    def alive(self) -> bool:
        return not (self.dead or self.yielded or self.ended)

    def _jitter(self) -> float:
        return self.world.between(0.75, 1.25)

    # What the world does to it.

    def die(self) -> None:
        self.dead = True
        self._hang_up()

    def thaw(self) -> None:
        self.frozen = False
        self.lab.net.move()

    def ask_to_stop(self, how: StopHow) -> None:
        """Somebody asks at its socket, and is answered; nobody is by one that is frozen."""
        if self.alive and not self.frozen and not self.machine.ended:
            self.lab.checks.stop_asked()
            self._tell(StopAsked(how, "down"))

    def drain(self, host: str) -> None:
        """Somebody asks at its socket that it does without a host."""
        if self.alive and not self.frozen and not self.machine.ended:
            self.partings.drain([host], "drain", self.world.chance(0.5))

    def readable(self, stream: SimStream) -> None:
        self._readable[stream] = None
        if self.alive and not self.frozen and not self._turning:
            self._turn()

    def _hang_up(self) -> None:
        for stream in list(self._streams.calls):
            stream.close()
        self._streams.calls.clear()

    # Its loop.

    def _again(self) -> None:
        def turn() -> None:
            if self.alive:
                if not self.frozen:
                    self._turn()
                self._again()

        self.world.after(TURN_S, turn)

    def _turn(self) -> None:
        self._turning = True
        while self._readable:
            readable, self._readable = self._readable, {}
            for stream in readable:
                if stream in self._streams.calls:
                    self._streams.calls[stream]()
        stopping = self.machine.stopping or ("graceful" if self.machine.ending else None)
        self.links.patience_s = patience_s(stopping, self.machine.breaking, self.lab.settings.timeouts)
        self.links.tend()
        self.partings.tend()
        self._tell(Tick())
        if self._parting is not None:
            self._part(self._parting)
        self._turning = False
        if self.yielded:
            self._hang_up()

    def _tell(self, event: Event) -> None:
        if isinstance(event, HostGone):
            self.world.tell(f"{self.name} hears that {event.host} is gone: {event.why}")
            self._gone.add(event.host)
        elif isinstance(event, HostReached):
            self._gone.discard(event.host)
        before = self.machine.breaking
        instructions = self.machine.handle(event, self.world.now)
        if self.machine.breaking and not before:
            self.lab.checks.broke(self.name, self.machine.plan.generation, instructions)
        self._perform(instructions)

    def _perform(self, instructions: list[Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case Reach(host, start):
                    self.links.open(host, start=start)
                case Send(host, message):
                    self.lab.checks.instructed(self.name, host, message["type"], host in self._gone)
                    if message["type"] not in (wire.RENEW, wire.COMMAND):
                        self.world.tell(f"{self.name} → {host}: {dict(message)}")
                    self.links.send(host, message)
                case LetGo(host):
                    self.partings.begin(host)
                case StartRanks(host):
                    self.lab.checks.instructed(self.name, host, wire.START, host in self._gone)
                    self.world.tell(f"{self.name} → {host}: start generation {self.machine.plan.generation}")
                    self._over.discard(host)
                    self.links.send(host, self.lab.start_message(self.machine.plan, host, self.term))
                case MakePlan():
                    self.lab.home.make_plan(self, instruction)
                case Note(kind, fields):
                    self.lab.home.note(kind, **fields)
                case End():
                    self.world.tell(f"{self.name} concludes: {instruction.state.value}: {instruction.message}")
                    self.lab.checks.concluded(self.name, instruction)
                    self._parting = instruction
                case Yield(why):
                    self.world.tell(f"{self.name} yields: {why}")
                    self.yielded = True

    def planned(self, answer: PlanMade | PlanFailed) -> None:
        if not self.alive:
            return
        if self.frozen:
            self.world.after(1.0, lambda: self.planned(answer))
            return
        if isinstance(answer, PlanMade):
            plan = answer.plan
            self.lab.home.plans[plan.generation] = plan
            self.lab.home.note(records.REPLANNED, generation=plan.generation, resumes=plan.resumes)
        self._tell(answer)

    # What comes over the links.

    def said(self, host: str, message: wire.Message) -> None:
        if message["type"] == wire.HELLO:
            if host not in self.machine.at_work and not message.get("busy"):
                self._over.add(host)
            self._tell(HostReached(host, message))
        elif message["type"] == wire.ABSENT:
            self.links.close(host)
            self._over.add(host)
            if self.machine.has_heard_of(host):
                for event in list(self.lab.hosts[host].disk.records):
                    self._watch(host, event)
            self._tell(HostGone(host, str(message["why"])))
        else:
            if message["type"] == wire.EVENT:
                self._watch(host, message["event"])
            else:
                self._tell(AgentSaid(host, message))

    def _watch(self, host: str, event: Mapping[str, Any]) -> None:
        if event["type"] == records.GENERATION_ENDED:
            self._over.add(host)
        self._tell(AgentSaid(host, {"type": wire.EVENT, "event": event}))

    def gone(self, host: str, why: str) -> None:
        self._tell(HostGone(host, why, unreachable=True))

    def link_lost(self, host: str, why: str) -> None:
        if host not in self.machine.at_work:
            self.gone(host, why)
            return
        self.lab.home.note(records.LINK_LOST, host=host, why=why)

    def link_back(self, host: str, after_s: float) -> None:
        if host not in self.machine.at_work:
            return
        self.lab.home.note(records.LINK_BACK, host=host, seconds=after_s)

    # The end.

    def _part(self, end: End) -> None:
        links, timeouts = self.links, self.lab.settings.timeouts
        if not links.closing:
            links.closing = True
            for host in set(links.open_hosts) - self._over:
                links.send(host, {"type": wire.STOP, "how": "now", "reason": end.message})
            self._part_until = self.world.awake + timeouts.stop + UNKILLABLE_S
        busy = set(links.open_hosts) - self._over
        if not self._leaving and (not busy or self.world.awake >= self._part_until):
            self._leaving = True
            for host in links.open_hosts:
                links.send(host, {"type": wire.LEAVE, "term": self.term})
            self._part_until = self.world.awake + LEAVE_S
        if self._leaving and (not links.open_hosts or self.world.awake >= self._part_until):
            for host in links.open_hosts:
                links.close(host)
            self.lab.home.note(records.RUN_ENDED, state=end.state.value, message=end.message)
            self.ended = end


def _target(host: str) -> RunOnHost:
    return RunOnHost("run", host, f"/runs/run/hosts/{host}", "/code", 1.0)
