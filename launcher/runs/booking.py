"""What every second of a run was spent on, from the journals of the coordinator and of the agents. Pure.

Booked in the order of time, each generation in turn: its start, its training, what ended it; then, record by record of
the coordinator's, what there was until the next one. Whatever the records say, nothing is booked twice or left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from launcher.runs.fields import integer, number, text
from launcher.runs.ledger import Booking, Ledger, Life, Use
from launcher.runs.lives import Clocks, Told, by_generation, told_of, when
from launcher.runs.model import GenerationView
from launcher.runs.tail import Progress
from worker.contract import records
from worker.contract.layout import parse_checkpoint_name
from worker.contract.records import Record

HostEvents = Mapping[str, Sequence[Record]]
_FOREVER = float("inf")


@dataclass(frozen=True)
class Story:
    """What is booked. `ends_at`: the run's end, or now while it lives. `finished`: it has done all that it was to do.

    `with_steps`: steps are known, so that it can be known which were done again. `progress` by generation and rank.
    """

    begins_at: float | None
    ends_at: float | None
    run_events: Sequence[Record]
    host_events: HostEvents
    generations: Sequence[GenerationView]
    progress: Mapping[int, Mapping[int, Progress]]
    with_steps: bool
    lives: bool
    finished: bool


def booking(story: Story) -> Booking | None:
    """The book of a run. None where nobody has told when it began."""
    if story.begins_at is None or story.ends_at is None:
        return None
    return _Bookkeeper(story, Ledger(story.begins_at, story.ends_at)).keep()


class _Bookkeeper:
    def __init__(self, story: Story, ledger: Ledger) -> None:
        self._story = story
        self._ledger = ledger
        self._clocks = Clocks()
        self._chapters = _chapters(story.run_events)
        self._views = {view.generation: view for view in story.generations}
        self._told = self._tell()
        self._kept = _kept_until(list(self._told.values()), ended=not story.lives and not story.finished)
        self._until_first_step: int | None = None
        self._ended_ms = 0

    def keep(self) -> Booking:
        order = [generation for generation, _ in self._chapters if generation in self._told]
        _Gap(self, self._chapters[0][1], 0, order[0] if order else None).book(Use.START)
        for generation, following in zip(order, [*order[1:], None], strict=False):
            told = self._told[generation]
            if told.view.started_at is not None:
                self._ledger.until(told.view.started_at, Use.START, generation)
            rest = self._book(told)
            if rest is not None:
                chapter = next(chapter for number_, chapter in self._chapters if number_ == generation)
                _Gap(self, chapter, generation, following).book(rest)
        return self._close(order)

    def _close(self, order: Sequence[int]) -> Booking:
        ledger = self._ledger
        lives = tuple(self._life(self._told[generation]) for generation in order)
        return Booking(ledger.total_ms, ledger.spent(), lives, self._until_first_step, self._ended_ms)

    def _tell(self) -> dict[int, Told]:
        events = {host: by_generation(found) for host, found in self._story.host_events.items()}
        chapters = [(self._views[g], chapter) for g, chapter in self._chapters if g in self._views]
        for view, chapter in chapters:
            known_at = [when(r) for r in chapter if r["type"] in (records.RESTART, records.RUN_ENDED)]
            over_at = next((at for at in known_at if at is not None), self._story.ends_at or 0.0)
            for host, of_host in events.items():
                self._clocks.learn(view, host, of_host.get(view.generation, ()), over_at)
        found: dict[int, Told] = {}
        for view, chapter in chapters:
            of_hosts = {host: of_host.get(view.generation, ()) for host, of_host in events.items()}
            told = told_of(view, of_hosts, self._story.progress.get(view.generation, {}), self._clocks)
            told.failed = told.failed or any(r["type"] == records.RESTART and not r.get("planned") for r in chapter)
            found[view.generation] = told
        return found

    # One generation.

    def _book(self, told: Told) -> Use | None:
        """From its start to its end. Returns under what the time after it is booked until a record says otherwise;
        None where it goes on."""
        ledger, generation = self._ledger, told.view.generation
        over_at = self._over_at(told)
        ends_at = _FOREVER if over_at is None else over_at
        noticed_at = min(ends_at, told.noticed_at if told.noticed_at is not None else ends_at)
        first_at = told.first_step_at
        if first_at is None or first_at > (noticed_at if told.failed else ends_at):
            ledger.until(noticed_at if told.failed else ends_at, Use.START, generation)
        else:
            ledger.until(first_at, Use.START, generation)
            if self._until_first_step is None:
                self._until_first_step = ledger.at_ms
            ledger.until(self._trained_until(told, noticed_at, over_at), Use.TRAINING, generation)
            self._take_out(told)
        if over_at is None:
            return None
        if not told.failed:
            ledger.until(ends_at, Use.CHECKPOINT, generation)
            return Use.CHECKPOINT
        ledger.until(noticed_at, Use.DETECTION, generation)
        ledger.until(ends_at, Use.RESCUE, generation)
        return Use.RESCUE

    def _over_at(self, told: Told) -> float | None:
        """When a generation was over: as its hosts say, or at the latest when the coordinator knew."""
        chapter = next(chapter for generation, chapter in self._chapters if generation == told.view.generation)
        ends = (records.RESTART, records.RUN_ENDED, records.REPLANNED)
        known = next((when(r) for r in chapter if r["type"] in ends), None)
        said = told.all_over_at
        if said is not None and known is not None:
            return min(said, known)
        if said is not None or known is not None:
            return said if known is None else known
        later = [view for generation, view in self._views.items() if generation > told.view.generation]
        if later:
            return min((v.started_at for v in later if v.started_at is not None), default=None)
        return None if self._story.lives else max([*told.over_at.values(), *_known(told.left_at)], default=_FOREVER)

    def _trained_until(self, told: Told, noticed_at: float, over_at: float | None) -> float:
        if over_at is None:
            return _FOREVER
        if told.failed:
            if told.died_at is not None and told.died_at <= noticed_at:
                return noticed_at
            if told.signs_at is not None and told.followed:
                return min(noticed_at, told.signs_at + told.sign_every_s)
            return min([noticed_at, *self._silent_since(told)])
        if told.signs_at is not None and self._story.with_steps:
            return told.signs_at
        return over_at if told.left_at is None else min(told.left_at, over_at)

    def _silent_since(self, told: Told) -> list[float]:
        """When hosts were last heard whose links were lost and did not come back before the end."""
        chapter = next(chapter for generation, chapter in self._chapters if generation == told.view.generation)
        lost: dict[str, float] = {}
        for record in chapter:
            at = when(record)
            if record["type"] == records.LINK_LOST and at is not None:
                lost.setdefault(text(record, "host"), at)
            elif record["type"] == records.LINK_BACK:
                lost.pop(text(record, "host"), None)
            elif record["type"] == records.RESTART:
                break
        return list(lost.values())

    def _take_out(self, told: Told) -> None:
        """Of the time in which a generation trained: what saving held up, and steps that had to be done again."""
        ledger, generation = self._ledger, told.view.generation
        ledger.move(round(min(told.saving_s, 1e9) * 1000), Use.TRAINING, Use.CHECKPOINT, generation)
        done, again = self._steps(told)
        if again:
            trained = ledger.of(generation).get(Use.TRAINING, 0)
            ledger.move(round(trained * again / done), Use.TRAINING, Use.LOST, generation)

    def _steps(self, told: Told) -> tuple[int, int]:
        """(how many steps a generation did, how many of them had to be done again)."""
        if not self._story.with_steps or told.reached is None:
            return 0, 0
        done = max(0, told.reached - told.from_step)
        kept = min(done, max(0.0, self._kept.get(told.view.generation, 0.0) - told.from_step))
        return done, done - int(kept)

    def _life(self, told: Told) -> Life:
        view, steps = told.view, self._story.with_steps
        over_at = self._over_at(told)
        return Life(
            generation=view.generation,
            began_at=view.started_at,
            resumes=view.resumes,
            workers=len(view.ranks),
            hosts=told.hosts,
            from_step=told.from_step if steps else None,
            first_step=told.first_step if steps else None,
            reached=told.reached if steps else None,
            done_again=self._steps(told)[1],
            first_step_at=told.first_step_at,
            ended_at=None if over_at == _FOREVER else over_at,
            reason=view.reason,
            spent=self._ledger.of(view.generation),
        )

    # Used by what lies between two generations.

    def book(self, at: float, use: Use, generation: int) -> int:
        return self._ledger.until(at, use, generation)

    def has_passed(self, at: float) -> bool:
        return self._ledger.has_passed(at)

    def began_at(self, generation: int) -> float:
        """When a generation started; at once, if nobody knows."""
        at = self._views[generation].started_at
        return -_FOREVER if at is None else at

    def needs(self, host: str, generation: int) -> bool:
        """Whether a generation has ranks on the host."""
        return any(host == other for _, other in self._views[generation].ranks) if generation in self._views else True

    def had_ended(self, amount: int) -> None:
        if self._until_first_step is not None:
            self._ended_ms += amount

    def back_at(self, host: str, since: float) -> float:
        """When a host's link was there again, or its agent obeyed."""
        for record in self._story.run_events:
            at = when(record)
            if record["type"] == records.LINK_BACK and text(record, "host") == host and at is not None and at > since:
                return at
        for record in self._story.host_events.get(host, ()):
            at = when(record)
            if record["type"] == records.COMMANDED_BY and at is not None:
                here = self._clocks.here_now(host, at)
                if here > since:
                    return here
        return _FOREVER


