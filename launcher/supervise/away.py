"""Preparing a run whose hosts are other machines: reach them, bring what travels, look at them, plan.

The sessions that are opened here stay for the life of the run: streams to agents, logs and later looks use them.
"""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from launcher.check import preflight, remote
from launcher.check.found import Found
from launcher.check.groups.clock import wrong
from launcher.check.many import each
from launcher.check.staged import Staged
from launcher.errors import LauncherError, NotFitError, RunError, some
from launcher.gather.again import Source
from launcher.gather.copies import Copies
from launcher.gather.gathering import Gathering, Ways
from launcher.gather.send import bring_checkpoint
from launcher.gather.which import ALL
from launcher.hosts.base import Host
from launcher.hosts.local import LocalHost
from launcher.hosts.local_session import LocalSession
from launcher.hosts.reach import Reacher, reach
from launcher.hosts.session import Session
from launcher.hosts.ssh import SshHost
from launcher.hosts.visit import Visit, visit
from launcher.plan.facts import Facts, HostFacts
from launcher.plan.model import LaunchPlan
from launcher.runs.folder import RunFolder
from launcher.runs.journal import read
from launcher.runs.told import told_by_coordinator
from launcher.spec.model import ClusterSpec
from launcher.stage import kept
from launcher.stage.goods import dataset_there, goods_of
from launcher.stage.here import data_here
from launcher.stage.ready import Goods, Ready, make_ready
from launcher.stage.remote import Activated
from launcher.supervise import probe
from launcher.supervise.clocks import Offset
from launcher.supervise.core.events import MakePlan
from launcher.supervise.foreground import Front
from launcher.supervise.order import Order, Prepared
from launcher.supervise.planning import Planning
from launcher.supervise.slowly import Slowly

StageHere = Callable[[ClusterSpec, RunFolder, str], tuple[str, str]]
_FEW_HOSTS = 4
_MOST_SHOWN = 120
_MOST_FILES = 1 << 16


def prepare(order: Order, front: Front, stage_here: StageHere) -> Prepared:
    """Reach, make ready, look, plan. `stage_here` stages on this machine, for hosts of the run that are it.

    Raises NotFitError that names all hosts where something failed, SpecError or UsageError.
    """
    fleet = Fleet(order, front)
    took: dict[str, float] = {}
    with _timed(took, "reached"):
        fleet.reach()
    with _timed(took, "made_ready"):
        fleet.make_ready(stage_here)
    planning = Planning(order, fleet.facts, fleet.bring_checkpoint)
    with _timed(took, "examined"):
        first = planning.first(fleet.examine)
    again = planner(fleet, planning, stage_here)
    return Prepared(
        order,
        fleet.hosts,
        first,
        again,
        fleet.activated,
        fleet.clocks,
        fleet.gathering,
        took,
        offsets=fleet.offsets,
    )


def planner(fleet: Fleet, planning: Planning, stage_here: StageHere) -> Callable[[MakePlan], LaunchPlan]:
    """Plans the next generations, and makes those hosts ready for them that are not."""

    def again(wanted: MakePlan) -> LaunchPlan:
        used = set(wanted.at_work) or set(fleet.hosts)
        if unready := wanted.fresh | (fleet.inactive & used):
            fleet.make_ready(stage_here, only=unready)
        if wanted.probe:
            fleet.probe(used)
        return planning.again(wanted)

    return again


@contextlib.contextmanager
def _timed(took: dict[str, float], name: str) -> Iterator[None]:
    begun = time.monotonic()
    yield
    took[name] = time.monotonic() - begun


