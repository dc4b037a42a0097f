"""The door: what the remote shell is given, what a host is asked, and what is said of one that does not let us in."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from launcher.errors import NotFitError
from launcher.hosts import door, package
from launcher.hosts.local_session import LocalSession
from launcher.hosts.session import Session
from launcher.stage.remote import There
from tests.integration.counted import Wire

SHELLS = ["sh", "bash", "dash", "zsh", "fish", "tcsh", "ksh"]


def look(session: Session, workdir: Path | str, path: str = "/") -> str:
    """Enter, and have the verb do something."""
    with There(session, workdir=str(workdir)) as there:
        return there.look([path])[0][1]


def refusal(session: Session, workdir: Path | str) -> NotFitError:
    with pytest.raises(NotFitError) as raised:
        door.enter(session, "stage", workdir=str(workdir), timeout_s=10)
    assert raised.value.hint
    return raised.value


@pytest.fixture
def session() -> Iterator[LocalSession]:
    one = LocalSession("here")
    yield one
    one.close()


def shell(script: str, environ: Mapping[str, str] | None = None) -> LocalSession:
    """A login shell that does something before it runs the command."""
    return LocalSession("here", shell=("/bin/sh", "-c", f'{script}\nexec /bin/sh -c "$0"'), environ=environ)


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def installed_code(workdir: Path) -> Path:
    return workdir / "code" / package.installed().digest


@pytest.mark.parametrize("name", SHELLS)
def test_every_login_shell_takes_the_command_line(name: str, tmp_path: Path) -> None:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    session = LocalSession("here", shell=(path, "-c"), environ=environ)
    try:
        assert look(session, "~/work") == "folder"
        assert installed_code(tmp_path / "work").is_dir()
    finally:
        session.close()


def test_the_command_line_is_one_constant_without_what_a_shell_might_interpret() -> None:
    start, quoted, end = door.COMMAND.split("'")
    assert (start, end) == ("exec python3 -I -S -c ", "")
    assert not set(quoted) & set("\\!$`\n")
    assert door.HELLO.decode().strip() not in quoted


def test_everything_is_private_and_the_code_is_what_is_installed_here(session: LocalSession, tmp_path: Path) -> None:
    workdir = tmp_path / "a'; echo foo\n$HOME `x` \"" / "work"
    with There(session, workdir=str(workdir)) as entered:
        assert entered.look(["/"])[0][1] == "folder"
    assert entered.workdir == str(workdir)
    assert entered.code == str(installed_code(workdir))
    modes = {path.stat().st_mode & 0o777 for path in workdir.rglob("*") if path.is_file()}
    assert modes == {0o600}
    for folder in (workdir, workdir / "code", Path(entered.code), Path(entered.code) / "agent"):
        assert folder.stat().st_mode & 0o777 == 0o700
    own = Path(__file__).parents[2] / "worker"
    assert (Path(entered.code) / "agent" / "core.py").read_bytes() == (own / "agent" / "core.py").read_bytes()
    assert names(workdir / "code") == [package.installed().digest]


def test_unchanged_code_costs_one_round_trip_and_the_first_time_two(tmp_path: Path) -> None:
    wire = Wire()
    door.enter(wire, "stage", workdir=str(tmp_path))
    assert wire.turns == 2
    assert wire.sent < 300_000
    wire.sent = wire.turns = 0
    door.enter(wire, "stage", workdir=str(tmp_path))
    assert wire.turns == 1
    assert wire.sent < 14_000  # it goes into the first packets of a connection
    wire.close()


def edit(code: Path) -> None:
    (code / "agent" / "core.py").write_text("raise SystemExit(7)")


def add(code: Path) -> None:
    (code / "json.py").write_text("raise SystemExit(7)")


def drop(code: Path) -> None:
    (code / "__main__.py").unlink()


def open_to_others(code: Path) -> None:
    code.chmod(0o755)


def link_elsewhere(code: Path) -> None:
    code.rename(code.with_name("elsewhere"))
    code.symlink_to(code.with_name("elsewhere"))


def put_a_file_there(code: Path) -> None:
    shutil.rmtree(code)
    code.write_text("x")


def link_inside(code: Path) -> None:
    shutil.rmtree(code / "agent")
    (code / "agent").symlink_to(Path(__file__).parents[2] / "worker" / "agent")


@pytest.mark.parametrize("tamper", [edit, add, drop, open_to_others, link_elsewhere, put_a_file_there, link_inside])
def test_code_that_is_not_what_its_name_says_is_replaced_before_it_runs(
    tamper: object, session: LocalSession, tmp_path: Path
) -> None:
    assert look(session, tmp_path) == "folder"
    code = installed_code(tmp_path)
    assert callable(tamper)
    tamper(code)
    assert look(session, tmp_path) == "folder"
    assert code.stat(follow_symlinks=False).st_mode & 0o170777 == 0o040700
    assert not (code / "json.py").exists()
    assert not (code / "agent").is_symlink()
    assert [name for name in names(tmp_path / "code") if name.endswith(".tmp")] == []


def test_many_clients_at_once_do_not_disturb_each_other(session: LocalSession, tmp_path: Path) -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(look(session, tmp_path / "w"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["folder"] * 8
    assert names(tmp_path / "w" / "code") == [package.installed().digest]


@pytest.mark.parametrize(
    "script",
    [
        "echo Welcome to the machine; echo launcher-doo; printf launcher-",
        'printf "%s\\n" "$0"',
        "echo errors >&2",
        "head -c 100000 /dev/zero",
        "read answer; read answer",
    ],
)
def test_login_files_that_print_or_read_a_line_are_survived(script: str, tmp_path: Path) -> None:
    session = shell(script)
    assert look(session, tmp_path) == "folder"
    session.close()


@pytest.mark.parametrize("script", ["head -c 100 >/dev/null", "dd bs=65536 count=1 of=/dev/null 2>/dev/null"])
def test_login_files_that_read_all_they_can_get_are_survived(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "_SWALLOWED_S", 1.0)
    session = shell(script)
    assert look(session, tmp_path) == "folder"
    session.close()


def test_a_shell_that_never_comes_to_the_command_is_given_up_with_what_it_printed() -> None:
    session = shell("echo Press return; cat >/dev/null")
    with pytest.raises(NotFitError, match="does not start python3; it printed: Press return") as raised:
        door.enter(session, "stage", workdir="/tmp", timeout_s=0.5)
    assert "waits for something" in raised.value.hint
    session.close()


def test_a_shell_that_refuses_is_quoted() -> None:
    session = shell("echo 'This account is not available.'; exit 1")
    assert "with exit status 1: This account is not available." in refusal(session, "/tmp").message


@pytest.mark.parametrize("name", ["sh", "bash", "zsh", "fish", "tcsh"])
def test_a_missing_python_is_named_with_what_to_install(name: str, tmp_path: Path) -> None:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    session = LocalSession("here", shell=(path, "-c"), environ={"PATH": str(tmp_path), "HOME": str(tmp_path)})
    error = refusal(session, tmp_path)
    assert "python3 is not found" in error.message
    assert "apt install python3" in error.hint
    session.close()


def with_python(folder: Path, text: str) -> LocalSession:
    """A host whose python3 is a script."""
    (folder / "python3").write_text(text)
    (folder / "python3").chmod(0o755)
    return LocalSession("here", environ={"PATH": f"{folder}:/usr/bin:/bin", "HOME": str(folder)})


def test_a_python_that_is_too_old_says_which_it_is(tmp_path: Path) -> None:
    python = sys.executable
    fake = f"""#!/bin/sh
