"""The shell around the supervisor's machine: streams, the control socket, signals, the journal."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from launcher.gather.gathering import Gathering
from launcher.hosts.base import Host, RunOnHost
from launcher.plan.model import LaunchPlan
from launcher.runs.folder import RunFolder
from launcher.runs.journal import read as read_journal
from launcher.spec.model import ClusterSpec
from launcher.stage.remote import Activated
from launcher.supervise.again import Planner
from launcher.supervise.clocks import Clocks
from launcher.supervise.control import ControlServer
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
from launcher.supervise.disks import Disks
from launcher.supervise.homecoming import GIVE_UP_S, Homecoming
from launcher.supervise.inherited import Inherited
from launcher.supervise.links import Links
from launcher.supervise.order import UnderWay
from launcher.supervise.orders import start_message
from launcher.supervise.partings import Partings
from launcher.supervise.patient import PatientJournal
from launcher.supervise.reign import Reign, SupersededError
from launcher.supervise.signals import wakened
from launcher.supervise.warmth import Warmth
from launcher.supervise.witness import Witness
from worker.contract import records, wire
from worker.contract.states import EXIT_CODE_OF, RunState

Replan = Callable[[MakePlan], LaunchPlan]

LEAVE_S = 3.0
CATCH_UP_S = 5.0
UNSTARTED_S = 2.0  # how long the end of a run waits for hosts from which nothing comes, if no rank was ever started
FULL_DISK_S = 60.0  # how long the end of a run waits for a place to be written to


class Coordinator:
    """Runs one run to its end. Make it only while holding the run's socket (`listener`)."""

    def __init__(
        self,
        run: RunFolder,
        spec: ClusterSpec,
        plan: LaunchPlan,
        hosts: Mapping[str, Host],
        *,
        replan: Replan,
        secrets: Mapping[str, str],
        listener: socket.socket,
        journal: PatientJournal,
        term: int,
        under_way: UnderWay | None = None,
        activated: Mapping[str, Activated] | None = None,
        clocks: Clocks | None = None,
        remarks: Callable[[], list[str]] = list,
        gathering: Callable[[Callable[[str], None]], Gathering] | None = None,
    ) -> None:
        self._run = run
        self._spec = spec
        self._replan = replan
        self._secrets = secrets
        self._journal = journal
        self._reign = Reign(run.journal, term)
        self._selector = selectors.DefaultSelector()
        self._control = ControlServer(listener, self._selector, lambda *asked: self._partings.drain(*asked))
        self._under_way = under_way
        failures = under_way.failures_at(time.monotonic()) if under_way is not None else ()
        self._machine = Machine(plan, term, spec.timeouts.connect, Policy(spec.restart), failures)
        self._planner = Planner(self._plan_next)
        self._selector.register(self._planner, selectors.EVENT_READ, self._planned)
        self._activated = {} if activated is None else activated  # of hosts that come back it may change
        self._activating = {host.name for host in spec.hosts if host.activate is not None}
        self._remarks = remarks  # what those who work beside the run have to say
        self._boots: dict[str, str] = {}  # host → which boot of its machine the agent is of
        self._home = Homecoming(gathering, journal, plan, under_way=under_way is not None) if gathering else None
        self._links = Links(hosts, self._selector, self._target, self, spec.timeouts.host)
        self._partings = Partings(self._links, self._machine, self._perform, journal.append)
        self._warmth = Warmth(run.name, spec)
        disks = Disks({host.name: host.folder or "" for host in plan.hosts})
        self._witness = Witness(run, clocks or Clocks(), disks, self._warmth, journal)
        self._inherited = Inherited(run, plan.generation if under_way is not None else 0)
        self._conclusion: End | None = None
        self._started = under_way is not None  # ranks, of any generation: else no host has what is worth waiting for
        self._over = {host.name for host in plan.hosts if not host.ranks}  # where no rank of ours is alive
        self._hurried = False  # somebody would not wait any longer

    @property
    def state(self) -> RunState:
        return self._machine.state

    def run(self) -> End | None:
        """Blocks until the run has ended, all is gone and the end is written down; None if another one has it now."""
        with wakened() as self._wake:
            self._selector.register(self._wake, selectors.EVENT_READ, self._signalled)
            try:
                self._perform(self._first_instructions())
                while not self._machine.ended:
                    self._turn(0.5)
                    self._journal.retry()
                    self._tell(Tick())
                if self._conclusion is not None:
                    self._part(self._conclusion)
            except SupersededError as error:
                self._perform([Yield(str(error))])
                return None
        return self._conclusion

    def _first_instructions(self) -> list[Instruction]:
        if (left := self._under_way) is None:
            return self._machine.begin(time.monotonic())
        for host in self._machine.at_work:
            self._links.expect(host)
        return self._machine.take_over(left.stop, left.ending, left.leaving)

    # Turning.

    def _turn(self, timeout: float) -> None:
        ready = self._selector.select(timeout)
        self._reign.check()  # before anything is done: this process may have slept while another one came
        for key, _ in ready:
            key.data()
        if self._home:
            self._home.tend()
        for order in self._control.take():
            self._hurried |= order.get("how") == "now"
            self._tell(StopAsked("now" if order.get("how") == "now" else "graceful", str(order.get("by", "down"))))
        for text in (*self._remarks(), *self._planner.remarks()):
            self._journal.append(records.REMARK, text=text)
        stopping = self._machine.stopping or ("graceful" if self._machine.ending else None)
        self._links.patience_s = patience_s(stopping, self._machine.breaking, self._spec.timeouts)
        self._links.tend()
        self._partings.tend()

    def _tell(self, event: Event) -> None:
        self._perform(self._machine.handle(event, time.monotonic()))

    def _perform(self, instructions: list[Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case Reach(host, start):
                    self._links.open(host, start=start)
                case Send(host, message):
                    self._links.send(host, message)
                case LetGo(host):
                    self._partings.begin(host)
                case StartRanks(host):
                    self._start_ranks(host)
                case MakePlan():
                    self._planner.begin(instruction)
                case Note(kind, fields):
                    self._journal.append(kind, **fields)
                case End():
                    self._conclusion = instruction
                case Yield(why):
                    print(f"another coordinator has the run ({why}): this one goes", flush=True)

    def _start_ranks(self, host: str) -> None:
        if host in self._activating and host not in self._activated:
            self._links.close(host)  # another coordinator was to start them: what it knew of the environment is gone
            self._tell(HostGone(host, "its workers had not been started yet when the coordinator went"))
            return
        self._started = True
        self._over.discard(host)
        self._links.send(host, self._start_message(self._machine.plan, host))

    def _plan_next(self, wanted: MakePlan) -> LaunchPlan:
        """In a thread of its own: what the next generation needs may have to come home first."""
        if wanted.onward and self._home:
            self._home.await_newest(self._is_home)
        return self._replan(wanted)

    def _is_home(self, name: str) -> bool:
        return any(Path(self._run.host(host).checkpoints, name).is_dir() for host in self._machine.hosts)

    def _planned(self) -> None:
        answer = self._planner.take()
        if answer is None:
            return
        if isinstance(answer, PlanMade):
            self._journal.append(records.REPLANNED, generation=answer.plan.generation, resumes=answer.plan.resumes)
            if self._home:
                self._home.goes_on_with(answer.plan)
        self._tell(answer)

    # What comes over the links.

    def _target(self, host: str) -> RunOnHost:
        plan = next(h for h in self._machine.plan.hosts if h.name == host)
        assert plan.folder is not None
        assert plan.code is not None
        warm = self._warmth.key(host, plan.folder)
        return RunOnHost(self._run.name, host, plan.folder, plan.code, self._spec.timeouts.lease, warm)

    def _start_message(self, plan: LaunchPlan, host: str) -> dict[str, Any]:
        activated = self._activated.get(host, Activated())
        return start_message(plan, self._spec, host, self._machine.term, self._secrets, activated)

    def said(self, host: str, message: wire.Message) -> None:
        """A message of an agent's or a relay's."""
        if message["type"] == wire.HELLO:
            self._boots[host] = str(message.get("boot_id", ""))
            if self._home:
                self._home.found(host)
            if host not in self._machine.at_work and not message.get("busy"):
                self._over.add(host)
            self._tell(HostReached(host, message))
        elif message["type"] == wire.ABSENT:
            self._links.close(host)  # it is for the machine to say whether an agent is to be started there
            self._over.add(host)
            self._catch_up(host)
            if self._inherited.is_yet_to_start(host, self._machine):
                self._links.open(host, start=True)
            else:
                self._tell(HostGone(host, self._why_absent(host, message)))
        else:
            event = message.get("event")
            if message["type"] == wire.EVENT and isinstance(event, dict):
                message = {**message, "event": self._watch(host, event)}
            self._tell(AgentSaid(host, message))

    def _catch_up(self, host: str) -> None:
        """What an agent wrote down before it left, while nobody listened."""
        if not self._machine.has_heard_of(host):
            return
        if self._home:
            self._home.settle(CATCH_UP_S)
        for event in read_journal(Path(self._run.host(host).journal)):
            self._tell(AgentSaid(host, {"type": wire.EVENT, "event": self._watch(host, event)}))

    def _why_absent(self, host: str, message: wire.Message) -> str:
        before, now = self._boots.get(host), message.get("boot_id")
        if before and now and before != now:
            return "its machine has been started anew"
        return str(message.get("why", "no agent of this run is alive there"))

    def gone(self, host: str, why: str) -> None:
        """No stream to the host can be had."""
        if self._home:
            self._home.lost(host)
        self._tell(HostGone(host, why, unreachable=True))

    def link_lost(self, host: str, why: str) -> None:
        """Training goes on there, unseen."""
        if host not in self._machine.at_work:  # nothing does: as long as it is away, it is nobody's reserve
            self.gone(host, why)
            return
        self._journal.append(records.LINK_LOST, host=host, why=why)

    def link_back(self, host: str, after_s: float) -> None:
        """What was missed comes now."""
        if host not in self._machine.at_work:
            return
        self._journal.append(records.LINK_BACK, host=host, seconds=round(after_s, 1))

    def _watch(self, host: str, event: Mapping[str, Any]) -> Mapping[str, Any]:
        """What is kept of an agent's record; returned as the machine is to be told of it."""
        event, failure = self._witness.heard_of(host, event)
        if self._home:
            self._home.heard_of(host, event)
        if event.get("type") == records.GENERATION_ENDED:
            self._over.add(host)
        if failure is not None:
            self._tell(AgentSaid(host, {"type": wire.EVENT, "event": failure}))
        return event

    # The end.

    def _part(self, end: End) -> None:
        """No rank may be alive when the end is written down: stop what is left, let the agents leave, then write."""
        links, term = self._links, self._machine.term
        if self._home and self._machine.leaving:  # their agents stay until it is here, and with them their machines
            self._home.await_newest(self._is_home, lambda: self._turn(0.0))
        links.closing = True
        busy = [host for host in links.open_hosts if host not in self._over] if self._started else []
        for host in busy:
            links.send(host, {"type": wire.STOP, "how": "now", "reason": end.message})
        deadline = time.monotonic() + self._spec.timeouts.stop + UNKILLABLE_S
        while set(busy) & set(links.open_hosts) - self._over and time.monotonic() < deadline:
            self._turn(0.1)
        for host in links.open_hosts:
            links.send(host, {"type": wire.LEAVE, "term": term, **self._warmth.farewell(end.state)})
        deadline = time.monotonic() + LEAVE_S
        while links.open_hosts and time.monotonic() < deadline:
            self._turn(0.1)
        for host in links.open_hosts:
            links.close(host)
        if self._home:
            self._home.complete(self._not_hurried, give_up_s=GIVE_UP_S if self._started else UNSTARTED_S)
        if end.cause is not None:
            self._journal.append(records.CAUSE, **self._witness.with_log(end.cause))
        code = int(EXIT_CODE_OF[end.state])
        self._journal.append(
            records.RUN_ENDED, state=end.state.value, exit_code=code, message=end.message, model=self._witness.model
        )
        if told := self._warmth.told():
            self._journal.append(records.REMARK, text=told)
        self._control.close()
        self._planner.close()
        deadline = time.monotonic() + FULL_DISK_S
        while not self._journal.retry() and time.monotonic() < deadline:
            time.sleep(0.5)

    def _not_hurried(self) -> bool:
        self._turn(0.0)
        return not self._hurried

    def _signalled(self) -> None:
        for _ in range(self._wake.terms()):
            how: StopHow = "now" if self._machine.state == RunState.STOPPING else "graceful"
            self._tell(StopAsked(how, "SIGTERM to the coordinator"))
