"""How a host lets us in: one constant command line; what is to be done there goes over its standard input.

The line starts a Python that reads its program, worker/knock.py, from standard input. That program checks our package
in `<workdir>/code/<hash>`, and goes on as its VERB; see there for what is said. All that is needed is sent at once, so
a host that has the package costs one round trip and one start of Python. One that lacks it is sent it, with the rest of
the door, worker/door.py.
"""

from __future__ import annotations

import json
import os
import select
import time
from dataclasses import dataclass
from typing import NoReturn

from launcher.errors import NotFitError
from launcher.hosts.door_errors import closed_door, refused, silent_door
from launcher.hosts.package import Package, installed
from launcher.hosts.session import Channel, Session

HELLO = b"launcher-door "
_HEAD = 10  # bytes of an answer: the word, and six digits
_MOST_BODY = 64 * 1024
# Start files of shells that read standard input get empty lines first. `#` says that the program follows.
_SPARE = b"\n" * 64
# For a shell that has read more than that: how long we wait for an answer to what was sent at once.
_SWALLOWED_S = 4.0
# No quote, backslash, `!`, `$` or line feed between the quotes: sh, csh and fish all take it for one word. The hello
# is put together there, so that a banner that repeats the line is not taken for one.
COMMAND = (
    "exec python3 -I -S -c '"
    'import os;os.write(1,b"launcher-"+b"door ");c=b".";'
    'exec("""while c not in b"#":c=os.read(0,1)""");'
    'r=lambda n:(lambda p:p and p+r(n-len(p)))(os.read(0,n)) if n else b"";'
    "exec(r(int(r(6))))"
    "'"
)


@dataclass(frozen=True)
class Entered:
    """We are in: the verb's channel, of whose output nothing has been read, and what the host said of itself."""

    channel: Channel
    workdir: str  # absolute, there
    code: str  # the folder of our package, there
    python: str  # the version of its python3


def enter(
    session: Session, verb: str, *, workdir: str, package: Package | None = None, timeout_s: float = 30.0
) -> Channel:
    """Start VERB of our staged package on a host and return its channel; nothing has been read from it yet.

    Our package is brought to `<workdir>/code/<hash>` if it is not there, or not intact, before the verb starts. Blocks
    until it runs, at most `timeout_s` without an answer. May be called from several threads.
    Raises NotFitError: no Python, one too old, the disk is full, the workdir is not fit, the connection broke.
    """
    return open_door(session, verb, workdir=workdir, package=package, timeout_s=timeout_s).channel


def open_door(
    session: Session, verb: str, *, workdir: str, package: Package | None = None, timeout_s: float = 30.0
) -> Entered:
    """As `enter`, with what the host said: the workdir without `~`, the folder of our package, its Python."""
    package = installed() if package is None else package
    order = os.fsencode(f"{package.digest}\0{workdir}\0{verb}")
    program = b"#%06d" % len(package.knock) + package.knock + b"%06d" % len(order) + order
    visit = _Visit(session, timeout_s)
    try:
        visit.send(_SPARE + program)
        visit.await_hello()
        if not visit.is_answered(_SWALLOWED_S):
            # A start file has read what was not meant for it. Let it have empty lines, and wait for the hello.
            visit.close()
            visit = _Visit(session, timeout_s)
            visit.send(_SPARE * 128)
            visit.await_hello()
            visit.send(program)
        return visit.let_in(package)
    except BaseException:
        visit.close()
        raise


class _Visit:
    """One attempt: the command's channel, read exactly up to where the verb's output begins."""

    def __init__(self, session: Session, timeout_s: float) -> None:
        self._name = session.name
        self._timeout_s = timeout_s
        self._deadline = time.monotonic() + timeout_s
        self._channel = session.run(COMMAND)
        self._before = b""  # what the login shell printed
        self._ahead = b""  # of the answer, read already

    def close(self) -> None:
        self._channel.close()

    def send(self, data: bytes) -> None:
        """Blocks. A host that has gone may have said why: its answer tells, and not the broken pipe."""
        rest = memoryview(data)
        try:
            while rest:
                sent = self._channel.write(rest)
                rest = rest[sent:]
                if sent:
                    self._deadline = time.monotonic() + self._timeout_s
                elif not self._channel.wait_writable(max(0.0, self._deadline - time.monotonic())):
                    raise silent_door(self._name, self._channel.errors(), os.fsdecode(self._before))
        except OSError:
            return

    def await_hello(self) -> None:
        """Skip what a login shell prints before it."""
        while HELLO not in self._before:
            begun = next(n for n in range(len(HELLO), -1, -1) if self._before.endswith(HELLO[:n]))
            # Never more than must still come before the verb's own output.
            data = self._some(len(HELLO) - begun + _HEAD)
            if not data:
                self._refuse_entry()
            self._before = self._before[-4000:] + data
        self._before, _, self._ahead = self._before.partition(HELLO)

    def is_answered(self, within_s: float) -> bool:
        """Whether the program has arrived there, and answers. No answer in time, or an end without one, is none."""
        until = min(self._deadline, time.monotonic() + within_s)
        while len(self._ahead) < _HEAD:
            if not _readable(self._channel, until):
                return False
            data = self._some(_HEAD - len(self._ahead))
            if not data:
                return False
            self._ahead += data
        return True

    def let_in(self, package: Package) -> Entered:
        word, body = self._answer()
        if word == b"send":
            self.send(b"%06d" % len(package.door) + package.door + b"%08d" % len(package.packed) + package.packed)
            word, body = self._answer()
        parts = os.fsdecode(body).split("\0")
        if word == b"here" and len(parts) == 3:
            return Entered(self._channel, *parts)
        raise refused(self._name, _told(body) if word == b"fail" else {})

    def _answer(self) -> tuple[bytes, bytes]:
        head = self._exactly(_HEAD)
        if not head[4:].isdigit() or int(head[4:]) > _MOST_BODY:
            raise refused(self._name, {})
        return head[:4], self._exactly(int(head[4:]))

    def _exactly(self, count: int) -> bytes:
        while len(self._ahead) < count:
            data = self._some(count - len(self._ahead))
            if not data:
                self._refuse_entry()
            self._ahead += data
        found, self._ahead = self._ahead[:count], self._ahead[count:]
        return found

    def _some(self, most: int) -> bytes:
        """Blocks until something comes; empty at the end of the output."""
        while True:
            try:
                data = self._channel.read(most)
            except OSError as error:
                raise NotFitError(
                    f"{self._name}: the connection broke: {error.strerror or error}", hint="run the command again"
                ) from error
            if data is not None:
                return data
            if not _readable(self._channel, self._deadline):
                raise silent_door(self._name, self._channel.errors(), os.fsdecode(self._before))

    def _refuse_entry(self) -> NoReturn:
        ended = time.monotonic()
        status = self._channel.exit_status()
        while status is None and time.monotonic() < ended + 2.0:
            time.sleep(0.01)
            status = self._channel.exit_status()
        raise closed_door(self._name, status, self._channel.errors(), os.fsdecode(self._before))


def _readable(channel: Channel, until: float) -> bool:
    poll = select.poll()
    poll.register(channel.fileno(), select.POLLIN)
    return bool(poll.poll(max(0, int((until - time.monotonic()) * 1000) + 1)))


def _told(body: bytes) -> dict[str, str]:
    try:
        return {str(key): str(value) for key, value in json.loads(body).items()}
    except (ValueError, AttributeError):
        return {}
