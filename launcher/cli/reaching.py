"""Sessions to the hosts of a spec, for verbs that look at hosts from the terminal they were typed in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from launcher.check.many import Tell
    from launcher.errors import LauncherError
    from launcher.hosts.session import Session
    from launcher.spec.model import ClusterSpec

Reached = tuple["dict[str, Session]", "dict[str, LauncherError]"]


@contextmanager
def sessions_of(spec: ClusterSpec, *, tell: Tell) -> Iterator[Reached]:
    """({host: its session}, {host: why there is none}); all are closed at the end."""
    from launcher.errors import UsageError
    from launcher.hosts.local_session import LocalSession

    remote = [host.name for host in spec.hosts if not host.local]
    if remote:
        raise UsageError(
            f"hosts over SSH are not available yet: {', '.join(remote)}",
            hint="use `local: true` hosts; `launcher plan` shows what such a cluster would do",
        )
    with ExitStack() as stack:
        sessions: dict[str, Session] = {host.name: LocalSession(host.name) for host in spec.hosts}
        for session in sessions.values():
            stack.callback(session.close)
        tell("reaching", [])
        yield sessions, {}
