"""The supervisor's machine, driven with the histories that hosts can tell."""

from __future__ import annotations

import random

import pytest

from launcher.spec.model import RestartSpec
from launcher.supervise.core.events import (
    AgentSaid,
    End,
    HostGone,
    HostReached,
    Instruction,
    MakePlan,
    Note,
    PlanFailed,
    PlanMade,
    Reach,
    Send,
    StartRanks,
    StopAsked,
    Tick,
)
from tests.unit.machine_driver import NO_RESTART, Driver, make_plan
from worker.contract import records, wire
from worker.contract.states import RankState, RunState


def test_every_host_is_reached_before_any_rank_starts() -> None:
    driver = Driver({"a": 1, "b": 1})
    assert driver.all == [Reach("a"), Reach("b")]
    driver.tell(HostReached("a", {"major": wire.MAJOR}))
    driver.tell(AgentSaid("a", {"type": wire.COMMANDED, "term": 3}))
    assert not any(isinstance(i, StartRanks) for i in driver.all)
    driver.tell(HostReached("b", {"major": wire.MAJOR}))
    started = driver.tell(AgentSaid("b", {"type": wire.COMMANDED, "term": 3}))
    assert [i for i in started if isinstance(i, StartRanks)] == [StartRanks("a"), StartRanks("b")]


def test_a_run_is_training_when_every_rank_has_finished_a_step() -> None:
    driver = Driver({"a": 2})
    driver.start()
    driver.say("a", records.RANK_FIRST_STEP, rank=0, step=1)
    states = [driver.machine.state]
    driver.say("a", records.RANK_FIRST_STEP, rank=1, step=1)
    states.append(driver.machine.state)
    assert states == [RunState.STARTING, RunState.TRAINING]


def test_a_program_is_training_as_soon_as_its_ranks_run() -> None:
    driver = Driver({"a": 2})
    driver.start()
    for rank in range(2):
        driver.say("a", records.RANK_STARTED, rank=rank, pid=1, state=RankState.TRAINING.value)
    assert driver.machine.state == RunState.TRAINING


def test_a_run_whose_ranks_all_finish_is_trained() -> None:
    driver = Driver({"a": 1, "b": 1})
    driver.train()
    for rank, host in enumerate("ab"):
        driver.rank_ends(rank, RankState.FINISHED, exit_code=0)
        driver.say(host, records.GENERATION_ENDED)
    assert driver.end.state == RunState.TRAINED


def test_a_dead_rank_ends_the_other_hosts_and_is_named_as_the_cause() -> None:
    driver = Driver({"a": 1, "b": 2})
    driver.train()
    driver.now = 5.0
    driver.rank_ends(1, RankState.FAILED, signal="SIGKILL")
    assert driver.stops() == [("a", "failed")]
    driver.rank_ends(2, RankState.RESCUED, exit_code=81)
    driver.say("b", records.GENERATION_ENDED)
    driver.rank_ends(0, RankState.RESCUED, exit_code=81)
    driver.say("a", records.GENERATION_ENDED)
    assert driver.end.state == RunState.FAILED
    assert driver.end.cause is not None
    assert (driver.end.cause["rank"], driver.end.cause["host"]) == (1, "b")
    assert "SIGKILL" in driver.end.message


def test_a_victim_that_reports_first_is_not_named_as_the_cause() -> None:
    driver = Driver({"a": 1, "b": 1})
    driver.train()
    driver.say("a", records.RANK_FAILURE, rank=0, reason="peer", message="collective broke")
    driver.rank_ends(0, RankState.FAILED, exit_code=1)
    driver.now = 0.3
    driver.rank_ends(1, RankState.FAILED, signal="SIGSEGV")
    for host in "ab":
        driver.say(host, records.GENERATION_ENDED)
    assert driver.end.cause is not None
    assert driver.end.cause["rank"] == 1


def test_rescued_ranks_without_a_dead_one_are_a_failure_of_undetermined_cause() -> None:
    driver = Driver({"a": 1, "b": 1})
    driver.train()
    for rank, host in enumerate("ab"):
        driver.rank_ends(rank, RankState.RESCUED, exit_code=81)
        driver.say(host, records.GENERATION_ENDED)
    assert driver.end.state == RunState.FAILED
    assert "no worker is known to have died" in driver.end.message


def test_stop_once_is_graceful_and_twice_is_now() -> None:
    driver = Driver({"a": 2})
    driver.train()
    driver.tell(StopAsked("graceful", "Ctrl-C"))
    driver.tell(StopAsked("graceful", "Ctrl-C"))
    driver.tell(StopAsked("now", "Ctrl-C"))
    assert driver.stops() == [("a", "graceful"), ("a", "now")]
    assert driver.machine.state == RunState.STOPPING
    for rank in range(2):
        driver.rank_ends(rank, RankState.STOPPED, exit_code=82)
    driver.say("a", records.GENERATION_ENDED)
    assert driver.end.state == RunState.STOPPED


