"""One history: a run, what goes wrong in it, and its end, which must come."""

from __future__ import annotations

import random
from dataclasses import dataclass

from launcher.spec.model import RestartSpec, Timeouts
from tests.sim import faults
from tests.sim.checks import BrokenError
from tests.sim.lab import Lab, Settings
from worker.contract.states import RunState

PATIENCE_S = 9000.0  # awake seconds until a run must have ended once nothing goes wrong any more
AFTERLIFE_S = 400.0  # until nothing of it may be alive


@dataclass(frozen=True)
class Told:
    """What came of a history."""

    end: str
    faults: int
    generations: int
    seconds: float
    events: int


class Nemesis:
    """Does faults to a lab and undoes them."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.done = 0
        self._undo: list[faults.Undo] = []

    def do(self, name: str, fault: faults.Fault, seconds: float) -> None:
        lab = self.lab
        if lab.home.end is not None:
            return
        lab.world.tell(f"*** {name}")
        self.done += 1
        undo = fault(lab)
        if undo is None:
            return
        self._undo.append(undo)

        def later() -> None:
            if undo in self._undo:
                self._undo.remove(undo)
                lab.world.tell(f"*** no more: {name}")
                undo()

        lab.world.after(seconds, later)

    def make_peace(self) -> None:
        """Undo everything that still goes wrong."""
        self.lab.world.tell("*** from here on nothing goes wrong")
        self.lab.peace_at = self.lab.world.awake
        undo, self._undo = self._undo, []
        for one in reversed(undo):
            one()


def finish(lab: Lab, attach: bool = True) -> str:
    """Let a run in which nothing goes wrong any more come to its end, and see that nothing is left; its end."""
    if attach and not lab.coordinator.alive and lab.home.end is None:
        lab.attach()
    unminded = not lab.coordinator.alive and lab.home.end is None

    def over() -> bool:
        if unminded:
            return all(host.agent is None and not host.processes for host in lab.hosts.values())
        return lab.home.end is not None and not any(c.alive for c in lab.coordinators)

    lab.hasten(30)
    until = lab.world.awake + PATIENCE_S
    while not lab.world.run(10.0, over):
        if lab.world.awake > until:
            machine = lab.coordinator.machine
            raise BrokenError(f"it does not end: state {machine.state}, {machine._phase}")
    lab.world.run(AFTERLIFE_S, lambda: all(h.agent is None and not h.processes for h in lab.hosts.values()))
    lab.checks.over()
    return str(lab.home.end["state"]) if lab.home.end else "unminded"


def settings_of(random_: random.Random) -> Settings:
    """Any kind of run."""
    choose = random_.choice
    workers = choose([{"a": 1, "b": 1}, {"a": 1, "b": 1}, {"a": 2, "b": 1}, {"a": 1, "b": 1, "c": 1}, {"a": 1}])
    elastic = len(workers) > 1 and choose([False, True])
    spares = choose([0, 0, 1]) if elastic else 0
    most = sum(list(workers.values())[: len(workers) - spares])
    local, total = choose(["", "", "", "a"]), choose([30, 3000, 3_000_000, 3_000_000, 3_000_000])
    # A host that dies for good and leaves no peer behind is given up only when its lease has run out.
    lease_s = choose([120.0, 3600.0, 3600.0, 3600.0] if elastic else [120.0, 3600.0, 86400.0, 86400.0])
    return Settings(
        workers=workers,
        local=local,
        total=total,
        lease_s=lease_s,
        timeouts=Timeouts(start=60.0, stall=60.0, checkpoint=30.0, lease=lease_s),
        restart=RestartSpec(
            max=choose([0, 3, 3, 20, 100]),
            per=choose([600.0, 3600.0]),
            backoff=1.0,
            min_workers=choose([1, 1, min(2, most), None]) if elastic else None,
            grow=choose(["at_restart", "at_checkpoint", "never"]),
            spares=spares,
        ),
        port_taken=choose([0.0, 0.0, 0.03]),
        planning_fails=choose([0.0, 0.0, 0.1]),
        announced=choose([True, False, False]),
    )


def random_history(seed: object) -> tuple[Lab, Nemesis]:
    """The lab and nemesis of a seed, before anything happened."""
    lab = Lab(seed, settings_of(random.Random(f"settings of {seed}")))
    return lab, Nemesis(lab)


def live(lab: Lab, nemesis: Nemesis) -> Told:
    """Go through a whole history of random faults. Raises BrokenError."""
    world, choice = lab.world, lab.world.random.choice
    kinds = list(faults.of_hosts(list(lab.hosts)).items())
    if lab.settings.announced:
        kinds += faults.announcements(list(lab.hosts)).items()
    favourites = [choice(kinds) for _ in range(3)]  # so that histories differ in kind
    world.run(choice([0.0, 1.0, 10.0, 10.0, 10.0, 10.0]) * world.between(0.5, 1.5))
    doomed = choice(lab.spared) if lab.spared and world.chance(0.3) else ""
    for _ in range(choice([1, 2, 5, 20, 60])):
        if doomed and world.chance(0.3):
            nemesis.do(f"{doomed} dies for good", faults.die_for_good(doomed), 0.0)
            doomed = ""
        for _ in range(choice([1, 1, 2, 3])):
            name, fault = choice(kinds if world.chance(0.6) else favourites)
            nemesis.do(name, fault, choice([0.5, 3.0, 12.0, 25.0, 60.0, 200.0]) * world.between(0.3, 1.0))
            world.run(choice([0.0, 0.05, 0.5, 4.0, 15.0]) * world.between(0.5, 1.5))
        world.run(choice([1.0, 5.0, 20.0, 60.0]) * world.between(0.5, 1.5))
        for _ in range(choice([1, 1, 2, 4])):
            lab.skip(choice([60.0, 3600.0, 7200.0, 80000.0]) * world.between(0.5, 1.5))
            world.run(choice([0.0, 0.5, 1.6, 4.0]))
        if lab.home.end is not None:
            break
    if world.chance(0.25) and lab.coordinator.alive:
        nemesis.do("down", choice([faults.ask_to_stop, faults.ask_to_stop, faults.ask_to_stop_now]), 0.0)
        world.run(choice([0.0, 0.3, 3.0]))
        nemesis.do(*choice(kinds), choice([3.0, 60.0]))
        world.run(choice([0.0, 5.0, 60.0]))
    nemesis.make_peace()
    unminded = world.chance(0.08)  # nobody attaches any more: training goes on to its end, or to that of the lease
    if unminded:
        lab.coordinator.die()
    end = finish(lab, attach=not unminded)
    if end not in {state.value for state in RunState} | {"unminded"}:
        raise BrokenError(f"it ended as {end}")
    return Told(end, nemesis.done, len(lab.clusters), world.now - 1000.0, world.happened)
