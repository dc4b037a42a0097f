"""The line that runs a rank by hand, pasted in real shells."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import MappingProxyType

import pytest

from launcher.errors import RunError
from launcher.plan.model import RankPlan
from launcher.plan.shell import line

DUMP = "import json, os, sys; json.dump([sys.argv[1:], os.getcwd(), dict(os.environ)], sys.stdout)"
HOSTILE = [
    "plain",
    "",
    " two  spaces ",
    'it\'s "quoted" `id` $(id) ${HOME} $HOME \\ \\n !! # ~ * ? [a] {a,b}; & | < > %s %%',
    "line one\nline two\n",
    "\n",
    "tab\tbell\aescape\x1b[31m carriage\r\n",
    "ünïcödé 東京 🚀",
    "bytes \udcff\udc80 that are no text",
    "-n",
    "a=b",
    "\x85\x7f",
]
SHELLS = [shell for shell in ("dash", "bash", "sh") if shutil.which(shell)]


def rank(tmp_path: Path, argv: tuple[str, ...], env: dict[str, str], secrets: tuple[str, ...] = ()) -> RankPlan:
    folders = {name: str(tmp_path / "a'; echo foo" / name) for name in ("TMPDIR", "LAUNCHER_OUTPUT_DIR")}
    return RankPlan(
        rank=0,
        host="here",
        address="127.0.0.1",
        port=1,
        gpus=(),
        threads=1,
        argv=argv,
        cwd=str(tmp_path / 'work "dir"\nwith\ttwo lines'),
        env=MappingProxyType({"TF_CONFIG": '{"a": [1, 2]}', **folders, **env}),
        secrets=secrets,
        files={},
        stop="message",
    )


def run(shell: str, text: str, **env: str) -> tuple[list[str], str, dict[str, str]]:
    done = subprocess.run(
        [shell],
        input=os.fsencode(text + "\n"),
        stdout=subprocess.PIPE,
        env={"PATH": os.environ["PATH"], **env},
        check=True,
        timeout=30,
    )
    argv, cwd, found = json.loads(done.stdout)
    return argv, cwd, found


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("folded", [False, True])
def test_hostile_values_arrive_as_they_are(shell: str, folded: bool, tmp_path: Path) -> None:
    env = {f"V{i}": value for i, value in enumerate(HOSTILE)}
    one = rank(tmp_path, (sys.executable, "-c", DUMP, *HOSTILE), env)
    argv, cwd, found = run(shell, line(one, folded=folded))
    assert argv == HOSTILE
    assert cwd == one.cwd
    assert {name: found[name] for name in one.env} == dict(one.env)


def test_the_line_holds_nothing_that_a_terminal_would_swallow(tmp_path: Path) -> None:
    text = line(rank(tmp_path, ("true",), {f"V{i}": value for i, value in enumerate(HOSTILE)}))
    assert [c for c in text if not c.isprintable() and c != "\n"] == []
    text.encode()


@pytest.mark.parametrize("shell", SHELLS)
def test_secrets_come_from_the_shell_and_stand_in_no_argument_list(shell: str, tmp_path: Path) -> None:
    one = rank(tmp_path, (sys.executable, "-c", DUMP), {}, ("API_KEY",))
    text = line(one)
    assert "s3cret" not in text
    _, _, found = run(shell, f"API_KEY='s3cret value'\n{text}")  # not exported there
    assert found["API_KEY"] == "s3cret value"
    assert "API_KEY=" not in text.partition("exec env")[2]


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_keeps_its_folder_and_its_umask(shell: str, tmp_path: Path) -> None:
    text = line(rank(tmp_path, ("true",), {}))
    done = subprocess.run(
        [shell], input=f"cd /\numask 022\n{text}\npwd\numask\n".encode(), stdout=subprocess.PIPE, check=True, timeout=30
    )
    assert done.stdout.split() == [b"/", b"0022"]
    made = tmp_path / "a'; echo foo" / "TMPDIR"
    assert made.stat().st_mode & 0o777 == 0o700


def test_a_python_with_an_equals_sign_in_its_path_is_still_run(tmp_path: Path) -> None:
    (tmp_path / "a=b").mkdir()
    link = tmp_path / "a=b" / "python"
    link.symlink_to(sys.executable)
    argv, _, found = run("sh", line(rank(tmp_path, (str(link), "-c", DUMP, "x y"), {"K": "v"})))
    assert argv == ["x y"]
    assert found["K"] == "v"


def test_a_rank_with_unknown_facts_has_no_line(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="facts are not known"):
        line(dataclasses.replace(rank(tmp_path, ("true",), {}), port=None))
