"""A failed generation is answered with another one."""

from __future__ import annotations

import pytest

from launcher.spec.model import RestartSpec
from launcher.supervise.core.events import (
    AgentSaid,
    End,
    HostGone,
    HostReached,
    MakePlan,
    Note,
    PlanFailed,
    Reach,
    Send,
    StartRanks,
    StopAsked,
    StopHow,
    Tick,
    Yield,
)
from tests.unit.machine_driver import Driver
from worker.contract import records, wire
from worker.contract.states import RankState, RunState

RESTARTS = RestartSpec(max=3, per=3600.0, backoff=1.0)


def training(hosts: dict[str, int] | None = None, restart: RestartSpec = RESTARTS) -> Driver:
    driver = Driver(hosts or {"a": 1, "b": 1}, restart)
    driver.train()
    return driver


def started(driver: Driver) -> list[int]:
    return [
        note.fields["generation"]
        for note in driver.all
        if isinstance(note, Note) and note.type == records.GENERATION_STARTED
    ]


def test_after_a_killed_worker_the_next_generation_is_planned_at_once_from_the_newest_step() -> None:
    driver = training()
    (restart, state, make) = driver.breaks(1, step=40)
    assert isinstance(restart, Note)
    assert (restart.type, restart.fields["host"], restart.fields["rank"]) == (records.RESTART, "b", 1)
    assert state == Note(records.RUN_STATE, {"state": "restarting"})
    assert make == MakePlan(
        2, frozenset({20100, 20101}), "the last generation has ended", True, frozenset(), False, ("a", "b")
    )
    assert [i for i in driver.plans("g1-s40") if isinstance(i, StartRanks)] == [StartRanks("a"), StartRanks("b")]
    assert started(driver) == [1, 2]
    driver.begins_steps(41)
    assert driver.machine.state == RunState.TRAINING


def test_no_two_of_four_generations_in_a_row_share_a_port() -> None:
    driver = training(restart=RestartSpec(max=100))
    for generation in range(2, 8):
        driver.breaks()
        assert len(driver.wanted.avoid_ports) == 2 * min(generation - 1, 4)
        driver.plans()
        driver.begins_steps()


def test_a_generation_without_a_step_is_followed_after_a_pause() -> None:
    driver = Driver({"a": 1, "b": 1}, RESTARTS)
    driver.start()
    driver.now = 10.0
    assert not any(isinstance(i, MakePlan) for i in driver.breaks())
    driver.now = 10.9
    assert driver.tell(Tick()) == []
    driver.now = 11.0
    (make,) = driver.tell(Tick())
    assert isinstance(make, MakePlan)
    assert make.afresh, "what made it fail at once may be a fact that has changed"


def test_too_many_failures_end_the_run_with_the_last_cause_and_the_budget() -> None:
    driver = training()
    for _ in range(3):
        driver.breaks(1)
        driver.plans()
        driver.begins_steps()
    driver.breaks(1)
    assert driver.end.state == RunState.FAILED
    assert "rank 1 on b was killed by SIGKILL" in driver.end.message
    assert "restart.max is 3" in driver.end.message
    assert driver.end.cause is not None
    assert driver.end.cause["rank"] == 1


def test_the_same_error_at_the_same_step_ends_the_run_as_faulty() -> None:
    driver = training()
    driver.breaks(0, told="ValueError: row 17", step=40, exit_code=1)
    driver.plans("g1-s40")
    assert not driver.ended
    driver.breaks(0, told="ValueError: row 17", step=40, exit_code=1)
    assert driver.end.state == RunState.FAULTY
    assert "the same error came twice at step 40" in driver.end.message


def test_a_loss_that_is_not_finite_is_not_tried_again() -> None:
    driver = training()
    driver.say("a", records.RANK_FAILURE, rank=0, reason="diverged", message="the loss is not finite", step=40)
    driver.rank_ends(0, RankState.FAILED, exit_code=83)
    driver.rank_ends(1, RankState.ENDED, exit_code=83)
    for host in "ab":
        driver.say(host, records.GENERATION_ENDED)
    assert driver.end.state == RunState.FAILED


