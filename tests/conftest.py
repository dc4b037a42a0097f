"""What holds for every test."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, settings

# Two noisy cores: a slow draw is no finding. The same examples on every run, so that a red CI can be seen again.
settings.register_profile("house", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")

# How the names of modules begin whose tests concern other machines, whether or not a real sshd is among them.
OF_HOSTS = tuple(
    f"test_{what}"
    for what in (
        *(
            "check_hosts",
            "check_netns",
            "check_pairs",
            "check_ssh",
            "clean",
            "door",
            "gather",
            "lab",
            "living",
            "netns",
        ),
        *("openssh", "sessions", "ssh_", "stage_remote", "stage_setup", "up_net", "up_ssh", "visit"),
    )
)


# And those whose tests kill, restart and rescue on this machine.
OF_DEATHS = tuple(f"test_{what}" for what in ("agent_deaths", "deaths", "rescue", "restart", "takeover", "zygote"))


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Marks them, so that they are stages of their own."""
    for item in items:
        if item.path.parent.name != "integration":
            continue
        if item.path.name.startswith(OF_HOSTS):
            item.add_marker("hosts")
        elif item.path.name.startswith(OF_DEATHS):
            item.add_marker("deaths")
