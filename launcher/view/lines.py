"""The lines that workers print, rank by rank and through the generations, safe for the screen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from launcher.runs.folder import RunFolder
from launcher.runs.model import GenerationView, RunView
from launcher.runs.tail import LineTail
from launcher.view.noise import Folder
from launcher.view.text import neutral
from worker.contract.states import RANK_ENDED, RankState

_KEPT = 50
_STARTED = RANK_ENDED | {RankState.TRAINING, RankState.STOPPING}


@dataclass(frozen=True)
class LogLine:
    """One line of a worker's, neutralised; `others` have printed the same at the same time: (rank, host) of each."""

    generation: int
    rank: int
    host: str
    text: str
    others: tuple[tuple[int, str], ...] = ()


class _RankLog:
    """The log of one rank in one generation."""

    def __init__(
        self, folder: RunFolder, generation: int, rank: int, host: str, *, verbose: bool, most_behind: int | None
    ) -> None:
        self._most_behind = most_behind
        self._where = (generation, rank, neutral(host, 60))
        self._tail = LineTail(folder.host(host).log(generation, rank))
        self._noise = None if verbose else Folder()
        self.over = False

    def skip_to_last(self, lines: int) -> None:
        self._tail.skip_to_last(lines)

    def has_more(self) -> bool:
        """Whether something is there that was not read."""
        return self._tail.behind() > 0

    def read(self, *, started: bool, ended: bool) -> Iterator[LogLine]:
        """What is new. Once nothing more is awaited and nothing is new, gives the unfinished last line and is over."""
        if self._most_behind is not None and (behind := self._tail.behind()) > self._most_behind:
            self._tail.skip_to_last(_KEPT)
            yield LogLine(*self._where, f"(it prints fast: {behind >> 10} KiB passed over; launcher logs shows them)")
        found = self._tail.read()
        if not found and ended:
            found = self._tail.rest()
            self.over = True
        for data in found:
            text = neutral(data)
            if self._noise is None or self._noise.keep(text):
                yield LogLine(*self._where, text)
        if self._noise is not None and (started or self.over) and (notice := self._noise.notice()):
            yield LogLine(*self._where, notice)


class LogReader:
    """New lines of all ranks (or one), in bounded pieces; generation after generation, each to its end.

    `last` starts at the last lines of each log instead of its first; later generations are read from their start.
    `most_behind` passes over what is further back than so many bytes, for a screen that nobody could read anyway.
    """

    def __init__(
        self,
        folder: RunFolder,
        *,
        rank: int | None = None,
        verbose: bool = False,
        last: int | None = None,
        most_behind: int | None = None,
    ) -> None:
        self._folder = folder
        self._rank = rank
        self._verbose = verbose
        self._last = last
        self._most_behind = most_behind
        self._logs: dict[tuple[int, int], _RankLog] = {}
        self._begun = False

    def poll(self, view: RunView) -> list[LogLine]:
        """What is new since the last call; call again while it gives something."""
        if not self._begun and self._last is not None:
            self._skip(view)
        self._begun = True
        lines: list[LogLine] = []
        for generation in view.generations:
            older = generation.generation < view.generation
            logs = list(self._of(generation))
            for rank, log in logs:
                state = view.ranks[rank].state if not older and rank < len(view.ranks) else RankState.ENDED
                # That a rank has ended can be home before its last lines are.
                ended = view.ended or older
                if not log.over or log.has_more():
                    lines += log.read(started=ended or state in _STARTED, ended=ended)
            if older and not all(log.over for _, log in logs):
                break  # what came first is shown first
        return lines

    def over(self, view: RunView) -> bool:
        """Whether every log of an ended run was read to its end."""
        return view.ended and all(log.over for g in view.generations for _, log in self._of(g))

    def _of(self, generation: GenerationView) -> Iterator[tuple[int, _RankLog]]:
        for index, (rank, host) in enumerate(generation.ranks):
            if self._rank in (None, rank):
                yield index, self._log(generation.generation, rank, host)

    def _log(self, generation: int, rank: int, host: str) -> _RankLog:
        key = (generation, rank)
        if key not in self._logs:
            self._logs[key] = _RankLog(
                self._folder, generation, rank, host, verbose=self._verbose, most_behind=self._most_behind
            )
        return self._logs[key]

    def _skip(self, view: RunView) -> None:
        for generation in view.generations:
            for _, log in self._of(generation):
                if generation.generation < view.generation:
                    log.over = True
                else:
                    log.skip_to_last(self._last or 0)


def prefix(line: LogLine) -> str:
    """What stands before a worker's line: `[r0 here]`; `[r0 here g2]` from the second generation on.

    Before one that several have printed: `[r0-r3 here]`, and `[r0,r2-r5]` if they are on several hosts.
    """
    hosts = {line.host, *(host for _, host in line.others)}
    ranks = _spans([line.rank, *(rank for rank, _ in line.others)])
    host = f" {line.host}" if len(hosts) == 1 else ""
    return f"[{ranks}{host}{f' g{line.generation}' if line.generation > 1 else ''}]"


def _spans(ranks: Sequence[int]) -> str:
    runs: list[list[int]] = []
    for rank in sorted(ranks):
        if runs and rank == runs[-1][-1] + 1:
            runs[-1].append(rank)
        else:
            runs.append([rank])
    return ",".join(f"r{run[0]}" if len(run) == 1 else f"r{run[0]}-r{run[-1]}" for run in runs)


def print_lines(
    folder: RunFolder,
    view: RunView,
    show: Callable[[Sequence[LogLine]], None],
    *,
    rank: int | None = None,
    verbose: bool = False,
) -> None:
    """Show every line that there is now, rank after rank, and stop."""
    for generation in view.generations:
        for number, host in generation.ranks:
            if rank in (None, number):
                log = _RankLog(folder, generation.generation, number, host, verbose=verbose, most_behind=None)
                while not log.over:
                    show(list(log.read(started=False, ended=True)))