def test_a_host_that_was_never_fit_is_not_tried_again() -> None:
    driver = Driver({"a": 1}, RESTARTS)
    driver.start()
    driver.say("a", records.RANK_FAILURE, rank=0, reason="data", message="no such file")
    driver.rank_ends(0, RankState.FAILED, exit_code=84)
    driver.say("a", records.GENERATION_ENDED)
    assert driver.end.state == RunState.NOT_FIT


def test_a_lost_agent_is_started_again_before_the_next_plan() -> None:
    driver = training()
    driver.tell(HostGone("b", "no agent of this run is alive there"))
    driver.rank_ends(0, RankState.RESCUED, exit_code=81)
    instructions = driver.say("a", records.GENERATION_ENDED)
    assert Reach("b") in instructions
    assert not any(isinstance(i, MakePlan) for i in instructions)
    driver.seq["b"] += 3  # the new agent has written down the end of the old one
    (make,) = driver.reconnect("b", generation=1)
    assert isinstance(make, MakePlan)
    assert make.fresh == frozenset({"b"})


def test_a_host_that_does_not_come_back_is_looked_for_again_and_again_and_then_the_run_ends() -> None:
    driver = training()
    driver.tell(HostGone("b", "no route to host"))
    driver.rank_ends(0, RankState.RESCUED, exit_code=81)
    driver.say("a", records.GENERATION_ENDED)
    tries = 0
    while not driver.ended and driver.now < 2 * RESTARTS.per:
        assert driver.tell(HostGone("b", "no route to host")) == [], "not tried again in the same moment"
        driver.now += 1.0
        tries += Reach("b") in driver.tell(Tick())
    assert 50 <= tries <= 250
    assert RESTARTS.per <= driver.now <= RESTARTS.per + 120
    assert driver.end.state == RunState.FAILED
    assert "b has been gone for" in driver.end.message


def test_a_host_that_comes_back_after_minutes_takes_part_again() -> None:
    driver = training()
    driver.tell(HostGone("b", "no route to host"))
    driver.rank_ends(0, RankState.RESCUED, exit_code=81)
    driver.say("a", records.GENERATION_ENDED)
    for _ in range(300):
        driver.now += 1.0
        driver.tell(Tick())
    driver.reconnect("b", generation=1)
    assert [i for i in driver.plans("g1-s1") if isinstance(i, StartRanks)] == [StartRanks("a"), StartRanks("b")]


def test_ranks_that_are_still_alive_on_a_host_that_comes_back_end_before_others_begin() -> None:
    driver = training()
    driver.tell(HostGone("b", "no route to host"))
    driver.rank_ends(0, RankState.RESCUED, exit_code=81)
    driver.say("a", records.GENERATION_ENDED)
    hello = {"major": wire.MAJOR, "seq": driver.seq["b"], "generation": 1, "alive": [1]}
    driver.tell(HostReached("b", hello))
    (stop,) = driver.tell(AgentSaid("b", {"type": wire.COMMANDED}))
    assert isinstance(stop, Send)
    assert (stop.message["type"], stop.message["how"]) == (wire.STOP, "failed")  # a rescue may be under way
    (make,) = driver.say("b", records.GENERATION_ENDED)
    assert isinstance(make, MakePlan)


def test_a_host_with_another_journal_is_heard_from_its_beginning() -> None:
    driver = training()
    driver.seq["b"] = 90
    driver.say("b", records.RANK_EPOCH, rank=1)
    driver.tell(HostGone("b", "it went down"))
    driver.rank_ends(0, RankState.RESCUED, exit_code=81)
    driver.say("a", records.GENERATION_ENDED)
    (command,) = driver.tell(HostReached("b", {"major": wire.MAJOR, "seq": 4, "generation": 0}))
    assert isinstance(command, Send)
    assert command.message["since"] == 0


