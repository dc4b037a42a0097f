"""A rank hangs in its user's code: who is behind is found by looking, named and ended, and the run goes on."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.harness import Launcher
from worker.contract import records

# The first life's rank 1 comes to a place in its second epoch from which nothing returns.
DATA = """
import os, time
import numpy as np
import tensorflow as tf

HANGS = os.environ["LAUNCHER_GENERATION"] == "1" and os.environ["LAUNCHER_RANK"] == "1"

def rows(epoch):
    for number in range(320):
        if HANGS and epoch == 2 and number == 160:
            time.sleep(600)  # here
        yield np.full((4, 4, 1), number % 10, np.uint8), number % 3

def load(seed):
    kinds = (tf.TensorSpec((4, 4, 1), tf.uint8), tf.TensorSpec((), tf.int64))
    make = lambda epoch: tf.data.Dataset.from_generator(lambda: rows(epoch), output_signature=kinds)
    sizes = {"train_size": 320, "test_size": 320, "classes": 3}
    return {"train": lambda epoch: make(epoch), "test": lambda: make(0), **sizes}
"""
SPEC = """name: hangs
hosts: [{name: a, local: true, threads: 1}, {name: b, local: true, threads: 1, ports: 20300-20399}]
train: {model: "mine:model", dataset: "mine:load", epochs: 2, batch_size: 32}
timeouts: {stall: 3 s}
"""
MODEL = """
import keras

def model(input_shape, classes):
    return keras.Sequential([keras.Input(input_shape), keras.layers.Flatten(), keras.layers.Dense(classes)])
"""


def of(launcher: Launcher, host: str | None, type_: str) -> list[dict[str, Any]]:
    return [event for event in launcher.events(launcher.newest(), host) if event["type"] == type_]


@pytest.mark.tensorflow
@pytest.mark.timeout(200)
def test_the_rank_that_hangs_in_users_code_on_another_host_is_named_with_its_line_and_the_run_goes_on(
    launcher: Launcher,
) -> None:
    job = launcher.folder / "job"
    job.mkdir()
    (job / "mine.py").write_text(DATA + MODEL)
    (job / "cluster.yaml").write_text(SPEC)
    done = launcher.run("up", str(job / "cluster.yaml"), "--plain", timeout_s=150)
    line = DATA.splitlines().index("            time.sleep(600)  # here") + 1
    stands = f"it stands at mine.py:{line} in rows; rank 0 waits for it"
    (again,) = of(launcher, None, records.RESTART)
    assert (again["rank"], again["host"], again["generation"]) == (1, "b", 1)
    assert stands in again["message"]
    assert stands in " ".join(done.stdout.split())
    assert stands in " ".join(launcher.run("report").stdout.split())
    (waits,) = of(launcher, "a", records.STALLED)[0]["ranks"]
    assert waits["waits"] is True
    assert [e["state"] for e in of(launcher, "a", records.RANK_ENDED)] == ["rescued", "finished"]
    assert [e["state"] for e in of(launcher, "b", records.RANK_ENDED)] == ["failed", "finished"]
    for host, rank in (("a", 0), ("b", 1)):
        stacks = (launcher.newest() / "hosts" / host / "g1" / f"rank{rank}.stacks").read_text()
        assert "most recent call first" in stacks
        assert ("mine.py" in stacks) == (rank == 1)
    (begun,) = [e for e in of(launcher, None, records.GENERATION_STARTED) if e["generation"] == 2]
    assert begun["resumes"].startswith("g1-s"), "what rank 0 rescued"
    assert launcher.alive() == []