def test_a_stop_before_the_start_starts_nothing() -> None:
    driver = Driver({"a": 1})
    driver.tell(StopAsked("graceful", "down"))
    assert driver.end.state == RunState.STOPPED
    assert driver.start() == []


def test_a_rank_that_fails_while_it_stops_makes_the_run_failed() -> None:
    driver = Driver({"a": 1})
    driver.train()
    driver.tell(StopAsked("graceful", "down"))
    driver.say("a", records.RANK_FAILURE, rank=0, reason="error", message="disk full")
    driver.rank_ends(0, RankState.FAILED, exit_code=1)
    driver.say("a", records.GENERATION_ENDED)
    assert driver.end.state == RunState.FAILED
    assert "disk full" in driver.end.message


def fail_with_port(driver: Driver) -> list[Instruction]:
    driver.say("a", records.RANK_FAILURE, rank=0, reason="port", message="port taken")
    driver.rank_ends(0, RankState.FAILED, exit_code=85)
    driver.rank_ends(1, RankState.ENDED, signal="SIGKILL")
    return driver.say("a", records.GENERATION_ENDED)


def test_a_taken_port_is_planned_again_with_others_up_to_three_times() -> None:
    driver = Driver({"a": 2})
    driver.start()
    avoided: frozenset[int] = frozenset()
    for generation in (2, 3, 4):
        (make,) = fail_with_port(driver)
        assert isinstance(make, MakePlan)
        assert make.generation == generation
        assert avoided < make.avoid_ports
        avoided = make.avoid_ports
        instructions = driver.tell(PlanMade(make_plan({"a": 2}, generation)))
        assert StartRanks("a") in instructions
    fail_with_port(driver)
    assert driver.end.state == RunState.FAILED


def test_a_plan_that_cannot_be_made_again_ends_the_run_with_its_reason() -> None:
    driver = Driver({"a": 2})
    driver.start()
    fail_with_port(driver)
    driver.tell(PlanFailed("no free port on a", "widen ports:"))
    assert driver.end.state == RunState.NOT_FIT
    assert driver.end.message == "no free port on a"


@pytest.mark.parametrize("reason", ["data", "environment", "cluster"])
def test_a_rank_that_could_not_begin_makes_the_run_not_fit(reason: str) -> None:
    driver = Driver({"a": 1})
    driver.start()
    driver.say("a", records.RANK_FAILURE, rank=0, reason=reason, message="no such file", hint="bring it")
    driver.rank_ends(0, RankState.FAILED, exit_code=84)
    driver.say("a", records.GENERATION_ENDED)
    assert driver.end.state == RunState.NOT_FIT
    assert driver.end.cause is not None
    assert driver.end.cause["hint"] == "bring it"


def test_an_agent_that_is_gone_fails_the_run_and_ends_the_other_hosts() -> None:
    driver = Driver({"a": 1, "b": 1})
    driver.train()
    driver.tell(HostGone("a", "no agent of this run is alive there"))
    assert driver.stops() == [("b", "failed")]
    driver.rank_ends(1, RankState.RESCUED, exit_code=81)
    driver.say("b", records.GENERATION_ENDED)
    assert driver.end.state == RunState.FAILED
    assert "agent on a is gone" in driver.end.message


def test_a_host_that_cannot_be_reached_is_not_fit() -> None:
    driver = Driver({"a": 1, "b": 1})
    driver.tell(HostGone("b", "no python3"))
    assert driver.end.state == RunState.NOT_FIT


def test_a_host_that_never_answers_is_not_fit_after_the_deadline() -> None:
    driver = Driver({"a": 1, "b": 1})
    driver.tell(HostReached("a", {"major": wire.MAJOR}))
    driver.tell(AgentSaid("a", {"type": wire.COMMANDED}))
    driver.now = 14.9
    assert driver.tell(Tick()) == []
    driver.now = 15.1
    driver.tell(Tick())
    assert driver.end.state == RunState.NOT_FIT
    assert driver.end.message.endswith("on b")


def test_an_agent_of_another_major_version_is_refused() -> None:
    driver = Driver({"a": 1})
    driver.tell(HostReached("a", {"major": 99}))
    assert driver.end.state == RunState.NOT_FIT


def test_records_replayed_on_a_new_stream_count_once() -> None:
    driver = Driver({"a": 1, "b": 1})
    driver.train()
    event = {"type": records.RANK_ENDED, "seq": 99, "t": 0, "generation": 1, "rank": 0, "state": "failed"}
    event["exit_code"] = 1
    for _ in range(3):
        driver.tell(AgentSaid("a", {"type": wire.EVENT, "event": event}))
    assert driver.stops() == [("b", "failed")]


