"""What a restart costs with workers forked off a zygote, and with cold ones, in turn on this machine.

    python -m benchmarks.zygote [--workers 1 2] [--rounds 5] [--batch-size 64] [--json FILE]

An agent starts a cluster of full Fashion-MNIST; when it trains, the last rank is killed, and as soon as the agent says
that the generation is over the next one is started from what was rescued. With one worker nobody rescues: it begins
anew. Medians over the restarts. The first generation of each agent, with the zygote's own import, is told apart.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.contest import plain_job
from benchmarks.first_step import read_records
from tests.integration.agent_client import AgentClient, agents
from tests.integration.agent_training import trainer_orders
from worker.contract import records
from worker.contract.layout import HostFolder

TRAINED_S = 1.0  # between the first step and the kill
PATIENCE_S = 60.0


@dataclass
class Life:
    """What one generation cost, in seconds; memory in MB, summed over its workers."""

    first_step: float  # after its START
    phases: dict[str, float]  # of the chief: when each was over, after the START
    pss: float
    private: float
    zygote_pss: float
    over: float = 0.0  # from the kill to the generation's end
    restart: float = 0.0  # from the kill of the one before to the first step of this one


@dataclass
class Way:
    """One way to start workers, and its generations."""

    workers: int
    zygote: bool
    lives: list[Life] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.workers} worker{'s' if self.workers > 1 else ''}, {'forked' if self.zygote else 'cold'}"


def measure(way: Way, folder: Path, job: dict[str, Any], generations: int) -> None:
    """One agent's life: so many generations, all but the last ended by a kill."""
    with agents() as house:
        agent = house.reach(folder, patience_s=PATIENCE_S).command()
        killed_at, resume = 0.0, ""
        for generation in range(1, generations + 1):
            began = time.time()
            orders = trainer_orders(folder, job, workers=way.workers, generation=generation, resume=resume)
            agent.start(orders, generation=generation, zygote=way.zygote)
            told, done = _first_steps(agent, folder, way.workers, generation)
            pids = agent.started(*range(way.workers), generation=generation)
            life = _life(began, told, done, pids, _zygote(agent))
            life.restart = done - killed_at if killed_at else 0.0
            way.lives.append(life)
            _let_train(agent, TRAINED_S)
            killed_at = time.time()
            os.kill(pids[-1], signal.SIGKILL)
            over = agent.event(records.GENERATION_ENDED, generation=generation)
            life.over = float(over["t"]) - killed_at
            saved = [e["name"] for e in agent.events if e["type"] == records.CHECKPOINT]
            resume = saved[-1] if saved else ""


def _first_steps(agent: AgentClient, folder: Path, workers: int, generation: int) -> tuple[list[records.Record], float]:
    """The chief's phases, and when the last rank had done its first step, by the workers' own clock."""
    for rank in range(workers):  # waiting for the agent's word takes no processor time from the workers
        agent.event(records.RANK_FIRST_STEP, rank=rank, generation=generation)
    told = [read_records(Path(HostFolder(str(folder)).progress(generation, rank))) for rank in range(workers)]
    done = max(float(r["t"]) for progress in told for r in progress if r.get("name") == "first_step")
    return [r for r in told[0] if r["type"] == records.PHASE], done


def _life(began: float, told: Sequence[records.Record], done: float, pids: Sequence[int], zygote: int | None) -> Life:
    memory = [_memory(pid) for pid in pids]
    return Life(
        first_step=done - began,
        phases={str(record["name"]): float(record["t"]) - began for record in told},
        pss=sum(one["Pss"] for one in memory),
        private=sum(one["Private_Dirty"] + one["Private_Clean"] for one in memory),
        zygote_pss=_memory(zygote)["Pss"] if zygote else 0.0,
    )


def _zygote(agent: AgentClient) -> int | None:
    ready = [event for event in agent.events if event["type"] == records.ZYGOTE_READY]
    return int(ready[-1]["pid"]) if ready else None


def _memory(pid: int) -> dict[str, float]:
    lines = (line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    return {name.rstrip(":"): int(number) / 1024 for name, number, *_ in lines}


def _let_train(agent: AgentClient, seconds: float) -> None:
    until_ = time.monotonic() + seconds
    while time.monotonic() < until_:
        agent.read(0.05)


def table(ways: Sequence[Way]) -> str:
    """A column for each way."""
    rows: list[tuple[str, list[float]]] = [
        ("first generation: START to first step", [way.lives[0].first_step for way in ways]),
        ("restart: START to first step", [_median(way, lambda life: life.first_step) for way in ways]),
        ("kill to the generation's end", [_median(way, lambda life: life.over, last=True) for way in ways]),
        ("kill to the next generation's first step", [_median(way, lambda life: life.restart) for way in ways]),
    ]
    for phase in ("fork", "import", "data", "strategy", "build", "restore", "trace", "first_step"):
        rows.append(
            (f"restart: {phase} is over", [_median(way, lambda life, p=phase: life.phases.get(p, 0.0)) for way in ways])
        )
    lines = [f"| seconds | {' | '.join(way.name for way in ways)} |", "|---" * (1 + len(ways)) + "|"]
    lines += [f"| {name} | {' | '.join(f'{number:.2f}' for number in numbers)} |" for name, numbers in rows]
    memory: list[tuple[str, list[float]]] = [
        ("MB: the workers' share (Pss)", [_median(way, lambda life: life.pss) for way in ways]),
        ("MB: the workers' own (private)", [_median(way, lambda life: life.private) for way in ways]),
        ("MB: the zygote's share (Pss)", [_median(way, lambda life: life.zygote_pss) for way in ways]),
    ]
    lines += [f"| {name} | {' | '.join(f'{number:.0f}' for number in numbers)} |" for name, numbers in memory]
    return "\n".join(lines)


def _median(way: Way, take: Any, last: bool = False) -> float:
    lives = way.lives if last else [life for life in way.lives if life.restart]
    return float(statistics.median(take(life) for life in lives)) if lives else 0.0


def main() -> None:
    """Measure, print the table, and write the numbers if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5, help="restarts of each")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--dataset", default="fashion-mnist")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    ways = [Way(workers, zygote) for workers in options.workers for zygote in (True, False)]
    threads = {workers: max(1, (os.cpu_count() or 1) // workers) for workers in options.workers}
    with tempfile.TemporaryDirectory(prefix="zygote-", ignore_cleanup_errors=True) as name:
        for turn, way in enumerate(ways):
            job = plain_job(options.dataset, options.batch_size, threads[way.workers])
            measure(way, Path(name) / str(turn), job, options.rounds + 1)
    print(table(ways))
    if options.json:
        told = [{"way": way.name, "lives": [vars(life) for life in way.lives]} for way in ways]
        options.json.write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
