"""The trainer over real networks: firewalls, a proxy, IPv6 and a gate on the way, and the bits of a run at home."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.net_far import PORTS, NetFar, net_far_in
from tests.lab.netns import why_no_netns

pytestmark = pytest.mark.skipif(bool(why_no_netns()), reason=why_no_netns())

TRAIN = (
    "train: {dataset: fashion-mnist-mini, epochs: %d, batch_size: 500}\ncheckpoint: {every: 1 epoch, keep: 10}\n"
    "timeouts: {start: 60 s, stall: 30 s}\n"
)
PROXIED = "export https_proxy=http://192.0.2.1:3128 HTTP_PROXY=http://192.0.2.1:3128\n"


@pytest.fixture
def far(tmp_path: Path) -> Iterator[NetFar]:
    with net_far_in(tmp_path, 3, jump=True) as one:
        yield one


@pytest.mark.tensorflow
def test_four_namespaces_give_the_bits_of_one_machine_and_so_does_the_next_day_on_other_hosts(far: NetFar) -> None:
    """Workers on two of them, behind a gate, firewalls that let only `ports:` and ssh through, a proxy on one host;
    resumed over IPv6."""
    for name in ("h1", "h2", "h3"):
        far.host(name).firewall("22", PORTS.replace("-", ":"))
    (far.host("h2").home / ".bashrc").write_text(PROXIED)
    each = "threads: 1, network: %s"
    spec = far.spec(TRAIN % 5, "h1", "h2", each=each % far.hosts.network)

    said = " ".join(far.launcher.run("check", str(spec), timeout_s=60).stdout.split())
    assert "only the ports of the spec get through" in said
    assert "NCCL, which chooses ports of its own, is not used" in said
    assert "h2: HTTP_PROXY, https_proxy are set" in said
    far.launcher.run("up", str(spec), timeout_s=120)
    run = far.launcher.newest()
    plan = json.loads((run / "plan.g1.json").read_text())
    assert [rank["address"] for rank in plan["ranks"]] == [far.host(name).address for name in ("h1", "h2")]

    local = far.launcher.folder / "local.yaml"
    here = "hosts: [{name: a, local: true, threads: 1}, {name: b, local: true, threads: 1, ports: 20300-20399}]\n"
    local.write_text(f"name: here\n{here}{TRAIN % 10}")
    far.launcher.run("up", str(local), timeout_s=120)
    at_home = next(far.launcher.runs.glob("here-*")) / "hosts" / "a" / "checkpoints"
    assert _arrays(run / "hosts" / "h1" / "checkpoints", 5) == _arrays(at_home, 5)
    assert _arrays(run / "hosts" / "h1" / "checkpoints", 5) != _arrays(at_home, 4)

    version = 6 if far.host("h2").address6 else 4
    others = far.spec(TRAIN % 10, "h2", "h3", each="threads: 1", version=version, file="others.yaml")
    hosts = json.dumps(_hosts_of(others))
    far.launcher.run("resume", run.name, "--set", "train.epochs=10", "--set", f"hosts={hosts}", timeout_s=120)
    assert _arrays(run / "hosts" / "h2" / "checkpoints", 10) == _arrays(at_home, 10)
    assert _losses(far, run.name) == _losses(far, at_home.parents[2].name)
    peers = [json.loads((run / "plan.g2.json").read_text())["ranks"][n]["env"]["TF_CONFIG"] for n in range(2)]
    if version == 6:
        assert all(f"[{far.host(name).address6}]:20" in peer for name in ("h2", "h3") for peer in peers)
    assert far.left() == []


def _hosts_of(spec: Path) -> list[Any]:
    import yaml

    hosts: list[Any] = yaml.safe_load(spec.read_text())["hosts"]
    return hosts


def _losses(far: NetFar, run: str) -> list[tuple[float, float]]:
    return [(epoch["loss"], epoch["val_loss"]) for epoch in far.launcher.json("report", run)["epochs"]]


def _arrays(checkpoints: Path, epoch: int) -> dict[str, bytes]:
    """What the checkpoint at the end of an epoch holds, by name."""
    import numpy as np

    found = [p for p in checkpoints.iterdir() if json.loads((p / "manifest.json").read_text())["epoch"] == epoch]
    with np.load(found[0] / "arrays.npz") as arrays:
        return {name: arrays[name].tobytes() for name in arrays.files}
