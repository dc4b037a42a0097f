"""Whom we can prove to be: the keys of the agent and of files, with passphrases asked once for all hosts."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from paramiko.pkey import UnknownKeyType

from launcher.hosts.agent import Agent, AgentError, AgentKey
from launcher.hosts.key_files import KeyFile, PublicHalf, look_at

if TYPE_CHECKING:
    from launcher.hosts.dial import Deadline
    from launcher.hosts.ssh_config import Target

Ask = Callable[[str], "str | None"]
Sign = Callable[[bytes, str], bytes]
Unlocked = tuple[PublicHalf, Sign]

_AGENT_S = 3.0  # what an agent has for a list of its keys
_DEAD_AGENT_S = 60.0  # for so long one that has not answered is not asked again
_TRIES = 3


@dataclass(frozen=True)
class Identity:
    """A key to log in with."""

    label: str
    public: PublicHalf | None  # None: not known before `unlock`
    ask_server_first: bool  # to unlock it, or to sign with it, may trouble a person
    unlock: Callable[[], Unlocked | None]  # None: no passphrase for it

    @property
    def shown(self) -> str:
        return f"{self.label} ({self.public.type})" if self.public else self.label


class Keyring:
    """Keys and passphrases in memory, for any number of threads."""

    def __init__(self, ask: Ask | None) -> None:
        """`ask(prompt)` returns what a person answers, None if nobody does; called by one thread at a time."""
        self._ask = ask
        self._asking = threading.Lock()
        self._loaded: dict[str, paramiko.PKey | None] = {}
        self._agents = threading.Lock()
        self._dead_agents: dict[str, tuple[float, str]] = {}

    @contextlib.contextmanager
    def identities(self, target: Target, deadline: Deadline, notes: list[str]) -> Iterator[list[Identity]]:
        """What to offer to `target`, in order. `notes` gets what was left out and why."""
        agent, held = self._agent(target.agent, deadline, notes)
        try:
            backed: list[Identity] = []
            plain: list[Identity] = []
            in_order: list[Identity] = []
            for file in _files(target, notes):
                key = next((key for key in held if file.public and key.blob == file.public.blob), None)
                if key is not None and agent is not None:
                    held.remove(key)
                    new = [_of_agent(agent, key, deadline, file.path)]
                    backed += new
                else:
                    new = list(self._of_file(file, deadline, notes))
                    plain += new
                in_order += new
            others = [_of_agent(agent, key, deadline) for key in held] if agent is not None else []
            if target.identities_only:
                yield in_order
            elif target.keys_first:
                yield in_order + others
            else:
                yield backed + others + plain
        finally:
            if agent is not None:
                agent.close()

    def _agent(self, path: str | None, deadline: Deadline, notes: list[str]) -> tuple[Agent | None, list[AgentKey]]:
        if path is None:
            return None, []
        with self._agents:  # so that many hosts wait once for one that does not answer
            since, why = self._dead_agents.get(path, (0.0, ""))
            if why and time.monotonic() - since < _DEAD_AGENT_S:
                notes.append(why)
                return None, []
            try:
                agent = Agent(path, timeout_s=min(_AGENT_S, deadline.left_s / 3))
                try:
                    return agent, [key for key in agent.list_keys() if key.type != "ssh-dss"]
                except AgentError:
                    agent.close()
                    raise
            except AgentError as error:
                self._dead_agents[path] = (time.monotonic(), str(error))
                notes.append(str(error))
                return None, []

    @property
    def asking(self) -> bool:
        """Whether somebody is being asked for a passphrase right now."""
        return self._asking.locked()

    def _of_file(self, file: KeyFile, deadline: Deadline, notes: list[str]) -> Iterator[Identity]:
        def unlock(public: PublicHalf | None) -> Unlocked | None:
            key = self._load(file, deadline, notes)
            if key is None:
                return None
            public = public or PublicHalf(key.get_name(), key.asbytes())
            return public, lambda data, algorithm: _signature(key, data, algorithm)

        ask_first = file.encrypted and self._loaded.get(file.path) is None
        if file.certificate is not None:
            yield Identity(f"{file.path}-cert.pub", file.certificate, ask_first, partial(unlock, file.certificate))
        yield Identity(file.path, file.public, ask_first, partial(unlock, file.public))

    def _load(self, file: KeyFile, deadline: Deadline, notes: list[str]) -> paramiko.PKey | None:
        if not file.encrypted:
            if file.path not in self._loaded:
                self._loaded[file.path] = _read(file.path, None, notes)
            return self._loaded[file.path]
        with deadline.halted(), self._asking:
            if file.path not in self._loaded:
                self._loaded[file.path] = self._unlock(file, notes)
        key = self._loaded[file.path]
        if key is None and not any(file.path in note for note in notes):
            notes.append(f"the passphrase of {file.path} was not given")
        return key

    def _unlock(self, file: KeyFile, notes: list[str]) -> paramiko.PKey | None:
        if self._ask is None:
            notes.append(f"{file.path} has a passphrase, and nobody is there to ask for it: `ssh-add {file.path}`")
            return None
        prompt = f"passphrase of {file.path}"
        for _ in range(_TRIES):
            answer = self._ask(prompt)
            if not answer:
                return None
            key = _read(file.path, answer, [])
            if key is not None:
                return key
            prompt = f"that was not the passphrase of {file.path}; once more"
        notes.append(f"none of {_TRIES} passphrases opened {file.path}")
        return None


def _files(target: Target, notes: list[str]) -> Iterator[KeyFile]:
    for path in target.keys:
        try:
            yield look_at(path)
        except FileNotFoundError:
            if target.keys_named:
                notes.append(f"{path} is not there")
        except OSError as error:
            notes.append(f"{path} cannot be read: {error.strerror}")
        except ValueError as error:
            notes.append(f"{path}: {error}")


def _read(path: str, passphrase: str | None, notes: list[str]) -> paramiko.PKey | None:
    try:
        # Encoded, since of its two readers one takes only bytes.
        read: Any = paramiko.PKey.from_path
        key: paramiko.PKey = read(path, passphrase.encode() if passphrase is not None else None)
        return key
    except OSError as error:
        notes.append(f"{path} cannot be read: {error.strerror}")
    except (paramiko.SSHException, UnknownKeyType, ValueError, TypeError, UnsupportedAlgorithm) as error:
        notes.append(f"{path} cannot be used: {type(error).__name__}")
    return None


def _signature(key: paramiko.PKey, data: bytes, algorithm: str) -> bytes:
    signed = key.sign_ssh_data(data, algorithm)
    return signed if isinstance(signed, bytes) else signed.asbytes()


def _of_agent(agent: Agent, key: AgentKey, deadline: Deadline, path: str = "") -> Identity:
    def sign(data: bytes, algorithm: str) -> bytes:
        return agent.sign(key.blob, data, algorithm, timeout_s=deadline.left_s)

    public = PublicHalf(key.type, key.blob)
    label = f"{path} (held by the agent)" if path else f"the agent's {key.comment or 'key without a name'}"
    return Identity(label, public, True, lambda: (public, sign))
