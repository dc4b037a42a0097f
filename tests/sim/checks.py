"""What must hold at every moment, seen from the world's own truth and not from what anybody in it believes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from launcher.supervise.core.events import End, Instruction
from tests.sim.clock import BEGIN_S
from tests.sim.net import HOME
from worker.contract import records, wire
from worker.contract.layout import parse_checkpoint_name
from worker.contract.states import RUN_ENDED, RunState

if TYPE_CHECKING:
    from tests.sim.agent import Agent
    from tests.sim.host import SimHost
    from tests.sim.lab import Lab
    from tests.sim.ranks import Cluster


LATE_WORD_S = 60.0  # a relay's word that an agent does not answer may be read so much later


class BrokenError(Exception):
    """A rule does not hold in this history."""


class Checks:
    """Called as things happen; raises BrokenError at the first that must not be."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._newest = 0  # the highest generation that was begun
        self._counts: dict[int, int] = {}  # step → the generation that it was done in, of the lineage that counts
        self._stopped_at: int | None = None  # the newest generation when the run was asked to stop
        self._begun: set[tuple[int, int]] = set()
        self.steps = 0

    def stop_asked(self) -> None:
        if self._stopped_at is None:  # what was begun by then may yet arrive
            self._stopped_at = max(self._newest, self._lab.home.plan.generation if self._lab.home.begun else 0)

    def resumed(self) -> None:
        """Somebody wants the run to go on after all."""
        self._stopped_at = None

    def commanded(self, host: str, term: int, known: int) -> None:
        if term < known:
            raise BrokenError(f"{host} obeys a coordinator of term {term}, and has known one of term {known}")

    def instructed(self, who: str, host: str, what: str, gone: bool) -> None:
        if gone and what != wire.COMMAND:
            raise BrokenError(f"{who} instructs {host} ({what}), which it knows to be dead")

    def _at_work(self, generation: int) -> list[SimHost]:
        """The hosts that have ranks in a generation."""
        return [self._lab.hosts[host.name] for host in self._lab.home.plans[generation].at_work]

    def broke(self, who: str, generation: int, instructions: list[Instruction]) -> None:
        """A generation is ended as broken: something of it must have ended, or be out of reach."""
        well = all(
            host.ready()
            and host.agent is not None
            and host.agent.moves
            and self._lab.world.awake - host.agent.thawed_at > LATE_WORD_S
            and self._lab.net.passes(HOME, host.name)
            for host in self._at_work(generation)
        )
        cluster = self._lab.clusters.get(generation)
        if well and cluster is not None and cluster.stepping and cluster.whole and not cluster.losing:
            raise BrokenError(f"{who} ends generation {generation}, in which nothing is wrong: {instructions}")

    def leased(self, agent: Agent) -> None:
        """A lease runs from the moment at which a nonce that came back was sent, and no longer."""
        core, host = agent.core, agent.host.name
        late = core._lease_until > agent.lease_until + 1e-3
        if late or (self._lab.world.now > agent.lease_until + 1e-3 and core.alive and not core._lease_over):
            raise BrokenError(f"{host} would train beyond its lease, which ends at {agent.lease_until - BEGIN_S:.3f}")

    def restarted(self) -> None:
        """No more generations in a window than the spec allows. One that was overtaken alive may have answered some
        that its successor could not know of."""
        lab, restart = self._lab, self._lab.settings.restart
        if any(former.alive or former.yielded for former in lab.coordinators[:-1]):
            return
        recent = {
            record["generation"]
            for record in lab.home.journal
            if record["type"] == records.RESTART
            and not record.get("planned")
            and lab.world.now - record["t"] < restart.per
        }
        if len(recent) > restart.max:
            raise BrokenError(f"{len(recent)} failures within {restart.per:g} s were answered, {restart.max} may be")

    def spawned(self, host: SimHost, generation: int, rank: int) -> None:
        """A rank is started. At most one unfenced incarnation of each; nothing older is alive; nothing was asked to
        stop; and nothing that is saved anywhere lies beyond the step that it starts from. What is left on hosts that
        the generation does without is fenced: alone it can do no step, and what it saves is of no lineage."""
        agent = host.agent
        if generation < self._newest and not self.minds(host.name):
            return  # an old order, read late: alone it can do nothing
        for other in self._at_work(generation):
            for living in other.processes.values():
                if living.generation < generation:
                    raise BrokenError(
                        f"generation {generation} is started on {host.name} while rank {living.number} of generation "
                        f"{living.generation} is alive on {other.name}"
                    )
                if living.number == rank:
                    raise BrokenError(f"rank {rank} is started on {host.name} and is alive on {other.name}")
        forgotten = all(r.get("generation", 0) < generation for r in host.disk.records)  # a full disk, then a crash
        if (generation, rank) in self._begun and not forgotten:
            raise BrokenError(f"rank {rank} of generation {generation} is started a second time")
        if generation < self._newest:
            raise BrokenError(f"generation {generation} is started after generation {self._newest}")
        self._begun.add((generation, rank))
        if agent is not None and agent.start_term < agent.term_heard:
            raise BrokenError(f"{host.name} starts generation {generation} without the highest term it knows")
        if self._stopped_at is not None and generation > self._stopped_at:
            raise BrokenError(f"generation {generation} is started after the run was asked to stop")
        if generation > self._newest:
            self._newest = generation
            self._begins(generation)

    def _begins(self, generation: int) -> None:
        plan = self._lab.home.plans[generation]
        parsed = parse_checkpoint_name(plan.resumes)
        at = parsed[1] if parsed else 0
        if parsed and self._counts.get(at) != parsed[0] and self._is_all_there_is_after(parsed[0]):
            # What was done since is lost, and as if it had never been: a host that was left out has brought this later.
            self._counts = {s: min(by, parsed[0]) for s, by in self._counts.items() if s < at} | {at: parsed[0]}
        if parsed and self._counts.get(at) != parsed[0]:
            raise BrokenError(f"generation {generation} starts from {plan.resumes}, which is not of the run's lineage")
        for host in self._at_work(generation):
            for name, step in host.disk.published.items():
                saved = parse_checkpoint_name(name)
                if saved and step > at and self._counts.get(step) == saved[0]:
                    raise BrokenError(
                        f"generation {generation} starts from step {at} while {host.name} holds {name}: "
                        "finished steps would be done again"
                    )
        self._counts = {step: by for step, by in self._counts.items() if step <= at}

    def _is_all_there_is_after(self, generation: int) -> bool:
        """Whether no later generation has left a checkpoint that is known at home."""
        return all(by <= generation for _, by in self._lab.home.checkpoints)

    def minds(self, host: str) -> bool:
        """Whether the host is at work in the newest generation."""
        return host in {one.name for one in self._at_work(self._newest or 1)}

    def published(self, host: str, generation: int, step: int) -> None:
        if generation < self._newest and self.minds(host):
            raise BrokenError(f"{host} publishes step {step} of generation {generation} after {self._newest} has begun")

    def stepped(self, cluster: Cluster) -> None:
        """A step was finished by all."""
        self.steps += 1
        if cluster.generation != self._newest:
            raise BrokenError(f"generation {cluster.generation} steps after {self._newest} has begun")
        self.counted(cluster.generation, cluster.step)

    def counted(self, generation: int, step: int) -> None:
        if self._counts.setdefault(step, generation) != generation:
            raise BrokenError(f"step {step} counts in generations {self._counts[step]} and {generation}")

    def concluded(self, who: str, end: End) -> None:
        if end.state not in RUN_ENDED:
            raise BrokenError(f"{who} ends with state {end.state}")
        if end.state in (RunState.FAILED, RunState.FAULTY, RunState.NOT_FIT) and not (end.cause and end.message):
            raise BrokenError(f"{who} fails without a cause")
        how = str((end.cause or {}).get("how"))
        if how == "unreachable" and self._could_go_on():
            raise BrokenError(f"{who} gives up though enough hosts are well: {end.message}")
        if how == "refused":
            raise BrokenError(f"{who} gave an order that was refused, and not for a higher term: {end.message}")
        total = self._lab.total
        if end.state is RunState.TRAINED and self._newest and max(self._counts, default=0) < total:
            raise BrokenError(f"{who} says trained, and {max(self._counts, default=0)} of {total} steps count")

    def _could_go_on(self) -> bool:
        """Whether for minutes nothing has gone wrong, and the hosts that are left are enough."""
        lab, restart = self._lab, self._lab.settings.restart
        if lab.peace_at is None or lab.world.awake - lab.peace_at < restart.per:
            return False
        left = lab.coordinator.machine.leaving_for_good
        up = [name for name, host in lab.hosts.items() if host.up and name not in left]
        if restart.min_workers is None:
            return len(up) >= len(lab.hosts) - restart.spares
        most = sorted((lab.settings.workers[name] for name in up), reverse=True)[: len(lab.hosts) - restart.spares]
        return sum(most) >= restart.min_workers

    def over(self) -> None:
        """After the end: nothing is alive, nobody holds a command."""
        alive = [f"rank {p.number} on {h.name}" for h in self._lab.hosts.values() for p in h.processes.values()]
        alive += [f"the agent on {h.name}" for h in self._lab.hosts.values() if h.agent is not None]
        if alive:
            raise BrokenError(f"alive after the end: {', '.join(alive)}")
