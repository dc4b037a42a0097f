"""The user's own programs are told of a run, and whatever they do, the run goes on."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from launcher.runs.folder import RunFolder
from launcher.spec.model import CoordinatorSpec
from launcher.supervise.hooks import MOST_WAITING, Hooks
from tests.integration.harness import Launcher, wait_for
from worker.contract import records

NOTES = """#!/bin/sh
{ echo "$LAUNCHER_EVENT|$LAUNCHER_STATE|$LAUNCHER_CAUSE|$LAUNCHER_RUN|$PWD"; cat; } >> "$NOTES.$(basename "$0")"
echo "told of $LAUNCHER_EVENT"
"""
HANGS = "#!/bin/sh\necho hangs\nsleep 600 & sleep 600\n"
FAILS = "#!/bin/sh\nexit 7\n"
FINE = "print('fine')\n"
DIES = "import os, signal\nif os.environ['LAUNCHER_GENERATION'] == '1': os.kill(os.getpid(), signal.SIGKILL)\n"


def script(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)
    return path


def notes(path: Path) -> list[tuple[list[str], dict[str, Any]]]:
    """(what the environment said, the event) of each call."""
    lines = path.read_text().splitlines()
    return [(lines[i].split("|"), json.loads(lines[i + 1])) for i in range(0, len(lines), 2)]


def up(launcher: Launcher, source: str, extra: str, check: int = 0) -> str:
    spec = launcher.program(source, workers=1, extra=f"restart: {{backoff: 0.1 s}}\n{extra}")
    done = launcher.run("up", str(spec), "--plain", check=check)
    return done.stdout + done.stderr


def test_both_are_told_with_the_event_and_the_cause(launcher: Launcher) -> None:
    launcher.env["NOTES"] = str(launcher.folder / "notes")
    (launcher.folder / "job").mkdir()
    for name in ("event.sh", "end.sh"):
        script(launcher.folder / "job", name, NOTES)
    up(launcher, DIES, "coordinator: {on_event: ./event.sh, on_end: ./end.sh}\n")
    run = launcher.newest()
    heard = [event for _, event in notes(launcher.folder / "notes.event.sh")]
    assert heard == launcher.events(run, None), "every record, in order"
    told = {event["type"]: said for said, event in notes(launcher.folder / "notes.event.sh")}
    assert "rank 0 on here: SIGKILL" in told["restart"][2]
    assert told["run_created"][3:] == [run.name, str(run)]
    ((said, event),) = notes(launcher.folder / "notes.end.sh")
    assert said[:3] == ["run_ended", "trained", ""]
    assert event == heard[-1]
    assert "told of run_ended" in (run / "hooks.log").read_text()


def test_the_cause_of_a_failed_run_is_in_the_environment(launcher: Launcher) -> None:
    launcher.env["NOTES"] = str(launcher.folder / "notes")
    (launcher.folder / "job").mkdir()
    script(launcher.folder / "job", "end.sh", NOTES)
    up(launcher, "import sys; sys.exit(3)", "coordinator: {on_end: end.sh}\n", check=1)
    ((said, _),) = notes(launcher.folder / "notes.end.sh")
    assert said[1] == "failed"
    assert "rank 0 on here: exit code 3" in said[2]


def test_one_that_fails_and_one_that_is_missing_are_told_and_harm_nothing(launcher: Launcher) -> None:
    (launcher.folder / "job").mkdir()
    script(launcher.folder / "job", "fails.sh", FAILS)
    screen = up(launcher, FINE, "coordinator: {on_event: ./fails.sh, on_end: ./nowhere.sh}\n")
    assert "trained" in screen
    assert "coordinator.on_end cannot be run" in screen
    assert "No such file or directory" in screen
    remarks = launcher.json("status")["remarks"]
    assert [remark.partition(":")[0] for remark in remarks] == [
        "coordinator.on_event ended with exit code 7",
        "coordinator.on_end cannot be run",
    ], "each is told once"


def test_one_that_hangs_holds_up_only_the_very_end_and_is_gone_then(launcher: Launcher) -> None:
    (launcher.folder / "job").mkdir()
    script(launcher.folder / "job", "hangs.sh", HANGS)
    began = time.monotonic()
    screen = up(launcher, FINE, "coordinator: {on_event: ./hangs.sh, on_end: ./hangs.sh}\n")
    assert time.monotonic() - began < 30
    run = launcher.newest()
    times = {event["type"]: event["t"] for event in launcher.events(run, None)}
    assert times["run_ended"] - times["generation_started"] < 8, "the run itself did not wait"
    assert "coordinator.on_end was ended with the run" in screen
    assert "on_event was not told of" in screen
    assert launcher.alive() == []


# The same without a run, where a run would take too long.


def hooks(tmp_path: Path, text: str, **limits: float) -> Hooks:
    program = str(script(tmp_path, "hook.sh", text))
    return Hooks(RunFolder(tmp_path), CoordinatorSpec("", on_event=program, on_end=program), **limits)


def test_a_call_that_takes_too_long_is_ended_with_what_it_has_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIDS", str(tmp_path / "pids"))
    called = hooks(tmp_path, '#!/bin/sh\nsleep 600 &\necho $$ $! >> "$PIDS"\nwait\n', call_s=0.3)
    called.happened({"type": records.REMARK, "text": "one"})
    told = wait_for(called.remarks, "what became of it")
    assert "was ended after 0.3 s" in told[0]
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    wait_for(lambda: not any(_runs(pid) for pid in pids), "their end")
    assert called.finish() == []


def test_a_flood_of_events_never_blocks_and_what_is_dropped_is_counted(tmp_path: Path) -> None:
    called = hooks(tmp_path, "#!/bin/sh\nsleep 600\n", end_s=0.2)
    began = time.monotonic()
    for number in range(3 * MOST_WAITING):
        called.happened({"type": records.REMARK, "text": "x" * 5000, "seq": number})
    assert time.monotonic() - began < 2
    remarks = called.finish()
    assert time.monotonic() - began < 10
    assert any("was not told of" in remark for remark in remarks)


def test_a_program_that_reads_nothing_is_no_fault(tmp_path: Path) -> None:
    called = hooks(tmp_path, "#!/bin/sh\nexit 0\n")
    called.happened({"type": records.RUN_ENDED, "state": "trained", "text": "x" * 500_000})
    assert called.finish() == []


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
