"""What a checkpoint folder holds, and whether one is whole. Standard library only: agents and coordinators ask, too.

g<generation>-s<step>/
  arrays.npz      weights, optimizer slots, counters: plain arrays by name, stored (not compressed), no pickles
  state.json      history, what the run is, the fingerprint of what computed it
  manifest.json   {"files": {name: {"bytes": n, "sha256": hex}}, "step", "epoch", "generation", "why"}; written last
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import stat
import struct
import zipfile
from typing import IO, Any, Callable, Dict, List, Optional

from .layout import ARRAYS as ARRAYS
from .layout import MANIFEST as MANIFEST
from .layout import STATE as STATE
from .layout import parse_checkpoint_name

FILES = (ARRAYS, STATE)

_MOST_JSON = 1 << 24
_MOST_ARRAYS = 100_000
_MOST_HEADER = 1 << 16
_PIECE = 1 << 20
_MANIFEST_KEYS = ("step", "epoch", "generation")


def verify(folder: str) -> List[str]:
    """What is wrong with a checkpoint, each problem with the file's name; empty for a whole one. Reads all of it.

    Never raises, follows no link, and takes memory for one array's header at most: the folder may come from a host
    that nobody trusts.
    """
    try:
        manifest = _json(folder, MANIFEST)
        _check_manifest(folder, manifest)
    except _BadFileError as problem:
        return [str(problem)]
    problems = []
    for name in FILES:
        try:
            _check_content(folder, name, manifest["files"][name])
            if name == STATE:
                _json(folder, name)
            else:
                _check_arrays(folder, name)
        except _BadFileError as problem:
            problems.append(str(problem))
    return problems


def newest(folder: str, verify: Callable[[str], List[str]] = verify) -> Optional[str]:
    """The name of the whole checkpoint with the highest step (then generation) in a folder, or None.

    What does not verify is passed over, and so is every name that is not a checkpoint's.
    """
    try:
        names = os.listdir(folder)
    except OSError:
        return None
    found = [(parsed[1], parsed[0], name) for name in names for parsed in [parse_checkpoint_name(name)] if parsed]
    for _, _, name in sorted(found, reverse=True):
        if not verify(os.path.join(folder, name)):
            return name
    return None


def read_manifest(folder: str) -> Dict[str, Any]:
    """The manifest of a checkpoint that verifies. Raises ValueError, with the problem, for any other."""
    problems = verify(folder)
    if problems:
        raise ValueError("; ".join(problems))
    try:
        return _json(folder, MANIFEST)
    except _BadFileError as problem:
        raise ValueError(str(problem)) from problem


class _BadFileError(Exception):
    def __init__(self, folder: str, name: str, text: str) -> None:
        super().__init__("%s: %s" % (os.path.join(folder, name), text))


def _open(folder: str, name: str) -> "IO[bytes]":
    path = os.path.join(folder, name)
    try:
        # Not a link's target, and never a wait for a FIFO's writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise _BadFileError(folder, name, "expected a file, found something else")
        return os.fdopen(descriptor, "rb")
    except (OSError, ValueError) as error:
        raise _BadFileError(folder, name, "cannot be read: %s" % (getattr(error, "strerror", None) or error)) from error


def _json(folder: str, name: str) -> Dict[str, Any]:
    try:
        with _open(folder, name) as file:
            data = file.read(_MOST_JSON + 1)
    except OSError as error:
        raise _BadFileError(folder, name, "cannot be read: %s" % error) from error
    if len(data) > _MOST_JSON:
        raise _BadFileError(folder, name, "more than %d bytes" % _MOST_JSON)
    try:
        value = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise _BadFileError(folder, name, "expected JSON, found: %s" % error) from error
    if not isinstance(value, dict):
        raise _BadFileError(folder, name, "expected a JSON object")
    return value


def _check_manifest(folder: str, manifest: Dict[str, Any]) -> None:
    files = manifest.get("files")
    if not isinstance(files, dict) or sorted(files) != sorted(FILES):
        raise _BadFileError(folder, MANIFEST, "expected the files %s" % " and ".join(FILES))
    for name, entry in files.items():
        if not isinstance(entry, dict) or not _count(entry.get("bytes")) or not isinstance(entry.get("sha256"), str):
            raise _BadFileError(folder, MANIFEST, "expected bytes and sha256 of %s" % name)
    if not all(_count(manifest.get(key)) for key in _MANIFEST_KEYS):
        raise _BadFileError(folder, MANIFEST, "expected whole numbers as %s" % ", ".join(_MANIFEST_KEYS))
    named = parse_checkpoint_name(os.path.basename(os.path.normpath(folder)))
    if named is not None and named != (manifest["generation"], manifest["step"]):
        raise _BadFileError(
            folder, MANIFEST, "of generation %(generation)s, step %(step)s: not what the folder is" % manifest
        )


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _check_content(folder: str, name: str, entry: Dict[str, Any]) -> None:
    digest = hashlib.sha256()
    size = 0
    try:
        with _open(folder, name) as file:
            expected = os.fstat(file.fileno()).st_size
            if expected != entry["bytes"]:
                raise _BadFileError(folder, name, "expected %d bytes, found %d" % (entry["bytes"], expected))
            for piece in iter(lambda: file.read(_PIECE), b""):
                digest.update(piece)
                size += len(piece)
    except OSError as error:
        raise _BadFileError(folder, name, "cannot be read: %s" % error) from error
    if size != entry["bytes"] or digest.hexdigest() != entry["sha256"]:
        raise _BadFileError(folder, name, "its content is not what was saved (SHA-256 differs)")


def _check_arrays(folder: str, name: str) -> None:
    """Only plain arrays, stored as they are: nothing in it grows when it is read, nothing is executed."""
    try:
        with _open(folder, name) as file, zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if len(members) > _MOST_ARRAYS:
                raise _BadFileError(folder, name, "more than %d arrays" % _MOST_ARRAYS)
            if len({member.filename for member in members}) != len(members):
                raise _BadFileError(folder, name, "an array is there twice")
            for member in members:
                if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
                    raise _BadFileError(folder, name, "%r is compressed" % member.filename)
                with archive.open(member) as array:
                    text = _header(array)
                if text is None or "O" in text:
                    raise _BadFileError(folder, name, "%r is not a plain array" % member.filename)
    except (
        OSError,
        zipfile.BadZipFile,
        NotImplementedError,
        RuntimeError,
        ValueError,
        struct.error,
        EOFError,
    ) as error:
        raise _BadFileError(folder, name, "not an archive of arrays: %s" % error) from error


def _header(array: "IO[bytes]") -> Optional[str]:
    """The dtype in the header of an .npy file (format 1.0 to 3.0), or None if it has none that is plain."""
    magic = array.read(8)
    if magic[:6] != b"\x93NUMPY" or magic[6:7] not in (b"\x01", b"\x02", b"\x03"):
        return None
    layout = "<H" if magic[6:7] == b"\x01" else "<I"
    (length,) = struct.unpack(layout, array.read(struct.calcsize(layout)))
    if length > _MOST_HEADER:
        return None
    try:
        header = ast.literal_eval(array.read(length).decode("utf-8"))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    descr = header.get("descr") if isinstance(header, dict) else None
    return descr if isinstance(descr, str) else None
