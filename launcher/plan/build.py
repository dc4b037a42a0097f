"""`plan`: (ClusterSpec, facts) → LaunchPlan. Pure: the same values in, the same plan out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Container, Mapping, Sequence
from ipaddress import ip_address
from types import MappingProxyType

from launcher.errors import NotFitError, Problem, SpecError
from launcher.plan import gpus
from launcher.plan.copies import savers
from launcher.plan.environment import Life, Seat, check, endpoint, environment
from launcher.plan.facts import Facts, HostFacts
from launcher.plan.model import UNKNOWN, HostPlan, LaunchPlan, RankPlan
from launcher.plan.promise import promise
from launcher.spec.model import ClusterSpec, HostSpec
from worker.contract.layout import HostFolder

_NOWHERE: Mapping[str, str] = MappingProxyType({})
LOOPBACK = "127.0.0.1"


def plan(
    spec: ClusterSpec,
    facts: Facts,
    *,
    run: str,
    generation: int = 1,
    avoid_ports: Container[int] = (),
    resumes: str = "",
    resume_dirs: Mapping[str, str] = _NOWHERE,
    at_work: Collection[str] | None = None,
) -> LaunchPlan:
    """What each rank of a generation will do. Ranks are numbered in the order of the hosts.

    `at_work` are the hosts that have ranks, by default all but the last `restart.spares`; the plan names the others,
    too. `facts` may lack hosts: what depends on them is None in the plan. `avoid_ports` are not used on any host.
    `resumes` is the checkpoint to go on from; it is looked for in `resume_dirs[host]`, or among the host's checkpoints.
    Raises SpecError for what no host could do, NotFitError for what these hosts cannot.
    """
    check(spec)
    if not spec.hosts:
        raise SpecError([Problem(spec.path, "hosts", "is empty", expected="at least one host")])
    working = [host for host in spec.hosts if host.name in (first_at_work(spec) if at_work is None else at_work)]
    splits = gpus.split(working, facts)
    seats = _seats(working, facts, splits, avoid_ports)
    counted = all(found.counted for found in splits.values())
    life = _life(seats, run, generation, resumes, resume_dirs, counted, savers(spec, seats))
    return LaunchPlan(
        run=run,
        generation=generation,
        hosts=tuple(_host(host, facts, seats) for host in spec.hosts),
        ranks=tuple(_rank(spec, seat, life) for seat in seats),
        resumes=resumes,
        global_batch=spec.train.batch_size if spec.train else None,
        epochs=spec.train.epochs if spec.train else None,
        promise=promise(spec),
    )


def first_at_work(spec: ClusterSpec) -> tuple[str, ...]:
    """The hosts of a run's first generation: all but those that are held in reserve."""
    return tuple(host.name for host in spec.hosts[: max(1, len(spec.hosts) - spec.restart.spares)])


