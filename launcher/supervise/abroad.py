"""The machines of a run that has begun, found from its folder: for whoever comes later, its coordinator gone or not."""

from __future__ import annotations

import contextlib
import json
import posixpath
import select
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from launcher.errors import LauncherError, RunError
from launcher.gather.again import Source
from launcher.gather.copies import Copies
from launcher.hosts.base import RunOnHost, Stream
from launcher.hosts.ssh import SshHost
from launcher.plan.json_form import from_json
from launcher.runs.folder import RunFolder
from launcher.spec.model import ClusterSpec, HostSpec
from launcher.supervise.about import load_again, read_about
from launcher.supervise.foreground import Front
from worker.contract import wire

ANSWER_S = 10.0


@dataclass(frozen=True)
class FarHost:
    """A machine on which a run is, or was; `folder` is the run's there."""

    spec: HostSpec
    folder: str
    code: str

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def workdir(self) -> str:
        return posixpath.dirname(posixpath.dirname(self.folder))


def far_hosts(run: RunFolder) -> list[FarHost]:
    """The run's other machines, as its newest plan and its spec name them. Raises RunError if they cannot be read."""
    plans = sorted(run.path.glob("plan.g*.json"), key=lambda path: int(path.stem.rpartition("g")[2] or 0))
    if not plans:
        return []
    try:
        plan = from_json(json.loads(plans[-1].read_text()))
    except (OSError, ValueError) as error:
        raise RunError(f"{plans[-1]} cannot be read: {error}", hint="it says where the run's files are") from error
    away = [host for host in plan.hosts if not host.local and host.folder]
    if not away:
        return []
    specs = {host.name: host for host in _spec(run).hosts}
    return [
        FarHost(specs[host.name], host.folder, host.code or "")
        for host in away
        if host.name in specs and host.folder is not None
    ]


@contextlib.contextmanager
def reached(run: RunFolder, hosts: Sequence[FarHost], front: Front) -> Iterator[dict[str, SshHost]]:
    """The hosts, to be reached when they are first used; every connection ends with the block."""
    from launcher.hosts.reach import Reacher

    spec = _spec(run)
    with Reacher(connect_s=spec.timeouts.connect, ask=front.ask, say=front.say) as reacher:

        def host(far: FarHost) -> SshHost:
            return SshHost(far.spec, lambda: reacher.open(far.spec, bulk=True))

        made = {far.name: host(far) for far in hosts}
        try:
            yield made
        finally:
            for one in made.values():
                one.close()


def sources(run: RunFolder, hosts: Sequence[FarHost], made: dict[str, SshHost]) -> list[Source]:
    """From where the run's files are brought home."""
    return [
        Source(far.name, far.folder, run.host(far.name).root, made[far.name].session, far.workdir, closes=False)
        for far in hosts
    ]


def copies(run: RunFolder) -> Copies:
    """Which of the run's hosts brings what several of them have."""
    spec = _spec(run)
    homes = {host.name: run.host(host.name).root for host in spec.hosts}
    here = [host.name for host in spec.hosts if host.local]
    return Copies(homes, here, shared=spec.train is not None)


def stop_agents(run: RunFolder, how: str, by: str, front: Front) -> tuple[list[str], dict[str, str]]:
    """Ask the agents on other machines to stop, and wait until they have left.

    Returns the hosts whose agent was there, and why others could not be asked. Interrupted, it leaves them to it.
    """
    hosts = far_hosts(run)
    there: list[str] = []
    failed: dict[str, str] = {}
    if not hosts:
        return there, failed
    spec = _spec(run)
    longest = spec.timeouts.stop + 20.0 + (spec.timeouts.checkpoint if how == "graceful" else 0.0)
    with reached(run, hosts, front) as made:
        streams: dict[str, Stream] = {}
        for far in hosts:
            try:
                target = RunOnHost(run.name, far.name, far.folder, far.code, lease_s=0.0)
                streams[far.name] = made[far.name].open(target, start=False)
            except LauncherError as error:
                failed[far.name] = error.message
        for name, stream in streams.items():
            front.tell("asking", [name])
            try:
                if _asked(stream, how, by, spec.timeouts.connect + ANSWER_S):
                    there.append(name)
            except OSError as error:
                failed[name] = str(error)
            if name not in there and stream.complaint():
                failed[name] = stream.complaint()
        _await_ends({name: streams[name] for name in there}, front, time.monotonic() + longest)
        for stream in streams.values():
            stream.close()
    return there, failed


def end_kept(run: RunFolder, front: Front) -> list[str]:
    """End what the run has left warm on other machines; the hosts where there was something. One that cannot be reached
    is passed over: what is kept there ends when its time is up."""
    from launcher.supervise.living import KEPT, living

    try:
        hosts = far_hosts(run) if _spec(run).restart.keep_warm else []
    except LauncherError:
        return []
    with reached(run, hosts, front) as made:
        sessions = {}
        for far in hosts:
            with contextlib.suppress(LauncherError):
                sessions[far.name] = made[far.name].session()
        workdirs = {far.name: far.workdir for far in hosts}
        found, _ = living(workdirs, sessions, kill=lambda one: one.kind == KEPT and one.run == run.name)
    return [one.host for one in found if one.killed]


def _asked(stream: Stream, how: str, by: str, timeout_s: float) -> bool:
    """Whether an agent was there and has read the request."""
    deadline = time.monotonic() + timeout_s
    sent = False
    while (left := deadline - time.monotonic()) > 0:
        select.select([stream], [], [], left)
        messages, is_open = stream.receive()
        kinds = [message["type"] for message in messages]
        if wire.ABSENT in kinds:
            return False
        if sent and (messages or not is_open):
            return True
        if wire.HELLO in kinds:
            stream.send({"type": wire.STOP, "how": how, "reason": by})
            stream.send({"type": wire.STATUS})  # answered by a fresh hello: the stop before it was read
            sent = True
        if not is_open:
            return sent
    return False


def _await_ends(streams: dict[str, Stream], front: Front, deadline: float) -> None:
    waiting = dict(streams)
    while waiting and time.monotonic() < deadline:
        front.tell("stopping", list(waiting))
        ready, _, _ = select.select(list(waiting.values()), [], [], 0.5)
        for name, stream in list(waiting.items()):
            if stream in ready:
                try:
                    _, is_open = stream.receive()
                except (OSError, wire.WireError):
                    is_open = False
                if not is_open:
                    del waiting[name]


def _spec(run: RunFolder) -> ClusterSpec:
    return load_again(run, read_about(run)["overrides"])
