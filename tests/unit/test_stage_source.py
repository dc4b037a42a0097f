"""The user's folder in a run's folder."""

from __future__ import annotations

import os
import socket
import stat
import time
from pathlib import Path

import pytest

from launcher.errors import LauncherError, UsageError
from launcher.spec.model import SyncSpec
from launcher.stage import select, source
from worker.contract.layout import HostFolder

KEY = b"-----BEGIN OPENSSH PRIVATE KEY-----\n" + b"x" * 300


class Job:
    """A user's folder and the host folder that it is staged to."""

    def __init__(self, path: Path) -> None:
        self.root = path / "a'; echo foo\njob"
        self.root.mkdir()
        self.host = HostFolder(str(path / "runs" / "job-1" / "hosts" / "here"))

    def write(self, files: dict[str, str | bytes]) -> None:
        for name, text in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())

    def stage(self, *exclude: str, max_bytes: int = 10**9) -> Path:
        return Path(source.stage(SyncSpec(str(self.root), exclude, max_bytes), self.host))

    def staged(self, *exclude: str) -> set[str]:
        root = self.stage(*exclude)
        return {str(p.relative_to(root)) for p in root.rglob("*") if p.is_symlink() or not p.is_dir()}


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


def test_the_copy_is_private_keeps_executable_bits_and_is_named_by_its_content(job: Job) -> None:
    job.write({"train.py": "print(1)", "bin/run me.sh": "#!/bin/sh", "ünï \U0001f680.txt": "x"})
    (job.root / "bin" / "run me.sh").chmod(0o755)
    (job.root / "empty").mkdir()
    first = job.stage()
    assert (first / "train.py").read_text() == "print(1)"
    modes = {str(p.relative_to(first)): stat.S_IMODE(p.stat().st_mode) for p in first.rglob("*")}
    assert modes == {
        "train.py": 0o600,
        "bin": 0o700,
        "bin/run me.sh": 0o700,
        "ünï \U0001f680.txt": 0o600,
        "empty": 0o700,
    }
    assert stat.S_IMODE(first.stat().st_mode) == 0o700
    assert job.stage() == first
    job.write({"train.py": "print(2)"})
    second = job.stage()
    assert second != first
    assert (first / "train.py").read_text() == "print(1)"
    assert sorted(p.name for p in first.parent.iterdir()) == sorted([first.name, second.name])


def test_names_that_are_no_text_travel(job: Job) -> None:
    job.write({os.fsdecode(b"na\xffme"): "x"})
    assert job.staged() == {"na\udcffme"}


def test_what_gitignore_files_name_stays_behind_nested_ones_included(job: Job) -> None:
    job.write(
        {
            ".gitignore": "*.log\n/data/\nbuild/\n!keep.log\nfoo/*\n!foo/kept.txt\n[\n",
            "a.log": "",
            "keep.log": "",
            "data/x": "",
            "sub/data/x": "",
            "sub/build/x": "",
            "foo/kept.txt": "",
            "foo/other.txt": "",
            "sub/.gitignore": "!*.log\n/only_here.txt\n",
            "sub/b.log": "",
            "sub/only_here.txt": "",
            "sub/deep/only_here.txt": "",
            "sub/deep/c.log": "",
            "other/only_here.txt": "",
        }
    )
    assert job.staged() == {
        *(".gitignore", "keep.log", "sub/.gitignore", "sub/data/x", "sub/b.log", "sub/deep/only_here.txt"),
        *("sub/deep/c.log", "other/only_here.txt", "foo/kept.txt"),
    }


def test_exclude_leaves_out_more_and_can_bring_back_what_git_ignores(job: Job) -> None:
    job.write({".gitignore": "*.csv\n", "a.csv": "", "b.csv": "", "data/x": "", "train.py": "", "t/data/x": ""})
    assert job.staged("/data/", "!b.csv") == {".gitignore", "b.csv", "train.py", "t/data/x"}


