"""A connection to a machine, and commands that run on it. The rest of the coordinator never knows which kind it is."""

from __future__ import annotations

from abc import ABC, abstractmethod


class Channel(ABC):
    """A command on a host: its standard input, output and errors. For one thread at a time; no call waits."""

    @abstractmethod
    def fileno(self) -> int:
        """The descriptor that turns readable when `read` has something to do."""

    @abstractmethod
    def read(self, most: int = 1 << 18) -> bytes | None:
        """What the command has printed; None if nothing has come; empty at the end of its output.

        A connection that broke raises OSError: its end is never taken for the command's.
        """

    @abstractmethod
    def write(self, data: bytes | memoryview) -> int:
        """Hand to the command what can be taken now; how many bytes that were. Raises OSError when it is gone."""

    @abstractmethod
    def wait_writable(self, timeout_s: float) -> bool:
        """Block until `write` may take something, at most so long; whether it may."""

    @abstractmethod
    def end_input(self) -> None:
        """Close the command's standard input. May be called twice."""

    @abstractmethod
    def errors(self) -> str:
        """The last 4,000 characters or so of what the command has printed on standard error so far.

        Standard error is drained all the time, so that a command that says much there does not hang.
        """

    @abstractmethod
    def exit_status(self) -> int | None:
        """The command's exit status once it is known; negative for a signal where the transport tells it."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the command. May be called twice."""


class Session(ABC):
    """A connection to one machine. `run` may be called from any thread."""

    name: str  # of the host in the spec

    @abstractmethod
    def run(self, command: str) -> Channel:
        """Start a command through the login shell. The command must be a constant of ours: whatever depends on a spec
        or a host goes over its standard input. Raises NotFitError if the connection is gone or takes no more commands.
        """

    @property
    @abstractmethod
    def alive(self) -> bool:
        """Whether the connection has not broken, as far as is known without asking."""

    @abstractmethod
    def close(self) -> None:
        """End the connection and every command on it. May be called twice."""
