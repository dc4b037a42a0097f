"""What a supervisor knows of its hosts: who obeys, who is lost, busy or set aside, and so who can be at work. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from launcher.plan.model import LaunchPlan
from launcher.spec.model import RestartSpec
from launcher.supervise.core.aside import Aside
from launcher.supervise.core.events import Instruction, Note
from launcher.supervise.core.generation import Outcome
from launcher.supervise.core.recovery import FIRST_TRY_S, LONGEST_TRY_S, Recovery
from launcher.supervise.core.roster import Roster
from worker.contract import records

# How long a host that could be left out is waited for, from when the next generation is sought.
AGENT_S = 5.0  # until its agent, which is gone, has been started anew; one that cannot be reached is not waited for
RESCUE_S = 40.0  # until its ranks have ended: a rescue takes up to 15 s, and what cannot be killed has 10 s


class Muster:
    """All hosts of a run, at work or not."""

    def __init__(self, plan: LaunchPlan, connect_s: float, rules: RestartSpec) -> None:
        self.recovery = Recovery(connect_s, rules.per)
        self.aside = Aside(rules.per)
        workers = {host.name: host.workers or len(host.ranks) for host in plan.hosts}
        self.roster = Roster(rules, workers, [host.name for host in plan.at_work])
        self.obey: set[str] = set()
        self._grows = rules.grow == "at_checkpoint"
        self._at: dict[str, int] = {}  # host → generation that its agent had last when it said hello
        self._sought_since = 0.0
        self._look_at = 0.0
        self._look_after_s = FIRST_TRY_S

    @property
    def at_work(self) -> tuple[str, ...]:
        """The hosts of the generation, in rank order."""
        return self.roster.at_work

    def newest_generation(self) -> int:
        """The highest that any host has had: another coordinator may have begun one."""
        return max(self._at.values(), default=0)

    def has_begun(self, host: str, generation: int) -> bool:
        """Whether the host has been ordered to begin the generation, as far as it has said."""
        return self._at.get(host, generation) >= generation

    # What is heard of them.

    def hears(self, host: str) -> None:
        """Its agent has said hello over a fresh stream: it obeys over this one only once it has said so."""
        self.obey.discard(host)

    def found(self, host: str, told: Mapping[str, Any], newest: int) -> None:
        """What the agent said of itself; `newest` is the generation that is under way."""
        self._at[host] = int(told.get("generation", newest))
        self.recovery.found(host, self._at[host], busy=bool(told.get("busy", told.get("alive"))))

    def lost(self, host: str, why: str, now: float, *, unreachable: bool) -> None:
        self.obey.discard(host)
        self.recovery.lost(host, why, now, unreachable=unreachable)
        self._look_at, self._look_after_s = now + FIRST_TRY_S, FIRST_TRY_S

    # Who is needed.

    def seek(self, now: float) -> None:
        """The last generation is over: from now on the hosts of the next one are sought."""
        self._sought_since = now

    def missing(self) -> list[str]:
        """The hosts that could be at work and do not obey."""
        return [host for host in self.roster.hosts if host not in self.obey and host not in self.roster.left]

    def next_at_work(self, now: float) -> tuple[str, ...] | None:
        """The hosts of the next generation; None as long as it may not be begun, or more may come within moments."""
        if any(self._may_come(host, now) for host in self.at_work):
            return None
        return self.roster.choose(self._usable(), self.aside.now(now))

    def _may_come(self, host: str, now: float) -> bool:
        if host in self.roster.left or host in self.aside.now(now):
            return False
        waited_s = now - self._sought_since
        if self.recovery.is_busy(host):
            return waited_s < RESCUE_S
        return host not in self.obey and not self.recovery.is_unreachable(host) and waited_s < AGENT_S

    def _usable(self) -> set[str]:
        return {host for host in self.obey if not self.recovery.is_busy(host)}

    def hopeless(self, now: float) -> bool:
        """Whether there is no next generation even if all come that have not been gone for too long."""
        return self.roster.choose(set(self.roster.hosts) - self.recovery.given_up(now)) is None

    def can_grow(self, now: float) -> bool:
        """Whether the spec wants more hosts to be taken in at a checkpoint, and they are there."""
        return self._grows and self.roster.could_grow(self._usable(), self.aside.now(now))

    def to_look_for(self, now: float) -> list[str]:
        """Hosts beside those at work that do not obey, when it is time to look for them: ever more seldom."""
        absent = [host for host in self.roster.reserve if host not in self.obey]
        if not absent or now < self._look_at:
            return []
        self._look_at = now + self._look_after_s
        self._look_after_s = min(2.0 * self._look_after_s, LONGEST_TRY_S)
        return absent

    def busy_in_vain(self) -> list[str]:
        """Hosts that obey, are not at work, and have ranks of an earlier generation."""
        idle = [host for host in self.roster.hosts if host not in self.at_work and host in self.obey]
        return [host for host in idle if self.recovery.is_busy(host)]

    def choice(self, now: float) -> tuple[str, ...]:
        """Who would be at work now; nobody, if no generation could be begun."""
        return self.roster.choose(self._usable(), self.aside.now(now)) or ()

    # What went wrong because of them.

    def blame(self, outcome: Outcome, now: float) -> list[Instruction]:
        """A generation has failed: the host that it came of may be set aside, which is told if it matters."""
        host = str((outcome.cause or {}).get("host", ""))
        if host not in self.roster.hosts:
            return []
        seconds = self.aside.failed(host, now)
        if not seconds or not self.roster.may_be_smaller:
            return []
        text = f"{host} failed repeatedly: it is set aside for {seconds:.0f} s, as far as it can be spared"
        return [Note(records.REMARK, {"text": text})]

    def can_spare(self, hosts: Collection[str], now: float) -> bool:
        """No plan could be made because of these hosts, so they are set aside; whether it can be made without them."""
        for host in hosts:
            self.aside.failed(host, now, at_once=True)
        return bool(hosts) and bool(others := self.choice(now)) and not set(others) & set(hosts)

    def without(self, now: float) -> dict[str, str]:
        """The hosts that are not at work, and why."""
        return {host: self._why_not(host, now) for host in self.roster.hosts if host not in self.at_work}

    def _why_not(self, host: str, now: float) -> str:
        if host in self.roster.left:
            return "it has left"
        if why := self.recovery.why_lost(host):
            return why
        if host in self.aside.now(now):
            return "set aside: it failed repeatedly"
        return "in reserve"
