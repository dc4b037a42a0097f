"""Known, new, changed, pinned and revoked host keys."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from launcher.errors import NotFitError
from launcher.hosts.host_keys import KeyCheck, NotThePinnedKeyError, is_rule
from launcher.hosts.known_hosts import HostKey, add, read
from launcher.hosts.ssh_config import Target

KEY = HostKey("ssh-ed25519", b"\x00\x00\x00\x0bssh-ed25519one")
OTHER = HostKey("ssh-ed25519", b"\x00\x00\x00\x0bssh-ed25519two")
RSA = HostKey("ssh-rsa", b"\x00\x00\x00\x07ssh-rsathree")


def check(file: Path, rule: str = "known", *, said: list[str] | None = None, **changes: object) -> KeyCheck:
    fields: dict[str, object] = {"alias": "a", "address": "gpu.example", "port": 22, "user": "me"}
    target = Target(**{**fields, "known_hosts": (str(file),), **changes})  # type: ignore[arg-type]
    return KeyCheck("h", target, rule, (said if said is not None else []).append)


def written(folder: Path, *lines: str) -> Path:
    file = folder / "known_hosts"
    file.write_text("".join(f"{line}\n" for line in lines))
    return file


def refused(checked: KeyCheck, key: HostKey) -> NotFitError:
    with pytest.raises(NotFitError) as caught:
        checked.judge(key)
    return caught.value


@pytest.mark.parametrize(
    "names", ["gpu.example", "other,gpu.example", "*.example", "*,!cpu.example", "GPU.Example", "HASHED"]
)
@pytest.mark.parametrize("rule", ["known", "accept-new"])
def test_a_known_key_is_taken(tmp_path: Path, names: str, rule: str) -> None:
    file = written(tmp_path, "# a comment", "broken", "a b !", f"{names} {OTHER.line}", f"{names} {KEY.line}")
    if names == "HASHED":
        file.write_text("")
        add(str(file), "gpu.example", KEY, hashed=True)
        assert "gpu" not in file.read_text()
    before = file.read_bytes()
    check(file, rule).judge(KEY)
    assert file.read_bytes() == before


def test_an_unknown_key_is_refused_with_its_fingerprint_and_what_to_do(tmp_path: Path) -> None:
    file = written(tmp_path, f"other,gpu.example.org {KEY.line}")
    error = refused(check(file, port=2222), KEY)
    assert KEY.fingerprint in error.message
    for advice in (
        f"ssh-keyscan -p 2222 gpu.example >> {file}",
        f"[gpu.example]:2222 {KEY.line}",
        f"host_keys: {KEY.fingerprint}",
        "host_keys: accept-new",
    ):
        assert advice in error.hint


def test_behind_a_jump_host_no_scan_is_advised(tmp_path: Path) -> None:
    error = refused(check(tmp_path / "none", via=Target("g", "gate", 22, "me")), KEY)
    assert "keyscan" not in error.hint
    assert KEY.line in error.hint


@pytest.mark.parametrize("rule", ["known", "accept-new"])
@pytest.mark.parametrize("shown", [OTHER, RSA])
def test_a_changed_key_is_fatal_and_both_fingerprints_are_shown(tmp_path: Path, rule: str, shown: HostKey) -> None:
    file = written(tmp_path, "", f"gpu.example {KEY.line}")
    before = file.read_bytes()
    error = refused(check(file, rule), shown)
    assert f"Known: ssh-ed25519 {KEY.fingerprint} in {file}:2" in error.message
    assert f"Shown now: {shown.type} {shown.fingerprint}" in error.message
    assert f"ssh-keygen -R gpu.example -f {file}" in error.hint
    assert file.read_bytes() == before


def test_a_new_key_is_written_down_once(tmp_path: Path) -> None:
    file, said = tmp_path / "ssh" / "known_hosts", list[str]()
    checks = [check(file, "accept-new", said=said) for _ in range(8)]
    threads = [threading.Thread(target=one.judge, args=(KEY,)) for one in checks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert file.read_text() == f"gpu.example {KEY.line}\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert said[0] == f"h: new host key ssh-ed25519 {KEY.fingerprint} added to {file}"
    check(file).judge(KEY)


def test_two_keys_for_one_new_name_are_not_both_taken(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    first, second = check(file, "accept-new"), check(file, "accept-new")
    first.judge(KEY)
    assert "another one than before" in refused(second, OTHER).message


def test_a_new_name_is_hashed_where_others_are_and_a_line_without_end_is_respected(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    add(str(file), "elsewhere", OTHER, hashed=True)
    file.write_text(file.read_text().rstrip("\n"))
    check(file, "accept-new").judge(KEY)
    lines = file.read_text().splitlines()
    assert len(lines) == 2
    assert all(line.startswith("|1|") for line in lines)
    check(file).judge(KEY)


def test_a_new_key_for_a_port_is_written_with_the_port(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    check(file, "accept-new", address="::1", port=2222).judge(KEY)
    assert file.read_text() == f"[::1]:2222 {KEY.line}\n"


def test_nothing_is_kept_where_the_user_keeps_nothing() -> None:
    check(Path("/dev/null"), "accept-new").judge(KEY)


@pytest.mark.skipif("__import__('os').getuid() == 0", reason="root may write anywhere")
def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    file = written(tmp_path)
    file.chmod(0o400)
    assert "cannot be added" in refused(check(file, "accept-new"), KEY).message


def test_a_key_known_without_the_port_is_good_for_all_its_ports(tmp_path: Path) -> None:
    file = written(tmp_path, f"gpu.example {KEY.line}")
    check(file, port=2222).judge(KEY)
    assert "is not known yet" in refused(check(file, port=2222), OTHER).message


def test_an_alias_stands_for_name_and_port(tmp_path: Path) -> None:
    file = written(tmp_path, f"the-gpu {KEY.line}", f"[gpu.example]:2222 {OTHER.line}")
    check(file, port=2222, host_key_alias="the-gpu").judge(KEY)


def test_all_files_count(tmp_path: Path) -> None:
    file = written(tmp_path, f"gpu.example {KEY.line}")
    check(tmp_path / "none", global_known_hosts=(str(file),)).judge(KEY)


def test_only_the_pinned_key_is_taken(tmp_path: Path) -> None:
    file = written(tmp_path, f"gpu.example {OTHER.line}")
    check(file, KEY.fingerprint).judge(KEY)
    check(file, KEY.fingerprint + "=").judge(KEY)
    error = refused(check(file, KEY.fingerprint), OTHER)
    assert isinstance(error, NotThePinnedKeyError)
    assert KEY.fingerprint in error.message
    assert OTHER.fingerprint in error.message


@pytest.mark.parametrize("rule", ["known", "accept-new", KEY.fingerprint])
def test_a_revoked_key_is_fatal_under_every_rule(tmp_path: Path, rule: str) -> None:
    file = written(tmp_path, f"gpu.example {KEY.line}", f"@revoked * {KEY.line}")
    error = refused(check(file, rule), KEY)
    assert f"is revoked by {file}:2" in error.message


def test_a_certificate_authority_is_left_to_the_systems_ssh(tmp_path: Path) -> None:
    file = written(tmp_path, f"@cert-authority *.example {RSA.line}")
    error = refused(check(file), KEY)
    assert "certificate authority" in error.message
    assert "transport: openssh" in error.hint


def test_the_types_that_are_known_are_asked_for_first(tmp_path: Path) -> None:
    file = written(tmp_path, f"gpu.example {RSA.line}", f"gpu.example {KEY.line}", f"@revoked * {OTHER.line}")
    assert check(file).types == ["ssh-rsa", "ssh-ed25519"]
    assert check(file, KEY.fingerprint).types == ["ssh-ed25519"]
    assert check(file, address="new").types == []


@pytest.mark.parametrize(
    ("rule", "good"),
    [
        ("known", True),
        ("accept-new", True),
        (KEY.fingerprint, True),
        ("no", False),
        ("SHA256:short", False),
        ("", False),
    ],
)
def test_rules(tmp_path: Path, rule: str, good: bool) -> None:
    assert is_rule(rule) is good
    if not good:
        with pytest.raises(NotFitError, match="is not understood"):
            check(tmp_path / "none", rule)


def test_hostile_files_say_nothing(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_bytes(
        b"\xff\xfe\n|1|x gpu ssh-rsa AAAA\n|1|a|b ssh-rsa AAAA\n|1|!|! ssh-rsa AAAA\n@what gpu ssh-rsa A\n\0\n"
    )
    assert not any(entry.speaks_of("gpu.example") for entry in read([str(file), str(tmp_path)]))
