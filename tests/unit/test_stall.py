"""Ranks that make no progress: looked at first, told of, and only then is one ended."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.plan.model import RankPlan
from launcher.supervise.core.stalls import GATHER_S, Stalls
from tests.unit.agent_world import TIMEOUTS, World, order
from worker.agent import events, stacks
from worker.contract import records, standing, wire
from worker.contract.standing import Standing

ROOT = Path(__file__).parents[2]
TRAINER = f"{ROOT}/worker/train/"
LIBRARY = "/venv/lib/python3.11/site-packages/tensorflow/python/eager/execute.py"


def dump(*threads: list[tuple[str, int, str]]) -> str:
    """What faulthandler writes of threads, each from its innermost frame on; the main thread is the last."""
    text = ""
    for number, frames in enumerate(threads):
        text += f"Thread 0x{number:016x} (most recent call first):\n"
        text += "".join(f'  File "{file}", line {line} in {name}\n' for file, line, name in frames) + "\n"
    return text


MAIN = [(TRAINER + "loop.py", 80, "_walk"), (TRAINER + "main.py", 60, "_train")]


def test_a_rank_in_its_chunk_waits_for_its_peers() -> None:
    found = stacks.place(dump([(LIBRARY, 53, "quick_execute"), (TRAINER + "step.py", 92, "chunk"), *MAIN]))
    assert found == (True, "step.py:92 in chunk")


def test_a_rank_in_the_users_function_stands_there_whoever_called_it() -> None:
    users = ("/runs/r/sources/ab/data.py", 33, "load")
    wait = ("/usr/lib/python3.11/threading.py", 320, "wait")
    assert stacks.place(dump([wait, users, (TRAINER + "userfunction.py", 9, "call"), *MAIN])) == (
        False,
        "data.py:33 in load",
    )
    # TensorFlow runs a pipeline's generator in a thread of its own, and the main thread waits for its next element.
    found = stacks.place(dump([wait, users], [(LIBRARY, 1, "execute"), (TRAINER + "stream.py", 70, "next"), *MAIN]))
    assert found == (False, "data.py:33 in load")


def test_nothing_is_made_of_what_is_no_dump() -> None:
    for text in (
        "",
        "Thread 0x00 (most recent call first):\n",
        "Traceback (most recent call last)\n  File 1\n",
        "\x00\xff",
    ):
        assert stacks.place(text) == (None, "")


@given(st.text())
def test_no_text_breaks_the_reader(text: str) -> None:
    stacks.place(dump([("/a.py", 1, "f")]) + text)


@pytest.mark.parametrize(("file", "functions"), stacks.MEETINGS.items())
def test_the_trainer_has_the_functions_in_which_ranks_wait(file: str, functions: tuple[str, ...]) -> None:
    tree = ast.parse(Path(TRAINER + file).read_text())
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert set(functions) <= defined


@pytest.mark.parametrize(
    ("log", "line"),
    [
        (
            "words\nTraceback (most recent call last):\n  File 1\n    x\nValueError: no such row\nbye\n",
            "ValueError: no such row",
        ),
        (
            "Traceback (most recent call last):\n  File 1\na.b.UnavailableError: gone\nmore: of it\n",
            "a.b.UnavailableError: gone",
        ),
        ("Traceback (most recent call last):\n  File 1\nKeyboardInterrupt\n", "KeyboardInterrupt"),
        ("Error: but no traceback\n", ""),
        ("Traceback (most recent call last):\n  File 1\n", ""),
        ("", ""),
    ],
)
def test_the_line_that_python_ends_with(tmp_path: Path, log: str, line: str) -> None:
    (tmp_path / "log").write_text(log)
    assert stacks.raised(str(tmp_path / "log")) == line
    assert stacks.raised(str(tmp_path / "none")) == ""


# Who is behind.

WAITING = Standing(0, step=120, waits=True, at="step.py:92 in chunk")


@pytest.mark.parametrize(
    ("found", "rank"),
    [
        ([WAITING, Standing(1, step=120, waits=False, at="data.py:3 in f")], 1),
        ([WAITING, Standing(1, step=125, waits=False, at="data.py:3 in f")], 1),  # what was told may lag
        ([WAITING, Standing(1, step=120, state="T")], 1),
        ([Standing(0, step=120, waits=False), Standing(1, step=120, state="T")], 1),
        ([WAITING, Standing(1, step=119, waits=True)], 1),
        ([WAITING, Standing(1, step=120, waits=True)], 0),
        ([WAITING, Standing(1, step=120, waits=True, silent_s=9.0)], 1),
        ([Standing(0, phases=3), Standing(1, phases=2)], 1),
        ([Standing(0, step=1), Standing(1, phases=5)], 1),
    ],
)
def test_the_one_behind(found: list[Standing], rank: int) -> None:
    assert standing.behind(found).rank == rank
    assert standing.behind(found[::-1]).rank == rank


def test_it_is_told_where_it_stands_and_who_waits() -> None:
    culprit = Standing(2, step=118, waits=False, at="data.py:33 in load")
    found = [WAITING, Standing(1, step=120, waits=True), culprit]
    assert standing.told(culprit, found, "no progress for 300 s") == (
        "no progress for 300 s: it stands at data.py:33 in load; ranks 0, 1 wait for it; it told of step 118, "
        "others of 120"
    )
    frozen = Standing(1, step=120, state="T")
    assert "its process is stopped (SIGSTOP" in standing.told(frozen, [WAITING, frozen], "no progress for 300 s")


@given(st.lists(st.dictionaries(st.sampled_from(Standing._names), st.none() | st.integers() | st.text() | st.floats())))
def test_whatever_a_host_tells_is_taken_as_far_as_it_is_fit(items: list[dict[str, object]]) -> None:
    found = standing.of_records(items)
    assert all(isinstance(one.step, (int, type(None))) and len(one.at) <= 300 for one in found)
    assert standing.of_records([one.as_record() for one in found]) == found
    if found:
        assert standing.behind(found) in found


# An agent that has all ranks.


def stalled_world() -> World:
    world = World().commanded(1).started(0, 1, stall_s=20)
    for rank in (0, 1):
        world.step(rank, 5)
    return world


def test_ranks_are_looked_at_and_told_of_before_one_is_ended() -> None:
    world = stalled_world()
    world.stand = None
    world.wait(20)
    assert world.looked == [0, 1]
    assert not world.signals
    world.happen(events.Stands(0, "S", True, "step.py:92 in chunk"))
    world.happen(events.Stands(1, "S", False, "data.py:33 in load"))
    world.wait(0.25)
    (told,) = world.wrote(records.STALLED)
    assert [(one["rank"], one["waits"], one["at"]) for one in told["ranks"]] == [
        (0, True, "step.py:92 in chunk"),
        (1, False, "data.py:33 in load"),
    ]
    (failure,) = world.wrote(records.RANK_FAILURE)
    assert failure["message"] == "no progress for 20 s: it stands at data.py:33 in load; rank 0 waits for it"
    types = [record["type"] for record in world.journal]
    assert types.index(records.STALLED) < types.index(records.RANK_FAILURE) < types.index(records.RANK_ASKED_TO_STOP)
    assert world.signals == [(1, "SIGTERM")]


def test_a_look_that_brings_nothing_delays_the_end_by_three_seconds() -> None:
    world = stalled_world()
    world.stand = None
    world.wait(22)
    assert not world.signals
    world.wait(2)
    assert [rank for rank, _ in world.signals][:1] == [0]


def test_ranks_that_go_on_while_they_are_looked_at_are_left_alone() -> None:
    world = stalled_world()
    world.stand = None
    world.wait(20)
    world.step(0, 6)
    world.step(1, 6)
    world.wait(10)
    assert not world.signals
    assert not world.wrote(records.STALLED)


# Ranks on several hosts.


def far_world() -> World:
    world = World().commanded(1)
    world.receive(1, type=wire.START, term=1, generation=1, keep=3, workers=2, ranks=[order(0)],
                  timeouts={**TIMEOUTS, "stall_s": 20})  # fmt: skip
    world.step(0, 5)
    world.stand = {0: events.Stands(0, "S", True, "step.py:92 in chunk")}
    world.wait(20.5)
    return world


def test_an_agent_that_has_not_all_ranks_leaves_it_to_the_coordinator_who_is_behind() -> None:
    world = far_world()
    assert len(world.wrote(records.STALLED)) == 1
    world.wait(10)
    assert not world.signals
    world.receive(1, type=wire.STOP, how="stalled", rank=1, reason="no progress: it stands elsewhere")
    world.exit(0, code=81)
    assert world.states() == {0: "rescued"}
    assert not world.wrote(records.RANK_FAILURE)


def test_the_one_behind_is_ended_by_its_own_agent() -> None:
    world = far_world()
    world.receive(1, type=wire.STOP, how="stalled", rank=0, reason="no progress: it stands there")
    assert [(f["rank"], f["message"]) for f in world.wrote(records.RANK_FAILURE)] == [
        (0, "no progress: it stands there")
    ]
    world.exit(0, signal="SIGTERM")
    assert world.states() == {0: "failed"}


def test_an_agent_that_hears_nothing_decides_among_its_own() -> None:
    world = far_world()
    world.wait(16)
    assert world.signals[0] == (0, "SIGTERM")


def test_the_coordinator_is_told_that_they_go_on() -> None:
    world = far_world()
    world.step(0, 6)
    world.wait(0.5)
    assert len(world.wrote(records.STALL_OVER)) == 1
    world.wait(16)
    assert not world.signals


# The coordinator.


def rank_plan(rank: int, host: str) -> RankPlan:
    return RankPlan(rank, host, "10.0.0.1", 1, (), 1, (), "/", {}, (), {}, "message")


def stalls() -> Stalls:
    return Stalls([rank_plan(0, "a"), rank_plan(1, "b")])


def told_by(one: Standing) -> dict[str, object]:
    return {"type": records.STALLED, "what": "no progress for 20 s", "ranks": [one.as_record()]}


def test_the_coordinator_waits_for_every_host_and_names_the_one_behind() -> None:
    known = stalls()
    known.hear("a", told_by(WAITING))
    assert known.decide(100.0, set()) is None
    known.hear("b", told_by(Standing(1, step=120, waits=False, at="data.py:33 in load")))
    found = known.decide(101.0, set())
    assert found is not None
    assert (found.rank, found.host) == (1, "b")
    assert "data.py:33" in found.reason
    assert known.decide(102.0, set()) is None, "once"


def test_a_host_that_tells_nothing_while_all_others_wait_is_behind() -> None:
    known = stalls()
    known.hear("a", told_by(WAITING))
    assert known.decide(100.0, set()) is None
    found = known.decide(100.0 + GATHER_S, set())
    assert found is not None
    assert (found.rank, found.host) == (1, "b")
    assert re.search("nothing is heard of it, and rank 0 waits", found.reason)


def test_a_stall_that_was_over_is_none() -> None:
    known = stalls()
    known.hear("a", told_by(WAITING))
    assert known.decide(100.0, set()) is None
    known.hear("a", {"type": records.STALL_OVER})
    assert known.decide(200.0, set()) is None


def test_a_host_speaks_of_its_own_ranks_only() -> None:
    known = stalls()
    known.hear("a", told_by(Standing(1, state="T")))
    known.hear("b", told_by(Standing(1, step=3, waits=False, at="data.py:1 in f")))
    found = known.decide(0.0, set())
    assert found is not None
    assert "data.py:1" in found.reason
