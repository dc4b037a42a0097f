"""What the integration tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.agent_client import AgentHouse, agents


@pytest.fixture
def house() -> Iterator[AgentHouse]:
    """Agents to reach; at the end all are stopped, and whatever is still alive fails the test."""
    with agents() as house:
        yield house
