"""Planning the next generation while the coordinator's loop goes on: facts, checkpoints and copies may take minutes."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
from collections.abc import Callable

from launcher.errors import LauncherError, NotFitError
from launcher.plan.model import LaunchPlan
from launcher.supervise.events import MakePlan, PlanFailed, PlanMade

Plan = Callable[[MakePlan], LaunchPlan]


class Planner:
    """One planning at a time, in a thread of its own. `fileno` is readable when `take` has an answer."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._answers: queue.SimpleQueue[PlanMade | PlanFailed] = queue.SimpleQueue()
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

    def close(self) -> None:
        self._ours.close()

    def _work(self, wanted: MakePlan) -> None:
        answer: PlanMade | PlanFailed
        try:
            answer = PlanMade(self._plan(wanted))
        except LauncherError as error:
            # At a restart what does not fit now may fit later: a host may be coming back, a disk may be full.
            hosts = error.hosts if isinstance(error, NotFitError) else frozenset()
            answer = PlanFailed(error.message, error.hint, fatal=not wanted.onward, hosts=hosts)
        except Exception as error:  # a defect must not leave the run without an answer
            answer = PlanFailed(f"planning failed: {type(error).__name__}: {error}", "see coordinator.log", fatal=True)
        self._answers.put(answer)
        with contextlib.suppress(OSError):
            self._theirs.send(b".")
