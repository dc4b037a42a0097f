"""Errands on the hosts of a spec, and the conversations with them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from types import MappingProxyType

from launcher.check.local import installed_code
from launcher.errors import NotFitError
from launcher.hosts.door import enter
from launcher.hosts.session import Session
from launcher.hosts.talk import Talk
from launcher.spec.model import ClusterSpec, HostSpec
from worker.contract import wire

_NONE: Mapping[str, Talk] = MappingProxyType({})


def begin(host: HostSpec, session: Session, verb: str) -> Talk:
    """An errand's conversation; close it when all is said. Raises NotFitError.

    On this machine the installed package runs, and nothing is brought anywhere.
    """
    if host.local:
        # Constant for this installation: nothing of it comes from a spec.
        channel = session.run(f"exec {shlex.quote(sys.executable)} -I -S {shlex.quote(installed_code())} {verb}")
    else:
        channel = enter(session, verb, workdir=host.workdir)
    return Talk(host.name, channel)


def answer(talk: Talk, kind: str, timeout_s: float) -> wire.Message:
    """The next message, which must be of that kind. Raises NotFitError."""
    frame = talk.receive(timeout_s=timeout_s)
    if frame is None or frame[0]["type"] != kind:
        what = "ended" if frame is None else f"said {str(frame[0]['type'])[:40]!r}"
        raise NotFitError(f"{talk.host} {what} where `{kind}` was expected", hint="run the command again")
    return frame[0]


class Visits:
    """A `check` errand on each host, begun when it is first needed and ended with the block.

    `open_already` are conversations that answer the same, and go on after it.
    """

    def __init__(
        self, spec: ClusterSpec, sessions: Mapping[str, Session], open_already: Mapping[str, Talk] = _NONE
    ) -> None:
        self.hosts = {host.name: host for host in spec.hosts if host.name in sessions}
        self._sessions = sessions
        self._open_already = open_already
        self._talks: dict[str, Talk] = {}

    def __enter__(self) -> Visits:
        return self

    def __exit__(self, *_: object) -> None:
        # All are told first, so that they end at the same time.
        for talk in self._talks.values():
            talk.end_input()
        for talk in self._talks.values():
            talk.close()

    def talk(self, name: str) -> Talk:
        """The conversation with a host: for one thread at a time for each. Raises NotFitError."""
        if name in self._open_already:
            return self._open_already[name]
        if name not in self._talks:
            self._talks[name] = begin(self.hosts[name], self._sessions[name], "check")
        return self._talks[name]
