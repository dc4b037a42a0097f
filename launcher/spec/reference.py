"""docs/spec.md, made of the schema. `python -m launcher.spec.reference` writes it and the JSON Schema anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic.fields import FieldInfo

from launcher.spec import json_schema
from launcher.spec.keys import Keys
from launcher.spec.nodes import MAX_BYTES, MAX_DEPTH, MAX_NODES
from launcher.spec.problems import as_model
from launcher.spec.schema import Host, HostDefaults, Spec
from launcher.spec.types import Read

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "spec.md"
STARTER = ROOT / "launcher" / "cli" / "starter.yaml"

_INTRODUCTION = f"""\
# cluster.yaml, key by key

<!-- Written by `python -m launcher.spec.reference` from launcher/spec/schema.py: change it there. -->

`launcher init` writes a commented file to start from, `launcher plan cluster.yaml` checks one and shows what it would
do, and `launcher schema` prints a JSON Schema: an editor that speaks YAML completes and checks keys when the file's
first line is `# yaml-language-server: $schema=PATH`. A file with mistakes is refused with all of them at once, each
with its line, what was expected and what was found (exit code 2).

A spec is code: it names programs that run on your hosts as you. Use only those that you trust.

## How values are written

| what | like this | not like this |
|---|---|---|
| time | `15 s`, `5 min`, `1 h 30 min`, `2 d` (also `ms`) | `15`: the unit is missing |
| size | `200 MB` (decimal), `1.5 GiB` (binary) | `200` |
| whole number | `64` | `1e3`, `0x40`, `064`, `"64"` |
| yes or no | `true`, `false` | `yes`, `on`, `1` |
| interval | `1 epoch`, `100 steps`, `10 min`, or a list of them; a bare number counts epochs | `[1 epoch, 2 epochs]` |
| ports | `20000-20099` (both included, within 1024–65535) | |
| text | quotes are needed only around `: `, ` #` and the like; unquoted numbers stay as they stand | |

Paths of this machine may begin with `~`; bare ones start at the file's folder, also with `--set`. Paths on hosts
(`python`, `workdir`) are the host's own. A key with nothing after it counts as not given.

Anchors and aliases (`&name`, `*name`) work; merge keys (`<<`) and tags (`!name`) are refused, and so are files of more
than {MAX_BYTES // 1024} KiB, {MAX_DEPTH} levels or {MAX_NODES:,} values.

**From the command line**: `--set KEY=VALUE` sets one key before the file is checked; a value is written as in the file.
`--set train.epochs=2`, `--set 'hosts[0].gpus=[0, 1]'`, `--set host_defaults.env.NCCL_DEBUG=INFO`; `--set
train.seed=` goes back to the default.

"Not available yet" marks keys that are known and refused until their feature is there.

## The file that `launcher init` writes

```yaml
"""

_AFTER_HOSTS = """
`localhost` alone is this machine, without SSH. Besides the keys below a host takes every key of `host_defaults`, and
its own go before the shared ones. Every worker must have the same number of GPUs: where hosts differ, say
`gpus_per_worker`.

`hosts: {file: hosts.yaml}` takes the list from a file of its own, which many jobs can share.
"""


def page() -> str:
    """The whole of docs/spec.md."""
    parts = [_INTRODUCTION + STARTER.read_text(encoding="utf-8").rstrip() + "\n```\n"]
    parts.append("\n## All keys\n\n" + _table("", Spec.model_fields))
    told: dict[type[Keys], str] = {}
    for key, field in Spec.model_fields.items():
        model = _model_of(field)
        if model:
            parts += _section(model, key, told)
    return "".join(parts)


def _section(model: type[Keys], path: str, told: dict[type[Keys], str]) -> Iterator[str]:
    if model in told:
        yield f"\n## `{path}`\n\nAs `{told[model]}`.\n"
        return
    told[model] = path
    title = f"{path}[]" if model is Host else path
    fields = {key: field for key, field in model.model_fields.items() if not _shared(model, key)}
    yield f"\n## `{title}`\n\n{_prose(model)}\n" + (_AFTER_HOSTS if model is Host else "")
    yield "\n" + _table(title, fields)
    for key, field in fields.items():
        inner = _model_of(field)
        if inner:
            yield from _section(inner, f"{title}.{key}", told)


def _shared(model: type[Keys], key: str) -> bool:
    return model is Host and key in HostDefaults.model_fields


def _prose(model: type[Keys]) -> str:
    return " ".join((model.__doc__ or "").split())


def _table(path: str, fields: dict[str, FieldInfo]) -> str:
    rows = ["| key | what it takes | default | |", "|---|---|---|---|"]
    for key, field in fields.items():
        full = f"{path}.{key}" if path else key
        default = "" if field.default is None or field.is_required() else f"`{_written(field.default)}`"
        prose = str(field.description)
        if field.examples:
            prose += ": " + ", ".join(f"`{example}`" for example in field.examples)
        note = json_schema.later_note(full)
        cells = (f"`{key}`", _kind(field), "needed" if field.is_required() else default, prose)
        rows.append("| " + " | ".join(cells) + (f". **{note}**" if note else "") + " |")
    return "\n".join(rows) + "\n"


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _kind(field: FieldInfo) -> str:
    for extra in field.metadata:
        if isinstance(extra, Read):
            return extra.kind
    origin = get_origin(field.annotation)
    return {list: "list", dict: "mapping of your own names"}.get(origin, "mapping") if origin else "mapping"


def _model_of(field: FieldInfo) -> type[Keys] | None:
    """The mapping that a key takes, or a list of."""
    kind: Any = field.annotation
    while get_origin(kind) is not None and get_args(kind):
        kind = get_args(kind)[0]
    return as_model(kind)


def main() -> None:
    json_schema.CHECKED_IN.write_text(json_schema.text(), encoding="utf-8")
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