@pytest.mark.parametrize("when", ["pausing", "recovering", "planning"])
def test_a_stop_between_two_generations_ends_the_run_at_once(when: str) -> None:
    driver = Driver({"a": 1, "b": 1}, RESTARTS)
    driver.start()
    if when != "pausing":
        driver.begins_steps()
    if when == "recovering":
        driver.tell(HostGone("b", "gone"))
        driver.rank_ends(0, RankState.RESCUED, exit_code=81)
        driver.say("a", records.GENERATION_ENDED)
    else:
        driver.breaks()
    end = driver.tell(StopAsked("graceful", "Ctrl-C"))[-1]
    assert isinstance(end, End)
    assert end.state == RunState.STOPPED
    assert "between two generations" in end.message


def test_a_failure_while_the_run_is_being_stopped_is_not_answered() -> None:
    driver = training()
    driver.tell(StopAsked("graceful", "down"))
    driver.breaks()
    assert driver.ended
    assert driver.end.state == RunState.FAILED


def test_a_plan_that_fails_is_tried_again_after_a_pause_and_counts() -> None:
    driver = training()
    driver.breaks()
    driver.tell(PlanFailed("b: no room for the checkpoint", "make room", fatal=False))
    assert not driver.ended
    driver.now += 1.5
    assert any(isinstance(i, MakePlan) for i in driver.tell(Tick()))
    driver.tell(PlanFailed("b: no room for the checkpoint", "make room", fatal=False))
    assert driver.end.state == RunState.FAILED
    assert "no room for the checkpoint" in driver.end.message


def test_a_host_lost_while_the_next_generation_is_about_to_start_is_found_first() -> None:
    driver = training()
    driver.breaks()
    driver.tell(HostGone("b", "the link broke"))
    assert Reach("b") in driver.plans("g1-s1")
    assert started(driver) == [1]
    driver.reconnect("b", generation=1)
    assert started(driver) == [1, 2]


def test_a_plan_that_comes_too_late_is_not_used() -> None:
    driver = training()
    driver.breaks()
    driver.tell(StopAsked("now", "Ctrl-C"))
    assert driver.plans() == []


# A coordinator that comes later.


def taken_over(hosts: dict[str, int], stop: StopHow | None = None) -> Driver:
    driver = Driver(hosts, RESTARTS)
    driver.all = driver.machine.take_over(stop)
    return driver


def test_who_takes_over_starts_nothing_and_hears_every_host_from_the_beginning() -> None:
    driver = taken_over({"a": 1, "b": 1})
    assert [i for i in driver.all if isinstance(i, Reach)] == [Reach("a", start=False), Reach("b", start=False)]
    (command,) = driver.tell(HostReached("a", {"major": wire.MAJOR, "seq": 40, "generation": 1, "alive": [0]}))
    assert isinstance(command, Send)
    assert command.message["since"] == 0
    assert driver.tell(AgentSaid("a", {"type": wire.COMMANDED})) == []
    driver.begins_steps()
    assert driver.machine.state == RunState.TRAINING
    assert started(driver) == []


def test_a_start_that_the_dead_coordinator_had_not_given_is_given() -> None:
    driver = taken_over({"a": 1})
    assert driver.reconnect("a", generation=0) == [StartRanks("a")]


def test_what_failed_while_nobody_was_there_is_answered_with_another_generation() -> None:
    driver = taken_over({"a": 1, "b": 1})
    for host in "ab":
        driver.reconnect(host, generation=1)
    driver.begins_steps()
    assert isinstance(driver.breaks(1, step=40)[-1], MakePlan)


