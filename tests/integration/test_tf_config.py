"""TF_CONFIG as TensorFlow itself reads it, for many clusters."""

from __future__ import annotations

from typing import Any

import pytest

from launcher.plan.build import plan
from launcher.plan.model import LaunchPlan
from launcher.spec.model import HostSpec
from tests.plan_values import facts, spec

# Per host: how many workers, at which address, on which machine.
CLUSTERS: list[list[tuple[int, str, str]]] = [
    [(1, "10.0.0.1", "m")],
    [(2, "10.0.0.1", "m")],
    [(5, "10.0.0.1", "m")],
    [(1, "10.0.0.1", "m"), (1, "10.0.0.2", "n")],
    [(2, "10.0.0.1", "m"), (3, "10.0.0.1", "m")],
    [(2, "10.0.0.1", "m"), (1, "10.0.0.2", "n"), (3, "gpu-c.example.org", "o")],
    [(1, "fd00::1", "m"), (2, "fd00::2", "n")],
    [(2, "2001:db8:0:1::ff", "m"), (1, "10.0.0.2", "n"), (1, "fe80::1", "o"), (2, "h", "p")],
    [(2, f"10.0.0.{i}", f"m{i}") for i in range(1, 6)],
]


def planned(cluster: list[tuple[int, str, str]]) -> LaunchPlan:
    hosts = [HostSpec(f"h{i}", local=True, workers=workers) for i, (workers, _, _) in enumerate(cluster)]
    found = {
        f"h{i}": facts(f"h{i}", address=address, machine=machine) for i, (_, address, machine) in enumerate(cluster)
    }
    return plan(spec(*hosts), found, run="r")


@pytest.mark.tensorflow
def test_tensorflow_reads_the_cluster_that_was_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow as tf

    resolver_of: Any = tf.distribute.cluster_resolver.TFConfigClusterResolver
    for cluster in CLUSTERS:
        made = planned(cluster)
        ends = [f"[{r.address}]:{r.port}" if ":" in str(r.address) else f"{r.address}:{r.port}" for r in made.ranks]
        assert len(set(ends)) == sum(workers for workers, _, _ in cluster)
        for rank in made.ranks:
            monkeypatch.setenv("TF_CONFIG", rank.env["TF_CONFIG"])
            resolver = resolver_of()
            assert resolver.cluster_spec().as_dict() == {"worker": ends}
            assert (resolver.task_type, resolver.task_id) == ("worker", rank.rank)
            assert resolver.cluster_spec().task_address("worker", rank.rank) == ends[rank.rank]
