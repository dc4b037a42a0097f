"""Asking a zygote that an earlier run has left whether it is still what a fresh one would be."""

from __future__ import annotations

import json
import os
from typing import Mapping

from ..contract import names
from . import origin as origins
from .forks import send
from .kept import Kept
from .origin import Origin
from .spawn import open_log


def ask(kept: Kept, wanted: Origin, env: Mapping[str, str], log: str) -> str:
    """Ask it: it answers on its channel. Otherwise why it cannot serve, without asking it."""
    why = origins.unlike(kept.zygote.origin, wanted)
    if why:
        return why
    about = {**origins.marks_of(env), names.TRAIN: env.get(names.TRAIN, "")}
    try:
        descriptor = open_log(log)
        try:
            send(kept.zygote.channel, json.dumps({"adopt": about, "code": wanted.argv[1]}).encode(), [descriptor])
        finally:
            os.close(descriptor)
    except OSError as error:
        return f"it cannot be asked: {error.strerror}"
    return ""
