"""Who differs, given what each one holds. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence


def outliers(digests: Sequence[int]) -> list[int]:
    """The places whose digest is not the most frequent one; without one, those unlike the first (the chief's)."""
    (most, count), *others = Counter(digests).most_common()
    if others and others[0][1] == count:
        most = digests[0]
    return [place for place, digest in enumerate(digests) if digest != most]
