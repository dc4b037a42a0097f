"""What a person meets when logging in, the same whoever speaks SSH: agents, passphrases, deadlines, a terminal."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.errors import NotFitError
from launcher.hosts.reach import Reacher, reach
from launcher.hosts.session import Session
from launcher.spec.model import HostSpec, Ssh
from tests.integration.harness import launcher_in, wait_for
from tests.integration.ssh_tools import more
from tests.integration.transports import REMOTE, Transport, output_of
from tests.lab.hosts import make_key
from tests.lab.relay import black_hole
from tests.lab.sshd import SshHosts, sshd_hosts, why_no_sshd

pytestmark = [
    pytest.mark.skipif(why_no_sshd() != "", reason=why_no_sshd()),
    pytest.mark.parametrize("transport", REMOTE),
]
SECRET = "open sesame 4711"


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshHosts]:
    with sshd_hosts(tmp_path_factory.mktemp("lab"), 2) as up:
        yield up


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshHosts]:
    """Hosts that let in a key with a passphrase."""
    with sshd_hosts(tmp_path_factory.mktemp("lab"), 2, passphrase=SECRET) as up:
        yield up


def all_of(
    reacher: Reacher, transport: Transport, *aliases: str, key: Path | None = None
) -> dict[str, Session | NotFitError]:
    """What came of reaching hosts of the config, all at once."""
    ssh = {alias: Ssh(alias=alias, key=str(key) if key else None) for alias in aliases}
    return reach([HostSpec(name=alias, ssh=ssh[alias], transport=transport) for alias in aliases], reacher)


def let_in(reacher: Reacher, transport: Transport, *aliases: str, key: Path | None = None) -> None:
    for found in all_of(reacher, transport, *aliases, key=key).values():
        assert isinstance(found, Session), found
        try:
            assert output_of(found, "echo in") == b"in\n"
        finally:
            found.close()


def kept_out(reacher: Reacher, transport: Transport, *aliases: str) -> list[NotFitError]:
    errors = []
    for found in all_of(reacher, transport, *aliases).values():
        assert isinstance(found, NotFitError)
        errors.append(found)
    return errors


# Agents.


@contextlib.contextmanager
def agent_of_many(folder: Path) -> Iterator[Path]:
    """An agent that holds ten keys, none of which any host takes."""
    path = folder / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL)
    try:
        wait_for(path.exists, "the agent")
        keys = [folder / f"other{number}" for number in range(10)]
        for key in keys:
            make_key(key)
        environment = {**os.environ, "SSH_AUTH_SOCK": str(path)}
        subprocess.run(["ssh-add", "-q", *map(str, keys)], check=True, env=environment, capture_output=True)
        yield path
    finally:
        process.terminate()
        process.wait()


def test_ten_keys_of_an_agent_need_the_right_one_to_be_named(
    hosts: SshHosts, tmp_path: Path, transport: Transport
) -> None:
    with agent_of_many(tmp_path) as path:
        config = more(tmp_path, hosts.config, f"IdentityAgent {path}\nIdentitiesOnly no")
        with Reacher(connect_s=10, config=config) as reacher:
            (error,) = kept_out(reacher, transport, "h1")
            assert "keys" in error.message
            assert "`key:`" in error.hint
            assert "IdentitiesOnly" in error.hint
            let_in(reacher, transport, "h1", key=hosts.key)


def test_an_agent_that_never_answers_keeps_nobody_out(hosts: SshHosts, tmp_path: Path, transport: Transport) -> None:
    path = tmp_path / "agent"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        config = more(tmp_path, hosts.config, f"IdentityAgent {path}")
        begun = time.monotonic()
        with Reacher(connect_s=10, config=config) as reacher:
            let_in(reacher, transport, "h1", "h2")
        assert time.monotonic() - begun < 8


# Certificates.


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshHosts]:
    """A host that shows a certificate and takes those of its own authority; `ca` is in the folder."""
    folder = tmp_path_factory.mktemp("lab")
    make_key(folder / "ca")
    lines = [f"TrustedUserCAKeys {folder / 'ca.pub'}", f"HostCertificate {folder / 'h1' / 'host_key-cert.pub'}"]
    with sshd_hosts(folder, 1, lines=lines) as up:
        names = f"{up[0].address},[{up[0].address}]:{up[0].port}"
        sign(folder / "ca", folder / "h1" / "host_key.pub", "-h", "-n", names)
        up[0].kill()
        up[0].start()
        yield up


def sign(ca: Path, public: Path, *more_words: str) -> None:
    argv = ["ssh-keygen", "-q", "-s", str(ca), "-I", "test", *more_words, str(public)]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)


def test_a_users_certificate_beside_the_key_lets_in(certified: SshHosts, tmp_path: Path, transport: Transport) -> None:
    key = tmp_path / "mine"
    make_key(key)
    allowed = certified[0].authorized_keys
    text = allowed.read_text()
    allowed.write_text("")  # the lab's own key is offered, too
    try:
        with Reacher(connect_s=10, config=certified.config) as reacher:
            (error,) = all_of(reacher, transport, "h1", key=key).values()
            assert isinstance(error, NotFitError)
        sign(certified.folder / "ca", tmp_path / "mine.pub", "-n", certified[0].user)
        with Reacher(connect_s=10, config=certified.config) as reacher:
            let_in(reacher, transport, "h1", key=key)
    finally:
        allowed.write_text(text)


def test_a_hosts_certificate_is_checked_by_the_systems_ssh_and_refused_with_its_name_by_the_other(
    certified: SshHosts, tmp_path: Path, transport: Transport
) -> None:
    known = tmp_path / "known"
    known.write_text(f"@cert-authority * {(certified.folder / 'ca.pub').read_text()}")
    config = more(tmp_path, certified.config, f"UserKnownHostsFile {known}")
    with Reacher(connect_s=10, config=config) as reacher:
        if transport == "openssh":
            let_in(reacher, transport, "h1")
        else:
            (error,) = kept_out(reacher, transport, "h1")
            assert "certificate authority" in error.message
            assert "transport: openssh" in error.hint


# Passphrases.


def test_a_passphrase_that_was_wrong_is_asked_for_once_more_for_all_hosts(
    locked: SshHosts, transport: Transport
) -> None:
    answers, prompts = ["wrong", SECRET], list[str]()

    def ask(prompt: str) -> str:
        prompts.append(prompt)
        return answers.pop(0)

    with Reacher(connect_s=10, config=locked.config, ask=ask) as reacher:
        let_in(reacher, transport, "h1", "h2")
    assert len(prompts) == 2
    assert all(str(locked.key) in prompt for prompt in prompts)
    assert prompts[0] != prompts[1]  # the second says that the first answer was wrong


def test_who_does_not_answer_is_asked_once_and_told_of_the_agent(locked: SshHosts, transport: Transport) -> None:
    prompts: list[str] = []

    def ask(prompt: str) -> None:
        prompts.append(prompt)

    with Reacher(connect_s=10, config=locked.config, ask=ask) as reacher:
        errors = kept_out(reacher, transport, "h1", "h2")
    assert len(prompts) == 1
    for error in errors:
        assert f"takes the key {locked.key}" in error.message
        assert f"ssh-add {locked.key}" in error.hint


@pytest.mark.parametrize("verb", ["check", "ps"])
def test_ctrl_c_at_the_question_leaves_at_once_and_the_terminal_as_it_was(
    locked: SshHosts, tmp_path: Path, transport: Transport, verb: str
) -> None:
    lines = [
        f"  - {{name: {host.name}, ssh: {{host: {host.address}, port: {host.port}, user: {host.user}, "
        f"key: {locked.key}}}, host_keys: '{host.fingerprint}', transport: {transport}}}\n"
        for host in locked
    ]
    with launcher_in(tmp_path / "home") as launcher:
        path = launcher.spec("name: far\nhosts:\n" + "".join(lines))
        terminal = launcher.terminal(verb, str(path))
        wait_for(lambda: str(locked.key) in terminal.read(), "the question")
        assert not echoes(terminal.master)
        terminal.ctrl_c()
        assert terminal.wait(10) == 130
        assert "Traceback" not in terminal.read()
        assert echoes(terminal.master)
        wait_for(lambda: not launcher.alive(), "the end of its ssh, which is ended when its socket closes", 10)


def echoes(terminal: int) -> bool:
    import termios

    return bool(termios.tcgetattr(terminal)[3] & termios.ECHO)


# Deadlines.


def test_every_hop_has_the_connect_timeout_of_the_config_if_that_is_less(
    hosts: SshHosts, tmp_path: Path, transport: Transport
) -> None:
    with black_hole() as port:
        hole = f"HostName 127.0.0.1\nPort {port}\nConnectTimeout 1\n"
        text = f"Host hole\n{hole}Host behind\n{hole}ProxyJump h1\nHost beyond\nHostName 10.0.0.9\nProxyJump hole\n"
        begun = time.monotonic()
        with Reacher(connect_s=30, config=more(tmp_path, hosts.config, text + "Host *")) as reacher:
            errors = kept_out(reacher, transport, "hole", "behind", "beyond")
        assert time.monotonic() - begun < 8
    assert all(f"127.0.0.1 port {port}" in error.message for error in errors)
    assert "UNKNOWN" not in str(errors)


@contextlib.contextmanager
def speaker(words: bytes) -> Iterator[int]:
    """The port of something that says words of its own to everybody, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    line, _ = listener.accept()
                    with line:
                        line.sendall(words)
                        line.recv(4096)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield int(listener.getsockname()[1])
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def test_what_is_no_ssh_server_is_told_at_once(hosts: SshHosts, tmp_path: Path, transport: Transport) -> None:
    with speaker(b"220 mail.example ESMTP\r\n") as port:
        text = f"Host mail\nHostName 127.0.0.1\nPort {port}\nHost *"
        begun = time.monotonic()
        with Reacher(connect_s=10, config=more(tmp_path, hosts.config, text)) as reacher:
            (error,) = kept_out(reacher, transport, "mail")
        assert time.monotonic() - begun < 5
    assert "no SSH server: it begins with “220 mail.example ESMTP”" in error.message


def test_who_is_only_ever_hung_up_on_is_not_tried_for_longer_than_the_deadline(
    hosts: SshHosts, tmp_path: Path, transport: Transport
) -> None:
    with speaker(b"") as port:
        text = f"Host mute\nHostName 127.0.0.1\nPort {port}\nHost *"
        begun = time.monotonic()
        with Reacher(connect_s=2, config=more(tmp_path, hosts.config, text)) as reacher:
            (error,) = kept_out(reacher, transport, "mute")
        assert time.monotonic() - begun < 5
    assert f"127.0.0.1 port {port}" in error.message
