"""The checked mappings of a cluster.yaml → ClusterSpec: paths made absolute, what must hold of several keys at once."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from launcher.spec import schema
from launcher.spec.hosts import known_workers, refuse_set_variables, resolve_hosts
from launcher.spec.model import (
    CheckpointSpec,
    ClusterSpec,
    CoordinatorSpec,
    DatasetSpec,
    DataSpec,
    HostSpec,
    Named,
    ProgramSpec,
    RestartSpec,
    SyncSpec,
    Timeouts,
    TrainSpec,
)
from launcher.spec.nodes import Loc
from launcher.spec.of_keras import CONSTANT, OfKeras
from launcher.spec.problems import Report


@dataclass(frozen=True)
class Places:
    """Where the paths of a spec start from."""

    file: Path  # the cluster.yaml, absolute
    base: Path  # of bare paths
    hosts_base: Path  # of bare paths in the hosts' own file
    environ: Mapping[str, str]

    def absolute(self, text: str, base: Path | None = None) -> str:
        """A path of this machine as it is meant: `~` is HOME, a bare one starts at the base."""
        if text == "~" or text.startswith("~/"):
            text = str(Path(self.environ.get("HOME") or os.path.expanduser("~")) / text[2:])  # noqa: PTH111
        elif text.startswith("~"):
            text = os.path.expanduser(text)  # noqa: PTH111 - Path.expanduser raises where no such user is
        return str((base or self.base) / text)


def resolve(spec: schema.Spec, indexes: Sequence[int], report: Report, places: Places) -> ClusterSpec:
    """`indexes` are the places of the spec's hosts in the file's list. Problems go to the report; with any of them the
    result is not to be used."""
    given = spec.given
    placed = list(zip(indexes, spec.hosts, strict=True))
    hosts = resolve_hosts(
        placed, given.get("host_defaults"), report, lambda key: places.absolute(key, places.hosts_base)
    )
    if "train" in given and "program" in given:
        report.add(("program",), "both `train` and `program`", expected="one of the two")
    program = ProgramSpec(tuple(spec.program.argv)) if "program" in given else None
    train = None if program else _train(given.get("train") or schema.Train(), report, places)
    if train:
        _images_for_each_worker(train, hosts, report)
    return ClusterSpec(
        path=str(places.file),
        name=spec.name,
        hosts=hosts,
        sync=_sync(given.get("sync") or schema.Sync(), report, places),
        coordinator=_coordinator(given.get("coordinator"), places),
        train=train,
        program=program,
        secrets=_secrets(given.get("secrets", []), hosts, report),
        data=_data(given.get("data", {}), report, places),
        checkpoint=_checkpoint(given.get("checkpoint") or schema.Checkpoint(), hosts, report),
        timeouts=Timeouts(**(given.get("timeouts") or schema.Timeouts()).model_dump()),
        restart=_restart(given.get("restart") or schema.Restart(), hosts, train is not None, report),
    )


def _restart(restart: schema.Restart, hosts: Sequence[HostSpec], trains: bool, report: Report) -> RestartSpec:
    _keep_warm(restart, trains, report)
    least, spares = restart.given.get("min_workers"), restart.spares
    if spares and spares >= len(hosts):
        report.add(
            ("restart", "spares"),
            f"{spares} of {len(hosts)} host{'s' if len(hosts) > 1 else ''} in reserve",
            expected="at least one host that is not",
        )
        spares = 0
    known = [known_workers(host) for host in hosts[: len(hosts) - spares]]
    workers = sum(count for count in known if count)
    if least is not None and None not in known and least > workers:
        report.add(
            ("restart", "min_workers"),
            f"{least} workers, and the hosts at work have {workers}",
            expected="no more than there are when all is well",
        )
    return RestartSpec(
        max=restart.max,
        per=restart.per,
        backoff=restart.backoff,
        zygote=restart.zygote,
        min_workers=least,
        grow=restart.grow,
        spares=spares,
        keep_warm=restart.keep_warm,
    )


def _keep_warm(restart: schema.Restart, trains: bool, report: Report) -> None:
    loc: Loc = ("restart", "keep_warm")
    if restart.keep_warm and not restart.zygote:
        report.add(loc, "there is nothing to be kept with `zygote: false`", expected="off, or `zygote: true`")
    elif restart.keep_warm and not trains:
        report.add(loc, "a program is started cold each time: there is nothing to be kept", expected="off")


def _train(train: schema.Train, report: Report, places: Places) -> TrainSpec:
    optimizer = train.optimizer.given
    if "learning_rate" in optimizer and "learning_rate" in train.model_fields_set:
        report.add(
            ("train", "learning_rate"),
            "given twice: here and in `optimizer`",
            expected="one of the two",
        )
    return TrainSpec(
        model=train.model,
        dataset=_dataset(train.dataset, report, places),
        epochs=train.epochs,
        batch_size=train.batch_size,
        learning_rate=_rate(optimizer.get("learning_rate", train.learning_rate)),
        optimizer=_named(train.optimizer),
        loss=_named(train.loss) if "loss" in train.given else None,
        seed=train.seed,
        deterministic=train.deterministic,
        precision=_named(train.precision),
        communication=train.communication,
    )


def _named(found: OfKeras) -> Named:
    return Named(found.name, found.settings)


def _rate(found: OfKeras) -> float | Named:
    return float(found.settings["initial_learning_rate"]) if found.name == CONSTANT else _named(found)


def _dataset(dataset: schema.Dataset, report: Report, places: Places) -> DatasetSpec:
    ((kind, value),) = dataset.given.items()
    if kind == "name":
        return DatasetSpec(value)
    if kind == "function":
        return DatasetSpec("function", function=value)
    loc: Loc = ("train", "dataset", kind)
    path = places.absolute(value)
    if kind == "npz":
        _exists(Path(path), "file", loc, report)
    else:
        _exists(Path(path), "folder", loc, report)
    return DatasetSpec(kind, path)


def _exists(path: Path, what: str, loc: Loc, report: Report) -> None:
    try:
        there = path.is_file() if what == "file" else path.is_dir()
        other = path.exists()
    except OSError as error:  # a name too long, a folder that may not be looked into
        report.add(loc, f"cannot be looked at: {error.strerror}", expected=f"a {what}", found=str(path))
        return
    if not there:
        message = f"not a {what}" if other else f"no such {what}"
        report.add(loc, message, expected=f"a {what}", found=str(path))


def _images_for_each_worker(train: TrainSpec, hosts: Sequence[HostSpec], report: Report) -> None:
    workers = sum(known_workers(host) or 1 for host in hosts)
    if train.batch_size < workers and not report.has(("train", "batch_size")):
        report.add(
            ("train", "batch_size"),
            f"{train.batch_size} images for {workers} workers",
            expected="at least one image for each worker in a step",
        )


def _sync(sync: schema.Sync, report: Report, places: Places) -> SyncSpec:
    source = places.absolute(sync.source)
    if "source" in sync.model_fields_set:
        _exists(Path(source), "folder", ("sync", "source"), report)
    return SyncSpec(source, tuple(sync.given.get("exclude", ())), sync.max)


def _secrets(names: Sequence[str], hosts: Sequence[HostSpec], report: Report) -> tuple[str, ...]:
    refuse_set_variables(names, ("secrets",), report)
    for index, name in enumerate(names):
        if name in names[:index]:
            report.add(("secrets", index), f"`{name}` is named twice")
        if any(name in host.env for host in hosts):
            report.add(("secrets", index), f"`{name}` is in `env`, too", expected="one of the two")
    return tuple(names)


def _checkpoint(checkpoint: schema.Checkpoint, hosts: Sequence[HostSpec], report: Report) -> CheckpointSpec:
    every, copies = checkpoint.every, checkpoint.given.get("copies")
    home: Literal["newest", "all"] = "all" if checkpoint.given.get("home") == "all" else "newest"
    if copies is not None and copies > len(hosts):
        report.add(
            ("checkpoint", "copies"),
            f"{copies} copies for {len(hosts)} host{'s' if len(hosts) > 1 else ''}",
            expected="at most one copy on each host",
        )
    return CheckpointSpec(every.get("epochs"), every.get("steps"), every.get("seconds"), checkpoint.keep, home, copies)


def _data(given: Mapping[str, str], report: Report, places: Places) -> Mapping[str, DataSpec]:
    """`host:/path` is on the hosts already; anything else is a path of this machine."""
    found = {}
    for name, path in given.items():
        on_host = path.startswith("host:")
        there = path.removeprefix("host:")
        if not there or (on_host and not there.startswith("/")):
            report.add(("data", name), "no whole path", expected="a path of this machine, or host:/PATH", found=path)
        found[name] = DataSpec(there if on_host else places.absolute(there), on_host)
    return found


def _coordinator(coordinator: schema.Coordinator | None, places: Places) -> CoordinatorSpec:
    programs = coordinator.given if coordinator else {}
    called = {key: places.absolute(programs[key]) for key in ("on_end", "on_event") if key in programs}
    return CoordinatorSpec(_runs(coordinator, places), **called)


def _runs(coordinator: schema.Coordinator | None, places: Places) -> str:
    given = coordinator.given if coordinator else {}
    if "runs" in given:
        return places.absolute(given["runs"])
    if places.environ.get("LAUNCHER_RUNS"):
        # It comes from a shell, so a bare path starts where the shell is.
        return places.absolute(places.environ["LAUNCHER_RUNS"], Path.cwd())
    return places.absolute("~/launcher-runs")
