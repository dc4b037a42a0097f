"""Streams that misbehave under a whole run: new keys in the middle of a file, a clean end too early, silence."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import pytest

from tests.integration.far import Far, far_in
from tests.integration.harness import wait_for
from tests.integration.there import folder_on, nothing_alive, same_at_home
from tests.integration.transports import REMOTE, Transport
from tests.lab.hosts import why_no_sshd
from tests.lab.relay import black_hole, relayed

pytestmark = pytest.mark.skipif(bool(why_no_sshd()), reason=why_no_sshd())

LEAVES_MUCH = """\
import os, pathlib, sys
pathlib.Path(os.environ["LAUNCHER_OUTPUT_DIR"], "big.bin").write_bytes(os.urandom(24_000_000))
for number in range(40_000):
    print("line", number, "x" * 80)
"""


def output_is_home(far: Far, run: Path) -> None:
    there, here = (place / "output" / "big.bin" for place in (folder_on(far.hosts[0]), run / "hosts" / "h1"))
    assert here.read_bytes() == there.read_bytes()


@pytest.mark.parametrize("transport", REMOTE)
def test_new_keys_in_the_middle_of_large_files_lose_nothing(transport: Transport, tmp_path: Path) -> None:
    with far_in(tmp_path, count=1, lines=["RekeyLimit 1M"]) as far:
        far.launcher.run("up", str(far.program(LEAVES_MUCH, each=f"transport: {transport}")), timeout_s=90)
        run = far.launcher.newest()
        same_at_home(far, run)
        output_is_home(far, run)
        nothing_alive(far)


@pytest.mark.parametrize("transport", REMOTE)
def test_streams_that_end_early_and_cleanly_lose_nothing(transport: Transport, tmp_path: Path) -> None:
    with far_in(tmp_path, count=1) as direct, relayed(direct.hosts[0]) as (host, relay):
        far = Far(direct.launcher, [dataclasses.replace(host, name="h1")])
        up = far.launcher.start("up", str(far.program(LEAVES_MUCH, each=f"transport: {transport}")), "--plain")
        for _ in range(3):  # of what comes home, 28 MB
            far.launcher.wait_event("rank_started", "h1")
            carried = relay.carried
            relay.hang_up_after(3_000_000)
            wait_for(lambda before=carried: relay.carried >= before + 3_000_000, "so many bytes", 60)  # type: ignore[misc]
        assert up.wait(90) == 0
        run = far.launcher.newest()
        same_at_home(far, run)
        output_is_home(far, run)
        nothing_alive(far)


@pytest.mark.parametrize(
    ("verb", "transport"), [("up", "paramiko"), ("up", "openssh"), ("check", "openssh"), ("ps", "paramiko")]
)
def test_a_host_that_takes_connections_and_never_answers_is_named_at_its_deadline(
    verb: str, transport: Transport, tmp_path: Path
) -> None:
    with far_in(tmp_path) as far, black_hole() as port:
        mute = dataclasses.replace(far.hosts[1], address="127.0.0.1", port=port)
        spec = Far(far.launcher, [far.hosts[0], mute]).program(
            "print('never')\n", "timeouts: {connect: 2 s}\n", each=f"transport: {transport}"
        )
        begun = time.monotonic()
        done = far.launcher.run(verb, str(spec), check=3)
        assert time.monotonic() - begun < 15
        said = done.stdout + done.stderr
        assert "h2" in said
        assert f"port {port}" in said
        assert "2 s" in said or "timed out" in said
        assert "next: " in said
        assert "Traceback" not in said
        assert not list(far.launcher.runs.glob("far-*"))
        nothing_alive(far)
