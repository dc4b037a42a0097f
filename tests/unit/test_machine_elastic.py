"""Generations with fewer hosts, with more again, and with one that was held in reserve."""

from __future__ import annotations

from typing import Any

from launcher.spec.model import RestartSpec
from launcher.supervise.core.events import HostGone, Instruction, MakePlan, Note, PlanFailed, Reach, Send, Tick
from launcher.supervise.takeover import under_way
from tests.unit.machine_driver import Driver
from worker.contract import records, wire
from worker.contract.states import RankState, RunState

THREE = {"a": 1, "b": 1, "c": 1}


def training(hosts: dict[str, int] | None = None, **rules: Any) -> Driver:
    driver = Driver(hosts or THREE, RestartSpec(**rules))
    driver.train()
    return driver


def loses(driver: Driver, host: str, *, unreachable: bool = True) -> list[Instruction]:
    """The host goes, the others rescue."""
    driver.tell(HostGone(host, "no route to host", unreachable=unreachable))
    instructions: list[Instruction] = []
    for rank in driver.machine.plan.ranks:
        if rank.host != host:
            driver.rank_ends(rank.rank, RankState.RESCUED, exit_code=81)
    for other in driver.machine.at_work:
        if other != host:
            instructions = driver.say(other, records.GENERATION_ENDED)
    return instructions


def planned(instructions: list[Instruction]) -> list[tuple[str, ...]]:
    return [one.at_work for one in instructions if isinstance(one, MakePlan)]


def notes(driver: Driver, type_: str) -> list[Any]:
    return [one.fields for one in driver.all if isinstance(one, Note) and one.type == type_]


def test_a_host_that_cannot_be_reached_is_left_out_at_once() -> None:
    driver = training(min_workers=2)
    assert planned(loses(driver, "a")) == [("b", "c")]
    driver.plans("g1-s1")
    assert notes(driver, records.GENERATION_STARTED)[-1]["without"] == {"a": "no route to host"}


def test_an_agent_that_died_is_started_again_first_and_not_waited_for_long() -> None:
    driver = training(min_workers=2)
    instructions = loses(driver, "a", unreachable=False)
    assert Reach("a") in instructions
    assert planned(instructions) == []
    driver.now += 4.0
    assert planned(driver.reconnect("a", generation=1)) == [("a", "b", "c")]
    again = training(min_workers=2)
    loses(again, "a", unreachable=False)
    again.now += 5.5
    assert planned(again.tell(Tick())) == [("b", "c")]


def test_too_few_are_waited_for_and_not_longer_than_a_host_may_be_gone() -> None:
    driver = training({"a": 1, "b": 1}, min_workers=2, per=100.0)
    assert planned(loses(driver, "a")) == []
    while not driver.ended and driver.now < 1000:
        driver.now += 1.0
        driver.tell(Tick())
    assert driver.end.state == RunState.FAILED
    assert 100 <= driver.now <= 200


def test_a_spare_takes_the_place_and_its_own_loss_ends_nothing() -> None:
    driver = training(spares=1)
    assert driver.machine.at_work == ("a", "b")
    driver.tell(HostGone("c", "its agent left"))
    assert not driver.machine.breaking
    driver.now += 2.0
    assert driver.tell(Tick()) == [Reach("c")], "it is looked for, so that it is there when it is needed"
    driver.reconnect("c", generation=0)
    assert planned(loses(driver, "a")) == [("b", "c")]


