"""Runs on other machines, as a user starts them: real sshd's, real cuts, and a coordinator that is killed."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.integration.far import Far, far_in
from tests.integration.harness import is_alive, wait_for
from tests.lab.hosts import why_no_sshd

pytestmark = pytest.mark.skipif(bool(why_no_sshd()), reason=why_no_sshd())

SPEAKS = """\
import os, pathlib, sys
rank = os.environ["LAUNCHER_RANK"]
print("rank", rank, "in", os.getcwd(), "finds", pathlib.Path("beside.txt").read_text(), flush=True)
pathlib.Path(os.environ["LAUNCHER_OUTPUT_DIR"], "found.txt").write_text(rank)
"""
COUNTS = """\
import os, signal, sys, time
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
number = 0
while not stop and not os.path.exists(os.environ["END"]):
    print("line", number, "x" * 80, flush=True)
    number += 1
    time.sleep(0.01)
print("end after", number, flush=True)
"""


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Far]:
    with far_in(tmp_path) as one:
        yield one


def whole(text: str) -> bool:
    """Whether the numbered lines are all there, in order, to the last."""
    lines = text.splitlines()
    numbers = [int(line.split()[1]) for line in lines if line.startswith("line ")]
    return numbers == list(range(len(numbers))) and lines[-1] == f"end after {len(numbers)}"


def test_a_program_runs_on_two_hosts_and_all_that_it_leaves_comes_home(far: Far) -> None:
    spec = far.program(SPEAKS)
    (spec.parent / "beside.txt").write_text("what lies beside it")
    done = far.launcher.run("up", str(spec))
    run = far.launcher.newest()
    for rank, host in enumerate(far.hosts):
        log = (run / "hosts" / host.name / "g1" / f"rank{rank}.log").read_text()
        assert log in {f"rank {rank} in {place} finds what lies beside it\n" for place in [log.split()[3]]}
        assert str(host.home) in log
    assert "trained" in done.stdout
    assert (run / "hosts" / "h1" / "output" / "found.txt").read_text() == "0"
    there = next(far.hosts[0].home.glob("launcher-work/far-*/h1"))
    for name in ("events.jsonl", "g1/rank0.log"):
        assert (run / "hosts" / "h1" / name).read_bytes() == (there / name).read_bytes()
    code = set(far.hosts[0].home.glob("launcher-work/code/*"))
    far.launcher.run("up", str(spec))
    assert set(far.hosts[0].home.glob("launcher-work/code/*")) == code, "what is there is not brought again"


def test_what_cannot_be_reached_is_named_with_what_to_do_and_leaves_no_run(far: Far) -> None:
    spec = far.program(SPEAKS)
    far.hosts[1].kill()
    (spec.parent / "cluster.yaml").write_text(spec.read_text().replace(str(far.hosts[0].key), str(spec)))
    done = far.launcher.run("up", str(spec), check=3)
    assert "h1" in done.stderr
    assert "h2" in done.stderr, "one bad host does not hide another"
    assert "next:" in done.stderr or "hint" in done.stderr
    assert not list(far.launcher.runs.glob("far-*"))


def test_a_link_that_breaks_does_not_end_the_run_and_nothing_is_missing_on_return(far: Far, tmp_path: Path) -> None:
    end = tmp_path / "end"
    spec = far.program(COUNTS, each=f"env: {{END: {end}}}")
    view = far.launcher.start("up", str(spec), "--plain")
    far.launcher.wait_event("rank_started", "h2")
    run = far.launcher.newest()
    log = run / "hosts" / "h2" / "g1" / "rank1.log"
    wait_for(lambda: log.exists() and log.stat().st_size > 1000, "lines of rank 1")
    far.hosts[1].kill()
    wait_for(lambda: far.launcher.json("status")["unreachable"], "the loss of the link")
    assert far.launcher.json("status")["state"] == "training"
    far.hosts[1].start()
    wait_for(lambda: not far.launcher.json("status")["unreachable"], "the link's return")
    end.write_text("")
    assert view.wait(30) == 0
    assert whole(log.read_text())
    assert whole((run / "hosts" / "h1" / "g1" / "rank0.log").read_text())


def test_a_killed_coordinator_costs_nothing_and_down_reaches_the_hosts(far: Far, tmp_path: Path) -> None:
    spec = far.program(COUNTS, each=f"env: {{END: {tmp_path / 'end'}}}")
    far.launcher.run("up", "-d", str(spec))
    pids = [far.launcher.wait_event("rank_started", host)[0]["pid"] for host in ("h1", "h2")]
    os.kill(far.launcher.json("status")["coordinator_pid"], signal.SIGKILL)
    wait_for(lambda: far.launcher.json("status")["coordinator_pid"] is None, "the coordinator's death")
    assert far.launcher.json("status")["state"] == "training"
    assert all(is_alive(pid) for pid in pids)
    done = far.launcher.run("down")
    assert "stopped on h1, h2" in done.stdout
    assert not any(is_alive(pid) for pid in pids)
    run = far.launcher.newest()
    for rank, host in enumerate(("h1", "h2")):
        assert whole((run / "hosts" / host / "g1" / f"rank{rank}.log").read_text())
    assert far.launcher.json("status")["state"] == "stopped"


def test_down_stops_a_run_on_other_machines_and_nothing_stays_there(far: Far, tmp_path: Path) -> None:
    spec = far.program(COUNTS, each=f"env: {{END: {tmp_path / 'end'}}}")
    far.launcher.run("up", "-d", str(spec))
    far.launcher.wait_event("rank_started", "h2")
    far.launcher.run("down")
    assert far.launcher.json("status")["state"] == "stopped"
    homes = [str(host.home) for host in far.hosts]
    left = [p for p in psutil.process_iter(["cmdline"]) if any(h in " ".join(p.info["cmdline"] or ()) for h in homes)]
    assert [p.info["cmdline"] for p in left if "sshd" not in " ".join(p.info["cmdline"])] == []


def test_setup_activate_data_and_secrets_reach_the_workers_and_nothing_else(far: Far, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "part.txt").write_text("a part")
    program = (
        "import os, pathlib\n"
        "where = pathlib.Path(os.environ['LAUNCHER_DATA_TRAIN'])\n"
        "print(os.environ['FROM_ACTIVATE'], pathlib.Path('made').read_text(), (where / 'part.txt').read_text())\n"
        "print(len(os.environ['TOKEN']))\n"
    )
    each = "setup: [echo built > made, echo again >> $HOME/setups], activate: export FROM_ACTIVATE=yes"
    spec = far.program(program, f"data: {{train: {data}}}\nsecrets: [TOKEN]\n", each=each)
    secret = "a-secret-that-is-nowhere"
    far.launcher.env["TOKEN"] = secret
    for _ in range(2):
        far.launcher.run("up", str(spec))
    run = far.launcher.newest()
    assert (run / "hosts" / "h1" / "g1" / "rank0.log").read_text() == f"yes built\n a part\n{len(secret)}\n"
    assert (far.hosts[0].home / "setups").read_text() == "again\n", "setup runs once for the same inputs"
    files = [p for root in (far.launcher.runs, *(h.home for h in far.hosts)) for p in root.rglob("*") if p.is_file()]
    assert len(files) > 20
    assert [p for p in files if secret.encode() in p.read_bytes()] == []


def test_a_setup_that_fails_ends_up_with_what_it_printed(far: Far) -> None:
    spec = far.program(SPEAKS, each="setup: [echo no such wheel >&2; exit 4]")
    done = far.launcher.run("up", str(spec), check=3)
    assert "no such wheel" in done.stderr
    assert "h1" in done.stderr
    assert "h2" in done.stderr


@pytest.mark.tensorflow
def test_training_over_ssh_gives_the_local_runs_bits_and_is_resumed_on_other_hosts(tmp_path: Path) -> None:
    train = "train: {dataset: fashion-mnist-mini, epochs: %d, batch_size: 500}\n"
    with far_in(tmp_path, count=3) as far:
        spec = far.spec(train % 1, each="threads: 1", without=["h3"])
        far.launcher.run("up", str(spec), timeout_s=120)
        run = far.launcher.newest()
        moved = far.spec(train % 1, each="threads: 1", without=["h1"], name="moved.yaml")
        hosts = json.dumps(_hosts_of(moved))
        far.launcher.run("resume", run.name, "--set", "train.epochs=2", "--set", f"hosts={hosts}", timeout_s=120)
        local = far.launcher.folder / "local.yaml"
        here = "hosts: [{name: a, local: true, threads: 1}, {name: b, local: true, threads: 1, ports: 20300-20399}]\n"
        local.write_text(f"name: here\n{here}{train % 2}")
        far.launcher.run("up", str(local), timeout_s=120)
        here_run = next(far.launcher.runs.glob("here-*"))
        there = next((run / "hosts" / "h2" / "checkpoints").glob("g2-s*"))
        last = max((here_run / "hosts" / "a" / "checkpoints").iterdir(), key=lambda p: int(p.name.partition("-s")[2]))
        there = there.with_name(f"g2-{last.name.partition('-')[2]}")
        assert _arrays(there) == _arrays(last), "the same bits, be it over SSH, and on whichever hosts"


def _hosts_of(spec: Path) -> list[object]:
    import yaml

    hosts: list[object] = yaml.safe_load(spec.read_text())["hosts"]
    return hosts


def _arrays(checkpoint: Path) -> dict[str, bytes]:
    import numpy as np

    with np.load(checkpoint / "arrays.npz") as arrays:
        return {name: arrays[name].tobytes() for name in arrays.files}
