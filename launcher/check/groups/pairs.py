"""Which hosts do not reach which, as it was tried: the pair, the port, and what would open it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import ip_address, ip_interface

from launcher.check.finding import Finding, Seen, Verdict, several
from launcher.check.pairs import Pair
from launcher.plan.environment import endpoint


def check(seen: Seen) -> list[Finding]:
    if seen.tried is None:
        return []
    planned = [pair for pair in seen.tried.pairs if not pair.extra]
    blocked = [pair for pair in planned if pair.why]
    findings = [_blocked(seen, pairs) for pairs in _by_target(blocked)]
    for host, error in (seen.tried.failed or {}).items():
        findings.append(Finding((host,), "pairs", Verdict.FAIL, error.message, error.hint, brief="not tried"))
    hurt = {name for pair in blocked for name in (pair.source, pair.target)}
    for name in seen.names():
        mine = [pair for pair in planned if name in (pair.source, pair.target)]
        if mine and name not in hurt:
            slowest = max(pair.milliseconds for pair in mine)
            what = f"reaches every other host and is reached, within {slowest:.0f} ms"
            findings.append(Finding((name,), "pairs", Verdict.OK, what, brief=f"{slowest:.0f} ms"))
        elif not mine and len(seen.spec.hosts) == 1:
            findings.append(Finding((name,), "pairs", Verdict.OK, "it is alone", brief="alone"))
    return findings + _others(seen, hurt)


def _by_target(blocked: Sequence[Pair]) -> Iterable[list[Pair]]:
    """Pairs that one fix would open: the same target, address and reason."""
    groups: dict[tuple[str, str, str], list[Pair]] = {}
    for pair in blocked:
        groups.setdefault((pair.target, pair.address, pair.why), []).append(pair)
    return groups.values()


def _blocked(seen: Seen, pairs: Sequence[Pair]) -> Finding:
    first = pairs[0]
    sources = list(dict.fromkeys(pair.source for pair in pairs))
    ports = sorted({pair.port for pair in pairs})
    told = ", ".join(f"{source} → {first.target}" for source in sources)
    where = endpoint(first.address, ports[0]) + "".join(f", {port}" for port in ports[1:])
    better = next((pair.better for pair in pairs if pair.better is not None), None)
    fixes = []
    if better is not None:
        network = ip_interface(f"{better.address}/{better.prefix}").network
        fixes.append(
            f"{first.target} answers at {better.address} ({better.name}): set `network: {network}`, "
            f"or `address: {better.address}` for {first.target}"
        )
    fixes.append(_rule(seen, first, sources) if _may_be_a_firewall(first) else _elsewhere(seen, first))
    return Finding(
        tuple(dict.fromkeys([first.target, *sources])),
        "pairs",
        Verdict.FAIL,
        f"{told} at {where}: {first.why}",
        "; or ".join(fixes),
        brief="blocked",
    )


def _may_be_a_firewall(pair: Pair) -> bool:
    return pair.why in ("timed out", "refused", "no route", "reset", "accepted, but no answer came") or (
        "firewall" in pair.why
    )


def _elsewhere(seen: Seen, pair: Pair) -> str:
    found = seen.found.get(pair.target)
    has = ", ".join(f"{one.address} ({one.name})" for one in found.interfaces) if found else ""
    return f"that address may lead to another machine: set `address:` for {pair.target}" + (
        f", which has {has}" if has else ""
    )


def _rule(seen: Seen, pair: Pair, sources: Sequence[str]) -> str:
    """The line that would let these hosts through, for the firewall that the target seems to have."""
    host = next(host for host in seen.spec.hosts if host.name == pair.target)
    low, high = host.ports
    on, chain = (pair.source, "OUTPUT") if "own firewall" in pair.why else (pair.target, "INPUT")
    found = seen.found.get(on)
    kind = found.firewall if found else ""
    said = [seen.addresses[name].address for name in sources if name in seen.addresses] or ["ADDRESS"]
    addresses = [pair.address] if chain == "OUTPUT" else said
    lines = [_line(kind, chain, address, low, high) for address in addresses[:4]]
    rest = f" (and {len(addresses) - 4} more)" if len(addresses) > 4 else ""
    what = f"from {several(list(sources))}" if chain == "INPUT" else f"to {pair.target}"
    return f"let TCP {low}-{high} {what} through on {on}, e.g. {' && '.join(lines)}{rest}"


def _line(kind: str, chain: str, address: str, low: int, high: int) -> str:
    if kind == "ufw":
        way = f"allow out proto tcp to {address}" if chain == "OUTPUT" else f"allow proto tcp from {address} to any"
        return f"sudo ufw {way} port {low}:{high}"
    if kind == "firewalld" and chain == "INPUT":
        family = "ipv6" if ":" in address else "ipv4"
        return (
            f"sudo firewall-cmd --permanent --add-rich-rule='rule family={family} source address={address} "
            f"port port={low}-{high} protocol=tcp accept' && sudo firewall-cmd --reload"
        )
    if kind == "nft":
        match = f"{'ip6' if ':' in address else 'ip'} {'daddr' if chain == 'OUTPUT' else 'saddr'} {address}"
        return f"sudo nft insert rule inet filter {chain.lower()} {match} tcp dport {low}-{high} accept"
    table = "ip6tables" if _is_version6(address) else "iptables"
    end = "-d" if chain == "OUTPUT" else "-s"
    return f"sudo {table} -I {chain} -p tcp {end} {address} --dport {low}:{high} -j ACCEPT"


def _is_version6(address: str) -> bool:
    try:
        return ip_address(address).version == 6
    except ValueError:
        return False


def _others(seen: Seen, hurt: set[str]) -> list[Finding]:
    """Whether other ports get through than those of the plan: NCCL takes what the kernel gives it."""
    assert seen.tried is not None
    blocked = [p for p in seen.tried.pairs if p.extra and p.why and not {p.source, p.target} & hurt]
    if not blocked:
        return []
    told = ", ".join(dict.fromkeys(f"{pair.source} → {pair.target}" for pair in blocked[:6]))
    names = tuple(dict.fromkeys(name for pair in blocked for name in (pair.target, pair.source)))
    on_gpus = seen.plan is not None and any(rank.gpus for rank in seen.plan.ranks)
    ring = seen.spec.train is not None and seen.spec.train.communication == "ring"
    what = f"only the ports of the spec get through ({told})"
    if not on_gpus or ring:
        what += ": enough, since NCCL, which chooses ports of its own, is not used"
        return [Finding(names, "pairs", Verdict.NOTE, what)]
    return [
        Finding(
            names,
            "pairs",
            Verdict.FAIL if seen.spec.train is not None else Verdict.WARN,
            f"{what}, and NCCL, which the GPUs use, chooses ports of its own: the first step would hang",
            "let all TCP ports through between the hosts, or set `communication: ring`",
            brief="NCCL blocked",
        )
    ]
