"""What a check came to, and everything that checks are made from. Values only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from launcher.check.addresses import Chosen
from launcher.check.deep import Told
from launcher.check.found import Found
from launcher.check.pairs import Tried
from launcher.errors import LauncherError
from launcher.plan.facts import Facts
from launcher.plan.model import LaunchPlan
from launcher.spec.model import ClusterSpec, HostSpec


class Verdict(str, Enum):
    """How much a finding matters."""

    OK = "ok"
    NOTE = "note"  # nothing to mend, but somebody may want to know
    WARN = "warn"  # a run can start, and somebody should know this
    FAIL = "fail"  # a run would not start, would hang, or must not start


@dataclass(frozen=True)
class Finding:
    """One thing that was found out about some hosts. `brief` is for the cell of a table, `fix` the next step."""

    hosts: tuple[str, ...]
    check: str
    verdict: Verdict
    what: str
    fix: str = ""
    brief: str = ""


@dataclass(frozen=True)
class Seen:
    """All that is known when the checks are made."""

    spec: ClusterSpec
    found: Mapping[str, Found]
    failed: Mapping[str, LauncherError] = field(default_factory=dict)  # the hosts that did not answer
    addresses: Mapping[str, Chosen] = field(default_factory=dict)
    facts: Facts = field(default_factory=dict)
    plan: LaunchPlan | None = None
    plan_error: LauncherError | None = None
    tried: Tried | None = None
    deep: tuple[Told, ...] = ()  # the trial all-reduce, if there was one
    after_setup: bool = True  # False: `setup:` may still bring what is missing

    @property
    def hosts(self) -> list[tuple[HostSpec, Found]]:
        """The hosts that answered, in the spec's order."""
        return [(host, self.found[host.name]) for host in self.spec.hosts if host.name in self.found]

    def names(self) -> tuple[str, ...]:
        return tuple(host.name for host, _ in self.hosts)

    def may_still_come(self, host: HostSpec) -> bool:
        """Whether what is missing now may be there after `setup:`."""
        return bool(host.setup) and not self.after_setup


def fatal(findings: Sequence[Finding]) -> list[Finding]:
    """Those that stop `up`."""
    return [finding for finding in findings if finding.verdict is Verdict.FAIL]


def odd(values: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """(what most hosts have, {host: what it has} of the others); of equally many, what comes first counts as most."""
    if not values:
        return "", {}
    most = Counter(values.values()).most_common(1)[0][0]
    return most, {host: value for host, value in values.items() if value != most}


def several(names: Sequence[str]) -> str:
    """`a, b and c`."""
    return ", ".join(names[:-1]) + f" and {names[-1]}" if len(names) > 1 else "".join(names)
