"""A host's one conversation before a run: staged through, looked at, tried with all others; then its relay's stream."""

from __future__ import annotations

from dataclasses import dataclass

from launcher.hosts.door import open_door
from launcher.hosts.package import Package
from launcher.hosts.session import Channel, Session
from launcher.hosts.talk import Talk

VERB = "visit"


@dataclass(frozen=True)
class Visit:
    """An open one. What is asked over `talk` is answered by one process, which a `reach` makes the relay."""

    talk: Talk
    channel: Channel
    workdir: str  # absolute, there
    code: str  # the folder of our package, there
    python: str  # the version of its python3


def visit(session: Session, *, workdir: str, package: Package | None = None, verb: str = VERB) -> Visit:
    """Enter a host. Blocks. Raises NotFitError, see `door.open_door`."""
    entered = open_door(session, verb, workdir=workdir, package=package)
    talk = Talk(session.name, entered.channel)
    return Visit(talk, entered.channel, entered.workdir, entered.code, entered.python)
