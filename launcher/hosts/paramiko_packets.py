"""Reading packets: data of a channel goes from the decrypted packet to the channel's inbox.

paramiko asks the socket twice for each packet and copies what it brought several times, which for a large file was much
of what this process did. Here a socket is asked for all that it has. Only AES-GCM takes this short way,
and of its packets only data for a channel that is open; the rest goes as paramiko has it.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import paramiko
from paramiko.common import MSG_CHANNEL_DATA, xffffffff
from paramiko.packet import NeedRekeyException, Packetizer

from launcher.hosts.paramiko_inbox import Inbox

_LEAST_ROOM, _MOST_ROOM = 1 << 16, 1 << 18  # what a socket is asked for; more where it has more
_MOST_IN_PACKET = 1 << 20  # we allow 256 KB and what is around them
_TAG = 16
_SIZE = struct.Struct(">I")
_DATA = struct.Struct(">BBII")  # how much padding, the message's kind, the channel, how much data


class Packets(Packetizer):
    """The packets of one connection. Only one thread reads."""

    # A key exchange that paramiko starts itself can lock up, or cut a stream short, if a channel is closed meanwhile.
    # So we leave it to the server; these are the limits of RFC 4344 for AES, with a margin.
    REKEY_BYTES = 1 << 35
    REKEY_PACKETS = 1 << 31
    heard_at = 0.0  # when something came last

    if TYPE_CHECKING:  # what is used of paramiko's inside
        _Packetizer__aead_in: bool
        _Packetizer__block_engine_in: Any
        _Packetizer__closed: bool
        _Packetizer__compress_engine_in: Any
        _Packetizer__dump_packets: bool
        _Packetizer__iv_in: bytes
        _Packetizer__need_rekey: bool
        _Packetizer__received_bytes: int
        _Packetizer__received_packets: int
        _Packetizer__remainder: bytes
        _Packetizer__sequence_number_in: int
        _check_keepalive: Callable[[], None]
        _inc_iv_counter: Callable[[bytes], bytes]
        _trigger_rekey: Callable[[], None]

    def __init__(self, sock: Any) -> None:
        super().__init__(sock)
        self._carrier = sock
        self._socket = sock if isinstance(sock, socket.socket) else None
        self._buffer = memoryview(bytearray(_LEAST_ROOM))
        self._start = self._end = 0  # where in it lies what has come and has not been read
        self._greeted = False
        self.inbox_of: Callable[[int], Inbox | None] = lambda _: None  # where the data of a channel may go now

    def start_handshake(self, timeout: float) -> None:
        self._greeted = False
        super().start_handshake(timeout)

    def complete_handshake(self) -> None:
        # paramiko does this after every message, and cancels a timer each time.
        if not self._greeted:
            self._greeted = True
            super().complete_handshake()

    def read_message(self) -> tuple[int, paramiko.Message]:
        """The next message that no inbox takes. Blocks. Raises what paramiko's does."""
        while self._goes_short:
            number = self._Packetizer__sequence_number_in
            packet = self._decrypted()
            padding, kind, channel, count = _DATA.unpack_from(packet)
            inbox = self.inbox_of(channel) if kind == MSG_CHANNEL_DATA else None
            if inbox is None:
                message = paramiko.Message(packet[2 : len(packet) - padding])
                message.seqno = number
                return kind, message
            if _DATA.size + count + padding > len(packet):
                raise paramiko.SSHException("data that does not fit its packet")
            inbox.feed(memoryview(packet)[_DATA.size : _DATA.size + count])
            if self._Packetizer__need_rekey:
                raise NeedRekeyException
        return super().read_message()

    def read_all(self, n: int, check_rekey: bool = False) -> bytes:
        """So many bytes, for what paramiko itself does with them. Blocks. Raises what paramiko's does."""
        self._await(n, check_rekey)
        self._start += n
        return bytes(self._buffer[self._start - n : self._start])

    @property
    def _goes_short(self) -> bool:
        # Once keys are to be exchanged, paramiko counts how much still comes.
        return self._Packetizer__aead_in and not (
            self._Packetizer__need_rekey or self._Packetizer__compress_engine_in or self._Packetizer__dump_packets
        )

    def _decrypted(self) -> bytes:
        """The next packet, without its size, checked against its tag and counted."""
        self._await(_SIZE.size, check_rekey=True)
        (size,) = _SIZE.unpack_from(self._buffer, self._start)
        if size > _MOST_IN_PACKET:
            raise paramiko.SSHException(f"a packet of {size} bytes")
        whole = _SIZE.size + size + _TAG
        self._await(whole)
        sealed = self._buffer[self._start : self._start + whole]
        self._start += whole
        packet: bytes = self._Packetizer__block_engine_in.decrypt(
            self._Packetizer__iv_in, sealed[_SIZE.size :], sealed[: _SIZE.size]
        )
        self._Packetizer__iv_in = self._inc_iv_counter(self._Packetizer__iv_in)
        self._Packetizer__sequence_number_in = (self._Packetizer__sequence_number_in + 1) & xffffffff
        self._Packetizer__received_bytes += whole
        self._Packetizer__received_packets += 1
        if (
            self._Packetizer__received_packets >= self.REKEY_PACKETS
            or self._Packetizer__received_bytes >= self.REKEY_BYTES
        ):
            self._trigger_rekey()
        return packet

    def _await(self, count: int, check_rekey: bool = False) -> None:
        """Block until so many bytes are in the buffer. Raises EOFError, NeedRekeyException, OSError."""
        if self._Packetizer__remainder:  # came with the server's banner
            banner, self._Packetizer__remainder = self._Packetizer__remainder, b""
            self._make_room(len(banner))
            self._buffer[self._end : self._end + len(banner)] = banner
            self._end += len(banner)
        while self._end - self._start < count:
            if self.handshake_timed_out():
                raise EOFError
            self._make_room(count)
            try:
                self._receive()
                continue
            except (TimeoutError, BlockingIOError):
                pass
            except OSError:
                if self._Packetizer__closed:
                    raise EOFError from None
                raise
            if self._Packetizer__closed:
                raise EOFError
            if check_rekey and self._start == self._end and self._Packetizer__need_rekey:
                raise NeedRekeyException
            self._check_keepalive()

    def _make_room(self, count: int) -> None:
        """For `count` bytes from `_start` on, and for a good part of what a socket may have."""
        size, here = len(self._buffer), self._end - self._start
        if not here:
            self._start = self._end = 0
        if self._start + count <= size and 4 * (size - self._end) >= size:
            return
        buffer = self._buffer if here + size // 4 <= size else memoryview(bytearray(2 * size))
        if count > len(buffer):
            buffer = memoryview(bytearray(count + size // 4))
        self._move_to(buffer)

    def _move_to(self, buffer: memoryview) -> None:
        here = self._end - self._start
        buffer[:here] = self._buffer[self._start : self._end]
        self._buffer, self._start, self._end = buffer, 0, here

    def _receive(self) -> None:
        room = self._buffer[self._end :]
        if self._socket is None:  # a channel through a jump host
            data = self._carrier.recv(len(room))
            got = len(data)
            room[:got] = data
        else:
            got = self._socket.recv_into(room)
        if not got:
            raise EOFError
        self._end += got
        self.heard_at = time.monotonic()
        if self._socket is not None:
            # sshd's end has Nagle's algorithm on, which holds its next small packet back until the last one is
            # acknowledged; the kernel forgets this wish soon, so it is told again.
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        if got == len(room) and len(self._buffer) < _MOST_ROOM:  # there is more: ask for more the next time
            self._move_to(memoryview(bytearray(2 * len(self._buffer))))
