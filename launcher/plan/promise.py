"""What a plan promises about results. Pure: no user code is imported here, so a function's model is not known."""

from __future__ import annotations

from launcher.spec.model import ClusterSpec

SAME_MATHEMATICS = "the same mathematics for any number of workers"
DEPENDS_ON_MODEL = "what another number of workers changes depends on the model: see docs/exactness.md"
SAME_BITS = "the same bits on every run"


def promise(spec: ClusterSpec) -> str:
    """One line on bits and on the number of workers; empty for a program, of which the launcher knows nothing."""
    if spec.train is None:
        return ""
    mathematics = DEPENDS_ON_MODEL if ":" in spec.train.model else SAME_MATHEMATICS
    return f"{SAME_BITS}; {mathematics}" if spec.train.deterministic else mathematics
