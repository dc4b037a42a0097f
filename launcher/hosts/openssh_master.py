"""A control master: a logged-in `ssh` that commands go through. It ends with this process, however that ends."""

from __future__ import annotations

import os
import random
import shlex
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import NotFitError
from launcher.hosts.mux import Line
from launcher.hosts.openssh_agent import mute_agent
from launcher.hosts.openssh_ask import Asker, Desk
from launcher.hosts.openssh_den import Den
from launcher.hosts.openssh_errors import PinnedKeyError, crowded, explain, last_words, new_key, refusal_of_gate
from launcher.hosts.openssh_login import Login, Settings, is_pin, ssh_program
from launcher.hosts.pipe_channel import Complaints

_PATIENCE_S = 60.0  # for a login behind the handshake: a second factor may be a button on a telephone
_MOST_PAUSE_S = 3.0  # before a server that has too many logins is asked again
_KINDS = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521",
    "rsa-sha2-512,rsa-sha2-256",
)


@dataclass(frozen=True)
class How:
    """What holds for every login of a session."""

    host_keys: str  # known, accept-new, or a fingerprint
    connect_s: float
    alive_s: float  # so long without a sign of life the connection is given up
    asker: Asker | None
    say: Callable[[str], None]


class Master:
    """A login. `run` of commands is `mux`'s business; here is its life."""

    def __init__(self, process: subprocess.Popen[bytes], path: str, log: Complaints, den: Den) -> None:
        self.path = path
        self._process = process
        self._log = log
        self._den = den

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def line(self) -> Line:
        """For one command or question. Raises OSError: the master is gone."""
        self._log.trim()
        return Line(self.path)

    def last_words(self) -> str:
        """What ssh said last to people: why it is gone, if it is."""
        return last_words(self._log.text())

    def refusal(self, of: Settings) -> str:
        """Why this jump host did not lead to an address, if it said so."""
        return refusal_of_gate(self._log.text(1 << 16).replace("\r", ""), of.address, of.port)

    def close(self) -> None:
        """Log out. May be called twice."""
        self._den.end(self._process)
        self._log.close()
        Path(self.path).unlink(missing_ok=True)


def log_in(login: Login, settings: Settings, how: How, gate: Master | None) -> Master:
    """Log in, over `gate` if there is one. Blocks; a person's time to answer is not counted. Raises NotFitError."""
    wrong: PinnedKeyError | None = None
    for kind in (None, *_KINDS):
        try:
            return _log_in(login, settings, how, gate, kind)
        except PinnedKeyError as error:
            # ssh shows one key, and a host has several: the pinned one may be of another kind.
            wrong = wrong or error
        except NotFitError:
            if wrong is None:
                raise
    assert wrong is not None
    raise wrong


def _log_in(login: Login, settings: Settings, how: How, gate: Master | None, kind: str | None) -> Master:
    deadline = time.monotonic() + how.connect_s
    pause = 0.2
    while True:
        try:
            return _Attempt(login, settings, how, gate, kind).result()
        except _CrowdedError as error:
            # Whoever was turned away at the same moment must not come back at the same moment.
            pause = min(pause * 2, _MOST_PAUSE_S)
            wait = random.uniform(0.5, 1.0) * pause
            if time.monotonic() + wait >= deadline or (gate is not None and not gate.alive):
                raise error.why from error
            time.sleep(wait)


class _CrowdedError(Exception):
    def __init__(self, why: NotFitError) -> None:
        super().__init__(why.message)
        self.why = why


