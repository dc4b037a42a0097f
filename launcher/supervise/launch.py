"""From a spec to a running coordinator: make the run's folder, stage, gather facts, plan, fork."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.check import local as local_facts
from launcher.errors import RunError, UsageError
from launcher.hosts.base import Host
from launcher.hosts.local import LocalHost
from launcher.plan.build import plan as make_plan
from launcher.plan.facts import Facts
from launcher.plan.json_form import to_json
from launcher.plan.model import LaunchPlan
from launcher.runs.folder import RunFolder
from launcher.runs.journal import Journal, read
from launcher.spec import load
from launcher.spec.model import ClusterSpec
from launcher.stage import code as stage_code
from launcher.stage import source as stage_source
from launcher.supervise import control, daemon
from launcher.supervise.coordinator import Coordinator
from launcher.supervise.patient import PatientJournal
from worker.contract import records

WhenOver = Callable[[RunFolder], None]


@dataclass(frozen=True)
class Prepared:
    """A run that is ready to begin: everything that can go wrong before a worker starts has been tried."""

    run: RunFolder
    spec: ClusterSpec
    plan: LaunchPlan
    facts: Callable[[], Facts]
    resumes: str
    resume_dirs: Mapping[str, str]
    secrets: Mapping[str, str]


def write_about(spec: ClusterSpec, run: RunFolder, overrides: Sequence[str], launched_at: float) -> None:
    """Keep the spec as it was read, and where it came from, in the run's folder. Raises RunError."""
    about = {
        "run": run.name,
        "spec": spec.path,
        "folder": str(Path(spec.path).parent),
        "overrides": list(overrides),
        "launched_at": launched_at,
        "secrets": list(spec.secrets),
    }
    try:
        if Path(spec.path).resolve() != run.spec.resolve():
            shutil.copyfile(spec.path, run.spec)
            run.spec.chmod(0o600)
        write_whole(run.about, json.dumps(about, indent=2) + "\n")
    except OSError as error:
        raise RunError(
            f"the run's folder {run.path} cannot be written: {error.strerror or error}",
            hint="free some space, or choose another place: --set coordinator.runs=FOLDER",
        ) from error


def read_about(run: RunFolder) -> dict[str, Any]:
    """What `write_about` kept. Raises RunError if it cannot be read."""
    try:
        about = json.loads(run.about.read_text())
        return {
            "overrides": [str(o) for o in about["overrides"]],
            "spec": str(about["spec"]),
            "folder": about["folder"],
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{run.about} cannot be read: {error}", hint="the run cannot be resumed; start a new one with `launcher up`"
        ) from error


def load_again(run: RunFolder, overrides: Sequence[str]) -> ClusterSpec:
    """The run's spec, from the copy in its folder; its paths are still relative to where it came from."""
    return load(run.spec, overrides, base=Path(read_about(run)["folder"]))


def prepare(
    spec: ClusterSpec,
    run: RunFolder,
    *,
    generation: int = 1,
    resumes: str = "",
    resume_dir: str = "",
    environ: Mapping[str, str] | None = None,
) -> Prepared:
    """Stage what travels, gather the facts, and plan. Raises NotFitError, SpecError or UsageError."""
    environ = os.environ if environ is None else environ
    refuse_remote(spec)
    secrets = find_secrets(spec, environ)
    try:
        staged = {host.name: _stage(spec, run, host.name) for host in spec.hosts}
    except OSError as error:
        raise RunError(f"staging into {run.path} failed: {error.strerror or error}", hint="`df -h` tells") from error
    codes = {name: code for name, (code, _) in staged.items()}
    sources = {name: source for name, (_, source) in staged.items()}

    def facts() -> Facts:
        return local_facts.gather(spec, run.path, codes=codes, sources=sources)

    resume_dirs = {host.name: resume_dir for host in spec.hosts} if resume_dir else {}
    plan = make_plan(spec, facts(), run=run.name, generation=generation, resumes=resumes, resume_dirs=resume_dirs)
    return Prepared(run, spec, plan, facts, resumes, resume_dirs, secrets)


def refuse_remote(spec: ClusterSpec) -> None:
    """Hosts over SSH can be planned, not started yet."""
    remote = [host.name for host in spec.hosts if not host.local]
    if remote:
        raise UsageError(
            f"hosts over SSH are not available yet: {', '.join(remote)}",
            hint="use `local: true` hosts; `launcher plan` shows what such a cluster would do",
        )


