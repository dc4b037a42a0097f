"""One cluster.yaml from disk to ClusterSpec: read, compose, override, refuse what comes later, check, resolve."""

from __future__ import annotations

import codecs
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from launcher.errors import Problem, SpecError
from launcher.spec import later, overrides
from launcher.spec.compose import compose
from launcher.spec.model import ClusterSpec
from launcher.spec.nodes import MAX_BYTES, MAX_NODES, Loc, Node, Plain, branch, described, shown
from launcher.spec.problems import Report
from launcher.spec.resolve import Places, resolve
from launcher.spec.schema import Spec

_START = "`launcher init` writes a cluster.yaml to start from"


def load(
    path: Path, settings: Sequence[str] = (), environ: Mapping[str, str] | None = None, base: Path | None = None
) -> ClusterSpec:
    """See launcher.spec.load."""
    name = str(path)
    text = _text_of(path, name, hint=_START)
    root, problems = compose(text, _label(name))
    if root is None or not isinstance(root.content, dict):
        raise SpecError(problems or [_not_a_spec(root, name)], hint="" if problems else _START)
    file = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow a link away from the file's folder
    reading = _Reading(root, base or file.parent)
    reading.apply(settings)
    report = Report(reading.root)
    report.include([*problems, *reading.problems])
    values = reading.root.value()
    for loc, value in later.take_out(values):
        report.add(loc, "not available yet", found=described(value))
    spec, indexes = _validate(values, report)
    environ = os.environ if environ is None else environ
    if spec is not None:
        resolved = resolve(spec, indexes, report, Places(file, reading.base, reading.hosts_base, environ))
    report.raise_if_any()
    assert spec is not None
    return resolved


class _Reading:
    """The tree of a spec while `--set` and the hosts' own file are worked in."""

    def __init__(self, root: Node, base: Path) -> None:
        self.root, self.base, self.hosts_base = root, base, base
        self.problems: list[Problem] = []

    def apply(self, settings: Sequence[str]) -> None:
        for setting in settings:
            try:
                loc, value = overrides.parse(setting)
                if loc[0] == "hosts" and len(loc) > 1 and isinstance(loc[1], int):
                    self._inline_hosts()
                self.root = overrides.apply(self.root, loc, value)
            except overrides.OverrideError as refused:
                self.problems += refused.problems
        self._inline_hosts()
        if self.root.size > MAX_NODES:
            raise SpecError([Problem("--set", "the command line", "too many values", f"{MAX_NODES:,} at most")])

    def _inline_hosts(self) -> None:
        """`hosts: {file: hosts.yaml}` becomes the list in that file."""
        hosts = self.root.child("hosts")
        if hosts is None or not isinstance(hosts.content, dict):
            return
        entry = hosts.content.get("file")
        if set(hosts.content) != {"file"} or not isinstance(entry, Node) or not isinstance(entry.content, str):
            return  # the schema says what was expected
        path = Path(Places(self.base, self.base, self.base, os.environ).absolute(entry.content))
        items: Node | None = None
        try:
            items, problems = compose(_text_of(path, str(path)), _label(entry.content), at=("hosts",))
        except SpecError as error:
            problems = [Problem(entry.where, "hosts.file", found.message, found.expected) for found in error.problems]
        if items is None or not isinstance(items.content, list):
            expected = "a list of hosts, as under `hosts:`"
            problems = problems or [Problem(entry.where, "hosts.file", f"{path} holds no list of hosts", expected)]
            # Any host will do, so that the rest is checked.
            stand_in = Node(entry.source, entry.line, Plain("localhost"))
            items = branch(entry.source, entry.line, [stand_in])
        self.problems += problems
        self.hosts_base = path.parent
        self.root = overrides.apply(self.root, ("hosts",), items)


def _validate(values: dict[str, Any], report: Report) -> tuple[Spec | None, list[int]]:
    """The spec and its hosts' places in the list. What is wrong goes to the report and is left out of the result, so
    that the rest can be checked further; None if no host is left."""
    hosts = values.get("hosts")
    places = list(range(len(hosts))) if isinstance(hosts, list) else []
    try:
        return Spec.model_validate(values), places
    except ValidationError as error:
        wrong = [tuple(item["loc"]) for item in error.errors(include_url=False)]
        for item in error.errors(include_url=False):
            report.add_pydantic(item)
    wrong_hosts = {loc[1] for loc in wrong if loc[0] == "hosts" and len(loc) > 1}
    places = [place for place in places if place not in wrong_hosts]
    if not isinstance(hosts, list) or not places:
        return None, []
    for loc in wrong:
        _take_out(values, loc)
    values = {"name": "unnamed", **values, "hosts": [hosts[place] for place in places]}
    try:
        return Spec.model_validate(values), places
    except ValidationError:
        return None, []


def _take_out(values: dict[str, Any], loc: Loc) -> None:
    """Removes the innermost key on the way to `loc`."""
    holder: Any = values
    last: tuple[dict[str, Any], str] | None = None
    for part in loc:
        if isinstance(part, str) and isinstance(holder, dict) and part in holder:
            last = (holder, part)
        elif not (isinstance(part, int) and isinstance(holder, list) and part < len(holder)):
            break
        holder = holder[part]
    if last:
        last[0].pop(last[1])


def _text_of(path: Path, name: str, hint: str = "") -> str:
    """The text of a file. Raises SpecError if there is none, or none that could be a spec."""
    expected = "a YAML file in UTF-8"
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise SpecError([Problem(_label(name), "the file", "not a regular file", expected)], hint=hint)
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise SpecError([Problem(_label(name), "the file", "no such file", expected)], hint=hint) from None
    except IsADirectoryError:
        raise SpecError([Problem(_label(name), "the file", "this is a folder", expected)], hint=hint) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        problem = Problem(_label(name), "the file", f"cannot be read: {reason}", expected)
        raise SpecError([problem], hint=hint) from None
    if len(data) > MAX_BYTES:
        raise SpecError([Problem(_label(name), "the file", "too large", f"at most {MAX_BYTES // 1024} KiB")])
    try:
        return data.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError as error:
        where = f"{_label(name)}:{1 + data.count(bytes([10]), 0, error.start)}"
        found = (
            "UTF-16" if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else f"the byte {data[error.start]:#x}"
        )
        raise SpecError([Problem(where, "the file", "not UTF-8", expected, found)], hint="save it as UTF-8") from None


def _without_waiting(path: str, flags: int) -> int:
    """Opens a pipe that nobody writes to at once, so that it can be refused."""
    return os.open(path, flags | os.O_NONBLOCK)


def _label(name: str) -> str:
    """The file as the user named it, safe to print."""
    return name if name.isprintable() else shown(name, limit=400)


def _not_a_spec(root: Node | None, name: str) -> Problem:
    if root is None:
        return Problem(_label(name), "the file", "the file is empty", "keys such as `name:` and `hosts:`")
    found = described(root.content)
    return Problem(root.where, "the file", "not a mapping", "keys such as `name:` and `hosts:`", found)
