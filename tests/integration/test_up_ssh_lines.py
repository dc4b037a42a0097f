"""What several ranks print alike, on the screen and in the files of a run over SSH."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.integration.far import far_in
from tests.integration.there import nothing_alive, same_at_home
from tests.lab.hosts import why_no_sshd

pytestmark = pytest.mark.skipif(bool(why_no_sshd()), reason=why_no_sshd())

# The ranks keep step by the clock, as collectives make them do.
CHORUS = """\
import os, time
rank = os.environ["LAUNCHER_RANK"]
beat = float(int(time.time()) + 2)
for number in range(12):
    time.sleep(max(0.0, beat + 0.25 * number - time.time()))
    print("together", number, flush=True)
    if number == 5:
        print("alone", rank, flush=True)
"""
_PRINTED = re.compile(r"\[([^ \]]+)[^]]*\] (together \d+|alone \d+)")


def ranks_of(prefix: str) -> list[int]:
    found: list[int] = []
    for part in prefix.split(","):
        first, _, last = part.replace("r", "").partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def test_what_four_ranks_on_two_hosts_print_alike_is_folded_and_every_rank_keeps_its_order(tmp_path: Path) -> None:
    with far_in(tmp_path) as far:
        done = far.launcher.run("up", str(far.program(CHORUS, each="workers: 2")), "--plain")
        screen = [match.groups() for match in map(_PRINTED.match, done.stdout.splitlines()) if match]
        for rank in range(4):
            mine = [text for prefix, text in screen if rank in ranks_of(prefix)]
            together = [f"together {number}" for number in range(12)]
            assert mine == [*together[:6], f"alone {rank}", *together[6:]]
        assert len(screen) <= 30, "of 52"
        again = far.launcher.run("attach", "--plain").stdout  # all of it is there at once
        assert again.count("[r0-r3] together") == 12
        run = far.launcher.newest()
        same_at_home(far, run)
        for rank in range(4):
            log = (run / "hosts" / f"h{1 + rank // 2}" / "g1" / f"rank{rank}.log").read_text()
            assert log.count("together") == 12, "files know nothing of the screen"
        nothing_alive(far)
