"""Every key of a cluster.yaml with its type, default and a line of prose: the one source of what the loader takes, of
the JSON Schema and of docs/spec.md. Shaped like the YAML; `launcher.spec.resolve` makes a ClusterSpec of it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, model_validator

from launcher.spec.keys import Keys, absent, default, needed
from launcher.spec.of_keras import A_RATE, LearningRate, Loss, Optimizer, Precision
from launcher.spec.types import (
    DATASETS,
    Address,
    Alias,
    Argument,
    Count,
    CountOrNone,
    DatasetName,
    Duration,
    DurationOrOff,
    Few,
    FunctionName,
    Gpus,
    HostKeys,
    HostName,
    Intervals,
    JobName,
    Login,
    ModelName,
    Network,
    OneOf,
    Port,
    Ports,
    Seed,
    Short,
    Size,
    Text,
    Truth,
    Variable,
)
from launcher.spec.values import UnfitError
from worker.contract.keras_names import LOSSES, OPTIMIZERS, PRECISIONS


class SshAddress(Keys):
    """How to reach a host: an alias of `~/.ssh/config` (short form: the alias alone), or an address."""

    shape = "an alias of ~/.ssh/config, or {host: ADDRESS, user: …, port: …, key: …, jump: …}"

    alias: Alias = absent("an alias of `~/.ssh/config`", "gpu-a")
    host: Address = absent("its name or address", "10.0.0.12")
    user: Login = absent("who logs in; default: what `~/.ssh/config` says, else you", "me")
    port: Port = absent("sshd's port; default: what `~/.ssh/config` says, else 22", "22")
    key: Text = absent("a private key on this machine, relative to the file", "~/.ssh/id_ed25519")
    jump: Login = absent("the host to go through: an alias, or `[user@]host[:port]`", "gate")

    @classmethod
    def long_form(cls, data: Any) -> Any:
        return {"alias": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _one_way(self) -> SshAddress:
        ways = {"alias", "host"} & self.model_fields_set
        if len(ways) != 1:
            raise UnfitError("both an alias and a host" if ways else "neither an alias nor a host", self.shape)
        return self


class HostDefaults(Keys):
    """What every host shares. Each of these keys may stand at a host, too, and then counts there instead."""

    gpus: Gpus = default("free", "`free` (those that nobody is on), `all`, how many, or which", "[0, 1, 2, 3]")
    workers: Few = absent("processes on the host, its GPUs split evenly among them; default 1", "2")
    gpus_per_worker: Few = absent("instead of `workers`: as many workers as that makes", "4")
    threads: Few = absent("intra-op threads of each worker; default: the machine's cores ÷ its workers", "8")
    network: Network = absent("picks the address that the other workers use, and NCCL's interface", "10.0.0.0/24")
    ports: Ports = default("20000-20099", "where TensorFlow may listen: at least a port for each worker")
    python: Text = absent(
        "for workers, on the host; default: this very Python here, `python3` elsewhere", "~/venv/bin/python"
    )
    activate: Text = absent(
        "a line of shell; workers get the environment that it makes", "source ~/conda/bin/activate tf"
    )
    setup: list[Text] = absent("commands that make the host ready, run once per content", "[python3 -m venv ~/venv]")
    workdir: Text = default("~/launcher-work", "where runs live on the host")
    env: dict[Variable, Argument] = absent(
        "variables for workers; a host's are added to the shared ones", "{NCCL_DEBUG: WARN}"
    )
    transport: Annotated[str, OneOf("paramiko", "openssh")] = default(
        "paramiko", "who speaks SSH: Python, or the system's `ssh`"
    )
    host_keys: HostKeys = default("known", "`known`, `accept-new`, or a pinned fingerprint")
    allow_public: Truth = default(False, "whether workers may listen on a public address")


class Host(HostDefaults):
    """One machine: a mapping that says `ssh:` or `local: true`, or an alias of `~/.ssh/config` alone."""

    shape = "an alias of ~/.ssh/config, localhost, or a mapping that says `ssh:` or `local: true`"

    name: HostName = absent("unique; shown in logs; default: the alias, the address or `localhost`", "b")
    local: Truth = absent("`true`: this machine, without SSH", "true")
    ssh: Annotated[SshAddress, Short({"type": "string"})] = absent("an alias of `~/.ssh/config`, or a mapping", "gpu-a")
    address: Address = absent("where the other workers reach it, instead of `network`", "10.0.0.12")

    @classmethod
    def long_form(cls, data: Any) -> Any:
        if isinstance(data, str):
            return {"local": True} if data == "localhost" else {"ssh": data}
        return data


class Sync(Keys):
    """Which folder of this machine travels to the hosts."""

    source: Text = default(".", "the folder, relative to the file")
    exclude: list[Text] = absent("what stays here, in the patterns of a `.gitignore`", "[data/]")
    max: Size = default("200 MB", "more than this is refused")


class Dataset(Keys):
    """What to train on: a named set (short form: its name alone), or files."""

    shape = f"{', '.join(DATASETS)}, {{npz: FILE}}, {{idx: FOLDER}} or package.module:function"

    name: DatasetName = absent("a named set; `fashion-mnist-mini` comes with the launcher")
    function: FunctionName = absent("`package.module:function`, which returns the data", "mydata:load")
    npz: Text = absent("a file with x_train, y_train, x_test and y_test, relative to the spec", "data/mine.npz")
    idx: Text = absent("a folder of IDX files, gzipped or not, relative to the spec", "data/mnist")

    @classmethod
    def long_form(cls, data: Any) -> Any:
        if isinstance(data, str):
            return {"function": data} if ":" in data else {"name": data}
        return data

    @model_validator(mode="after")
    def _one_source(self) -> Dataset:
        if len(self.model_fields_set) != 1:
            raise UnfitError("more than one source" if self.model_fields_set else "no source", self.shape)
        return self


class Train(Keys):
    """The built-in trainer's job."""

    model: ModelName = default(
        "cnn", "`cnn`, or `package.module:function`, which returns a Keras model", "mymodel:build"
    )
    dataset: Annotated[Dataset, Short({"type": "string"})] = default(
        "fashion-mnist-mini",
        f"{', '.join(DATASETS)}, files, or `package.module:function`",
        "mnist",
        "{npz: data/mine.npz}",
        "{idx: data/mnist}",
        "mydata:load",
    )
    epochs: Count = default(5, "how often all training images are gone through")
    batch_size: Count = default(64, "global: images in a step, over all workers and GPUs together")
    learning_rate: Annotated[LearningRate, Short(A_RATE)] = default(
        0.001,
        "how far each step goes: a number, or a schedule",
        "0.01",
        "{name: cosine_decay, initial_learning_rate: 0.001, decay_steps: 4690}",
    )
    optimizer: Annotated[Optimizer, Short({"enum": list(OPTIMIZERS)})] = default(
        "adam",
        "one of Keras's optimizers, or a mapping with its settings",
        "sgd",
        "{name: adamw, learning_rate: 0.01, weight_decay: 0.01}",
    )
    loss: Annotated[Loss, Short({"enum": list(LOSSES)})] = absent(
        "what training makes small; default: cross-entropy of the classes", "{label_smoothing: 0.1}"
    )
    seed: Seed = default(0, "of weights and of the order of images")
    deterministic: Truth = default(
        True, "the same bits on every run; `false` lets in ops that have no deterministic form"
    )
    precision: Annotated[Precision, Short({"enum": list(PRECISIONS)})] = default(
        "float32", "the numbers that are computed with", "mixed_bfloat16", "mixed_float16"
    )
    communication: Annotated[Literal["auto", "ring", "nccl"], OneOf("auto", "ring", "nccl")] = default(
        "auto", "how gradients are summed over workers"
    )


