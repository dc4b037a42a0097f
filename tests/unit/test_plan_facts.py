"""What is found on this machine, and facts in files."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from launcher.check import facts_file, local
from launcher.errors import NotFitError, UsageError
from launcher.plan.build import plan
from launcher.plan.facts import Facts
from launcher.spec.model import HostSpec
from tests.plan_values import facts, spec
from worker.contract.machine import cores, ports


def host(name: str = "here", **keys: Any) -> HostSpec:
    return HostSpec(name, local=True, **keys)


def test_the_facts_of_this_machine_make_a_plan(tmp_path: Path) -> None:
    cluster = spec(host(workers=2, gpus=0), host("too", gpus=0))
    found = local.gather(cluster, tmp_path / "job-1")
    one = found["here"]
    assert (one.address, one.cores >= 1, one.python) == ("127.0.0.1", True, sys.executable)
    assert one.folder == str(tmp_path / "job-1" / "hosts" / "here")
    assert Path(one.code, "__main__.py").is_file()
    assert one.machine == found["too"].machine
    made = plan(cluster, found, run="job-1")
    assert made.known
    assert len({rank.port for rank in made.ranks}) == 3
    assert not (tmp_path / "job-1").exists()


def test_only_local_hosts_are_looked_at_and_those_to_skip_are_not(tmp_path: Path) -> None:
    cluster = spec(host(), HostSpec("far"), host("known"))
    assert list(local.gather(cluster, tmp_path, skip={"known"})) == ["here"]
    assert local.gather(spec(HostSpec("far")), tmp_path) == {}


def test_staged_folders_and_the_users_own_are_told_apart(tmp_path: Path) -> None:
    program = spec(host(gpus=0), program=("python", "t.py"))
    assert local.gather(program, tmp_path)["here"].source == program.sync.source
    given = local.gather(program, tmp_path, codes={"here": "/c"}, sources={"here": "/s"})["here"]
    assert (given.code, given.source) == ("/c", "/s")
    assert local.gather(spec(host(gpus=0)), tmp_path)["here"].source == f"{tmp_path}/hosts/here/sources/none"


def test_it_takes_a_few_milliseconds(tmp_path: Path) -> None:
    cluster = spec(host(workers=4), host("too"))
    took = []
    for _ in range(5):
        begun = time.perf_counter()
        local.gather(cluster, tmp_path)
        took.append(time.perf_counter() - begun)
    assert min(took) < 0.02


@pytest.mark.parametrize(("address", "expected"), [("10.9.8.7", "10.9.8.7"), ("127.0.0.1", "127.0.0.1")])
def test_an_address_of_the_spec_is_taken(tmp_path: Path, address: str, expected: str) -> None:
    found = local.gather(spec(host(gpus=0, address=address)), tmp_path)["here"]
    assert (found.address, found.interface) == (expected, "lo" if address == "127.0.0.1" else "")


def test_a_network_picks_the_address_and_its_interface(tmp_path: Path) -> None:
    found = local.gather(spec(host(gpus=0, network="127.0.0.0/8")), tmp_path)["here"]
    assert (found.address, found.interface) == ("127.0.0.1", "lo")
    with pytest.raises(
        NotFitError, match=r"no address of this machine is in 198.51.100.0/24; found: .*127.0.0.1 on lo"
    ):
        local.gather(spec(host(gpus=0, network="198.51.100.0/24")), tmp_path)


def test_python_may_be_named_by_its_path_or_its_name_and_must_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = tmp_path / "my python"
    link.symlink_to(sys.executable)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    for said in (str(link), "~/my python", "my python"):
        assert local.python(host(python=said)) == str(link)
    (tmp_path / "text").write_text("")
    for wrong in (str(tmp_path / "text"), str(tmp_path), "/no/such", "nosuch"):
        with pytest.raises(NotFitError, match="is not an executable file") as caught:
            local.python(host(python=wrong))
        assert "set `python:`" in caught.value.hint


def test_proxies_are_seen_and_no_other_variable_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    cluster = spec(host(gpus=0))
    assert not local.gather(cluster, tmp_path)["here"].proxies
    monkeypatch.setenv("HTTPS_PROXY", "http://me:password@proxy:3128")
    monkeypatch.setenv("no_proxy", ".lan")
    monkeypatch.setenv("PYTHONPATH", "/p")
    found = local.gather(cluster, tmp_path)["here"]
    assert found.proxies
    assert found.environment == {"no_proxy": ".lan", "PYTHONPATH": "/p"} | (
        {"NO_PROXY": os.environ["NO_PROXY"]} if "NO_PROXY" in os.environ else {}
    )


def listening(address: str, family: socket.AddressFamily = socket.AF_INET) -> socket.socket:
    listener = socket.socket(family)
    listener.bind((address, 0))
    listener.listen()
    return listener


@pytest.mark.parametrize(
    ("address", "family"), [("127.0.0.1", socket.AF_INET), ("0.0.0.0", socket.AF_INET), ("::1", socket.AF_INET6)]
)
def test_a_port_that_anything_holds_on_any_interface_is_not_free(address: str, family: socket.AddressFamily) -> None:
    try:
        listener = listening(address, family)
    except OSError:
        pytest.skip(f"no {address} here")
    with listener:
        port = listener.getsockname()[1]
        assert ports.free(port, port, 1) == ()
    assert ports.free(port, port, 1) == (port,)


def test_ports_begin_at_an_offset_wrap_around_and_stop_when_there_are_enough() -> None:
    every = ports.free(31000, 31099, 1000, offset=0)
    assert len(every) > 50
    assert every == tuple(sorted(every))
    assert ports.free(31000, 31099, 3, offset=0) == every[:3]
    turned = ports.free(31000, 31099, 1000, offset=98)
    assert set(turned) == set(every)
    assert turned[0] >= 31098 or every[-1] < 31098
    assert len({ports.free(31000, 31099, 1)[0] for _ in range(20)}) > 5
    assert ports.free(31001, 31000, 1) == ()


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/a/b\n", {"a/cpu.max": "150000 100000", "a/b/cpu.max": "max 100000"}, 1),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "50000 100000"}, 1),
        ("0::/\n", {"cpu.max": "200000 100000"}, 2),
        ("0::/a\n", {"a/cpu.max": "garbage"}, None),
        (
            "3:cpu,cpuacct:/x\n0::/\n",
            {"cpu,cpuacct/x/cpu.cfs_quota_us": "100000", "cpu,cpuacct/x/cpu.cfs_period_us": "100000"},
            1,
        ),
        ("3:cpu:/x\n", {"cpu/x/cpu.cfs_quota_us": "-1", "cpu/x/cpu.cfs_period_us": "100000"}, None),
        ("", {}, None),
    ],
)
def test_a_quota_of_any_group_above_limits_the_cores(
    own: str, files: dict[str, str], expected: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    (tmp_path / "own").write_text(own)
    for name, text in files.items():
        path = tmp_path / "fs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert cores.usable(tmp_path / "fs", tmp_path / "own") == (expected or 16)


def test_facts_come_back_equal_from_a_file(tmp_path: Path) -> None:
    found: Facts = {"a": facts("a", gpus=2, busy=(1,), environment={"no_proxy": "x"}), "b": facts("b", proxies=True)}
    path = tmp_path / "it's\nfacts.json"
    facts_file.write(path, found)
    assert facts_file.read(path) == found
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def changed(key: str, value: object) -> str:
    whole = facts_file.to_json({"a": facts("a", gpus=1)})
    place, _, last = key.rpartition("/")
    at: Any = whole
    for step in place.split("/") if place else []:
        at = at[int(step) if step.isdigit() else step]
    at[last] = value
    return json.dumps(whole)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a file of facts"),
        ("\0\xff", "not a file of facts"),
        ("[" * 100_000, "not a file of facts"),
        ("[]", "`version: 1` is expected"),
        (changed("version", 2), "`version: 1` is expected, and found: 2"),
        (changed("hosts", []), r"hosts: an object is expected, and found: \[\]"),
        (changed("hosts/a", 1), "hosts.a: an object is expected"),
        (changed("hosts/a/address", None), "hosts.a.address: a text is expected, and found: nothing"),
        (changed("hosts/a/cores", 0), "hosts.a.cores: at least 1"),
        (changed("hosts/a/cores", True), "hosts.a.cores: a whole number is expected, and found: True"),
        (changed("hosts/a/free_ports", [70000]), "hosts.a.free_ports: a port from 1 to 65535"),
        (changed("hosts/a/gpus/0/uuid", 3), r"hosts.a.gpus\[0\].uuid: a text is expected"),
        (changed("hosts/a/environment", {"A": 1}), "hosts.a.environment.A: a text"),
    ],
)
def test_a_file_that_holds_no_facts_says_where(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match=message):
        facts_file.read(path)


def test_a_missing_file_of_facts_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        facts_file.read(tmp_path / "none.json")
    with pytest.raises(UsageError, match="cannot be written"):
        facts_file.write(tmp_path / "no" / "folder.json", {})
