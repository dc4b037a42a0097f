"""How a host lets us in: one constant command line; what is to be done there goes over its standard input."""

from __future__ import annotations

from pathlib import Path

from launcher.hosts.session import Channel, Session


def enter(session: Session, verb: str, *, workdir: str) -> Channel:  # noqa: ARG001
    """Start `python <our staged package> VERB` on a host and return its channel; nothing has been read from it yet.

    Our package is brought to `<workdir>/code/<hash>` if it is not there, or not intact, before the verb starts.
    Raises NotFitError: no Python, one too old, the disk is full, the connection broke.
    """
    import worker

    # Stand-in until the door is built: the package as it is installed on this machine.
    code = Path(worker.__file__).parent.absolute()
    return session.run(f"exec python3 -I -S {code} {verb}")
