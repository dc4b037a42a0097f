"""One run in its world: hosts, net, home, whoever coordinates, and the truth about its generations."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from launcher.plan.model import LaunchPlan
from launcher.spec.model import RestartSpec, Timeouts
from tests.sim.checks import Checks
from tests.sim.clock import World
from tests.sim.coordinator import SimCoordinator
from tests.sim.home import Home
from tests.sim.host import SimHost
from tests.sim.net import Net
from tests.sim.ranks import STEP_S, Cluster
from worker.contract import records, wire
from worker.contract.layout import parse_checkpoint_name


@dataclass(frozen=True)
class Settings:
    """What kind of run it is. Steps take a second each."""

    workers: dict[str, int] = field(default_factory=lambda: {"a": 1, "b": 1})
    local: str = ""  # a host that is the coordinators' own machine
    total: int = 40
    lease_s: float = 86400.0
    restart: RestartSpec = field(default_factory=RestartSpec)
    timeouts: Timeouts = field(default_factory=lambda: Timeouts(start=60.0, stall=60.0, checkpoint=30.0))
    port_taken: float = 0.0  # how likely a rank's port is taken
    planning_fails: float = 0.0
    announced: bool = False  # hosts may have to go


class Lab:
    def __init__(self, seed: object, settings: Settings) -> None:
        self.settings = settings
        self.world = World(seed)
        self.total = settings.total
        self.net = Net(self.world)
        self.checks = Checks(self)
        self.hosts = {name: SimHost(self, name, name != settings.local) for name in settings.workers}
        self.home = Home(self)
        self.clusters: dict[int, Cluster] = {}
        self.peace_at: float | None = None  # since when nothing goes wrong any more
        self.coordinators: list[SimCoordinator] = []
        self.attach()

    @property
    def spared(self) -> list[str]:
        """The hosts without any one of which the run can go on."""
        workers, restart = self.settings.workers, self.settings.restart
        without = {name: sum(workers.values()) - count for name, count in workers.items() if self.hosts[name].remote}
        if restart.min_workers is None:
            return list(without) if restart.spares else []
        return [name for name, left in without.items() if left >= restart.min_workers and len(workers) > 1]

    # Coordinators.

    @property
    def coordinator(self) -> SimCoordinator:
        """The one of the highest term."""
        return self.coordinators[-1]

    def attach(self) -> None:
        """Another coordinator takes the run in hand, or begins it if no generation was begun."""
        term, under_way = self.home.next_term(), self.home.under_way()
        self.home.note(records.COORDINATOR_STARTED, term=term)
        if under_way is None:
            self.checks.resumed()
        else:
            self.home.resumes = self.home.plan.resumes
        self.coordinators.append(SimCoordinator(self, term, under_way))

    def start_message(self, plan: LaunchPlan, host: str, term: int) -> dict[str, Any]:
        times = self.settings.timeouts
        return {
            "type": wire.START,
            "term": term,
            "generation": plan.generation,
            "keep": 3,
            "workers": len(plan.ranks),
            "timeouts": {
                "stop_s": times.stop,
                "checkpoint_s": times.checkpoint,
                "start_s": times.start,
                "stall_s": times.stall,
            },
            "ranks": [
                {
                    "rank": rank.rank,
                    "argv": ["train"],
                    "cwd": "/",
                    "env": {},
                    "secrets": {},
                    "stop": rank.stop,
                    "chief": rank.rank == 0,
                }
                for rank in plan.ranks
                if rank.host == host
            ],
        }

    # The truth.

    def cluster(self, generation: int) -> Cluster:
        if generation not in self.clusters:
            plan = self.home.plans[generation]
            parsed = parse_checkpoint_name(plan.resumes)
            begins = parsed[1] if parsed else 0
            self.clusters[generation] = Cluster(generation, len(plan.ranks), begins, lambda: self.total, self._passes)
        return self.clusters[generation]

    def _passes(self, one: str, other: str) -> bool:
        return self.net.passes(one, other)

    def lineage_of(self, host: str, generation: int, step: int) -> str:
        """What a checkpoint's arrays are known by: exact training gives the same for the same step."""
        if self.checks.minds(host):
            self.checks.counted(generation, step)
        return f"step-{step}"

    @property
    def newest(self) -> Cluster | None:
        return self.clusters[max(self.clusters)] if self.clusters else None

    def hasten(self, steps: int) -> None:
        """The training is to be over so many steps beyond the newest that is saved."""
        saved = [step for host in self.hosts.values() if not host.doomed for step in host.disk.published.values()]
        self.total = min(self.total, max(saved, default=0) + steps)

    def skip(self, seconds: float) -> float:
        """Quiet hours pass, if all is well: every rank steps, every link is up. How many seconds did."""
        cluster, coordinator = self.newest, self.coordinator
        settled = (
            cluster is not None
            and cluster.whole
            and cluster.stepping
            and coordinator.alive
            and not coordinator.frozen
            and coordinator.machine.state == "training"
            and len(self.home.lost_links()) == 0
        )
        if not settled or cluster is None:
            return 0.0
        steps = min(int(seconds / STEP_S), cluster.total - cluster.step - 5)
        seconds = min(steps * STEP_S, self.settings.lease_s * 0.8)
        if seconds < 10.0:
            return 0.0
        cluster.step += int(seconds / STEP_S)
        self.world.skipped += seconds
        self.world.tell(f"{seconds:.0f} quiet seconds are skipped")
        return seconds
