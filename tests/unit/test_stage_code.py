"""Our package in a run's folder."""

from __future__ import annotations

import errno
import py_compile
import stat
import subprocess
import sys
from collections.abc import Callable
from importlib.util import cache_from_source
from pathlib import Path

import pytest

from launcher.errors import LauncherError
from launcher.stage import code, tree
from worker.contract.layout import HostFolder


@pytest.fixture
def folder(tmp_path: Path) -> HostFolder:
    return HostFolder(str(tmp_path / "runs's" / "run 1" / "hosts" / "here"))


def contents(root: Path) -> dict[str, bytes]:
    """Every file but what Python has compiled."""
    files = [path for path in root.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def test_the_staged_package_is_the_installed_one_private_and_named_by_its_hash(folder: HostFolder) -> None:
    staged = Path(code.stage(folder))
    assert staged == Path(folder.code(code.digest()))
    assert contents(staged) == contents(Path(tree.__file__).parents[2] / "worker")
    for path in (staged, *staged.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert [path.name for path in staged.parent.iterdir()] == [staged.name]  # nothing temporary is left


def test_the_staged_package_runs(folder: HostFolder) -> None:
    done = subprocess.run(
        [sys.executable, code.stage(folder)], capture_output=True, text=True, cwd="/", timeout=30, check=False
    )
    assert done.returncode == 2
    assert "usage: python WORKER_FOLDER VERB" in done.stderr


def test_staging_again_touches_nothing_that_is_right(folder: HostFolder) -> None:
    staged = Path(code.stage(folder))
    before = staged.stat().st_ino
    assert code.stage(folder) == str(staged)
    assert staged.stat().st_ino == before


def change(staged: Path) -> None:
    (staged / "verbs.py").write_bytes(b"print('not ours')\n")


def grow(staged: Path) -> None:
    (staged / "json.py").write_bytes(b"")


def lose(staged: Path) -> None:
    (staged / "contract" / "wire.py").unlink()


def open_up(staged: Path) -> None:
    (staged / "contract").chmod(0o777)


def link_file(staged: Path) -> None:
    (staged / "verbs.py").rename(staged.parent / "elsewhere.py")
    (staged / "verbs.py").symlink_to(staged.parent / "elsewhere.py")


def link_whole(staged: Path) -> None:
    staged.rename(staged.parent / "elsewhere")
    staged.symlink_to(staged.parent / "elsewhere")


def replace_by_file(staged: Path) -> None:
    staged.rename(staged.parent / "elsewhere")
    staged.write_bytes(b"")


@pytest.mark.parametrize("tamper", [change, grow, lose, open_up, link_file, link_whole, replace_by_file])
def test_a_staged_copy_that_was_tampered_with_is_replaced(folder: HostFolder, tamper: Callable[[Path], None]) -> None:
    staged = Path(code.stage(folder))
    right = contents(staged)
    tamper(staged)
    assert code.stage(folder) == str(staged)
    assert not staged.is_symlink()
    assert contents(staged) == right
    assert stat.S_IMODE((staged / "contract").stat().st_mode) == 0o700
    assert [path.name for path in staged.parent.iterdir() if path.name.startswith(".")] == []


def test_caches_that_python_left_are_gone_and_the_copy_stays(folder: HostFolder) -> None:
    staged = Path(code.stage(folder))
    before = staged.stat().st_ino
    (staged / "contract" / "__pycache__").mkdir(exist_ok=True)
    (staged / "contract" / "__pycache__" / "wire.cpython-311.pyc").write_bytes(b"bad")
    code.stage(folder)
    assert staged.stat().st_ino == before
    assert not list(staged.rglob("__pycache__"))


def test_a_full_disk_names_the_path_and_leaves_nothing_behind(
    folder: HostFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = 0

    def write(to: Callable[[memoryview], int], piece: bytes) -> None:
        nonlocal written
        written += len(piece)
        if written > 5000:
            raise OSError(errno.ENOSPC, "No space left on device")
        to(memoryview(piece))

    monkeypatch.setattr(tree, "write", write)
    with pytest.raises(LauncherError, match=r"/code/.* cannot be written: the disk is full") as caught:
        code.stage(folder)
    assert "free some space" in caught.value.hint
    assert list(Path(folder.code("x")).parent.iterdir()) == []


def test_a_file_in_the_place_of_the_run_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(LauncherError, match="cannot be made"):
        code.stage(HostFolder(str(tmp_path / "run")))


def test_a_write_that_takes_less_than_it_is_given_goes_on_with_the_rest() -> None:
    taken: list[bytes] = []

    def short(piece: memoryview) -> int:
        taken.append(bytes(piece[:3]))
        return len(taken[-1])

    tree.write(short, b"0123456789")
    assert b"".join(taken) == b"0123456789"


def test_what_is_compiled_already_is_not_compiled_again(folder: HostFolder) -> None:
    installed = Path(tree.__file__).parents[2] / "worker"
    py_compile.compile(str(installed / "verbs.py"))
    staged = Path(code.stage(folder))
    cache = Path(cache_from_source(str(staged / "verbs.py")))
    before = cache.stat()
    subprocess.run([sys.executable, str(staged)], check=False, capture_output=True)  # shows its usage
    after = cache.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
