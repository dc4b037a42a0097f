"""Requests reach a rank whatever its main thread is doing: by the agent's pipe, or by signals when run by hand."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# A rank without TensorFlow. Its main thread waits where no Python handler would run, as it does inside a collective.
RANK = """
import ctypes, sys, threading
from worker.train.control import Control
control = Control()
control.listen(int(sys.argv[1]) if sys.argv[1] else None, lambda why: print(why, flush=True))
if sys.argv[2] == "training":
    control.training_began()
def report():
    while not (control.stop or control.checkpoint):
        pass
    print("stop" if control.stop else "checkpoint", flush=True)
threading.Thread(target=report, daemon=True).start()
print("ready", flush=True)
ctypes.CDLL(None).sleep(60)
"""


@contextlib.contextmanager
def rank(descriptor: int | None, phase: str = "training") -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", RANK, "" if descriptor is None else str(descriptor), phase],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=[] if descriptor is None else [descriptor],
    )
    try:
        assert said(process) == "ready"
        yield process
    finally:
        process.kill()
        process.communicate()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@contextlib.contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    try:
        yield ends
    finally:
        for end in ends:
            with contextlib.suppress(OSError):
                os.close(end)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_by_hand_one_signal_asks_and_a_second_one_ends_at_once(number: signal.Signals) -> None:
    with rank(None) as process:
        process.send_signal(number)
        assert said(process) == "stop"
        assert process.poll() is None
        process.send_signal(number)
        assert process.wait(10) == 128 + number


def test_by_hand_a_signal_before_training_ends_at_once_for_nothing_could_be_saved() -> None:
    with rank(None, "starting") as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 128 + signal.SIGINT


@pytest.mark.parametrize("request_", ["stop", "checkpoint"])
def test_a_message_asks_even_in_pieces_and_after_rubbish(request_: str) -> None:
    with pipe() as (read, write), rank(read) as process:
        for piece in (b"\xff\xfe rubbish\n[]\n" + b"[" * 70_000 + b"\n", b'{"type": "unk', b'nown"}\n{"ty'):
            os.write(write, piece)
        os.write(write, f'pe": "{request_}"}}\n'.encode())
        assert said(process) == request_


def test_under_an_agent_a_terminals_interrupt_means_nothing_and_sigterm_means_leave_now() -> None:
    with pipe() as (read, write), rank(read) as process:
        process.send_signal(signal.SIGINT)
        os.write(write, b'{"type": "checkpoint"}\n')
        assert said(process) == "checkpoint"
        process.terminate()
        assert process.wait(10) == 128 + signal.SIGTERM


def test_under_an_agent_somebody_elses_sigterm_is_told_and_asks_to_stop_and_a_further_one_changes_nothing() -> None:
    with pipe() as (read, _), rank(read) as process:
        kill = f"import os; os.kill({process.pid}, {int(signal.SIGTERM)}); print(os.getpid())"
        first = subprocess.run([sys.executable, "-c", kill], capture_output=True, text=True, check=True)
        assert {said(process), said(process)} == {"stop", f"SIGTERM by process {first.stdout.strip()}"}
        subprocess.run([sys.executable, "-c", kill], capture_output=True, check=True)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        process.terminate()
        assert process.wait(10) == 128 + signal.SIGTERM


def test_an_agent_that_is_gone_is_not_a_request() -> None:
    with pipe() as (read, write), rank(read) as process:
        os.close(write)
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
