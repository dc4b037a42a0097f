"""The conversation of the `pull` errand: what a run leaves in its folder on a host goes to the coordinator.

One mechanism: the coordinator says up to which byte it has a file, the host sends the rest. Frames are `bulk`'s.

coordinator → host                                   host → coordinator
open {folder}                                        opened {exists}
list {kinds}                                         listing {files: [entry], checkpoints: [[name, bytes]], more, cut}
hold {name}                                          held {name, folder, files: [[name, bytes]]} | gone {name, why}
release {name}
at_home {name}: it is home, and may be pruned
get {files: [[path, offset, tail]], window, hash}    parts {parts, ends} + raw …, done
digest {files: [[path, bytes]]}                      digests {digests: [hex or null]}
known {files: [[path, offset, inode, tail]]} …
follow {window}                                      parts {segments, parts} + raw …, without an end
ack {bytes}      so many raw bytes are kept          alive {}: nothing was sent for a while
sync {n}                                             synced {n}: all that was there when `sync` came has been sent
enough {}: no more of this                           done

entry    [path, bytes, mtime_ns, inode]
segments [[id, path, inode, offset, why]]: data with this id belongs to this file from this byte on; a file that shrank
         or was replaced gets a new id and begins at 0
parts    [[index or id, offset, count]]: whose bytes lie in `raw`, one after another
ends     [[index, bytes, sha256 or null, inode, mtime_ns, why or null]]: this file has been sent, or cannot be
`tail` is `fingerprint` of the last bytes before the offset, TAIL at most; the file goes on there only if it fits.
"""

from __future__ import annotations

import hashlib
import re

OPEN, OPENED = "open", "opened"
LIST, LISTING = "list", "listing"
HOLD, HELD, GONE, RELEASE = "hold", "held", "gone", "release"
AT_HOME = "at_home"
GET, PARTS, DONE = "get", "parts", "done"
DIGEST, DIGESTS = "digest", "digests"
KNOWN, FOLLOW, ENOUGH, ACK, ALIVE = "known", "follow", "enough", "ack", "alive"
SYNC, SYNCED = "sync", "synced"
FAILED = "failed"  # why: what was asked cannot be done

CHANGED = "changed"  # why a file that was sent whole may be torn: it was written to meanwhile

CHECKPOINTS, OUTPUT, LOGS = "checkpoints", "output", "logs"  # the kinds of `list`

TAIL = 4096
PIECE = 1 << 18  # the most raw bytes in a frame of `get`: small enough that reading, hashing and sending overlap
BATCH = 1 << 18  # the most in a frame of `follow`, so that a line is not kept waiting by others
ALIVE_S = 3.0
SILENCE_S = 120.0  # without a word from the coordinator for so long, the errand leaves
PAGE = 1000  # entries in a frame

_LOG = re.compile(
    r"events\.jsonl|(agent|zygote)\.log|g(0|[1-9][0-9]{0,8})/rank(0|[1-9][0-9]{0,5})\.(log|progress\.jsonl|stacks)",
    re.ASCII,
)
_OUTPUT = re.compile(r"(output|g(0|[1-9][0-9]{0,8})/rank(0|[1-9][0-9]{0,5})/output)/.+", re.ASCII | re.DOTALL)


def is_log(path: str) -> bool:
    """Whether this is a file that is only ever appended to: a journal, a log, a progress file."""
    return _LOG.fullmatch(path) is not None


def is_output(path: str) -> bool:
    """Whether this is a file in the run's output folder, or in a rank's own."""
    return _OUTPUT.fullmatch(path) is not None


def fingerprint(data: bytes) -> str:
    """Of the last bytes of a file up to an offset."""
    return hashlib.sha256(data).hexdigest()[:32]
