"""The loop on the host: chunks, epochs, checkpoints, and what is told of them. All workers walk it in step."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ..contract import records
from ..contract.states import WorkerExit
from . import order
from .agreement import Agreement
from .control import Control
from .errors import TrainError
from .evaluate import Evaluator
from .journey import Journey
from .pace import Pace
from .progress import Progress
from .saver import Saver
from .settings import Settings
from .step import Agreed, Stepper, Word
from .teller import Teller


class Loop:
    """One life of the cluster, from where `journey` is to the end or to a stop."""

    def __init__(
        self,
        settings: Settings,
        schedule: order.Schedule,
        stepper: Stepper,
        evaluator: Evaluator,
        agreement: Agreement,
        saver: Saver,
        progress: Progress,
        control: Control,
        journey: Journey,
    ) -> None:
        self._settings = settings
        self._schedule = schedule
        self._stepper = stepper
        self._evaluator = evaluator
        self._agreement = agreement
        self._plan = 0  # a hash of what this worker is about to do
        self._saver = saver
        self._progress = progress
        self._control = control
        self._journey = journey
        self._pace = Pace()
        self._due = ""  # why a checkpoint is due, if one is
        self._teller = Teller(schedule, len(settings.workers), progress, journey)
        self._made_a_step = False

    def run(self, plan: int) -> WorkerExit:
        """Train. `plan` is a hash of all that the workers must have in common, 64 bits.

        Returns DONE or STOPPED. Raises TrainError (`cluster`, `diverged`, `error`), or tf.errors.OpError.
        """
        try:
            end = self._walk(plan)
        except TrainError:  # the same on all workers, at the same place
            self._agreement.farewell()
            raise
        self._agreement.farewell()
        return end

    def _walk(self, plan: int) -> WorkerExit:
        journey = self._journey
        self._meet(plan)
        self._control.training_began()
        while True:
            if journey.awaits_validation(self._schedule):
                self._close_epoch()
            if journey.step >= self._schedule.steps:
                self._checkpoint("end", self._saver.save)
                return WorkerExit.DONE
            if self._due:
                self._checkpoint(self._due, self._saver.save_or_go_on)
            self._due = ""
            if self._advance().stop:
                self._checkpoint("asked", self._saver.save)
                return WorkerExit.STOPPED

    def _meet(self, plan: int) -> None:
        """Traces with a chunk that has no step, and compares what the workers are about to do, and with what."""
        with self._progress.phase("trace"):
            self._stepper.chunk(self._journey.step, Word(0))
            self._plan = plan
            self._agreement.check(plan, self._journey.step)

    def _checkpoint(self, why: str, save: Callable[[Journey, str], None]) -> None:
        """All workers are here at the same step. They compare what they hold; then the chief saves it, by `save`.

        So does a rank on another host, if the plan says so; but a copy that cannot be written ends nobody.
        """
        began = time.monotonic()
        self._agreement.check(self._plan, self._journey.step)
        if self._settings.chief:
            save(self._journey, why)
        elif self._settings.saves:
            self._saver.save_or_go_on(self._journey, why)
        self._teller.saving_s += time.monotonic() - began

    def _advance(self) -> Agreed:
        journey = self._journey
        word = Word(
            self._pace.next_length(self._until()),
            stop=self._control.stop,
            asked=self._control.checkpoint,
            due=self._settings.chief and self._saver.is_due(self._settings.job.every.seconds),
            busy=self._saver.busy,
        )
        start = time.monotonic()
        agreed = self._stepper.chunk(journey.step, word)
        seconds = time.monotonic() - start
        if not agreed.finite:
            raise self._diverged(agreed)
        self._pace.measured(agreed.step - journey.step, seconds)
        if journey.step % self._schedule.steps_per_epoch == 0:
            journey.train_seconds = 0.0
        journey.train_seconds += seconds
        if agreed.step > journey.step and not self._made_a_step:
            self._made_a_step = True
            self._progress.write(records.PHASE, name="first_step", seconds=round(seconds, 4))
        journey.step, journey.loss_sum, journey.correct = agreed.step, agreed.loss_sum, agreed.correct
        self._teller.steps(journey)
        if agreed.checkpoint:
            self._due = agreed.checkpoint
            self._control.checkpoint_done()
        elif self._falls_due(self._settings.job.every.steps, journey.step) and not agreed.stop:
            self._due = "every"
        return agreed

    def _close_epoch(self) -> None:
        journey, images = self._journey, self._schedule.images
        start = time.monotonic()
        score = self._evaluator.evaluate(lambda: self._teller.still_here(journey))
        epoch = journey.step // self._schedule.steps_per_epoch
        entry: dict[str, Any] = {
            "epoch": epoch,
            "step": journey.step,
            "loss": journey.loss_sum / images,
            "accuracy": journey.correct / images if score.accuracy is not None else None,
            "val_loss": score.loss,
            "val_accuracy": score.accuracy,
            "seconds": round(journey.train_seconds + time.monotonic() - start, 3),
            "images_per_second": round(images / max(journey.train_seconds, 1e-9), 1),
        }
        if score.metrics:
            validated = {f"val_{name}": value for name, value in score.metrics.items()}
            entry["metrics"] = {**self._stepper.metrics(), **validated}
        journey.history.append(entry)
        self._progress.write(records.EPOCH, **entry)
        if self._falls_due(self._settings.job.every.epochs, epoch):
            self._due = "every"
        self._teller.resume(journey)

    def _until(self) -> int:
        """Steps to the next place where all must leave the device: an epoch's end, or a checkpoint's step."""
        step, every = self._journey.step, self._settings.job.every.steps
        left = self._schedule.left_in_epoch(step)
        return min(left, every - step % every) if every else left

    @staticmethod
    def _falls_due(every: int | None, count: int) -> bool:
        return every is not None and count > 0 and count % every == 0

    def _diverged(self, agreed: Agreed) -> TrainError:
        step = agreed.step + 1
        epoch = self._schedule.epoch_of(agreed.step)
        return TrainError(
            "diverged",
            f"loss or gradients of step {step} (epoch {epoch}) are not finite",
            hint=f"lower learning_rate (it is {self._settings.job.learning_rate})",
            step=step,
        )