def test_a_start_that_a_lost_link_swallowed_is_given_again() -> None:
    driver = Driver({"a": 1, "b": 1})
    driver.start()
    assert driver.reconnect("b", generation=0) == [StartRanks("b")]
    assert driver.reconnect("b", generation=1) == [], "it has begun: nothing is started twice"


def test_a_host_that_never_began_does_not_hold_up_a_stop() -> None:
    driver = Driver({"a": 1, "b": 1})
    driver.start()
    driver.tell(StopAsked("graceful", "down"))
    driver.say("a", records.RANK_ENDED, rank=0, state=RankState.STOPPED, exit_code=71)
    driver.say("a", records.GENERATION_ENDED)
    end = driver.reconnect("b", generation=0)[-1]
    assert isinstance(end, End)
    assert end.state == RunState.STOPPED


def test_a_stop_that_a_lost_link_swallowed_is_given_again() -> None:
    driver = Driver({"a": 1, "b": 1})
    driver.start()
    driver.tell(StopAsked("graceful", "down"))
    (again,) = driver.reconnect("b", generation=1)
    assert isinstance(again, Send)
    assert (again.message["type"], again.message["how"]) == (wire.STOP, "graceful")


def test_a_new_stream_asks_for_what_the_old_one_did_not_bring() -> None:
    driver = Driver({"a": 1})
    driver.train()
    (command,) = driver.tell(HostReached("a", {"major": wire.MAJOR, "seq": 7}))
    assert isinstance(command, Send)
    assert command.message["since"] == driver.seq["a"]


def test_a_beat_renews_the_lease_with_its_nonce() -> None:
    driver = Driver({"a": 1})
    driver.train()
    (renew,) = driver.tell(AgentSaid("a", {"type": wire.BEAT, "nonce": "n7", "ranks": {}}))
    assert renew == Send("a", {"type": wire.RENEW, "term": 3, "nonce": "n7"})


def test_a_lease_that_ran_out_parks_the_run() -> None:
    driver = Driver({"a": 1})
    driver.train()
    driver.say("a", records.LEASE_ENDED, term=3)
    driver.rank_ends(0, RankState.STOPPED, exit_code=82)
    driver.say("a", records.GENERATION_ENDED)
    assert driver.end.state == RunState.PARKED


def test_copies_of_a_checkpoint_that_differ_end_every_host_at_once_and_the_run_fails() -> None:
    driver = Driver({"a": 2, "b": 1})
    driver.train()
    for step, theirs in ((10, "aa"), (20, "bb"), (30, "bb")):
        driver.say("a", records.CHECKPOINT, rank=0, name=f"g1-s{step}", arrays="aa")
        driver.say("b", records.CHECKPOINT, rank=2, name=f"g1-s{step}", arrays=theirs)
    (note,) = [i for i in driver.all if isinstance(i, Note) and i.type == records.COPIES_DIFFER]
    assert note.fields == {
        "generation": 1, "step": 20, "name": "g1-s20",
        "copies": [{"rank": 0, "host": "a", "arrays": "aa"}, {"rank": 2, "host": "b", "arrays": "bb"}],
    }  # fmt: skip
    assert driver.stops() == [("a", "now"), ("b", "now")]
    for rank in (0, 1):
        driver.rank_ends(rank, RankState.STOPPED, signal="SIGTERM")
    driver.rank_ends(2, RankState.RESCUED, exit_code=81)
    for host in "ab":
        driver.say(host, records.GENERATION_ENDED)
    assert driver.end.state == RunState.FAILED
    assert driver.end.cause is not None
    assert driver.end.cause["host"] == "b"
    assert "rank 0 on a and rank 2 on b" in driver.end.cause["message"]
    assert "checkpoint before" in driver.end.cause["hint"]


def test_the_last_checkpoint_counts_too_although_every_rank_has_finished() -> None:
    driver = Driver({"a": 1, "b": 1})
    driver.train()
    for rank, host in enumerate("ab"):
        driver.say(host, records.CHECKPOINT, rank=rank, name="g1-s30", arrays=host)
        driver.rank_ends(rank, RankState.FINISHED, exit_code=0)
        driver.say(host, records.GENERATION_ENDED)
    assert driver.end.state == RunState.FAILED


def test_rescues_that_differ_are_noted_and_the_death_before_them_stays_the_cause() -> None:
    driver = Driver({"a": 2, "b": 1})
    driver.train()
    driver.rank_ends(0, RankState.FAILED, signal="SIGKILL")
    driver.say("a", records.CHECKPOINT, rank=1, name="g1-s7", arrays="aa")
    driver.say("b", records.CHECKPOINT, rank=2, name="g1-s7", arrays="bb")
    for rank, host in ((1, "a"), (2, "b")):
        driver.rank_ends(rank, RankState.RESCUED, exit_code=81)
        driver.say(host, records.GENERATION_ENDED)
    assert [i.type for i in driver.all if isinstance(i, Note)][-1] == records.COPIES_DIFFER
    assert driver.stops() == [("b", "failed")]
    assert driver.end.cause is not None
    assert driver.end.cause["rank"] == 0


