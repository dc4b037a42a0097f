"""Facts as a JSON file: what `check` writes and `plan --facts FILE` reads."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from launcher.errors import UsageError
from launcher.plan.facts import Facts, Gpu, HostFacts

VERSION = 1
MAX_BYTES = 16 * 2**20
_TEXTS = ("host", "machine", "address", "python", "folder", "code", "source")
_KINDS = {**dict.fromkeys(_TEXTS, str), "cores": int, "interface": str, "proxies": bool}


def to_json(facts: Facts) -> dict[str, Any]:
    """The facts in plain dicts and lists: {version, hosts: {name: the fields of HostFacts}}."""
    hosts = {}
    for name, found in facts.items():
        host = {field.name: getattr(found, field.name) for field in fields(found)}
        hosts[name] = {**host, "gpus": [asdict(gpu) for gpu in found.gpus], "environment": dict(found.environment)}
    return {"version": VERSION, "hosts": hosts}


def write(path: Path, facts: Facts) -> None:
    """Write the facts whole: a reader never sees half a file. Raises UsageError if it cannot be written."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out:
            json.dump(to_json(facts), out, indent=2)
            out.write("\n")
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UsageError(f"{path}: the facts cannot be written: {error.strerror}", hint="name another file") from error


def read(path: Path) -> Facts:
    """The facts of a file. Unknown keys are passed over. Raises UsageError that says which field is wrong."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ValueError(f"it is over {MAX_BYTES // 2**20} MiB")
        value = json.loads(data)
        version = value.get("version") if isinstance(value, dict) else None
        if version != VERSION:
            raise ValueError(f"`version: {VERSION}` is expected, and found: {version!r}")
        return {str(name): _host(name, found) for name, found in _is(value.get("hosts"), dict, "hosts").items()}
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}", hint="name a file of facts") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{path}: not a file of facts: {error}", hint="let `launcher check --json` write one, or leave out --facts"
        ) from error


def _host(name: str, value: Any) -> HostFacts:
    where = f"hosts.{name}"
    _is(value, dict, where)
    optional = {"interface", "proxies"}
    plain = {
        key: _is(value.get(key), kind, f"{where}.{key}")
        for key, kind in _KINDS.items()
        if key in value or key not in optional
    }
    if plain["cores"] < 1:
        raise ValueError(f"{where}.cores: at least 1 is expected, and found: {plain['cores']}")
    environment = _is(value.get("environment", {}), dict, f"{where}.environment")
    return HostFacts(
        **plain,
        free_ports=tuple(
            _port(p, f"{where}.free_ports") for p in _is(value.get("free_ports"), list, f"{where}.free_ports")
        ),
        gpus=tuple(
            _gpu(g, f"{where}.gpus[{i}]") for i, g in enumerate(_is(value.get("gpus", []), list, f"{where}.gpus"))
        ),
        environment={key: _is(text, str, f"{where}.environment.{key}") for key, text in environment.items()},
    )


def _gpu(value: Any, where: str) -> Gpu:
    table: Mapping[str, Any] = _is(value, dict, where)
    return Gpu(
        index=_is(table.get("index"), int, f"{where}.index"),
        uuid=_is(table.get("uuid"), str, f"{where}.uuid"),
        name=_is(table.get("name", ""), str, f"{where}.name"),
        memory_bytes=_is(table.get("memory_bytes", 0), int, f"{where}.memory_bytes"),
        holder=_is(table.get("holder", ""), str, f"{where}.holder"),
    )


def _port(value: Any, where: str) -> int:
    port: int = _is(value, int, where)
    if not 0 < port < 65536:
        raise ValueError(f"{where}: a port from 1 to 65535 is expected, and found: {port}")
    return port


def _is(value: Any, kind: type, where: str) -> Any:
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    words = {str: "a text", int: "a whole number", bool: "true or false", dict: "an object", list: "a list"}
    found = "nothing" if value is None else repr(value)[:60]
    raise ValueError(f"{where}: {words[kind]} is expected, and found: {found}")
