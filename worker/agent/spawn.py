"""Starts a process by hand, a fork and an exec, so that a program on a slow disk does not hold up the agent.

The child's last words come over a pipe that its exec closes: nothing at all, or why it could not be started.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
from typing import Dict, Mapping, NoReturn, Optional, Tuple

from ..contract import names
from ..contract.layout import HostFolder
from ..contract.value import Value
from . import processes
from .orders import RankOrder

MOST_WORDS = 4096


class SpawnError(Exception):
    """The rank cannot be started; `hint` is the next step."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Berth:
    """What is there for a rank before its process is. The agent closes `log` and `listens` once it is on its way."""

    def __init__(self, env: Dict[str, str], log: int, listens: Optional[int], control: Optional[int]) -> None:
        self.env = env
        self.log = log
        self.listens = listens  # the rank's end of its control pipe
        self.control = control  # our end of it; non-blocking

    def close(self) -> None:
        """May be called twice; leaves `control` open."""
        for descriptor in (self.log, self.listens):
            if descriptor is not None and descriptor >= 0:
                os.close(descriptor)
        self.log, self.listens = -1, None


class Child:
    """A process that has been started. `words` is non-blocking and the agent's to close: at its end of file, the exec
    has succeeded."""

    def __init__(self, pid: int, start_time: int, words: int) -> None:
        self.pid = pid
        self.start_time = start_time
        self.words = words


class Inherited(Value):
    """A descriptor that goes to the program, and the variable that tells it the number."""

    variable: str
    descriptor: int


class Program(Value):
    """What is to be executed."""

    argv: Tuple[str, ...]
    cwd: str
    env: Dict[str, str]
    log: int
    inherits: Optional[Inherited] = None


def prepare(order: RankOrder, generation: int, place: HostFolder, mark: str, environ: Mapping[str, str]) -> Berth:
    """Make a rank's folders, its log and its control pipe. Raises SpawnError."""
    try:
        for folder in (place.rank_tmp, place.rank_checkpoints, place.rank_output):
            os.makedirs(folder(generation, order.rank), 0o700, exist_ok=True)
        log = open_log(place.log(generation, order.rank))
    except OSError as error:
        raise _failure(error, f"its folder {place.generation(generation)!r} cannot be made") from error
    env = environment(order, generation, place, mark, environ)
    if not order.message:
        return Berth(env, log, None, None)
    env[names.STACKS_FILE] = place.stacks(generation, order.rank)
    try:
        listens, control = os.pipe()
    except OSError as error:
        os.close(log)
        raise _failure(error, "no process could be started for it") from error
    os.set_blocking(control, False)
    return Berth(env, log, listens, control)


def spawn(order: RankOrder, berth: Berth) -> Child:
    """Fork the rank's process; it has its own session, dies with us, and has no descriptor of ours. Raises SpawnError.

    To be called from the main thread: the death of the thread that forked would end the child.
    """
    inherits = None if berth.listens is None else Inherited(names.CONTROL_FD, berth.listens)
    try:
        return start(Program(order.argv, order.cwd, dict(berth.env), berth.log, inherits))
    except OSError as error:
        raise _failure(error, "no process could be started for it") from error


def start(program: Program) -> Child:
    """Fork and execute a program; as `spawn`, but raises OSError if there can be no further process."""
    words, childs_words = os.pipe()
    agent = os.getpid()
    try:
        pid = os.fork()
    except OSError:
        os.close(words)
        os.close(childs_words)
        raise
    if pid == 0:
        _become(program, childs_words, agent)
    os.close(childs_words)
    os.set_blocking(words, False)
    process = processes.look_up(pid)
    return Child(pid, process.start_time if process else 0, words)


def open_log(path: str) -> int:
    """For appending, never through a link. Raises OSError."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def environment(
    order: RankOrder, generation: int, place: HostFolder, mark: str, environ: Mapping[str, str]
) -> Dict[str, str]:
    """The agent's own environment, without what another launcher's run left in it, and what the order adds."""
    inherited = {key: value for key, value in environ.items() if not key.startswith("LAUNCHER_")}
    for name in (names.TF_CONFIG, *order.unset):
        inherited.pop(name, None)
    tmp = place.rank_tmp(generation, order.rank)
    return {**inherited, **order.env, **order.secrets, "TMPDIR": tmp, names.MARK: mark}


def last_words(text: bytes) -> SpawnError:
    """What a child that could not exec said."""
    try:
        said = json.loads(text.decode("utf-8"))
        return _failure(OSError(said["errno"], said["strerror"]), str(said["what"]))
    except (ValueError, KeyError, TypeError):
        return SpawnError("it ended before its program could be started", "see its log and the host's")


def _failure(error: OSError, what: str) -> SpawnError:
    hints = {
        errno.ENOENT: "check that the path is right and that it exists on this host",
        errno.ENOTDIR: "check that the path is right and that it exists on this host",
        errno.EACCES: "check its permissions: a program must be executable (chmod +x)",
        errno.ENOEXEC: "a script must begin with a line like #!/bin/sh",
        errno.ENOSPC: "make room on the disk",
        errno.EDQUOT: "make room within the quota",
        errno.E2BIG: "argv and environment are too long for this system",
        errno.EAGAIN: "the limit of processes is reached (ulimit -u)",
    }
    return SpawnError(f"{what}: {error.strerror}", hints.get(error.errno or 0, ""))


def _become(program: Program, words: int, agent: int) -> NoReturn:
    what = "its process could not be prepared"
    try:
        os.setsid()
        processes.prctl(processes.PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != agent:  # it died before the line above: nobody would tell us
            os._exit(1)
        _reset_signals()
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(program.log, 1)
        os.dup2(program.log, 2)
        env = program.env
        if program.inherits is not None:
            os.set_inheritable(program.inherits.descriptor, True)
            env[program.inherits.variable] = str(program.inherits.descriptor)
        what = f"its working directory {program.cwd!r} cannot be entered"
        os.chdir(program.cwd)
        what = f"its program {program.argv[0]!r} cannot be started"
        os.execvpe(program.argv[0], list(program.argv), env)
    except BaseException as error:
        code, text = (error.errno, error.strerror) if isinstance(error, OSError) else (0, repr(error))
        said = json.dumps({"errno": code, "strerror": text, "what": what[: MOST_WORDS // 12]})
        with contextlib.suppress(OSError):
            os.write(words, said.encode("utf-8"))
    finally:
        os._exit(127)


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    # What is handled is reset by the exec; what is ignored stays ignored, unless it is said.
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
