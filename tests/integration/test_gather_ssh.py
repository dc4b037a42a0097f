"""Gathering over real SSH: connections that are killed under way, keys exchanged anew in the middle of a file."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.errors import NotFitError
from launcher.gather.checkpoints import Checkpoints
from launcher.gather.complete import complete
from launcher.gather.mirror import Mirror
from launcher.gather.send import bring_checkpoint
from launcher.hosts.reach import Reacher
from launcher.spec.model import HostSpec, Ssh
from tests.gather_lab import append, make_checkpoint, running, source, tree, until, write
from tests.lab.sshd import SshHosts, sshd_hosts, why_no_sshd
from worker.contract.checkpoints import verify

pytestmark = pytest.mark.skipif(bool(why_no_sshd()), reason=why_no_sshd())


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[SshHosts]:
    # The server asks for new keys after every 4 MB: many times within one of our files.
    with sshd_hosts(tmp_path / "lab", count=1, lines=["RekeyLimit 4M"]) as hosts:
        yield hosts


@pytest.fixture
def reacher(hosts: SshHosts) -> Iterator[Reacher]:
    with Reacher(connect_s=10, config=hosts.config) as reacher:
        yield reacher


H1 = HostSpec(name="h1", ssh=Ssh(alias="h1"))


def test_a_host_whose_sshd_dies_again_and_again_loses_nothing(
    tmp_path: Path, hosts: SshHosts, reacher: Reacher
) -> None:
    here = source(tmp_path, lambda: reacher.open(H1))
    log = Path(here.folder) / "g1/rank0.log"
    chance = random.Random(1)
    write(log, chance.randbytes(200_000))
    make_checkpoint(here.folder, 1, size=30 << 20)
    bulk = dataclasses.replace(here, connect=lambda: reacher.open(H1, bulk=True))
    came = 0

    def progress(_name: str, _count: int, there: int, _total: int) -> None:
        nonlocal came
        came = there

    with running(one := Mirror(here), two := Checkpoints(bulk, progress=progress)):
        for part in range(3):
            until(lambda wanted=part * 4_000_000: came > wanted, "some of the checkpoint", 60)  # type: ignore[misc]
            hosts[0].kill()
            append(log, chance.randbytes(100_000))
            hosts[0].start()
        assert one.settle(60)
        assert two.settle(60)
        assert one.breaks >= 1
    assert (Path(here.home) / "g1/rank0.log").read_bytes() == log.read_bytes()
    assert verify(f"{here.home}/checkpoints/g1-s1") == []


def test_a_large_file_comes_whole_through_new_keys_and_goes_back(
    tmp_path: Path, hosts: SshHosts, reacher: Reacher
) -> None:
    here = source(tmp_path)
    write(Path(here.folder) / "output/model.keras", random.Random(2).randbytes(40 << 20))
    make_checkpoint(here.folder, 1, size=20 << 20)
    session = reacher.open(H1, bulk=True)
    try:
        done = complete(session, here.folder, here.home, workdir=here.workdir)
        assert done.problems == []
        assert tree(here.home) == tree(here.folder)
        checkpoint = Path(here.home) / "checkpoints/g1-s1"
        path = bring_checkpoint(session, checkpoint, "~/elsewhere/run/h1", workdir="~/work")
        assert path == str(hosts[0].home / "elsewhere/run/h1/checkpoints/g1-s1")
        assert tree(path) == tree(checkpoint)
        hosts[0].kill()
        with pytest.raises(NotFitError):
            complete(session, here.folder, here.home, workdir=here.workdir)
    finally:
        session.close()
