"""Clusters that live side by side and take turns: ratios that a noisy machine cannot spoil.

Speeds on a shared machine vary by a factor of two within a minute. Here all contestants are started once, then do a
turn of about a second each, round after round in changing order, and what is compared is the median of each round's
ratio to the first of them. The processor time of the chief is compared in the same way: it hardly knows the neighbours.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.lab import LAB, TURN, TURNS
from tests.integration.training import Cluster, cluster

DEADLINE_S = 180.0


@dataclass(frozen=True)
class Contestant:
    """A cluster and what is different in it: trainer settings (`job`), and changes of the trainer itself (`lab`)."""

    name: str
    workers: int = 1
    job: Mapping[str, Any] = field(default_factory=dict)
    lab: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """What came out: images (or evaluations) per second, and the ratio to the first contestant's."""

    name: str
    per_second: float
    ratio: float
    spread: tuple[float, float]  # lower and upper quartile of the rounds' ratios
    work: float  # the chief's processor time, as a ratio to the first contestant's
    cores: float  # how many cores the chief kept busy


class _Taken(NamedTuple):
    """How long a turn took: of the clock, and of the chief's processors."""

    seconds: float
    work: float


class _Seat:
    """A living contestant."""

    def __init__(self, contestant: Contestant, folder: Path, ranks: Cluster) -> None:
        self.contestant = contestant
        self._folder = folder
        self._ranks = ranks
        self._turn = 0

    def take_turn(self, amount: int) -> _Taken:
        """Blocks until the turn is over."""
        self._turn += 1
        deadline = time.monotonic() + DEADLINE_S
        for rank in range(len(self._ranks.ranks)):
            self._ask(self._folder / f"{TURN}{rank}", amount, deadline)
        while time.monotonic() < deadline:
            with contextlib.suppress(FileNotFoundError):
                lines = (self._folder / TURNS).read_text().splitlines(keepends=True)
                if len(lines) >= self._turn and lines[self._turn - 1].endswith("\n"):
                    told = json.loads(lines[self._turn - 1])
                    return _Taken(float(told["seconds"]), float(told["cpu"]))
            self._look()
            time.sleep(0.005)
        raise RuntimeError(f"{self.contestant.name}: a turn took over {DEADLINE_S:g} s")

    def _ask(self, pipe: Path, amount: int, deadline: float) -> None:
        while not pipe.exists() and time.monotonic() < deadline:  # it is still starting
            self._look()
            time.sleep(0.02)
        with pipe.open("ab", buffering=0) as asked:
            asked.write(b"%d\n" % amount)

    def _look(self) -> None:
        for rank in self._ranks.ranks:
            if rank.process.poll() is not None:
                raise RuntimeError(f"{self.contestant.name}: a rank ended:\n{rank.log}")


def plain_job(dataset: str, batch: int, threads: int | None) -> dict[str, Any]:
    """The trainer's settings for a contest: no checkpoints, no end."""
    return {
        "model": "cnn",
        "dataset": {"kind": dataset, "path": None},
        "epochs": 100_000,
        "batch_size": batch,
        "learning_rate": 0.001,
        "optimizer": "adam",
        "seed": 0,
        "deterministic": True,
        "precision": "float32",
        "communication": "auto",
        "threads": threads,
        "checkpoint": {"every_epochs": None, "every_steps": None, "every_seconds": None},
    }


def contest(
    contestants: Sequence[Contestant],
    folder: Path,
    *,
    job: Mapping[str, Any],
    seconds: float = 1.0,
    rounds: int = 9,
    amount: int | None = None,
    count: int = 1,
) -> list[Row]:
    """Let them take turns; the first is what the others are compared with.

    A turn has `amount` steps, or as many as the first does in `seconds`; each counts `count` (images).
    """
    with contextlib.ExitStack() as stack:
        seats = []
        for number, one in enumerate(contestants):
            home = folder / f"seat{number}"
            settings = {**job, **one.job}
            env = {LAB: json.dumps(dict(one.lab)), "LAUNCHER_LAB_DATASET": settings["dataset"]["kind"], **one.env}
            ranks = stack.enter_context(
                cluster(home, settings, workers=one.workers, env=env, line=("-m", "benchmarks.lab"))
            )
            seats.append(_Seat(one, home / "g1", ranks))
            seats[-1].take_turn(amount or 20)  # one after the other: starting is slow work, too
        if amount is None:
            amount = max(1, int(50 * seconds / seats[0].take_turn(50).seconds))
        for seat in seats:  # so that each has found its pace
            seat.take_turn(amount)
        times: dict[str, list[_Taken]] = {one.name: [] for one in contestants}
        for turn, place in itertools.product(range(rounds), range(len(seats))):
            chosen = seats[place if turn % 2 == 0 else -1 - place]
            times[chosen.contestant.name].append(chosen.take_turn(amount))
    return [_row(name, taken, times[contestants[0].name], amount * count) for name, taken in times.items()]


def _row(name: str, taken: list[_Taken], base: list[_Taken], amount: int) -> Row:
    ratios = [b.seconds / t.seconds for b, t in zip(base, taken, strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else [ratios[0]] * 3
    work = statistics.median(t.work / b.work for b, t in zip(base, taken, strict=True))
    median = statistics.median(one.seconds for one in taken)
    cores = statistics.median(t.work / t.seconds for t in taken)
    return Row(name, amount / median, statistics.median(ratios), (low, high), work, cores)


def table(rows: Sequence[Row], unit: str = "images/s") -> str:
    """A line for each contestant, ready to be pasted into a page."""
    lines = [f"| | {unit} | ratio | quartiles | processor time | cores busy |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {r.name} | {r.per_second:,.0f} | {r.ratio:.3f} | {r.spread[0]:.3f}–{r.spread[1]:.3f} | {r.work:.3f} "
        f"| {r.cores:.2f} |"
        for r in rows
    ]
    return "\n".join(lines)
