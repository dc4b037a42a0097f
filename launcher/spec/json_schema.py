"""The JSON Schema of a cluster.yaml, for editors. `python -m launcher.spec.reference` writes it beside this file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from launcher.spec.later import LATER
from launcher.spec.schema import Spec

CHECKED_IN = Path(__file__).with_name("cluster.schema.json")


def json_schema() -> dict[str, Any]:
    """The schema as a fresh value."""
    schema = Spec.model_json_schema()
    for path, values in LATER.items():
        _mark_later(schema, path.split("."), values)
    tidy: dict[str, Any] = _tidied(schema)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "cluster.yaml", **tidy}


def text() -> str:
    """The schema as it is checked in."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def later_note(path: str) -> str:
    """What to say of a key, or of some of its values, that the launcher cannot do yet; empty for the others."""
    if path not in LATER:
        return ""
    return _NOTES.get(path, "Not available yet.")


_NOTES = {
    "train.model": "`package.module:function` is not available yet.",
    "train.dataset": "`package.module:function` is not available yet.",
}


def _mark_later(schema: dict[str, Any], parts: list[str], values: str | None) -> None:
    path = ".".join(parts)
    node = schema
    for part in parts:
        node = _object(schema, node)["properties"][part.removesuffix("[]")]
    node["description"] = f"{node.get('description', '')}. {later_note(path)}".lstrip(". ")
    if values is None:
        node["deprecated"] = True  # what editors strike through; there is no word for "not yet"


def _object(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    """The mapping that a property allows, its short forms passed over."""
    for inner in (node, *node.get("anyOf", ())):
        inner = inner.get("items", inner) if inner.get("type") == "array" else inner
        for choice in (inner, *inner.get("anyOf", ())):
            if "$ref" in choice:
                found: dict[str, Any] = schema["$defs"][choice["$ref"].rpartition("/")[2]]
                return found
    return node


def _tidied(value: Any) -> Any:
    """Without pydantic's titles and null defaults; examples as values instead of YAML."""
    if isinstance(value, list):
        return [_tidied(item) for item in value]
    if not isinstance(value, dict):
        return value
    tidy = {}
    for key, inner in value.items():
        if key == "title" and isinstance(inner, str):
            continue
        if key == "default" and inner is None:
            continue
        tidy[key] = [yaml.safe_load(text) for text in inner] if key == "examples" else _tidied(inner)
    return tidy
