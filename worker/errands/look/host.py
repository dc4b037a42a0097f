"""The machine itself: kernel, cores, memory, addresses, limits, environment."""

from __future__ import annotations

import os
import pwd
import resource
import socket
import sys
from typing import Any, Dict, List, Mapping, Optional

from ...contract.machine import cores, identity, interfaces, ports, processor
from ...contract.machine.paths import which

_PROXIES = ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy")
# What a plan adds to. Nothing else, and no proxy's value: facts are written to files, and these may hold secrets.
_KEPT = ("no_proxy", "NO_PROXY", "PYTHONPATH")
_MOST_ADDRESSES = 200


def host() -> Dict[str, Any]:
    """Who we are, and on what."""
    uid = os.getuid()
    total, free = memory()
    return {
        "machine": identity.machine(),
        "hostname": socket.gethostname(),
        "kernel": os.uname().release,
        "uid": uid,
        "user": _user(uid),
        "home": os.path.expanduser("~"),
        "code": os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))),
        "python3": "%d.%d.%d" % sys.version_info[:3],
        "cores": cores.usable(),
        "instructions": processor.instructions(),
        "memory_bytes": total,
        "memory_free_bytes": free,
        "nvidia": os.path.exists("/dev/nvidiactl") or os.path.exists("/proc/driver/nvidia"),
    }


def network() -> Dict[str, Any]:
    """Its addresses, the range of ports that the kernel gives away, and what kind of firewall there seems to be."""
    found = interfaces.interfaces()
    return {
        "interfaces": [list(one) for one in found[:_MOST_ADDRESSES]],
        "outgoing": interfaces.outgoing(),
        "ephemeral": ports.ephemeral(),
        "firewall": _firewall(),
    }


def resolved(address: str) -> List[str]:
    """The addresses that a name given as `address:` stands for here."""
    if not address:
        return []
    if interfaces.is_number(address):
        return [address]
    found = socket.getaddrinfo(address, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(one[4][0]) for one in found))


def limits() -> Dict[str, Any]:
    """Soft and hard limits; null: none. And the shared memory that NCCL uses between GPUs."""
    return {
        "open_files": _limit(resource.RLIMIT_NOFILE),
        "processes": _limit(resource.RLIMIT_NPROC),
        "memory": _limit(resource.RLIMIT_AS),
        "shm_bytes": _size("/dev/shm"),
    }


def environment(variables: Mapping[str, str]) -> Dict[str, Any]:
    """The names of proxy variables that are set, and the values that a plan adds to."""
    proxies = [name for low in _PROXIES for name in (low, low.upper()) if variables.get(name)]
    return {"proxies": proxies, "kept": {name: variables[name] for name in _KEPT if name in variables}}


def memory() -> "tuple[int, int]":
    """(total, available) in bytes, within the control group's limit where there is one."""
    values: Dict[str, int] = {}
    with open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            name, _, rest = line.partition(":")
            if name in ("MemTotal", "MemAvailable"):
                values[name] = int(rest.split()[0]) * 1024
    limit, used = _group_memory()
    total, free = values["MemTotal"], values.get("MemAvailable", 0)
    return (min(total, limit), min(free, max(0, limit - used))) if limit else (total, free)


def _group_memory() -> "tuple[int, int]":
    """(limit, use) of this process's control group, version 2; (0, 0) where there is none."""
    try:
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            path = next(line[3:].strip() for line in file if line.startswith("0::"))
        folder = os.path.join("/sys/fs/cgroup", path.lstrip("/"))
        with open(os.path.join(folder, "memory.max"), encoding="ascii") as file:
            limit = int(file.read())
        with open(os.path.join(folder, "memory.current"), encoding="ascii") as file:
            return limit, int(file.read())
    except (OSError, ValueError, StopIteration):
        return 0, 0


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _limit(which: int) -> List[Optional[int]]:
    return [None if value == resource.RLIM_INFINITY else value for value in resource.getrlimit(which)]


def _size(path: str) -> Optional[int]:
    try:
        found = os.statvfs(path)
        return found.f_blocks * found.f_frsize
    except OSError:
        return None


def _firewall() -> str:
    """For the words of a hint only: asking the firewall itself takes root."""
    try:
        with open("/etc/ufw/ufw.conf", encoding="utf-8", errors="replace") as file:
            if any(line.strip().lower() == "enabled=yes" for line in file):
                return "ufw"
    except OSError:
        pass
    if os.path.isdir("/run/firewalld"):
        return "firewalld"
    path = "{}:/usr/sbin:/sbin".format(os.environ.get("PATH", ""))
    return next((name for name in ("iptables", "nft") if which(name, path)), "")
