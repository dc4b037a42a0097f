"""An errand's answer → `Found`. A host is not trusted: kinds, counts and lengths are checked."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

from launcher.check.found import Disk, Found, Python
from launcher.plan.facts import Gpu
from worker.contract.machine.interfaces import Interface

_MOST_TEXT = 4096
_MOST_ENVIRONMENT = 1 << 17  # as much as the kernel allows one variable
_MOST_ITEMS = 1000


def found(host: str, answer: Mapping[str, Any], *, clock_s: float = 0.0, clock_error_s: float = 0.0) -> Found:
    """What an answer of `facts` says. Raises ValueError if it is not one."""
    facts = _table(answer.get("facts"), "facts")
    failures = {k: _text(v, "failures") for k, v in _table(answer.get("failures"), "failures").items()}
    machine, network = (_Group(facts, name) for name in ("host", "network"))
    limits, environment, users, logout = (_Group(facts, n) for n in ("limits", "environment", "users", "logout"))
    gpus = [_Group({"gpu": one}, "gpu") for one in _list(facts.get("gpus", []), "gpus")]
    ephemeral = network.numbers("ephemeral", 2)
    return Found(
        host=host,
        machine=machine.text("machine"),
        hostname=machine.text("hostname"),
        kernel=machine.text("kernel"),
        uid=machine.number("uid", -1),
        user=machine.text("user"),
        home=machine.text("home"),
        code=machine.text("code"),
        python3=machine.text("python3"),
        cores=max(1, machine.number("cores", 1)),
        instructions=machine.text("instructions"),
        memory_bytes=machine.number("memory_bytes"),
        memory_free_bytes=machine.number("memory_free_bytes"),
        nvidia=machine.yes("nvidia"),
        interfaces=tuple(_interface(one) for one in network.items("interfaces")),
        outgoing=network.text("outgoing"),
        resolved=tuple(_text(one, "names") for one in _list(facts.get("names", []), "names")),
        ephemeral=(ephemeral[0] or 0, ephemeral[1] or 0) if ephemeral else None,
        firewall=network.text("firewall"),
        free_ports=tuple(_port(port) for port in _list(facts.get("ports", []), "ports")),
        python=_python(_Group(facts, "python")),
        disk=_disk(_Group(facts, "workdir")),
        gpus=tuple(_gpu(one) for one in gpus),
        driver=gpus[0].text("driver") if gpus else "",
        open_files=_limit(limits, "open_files"),
        processes=_limit(limits, "processes"),
        shm_bytes=limits.maybe_number("shm_bytes"),
        proxies=environment.texts("proxies"),
        environment=environment.table("kept", _MOST_ENVIRONMENT),
        accounts=users.texts("accounts"),
        accounts_count=users.number("accounts_count"),
        active=users.texts("active"),
        kills_at_logout=logout.yes("kills"),
        lingers=logout.yes("lingers"),
        clock_s=clock_s,
        clock_error_s=clock_error_s,
        failures=failures,
    )


class _Group:
    """One probe's result; empty where the probe failed."""

    def __init__(self, facts: Mapping[str, Any], name: str) -> None:
        self._name = name
        self._values = _table(facts.get(name, {}), name)

    def text(self, key: str) -> str:
        return _text(self._values.get(key, ""), f"{self._name}.{key}")

    def number(self, key: str, default: int = 0) -> int:
        found = self.maybe_number(key)
        return default if found is None else found

    def maybe_number(self, key: str) -> int | None:
        found = self._values.get(key)
        return None if found is None else _number(found, f"{self._name}.{key}")

    def yes(self, key: str) -> bool:
        return self._values.get(key) is True

    def items(self, key: str) -> list[Any]:
        return _list(self._values.get(key, []), f"{self._name}.{key}")

    def texts(self, key: str) -> tuple[str, ...]:
        return tuple(_text(one, f"{self._name}.{key}") for one in self.items(key))

    def numbers(self, key: str, count: int) -> tuple[int | None, ...]:
        """Exactly `count` numbers or nulls, or none at all."""
        if self._values.get(key) is None:
            return ()
        found = tuple(None if one is None else _number(one, f"{self._name}.{key}") for one in self.items(key))
        if len(found) != count:
            raise ValueError(f"{self._name}.{key}: {count} numbers are expected")
        return found

    def table(self, key: str, most: int = _MOST_TEXT) -> dict[str, str]:
        values = _table(self._values.get(key, {}), f"{self._name}.{key}")
        return {_text(k, self._name): _text(v, f"{self._name}.{key}", most) for k, v in values.items()}


def _python(group: _Group) -> Python:
    return Python(
        path=group.text("path"),
        missing=group.text("missing"),
        version=group.text("version"),
        tensorflow=group.text("tensorflow"),
        distribution=group.text("distribution"),
        keras=group.text("keras"),
        cuda=group.text("cuda"),
        packages=group.table("packages"),
    )


def _disk(group: _Group) -> Disk:
    return Disk(
        path=group.text("path"),
        exists=group.yes("exists"),
        free_bytes=group.number("free_bytes"),
        total_bytes=group.number("total_bytes"),
        free_files=group.maybe_number("free_files"),
        noexec=group.yes("noexec"),
        kind=group.text("kind"),
        refused=group.text("refused"),
    )


def _gpu(group: _Group) -> Gpu:
    return Gpu(
        group.number("number"),
        group.text("uuid"),
        group.text("name"),
        group.number("memory_bytes"),
        group.text("holder"),
    )


def _limit(group: _Group, key: str) -> tuple[int | None, int | None]:
    found = group.numbers(key, 2)
    return (found[0], found[1]) if found else (None, None)


def _interface(value: Any) -> Interface:
    name, address, prefix = (*_list(value, "interfaces"), None, None, None)[:3]
    return Interface(
        _text(name, "interfaces"), str(ip_address(_text(address, "interfaces"))), _number(prefix, "interfaces")
    )


def _port(value: Any) -> int:
    port = _number(value, "ports")
    if not 0 < port < 65536:
        raise ValueError(f"ports: {port} is none")
    return port


def _text(value: Any, where: str, most: int = _MOST_TEXT) -> str:
    if not isinstance(value, str) or len(value) > most or "\0" in value:
        raise ValueError(f"{where}: a text of at most {most} characters is expected")
    return value


def _number(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 1 << 64:
        raise ValueError(f"{where}: a whole number is expected")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list) or len(value) > _MOST_ITEMS:
        raise ValueError(f"{where}: a list of at most {_MOST_ITEMS} is expected")
    return value


def _table(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict) or len(value) > _MOST_ITEMS:
        raise ValueError(f"{where}: an object is expected")
    return value
