"""What a run has brought to its hosts, kept in its folder: another coordinator finds it there and surveys nothing anew.

So no generation sees what was edited after `up`, whoever plans it. What `activate:` gave is not kept, since it may hold
secrets.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from launcher.errors import RunError
from launcher.runs.folder import RunFolder
from launcher.runs.whole import write_whole
from launcher.stage.ready import Goods, Ready
from launcher.stage.remote import Activated
from launcher.stage.survey import Data
from launcher.stage.travel import Tree

VERSION = 1


@dataclass(frozen=True)
class Kept:
    """`here`: (code, source) on hosts that are this machine as it is, by name; `ready`: all others."""

    goods: Goods
    ready: Mapping[str, Ready] = field(default_factory=dict)
    here: Mapping[str, tuple[str, str]] = field(default_factory=dict)


def to_json(kept: Kept) -> dict[str, Any]:
    """In plain dicts and lists, without what `activate:` gave."""
    goods = kept.goods
    return {
        "version": VERSION,
        "goods": {
            "sources": None if goods.sources is None else goods.sources.as_json(),
            "only_setup": goods.only_setup,
            "data": {name: _data(one) for name, one in goods.data.items()},
            "on_host": dict(goods.on_host),
            "dataset": None if goods.dataset is None else _data(goods.dataset),
            "dataset_kind": goods.dataset_kind,
        },
        "ready": {name: _ready(one) for name, one in kept.ready.items()},
        "here": {name: list(pair) for name, pair in kept.here.items()},
    }


def write(run: RunFolder, kept: Kept) -> None:
    """Keep it in the run's folder. Raises OSError."""
    write_whole(run.staged, json.dumps(to_json(kept)) + "\n")


def read(run: RunFolder) -> Kept:
    """What was kept of a run. Raises RunError if that cannot be read."""
    try:
        value = json.loads(run.staged.read_text())
        if value["version"] != VERSION:
            raise ValueError(f"version {VERSION} is expected, and it says {value['version']!r}")
        return _from_json(value)
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(
            f"{run.staged}, which says what was brought to the hosts, cannot be read: {error}",
            hint=f"end the run and go on with it: launcher down {run.name}, then launcher resume {run.name}",
        ) from error


def _from_json(value: Mapping[str, Any]) -> Kept:
    goods = value["goods"]
    return Kept(
        Goods(
            sources=None if goods["sources"] is None else Tree.again(goods["sources"]),
            only_setup=bool(goods["only_setup"]),
            data={str(name): _data_again(one) for name, one in goods["data"].items()},
            on_host={str(name): str(path) for name, path in goods["on_host"].items()},
            dataset=None if goods["dataset"] is None else _data_again(goods["dataset"]),
            dataset_kind=str(goods["dataset_kind"]),
        ),
        {str(name): _ready_again(one) for name, one in value["ready"].items()},
        {str(name): (str(code), str(source)) for name, (code, source) in value["here"].items()},
    )


def _data(data: Data) -> dict[str, Any]:
    return {"tree": data.tree.as_json(), "name": data.name}


def _data_again(value: Mapping[str, Any]) -> Data:
    return Data(Tree.again(value["tree"]), str(value["name"]))


def _ready(ready: Ready) -> dict[str, Any]:
    return {
        "workdir": ready.workdir,
        "folder": ready.folder,
        "code": ready.code,
        "python": ready.python,
        "source": ready.source,
        "data": dict(ready.data),
        "dataset": ready.dataset,
        "setup_log": ready.setup_log,
    }


def _ready_again(value: Mapping[str, Any]) -> Ready:
    return Ready(
        workdir=str(value["workdir"]),
        folder=str(value["folder"]),
        code=str(value["code"]),
        python=str(value["python"]),
        source=str(value["source"]),
        data={str(name): str(path) for name, path in value["data"].items()},
        dataset=None if value["dataset"] is None else str(value["dataset"]),
        activated=Activated(),
        setup_log=str(value["setup_log"]),
    )
