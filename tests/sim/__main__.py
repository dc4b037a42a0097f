"""python -m tests.sim --seed N --years Y: random histories until so many years have been simulated."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from tests.sim.checks import BrokenError
from tests.sim.explore import Explorer
from tests.sim.history import Told, live, random_history

YEAR_S = 365.25 * 86400


def one(seed: str, verbose: bool = False) -> Told:
    """Go through the history of a seed; one in which a rule is broken is told, and raises SystemExit."""
    lab, nemesis = random_history(seed)
    try:
        told = live(lab, nemesis)
    except Exception as error:
        print("\n".join(lab.world.lines))
        what = str(error) if isinstance(error, BrokenError) else f"{type(error).__name__}: {error}"
        print(f"seed {seed}: {what}\n  {lab.settings}\nagain: python -m tests.sim --one {seed}")
        if not isinstance(error, BrokenError):
            raise
        raise SystemExit(1) from error
    if verbose:
        print("\n".join(lab.world.lines))
    return told


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--years", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="of real time, at most")
    parser.add_argument("--explore", type=int, help="before that: every history of up to so many faults (1 or 2)")
    parser.add_argument("--one", help="go through this one history and print its trace")
    asked = parser.parse_args()
    if asked.one:
        print(one(asked.one, verbose=True))
        return 0
    for depth in range(1, (asked.explore or 0) + 1):
        began, explorer = time.monotonic(), Explorer()
        explorer.explore(depth)
        took = time.monotonic() - began
        print(f"every history of {depth} faults on the grid: {explorer.tried} in {took:.0f} s, {dict(explorer.ends)}")
    began, simulated, histories = time.monotonic(), 0.0, 0
    faults = generations = events = 0
    ends: Counter[str] = Counter()
    while simulated < asked.years * YEAR_S and time.monotonic() - began < asked.seconds:
        told = one(f"{asked.seed}.{histories}")
        histories += 1
        simulated += told.seconds
        faults += told.faults
        generations += told.generations
        events += told.events
        ends[told.end] += 1
    took = time.monotonic() - began
    ended = ", ".join(f"{end} {count}" for end, count in ends.most_common())
    print(
        f"seed {asked.seed}: {histories} histories, {simulated / YEAR_S:.2f} years in {took:.0f} s, {faults} faults, "
        f"{generations} generations, {events} events; {ended}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
