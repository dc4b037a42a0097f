"""What ssh's log tells a person; the logs are those of OpenSSH 9.2, shortened."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.hosts.openssh_errors import PinnedKeyError, crowded, explain, last_words, new_key

SHOWN = "debug1: Server host key: ssh-ed25519 SHA256:shownshownshownshownshownshownshownshownsho\n"
OFFERED = "debug1: Offering public key: /k/id ED25519 SHA256:x explicit\n"
DENIED = "me@10.0.0.1: Permission denied (publickey).\n"


@pytest.mark.parametrize(
    ("log", "message", "hint"),
    [
        ("ssh: Could not resolve hostname nope: Name or service not known\n", "no such name", "ssh's config"),
        ("ssh: connect to host 10.0.0.1 port 22: Connection refused\n", "nothing listens", "is sshd running"),
        ("ssh: connect to host 10.0.0.1 port 22: Connection timed out\n", "does not answer", "firewall"),
        ("Connection timed out during banner exchange\n", "does not answer", "timeouts.connect"),
        ("ssh: connect to host 10.0.0.1 port 22: No route to host\n", "no way to it", "network"),
        ("kex_exchange_identification: Connection closed by remote host\n", "before it says a word", "MaxStartups"),
        ("Received disconnect from 10.0.0.1: 2: Too many authentication failures\n", "too many keys", "IdentitiesOnly"),
        (
            f"debug1: Offering public key: /k/id ED25519 SHA256:x explicit\n{DENIED}",
            "offered were /k/id",
            "ssh-copy-id",
        ),
        (
            'Authenticated using "publickey" with partial success.\nme@h: Permission denied (password).\n',
            "factor",
            "asked",
        ),
        (f"no such identity: /k/id\n{DENIED}", "no key was offered", "ssh-copy-id"),
        (
            f"{OFFERED}debug1: Server accepts key: /k/id ED25519 SHA256:x explicit\n{DENIED}",
            "without its passphrase",
            "ssh-add /k/id",
        ),
        (
            "channel 0: open failed: connect failed: Connection refused\nstdio forwarding failed\n"
            "kex_exchange_identification: Connection closed by remote host\n",
            "jump host does not lead",
            "AllowTcpForwarding",
        ),
        ("/home/me/.ssh/config: line 3: Bad configuration option: nonsense\n", "config cannot be used", "mend"),
        ("Unable to negotiate: no matching host key type found. Their offer: ssh-dss\n", "no method in common", "old"),
        ("something new\n", "something new", "by hand"),
        ("", "ended without a word", "ssh me@10.0.0.1 true"),
    ],
)
def test_every_failure_is_told_with_a_next_step(log: str, message: str, hint: str) -> None:
    error = explain("gpu-a", "me@10.0.0.1", f"OpenSSH_9.2p1\ndebug1: Reading configuration data\n{log}")
    assert error.message.startswith("gpu-a: ")
    assert message in error.message
    assert hint in error.hint


def test_a_changed_key_is_shown_beside_the_one_that_is_known(tmp_path: Path) -> None:
    known = tmp_path / "known hosts"
    known.write_text("# mine\n[10.0.0.1]:2222 ssh-ed25519 QUJD\n")
    log = (
        f"{SHOWN}@@@@\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n"
        f"Offending ED25519 key in {known}:2\nHost key for [10.0.0.1]:2222 has changed and you have requested strict "
        "checking.\nHost key verification failed.\n"
    )
    error = explain("gpu-a", "me@10.0.0.1 port 2222", log)
    assert "ssh-ed25519 SHA256:tdQEXD9Gb6kf4sxqvnkjKhpXzfEE96JucW4KHieJ33g" in error.message  # of the bytes ABC
    assert "SHA256:shown" in error.message
    assert f"ssh-keygen -R '[10.0.0.1]:2222' -f '{known}'" in error.hint


def test_an_unknown_key_and_one_that_is_not_the_pinned_one() -> None:
    log = f"{SHOWN}No ED25519 host key is known for 10.0.0.1 and you have requested strict checking.\n" + (
        "Host key verification failed.\n"
    )
    error = explain("gpu-a", "me@10.0.0.1", log)
    assert "not known yet" in error.message
    assert "host_keys: SHA256:shown" in error.hint
    error = explain("gpu-a", "me@10.0.0.1", log, pin="SHA256:pinned")
    assert isinstance(error, PinnedKeyError)
    assert "SHA256:pinned" in error.message


def test_a_new_key_is_told_and_only_a_crowd_is_a_crowd() -> None:
    log = f"{SHOWN}Warning: Permanently added '[10.0.0.1]:2222' (ED25519) to the list of known hosts.\n"
    assert "SHA256:shown" in new_key(log)
    assert "[10.0.0.1]:2222" in new_key(log)
    assert new_key(SHOWN) == ""
    assert crowded("kex_exchange_identification: read: Connection reset by peer\n")
    assert not crowded("stdio forwarding failed\nkex_exchange_identification: Connection closed by remote host\n")
    assert last_words("said\ndebug1: noise\n\n") == "said"
