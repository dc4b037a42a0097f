"""What a host sends is checked before anything is done: no path outside, no link, no gap, nothing without bound."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import NotFitError
from launcher.gather import asking, checked
from launcher.gather.arrivals import Arrivals, Want
from launcher.gather.asking import EndedError, Pull
from launcher.gather.checked import End, NonsenseError, Remote
from launcher.gather.disk import Disk, FullDisk
from launcher.gather.output import Limits, OutputAtHome
from launcher.gather.segments import Segments
from launcher.hosts.session import Channel
from tests.gather_lab import tree
from worker.contract import bulk, wire
from worker.contract.inside import Inside, steps

HOSTILE_PATHS = [
    "",
    "/etc/passwd",
    "../events.jsonl",
    "g1/../../x",
    "g1//rank0.log",
    "./events.jsonl",
    "g1/rank0.log/",
    "a\0b",
    "a/" * 40 + "b",
    "x" * 256,
    "\ud800",
]


class Scripted(Channel):
    """A host that says what it was told to say, whatever it is asked."""

    def __init__(self, *frames: tuple[wire.Message, bytes]) -> None:
        data = wire.MAGIC + b"".join(bulk.encode(message, raw) for message, raw in frames)
        self._read, write = os.pipe()
        self._writer = threading.Thread(target=_pour, args=(write, data))
        self._writer.start()

    def fileno(self) -> int:
        return self._read

    def read(self, most: int = 1 << 18) -> bytes | None:
        return os.read(self._read, most)

    def write(self, data: bytes | memoryview) -> int:
        return len(data)

    def wait_writable(self, timeout_s: float) -> bool:  # noqa: ARG002
        return True

    def end_input(self) -> None: ...

    def errors(self) -> str:
        return ""

    def exit_status(self) -> int | None:
        return None

    def close(self) -> None:
        if self._read >= 0:
            os.close(self._read)
            self._read = -1
            self._writer.join()


def _pour(write: int, data: bytes) -> None:
    try:
        while data:
            data = data[os.write(write, data) :]
    except OSError:
        pass
    finally:
        os.close(write)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Begin a conversation with a host that answers with these frames."""
    opened: list[Pull] = []

    def begin(*frames: Any) -> Pull:
        script = [frame if isinstance(frame, tuple) else (frame, b"") for frame in frames]
        channel = Scripted(({"type": "opened", "exists": True}, b""), *script)
        monkeypatch.setattr(asking, "enter", lambda *_, **__: channel)
        opened.append(Pull(Named(), "/folder", workdir="/"))  # type: ignore[arg-type]
        return opened[-1]

    yield begin
    for pull in opened:
        pull.close()


class Named:
    name = "h1"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    home = tmp_path / "home" / "h1"
    one = Disk(str(home), FullDisk(lambda _: None), threading.Event())
    yield one
    one.close()
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    assert [path.name for path in home.parent.iterdir()] == ["h1"]


class Nowhere:
    """A sink that keeps what it was given."""

    def __init__(self) -> None:
        self.got: list[Any] = []

    def begin(self, index: int, offset: int) -> None:
        self.got.append(("begin", index, offset))

    def data(self, index: int, offset: int, data: memoryview) -> None:
        self.got.append((index, offset, bytes(data)))

    def end(self, index: int, end: End) -> None:
        self.got.append(("end", index, end.why))


@pytest.mark.parametrize("path", HOSTILE_PATHS)
def test_a_path_that_leads_elsewhere_is_no_path(path: str) -> None:
    with pytest.raises(ValueError, match=r"strange|too|surrogates"):
        steps(path)


@pytest.mark.parametrize("path", [*HOSTILE_PATHS, "g1/rank0", "g01/rank0.log", "g1/rank0.log.1", "code/x", ".gather/x"])
def test_a_log_can_only_be_where_logs_are(path: str) -> None:
    with pytest.raises(NonsenseError):
        checked.segments({"type": "parts", "segments": [[0, path, 1, 0, "new"]]})


