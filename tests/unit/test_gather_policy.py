"""What is brought next, what is pruned, what an output file needs: pure rules."""

from __future__ import annotations

import pytest

from launcher.gather.checked import Remote
from launcher.gather.output_plan import Have, Todo, only_grows, todo
from launcher.gather.which import ALL, NEWEST, next_wanted, to_prune


@pytest.mark.parametrize(
    ("there", "here", "begun", "home", "keep", "wanted"),
    [
        ([], [], "", NEWEST, 3, ""),
        (["g1-s9", "g1-s10"], [], "", NEWEST, 3, "g1-s10"),
        (["g1-s90", "g2-s10"], [], "", NEWEST, 3, "g2-s10"),  # a later life of the cluster goes before more steps
        (["g1-s9", "g1-s10"], ["g1-s10"], "", NEWEST, 3, ""),  # superseded, and not yet begun
        (["g1-s9", "g1-s10"], [], "g1-s9", NEWEST, 3, "g1-s9"),  # begun: it is finished
        (["g1-s10"], [], "g1-s9", NEWEST, 3, "g1-s9"),  # begun, and pruned there meanwhile
        (["g1-s10"], ["g1-s10"], "g1-s9", NEWEST, 3, ""),  # begun, but older than what is whole here
        (["g1-s1", "g1-s2", "g1-s3"], [], "", ALL, None, "g1-s1"),
        (["g1-s1", "g1-s2", "g1-s3"], ["g1-s1", "g1-s3"], "", ALL, None, "g1-s2"),
        (["g1-s1", "g1-s2", "g1-s3"], ["g1-s2", "g1-s3"], "", ALL, 2, ""),  # it would be pruned at once
        (["no checkpoint", "g1-s", "../g1-s1"], [], "", NEWEST, 3, ""),
    ],
)
def test_which_checkpoint_comes_next(
    there: list[str], here: list[str], begun: str, home: str, keep: int | None, wanted: str
) -> None:
    assert next_wanted(there, here, begun, set(), home, keep) == wanted


def test_one_that_was_refused_is_not_asked_for_again() -> None:
    assert next_wanted(["g1-s1", "g1-s2"], [], "g1-s2", {"g1-s2"}, NEWEST, 3) == "g1-s1"


def test_only_the_newest_stay_at_home() -> None:
    names = ["g1-s100", "g2-s50", "g1-s20", "g2-s110", "strange"]
    assert to_prune(names, 2) == ["g1-s20", "g1-s100"]
    assert to_prune(names, None) == []
    assert to_prune([], 3) == []


def remote(path: str, size: int = 10, inode: int = 1, mtime_ns: int = 5) -> Remote:
    return Remote(path, size, mtime_ns, inode)


EVENTS = "output/events.out.tfevents.1.h.v2"


def test_a_file_that_is_as_it_was_needs_nothing() -> None:
    assert todo([remote("output/a")], {"output/a": Have(10, 1, 5)}, {}, final=True) == Todo()


def test_a_new_file_is_copied_once_it_has_been_still() -> None:
    file = remote("output/model.keras")
    assert todo([file], {}, {}, final=False) == Todo(waits=(file,))
    assert todo([file], {}, {file.path: remote("output/model.keras", 9)}, final=False) == Todo(waits=(file,))
    assert todo([file], {}, {file.path: file}, final=False) == Todo(copies=(file,))
    assert todo([file], {}, {}, final=True) == Todo(copies=(file,))


def test_a_file_that_only_grows_is_added_to() -> None:
    file = remote(EVENTS, 20)
    assert todo([file], {}, {}, final=False) == Todo(grows=(file,))
    assert todo([file], {EVENTS: Have(10, 1, 4)}, {}, final=False) == Todo(grows=(file,))


def test_one_of_the_same_size_that_was_written_to_is_looked_at_again() -> None:
    for path in (EVENTS, "output/model.keras"):
        assert todo([remote(path)], {path: Have(10, 1, 4)}, {}, final=True) != Todo()


@pytest.mark.parametrize("here", [Have(30, 1, 5), Have(10, 2, 5)], ids=["shrank", "replaced"])
def test_a_growing_file_that_is_another_one_now_is_copied(here: Have) -> None:
    file = remote(EVENTS, 20)
    assert todo([file], {EVENTS: here}, {file.path: file}, final=False) == Todo(copies=(file,))


def test_a_file_that_was_moved_there_is_moved_here() -> None:
    file = remote("output/model.keras", inode=7)
    old = "g1/rank0/output/model.keras"
    assert todo([file], {old: Have(10, 7, 5)}, {}, final=False) == Todo(moves=((old, file),))
    # A reused inode is no move, and neither is a second name of a file that is still there.
    assert todo([file], {old: Have(11, 7, 5)}, {}, final=True) == Todo(copies=(file,))
    both = [remote(old, inode=7), file]
    assert todo(both, {old: Have(10, 7, 5)}, {}, final=True) == Todo(copies=(file,))


def test_which_files_only_grow() -> None:
    assert only_grows(EVENTS)
    assert only_grows("g1/rank0/output/logs/train.log")
    assert not only_grows("output/x.tfevents.d/model.keras")
    assert not only_grows("output/status.txt")
