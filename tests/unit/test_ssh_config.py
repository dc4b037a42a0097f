"""From a host of the spec and ~/.ssh/config to a target."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.errors import NotFitError
from launcher.hosts.ssh_config import Target, resolve
from launcher.hosts.ssh_options import SshConfig
from launcher.spec.model import HostSpec, Ssh


def target(folder: Path, text: str, ssh: Ssh) -> Target:
    path = folder / "config"
    path.write_text(text)
    return resolve(HostSpec("h", ssh=ssh), SshConfig.read(path))


def refused(folder: Path, text: str, ssh: Ssh) -> NotFitError:
    with pytest.raises(NotFitError) as caught:
        target(folder, text, ssh)
    return caught.value


def test_an_alias_has_all_that_its_block_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYS", "/keys")
    text = """
        Host gpu
            HostName 10.0.0.9
            User trainer
            Port 2222
            IdentityFile ${KEYS}/%r@%h
            IdentityFile %d/second
            IdentitiesOnly yes
            IdentityAgent /run/agent
            UserKnownHostsFile ~/known "/with space/known"
            GlobalKnownHostsFile none
            HostKeyAlias the-gpu
            HashKnownHosts yes
            ConnectTimeout 1m30
            AddressFamily inet6
            GSSAPIAuthentication yes
            CertificateFile ~/cert
    """
    home = str(Path.home())
    assert target(tmp_path, text, Ssh(alias="gpu")) == Target(
        alias="gpu",
        address="10.0.0.9",
        port=2222,
        user="trainer",
        keys=("/keys/trainer@10.0.0.9", f"{home}/second"),
        keys_named=True,
        identities_only=True,
        agent="/run/agent",
        known_hosts=(f"{home}/known", "/with space/known"),
        host_key_alias="the-gpu",
        hash_known_hosts=True,
        connect_timeout_s=90.0,
        family="inet6",
        other_ways=("CertificateFile",),
    )


def test_an_explicit_address_counts_before_the_file(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.touch()
    text = "Host *\n User file\n Port 1\n IdentityFile /k\n ConnectTimeout 3\n"
    found = target(tmp_path, text, Ssh(host="10.0.0.9", user="spec", port=2222, key=str(key)))
    assert (found.address, found.user, found.port) == ("10.0.0.9", "spec", 2222)
    assert (found.keys, found.keys_first, found.connect_timeout_s) == ((str(key), "/k"), True, 3.0)


def test_without_a_file_the_usual_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/mine")
    found = target(tmp_path, "", Ssh(alias="gpu"))
    ssh = Path.home() / ".ssh"
    assert (found.address, found.port, found.via, found.agent) == ("gpu", 22, None, "/run/mine")
    assert found.keys == (str(ssh / "id_ed25519"), str(ssh / "id_ecdsa"), str(ssh / "id_rsa"))
    assert found.known_hosts == (str(ssh / "known_hosts"), str(ssh / "known_hosts2"))
    assert not found.keys_named


@pytest.mark.parametrize(
    ("agent", "path"), [("none", None), ("SSH_AUTH_SOCK", "/run/mine"), ("$OTHER", "/run/other"), ("~/a", "HOME/a")]
)
def test_where_the_agent_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, agent: str, path: str | None) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/mine")
    monkeypatch.setenv("OTHER", "/run/other")
    found = target(tmp_path, f"IdentityAgent {agent}\n", Ssh(alias="gpu")).agent
    assert found == (path.replace("HOME", str(Path.home())) if path else None)


def test_jumps_are_looked_up_and_lead_over_each_other(tmp_path: Path) -> None:
    text = """
        Host gpu
            ProxyJump me@outer:2200,inner
        Host outer
            HostName outer.example
            Port 22
            ProxyJump far
        Host inner
            User in
            ProxyCommand nc %h %p
        Host far
            ProxyJump none
    """
    chain = target(tmp_path, text, Ssh(alias="gpu")).chain
    assert [one.alias for one in chain] == ["far", "outer", "inner", "gpu"]
    assert (chain[1].address, chain[1].user, chain[1].port) == ("outer.example", "me", 2200)
    assert chain[2].user == "in"
    assert chain[3].via == chain[2]


def test_the_jump_of_the_spec_counts_before_the_file(tmp_path: Path) -> None:
    text = "Host gpu\n ProxyCommand nc %h %p\n"
    found = target(tmp_path, text, Ssh(host="gpu", jump="[fe80::1]:2222"))
    assert found.via is not None
    assert (found.via.address, found.via.port) == ("fe80::1", 2222)
    assert target(tmp_path, "Host gpu\n ProxyJump gate\n", Ssh(host="gpu", jump="none")).via is None


def test_equal_jumps_are_equal_values(tmp_path: Path) -> None:
    text = "Host gpu*\n ProxyJump gate\n"
    assert target(tmp_path, text, Ssh(alias="gpu1")).via == target(tmp_path, text, Ssh(alias="gpu2")).via


def test_a_loop_of_jumps_is_refused(tmp_path: Path) -> None:
    error = refused(tmp_path, "Host a\n ProxyJump b\nHost b\n ProxyJump a\n", Ssh(alias="a"))
    assert "or a loop" in error.message
    assert "config:" in error.message


@pytest.mark.parametrize("jump", ["", "a b", "user@", "host:port", "://x"])
def test_a_jump_that_is_none_is_refused(tmp_path: Path, jump: str) -> None:
    assert "no jump host" in refused(tmp_path, f'Host a\n ProxyJump "x,{jump}"\n', Ssh(alias="a")).message


@pytest.mark.parametrize(
    "line",
    [
        "ProxyCommand nc %h %p",
        "PKCS11Provider /usr/lib/token.so",
        "CanonicalizeHostname yes",
        "BindAddress 10.0.0.1",
        "RevokedHostKeys /etc/revoked",
        "IdentityFile /keys/%C",
    ],
)
def test_what_only_the_systems_ssh_can_do_is_refused_and_says_so(tmp_path: Path, line: str) -> None:
    error = refused(tmp_path, f"Host a\n {line}\n", Ssh(alias="a"))
    assert error.message.startswith(f"h: {tmp_path}/config:2: ")
    assert "transport: openssh" in error.hint


@pytest.mark.parametrize("line", ["ProxyCommand none", "PKCS11Provider none", "CanonicalizeHostname no"])
def test_what_is_switched_off_is_not_refused(tmp_path: Path, line: str) -> None:
    assert target(tmp_path, f"Host a\n {line}\n", Ssh(alias="a")).address == "a"


@pytest.mark.parametrize(
    "line", ["Port 0", "Port ssh", "Port 70000", "ConnectTimeout soon", "IdentityFile ${NOT_SET_}/a"]
)
def test_a_value_that_makes_no_sense_is_named(tmp_path: Path, line: str) -> None:
    assert "config:1: " in refused(tmp_path, f"{line}\n", Ssh(alias="a")).message


def test_a_key_of_the_spec_that_is_not_there_is_refused(tmp_path: Path) -> None:
    error = refused(tmp_path, "", Ssh(host="a", key=str(tmp_path / "none")))
    assert "none is not there" in error.message


@pytest.mark.parametrize(
    ("address", "port", "known_as"),
    [
        ("10.0.0.1", 22, "10.0.0.1"),
        ("GPU.example", 2222, "[gpu.example]:2222"),
        ("::1", 22, "::1"),
        ("::1", 1, "[::1]:1"),
    ],
)
def test_the_name_in_known_hosts(address: str, port: int, known_as: str) -> None:
    assert Target("a", address, port, "me").known_as == known_as
