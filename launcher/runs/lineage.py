"""What a run has to show over all its generations: epochs, checkpoints, the result. Pure.

A generation that starts from a checkpoint does again what its forerunners did after that step; what they had told of
those epochs is no part of the run any more.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath

from launcher.runs.copies import Divergence
from launcher.runs.fields import integer, number, numbers, text
from launcher.runs.folder import RunFolder
from launcher.runs.model import CheckpointView, EpochView, GenerationView
from worker.contract import records
from worker.contract.layout import parse_checkpoint_name
from worker.contract.records import Record

HostEvents = Mapping[str, Sequence[Record]]


def limits(generations: Mapping[int, str], published: Collection[int]) -> dict[int, float]:
    """Up to which step the checkpoints of a generation belong to the run's newest lineage; others of it do not at all.

    `generations` says what each one started from; `published` which of them have left a checkpoint: one that has left
    none is as if it had never been. What an earlier generation did beyond the step from which a later one began was
    done again since, and is no part of the run any more.
    """
    found: dict[int, float] = {}
    newest = max((g for g in published if g in generations), default=None)
    limit = float("inf")
    while newest is not None and newest not in found:
        found[newest] = limit
        parsed = parse_checkpoint_name(generations.get(newest, ""))
        newest, limit = (parsed[0], min(limit, parsed[1])) if parsed else (None, limit)
    return found


def epochs(host_events: HostEvents, generations: Sequence[GenerationView]) -> tuple[EpochView, ...]:
    """The epochs of the lineage that ends in the newest generation, in order."""
    kept: dict[int, EpochView] = {}
    for generation in generations:
        found = {
            view.epoch: view
            for record in _of_chief(host_events, generation, records.RANK_EPOCH)
            if (view := _epoch(record, generation.generation)) is not None
        }
        kept = {epoch: view for epoch, view in kept.items() if _lies_before(view, generation.resumes)} | found
    return tuple(kept[epoch] for epoch in sorted(kept))


def checkpoints(
    folder: RunFolder, host_events: HostEvents, divergences: Sequence[Divergence] = ()
) -> tuple[CheckpointView, ...]:
    """What is published and not pruned, by step."""
    found: dict[tuple[str, str], CheckpointView] = {}
    for host, events in host_events.items():
        for record in events:
            name = text(record, "name")
            if record["type"] == records.CHECKPOINT and parse_checkpoint_name(name):
                found[host, name] = CheckpointView(
                    name=name,
                    host=host,
                    rank=integer(record, "rank") or 0,
                    step=integer(record, "step") or 0,
                    epoch=integer(record, "epoch"),
                    why=text(record, "why"),
                    path=str(Path(folder.host(host).checkpoints) / name),
                    in_doubt=any(divergence.concerns(name) for divergence in divergences),
                )
            elif record["type"] == records.CHECKPOINT_PRUNED:
                found.pop((host, name), None)
    return tuple(sorted(found.values(), key=lambda c: (c.step, c.name, c.host)))


def result(host_events: HostEvents, generation: GenerationView | None) -> Record:
    """The newest generation's RANK_RESULT of the chief, or an empty record."""
    found = _of_chief(host_events, generation, records.RANK_RESULT) if generation else []
    return found[-1] if found else {}


def model_path(folder: RunFolder, record: Record, generation: GenerationView | None) -> str | None:
    """Where the model that a RANK_RESULT names lies at home; None for a path that leads out of the host's folder."""
    name = text(record, "model")
    host = _chief(generation) if generation else None
    if not name or not host or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        return None
    return str(Path(folder.host(host).root) / name)


def first_step_at(host_events: HostEvents, generations: Sequence[GenerationView]) -> float | None:
    """When the first generation that made a step made it."""
    for generation in generations:
        hosts = dict(generation.ranks)
        times = [
            number(record, "t")
            for host in sorted(set(hosts.values()))
            for record in host_events.get(host, ())
            if record["type"] == records.RANK_FIRST_STEP
            and integer(record, "generation") == generation.generation
            and hosts.get(integer(record, "rank") or 0) == host
        ]
        known = [t for t in times if t is not None]
        if known:
            return min(known)
    return None


def _lies_before(epoch: EpochView, resumes: str) -> bool:
    """Whether the checkpoint that a generation started from holds an epoch of an earlier one."""
    parsed = parse_checkpoint_name(resumes)
    return parsed is not None and epoch.step is not None and epoch.step <= parsed[1]


def _epoch(record: Record, generation: int) -> EpochView | None:
    epoch = integer(record, "epoch")
    if epoch is None:
        return None
    metrics = numbers(record, "metrics")

    def accuracy(name: str) -> float | None:
        """The trainer's, or the model's own by that name, where the trainer knows of no classes."""
        told = number(record, name)
        return metrics.get(name) if told is None else told

    return EpochView(
        epoch=epoch,
        generation=generation,
        step=integer(record, "step"),
        loss=number(record, "loss"),
        accuracy=accuracy("accuracy"),
        val_loss=number(record, "val_loss"),
        val_accuracy=accuracy("val_accuracy"),
        seconds=number(record, "seconds"),
        images_per_second=number(record, "images_per_second"),
        metrics=metrics,
    )


def _of_chief(host_events: HostEvents, generation: GenerationView, kind: str) -> list[Record]:
    """The records of one kind about rank 0, from the host that rank 0 was on: no other host may speak for it."""
    return [
        record
        for record in host_events.get(_chief(generation) or "", ())
        if record["type"] == kind
        and integer(record, "rank") == 0
        and integer(record, "generation") == generation.generation
    ]


def _chief(generation: GenerationView) -> str | None:
    return dict(generation.ranks).get(0)
