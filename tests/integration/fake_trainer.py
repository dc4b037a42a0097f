"""A stand-in for the trainer: does what its arguments say, one after another, and needs nothing but Python.

step:N  epoch:N  phase:NAME  save:N[:torn|:other]  result  failure:REASON  output:NAME  write:TEXT   what it tells
train:[FILE]     steps until it is asked to stop, then saves and exits with 82; or with 81 once FILE is there
wait:FILE  stay  freeze  deaf            waits; sleeps for ever; stops itself; ignores SIGTERM and SIGINT
heed             takes SIGTERM as the trainer does: its host has to go, which its agent is told
orphan:FILE      double-forks a child in a session of its own with a cleared environment that ignores SIGTERM
exit:N  die:SIGNAL  env:FILE  pid:FILE
"""

import contextlib
import faulthandler
import hashlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

RANK = int(os.environ["LAUNCHER_RANK"])
GENERATION = int(os.environ["LAUNCHER_GENERATION"])


def tell(**record: object) -> None:
    data = json.dumps({"t": time.time(), **record}).encode() + b"\n"
    with open(os.environ["LAUNCHER_PROGRESS_FILE"], "ab") as file:
        file.write(data)


def put(path: str, text: str) -> None:
    new = Path(path + ".new")
    new.write_text(text, encoding="utf-8")
    new.rename(path)


def step(number: int) -> None:
    tell(type="step", epoch=1, step=number, steps=1000, loss=1.0 / number, images_per_second=100.0)


def save(number: int, why: str = "every", torn: bool = False, other: bool = False) -> None:
    name = f"g{GENERATION}-s{number}"
    folder = Path(os.environ["LAUNCHER_CHECKPOINT_DIR"], name)
    folder.mkdir()
    data = f"{'other ' if other else ''}weights of step {number}".encode()
    (folder / "arrays.npz").write_bytes(data[:-1] if torn else data)
    files = {"arrays.npz": {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}}
    manifest = {"files": files, "step": number, "epoch": 1, "generation": GENERATION, "why": why}
    put(str(folder / "manifest.json"), json.dumps(manifest))
    tell(type="saved", folder=name, step=number, epoch=1, why=why)


def asked(patience_s: float) -> bool:
    ready, _, _ = select.select([int(os.environ["LAUNCHER_CONTROL_FD"])], [], [], patience_s)
    return bool(ready) and b'"stop"' in os.read(ready[0], 4096)


def train(argument: str) -> None:
    broken = argument
    number = 0
    while True:
        number += 1
        step(number)
        if asked(0.05):
            save(number, "asked")
            sys.exit(82)
        if broken and Path(broken).exists():
            save(number, "rescue")
            sys.exit(81)


def orphan(path: str) -> None:
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            code = (
                "import os,signal,sys,time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
                "open(sys.argv[1]+'.new','w').write(str(os.getpid())); os.rename(sys.argv[1]+'.new', sys.argv[1]);"
                "time.sleep(600)"
            )
            os.execve(sys.executable, [sys.executable, "-I", "-S", "-c", code, path], {})
        os._exit(0)
    os.wait()
    wait(path)


def wait(path: str) -> None:
    while not Path(path).exists():
        time.sleep(0.01)


def deaf() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def heed() -> None:
    signal.signal(signal.SIGTERM, lambda *_: tell(type="going", why="SIGTERM"))


def act(what: str, argument: str) -> None:
    actions: dict[str, Callable[[], object]] = {
        "step": lambda: step(int(argument)),
        "epoch": lambda: tell(type="epoch", epoch=int(argument), loss=0.5, accuracy=0.8, val_loss=float("nan")),
        "phase": lambda: tell(type="phase", name=argument, seconds=0.1),
        "save": lambda: save(int(argument.split(":")[0]), torn="torn" in argument, other="other" in argument),
        "result": lambda: tell(type="result", test_loss=0.4, test_accuracy=0.9, model="model.keras"),
        "failure": lambda: tell(type="failure", reason=argument, message="it went wrong", hint="try again"),
        "output": lambda: put(f"{os.environ['LAUNCHER_OUTPUT_DIR']}/{argument}", f"by g{GENERATION}"),
        "write": lambda: print(argument, flush=True),
        "train": lambda: train(argument),
        "wait": lambda: wait(argument),
        "stay": lambda: time.sleep(600),
        "freeze": lambda: os.kill(os.getpid(), signal.SIGSTOP),
        "deaf": deaf,
        "heed": heed,
        "orphan": lambda: orphan(argument),
        "exit": lambda: sys.exit(int(argument)),
        "die": lambda: os.kill(os.getpid(), signal.Signals[argument]),
        "env": lambda: put(argument, json.dumps(dict(os.environ))),
        "pid": lambda: put(argument, str(os.getpid())),
    }
    actions[what]()


if __name__ == "__main__":
    if "LAUNCHER_STACKS_FILE" in os.environ:
        faulthandler.register(signal.SIGUSR2, open(os.environ["LAUNCHER_STACKS_FILE"], "ab"))  # noqa: SIM115 - for life
    with contextlib.suppress(KeyboardInterrupt):
        for argument in sys.argv[1:]:
            act(*argument.partition(":")[::2])
