"""What may go wrong, by name. Each fault is done to a lab and gives what undoes it, if anything does."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from tests.sim.lab import Lab
from tests.sim.net import HOME
from worker.agent import events

Undo = Callable[[], None]
Fault = Callable[[Lab], "Undo | None"]


def kill_rank(host: str) -> Fault:
    def do(lab: Lab) -> None:
        for rank in list(lab.hosts[host].processes.values()):
            rank.die("SIGKILL")

    return do


def freeze_rank(host: str) -> Fault:
    def do(lab: Lab) -> Undo:
        ranks = list(lab.hosts[host].processes.values())
        for rank in ranks:
            rank.frozen = True

        def undo() -> None:
            for rank in ranks:
                rank.frozen = False
                rank.thawed()

        return undo

    return do


def kill_agent(host: str) -> Fault:
    return lambda lab: lab.hosts[host].kill_agent()


def announce(host: str, whom: str) -> Fault:
    """SIGTERM to the agent, to a rank, or to all."""

    def do(lab: Lab) -> None:
        machine = lab.hosts[host]
        for rank in list(machine.processes.values()) if whom != "agent" else ():
            rank.told_to_go()
        if whom != "rank" and machine.agent is not None:
            machine.agent.happen(events.Termed())

    return do


def drain(host: str) -> Fault:
    return lambda lab: lab.coordinator.drain(host)


def freeze_agent(host: str) -> Fault:
    def do(lab: Lab) -> Undo | None:
        agent = lab.hosts[host].agent
        if agent is None:
            return None
        agent.frozen = True
        return lambda: agent.thaw() if agent.alive else None

    return do


def crash(host: str, power: bool) -> Fault:
    def do(lab: Lab) -> Undo | None:
        machine = lab.hosts[host]
        if not machine.remote or not machine.up or machine.doomed:
            return None
        machine.crash(power)
        return machine.come_back

    return do


def die_for_good(host: str) -> Fault:
    """Nothing undoes it."""

    def do(lab: Lab) -> None:
        lab.hosts[host].crash(power=True)
        lab.hosts[host].doomed = True

    return do


def freeze_host(host: str) -> Fault:
    def do(lab: Lab) -> Undo | None:
        machine = lab.hosts[host]
        if not machine.remote:
            return None
        machine.freeze()
        boot = machine.boot
        return lambda: machine.thaw() if machine.boot == boot else None

    return do


def cut(*ways: tuple[str, str]) -> Fault:
    def do(lab: Lab) -> Undo | None:
        mine = [way for way in ways if lab.settings.local not in way or HOME not in way]
        for way in mine:
            lab.net.cut(*way)

        def undo() -> None:
            for way in mine:
                lab.net.restore(*way)

        return undo

    return do


def both(one: str, other: str) -> Fault:
    return cut((one, other), (other, one))


def break_streams(host: str) -> Fault:
    def do(lab: Lab) -> None:
        for relay in lab.hosts[host].relays[-3:]:
            relay.broken()

    return do


def fill_disk(host: str) -> Fault:
    def do(lab: Lab) -> Undo:
        disk = lab.hosts[host].disk
        disk.full = True

        def undo() -> None:
            disk.full = False

        return undo

    return do


def kill_coordinator(lab: Lab) -> Undo:
    """Undone by `attach`."""
    lab.coordinator.die()
    return lambda: lab.attach() if not lab.coordinator.alive and lab.home.end is None else None


def freeze_coordinator(lab: Lab) -> Undo:
    """Another one takes over. Undone by waking the old one, which was to be killed; but who asks may not have been able
    to. It is fenced where its successor has been heard."""
    old = lab.coordinator
    old.frozen = True

    def take_over() -> None:
        if lab.coordinator is old and lab.home.end is None and lab.home.begun:
            if not old.frozen:
                old.die()
            lab.attach()

    lab.world.after(lab.world.between(0.1, 40.0), take_over)

    def undo() -> None:
        if lab.coordinator is old and lab.world.chance(0.5):
            take_over()
        term = lab.coordinator.term
        fenced = all(any(r.get("term") == term for r in host.disk.records) for host in lab.hosts.values())
        if lab.coordinator is old or (fenced and lab.world.chance(0.7)):
            old.thaw()
        else:
            old.die()

    return undo


def ask_to_stop(lab: Lab) -> None:
    lab.coordinator.ask_to_stop("graceful")


def ask_to_stop_now(lab: Lab) -> None:
    lab.coordinator.ask_to_stop("now")


def announcements(names: list[str]) -> dict[str, Fault]:
    """Every way in which a host's end is announced."""
    found: dict[str, Fault] = {}
    for name in names:
        found |= {f"SIGTERM to the {whom} on {name}": announce(name, whom) for whom in ("agent", "rank", "all")}
        found |= {f"drain {name}": drain(name)}
    return found


def of_hosts(names: list[str]) -> dict[str, Fault]:
    """Every fault but a stop, for these hosts."""
    faults: dict[str, Fault] = {"kill coordinator": kill_coordinator, "freeze coordinator": freeze_coordinator}
    for name in names:
        faults |= {
            f"kill the ranks on {name}": kill_rank(name),
            f"freeze the ranks on {name}": freeze_rank(name),
            f"kill the agent on {name}": kill_agent(name),
            f"freeze the agent on {name}": freeze_agent(name),
            f"crash {name}": crash(name, power=False),
            f"cut the power of {name}": crash(name, power=True),
            f"freeze {name}": freeze_host(name),
            f"cut {name} off from home": both(HOME, name),
            f"cut the way to {name}": cut((HOME, name)),
            f"cut the way from {name}": cut((name, HOME)),
            f"break the streams to {name}": break_streams(name),
            f"fill the disk of {name}": fill_disk(name),
        }
    for one, other in itertools.pairwise(names):
        faults |= {
            f"cut {one} off from {other}": both(one, other),
            f"cut the way from {one} to {other}": cut((one, other)),
        }
    return faults
