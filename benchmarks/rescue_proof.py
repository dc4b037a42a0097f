"""Proof that nothing finished is lost: workers are killed and frozen at random, and every bit is compared.

    python -m benchmarks.rescue_proof --seed 1 --rounds 50 [--workers 2 3] [--no-launcher]

First an untouched run of each cluster writes down a hash of its state after every single step. Then cluster after
cluster is struck: a rank, each in turn, the chief too, is killed (SIGKILL) or frozen (SIGSTOP) at a random moment. Each
survivor must leave with the exit code of a rescue; what it rescued must have the hash that the untouched run had at
that step; and the next cluster goes on from it, so that the proof runs along a chain of rescues to the end of the
training, which must be the untouched one's, too. Last comes one round through `launcher up` and `launcher resume`.
Whether every rescue took less than a second is judged at the end.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import os
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests.integration.harness import launcher_in, wait_for
from tests.integration.training import Cluster, Rank, cluster
from worker.contract import checkpoints, records
from worker.contract.states import WorkerExit
from worker.train.checkpoint import CheckpointError, read
from worker.train.datasets import load

IMAGES, TEST_IMAGES = 600, 150
BATCH = 63  # no number of workers divides it, and the last batch of an epoch is short
STEPS_PER_EPOCH = -(-IMAGES // BATCH)
RESCUE_S = 1.0  # from the collective's error to the end of the process
FROZEN_S = 30.0  # TensorFlow notices a frozen peer after 8 to 10 s
LAST = 600  # no run is longer than this many seconds


class ProofError(Exception):
    """Something that must hold did not."""


@dataclass(frozen=True)
class Strike:
    """What is done to whom, and how long after the first step."""

    rank: int
    frozen: bool
    delay_s: float

    def __str__(self) -> str:
        return f"{'freeze' if self.frozen else 'kill'} rank {self.rank} after {self.delay_s:.2f} s"


@dataclass
class Chain:
    """One cluster size: the untouched run's hashes, and how far the struck ones have come."""

    workers: int
    epochs: int
    hashes: dict[int, str]
    resume: Path | None = None
    step: int = 0
    runs: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    rescues: list[float] = field(default_factory=list)  # seconds from the collective's error to each survivor's end
    ends: int = 0  # how often a chain has come to the end of the training, bit for bit

    def check(self, folder: Path) -> int:
        """The step of a checkpoint that is, bit for bit, what the untouched run had there."""
        try:
            found = read(str(folder))
        except CheckpointError as error:
            raise ProofError(str(error)) from error
        if self.hashes.get(found.step) != hash_of(found.arrays):
            raise ProofError(f"{folder}: step {found.step} is not what the untouched run had there")
        return found.step


def hash_of(arrays: Any) -> str:
    """Of everything that must be equal: names, types, shapes and bits."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode() + array.tobytes())
    return digest.hexdigest()


def make_data(path: Path) -> None:
    """A small real data set: an epoch of it is short, so that strikes fall into every part of one."""
    whole = load("fashion-mnist-mini")
    np.savez(
        path,
        x_train=whole.x_train[:IMAGES],
        y_train=whole.y_train[:IMAGES],
        x_test=whole.x_test[:TEST_IMAGES],
        y_test=whole.y_test[:TEST_IMAGES],
    )


def make_job(data: Path, epochs: int, **every: float) -> dict[str, Any]:
    """The trainer's settings; no checkpoints but those asked for: a rescue must stand alone."""
    return {
        "model": "cnn",
        "dataset": {"kind": "npz", "path": str(data)},
        "epochs": epochs,
        "batch_size": BATCH,
        "learning_rate": 0.001,
        "optimizer": "adam",
        "seed": 7,
        "deterministic": True,
        "precision": "float32",
        "communication": "auto",
        "threads": 1,
        "checkpoint": {"every_epochs": None, "every_steps": None, "every_seconds": None, **every},
    }


def untouched(folder: Path, data: Path, workers: int, epochs: int) -> Chain:
    """Train to the end, one step a chunk, and hash every step's checkpoint."""
    hashes: dict[int, str] = {}
    job = make_job(data, epochs, every_steps=1)
    with cluster(folder, job, workers=workers) as run:
        chief = run[0]
        for _ in until(time.monotonic() + LAST, f"the end of the untouched run with {workers} workers"):
            over = all(rank.process.poll() is not None for rank in run.ranks)
            for record in chief.told(records.SAVED)[len(hashes) :]:
                place = chief.checkpoints / record["folder"]
                hashes[record["step"]] = hash_of(read(str(place)).arrays)
                shutil.rmtree(place)
            if over:
                break
        expect([rank.process.returncode for rank in run.ranks], [WorkerExit.DONE] * workers, run)
    if sorted(hashes) != list(range(1, epochs * STEPS_PER_EPOCH + 1)):
        raise ProofError(f"the untouched run saved {len(hashes)} of {epochs * STEPS_PER_EPOCH} steps")
    return Chain(workers, epochs, hashes)


