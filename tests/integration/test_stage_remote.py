"""Trees on their way to a host: whole or not at all, only what lacks, again after a cut."""

from __future__ import annotations

import dataclasses
import os
import signal
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.errors import NotFitError, UsageError
from launcher.spec.model import DatasetSpec, SyncSpec
from launcher.stage import survey
from launcher.stage.remote import There
from launcher.stage.travel import Tree
from tests.integration.counted import Wire
from worker.contract import trees


class World:
    """A user's folder here, a workdir there."""

    def __init__(self, path: Path) -> None:
        self.root = path / "a'; echo foo\njob"
        self.root.mkdir()
        self.runs = path / "runs"
        self.workdir = path / "far away" / "work"
        self.wire = Wire()

    def write(self, files: dict[str, str | bytes]) -> None:
        for name, text in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())

    def tree(self, *exclude: str, max_bytes: int = 10**9) -> Tree:
        return survey.sources(SyncSpec(str(self.root), exclude, max_bytes), self.runs)

    def there(self) -> There:
        return There(self.wire, workdir=str(self.workdir))

    def bring(self, tree: Tree, kind: str = "sources") -> Path:
        with self.there() as there:
            before = self.wire.sent
            path = Path(there.bring(tree, kind))
            self.cost = self.wire.sent - before
        return path


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    one = World(tmp_path)
    yield one
    one.wire.close()


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def listing(root: Path) -> dict[str, tuple[int, bytes]]:
    found = {}
    for path in root.rglob("*"):
        about = path.lstat()
        content = b""
        if path.is_symlink():
            content = os.fsencode(path.readlink())
        elif path.is_file():
            content = path.read_bytes()
        found[str(path.relative_to(root))] = (about.st_mode, content)
    return found


def test_a_tree_arrives_as_it_is_private_and_named_by_its_content(world: World) -> None:
    world.write(
        {
            "train.py": "print(1)",
            "same.py": "print(1)",
            "empty.txt": "",
            "bin/run me.sh": "#!/bin/sh",
            'line\nfeed "q" \' $x': "y",
            os.fsdecode(b"na\xffme"): "z",
            "ünï \U0001f680/deep/er": os.urandom(3 << 20),
        }
    )
    (world.root / "bin" / "run me.sh").chmod(0o755)
    (world.root / "hollow").mkdir()
    (world.root / "link").symlink_to("bin/run me.sh")
    (world.root / "whole").symlink_to(world.root / "train.py")
    tree = world.tree()
    place = world.bring(tree)
    assert place == world.workdir / "sources" / tree.digest
    expected = {
        name: ((mode & ~0o777) | (0o777 if stat.S_ISLNK(mode) else 0o700 if mode & 0o100 else 0o600), content)
        for name, (mode, content) in listing(world.root).items()
    }
    expected["whole"] = (expected["whole"][0], b"train.py")
    assert listing(place) == expected
    assert place.stat().st_mode & 0o777 == 0o700
    assert (world.workdir / "sources").stat().st_mode & 0o777 == 0o700
    assert not [name for name in names(place.parent) if "incoming" in name]


def test_the_hash_is_that_of_a_local_run(world: World) -> None:
    from launcher.stage import source
    from worker.contract.layout import HostFolder

    world.write({"a/b.py": "x", "c": "y"})
    (world.root / "d").symlink_to("a")
    local = HostFolder(str(world.runs / "job" / "hosts" / "here"))
    assert Path(source.stage(SyncSpec(str(world.root)), local)).name == world.tree().digest


def test_an_unchanged_tree_costs_one_round_trip_and_no_reading(world: World) -> None:
    world.write({f"f{n}.py": f"print({n})" for n in range(300)})
    world.bring(world.tree())
    with world.there() as there:
        world.wire.sent, world.wire.turns = 0, 0
        there.bring(world.tree(), "sources")
        assert world.wire.turns == 1
        assert world.wire.sent < 300


