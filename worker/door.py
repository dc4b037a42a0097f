"""The rest of the door: for a host that lacks our package, or is not as it should be. It is not run from a disk.

Its text comes to the host over standard input, after that of worker/knock.py, which runs it; see there for what is
said. It puts the package in its place and becomes its VERB, or says what is wrong. It is written so that every Python
that may be called `python3` can read it, and tells the ones that are too old so.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from . import knock

    order = []  # type: list[str]

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
    packed = knock.read_exactly(int(knock.read_exactly(8)))
    try:
        if not SUITABLE:
            raise NotFit("old", version="%d.%d.%d" % sys.version_info[:3], path=sys.executable)
        if len(order) != 3 or len(order[0]) != 64 or not order[0].isalnum() or not order[2].isalnum():
            raise NotFit("order")
        digest, workdir, verb = order
        workdir = own_folder(workdir)
        code = os.path.join(private_folder(workdir, "code"), digest)
        if knock.sha256() is None:
            raise NotFit("hashes", path=sys.executable)
        if not knock.is_intact(code, digest):
            install(packed, code, digest)
        os.utime(code)  # for `clean`: used now
    except NotFit as error:
        import json

        knock.answer(b"fail", json.dumps(error.about).encode("ascii"))
        sys.exit(1)
    os.umask(mask)
    knock.enter(workdir, code, verb)


def own_folder(text):
    # type: (str) -> str
    """The workdir, made if it is not there, and safe."""
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
    if not knock.is_safe(place):
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


def install(packed, code, digest):
    # type: (bytes, str, str) -> None
    """Write the package under a name of its own and rename it: others may be doing the same at this moment.

    Nothing is synced: whatever a power cut leaves of it is hashed before it runs.
    """
    folder = os.path.dirname(code)
    temporary = "%s/.%s.%s.tmp" % (folder, digest[:8], os.urandom(6).hex())
    try:
        unpack(unpacked(packed), temporary)
        if knock.hashed(temporary) != digest:
            raise NotFit("damaged", path=code)
        for _ in range(5):
            if moved(temporary, code) or knock.is_intact(code, digest):
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


if __name__ == "door":
    main()
