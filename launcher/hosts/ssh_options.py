"""Reading ~/.ssh/config: which settings hold for a name.

Rules, order and criteria are those of ssh_config(5). paramiko has a reader too, but it knows no Include, takes criteria
of Match that it does not know for true, runs `Match exec` on the user's terminal, and cannot say where an error stands.
"""

from __future__ import annotations

import fnmatch
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from launcher.errors import NotFitError
from launcher.hosts.ssh_lines import Include, Item, Setting, read_items

USE_OPENSSH = "`transport: openssh` hands this host to the system's ssh, which can"

# Of these a later line adds to an earlier one; of all others the first counts.
_ADDING = {"identityfile", "certificatefile"}
_RIVALS = {"proxyjump": "proxycommand", "proxycommand": "proxyjump"}
_BARE_CRITERIA = {"all", "canonical", "final"}


@dataclass
class Options:
    """What holds for a name. `[key]` is the first line that says it."""

    original: str
    user: str  # of this machine
    settings: dict[str, list[Setting]] = field(default_factory=dict)
    final: bool = False
    wants_final: bool = False

    def get(self, key: str) -> Setting | None:
        found = self.settings.get(key)
        return found[0] if found else None

    def all(self, key: str) -> list[Setting]:
        return self.settings.get(key, [])

    def text(self, key: str, default: str) -> str:
        found = self.get(key)
        return found.value if found else default

    def add(self, setting: Setting) -> None:
        if setting.key == "connecttimeout" and setting.value.lower() == "none":
            return  # which ssh does not tell from one that was never said
        if setting.key in self.settings or _RIVALS.get(setting.key) in self.settings:
            known = self.settings.get(setting.key, [])
            if setting.key in _ADDING and all(setting.args != one.args for one in known):
                known.append(setting)
            return
        self.settings[setting.key] = [setting]

    @property
    def host_name(self) -> str:
        """The name to connect to, as far as it is known."""
        found = self.get("hostname")
        return expand(found, {"h": self.original}) if found else self.original


def matches(patterns: Sequence[str], text: str) -> bool:
    """Whether one of the patterns (`*`, `?`, `!` in front to exclude) fits, and none of the excluding ones does."""
    found = False
    for pattern in patterns:
        wanted = pattern.removeprefix("!")
        # fnmatch knows [sets], ssh does not.
        if fnmatch.fnmatchcase(text, wanted.replace("[", "[[]")):
            if wanted != pattern:
                return False
            found = True
    return found


def expand(setting: Setting, tokens: Mapping[str, str], text: str | None = None) -> str:
    """The setting's value with its %-tokens replaced. Raises NotFitError on one that is not in `tokens`."""

    def replaced(match: re.Match[str]) -> str:
        token = match[1]
        if token == "%":
            return "%"
        if token not in tokens:
            raise NotFitError(f"{setting.where}: %{token} is not understood here", hint=USE_OPENSSH)
        return tokens[token]

    return re.sub(r"%(.?)", replaced, setting.value if text is None else text, flags=re.DOTALL)


class SshConfig:
    """The settings of one or more files, in their order. Immutable once read."""

    def __init__(self, items: Sequence[Item], *, exec_timeout_s: float = 10.0) -> None:
        self._items = tuple(items)
        self._exec_timeout_s = exec_timeout_s

    @classmethod
    def read(cls, path: Path | None = None) -> SshConfig:
        """~/.ssh/config and behind it the machine's file; or, as with `ssh -F`, one given file alone.

        A file that is not there says nothing. Raises NotFitError with file and line on one that cannot be read.
        """
        files = [path] if path else [Path.home() / ".ssh" / "config", Path("/etc/ssh/ssh_config")]
        return cls([item for file in files for item in read_items(file, file.parent, 0)])

    def lookup(self, name: str, *, user: str, given: Mapping[str, str] | None = None) -> Options:
        """What holds for a name. `given` (user, port, …) counts before anything in the files, `user` is the local one.

        Raises NotFitError where a `Match` that may hold cannot be decided.
        """
        options = Options(name, user)
        for key, value in (given or {}).items():
            options.add(Setting("cluster.yaml", key, (value,)))
        self._apply(self._items, options, True)
        if options.wants_final:
            # The name is settled by now: a `Match final` can change anything but that.
            options.settings["hostname"] = [Setting("", "hostname", (options.host_name.replace("%", "%%"),))]
            options.final = True
            self._apply(self._items, options, True)
        return options

    def _apply(self, items: Sequence[Item], options: Options, enclosing: bool) -> None:
        active = enclosing
        for item in items:
            if isinstance(item, Include):
                for included in item.files:
                    self._apply(included, options, active)
            elif item.key == "host":
                name = options.host_name if options.final else options.original
                active = enclosing and matches(item.args, name)
            elif item.key == "match":
                # Asked for anywhere, even where it does not hold, it makes ssh read everything twice.
                options.wants_final |= any(name.removeprefix("!").lower() == "final" for name, _ in _criteria(item))
                active = enclosing and self._holds(item, options)
            elif active:
                options.add(item)

    def _holds(self, match: Setting, options: Options) -> bool:
        undecided = ""
        for criterion, argument in _criteria(match):
            negated, name = criterion.startswith("!"), criterion.removeprefix("!").lower()
            holds = self._criterion(match, name, argument, options)
            if holds is None:
                undecided = name
            elif holds == negated:
                return False
        if undecided:
            raise NotFitError(f"{match.where}: `Match {undecided}` cannot be decided here", hint=USE_OPENSSH)
        return True

    def _criterion(self, match: Setting, name: str, argument: str, options: Options) -> bool | None:
        if name in _BARE_CRITERIA:
            return name == "all" or options.final
        text: dict[str, Callable[[], str]] = {
            "host": lambda: options.host_name,
            "originalhost": lambda: options.original,
            "user": lambda: options.text("user", options.user),
            "localuser": lambda: options.user,
            "tagged": lambda: options.text("tag", ""),
        }
        if name in text:
            return matches(argument.split(","), text[name]())
        if name == "exec":
            return self._succeeds(expand(match, tokens(options), argument), match)
        return None

    def _succeeds(self, command: str, match: Setting) -> bool:
        shell = os.environ.get("SHELL") or "/bin/sh"
        try:
            done = subprocess.run(
                [shell, "-c", command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=self._exec_timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise NotFitError(
                f"{match.where}: the command of `Match exec` has not ended within {self._exec_timeout_s:g} s",
                hint="run it by hand to see what it waits for",
            ) from error
        except OSError as error:
            raise NotFitError(f"{match.where}: the command of `Match exec` cannot be run: {error}") from error
        return done.returncode == 0


def tokens(options: Options) -> dict[str, str]:
    """What %-tokens stand for, for paths and commands."""
    import socket

    name = socket.gethostname()
    return {
        "d": str(Path.home()),
        "h": options.host_name,
        "i": str(os.getuid()),
        "k": options.text("hostkeyalias", options.original),
        "L": name.split(".")[0],
        "l": name,
        "n": options.original,
        "p": options.text("port", "22"),
        "r": options.text("user", options.user),
        "u": options.user,
    }


def _criteria(match: Setting) -> Iterator[tuple[str, str]]:
    words = list(match.args)
    while words:
        name, _, argument = words.pop(0).partition("=")
        if name.removeprefix("!").lower() not in _BARE_CRITERIA and not argument:
            if not words:
                raise NotFitError(f"{match.where}: `Match {name}` lacks what it is to be compared with")
            argument = words.pop(0)
        yield name, argument
