"""Logging in with the system's ssh: keys, questions, ways around corners, and what is said when it does not work."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from launcher.errors import NotFitError
from launcher.hosts.openssh import OpensshSession, connect
from launcher.hosts.openssh_ask import Asker
from launcher.spec.model import HostSpec, Ssh
from tests.integration.harness import ROOT, wait_for
from tests.integration.transports import in_threads, output_of, read_all, status_of
from tests.lab.hosts import make_key
from tests.lab.relay import black_hole, relayed
from tests.lab.sshd import SshHost, SshHosts, sshd_hosts, why_no_sshd

pytestmark = pytest.mark.skipif(bool(why_no_sshd()), reason=why_no_sshd())


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[SshHosts]:
    with sshd_hosts(tmp_path / "lab", 1) as hosts:
        yield hosts


def spec(to: SshHost, host_keys: str = "known", /, **ssh: Any) -> HostSpec:
    address = Ssh(**ssh) if ssh else Ssh(alias=to.name)
    return HostSpec(name=to.name, ssh=address, transport="openssh", host_keys=host_keys)


@contextlib.contextmanager
def session(host: SshHost, host_keys: str = "known", asker: Asker | None = None) -> Iterator[OpensshSession]:
    one = connect(spec(host, host_keys), connect_s=10, config=host.config, asker=asker)
    try:
        yield one
    finally:
        one.close()


def error_of(host: HostSpec, config: Path, *, connect_s: float = 10.0, asker: Asker | None = None) -> NotFitError:
    with pytest.raises(NotFitError) as caught:
        connect(host, connect_s=connect_s, config=config, asker=asker).close()
    return caught.value


def forget(hosts: SshHosts) -> None:
    hosts.known_hosts.write_text("")


def test_an_unknown_host_is_refused_and_its_fingerprint_told(hosts: SshHosts) -> None:
    forget(hosts)
    error = error_of(spec(hosts[0]), hosts.config)
    assert hosts[0].fingerprint in error.message
    assert error.message.startswith("h1:")
    assert "accept-new" in error.hint
    assert hosts.known_hosts.read_text() == ""


def test_a_new_host_is_accepted_once_if_that_is_the_rule(hosts: SshHosts) -> None:
    forget(hosts)
    said: list[str] = []
    for _ in range(2):
        connect(spec(hosts[0], "accept-new"), connect_s=10, config=hosts.config, say=said.append).close()
    assert hosts[0].host_key in hosts.known_hosts.read_text()
    assert len(said) == 1
    assert hosts[0].fingerprint in said[0]


@pytest.mark.parametrize("rule", ["known", "accept-new"])
def test_a_changed_key_is_fatal_and_both_fingerprints_are_shown(hosts: SshHosts, rule: str) -> None:
    before = hosts[0].fingerprint
    hosts[0].new_host_key()
    error = error_of(spec(hosts[0], rule), hosts.config)
    assert before in error.message
    assert hosts[0].fingerprint in error.message
    assert "ssh-keygen -R" in error.hint


def test_a_pinned_key_needs_no_known_hosts_and_another_is_refused(hosts: SshHosts) -> None:
    forget(hosts)
    with session(hosts[0], hosts[0].fingerprint) as one:
        assert output_of(one, "echo in") == b"in\n"
    pinned = hosts[0].fingerprint
    hosts[0].new_host_key()
    error = error_of(spec(hosts[0], pinned), hosts.config)
    assert pinned in error.message
    assert hosts[0].fingerprint in error.message
    assert hosts.known_hosts.read_text() == ""


def test_the_pinned_key_may_be_any_of_the_hosts(tmp_path: Path) -> None:
    make_key(tmp_path / "rsa", kind="rsa")
    with sshd_hosts(tmp_path / "lab", 1, lines=[f"HostKey {tmp_path}/rsa"]) as hosts:
        forget(hosts)
        argv = ["ssh-keygen", "-l", "-f", str(tmp_path / "rsa.pub")]
        pin = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()[1]
        with session(hosts[0], pin) as one:
            assert output_of(one, "echo in") == b"in\n"


def test_an_address_in_full_needs_no_alias(hosts: SshHosts) -> None:
    host = hosts[0]
    full = spec(host, host=host.address, user=host.user, port=host.port, key=str(host.key))
    one = connect(full, connect_s=10, config=hosts.config)
    assert output_of(one, "echo in") == b"in\n"
    one.close()


def test_a_wrong_key_and_a_wrong_user_are_told_with_what_was_tried(hosts: SshHosts, tmp_path: Path) -> None:
    host = hosts[0]
    # ssh adds the keys of its config to the one that is named.
    hosts.config.write_text(re.sub(r"  IdentityFile .*\n", "", hosts.config.read_text()))
    make_key(tmp_path / "other")
    full: dict[str, Any] = {"host": host.address, "port": host.port}
    error = error_of(spec(host, **full, key=str(tmp_path / "other")), hosts.config)
    assert str(tmp_path / "other") in error.message
    assert host.address in error.message
    error = error_of(spec(host, **full, user="nobody-here", key=str(host.key)), hosts.config)
    assert "nobody-here@" in error.message
    error = error_of(spec(host, **full, key=str(tmp_path / "none")), hosts.config)
    assert str(tmp_path / "none") in error.message


def test_a_closed_port_and_an_unknown_name_are_told(hosts: SshHosts) -> None:
    hosts[0].kill()
    error = error_of(spec(hosts[0]), hosts.config)
    assert "nothing listens there" in error.message
    error = error_of(spec(hosts[0], host="no-such-host.invalid"), hosts.config)
    assert "no such name" in error.message


def test_a_host_that_takes_the_connection_and_never_answers_costs_the_timeout(hosts: SshHosts) -> None:
    with black_hole() as port:
        began = time.monotonic()
        error = error_of(spec(hosts[0], host="127.0.0.1", port=port), hosts.config, connect_s=2)
        assert 1.5 < time.monotonic() - began < 4.5
        assert "127.0.0.1" in error.message
        assert "timeouts.connect" in error.hint


@pytest.mark.parametrize("name", ["-oProxyCommand=touch x", "a b", "x;y", "$(id)", "a\nb", ""])
def test_a_name_is_never_taken_for_an_option_or_for_a_command(hosts: SshHosts, name: str) -> None:
    assert "is no name" in error_of(spec(hosts[0], alias=name), hosts.config).message
    assert "is no name" in error_of(spec(hosts[0], host="127.0.0.1", user=name), hosts.config).message
    assert "is no" in error_of(spec(hosts[0], host="127.0.0.1", jump=name), hosts.config).message


def test_all_hosts_behind_a_jump_host_share_one_connection_to_it(tmp_path: Path) -> None:
    # No more than two may be logging in at once: sixteen connections of their own would never all succeed.
    with sshd_hosts(tmp_path / "lab", 8, jump=2, lines=["MaxStartups 3:100:3"]) as hosts:
        sessions: dict[int, OpensshSession] = {}

        def one(n: int) -> None:
            sessions[n] = connect(spec(hosts[n]), connect_s=20, config=hosts.config)
            assert output_of(sessions[n], "echo ~") == f"{hosts[n].home}\n".encode()

        in_threads(8, one)
        for gate in hosts.gates:
            assert gate.log.read_text().count("Accepted publickey") == 1
        for each in sessions.values():
            each.close()
        wait_for(lambda: not masters(), "the jump hosts' connections to be closed with the last host's")


def test_a_gate_that_broke_is_passed_again(tmp_path: Path) -> None:
    with sshd_hosts(tmp_path / "lab", 1, jump=1) as hosts, session(hosts[0]) as first:
        hosts.gates[0].kill()
        wait_for(lambda: not first.alive, "the session to notice")
        error = error_of(spec(hosts[0]), hosts.config)
        assert "jump host gate1" in error.message
        hosts.gates[0].start()
        with session(hosts[0]) as second:
            assert output_of(second, "echo in") == b"in\n"


def test_a_jump_host_in_the_spec_and_a_host_that_it_does_not_reach(tmp_path: Path) -> None:
    with sshd_hosts(tmp_path / "lab", 1, jump=1) as hosts:
        gate, host = hosts.gates[0], hosts[0]
        full: dict[str, Any] = {
            "host": host.address,
            "port": host.port,
            "jump": f"{gate.user}@{gate.address}:{gate.port}",
        }
        one = connect(spec(host, **full), connect_s=10, config=hosts.config)
        assert output_of(one, "echo in") == b"in\n"
        one.close()
        assert "Accepted publickey" in gate.log.read_text()
        host.kill()
        error = error_of(spec(host, **full), hosts.config)
        assert "jump host does not lead" in error.message


def test_a_server_crowded_with_logins_is_tried_again(tmp_path: Path) -> None:
    with sshd_hosts(tmp_path / "lab", 1, lines=["MaxStartups 2:100:2"]) as hosts:

        def one(_: int) -> None:
            with session(hosts[0]) as each:
                assert output_of(each, "echo in") == b"in\n"

        in_threads(6, one)


SECRET = "open sesame 4711"


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[SshHosts]:
    with sshd_hosts(tmp_path / "lab", 2, passphrase=SECRET) as hosts:
        yield hosts


def test_a_passphrase_is_asked_for_once_and_is_nowhere_to_be_seen(locked: SshHosts) -> None:
    asked: list[str] = []

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return SECRET

    asker = Asker(ask)
    with session(locked[0], asker=asker) as first, session(locked[1], asker=asker) as second:
        assert output_of(first, "echo in") == output_of(second, "echo in") == b"in\n"
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                assert SECRET not in " ".join(process.cmdline())
                if process.name() != "pytest":
                    assert SECRET not in " ".join(process.environ().values())
    assert len(asked) == 1
    assert "passphrase" in asked[0]
    assert str(locked.key) in asked[0]


def test_a_wrong_passphrase_is_asked_for_again(locked: SshHosts) -> None:
    answers = iter(["wrong", SECRET])
    with session(locked[0], asker=Asker(lambda _: next(answers))) as one:
        assert output_of(one, "echo in") == b"in\n"


def test_nobody_answers_or_nobody_is_there(locked: SshHosts) -> None:
    error = error_of(spec(locked[0]), locked.config, asker=Asker(lambda _: None))
    assert str(locked.key) in error.message
    error = error_of(spec(locked[0]), locked.config)
    assert "ssh-add" in error.hint
    assert SECRET not in f"{error.message} {error.hint}"


def test_a_person_may_take_longer_than_the_timeout(locked: SshHosts) -> None:
    def slowly(_: str) -> str:
        time.sleep(4)
        return SECRET

    one = connect(spec(locked[0]), connect_s=2, config=locked.config, asker=Asker(slowly))
    one.close()


def test_an_agents_keys_are_used_and_the_agent_is_not_forwarded(locked: SshHosts, tmp_path: Path) -> None:
    socket = tmp_path / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    try:
        wait_for(socket.exists, "the agent")
        ask = tmp_path / "ask"
        ask.write_text(f"#!/bin/sh\necho '{SECRET}'\n")
        ask.chmod(0o700)
        env = {**os.environ, "SSH_AUTH_SOCK": str(socket), "SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force"}
        subprocess.run(["ssh-add", str(locked.key)], env=env, check=True, capture_output=True, stdin=subprocess.DEVNULL)
        text = locked.config.read_text().replace("IdentityAgent none", f"IdentityAgent {socket}\n  ForwardAgent yes")
        locked.config.write_text(text)
        with session(locked[0]) as one:
            assert output_of(one, "echo ${SSH_AUTH_SOCK-none}") == b"none\n"
    finally:
        agent.terminate()
        agent.wait()


def test_what_the_users_config_would_do_on_the_side_is_not_done(hosts: SshHosts, tmp_path: Path) -> None:
    done = tmp_path / "done"
    extra = (
        f"  PermitLocalCommand yes\n  LocalCommand touch {done}\n  RequestTTY force\n  RemoteCommand touch {done}\n"
        "  LocalForward 127.0.0.1:1 127.0.0.1:1\n"
        "  ControlMaster auto\n  ControlPath /nowhere/%C\n  ControlPersist yes\n"
    )
    hosts.config.write_text(hosts.config.read_text() + extra)
    with session(hosts[0]) as one:
        assert output_of(one, "tty; :") == b"not a tty\n"
    assert not done.exists()


def test_a_proxy_command_of_the_users_config_is_followed(hosts: SshHosts, tmp_path: Path) -> None:
    if shutil.which("nc") is None and shutil.which("socat") is None:
        helper = tmp_path / "through.py"
        helper.write_text(
            "import os, socket, sys, threading\n"
            "s = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
            "def up():\n    while d := os.read(0, 65536): s.sendall(d)\n"
            "threading.Thread(target=up, daemon=True).start()\n"
            "while d := s.recv(65536): os.write(1, d)\n"
        )
        command = f"{sys.executable} -I {helper} %h %p"
    else:
        command = "nc %h %p" if shutil.which("nc") else "socat - TCP:%h:%p"
    hosts.config.write_text(hosts.config.read_text() + f"  ProxyCommand {command}\n")
    with session(hosts[0]) as one:
        assert output_of(one, "echo in") == b"in\n"


def test_a_link_that_died_without_a_word_is_given_up(hosts: SshHosts) -> None:
    with relayed(hosts[0]) as (far, relay):
        one = connect(spec(far), connect_s=10, config=far.config, alive_s=4)
        channel = one.run("exec sleep 600")
        assert channel.read() is None
        relay.freeze()
        with pytest.raises(OSError, match=r"Timeout|not responding"):
            read_all(channel, timeout_s=20)
        one.close()


def test_a_stream_that_ends_early_and_cleanly_is_a_broken_connection(hosts: SshHosts) -> None:
    with relayed(hosts[0]) as (far, relay), session(far) as one:
        channel = one.run("head -c 5000000 /dev/zero")
        relay.hang_up_after(1_000_000)
        with pytest.raises(OSError, match="broke"):
            read_all(channel)


def masters() -> list[psutil.Process]:
    """The control masters of this very test."""
    return [one for one in psutil.Process().children(recursive=True) if one.name() == "ssh"]


def test_nothing_of_a_session_is_left_when_it_is_closed(hosts: SshHosts) -> None:
    with session(hosts[0]) as one:
        assert len(masters()) == 1
        output_of(one, "true")
    assert not masters()


def test_a_coordinator_that_is_killed_leaves_no_ssh_and_no_folder(hosts: SshHosts) -> None:
    code = (
        "import sys, pathlib, time\n"
        "from launcher.hosts.openssh import connect\n"
        "from launcher.hosts.openssh_den import Den\n"
        "from launcher.spec.model import HostSpec, Ssh\n"
        "one = connect(HostSpec('h1', ssh=Ssh(alias='h1')), connect_s=10, config=pathlib.Path(sys.argv[1]))\n"
        "channel = one.run('exec cat')\n"
        "print(Den.get().folder, flush=True)\ntime.sleep(600)\n"
    )
    argv = [sys.executable, "-c", code, str(hosts.config)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=ROOT) as owner:
        assert owner.stdout is not None
        folder = Path(owner.stdout.readline().strip())
        assert folder.is_dir()
        assert folder.stat().st_mode & 0o777 == 0o700
        below = psutil.Process(owner.pid).children(recursive=True)
        assert [one for one in below if one.name() == "ssh"]
        owner.kill()
    wait_for(lambda: not folder.exists(), "the end of the folder")
    wait_for(lambda: not [one for one in below if one.is_running() and one.status() != "zombie"], "the end of ssh")


def test_a_command_on_the_host_survives_nothing_but_its_own_end(hosts: SshHosts) -> None:
    """The relay's case: a session that closes ends the command's input, and what it started on purpose lives on."""
    with session(hosts[0]) as one:
        channel = one.run("setsid sleep 600 >/dev/null 2>&1 </dev/null & echo $!; exec cat >/dev/null")
        while (data := channel.read()) is None:
            time.sleep(0.01)
        pid = int(data)
    assert psutil.pid_exists(pid)


def test_the_exit_status_is_known_soon_after_the_end(hosts: SshHosts) -> None:
    with session(hosts[0]) as one:
        channel = one.run("exec >&-; sleep 0.3; exit 5")
        assert read_all(channel) == b""
        assert status_of(channel) == 5
