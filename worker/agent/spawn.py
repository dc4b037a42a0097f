"""Starts a rank's process: a fork and an exec by hand, so that a program on a slow disk does not hold up the agent.

The child's last words come over a pipe that its exec closes: nothing at all, or why it could not be started.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
from typing import Dict, Mapping, Optional, Tuple

from ..contract import names
from ..contract.layout import HostFolder
from . import processes
from .orders import RankOrder

MOST_WORDS = 4096


class SpawnError(Exception):
    """The rank cannot be started; `hint` is the next step."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Child:
    """A rank's process. Both descriptors are non-blocking and the agent's to close; `words`: at its end of file, the
    exec has succeeded."""

    def __init__(self, pid: int, start_time: int, words: int, control: Optional[int]) -> None:
        self.pid = pid
        self.start_time = start_time
        self.words = words
        self.control = control


def spawn(order: RankOrder, generation: int, place: HostFolder, mark: str, environ: Mapping[str, str]) -> Child:
    """Fork the rank's process; it has its own session, dies with us, and has no descriptor of ours. Raises SpawnError.

    To be called from the main thread: the death of the thread that forked would end the child.
    """
    try:
        for folder in (place.rank_tmp, place.rank_checkpoints, place.rank_output):
            os.makedirs(folder(generation, order.rank), 0o700, exist_ok=True)
        path = place.log(generation, order.rank)
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _failure(error, f"its folder {place.generation(generation)!r} cannot be made") from error
    try:
        return _fork(order, environment(order, generation, place, mark, environ), log)
    except OSError as error:
        raise _failure(error, "no process could be started for it") from error
    finally:
        os.close(log)


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


def _fork(order: RankOrder, env: Dict[str, str], log: int) -> Child:
    words, childs_words = os.pipe()
    control: Tuple[int, ...] = os.pipe() if order.message else ()
    agent = os.getpid()
    try:
        pid = os.fork()
    except OSError:
        for descriptor in (words, childs_words, *control):
            os.close(descriptor)
        raise
    if pid == 0:
        _become(order, env, log, childs_words, control[0] if control else None, agent)
    os.close(childs_words)
    if control:
        os.close(control[0])
        os.set_blocking(control[1], False)
    os.set_blocking(words, False)
    process = processes.look_up(pid)
    return Child(pid, process.start_time if process else 0, words, control[1] if control else None)


def _become(order: RankOrder, env: Dict[str, str], log: int, words: int, control: Optional[int], agent: int) -> None:
    what = "its process could not be prepared"
    try:
        os.setsid()
        processes.prctl(processes.PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != agent:  # it died before the line above: nobody would tell us
            os._exit(1)
        _reset_signals()
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        if control is not None:
            os.set_inheritable(control, True)
            env[names.CONTROL_FD] = str(control)
        what = f"its working directory {order.cwd!r} cannot be entered"
        os.chdir(order.cwd)
        what = f"its program {order.argv[0]!r} cannot be started"
        os.execvpe(order.argv[0], list(order.argv), env)
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
