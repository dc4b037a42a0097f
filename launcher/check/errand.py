"""Start an errand on a host of a spec and talk to it."""

from __future__ import annotations

import shlex
import sys

from launcher.check.local import installed_code
from launcher.hosts.door import enter
from launcher.hosts.session import Session
from launcher.hosts.talk import Talk
from launcher.spec.model import HostSpec


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
