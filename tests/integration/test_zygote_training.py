"""Training with forked workers: the bits of cold starts, and a restart that does not import TensorFlow again."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.integration.agent_client import AgentClient, agents
from tests.integration.agent_training import trainer_orders
from worker.contract import records
from worker.contract.layout import HostFolder
from worker.train.datasets import load

pytestmark = [pytest.mark.tensorflow, pytest.mark.timeout(300)]

# One epoch: a kill that falls into the first validation may be noticed too late for a rescue (see docs/measured.md).
STEPS_PER_EPOCH, EPOCHS = 350, 1
BATCH = 16
TF_PATIENCE_S = 120.0


@pytest.fixture
def job(tmp_path: Path) -> dict[str, Any]:
    whole, count, path = load("fashion-mnist-mini"), STEPS_PER_EPOCH * BATCH, tmp_path / "small.npz"
    np.savez(
        path,
        x_train=whole.x_train[:count],
        y_train=whole.y_train[:count],
        x_test=whole.x_test[:100],
        y_test=whole.y_test[:100],
    )
    return {
        "model": "cnn",
        "dataset": {"kind": "npz", "path": str(path)},
        "epochs": EPOCHS,
        "batch_size": BATCH,
        "learning_rate": 0.001,
        "optimizer": "adam",
        "seed": 7,
        "deterministic": True,
        "precision": "float32",
        "communication": "auto",
        "threads": 1,
        "checkpoint": {"every_epochs": None, "every_steps": None, "every_seconds": None},
    }


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentClient]:
    with agents() as house:
        yield house.reach(tmp_path / "run", patience_s=TF_PATIENCE_S).command()


def phases(folder: Path, generation: int, rank: int) -> dict[str, float]:
    data = Path(HostFolder(str(folder)).progress(generation, rank)).read_bytes()
    told = [record for record in records.parse(data)[0] if record["type"] == records.PHASE]
    return {record["name"]: record["seconds"] for record in told}


def newest(agent: AgentClient) -> records.Record:
    return [event for event in agent.events if event["type"] == records.CHECKPOINT][-1]


def test_three_generations_off_one_zygote_end_with_the_bits_of_a_cold_start(
    agent: AgentClient, job: dict[str, Any], tmp_path: Path
) -> None:
    folder, resume = tmp_path / "run", ""
    # The one that is not touched is started cold; its hashes of strings are other ones, too.
    cold = trainer_orders(folder, job, generation=1, env={"PYTHONHASHSEED": "1"})
    agent.start(cold, generation=1, zygote=False)
    assert agent.event(records.GENERATION_ENDED, generation=1)["reason"] == "finished"
    untouched = newest(agent)
    assert untouched["step"] == STEPS_PER_EPOCH * EPOCHS
    steps = [0]
    for generation, victim in ((2, 1), (3, 0)):
        agent.start(trainer_orders(folder, job, generation=generation, resume=resume), generation=generation)
        pids = agent.stepping(0, 1, generation=generation)
        os.kill(pids[victim], signal.SIGKILL)
        agent.event(records.GENERATION_ENDED, generation=generation)
        assert agent.ended(1 - victim, generation)["state"] == "rescued"
        resume = newest(agent)["name"]
        steps.append(newest(agent)["step"])
    agent.start(trainer_orders(folder, job, generation=4, resume=resume), generation=4)
    assert agent.event(records.GENERATION_ENDED, generation=4)["reason"] == "finished"
    assert steps == sorted(set(steps))
    assert steps[-1] < untouched["step"]
    assert (newest(agent)["step"], newest(agent)["arrays"]) == (untouched["step"], untouched["arrays"])
    started = [event for event in agent.events if event["type"] == records.RANK_STARTED]
    assert [event.get("forked", False) for event in started] == [False] * 2 + [True] * 6
    assert len([event for event in agent.events if event["type"] == records.ZYGOTE_READY]) == 1
    # What a restart does not do again: the import, and the reading of the data.
    again, first = phases(folder, 4, 0), phases(folder, 1, 0)
    assert again["import"] + again["data"] < first["import"] / 4
