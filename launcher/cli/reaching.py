"""Sessions to the hosts of a spec, for verbs that look at hosts from the terminal they were typed in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from launcher.errors import LauncherError
    from launcher.hosts.session import Session
    from launcher.spec.model import ClusterSpec
    from launcher.view.waiting import Waiting


@contextmanager
def sessions_of(spec: ClusterSpec, waiting: Waiting) -> Iterator[tuple[dict[str, Session], dict[str, LauncherError]]]:
    """({host: its session}, {host: why there is none}); all are closed at the end. A passphrase is asked for here."""
    from launcher.hosts.local_session import LocalSession

    with ExitStack() as stack:
        sessions: dict[str, Session] = {host.name: LocalSession(host.name) for host in spec.hosts if host.local}
        failed: dict[str, LauncherError] = {}
        if len(sessions) < len(spec.hosts):
            failed = _over_ssh(spec, sessions, stack, waiting)
        for session in sessions.values():
            stack.callback(session.close)
        yield sessions, failed


def _over_ssh(
    spec: ClusterSpec, sessions: dict[str, Session], stack: ExitStack, waiting: Waiting
) -> dict[str, LauncherError]:
    from launcher.check.many import each
    from launcher.errors import NotFitError
    from launcher.hosts.reach import Reacher, reach

    hosts = {host.name: host for host in spec.hosts if not host.local}
    reacher = stack.enter_context(Reacher(connect_s=spec.timeouts.connect, ask=waiting.ask, say=waiting.say))

    def open_one(name: str) -> Session:
        found = reach([hosts[name]], reacher)[name]
        if isinstance(found, NotFitError):
            raise found
        return found

    reached, failed = each(list(hosts), open_one, what="reaching", tell=waiting.tell)
    sessions.update(reached)
    return failed
