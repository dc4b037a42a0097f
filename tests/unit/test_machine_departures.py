"""Hosts that have to go, as the supervisor's machine sees them: announced or drained, gone on without, or parked."""

from __future__ import annotations

import pytest

from launcher.spec.model import RestartSpec
from launcher.supervise.core.events import AgentSaid, HostGone, HostReached, Instruction, LetGo, MakePlan, Note, Tick
from tests.unit.machine_driver import Driver
from worker.contract import records, wire
from worker.contract.states import RankState, RunState

SMALLER = RestartSpec(max=3, min_workers=1)
FIXED = RestartSpec(max=3)


def trained(restart: RestartSpec = SMALLER, hosts: str = "abc") -> Driver:
    driver = Driver(dict.fromkeys(hosts, 1), restart)
    driver.train()
    return driver


def all_stop(driver: Driver) -> list[Instruction]:
    """Every rank saves and leaves, every host's part ends."""
    instructions: list[Instruction] = []
    for rank in range(len(driver.machine.at_work)):
        driver.rank_ends(rank, RankState.STOPPED, exit_code=82, step=9)
    for host in driver.machine.at_work:
        instructions = driver.say(host, records.GENERATION_ENDED)
    return instructions


def notes(driver: Driver, kind: str) -> list[Note]:
    return [i for i in driver.all if isinstance(i, Note) and i.type == kind]


def announce(driver: Driver, how: str, host: str = "b") -> list[Instruction]:
    if how == "drain":
        return [i for i in driver.machine.leaves(host, "launcher drain") if not driver.all.append(i)]  # type: ignore[func-returns-value]
    return driver.say(host, records.HOST_GOING, why="the agent was sent SIGTERM")


@pytest.mark.parametrize("how", ["SIGTERM", "drain"])
def test_all_save_and_the_run_goes_on_without_the_host_that_has_to_go(how: str) -> None:
    driver = trained()
    announce(driver, how)
    assert driver.stops() == [("a", "graceful"), ("b", "graceful"), ("c", "graceful")]
    all_stop(driver)
    assert driver.wanted.at_work == ("a", "c")
    assert driver.wanted.onward
    (restart,) = notes(driver, records.RESTART)
    assert (restart.fields["planned"], restart.fields["pause_s"]) == (True, 0.0)
    assert "b has to go" in restart.fields["message"]
    planned = driver.plans("g1-s9")
    assert LetGo("b") in planned
    assert driver.machine.at_work == ("a", "c")


def test_it_costs_no_budget_however_often() -> None:
    driver = trained(RestartSpec(max=0, min_workers=1))
    for host in "cb":
        driver.say(host, records.HOST_GOING, why="SIGTERM")
        all_stop(driver)
        driver.plans("g1-s9")
    assert not driver.ended
    assert driver.machine.at_work == ("a",)


@pytest.mark.parametrize("how", ["SIGTERM", "drain"])
def test_a_run_that_needs_all_of_its_hosts_is_parked(how: str) -> None:
    driver = trained(FIXED)
    announce(driver, how)
    all_stop(driver)
    assert driver.end.state is RunState.PARKED
    assert "b has to go" in driver.end.message
    assert "min_workers is not set" in driver.end.message
    assert notes(driver, records.RESTART) == []


def test_a_spare_takes_the_place_of_a_host_that_has_to_go() -> None:
    driver = trained(RestartSpec(max=3, spares=1))
    assert driver.machine.at_work == ("a", "b")
    announce(driver, "SIGTERM")
    all_stop(driver)
    assert driver.wanted.at_work == ("a", "c")


def test_its_peers_may_have_stopped_with_it_before_the_host_is_heard() -> None:
    driver = trained(hosts="ab")
    driver.rank_ends(0, RankState.STOPPED, exit_code=82)
    assert driver.stops() == [("b", "graceful")], "b's rank may be saving yet"
    assert not driver.machine.breaking
    driver.say("a", records.GENERATION_ENDED)
    driver.say("b", records.HOST_GOING, why="SIGTERM")
    driver.rank_ends(1, RankState.STOPPED, exit_code=82)
    driver.say("b", records.GENERATION_ENDED)
    assert driver.wanted.at_work == ("a",)