@pytest.mark.parametrize(
    "name",
    [
        *(".git/config", ".ssh/config", ".aws/credentials", ".gnupg/x", ".env", ".env.production", "a/.env"),
        *("cert.pem", "a/server.key", "id_rsa", "id_ed25519", "a/id_ecdsa.bak", "__pycache__/a.pyc", "b.pyc", ".netrc"),
        *(
            ".docker/config.json",
            "a/.kaggle/kaggle.json",
            ".huggingface/token",
            ".npmrc",
            "secrets.yml",
            "secrets.toml",
        ),
    ],
)
def test_secrets_version_control_and_caches_never_travel(job: Job, name: str) -> None:
    job.write({name: "x", "train.py": ""})
    assert job.staged() == {"train.py"}
    assert job.staged(f"!{name}", "!*") == {"train.py"}


def test_a_private_key_is_known_by_its_content_too(job: Job) -> None:
    job.write({"deploy": KEY, "notes.txt": b"about -----BEGIN PRIVATE KEY-----" + b"x" * 100, "short": "-----BEGIN"})
    account = (
        b'{\n  "type": "service_account",\n  "private_key": "-----BEGIN PRIVATE KEY-----\\nMII' + b"A" * 100 + b'"\n}\n'
    )
    job.write({"account.json": account, "model.json": b'{"private_keyboard": 1}' + b" " * 100})
    assert job.staged() == {"notes.txt", "short", "model.json"}


