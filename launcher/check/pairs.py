"""Every worker's address and port, tried for real from every other host."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Any

from launcher.check.errand import Visits, answer
from launcher.check.found import Found
from launcher.check.many import Tell, each, untold
from launcher.errors import LauncherError, NotFitError
from launcher.plan.model import LaunchPlan
from worker.contract.machine.interfaces import Interface

TIMEOUT_S = 4.0  # a lost first packet is sent again after 1 s, and after 3 s
_BEGIN_S = 60.0
_MOST_WHY = 300


@dataclass(frozen=True)
class End:
    """Where a worker will listen."""

    host: str
    address: str
    port: int


Target = tuple[End, bool]  # whether its port is the kernel's choice


@dataclass(frozen=True)
class Pair:
    """One attempt. `why` it failed; empty if it did not. `better` is another address of the target that answered.

    `extra`: the port is none of the plan's, but one that the kernel chose, as NCCL's are.
    """

    source: str
    target: str
    address: str
    port: int
    why: str = ""
    milliseconds: float = 0.0
    better: Interface | None = None
    extra: bool = False


@dataclass(frozen=True)
class Tried:
    """All pairs; the ports that could not be opened as (host, port, why); and hosts that did not take part."""

    pairs: tuple[Pair, ...]
    unopened: tuple[tuple[str, int, str], ...] = ()
    failed: Mapping[str, LauncherError] | None = None


def ends(plan: LaunchPlan) -> list[End]:
    """Where the workers of a plan will listen, as far as it is known."""
    return [
        End(rank.host, rank.address, rank.port)
        for rank in plan.ranks
        if rank.address is not None and rank.port is not None
    ]


def try_all(
    visits: Visits,
    listening: Sequence[End],
    found: Mapping[str, Found],
    *,
    any_port: bool = False,
    timeout_s: float = TIMEOUT_S,
    tell: Tell = untold,
) -> Tried:
    """Listen at all these ends at once, and let every host connect to those of all others (and to its own, if it has
    several: workers of one host speak over its address, too). Blocks a few seconds at most where packets are dropped.

    A port of the kernel's choice is tried beside them: from each host to the next, or, with `any_port`, to all. What
    one host of a machine has tried goes for all hosts that are the same machine and user.
    """
    names = [name for name in visits.hosts if name in found]
    tokens = {name: os.urandom(16).hex() for name in names}

    def open_ports(name: str) -> tuple[dict[int, str], int]:
        talk = visits.talk(name)
        wanted = sorted({end.port for end in listening if end.host == name})
        talk.send({"type": "listen", "ports": wanted, "token": tokens[name]})
        told = answer(talk, "listening", _BEGIN_S)
        failed = {int(port): str(why)[:_MOST_WHY] for port, why in dict(told.get("failed") or {}).items()}
        return failed, int(told.get("extra") or 0)

    opened, failed = each(names, _sane(open_ports), what="opening ports on", tell=tell)
    unopened = [(name, port, why) for name, (missing, _) in opened.items() for port, why in missing.items()]
    ready = [e for e in listening if e.host in opened and e.port not in opened[e.host][0]]
    extra = {name: End(name, _address(name, ready), port) for name, (_, port) in opened.items() if port}
    wanted = {name: _targets(name, ready, extra, any_port) for name in opened}
    stands_for = _first_of_each_machine(list(opened), found)
    asked: dict[str, dict[Target, None]] = {first: {} for first in dict.fromkeys(stands_for.values())}
    for name, targets in wanted.items():
        asked[stands_for[name]].update(dict.fromkeys(targets))
    tried, lost = _ask(visits, {name: list(targets) for name, targets in asked.items()}, tokens, timeout_s, tell)
    blocked = [pair for pair in tried if pair.why and not pair.extra]
    again = {name: list(_detours(name, blocked, found)) for name in asked}
    detours, _ = _ask(visits, {n: t for n, t in again.items() if t}, tokens, timeout_s, tell)
    results = {
        (pair.source, End(pair.target, pair.address, pair.port), pair.extra): pair
        for pair in _with_detours(tried, detours, found)
    }
    pairs = [
        replace(results[stands_for[name], end, kernels], source=name)
        for name, targets in wanted.items()
        for end, kernels in targets
        if stands_for[name] not in lost
    ]
    lost_too = {name: lost[first] for name, first in stands_for.items() if first in lost}
    return Tried(tuple(pairs), tuple(unopened), {**failed, **lost_too})


def _first_of_each_machine(names: Sequence[str], found: Mapping[str, Found]) -> dict[str, str]:
    """{host: the first host that is the same machine and user}: from both the same is reached."""
    first: dict[tuple[str, int], str] = {}
    return {name: first.setdefault((found[name].machine, found[name].uid), name) for name in names}


def _ask(
    visits: Visits,
    asked: Mapping[str, Sequence[Target]],
    tokens: Mapping[str, str],
    timeout_s: float,
    tell: Tell,
) -> tuple[list[Pair], dict[str, LauncherError]]:
    def ask(name: str) -> list[Pair]:
        ends = asked[name]
        targets = {str(n): [end.address, end.port, tokens[end.host]] for n, (end, _) in enumerate(ends)}
        talk = visits.talk(name)
        talk.send({"type": "try", "targets": targets, "timeout_s": timeout_s})
        # Names are looked up first, and there may be several rounds of attempts.
        told = answer(talk, "tried", 30.0 + 5 * timeout_s * (1 + len(ends) // 300))
        results = dict(told.get("results") or {})
        pairs = []
        for number, (end, extra) in enumerate(ends):
            why, milliseconds = results[str(number)]
            pairs.append(
                Pair(
                    name,
                    end.host,
                    end.address,
                    end.port,
                    str(why)[:_MOST_WHY],
                    float(milliseconds),
                    extra=extra,
                )
            )
        return pairs

    done, failed = each(list(asked), _sane(ask), what="trying all pairs from", tell=tell)
    return [pair for pairs in done.values() for pair in pairs], failed


def _sane(do: Any) -> Any:
    """What a host says is not trusted: an answer of another shape is that host's error."""

    def careful(name: str) -> Any:
        try:
            return do(name)
        except (ValueError, TypeError, KeyError) as error:
            raise NotFitError(f"{name} answers a probe with what makes no sense", hint="run it again") from error

    return careful