class _Gap:
    """What lies between two generations, record by record of the coordinator's. `after` has ended, `before` comes."""

    def __init__(self, keeper: _Bookkeeper, chapter: Sequence[Record], after: int, before: int | None) -> None:
        self._keeper = keeper
        self._chapter = chapter
        self._after = after
        self._before = after if before is None else before
        self._use = Use.RESTART
        self._wait_until = -_FOREVER
        self._had_ended = False
        self._away: set[str] = set()
        self._led = after > 0  # there was a coordinator before

    def book(self, use: Use) -> None:
        self._use = use
        heard_at = -_FOREVER
        for record in self._chapter:
            at = when(record)
            if at is None:
                continue
            if record["type"] == records.COORDINATOR_STARTED:
                self._take_over(at, heard_at)
            self._take(record, at)
            heard_at = max(heard_at, at)
        self._advance(_FOREVER if self._before == self._after else self._keeper.began_at(self._before))

    def _take(self, record: Record, at: float) -> None:
        kind = record["type"]
        if kind == records.LINK_LOST:
            self._away.add(text(record, "host"))
            if self._use is Use.RESTART:
                self._advance(at)
                self._wait_until = max(self._wait_until, self._keeper.back_at(text(record, "host"), at))
        elif kind == records.LINK_BACK:
            self._away.discard(text(record, "host"))
        elif kind == records.RESTART:
            self._advance(at)
            self._use = Use.RESTART
            back = [self._keeper.back_at(host, at) for host in self._away if self._keeper.needs(host, self._before)]
            self._wait_until = max([at + max(0.0, number(record, "pause_s") or 0.0), *back])
        elif kind == records.RUN_ENDED:
            self._advance(at)
            self._use, self._had_ended, self._wait_until = Use.WAITING, True, -_FOREVER
        elif kind == records.REPLANNED:
            self._advance(at)
            self._use = Use.RESTART

    def _take_over(self, at: float, heard_at: float) -> None:
        """Another coordinator begins: since the last one was heard of, nobody was there."""
        if self._led and not self._had_ended:
            self._advance(heard_at)
            if not self._keeper.has_passed(at):
                self._wait_until = at
                self._advance(at)
                self._use = Use.START if self._use is Use.CHECKPOINT else Use.RESTART
        else:
            self._advance(at)
            self._use = Use.START if self._had_ended else self._use
        self._led, self._had_ended, self._wait_until = True, False, -_FOREVER

    def _advance(self, at: float) -> None:
        """Book up to here: what was waited for first."""
        if self._wait_until > -_FOREVER:
            self._keeper.book(min(at, self._wait_until), Use.WAITING, self._whose(Use.WAITING))
        passed = self._keeper.book(at, self._use, self._whose(self._use))
        if self._had_ended:
            self._keeper.had_ended(passed)

    def _whose(self, use: Use) -> int:
        return self._after if use in (Use.CHECKPOINT, Use.RESCUE) else self._before


