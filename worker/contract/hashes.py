"""SHA-256 of little, without the start of OpenSSL: that takes longer than all such hashing, and every start waits.

Much, as files, is hashed by hashlib, which is several times as fast.
"""

from __future__ import annotations


def sha256_of(data: bytes) -> str:
    """In hexadecimal digits."""
    for module in ("_sha256", "_sha2", "hashlib"):  # until Python 3.11, from 3.12 on, and where neither was built
        try:
            return str(__import__(module).sha256(data).hexdigest())
        except ImportError:
            continue
    raise ImportError("this Python was built without hashlib")