class Program(Keys):
    """Your own program, run on every rank instead of the trainer (short form: the list of its words alone)."""

    shape = "a list of words such as [python, train.py, --lr, 0.1]"

    argv: list[Argument] = needed("the program and its arguments, word by word; no shell", "[python, train.py]")
    mirrored: Argument = absent("what is done to MultiWorkerMirroredStrategy", "extend")
    keras_repair: Truth = absent("mend Keras 3's own `fit` under several workers", "true")
    resume: Argument = absent("how the program goes on from a checkpoint", "auto")
    one_seed: Truth = absent("seed every rank alike", "true")

    @classmethod
    def long_form(cls, data: Any) -> Any:
        return {"argv": data} if isinstance(data, list) else data

    @model_validator(mode="after")
    def _a_program(self) -> Program:
        if not self.argv or not self.argv[0]:
            raise UnfitError("no program", self.shape)
        return self


class Checkpoint(Keys):
    """When state is saved, and what is kept of it."""

    every: Intervals = default("1 epoch", "epochs, steps, a time, or a list of these", "[1 epoch, 10 min]", "100 steps")
    keep: Count = default(3, "so many of the newest stay on each host")
    home: Annotated[str, OneOf("newest", "all")] = absent(
        "which of them are brought to this machine; with `all`, none goes before it is here, and here all stay",
        "newest",
    )
    copies: Few = absent("on how many hosts each is written; default: 2 where there are two or more hosts", "2")


