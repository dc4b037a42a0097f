"""What ssh says when it fails, in our words. Pure: its debug log in, an error out."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from launcher.errors import NotFitError

_NEW_HOST = "either the host was set up anew, or someone is listening in. Ask who runs it for its fingerprint"
_KEY = re.compile(r"Server host key: (\S+) (SHA256:\S+)")
_NOT_LED = re.compile(r"stdio forwarding (request )?failed", re.IGNORECASE)


class PinnedKeyError(NotFitError):
    """The host showed another key than the pinned one; it may have that, too."""


_TOO_MANY = re.compile(r"Exceeded MaxStartups|Not allowed at this time")


def crowded(log: str) -> bool:
    """Whether the server hung up before it said anything, as it does when too many log in at once."""
    early = re.search(r"kex_exchange_identification: (read: )?Connection (closed|reset)", log)
    return bool(early) and not _NOT_LED.search(log) and not _no_server(log) and not _proxy_said(log)


def _no_server(log: str) -> str:
    """What something that speaks no SSH said first; empty if nothing did."""
    first = re.search(r"kex_exchange_identification: banner line 0: (.*)", log)
    return first[1].strip() if first and not _TOO_MANY.search(log) else ""


def _proxy_said(log: str) -> str:
    """The last complaint of a ProxyCommand of the user's config; empty if there is none, or it said nothing."""
    started = re.search(r"Executing proxy command: exec (?!.* -o ProxyCommand=false -W )", log)
    said = [line for line in _said(log) if not re.match(r"kex_exchange|Connection (closed|to|reset)|ssh_", line)]
    return said[-1] if started and said else ""


def refusal_of_gate(log: str, address: str, port: int) -> str:
    """Why a jump host did not lead to an address, by the log of the connection to it; empty if it says nothing."""
    found = ""
    for channel, why in re.findall(r"^channel (\d+): open failed: (.+)$", log, re.MULTILINE):
        if re.search(rf"channel {channel}: free: direct-tcpip: .* for {re.escape(address)} port {port},", log):
            found = why
    return found


def explain(host: str, place: str, log: str, *, pin: str | None = None, asked: bool = False) -> NotFitError:
    """`log` is that of `ssh -v`; `place` is `user@address port N`; `asked`: somebody was asked, and answered."""
    log = log.replace(" UNKNOWN port 65535", f" {place}")  # which is how ssh calls what it reaches by a command
    for judge in (_key_trouble, _login_trouble, _network_trouble, _local_trouble):
        error = judge(place, log, pin, asked)
        if error is not None:
            message = f"{host}: {error.message}"
            return type(error)(message, hint=error.hint)
    return NotFitError(f"{host}: ssh to {place} failed: {last_words(log)}", hint=_by_hand(place))


def last_words(log: str, otherwise: str = "it ended without a word") -> str:
    """The last thing that ssh said to people."""
    said = _said(log)
    return said[-1][:500] if said else otherwise


def _said(log: str) -> list[str]:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return [line for line in lines if not re.match(r"debug\d|OpenSSH_|Authenticated to |Bytes per|Transferred:", line)]


def new_key(log: str) -> str:
    """What there is to say when ssh has written down a new host key; empty if it has not."""
    added = re.search(r"Warning: Permanently added '([^']+)'", log)
    shown = _KEY.search(log)
    return f"new host key {shown[1]} {shown[2]} of {added[1]} added" if added and shown else ""


def _key_trouble(place: str, log: str, pin: str | None, _asked: bool) -> NotFitError | None:
    if "Host key verification failed" not in log and "REMOTE HOST IDENTIFICATION HAS CHANGED" not in log:
        return None
    shown = _KEY.findall(log)
    key = " ".join(shown[-1]) if shown else "a key"
    if "revoked" in log.lower() and "marked as revoked" in log:
        return NotFitError(
            f"the key {key} of {place} is revoked",
            hint="do not use this host before whoever runs it has given it a new key",
        )
    if pin is not None:
        return PinnedKeyError(
            f"it shows {key}, and pinned is {pin}",
            hint="if the host was set up anew, pin its new fingerprint; otherwise someone may be listening in: "
            "do not go on",
        )
    changed = re.search(r"Offending \S+ key in (.+):(\d+)", log)
    if "HAS CHANGED" in log and changed:
        was = _fingerprint_in(changed[1], int(changed[2]))
        name = re.search(r"Host key for (\S+) has changed", log)
        remove = f"ssh-keygen -R '{name[1]}' -f '{changed[1]}'" if name else f"remove line {changed[2]}"
        return NotFitError(
            f"the key of {place} is another one than before. Known: {was} in {changed[1]}:{changed[2]}. "
            f"Shown now: {key}",
            hint=f"{_NEW_HOST}, and if that is the new one: {remove}",
        )
    pinned = f", or pin it: `host_keys: {shown[-1][1]}`" if shown else ""
    return NotFitError(
        f"{place} is not known yet. It shows {key}",
        hint=f"if that is its key, log in once by hand (ssh writes it down){pinned}; "
        "or take every new host at its word: `host_keys: accept-new`",
    )


