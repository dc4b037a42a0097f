"""What an agent says to its warden: which name, if any, the warden holds beside it until nothing of the run is left."""

from __future__ import annotations

import array
import socket
from typing import Optional, Tuple

_HOLD, _FREE = b"hold", b"free"


def hold(warden: socket.socket, listener: socket.socket) -> None:
    """From the agent: this is the name to be held from now on. Raises OSError."""
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [listener.fileno()]))
    warden.sendmsg([_HOLD], [rights])


def free(warden: socket.socket) -> None:
    """From the agent: no name is to be held. Raises OSError."""
    warden.send(_FREE)


def heard(ours: socket.socket, held: Optional[socket.socket]) -> Tuple[Optional[socket.socket], bool]:
    """(The name to be held, whether the agent is still there to say another), after all that it has said."""
    room = socket.CMSG_SPACE(array.array("i").itemsize)
    while True:
        try:
            word, ancillary, _, _ = ours.recvmsg(len(_HOLD), room, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return held, True
        except OSError:
            return held, False
        if not word:
            return held, False
        if held is not None:
            held.close()
            held = None
        for _, _, data in ancillary:
            held = socket.socket(fileno=array.array("i", data)[0])
