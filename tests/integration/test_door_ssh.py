"""The door and staging through a real sshd, with login shells of several kinds."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest

from launcher.errors import NotFitError
from launcher.hosts import package
from launcher.hosts.local_session import LocalSession
from launcher.hosts.reach import Reacher
from launcher.spec.model import HostSpec, Ssh, SyncSpec
from launcher.stage import survey
from launcher.stage.ready import Goods, make_ready
from launcher.stage.remote import There
from tests.lab.sshd import SshHost, sshd_hosts, why_no_sshd

pytestmark = pytest.mark.skipif(bool(why_no_sshd()), reason=why_no_sshd())

Login = Callable[..., tuple[SshHost, LocalSession]]


@pytest.fixture
def login(tmp_path: Path) -> Iterator[Login]:
    """A host, and a session to it by the system's ssh: a process for each command."""
    ends: list[Callable[[], object]] = []

    def enter(**setting: str) -> tuple[SshHost, LocalSession]:
        lab = sshd_hosts(tmp_path / "lab", 1, **setting)  # type: ignore[arg-type]
        host = lab.__enter__()[0]
        ends.append(lambda: lab.__exit__(None, None, None))
        session = LocalSession("h1", shell=("ssh", "-F", str(host.config), "h1"))
        ends.append(session.close)
        return host, session

    yield enter
    for end in reversed(ends):
        end()


@pytest.mark.parametrize("shell", ["bash", "dash", "zsh", "fish", "tcsh"])
def test_a_login_shell_of_each_kind_lets_us_in(shell: str, login: Login) -> None:
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"{shell} is not installed")
    host, session = login(shell=path)
    with There(session, workdir="~/a work'dir") as there:
        assert there.workdir == f"{host.home}/a work'dir"
        assert there.look(["~"]) == [(str(host.home), "folder")]
    assert [p.name for p in (host.home / "a work'dir" / "code").iterdir()] == [package.installed().digest]


@pytest.mark.parametrize("transport", ["paramiko", "openssh"])
def test_every_transport_brings_code_and_trees(
    transport: Literal["paramiko", "openssh"], login: Login, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    host, _ = login(greeting="Welcome!\n")
    job = tmp_path / "job"
    job.mkdir()
    (job / "big.bin").write_bytes(os.urandom(5 << 20))
    tree = survey.sources(SyncSpec(str(job)), tmp_path / "runs")
    spec = HostSpec("h1", ssh=Ssh(alias="h1"), transport=transport)
    with Reacher(connect_s=15, config=host.config) as reacher:
        session = reacher.open(spec)
        try:
            for _ in range(3):
                with There(session, workdir="~/work") as there:
                    place = there.bring(tree, "sources")
            with There(session, workdir="~/work") as there, pytest.raises(NotFitError, match="ended with 3"):
                there.setup(["exit 3"], "x")
        finally:
            session.close()
    assert Path(place, "big.bin").read_bytes() == (job / "big.bin").read_bytes()


def test_a_greeting_of_the_login_files_is_skipped(login: Login) -> None:
    _, session = login(greeting="Welcome! launcher-door? No.\n")
    with There(session, workdir="~/work") as there:
        assert there.look(["/"])[0][1] == "folder"


def test_a_host_is_made_ready_over_ssh(login: Login, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    host, session = login()
    job = tmp_path / "job"
    job.mkdir()
    (job / "train.py").write_text("print(1)")
    goods = Goods(sources=survey.sources(SyncSpec(str(job)), tmp_path / "runs"))
    spec = HostSpec("h1", setup=("echo one > ~/made",), activate="export MADE=$(cat ~/made)")
    ready = make_ready(session, spec, "run-1", goods)
    assert ready.workdir == f"{host.home}/launcher-work"
    assert Path(ready.source, "train.py").read_text() == "print(1)"
    assert ready.activated.env["MADE"] == "one"
