"""What a START message orders, checked: nothing in a message is taken on trust. Pure."""

from __future__ import annotations

import math
from typing import Any, Dict, List, Optional, Tuple

from ..contract.value import Value, hidden
from ..contract.wire import Message


class BadOrderError(Exception):
    """The message does not say what is needed; the text says what is wrong."""


class RankOrder(Value):
    """One rank to start. `message` tells how it is asked to stop: by the control pipe (a trainer), else by SIGTERM."""

    rank: int
    argv: Tuple[str, ...]
    cwd: str
    env: Dict[str, str] = hidden()
    secrets: Dict[str, str] = hidden()
    message: bool
    chief: bool
    unset: Tuple[str, ...] = ()  # of the agent's own environment


class Timeouts(Value):
    """In seconds."""

    stop_s: float = 10.0
    checkpoint_s: float = 300.0
    start_s: float = 120.0
    stall_s: float = 300.0


class Order(Value):
    generation: int
    ranks: Tuple[RankOrder, ...]
    timeouts: Timeouts
    keep: Optional[int]
    zygote: bool = True  # fork the trainer's ranks off a process that has imported it already
    workers: Optional[int] = None  # of the whole cluster; None: as many as are here
    until_home: bool = False  # what is not home yet is pruned only if the disk has no room for it


def parse_order(message: Message) -> Order:
    """The order of a START message. Raises BadOrderError."""
    generation = whole(message.get("generation"), "generation", least=1)
    ranks = message.get("ranks")
    if not isinstance(ranks, list) or not ranks:
        raise BadOrderError("ranks must be a list that is not empty")
    orders = tuple(_rank_order(rank) for rank in ranks)
    if len({order.rank for order in orders}) != len(orders):
        raise BadOrderError("two orders for one rank")
    keep, zygote = message.get("keep"), message.get("zygote", True)
    if not isinstance(zygote, bool):
        raise BadOrderError("zygote must be true or false")
    return Order(
        generation,
        orders,
        _timeouts(message.get("timeouts")),
        None if keep is None else whole(keep, "keep", least=1),
        zygote,
        None if message.get("workers") is None else whole(message["workers"], "workers", least=1),
        message.get("until_home") is True,
    )


def whole(value: Any, name: str, least: int = 0) -> int:
    """A whole number from `least` on, that 63 bits can hold."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 1 << 63:
        raise BadOrderError(f"{name} must be a whole number from {least} on")
    return value


def seconds(value: Any, name: str) -> float:
    """A finite number of seconds, not negative."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value) or value < 0:
        raise BadOrderError(f"{name} must be a number of seconds")
    return float(value)


def _timeouts(value: Any) -> Timeouts:
    if not isinstance(value, dict):
        raise BadOrderError("timeouts must be an object")
    known = ("stop_s", "checkpoint_s", "start_s", "stall_s")
    return Timeouts(**{key: seconds(value[key], f"timeouts.{key}") for key in known if key in value})


def _rank_order(value: Any) -> RankOrder:
    if not isinstance(value, dict):
        raise BadOrderError("a rank order must be an object")
    rank = whole(value.get("rank"), "rank")
    where = f"rank {rank}: "
    stop = value.get("stop")
    if stop not in ("message", "SIGTERM"):
        raise BadOrderError(f"{where}stop must be message or SIGTERM")
    if not isinstance(value.get("chief"), bool):
        raise BadOrderError(f"{where}chief must be true or false")
    return RankOrder(
        rank=rank,
        argv=tuple(_argv(value.get("argv"), where)),
        cwd=_text(value.get("cwd"), f"{where}cwd"),
        env=_variables(value.get("env"), f"{where}env"),
        secrets=_variables(value.get("secrets", {}), f"{where}secrets"),
        message=stop == "message",
        chief=value["chief"],
        unset=tuple(_texts(value.get("unset", []), f"{where}unset")),
    )


def _argv(value: Any, where: str) -> List[str]:
    if not isinstance(value, list) or not value or not value[0]:
        raise BadOrderError(f"{where}argv must be a list that begins with a program")
    return [_text(item, f"{where}argv") for item in value]


def _texts(value: Any, where: str) -> List[str]:
    if not isinstance(value, list):
        raise BadOrderError(f"{where} must be a list")
    return [_text(item, where) for item in value]


def _variables(value: Any, where: str) -> Dict[str, str]:
    if not isinstance(value, dict):
        raise BadOrderError(f"{where} must be an object")
    for name in value:
        if not name or "=" in name or "\0" in name:
            raise BadOrderError(f"{where}: {name!r} cannot be the name of a variable")
    return {name: _text(item, f"{where}: {name}") for name, item in value.items()}


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise BadOrderError(f"{where} must be text without NUL")
    return value
