"""Turns the state of training into a checkpoint on disk and a SAVED record, beside the training.

What a checkpoint holds is copied out between two chunks; hashing, writing and syncing it are a thread's. One is
written at a time. The process must not end before `finish`: a thread that is cut off leaves no checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from ..contract import records
from . import state
from .checkpoint import Checkpoint, write
from .errors import TrainError
from .journey import Journey
from .order import Schedule
from .progress import Progress
from .step import Parts
from .words import say


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
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether one is being written."""
        return self._writing is not None and not self._writing.done()

    def is_due(self, every_seconds: float | None) -> bool:
        """Whether so much time has passed. Never while one is being written: a slow disk gets fewer checkpoints."""
        return every_seconds is not None and not self.busy and time.monotonic() - self._last >= every_seconds

    def save_or_go_on(self, journey: Journey, why: str) -> None:
        """Copy the state and return; it is on disk later. Waits for the one before.

        A full disk costs this checkpoint, not the run.
        """
        self.finish()
        self._begin(journey, why)

    def save(self, journey: Journey, why: str) -> None:
        """Save and wait for it, or raise TrainError: nothing comes after it that could make up for it."""
        self.finish()
        self._begin(journey, why)
        try:
            self._wait()
        except OSError as error:
            raise TrainError(
                "error",
                f"the checkpoint of step {journey.step} could not be saved: {error}",
                hint=f"make room on the disk of {self._folder}",
            ) from error

    def finish(self) -> None:
        """Wait for the checkpoint that is being written, if there is one, and tell if it could not be."""
        try:
            self._wait()
        except OSError as error:
            say(f"a checkpoint could not be saved: {error}; training goes on without it")

    def _begin(self, journey: Journey, why: str) -> None:
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
        self._writing = self._writer.submit(self._write, checkpoint)

    def _write(self, checkpoint: Checkpoint) -> None:
        name = write(self._folder, checkpoint)
        self._newest = checkpoint.step
        self._progress.write(
            records.SAVED, folder=name, step=checkpoint.step, epoch=checkpoint.epoch, why=checkpoint.why
        )

    def _wait(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()
