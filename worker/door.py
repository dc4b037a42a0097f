"""The host's side of the door. It is not run from a disk: its text comes to the host over standard input.

What the remote shell is given is one constant line. It says hello, reads this text, and runs it; the text reads an
order, puts our package in its place if it is not there, and becomes `python CODE VERB`. What follows in the pipe is the
verb's, so nothing is ever read ahead. It is written so that every Python that may be called `python3` can read it, and
tells the ones that are too old so; and it imports next to nothing, because every start on a host waits for it.

Client to host: six digits and an order of as many bytes: the package's hash, workdir and verb, separated by NUL.
Host to client, after the loader's hello: a word of four letters, six digits, and a body of as many bytes.
  `here`  workdir, code folder, Python's version, separated by NUL; the next byte is the verb's
  `send`  empty: eight digits and as many bytes are expected, the package; then comes `here` or `fail`
  `fail`  JSON: kind, and what is known of it
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any  # noqa: F401 - in comments

SUITABLE = sys.version_info >= (3, 8)
STALE_S = 3600  # a copy that somebody began so long ago, and did not finish, is nobody's any more


class NotFit(Exception):  # noqa: N818 - a word to the client more than an error
    """This host cannot be entered; `about` is what the client is told."""

    def __init__(self, kind, **about):
        # type: (str, **object) -> None
        Exception.__init__(self, kind)
        self.about = dict(about, kind=kind)


def main():
    # type: () -> None
    mask = os.umask(0o077)
    try:
        if not SUITABLE:
            raise NotFit("old", version=version(), path=sys.executable)
        digest, workdir, verb = read_order()
        workdir = own_folder(workdir)
        code = os.path.join(private_folder(workdir, "code"), digest)
        if not is_intact(code, digest):
            answer(b"send")
            install(read_exactly(int(read_exactly(8))), code, digest)
        os.utime(code)  # for `clean`: used now
        answer(b"here", os.fsencode("\0".join((workdir, code, version()))))
    except NotFit as error:
        import json

        answer(b"fail", json.dumps(error.about).encode("ascii"))
        sys.exit(1)
    os.umask(mask)
    os.chdir("/")
    # -I and -S: the standard library alone is needed, and it starts in half the time without `site`.
    os.execv(sys.executable, [sys.executable, "-I", "-S", code, verb])


def version():
    # type: () -> str
    return "%d.%d.%d" % sys.version_info[:3]


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


def read_order():
    # type: () -> list[str]
    order = os.fsdecode(read_exactly(int(read_exactly(6)))).split("\0")
    if len(order) != 3 or len(order[0]) != 64 or not order[0].isalnum() or not order[2].isalnum():
        raise NotFit("order")
    return order


def own_folder(text):
    # type: (str) -> str
    """The workdir, made if it is not there. Nobody else may be able to put something else in the place of what is in
    it: it is ours or root's, and others may write to it only if it is sticky, as /tmp is."""
    place = os.path.expanduser(text)
    if place.startswith("~"):
        raise NotFit("home", path=text)
    if not os.path.isabs(place):
        raise NotFit("relative", path=text)
    place = os.path.normpath(place)
    try:
        if not os.path.isdir(place):
            os.makedirs(place, 0o700, exist_ok=True)
        about = os.stat(place)
    except OSError as error:
        raise failed(error, place)  # noqa: B904 - `from` is no syntax of every Python
    if about.st_uid not in (os.getuid(), 0):
        raise NotFit("owner", path=place, uid=about.st_uid)
    if about.st_mode & 0o022 and not about.st_mode & 0o1000:
        raise NotFit("open", path=place, mode="%04o" % (about.st_mode & 0o7777))
    return place