def _seats(
    hosts: Sequence[HostSpec], facts: Facts, splits: Mapping[str, gpus.Split], avoid_ports: Container[int]
) -> list[Seat]:
    crowd: dict[str, int] = defaultdict(int)  # machine → workers on it
    for host in hosts:
        if host.name in facts:
            crowd[facts[host.name].machine] += splits[host.name].workers
    addresses = _addresses(hosts, facts)
    used: dict[str, set[int]] = defaultdict(set)  # machine → ports given away
    seats: list[Seat] = []
    for host in hosts:
        found = facts.get(host.name)
        mine = splits[host.name]
        ports: Sequence[int | None] = [None] * mine.workers
        threads = host.threads
        if found is not None:
            ports = _ports(host, found, mine.workers, used[found.machine], avoid_ports)
            threads = host.threads or max(1, found.cores // crowd[found.machine])
        for port, devices in zip(ports, mine.gpus, strict=True):
            uuids = tuple(gpu.uuid for gpu in devices)
            seats.append(Seat(len(seats), host, found, uuids, threads, addresses[host.name], port))
    _check_apart(seats)
    return seats


def _ports(
    host: HostSpec, found: HostFacts, count: int, used: set[int], avoid_ports: Container[int]
) -> Sequence[int | None]:
    """The next `count` ports of a host; they are added to those `used` on its machine."""
    low, high = host.ports
    free = [p for p in dict.fromkeys(found.free_ports) if low <= p <= high and p not in used and p not in avoid_ports]
    if len(free) < count:
        raise NotFitError(
            f"host {host.name}: not enough free ports in {low}-{high}: {count} needed, {len(free)} left",
            hint=f"give host {host.name} another or a wider range, e.g. `ports: {high + 1}-{high + 100}`, "
            "or end what listens there (`ss -ltnp` names it)",
        )
    used.update(free[:count])
    return free[:count]


def _addresses(hosts: Sequence[HostSpec], facts: Facts) -> dict[str, str | None]:
    """Where each host is reached: loopback if nobody is elsewhere and the spec names no address or network."""
    machines = {facts[host.name].machine if host.name in facts else None for host in hosts}
    alone = len(machines) == 1 and None not in machines
    if alone and not any(host.address or host.network for host in hosts):
        return {host.name: LOOPBACK for host in hosts}
    addresses = {
        host.name: host.address or (facts[host.name].address if host.name in facts else None) for host in hosts
    }
    for name, address in addresses.items():
        if not alone and address is not None and _only_here(address):
            raise NotFitError(
                f"host {name}: its address is {address}, and workers on other machines cannot reach that",
                hint=f"set `address:` for host {name}, or `network:` (such as 10.0.0.0/24) in host_defaults",
            )
    return addresses


def _only_here(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def _check_apart(seats: Sequence[Seat]) -> None:
    """Two workers at one address and port: hosts that seem to be two machines say that they are at one address."""
    seen: dict[tuple[str, int], Seat] = {}
    for seat in seats:
        if seat.address is None or seat.port is None:
            continue
        other = seen.setdefault((seat.address, seat.port), seat)
        if other is not seat:
            raise NotFitError(
                f"ranks {other.rank} (host {other.host.name}) and {seat.rank} (host {seat.host.name}) "
                f"would both be at {endpoint(seat.address, seat.port)}",
                hint="give each host an `address:` of its own, or `ports:` that do not overlap",
            )


def _life(
    seats: Sequence[Seat],
    run: str,
    generation: int,
    resumes: str,
    resume_dirs: Mapping[str, str],
    counted: bool,
    savers: frozenset[int],
) -> Life:
    ends = [endpoint(s.address, s.port) for s in seats if s.address is not None and s.port is not None]
    return Life(
        run=run,
        generation=generation,
        world_size=len(seats) if counted else None,
        cluster=tuple(ends) if counted and len(ends) == len(seats) else None,
        addresses=tuple(dict.fromkeys(seat.address for seat in seats if seat.address is not None)),
        resumes=resumes,
        resume_dirs=resume_dirs,
        savers=savers,
    )


def _host(host: HostSpec, facts: Facts, seats: Sequence[Seat]) -> HostPlan:
    found, ranks = facts.get(host.name), tuple(seat.rank for seat in seats if seat.host is host)
    return HostPlan(
        name=host.name,
        local=host.local,
        folder=found.folder if found else None,
        code=found.code if found else None,
        ranks=ranks,
        workers=len(ranks) or gpus.workers_of(host, facts),
    )


def _rank(spec: ClusterSpec, seat: Seat, life: Life) -> RankPlan:
    return RankPlan(
        rank=seat.rank,
        host=seat.host.name,
        address=seat.address,
        port=seat.port,
        gpus=seat.gpus,
        threads=seat.threads,
        argv=_argv(spec, seat),
        cwd=seat.facts.source if seat.facts else None,
        env=environment(spec, seat, life),
        secrets=spec.secrets,
        files=_files(seat, life.generation),
        stop="SIGTERM" if spec.program else "message",
        saves=seat.rank in life.savers,
    )


def _argv(spec: ClusterSpec, seat: Seat) -> tuple[str, ...]:
    python = seat.facts.python if seat.facts else seat.host.python
    if spec.program is None:
        return (python or UNKNOWN, seat.facts.code if seat.facts else UNKNOWN, "train")
    first, *rest = spec.program.argv
    return ((python or first) if first in ("python", "python3") else first, *rest)


def _files(seat: Seat, generation: int) -> Mapping[str, str]:
    if seat.facts is None:
        return _NOWHERE
    folder = HostFolder(seat.facts.folder)
    return MappingProxyType(
        {
            "log": folder.log(generation, seat.rank),
            "progress": folder.progress(generation, seat.rank),
            "checkpoints": folder.rank_checkpoints(generation, seat.rank),
            "output": folder.rank_output(generation, seat.rank),
        }
    )
