"""The pages about runs say what the code does: every state, record, file, option and key, and no other."""

from __future__ import annotations

import re
from enum import Enum
from pathlib import Path

import pytest
from typer.main import get_command

from launcher.cli.app import app, register
from launcher.runs.folder import RunFolder
from launcher.runs.read import read_run
from launcher.view import values
from tests.fake_run import FakeRun, everybody
from worker.contract import records
from worker.contract.layout import HostFolder
from worker.contract.states import RankState, RunState

DOCS = Path(__file__).parents[2] / "docs"
RUN_FOLDER = (DOCS / "run-folder.md").read_text()
CLI = (DOCS / "cli.md").read_text()
register()
VERBS = get_command(app).commands  # type: ignore[attr-defined]


def section(page: str, title: str) -> str:
    """What stands under a heading, up to the next one."""
    return re.split(r"^#+ ", page.split(f"# {title}\n", 1)[1], flags=re.MULTILINE)[0]


def table(page: str, title: str) -> list[tuple[str, str]]:
    rows = re.findall(r"^\| `([^`]+)` \| (.*) \|$", section(page, title), flags=re.MULTILINE)
    return [(first, second) for first, second in rows]


@pytest.mark.parametrize(("title", "states"), [("The states of a run", RunState), ("The states of a rank", RankState)])
def test_the_tables_of_states_are_the_enums(title: str, states: type[Enum]) -> None:
    assert table(RUN_FOLDER, title) == [(state.value, getattr(state, "prose")) for state in states]  # noqa: B009


def test_the_tables_of_records_name_every_type_and_no_other() -> None:
    titles = ("The coordinator's journal", "An agent's journal", "A rank's progress file")
    told = [name for title in titles for name, _ in table(RUN_FOLDER, title)]
    known = [value for name, value in vars(records).items() if name.isupper() and isinstance(value, str)]
    assert sorted(told) == sorted(known)


def test_every_file_of_a_run_is_on_the_page() -> None:
    folder, host = RunFolder(Path("/r")), HostFolder("/h")
    paths = [
        folder.spec,
        folder.about,
        folder.journal,
        folder.coordinator_log,
        folder.hooks_log,
        folder.report,
        folder.hosts,
    ]
    names = [path.name for path in paths] + [Path(p).name for p in (host.agent_log, host.checkpoints, host.output)]
    assert [name for name in names if name not in RUN_FOLDER] == []
    assert folder.plan(7).name == "plan.g7.json"
    assert "plan.g<generation>.json" in RUN_FOLDER
    for path in (host.log(7, 3), host.progress(7, 3), host.stacks(7, 3)):
        shown = path.removeprefix("/h/").replace("g7", "g<generation>").replace("rank3", "rank<rank>")
        assert shown in RUN_FOLDER


def test_every_verb_has_a_section_on_the_page_and_no_other() -> None:
    assert re.findall(r"^## ([a-z]+)$", CLI, flags=re.MULTILINE) == list(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_the_options_on_the_page_are_the_verbs_own(verb: str) -> None:
    known = {option for parameter in VERBS[verb].params for option in parameter.opts if option.startswith("-")}
    told = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", section(CLI, verb)))
    assert told == known


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_every_verb_has_an_example(verb: str) -> None:
    assert "Example:  launcher" in (VERBS[verb].help or "")


def test_the_keys_on_the_page_are_those_that_are_printed(tmp_path: Path) -> None:
    run = FakeRun(tmp_path).created().started().first_step().epoch(1)
    view = read_run(run.folder, everybody)
    status, report = values.status(view), values.report(view)
    for verb, keys in (
        ("list", set(values.listed(view))),
        ("status", {*status, *status["ranks"][0], *status["agents"][0]}),
        ("report", {*report, *report["epochs"][0], *report["starts"][0]}),
    ):
        page = section(CLI, verb)
        assert [key for key in sorted(keys) if f"`{key}`" not in page] == []
