"""What of a spec travels to every host, surveyed on this machine."""

from __future__ import annotations

from pathlib import Path

from launcher.spec.model import ClusterSpec
from launcher.stage import survey
from launcher.stage.ready import Goods, Ready


def goods_of(spec: ClusterSpec, runs: Path) -> Goods:
    """What travels; nothing of the folder `runs`. Blocks. Raises UsageError or NotFitError, as `survey` does."""
    away = any(not host.local for host in spec.hosts)
    return Goods(
        sources=survey.sources(spec.sync, runs) if spec.runs_own_code or any(h.setup for h in spec.hosts) else None,
        only_setup=not spec.runs_own_code,
        data={name: survey.data(data.path) for name, data in spec.data.items() if not data.on_host and away},
        on_host={name: data.path for name, data in spec.data.items() if data.on_host},
        dataset=survey.dataset(spec.train.dataset) if spec.train is not None and away else None,
        dataset_kind=spec.train.dataset.kind if spec.train is not None else "",
    )


def dataset_there(spec: ClusterSpec, ready: Ready) -> tuple[str, str] | None:
    """How the trainer is told of a data set's files that were brought to a host."""
    if ready.dataset is None or spec.train is None:
        return None
    return ("idx" if spec.train.dataset.kind in ("idx", "fashion-mnist") else "npz"), ready.dataset
