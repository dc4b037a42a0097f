"""Orders for ranks of the built-in trainer, as a plan makes them, for an agent that a test reaches itself."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.integration.agent_client import WORKER
from tests.integration.training import free_ports
from worker.contract import layout, names
from worker.contract.layout import HostFolder


def trainer_orders(
    folder: Path,
    job: Mapping[str, Any],
    *,
    workers: int = 2,
    generation: int = 1,
    resume: str = "",
    env: Mapping[str, str] | None = None,
    of_rank: Mapping[int, Mapping[str, str]] | None = None,
    secrets: Mapping[str, str] | None = None,
    worker: Path = WORKER,
    python: str = sys.executable,
) -> list[dict[str, Any]]:
    """Orders for all ranks of a cluster on this host. `resume` is the name of a published checkpoint."""
    place = HostFolder(str(folder))
    addresses = [f"127.0.0.1:{port}" for port in free_ports(workers)]
    return [
        {
            "rank": rank,
            "argv": [python, str(worker), "train"],
            "cwd": str(folder),
            "env": {
                names.TF_CONFIG: json.dumps(
                    {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}}
                ),
                names.TRAIN: json.dumps({**job, "workers": workers}),
                names.RUN: "a-run",
                names.HOST: "here",
                names.RANK: str(rank),
                names.WORLD_SIZE: str(workers),
                names.GENERATION: str(generation),
                names.PROGRESS_FILE: place.progress(generation, rank),
                names.CHECKPOINT_DIR: place.rank_checkpoints(generation, rank),
                names.OUTPUT_DIR: place.rank_output(generation, rank),
                names.RESUME_DIR: f"{place.checkpoints}/{resume}" if resume else "",
                "TF_NUM_INTRAOP_THREADS": "1",
                "OMP_NUM_THREADS": "1",
                "OPENBLAS_NUM_THREADS": "1",
                "PYTHONUNBUFFERED": "1",
                "TF_CPP_MIN_LOG_LEVEL": "2",
                **(env or {}),
                **(of_rank or {}).get(rank, {}),
            },
            "secrets": dict(secrets or {}),
            "stop": "message",
            "chief": rank == 0,
        }
        for rank in range(workers)
    ]


def mark_of(folder: Path) -> str:
    return layout.mark(str(folder))