class Restart(Keys):
    """What happens when a worker or a host dies."""

    max: CountOrNone = default(3, "so many failures are answered with another generation; 0: none")
    per: Duration = default("1 h", "within this time; a generation without progress counts twice")
    backoff: Duration = default("1 s", "wait so long after a generation without progress, doubling each time")
    min_workers: Few = absent(
        "with so many workers training may go on while hosts are gone ([how](restarts.md#with-fewer-hosts)); "
        "default: only with all",
        "2",
    )
    grow: Annotated[Literal["at_restart", "at_checkpoint", "never"], OneOf("at_restart", "at_checkpoint", "never")] = (
        default("at_restart", "when hosts that came back are taken in again")
    )
    spares: CountOrNone = default(0, "so many of the last hosts are held in reserve, for others that die")
    zygote: Truth = default(True, "start workers from a process that has TensorFlow imported, where memory allows")
    keep_warm: DurationOrOff = default(
        "off",
        "how long such processes stay after a run that has trained, for the next `up` ([how](restarts.md#kept-warm))",
        "10 min",
    )


class Timeouts(Keys):
    """How long to wait for what, each with its unit."""

    connect: Duration = default("15 s", "for a host to be reached")
    start: Duration = default("120 s", "from a worker's start to its first step")
    stall: Duration = default("5 min", "without progress before a worker counts as stuck")
    host: Duration = default("10 s", "without a sign of life before a host counts as lost")
    checkpoint: Duration = default("5 min", "for the checkpoint that is saved when a run is stopped")
    stop: Duration = default("10 s", "between SIGTERM and SIGKILL")
    lease: Duration = default("24 h", "for which training goes on without a coordinator")


class Coordinator(Keys):
    """What concerns this machine, from which the run is started."""

    runs: Text = absent("where runs are kept; default: `$LAUNCHER_RUNS`, else `~/launcher-runs`", "~/launcher-runs")
    on_end: Text = absent(
        "a program that is called when the run has ended ([how](restarts.md#to-be-told))", "./notify.sh"
    )
    on_event: Text = absent(
        "a program that is called at each event of the coordinator's journal, one at a time", "./log.sh"
    )


def _hosts(value: Any) -> Any:
    if not isinstance(value, list) or not value:
        raise UnfitError("not a list" if value else "no hosts", "a list of hosts, or {file: hosts.yaml}")
    return value


_A_FILE = {
    "type": "object",
    "properties": {"file": {"type": "string"}},
    "required": ["file"],
    "additionalProperties": False,
}


class Spec(Keys):
    """A cluster.yaml."""

    name: JobName = needed("what runs are called, a time is added", "fashion-cnn")
    hosts: Annotated[list[Annotated[Host, Short({"type": "string"})]], BeforeValidator(_hosts), Short(_A_FILE)] = (
        needed(
            "the machines; or `{file: hosts.yaml}`, a list of them that many jobs share",
            "[gpu-a, gpu-b]",
            "{file: hosts.yaml}",
        )
    )
    host_defaults: HostDefaults = absent("what every host shares")
    sync: Sync = absent("which folder travels to the hosts")
    data: dict[HostName, Text] = absent(
        "named paths of data; `host:` before a path: already there", "{train: 'host:/data/train'}"
    )
    secrets: list[Variable] = absent(
        "variables taken from this machine's environment, never written down", "[WANDB_API_KEY]"
    )
    train: Train = absent("the built-in trainer's job; the default when there is no `program`")
    program: Annotated[
        Program, Short({"type": "array", "items": {"type": ["string", "number", "boolean"]}, "minItems": 1})
    ] = absent("your own program, instead of `train`", "[python, train.py, --lr, 0.1]")
    checkpoint: Checkpoint = absent("when state is saved")
    restart: Restart = absent("what happens when something dies")
    timeouts: Timeouts = absent("how long to wait for what")
    coordinator: Coordinator = absent("what concerns this machine")
