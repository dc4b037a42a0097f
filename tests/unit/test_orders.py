"""The message that starts a host's ranks: what of checkpoints stays there."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from launcher.plan.build import plan
from launcher.spec.model import CheckpointSpec, HostSpec, Ssh
from launcher.supervise.orders import start_message
from tests.plan_values import facts, spec


def message(host: str, home: Literal["newest", "all"]) -> dict[str, Any]:
    here, away = HostSpec(name="here", local=True), HostSpec(name="away", ssh=Ssh(alias="away"))
    of = spec(here, away, checkpoint=CheckpointSpec(keep=3, home=home))
    found = {name: facts(name) for name in ("here", "away")}
    return start_message(plan(of, found, run="r"), of, host, term=1, secrets={})


@pytest.mark.parametrize(
    ("host", "home", "keep", "until_home"),
    [
        ("here", "newest", 3, False),
        ("away", "newest", 3, False),
        ("here", "all", None, False),  # its folder is at home already, and all stay there
        ("away", "all", 3, True),
    ],
)
def test_what_stays_on_a_host(host: str, home: Literal["newest", "all"], keep: int | None, until_home: bool) -> None:
    sent = message(host, home)
    assert (sent["keep"], sent["until_home"]) == (keep, until_home)
