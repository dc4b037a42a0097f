"""A daemon and the command that started it: what is shown, asked, handed over, and what happens when one goes away."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from launcher.errors import NotFitError, Problem, SpecError
from launcher.supervise import daemon
from launcher.supervise.foreground import Foreground
from tests.integration.harness import wait_for


class Person:
    """Who sits before the terminal: remembers what is shown."""

    def __init__(self, at_each_line: Callable[[], None] = lambda: None) -> None:
        self.said: list[str] = []
        self.told: list[tuple[str, list[str]]] = []
        self._at_each_line = at_each_line

    def say(self, text: str) -> None:
        self.said.append(text)
        self._at_each_line()

    def tell(self, what: str, waiting: Sequence[str]) -> None:
        self.told.append((what, list(waiting)))

    def ask(self, prompt: str) -> str | None:
        return f"[{prompt}]"


class Silent(Person):
    """Who never answers."""

    def ask(self, prompt: str) -> str | None:  # noqa: ARG002
        signal.pause()
        return None


def test_what_the_daemon_says_is_shown_and_what_it_asks_is_answered(tmp_path: Path) -> None:
    person = Person()
    heard = tmp_path / "heard"

    def body(foreground: Foreground) -> None:
        foreground.say("reaching 2 hosts")
        foreground.tell("reaching", ["a", "b"])
        answer = foreground.ask("passphrase of k")
        foreground.ready()
        heard.write_text(f"{answer} {os.getsid(0) == os.getpid()}")

    assert daemon.start(body, tmp_path / "log", person)
    assert person.said == ["reaching 2 hosts"]
    assert person.told == [("reaching", ["a", "b"])]
    wait_for(heard.exists, "the daemon's word")
    wait_for(lambda: heard.read_text().startswith("[passphrase of k]"), "the answer")


@pytest.mark.parametrize(
    "error",
    [
        NotFitError("b: no route", hint="switch it on"),
        SpecError([Problem("x.yaml:1", "hosts", "too few", hint="add one")], hint="mend it"),
    ],
)
def test_the_daemons_error_arrives_whole(tmp_path: Path, error: NotFitError | SpecError) -> None:
    def body(foreground: Foreground) -> None:
        foreground.fail(error)

    with pytest.raises(type(error)) as caught:
        daemon.start(body, tmp_path / "log", Person())
    assert vars(caught.value) == vars(error)


def test_a_daemon_that_ends_without_a_word_is_not_taken_for_ready(tmp_path: Path) -> None:
    def body(foreground: Foreground) -> None:  # noqa: ARG001
        raise RuntimeError("a fault of ours")

    assert not daemon.start(body, tmp_path / "log", Person())
    assert "a fault of ours" in (tmp_path / "log").read_text()


def test_an_interruption_ends_the_daemon_before_the_command(tmp_path: Path) -> None:
    pid = tmp_path / "pid"

    def body(foreground: Foreground) -> None:
        pid.write_text(str(os.getpid()))
        while True:
            foreground.say("still at it")
            time.sleep(0.005)

    def interrupt() -> None:
        if pid.exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        daemon.start(body, tmp_path / "log", Person(interrupt))
    wait_for(lambda: not Path(f"/proc/{pid.read_text()}").exists(), "the daemon's end")


def test_a_command_that_is_killed_leaves_a_daemon_that_goes_on_and_asks_nobody(tmp_path: Path) -> None:
    told, pid = tmp_path / "told", tmp_path / "pid"

    def body(foreground: Foreground) -> None:
        pid.write_text(str(os.getpid()))
        answer = foreground.ask("passphrase")
        told.write_text(f"{answer} {foreground.fail(NotFitError('x'))}")

    child = os.fork()
    if child == 0:
        daemon.start(body, tmp_path / "log", Silent())
        os._exit(0)
    wait_for(pid.exists, "the daemon")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    wait_for(told.exists, "the daemon's next step")
    wait_for(lambda: told.read_text() == "None False", "what it was told")
