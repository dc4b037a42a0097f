"""A plan on the screen."""

from __future__ import annotations

from launcher.plan.build import plan
from launcher.plan.facts import Facts
from launcher.plan.shell import line
from launcher.spec.model import ClusterSpec, HostSpec
from launcher.view.plan import render
from tests.plan_values import facts, spec

HERE = HostSpec("here", local=True, workers=2)
AWAY = HostSpec("gpu-a", env={"NCCL_DEBUG": "WARN"})


def shown(cluster: ClusterSpec, found: Facts, rank: int | None = None, width: int = 80) -> str:
    return render(plan(cluster, found, run="job-1"), rank=rank, width=width)


def without_commands(text: str) -> list[str]:
    lines, inside = [], False
    for one in text.splitlines():
        inside = inside or one.startswith("(umask")
        if not inside:
            lines.append(one)
        inside = inside and one.endswith("\\")
    return lines


def test_every_line_but_the_commands_fits_the_width() -> None:
    many = [HostSpec(f"host-{i}", local=True) for i in range(20)]
    found = {host.name: facts(host.name, address=f"10.0.0.{i}") for i, host in enumerate(many, 1)}
    for width in (60, 80, 100):
        assert max(map(len, without_commands(shown(spec(*many), found, width=width)))) <= width


def test_each_rank_shows_all_that_a_person_asks_for() -> None:
    text = shown(spec(HERE), {"here": facts("here", gpus=2)})
    for part in (
        "job-1, generation 1: 2 workers on 1 host, global batch 64",
        "127.0.0.1:20001",
        "GPU-here-1",
        '{"cluster": {"worker": [',
        '"task": {"type": "worker", "index": 1}',
        "LAUNCHER_RANK=1",
        "OMP_NUM_THREADS=4",
        "argv: /venv/bin/python /runs/job/hosts/here/code/abc train",
        "cwd: /runs/job/hosts/here/sources/def",
        "log: g1/rank1.log",
    ):
        assert part in text, part
    made = plan(spec(HERE), {"here": facts("here", gpus=2)}, run="job-1")
    assert all(line(rank, folded=True) in text for rank in made.ranks)


def test_one_rank_alone_shows_its_whole_environment() -> None:
    text = shown(spec(HERE), {"here": facts("here")}, rank=1)
    assert "Rank 1" in text
    assert "Rank 0" not in text
    assert "LAUNCHER_RUN=job-1" in text


def test_an_unknown_host_shows_as_found_at_check_and_gives_no_line_to_paste() -> None:
    text = shown(spec(HERE, AWAY), {"here": facts("here")})
    row = next(one for one in text.splitlines() if one.startswith("2 "))
    assert row.count("found at check") == 3
    assert "by hand" not in text
    assert "the facts of gpu-a are not known here" in text
    assert "NCCL_DEBUG=WARN" in text


def test_secrets_are_named_and_control_characters_are_escaped() -> None:
    cluster = spec(HostSpec("here", local=True, env={"X": "a\x1b[31mb\nc"}), secrets=("API_KEY",))
    text = shown(cluster, {"here": facts("here")})
    assert "API_KEY=***" in text
    assert "X=a\\x1b[31mb\\nc" in text
    assert "\x1b" not in text
