"""Make one host ready for a run: all that `up` has to do there before the facts are gathered, in one call."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from launcher.errors import NotFitError
from launcher.hosts.package import Package
from launcher.hosts.session import Session
from launcher.hosts.visit import Visit
from launcher.spec.model import HostSpec
from launcher.stage.inputs import setup_inputs
from launcher.stage.remote import Activated, Tell, There
from launcher.stage.survey import DEBIAN_FASHION_MNIST, Data
from launcher.stage.travel import Tree
from worker.contract.layout import HostFolder


@dataclass(frozen=True)
class Goods:
    """What travels to every host of a run, surveyed once. `data` and `on_host` are by the names of the spec."""

    sources: Tree | None = None
    only_setup: bool = False  # the workers run nothing of it: they get an empty folder
    data: Mapping[str, Data] = field(default_factory=dict)
    on_host: Mapping[str, str] = field(default_factory=dict)  # paths that must be there already
    dataset: Data | None = None
    dataset_kind: str = ""


@dataclass(frozen=True)
class Ready:
    """A host that has all it needs. All paths are absolute, there."""

    workdir: str
    folder: str  # of the run on this host
    code: str
    python: str  # the version of its python3
    source: str  # the run's own copy of the user's folder, or an empty folder
    data: Mapping[str, str]
    dataset: str | None  # None: the trainer finds it where it looks by itself
    activated: Activated
    setup_log: str


def make_ready(
    session: Session,
    host: HostSpec,
    run: str,
    goods: Goods,
    *,
    folder: HostFolder | None = None,
    package: Package | None = None,
    tell: Tell = lambda _: None,
    printed: Callable[[bytes], None] = lambda _: None,
    during: Visit | None = None,
) -> Ready:
    """Bring what travels, run `setup`, capture `activate`, make the run's copy. Blocks; for a thread of its own.

    `folder` is the run's on the host, by default `<workdir>/<run>/<host name>`. `during`: a visit that is open, and
    goes on afterwards. May be called again, for the same run too: what is there is kept, and what was cut off goes on.
    Raises NotFitError.
    """
    with There(session, workdir=host.workdir, package=package, tell=tell, printed=printed, during=during) as there:
        on_host = _must_be_there(there, goods.on_host)
        source = there.bring(goods.sources, "sources") if goods.sources is not None else ""
        data = {name: each.path(there.bring(each.tree, "data")) for name, each in goods.data.items()}
        dataset = _bring_dataset(there, goods)
        log = ""
        if host.setup:
            inputs = setup_inputs(host.setup, host.activate, host.python, goods.sources)
            done = there.setup(host.setup, inputs, source)
            source, log = done.source, done.log
        activated = there.activate(host.activate) if host.activate is not None else Activated()
        folder = folder or HostFolder(posixpath.join(there.workdir, run, host.name))
        copied = goods.sources if not goods.only_setup else None
        copy = folder.sources(copied.digest if copied is not None else "none")
        return Ready(
            workdir=there.workdir,
            folder=folder.root,
            code=there.code,
            python=there.python,
            source=there.copy(source if copied is not None else "", copy),
            data={**data, **on_host},
            dataset=dataset,
            activated=activated,
            setup_log=log,
        )


def _must_be_there(there: There, paths: Mapping[str, str]) -> dict[str, str]:
    if not paths:
        return {}
    found = dict(zip(paths, there.look(list(paths.values())), strict=True))
    for name, (path, kind) in found.items():
        if kind not in ("file", "folder"):
            raise NotFitError(
                f"{there.host}: the data {name} ({path}) {'is not there' if not kind else f'is {kind}'}",
                hint="put it there, or give a path of this machine, without `host:`, to have it brought",
            )
    return {name: path for name, (path, _) in found.items()}


def _bring_dataset(there: There, goods: Goods) -> str | None:
    if goods.dataset is None:
        return None
    if goods.dataset_kind == "fashion-mnist" and there.look([DEBIAN_FASHION_MNIST])[0][1] == "folder":
        return None
    return goods.dataset.path(there.bring(goods.dataset.tree, "data"))
