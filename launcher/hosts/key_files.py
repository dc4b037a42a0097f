"""Files of private keys, as far as they can be read without a passphrase."""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
from dataclasses import dataclass
from pathlib import Path

from launcher.hosts.agent import take_string

_MAGIC = b"openssh-key-v1\0"
_ARMOUR = re.compile(r"-----BEGIN (?P<kind>[A-Z0-9 ]*PRIVATE KEY)-----\s*(?P<body>.*?)-----END ", re.DOTALL)


@dataclass(frozen=True)
class PublicHalf:
    """A public key or a certificate, as it is sent to servers."""

    type: str
    blob: bytes


@dataclass(frozen=True)
class KeyFile:
    """A private key's file. `public` is None if only the passphrase would tell."""

    path: str
    public: PublicHalf | None
    encrypted: bool
    certificate: PublicHalf | None  # in the file beside it


def look_at(path: str) -> KeyFile:
    """Raises OSError if it cannot be read, ValueError (with the reason) if it is no private key for us."""
    text = Path(path).read_bytes()[: 1 << 20].decode("latin-1")
    found = _ARMOUR.search(text)
    if not found:
        raise ValueError("no private key is in it")
    public, encrypted = _beside(f"{path}.pub"), "ENCRYPTED" in text
    if found["kind"] == "OPENSSH PRIVATE KEY":
        try:
            public, encrypted = _header(base64.b64decode(found["body"]))
        except (binascii.Error, ValueError) as error:
            raise ValueError("it is damaged") from error
    elif found["kind"] not in {"RSA PRIVATE KEY", "EC PRIVATE KEY"}:
        raise ValueError(f"its format is not understood; `ssh-keygen -p -f {path}` writes it anew")
    if public and public.type.startswith("sk-"):
        raise ValueError("it belongs to a hardware key, which only `transport: openssh` can use")
    return KeyFile(path, public, encrypted, _beside(f"{path}-cert.pub"))


def _header(data: bytes) -> tuple[PublicHalf, bool]:
    if not data.startswith(_MAGIC):
        raise ValueError("not that format")
    cipher, rest = take_string(data[len(_MAGIC) :])
    _, rest = take_string(rest)  # how the key is made of the passphrase
    _, rest = take_string(rest)
    blob, _ = take_string(rest[4:])  # behind the number of keys
    return PublicHalf(take_string(blob)[0].decode("ascii"), blob), cipher != b"none"


def _beside(path: str) -> PublicHalf | None:
    with contextlib.suppress(OSError, ValueError, IndexError, binascii.Error):
        words = Path(path).read_text("utf-8").split()
        blob = base64.b64decode(words[1], validate=True)
        return PublicHalf(take_string(blob)[0].decode("ascii"), blob)
    return None
