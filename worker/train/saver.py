"""Turns the state of training into a checkpoint on disk and a SAVED record."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from ..contract import records
from . import state
from .checkpoint import Checkpoint, write
from .errors import TrainError
from .journey import Journey
from .order import Schedule
from .progress import Progress
from .step import Parts


class Saver:
    """Saves each step at most once. `about` (identity and fingerprint) goes into every state.json."""

    def __init__(
        self,
        folder: str,
        generation: int,
        parts: Parts,
        schedule: Schedule,
        progress: Progress,
        about: Mapping[str, Any],
        began_at: int,
    ) -> None:
        self._folder = folder
        self._generation = generation
        self._parts = parts
        self._schedule = schedule
        self._progress = progress
        self._about = about
        self._newest = began_at  # what the run started from is on disk already
        self._last = time.monotonic()

    @property
    def seconds_since(self) -> float:
        return time.monotonic() - self._last

    def save_or_go_on(self, journey: Journey, why: str) -> None:
        """Save; a full disk costs this checkpoint, not the run."""
        try:
            self._save(journey, why)
        except OSError as error:
            self._last = time.monotonic()
            print(f"a checkpoint could not be saved: {error}; training goes on", file=sys.stderr, flush=True)

    def save(self, journey: Journey, why: str) -> None:
        """Save, or raise TrainError: nothing comes after this checkpoint that could make up for it."""
        try:
            self._save(journey, why)
        except OSError as error:
            raise TrainError(
                "error",
                f"the checkpoint of step {journey.step} could not be saved: {error}",
                hint=f"make room on the disk of {self._folder}",
            ) from error

    def _save(self, journey: Journey, why: str) -> None:
        self._last = time.monotonic()
        arrays = state.snapshot(self._parts)
        # After a broken chunk the device knows better than the host how far it came.
        journey.step = int(arrays[state.STEP])
        if journey.step <= self._newest:
            return
        epoch = journey.epoch(self._schedule)
        checkpoint = Checkpoint(
            self._generation, journey.step, epoch, why, arrays, {**journey.as_state(), **self._about}
        )
        name = write(self._folder, checkpoint)
        self._newest = journey.step
        self._progress.write(records.SAVED, folder=name, step=journey.step, epoch=epoch, why=why)