@pytest.mark.parametrize(
    "message",
    [
        {"parts": [[0, 0, 5]]},
        {"parts": [[0, 0, 3], [0, 3, -1]]},
        {"parts": [[0, 0]]},
        {"parts": "x"},
        {"parts": [[0, 0, True], [0, 1, 1]]},
        {"parts": [[0, 1 << 64, 2]]},
    ],
    ids=str,
)
def test_parts_must_fit_their_bytes(message: dict[str, Any]) -> None:
    with pytest.raises(NonsenseError):
        checked.parts({"type": "parts", **message}, b"ab")


def feed(arrivals: Arrivals, frames: list[Any]) -> None:
    for message, raw in frames:
        arrivals.feed(message, raw)


def part(*parts: list[int], ends: tuple[list[Any], ...] = (), raw: bytes = b"") -> tuple[dict[str, Any], bytes]:
    return {"type": "parts", "parts": list(parts), "ends": list(ends)}, raw


@pytest.mark.parametrize(
    "frames",
    [
        [part([1, 0, 1], raw=b"x")],  # the second before the first
        [part([9, 0, 1], raw=b"x")],
        [part([0, 3, 1], raw=b"x")],  # neither the beginning nor what was asked for
        [part([0, 5, 1], raw=b"x"), part([0, 7, 1], raw=b"x")],  # a gap
        [part([0, 5, 1], raw=b"x"), part([0, 5, 1], raw=b"x")],  # twice
        [part(ends=([0, 7, None, 1, 1, None],))],  # an end without the bytes
        [part([0, 5, 1], ends=([0, 9, None, 1, 1, None],), raw=b"x")],
        [part(ends=([1, 0, None, 1, 1, "gone"],))],
        [part(ends=([0, 0, None, 1, 1, "gone"], [0, 0, None, 1, 1, "gone"]))],
    ],
)
def test_files_that_were_asked_for_arrive_whole_and_in_order_or_not_at_all(frames: list[Any]) -> None:
    with pytest.raises(NonsenseError):
        feed(Arrivals([Want("a", 5, "tail"), Want("b")], Nowhere()), frames)


def test_many_files_in_one_frame_come_one_after_another() -> None:
    sink = Nowhere()
    arrivals = Arrivals([Want("a"), Want("b"), Want("c")], sink)
    ends = ([0, 1, None, 1, 1, None], [1, 0, None, 1, 1, "gone"])
    arrivals.feed(*part([0, 0, 1], [2, 0, 2], ends=ends, raw=b"abc"))
    assert not arrivals.complete
    arrivals.feed(*part(ends=([2, 2, None, 1, 1, None],)))
    assert arrivals.complete
    assert sink.got == [
        ("begin", 0, 0),
        (0, 0, b"a"),
        ("end", 0, ""),
        ("end", 1, "gone"),
        ("begin", 2, 0),
        (2, 0, b"bc"),
        ("end", 2, ""),
    ]


def test_output_that_is_listed_elsewhere_is_refused(host: Any, disk: Disk) -> None:
    for path in ("output/../../x", "events.jsonl", "g1/rank0.log", "g1/rank0/tmp/x", "checkpoints/g1-s1/arrays.npz"):
        listing = {"type": "listing", "files": [[path, 1, 1, 1]], "checkpoints": [], "more": False}
        output = OutputAtHome(disk, Limits(), lambda _: None)
        if path == "output/../../x":  # of the right shape, and yet a strange path: passed over
            assert not output.look(host(listing), final=True)
            continue
        with pytest.raises(NonsenseError):
            output.look(host(listing), final=True)
    assert tree(disk.path) == {}


def test_names_that_are_none_of_checkpoints_are_not_listed(host: Any) -> None:
    names = [["../x", 1], ["g1-s1", 1], [3, 1], ["g1-s1/../..", 1], ["g\u0661-s1", 1]]
    pull = host({"type": "listing", "files": [], "checkpoints": names, "more": False})
    assert pull.listing("checkpoints").checkpoints == ("g1-s1",)


@pytest.mark.parametrize("name", ["../x", ".hidden", "a/b", "", "..", "a\0"])
def test_a_checkpoint_with_a_strange_file_is_refused(host: Any, name: str) -> None:
    pull = host({"type": "held", "name": "g1-s1", "folder": "checkpoints/g1-s1", "files": [[name, 1]]})
    with pytest.raises(NonsenseError):
        pull.hold("g1-s1")


