"""A history from its beginning to its verdict, and the untouched run that it is held against."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from tests.chaos.checker import check
from tests.chaos.checker.evidence import Evidence, Reference, checkpoints, read_journal
from tests.chaos.checker.survey import left_alive
from tests.chaos.grounds import JOB, Grounds, Scene
from tests.chaos.nemesis import Course, Nemesis
from tests.chaos.plan import MOST_EPOCHS, History
from tests.integration.harness import ROOT

Tell = Callable[[str], None]


class UntouchedError(Exception):
    """The run that nobody touched did not train: nothing can be held against it."""


@dataclass
class Trial:
    """What became of one history."""

    history: History
    course: Course
    problems: list[str]
    kept: Path | None = None


@dataclass
class Court:
    """Runs histories one after another.

    `keep` is where the files of those are left in which something did not hold, and what untouched runs computed.
    """

    grounds: Grounds
    keep: Path
    tell: Tell
    keep_all: bool = False
    longest: int = MOST_EPOCHS  # no history here has more epochs
    _references: dict[int, Reference] = field(default_factory=dict)

    def try_one(self, history: History) -> Trial:
        """Run it, judge it, clear away. Raises UntouchedError."""
        reference = self._reference(history.workers)
        scene = self.grounds.scene(history)
        nemesis = Nemesis(scene, history, self.tell)
        try:
            course = nemesis.run()
            evidence = self._evidence(scene, nemesis, reference)
            problems = check(evidence)
        except BaseException:
            self._end(scene)
            raise
        trial = Trial(history, course, problems)
        if course.stuck:
            self._end(scene)
        if problems or self.keep_all:
            trial.kept = self._keep(scene, nemesis, problems)
        self.grounds.sweep(scene)
        return trial

    def _reference(self, workers: int) -> Reference:
        """What a run of so many workers computes that nobody touches, step by step."""
        if workers not in self._references:
            place = self.keep / f"untouched-{workers}-{self.longest}-{_code()}.json"
            self._references[workers] = _read(place) or self._untouched(workers)
            _write(place, self._references[workers])
        return self._references[workers]

    def _untouched(self, workers: int) -> Reference:
        history = History(0, workers, "local", tuple(range(workers)), self.longest, False, ())
        scene = self.grounds.scene(history)
        spec = scene.spec(every="1 steps")
        self.tell(f"untouched run with {workers} workers")
        done = scene.launcher.run("up", str(spec), "--plain", timeout_s=240, check=None)
        if done.returncode:
            raise UntouchedError(f"`up` ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
        reference = _told_by(scene)
        self.grounds.sweep(scene)
        return reference

    def _evidence(self, scene: Scene, nemesis: Nemesis, reference: Reference) -> Evidence:
        history, course, launcher = scene.history, nemesis.course, scene.launcher
        rooms = {name: scene.room(name) for name in scene.names}
        keepers = {host.name: host.pid for host in scene.hosts.values() if host is not None}
        left = left_alive(scene.run, rooms, tag=launcher.tag, keepers=keepers, ours=()) if not course.stuck else []
        strikes = [json.loads(json.dumps(strike.as_record(), default=str)) for strike in course.strikes]
        return Evidence(
            home=scene.run,
            rooms=rooms,
            witness=scene.witness,
            strikes=strikes,
            codes=tuple(course.codes),
            epochs=history.epochs,
            interruptions=tuple(history.interruptions.values()),
            stuck=course.stuck,
            left=left,
            reference=reference,
        )

    def _end(self, scene: Scene) -> None:
        """End by force what a history has left alive."""
        for host in scene.hosts.values():
            if host is not None:
                host.crash()
                host.start()
        for process in scene.launcher.alive():
            process.resume()
            process.kill()

    def _keep(self, scene: Scene, nemesis: Nemesis, problems: list[str]) -> Path:
        place = self.keep / scene.run.name
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        shutil.copytree(scene.run, place / "home", symlinks=True)
        for name in scene.names:
            if scene.hosts[name] is not None and scene.room(name).exists():
                shutil.copytree(scene.room(name), place / "hosts" / name, symlinks=True)
        shutil.copytree(scene.witness, place / "witness")
        for log in sorted(scene.launcher.folder.glob("command-*.log")):
            if scene.run.name in log.read_text(errors="replace"):
                shutil.copy(log, place)
        nemesis.write_down(place / "strikes.jsonl")
        (place / "history.json").write_text(json.dumps(dataclasses.asdict(scene.history), default=str, indent=1))
        (place / "problems.txt").write_text("".join(problem + "\n" for problem in problems))
        return place


def _told_by(scene: Scene) -> Reference:
    chief = scene.room(scene.names[0])
    journal = read_journal(chief / "events.jsonl")
    arrays = {record["step"]: record["arrays"] for record in journal.of("checkpoint")}
    newest = max(checkpoints(chief).items(), key=lambda one: one[1])[0]
    state = json.loads((chief / "checkpoints" / newest / "state.json").read_text())
    if sorted(arrays) != list(range(1, scene.history.steps + 1)):
        raise UntouchedError(
            f"it saved {len(arrays)} of {scene.history.steps} steps: {journal.of('checkpoint_refused')}"
        )
    return Reference(arrays, {entry["epoch"]: entry for entry in state["history"]}, state["fingerprint"])


def _code() -> str:
    """What an untouched run's bits depend on, besides this machine: the trainer, the job, the libraries."""
    digest = hashlib.sha256()
    for path in (*sorted((ROOT / "worker").rglob("*.py")), *sorted(JOB.glob("*.py"))):
        digest.update(path.read_bytes())
    for library in ("tensorflow", "keras", "numpy"):
        digest.update(version(library).encode())
    return digest.hexdigest()[:16]


def _read(path: Path) -> Reference | None:
    """An untouched run that an earlier command wrote down."""
    try:
        told = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    arrays, epochs = ({int(key): value for key, value in told[name].items()} for name in ("arrays", "epochs"))
    return Reference(arrays, epochs, told["fingerprint"])


def _write(path: Path, reference: Reference) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(dataclasses.asdict(reference)))
    temporary.replace(path)
