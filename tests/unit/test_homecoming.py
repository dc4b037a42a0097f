"""When a run's logs begin to come home: each gatherer is a start of Python on a host, so not before the workers'."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest

from launcher.plan.build import plan
from launcher.runs.journal import Journal
from launcher.spec.model import HostSpec
from launcher.supervise import homecoming
from launcher.supervise.homecoming import Homecoming
from launcher.supervise.patient import PatientJournal
from tests.plan_values import facts, spec
from worker.contract import records

TWO = spec(HostSpec("a"), HostSpec("b"))


class FakeGathering:
    """Counts its starts."""

    def __init__(self) -> None:
        self.started = 0
        self.bulk: list[str] = []

    def start(self) -> None:
        self.started += 1

    def start_bulk(self, host: str) -> None:
        self.bulk.append(host)

    def settle(self, timeout_s: float, *, without: Collection[str] = ()) -> list[str]:  # noqa: ARG002
        return []

    def stop(self) -> None:
        """Nothing to end."""


@pytest.fixture
def made(tmp_path: Path) -> tuple[Homecoming, FakeGathering]:
    gathering = FakeGathering()
    make: Callable[[Any], Any] = lambda _: gathering  # noqa: E731
    journal = PatientJournal(Journal(tmp_path / "events.jsonl"))
    return Homecoming(make, journal, plan(TWO, {"a": facts("a"), "b": facts("b")}, run="r")), gathering


def started(rank: int) -> dict[str, Any]:
    return {"type": records.RANK_STARTED, "rank": rank, "generation": 1}


def test_they_begin_once_when_every_rank_has_started(made: tuple[Homecoming, FakeGathering]) -> None:
    home, gathering = made
    home.heard_of("a", started(0))
    home.tend()
    assert gathering.started == 0
    home.heard_of("b", started(1))
    home.heard_of("b", started(1))
    home.tend()
    assert (gathering.started, gathering.bulk) == (1, ["a"])


def test_a_rank_that_ends_is_a_reason_and_so_is_the_end_of_the_run(made: tuple[Homecoming, FakeGathering]) -> None:
    home, gathering = made
    home.heard_of("a", {"type": records.RANK_ENDED, "rank": 0, "generation": 1})
    assert gathering.started == 1
    home.complete(lambda: True)
    assert gathering.started == 1


def test_what_is_asked_for_begins_it(made: tuple[Homecoming, FakeGathering]) -> None:
    home, gathering = made
    home.settle(0.1)
    assert gathering.started == 1


def test_a_host_that_never_starts_holds_up_no_others_logs(
    made: tuple[Homecoming, FakeGathering], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, gathering = made
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + homecoming._BEGIN_S + 1)
    home.tend()
    assert gathering.started == 1
