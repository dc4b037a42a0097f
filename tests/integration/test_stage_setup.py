"""`setup:` and `activate:` on a host: once for each content, with what was printed, again after an interruption."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launcher.errors import NotFitError
from launcher.hosts.local_session import LocalSession
from launcher.spec.model import DatasetSpec, HostSpec, SyncSpec
from launcher.stage import survey
from launcher.stage.inputs import setup_inputs
from launcher.stage.ready import Goods, make_ready
from launcher.stage.remote import SetUp, There
from launcher.stage.travel import Tree


class Place:
    """A folder to be set up from, and a host with a home of its own."""

    def __init__(self, path: Path) -> None:
        self.root = path / "job"
        self.root.mkdir()
        self.home = path / "home"
        self.home.mkdir()
        self.runs = path / "runs"
        environ = {"PATH": os.environ["PATH"], "HOME": str(self.home), "SAID": "at the login"}
        self.session = LocalSession("far", environ=environ)
        self.printed = b""
        self.told: list[str] = []

    def there(self) -> There:
        return There(self.session, workdir="~/work", tell=self.told.append, printed=self._print)

    def _print(self, data: bytes) -> None:
        self.printed += data

    def tree(self, **files: str) -> Tree:
        for name, text in files.items():
            (self.root / name.replace("_", ".")).write_text(text)
        return survey.sources(SyncSpec(str(self.root)), self.runs)

    def setup(self, *commands: str, tree: Tree | None = None) -> SetUp:
        with self.there() as there:
            source = there.bring(tree, "sources") if tree is not None else ""
            return there.setup(commands, setup_inputs(commands, None, None, tree), source)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    one = Place(tmp_path)
    yield one
    one.session.close()


def test_setup_runs_once_for_each_content_of_what_it_names(place: Place) -> None:
    commands = ("cat requirements.txt >> ~/ran", "echo two >> ~/ran")
    tree = place.tree(requirements_txt="tensorflow\n", train_py="1")
    assert place.setup(*commands, tree=tree).ran
    assert not place.setup(*commands, tree=tree).ran
    assert not place.setup(*commands, tree=place.tree(train_py="2")).ran
    assert (place.home / "ran").read_text() == "tensorflow\ntwo\n"
    assert place.setup(*commands, tree=place.tree(requirements_txt="keras\n")).ran
    assert (place.home / "ran").read_text() == "tensorflow\ntwo\nkeras\ntwo\n"
    assert place.setup(commands[0], tree=place.tree()).ran


def test_what_is_printed_comes_home_at_once_and_lies_in_the_log(place: Place) -> None:
    go_on = place.home / "go on"
    commands = ("echo out; echo err >&2; until [ -e ~/'go on' ]; do sleep 0.02; done; echo end",)
    result: list[SetUp] = []
    thread = threading.Thread(target=lambda: result.append(place.setup(*commands)))
    thread.start()
    wait_until(lambda: place.printed == b"out\nerr\n")
    go_on.write_text("")
    thread.join()
    assert place.printed == b"out\nerr\nend\n"
    log = Path(result[0].log)
    assert log.read_text() == f"$ {commands[0]}\nout\nerr\nend\n"
    assert log.parent.parent == place.home / "work" / "setup"
    assert log.stat().st_mode & 0o777 == 0o600
    assert place.told == [f"setup: {commands[0]}"]


def test_a_setup_that_fails_says_its_last_lines_and_is_run_again(place: Place) -> None:
    commands = (
        "echo fine",
        "for i in $(seq 100); do echo line $i; done; echo '\033[31mno such package'; exit 3",
        "exit 9",
    )
    for _ in range(2):
        with pytest.raises(NotFitError) as raised:
            place.setup(*commands)
        message = raised.value.message
        assert message.startswith("far: the setup command `for i in")
        assert "ended with 3" in message
        assert "line 100\n" in message
        assert "no such package" in message
        assert "\033" not in message
        assert "line 1\n" not in message
        assert "/log" in raised.value.hint
    assert place.printed.count(b"fine") == 2


def test_a_setup_whose_client_goes_is_ended_and_run_again(place: Place) -> None:
    commands = ("echo $$ > ~/pid; echo begun >> ~/ran; [ -e ~/fast ] || sleep 1000",)
    there = place.there()
    ended: list[NotFitError] = []

    def setup() -> None:
        try:
            there.setup(commands, "x", "")
        except NotFitError as error:
            ended.append(error)

    thread = threading.Thread(target=setup)
    thread.start()
    wait_until(lambda: (place.home / "pid").read_text().strip() != "")
    pid = int((place.home / "pid").read_text())
    there._talk.end_input()
    wait_until(lambda: not Path(f"/proc/{pid}").exists())
    thread.join()
    assert ended
    there.close()
    (place.home / "fast").write_text("")
    with place.there() as again:
        assert again.setup(commands, "x", "").ran
    assert (place.home / "ran").read_text() == "begun\nbegun\n"


def test_two_at_once_run_it_once(place: Place) -> None:
    commands = ("echo ran >> ~/ran; sleep 0.3",)
    found: list[bool] = []
    threads = [threading.Thread(target=lambda: found.append(place.setup(*commands).ran)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [False, False, True]
    assert (place.home / "ran").read_text() == "ran\n"


def test_what_setup_leaves_in_the_folder_is_given_to_runs_and_made_again_for_another_folder(place: Place) -> None:
    commands = ("mkdir -p built/deep; cat train.py > built/deep/copy; echo so > fast.so; echo done >> notes.txt",)
    tree = place.tree(train_py="1", notes_txt="n\n")
    with place.there() as there:
        source = there.bring(tree, "sources")
        inputs = setup_inputs(("make",), None, None, tree)
        done = there.setup(commands, inputs, source)
        assert done.source != source
        assert not (Path(source) / "built").exists()
        copy = Path(there.copy(done.source, f"{there.workdir}/run/far/sources/{tree.digest}"))
        assert (copy / "built" / "deep" / "copy").read_text() == "1"
        assert (copy / "fast.so").read_text() == "so\n"
        assert (copy / "notes.txt").read_text() == "n\ndone\n"
        again = there.setup(commands, inputs, source)
        assert (again.ran, again.source) == (False, done.source)
        other = there.setup(commands, inputs, there.bring(place.tree(train_py="2"), "sources"))
        assert other.ran
        assert (Path(other.source) / "built" / "deep" / "copy").read_text() == "2"
        assert not there.setup(commands, inputs, source).ran


def test_a_daemon_that_setup_leaves_running_does_not_hold_it_up(place: Place) -> None:
    began = time.monotonic()
    assert place.setup("sleep 100 & echo $! > ~/pid; echo started").ran
    assert time.monotonic() - began < 50
    assert place.printed == b"started\n"
    os.kill(int((place.home / "pid").read_text()), signal.SIGKILL)


def test_setup_sees_no_standard_input_and_an_ordinary_umask(place: Place) -> None:
    place.setup("cat; umask > ~/umask; echo $SAID > ~/said")
    assert (place.home / "umask").read_text().strip() == f"{current_umask():04o}"
    assert (place.home / "said").read_text() == "at the login\n"


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


# activate


def test_a_line_of_shell_is_captured_as_what_it_changes(place: Place) -> None:
    (place.home / ".profile").write_text("export PROFILE=read; export SAID; cd /\n")
    (place.home / "activate").write_text(
        'echo noise; export CONDA_PREFIX="$HOME/env"; export PATH="$CONDA_PREFIX/bin:$PATH"\n'
        "export LINES_OF='one\ntwo=2\n\nthree' EMPTY= UNI='ünï'\nunset SAID\n"
        "deactivate() { echo; }; export PS1='(env)'; not_exported=1\n"
    )
    with place.there() as there:
        got = there.activate(". ~/activate")
    path = got.env["PATH"]
    assert got.env["CONDA_PREFIX"] == f"{place.home}/env"
    assert path.startswith(f"{place.home}/env/bin:")
    assert got.env["LINES_OF"] == "one\ntwo=2\n\nthree"
    assert got.env["EMPTY"] == ""
    assert got.env["UNI"] == "ünï"
    assert got.env["PROFILE"] == "read"
    assert got.gone == ("SAID",)
    assert not {"HOME", "PWD", "SHLVL", "_", "PS1", "not_exported"} & got.env.keys()
    assert [p.name for p in (place.home / "work" / "setup").iterdir()] == []


@pytest.mark.parametrize("line", ["source ~/nowhere/activate", "exit 4", "false"])
def test_a_line_that_fails_is_an_error_with_what_it_printed(line: str, place: Place) -> None:
    with place.there() as there, pytest.raises(NotFitError, match="the `activate` line ended with") as raised:
        there.activate(line)
    assert "bash -l" in raised.value.hint
    if "nowhere" in line:
        assert "nowhere/activate" in raised.value.message


def test_what_is_in_a_line_of_shell_stands_in_no_command_line(place: Place) -> None:
    seen: list[bytes] = []
    with place.there() as there:
        thread = threading.Thread(target=lambda: there.activate("export TOKEN=hunter2; sleep 0.5"))
        thread.start()
        while thread.is_alive():
            seen += command_lines()
            time.sleep(0.02)
        thread.join()
    assert any(b"/proc/self/environ" in line for line in seen)
    assert not any(b"hunter2" in line for line in seen)


def command_lines() -> list[bytes]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes())
        except OSError:
            continue
    return found


# All of it


def test_a_host_is_made_ready_in_one_call_and_again_at_little_cost(place: Place) -> None:
    place.tree(train_py="1", requirements_txt="x")
    (place.root / "set.npz").write_bytes(b"numbers")
    host = HostSpec(
        "far",
        workdir="~/work",
        setup=("echo venv > ~/venv; cat requirements.txt",),
        activate="export VENV=$(cat ~/venv)",
    )
    (place.home / "there").mkdir()
    goods = Goods(
        sources=place.tree(),
        data={"mine": survey.data(str(place.root / "set.npz"))},
        on_host={"big": "~/there"},
        dataset=survey.dataset(DatasetSpec()),
        dataset_kind="fashion-mnist-mini",
    )
    first = make_ready(place.session, host, "run-1", goods)
    work = place.home / "work"
    assert first.workdir == str(work)
    assert first.folder == f"{work}/run-1/far"
    assert Path(first.code, "__main__.py").is_file()
    assert first.source == f"{work}/run-1/far/sources/{goods.sources.digest}"  # type: ignore[union-attr]
    assert Path(first.source, "train.py").read_text() == "1"
    assert Path(first.data["mine"]).read_bytes() == b"numbers"
    assert first.data["big"] == f"{place.home}/there"
    assert first.dataset is not None
    assert Path(first.dataset).name == "fashion-mnist-mini.npz"
    assert first.activated.env["VENV"] == "venv"
    second = make_ready(place.session, host, "run-2", goods)
    assert second.folder == f"{work}/run-2/far"
    assert (second.data, second.dataset, second.setup_log) == (first.data, first.dataset, first.setup_log)
    modes = {p.stat().st_mode & 0o077 for p in work.rglob("*") if not p.is_symlink() and "__pycache__" not in str(p)}
    assert modes == {0}


def test_a_folder_that_only_setup_needs_is_not_given_to_the_workers(place: Place) -> None:
    goods = Goods(sources=place.tree(requirements_txt="keras"), only_setup=True)
    host = HostSpec("far", workdir="~/work", setup=("cat requirements.txt > ~/ran",))
    ready = make_ready(place.session, host, "run", goods)
    assert (place.home / "ran").read_text() == "keras"
    assert Path(ready.source).name == "none"
    assert list(Path(ready.source).iterdir()) == []


def test_data_that_should_be_there_and_is_not_is_named(place: Place) -> None:
    with pytest.raises(NotFitError, match=r"the data big \(/nowhere\) is not there"):
        make_ready(place.session, HostSpec("far", workdir="~/work"), "run", Goods(on_host={"big": "/nowhere"}))


def wait_until(true: Callable[[], bool], within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while True:
        try:
            if true():
                return
        except OSError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.01)
