"""What ~/.ssh/config says for a name, checked against ssh itself where it is installed."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import pytest

from launcher.errors import NotFitError
from launcher.hosts.ssh_lines import split
from launcher.hosts.ssh_options import Options, SshConfig, matches

_VALUES = {
    "hostname": ["%h.example", "real", "b1"],
    "user": ["u1", "u2"],
    "port": ["2201", "2222"],
    "proxyjump": ["none", "gate", "x@gate:22,[::1]:23"],
    "proxycommand": ["none", "nc %h %p"],
    "hostkeyalias": ["alias"],
    "connecttimeout": ["5", "none"],
    "identityfile": ["/k1", "/k2", "/k3"],
}
COMPARED = ("hostname", "user", "port", "proxyjump", "hostkeyalias", "connecttimeout", "identityfile")


def look_up(folder: Path, text: str, name: str, **given: str) -> Options:
    path = folder / "config"
    path.write_text(text)
    return SshConfig.read(path).lookup(name, user="me", given=given)


def said(options: Options, key: str) -> list[str]:
    return [setting.value for setting in options.all(key)]


def test_the_first_value_counts_and_identity_files_add_up(tmp_path: Path) -> None:
    text = """
        User early
        Host gpu-*
            Port 2201
            IdentityFile ~/a
        Host *
            User late
            Port 22
            IdentityFile ~/b
            IdentityFile ~/a
    """
    options = look_up(tmp_path, text, "gpu-1")
    assert (said(options, "user"), said(options, "port")) == (["early"], ["2201"])
    assert said(options, "identityfile") == ["~/a", "~/b"]


def test_what_the_spec_gives_counts_before_the_file(tmp_path: Path) -> None:
    options = look_up(tmp_path, "Host a\n User file\n Port 1\nMatch user spec\n HostName by-user\n", "a", user="spec")
    assert (options.text("user", ""), options.host_name) == ("spec", "by-user")


@pytest.mark.parametrize(
    ("patterns", "text", "fits"),
    [
        ("gpu-*", "gpu-1", True),
        ("gpu-?", "gpu-10", False),
        ("* !gpu-3", "gpu-3", False),
        ("!gpu-3 *", "gpu-4", True),
        ("!gpu-3", "gpu-4", False),
        ("a[12]", "a1", False),
        ("a[12]", "a[12]", True),
    ],
)
def test_patterns_are_those_of_ssh(patterns: str, text: str, fits: bool) -> None:
    assert matches(patterns.split(), text) is fits


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a  b\tc", ["a", "b", "c"]),
        ('"a b" c', ["a b", "c"]),
        ("a # b", ["a"]),
        ("a#b", ["a#b"]),
        (r"a\ b", ["a b"]),
        (r'"a\"b"', ['a"b']),
        ("''", [""]),
    ],
)
def test_words_of_a_line(line: str, words: list[str]) -> None:
    assert split(line) == words


@pytest.mark.parametrize(
    ("match", "holds"),
    [
        ("all", True),
        ("host real", True),
        ("host a", False),
        ("originalhost a", True),
        ("!originalhost a", False),
        ("user me", True),
        ("localuser me,you", True),
        ("exec true", True),
        ("exec false", False),
        ('exec "test %h = real && test %n = a && test %r = me"', True),
        ("!exec false", True),
        ("host real user nobody", False),
        ("final", True),
        ("final host real", True),
        ("tagged t", True),
        ("tagged u", False),
    ],
)
def test_criteria_of_match(tmp_path: Path, match: str, holds: bool) -> None:
    options = look_up(tmp_path, f"Host a\n HostName real\n Tag t\nMatch {match}\n Port 2222\n", "a")
    assert (options.text("port", "22") == "2222") is holds


def test_a_match_that_cannot_be_decided_is_told_only_where_it_might_hold(tmp_path: Path) -> None:
    text = "Match host a localnetwork 10.0.0.0/8\n Port 2222\n"
    assert look_up(tmp_path, text, "b").get("port") is None
    with pytest.raises(NotFitError, match=r"config:1: `Match localnetwork` cannot be decided") as caught:
        look_up(tmp_path, text, "a")
    assert "transport: openssh" in caught.value.hint


def test_a_command_of_match_that_hangs_has_a_deadline(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text('Match exec "sleep 60"\n Port 1\n')
    config = SshConfig.read(path)
    config._exec_timeout_s = 0.2
    with pytest.raises(NotFitError, match=r"config:1: .* has not ended within 0.2 s"):
        config.lookup("a", user="me")


def test_included_files_keep_to_the_block_that_includes_them(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "1.conf").write_text("Host b\n Port 1\n")
    (tmp_path / "d" / "2.conf").write_text("Port 2\n")
    text = "Host a\n Include d/*.conf nothing-there\n User u\nHost *\n Port 3\n"
    assert look_up(tmp_path, text, "a").text("port", "") == "2"
    assert look_up(tmp_path, text, "a").text("user", "") == "u"
    assert look_up(tmp_path, text, "b").text("port", "") == "3"


def test_files_that_include_each_other_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFitError, match="include each other"):
        look_up(tmp_path, "Include config\n", "a")


@pytest.mark.parametrize(
    ("text", "where"), [('Host a\n User "me\n', "config:2: a quote"), ("\n\nPort\n", "config:3: a keyword")]
)
def test_a_broken_line_is_named(tmp_path: Path, text: str, where: str) -> None:
    with pytest.raises(NotFitError, match=where):
        look_up(tmp_path, text, "a")


def test_a_command_may_have_any_quotes(tmp_path: Path) -> None:
    assert look_up(tmp_path, "RemoteCommand echo it's\nProxyCommand none\n", "a").text("proxycommand", "") == "none"


def test_a_file_that_is_not_there_says_nothing(tmp_path: Path) -> None:
    assert SshConfig.read(tmp_path / "none").lookup("a", user="me").settings == {}


@pytest.mark.skipif(shutil.which("ssh") is None, reason="no ssh is installed")
def test_random_files_mean_what_they_mean_to_ssh(tmp_path: Path) -> None:
    dice = random.Random(7)
    path = tmp_path / "config"
    for _ in range(60):
        path.write_text(_random_config(dice, tmp_path))
        config = SshConfig.read(path)
        for name in ("a", "ab", "b1"):
            assert _ours(config, name) == _of_ssh(path, name), path.read_text()


def _random_config(dice: random.Random, folder: Path) -> str:
    def settings() -> list[str]:
        keys = dice.sample(sorted(_VALUES), dice.randint(0, 4))
        return [f"  {key}{dice.choice([' ', ' = ', '='])}{dice.choice(_VALUES[key])}" for key in keys]

    def head() -> str:
        return dice.choice(
            [
                f"Host {dice.choice(['a', 'a*', '*', '* !a', 'b? ab', '!b1 a b1'])}",
                f"Match {dice.choice(['host', 'originalhost', '!host'])} {dice.choice(['a', 'a*,b1', 'real', '*'])}",
                f"Match user {dice.choice(['u1', 'u2', '!u1,*'])}",
                f"Match originalhost a {dice.choice(['exec true', 'exec false', '!exec false', 'final'])}",
                dice.choice(["Match all", "Match final", "Match final host b1"]),
            ]
        )

    lines = settings()
    for number in range(dice.randint(1, 4)):
        lines += [head(), *settings()]
        if dice.random() < 0.4:
            included = folder / f"included{number}"
            included.write_text("\n".join([*settings(), head(), *settings()]) + "\n")
            lines.append(f"Include {included}")
            lines += settings()
    return "\n".join(lines) + "\n"


def _ours(config: SshConfig, name: str) -> dict[str, list[str]]:
    options = config.lookup(name, user="nobody-else")
    found = {key: said(options, key) for key in COMPARED}
    found["hostname"] = [options.host_name.lower()]
    return {key: [value for value in values if value.lower() != "none"] for key, values in found.items()}


def _of_ssh(path: Path, name: str) -> dict[str, list[str]]:
    done = subprocess.run(["ssh", "-G", "-F", str(path), name], capture_output=True, text=True, check=True)
    found: dict[str, list[str]] = {key: [] for key in COMPARED}
    for line in done.stdout.splitlines():
        key, _, value = line.partition(" ")
        # ssh also prints what nobody wrote.
        if key == "hostname" or (key in found and value in _VALUES[key] and value != "none"):
            found[key].append(value)
    return found