def test_a_changed_tree_sends_only_what_the_host_lacks(world: World) -> None:
    big = os.urandom(2 << 20)
    world.write({"big.bin": big, "a.py": "1", "sub/b.py": "2"})
    first = world.bring(world.tree())
    assert world.cost > 2 << 20
    world.write({"a.py": "3", "sub/copy.bin": big})
    second = world.bring(world.tree())
    assert world.cost < 2000
    assert second != first
    assert (second / "sub" / "copy.bin").read_bytes() == (second / "big.bin").read_bytes() == big
    assert (first / "a.py").read_text() == "1"
    assert (second / "a.py").read_text() == "3"


def test_a_staged_tree_that_was_changed_gets_its_content_back(world: World) -> None:
    world.write({"a.py": "1", "sub/b.py": "2", "sub/c.py": "3", "d.py": "4"})
    (world.root / "l").symlink_to("a.py")
    tree = world.tree()
    place = world.bring(tree)
    before = listing(place)
    (place / "a.py").write_text("9")
    (place / "d.py").unlink()
    (place / "l").unlink()
    (place / "l").write_text("x")
    for path in (place / "sub").iterdir():
        path.unlink()
    (place / "sub").rmdir()
    (place / "sub").write_text("in the way")
    (place / "added").write_text("kept")
    assert world.bring(tree) == place
    after = listing(place)
    assert after.pop("added")[1] == b"kept"
    assert after == before
    assert world.bring(tree) == place
    assert world.cost < 300


def test_a_change_that_keeps_size_and_time_is_seen(world: World) -> None:
    world.write({"a.py": "1"})
    tree = world.tree()
    place = world.bring(tree)
    about = (place / "a.py").stat()
    (place / "a.py").write_text("2")
    os.utime(place / "a.py", ns=(about.st_atime_ns, about.st_mtime_ns))
    world.bring(tree)
    assert (place / "a.py").read_text() == "1"


def test_an_index_that_is_lost_or_damaged_only_costs_a_look(world: World) -> None:
    world.write({"a.py": "1"})
    tree = world.tree()
    place = world.bring(tree)
    index = place.parent / f".{place.name}.index"
    for damage in (b"", b"{}", b'{"items": [[1]], "stamps": 3}'):
        index.write_bytes(damage)
        (place / "a.py").write_text("2")
        assert world.bring(tree) == place
        assert (place / "a.py").read_text() == "1"


def test_a_file_that_changes_while_it_is_sent_is_an_error(world: World) -> None:
    world.write({"a.py": "1" * 100, "b.py": "2" * 100})
    for text in ("3" * 100, "3" * 50):
        world.write({"a.py": "1" * 100})
        tree = world.tree()
        world.write({"a.py": text})
        with pytest.raises(NotFitError, match=r"a\.py has changed while it was being sent"):
            world.bring(tree)
    assert [name for name in names(world.workdir / "sources") if not name.startswith(".")] == []


def test_what_is_too_big_is_refused_before_anything_is_sent(world: World) -> None:
    world.write({"big.bin": b"x" * 2000})
    with pytest.raises(UsageError, match=r"big\.bin"):
        world.tree(max_bytes=1000)


