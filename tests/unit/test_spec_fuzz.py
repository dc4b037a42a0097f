"""Whatever stands in a cluster.yaml, a ClusterSpec or a SpecError comes out, soon and in bounded memory."""

from __future__ import annotations

import os
import random
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from launcher.errors import SpecError
from launcher.spec import load
from launcher.spec.model import ClusterSpec
from tests.unit.spec_documents import ROOT, hostile, mutated, mutated_setting

DOCUMENTS = 2000
DEADLINE_S = 5.0  # of one document; the machine may be busy
HEADROOM = 200 * 2**20  # of address space over what the process has before


class TooSlowError(BaseException):
    """Not an Exception: nothing that is tested may catch it."""


@contextmanager
def bounded() -> Iterator[None]:
    """Within it, more memory than HEADROOM fails, and so does a document at its deadline."""

    def alarm(*_: object) -> None:
        raise TooSlowError(f"no answer within {DEADLINE_S} s")

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGALRM, alarm)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + HEADROOM, hard))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGALRM, before)


def check_told(error: SpecError, path: Path) -> None:
    """Something is said, it names its place, and a terminal survives it."""
    assert error.problems
    for problem in error.problems:
        assert problem.where.startswith((str(path), "--set", "hosts", "cluster")), problem
        told = "".join((problem.where, problem.path, problem.message, problem.expected, problem.found, problem.hint))
        assert told.isprintable(), problem
        assert len(told) < 3000, problem


def outcome(path: Path, document: bytes, settings: list[str]) -> str:
    """What came of a document, its messages checked on the way."""
    path.write_bytes(document)
    signal.setitimer(signal.ITIMER_REAL, DEADLINE_S)
    try:
        spec = load(path, settings, environ={"HOME": "/home/me"})
    except SpecError as error:
        check_told(error, path)
        return "refused"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    assert isinstance(spec, ClusterSpec)
    return "taken"


def test_no_document_brings_the_loader_down(tmp_path: Path) -> None:
    load(ROOT / "cluster.yaml", environ={"HOME": "/home/me"})  # what it imports is not the documents' doing
    path = tmp_path / "cluster.yaml"
    source = random.Random(20260102)
    documents = hostile()
    documents += [mutated(source) for _ in range(DOCUMENTS - len(documents))]
    outcomes = []
    slowest = (0.0, b"")
    with bounded():
        for document in documents:
            settings = [mutated_setting(source)] if source.random() < 0.2 else []
            began = time.monotonic()
            outcomes.append(outcome(path, document, settings))
            slowest = max(slowest, (time.monotonic() - began, document[:80]))
    print(f"taken: {outcomes.count('taken')}, slowest: {slowest}")
    assert len(outcomes) == DOCUMENTS
    # Neither may be rare, or the fuzz tests half of the loader only.
    assert outcomes.count("taken") > 50
    assert outcomes.count("refused") > 1000


@pytest.mark.parametrize("name", ["a pipe", "a folder"])
def test_what_is_not_a_file_is_refused_at_once(tmp_path: Path, name: str) -> None:
    path = tmp_path / "cluster.yaml"
    if name == "a pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    with bounded():
        signal.setitimer(signal.ITIMER_REAL, DEADLINE_S)
        with pytest.raises(SpecError) as caught:
            load(path)
    assert "launcher init" in caught.value.hint
