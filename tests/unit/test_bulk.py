"""Frames that carry bytes, in whatever pieces they come."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.contract import bulk, wire

RAWS = st.lists(st.binary(max_size=300), max_size=8)


@given(RAWS, st.lists(st.integers(1, 200), min_size=1, max_size=50), st.booleans())
def test_what_was_sent_is_what_arrives_however_it_is_cut(raws: list[bytes], cuts: list[int], magic: bool) -> None:
    data = (b"a banner\n" + wire.MAGIC if magic else b"") + b"".join(
        bulk.encode({"type": "x", "n": n}, raw) for n, raw in enumerate(raws)
    )
    decoder = bulk.Decoder(magic=magic)
    frames = []
    turn = 0
    while data:
        count = cuts[turn % len(cuts)]
        turn += 1
        frames += decoder.feed(data[:count])
        data = data[count:]
    assert [raw for _, raw in frames] == raws
    assert [message["n"] for message, _ in frames] == list(range(len(raws)))
    assert not magic or not decoder.awaits_magic


def test_the_head_and_the_bytes_are_the_frame() -> None:
    message, raw = {"type": "x"}, b"y" * 1000
    assert bulk.head(message, raw) + raw == bulk.encode(message, raw)


@pytest.mark.parametrize("size", [-1, bulk.MAX_RAW + 1, "1", True, 1.5])
def test_an_impossible_count_is_refused(size: object) -> None:
    with pytest.raises(wire.WireError):
        bulk.Decoder().feed(wire.encode({"type": "x", "raw": size}))


def test_too_much_in_one_piece_is_not_sent() -> None:
    with pytest.raises(wire.WireError):
        bulk.encode({"type": "x"}, bytes(bulk.MAX_RAW + 1))
