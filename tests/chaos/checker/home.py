"""What has to be at home afterwards: checkpoints, logs and output, byte for byte."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from tests.chaos.checker.evidence import Evidence, checkpoints

_NUMBER = re.compile(rb"#(\d+)\.(\d+)\.(\d+)#")
_LOGS = ("events.jsonl", "agent.log", "zygote.log", "g*/rank*.log", "g*/rank*.progress.jsonl")


def checkpoints_equal(evidence: Evidence) -> list[str]:
    """Each is whole by its own manifest, here and there; those of one name are the same; the newest is home."""
    problems = []
    arrays: dict[str, dict[str, str]] = {}
    for place, folder in _places(evidence):
        for name, (generation, step) in checkpoints(folder).items():
            path = folder / "checkpoints" / name
            wrong = _wrong(evidence, path, generation, step)
            problems += [f"{place}: {name}: {text}" for text in wrong]
            if not wrong:
                arrays.setdefault(name, {})[place] = evidence.sha256(path / "arrays.npz")
    for name, by_place in arrays.items():
        if len(set(by_place.values())) > 1:
            problems.append(f"{name} is not the same everywhere: {by_place}")
    return problems + _newest_is_home(evidence)


def _newest_is_home(evidence: Evidence) -> list[str]:
    ends = [record for journal in evidence.agents.values() for record in journal.of("checkpoint")]
    # A half that was spoiled on its way is refused, not mended: what it was is told by the strike.
    if not ends or evidence.struck("CORRUPT"):
        return []
    newest = max(ends, key=lambda record: (record["step"], record["generation"]))["name"]
    found = [host for host in evidence.rooms if newest in checkpoints(evidence.at_home(host))]
    return [] if found else [f"{newest}, the newest that a host has published, is not at home"]


def _places(evidence: Evidence) -> Iterator[tuple[str, Path]]:
    for host, room in evidence.rooms.items():
        yield host, room
        if room != evidence.at_home(host):
            yield f"home of {host}", evidence.at_home(host)


def _wrong(evidence: Evidence, path: Path, generation: int, step: int) -> list[str]:
    try:
        manifest = json.loads((path / "manifest.json").read_bytes())
        files = manifest["files"]
        if (manifest["generation"], manifest["step"]) != (generation, step):
            return [f"its manifest is of generation {manifest['generation']}, step {manifest['step']}"]
        missing = {"arrays.npz", "state.json"} - set(files)
        if missing:
            return [f"its manifest does not name {sorted(missing)}"]
        return [
            f"{name} is not what was saved"
            for name, about in files.items()
            if (path / name).stat().st_size != about["bytes"] or evidence.sha256(path / name) != about["sha256"]
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        # Of the copies that stay on their hosts the manifest alone comes home: that is no checkpoint of home's.
        return [f"cannot be read: {error!r}"]


def logs_whole(evidence: Evidence) -> list[str]:
    """The hosts' logs are at home, byte for byte, and hold every line that the workers printed."""
    problems = []
    for host in evidence.mirrored():
        room, here = evidence.rooms[host], evidence.at_home(host)
        for pattern in _LOGS:
            for there in sorted(room.glob(pattern)):
                name = there.relative_to(room)
                if not there.is_file():
                    continue
                if not (here / name).is_file():
                    if there.stat().st_size:
                        problems.append(f"{host}: {name} is not at home")
                elif there.read_bytes() != (here / name).read_bytes():
                    sizes = there.stat().st_size, (here / name).stat().st_size
                    problems.append(f"{host}: {name} is another one at home ({sizes[0]} and {sizes[1]} bytes)")
    for path in sorted(evidence.witness.glob("g*-rank*.count")):
        problems += _numbers(evidence, path)
    return problems


def _numbers(evidence: Evidence, count: Path) -> list[str]:
    generation, rank = (int(part.lstrip("grank")) for part in count.stem.split("-"))
    printed = int(count.read_bytes() or b"0")
    logs = list(evidence.home.glob(f"hosts/*/g{generation}/rank{rank}.log"))
    if not logs:
        return [f"rank {rank} of generation {generation} has no log at home"] if printed else []
    found = [int(n) for g, r, n in _NUMBER.findall(logs[0].read_bytes()) if (int(g), int(r)) == (generation, rank)]
    # The last one may have been printed, and the process have died before it could write that down.
    if found not in (list(range(1, printed + 1)), list(range(1, printed + 2))):
        gap = next((place + 1 for place, number in enumerate(found) if number != place + 1), len(found) + 1)
        return [f"{logs[0].relative_to(evidence.home)}: line {gap} of {printed} that were printed is not there"]
    return []


def output_equal(evidence: Evidence) -> list[str]:
    """Whatever the hosts have published as output is at home as it is there."""
    problems = []
    for host in evidence.mirrored():
        output = evidence.rooms[host] / "output"
        for there in sorted(path for path in output.rglob("*") if path.is_file()):
            here = evidence.at_home(host) / there.relative_to(evidence.rooms[host])
            if not here.is_file() or here.read_bytes() != there.read_bytes():
                problems.append(f"{host}: {there.relative_to(output)} at home is not what it is there")
    return problems