def _chapters(events: Sequence[Record]) -> list[tuple[int, list[Record]]]:
    """The coordinator's journal, cut where generations start: what stands before the first one is chapter 0."""
    found: list[tuple[int, list[Record]]] = [(0, [])]
    seen: set[int] = set()
    for record in events:
        generation = integer(record, "generation")
        if record["type"] == records.GENERATION_STARTED and generation is not None and generation not in seen:
            seen.add(generation)
            found.append((generation, []))
        else:
            found[-1][1].append(record)
    return found


def _kept_until(lives: Sequence[Told], *, ended: bool) -> dict[int, float]:
    """Up to which step what a generation did counts, by what the newest one goes back to; others do not count.

    `ended`: nothing will go on from what is not saved.
    """
    kept: dict[int, float] = {}
    of = {told.view.generation: told for told in lives}
    newest = max((g for g, told in of.items() if told.reached is not None or told.failed is False), default=None)
    limit = _FOREVER
    if newest is not None and ended:
        limit = float(max(of[newest].saved or 0, of[newest].from_step))
    while newest is not None and newest in of and newest not in kept:
        kept[newest] = limit
        parsed = parse_checkpoint_name(of[newest].view.resumes)
        newest, limit = (parsed[0], min(limit, parsed[1])) if parsed else (None, limit)
    return kept


def _known(at: float | None) -> list[float]:
    return [] if at is None else [at]