def test_a_host_that_is_back_is_taken_in_after_a_checkpoint_without_loss_and_without_budget() -> None:
    driver = training(min_workers=2, grow="at_checkpoint", max=1)
    loses(driver, "a")
    driver.plans("g1-s1")
    driver.begins_steps()
    driver.reconnect("a", generation=1)
    checkpoint = {"rank": 0, "name": "g2-s8", "step": 8, "why": "every"}
    (note, *stops) = driver.say("b", records.CHECKPOINT, **checkpoint)
    assert isinstance(note, Note)
    assert note == Note(records.GENERATION_ENDING, {"generation": 2, "reason": "a can take part"})
    assert [(one.host, one.message["how"]) for one in stops if isinstance(one, Send)] == [
        ("b", "graceful"),
        ("c", "graceful"),
    ]
    for rank in (0, 1):
        driver.rank_ends(rank, RankState.STOPPED, exit_code=82)
    driver.say("b", records.GENERATION_ENDED)
    assert planned(driver.say("c", records.GENERATION_ENDED)) == [("a", "b", "c")]
    assert notes(driver, records.RESTART)[-1]["planned"]
    driver.plans("g2-s9")
    assert driver.machine.at_work == ("a", "b", "c")


def test_with_at_restart_a_checkpoint_ends_nothing_and_the_next_failure_takes_it_in() -> None:
    driver = training(min_workers=2)
    loses(driver, "a")
    driver.plans("g1-s1")
    driver.begins_steps()
    driver.reconnect("a", generation=1)
    assert driver.say("b", records.CHECKPOINT, rank=0, name="g2-s8", step=8, why="every") == []
    assert planned(driver.breaks(1)) == [("a", "b", "c")]


def test_a_failure_while_a_generation_is_being_ended_is_a_failure() -> None:
    driver = training(min_workers=2)
    driver.all += driver.machine.end_generation("a drill")
    driver.breaks(1)
    assert "planned" not in notes(driver, records.RESTART)[-1]


def test_a_host_that_comes_back_with_old_ranks_is_told_to_end_them_and_disturbs_nobody() -> None:
    driver = training(min_workers=2)
    loses(driver, "a")
    driver.plans("g1-s1")
    driver.begins_steps()
    hello = {"type": wire.HELLO, "major": wire.MAJOR, "seq": driver.seq["a"], "generation": 1, "busy": True}
    driver.reconnect("a", generation=1)
    driver.machine._muster.found("a", hello, 2)
    assert [one.message["how"] for one in driver.machine._said_meanwhile("a") if isinstance(one, Send)] == ["failed"]
    driver.say("a", records.RANK_ENDED, rank=0, state="rescued", generation=1)
    driver.say("a", records.GENERATION_ENDED, generation=1)
    assert not driver.machine.breaking


def test_a_host_that_failed_twice_is_left_out_though_it_is_there() -> None:
    driver = training(min_workers=2)
    driver.breaks(1)
    driver.plans("g1-s1")
    driver.begins_steps()
    assert planned(driver.breaks(1)) == [("a", "c")]
    assert any("b failed repeatedly" in remark["text"] for remark in notes(driver, records.REMARK))


def test_a_host_on_which_nothing_can_be_prepared_is_left_out_and_costs_no_budget() -> None:
    driver = training(min_workers=2, max=1)
    driver.breaks(1)
    answer = driver.tell(PlanFailed("c: no room", "make room", fatal=False, hosts=frozenset({"c"})))
    assert planned(answer) == [("a", "b")]
    assert len(notes(driver, records.RESTART)) == 1


def test_a_later_coordinator_knows_that_the_generation_was_to_end_and_that_it_was_no_failure() -> None:
    events: list[dict[str, Any]] = [
        {"t": 1.0, "type": records.GENERATION_STARTED, "generation": 1},
        {"t": 2.0, "type": records.RESTART, "generation": 1, "planned": True},
        {"t": 3.0, "type": records.GENERATION_STARTED, "generation": 2},
        {"t": 4.0, "type": records.GENERATION_ENDING, "generation": 2, "reason": "c can take part"},
    ]
    left = under_way(events, 5.0)
    assert (left.ending, left.failures) == ("c can take part", ())
    driver = Driver(THREE, RestartSpec(max=0))
    driver.machine.take_over(None, left.ending)
    for rank in range(3):
        driver.rank_ends(rank, RankState.STOPPED, exit_code=82)
    for host in THREE:
        driver.say(host, records.GENERATION_ENDED)
    assert notes(driver, records.RESTART)[-1]["message"] == "c can take part"
