"""Which GPUs each worker gets, and so how many workers a host has. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import gcd

from launcher.errors import NotFitError
from launcher.plan.facts import Facts, Gpu
from launcher.spec.model import HostSpec


@dataclass(frozen=True)
class Split:
    """The workers of one host: `gpus[i]` are those of its i-th, empty without facts or when it trains on the CPU.

    `counted` is False when the number of workers depends on GPUs that are not known yet; one stands for them.
    """

    workers: int
    gpus: tuple[tuple[Gpu, ...], ...]
    counted: bool = True


def split(hosts: Sequence[HostSpec], facts: Facts) -> Mapping[str, Split]:
    """The split of each host, by name. Hosts with the same machine never get the same GPU.

    What is asked for by number or in a list goes first; hosts that say `free` share evenly what is then left.
    Raises NotFitError when a GPU is busy or missing, or when workers would not have equally many.
    """
    taken: dict[str, str] = {}  # UUID → the host that has it
    chosen: dict[str, list[Gpu]] = {}
    known = [host for host in hosts if host.name in facts]
    for host in known:
        if host.gpus != "free":
            chosen[host.name] = _claim(host, facts, taken)
            taken.update((gpu.uuid, host.name) for gpu in chosen[host.name])
    for host in known:
        if host.gpus == "free":
            chosen[host.name] = _remaining(host, known, facts, taken)
            taken.update((gpu.uuid, host.name) for gpu in chosen[host.name])
    splits = {
        host.name: _even(host, chosen[host.name], facts) if host.name in facts else _unseen(host) for host in hosts
    }
    _check_equal([(host, splits[host.name]) for host in known])
    return splits


def of_machine(host: str, facts: Facts) -> list[Gpu]:
    """Every GPU that is known on the machine of a host, in the driver's order."""
    machine = facts[host].machine
    found = {gpu.uuid: gpu for other in facts.values() if other.machine == machine for gpu in other.gpus}
    return sorted(found.values(), key=lambda gpu: gpu.index)


def _claim(host: HostSpec, facts: Facts, taken: Mapping[str, str]) -> list[Gpu]:
    """The GPUs of a host that says all, a number or a list."""
    there = of_machine(host.name, facts)
    if isinstance(host.gpus, int):
        free = [gpu for gpu in there if not gpu.holder and gpu.uuid not in taken]
        if len(free) < host.gpus:
            raise NotFitError(
                f"host {host.name}: {host.gpus} GPUs are asked for, and {_of(len(free), there)} free"
                + _who([gpu for gpu in there if gpu not in free], taken),
                hint=f"end what holds them, or set `gpus: {len(free)}` for {host.name}",
            )
        return free[: host.gpus]
    wanted = there if host.gpus == "all" else _listed(host, there)
    busy = [gpu for gpu in wanted if gpu.holder or gpu.uuid in taken]
    if busy:
        raise NotFitError(
            f"host {host.name}: {len(busy)} of the {_plural(len(wanted), 'GPU')} that it asks for "
            f"{'is' if len(busy) == 1 else 'are'} busy" + _who(busy, taken),
            hint=f"end what holds them, or set `gpus: free` for {host.name}",
        )
    return wanted


def _listed(host: HostSpec, there: Sequence[Gpu]) -> list[Gpu]:
    assert isinstance(host.gpus, tuple)
    by_index = {gpu.index: gpu for gpu in there}
    missing = [str(index) for index in host.gpus if index not in by_index]
    if missing:
        found = ", ".join(str(index) for index in by_index) or "no GPU at all"
        raise NotFitError(
            f"host {host.name}: there is no GPU {', '.join(missing)}; found: {found}",
            hint=f"name only GPUs that nvidia-smi shows on {host.name}, or set `gpus: free`",
        )
    return [by_index[index] for index in dict.fromkeys(host.gpus)]


