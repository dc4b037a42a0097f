"""What the supervisor is told and what it answers. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from launcher.plan.model import LaunchPlan
from worker.contract.states import RunState

StopHow = Literal["graceful", "now"]


# Events: what happened.


@dataclass(frozen=True)
class HostReached:
    """The agent on a host has said hello over a fresh stream."""

    host: str
    hello: Mapping[str, Any]


@dataclass(frozen=True)
class HostGone:
    """No agent of this run lives on the host any more, or it is `unreachable`; the reason is for people."""

    host: str
    why: str
    unreachable: bool = False


@dataclass(frozen=True)
class AgentSaid:
    """A message of a host's agent other than its hello."""

    host: str
    message: Mapping[str, Any]


@dataclass(frozen=True)
class PlanMade:
    """The plan that `MakePlan` asked for."""

    plan: LaunchPlan


@dataclass(frozen=True)
class PlanFailed:
    """There is no such plan: the message and the next step are for people. `fatal`: no later try could succeed.

    `hosts`: those that it failed on, where that is known; `apart`: without them the others would reach each other.
    """

    message: str
    hint: str
    fatal: bool = True
    hosts: frozenset[str] = frozenset()
    apart: bool = False


@dataclass(frozen=True)
class StopAsked:
    """Somebody wants the run to stop."""

    how: StopHow
    by: str


@dataclass(frozen=True)
class Tick:
    """Time goes on."""


Event = HostReached | HostGone | AgentSaid | PlanMade | PlanFailed | StopAsked | Tick


# Instructions: what is to be done about it, in order.


@dataclass(frozen=True)
class Reach:
    """Open a stream to the agent on a host; with `start`, the agent is started if there is none."""

    host: str
    start: bool = True


@dataclass(frozen=True)
class Send:
    """Send a message to a host's agent."""

    host: str
    message: Mapping[str, Any]


@dataclass(frozen=True)
class LetGo:
    """The host is needed no more: have its agent leave, and write it down once it has."""

    host: str


@dataclass(frozen=True)
class StartRanks:
    """Send a host the orders for its ranks of the current plan (the shell adds secrets, which no plan holds)."""

    host: str


@dataclass(frozen=True)
class MakePlan:
    """Plan the next generation without these ports. Answered by PlanMade or PlanFailed, some time later.

    `onward`: it goes on from the newest whole step that is anywhere, which is brought to whoever needs it; else from
    where this one began. `fresh` hosts were gone: what travels is brought to them again. `afresh`: what is known of the
    hosts may not hold any more. `at_work` are the hosts that are to have ranks; empty: those of the first generation.
    `probe`: whether all of them reach each other is to be tried first.
    """

    generation: int
    avoid_ports: frozenset[int]
    reason: str
    onward: bool = False
    fresh: frozenset[str] = frozenset()
    afresh: bool = True
    at_work: tuple[str, ...] = ()
    probe: bool = False


@dataclass(frozen=True)
class Note:
    """Write a record into the journal."""

    type: str
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class End:
    """The run is over: tell the agents to leave, write it down, and go."""

    state: RunState
    message: str
    cause: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Yield:
    """Another coordinator has the run: go without a word in its journal."""

    why: str


Instruction = Yield | Reach | Send | LetGo | StartRanks | MakePlan | Note | End
