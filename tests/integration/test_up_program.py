"""`up` with the user's own program: what it is given, how it ends, what is said."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.integration.harness import Launcher, wait_for
from tests.integration.programs import DEAF, DOUBLE_FORKS, POLITE


def test_a_program_runs_on_every_rank_with_its_environment_and_its_output_comes_in_by_rank(launcher: Launcher) -> None:
    spec = launcher.program(
        "import json, os, sys\n"
        "config = json.loads(os.environ['TF_CONFIG'])\n"
        "print('argv', sys.argv[1:], 'cwd', sorted(os.listdir('.')))\n"
        "print('rank', os.environ['LAUNCHER_RANK'], 'of', os.environ['LAUNCHER_WORLD_SIZE'])\n"
        "assert config['task'] == {'type': 'worker', 'index': int(os.environ['LAUNCHER_RANK'])}\n"
        "assert len(config['cluster']['worker']) == 2\n"
        "assert os.environ['CUDA_VISIBLE_DEVICES'] == ''\n"
        "open(os.path.join(os.environ['LAUNCHER_OUTPUT_DIR'], 'out.txt'), 'w').write('kept')\n"
    )
    done = launcher.run("up", str(spec))
    assert "[r0" in done.stdout
    assert "rank 0 of 2" in done.stdout
    assert "rank 1 of 2" in done.stdout
    run = launcher.newest()
    assert (run / "hosts/here/output/out.txt").read_text() == "kept"
    status = launcher.json("status")
    assert status["state"] == "trained"
    assert status["coordinator_pid"] is None
    assert [rank["state"] for rank in status["ranks"]] == ["finished", "finished"]
    assert launcher.alive() == []


def test_a_users_own_modules_shadow_nothing_of_ours_and_are_not_shadowed(launcher: Launcher) -> None:
    spec = launcher.program("import worker, launcher, json\nprint(worker.MINE, launcher.MINE, json.MINE)\n")
    job = spec.parent
    (job / "worker.py").write_text("MINE = 'my worker'\n")
    (job / "json.py").write_text("MINE = 'my json'\n")
    (job / "launcher").mkdir()
    (job / "launcher/__init__.py").write_text("MINE = 'my launcher'\n")
    done = launcher.run("up", str(spec), "--verbose")
    assert done.stdout.count("my worker my launcher my json") == 2


def test_an_edit_made_after_up_is_not_seen_by_the_run(launcher: Launcher) -> None:
    spec = launcher.program(
        "import os, time\nprint('waiting', flush=True)\n"
        "while not os.path.exists(os.environ['GO']): time.sleep(0.02)\n"
        "import late; print(late.TEXT)\n"
    )
    (spec.parent / "late.py").write_text("TEXT = 'as it was'\n")
    launcher.env["GO"] = str(launcher.folder / "go")
    up = launcher.start("up", str(spec), "--plain")
    launcher.wait_event("rank_started", count=2)
    (spec.parent / "late.py").write_text("TEXT = 'edited'\n")
    (launcher.folder / "go").touch()
    assert up.wait(30) == 0
    logs = launcher.run("logs").stdout
    assert "as it was" in logs
    assert "edited" not in logs


def test_a_program_that_fails_ends_the_run_with_its_cause_last_on_the_screen(launcher: Launcher) -> None:
    spec = launcher.program(
        "import os, sys, time\n"
        "if os.environ['LAUNCHER_RANK'] == '1':\n"
        "    print('the reason is this', file=sys.stderr)\n"
        "    sys.exit(7)\n"
        "time.sleep(600)\n",
        extra="restart: {max: 0}\n",
    )
    done = launcher.run("up", str(spec), check=1)
    screen = done.stdout + done.stderr
    ending = screen[screen.rindex("the reason is this") - 2000 :]
    assert "rank 1 on here" in ending
    assert "exit code 7" in ending
    assert "the reason is this" in ending
    assert str(launcher.newest() / "hosts/here/g1/rank1.log") in screen.replace("\n", "")
    assert "rank 0 on here ended" not in screen
    status = launcher.json("status")
    assert [rank["state"] for rank in status["ranks"]] == ["ended", "failed"]


def test_a_program_that_is_not_there_is_an_error_that_names_it(launcher: Launcher) -> None:
    spec = launcher.program("", extra="")
    spec.write_text(spec.read_text().replace("program.py", "missing.py"))
    done = launcher.run("up", str(spec), check=None)
    assert done.returncode in (1, 2, 3)
    assert "missing.py" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_planned_again_with_other_ports(launcher: Launcher) -> None:
    spec = launcher.program(
        "import json, os, sys\n"
        "if os.environ['LAUNCHER_GENERATION'] == '1':\n"
        "    print('tensorflow.python.framework.errors_impl.UnknownError: Could not start gRPC server')\n"
        "    sys.exit(1)\n"
    )
    launcher.run("up", str(spec))
    run = launcher.newest()
    ports = []
    for generation in (1, 2):
        plan = json.loads((run / f"plan.g{generation}.json").read_text())
        ports.append({rank["port"] for rank in plan["ranks"]})
    assert not ports[0] & ports[1]
    assert launcher.json("report")["generations"] == 2


def test_a_path_with_spaces_and_quotes_works(tmp_path: Path) -> None:
    from tests.integration.harness import launcher_in

    folder = tmp_path / 'it\'s a "path"; $(echo x)'
    folder.mkdir()
    with launcher_in(folder) as launcher:
        spec = launcher.program("import os; print('here:', os.getcwd())\n")
        done = launcher.run("up", str(spec), "--verbose")
        assert done.stdout.count("here:") == 2


def test_two_runs_at_once_do_not_touch_each_other(launcher: Launcher) -> None:
    launcher.env["GO"] = str(launcher.folder / "go")
    source = (
        "import os, time\n"
        "while not os.path.exists(os.environ['GO']): time.sleep(0.02)\n"
        "print('done', os.environ['LAUNCHER_RUN'])\n"
    )
    spec = launcher.program(source)
    first, second = launcher.start("up", str(spec), "--plain"), launcher.start("up", str(spec), "--plain")
    names = wait_for(lambda: (r := launcher.json("list")) and len(r) == 2 and r, "two runs")
    runs = [Path(entry["path"]) for entry in names]

    def everyone_runs() -> bool:
        return all(sum(e["type"] == "rank_started" for e in launcher.events(run)) == 2 for run in runs)

    wait_for(everyone_runs, "the ranks of both runs")
    refused = launcher.run("down", check=2)
    assert all(entry["run"] in refused.stderr for entry in names)
    launcher.run("down", names[0]["run"])
    (launcher.folder / "go").touch()
    codes = sorted([first.wait(30), second.wait(30)])
    assert codes == [0, 130]
    assert launcher.json("status", names[1]["run"])["state"] == "trained"
    assert launcher.json("status", names[0]["run"])["state"] == "stopped"


def test_secrets_reach_the_workers_and_no_file(launcher: Launcher) -> None:
    launcher.env["MY_TOKEN"] = "hunter2-very-secret"
    spec = launcher.program("import os; print('length', len(os.environ['MY_TOKEN']))\n", extra="secrets: [MY_TOKEN]\n")
    done = launcher.run("up", str(spec), "--verbose")
    assert done.stdout.count(f"length {len('hunter2-very-secret')}") == 2
    for path in launcher.runs.rglob("*"):
        if path.is_file():
            assert b"hunter2" not in path.read_bytes(), path
    del launcher.env["MY_TOKEN"]
    refused = launcher.run("up", str(spec), check=2)
    assert "MY_TOKEN" in refused.stderr


def test_down_ends_a_program_that_double_forks_and_ignores_sigterm(launcher: Launcher) -> None:
    pids = launcher.folder / "pids"
    pids.mkdir()
    launcher.env["PIDS"] = str(pids)
    spec = launcher.program(DOUBLE_FORKS, extra="timeouts: {stop: 1 s}\n")
    up = launcher.start("up", str(spec), "--plain")
    wait_for(lambda: len([p for p in pids.iterdir() if p.name.isdigit()]) == 2, "both grandchildren")
    grandchildren = [int(p.read_text()) for p in pids.iterdir()]
    launcher.run("down")
    from tests.integration.harness import is_alive

    assert [pid for pid in grandchildren if is_alive(pid)] == []
    assert up.wait(10) == 130


@pytest.mark.parametrize("program", [POLITE, DEAF], ids=["polite", "deaf"])
def test_down_asks_first_and_insists_after_the_stop_deadline(launcher: Launcher, program: str) -> None:
    spec = launcher.program(program, extra="timeouts: {stop: 1 s}\n")
    launcher.start("up", str(spec), "--plain")
    launcher.wait_event("rank_started", count=2)
    wait_for(lambda: launcher.run("logs").stdout.count("running") == 2, "both programs")
    began = time.monotonic()
    launcher.run("down")
    assert time.monotonic() - began < 6
    assert (launcher.run("logs").stdout.count("asked to stop") == 2) == (program is POLITE)
    assert launcher.json("status")["state"] == "stopped"


def test_setup_activate_and_data_work_on_this_machine_too(launcher: Launcher, tmp_path: Path) -> None:
    data = tmp_path / "numbers"
    data.write_text("1 2 3")
    program = (
        "import os, pathlib\n"
        "print(os.environ['FROM_ACTIVATE'], pathlib.Path('made').read_text().strip(),\n"
        "      pathlib.Path(os.environ['LAUNCHER_DATA_TRAIN']).read_text())\n"
    )
    spec = launcher.program(program, extra=f"data: {{train: {data}}}\n")
    more = f"setup: [echo built > made], activate: export FROM_ACTIVATE=yes, workdir: {tmp_path / 'work'}"
    spec.write_text(spec.read_text().replace("workers: 2", f"workers: 2, {more}"))
    launcher.run("up", str(spec))
    run = launcher.newest()
    assert [(run / f"hosts/here/g1/rank{r}.log").read_text() for r in (0, 1)] == ["yes built 1 2 3\n"] * 2
    data.unlink()
    done = launcher.run("up", str(spec), check=3)
    assert "numbers" in done.stderr
