"""The whole check: look at every host, plan, try all pairs, and say what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from launcher.check import addresses, groups, pairs, remote
from launcher.check.deep import all_reduce
from launcher.check.errand import Visits
from launcher.check.finding import Finding, Seen, fatal
from launcher.check.many import Tell, untold
from launcher.check.staged import NOTHING, Staged
from launcher.errors import LauncherError, NotFitError
from launcher.hosts.session import Session
from launcher.hosts.talk import Talk
from launcher.plan.build import plan
from launcher.plan.facts import Facts
from launcher.plan.model import LaunchPlan
from launcher.runs.folder import RunFolder
from launcher.spec.model import ClusterSpec

_NONE: Mapping[str, LauncherError] = MappingProxyType({})
_NO_TALKS: Mapping[str, Talk] = MappingProxyType({})


@dataclass(frozen=True)
class Examined:
    """What was seen, and what it came to."""

    seen: Seen
    findings: tuple[Finding, ...]

    @property
    def fit(self) -> bool:
        return not fatal(self.findings)


def examine(
    spec: ClusterSpec,
    run: RunFolder,
    sessions: Mapping[str, Session],
    *,
    unreached: Mapping[str, LauncherError] = _NONE,
    staged: Staged = NOTHING,
    planner: Callable[[Facts], LaunchPlan] | None = None,
    talks: Mapping[str, Talk] = _NO_TALKS,
    known: remote.Looked | None = None,
    after_setup: bool = True,
    deep: bool = False,
    tell: Tell = untold,
) -> Examined:
    """Check every host of `sessions`, and report those `unreached`. Blocks some seconds at most; nothing is left there.

    `run` is where the run is, or would be; `planner` makes the plan whose ports are tried, by default that of its first
    generation: what it made is in `seen.plan`, from `seen.facts`, and can be carried out if nothing is fatal. `talks`
    are conversations with hosts that go on afterwards, `known` is what hosts were asked already. With `deep`, and if
    nothing is wrong, all workers do a trial all-reduce.
    Raises SpecError for what no host could do.
    """
    with Visits(spec, sessions, talks) as visits:
        looked = remote.look(spec, visits, runs=run.path.parent, staged=staged, known=known, tell=tell)
        facts = remote.facts_of(spec, run, looked.found, staged=staged)
        planned, error = _plan(planner or (lambda facts: plan(spec, facts, run=run.name)), facts)
        ends = _ends(spec, facts, planned)
        on_gpus = planned is not None and any(rank.gpus for rank in planned.ranks)
        tried = pairs.try_all(visits, ends, looked.found, any_port=on_gpus, tell=tell) if ends else None
    seen = Seen(
        spec=spec,
        found=looked.found,
        failed={**unreached, **looked.failed},
        addresses=addresses.choose(spec.hosts, looked.found),
        facts=facts,
        plan=planned,
        plan_error=error,
        tried=tried,
        after_setup=after_setup,
    )
    findings = groups.findings(seen)
    if deep and planned is not None and planned.known and not fatal(findings):
        seen = replace(seen, deep=all_reduce(spec, sessions, planned, facts, staged=staged, tell=tell))
        findings = groups.findings(seen)
    return Examined(seen, tuple(findings))


def try_pairs(
    spec: ClusterSpec, run: RunFolder, sessions: Mapping[str, Session], staged: Staged = NOTHING
) -> pairs.Tried | None:
    """Try every pair of these hosts at a port that is free there; None if there is none to try."""
    with Visits(spec, sessions, _NO_TALKS) as visits:
        looked = remote.look(spec, visits, runs=run.path.parent, staged=staged)
        ends = _ends(spec, remote.facts_of(spec, run, looked.found, staged=staged), None)
        return pairs.try_all(visits, ends, looked.found) if ends else None


def refuse(findings: Sequence[Finding], *, spec: str = "cluster.yaml") -> None:
    """Raises NotFitError if one of them is fatal, with all of those and what would mend each."""
    wrong = fatal(findings)
    if not wrong:
        return
    lines = []
    for finding in wrong:
        lines.append(f"  {finding.check}: {finding.what}")
        lines += [f"    next: {finding.fix}"] if finding.fix else []
    raise NotFitError(
        "these hosts are not fit for this run:\n" + "\n".join(lines), hint=f"`launcher check {spec}` shows every check"
    )


def _plan(planner: Callable[[Facts], LaunchPlan], facts: Facts) -> tuple[LaunchPlan | None, LauncherError | None]:
    """The plan, or why there is none. Hosts that did not answer only leave gaps in it."""
    try:
        return planner(facts), None
    except NotFitError as error:
        return None, error


def _ends(spec: ClusterSpec, facts: Facts, planned: LaunchPlan | None) -> list[pairs.End]:
    """Where workers would listen; without a plan, one for each host stands for them."""
    if planned is not None:
        return pairs.ends(planned)
    return [
        pairs.End(host.name, facts[host.name].address, facts[host.name].free_ports[0])
        for host in spec.hosts
        if host.name in facts and facts[host.name].free_ports
    ]