def private_folder(workdir, name):
    # type: (str, str) -> str
    """A folder in the workdir that is ours alone."""
    place = os.path.join(workdir, name)
    try:
        if not os.path.lexists(place):
            os.makedirs(place, 0o700, exist_ok=True)  # another client may be faster
        about = os.lstat(place)
        if about.st_mode & 0o170000 != 0o040000:
            raise NotFit("nofolder", path=place)
        if about.st_uid != os.getuid():
            raise NotFit("owner", path=place, uid=about.st_uid)
        if about.st_mode & 0o077:
            os.chmod(place, 0o700)
            if os.lstat(place).st_mode & 0o077:  # a file system that keeps no modes
                raise NotFit("open", path=place, mode="%04o" % (about.st_mode & 0o7777))
    except OSError as error:
        raise failed(error, place)  # noqa: B904
    return place


def failed(error, place):
    # type: (OSError, str) -> NotFit
    import errno

    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return NotFit("full" if full else "folder", path=place, why=error.strerror)


def is_intact(place, digest):
    # type: (str, str) -> bool
    """Whether the package is there, whole, and in a folder that only we can look into.

    Of what Python has compiled no hash is known: it lies in that same folder, where only we can have put it.
    """
    try:
        about = os.lstat(place)
        private = about.st_uid == os.getuid() and about.st_mode & 0o170077 == 0o040000
        if not private or hashed(place) != digest:
            return False
        os.utime(place)  # used now: for whoever clears up
        return True
    except OSError:
        return False


def hashed(root):
    # type: (str) -> str
    """The hash that the package's bytes would have: for each file, in order, its name, its size, its content."""
    whole = sha256()
    for name in sorted(files_below(root), key=os.fsencode):
        with open(os.path.join(root, name), "rb") as file:
            content = file.read()
        whole.update(os.fsencode("%s\0%d\n" % (name, len(content))))
        whole.update(content)
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
    raise NotFit("hashes", path=sys.executable)


def install(packed, code, digest):
    # type: (bytes, str, str) -> None
    """Write the package under a name of its own and rename it: others may be doing the same at this moment.

    Nothing is synced: whatever a power cut leaves of it is hashed before it runs.
    """
    folder = os.path.dirname(code)
    temporary = "%s/.%s.%s.tmp" % (folder, digest[:8], os.urandom(6).hex())
    try:
        unpack(unpacked(packed), temporary)
        if hashed(temporary) != digest:
            raise NotFit("damaged", path=code)
        for _ in range(5):
            if moved(temporary, code) or is_intact(code, digest):
                break
            moved(code, temporary + ".old.tmp")
        else:
            raise NotFit("busy", path=code)
    except OSError as error:
        raise failed(error, code)  # noqa: B904
    finally:
        tidy(folder, os.path.basename(temporary))


def unpacked(packed):
    # type: (bytes) -> bytes
    try:
        import zlib
    except ImportError:
        raise NotFit("zlib", path=sys.executable)  # noqa: B904
    return zlib.decompress(packed)


def unpack(data, root):
    # type: (bytes, str) -> None
    """For each file: its name, NUL, its size, a line feed, its content."""
    os.mkdir(root, 0o700)
    at = 0
    while at < len(data):
        end = data.index(b"\n", at)
        name, size = data[at:end].split(b"\0")
        at = end + 1 + int(size)
        parts = os.fsdecode(name).split("/")
        if any(part in ("", ".", "..", "__pycache__") for part in parts):
            raise NotFit("damaged", path=root)
        os.makedirs(os.path.join(root, *parts[:-1]), 0o700, exist_ok=True)
        with open(os.path.join(root, *parts), "xb") as file:
            file.write(data[end + 1 : at])


def moved(place, to):
    # type: (str, str) -> bool
    import errno

    try:
        os.rename(place, to)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.ENOENT):
            return False
        raise
    return True


def tidy(folder, temporary):
    # type: (str, str) -> None
    """Remove what is left of this copy, and of those that were cut off long ago."""
    import shutil
    import time

    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        try:
            stale = name.endswith(".tmp") and os.lstat(path).st_mtime < time.time() - STALE_S
            if not stale and not name.startswith(temporary):
                continue
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path, ignore_errors=True)
            else:
                os.unlink(path)
        except OSError:  # another client was faster
            continue


if __name__ == "__main__":
    main()