exec {python} -I -S -c 'import sys; sys.version_info = (3, 6, 9, "final", 0); exec(sys.argv.pop())' "$4"
"""
    error = refusal(with_python(tmp_path, fake), tmp_path)
    assert "is 3.6.9, and 3.8 or later is needed" in error.message
    older = '#!/bin/sh\necho "Unknown option: -I" >&2\nexit 2\n'
    assert "older than 3.4" in refusal(with_python(tmp_path, older), tmp_path).message


@pytest.mark.parametrize("name", ["knock.py", "door.py"])
def test_the_door_is_written_in_what_every_python_3_can_read(name: str) -> None:
    path = Path(__file__).parents[2] / "worker" / name
    ast.parse(path.read_text(), feature_version=(3, 4))


OLD_PYTHONS = sorted(Path.home().glob(".pyenv/versions/*/bin/python"))


@pytest.mark.parametrize("python", OLD_PYTHONS or [None], ids=str)
def test_every_python_can_read_the_door(python: Path | None) -> None:
    if python is None:
        pytest.skip("no other Pythons are installed here")
    for name in ("knock.py", "door.py"):
        path = Path(__file__).parents[2] / "worker" / name
        subprocess.run([python, "-c", f"compile(open({str(path)!r}, 'rb').read(), 'door', 'exec')"], check=True)


@pytest.mark.parametrize("python", [p for p in OLD_PYTHONS if "/2." not in str(p)] or [None], ids=str)
def test_every_python_3_lets_us_in_or_says_that_it_is_too_old(python: Path | None, tmp_path: Path) -> None:
    if python is None:
        pytest.skip("no other Pythons are installed here")
    session = with_python(tmp_path, f'#!/bin/sh\nexec {python} "$@"\n')
    if python.parts[-3].startswith(("3.6", "3.7")):
        assert "3.8 or later is needed" in refusal(session, tmp_path / "work").message
    else:
        assert look(session, tmp_path / "work") == "folder"
    session.close()


def test_a_workdir_that_cannot_be_is_refused_with_its_reason(session: LocalSession, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "taken").mkdir(mode=0o700)
    (tmp_path / "taken" / "code").write_text("")
    said: Sequence[tuple[Path | str, str]] = [
        ("work", "workdir work is not a whole path"),
        ("~nobody-of-this-name/work", "there is no home folder"),
        (tmp_path / "file", "cannot be used as a folder"),
        (tmp_path / "file" / "below", "cannot be used as a folder"),
        ("/proc/launcher-work", "cannot be used as a folder"),
        (tmp_path / "open", "others may change what is in"),
        (tmp_path / "taken", "is not a folder, and is to be one"),
    ]
    for workdir, words in said:
        assert words in refusal(session, workdir).message


def test_a_sticky_folder_of_roots_will_do(session: LocalSession, tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp").chmod(0o1777)
    assert look(session, tmp_path / "tmp") == "folder"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k,mode=0700", "none", place], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no small disk can be mounted here")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_full_disk_is_called_one_and_nothing_is_left_on_it(session: LocalSession, small_disk: Path) -> None:
    error = refusal(session, small_disk / "work")
    assert "No space left" in error.message
    assert names(small_disk / "work" / "code") == []


def test_what_a_crashed_client_left_long_ago_is_removed(session: LocalSession, tmp_path: Path) -> None:
    for name, age in ((".aaaa.old.tmp", 100_000), (".bbbb.new.tmp", 10)):
        folder = tmp_path / "code" / name
        folder.mkdir(parents=True)
        then = folder.stat().st_mtime - age
        os.utime(folder, (then, then))
    assert look(session, tmp_path) == "folder"
    assert sorted(names(tmp_path / "code")) == sorted([".bbbb.new.tmp", package.installed().digest])
