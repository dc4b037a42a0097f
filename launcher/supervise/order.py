"""What a coordinator is to do, and what it has when it begins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from launcher.hosts.base import Host
from launcher.plan.model import LaunchPlan
from launcher.runs.folder import RunFolder
from launcher.spec.model import ClusterSpec
from launcher.supervise.core.events import MakePlan, StopHow

if TYPE_CHECKING:
    from launcher.gather.gathering import Gathering
    from launcher.stage.remote import Activated
    from launcher.supervise.clocks import Offset


@dataclass(frozen=True)
class UnderWay:
    """What another coordinator has left behind. `failures`: (seconds ago, whether it had progressed, on which host).

    `ending`: why the newest generation was to end without a failure, if it was. `leaving`: hosts that had to go, why.
    """

    stop: StopHow | None = None
    failures: tuple[tuple[float, bool, str], ...] = ()
    ending: str = ""
    leaving: Mapping[str, str] = field(default_factory=dict)

    def failures_at(self, now: float) -> list[tuple[float, bool, str]]:
        """The failures with their times by a clock that says `now`."""
        return [(now - ago, progressed, host) for ago, progressed, host in self.failures]


@dataclass(frozen=True)
class Order:
    """What is asked for: a run's first generation, or another one that goes on from a checkpoint."""

    run: RunFolder
    spec: ClusterSpec
    secrets: Mapping[str, str]
    generation: int = 1
    resumes: str = ""  # a checkpoint's name
    resume_dir: str = ""  # its folder on this machine
    after_term: int | None = None  # the newest coordinator's when this was decided; void if there was another one since


@dataclass(frozen=True)
class Prepared:
    """A run that is ready to begin: everything that can go wrong before a worker starts has been tried."""

    order: Order
    hosts: Mapping[str, Host]
    plan: LaunchPlan
    plan_again: Callable[[MakePlan], LaunchPlan]  # blocks; one call at a time
    activated: Mapping[str, Activated] = field(default_factory=dict)  # what `activate:` gave, by host
    clocks: Mapping[str, float] = field(default_factory=dict)  # how far they are ahead, of hosts where they are wrong
    gathering: Callable[[Callable[[str], None]], Gathering] | None = None  # of hosts that are other machines
    took: Mapping[str, float] = field(default_factory=dict)  # what the preparation was spent on, in seconds
    offsets: Mapping[str, Offset] = field(default_factory=dict)  # of all machines' clocks
    under_way: UnderWay | None = None  # its plan's generation has been begun already