class Fleet:
    """The machines of a run, and what is known of them since they were made ready."""

    def __init__(self, order: Order, front: Front) -> None:
        _open_many_files()
        self._order = order
        self._front = front
        spec = order.spec
        self._reacher = Reacher(connect_s=spec.timeouts.connect, ask=front.ask, say=front.say)
        self._specs = {host.name: host for host in spec.hosts}
        self._away = {host.name: host for host in spec.hosts if not host.local}
        self._here = {host.name: LocalSession(host.name) for host in spec.hosts if host.local}
        self.hosts: dict[str, Host] = {name: LocalHost(name) for name in self._here}
        # Surveyed and staged once: no generation sees what was edited after `up`.
        self._goods: Goods | None = None
        self._staged_here: dict[str, tuple[str, str]] = {}
        self._ready: dict[str, Ready] = {}
        self.activated: dict[str, Activated] = {}  # what `activate:` made of each machine's environment, by host
        self._staged = Staged()
        self._visits: dict[str, Visit] = {}
        self._looked = remote.Looked({}, {})
        self.offsets: Mapping[str, Offset] = {}
        self.clocks: Mapping[str, float] = {}  # how far they are ahead, of hosts where they are wrong

    @property
    def inactive(self) -> set[str]:
        """Hosts of which it is not known what `activate:` makes of their environment."""
        return {name for name, host in self._specs.items() if host.activate is not None and name not in self.activated}

    def recall(self, before: kept.Kept) -> None:
        """What another coordinator had brought to the hosts."""
        self._goods, self._staged_here, self._ready = before.goods, dict(before.here), dict(before.ready)
        self.clocks = told_by_coordinator(read(self._order.run.journal)).clocks
        self._note_staged()
        strange = [name for name in self._specs if name not in self._ready and name not in self._staged_here]
        if strange:
            raise RunError(
                f"nothing was ever brought to {some(strange)}: the spec in {self._order.run.path} names other hosts "
                "than the run has",
                hint=f"launcher down {self._order.run.name}, then launcher resume {self._order.run.name}",
            )

    def reach(self, *, all_of_them: bool = True) -> set[str]:
        """A session to every machine; the names of those that are there, this one included.

        Raises NotFitError that names all that cannot be reached; if not `all_of_them` have to be, only when none is.
        """

        def one(name: str) -> Session:
            found = reach([self._away[name]], self._reacher)[name]
            if isinstance(found, NotFitError):
                raise found
            return found

        found, failed = each(list(self._away), one, what="reaching", tell=self._front.tell)
        if all_of_them or not (found or self._here):
            remote.together(failed.items(), "cannot reach")
        for error in failed.values():
            self._front.say(f"{error.message}: it is tried again and again")
        for name, host in self._away.items():
            self.hosts[name] = SshHost(host, self._connect(name), found.get(name))
        return {*found, *self._here}

    def make_ready(self, stage_here: StageHere, only: Container[str] | None = None) -> None:
        """Bring code, sources and data, run `setup:`, capture `activate:`, on all hosts, or on some only. Raises
        NotFitError that names all hosts where that failed. May be called again."""
        spec, run = self._order.spec, self._order.run
        goods = self._goods = self._goods or goods_of(spec, run.path.parent)
        for_here = replace(goods, data={}, on_host={}, dataset=None)
        by_hand = [host.name for host in spec.hosts if host.local and not host.must_be_made_ready]
        here = self._staged_here = self._staged_here or {name: stage_here(spec, run, name) for name in by_hand}
        told = Slowly(self._front)
        found: dict[str, Found] = {}
        unseen: dict[str, LauncherError] = {}
        # All run the same: of many hosts, what is printed on one shows how far they are.
        shown = set(self._specs) if len(self._specs) <= _FEW_HOSTS else {next(iter(self._specs))}

        def one(name: str) -> Ready:
            if name in self._here or only is not None:
                return prepare_one(name, None)
            host = self._specs[name]
            entered = self._visits[name] = visit(self._session(name), workdir=host.workdir)
            ready = prepare_one(name, entered)
            if self._order.resume_dir:
                return ready  # a checkpoint is to be brought yet, which may take long: it is looked at later
            try:
                found[name] = remote.look_at_one(spec, host, entered.talk, ready.activated.env, ready.activated.gone)
            except LauncherError as error:
                unseen[name] = error
            return ready

        def prepare_one(name: str, during: Visit | None) -> Ready:
            log = Path(run.host(name).root) / "setup.log"
            log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)

            def printed(data: bytes) -> None:
                with log.open("ab") as file:
                    file.write(data)
                if name in shown and (lines := data.decode("utf-8", "replace").split("\n")[-2:]):
                    told.say(name, f"setup prints: {(lines[-1] or lines[0]).strip()[:_MOST_SHOWN]}")

            tell = lambda text: told.say(name, text)  # noqa: E731
            host, local = self._specs[name], name in self._here
            return make_ready(
                self._session(name),
                host,
                run.name,
                for_here if local else goods,
                folder=run.host(name) if local else None,
                tell=tell,
                printed=printed,
                during=during,
            )

        names = [name for name in self._specs if name not in here and (only is None or name in only)]
        made, failed = each(names, one, what="making ready", tell=self._front.tell)
        remote.together(failed.items(), "cannot make ready")
        self._ready = {**self._ready, **made}
        self.activated.update({name: one_.activated for name, one_ in made.items()})
        self._looked = remote.Looked(found, unseen)
        self._note_staged()
        with contextlib.suppress(OSError):  # a full disk: only another coordinator would miss it
            kept.write(run, kept.Kept(goods, self._ready, here))

    def _note_staged(self) -> None:
        here, ready = self._staged_here, self._ready
        self._staged = Staged(
            codes={**{n: code for n, (code, _) in here.items()}, **{n: r.code for n, r in ready.items()}},
            sources={**{n: source for n, (_, source) in here.items()}, **{n: r.source for n, r in ready.items()}},
            environments={name: one_.activated.env for name, one_ in ready.items()},
            gone={name: one_.activated.gone for name, one_ in ready.items()},
        )

    def examine(self, planner: Callable[[Facts], LaunchPlan]) -> LaunchPlan:
        """Try everything that the run needs of its hosts, the ports of the very plan that is returned among it.

        Raises NotFitError with all that is amiss, SpecError for what no host could do.
        """
        spec = self._order.spec
        examined = preflight.examine(
            spec,
            self._order.run,
            self._sessions(),
            staged=self._staged,
            planner=lambda facts: planner(self._with_data(facts)),
            talks={name: one.talk for name, one in self._visits.items()},
            known=self._looked,
            tell=self._front.tell,
        )
        preflight.refuse(examined.findings, spec=spec.path)
        self.clocks = wrong(examined.seen)
        self.offsets = {host.name: Offset(found.clock_s, found.clock_error_s) for host, found in examined.seen.hosts}
        plan = examined.seen.plan or planner(self._with_data(examined.seen.facts))
        self._hand_over({host.name for host in plan.hosts})
        return plan

    def _hand_over(self, used: Container[str]) -> None:
        """The visits become the first streams of the hosts that are used; the others are over."""
        visits, self._visits = self._visits, {}
        for name, one in visits.items():
            host = self.hosts[name]
            if isinstance(host, SshHost) and name in used:
                host.take_over(one.channel)
            else:
                one.talk.close()

    def facts(self, hosts: Sequence[str]) -> Facts:
        """What these hosts are like now, for another plan. Raises NotFitError."""
        order = self._order
        spec = replace(order.spec, hosts=tuple(host for host in order.spec.hosts if host.name in hosts))
        sessions = {name: self._session(name) for name in hosts}
        return self._with_data(remote.gather(spec, order.run, sessions, staged=self._staged))

    def probe(self, hosts: Container[str]) -> None:
        """Whether these hosts reach each other. Raises NotFitError about the fewest that could be done without."""
        sessions = {name: session for name, session in self._sessions().items() if name in hosts}
        probe.probe(self._order.spec, self._order.run, sessions, self._staged)

    def bring_checkpoint(self, folder: str, hosts: Sequence[str]) -> Mapping[str, str]:
        """The checkpoint to go on from, on these hosts: its folder there by host. Raises NotFitError or RunError."""
        told = Slowly(self._front)

        def one(name: str) -> str:
            ready = self._ready[name]

            def progress(sent: int, total: int) -> None:
                told.say(name, f"sending the checkpoint: {sent / 1e6:.0f} of {total / 1e6:.0f} MB")

            return bring_checkpoint(
                self._session(name), Path(folder), ready.folder, workdir=ready.workdir, progress=progress
            )

        away = [name for name in hosts if name in self._away]
        found, failed = each(away, one, what="bringing the checkpoint to", tell=self._front.tell)
        remote.together(failed.items(), "cannot bring the checkpoint to")
        return {**dict.fromkeys(self._here, folder), **found}

    def gathering(self, tell: Callable[[str], None]) -> Gathering:
        """What brings home all that the run leaves on other machines; not begun yet."""
        checkpoint = self._order.spec.checkpoint
        homes = {name: self._order.run.host(name).root for name in self._specs}
        return Gathering(
            {name: self._ways(name) for name in self._away},
            home=checkpoint.home,
            keep=None if checkpoint.home == ALL else checkpoint.keep,
            copies=Copies(homes, [*self._here], shared=self._order.spec.train is not None),
            tell=tell,
        )

    def _ways(self, name: str) -> Ways:
        host, spec, ready = self.hosts[name], self._away[name], self._ready[name]
        assert isinstance(host, SshHost)
        home = self._order.run.host(name).root
        return Ways(
            Source(name, ready.folder, home, host.session, ready.workdir, closes=False),
            Source(name, ready.folder, home, lambda: self._reacher.open(spec, bulk=True), ready.workdir),
        )

    def _connect(self, name: str) -> Callable[[], Session]:
        return lambda: self._reacher.open(self._away[name])

    def _sessions(self) -> dict[str, Session]:
        return {name: self._session(name) for name in self._specs}

    def _session(self, name: str) -> Session:
        host = self.hosts[name]
        return host.session() if isinstance(host, SshHost) else self._here[name]

    def _with_data(self, facts: Facts) -> Facts:
        return {name: self._with_data_of(name, found) for name, found in facts.items()}

    def _with_data_of(self, name: str, found: HostFacts) -> HostFacts:
        spec, ready = self._order.spec, self._ready.get(name)
        if ready is None or name in self._here:
            return replace(found, data=data_here(spec.data))
        return replace(found, data=dict(ready.data), dataset=dataset_there(spec, ready))


def _open_many_files() -> None:
    """Each host costs a dozen descriptors, and many systems give a process 1024 unless it asks for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
