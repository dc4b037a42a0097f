"""Logging in on a real sshd: host keys, users, keys, passphrases, agents, and what is said when it does not work."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.errors import NotFitError
from launcher.hosts.reach import Reacher
from tests.integration.ssh_tools import more, nothing_left, read_all, spec
from tests.lab.hosts import make_key
from tests.lab.sshd import SshHosts, sshd_hosts, why_no_sshd

pytestmark = pytest.mark.skipif(why_no_sshd() != "", reason=why_no_sshd())


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshHosts]:
    folder = tmp_path_factory.mktemp("lab")
    make_key(folder / "rsa_host_key", kind="rsa")
    with sshd_hosts(folder, 2, lines=[f"HostKey {folder / 'rsa_host_key'}", "MaxAuthTries 3"]) as up:
        yield up


def reacher(hosts: SshHosts, folder: Path, text: str = "", **changes: object) -> Reacher:
    arguments: dict[str, object] = {"connect_s": 10.0, "config": more(folder, hosts.config, text), **changes}
    return Reacher(**arguments)  # type: ignore[arg-type]


def greeted(reaching: Reacher, alias: str = "h1", host_keys: str = "known") -> bytes:
    session = reaching.open(spec(alias, host_keys=host_keys))
    try:
        return read_all(session.run("echo hello"))
    finally:
        session.close()


def refused(reaching: Reacher, alias: str = "h1", host_keys: str = "known") -> NotFitError:
    with nothing_left(), pytest.raises(NotFitError) as caught:
        reaching.open(spec(alias, host_keys=host_keys))
    return caught.value


def rsa_fingerprint(hosts: SshHosts) -> str:
    argv = ["ssh-keygen", "-l", "-f", str(hosts.folder / "rsa_host_key.pub")]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()[1]


# Whether the host is the right one.


def test_a_known_host_is_let_through_and_nothing_is_left_behind(hosts: SshHosts, tmp_path: Path) -> None:
    with reacher(hosts, tmp_path) as reaching:
        greeted(reaching)  # imports and caches
        with nothing_left():
            assert greeted(reaching) == b"hello\n"


def test_an_unknown_host_is_refused_with_its_fingerprint(hosts: SshHosts, tmp_path: Path) -> None:
    with reacher(hosts, tmp_path, f"UserKnownHostsFile {tmp_path}/none") as reaching:
        error = refused(reaching)
    assert hosts[0].fingerprint in error.message
    assert hosts[0].host_key in error.hint
    assert not (tmp_path / "none").exists()


def test_a_new_host_is_taken_and_written_down_if_the_spec_says_so(hosts: SshHosts, tmp_path: Path) -> None:
    said: list[str] = []
    file = tmp_path / "known"
    with reacher(hosts, tmp_path, f"UserKnownHostsFile {file}", say=said.append) as reaching:
        assert greeted(reaching, host_keys="accept-new") == b"hello\n"
        assert greeted(reaching, host_keys="known") == b"hello\n"
    assert file.read_text() == f"{hosts[0].known_as} {hosts[0].host_key}\n"
    assert [hosts[0].fingerprint in line for line in said] == [True]


@pytest.mark.parametrize("rule", ["known", "accept-new"])
def test_a_changed_key_is_fatal(hosts: SshHosts, tmp_path: Path, rule: str) -> None:
    file = tmp_path / "known"
    file.write_text(f"{hosts[0].known_as} {hosts[1].host_key}\n")
    with reacher(hosts, tmp_path, f"UserKnownHostsFile {file}") as reaching:
        error = refused(reaching, host_keys=rule)
    assert hosts[0].fingerprint in error.message
    assert hosts[1].fingerprint in error.message


def test_a_host_known_by_one_of_its_keys_is_asked_for_that_one(hosts: SshHosts, tmp_path: Path) -> None:
    file = tmp_path / "known"
    rsa = (hosts.folder / "rsa_host_key.pub").read_text()
    file.write_text(f"{hosts[0].known_as} {rsa}\n")
    with reacher(hosts, tmp_path, f"UserKnownHostsFile {file}") as reaching:
        assert greeted(reaching) == b"hello\n"


def test_a_pinned_key_of_any_type_is_found(hosts: SshHosts, tmp_path: Path) -> None:
    with reacher(hosts, tmp_path, f"UserKnownHostsFile {tmp_path}/none") as reaching:
        assert greeted(reaching, host_keys=hosts[0].fingerprint) == b"hello\n"
        assert greeted(reaching, host_keys=rsa_fingerprint(hosts)) == b"hello\n"


def test_another_key_than_the_pinned_one_is_fatal(hosts: SshHosts, tmp_path: Path) -> None:
    with reacher(hosts, tmp_path) as reaching:
        error = refused(reaching, host_keys=hosts[1].fingerprint)
    assert hosts[1].fingerprint in error.message
    assert "pinned" in error.message


# Whether we are.


def test_a_wrong_user_is_told_which_keys_were_offered(
    hosts: SshHosts, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with reacher(hosts, tmp_path, "User nobody-of-that-name") as reaching:
        error = refused(reaching)
    assert capfd.readouterr() == ("", "")
    assert "nobody-of-that-name@127.0.0.2" in error.message
    assert f"{hosts.key} (ssh-ed25519)" in error.message
    assert "it takes: publickey" in error.message
    assert f"ssh-copy-id -p {hosts[0].port} nobody-of-that-name@127.0.0.2" in error.hint


def test_a_wrong_key_is_refused(hosts: SshHosts, tmp_path: Path) -> None:
    make_key(tmp_path / "other")
    config = tmp_path / "config"
    text = hosts.config.read_text().replace(f"IdentityFile {hosts.key}", f"IdentityFile {tmp_path / 'other'}")
    config.write_text(text)
    with Reacher(connect_s=10, config=config) as reaching:
        error = refused(reaching)
    assert f"{tmp_path / 'other'} (ssh-ed25519)" in error.message


def test_without_any_key_it_says_so(hosts: SshHosts, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(hosts.config.read_text().replace(f"{hosts.key}", f"{tmp_path}/missing"))
    with Reacher(connect_s=10, config=config) as reaching:
        error = refused(reaching)
    assert "there is no key to log in with" in error.message
    assert f"{tmp_path}/missing is not there" in error.message


@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
def test_keys_of_other_types_are_let_in(hosts: SshHosts, tmp_path: Path, kind: str) -> None:
    public = make_key(tmp_path / kind, kind=kind)
    with allowed(hosts, public), reacher(hosts, tmp_path, f"IdentityFile {tmp_path / kind}") as reaching:
        assert greeted(reaching) == b"hello\n"


@contextlib.contextmanager
def allowed(hosts: SshHosts, public: str) -> Iterator[None]:
    """For a while, no key but this one."""
    before = [(host, host.authorized_keys.read_text()) for host in hosts]
    for host in hosts:
        host.authorized_keys.write_text(f"{public}\n")
    try:
        yield
    finally:
        for host, text in before:
            host.authorized_keys.write_text(text)


def test_too_many_keys_get_the_advice_to_name_one(hosts: SshHosts, tmp_path: Path) -> None:
    keys = [tmp_path / f"key{number}" for number in range(4)]
    for key in keys:
        make_key(key)
    with reacher(hosts, tmp_path, "\n".join(f"IdentityFile {key}" for key in keys)) as reaching:
        error = refused(reaching)
    assert "Too many authentication failures" in error.message
    assert str(keys[0]) in error.message
    assert "IdentitiesOnly" in error.hint


# Passphrases.


@pytest.fixture
def locked(hosts: SshHosts, tmp_path: Path) -> Iterator[Path]:
    public = make_key(tmp_path / "locked", "open sesame")
    with allowed(hosts, public):
        yield tmp_path / "locked"


def test_a_passphrase_is_asked_once_for_all_hosts(hosts: SshHosts, tmp_path: Path, locked: Path) -> None:
    answers, prompts = ["wrong", "open sesame"], list[str]()

    def ask(prompt: str) -> str | None:
        prompts.append(prompt)
        return answers.pop(0)

    config = tmp_path / "config"
    config.write_text(hosts.config.read_text().replace(str(hosts.key), str(locked)))
    with Reacher(connect_s=10, config=config, ask=ask) as reaching:
        assert [greeted(reaching, alias) for alias in ("h1", "h2", "h1")] == [b"hello\n"] * 3
    assert prompts == [f"passphrase of {locked}", f"that was not the passphrase of {locked}; once more"]


def test_no_passphrase_is_asked_for_a_key_that_the_host_does_not_want(
    hosts: SshHosts, tmp_path: Path, locked: Path
) -> None:
    make_key(tmp_path / "unwanted", "secret")
    prompts: list[str] = []
    text = f"IdentityFile {tmp_path / 'unwanted'}\nIdentityFile {locked}"
    with reacher(hosts, tmp_path, text, ask=lambda prompt: prompts.append(prompt) or "open sesame") as reaching:  # type: ignore[func-returns-value]
        assert greeted(reaching) == b"hello\n"
    assert prompts == [f"passphrase of {locked}"]


def test_a_person_may_think_longer_than_the_deadline(hosts: SshHosts, tmp_path: Path, locked: Path) -> None:
    def ask(_: str) -> str:
        time.sleep(3.2)
        return "open sesame"

    with reacher(hosts, tmp_path, f"IdentityFile {locked}", ask=ask, connect_s=3.0) as reaching:
        assert greeted(reaching) == b"hello\n"


@pytest.mark.parametrize("answer", [None, "wrong"])
def test_without_the_passphrase_it_says_so_and_asks_nobody_twice(
    hosts: SshHosts, tmp_path: Path, locked: Path, answer: str | None
) -> None:
    prompts: list[str] = []
    text = f"IdentityFile {locked}"
    with reacher(hosts, tmp_path, text, ask=lambda prompt: prompts.append(prompt) or answer) as reaching:  # type: ignore[func-returns-value]
        errors = [refused(reaching, alias) for alias in ("h1", "h2")]
    assert all(f"takes the key {locked}, but" in error.message for error in errors)
    assert len(prompts) == (1 if answer is None else 3)
    assert "wrong" not in str(errors)


def test_with_nobody_to_ask_the_agent_is_advised(hosts: SshHosts, tmp_path: Path, locked: Path) -> None:
    with reacher(hosts, tmp_path, f"IdentityFile {locked}") as reaching:
        assert f"ssh-add {locked}" in refused(reaching).message


# Agents.


@contextlib.contextmanager
def agent(folder: Path, *keys: Path) -> Iterator[Path]:
    path = folder / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while not path.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        argv = ["ssh-add", "-q", *map(str, keys)]
        subprocess.run(argv, check=True, env={**os.environ, "SSH_AUTH_SOCK": str(path)}, capture_output=True)
        yield path
    finally:
        process.terminate()
        process.wait()


@pytest.mark.skipif(shutil.which("ssh-agent") is None, reason="no ssh-agent is installed")
@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
def test_the_agents_keys_are_used(hosts: SshHosts, tmp_path: Path, kind: str) -> None:
    make_key(tmp_path / "first")
    public = make_key(tmp_path / "key", kind=kind)
    config = tmp_path / "config"
    text = hosts.config.read_text().replace("IdentityAgent none", "").replace("IdentitiesOnly yes", "")
    config.write_text(text.replace(f"IdentityFile {hosts.key}", "IdentityFile none"))
    with allowed(hosts, public), agent(tmp_path, tmp_path / "first", tmp_path / "key") as path:
        (tmp_path / "key").unlink()
        with Reacher(connect_s=10, config=more(tmp_path, config, f"IdentityAgent {path}")) as reaching:
            assert greeted(reaching) == b"hello\n"


@pytest.mark.skipif(shutil.which("ssh-agent") is None, reason="no ssh-agent is installed")
def test_the_agent_signs_for_a_file_whose_passphrase_it_has(hosts: SshHosts, tmp_path: Path) -> None:
    public = make_key(tmp_path / "key")
    with allowed(hosts, public), agent(tmp_path, tmp_path / "key") as path:
        argv = ["ssh-keygen", "-q", "-p", "-N", "secret", "-f", str(tmp_path / "key")]
        subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
        text = f"IdentityAgent {path}\nIdentityFile {tmp_path / 'key'}"
        with reacher(hosts, tmp_path, text) as reaching:  # nobody is there to be asked
            assert greeted(reaching) == b"hello\n"


def test_an_agent_that_never_answers_costs_its_few_seconds_once(hosts: SshHosts, tmp_path: Path) -> None:
    path = tmp_path / "agent"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        with reacher(hosts, tmp_path, f"IdentityAgent {path}", connect_s=6.0) as reaching:
            start = time.monotonic()
            assert greeted(reaching) == b"hello\n"
            assert time.monotonic() - start < 5
            start = time.monotonic()
            assert greeted(reaching, "h2") == b"hello\n"
            assert time.monotonic() - start < 2


@pytest.mark.parametrize("answer", [b"", b"\0\0\0\1\5", b"\xff\xff\xff\xff", b"\0\0\0\x05\x0c\0\0\0\x09"])
def test_an_agent_that_answers_nonsense_is_passed_over_and_told_of(
    hosts: SshHosts, tmp_path: Path, answer: bytes
) -> None:
    path = tmp_path / "agent"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def serve() -> None:
            with server.accept()[0] as client:
                client.recv(100)
                client.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        text = f"IdentityAgent {path}\nUser nobody-of-that-name"
        with reacher(hosts, tmp_path, text) as reaching, pytest.raises(NotFitError) as caught:
            reaching.open(spec("h1"))
        thread.join(5)
    assert f"ssh-agent at {path}" in caught.value.message