def _login_trouble(place: str, log: str, _pin: str | None, asked: bool) -> NotFitError | None:
    if "Too many authentication failures" in log:
        return NotFitError(
            f"{place} hung up after too many keys had been offered",
            hint="name the key: `key:` in the spec, or IdentityFile with IdentitiesOnly in ssh's config",
        )
    denied = re.search(r"Permission denied \(([^)]*)\)", log)
    if denied is None:
        return None
    if "with partial success" in log:
        return NotFitError(
            f"{place} lets nobody in without {denied[1]} as well, a second factor",
            hint="what was answered was wrong" if asked else "log in where there is somebody who can be asked for it",
        )
    offered = re.findall(r"Offering public key: (.+?) (?:ED25519|RSA|ECDSA|DSA|ED25519-SK|ECDSA-SK)\b", log)
    missing = re.findall(r"Identity file (\S+) not accessible", log)
    open_key = re.findall(r'Load key "([^"]+)": (.+)', log)
    found = [f"offered were {', '.join(dict.fromkeys(offered))}" if offered else "no key was offered"]
    found += [f"{path} is not there" for path in missing]
    found += [f"{path}: {why.strip()}" for path, why in open_key]
    accepted = re.findall(r"Server accepts key: (.+?) (?:ED25519|RSA|ECDSA|DSA|ED25519-SK|ECDSA-SK)\b", log)
    if accepted and not asked:
        return NotFitError(
            f"{place} takes the key {accepted[-1]}, but this machine cannot use it without its passphrase",
            hint=f"give it to ssh-agent first: `ssh-add {accepted[-1]}`; or start this on a terminal",
        )
    if re.search(r"incorrect passphrase", log):
        hint = "the passphrase was wrong" if asked else "the key has a passphrase: give it to ssh-agent with ssh-add"
    elif "publickey" not in denied[1]:
        hint = f"the host takes {denied[1]} only: log in by hand once to see what it asks for"
    else:
        hint = f"check user and key; to let a key in: ssh-copy-id {_target(place)}"
        if not asked:
            hint += "; a key with a passphrase must be in ssh-agent (ssh-add) when nobody is there to be asked"
    return NotFitError(f"{place} lets nobody in ({denied[1]}): {'; '.join(found)}", hint=hint)


def _network_trouble(place: str, log: str, _pin: str | None, _asked: bool) -> NotFitError | None:
    if _NOT_LED.search(log):
        via = re.findall(r"channel \d+: open failed: (.+)", log)
        why = via[-1] if via else "it refuses to, or its connection ended"
        return NotFitError(
            f"the jump host does not lead to {place}: {why}",
            hint="check from the jump host whether sshd is reachable there, and AllowTcpForwarding of the jump host",
        )
    cases = (
        (
            r"Could not resolve hostname [^:]+: (.+)",
            "there is no such name",
            "check the name, or add it to ssh's config",
        ),
        (r"Connection refused", "nothing listens there", "is sshd running, and is the port right?"),
        (
            r"timed out|Operation timed out",
            "it does not answer",
            "is the host up? does a firewall drop the port? `timeouts.connect` sets how long is waited",
        ),
        (r"No route to host|Network is unreachable", "there is no way to it", "check the address and the network"),
    )
    for pattern, what, hint in cases:
        if re.search(pattern, log):
            return NotFitError(f"{place} cannot be reached: {what} ({last_words(log)})", hint=hint)
    if first := _no_server(log):
        return NotFitError(f"{place} is no SSH server: it begins with “{first[:60]}”", hint="is the port right?")
    if said := _proxy_said(log):
        return NotFitError(
            f"{place} cannot be reached: the ProxyCommand of ssh's config says “{said[:300]}”",
            hint="try it by hand, or mend ProxyCommand in ssh's config",
        )
    if crowded(log):
        return NotFitError(
            f"{place} hangs up before it says a word ({last_words(log)})",
            hint="too many log in at once (MaxStartups of its sshd), or it refuses this machine (its log tells)",
        )
    if re.search(r"no matching (.+) found", log):
        return NotFitError(
            f"{place} and this machine's ssh have no method in common: {last_words(log)}",
            hint="one of the two is very old: allow the method for this host in ssh's config",
        )
    return None


def _local_trouble(_place: str, log: str, pin: str | None, _asked: bool) -> NotFitError | None:
    if pin is not None and re.search(r"Bad configuration option: knownhostscommand", log, re.IGNORECASE):
        return NotFitError(
            "a pinned fingerprint needs OpenSSH 8.5 or later on this machine",
            hint="use `host_keys: known` with the key in known_hosts, or `transport: paramiko`",
        )
    if re.search(r"Bad owner or permissions|Bad configuration option|terminating, \d+ bad configuration", log):
        return NotFitError(f"ssh's config cannot be used: {last_words(log)}", hint="mend the file that it names")
    return None


def _fingerprint_in(file: str, number: int) -> str:
    """Of the key in a line of a known_hosts file: `ssh-ed25519 SHA256:…`."""
    try:
        words = Path(file).read_text(errors="replace").splitlines()[number - 1].split()
        kind, key = (words[2], words[3]) if words[0].startswith("@") else (words[1], words[2])
        digest = hashlib.sha256(base64.b64decode(key)).digest()
        return f"{kind} SHA256:{base64.b64encode(digest).decode().rstrip('=')}"
    except (OSError, IndexError, ValueError):
        return "another key"


def _target(place: str) -> str:
    address, _, port = place.partition(" port ")
    return f"-p {port} {address}" if port else address


def _by_hand(place: str) -> str:
    return f"try it by hand: ssh {_target(place)} true"
