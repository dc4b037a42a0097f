"""Data sets that Keras fetches: read from its cache, else downloaded by its own loader.

The loader runs in a process of its own. So Keras is not imported into this one, whose main thread may be importing
TensorFlow at that moment; its progress bar stays off the log; and a network that answers nothing can be given up on at
any point. It downloads into a temporary folder, from which whole and checked files are moved into the cache: Keras
itself would leave half a file there when it is interrupted, and several workers of a host may be at it at once.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace

from ..words import say
from . import idx, npz
from .arrays import Arrays, DataError, shown

PROBE_S = 6.0
DOWNLOAD_S = 100.0  # below the 120 s that a rank has for its start, so that the reason is ours to tell

_PROBE = """
import sys, urllib.request
urllib.request.urlopen(urllib.request.Request(sys.argv[1], method="HEAD"), timeout=5).close()
"""
_LOADER = """
import importlib, socket, sys
sys.path[:] = [entry for entry in sys.path if entry]
socket.setdefaulttimeout(15)
importlib.import_module("keras.datasets." + sys.argv[1]).load_data()
"""
_ORIGIN = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"


@dataclass(frozen=True)
class _Source:
    place: str  # under the datasets folder of Keras's home: a file, or a folder
    files: tuple[str, ...]  # as the loader leaves them, relative to the datasets folder
    module: str  # of keras.datasets
    probe: str  # a file of it at Keras's server
    read: Callable[[str], Arrays]


_SOURCES = {
    "mnist": _Source("mnist.npz", ("mnist.npz",), "mnist", "mnist.npz", npz.load),
    "fashion-mnist": _Source(
        "fashion-mnist",
        tuple(os.path.join("fashion-mnist", idx.names(part)[2]) for part in idx.PARTS),
        "fashion_mnist",
        "train-labels-idx1-ubyte.gz",
        idx.load,
    ),
}

Run = Callable[[list[str], dict[str, str], float], "str | None"]


def home() -> str:
    """Keras's own folder."""
    return os.path.expanduser(os.environ.get("KERAS_HOME") or os.path.join("~", ".keras"))


def run(argv: list[str], env: dict[str, str], timeout_s: float) -> str | None:
    """Run a command quietly; None if it went well, else in a line why not. It is killed when its time is up."""
    try:
        done = subprocess.run(
            argv,
            env=env,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no end after {timeout_s:g} s"
    except OSError as error:
        return str(error)
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return (lines[-1] if lines else f"exit code {done.returncode}") if done.returncode else None


def load(kind: str, run: Run = run) -> Arrays:
    """`mnist` or `fashion-mnist`. Blocks for at most PROBE_S when offline, else DOWNLOAD_S. Raises DataError."""
    source = _SOURCES[kind]
    cache = os.path.join(home(), "datasets")
    if all(os.path.exists(os.path.join(cache, file)) for file in source.files):
        return source.read(os.path.join(cache, source.place))
    trouble = run([sys.executable, "-I", "-c", _PROBE, _ORIGIN + source.probe], dict(os.environ), PROBE_S)
    if trouble:
        raise DataError(
            f"the data set {kind} is not on this machine ({_looked(kind, cache, source)}) "
            f"and its server cannot be reached: {trouble}",
            hint=_hint(kind, cache, source),
        )
    say(f"{kind}: not on this machine; Keras's loader downloads it into {shown(cache)}")
    return _download(kind, cache, source, run)


def _download(kind: str, cache: str, source: _Source, run: Run) -> Arrays:
    with _workplace(cache) as place:
        env = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
        env.update(KERAS_HOME=place, KERAS_BACKEND="tensorflow", CUDA_VISIBLE_DEVICES="-1", TF_CPP_MIN_LOG_LEVEL="3")
        trouble = run([sys.executable, "-c", _LOADER, source.module], env, DOWNLOAD_S)
        if trouble:
            raise DataError(
                f"the data set {kind} is not on this machine ({_looked(kind, cache, source)}) "
                f"and Keras's loader could not download it: {trouble}",
                hint=_hint(kind, cache, source),
            )
        arrays = source.read(os.path.join(place, "datasets", source.place))
        target = os.path.join(cache, source.place)
        with contextlib.suppress(OSError):  # a cache that cannot be written costs a download next time, no more
            for file in source.files:
                os.makedirs(os.path.dirname(os.path.join(cache, file)), exist_ok=True)
                os.replace(os.path.join(place, "datasets", file), os.path.join(cache, file))
            return replace(arrays, source=target)
        return replace(arrays, source=_ORIGIN)


def _workplace(cache: str) -> tempfile.TemporaryDirectory[str]:
    """A temporary folder on the file system of the cache, or anywhere if the cache cannot be written."""
    try:
        os.makedirs(cache, exist_ok=True)
        return tempfile.TemporaryDirectory(prefix=".download-", dir=cache, ignore_cleanup_errors=True)
    except OSError:
        return tempfile.TemporaryDirectory(prefix="keras-", ignore_cleanup_errors=True)


def _looked(kind: str, cache: str, source: _Source) -> str:
    places = "Debian's dataset-fashion-mnist and " if kind == "fashion-mnist" else ""
    return f"looked for {places}{shown(os.path.join(cache, source.place))}"


def _hint(kind: str, cache: str, source: _Source) -> str:
    debian = ", install Debian's package dataset-fashion-mnist" if kind == "fashion-mnist" else ""
    return (
        f"use the embedded `dataset: fashion-mnist-mini`{debian}, or copy {shown(os.path.join(cache, source.place))} "
        "from a machine that has it"
    )
