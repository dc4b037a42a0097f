"""What a check came to: a table of hosts and checks, what is wrong with its fix below, and the same as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TextIO

from launcher.check import facts_file
from launcher.check.finding import Finding, Verdict, fatal
from launcher.check.groups import GROUPS
from launcher.check.preflight import Examined
from launcher.view.rows import console
from launcher.view.text import neutral

_NOT_KNOWN = "-"
_WIDEST = 24
_GAP = 2
_WORST_FIRST = (Verdict.FAIL, Verdict.WARN, Verdict.NOTE, Verdict.OK)
_STYLES = {Verdict.OK: "", Verdict.NOTE: "", Verdict.WARN: "yellow", Verdict.FAIL: "bold red"}
_WORDS = {Verdict.OK: "", Verdict.NOTE: "note ", Verdict.WARN: "warn ", Verdict.FAIL: "FAIL "}


@dataclass(frozen=True)
class Cell:
    """One check of one host. No verdict: nothing is known."""

    text: str = _NOT_KNOWN
    verdict: Verdict | None = None


@dataclass(frozen=True)
class Row:
    """One host; a cell for each of the checks, in their order."""

    host: str
    cells: tuple[Cell, ...]


def rows(examined: Examined) -> list[Row]:
    """Every host of the spec with what each check came to, the worst finding first."""
    return [
        Row(host.name, tuple(_cell(host.name, check, examined.findings) for check in columns(examined)))
        for host in examined.seen.spec.hosts
    ]


def columns(examined: Examined) -> list[str]:
    """The checks that were made, in their order."""
    made = {finding.check for finding in examined.findings}
    return [name for name in GROUPS if name in made]


def to_json(examined: Examined) -> dict[str, Any]:
    """The facts in the form that `plan --facts` reads, and beside them what was found and what it came to."""
    tried = examined.seen.tried
    return {
        **facts_file.to_json(examined.seen.facts),
        "fit": examined.fit,
        "findings": [{**asdict(finding), "verdict": finding.verdict.value} for finding in examined.findings],
        "pairs": [
            {**asdict(pair), "better": pair.better._asdict() if pair.better else None}
            for pair in (tried.pairs if tried else ())
        ],
        "found": {name: _found(asdict(found)) for name, found in examined.seen.found.items()},
    }


def print_check(examined: Examined, out: TextIO) -> None:
    """The table, in as many parts as the screen's width takes, then all that is wrong, the worst first."""
    from rich.text import Text

    screen = console(out)
    every = rows(examined)
    names = columns(examined)
    for part in _parts(every, names, screen.width):
        screen.print(_table(every, [names[index] for index in part], part))
        screen.print()
    for verdict in _WORST_FIRST[:-1]:
        for finding in examined.findings:
            if finding.verdict is verdict:
                word = Text(f"{_WORDS[verdict]}{finding.check}: ", style=_STYLES[verdict])
                screen.print(word + Text(neutral(finding.what, 600), style=""), soft_wrap=True)
                if finding.fix:
                    screen.print(f"     next: {neutral(finding.fix, 900)}", soft_wrap=True)
    told = [f for f in examined.findings if f.verdict is not Verdict.OK]
    if told:
        screen.print()
    screen.print(summary(examined), soft_wrap=True)


def summary(examined: Examined) -> str:
    """The verdict in a line."""
    wrong = len(fatal(examined.findings))
    warned = sum(finding.verdict is Verdict.WARN for finding in examined.findings)
    hosts = _plural(len(examined.seen.spec.hosts), "host")
    plan = examined.seen.plan
    workers = f", {_plural(len(plan.ranks), 'worker')}" if plan and plan.known else ""
    warnings = f", {_plural(warned, 'warning')}" if warned else ""
    if wrong:
        return f"Not fit: {_plural(wrong, 'thing')} to mend{warnings}. ({hosts}{workers})"
    return f"Fit: {hosts}{workers}{warnings}."


def _cell(host: str, check: str, findings: Sequence[Finding]) -> Cell:
    mine = sorted(
        (finding for finding in findings if finding.check == check and host in finding.hosts),
        key=lambda finding: _WORST_FIRST.index(finding.verdict),
    )
    if not mine:
        return Cell()
    verdict = mine[0].verdict
    brief = next((finding.brief for finding in mine if finding.brief), "")
    word = "" if verdict is Verdict.NOTE else _WORDS[verdict]
    text = (word + neutral(brief, _WIDEST)).strip()
    return Cell(text or "ok", verdict)


def _parts(every: Sequence[Row], names: Sequence[str], width: int) -> Iterator[list[int]]:
    """The columns in groups that fit; each group shows the hosts again."""
    first = max(len(word) for word in ("host", *(row.host for row in every))) + _GAP
    part: list[int] = []
    used = first
    for index, name in enumerate(names):
        needed = max([len(name), *(len(row.cells[index].text) for row in every)]) + _GAP
        if part and used + needed - _GAP > width:
            yield part
            part, used = [], first
        part.append(index)
        used += needed
    yield part


def _table(every: Sequence[Row], names: Sequence[str], part: Sequence[int]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for name in ("host", *names):
        table.add_column(name, no_wrap=True)
    for row in every:
        cells = [row.cells[index] for index in part]
        shown = [Text(cell.text, style=_STYLES[cell.verdict] if cell.verdict else "dim") for cell in cells]
        table.add_row(neutral(row.host), *shown)
    return table


def _found(value: dict[str, Any]) -> dict[str, Any]:
    # dataclasses.asdict keeps named tuples as they are, and JSON would make lists of them.
    value["interfaces"] = [one._asdict() for one in value["interfaces"]]
    value["environment"] = dict(value["environment"])
    return value


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
