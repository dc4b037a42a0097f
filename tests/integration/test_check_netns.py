"""All pairs over real networks, with packets that are really dropped."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from launcher.check.finding import Finding, Verdict
from launcher.check.preflight import Examined, examine, refuse
from launcher.errors import NotFitError
from launcher.hosts.local_session import LocalSession
from launcher.hosts.session import Channel
from launcher.runs.folder import RunFolder
from launcher.spec.model import ClusterSpec
from tests.check_values import host
from tests.lab.netns import NetHost, NetHosts, netns_hosts, why_no_netns
from tests.plan_values import spec

pytestmark = pytest.mark.skipif(bool(why_no_netns()), reason=why_no_netns() or "there are namespaces")


class NetSession(LocalSession):
    """Commands run on a host of the lab, without SSH."""

    def __init__(self, host: NetHost) -> None:
        super().__init__(host.name)
        self._host = host

    def run(self, command: str) -> Channel:
        return super().run("exec " + shlex.join(self._host.command("/bin/sh", "-c", command)))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetHosts]:
    with netns_hosts(tmp_path_factory.mktemp("lab"), 3) as hosts:
        yield hosts


@pytest.fixture(autouse=True)
def healed(lab: NetHosts) -> Iterator[None]:
    yield
    for n in range(len(lab)):
        lab.host(n).heal()


def cluster(**keys: object) -> ClusterSpec:
    return spec(*(host(f"h{n}", gpus=0, python=sys.executable, workdir="~/work", **keys) for n in (1, 2, 3)))


def examined(lab: NetHosts, tmp_path: Path, what: ClusterSpec | None = None) -> Examined:
    with ExitStack() as stack:
        sessions = {one.name: NetSession(lab.host(n)) for n, one in enumerate(lab)}
        for session in sessions.values():
            stack.callback(session.close)
        return examine(what or cluster(), RunFolder(tmp_path / "job-1"), sessions)


def of_pairs(what: Examined) -> list[Finding]:
    return [one for one in what.findings if one.check == "pairs" and one.verdict is Verdict.FAIL]


def test_three_machines_reach_each_other_at_the_addresses_of_their_network(lab: NetHosts, tmp_path: Path) -> None:
    what = examined(lab, tmp_path)
    assert what.seen.plan is not None
    assert [rank.address for rank in what.seen.plan.ranks] == [one.address for one in lab]
    assert what.seen.facts["h1"].interface == "eth0"
    assert of_pairs(what) == []


def test_one_pair_whose_packets_are_dropped_is_named_with_port_and_rule(lab: NetHosts, tmp_path: Path) -> None:
    lab.host(1).cut("in", peer=lab[0].address, port="20000:20099")
    what = examined(lab, tmp_path)
    (wrong,) = of_pairs(what)
    assert what.seen.plan is not None
    port = what.seen.plan.ranks[1].port
    assert wrong.what == f"h1 → h2 at {lab[1].address}:{port}: timed out"
    assert f"-s {lab[0].address} --dport 20000:20099" in wrong.fix or f"from {lab[0].address}" in wrong.fix
    with pytest.raises(NotFitError, match="h1 → h2"):
        refuse(what.findings)


def test_a_firewall_that_refuses_aloud_is_told_by_that_word(lab: NetHosts, tmp_path: Path) -> None:
    lab.host(2).firewall("22", refuse=True)
    (wrong,) = of_pairs(examined(lab, tmp_path))
    assert "h1 → h3, h2 → h3 at" in wrong.what
    assert wrong.what.endswith(": refused")


def test_a_firewall_with_only_the_ports_of_the_spec_open_is_fit_for_cpus(lab: NetHosts, tmp_path: Path) -> None:
    for n in range(3):
        lab.host(n).firewall("22", "20000:20099")
    what = examined(lab, tmp_path)
    assert of_pairs(what) == []
    assert any("only the ports of the spec get through" in one.what for one in what.findings)


def test_another_address_that_answers_is_proposed(lab: NetHosts, tmp_path: Path) -> None:
    for n in (0, 1):
        lab.host(n).run("ip", "address", "add", f"10.9.9.{n + 1}/24", "dev", "eth0")
    try:
        lab.host(1).cut("in", peer=lab[0].address)
        # What h1 answers is dropped, too: both ways are blocked.
        wrong, _ = of_pairs(examined(lab, tmp_path))
        assert wrong.what.startswith("h1 → h2 at")
        assert wrong.fix.startswith("h2 answers at 10.9.9.2 (eth0): set `network: 10.9.9.0/24`")
    finally:
        for n in (0, 1):
            lab.host(n).run("ip", "address", "del", f"10.9.9.{n + 1}/24", "dev", "eth0")
