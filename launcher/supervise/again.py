"""Planning the next generation while the coordinator's loop goes on: facts, checkpoints and copies may take minutes."""

from __future__ import annotations

import contextlib
import errno
import queue
import socket
import threading
import time
from collections.abc import Callable

from launcher.errors import ApartError, LauncherError, NotFitError
from launcher.plan.model import LaunchPlan
from launcher.supervise.core.events import MakePlan, PlanFailed, PlanMade

Plan = Callable[[MakePlan], LaunchPlan]
_FULL = (errno.ENOSPC, errno.EDQUOT)
_RETRY_S = 1.0


class Planner:
    """One planning at a time, in a thread of its own. `fileno` is readable when `take` has an answer."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._answers: queue.SimpleQueue[PlanMade | PlanFailed] = queue.SimpleQueue()
        self._remarks: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)

    def fileno(self) -> int:
        return self._ours.fileno()

    def begin(self, wanted: MakePlan) -> None:
        """Plan; the answer comes later. The thread ends with the process, whatever it is doing."""
        threading.Thread(target=self._work, args=(wanted,), name="planning", daemon=True).start()

    def take(self) -> PlanMade | PlanFailed | None:
        """An answer, if there is one."""
        with contextlib.suppress(BlockingIOError):
            self._ours.recv(64)
        with contextlib.suppress(queue.Empty):
            return self._answers.get_nowait()
        return None

    def remarks(self) -> list[str]:
        """What a person should know, each told once."""
        found = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self._remarks.get_nowait())
        return found

    def close(self) -> None:
        self._ours.close()

    def _work(self, wanted: MakePlan) -> None:
        answer: PlanMade | PlanFailed
        try:
            answer = PlanMade(self._patiently(wanted))
        except LauncherError as error:
            # At a restart what does not fit now may fit later: a host may be coming back, a disk may be full.
            hosts = error.hosts if isinstance(error, NotFitError) else frozenset()
            apart = isinstance(error, ApartError)
            answer = PlanFailed(error.message, error.hint, fatal=not wanted.onward, hosts=hosts, apart=apart)
        except Exception as error:  # a defect must not leave the run without an answer
            answer = PlanFailed(f"planning failed: {type(error).__name__}: {error}", "see coordinator.log", fatal=True)
        self._answers.put(answer)
        with contextlib.suppress(OSError):
            self._theirs.send(b".")

    def _patiently(self, wanted: MakePlan) -> LaunchPlan:
        """The plan; a full disk at home is waited for, as everything does that comes home. A stop ends the process."""
        told = False
        while True:
            try:
                return self._plan(wanted)
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                if not told:
                    where = f" at {error.filename}" if error.filename else " on this machine"
                    self._remarks.put(f"no space left{where}: the next generation begins when there is room")
                told = True
                time.sleep(_RETRY_S)
