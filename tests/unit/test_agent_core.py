"""The agent's core as a table of histories: who commands, what starts, what ends what, and when it leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.agent_world import TIMEOUTS, World, order
from worker.agent import events
from worker.contract import records, wire

PURE = ["core", "generation", "life", "origin", "orders", "events", "told"]


@pytest.mark.parametrize("module", PURE)
def test_the_pure_modules_have_no_clock_process_or_socket(module: str) -> None:
    text = (Path(__file__).parents[2] / "worker" / "agent" / f"{module}.py").read_text()
    impure = ("os", "time", "socket", "select", "selectors", "signal", "subprocess", "threading")
    assert [name for name in impure if f"\nimport {name}" in text or f"\nfrom {name} " in text] == []


# Who commands.


def test_a_connection_is_greeted_with_what_there_is() -> None:
    world = World(past_generation=3, past_term=2, past_seq=41)
    hello = world.connect(1)
    assert (hello["term"], hello["generation"], hello["alive"], hello["major"]) == (2, 3, [], wire.MAJOR)
    assert hello["seq"] == 42  # its own start is the newest record


@pytest.mark.parametrize(
    ("known", "asked", "answer"), [(0, 1, "commanded"), (4, 5, "commanded"), (4, 4, "commanded"), (4, 3, "refused")]
)
def test_only_a_term_at_least_as_high_as_the_highest_known_commands(known: int, asked: int, answer: str) -> None:
    world = World(past_term=known)
    world.connect(1)
    world.receive(1, type=wire.COMMAND, term=asked)
    assert world.answers(1)[-1]["type"] == answer


@pytest.mark.parametrize("term", [None, "1", 0, -1, 1.5, True, 1 << 70])
def test_a_term_that_is_no_number_is_refused(term: Any) -> None:
    world = World()
    world.connect(1)
    world.receive(1, type=wire.COMMAND, term=term)
    assert world.answers(1)[-1]["type"] == wire.REFUSED


def test_a_higher_term_takes_over_and_the_old_one_can_start_nothing_more() -> None:
    world = World().commanded(1, term=1)
    world.connect(2)
    world.receive(2, type=wire.COMMAND, term=2)
    assert world.answers(1)[-1]["type"] == wire.REFUSED
    world.start(1, term=1)
    assert world.answers(1)[-1] == {
        "type": wire.REFUSED, "what": wire.START, "why": "this connection does not command", "term": 2,
    }  # fmt: skip
    assert world.spawned == []


@pytest.mark.parametrize("type_", [wire.START, wire.RENEW, wire.LEAVE])
def test_what_needs_a_term_is_refused_under_another_one(type_: str) -> None:
    world = World().commanded(1, term=4)
    world.receive(1, type=type_, term=3, generation=1, ranks=[order(0)], timeouts={}, nonce=world.nonce(1))
    assert world.answers(1)[-1]["what"] == type_
    assert world.spawned == []


def test_stop_and_status_need_no_term() -> None:
    world = World().commanded(1).started(0, 1)
    world.connect(2)
    world.receive(2, type=wire.STATUS)
    assert world.answers(2)[-1]["alive"] == [0, 1]
    world.receive(2, type=wire.STOP, how="graceful", reason="down")
    assert world.asked == [0, 1]


GOOD: dict[str, Any] = {"type": wire.START, "term": 1, "generation": 1, "ranks": [order(0)], "timeouts": {}}
BAD_RANKS: list[Any] = [[], [{}], "x", [7], [order(0), order(0)]]
BAD_ORDERS: list[dict[str, Any]] = [
    {"argv": []}, {"argv": [""]}, {"argv": ["a", 5]}, {"cwd": "a\0b"}, {"cwd": None}, {"env": {"A=B": "c"}},
    {"env": {"A": 3}}, {"secrets": [1]}, {"rank": -1}, {"rank": True}, {"stop": "please"}, {"chief": 1},
]  # fmt: skip
BAD: list[dict[str, Any]] = [
    {"type": "nonsense"},
    {"type": wire.STOP},
    {"type": wire.STOP, "how": "maybe"},
    {"type": wire.START, "term": 1},
    {**GOOD, "timeouts": {"stop_s": float("nan")}},
    {**GOOD, "timeouts": {"stop_s": -1}},
    {**GOOD, "timeouts": None},
    {**GOOD, "generation": 0},
    {**GOOD, "keep": 0},
    *({**GOOD, "ranks": ranks} for ranks in BAD_RANKS),
    *({**GOOD, "ranks": [{**order(0), **wrong}]} for wrong in BAD_ORDERS),
]


@pytest.mark.parametrize("message", BAD, ids=str)
def test_a_malformed_message_is_refused_and_changes_nothing(message: dict[str, Any]) -> None:
    world = World().commanded(1)
    world.receive(1, **message)
    assert world.answers(1)[-1]["type"] == wire.REFUSED
    assert world.spawned == []


@pytest.mark.parametrize("generation", [1, 2])
def test_a_generation_that_has_been_here_is_not_started_again(generation: int) -> None:
    world = World(past_generation=2).commanded(1)
    world.start(1, generation=generation)
    assert world.answers(1)[-1]["what"] == wire.START
    assert world.spawned == []


def test_no_generation_starts_while_a_rank_of_the_last_is_alive() -> None:
    world = World().commanded(1).started(0)
    world.start(1, generation=2)
    assert world.answers(1)[-1]["why"] == "generation 1 has not ended"
    world.exit(0, code=0)
    world.start(1, generation=2)
    assert world.spawned == [(1, 0), (2, 0)]


def test_no_generation_starts_before_the_leftovers_of_the_last_are_gone() -> None:
    world = World(sweeps=False).commanded(1).started(0)
    world.exit(0, code=0)
    world.start(1, generation=2)
    assert world.spawned == [(1, 0)]
    world.happen(events.Swept())
    assert world.journal[-1]["type"] == records.GENERATION_ENDED
    world.start(1, generation=2)
    assert world.spawned[-1] == (2, 0)


def test_leftovers_that_do_not_die_are_told_and_hold_the_next_generation_back() -> None:
    world = World(sweeps=False).commanded(1).started(0)
    world.exit(0, code=0)
    world.happen(events.Stuck([77, 78]))
    assert world.journal[-1]["type"] == records.LEFTOVERS
    assert world.journal[-1]["pids"] == [77, 78]
    world.start(1, generation=2)
    assert world.spawned == [(1, 0)]


# The lease.


def test_the_lease_runs_from_the_moment_at_which_the_echoed_nonce_was_sent() -> None:
    world = World(lease_s=10).commanded(1).started(0)
    early = world.nonce(1)
    world.wait(8)
    world.receive(1, type=wire.RENEW, term=1, nonce=early)
    world.wait(3)
    assert world.wrote(records.LEASE_ENDED)


def test_a_renewed_lease_lets_training_go_on() -> None:
    world = World(lease_s=10).commanded(1).started(0)
    for _ in range(6):
        world.wait(5)
        world.receive(1, type=wire.RENEW, term=1, nonce=world.nonce(1))
    assert not world.wrote(records.LEASE_ENDED)


def test_a_renewal_that_waited_out_a_suspend_revives_nothing() -> None:
    world = World(lease_s=10).commanded(1).started(0)
    nonce = world.nonce(1)
    world.sleep(3600)
    world.receive(1, type=wire.RENEW, term=1, nonce=nonce)
    assert world.answers(1)[-1]["why"] == "the lease ended"
    assert world.asked == [0]


@pytest.mark.parametrize("nonce", ["", "x", "another@5.0", "token@", "token@nan", "token@1e9", None, 5])
def test_a_nonce_that_is_not_the_agents_own_renews_nothing(nonce: Any) -> None:
    world = World(lease_s=10).commanded(1).started(0)
    world.wait(9)
    world.receive(1, type=wire.RENEW, term=1, nonce=nonce)
    assert world.answers(1)[-1]["type"] == wire.REFUSED
    world.wait(2)
    assert world.wrote(records.LEASE_ENDED)


def test_at_the_end_of_the_lease_ranks_save_and_stop_and_the_agent_leaves() -> None:
    world = World(lease_s=10).commanded(1).started(0, 1)
    world.step(0, 1)
    world.step(1, 1)
    world.disconnect(1)
    world.wait(11)
    assert world.asked == [0, 1]
    assert world.signals == []
    world.exit(0, code=82)
    world.exit(1, code=82)
    world.wait(1)
    assert [e["type"] for e in world.journal[-3:]] == [
        records.RANK_ENDED, records.GENERATION_ENDED, records.AGENT_LEFT,
    ]  # fmt: skip
    assert world.journal[-1]["reason"] == "the lease ended"
    assert world.left


def test_a_suspended_machine_ends_the_lease_but_no_other_deadline() -> None:
    world = World(lease_s=86400).commanded(1).started(0, stall_s=60, start_s=60)
    world.step(0, 1)
    world.sleep(3600)
    assert world.signals == []
    assert not world.wrote(records.RANK_FAILURE)


# How ranks end.


@pytest.mark.parametrize(
    ("exit_", "state"),
    [
        ({"code": 0}, "finished"),
        ({"code": 81}, "rescued"),
        ({"code": 82}, "stopped"),
        ({"code": 1}, "failed"),
        ({"code": 83}, "failed"),
        ({"code": 84}, "failed"),
        ({"signal": "SIGKILL"}, "failed"),
        ({"signal": "SIGSEGV"}, "failed"),
    ],
)
def test_an_end_of_its_own(exit_: dict[str, Any], state: str) -> None:
    world = World().commanded(1).started(0)
    world.step(0, 7)
    world.exit(0, **exit_)
    ended = world.wrote(records.RANK_ENDED)[0]
    assert (ended["state"], ended["step"]) == (state, 7)
    assert ended.get("exit_code") == exit_.get("code")
    assert ended.get("signal") == exit_.get("signal")


@pytest.mark.parametrize("code", [81, 82])
def test_a_program_has_no_exit_codes_of_the_trainers(code: int) -> None:
    world = World().commanded(1).started(0, message=False)
    world.exit(0, code=code)
    assert world.states() == {0: "failed"}


def test_a_rank_that_told_that_its_peer_died_is_a_victim_and_no_cause() -> None:
    world = World().commanded(1).started(0)
    world.tell(0, type=records.FAILURE, reason="peer", message="a peer is gone")
    world.exit(0, code=1)
    assert world.states() == {0: "ended"}


def test_when_a_rank_fails_the_others_have_fifteen_seconds_for_their_rescue() -> None:
    world = World().commanded(1).started(0, 1, 2)
    for rank in (0, 1, 2):
        world.step(rank, 5)
    world.exit(1, signal="SIGKILL")
    assert (world.signals, world.told_of_loss) == ([], [0, 2])
    world.exit(0, code=81)
    world.wait(14.5)
    assert world.signals == []
    world.wait(1)
    assert world.signals == [(2, "SIGTERM")]
    world.wait(1)
    assert world.signals == [(2, "SIGTERM"), (2, "SIGKILL")]
    world.exit(2, signal="SIGKILL")
    assert world.states() == {0: "rescued", 1: "failed", 2: "ended"}
    assert world.journal[-1]["type"] == records.GENERATION_ENDED
    assert world.journal[-1]["reason"] == "rank 1 failed (SIGKILL)"


def test_when_a_rank_fails_those_without_a_step_and_programs_are_ended_at_once() -> None:
    world = World().commanded(1)
    world.start(1, ranks=[order(0), order(1, message=False), order(2)])
    world.exit(2, code=84)
    assert world.signals == [(0, "SIGTERM"), (1, "SIGTERM")]
    world.wait(1.1)
    assert world.signals[2:] == [(0, "SIGKILL"), (1, "SIGKILL")]
    world.exit(0, code=1)
    world.exit(1, code=0)  # it handled SIGTERM
    assert world.states() == {0: "ended", 1: "ended", 2: "failed"}


def test_a_failure_elsewhere_ends_the_ranks_here_in_the_same_way() -> None:
    world = World().commanded(1).started(0, 1)
    world.step(0, 1)
    world.receive(1, type=wire.STOP, how="failed", reason="rank 5 on far failed")
    assert world.signals == [(1, "SIGTERM")]
    assert world.asked == []


def test_a_rescue_without_a_failure_here_breaks_the_generation_up_too() -> None:
    world = World().commanded(1).started(0, 1)
    world.step(0, 1)
    world.exit(0, code=81)
    assert world.signals == [(1, "SIGTERM")]
    world.exit(1, signal="SIGTERM")
    assert world.states() == {0: "rescued", 1: "ended"}


def test_a_program_that_cannot_be_started_is_a_failure_of_the_environment() -> None:
    world = World(starts=False).commanded(1)
    world.start(1, ranks=[order(0), order(1)])
    world.happen(events.NotStarted(0, "no such program", "check the path"))
    failure = world.wrote(records.RANK_FAILURE)[0]
    assert (failure["rank"], failure["reason"], failure["message"]) == (0, "environment", "no such program")
    assert world.states() == {0: "failed"}
    assert world.signals == [(1, "SIGTERM")]


# How they are stopped.


def test_a_graceful_stop_asks_then_terms_then_kills() -> None:
    world = World().commanded(1).started(0)
    world.step(0, 1)
    world.receive(1, type=wire.STOP, how="graceful", reason="down")
    assert (world.asked, world.signals) == ([0], [])
    world.wait(TIMEOUTS["checkpoint_s"] - 1)
    assert world.signals == []
    world.wait(1.5)
    assert world.signals == [(0, "SIGTERM")]
    world.wait(TIMEOUTS["stop_s"])
    assert world.signals == [(0, "SIGTERM"), (0, "SIGKILL")]
    world.exit(0, signal="SIGKILL")
    assert world.states() == {0: "stopped"}
    assert [e["how"] for e in world.wrote(records.RANK_ASKED_TO_STOP)] == ["message", "SIGTERM", "SIGKILL"]


def test_a_trainer_without_a_step_has_nothing_to_save_and_is_given_less() -> None:
    world = World().commanded(1).started(0)
    world.receive(1, type=wire.STOP, how="graceful", reason="down")
    world.wait(TIMEOUTS["stop_s"] + 0.5)
    assert world.signals == [(0, "SIGTERM")]


def test_a_first_step_after_the_request_makes_room_for_a_checkpoint() -> None:
    world = World().commanded(1).started(0)
    world.receive(1, type=wire.STOP, how="graceful", reason="down")
    world.step(0, 1)
    world.wait(TIMEOUTS["checkpoint_s"] - 1)
    assert world.signals == []
    world.wait(1.5)
    assert world.signals == [(0, "SIGTERM")]


def test_programs_are_asked_with_sigterm() -> None:
    world = World().commanded(1).started(0, message=False)
    world.receive(1, type=wire.STOP, how="graceful", reason="down")
    assert (world.asked, world.signals) == ([], [(0, "SIGTERM")])
    world.exit(0, code=0)
    assert world.states() == {0: "stopped"}


def test_now_hastens_a_graceful_stop_that_is_under_way() -> None:
    world = World().commanded(1).started(0)
    world.step(0, 1)
    world.receive(1, type=wire.STOP, how="graceful", reason="down")
    world.wait(1)
    world.receive(1, type=wire.STOP, how="now", reason="down --now")
    assert world.signals == [(0, "SIGTERM")]
    world.wait(1.5)
    assert world.signals == [(0, "SIGTERM"), (0, "SIGKILL")]


def test_asking_twice_asks_once_and_lengthens_nothing() -> None:
    world = World().commanded(1).started(0)
    world.step(0, 1)
    for _ in range(3):
        world.receive(1, type=wire.STOP, how="graceful", reason="down")
        world.wait(TIMEOUTS["checkpoint_s"] / 2.5)
    assert world.asked == [0]
    assert world.signals == [(0, "SIGTERM"), (0, "SIGKILL")]


def test_a_stop_for_another_generation_stops_nothing() -> None:
    world = World().commanded(1).started(0)
    world.receive(1, type=wire.STOP, how="now", reason="late", generation=7)
    assert world.signals == []


def test_ten_seconds_after_sigkill_a_rank_is_unkillable_and_nothing_else_starts() -> None:
    world = World().commanded(1).started(0)
    world.receive(1, type=wire.STOP, how="now", reason="down")
    world.wait(12)
    assert len(world.wrote(records.RANK_UNKILLABLE)) == 1
    world.wait(30)
    assert len(world.wrote(records.RANK_UNKILLABLE)) == 1
    assert world.hello(1)["alive"] == [0]
    world.start(1, generation=2)
    assert world.spawned == [(1, 0)]
    world.exit(0, signal="SIGKILL")
    assert world.states() == {0: "stopped"}


def test_a_rank_that_finished_ends_nobody_and_laggards_are_asked_much_later() -> None:
    world = World().commanded(1).started(0, 1, message=False)
    world.exit(0, code=0)
    world.wait(TIMEOUTS["checkpoint_s"] - 1)
    assert world.signals == []
    world.wait(1.5)
    assert world.signals == [(1, "SIGTERM")]


# Who makes no progress.


def test_ranks_that_are_not_all_there_in_time_are_ended_and_the_one_behind_failed() -> None:
    world = World().commanded(1).started(0, 1, start_s=20)
    world.tell(0, type=records.PHASE, name="import", seconds=2)
    world.wait(21)
    failure = world.wrote(records.RANK_FAILURE)
    assert [f["rank"] for f in failure] == [1]
    assert failure[0]["message"].startswith("peers were not all there within 20 s: ")
    world.exit(0, signal="SIGTERM")
    world.exit(1, signal="SIGTERM")
    assert world.states() == {0: "ended", 1: "failed"}


@pytest.mark.parametrize(("steps", "culprit"), [((5, 5), 0), ((6, 5), 1), ((5, 6), 0)])
def test_a_stall_is_broken_by_ending_the_rank_that_is_behind(steps: tuple[int, int], culprit: int) -> None:
    world = World().commanded(1).started(0, 1, stall_s=20)
    begun = world.now
    while not world.signals:  # the trainers live and say so, but no step is done
        for rank, step in enumerate(steps):
            world.step(rank, step)
        world.wait(0.5)
    assert world.now >= begun + 20
    assert [f["rank"] for f in world.wrote(records.RANK_FAILURE)] == [culprit]
    assert world.signals == [(culprit, "SIGTERM")]
    world.exit(culprit, signal="SIGTERM")
    world.exit(1 - culprit, code=81)
    assert world.states() == {culprit: "failed", 1 - culprit: "rescued"}


def test_among_equals_the_rank_that_fell_silent_first_is_behind() -> None:
    world = World().commanded(1).started(0, 1, stall_s=20)
    world.step(1, 5)
    for _ in range(21):
        world.step(0, 5)
        world.wait(1)
    assert [f["rank"] for f in world.wrote(records.RANK_FAILURE)] == [1]


def test_programs_may_be_silent() -> None:
    world = World().commanded(1).started(0, message=False, stall_s=20, start_s=20)
    world.wait(200)
    assert world.signals == []


# What the files tell.


def test_what_the_chief_tells_is_journaled_and_the_others_epochs_are_not() -> None:
    world = World().commanded(1).started(0, 1)
    for rank in (0, 1):
        world.step(rank, 3)
        world.step(rank, 4)
        world.tell(rank, type=records.EPOCH, epoch=1, loss=0.5, seq=99, generation=7, odd={"a": 1})
        world.tell(rank, type=records.EPOCH, epoch=1, loss=0.5)
    assert [(e["rank"], e["step"]) for e in world.wrote(records.RANK_FIRST_STEP)] == [(0, 3), (1, 3)]
    (epoch,) = world.wrote(records.RANK_EPOCH)
    assert (epoch["rank"], epoch["generation"], epoch["epoch"], epoch["loss"]) == (0, 1, 1, 0.5)
    assert "odd" not in epoch


def test_the_result_is_told_once_the_output_is_in_its_place() -> None:
    world = World().commanded(1).started(0)
    world.tell(0, type=records.RESULT, test_loss=0.4, test_accuracy=0.9, model="model.keras")
    assert not world.wrote(records.RANK_RESULT)
    world.exit(0, code=0)
    types = [e["type"] for e in world.journal]
    assert world.wrote(records.RANK_RESULT)[0]["model"] == "output/model.keras"
    assert types.index(records.RANK_RESULT) < types.index(records.RANK_ENDED)


@pytest.mark.parametrize("model", ["../../etc/passwd", "", None, "..", "a/b", 5])
def test_a_model_outside_of_the_output_is_no_model(model: Any) -> None:
    world = World().commanded(1).started(0)
    world.tell(0, type=records.RESULT, test_loss=0.4, model=model)
    world.exit(0, code=0)
    assert world.wrote(records.RANK_RESULT)[0]["model"] == ""


@pytest.mark.parametrize("folder", ["g2-s5", "g1-s5x", "../g1-s5", "g1-s²", "g01-s5", "", None, 7, "x" * 5000])
def test_a_checkpoint_with_a_wrong_name_is_not_published(folder: Any) -> None:
    world = World().commanded(1).started(0)
    world.tell(0, type=records.SAVED, folder=folder, step=5)
    assert world.published == []


def test_the_end_waits_for_the_last_checkpoint() -> None:
    world = World(publishes=False).commanded(1).started(0)
    world.tell(0, type=records.SAVED, folder="g1-s5", step=5, epoch=1, why="rescue")
    world.exit(0, code=81)
    assert not world.wrote(records.GENERATION_ENDED)
    world.happen(events.Published(0, "g1-s5", 1, "rescue", ("g1-s1",)))
    assert [e["type"] for e in world.journal[-3:]] == [
        records.CHECKPOINT, records.CHECKPOINT_PRUNED, records.GENERATION_ENDED,
    ]  # fmt: skip


def test_of_a_models_metrics_the_numbers_are_taken_over_by_name() -> None:
    world = World().commanded(1).started(0)
    many = {f"m{number}": 0.5 for number in range(1000)}
    metrics = {
        "top2": 0.5,
        "none": None,
        "x" * 65: 1,
        "text": "a",
        "deep": {"a": 1},
        "long": 1 << 80,
        "yes": True,
        **many,
    }
    world.tell(0, type=records.EPOCH, epoch=1, loss=0.5, metrics=metrics, others={"a": 1})
    (told,) = world.wrote(records.RANK_EPOCH)
    assert len(told["metrics"]) == 128
    assert list(told["metrics"])[:3] == ["top2", "none", "m0"]
    assert "others" not in told


def test_a_trainers_checkpoints_are_told_with_the_hash_of_their_arrays_and_a_programs_without() -> None:
    for message in (True, False):
        world = World(publishes=False).commanded(1)
        world.start(1, ranks=[order(0, message)])
        world.tell(0, type=records.SAVED, folder="g1-s5", step=5, epoch=1, why="every")
        world.happen(events.Published(0, "g1-s5", 1, "every", (), "abc"))
        (told,) = world.wrote(records.CHECKPOINT)
        assert told.get("arrays") == ("abc" if message else None)


@pytest.mark.parametrize(
    ("how", "failure", "code", "state"),
    [
        ("graceful", "error", 1, "failed"),
        ("graceful", "cluster", 84, "failed"),
        ("graceful", "peer", 81, "rescued"),
        ("graceful", "", 82, "stopped"),
        ("failed", "cluster", 84, "failed"),
        ("failed", "error", 1, "ended"),
    ],
)
def test_a_rank_that_fails_by_itself_while_it_is_being_ended_has_failed(
    how: str, failure: str, code: int, state: str
) -> None:
    world = World().commanded(1).started(0)
    world.tell(0, type=records.STEP, step=1)
    world.receive(1, type=wire.STOP, how=how, reason="asked")
    if failure:
        world.tell(0, type=records.FAILURE, reason=failure, message="it could not", hint="")
    world.exit(0, code=code)
    assert world.wrote(records.RANK_ENDED)[0]["state"] == state


# When it leaves.


def test_without_workers_and_coordinator_it_leaves_after_a_short_grace() -> None:
    world = World().commanded(1).started(0)
    world.exit(0, code=0)
    world.wait(30)
    assert not world.left  # a coordinator that is connected keeps it
    world.disconnect(1)
    assert not world.left
    world.wait(1.5)
    assert world.left
    assert world.journal[-1] == {
        "seq": world.journal[-1]["seq"], "type": records.AGENT_LEFT, "reason": "no workers and no coordinator",
    }  # fmt: skip


def test_without_a_coordinator_training_goes_on_to_its_end() -> None:
    world = World(lease_s=1000).commanded(1).started(0, stall_s=300)
    world.step(0, 1)
    world.disconnect(1)
    world.wait(200)
    world.step(0, 2)
    assert world.signals == []
    assert not world.left
    world.exit(0, code=0)
    world.wait(1.5)
    assert world.left


def test_leave_makes_it_go_at_once_but_not_while_a_rank_is_alive() -> None:
    world = World().commanded(1).started(0)
    world.receive(1, type=wire.LEAVE, term=1)
    assert world.answers(1)[-1]["type"] == wire.REFUSED
    world.exit(0, code=0)
    world.receive(1, type=wire.LEAVE, term=1)
    assert world.left


def test_who_only_looks_does_not_keep_it() -> None:
    world = World()
    world.connect(1)
    world.wait(6)
    assert world.left


def test_a_guest_that_asked_something_keeps_it_for_a_while() -> None:
    world = World()
    world.connect(1)
    world.receive(1, type=wire.STATUS)
    world.wait(10)
    assert not world.left
    world.wait(10)
    assert world.left


def test_when_the_warden_dies_the_ranks_have_ten_seconds_in_all() -> None:
    world = World().commanded(1).started(0)
    world.step(0, 1)
    world.happen(events.Bereft("the agent's warden died"))
    assert world.asked == [0]
    world.wait(10.5)
    assert world.signals == [(0, "SIGTERM"), (0, "SIGKILL")]
    world.exit(0, signal="SIGKILL")
    assert world.left  # at once: nobody is waited for
    assert world.journal[-1]["reason"] == "the agent's warden died"


def test_a_leaving_agent_starts_nothing() -> None:
    world = World(sweeps=False).commanded(1).started(0)
    world.happen(events.Bereft("the agent's warden died"))
    world.start(1, generation=2)
    assert world.spawned == [(1, 0)]


def test_the_ends_that_a_killed_agent_could_not_write_are_written_by_the_next() -> None:
    world = World(past_generation=2, unended={2: [0, 1]})
    assert [(e["type"], e.get("rank")) for e in world.journal[1:]] == [
        (records.RANK_ENDED, 0), (records.RANK_ENDED, 1), (records.GENERATION_ENDED, None),
    ]  # fmt: skip


def test_the_beat_carries_the_newest_step_and_the_state_of_each_rank() -> None:
    world = World().commanded(1).started(0, 1)
    world.step(0, 7)
    world.wait(1.1)
    beat = [m for m in world.answers(1) if m["type"] == wire.BEAT][-1]
    assert beat["ranks"]["0"]["step"] == 7
    assert beat["states"] == {"0": "training", "1": "starting"}


def test_nobody_is_ended_for_silence_while_the_disk_is_full() -> None:
    world = World().commanded(1).started(0, 1, stall_s=20, start_s=20)
    world.step(0, 5)
    world.happen(events.DiskFull("No space left on device"))
    world.wait(200)
    assert world.signals == []
    world.happen(events.DiskRoom())
    world.wait(15)
    assert world.signals == []
    world.wait(10)
    assert world.signals != [], "with room again, silence counts again"


# Ranks that are forked.


@pytest.mark.parametrize(
    ("zygote", "argv", "message", "wanted"),
    [
        (None, ["python", "/code", "train"], True, True),
        (True, ["python", "/code", "train"], True, True),
        (False, ["python", "/code", "train"], True, False),
        (True, ["python", "train.py"], True, False),
        (True, ["python", "/code", "train"], False, False),
    ],
)
def test_a_zygote_is_for_ranks_of_the_trainer_if_it_is_wanted(
    zygote: bool | None, argv: list[str], message: bool, wanted: bool
) -> None:
    world = World().commanded(1)
    more = {} if zygote is None else {"zygote": zygote}
    world.receive(1, type=wire.START, term=1, generation=1, keep=3, timeouts=TIMEOUTS,
                  ranks=[{**order(0, message), "argv": argv}], **more)  # fmt: skip
    assert world.forks == ([0] if wanted else [])


def test_the_journal_tells_which_ranks_were_forked_and_why_others_were_not() -> None:
    world = World(starts=False).commanded(1).started(0, 1, 2)
    world.happen(events.ZygoteReady(7, 1, 2.5))
    world.happen(events.Started(0, 100, 1, forked=True))
    world.happen(events.Started(1, 101, 1, cold="it hung up"))
    world.happen(events.Started(2, 102, 1))
    world.happen(events.ZygoteEnded(7, "it hung up"))
    told = {e["rank"]: {key: e[key] for key in ("forked", "cold") if key in e} for e in world.wrote("rank_started")}
    assert told == {0: {"forked": True}, 1: {"cold": "it hung up"}, 2: {}}
    assert [(e["pid"], e["seconds"]) for e in world.wrote(records.ZYGOTE_READY)] == [(7, 2.5)]
    assert [e["reason"] for e in world.wrote(records.ZYGOTE_ENDED)] == ["it hung up"]


def test_a_rank_that_waited_for_a_zygote_in_vain_has_all_of_its_time_to_start() -> None:
    world = World(starts=False).commanded(1).started(0, start_s=100.0)
    world.wait(60)
    world.happen(events.Started(0, 100, 1, cold="its import took too long"))
    world.wait(80)
    assert world.signals == []
    world.wait(21)
    assert world.signals[0] == (0, "SIGTERM")


def test_a_rank_that_is_stopped_before_it_is_there_has_stopped() -> None:
    world = World(starts=False).commanded(1).started(0, 1)
    world.receive(1, type=wire.STOP, how="now", reason="enough")
    for rank in (0, 1):
        world.exit(rank, signal="SIGTERM")
    assert set(world.states().values()) == {"stopped"}
    assert world.wrote(records.GENERATION_ENDED)


def test_an_overtaken_coordinator_is_told_the_term_that_overtook_it() -> None:
    world = World().commanded(1, term=1)
    world.connect(2)
    world.receive(2, type=wire.COMMAND, term=2)
    assert world.answers(1)[-1] == {
        "type": wire.REFUSED,
        "what": wire.COMMAND,
        "why": "term 2 has taken over",
        "term": 2,
    }


def test_a_command_that_lay_in_a_stream_given_up_since_takes_nothing_away() -> None:
    world = World()
    world.connect(1)
    world.commanded(2)
    world.receive(1, type=wire.COMMAND, term=1)
    assert world.answers(1)[-1]["type"] == wire.REFUSED
    world.start(2)
    assert world.spawned == [(1, 0)]


def test_hello_and_commanded_tell_that_a_generation_is_still_publishing() -> None:
    world = World(publishes=False).commanded(1)
    world.start(1)
    world.step(0, 5)
    world.tell(0, type=records.SAVED, folder="g1-s5")
    world.exit(0, 81)
    hello = world.connect(2)
    assert (hello["alive"], hello["busy"]) == ([], True)
