"""A checkpoint goes from home to a host, for a run that is resumed there; nothing is sent that the host has."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from launcher.errors import NotFitError, RunError
from launcher.hosts.door import enter
from launcher.hosts.session import Channel, Session
from launcher.hosts.talk import Talk
from worker.contract import receiving, wire
from worker.contract.checkpoints import ARRAYS, FILES, MANIFEST, read_manifest
from worker.contract.layout import parse_checkpoint_name

_ANSWER_S = 60.0

Progress = Callable[[int, int], None]


def bring_checkpoint(
    session: Session,
    checkpoint: Path,
    folder: str,
    *,
    workdir: str,
    progress: Progress = lambda _sent, _total: None,
) -> str:
    """Bring a checkpoint into a run's folder on a host; its absolute path there, under which it is whole.

    Blocks. After a cut call it again with a fresh session: it goes on where it was. A checkpoint of the same name and
    arrays that is whole there already is taken as it is; one that is not gives way. Raises RunError if the checkpoint
    is not whole at home, NotFitError for all that is wrong with the host or the connection.
    """
    name = checkpoint.name
    if parse_checkpoint_name(name) is None:
        raise RunError(f"{checkpoint} is no checkpoint")
    opened = _Opened(checkpoint)  # held open: pruning at home may remove it meanwhile
    try:
        channel = enter(session, "receive", workdir=workdir)
        talk = Talk(session.name, channel)
        try:
            return _Sending(talk, channel, opened, progress).send(folder, name)
        finally:
            talk.close()
    finally:
        opened.close()


class _Opened:
    """The files of a checkpoint that verifies."""

    def __init__(self, checkpoint: Path) -> None:
        self.files: dict[str, int] = {}
        try:
            manifest = read_manifest(str(checkpoint))
            for name in (*FILES, MANIFEST):
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
                self.files[name] = os.open(checkpoint / name, flags)
        except (ValueError, OSError) as error:
            self.close()
            raise RunError(
                f"checkpoint {checkpoint.name} is not whole here: {error}",
                hint="launcher fetch brings what the hosts still have; or resume from an older one",
            ) from error
        self.arrays: str = manifest["files"][ARRAYS]["sha256"]
        self.sizes = {name: os.fstat(file).st_size for name, file in self.files.items()}
        self.manifest = hashlib.sha256(os.pread(self.files[MANIFEST], self.sizes[MANIFEST], 0)).hexdigest()

    def close(self) -> None:
        while self.files:
            os.close(self.files.popitem()[1])


class _Sending:
    def __init__(self, talk: Talk, channel: Channel, opened: _Opened, progress: Progress) -> None:
        self._talk = talk
        self._channel = channel
        self._opened = opened
        self._progress = progress
        self._flying = 0

    def send(self, folder: str, name: str) -> str:
        opened = self._opened
        self._talk.send(
            {
                "type": receiving.OFFER,
                "folder": folder,
                "name": name,
                "files": opened.sizes,
                "arrays": opened.arrays,
                "manifest": opened.manifest,
            }
        )
        answer = self._hear()
        if answer["type"] == receiving.HAVE:
            return _path(answer, self._talk.host)
        if answer["type"] != receiving.WANTS:
            raise self._strange(answer)
        offsets = answer.get("offsets")
        self._send_files(offsets if isinstance(offsets, dict) else {})
        self._talk.send({"type": receiving.PUBLISH})
        while True:
            answer = self._hear()
            if answer["type"] == receiving.PUBLISHED:
                return _path(answer, self._talk.host)
            if answer["type"] != receiving.ACK:
                raise self._strange(answer)

    def _send_files(self, offsets: dict[str, Any]) -> None:
        sizes = self._opened.sizes
        starts = {name: offsets.get(name, 0) for name in sizes}
        if not all(isinstance(start, int) and 0 <= start <= sizes[name] for name, start in starts.items()):
            raise NotFitError(f"{self._talk.host} says that it has more of the checkpoint than there is")
        sent, total = sum(starts.values()), sum(sizes.values())
        for name, size in sizes.items():
            offset = starts[name]
            while offset < size:
                data = os.pread(self._opened.files[name], min(receiving.PIECE, size - offset), offset)
                if not data:
                    raise RunError(f"{name} of the checkpoint has shrunk while it was sent")
                self._talk.send({"type": receiving.PART, "file": name, "offset": offset}, data)
                offset += len(data)
                sent += len(data)
                self._flying += len(data)
                self._progress(sent, total)
                while self._flying > receiving.WINDOW:
                    self._land()

    def _land(self) -> None:
        answer = self._hear()
        count = answer.get("bytes")
        if answer["type"] != receiving.ACK or not isinstance(count, int):
            raise self._strange(answer)
        self._flying -= count

    def _hear(self) -> wire.Message:
        while True:
            frame = self._talk.receive(timeout_s=_ANSWER_S)
            if frame is None:
                said = self._channel.errors().strip()[-500:] or "it ended without a word"
                raise NotFitError(f"{self._talk.host} did not take the checkpoint: {said}")
            message = frame[0]
            if message["type"] == receiving.REFUSED:
                raise NotFitError(f"{self._talk.host} cannot take the checkpoint: {message.get('why')!s:.500}")
            if message["type"] != receiving.ALIVE:
                return message

    def _strange(self, answer: wire.Message) -> NotFitError:
        return NotFitError(f"{self._talk.host} answers with what does not fit: {answer['type']!r:.40}")


def _path(answer: wire.Message, host: str) -> str:
    path = answer.get("path")
    if not isinstance(path, str) or not path.startswith("/") or "\0" in path:
        raise NotFitError(f"{host} does not say where the checkpoint is")
    return path