def test_a_host_that_is_gone_before_it_was_done_was_announced_all_the_same() -> None:
    driver = trained(RestartSpec(max=0, min_workers=1))
    announce(driver, "SIGTERM")
    driver.tell(HostGone("b", "its machine is gone", unreachable=True))
    assert ("a", "failed") not in driver.stops(), "they are saving, or learn of it from their collectives"
    for rank, host in ((0, "a"), (2, "c")):
        driver.rank_ends(rank, RankState.RESCUED, exit_code=81)
        driver.say(host, records.GENERATION_ENDED)
    assert driver.wanted.at_work == ("a", "c")


def test_a_rank_that_fails_meanwhile_is_a_failure_like_any_other() -> None:
    driver = trained(RestartSpec(max=0, min_workers=1))
    announce(driver, "SIGTERM")
    driver.breaks(0, signal="SIGSEGV")
    assert driver.end.state is RunState.FAILED
    assert "SIGSEGV" in driver.end.message


def test_a_host_that_has_to_go_while_the_next_generation_is_planned_is_not_in_it() -> None:
    driver = trained()
    driver.breaks(0)
    driver.tell(Tick())
    assert driver.wanted.at_work == ("a", "b", "c")
    announce(driver, "SIGTERM")
    planned = driver.plans("g1-s9")
    assert [i.at_work for i in planned if isinstance(i, MakePlan)] == [("a", "c")]
    assert LetGo("b") in driver.plans("g1-s9")


def test_a_host_that_has_to_go_before_the_ranks_are_started_is_done_without() -> None:
    driver = Driver({"a": 1, "b": 1}, SMALLER)
    driver.tell(HostReached("b", {"major": wire.MAJOR}))
    driver.tell(AgentSaid("b", {"type": wire.COMMANDED, "term": 3}))
    announce(driver, "drain")
    driver.tell(HostReached("a", {"major": wire.MAJOR}))
    driver.tell(AgentSaid("a", {"type": wire.COMMANDED, "term": 3}))
    assert driver.wanted.at_work == ("a",)
    driver.plans()
    assert driver.machine.plan.at_work[0].name == "a"


def test_between_two_generations_a_run_that_cannot_go_on_is_parked_at_once() -> None:
    driver = trained(RestartSpec(max=3))
    driver.breaks(0)
    announce(driver, "drain")
    assert driver.end.state is RunState.PARKED


def test_what_an_earlier_agent_of_the_host_had_announced_is_over() -> None:
    driver = trained()
    driver.breaks(0)
    driver.plans("g1-s9")
    driver.say("b", records.HOST_GOING, why="SIGTERM", generation=1)
    assert driver.machine.leaving == {}


def test_a_stop_stays_a_stop_and_a_finished_run_is_finished() -> None:
    driver = trained(FIXED)
    announce(driver, "SIGTERM")
    for rank in range(3):
        driver.rank_ends(rank, RankState.FINISHED, exit_code=0)
    for host in "abc":
        driver.say(host, records.GENERATION_ENDED)
    assert driver.end.state is RunState.TRAINED


def test_who_takes_over_goes_on_with_what_had_been_announced() -> None:
    driver = trained(SMALLER)
    driver.all = driver.machine.take_over(None, "b has to go (SIGTERM)", {"b": "SIGTERM"})
    driver.reconnect("a", 1)
    assert driver.stops() == [("a", "graceful")]
    all_stop(driver)
    for host in "abc":
        driver.reconnect(host, 1)
    driver.tell(Tick())
    assert driver.wanted.at_work == ("a", "c")


@pytest.mark.parametrize(
    ("hosts", "restart", "said"),
    [
        (["x"], SMALLER, "no host of this run"),
        (["b"], FIXED, "min_workers is not set"),
        (["a", "b", "c"], SMALLER, "no host is left"),
        (["a", "b"], RestartSpec(min_workers=2), "restart.min_workers is 2"),
        (["b"], SMALLER, ""),
    ],
)
def test_what_speaks_against_a_drain_is_said_before_anything_is_done(
    hosts: list[str], restart: RestartSpec, said: str
) -> None:
    driver = trained(restart)
    problem, hint = driver.machine.objection(hosts, park=False)
    assert said in problem
    assert bool(problem) == bool(said) == bool(hint)
    if said and hosts != ["x"]:
        assert "--park" in hint
        assert driver.machine.objection(hosts, park=True) == ("", "")