def strike(folder: Path, data: Path, chain: Chain, blow: Strike) -> str:
    """One round: go on from the newest rescue, strike, check what the survivors saved. Says what happened."""
    generation = next(chain.runs)
    job, resume = make_job(data, chain.epochs), chain.resume or ""
    with cluster(folder, job, workers=chain.workers, generation=generation, resume=resume) as run:
        for rank in run.ranks:
            rank.wait_for(records.PHASE, name="first_step")
        survivors = [rank for place, rank in enumerate(run.ranks) if place != blow.rank]
        if ends_of(survivors, blow.delay_s):
            return finished(run, chain)
        struck = time.time()
        with suppress(ProcessLookupError):
            os.kill(run[blow.rank].process.pid, signal.SIGSTOP if blow.frozen else signal.SIGKILL)
        gone = ends_of(survivors, FROZEN_S)
        if not gone:
            raise ProofError(f"survivors are still there {FROZEN_S:g} s after the strike")
        run[blow.rank].process.kill()
        run[blow.rank].process.wait()
        codes = {rank.process.returncode for rank in survivors}
        if codes == {WorkerExit.DONE}:  # it fell into the last moments
            return finished(run, chain)
        expect([rank.process.returncode for rank in survivors], [WorkerExit.RESCUED] * len(survivors), run)
        return rescued(survivors, chain, struck, gone)


def rescued(survivors: list[Rank], chain: Chain, struck: float, gone: list[float]) -> str:
    """Check every survivor's rescue, and let the chain go on from the highest."""
    steps, best = [], chain.resume
    for rank, gone_at in zip(survivors, gone, strict=True):
        (phase,) = (record for record in rank.told(records.PHASE) if record["name"] == "rescue")
        chain.rescues.append(gone_at - (phase["t"] - phase["seconds"]))
        for record in rank.told(records.SAVED):
            place = rank.checkpoints / record["folder"]
            if record["why"] != "rescue" or chain.check(place) != record["step"]:
                raise ProofError(f"{place}: expected the rescue of step {record['step']}")
            steps.append(record["step"])
            if record["step"] > chain.step:
                chain.step, best = record["step"], place
    if steps and max(steps) - min(steps) > 1:
        raise ProofError(f"survivors are more than a step apart: {steps}")
    chain.resume = best
    slowest = max(chain.rescues[-len(survivors) :])
    told = f"rescued step {' and '.join(map(str, steps)) or f'{chain.step} again'}"
    return f"{told}, bit-equal; gone {max(gone) - struck:.2f} s after the strike, {slowest:.3f} s after the error"


def finished(run: Cluster, chain: Chain) -> str:
    """The run came to its end: it must be the untouched one's. The next round starts from nothing."""
    expect(run.wait(), [WorkerExit.DONE] * chain.workers, run)
    name = checkpoints.newest(str(run[0].checkpoints))
    if name is None or chain.check(run[0].checkpoints / name) != chain.epochs * STEPS_PER_EPOCH:
        raise ProofError("the run ended without its last checkpoint")
    chain.resume, chain.step = None, 0
    chain.ends += 1
    return "trained to the end, bit-equal"


def to_the_end(folder: Path, data: Path, chain: Chain) -> str:
    """Resume from the newest rescue and leave it alone."""
    job, resume = make_job(data, chain.epochs), chain.resume or ""
    with cluster(folder, job, workers=chain.workers, generation=next(chain.runs), resume=resume) as run:
        return finished(run, chain)


def by_launcher(folder: Path, data: Path, chain: Chain) -> str:
    """The whole path: `up`, a kill, the agent publishes the rescue, `resume` to the end."""
    spec = (
        f"name: proof\nhosts: [{{name: here, local: true, workers: {chain.workers}, gpus: 0, threads: 1}}]\n"
        f"train: {{dataset: {{npz: {data}}}, epochs: {chain.epochs}, batch_size: {BATCH}, seed: 7}}\n"
        "checkpoint: {every: 10000 steps, keep: 3}\n"
    )
    with launcher_in(folder) as launcher:
        up = launcher.start("up", str(launcher.spec(spec)), "--plain")
        launcher.wait_event("rank_first_step", count=chain.workers, timeout_s=60)
        os.kill(launcher.rank_pids()[0], signal.SIGKILL)
        wait_for(lambda: up.poll() is not None, "the end of `up`")
        published = launcher.newest() / "hosts/here/checkpoints"
        name = checkpoints.newest(str(published))
        if up.returncode != 1 or name is None:
            raise ProofError(f"`up` ended with {up.returncode}, and what was published is {name}")
        step = chain.check(published / name)
        launcher.run("resume", launcher.newest().name, timeout_s=LAST)
        name = checkpoints.newest(str(published))
        if name is None or chain.check(published / name) != chain.epochs * STEPS_PER_EPOCH:
            raise ProofError(f"`resume` ended with {name}")
    return f"killed the chief of `launcher up`: step {step} published, resumed, ended bit-equal"