def test_virtual_environments_and_the_runs_folder_stay_behind(tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.host = HostFolder(str(job.root / "my runs" / "job-1" / "hosts" / "here"))
    job.write({"train.py": "", "my env/pyvenv.cfg": "", "my env/lib/x.py": "", "my runs/job-0/run.json": ""})
    job.write({"sub/my runs/x": ""})
    assert job.staged() == {"train.py", "sub/my runs/x"}
    assert job.staged() == {"train.py", "sub/my runs/x"}


def test_links_inside_the_folder_stay_links(job: Job) -> None:
    job.write({"data/v1/x.csv": "1", "conf/a.yaml": ""})
    (job.root / "data" / "current").symlink_to("v1")
    (job.root / "conf" / "whole.csv").symlink_to(job.root / "data" / "v1" / "x.csv")
    (job.root / "conf" / "up").symlink_to("../data")
    (job.root / "dangling").symlink_to("nowhere")
    (job.root / "loop").symlink_to("loop")
    staged = job.stage()
    links = {str(p.relative_to(staged)): str(p.readlink()) for p in staged.rglob("*") if p.is_symlink()}
    assert links == {
        "data/current": "v1",
        "conf/whole.csv": "../data/v1/x.csv",
        "conf/up": "../data",
        "dangling": "nowhere",
        "loop": "loop",
    }
    assert (staged / "conf" / "whole.csv").resolve() == (staged / "data" / "v1" / "x.csv").resolve()


@pytest.mark.parametrize("target", ["/etc", "../outside", "sub/../../outside"])
def test_a_link_that_leads_out_is_refused_unless_it_is_excluded(job: Job, target: str) -> None:
    job.write({"train.py": "", "sub/x": ""})
    (job.root / "ext").symlink_to(target)
    with pytest.raises(UsageError, match=r"ext is a link to .*outside") as caught:
        job.stage()
    assert 'exclude: ["/ext"]' in caught.value.hint
    assert job.staged("/ext") == {"train.py", "sub/x"}


def test_sockets_and_pipes_are_passed_over(job: Job) -> None:
    job.write({"train.py": ""})
    os.mkfifo(job.root / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(job.root / "sock"))
        assert job.staged() == {"train.py"}


def test_a_folder_over_the_limit_is_refused_before_anything_is_copied(job: Job) -> None:
    job.write(
        {"train.py": "x" * 100, "data/raw/big [1].bin": b"x" * 9000, "weights.h5": b"x" * 4000, "s/a": b"x" * 500}
    )
    with pytest.raises(UsageError, match=r"the biggest: data/raw/big \[1\].bin .*, weights.h5") as caught:
        job.stage("*.tmp", max_bytes=2000)
    assert r'exclude: ["*.tmp", "/data/raw/big \\[1].bin", "/weights.h5"]' in caught.value.hint
    assert not Path(job.host.root).exists()
    assert job.staged("*.tmp", "/data/raw/big \\[1].bin", "/weights.h5") == {"train.py", "s/a"}


def test_many_ignored_files_cost_little_as_their_folder_is_not_looked_into(job: Job) -> None:
    job.write({".gitignore": "data/\n", "train.py": "", "data/x": ""})
    for i in range(20_000):
        os.mknod(job.root / "data" / f"{i}.png")
    begun = time.perf_counter()
    listed = []
    real = os.scandir

    def counting(path: str) -> object:
        listed.append(Path(path).name)
        return real(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "scandir", counting)
        chosen = select.selected(job.root, (), job.root / "none")
    assert sorted(entry.path for entry in chosen) == [".gitignore", "train.py"]
    assert "data" not in listed
    assert time.perf_counter() - begun < 1


def test_an_unreadable_file_is_named_with_the_way_out(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    job.write({"train.py": "", "locked.bin": "x" * 10})
    (job.root / "locked.bin").chmod(0)
    real = os.open

    def refusing(
        path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None
    ) -> int:  # root may read anything: only a fake refuses
        if Path(path).name == "locked.bin" and not flags & os.O_CREAT:
            raise PermissionError(13, "Permission denied", path)
        return real(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", refusing)
    with pytest.raises(LauncherError, match=r"locked.bin cannot be read: Permission denied") as caught:
        job.stage()
    assert "exclude" in caught.value.hint
    assert list(Path(job.host.sources("x")).parent.iterdir()) == []


def test_a_source_that_is_no_folder_and_a_pattern_that_is_none_are_refused(job: Job) -> None:
    job.write({"train.py": ""})
    with pytest.raises(UsageError, match="not a pattern"):
        job.stage("!")
    with pytest.raises(UsageError, match="not a folder"):
        source.stage(SyncSpec(str(job.root / "train.py")), job.host)


def test_a_staged_copy_gets_its_own_files_back_and_loses_nothing_of_a_programs(job: Job) -> None:
    job.write({"train.py": "right", "conf/a.yaml": "a", "conf/b.yaml": "b", "gone.txt": "g"})
    (job.root / "link").symlink_to("train.py")
    staged = job.stage()
    (staged / "train.py").write_text("wrong")
    (staged / "conf" / "a.yaml").write_text("A")  # as long as before
    (staged / "gone.txt").unlink()
    (staged / "link").unlink()
    (staged / "link").symlink_to("/etc/passwd")
    (staged / "history.json").write_text("a program's own")
    assert job.stage() == staged
    assert (staged / "train.py").read_text() == "right"
    assert (staged / "conf" / "a.yaml").read_text() == "a"
    assert (staged / "gone.txt").read_text() == "g"
    assert str((staged / "link").readlink()) == "train.py"
    assert (staged / "history.json").read_text() == "a program's own"
    kept = staged.with_name(staged.name + ".changed")
    assert sorted(p.read_text() for p in kept.rglob("*") if not p.is_symlink() and p.is_file()) == ["A", "wrong"]
    assert not [p for p in staged.parent.iterdir() if p.name.startswith(".")]


def test_a_folder_that_became_a_link_is_not_written_through(job: Job, tmp_path: Path) -> None:
    job.write({"conf/a.yaml": "a"})
    staged = job.stage()
    (staged / "conf" / "a.yaml").unlink()
    (staged / "conf").rmdir()
    (tmp_path / "else").mkdir()
    (staged / "conf").symlink_to(tmp_path / "else")
    job.stage()
    assert (staged / "conf" / "a.yaml").read_text() == "a"
    assert list((tmp_path / "else").iterdir()) == []
