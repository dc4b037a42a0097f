"""How far a run has come: what is kept on the host beside the arrays, and travels in a checkpoint's state.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .order import Schedule

FORMAT = 1


@dataclass
class Journey:
    """Mutable: the loop moves it on. `step` is the number of whole steps done over all epochs."""

    step: int = 0
    loss_sum: float = 0.0  # over the images seen in the newest step's epoch
    correct: int = 0
    train_seconds: float = 0.0  # spent on steps of that epoch, over all generations
    history: list[dict[str, Any]] = field(default_factory=list)  # the fields of EPOCH, an entry for each whole epoch

    def epoch(self, schedule: Schedule) -> int:
        """The epoch (from 1) of the newest whole step; 1 before the first."""
        return schedule.epoch_of(max(self.step - 1, 0))

    def awaits_validation(self, schedule: Schedule) -> bool:
        """True when the steps of an epoch are done and the epoch is not in the history yet."""
        return self.step % schedule.steps_per_epoch == 0 and self.step // schedule.steps_per_epoch > len(self.history)

    def as_state(self) -> dict[str, Any]:
        """What state.json holds of it. A copy: it is written while the journey goes on."""
        return {"format": FORMAT, "history": list(self.history), "train_seconds": round(self.train_seconds, 3)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], arrays: Mapping[str, Any], schedule: Schedule) -> Journey:
        """The journey that a checkpoint holds. Raises ValueError for a state that does not fit its arrays."""
        history, seconds = state.get("history"), state.get("train_seconds")
        if state.get("format") != FORMAT or not isinstance(history, list) or not isinstance(seconds, (int, float)):
            raise ValueError(f"expected a state of format {FORMAT} with history and train_seconds")
        step = int(arrays["step"])
        whole, rest = divmod(step, schedule.steps_per_epoch)
        # At an epoch's end a rescue may come before the validation is in the history.
        if len(history) != whole and (rest or len(history) != whole - 1):
            raise ValueError(f"step {step} is in epoch {whole + 1}, and the history has {len(history)} epochs")
        return cls(
            step=step,
            loss_sum=float(arrays["epoch/loss_sum"]),
            correct=int(arrays["epoch/correct"]),
            train_seconds=float(seconds),
            history=[dict(entry) for entry in history],
        )
