"""What a command complains of: only the end of it is kept, and that whole."""

from __future__ import annotations

import os

import pytest

from launcher.hosts import pipe_channel
from launcher.hosts.pipe_channel import Complaints

FLOOD = b"e" * (3 << 20)


@pytest.mark.parametrize("frees", [True, False], ids=["file system frees", "it cannot"])
def test_a_flood_takes_no_room_and_the_last_word_is_kept(frees: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not frees:
        monkeypatch.setattr(pipe_channel, "free_space", lambda *_: False)
    complaints = Complaints()
    try:
        for _ in range(2):
            os.write(complaints.fileno(), FLOOD)
            os.write(complaints.fileno(), b"the last word")
            complaints.trim()
            assert complaints.text().endswith("the last word")
            assert os.fstat(complaints.fileno()).st_blocks * 512 < 64 << 10
    finally:
        complaints.close()
