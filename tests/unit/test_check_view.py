"""How a check is shown."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest

from launcher.check import facts_file, groups, parse
from launcher.check.finding import Seen
from launcher.check.many import each
from launcher.check.preflight import Examined
from launcher.errors import NotFitError
from launcher.view.check import print_check, rows, to_json
from launcher.view.waiting import Waiting
from tests.check_values import PYTHON, found, host, seen
from tests.plan_values import spec

TWO = spec(host("gpu-a"), host("gpu-b"))


def examined(about: Seen) -> Examined:
    return Examined(about, tuple(groups.findings(about)))


def fit() -> Examined:
    return examined(seen(TWO, found("gpu-a", 1), found("gpu-b", 2)))


def shown(what: Examined) -> str:
    out = io.StringIO()
    print_check(what, out)
    return out.getvalue()


def test_every_host_is_a_row_and_every_check_that_was_made_a_column() -> None:
    text = shown(fit())
    header, first, second = text.splitlines()[:3]
    assert header.split() == ["host", *(name for name in groups.GROUPS if name not in ("pairs", "deep"))]
    assert first.split()[0] == "gpu-a"
    assert second.split()[0] == "gpu-b"
    assert text.rstrip().endswith("Fit: 2 hosts, 2 workers.")


def test_what_is_wrong_stands_below_with_its_fix_the_worst_first() -> None:
    old = replace(PYTHON, version="3.7.1")
    text = shown(examined(seen(TWO, found("gpu-a", 1, clock_s=3600.0), found("gpu-b", 2, python=old))))
    below = text[text.index("\n\n") :]
    assert below.index("FAIL python: gpu-b: /venv/bin/python is Python 3.7.1") < below.index("warn clock: gpu-a")
    assert "     next: set `python:` for host gpu-b" in below
    assert "warn +1.0 h" in text
    assert "FAIL 3.7.1" in text
    assert "Not fit: 1 thing to mend, 2 warnings. (2 hosts, 2 workers)" in text


def test_a_host_that_did_not_answer_has_empty_cells() -> None:
    about = seen(TWO, found("gpu-a", 1), failed={"gpu-b": NotFitError("gpu-b: timed out")})
    cells = dict(zip([*groups.GROUPS], rows(examined(about))[1].cells, strict=False))
    assert (cells["reach"].text, cells["python"].text) == ("FAIL no answer", "-")


def test_a_narrow_screen_gets_the_columns_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    class Narrow(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("LINES", "50")
    monkeypatch.setenv("TERM", "dumb")
    out = Narrow()
    print_check(fit(), out)
    lines = out.getvalue().splitlines()
    assert len([line for line in lines if line.startswith("host ")]) > 1
    assert max(len(line) for line in lines) <= 60


def test_names_and_reasons_from_hosts_do_no_harm_to_the_screen() -> None:
    nasty = replace(PYTHON, path="", missing="\x1b[2Jgone\r\n", version="")
    assert "\x1b[2J" not in shown(examined(seen(TWO, found("gpu-a", 1, python=nasty), found("gpu-b", 2))))


def test_json_holds_facts_that_plan_reads_and_everything_found() -> None:
    what = fit()
    value = json.loads(json.dumps(to_json(what)))
    assert value["hosts"] == json.loads(json.dumps(facts_file.to_json(what.seen.facts)))["hosts"]
    assert (value["fit"], len(value["found"])) == (True, 2)
    assert value["found"]["gpu-a"]["interfaces"][0] == {"name": "lo", "address": "127.0.0.1", "prefix": 8}
    assert {finding["verdict"] for finding in value["findings"]} == {"ok"}


def test_what_is_waited_for_is_shown_on_a_terminal_only() -> None:
    out = io.StringIO()
    with Waiting(out) as waiting:
        waiting.tell("looking at", ["a"])
    assert out.getvalue() == ""
    assert waiting.ask("passphrase: ") is None


ANSWER = {"facts": {"host": {"machine": "m", "cores": 2}}, "failures": {"users": "no answer"}}


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"facts": [], "failures": {}},
        {"facts": {"host": 3}, "failures": {}},
        {"facts": {"host": {"cores": "many"}}, "failures": {}},
        {"facts": {"host": {"machine": "m" * 5000}}, "failures": {}},
        {"facts": {"ports": [70000]}, "failures": {}},
        {"facts": {"ports": [True]}, "failures": {}},
        {"facts": {"ports": list(range(1, 5000))}, "failures": {}},
        {"facts": {"network": {"interfaces": [["eth0", "10.0.0.1; reboot", 24]]}}, "failures": {}},
        {"facts": {"network": {"interfaces": ["eth0"]}}, "failures": {}},
        {"facts": {"limits": {"open_files": [1]}}, "failures": {}},
        {"facts": {"gpus": [{"number": None, "uuid": 3}]}, "failures": {}},
        {"facts": {}, "failures": {"users": 3}},
    ],
)
def test_facts_that_make_no_sense_are_refused(answer: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse.found("a", answer)


def test_what_a_host_could_not_tell_is_empty() -> None:
    told = parse.found("a", ANSWER)
    assert (told.machine, told.cores, told.python.path, told.failures) == ("m", 2, "", {"users": "no answer"})


def test_many_are_asked_at_once_and_one_error_hides_no_result() -> None:
    def ask(name: str) -> int:
        if name == "b":
            raise NotFitError("b is away")
        if name == "c":
            raise OSError(5, "Input/output error")
        return len(name)

    told: list[str] = []
    done, failed = each(["a", "b", "c", "dd"], ask, what="asking", tell=lambda what, _: told.append(what))
    assert done == {"a": 1, "dd": 2}
    assert {name: error.message for name, error in failed.items()} == {
        "b": "b is away",
        "c": "c: asking failed: Input/output error",
    }
    assert set(told) == {"asking"}
    with pytest.raises(ZeroDivisionError):
        each(["a"], lambda _: 1 // 0)
