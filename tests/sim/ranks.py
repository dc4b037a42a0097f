"""A little model of the trainer: steps that need every rank, a rescue when one is gone, a frozen one that wakes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from worker.agent import events
from worker.contract import records
from worker.contract.layout import checkpoint_name
from worker.contract.states import WorkerExit

if TYPE_CHECKING:
    from tests.sim.host import SimHost

STEP_S = 1.0
EVERY = 7  # steps between two checkpoints


class Cluster:
    """The ranks of one generation, and what they have done together: the truth, whatever anybody believes."""

    def __init__(
        self, generation: int, size: int, begins: int, total: Callable[[], int], passes: Callable[[str, str], bool]
    ):
        self.generation, self.size, self.begins, self._total = generation, size, begins, total
        self.step = begins
        self.saved = begins
        self.ranks: dict[int, Rank] = {}
        self.stepping = False
        self._passes = passes
        self.losing = False

    @property
    def total(self) -> int:
        return self._total()

    @property
    def whole(self) -> bool:
        """Whether a collective can go on."""
        ranks = list(self.ranks.values())
        return (
            len(ranks) == self.size
            and all(rank.joined and rank.moves for rank in ranks)
            and all(self._passes(one.host.name, other.host.name) for one in ranks for other in ranks)
        )

    def joined(self) -> None:
        if self.whole and not self.stepping:
            self.stepping = True
            self._later()

    def _later(self) -> None:
        next(iter(self.ranks.values())).host.world.after(STEP_S, self._advance)

    def _advance(self) -> None:
        ranks = [rank for rank in self.ranks.values() if rank.alive]
        if not ranks or any(rank.leaving for rank in ranks):
            return
        if not self.whole:
            self._break(ranks)
            return
        self.step += 1
        for rank in ranks:
            rank.stepped(self.step)
        chief = self.ranks[0]
        chief.host.lab.checks.stepped(self)
        asked = any(rank.asked for rank in ranks)
        if self.step >= self.total or asked:
            for rank in ranks:
                rank.finish("end" if self.step >= self.total else "asked")
            return
        if self.step - self.saved >= EVERY:
            self.saved = self.step
            for rank in ranks:
                if rank.saves:
                    rank.save("every")
        self._later()

    def _break(self, ranks: list[Rank]) -> None:
        """The collective hangs; each survivor notices by and by, unless all is well again before. One of them may have
        finished a step that another has not."""
        if self.losing:
            return
        self.losing = True
        world = ranks[0].host.world
        ahead = world.chance(0.5) and self.step + 1 < self.total
        dead = len(ranks) < self.size
        for rank in ranks:
            seconds = world.between(0.1, 3.0) if dead else world.between(5.0, 40.0)
            if ahead and rank.moves and world.chance(0.5):
                rank.stepped(self.step + 1)
            world.after(seconds, lambda rank=rank: self._notice(rank))  # type: ignore[misc]

    def _notice(self, rank: Rank) -> None:
        if not rank.alive or rank.leaving:
            return
        if self.whole and all(peer.step == rank.step for peer in self.ranks.values()):
            if self.losing:
                self.losing = False
                self.step = rank.step
                self._later()
            return
        if not rank.moves:
            rank.when_awake(lambda: self._notice(rank))
            return
        rank.rescue()


class Rank:
    """One trainer process."""

    def __init__(self, host: SimHost, number: int, cluster: Cluster, saves: bool) -> None:
        self.host, self.number, self.cluster, self.saves = host, number, cluster, saves
        self.generation = cluster.generation
        self.step = cluster.begins
        self.alive, self.frozen, self.joined, self.leaving, self.asked = True, False, False, False, False
        self._saved = cluster.begins
        self._agent = host.agent
        self._awake: list[Callable[[], None]] = []
        again = number in cluster.ranks  # its peers, if any are left, do not take it in
        cluster.ranks[number] = self
        world = host.world
        world.after(0.02, lambda: self._tell(events.Started(number, 100 + number, 1)))
        if again:
            return
        if world.chance(host.lab.settings.port_taken):
            world.after(world.between(0.5, 2.0), lambda: self._fail(WorkerExit.PORT_TAKEN, "port"))
        else:
            world.after(world.between(0.5, 3.0), self._join)

    @property
    def moves(self) -> bool:
        return self.alive and not self.frozen and not self.host.frozen and self.host.up

    def when_awake(self, do: Callable[[], None]) -> None:
        self._awake.append(do)

    def thawed(self) -> None:
        if self.moves:
            waiting, self._awake = self._awake, []
            for do in waiting:
                self.host.world.after(self.host.world.between(0.0, 2.0), do)

    def _tell(self, event: events.Event) -> None:
        if self._agent is not None and self._agent is self.host.agent:
            self._agent.happen(event)

    def _told(self, type_: str, **fields: Any) -> None:
        self._tell(events.Told(self.number, {"type": type_, **fields}))

    def _join(self) -> None:
        if not self.alive:
            return
        if not self.moves:
            self.when_awake(self._join)
            return
        self.joined = True
        self._told(records.PHASE, name="import", seconds=1.0)
        self.cluster.joined()

    def stepped(self, step: int) -> None:
        self.step = step
        self._told(records.STEP, step=step, epoch=1)

    def save(self, why: str) -> bool:
        """Whether what it holds is on its disk, or was before."""
        if self.step <= self._saved:
            return True
        if self.host.disk.full:
            return False
        self._saved = self.step
        name = checkpoint_name(self.generation, self.step)
        self.host.disk.own[self.number, name] = self.step
        self._told(records.SAVED, folder=name, step=self.step, epoch=1, why=why)
        return True

    def finish(self, why: str) -> None:
        self.leaving = True

        def leave() -> None:
            if not self.saves or self.save(why):
                self._exit(WorkerExit.DONE if why == "end" else WorkerExit.STOPPED)
            else:
                self._fail(WorkerExit.ERROR, "error")

        self._soon(leave)

    def rescue(self) -> None:
        self.leaving = True
        self._soon(lambda: self._fail(WorkerExit.RESCUED if self.save("rescue") else WorkerExit.ERROR, "peer"))

    def ask(self) -> None:
        self.asked = True

    def told_to_go(self) -> None:
        """SIGTERM by somebody who is not its agent."""

        def tell() -> None:
            if self.alive:
                self.asked = True
                self._told(records.GOING, why="SIGTERM")

        self._soon(tell)

    def _soon(self, do: Callable[[], None]) -> None:
        def go() -> None:
            if self.moves:
                do()
            elif self.alive:
                self.when_awake(go)

        self.host.world.after(self.host.world.between(0.05, 1.0), go)

    def _fail(self, code: WorkerExit, reason: str) -> None:
        if self.alive:
            self._told(records.FAILURE, reason=reason, message=f"{reason} of rank {self.number}", step=self.step)
            self._exit(code)

    def signal(self, name: str) -> None:
        """What a signal does: SIGTERM waits while the process is frozen."""
        if name == "SIGKILL":
            self.die("SIGKILL")
        elif self.moves:
            self._exit(143)
        elif self.alive:
            self.when_awake(lambda: self.signal(name))

    def die(self, signal: str) -> None:
        if self.alive:
            self.alive = False
            self.host.buried(self)
            self._reaped(events.Exited(self.number, signal=signal))

    def _exit(self, code: int) -> None:
        if self.alive:
            self.alive = False
            self.host.buried(self)
            self._reaped(events.Exited(self.number, exit_code=int(code)))

    def _reaped(self, event: events.Exited) -> None:
        self.host.world.after(0.01, lambda: self._tell(event))