def test_a_listing_without_an_end_is_cut_off(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "MOST_FILES", 100)
    page = {"type": "listing", "files": [["output/x", 1, 1, 1]] * 60, "checkpoints": [], "more": True}
    with pytest.raises(NonsenseError, match="more files"):
        host(page, page, page).listing("output")


def test_an_answer_to_another_question_is_none(host: Any) -> None:
    with pytest.raises(NonsenseError):
        host({"type": "digests", "digests": []}).listing("output")
    with pytest.raises(EndedError):
        host().listing("output")


def test_a_host_that_refuses_is_heard(host: Any) -> None:
    with pytest.raises(NotFitError, match="no such thing"):
        host({"type": "failed", "why": "no such thing"}).listing("output")


def test_logs_are_bounded_in_number_and_size(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launcher.gather.segments.MOST_FILES", 2)
    segments = Segments(disk, most_bytes=10)
    segments.begin(checked.segments({"segments": [[0, "g1/rank0.log", 1, 0, "new"], [1, "agent.log", 2, 0, "new"]]}))
    segments.add(0, 0, memoryview(b"12345678"))
    with pytest.raises(NonsenseError, match="more logs"):
        segments.add(1, 0, memoryview(b"123"))
    with pytest.raises(NonsenseError, match="more logs"):
        segments.begin(checked.segments({"segments": [[2, "g2/rank0.log", 1, 0, "new"]]}))


def test_bytes_that_do_not_follow_are_refused(disk: Disk) -> None:
    segments = Segments(disk)
    segments.begin(checked.segments({"segments": [[0, "agent.log", 1, 0, "new"]]}))
    segments.add(0, 0, memoryview(b"abc"))
    for number, offset in ((0, 0), (0, 2), (0, 4), (7, 3)):
        with pytest.raises(NonsenseError):
            segments.add(number, offset, memoryview(b"x"))
    with pytest.raises(NonsenseError):
        segments.begin(checked.segments({"segments": [[3, "agent.log", 1, 2, "goes on"]]}))
    assert Path(disk.path, "agent.log").read_bytes() == b"abc"


def test_a_file_that_is_begun_anew_without_end_leaves_a_bounded_number_behind(disk: Disk) -> None:
    segments = Segments(disk)
    for number in range(40):
        segments.begin(checked.segments({"segments": [[number, "agent.log", number, 0, "replaced"]]}))
        segments.add(number, 0, memoryview(b"%d" % number))
    assert Path(disk.path, "agent.log").read_bytes() == b"39"
    assert len(list(Path(disk.path).glob("agent.log*"))) == 21


def test_links_at_home_are_never_followed(disk: Disk, tmp_path: Path) -> None:
    outside = tmp_path / "home" / "h1" / "outside"
    outside.mkdir()
    (outside / "victim").write_bytes(b"mine")
    home = Path(disk.path)
    (home / "g1").symlink_to(outside)
    (home / "agent.log").symlink_to(outside / "victim")
    for path in ("g1/rank0.log", "agent.log", "g1/victim"):
        with pytest.raises(OSError, match=r"Not a directory|symbolic links|Too many levels"):
            disk.append(path, 4, b"x")
    assert (outside / "victim").read_bytes() == b"mine"


def test_what_is_no_plain_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "way").symlink_to("/etc")
    inside = Inside(str(tmp_path))
    try:
        for path in ("folder", "pipe", "link", "way/passwd", "../etc/passwd", "absent"):
            with pytest.raises((OSError, ValueError)):
                inside.read(path)
    finally:
        inside.close()


def test_limits_of_output_leave_files_there(host: Any, disk: Disk) -> None:
    told: list[str] = []
    files = [[f"output/{n}.keras", 100, 1, n + 1] for n in range(3)]
    listing = {"type": "listing", "files": files, "checkpoints": [], "more": False}
    parts_ = part([0, 0, 100], ends=([0, 100, None, 1, 1, "changed"],), raw=b"x" * 100)
    output = OutputAtHome(disk, Limits(files=10, bytes=150), told.append)
    output.look(host(listing, parts_, {"type": "done"}), final=True)
    assert any("room" in text for text in told)
    assert Remote("output/0.keras", 100, 1, 1).path not in tree(disk.path)  # torn: not kept
