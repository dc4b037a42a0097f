"""The one exception of the trainer, and the exit code that each reason has. Standard library only."""

from __future__ import annotations

from ..contract.states import WorkerExit

EXIT_OF = {
    "data": WorkerExit.NOT_FIT,
    "environment": WorkerExit.NOT_FIT,
    "cluster": WorkerExit.NOT_FIT,
    "port": WorkerExit.PORT_TAKEN,
    "diverged": WorkerExit.DIVERGED,
    "peer": WorkerExit.RESCUED,
    "error": WorkerExit.ERROR,
}


class TrainError(Exception):
    """Why this rank cannot go on. `reason` is a FAILURE record's; `hint` is the next step, in the imperative.

    `step` is the newest whole step, where it is known; `differs` is the first rank that is unlike the others, with
    `cluster`.
    """

    def __init__(
        self, reason: str, message: str, *, hint: str = "", step: int | None = None, differs: int | None = None
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.hint = hint
        self.step = step
        self.differs = differs

    @property
    def exit_code(self) -> WorkerExit:
        return EXIT_OF[self.reason]
