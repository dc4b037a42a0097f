"""STEP records: often enough to be watched, seldom enough to cost nothing."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..contract import records
from .journey import Journey
from .order import Schedule
from .progress import Progress

INTERVAL_S = 0.3  # under the length of a chunk, so that each chunk is told


class Teller:
    """Each record speaks of the time since the one before: its mean loss, and this worker's share of the images/s."""

    def __init__(
        self,
        schedule: Schedule,
        workers: int,
        progress: Progress,
        journey: Journey,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._schedule = schedule
        self._workers = workers
        self._progress = progress
        self._clock = clock
        self._loss: float | None = None
        self._rate: float | None = None
        self._told = False
        self.saving_s = 0.0  # for which training has stood still to save
        self.resume(journey)

    def resume(self, journey: Journey) -> None:
        """Steps go on from here after a time without any (the start, a validation): that time counts for no rate."""
        self._at = self._clock()
        self._step = journey.step
        self._images = self._total(journey)
        self._seen, self._loss_sum = self._schedule.seen(journey.step), journey.loss_sum

    def steps(self, journey: Journey) -> None:
        """Steps were done: tell of them if the last record is old, or if they are the first or end an epoch."""
        now = self._clock()
        ends = journey.step % self._schedule.steps_per_epoch == 0
        if journey.step == self._step or (self._told and not ends and now - self._at < INTERVAL_S):
            return
        seen = self._schedule.seen(journey.step)
        same_epoch = self._step and journey.epoch(self._schedule) == self._schedule.epoch_of(self._step - 1)
        images, loss_sum = (self._seen, self._loss_sum) if same_epoch else (0, 0.0)
        self._loss = (journey.loss_sum - loss_sum) / (seen - images)
        self._rate = (self._total(journey) - self._images) / max(now - self._at, 1e-9) / self._workers
        self._tell(journey)
        self.resume(journey)

    def still_here(self, journey: Journey) -> None:
        """No step was done, but work is: a validation is under way. Repeats the last record if that is old."""
        if self._clock() - self._at >= INTERVAL_S:
            self._tell(journey)
            self._at = self._clock()

    def _tell(self, journey: Journey) -> None:
        self._told = True
        self._progress.write(
            records.STEP,
            epoch=journey.epoch(self._schedule),
            step=journey.step,
            steps=self._schedule.steps,
            loss=self._loss,
            images_per_second=None if self._rate is None else round(self._rate, 1),
            saving_s=round(self.saving_s, 4),
        )

    def _total(self, journey: Journey) -> int:
        whole = (journey.epoch(self._schedule) - 1) * self._schedule.images
        return whole + self._schedule.seen(journey.step)
