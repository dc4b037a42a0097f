"""A spec reads the same whichever YAML parser has read it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, strategies

from launcher.spec import compose as module
from launcher.spec.compose import compose

ROOT = Path(__file__).parents[2]
DOCUMENTS = [path.read_text() for path in (ROOT / "cluster.yaml", *sorted((ROOT / "launcher" / "cli").glob("*.yaml")))]
PIECES = ["\n", "- ", "  ", ": ", '"', "'", "{", "}", "[", "]", "#", "|", ">", "&a ", "*a", "!x ", "? ", ",", "~", "\t"]
EDITS = strategies.lists(strategies.tuples(strategies.integers(0, 3000), strategies.sampled_from(PIECES)), max_size=3)


def read(text: str, loader: object) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_FAST", loader)
        return repr(compose(text, "cluster.yaml"))


@pytest.mark.skipif(module._FAST is None, reason="this PyYAML was built without libyaml")
@given(document=strategies.sampled_from(DOCUMENTS), edits=EDITS)
def test_the_fast_parser_and_the_other_one_read_every_document_alike(
    document: str, edits: list[tuple[int, str]]
) -> None:
    for at, piece in edits:
        document = document[: at % len(document)] + piece + document[at % len(document) :]
    assert read(document, module._FAST) == read(document, None)
