"""Fixtures of the tests that run real processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.agent_client import AgentHouse, agents
from tests.integration.harness import Launcher, launcher_in


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[Launcher]:
    """A launcher with folders of its own; at the end nothing that it started may be alive."""
    with launcher_in(tmp_path) as one:
        yield one


@pytest.fixture
def house() -> Iterator[AgentHouse]:
    """Agents to reach; at the end all are stopped, and whatever is still alive fails the test."""
    with agents() as house:
        yield house


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who gathers tries again soon, however often the connection has broken."""
    monkeypatch.setattr("launcher.gather.again._LONGEST_WAIT_S", 0.3)