class _Attempt:
    """One start of ssh, up to the moment when it takes commands."""

    def __init__(self, login: Login, settings: Settings, how: How, gate: Master | None, kind: str | None) -> None:
        self._login, self._settings, self._how, self._gate = login, settings, how, gate
        self._connect_s = settings.connect_s(how.connect_s)
        self._den = Den.get()
        self._path = self._den.socket()
        self._pin = how.host_keys if is_pin(how.host_keys) else None
        self._log = Complaints()
        self._desk = Desk(how.asker, f"{self._path}.ask", login.host) if how.asker else None
        try:
            self._process = subprocess.Popen(
                self._argv(kind),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._log.fileno(),
                cwd="/",
                env=self._environment(),
                start_new_session=True,  # no terminal: it asks us, and a Ctrl-C is not for it
            )
        except OSError as error:
            self._log.close()
            raise NotFitError(f"{login.host}: ssh cannot be started: {error.strerror}") from error
        self._den.guard(self._process)

    def result(self) -> Master:
        try:
            self._wait()
        except BaseException:
            self._den.end(self._process)
            self._log.close()
            raise
        finally:
            if self._desk:
                self._desk.close()
        if said := new_key(self._log.text(1 << 16)):
            self._how.say(f"{self._login.host}: {said}")
        return Master(self._process, self._path, self._log, self._den)

    def _wait(self) -> None:
        began = time.monotonic()
        pause = 0.002
        while not Path(self._path).exists():
            if self._process.poll() is not None:
                raise self._failure()
            waited = time.monotonic() - began - (self._desk.waited_s if self._desk else 0.0)
            if waited > self._limit():
                raise NotFitError(
                    f"{self._login.host}: {self._settings.place} has not let anybody in for {waited:.0f} s "
                    f"({last_words(self._log.text(), 'not a word from it')})",
                    hint="is the host overloaded, or does a firewall swallow the connection? "
                    "`timeouts.connect` sets how long is waited",
                )
            if self._desk:
                self._desk.serve(pause)
            else:
                time.sleep(pause)
            pause = min(0.02, pause * 1.5)

    def _limit(self) -> float:
        """How long may have passed by now: the handshake is the machines', what follows can be a person's."""
        shaken = "SSH2_MSG_SERVICE_ACCEPT" in self._log.text(1 << 16)
        return self._connect_s + (_PATIENCE_S if shaken else 1.0)

    def _failure(self) -> Exception:
        log = self._log.text(1 << 16).replace("\r", "")
        if self._gate and (refused := self._gate.refusal(self._settings)):
            log += f"\nchannel 0: open failed: {refused}\n"
        asked = self._desk is not None and self._desk.answered
        why = explain(self._login.host, self._settings.place, log, pin=self._pin, asked=asked)
        return _CrowdedError(why) if crowded(log) else why

    def _argv(self, kind: str | None) -> list[str]:
        options: dict[str, str] = {
            "ControlMaster": "yes",
            "ControlPath": self._path,
            "ControlPersist": "no",
            "BatchMode": "no" if self._desk else "yes",
            "ForwardAgent": "no",
            "ForwardX11": "no",
            "ClearAllForwardings": "yes",
            "PermitLocalCommand": "no",
            "RemoteCommand": "none",
            "Tunnel": "no",
            "UpdateHostKeys": "no",
            "StrictHostKeyChecking": "accept-new" if self._how.host_keys == "accept-new" else "yes",
            "ConnectTimeout": str(max(1, round(self._connect_s))),
            "ConnectionAttempts": "1",
            "ServerAliveInterval": str(max(1, round(self._how.alive_s / 4))),
            "ServerAliveCountMax": "3",
            "LogLevel": "DEBUG1",  # tells which key the host shows, and which ones are offered to it
        }
        if self._pin:
            options |= self._pinned(self._pin)
        if kind:
            options["HostKeyAlgorithms"] = kind
        if path := mute_agent(self._settings.values):
            self._how.say(f"{self._login.host}: the ssh-agent at {path} does not answer; its keys are not used")
            options["IdentityAgent"] = "none"
        if self._gate:
            # The command is ours: `ssh -W` over the connection that the hosts behind this gate share.
            words = [ssh_program(), "-F", "none", "-S", self._gate.path, "-o", "ProxyCommand=false"]
            ours = " ".join(shlex.quote(word).replace("%", "%%") for word in words)
            options["ProxyCommand"] = f"{ours} -W '[%h]:%p' gate"
        words = [f"-o{name}={value}" for name, value in options.items()]
        return [ssh_program(), "-N", "-T", *words, *self._login.options, "--", self._login.destination]

    def _pinned(self, pin: str) -> Mapping[str, str]:
        """Instead of its files, ssh asks a script for the keys of the host."""
        script = str(self._den.pin).replace("%", "%%")
        return {
            "KnownHostsCommand": f'/bin/sh "{script}" {pin.rstrip("=")} %f %H %t %K',
            "UserKnownHostsFile": "/dev/null",
            "GlobalKnownHostsFile": "/dev/null",
            "CheckHostIP": "no",
        }

    def _environment(self) -> dict[str, str]:
        env = dict(os.environ)
        for name in ("SSH_ASKPASS", "SSH_ASKPASS_REQUIRE", "LAUNCHER_ASK"):
            env.pop(name, None)
        if self._desk:
            # Before OpenSSH 8.4 the program is asked only where there is a display.
            env |= {"SSH_ASKPASS": str(self._den.asks), "SSH_ASKPASS_REQUIRE": "force"}
            env |= {"LAUNCHER_ASK": self._desk.path, "DISPLAY": env.get("DISPLAY") or ":launcher"}
        return env
