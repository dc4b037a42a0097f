"""A LaunchPlan as JSON and back: what `plan --json` prints and what `plan.g<generation>.json` holds. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from launcher.errors import RunError
from launcher.plan.model import HostPlan, LaunchPlan, RankPlan

VERSION = 1


def to_json(plan: LaunchPlan) -> dict[str, Any]:
    """The plan in plain dicts and lists. The keys are those of the dataclasses, and stable; `known` is for readers."""
    return {
        "version": VERSION,
        "run": plan.run,
        "generation": plan.generation,
        "resumes": plan.resumes,
        "global_batch": plan.global_batch,
        "epochs": plan.epochs,
        "promise": plan.promise,
        "known": plan.known,
        "hosts": [
            {
                "name": h.name,
                "local": h.local,
                "folder": h.folder,
                "code": h.code,
                "ranks": list(h.ranks),
                "workers": h.workers,
            }
            for h in plan.hosts
        ],
        "ranks": [_rank(rank) for rank in plan.ranks],
    }


def from_json(value: object) -> LaunchPlan:
    """The plan that `to_json` made; unknown keys are passed over. Raises RunError if it is not one."""
    try:
        if not isinstance(value, Mapping):
            raise TypeError("it is not an object")
        if value.get("version") != VERSION:
            raise ValueError(f"version {VERSION} is expected, and it says {value.get('version')!r}")
        return LaunchPlan(
            run=_text(value, "run"),
            generation=_number(value, "generation"),
            hosts=tuple(_read_host(host) for host in _list(value, "hosts")),
            ranks=tuple(_read_rank(rank) for rank in _list(value, "ranks")),
            resumes=_text(value, "resumes"),
            global_batch=_maybe_number(value, "global_batch"),
            epochs=_maybe_number(value, "epochs"),
            promise=_text({"promise": "", **value}, "promise"),
        )
    except (KeyError, TypeError, ValueError) as error:
        what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        raise RunError(
            f"this is no plan of a generation: {what}", hint="let `launcher plan --json` write one"
        ) from error


def _rank(rank: RankPlan) -> dict[str, Any]:
    return {
        "rank": rank.rank,
        "host": rank.host,
        "address": rank.address,
        "port": rank.port,
        "gpus": list(rank.gpus),
        "threads": rank.threads,
        "argv": list(rank.argv),
        "cwd": rank.cwd,
        "env": dict(rank.env),
        "secrets": list(rank.secrets),
        "files": dict(rank.files),
        "stop": rank.stop,
        "saves": rank.saves,
        "known": rank.known,
    }


def _read_host(value: Any) -> HostPlan:
    return HostPlan(
        name=_text(value, "name"),
        local=_truth(value, "local"),
        folder=_maybe_text(value, "folder"),
        code=_maybe_text(value, "code"),
        ranks=tuple(_check(rank, int, "ranks") for rank in _list(value, "ranks")),
        workers=_number({"workers": len(_list(value, "ranks")), **value}, "workers"),
    )


def _read_rank(value: Any) -> RankPlan:
    stop = value["stop"]
    if stop not in ("message", "SIGTERM"):
        raise ValueError(f"'stop' is {stop!r}, and message or SIGTERM is expected")
    return RankPlan(
        rank=_number(value, "rank"),
        host=_text(value, "host"),
        address=_maybe_text(value, "address"),
        port=_maybe_number(value, "port"),
        gpus=_texts(value, "gpus"),
        threads=_maybe_number(value, "threads"),
        argv=_texts(value, "argv"),
        cwd=_maybe_text(value, "cwd"),
        env=_table(value, "env"),
        secrets=_texts(value, "secrets"),
        files=_table(value, "files"),
        stop=stop,
        saves=_truth({"saves": False, **value}, "saves"),
    )


def _check(found: Any, kind: type, key: str) -> Any:
    if not isinstance(found, kind) or (kind is int and isinstance(found, bool)):
        raise TypeError(f"{key!r} holds {found!r}, and {kind.__name__} is expected")
    return found


def _truth(value: Any, key: str) -> bool:
    if not isinstance(value[key], bool):
        raise TypeError(f"{key!r} is {value[key]!r}, and true or false is expected")
    return bool(value[key])


def _text(value: Any, key: str) -> str:
    return str(_check(value[key], str, key))


def _number(value: Any, key: str) -> int:
    return int(_check(value[key], int, key))


def _maybe_text(value: Any, key: str) -> str | None:
    return None if value[key] is None else _text(value, key)


def _maybe_number(value: Any, key: str) -> int | None:
    return None if value[key] is None else _number(value, key)


def _list(value: Any, key: str) -> list[Any]:
    return list(_check(value[key], list, key))


def _texts(value: Any, key: str) -> tuple[str, ...]:
    return tuple(_check(item, str, key) for item in _list(value, key))


def _table(value: Any, key: str) -> Mapping[str, str]:
    table = _check(value[key], dict, key)
    return MappingProxyType({_check(k, str, key): _check(v, str, key) for k, v in table.items()})
