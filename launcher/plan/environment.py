"""The environment of a rank: TF_CONFIG, the contract's variables, threads, devices, and the user's own last. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from launcher.errors import Problem, SpecError
from launcher.plan.facts import HostFacts
from launcher.spec.model import ClusterSpec, HostSpec, Named
from worker.contract import names
from worker.contract.layout import HostFolder

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Two workers must never see one GPU, whatever `env:` says: which they see is the plan's to say.
_OURS = frozenset({names.TF_CONFIG, "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"})


@dataclass(frozen=True)
class Seat:
    """A rank's place: where it runs and with what. None: not known yet."""

    rank: int
    host: HostSpec
    facts: HostFacts | None
    gpus: tuple[str, ...]
    threads: int | None
    address: str | None
    port: int | None


@dataclass(frozen=True)
class Life:
    """What all ranks of a generation have in common. `resume_dirs` is by host name."""

    run: str
    generation: int
    world_size: int | None
    cluster: tuple[str, ...] | None  # address:port by rank; None while one is unknown
    addresses: tuple[str, ...]
    resumes: str
    resume_dirs: Mapping[str, str]
    savers: frozenset[int]  # the ranks that save checkpoints


def endpoint(address: str, port: int) -> str:
    """`address:port` as TensorFlow reads it: IPv6 in brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def data_variable(name: str) -> str:
    """The variable that says where named data are."""
    return names.DATA + re.sub(r"[^A-Z0-9]", "_", name.upper())


def tf_config(cluster: Sequence[str], rank: int) -> str:
    """The TF_CONFIG of a rank. There is no chief task: worker 0 is the chief."""
    return json.dumps({"cluster": {"worker": list(cluster)}, "task": {"type": "worker", "index": rank}})


def environment(spec: ClusterSpec, seat: Seat, life: Life) -> Mapping[str, str]:
    """What is set for a rank on top of its host's environment. Variables whose facts are not known yet are left out."""
    env = {} if life.cluster is None else {names.TF_CONFIG: tf_config(life.cluster, seat.rank)}
    env[names.RUN] = life.run
    env[names.HOST] = seat.host.name
    env[names.RANK] = str(seat.rank)
    if life.world_size is not None:
        env[names.WORLD_SIZE] = str(life.world_size)
    env[names.GENERATION] = str(life.generation)
    if seat.facts is not None:
        env.update(_paths(seat.rank, seat.facts, life))
        env.update((data_variable(name), path) for name, path in seat.facts.data.items())
        env["CUDA_VISIBLE_DEVICES"] = ",".join(seat.gpus)
    env["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    env.update(_threads(seat.threads))
    env["PYTHONUNBUFFERED"] = "1"
    env.update(_network(seat, life))
    if spec.train is not None:
        env[names.TRAIN] = json.dumps(_train(spec, seat, life))
    if spec.runs_own_code and seat.facts is not None:
        before = seat.host.env.get("PYTHONPATH", seat.facts.environment.get("PYTHONPATH", ""))
        env["PYTHONPATH"] = ":".join(part for part in (seat.facts.source, before) if part)
    added = {"no_proxy", "PYTHONPATH"} & env.keys()  # the user's value is already a part of ours
    env.update((name, value) for name, value in seat.host.env.items() if name not in added)
    return MappingProxyType(env)


def check(spec: ClusterSpec) -> None:
    """Raises SpecError for names in `env:` and `secrets:` that are the launcher's, or that no shell can set."""
    problems = [
        Problem(spec.path, f"hosts[{host.name}].env.{name}", why, expected="a variable of your own", hint=hint)
        for host in spec.hosts
        for name, value in host.env.items()
        for why, hint in _faults(name, value)
    ]
    problems += [
        Problem(spec.path, f"secrets.{name}", why, expected="a variable of your own", hint=hint)
        for name in spec.secrets
        for why, hint in _faults(name, "")
    ]
    if problems:
        raise SpecError(problems)


def _faults(name: str, value: str) -> list[tuple[str, str]]:
    if not _NAME.fullmatch(name):
        return [("is not the name of an environment variable", "use letters, digits and _, not beginning with a digit")]
    if name.startswith("CUDA_") and name in _OURS:
        return [("is set by the launcher for each worker", "say which GPUs to use with `gpus:`")]
    if name in _OURS or name.startswith("LAUNCHER_"):
        return [("is set by the launcher", "remove it; `launcher plan` shows what each worker is given")]
    return [("holds a NUL byte", "remove it: no process can be given one")] if "\0" in value else []


def _paths(rank: int, facts: HostFacts, life: Life) -> dict[str, str]:
    folder = HostFolder(facts.folder)
    resume = f"{folder.checkpoints}/{life.resumes}" if life.resumes else ""
    return {
        names.CHECKPOINT_DIR: folder.rank_checkpoints(life.generation, rank),
        names.RESUME_DIR: life.resume_dirs.get(facts.host, resume),
        names.OUTPUT_DIR: folder.rank_output(life.generation, rank),
        names.PROGRESS_FILE: folder.progress(life.generation, rank),
        "TMPDIR": folder.rank_tmp(life.generation, rank),
    }


def _threads(threads: int | None) -> dict[str, str]:
    """OpenBLAS gets one: TensorFlow does not use it, and its pool is only memory and a process that cannot fork."""
    if threads is None:
        return {"OPENBLAS_NUM_THREADS": "1"}
    return {
        "TF_NUM_INTRAOP_THREADS": str(threads),
        "OMP_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": "1",
    }


def _network(seat: Seat, life: Life) -> dict[str, str]:
    """gRPC would go to the proxy for a peer that lower-case no_proxy does not name, and hang."""
    if seat.facts is None or life.cluster is None:
        return {}
    theirs = seat.facts.environment
    before = seat.host.env.get("no_proxy", theirs.get("no_proxy", theirs.get("NO_PROXY", "")))
    if before.strip() == "*":
        return {"no_proxy": "*", **_interface(seat)}
    parts = [part.strip() for part in before.split(",") if part.strip()]
    return {"no_proxy": ",".join(dict.fromkeys((*parts, *life.addresses))), **_interface(seat)}


def _interface(seat: Seat) -> dict[str, str]:
    if seat.facts is None or not seat.facts.interface or seat.address != seat.facts.address:
        return {}
    return {"NCCL_SOCKET_IFNAME": seat.facts.interface}


def _train(spec: ClusterSpec, seat: Seat, life: Life) -> dict[str, object]:
    train = spec.train
    assert train is not None
    dataset = {"kind": train.dataset.kind, "path": train.dataset.path}
    if seat.facts is not None and seat.facts.dataset is not None:
        dataset["kind"], dataset["path"] = seat.facts.dataset
    if train.dataset.function is not None:
        dataset["function"] = train.dataset.function
    return {
        "model": train.model,
        "dataset": dataset,
        "epochs": train.epochs,
        "batch_size": train.batch_size,
        "learning_rate": train.learning_rate if isinstance(train.learning_rate, float) else _named(train.learning_rate),
        "optimizer": _named(train.optimizer),
        "loss": None if train.loss is None else _named(train.loss),
        "seed": train.seed,
        "deterministic": train.deterministic,
        "precision": _named(train.precision),
        "communication": train.communication,
        "threads": seat.threads,
        "workers": life.world_size,
        "checkpoint": {
            "every_epochs": spec.checkpoint.every_epochs,
            "every_steps": spec.checkpoint.every_steps,
            "every_seconds": spec.checkpoint.every_seconds,
            "saves": seat.rank in life.savers,
        },
    }


def _named(thing: Named) -> object:
    """As it stands in a spec: the name alone, or a mapping with its settings."""
    return {"name": thing.name, **thing.settings} if thing.settings else thing.name
