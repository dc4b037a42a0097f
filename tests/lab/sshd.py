"""Hosts on this machine, reached by real SSH: an sshd for each on 127.0.0.2, 127.0.0.3 … with a home of its own.

They share this machine's disk, processes and user; `netns` has hosts with a network of their own. No root is needed:
as root, root logs in; as anyone else, that one.
"""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.lab.hosts import (
    Setting,
    SshHost,
    SshHosts,
    bring_up,
    find_shell,
    greet,
    make_key,
    own_shell,
    prepare,
    quoted,
    sshd_argv,
    why_no_sshd,
    write_client,
)
from tests.lab.machine import LabError

__all__ = ["LabError", "SshHost", "SshHosts", "make_key", "sshd_hosts", "why_no_sshd"]


@contextlib.contextmanager
def sshd_hosts(
    folder: Path,
    count: int = 2,
    *,
    jump: int = 0,
    first: int = 2,
    lines: Sequence[str] = (),
    shell: str | None = None,
    banner: str = "",
    greeting: str = "",
    passphrase: str = "",
) -> Iterator[SshHosts]:
    """`count` hosts named h1, h2 … from 127.0.0.`first` on, up and answering; ended with everything on them at exit.

    `jump` hosts, gate1 …, come before them: the aliases of h1 … lead through all of those. `lines` are added to every
    sshd_config (`MaxStartups 10:30:100`). `shell` is a path or a name, found by PATH. Raises LabError.
    """
    reason = why_no_sshd()
    if reason:
        raise LabError(reason)
    setting = Setting(tuple(lines), shell, banner, greeting, passphrase)
    folder = folder.absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    make_key(folder / "key", passphrase)
    names = [f"gate{n + 1}" for n in range(int(jump))] + [f"h{n + 1}" for n in range(count)]
    made = [_host(folder, name, f"127.0.0.{first + n}") for n, name in enumerate(names)]
    hosts = SshHosts(folder, made[: int(jump)], made[int(jump) :])
    with contextlib.ExitStack() as stack:
        for host in made:
            stack.callback(host.close)
        for host in made:
            prepare(host, setting, _logins(host, setting))
        write_client(hosts)
        for host in made:
            host.spawn((), sshd_argv(host))
        bring_up(made)
        yield hosts


def _host(folder: Path, name: str, address: str) -> SshHost:
    port = _free_port(address)
    return SshHost(name, folder / name, address, port, folder / "key", folder / "known_hosts", folder / "ssh_config")


def _free_port(address: str) -> int:
    """Below the ephemeral ports, so that it is free again when a host that was killed comes back."""
    for port in random.SystemRandom().sample(range(10000, 20000), 100):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind((address, port))
            return port
    raise LabError(f"no port of {address} is free")


def _logins(host: SshHost, setting: Setting) -> list[str]:
    """How the user whom this machine has gets another home, and another shell if one was asked for."""
    shell = own_shell() if setting.shell is None else find_shell(setting.shell)
    host.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if setting.greeting:
        greet(host.home, shell, setting.greeting)
    # sshd sets this last, after everything that it knows of the user.
    lines = [f"AuthorizedKeysFile {quoted(host.authorized_keys)}", f'SetEnv "HOME={host.home}"']
    if shell.name != own_shell().name:
        lines.append(f"ForceCommand exec {quoted(_login(host.folder, shell))}")
    return lines


def _login(folder: Path, shell: Path) -> Path:
    """A script that hands each command to another login shell than the user's own, as sshd would."""
    script = folder / "login"
    script.write_text(
        f'#!/bin/sh\nexport SHELL={shell}\n[ -n "$SSH_ORIGINAL_COMMAND" ] || exec {shell} -l\n'
        f'command=$SSH_ORIGINAL_COMMAND\nunset SSH_ORIGINAL_COMMAND\nexec {shell} -c "$command"\n'
    )
    script.chmod(0o700)
    return script
