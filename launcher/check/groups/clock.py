"""Whether the hosts' clocks agree with this machine's. Only what people read depends on it, no deadline does."""

from __future__ import annotations

from launcher.check.finding import Finding, Seen, Verdict

FAR_S = 2.0


def wrong(seen: Seen) -> dict[str, float]:
    """How many seconds the clocks are ahead of this machine's, of those hosts where it is certain and worth a word."""
    return {host.name: found.clock_s for host, found in seen.hosts if abs(found.clock_s) - found.clock_error_s > FAR_S}


def check(seen: Seen) -> list[Finding]:
    ahead = {host.name: found.clock_s for host, found in seen.hosts}
    off = wrong(seen)
    findings = [
        Finding((host,), "clock", Verdict.OK, f"{difference(offset)} from this machine's", brief=difference(offset))
        for host, offset in ahead.items()
        if host not in off
    ]
    if not off:
        return findings
    remote = [host.name for host, _ in seen.hosts if not host.local]
    if len(off) > 1 and set(off) == set(remote) and max(off.values()) - min(off.values()) <= FAR_S:
        told = difference(max(off.values()))
        what = f"the hosts' clocks agree, and are {told} from this machine's"
        fix = "set the clock of this machine (`timedatectl set-ntp true`): times in reports come from both"
        return [*findings, Finding(tuple(off), "clock", Verdict.WARN, what, fix, brief=told)]
    for host, offset in off.items():
        way = "ahead of" if offset > 0 else "behind"
        what = f"{host}: its clock is {difference(abs(offset))[1:]} {way} this machine's"
        fix = f"on {host}: `timedatectl set-ntp true`, or chrony: its times in logs and reports are wrong till then"
        findings.append(Finding((host,), "clock", Verdict.WARN, what, fix, brief=difference(offset)))
    return findings


def difference(seconds: float) -> str:
    """`+3 ms`, `±0 ms`, `-2.5 s`, `+1.0 h`."""
    size = abs(seconds)
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0)):
        if size >= length:
            return f"{seconds / length:+.1f} {unit}"
    milliseconds = round(seconds * 1000)
    return f"{milliseconds:+d} ms" if milliseconds else "±0 ms"
