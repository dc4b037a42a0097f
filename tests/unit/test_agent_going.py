"""A host that has to go: its ranks save and stop, its agent stays for a coordinator, and no longer than that."""

from __future__ import annotations

import pytest

from tests.unit.agent_world import World, order
from worker.agent import events
from worker.agent.going import ALONE_S, LINGER_S
from worker.contract import records, wire


def saves_and_stops(world: World, *ranks: int) -> None:
    for rank in ranks:
        world.exit(rank, code=82)


def test_sigterm_to_the_agent_asks_its_ranks_to_save_and_is_told_first() -> None:
    world = World().commanded(1).started(0, 1)
    world.step(0, 1)
    world.step(1, 1)
    world.happen(events.Termed())
    assert world.asked == [0, 1]
    assert world.signals == []
    types = [event["type"] for event in world.journal]
    assert types.index(records.HOST_GOING) < types.index(records.RANK_ASKED_TO_STOP)
    (going,) = world.wrote(records.HOST_GOING)
    assert (going["generation"], going["why"]) == (1, "the agent was sent SIGTERM")
    saves_and_stops(world, 0, 1)
    assert set(world.states().values()) == {"stopped"}


def test_it_stays_until_the_coordinator_has_what_was_saved() -> None:
    world = World().commanded(1).started(0)
    world.step(0, 1)
    world.happen(events.Termed())
    saves_and_stops(world, 0)
    world.wait(60.0)
    assert not world.left
    world.receive(1, type=wire.LEAVE, term=1)
    assert world.left


def test_a_coordinator_that_never_says_so_does_not_hold_it_for_ever() -> None:
    world = World().commanded(1).started(0)
    world.step(0, 1)
    world.happen(events.Termed())
    saves_and_stops(world, 0)
    world.wait(LINGER_S + 1.0)
    assert world.left
    assert "has to go" in world.wrote(records.AGENT_LEFT)[0]["reason"]


def test_without_a_coordinator_it_saves_and_leaves_by_itself() -> None:
    world = World().commanded(1).started(0)
    world.step(0, 1)
    world.disconnect(1)
    world.happen(events.Termed())
    assert world.asked == [0]
    world.wait(20.0)
    assert not world.left, "its rank is saving yet"
    saves_and_stops(world, 0)
    world.wait(ALONE_S + 1.0)
    assert world.left


def test_a_second_sigterm_cuts_short_nothing_but_the_wait_for_the_coordinator() -> None:
    world = World().commanded(1).started(0)
    world.step(0, 1)
    world.happen(events.Termed())
    world.happen(events.Termed())
    world.wait(20.0)
    assert (world.signals, world.left) == ([], False)
    saves_and_stops(world, 0)
    world.wait(0.5)
    assert world.left


def test_ranks_that_cannot_save_do_not_hold_it_for_ever() -> None:
    world = World().commanded(1).started(0)
    world.step(0, 1)
    world.happen(events.Termed())
    world.wait(30.0 + 3.0 + 0.5)  # its timeouts.checkpoint and timeouts.stop
    assert world.signals == [(0, "SIGTERM"), (0, "SIGKILL")]


def test_a_rank_that_was_sent_sigterm_speaks_for_its_host() -> None:
    world = World().commanded(1).started(0, 1)
    world.step(0, 1)
    world.step(1, 1)
    world.tell(1, type=records.GOING, why="SIGTERM by process 7")
    assert world.asked == [0, 1]
    assert world.wrote(records.HOST_GOING)[0]["why"] == "rank 1 was sent SIGTERM by process 7"
    saves_and_stops(world, 0, 1)
    assert set(world.states().values()) == {"stopped"}


@pytest.mark.parametrize("how", [{"signal": "SIGTERM"}, {"code": 143}])
def test_a_program_that_ends_by_somebodys_sigterm_has_not_failed(how: dict[str, object]) -> None:
    world = World().commanded(1).started(0, 1, message=False)
    world.exit(1, **how)  # type: ignore[arg-type]
    assert world.states() == {1: "stopped"}
    assert world.signals == [(0, "SIGTERM")], "the others are to save what they can, too"
    world.exit(0, code=0)
    assert len(world.wrote(records.HOST_GOING)) == 1
    assert world.wrote(records.GENERATION_ENDED)


def test_a_start_that_was_on_its_way_is_over_before_it_began() -> None:
    world = World().commanded(1)
    world.happen(events.Termed())
    world.start(1, generation=1, ranks=[order(0)])
    assert world.spawned == []
    assert [m for m in world.answers(1) if m["type"] == wire.REFUSED] == []
    types = [event["type"] for event in world.journal if event.get("generation") == 1]
    assert types == [records.HOST_GOING, records.GENERATION_ENDED]


def test_an_idle_agent_that_nobody_commands_leaves_at_once() -> None:
    world = World()
    world.happen(events.Termed())
    world.wait(ALONE_S + 0.5)
    assert world.left
