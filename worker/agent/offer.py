"""How a run's start and an agent that is kept warm come together: over a socket of this user's, in four words.

relay → kept   adopt {folder, host, run, lease_s, warm, package, environ, circumstances}, with the new run's socket
kept → relay   willing {}, or refused {why}
relay → kept   go {}; if it does not come, the relay has given up waiting, and starts an agent of its own
"""

from __future__ import annotations

import array
import os
import socket
from typing import Callable, Dict, Optional

from ..contract import layout, wire
from ..contract.peers import peer_of
from .birth import Birth
from .circumstances import circumstances, unlike

PATIENCE_S = 3.0
_PIECE = 1 << 16


class OfferError(Exception):
    """It was refused."""


class Offer:
    """A run that is to be minded, and what the process that does so is to be like."""

    def __init__(self, listener: socket.socket, birth: Birth, package: str, environ: Dict[str, str]) -> None:
        self.listener = listener
        self.birth = birth
        self.package = package  # the folder of our package
        self.environ = environ


def offer(listener: socket.socket, birth: Birth, package: str) -> Optional[str]:
    """Hand a run to an agent that is kept for such runs. None: it has taken it. Else why not; empty: there is none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as kept:
        kept.settimeout(PATIENCE_S)
        try:
            kept.connect(layout.kept_socket(birth.warm))
        except ConnectionRefusedError:
            return ""
        except OSError as error:
            return f"the one that is kept warm cannot be reached: {error.strerror or error}"
        try:
            if not peer_of(kept).mine:
                return "another user has taken its name"
            about = {
                "type": "adopt",
                "folder": birth.folder,
                "host": birth.host,
                "run": birth.run,
                "lease_s": birth.lease_s,
                "warm": birth.warm,
                "package": package,
                "environ": dict(os.environ),
                "circumstances": circumstances(),
            }
            data = wire.encode(about)
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [listener.fileno()]))
            sent = kept.sendmsg([data], [rights])
            if sent < len(data):  # even nothing could not be sent to one that has refused and gone
                kept.sendall(data[sent:])
            answer = _receive(kept, b"")
            if answer is None or answer["type"] != "willing":
                return str((answer or {}).get("why", "the one that is kept warm has gone at this moment"))[:1000]
            kept.sendall(wire.encode({"type": "go"}))
        except socket.timeout:
            return "the one that is kept warm does not answer"
        except (OSError, wire.WireError) as error:
            return f"the one that is kept warm cannot be asked: {error}"
    return None


def take_offer(door: socket.socket, doubt: Callable[[str], str]) -> Optional[Offer]:
    """The next one that waits at the door; None if it was none, or was withdrawn. Takes a few seconds at most.

    `doubt` is given the hash of the package that is wanted, and says why it is not the right one. Raises OfferError: it
    was refused, so that there will be no other.
    """
    door.settimeout(0.0)
    try:
        client, _ = door.accept()
    except OSError:
        return None
    with client:
        client.settimeout(PATIENCE_S)
        try:
            if not peer_of(client).mine:
                return None
            room = socket.CMSG_SPACE(array.array("i").itemsize)
            data, ancillary, _, _ = client.recvmsg(_PIECE, room, socket.MSG_CMSG_CLOEXEC)
            found = [array.array("i", part)[0] for _, _, part in ancillary]
            if not found:
                return None
            with socket.socket(fileno=found[0]) as listener:
                message = _receive(client, data)
                if message is None or message["type"] != "adopt":
                    return None
                why = doubt(os.path.basename(message["package"])) or unlike(circumstances(), message["circumstances"])
                if why:
                    client.sendall(wire.encode({"type": "refused", "why": _told(why)}))
                    raise OfferError(why)
                made = _made(message, listener)
                client.sendall(wire.encode({"type": "willing"}))
                go = _receive(client, b"")
                if go is None or go["type"] != "go":
                    return None
                made.listener = listener.dup()
                return made
        except (OSError, wire.WireError, KeyError, TypeError, ValueError):
            return None


def _told(why: str) -> str:
    return why if why.startswith("it is") else f"it was started with other {why}"


def _made(message: wire.Message, listener: socket.socket) -> Offer:
    code = os.path.basename(message["package"])
    birth = Birth(
        str(message["folder"]),
        str(message["host"]),
        str(message["run"]),
        float(message["lease_s"]),
        code,
        str(message["warm"]),
    )
    environ = {str(name): str(value) for name, value in message["environ"].items()}
    return Offer(listener, birth, str(message["package"]), environ)


def _receive(peer: socket.socket, data: bytes) -> Optional[wire.Message]:
    """The next message; None if the other side has gone."""
    buffer = bytearray(data)
    while True:
        message = wire.take(buffer)
        if message is not None:
            return message
        piece = peer.recv(_PIECE)
        if not piece:
            return None
        buffer += piece
