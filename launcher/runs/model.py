"""One view model for a run and for what belongs to it: the same values are shown as table, JSON and live screen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from launcher.runs.copies import Divergence
from launcher.runs.ledger import Booking
from worker.contract.states import RUN_ALIVE, RankState, RunState


@dataclass(frozen=True)
class RankView:
    """One worker of the newest generation. `pid` is that of a living process only."""

    rank: int
    host: str
    state: RankState = RankState.PENDING
    pid: int | None = None
    epoch: int | None = None
    step: int | None = None  # whole steps done over all epochs
    steps: int | None = None  # in all
    loss: float | None = None
    images_per_second: float | None = None
    exit_code: int | None = None
    signal: str | None = None
    phases: tuple[tuple[str, float], ...] = ()  # what the start was spent on, in seconds
    log: str = ""


@dataclass(frozen=True)
class EpochView:
    """One epoch of the run's lineage: what a later generation did again stands for what an earlier one did."""

    epoch: int
    generation: int
    step: int | None = None  # steps done at its end, over all epochs
    loss: float | None = None
    accuracy: float | None = None
    val_loss: float | None = None
    val_accuracy: float | None = None
    seconds: float | None = None
    images_per_second: float | None = None
    metrics: Mapping[str, float | None] = field(default_factory=dict)  # the model's own, those of validation as `val_…`


@dataclass(frozen=True)
class GenerationView:
    """One life of the cluster."""

    generation: int
    started_at: float | None
    resumes: str = ""  # the checkpoint it started from, or empty
    reason: str = ""  # why it ended, when somebody said so
    ranks: tuple[tuple[int, str], ...] = ()  # (rank, host), in rank order
    without: Mapping[str, str] = field(default_factory=dict)  # hosts of the run that have no ranks in it → why


@dataclass(frozen=True)
class FailureView:
    """A failure, or a `planned` end, that was answered with another generation. Times in seconds."""

    generation: int
    message: str
    at: float | None = None
    pause_s: float = 0.0
    planned: bool = False


@dataclass(frozen=True)
class CheckpointView:
    """A checkpoint that is published and not pruned."""

    name: str
    host: str
    rank: int
    step: int
    epoch: int | None
    why: str
    path: str
    in_doubt: bool = False  # its copies differ, or it came after one whose copies do: `resume` passes it over


@dataclass(frozen=True)
class Cause:
    """Why a run failed: the first thing that went wrong, never a victim of it. `rank` is None when it was no worker."""

    rank: int | None
    host: str
    generation: int
    how: str  # "exit code 3", "SIGKILL", …
    message: str = ""
    hint: str = ""
    log: str = ""
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Alive:
    """Who lives, as found out from this machine: pids, None for gone, 0 for there but too busy to be asked.

    A host that is missing in `agents` is another machine: not known. `process(host, pid, start_time)` is asked only of
    workers whose agent is gone.
    """

    coordinator: int | None = None
    agents: Mapping[str, int | None] = field(default_factory=dict)
    process: Callable[[str, int, int], bool] = lambda host, pid, start_time: False  # noqa: ARG005

    def agent_is_gone(self, host: str) -> bool:
        return host in self.agents and self.agents[host] is None


@dataclass(frozen=True)
class RunView:
    """All that can be told of a run from its files and from who lives. Times are seconds since 1970."""

    run: str
    path: str
    state: RunState
    reason: str = ""
    started_at: float | None = None
    ended_at: float | None = None
    coordinator_pid: int | None = None
    by_agents: bool = False  # no coordinator lives or has told the end: the state is from the agents' journals
    term: int = 0
    generation: int = 0
    workers: int | None = None
    epochs_planned: int | None = None
    ranks: tuple[RankView, ...] = ()
    epochs: tuple[EpochView, ...] = ()
    generations: tuple[GenerationView, ...] = ()
    failures: tuple[FailureView, ...] = ()  # those after which it went on by itself
    checkpoints: tuple[CheckpointView, ...] = ()
    divergences: tuple[Divergence, ...] = ()  # the first of each generation that has one
    test_loss: float | None = None
    test_accuracy: float | None = None
    time_to_first_step_s: float | None = None
    model: str | None = None
    exit_code: int | None = None
    cause: Cause | None = None
    agents: Mapping[str, int | None] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()  # what the coordinator had to say beside all this
    unreachable: Mapping[str, str] = field(default_factory=dict)  # host → why: what is told of it may be old
    booking: Booking | None = None  # what its time was spent on, if that was asked for

    @property
    def ended(self) -> bool:
        return self.state not in RUN_ALIVE

    @property
    def without(self) -> Mapping[str, str]:
        """The run's hosts that have no ranks in the newest generation, and why."""
        return self.generations[-1].without if self.generations else {}

    @property
    def newest_checkpoint(self) -> CheckpointView | None:
        """The newest one that `resume` may go on from, as far as the journals tell."""
        return next((c for c in reversed(self.checkpoints) if not c.in_doubt), None)