def find_secrets(spec: ClusterSpec, environ: Mapping[str, str]) -> dict[str, str]:
    """The values of the spec's secrets. Raises UsageError naming those that are not set."""
    missing = [name for name in spec.secrets if name not in environ]
    if missing:
        raise UsageError(
            f"the spec names secrets that are not set here: {', '.join(missing)}",
            hint=f"export {missing[0]}=… in this shell, then run the command again",
        )
    return {name: environ[name] for name in spec.secrets}


def begin(prepared: Prepared, when_over: WhenOver) -> None:
    """Start the coordinator in a session of its own; returns once it has the run in hand.

    `when_over` is called in the coordinator after the run's end is written down. Raises RunError if another
    coordinator has the run.
    """
    run = prepared.run

    def body(ready: Callable[[], None]) -> None:
        listener = control.bind(run)
        if listener is None:
            return
        with listener:
            journal = Journal(run.journal)
            term = 1 + max((int(r.get("term", 0)) for r in read(run.journal)), default=0)
            _write_opening(prepared, journal, term)
            ready()
            _coordinator(prepared, listener, PatientJournal(journal), term).run()
            when_over(run)

    if not daemon.start(body, run.coordinator_log):
        raise RunError(
            f"the coordinator of {run.name} did not start: another one has the run, or it failed",
            hint=f"see {run.coordinator_log}, or `launcher attach {run.name}`",
        )


def _coordinator(prepared: Prepared, listener: Any, journal: PatientJournal, term: int) -> Coordinator:
    def replan(generation: int, avoid: frozenset[int]) -> LaunchPlan:
        plan = make_plan(
            prepared.spec,
            prepared.facts(),
            run=prepared.run.name,
            generation=generation,
            avoid_ports=avoid,
            resumes=prepared.resumes,
            resume_dirs=prepared.resume_dirs,
        )
        _write_plan(prepared.run, plan)
        return plan

    hosts: dict[str, Host] = {host.name: LocalHost(host.name) for host in prepared.spec.hosts}
    return Coordinator(
        prepared.run,
        prepared.spec,
        prepared.plan,
        hosts,
        replan=replan,
        secrets=prepared.secrets,
        listener=listener,
        journal=journal,
        term=term,
    )


def _write_opening(prepared: Prepared, journal: Journal, term: int) -> None:
    run, plan = prepared.run, prepared.plan
    about = json.loads(run.about.read_text())
    if plan.generation == 1:
        journal.append(
            records.RUN_CREATED,
            run=run.name,
            spec=prepared.spec.path,
            hosts=[host.name for host in plan.hosts],
            workers=len(plan.ranks),
            epochs=plan.epochs,
            launched_at=about["launched_at"],
        )
    journal.append(
        records.COORDINATOR_STARTED,
        pid=os.getpid(),
        start_time=process_start_time(os.getpid()),
        boot_id=Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        term=term,
    )
    _write_plan(run, plan)


def _write_plan(run: RunFolder, plan: LaunchPlan) -> None:
    write_whole(run.plan(plan.generation), json.dumps(to_json(plan), indent=2) + "\n")


def _stage(spec: ClusterSpec, run: RunFolder, host: str) -> tuple[str, str]:
    folder = run.host(host)
    run.hosts.mkdir(mode=0o700, exist_ok=True)
    Path(folder.root).mkdir(mode=0o700, exist_ok=True)
    code = stage_code.stage(folder)
    if spec.runs_own_code:
        return code, stage_source.stage(spec.sync, folder)
    empty = Path(folder.sources("none"))
    empty.parent.mkdir(mode=0o700, exist_ok=True)
    empty.mkdir(mode=0o700, exist_ok=True)
    return code, str(empty)


def write_whole(path: Path, text: str) -> None:
    """Write a file so that no reader sees half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.chmod(0o600)
    temporary.replace(path)


def process_start_time(pid: int) -> int:
    """Field 22 of /proc/PID/stat, in clock ticks since boot: with the pid it names a process of this boot."""
    text = Path(f"/proc/{pid}/stat").read_text()
    return int(text.rpartition(")")[2].split()[19])


def command_started_at() -> float:
    """When this process began, in seconds since 1970: what a person has waited from."""
    ticks = process_start_time(os.getpid())
    since_boot = ticks / os.sysconf("SC_CLK_TCK")
    return time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - since_boot)
