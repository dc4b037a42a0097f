"""Durations, sizes, counts and the rest, as people write them; and as they should not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.spec import values
from launcher.spec.nodes import Plain
from launcher.spec.values import UnfitError

COUNT = values.whole(1, 10**12)


@pytest.mark.parametrize(
    ("parse", "written", "meant"),
    [
        (values.duration, "15 s", 15.0),
        (values.duration, "15s", 15.0),
        (values.duration, "5 min", 300.0),
        (values.duration, "5 m", 300.0),
        (values.duration, "1.5 hours", 5400.0),
        (values.duration, "1 h 30 min", 5400.0),
        (values.duration, "1 day", 86400.0),
        (values.duration, "250 ms", 0.25),
        (values.size, "200 MB", 200_000_000),
        (values.size, "1 kB", 1000),
        (values.size, "1.5GiB", 3 * 2**29),
        (values.size, "7 B", 7),
        (values.ports, "20000-20099", (20000, 20099)),
        (values.ports, "20000 - 20099", (20000, 20099)),
        (values.ports, "1024", (1024, 1024)),
        (values.positive, "1e-3", 0.001),
        (values.positive, ".5", 0.5),
        (values.positive, "2", 2.0),
        (COUNT, "1", 1),
        (COUNT, "1000000000000", 10**12),
        (values.truth, "true", True),
        (values.truth, "false", False),
        (values.gpus, "0", 0),
        (values.gpus, "all", "all"),
        (values.network, "10.0.0.0/24", "10.0.0.0/24"),
        (values.network, "fd00::/8", "fd00::/8"),
    ],
)
def test_what_people_write_is_understood(parse: Callable[[Any], Any], written: str, meant: Any) -> None:
    assert parse(Plain(written)) == meant


@pytest.mark.parametrize(
    ("parse", "written", "said"),
    [
        (values.duration, "15", "for seconds write `15 s`"),
        (values.duration, "0 s", "above 0"),
        (values.duration, "-5 s", "with its unit"),
        (values.duration, "400 d", "at most 366 d"),
        (values.duration, "5 fortnights", "units: ms, s, min, h, d"),
        (values.duration, "5 mss", "units: ms, s, min, h, d"),
        (values.duration, "1 hour and a half", "with its unit"),
        (values.size, "200", "with its unit"),
        (values.size, "5 potatoes", "units: B"),
        (values.size, "0.1 B", "at least 1 B"),
        (values.ports, "1023-2000", "1024-65535"),
        (values.ports, "2000-65536", "1024-65535"),
        (values.ports, "many", "20000-20099"),
        (values.positive, "0", "above 0"),
        (values.positive, ".nan", "a number"),
        (values.positive, "1e999", "above 0"),
        (values.positive, "1_0", "a number"),
        (COUNT, "1e3", "decimal digits"),
        (COUNT, "0x10", "decimal digits"),
        (COUNT, "1_000", "such"),
        (COUNT, "010", "leading zeros"),
        (COUNT, "1.0", "a whole number"),
        (COUNT, "0", "from 1"),
        (COUNT, "9" * 5000, "a whole number"),
        (COUNT, "+1", "a whole number"),
        (COUNT, "٣", "a whole number"),
        (values.truth, "yes", "write true"),
        (values.truth, "off", "write false"),
        (values.truth, "True", "write true"),
        (values.truth, "1", "write true"),
        (values.gpus, "-1", "free, all"),
        (values.gpus, "any", "free, all"),
        (values.network, "10.0.0.0", "10.0.0.0/24"),
        (values.network, "10.0.0.1/24", "the network is 10.0.0.0/24"),
        (values.network, "10.0.0.0/99", "a network"),
        (values.intervals, "1 week", "1 epoch, 100 steps or 10 min"),
        (values.intervals, "0 steps", "1 epoch, 100 steps or 10 min"),
    ],
)
def test_what_is_not_meant_so_is_refused_with_what_was_expected(
    parse: Callable[[Any], Any], written: str, said: str
) -> None:
    with pytest.raises(UnfitError) as caught:
        parse(Plain(written))
    assert said in f"{caught.value.expected} {caught.value.hint}" or said == "such"


def test_a_number_in_quotes_is_text() -> None:
    for parse in (COUNT, values.positive, values.truth):
        with pytest.raises(UnfitError):
            parse("1")
    assert values.text("1") == "1"


@pytest.mark.parametrize(
    "parse",
    [
        *(COUNT, values.positive, values.truth, values.duration, values.size, values.ports, values.gpus),
        *(values.network, values.intervals, values.text, values.any_text, values.one_of("a", "b")),
        values.matching("[a-z]+", "letters"),
    ],
)
@given(
    value=st.one_of(
        st.none(),
        st.text().map(Plain),
        st.text(alphabet="0123456789.-+ eEsmhdkMGiB/:[]").map(Plain),
        st.text(),
        st.lists(st.text().map(Plain), max_size=3),
        st.dictionaries(st.text(), st.text(), max_size=2),
    )
)
def test_any_value_is_taken_or_refused_and_nothing_else(parse: Callable[[Any], Any], value: Any) -> None:
    try:
        result = parse(value)
    except UnfitError as error:
        refusal = error
    else:
        assert type(result) is not Plain
        return
    assert refusal.expected
