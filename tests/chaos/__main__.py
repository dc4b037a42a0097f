"""`python -m tests.chaos --seed 1 --minutes 5`: one history after another, each judged. See docs/chaos.md."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.chaos.grounds import best_ground, grounds_in, why_none
from tests.chaos.plan import draw
from tests.chaos.trial import Court, Trial


def main() -> int:
    """Exit code 1 if something did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Real training, struck at random.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=5.0, help="no history begins later than this")
    parser.add_argument("--history", type=int, help="this one alone, as often as there is time for, or once")
    parser.add_argument("--first", type=int, default=1, help="the number of the first history")
    parser.add_argument("--faults", type=int, default=8, help="in each history")
    parser.add_argument("--hosts", choices=("net", "sshd", "local"), help="what hosts are made of; default: the best")
    parser.add_argument("--keep", action="store_true", help="keep the files of all histories, not of bad ones alone")
    parser.add_argument("--folder", type=Path, default=Path("chaos-kept"), help="where they are kept")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each history, and one at the end")
    parser.add_argument("--plan", action="store_true", help="only say what would be done")
    asked = parser.parse_args()
    ground = asked.hosts or best_ground()
    if reason := why_none(ground):
        print(f"error: {reason}", file=sys.stderr)
        return 2
    first = asked.history or asked.first
    if asked.plan:
        for number in range(first, first + (1 if asked.history else 20)):
            history = draw(asked.seed, number, ground, asked.faults)
            print(f"{number}: {history.ground} {len(history.hosts)} workers: {'; '.join(map(str, history.faults))}")
        return 0
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))  # so that hosts, disks and runs are taken down
    tally = Tally(asked.json)
    until = time.monotonic() + asked.minutes * 60
    with (
        tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as name,
        grounds_in(Path(name), ground) as grounds,
    ):
        court = Court(grounds, asked.folder.absolute(), tally.tell, asked.keep)
        number = first
        while time.monotonic() < until:
            tally.count(court.try_one(draw(asked.seed, number, ground, asked.faults)))
            if asked.history:
                break
            number += 1
    tally.close()
    return 1 if tally.bad else 0


class Tally:
    """Counts, and says what happens."""

    def __init__(self, as_json: bool) -> None:
        self._json = as_json
        self._kinds: Counter[str] = Counter()
        self._histories = self._lives = 0
        self._seconds = 0.0
        self.bad: list[str] = []

    def tell(self, text: str) -> None:
        if not self._json:
            print(f"    {time.strftime('%H:%M:%S')} {text}", flush=True)

    def count(self, trial: Trial) -> None:
        history, course = trial.history, trial.course
        kinds = Counter(strike.fault.kind.value for strike in course.strikes)
        self._kinds += kinds
        self._histories += 1
        self._lives += course.generations
        self._seconds += course.seconds
        name = f"seed {history.seed}, history {history.number}"
        if trial.problems:
            self.bad.append(name)
        if self._json:
            about = {"seed": history.seed, "history": history.number, "faults": kinds, "problems": trial.problems}
            print(json.dumps({**about, "seconds": round(course.seconds, 1), "lives": course.generations}), flush=True)
            return
        print(
            f"{name} ({history.ground}, {history.workers} workers): {len(course.strikes)} faults, "
            f"{course.generations} generations, {course.seconds:.0f} s: "
            f"{'all holds' if not trial.problems else f'{len(trial.problems)} problems, kept in {trial.kept}'}",
            flush=True,
        )
        for problem in trial.problems[:20]:
            print(f"  {problem}", flush=True)

    def close(self) -> None:
        total = sum(self._kinds.values())
        if self._json:
            print(json.dumps({"histories": self._histories, "faults": total, "kinds": self._kinds, "bad": self.bad}))
            return
        kinds = ", ".join(f"{kind} {count}" for kind, count in self._kinds.most_common())
        print(
            f"{self._histories} histories, {total} faults, {self._lives} generations in {self._seconds:.0f} s: {kinds}"
        )
        print(f"something did not hold in {'; '.join(self.bad)}" if self.bad else "everything held")


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main())
