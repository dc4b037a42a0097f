"""`python <worker folder> train`: one rank of the built-in trainer. Everything it needs to know is in the environment.

Ends with a WorkerExit. What TensorFlow needs lies behind the imports in `_run`, so that a wrong environment is told
before TensorFlow is loaded, and data are read while it is.
"""

from __future__ import annotations

import gc
import os
import sys
import time
import traceback
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..contract import names, records
from ..contract.states import WorkerExit
from . import settings as settings_
from .control import Control, leave
from .errors import TrainError
from .progress import Progress
from .settings import Settings
from .stacks import show_when_asked
from .words import say

if TYPE_CHECKING:
    from .inputs import Inputs
    from .stock import Stock

# gRPC would send the workers' talk to a proxy and hang; it reads this name first, and in lower case only:
# https://github.com/grpc/grpc/blob/master/doc/environment_variables.md
_NO_PROXY = "no_grpc_proxy"


@dataclass(frozen=True)
class Forked:
    """Of a process that a zygote has forked: the data set that it had read, and when the agent asked (monotonic)."""

    stock: Stock | None
    asked_at: float


def main(argv: list[str], forked: Forked | None = None) -> int:
    """Train one rank and end the process; returns only if the environment is unusable."""
    if argv:
        print(f"usage: python WORKER_FOLDER train, with {names.TF_CONFIG} and {names.TRAIN} set", file=sys.stderr)
        return 2
    try:
        settings = settings_.from_environment(os.environ)
        settings_.make_folders(settings)
    except TrainError as failure:
        path = os.environ.get(names.PROGRESS_FILE)
        if path:
            _tell(failure, Progress(path))
        say(_text(failure))
        return failure.exit_code
    if os.environ.get(names.STACKS_FILE):
        show_when_asked(os.environ[names.STACKS_FILE])
    control, progress = Control(), Progress(settings.progress)
    control.listen(settings.control_fd, lambda why: progress.write(records.GOING, why=why))
    leave(_run(settings, progress, control, forked))
    raise AssertionError("unreachable")


def _run(settings: Settings, progress: Progress, control: Control, forked: Forked | None) -> int:
    """The rank's life, every failure told. Returns the exit code."""
    try:
        return _train(settings, progress, control, forked)
    except TrainError as error:
        failure = error
    except Exception as error:
        traceback.print_exc()
        first = (str(error).strip() or type(error).__name__).splitlines()[0][:500]
        failure = TrainError("error", f"{type(error).__name__}: {first}", hint="see the log for where it happened")
    _tell(failure, progress)
    say(_text(failure))
    return failure.exit_code


def _train(settings: Settings, progress: Progress, control: Control, forked: Forked | None) -> WorkerExit:
    _prepare_environment(settings)
    if forked is not None:  # on the clock since the agent asked: it may have waited for the zygote's import
        progress.write(records.PHASE, name="fork", seconds=round(time.monotonic() - forked.asked_at, 4))
    with progress.phase("import"):
        reading = _start_reading(settings, forked.stock if forked else None)
        session = _import_session()
    with progress.phase("data") as told:  # what the import did not hide
        inputs = reading.result()
        told["in_all"] = round(inputs.seconds, 4)
    end = session.train(settings, inputs, progress, control)
    assert isinstance(end, WorkerExit)
    return end


def prepare_imports() -> None:
    """What must be set before NumPy and TensorFlow are loaded."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy computes nothing here that would need more


def _prepare_environment(settings: Settings) -> None:
    prepare_imports()
    excluded = os.environ.get(_NO_PROXY) or os.environ.get("no_proxy") or ""
    known = [host for host in excluded.split(",") if host]
    os.environ[_NO_PROXY] = ",".join(dict.fromkeys([*known, *settings.hosts]))


def _start_reading(settings: Settings, stock: Stock | None) -> Future[Inputs]:
    try:
        from .inputs import in_background
    except ImportError as error:
        raise _no_tensorflow(error) from error
    return in_background(settings.job.dataset, settings.job.dataset_path, settings.resume, stock)


def import_session() -> Any:
    """TensorFlow, Keras and all of the trainer. Raises ImportError.

    The collector would look through what is being loaded again and again, for a fifth of the time, and find nothing.
    """
    gc.disable()
    try:
        from . import session
    finally:
        gc.freeze()  # nor is it to look there later, where it would also copy pages that forked ranks share
        gc.enable()
    return session


def _import_session() -> Any:
    try:
        return import_session()
    except ImportError as error:
        raise _no_tensorflow(error) from error


def _no_tensorflow(error: ImportError) -> TrainError:
    return TrainError(
        "environment",
        f"TensorFlow, Keras or NumPy cannot be imported by {sys.executable}: {error}",
        hint="install `tensorflow` and `keras` for that Python, or name another one in `python:`",
    )


def _tell(failure: TrainError, progress: Progress) -> None:
    more = {"step": failure.step, "differs": failure.differs}
    known = {name: value for name, value in more.items() if value is not None}
    progress.write(records.FAILURE, reason=failure.reason, message=failure.message, hint=failure.hint, **known)


def _text(failure: TrainError) -> str:
    return failure.message + (f"\n  {failure.hint}" if failure.hint else "")