def _address(name: str, ready: Iterable[End]) -> str:
    return next((end.address for end in ready if end.host == name), "")


def _targets(name: str, ready: Sequence[End], extra: Mapping[str, End], any_port: bool) -> list[Target]:
    own = [end for end in ready if end.host == name]
    planned = [end for end in ready if end.host != name or len(own) > 1]
    chosen = [end for end in extra.values() if end.host != name and end.address]
    if not any_port:
        names = list(extra)
        after = names.index(name) + 1 if name in names else 0
        following = [*names[after:], *names[:after]][:1]
        chosen = [end for end in chosen if end.host in following]
    return [(end, False) for end in planned] + [(end, True) for end in chosen]


def _detours(name: str, blocked: Sequence[Pair], found: Mapping[str, Found]) -> Iterable[Target]:
    """The other addresses of the hosts that this one did not reach, at a port of theirs."""
    mine = {one.address for one in found[name].interfaces} if name in found else set()
    seen = set()
    for pair in blocked:
        if pair.source != name or pair.target not in found or pair.target in seen or pair.target == name:
            continue
        seen.add(pair.target)
        for one in found[pair.target].interfaces:
            if one.address not in mine and one.address != pair.address and not ip_address(one.address).is_loopback:
                yield End(pair.target, one.address, pair.port), False


def _with_detours(tried: Sequence[Pair], detours: Sequence[Pair], found: Mapping[str, Found]) -> Iterable[Pair]:
    answered = {(pair.source, pair.target): pair.address for pair in reversed(detours) if not pair.why}
    for pair in tried:
        address = answered.get((pair.source, pair.target))
        if not pair.why or pair.extra or address is None:
            yield pair
            continue
        better = next(one for one in found[pair.target].interfaces if one.address == address)
        yield replace(pair, better=better)
