"""Checkpoints on disk: written whole or not at all, read only when every hash verifies. NumPy, no TensorFlow."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ..contract import checkpoints, layout, records

Arrays = dict[str, npt.NDArray[Any]]
newest_complete = checkpoints.newest


class CheckpointError(Exception):
    """A checkpoint that cannot be used; the message names the file and what is wrong with it."""


@dataclass(frozen=True)
class Checkpoint:
    """All that a run needs to go on. `arrays` is what must be equal bit for bit; `state` is JSON beside it."""

    generation: int
    step: int
    epoch: int
    why: str  # every | asked | rescue | end
    arrays: Mapping[str, npt.NDArray[Any]]
    state: Mapping[str, Any]

    @property
    def name(self) -> str:
        return layout.checkpoint_name(self.generation, self.step)


def write(folder: str, checkpoint: Checkpoint) -> str:
    """Write a checkpoint into `folder`; returns its name. Blocks until it is on disk.

    It appears under its name only when it is whole; whatever happens before leaves nothing. Equal arrays give an equal
    arrays.npz, byte for byte. Raises OSError (a full disk, a missing folder).
    """
    temporary = os.path.join(folder, f".{checkpoint.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    os.mkdir(temporary, 0o700)
    try:
        files = {
            checkpoints.ARRAYS: _write_arrays(os.path.join(temporary, checkpoints.ARRAYS), checkpoint.arrays),
            checkpoints.STATE: _write_json(os.path.join(temporary, checkpoints.STATE), checkpoint.state),
        }
        manifest = {
            "files": files,
            "step": checkpoint.step,
            "epoch": checkpoint.epoch,
            "generation": checkpoint.generation,
            "why": checkpoint.why,
        }
        _write_json(os.path.join(temporary, checkpoints.MANIFEST), manifest)
        sync_folder(temporary)
        os.rename(temporary, os.path.join(folder, checkpoint.name))
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(folder)
    return checkpoint.name


def read(folder: str) -> Checkpoint:
    """A checkpoint, checked first. Raises CheckpointError."""
    try:
        manifest = checkpoints.read_manifest(folder)
        with open(os.path.join(folder, checkpoints.STATE), "rb") as file:
            state = json.load(file)
        with np.load(os.path.join(folder, checkpoints.ARRAYS), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, MemoryError, EOFError) as error:
        raise CheckpointError(str(error)) from error
    return Checkpoint(
        generation=manifest["generation"],
        step=manifest["step"],
        epoch=manifest["epoch"],
        why=str(manifest.get("why", "")),
        arrays=arrays,
        state=state,
    )


def sync_folder(folder: str) -> None:
    """Make the names in a folder last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_arrays(path: str, arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, Any]:
    # Not numpy.savez: before NumPy 2.1 it cannot be told to refuse what it would have to pickle.
    with open(path, "xb", opener=_private) as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name in sorted(arrays):
                with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asarray(arrays[name]), allow_pickle=False)
        _sync(file)
    return _measured(path)


def _write_json(path: str, value: Mapping[str, Any]) -> dict[str, Any]:
    with open(path, "xb", opener=_private) as file:
        file.write(records.dumps(dict(value)))
        _sync(file)
    return _measured(path)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _measured(path: str) -> dict[str, Any]:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            digest.update(piece)
        return {"bytes": file.tell(), "sha256": digest.hexdigest()}
