"""The trainer's arithmetic: which images make up which step, and how long a chunk is."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.train.order import Schedule, permutation, slots_per_replica
from worker.train.pace import GROWTH, WORK_S, Pace


def test_an_epochs_order_depends_on_seed_and_epoch_and_is_frozen_for_ever() -> None:
    first = permutation(0, 1, 10)
    assert first.tolist() == [9, 4, 0, 8, 1, 5, 3, 2, 6, 7]
    assert permutation(0, 1, 10).tolist() == first.tolist()
    assert permutation(0, 2, 10).tolist() != first.tolist()
    assert permutation(1, 1, 10).tolist() != first.tolist()


@given(images=st.integers(1, 500), batch=st.integers(1, 100), epochs=st.integers(1, 5))
def test_every_image_is_in_exactly_one_step_of_an_epoch(images: int, batch: int, epochs: int) -> None:
    schedule = Schedule(images, batch, epochs)
    order = permutation(3, epochs, images)
    first = (epochs - 1) * schedule.steps_per_epoch
    steps = [schedule.batch_of(order, first + s) for s in range(schedule.steps_per_epoch)]
    assert sorted(np.concatenate(steps).tolist()) == list(range(images))
    assert all(len(step) == batch for step in steps[:-1])


@given(images=st.integers(1, 500), batch=st.integers(1, 100), step=st.integers(0, 2000))
def test_steps_left_and_images_seen_agree(images: int, batch: int, step: int) -> None:
    schedule = Schedule(images, batch, 50)
    left = schedule.left_in_epoch(step)
    assert 1 <= left <= schedule.steps_per_epoch
    assert (step + left) % schedule.steps_per_epoch == 0
    assert schedule.seen(step + left) == images


@given(batch=st.integers(1, 1000), replicas=st.integers(1, 16))
def test_slots_hold_the_batch_with_less_than_a_replicas_worth_of_padding(batch: int, replicas: int) -> None:
    slots = slots_per_replica(batch, replicas) * replicas
    assert batch <= slots < batch + replicas


def test_a_chunk_grows_to_half_a_second_of_work_and_no_further() -> None:
    pace = Pace()
    rate = 100.0  # steps per second
    lengths = []
    for _ in range(10):
        length = pace.next_length(10_000)
        lengths.append(length)
        pace.measured(length, length / rate)
    assert lengths[0] == 1
    assert all(b <= GROWTH * a for a, b in itertools.pairwise(lengths))
    assert 0.5 * WORK_S < lengths[-1] / rate <= WORK_S


@pytest.mark.parametrize("until", [1, 7])
def test_a_chunk_never_goes_beyond_where_all_must_leave(until: int) -> None:
    pace = Pace()
    pace.measured(1, 1e-6)
    assert pace.next_length(until) <= until


def test_a_machine_that_slows_down_gets_shorter_chunks() -> None:
    pace = Pace()
    for _ in range(8):
        pace.measured(pace.next_length(10_000), 0.01)
    fast = pace.next_length(10_000)
    pace.measured(fast, 10.0)
    assert pace.next_length(10_000) < fast / 5
