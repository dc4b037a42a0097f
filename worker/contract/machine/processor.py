"""The processor, as far as it decides what runs and with which bits."""

from __future__ import annotations

import os
from typing import Set

_INSTRUCTIONS = ("avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "asimd", "sve")


def instructions() -> str:
    """The processor's architecture and the vector instructions that change the bits of results."""
    found: Set[str] = set()
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            for line in file:
                name, _, value = line.partition(":")
                if name.strip() in ("flags", "Features"):
                    found = set(value.split())
                    break
    except OSError:
        pass
    return " ".join([os.uname().machine, *(name for name in _INSTRUCTIONS if name in found)])
