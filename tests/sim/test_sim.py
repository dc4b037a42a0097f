"""Supervisor and agents in a simulated world: every rule holds in every history, and bugs planted on purpose are found.

The short form. `make sim` goes through years.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.sim.__main__ import one
from tests.sim.explore import Explorer
from tests.sim.planted import PATCHES, Verdict, hunt, plant

LEAST_BUGS = 10


def test_every_single_fault_at_every_place_of_the_grid_ends_well() -> None:
    explorer = Explorer()
    explorer.explore(depth=1)
    assert explorer.tried > 500
    assert explorer.ends["trained"] > 500, explorer.ends


def test_random_histories_hold_every_rule_and_end() -> None:
    told = [one(f"ci.{number}") for number in range(150)]
    assert sum(history.faults for history in told) > 1000
    assert {"trained", "failed", "stopped", "parked"} <= {history.end for history in told}


def test_every_planted_bug_is_found(tmp_path: Path) -> None:
    patches = sorted(PATCHES.glob("*.patch"))
    assert len(patches) >= LEAST_BUGS

    def find(patch: Path) -> Verdict:
        folder = tmp_path / patch.stem
        folder.mkdir()
        plant(patch, folder)
        return hunt(folder)

    with ThreadPoolExecutor(2) as pool:
        found = dict(zip(patches, pool.map(find, patches), strict=True))
    missed = {patch.stem: verdict.told for patch, verdict in found.items() if not verdict.found}
    assert not missed, missed