def test_a_stop_that_the_dead_coordinator_had_been_asked_for_stays_asked() -> None:
    driver = taken_over({"a": 1}, stop="graceful")
    (again,) = driver.reconnect("a", generation=1)
    assert isinstance(again, Send)
    assert (again.message["type"], again.message["how"]) == (wire.STOP, "graceful")
    driver.rank_ends(0, RankState.STOPPED, exit_code=82)
    driver.say("a", records.GENERATION_ENDED)
    assert driver.end.state == RunState.STOPPED


def test_a_coordinator_whose_place_was_taken_goes_without_a_word() -> None:
    driver = training()
    (only,) = driver.tell(AgentSaid("a", {"type": wire.REFUSED, "what": "renew", "why": "taken over", "term": 4}))
    assert isinstance(only, Yield)
    assert driver.machine.ended
    assert driver.breaks() == []


def test_a_host_is_busy_until_the_generation_that_is_alive_there_has_ended() -> None:
    driver = training()
    driver.tell(HostGone("b", "it is gone"))
    driver.rank_ends(0, RankState.RESCUED, exit_code=81)
    driver.say("a", records.GENERATION_ENDED)
    hello = {"type": wire.HELLO, "major": wire.MAJOR, "seq": 99, "generation": 3, "alive": [], "busy": True}
    driver.tell(HostReached("b", hello))
    (stop,) = driver.tell(AgentSaid("b", {"type": wire.COMMANDED, "term": 3, "generation": 3, "busy": True}))
    assert isinstance(stop, Send)
    assert stop.message["how"] == "failed"  # what its ranks hold may be the newest step
    assert driver.say("b", records.GENERATION_ENDED, generation=1) == []  # told again from the journal
    (make,) = driver.say("b", records.GENERATION_ENDED, generation=3)
    assert isinstance(make, MakePlan)
    assert make.generation == 4  # 3 has been there, whoever began it


def test_over_a_fresh_stream_a_host_obeys_only_once_it_has_said_so() -> None:
    driver = training()
    driver.breaks(1, step=40)
    driver.tell(HostReached("b", {"type": wire.HELLO, "major": wire.MAJOR, "seq": driver.seq["b"], "generation": 1}))
    assert not [i for i in driver.plans("g1-s40") if isinstance(i, StartRanks)]
    told = driver.tell(AgentSaid("b", {"type": wire.COMMANDED, "term": 3, "generation": 1}))
    assert [i for i in told if isinstance(i, StartRanks)] == [StartRanks("a"), StartRanks("b")]


def test_a_lease_that_ended_is_no_refused_order() -> None:
    driver = training()
    for what in (wire.RENEW, wire.COMMAND):
        assert driver.tell(AgentSaid("a", {"type": wire.REFUSED, "what": what, "why": "over", "term": 3})) == []
    assert not driver.ended


def test_an_agent_that_left_before_the_generation_says_nothing_about_it() -> None:
    driver = Driver({"a": 1, "b": 1}, RESTARTS)
    driver.machine.take_over(None)
    driver.tell(AgentSaid("a", {"type": wire.EVENT, "event": {"type": records.AGENT_LEFT, "seq": 1}}))
    driver.tell(AgentSaid("a", {"type": wire.EVENT, "event": {"type": records.LEASE_ENDED, "seq": 2}}))
    assert not driver.machine.breaking
    assert driver.stops() == []


def test_a_host_that_is_lost_again_while_its_ranks_are_being_ended_is_looked_for() -> None:
    driver = training()
    driver.tell(HostGone("b", "no route to host"))
    driver.rank_ends(0, RankState.RESCUED, exit_code=81)
    driver.say("a", records.GENERATION_ENDED)
    hello = {"major": wire.MAJOR, "seq": driver.seq["b"], "generation": 1, "alive": [1]}
    driver.tell(HostReached("b", hello))
    driver.tell(AgentSaid("b", {"type": wire.COMMANDED}))
    driver.now += 60
    driver.tell(Tick())  # nobody is missing: it is only waited for the end of its ranks
    driver.tell(HostGone("b", "no agent of this run is alive here"))
    assert driver.tell(Tick()) == [Reach("b")]
