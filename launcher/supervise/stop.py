"""Stop a run from any terminal: through its coordinator, or, if that is dead, through the agents themselves."""

from __future__ import annotations

import select
import time

from launcher.errors import LauncherError
from launcher.hosts.base import RunOnHost, Stream
from launcher.hosts.local import LocalHost
from launcher.runs.folder import RunFolder
from launcher.supervise import control
from worker.contract import wire

ANSWER_S = 5.0


def stop(run: RunFolder, how: str, by: str) -> bool:
    """Ask the run to stop; returns once somebody has heard it, False if nobody is there to hear."""
    if control.ask_to_stop(run, how, by):
        return True
    return bool(stop_agents(run, how, by))


def stop_agents(run: RunFolder, how: str, by: str) -> list[str]:
    """Ask the agents of a run without a coordinator to stop; returns the hosts whose agent was there."""
    if not run.hosts.is_dir():
        return []
    return [folder.name for folder in sorted(run.hosts.iterdir()) if _stop_agent(run, folder.name, how, by)]


def _stop_agent(run: RunFolder, host: str, how: str, by: str) -> bool:
    codes = sorted((run.hosts / host / "code").glob("[0-9a-f]*"))
    if not codes:
        return False
    target = RunOnHost(run.name, host, run.host(host).root, str(codes[-1]), lease_s=0.0)
    try:
        stream = LocalHost(host).open(target, start=False)
    except LauncherError:
        return False
    try:
        deadline = time.monotonic() + ANSWER_S
        while (left := deadline - time.monotonic()) > 0:
            select.select([stream], [], [], left)
            messages, is_open = stream.receive()
            kinds = {message["type"] for message in messages}
            if wire.HELLO in kinds:
                stream.send({"type": wire.STOP, "how": how, "reason": by})
                # A fresh hello in answer to `status` says that the stop before it was read.
                stream.send({"type": wire.STATUS})
                return _answered(stream, deadline)
            if wire.ABSENT in kinds or not is_open:
                return False
    except (OSError, wire.WireError):
        return False
    finally:
        stream.close()
    return False


def _answered(stream: Stream, deadline: float) -> bool:
    while (left := deadline - time.monotonic()) > 0:
        select.select([stream], [], [], left)
        messages, is_open = stream.receive()
        if messages or not is_open:
            return True
    return False
