"""Hosts whose login is not what one would wish, under `up` and `check`: what can be survived is, the rest is named."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.far import Far, far_in
from tests.integration.harness import launcher_in
from tests.integration.there import nothing_alive
from tests.lab.hosts import own_shell, why_no_sshd
from tests.lab.netns import OTHER, netns_hosts, why_no_netns

pytestmark = pytest.mark.skipif(bool(why_no_sshd()), reason=why_no_sshd())
needs_bash = pytest.mark.skipif(own_shell().name != "bash", reason="start files are bash's here")
needs_netns = pytest.mark.skipif(bool(why_no_netns()), reason=why_no_netns())

SPEAKS = "print('done')\n"
TOO_OLD = """#!/bin/sh
exec {python} -I -S -c 'import sys; sys.version_info = (3, 6, 9, "final", 0); exec(sys.argv.pop())' "$4"
"""


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Far]:
    with far_in(tmp_path) as one:
        yield one


def trains(far: Far, spec: Path) -> None:
    assert "trained" in far.launcher.run("up", str(spec)).stdout
    for rank, host in enumerate(far.hosts):
        log = far.launcher.newest() / "hosts" / host.name / "g1" / f"rank{rank}.log"
        assert log.read_text() == "done\n"
    nothing_alive(far)


def refused(far: Far, spec: Path, *words: str) -> None:
    """Both verbs say so, of h2 and of no other host, with what to do; nothing is left."""
    for verb in ("check", "up"):
        done = far.launcher.run(verb, str(spec), check=3)
        said = done.stdout + done.stderr
        assert [word for word in ("h2", *words) if word not in said] == [], said
        assert verb == "check" or "h1: " not in said  # a check may have a warning for it
        assert "Traceback" not in said
    assert not list(far.launcher.runs.glob("far-*"))
    nothing_alive(far)


@needs_bash
@pytest.mark.parametrize("start_file", ["echo Welcome; echo launcher-door", "read line; read line", "cat >/dev/null &"])
def test_start_files_that_print_or_read_are_survived(far: Far, start_file: str) -> None:
    for host in far.hosts:
        (host.home / ".bashrc").write_text(start_file + "\n")
    trains(far, far.program(SPEAKS))


@needs_bash
def test_a_start_file_that_exits_is_named(far: Far) -> None:
    (far.hosts[1].home / ".bashrc").write_text("echo No python for you.; exit 3\n")
    words = ("the login shell ended with exit status 3: No python for you.", "~/.bashrc", "ssh h2 python3 --version")
    refused(far, far.program(SPEAKS), *words)


@needs_bash
def test_a_host_without_python3_is_named_with_what_to_install(far: Far) -> None:
    (far.hosts[1].home / ".bashrc").write_text("PATH=$HOME/nothing\n")
    refused(far, far.program(SPEAKS), "python3 is not found", "apt install python3")


@needs_bash
def test_a_host_with_a_python3_that_is_too_old_is_named_with_its_version(far: Far) -> None:
    place = far.hosts[1].home / "bin"
    place.mkdir()
    (place / "python3").write_text(TOO_OLD.format(python=sys.executable))
    (place / "python3").chmod(0o755)
    (far.hosts[1].home / ".bashrc").write_text("PATH=$HOME/bin:$PATH\n")
    refused(far, far.program(SPEAKS), "is 3.6.9, and 3.8 or later is needed", "install a newer Python")


@needs_netns
def test_a_home_that_cannot_be_written_to_is_named_and_another_workdir_will_do(tmp_path: Path) -> None:
    with netns_hosts(tmp_path / "lab", 2) as hosts, launcher_in(tmp_path / "home") as launcher:
        other = dataclasses.replace(hosts[1], user=OTHER)
        far = Far(launcher, [hosts[0], other])
        hosts.host(1).run("chown", "root", f"/mnt/{OTHER}")
        hosts.host(1).run("chmod", "755", f"/mnt/{OTHER}")
        spec = far.program(SPEAKS)
        text = spec.read_text().replace(f"python: {sys.executable}, ", "python: /usr/bin/python3, ")
        spec.write_text(text)
        refused(far, spec, f"/mnt/{OTHER}/launcher-work cannot be used as a folder: Permission denied", "set `workdir`")
        hosts.host(1).run("install", "-d", "-o", OTHER, "-m", "700", "/mnt/room")
        spec.write_text(text.replace("name: h2, ", "name: h2, workdir: /mnt/room/work, "))
        trains(far, spec)


@needs_netns
def test_a_tmp_that_runs_no_programs_is_no_obstacle(tmp_path: Path) -> None:
    with netns_hosts(tmp_path / "lab", 1) as hosts, launcher_in(tmp_path / "home") as launcher:
        hosts.host(0).run("mount", "--bind", "/tmp", "/tmp")
        hosts.host(0).run("mount", "-o", "remount,bind,noexec", "/tmp")
        far = Far(launcher, hosts)
        trains(far, far.program(SPEAKS, each="setup: [echo made > made], activate: export MADE=yes"))
