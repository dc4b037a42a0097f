"""Whoever answers a check's questions does not wait for ever for the next one: a cut connection says nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from worker.contract import bulk

ROOT = Path(__file__).parents[2]
SERVE = """
from worker.errands.check import Checker
from worker.errands.talk import Talk
checker = Checker(Talk(), silence_s=0.5)
while (frame := checker.receive()) is not None:
    checker.serve(frame[0])
"""


@pytest.mark.parametrize("listens", [False, True])
def test_it_leaves_when_nobody_has_asked_for_long_though_the_connection_stands(listens: bool) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SERVE], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        try:
            question = {"type": "listen", "ports": [], "token": "t"} if listens else {"type": "clock"}
            process.stdin.write(bulk.encode(question))
            process.stdin.flush()
            assert process.wait(20) == 0
        finally:
            process.kill()
