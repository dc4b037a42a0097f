"""The address of each host: in its network, and nothing that the whole world reaches."""

from __future__ import annotations

from ipaddress import ip_address

from launcher.check.finding import Finding, Seen, Verdict
from launcher.check.found import Found
from launcher.spec.model import HostSpec

_OPEN = "TensorFlow's ports know no password: whoever reaches them runs code as you"


def check(seen: Seen) -> list[Finding]:
    findings = []
    for host, found in seen.hosts:
        chosen = seen.addresses.get(host.name)
        if chosen is None:
            continue
        planned = seen.plan and next((r.address for r in seen.plan.ranks if r.host == host.name), None)
        address = planned or chosen.address
        bad = _wrong(host, found, address, chosen.wrong, chosen.fix)
        findings += bad or [Finding((host.name,), "address", Verdict.OK, f"reached at {address}", brief=address)]
        findings += _beside(host, found, address)
    return findings


def _wrong(host: HostSpec, found: Found, address: str, wrong: str, fix: str) -> list[Finding]:
    if wrong:
        return [Finding((host.name,), "address", Verdict.FAIL, wrong, fix, brief="not in network")]
    if "names" in found.failures:
        what = f"{host.name}: its address {address} cannot be looked up there: {found.failures['names']}"
        return [Finding((host.name,), "address", Verdict.FAIL, what, "set `address:` to a number", brief=address)]
    open_to_all = [one for one in (address, *found.resolved) if public(one)]
    if open_to_all and not host.allow_public:
        what = f"{host.name}: its address {open_to_all[0]} is public. {_OPEN}"
        fix = (
            f"set `network:` to a private one (or `address:` for {host.name}); if a firewall lets only the other hosts "
            f"through to ports {host.ports[0]}-{host.ports[1]}, set `allow_public: true`"
        )
        return [Finding((host.name,), "address", Verdict.FAIL, what, fix, brief=f"{open_to_all[0]} public")]
    return []


def _beside(host: HostSpec, found: Found, address: str) -> list[Finding]:
    others = [one for one in found.interfaces if one.address != address and public(one.address)]
    if not others or host.allow_public or public(address):
        return []
    told = ", ".join(f"{one.address} on {one.name}" for one in others[:4])
    what = f"{host.name} has a public address, too: {told}. TensorFlow listens on every interface. {_OPEN}"
    closed = f"ports {host.ports[0]}-{host.ports[1]} on {others[0].name} of {host.name}"
    fix = f"close {closed} to all but the other hosts, then set `allow_public: true`"
    return [Finding((host.name,), "address", Verdict.WARN, what, fix, brief=address)]


def public(address: str) -> bool:
    """Whether the whole world may reach an address. A name is not one: what it stands for is."""
    try:
        return ip_address(address).is_global
    except ValueError:
        return False