def test_where_workers_disagree_the_rank_that_differs_is_the_cause_whoever_says_so_first() -> None:
    driver = Driver({"a": 2, "b": 1})
    driver.train()
    for rank, host in ((0, "a"), (1, "a"), (2, "b")):
        driver.now += 1
        driver.say(
            host, records.RANK_FAILURE, rank=rank, reason="cluster", differs=1, message="rank 1 differs", hint="resume"
        )
        driver.rank_ends(rank, RankState.FAILED, exit_code=84)
    for host in "ab":
        driver.say(host, records.GENERATION_ENDED)
    assert driver.end.state == RunState.FAILED
    assert driver.end.cause is not None
    assert (driver.end.cause["rank"], driver.end.cause["hint"]) == (1, "resume")


def random_event(driver: Driver, rng: random.Random) -> None:
    """One of the things that can happen next, sensible or not."""
    host = rng.choice(list(driver.hosts))
    rank = rng.randrange(len(driver.machine.plan.ranks))
    match rng.randrange(11):
        case 0:
            driver.tell(HostReached(host, {"major": wire.MAJOR, "seq": driver.seq[host]}))
        case 1 | 2:
            driver.tell(AgentSaid(host, {"type": wire.COMMANDED}))
        case 3:
            driver.say(host, records.RANK_FIRST_STEP, rank=rank, step=1)
        case 4:
            driver.rank_ends(rank, rng.choice(list(RankState)), exit_code=rng.choice([0, 1, 81]))
        case 5:
            driver.say(host, records.GENERATION_ENDED)
        case 6:
            driver.say(host, records.RANK_FAILURE, rank=rank, reason=rng.choice(["port", "peer", "data", "error"]))
        case 7:
            driver.tell(StopAsked(rng.choice(["graceful", "now"]), "somebody"))
        case 8:
            driver.tell(HostGone(host, "lost"))
        case 9:
            driver.now += rng.choice([0.1, 20.0])
            driver.tell(Tick())
        case 10:
            name = f"g{driver.machine.plan.generation}-s{rng.randrange(3)}"
            driver.say(host, records.CHECKPOINT, rank=rank, name=name, arrays=rng.choice(["same", "same", "other"]))


@pytest.mark.parametrize("restart", [NO_RESTART, RestartSpec(max=5)], ids=["no restart", "restarts"])
@pytest.mark.parametrize("seed", range(300))
def test_any_history_ends_once_and_starts_nothing_afterwards(seed: int, restart: RestartSpec) -> None:
    rng = random.Random(seed)
    driver = Driver({"a": rng.randint(1, 2), "b": 1}, restart)
    for _ in range(60):
        before = len(driver.all)
        random_event(driver, rng)
        for instruction in driver.all[before:]:
            if isinstance(instruction, MakePlan):
                driver.tell(PlanMade(make_plan(driver.hosts, instruction.generation)))
    for _ in range(500):
        for host in driver.hosts:
            driver.tell(HostGone(host, "the end of the world"))
        driver.now += 30.0
        driver.tell(Tick())
    ends = [index for index, i in enumerate(driver.all) if isinstance(i, End)]
    assert len(ends) == 1
    assert ends[0] == len(driver.all) - 1
    assert driver.machine.ended
    generations = [
        i.fields["generation"] for i in driver.all if isinstance(i, Note) and i.type == records.GENERATION_STARTED
    ]
    assert generations == sorted(set(generations))


def test_a_checkpoint_that_went_before_it_was_home_is_told_of() -> None:
    driver = Driver({"a": 1})
    assert driver.say("a", records.CHECKPOINT_PRUNED, name="g1-s1") == []
    told = driver.say("a", records.CHECKPOINT_PRUNED, name="g1-s2", why="there is no room")
    assert told == [Note(records.REMARK, {"text": "a removed g1-s2: there is no room"})]


def test_ranks_that_their_own_agent_stops_end_those_of_other_hosts_and_the_run_fails() -> None:
    driver = Driver({"a": 1, "b": 1})
    driver.train()
    driver.rank_ends(1, RankState.STOPPED, signal="SIGTERM", reason="the agent's warden died")
    assert driver.stops() == [("a", "failed")]
    driver.say("b", records.GENERATION_ENDED)
    driver.rank_ends(0, RankState.ENDED, signal="SIGTERM")
    driver.say("a", records.GENERATION_ENDED)
    assert driver.end.state == RunState.FAILED
    assert driver.end.message == "the agent on b stopped its workers: the agent's warden died"
