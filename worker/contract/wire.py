"""The byte stream between a coordinator and an agent.

The relay on the host first writes `MAGIC` (whatever a login banner wrote before it is skipped), then both sides send
frames: a length of four bytes, big-endian, and as many bytes of UTF-8 JSON, an object with a `type`, 1 MiB at most.

Order on a fresh stream:
  host → coordinator   MAGIC
  coordinator → relay  reach {folder, host, run, start, lease_s}     (the relay consumes it)
  host → coordinator   hello {…} from the agent, or absent {why} from the relay if there is none and start is false
  then any of the messages below, in both directions.
"""

from __future__ import annotations

import json
import struct
from typing import Any, Dict, List, Optional

MAJOR = 1
MAGIC = b"launcher-wire\n"
MAX_FRAME = 1 << 20
_LENGTH = struct.Struct(">I")

Message = Dict[str, Any]

# coordinator → host
REACH = "reach"  # folder, host, run, start: bool, lease_s: float; warm: which kept agent may serve, where one may
COMMAND = "command"  # term, optional since, lease_s: take the coordinator's place; answered by COMMANDED or REFUSED
RENEW = "renew"  # term, nonce: the lease runs from the moment that nonce was sent
START = "start"  # term, generation, keep, ranks: [rank order], timeouts: {stop_s, checkpoint_s, start_s, stall_s},
# until_home: bool, whether checkpoints beyond `keep` stay until they are home, as far as the disk has room;
# workers: of the whole cluster; zygote: bool, whether the trainer's ranks are forked off a process that has imported it
# how: "graceful" | "now" | "failed" | "stalled", reason: str, optional generation; needs no term.
# With "stalled", rank: the one that holds up the others, wherever it is
STOP = "stop"
STATUS = "status"  # answered by a fresh HELLO; needs no term
LEAVE = "leave"  # term: with no worker left, write down the end and go; keep_s: stay warm for so long, if all is well

# host → coordinator
HELLO = (
    # major, code, host, run, pid, boot_id, term, nonce, generation, alive: [rank], seq: last event's number,
    # busy: the generation has not ended, be it only that a checkpoint is being published
    "hello"
)
ABSENT = "absent"  # why, boot_id: no agent of this run is alive on this host
COMMANDED = "commanded"  # term, nonce, generation, alive, busy: as now, which no lower term can change any more
REFUSED = "refused"  # what: the refused message's type, why
EVENT = "event"  # event: one record of the agent's journal (see records); to the commander, all with seq > since
BEAT = "beat"  # nonce, generation, ranks: {rank: newest step record}, states: {rank: state}, once a second


class WireError(Exception):
    """The other side does not speak this protocol, or sent more than is allowed."""


def encode(message: Message) -> bytes:
    """One frame. Raises WireError if the message is over 1 MiB."""
    body = json.dumps(message, separators=(",", ":")).encode("utf-8")
    if len(body) > MAX_FRAME:
        raise WireError(f"a message of {len(body)} bytes, and {MAX_FRAME} are allowed")
    return _LENGTH.pack(len(body)) + body


class Decoder:
    """Bytes in, messages out, in whatever pieces they come. With `magic`, skips everything up to and with MAGIC."""

    def __init__(self, magic: bool = False) -> None:
        self._buffer = bytearray()
        self._awaits_magic = magic

    def feed(self, data: bytes) -> List[Message]:
        """The messages completed by `data`. Raises WireError on an oversized or malformed frame."""
        self._buffer += data
        if self._awaits_magic:
            if not skip_to_magic(self._buffer):
                return []
            self._awaits_magic = False
        messages: List[Message] = []
        while True:
            message = take(self._buffer)
            if message is None:
                return messages
            messages.append(message)

    @property
    def awaits_magic(self) -> bool:
        """True until the other side has said that it speaks this protocol."""
        return self._awaits_magic


def take(buffer: bytearray) -> Optional[Message]:
    """Take the first frame off the buffer; None if it is not whole yet. Raises WireError."""
    if len(buffer) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack_from(buffer)
    if length > MAX_FRAME:
        raise WireError(f"a frame of {length} bytes, and {MAX_FRAME} are allowed")
    end = _LENGTH.size + length
    if len(buffer) < end:
        return None
    body = bytes(buffer[_LENGTH.size : end])
    del buffer[:end]
    return _parse(body)


def skip_to_magic(buffer: bytearray) -> bool:
    """Drop everything up to and with MAGIC; False if it has not come yet."""
    found = buffer.find(MAGIC)
    if found < 0:
        # A banner may be long, but not endless; keep what could be the magic's first half.
        del buffer[: max(0, len(buffer) - len(MAGIC))]
        return False
    del buffer[: found + len(MAGIC)]
    return True


def _parse(body: bytes) -> Message:
    try:
        message = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise WireError("a frame that is not JSON") from error
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise WireError("a frame without a type")
    return message