def until(deadline: float, what: str) -> Iterator[None]:
    """Turns until the deadline; running into it is an error."""
    while time.monotonic() < deadline:
        yield
        time.sleep(0.02)
    raise ProofError(f"{what}: not in time")


def ends_of(ranks: list[Rank], seconds: float) -> list[float]:
    """When each of them ended, within so many seconds; empty if one is still there."""
    ends: dict[int, float] = {}
    deadline = time.monotonic() + seconds
    while len(ends) < len(ranks):
        for place, rank in enumerate(ranks):
            if place not in ends and rank.process.poll() is not None:
                ends[place] = time.time()
        if time.monotonic() >= deadline:
            break
        time.sleep(0.005)
    return [ends[place] for place in range(len(ranks))] if len(ends) == len(ranks) else []


def expect(codes: Sequence[int | None], wanted: list[WorkerExit], run: Cluster) -> None:
    if list(codes) != wanted:
        logs = "\n".join(f"--- rank {place}\n{rank.log}" for place, rank in enumerate(run.ranks))
        raise ProofError(f"ranks ended with {codes}, expected {[int(code) for code in wanted]}\n{logs}")


def strikes(chance: random.Random, workers: int, longest_s: float, kinds: tuple[bool, ...]) -> Iterator[Strike]:
    """Each rank in turn, each kind in turn, in an order of chance, for ever."""
    while True:
        blows = [(rank, frozen) for rank in range(workers) for frozen in kinds]
        chance.shuffle(blows)
        for rank, frozen in blows:
            yield Strike(rank, frozen, chance.uniform(0.0, longest_s))


def prove(folder: Path, seed: int, rounds: int, sizes: list[int], epochs: int, longest_s: float) -> list[Chain]:
    """Strike so many times over all sizes, then let every chain run to its end. Raises ProofError."""
    data = folder / "small.npz"
    make_data(data)
    chance = random.Random(seed)
    chains = []
    for workers in sizes:
        chains.append(untouched(folder / f"untouched-{workers}", data, workers, epochs))
        print(f"untouched, {workers} workers: {len(chains[-1].hashes)} steps", flush=True)
    plans = {workers: strikes(chance, workers, longest_s, (False, True)) for workers in sizes}
    for number in range(rounds):
        chain = chains[number % len(chains)]
        blow, start = next(plans[chain.workers]), chain.step
        told = strike(folder / f"struck-{chain.workers}", data, chain, blow)
        print(f"round {number + 1}: {chain.workers} workers from step {start}, {blow}: {told}", flush=True)
    for chain in chains:
        print(f"{chain.workers} workers: {to_the_end(folder / f'struck-{chain.workers}', data, chain)}", flush=True)
    return chains


def main() -> None:
    """Prove it, a line a round; exit 1 with what did not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 3])
    parser.add_argument("--epochs", type=int, default=100, help=f"of {STEPS_PER_EPOCH} steps, until a chain ends")
    parser.add_argument("--longest", type=float, default=2.0, help="seconds from the first step to the strike, at most")
    parser.add_argument("--launcher", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rescue-proof-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        try:
            chains = prove(folder, options.seed, options.rounds, options.workers, options.epochs, options.longest)
            if options.launcher:
                print(by_launcher(folder / "launcher", folder / "small.npz", chains[0]), flush=True)
        except ProofError as error:
            sys.exit(f"not proved: {error}")
    took = [seconds for chain in chains for seconds in chain.rescues]
    ends, late = sum(chain.ends for chain in chains), sum(seconds > RESCUE_S for seconds in took)
    print(
        f"proved: seed {options.seed}, {options.rounds} strikes, {len(took)} rescues and {ends} ends, every bit equal; "
        f"from error to end {statistics.median(took):.2f} s in the median, {max(took):.2f} s at most"
    )
    if late:  # on a machine that has other work, that is no fault of the trainer's
        sys.exit(f"{late} of {len(took)} rescues took over {RESCUE_S:g} s")


if __name__ == "__main__":
    main()
