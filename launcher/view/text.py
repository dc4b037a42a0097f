"""What workers print, made safe for a terminal: no byte of theirs moves the cursor, rings, or turns text around."""

from __future__ import annotations

import re
import unicodedata
from typing import TextIO

MAX_WIDTH = 2000

# Colours, cursor movements and titles are dropped whole when they are well formed: nothing of them is text.
_SEQUENCES = re.compile(
    r"\x1b\[[0-?]{0,64}[ -/]{0,8}[@-~]"  # CSI
    r"|\x1b\][^\x07\x1b\x9c\n]{0,2000}(?:\x07|\x1b\\|\x9c)"  # OSC, with its end
    r"|\x1b[()*+][0-9A-Za-z]"  # character sets
    r"|\x1b[=>78cDEHM]"
)
# Control characters, and the invisible ones that turn, join or hide text, are shown as what they are.
_PLAIN = re.compile(r"[ -~]*\Z")


def neutral(data: bytes | str, width: int = MAX_WIDTH) -> str:
    """One line of a worker's as text for the screen, cut at `width` characters. Tabs are kept, backspaces dropped."""
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
    if len(text) > 8 * width:
        text = text[: 8 * width]
    if not _PLAIN.match(text):
        text = "".join(map(_shown, _SEQUENCES.sub("", text).replace("\b", "")))
    return text if len(text) <= width else text[: width - 1] + "…"


def write(out: TextIO, text: str) -> None:
    """Write to a stream of any encoding: what it cannot show is escaped, never an error."""
    try:
        out.write(text)
    except UnicodeEncodeError:
        encoding = out.encoding or "ascii"
        out.write(text.encode(encoding, "backslashreplace").decode(encoding))


def _shown(character: str) -> str:
    code = ord(character)
    if character == "\t" or 0x20 <= code < 0x7F:
        return character
    if code < 0x20:
        return chr(0x2400 + code)  # the control pictures: ␛ for ESC, ␍ for CR
    if code == 0x7F:
        return "␡"
    # Cc: C1 controls; Cf: bidi overrides, joiners; Cs: halves of pairs; Co, Cn: nothing to show; Zl, Zp: line ends.
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"):
        return f"<{code:04x}>"
    return character
