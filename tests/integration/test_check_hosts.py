"""What hosts tell of themselves, asked through sessions."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from launcher.check import local, remote
from launcher.check.errand import Visits
from launcher.check.finding import Verdict
from launcher.check.preflight import examine
from launcher.errors import NotFitError
from launcher.hosts.local_session import LocalSession
from launcher.hosts.session import Session
from launcher.runs.folder import RunFolder
from launcher.spec.model import ClusterSpec, HostSpec
from launcher.view import check as view
from tests.check_values import host
from tests.integration.sessions import Elsewhere, Instead, OtherClock
from tests.plan_values import spec
from worker.contract.machine.identity import machine


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "it's a home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    return folder


def looked(stack: ExitStack, cluster: ClusterSpec, *sessions: Session, runs: Path = Path("/tmp")) -> remote.Looked:
    for session in sessions:
        stack.callback(session.close)
    with Visits(cluster, {session.name: session for session in sessions}) as visits:
        return remote.look(cluster, visits, runs=runs)


def test_a_host_tells_all_that_a_plan_needs(stack: ExitStack, home: Path) -> None:
    cluster = spec(host("far", python=sys.executable, workdir="~/my work", ports=(31000, 31099)))
    begun = time.monotonic()
    found = looked(stack, cluster, LocalSession("far")).found["far"]
    assert time.monotonic() - begun < 20
    assert found.failures == {}
    assert found.machine == machine()
    assert (found.uid, found.home) == (os.getuid(), str(home))
    assert found.code.startswith(f"{home}/my work/code/")
    assert found.python.path == sys.executable
    assert found.python.version == "{}.{}.{}".format(*sys.version_info[:3])
    assert (found.disk.path, found.disk.exists, found.disk.refused) == (str(home / "my work"), True, "")
    assert found.disk.free_bytes > 0
    assert {one.address for one in found.interfaces} >= {"127.0.0.1"}
    assert len(found.free_ports) > local.MARGIN
    assert all(31000 <= port <= 31099 for port in found.free_ports)
    assert abs(found.clock_s) < 0.5
    assert sorted(path.name for path in (home / "my work").iterdir()) == ["code", "facts"]


def test_what_is_told_agrees_with_what_the_coordinator_sees_here(stack: ExitStack, tmp_path: Path) -> None:
    cluster = spec(HostSpec("here", local=True, gpus=0))
    run = RunFolder(tmp_path / "runs" / "job-1")
    session = stack.enter_context(closing(LocalSession("here")))
    told = remote.gather(cluster, run, {"here": session}, port_offset=0)["here"]
    seen = local.gather(cluster, run.path, port_offset=0)["here"]
    assert (told.machine, told.cores, told.python, told.folder, told.code, told.source, told.free_ports) == (
        *(seen.machine, seen.cores, seen.python, seen.folder, seen.code, seen.source, seen.free_ports),
    )


def test_a_clock_an_hour_ahead_is_measured(stack: ExitStack) -> None:
    cluster = spec(here("a"), here("b"))
    found = looked(stack, cluster, OtherClock("a", 3600.0), LocalSession("b")).found
    assert abs(found["a"].clock_s - 3600) < 1
    assert abs(found["b"].clock_s) < 0.5


def test_a_proxy_is_seen_by_name_and_its_password_is_told_to_nobody(stack: ExitStack, tmp_path: Path) -> None:
    cluster = spec(host("a", gpus=0, python=sys.executable))
    session = stack.enter_context(closing(Elsewhere("a", https_proxy="http://me:hunter2@proxy:3128", no_proxy=".lan")))
    examined = examine(cluster, RunFolder(tmp_path / "job-1"), {"a": session})
    found = examined.seen.found["a"]
    assert found.proxies == ("https_proxy",)
    assert examined.seen.facts["a"].proxies
    assert found.environment["no_proxy"] == ".lan"
    assert "hunter2" not in json.dumps(view.to_json(examined))


def here(name: str) -> HostSpec:
    """One whose errand is started without the door."""
    return HostSpec(name, local=True)


def bare(folder: Path) -> str:
    """A Python without any package."""
    path = folder / "bare python"
    path.write_text(f"#!/bin/sh\nexec '{sys.executable}' -S \"$@\"\n")
    path.chmod(0o755)
    return str(path)


def test_a_python_without_tensorflow_and_one_that_is_none_are_told(stack: ExitStack, tmp_path: Path) -> None:
    liar = tmp_path / "liar"
    liar.write_text("#!/bin/sh\necho 'I am no Python' >&2; exit 3\n")
    liar.chmod(0o755)
    cluster = spec(host("a", python=bare(tmp_path)), host("b", python=str(liar)), host("c", python="~/none"), host("d"))
    found = looked(stack, cluster, *(LocalSession(name) for name in "abcd")).found
    assert (found["a"].python.tensorflow, found["a"].python.missing) == ("", "")
    assert found["a"].python.version.startswith("3.")
    assert "is no Python that works: I am no Python" in found["b"].python.missing
    assert found["c"].python.missing == "~/none is not an executable file"
    assert Path(found["d"].python.path).name == "python3"


def test_the_versions_of_tensorflow_and_keras_are_found_without_importing_them(stack: ExitStack) -> None:
    importlib_metadata = pytest.importorskip("importlib.metadata")
    try:
        expected = importlib_metadata.version("tensorflow"), importlib_metadata.version("keras")
    except importlib_metadata.PackageNotFoundError:
        pytest.skip("TensorFlow is not installed here")
    found = looked(stack, spec(host("a", python=sys.executable)), LocalSession("a")).found["a"]
    assert (found.python.tensorflow, found.python.keras) == expected


def test_versions_are_looked_up_again_only_when_a_package_has_come_or_gone(stack: ExitStack, home: Path) -> None:
    packages, asked = home / "packages", home / "asked"
    packages.mkdir()
    (home / "work").mkdir()
    python = home / "python"
    python.write_text(f"#!/bin/sh\necho asked >> {shlex.quote(str(asked))}\nexec '{sys.executable}' -S \"$@\"\n")
    python.chmod(0o755)
    cluster = spec(host("a", python=str(python), workdir="~/work", env={"PYTHONPATH": str(packages)}))

    def versions() -> tuple[str, int]:
        found = looked(stack, cluster, LocalSession("a")).found["a"]
        return found.python.tensorflow, len(asked.read_text().splitlines())

    assert versions() == ("", 1)
    assert versions() == ("", 1)
    (packages / "tensorflow").mkdir()
    (packages / "tensorflow" / "__init__.py").write_text("raise SystemExit('it was imported')")
    (packages / "tensorflow-2.99.0.dist-info").mkdir()
    (packages / "tensorflow-2.99.0.dist-info" / "METADATA").write_text("Name: tensorflow\nVersion: 2.99.0\n")
    assert versions() == ("2.99.0", 2)
    assert versions() == ("2.99.0", 2)
    for note in (home / "work" / "facts").iterdir():
        note.write_text("{}")
    assert versions() == ("2.99.0", 3)


def test_a_folder_in_which_nothing_can_be_written_is_told(stack: ExitStack, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for runs, why in ((tmp_path / "file", "Not a directory"), (Path("/proc/no/such"), "")):
        found = looked(stack, spec(here("a")), LocalSession("a"), runs=runs).found["a"]
        assert found.disk.refused
        assert why in found.disk.refused
    assert (tmp_path / "file").read_text() == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "it's a home"]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("exec sleep 0.2", "it ended without a word"),
        ("echo 'python3: not found' >&2; exit 127", "python3: not found"),
        ("printf 'launcher-wire\\nGARBAGE'; exec sleep 0.2", "what is not our protocol"),
        ("printf 'Welcome!\\nlauncher-wire\\n'; exec sleep 0.2", "`clock` was expected"),
    ],
)
def test_one_bad_host_is_told_and_hides_no_other(stack: ExitStack, command: str, words: str) -> None:
    cluster = spec(here("bad"), host("good"))
    result = looked(stack, cluster, Instead("bad", command), LocalSession("good"))
    assert list(result.found) == ["good"]
    assert words in result.failed["bad"].message
    with pytest.raises(NotFitError, match="bad"):
        remote.gather(
            cluster, RunFolder(Path("/tmp/none/job-1")), {"bad": Instead("bad", command), "good": LocalSession("good")}
        )


def test_gather_names_every_host_that_has_no_such_python(stack: ExitStack, tmp_path: Path) -> None:
    cluster = spec(host("a", python="~/none"), host("b", network="203.0.113.0/24"), host("c"))
    sessions = {name: stack.enter_context(closing(LocalSession(name))) for name in "abc"}
    with pytest.raises(NotFitError) as caught:
        remote.gather(cluster, RunFolder(tmp_path / "job-1"), sessions)
    assert "  a: python: ~/none is not an executable file" in caught.value.message
    assert "  b: no address of host b is in 203.0.113.0/24" in caught.value.message
    assert "  c: " not in caught.value.message


def test_an_examination_of_two_hosts_that_are_one_machine_is_fit_but_for_tensorflow(
    stack: ExitStack, tmp_path: Path
) -> None:
    cluster = spec(host("a", gpus=0, python=bare(tmp_path)), host("b", gpus=0, python=bare(tmp_path)))
    sessions = {name: stack.enter_context(closing(LocalSession(name))) for name in "ab"}
    examined = examine(cluster, RunFolder(tmp_path / "job-1"), sessions)
    assert {f.check for f in examined.findings if f.verdict is Verdict.FAIL} == {"tensorflow"}
    assert examined.seen.plan is not None
    assert examined.seen.plan.known
    assert examined.seen.tried is not None
    assert {(p.source, p.target) for p in examined.seen.tried.pairs if not p.why} == {("a", "b"), ("b", "a")}
    assert examined.seen.facts["a"].folder == f"{examined.seen.found['a'].disk.path}/job-1/a"
