"""The states of a run and of a rank, and the exit codes: one list, the same in journal, `--json` and docs."""

from __future__ import annotations

from enum import Enum, IntEnum


class _Described(str, Enum):
    """A string enum whose members carry a line of prose."""

    prose: str

    def __new__(cls, value: str, prose: str) -> "_Described":
        member = str.__new__(cls, value)
        member._value_ = value
        member.prose = prose
        return member

    def __str__(self) -> str:
        return str(self._value_)


class RunState(_Described):
    """Where a run is in its life."""

    PREPARING = "preparing", "the plan is made, hosts are reached and code is staged"
    STARTING = "starting", "workers are starting and have not finished a first step"
    TRAINING = "training", "steps are being done"
    RESTARTING = (
        "restarting",
        "a generation has ended, and the run goes on; the next one is being prepared from the newest whole step",
    )
    STOPPING = "stopping", "workers were asked to stop and save what they have"
    TRAINED = "trained", "ended: everything that the spec asks for was done"
    FAILED = "failed", "ended: something died or went wrong; the report names the cause"
    FAULTY = "faulty", "ended: the same error came twice at the same step; started again it would come again"
    STOPPED = "stopped", "ended because someone asked for it; `resume` goes on from its checkpoint"
    PARKED = (
        "parked",
        "ended safely because a host had to go, or the lease ran out without a coordinator; `resume` goes on",
    )
    NOT_FIT = "not fit", "ended before training: a host or the data is not what the plan needs"


RUN_ALIVE = frozenset(
    {RunState.PREPARING, RunState.STARTING, RunState.TRAINING, RunState.RESTARTING, RunState.STOPPING}
)
RUN_ENDED = frozenset(RunState) - RUN_ALIVE
RUN_RESUMABLE = frozenset({RunState.FAILED, RunState.FAULTY, RunState.STOPPED, RunState.PARKED})


class RankState(_Described):
    """Where one worker of a generation is in its life."""

    PENDING = "pending", "not started yet"
    STARTING = "starting", "its process lives and has not finished a first step"
    TRAINING = "training", "it has finished at least one step (a program: it runs)"
    STOPPING = "stopping", "it was asked to stop, or is being ended"
    FINISHED = "finished", "ended by itself with exit code 0"
    RESCUED = "rescued", "a peer died; it saved the newest whole step and left"
    STOPPED = "stopped", "ended because it was asked to"
    ENDED = "ended", "ended by its agent after another rank had failed: a victim, never a cause"
    FAILED = "failed", "ended by itself with an exit code that is not 0, or by a signal of somebody else's"
    UNKILLABLE = "unkillable", "still there ten seconds after SIGKILL"


RANK_ALIVE = frozenset({RankState.STARTING, RankState.TRAINING, RankState.STOPPING, RankState.UNKILLABLE})
RANK_ENDED = frozenset({RankState.FINISHED, RankState.RESCUED, RankState.STOPPED, RankState.ENDED, RankState.FAILED})


class ExitCode(IntEnum):
    """What `launcher up`, `attach` and `resume` exit with."""

    TRAINED = 0
    FAILED = 1
    BAD_SPEC = 2
    NOT_FIT = 3
    FAULTY = 70  # EX_SOFTWARE of sysexits.h: a batch system need not try again
    PARKED = 75
    INTERRUPTED = 130


EXIT_CODE_OF = {
    RunState.TRAINED: ExitCode.TRAINED,
    RunState.FAILED: ExitCode.FAILED,
    RunState.FAULTY: ExitCode.FAULTY,
    RunState.STOPPED: ExitCode.INTERRUPTED,
    RunState.PARKED: ExitCode.PARKED,
    RunState.NOT_FIT: ExitCode.NOT_FIT,
}


class WorkerExit(IntEnum):
    """What a trainer's process exits with, so that its end can be told from the code alone."""

    DONE = 0
    ERROR = 1
    RESCUED = 81  # a collective broke; the newest whole step is saved
    STOPPED = 82  # asked to stop; a checkpoint is saved
    DIVERGED = 83  # the loss is not finite any more
    NOT_FIT = 84  # data or environment are not what the plan says; no training was done
    PORT_TAKEN = 85  # TensorFlow's server could not have its port
