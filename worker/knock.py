"""The first words of the door on a host, for one that has our package already. It is not run from a disk.

What the remote shell is given is one constant line. It says hello, reads this text, and runs it. If the package is in
its place, whole, and nobody else can put something else there, this very process goes on as its VERB: one round trip,
one start of Python. In every other case, whatever the reason, the rest of the door is asked for (worker/door.py), which
mends what can be mended and says what cannot. What follows in the pipe is the verb's, so nothing is ever read ahead.
Every Python that may be called `python3` can read this, and it imports next to nothing: each start on a host waits for
it to be compiled.

Client to host: six digits and an order of as many bytes: the package's hash, workdir and verb, separated by NUL.
Host to client, after the loader's hello: a word of four letters, six digits, and a body of as many bytes.
  `here`  workdir, code folder, Python's version, separated by NUL; the next byte is the verb's
  `send`  empty: six digits and the rest of the door, eight digits and the package are expected, each followed by as
          many bytes as that says; then comes `here` or `fail`
  `fail`  JSON: kind, and what is known of it
"""

import gc
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any  # noqa: F401 - in comments

PRIVATE_NAME = "_launcher_worker"


def main():
    # type: () -> None
    order = os.fsdecode(read_exactly(int(read_exactly(6)))).split("\0")
    code = ""
    try:
        workdir = os.path.normpath(os.path.expanduser(order[1]))
        if sys.version_info >= (3, 8) and is_safe(workdir) and is_private(os.path.join(workdir, "code")):
            code = os.path.join(workdir, "code", order[0])
            code = code if is_intact(code, order[0]) else ""
    except Exception:  # whatever it is, it is the door's to name
        code = ""
    if not code:
        answer(b"send")
        exec(read_exactly(int(read_exactly(6))), {"__name__": "door", "knock": sys.modules[__name__], "order": order})
        return
    os.utime(code)  # for `clean`: used now
    enter(workdir, code, order[2])


def is_safe(workdir):
    # type: (str) -> bool
    """Whether nobody else can put something else in the place of what is in it: it is ours or root's, and others may
    write to it only if it is sticky, as /tmp is."""
    about = os.stat(workdir)
    closed = not about.st_mode & 0o022 or about.st_mode & 0o1000
    return bool(os.path.isabs(workdir) and about.st_uid in (os.getuid(), 0) and closed)


def is_private(folder):
    # type: (str) -> bool
    about = os.lstat(folder)
    return about.st_uid == os.getuid() and about.st_mode & 0o170077 == 0o040000


def is_intact(code, digest):
    # type: (str, str) -> bool
    """Whether the package is there, whole, and in a folder that only we can look into.

    Of what Python has compiled no hash is known: it lies in that same folder, where only we can have put it.
    """
    try:
        return is_private(code) and hashed(code) == digest
    except OSError:
        return False


def hashed(root):
    # type: (str) -> str
    """The hash that the package's bytes would have: for each file, in order, its name, its size, its content."""
    whole = sha256()
    for name in sorted(files_below(root), key=os.fsencode):
        file = os.open(os.path.join(root, name), os.O_RDONLY)
        try:
            content = b""
            while True:
                piece = os.read(file, 1 << 20)
                if not piece:
                    break
                content += piece
        finally:
            os.close(file)
        whole.update(os.fsencode("%s\0%d\n" % (name, len(content))) + content)
    return str(whole.hexdigest())


def files_below(root):
    # type: (str) -> list[str]
    found = []
    waiting = [""]
    while waiting:
        base = waiting.pop()
        for item in os.scandir(os.path.join(root, base)):
            if item.is_symlink():
                raise OSError("a link in the package")
            if not item.is_dir():
                found.append(base + item.name)
            elif item.name != "__pycache__":
                waiting.append(base + item.name + "/")
    return found


def sha256():
    # type: () -> Any
    # hashlib loads OpenSSL, which takes longer than all the hashing here.
    for module in ("_sha256", "_sha2", "hashlib"):
        try:
            return __import__(module).sha256()
        except ImportError:
            continue
    return None


def enter(workdir, code, verb):
    # type: (str, str, str) -> None
    """Say that we are in, and become the verb. The package is loaded by hand, under a private name: nothing of ours is
    ever found through `sys.path`, and importlib.util takes longer than all this."""
    answer(b"here", os.fsencode("\0".join((workdir, code, "%d.%d.%d" % sys.version_info[:3]))))
    os.open(code, os.O_RDONLY)  # stays open, in the agent too: so `clean` sees that it is in use
    os.chdir("/")
    gc.disable()  # what is imported stays; see verbs.main
    package = type(sys)(PRIVATE_NAME)
    package.__path__ = [code]
    sys.modules[PRIVATE_NAME] = package
    verbs = __import__(PRIVATE_NAME + ".verbs", fromlist=["main"])
    sys.exit(verbs.main([verb]))


def answer(word, body=b""):
    # type: (bytes, bytes) -> None
    rest = word + ("%06d" % len(body)).encode("ascii") + body
    while rest:
        rest = rest[os.write(1, rest) :]


def read_exactly(count):
    # type: (int) -> bytes
    pieces = []
    while count:
        piece = os.read(0, min(count, 1 << 16))
        if not piece:
            sys.exit(1)  # the client is gone: there is nobody to tell
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


if __name__ == "__main__":
    main()