def _remaining(host: HostSpec, known: Sequence[HostSpec], facts: Facts, taken: Mapping[str, str]) -> list[Gpu]:
    """What a host that says `free` gets: all that is left, or its share if others on its machine say `free` too."""
    there = of_machine(host.name, facts)
    free = [gpu for gpu in there if not gpu.holder and gpu.uuid not in taken]
    machine = facts[host.name].machine
    sharers = [other for other in known if other.gpus == "free" and facts[other.name].machine == machine]
    later = sharers[sharers.index(host) + 1 :]
    if not later or host.gpus_per_worker is not None:
        return free
    workers = (host.workers or 1) + sum(other.workers or 1 for other in later)
    if len(free) % workers:
        names = ", ".join(other.name for other in (host, *later))
        raise NotFitError(
            f"hosts {names} are one machine with {_plural(len(free), 'free GPU')} for {workers} workers"
            + ": each worker needs as many as the others",
            hint="say at each of them which are its own, e.g. `gpus: [0]`, or `gpus: 0` at all of them",
        )
    return free[: len(free) // workers * (host.workers or 1)]


def _even(host: HostSpec, gpus: Sequence[Gpu], facts: Facts) -> Split:
    count = len(gpus)
    if host.workers is None and host.gpus_per_worker is not None:
        each = host.gpus_per_worker
        workers = count // each
        if workers == 0 or (count % each and host.gpus not in ("free", "all")):
            busy = [gpu for gpu in of_machine(host.name, facts) if gpu.holder]
            raise NotFitError(
                f"host {host.name}: workers of {_plural(each, 'GPU')} each are asked for, and it has "
                f"{_plural(count, 'GPU')} for them" + _who(busy, {}),
                hint=f"set `gpus_per_worker: {count or 1}`, or a multiple of it in `gpus`"
                if count
                else f"set `workers: 1` in the place of gpus_per_worker for {host.name}: it then trains on the CPU",
            )
    else:
        workers = host.workers or 1
        each = count // workers
        if count % workers:
            raise NotFitError(
                f"host {host.name}: {_plural(count, 'GPU')} cannot be split evenly over {workers} workers",
                hint=_ways(host.name, count, workers),
            )
    return Split(workers, tuple(tuple(gpus[i * each : (i + 1) * each]) for i in range(workers)))


def _ways(host: str, count: int, workers: int) -> str:
    fewer = max(n for n in range(1, workers + 1) if count % n == 0)
    least = count - count % workers
    ways = [f"`workers: {fewer}` ({_plural(count // fewer, 'GPU')} each)", f"`gpus: {least}`"]
    ways[1] += f" ({_plural(least // workers, 'GPU')} each)" if least else " (all on the CPU)"
    return f"set {ways[0]} or {ways[1]} for host {host}"


def workers_of(host: HostSpec, facts: Facts) -> int:
    """How many workers a host would have if no other one of this machine was at work."""
    try:
        return split([host], facts)[host.name].workers
    except NotFitError:
        return host.workers or 1


def _unseen(host: HostSpec) -> Split:
    """The split of a host without facts: only the number of workers, where the spec tells it."""
    workers, counted = host.workers or 1, True
    if host.workers is None and host.gpus_per_worker is not None:
        asked = host.gpus if isinstance(host.gpus, int) else len(host.gpus) if isinstance(host.gpus, tuple) else None
        workers, counted = max(1, (asked or 0) // host.gpus_per_worker), asked is not None
    return Split(workers, ((),) * workers, counted)


def _check_equal(known: Sequence[tuple[HostSpec, Split]]) -> None:
    """TensorFlow's group size is devices × workers: every worker of the cluster needs equally many."""
    each = {host.name: len(found.gpus[0]) for host, found in known}
    if len(set(each.values())) < 2:
        return
    sums = [len(found.gpus) * len(found.gpus[0]) for _, found in known]
    common = gcd(*sums)
    least = min(each.values())
    if least:
        most = [host.name for host, found in known if len(found.gpus[0]) > least]
        lower = ", ".join(
            f"`gpus: {least * len(found.gpus)}` for {host.name}" for host, found in known if host.name in most
        )
        hint = f"set `gpus_per_worker: {common}` in host_defaults (in the place of workers), or {lower}"
    else:
        bare = ", ".join(name for name, number in each.items() if not number)
        hint = f"leave out {bare}, or set `gpus: 0` in host_defaults: then all train on the CPU"
    told = ", ".join(f"{name} has {number}" for name, number in each.items())
    raise NotFitError(f"every worker needs equally many GPUs, and per worker {told}", hint=hint)


def _who(busy: Sequence[Gpu], taken: Mapping[str, str]) -> str:
    lines = [
        f"GPU {gpu.index}{f' ({gpu.name})' if gpu.name else ''} is held by "
        + (gpu.holder or f"host {taken.get(gpu.uuid, '?')} of this cluster, on the same machine")
        for gpu in busy
    ]
    return f": {'; '.join(lines)}" if lines else ""


def _of(count: int, there: Sequence[Gpu]) -> str:
    return f"{count} of {len(there)} {'is' if count == 1 else 'are'}" if there else "none is there, so none is"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