def test_many_hosts_share_one_reading(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.write({"big.bin": os.urandom(3 << 20), "a.py": "1"})
    tree = world.tree()
    reads: list[str] = []
    read = Tree._read

    def counted(self: Tree, item: trees.Item, have: int) -> Iterator[bytes]:
        reads.append(item.path)
        return read(self, item, have)

    monkeypatch.setattr(Tree, "_read", counted)
    places: list[Path] = []

    def bring(number: int) -> None:
        with There(world.wire, workdir=f"{world.workdir}{number}") as there:
            places.append(Path(there.bring(tree, "sources")))

    threads = [threading.Thread(target=bring, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(reads) == ["a.py", "big.bin"]
    assert len({str(place) for place in places}) == 4
    assert all((p / "big.bin").read_bytes() == (world.root / "big.bin").read_bytes() for p in places)


def test_two_at_once_on_one_host_bring_it_once(world: World) -> None:
    world.write({"big.bin": os.urandom(6 << 20)})
    tree = world.tree()
    with world.there() as one, world.there() as two:
        before = world.wire.sent
        found: list[str] = []
        threads = [threading.Thread(target=lambda t=t: found.append(t.bring(tree, "sources"))) for t in (one, two)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [str(world.workdir / "sources" / tree.digest)] * 2
        assert world.wire.sent - before < 9 << 20


# What is larger: data


def test_data_is_resumed_at_the_byte_where_it_was_cut(world: World) -> None:
    world.write({"set.npz": os.urandom(8 << 20)})
    data = survey.data(str(world.root / "set.npz"))
    world.wire.cut_after = 5 << 20
    with pytest.raises(NotFitError):
        world.bring(data.tree, "data")
    world.wire.cut_after = None
    incoming = world.workdir / "data" / f".{data.tree.digest}.incoming"
    wait_until(lambda: sum(p.stat().st_size for p in incoming.iterdir()) > 3 << 20)
    place = world.bring(data.tree, "data")
    assert world.cost < 6 << 20
    assert Path(data.path(str(place))).read_bytes() == (world.root / "set.npz").read_bytes()
    assert Path(data.path(str(place))).name == "set.npz"
    assert not incoming.exists()
    assert world.bring(data.tree, "data") == place
    assert world.cost < 300


def test_a_beginning_that_was_damaged_meanwhile_is_sent_again(world: World) -> None:
    world.write({"set.npz": os.urandom(4 << 20)})
    data = survey.data(str(world.root / "set.npz"))
    world.wire.cut_after = 3 << 20
    with pytest.raises(NotFitError):
        world.bring(data.tree, "data")
    world.wire.cut_after = None
    incoming = world.workdir / "data" / f".{data.tree.digest}.incoming"
    wait_until(lambda: any(p.stat().st_size > 1 << 20 for p in incoming.iterdir()))
    with open(next(incoming.iterdir()), "r+b") as part:
        part.write(b"nonsense")
    place = world.bring(data.tree, "data")
    assert (place / "set.npz").read_bytes() == (world.root / "set.npz").read_bytes()


def test_a_folder_of_data_travels_whole_but_for_secrets(world: World) -> None:
    world.write({".gitignore": "*", "x/1.tfrecord": "1", "x/2.tfrecord": "2", ".env": "SECRET=1", "key.pem": "k"})
    data = survey.data(str(world.root))
    place = Path(data.path(str(world.bring(data.tree, "data"))))
    assert {str(p.relative_to(place)) for p in place.rglob("*")} == {
        ".gitignore",
        "x",
        "x/1.tfrecord",
        "x/2.tfrecord",
    }
    with pytest.raises(UsageError, match="does not travel"):
        survey.data(str(world.root / "key.pem"))
    with pytest.raises(UsageError, match="neither a file nor a folder"):
        survey.data(str(world.root / "nowhere"))


def test_of_an_idx_folder_only_the_set_travels_links_as_files(world: World) -> None:
    names = [f"{a}-{b}-ubyte.gz" for a in ("train", "t10k") for b in ("images-idx3", "labels-idx1")]
    world.write({**{f"store/{name}": name for name in names}, "idx/notes.txt": "x"})
    for name in names:
        (world.root / "idx" / name).symlink_to(f"../store/{name}")
    data = survey.dataset(DatasetSpec("idx", str(world.root / "idx")))
    assert data is not None
    place = Path(data.path(str(world.bring(data.tree, "data"))))
    assert {p.name: p.read_text() for p in place.iterdir()} == {name: name for name in names}
    assert not any(p.is_symlink() for p in place.iterdir())


def test_the_embedded_set_travels_as_data(world: World) -> None:
    data = survey.dataset(DatasetSpec())
    assert data is not None
    place = Path(data.path(str(world.bring(data.tree, "data"))))
    own = Path(__file__).parents[2] / "worker" / "train" / "data" / "fashion-mnist-mini.npz"
    assert place.read_bytes() == own.read_bytes()
    assert survey.dataset(DatasetSpec("function", function="a:b")) is None


def test_a_disk_without_room_is_told_before_anything_is_sent(world: World, tmp_path: Path) -> None:
    path = tmp_path / "sparse.bin"
    path.touch()
    size = 8 << 20
    os.truncate(path, size)
    item = trees.Item(trees.FILE, "sparse.bin", "0" * 64, 1 << 50)
    with pytest.raises(NotFitError, match=r"has room for .* MB, and .* are to come"):
        world.bring(Tree([item], tmp_path, shared=False), "data")


# The run's own copy


def test_every_run_has_a_copy_of_its_own_which_gets_back_what_it_changed(world: World) -> None:
    world.write({"train.py": "1", "config/a.yaml": "2", "run.sh": "#!"})
    (world.root / "run.sh").chmod(0o755)
    (world.root / "l").symlink_to("config")
    tree = world.tree()
    with world.there() as there:
        place = there.bring(tree, "sources")
        to = [f"{there.workdir}/run-{n}/far/sources/{tree.digest}" for n in (1, 2)]
        one, two = (Path(there.copy(place, each)) for each in to)
        assert listing(one) == listing(two) == listing(Path(place))
        (one / "train.py").write_text("mine")
        (one / "out.log").write_text("added")
        (one / "config" / "a.yaml").unlink()
        assert (two / "train.py").read_text() == (Path(place) / "train.py").read_text() == "1"
        assert there.copy(place, to[0]) == to[0]
        assert (one / "train.py").read_text() == "1"
        assert (one / "config" / "a.yaml").read_text() == "2"
        assert (one / "out.log").read_text() == "added"
        kept = list(Path(f"{one}.changed").iterdir())
        assert [path.read_text() for path in kept] == ["mine"]


def test_a_run_without_a_folder_gets_an_empty_one(world: World) -> None:
    with world.there() as there:
        place = Path(there.copy("", f"{there.workdir}/run/far/sources/none"))
        assert list(place.iterdir()) == []
        assert place.stat().st_mode & 0o777 == 0o700


def test_a_host_that_dies_in_the_middle_is_an_error_and_leaves_no_half_tree(world: World) -> None:
    world.write({"big.bin": os.urandom(30 << 20)})
    tree = world.tree()
    there = world.there()
    folder = world.workdir / "sources"

    def kill() -> None:
        wait_until(lambda: any(folder.glob(".*.incoming/*.part")))
        os.kill(world.wire._channels[-1]._process.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(NotFitError):
        there.bring(tree, "sources")
    killer.join()
    there.close()
    assert [name for name in names(folder) if not name.startswith(".")] == []
    assert (world.bring(tree) / "big.bin").stat().st_size == 30 << 20


def test_what_staging_left_is_listed_and_removed(world: World) -> None:
    world.write({"big.bin": os.urandom(1 << 20)})
    tree = world.tree()
    began = time.time()
    place = world.bring(tree)
    (place.parent / ".old.incoming").mkdir()
    with world.there() as there:
        found = {(left.kind, left.name): left for left in there.left()}
        assert set(found) == {
            ("code", Path(there.code).name),
            ("sources", tree.digest),
            ("sources", ".old.incoming"),
        }
        ours = found["sources", tree.digest]
        assert 1 << 20 <= ours.size < 2 << 20
        assert began - 2 < ours.used < time.time() + 2
        assert found["code", Path(there.code).name].busy
        assert not ours.busy
        there.remove(ours)
        assert names(place.parent) == [".old.incoming"]
        with pytest.raises(NotFitError):
            there.remove(dataclasses.replace(ours, name=".."))
    assert world.workdir.is_dir()
    assert world.bring(tree) == place


def test_what_is_listed_must_be_a_tree() -> None:
    good = trees.Item(trees.FILE, "a", "0" * 64, 1)
    for path in ("../a", "/a", "a/../../b", "", ".", "..", "nowhere/a", "a\0b"):
        with pytest.raises(ValueError, match="cannot be in a tree"):
            trees.unpacked(trees.packed([good._replace(path=path)]))
    with pytest.raises(ValueError, match="one path twice"):
        trees.unpacked(trees.packed([good, good]))
    link = trees.Item(trees.LINK, "l", "/etc", 0)
    with pytest.raises(ValueError, match="cannot be in a tree"):
        trees.unpacked(trees.packed([link, good._replace(path="l/passwd")]))


def wait_until(true: object, within_s: float = 20.0) -> None:
    assert callable(true)
    deadline = time.monotonic() + within_s
    while True:
        try:
            if true():
                return
        except OSError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.01)
