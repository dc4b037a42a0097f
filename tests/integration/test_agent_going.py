"""A host that has to go: whoever of a run is sent SIGTERM there, all that was done is saved. Real processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.agent_client import AgentClient, AgentHouse, is_alive, journal, rank_order, until
from tests.integration.test_zygote import order, pids_of, zygotes
from worker.contract import records, wire

Whom = Callable[[AgentClient, list[int]], list[int]]


def forked(house: AgentHouse, folder: Path) -> tuple[AgentClient, list[int]]:
    """An agent with two ranks off a zygote that do steps, and take SIGTERM as the trainer does."""
    agent = house.reach(folder).command().start([order(folder, rank, "heed", "train") for rank in (0, 1)])
    pids = agent.stepping(0, 1)
    house.watch(*zygotes(agent), *pids)
    return agent, pids


def everybody(agent: AgentClient, ranks: list[int]) -> list[int]:
    agent_pid, warden = pids_of(agent)
    return [warden, *zygotes(agent), *ranks, agent_pid]


@pytest.mark.parametrize(
    "whom",
    [
        lambda agent, _: [pids_of(agent)[0]],
        lambda _, ranks: ranks[1:],
        everybody,
        lambda agent, ranks: everybody(agent, ranks)[::-1],
    ],
    ids=["agent", "rank", "everybody", "everybody-the-agent-first"],
)
def test_sigterm_saves_the_newest_step_and_the_agent_waits_to_be_told_to_leave(
    house: AgentHouse, tmp_path: Path, whom: Whom
) -> None:
    folder = tmp_path / "run"
    agent, ranks = forked(house, folder)
    agent_pid, warden = pids_of(agent)
    for pid in whom(agent, ranks):
        os.kill(pid, signal.SIGTERM)
    agent.event(records.HOST_GOING, generation=1)
    ends = [agent.ended(rank) for rank in (0, 1)]
    assert [(end["state"], end.get("exit_code")) for end in ends] == [("stopped", 82)] * 2
    agent.event(records.GENERATION_ENDED)
    saved = [event for event in agent.events if event["type"] == records.CHECKPOINT]
    assert max(event["step"] for event in saved) == max(end["step"] for end in ends)
    assert all(map(is_alive, (agent_pid, warden)))
    agent.send(wire.encode({"type": wire.LEAVE, "term": 1}))
    until(lambda: not is_alive(warden), "the end")
    assert journal(folder)[-1]["type"] == records.AGENT_LEFT


def test_without_a_coordinator_everybodys_sigterm_saves_and_then_nothing_is_left(
    house: AgentHouse, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    agent, ranks = forked(house, folder)
    all_of_them = everybody(agent, ranks)
    agent.hang_up()
    for pid in all_of_them:
        os.kill(pid, signal.SIGTERM)
    until(lambda: not any(map(is_alive, all_of_them)), "the end")
    types = [event["type"] for event in journal(folder)]
    assert types.index(records.CHECKPOINT) < types.index(records.AGENT_LEFT)


def test_a_program_that_dies_of_its_sigterm_takes_its_host_with_it_and_has_not_failed(
    house: AgentHouse, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    program = [rank_order(folder, rank, argv=["sleep", "600"], stop="SIGTERM") for rank in (0, 1)]
    agent = house.reach(folder).command().start(program)
    pids = agent.started(0, 1)
    house.watch(*pids)
    os.kill(pids[1], signal.SIGTERM)
    assert {agent.ended(rank)["state"] for rank in (0, 1)} == {"stopped"}
    assert "rank 1" in agent.event(records.HOST_GOING)["why"]
