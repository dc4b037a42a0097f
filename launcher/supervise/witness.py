"""What the coordinator itself keeps of the agents' records, and what a rank's log adds to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from launcher.runs.folder import RunFolder
from launcher.runs.tail import last_words
from launcher.supervise.clocks import Clocks
from launcher.supervise.core.causes import trace_of
from launcher.supervise.disks import Disks
from launcher.supervise.patient import PatientJournal
from launcher.supervise.warmth import Warmth
from worker.contract import records
from worker.contract.states import RankState

PORT_TAKEN_TEXT = "Could not start gRPC server"


class Witness:
    """Hears every record once, in the order in which it comes."""

    def __init__(self, run: RunFolder, clocks: Clocks, disks: Disks, warmth: Warmth, journal: PatientJournal) -> None:
        self._run = run
        self._clocks = clocks
        self._disks = disks
        self._warmth = warmth
        self._journal = journal
        self.model = ""  # where the newest one that was told of will lie

    def heard_of(self, host: str, event: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any] | None]:
        """(The record by this machine's clock, with what only the rank's log can tell of it; a failure that the log
        tells of and that comes before it, or None)."""
        event = self._clocks.by_ours(host, event)
        kind = event.get("type")
        if told := self._disks.heard_of(host, event):
            self._journal.append(records.REMARK, text=told)
        self._warmth.heard_of(host, event)
        if kind == records.RANK_RESULT and event.get("model"):
            self.model = str(self._run.hosts / host / str(event["model"]))
        if kind != records.RANK_ENDED or event.get("state") != RankState.FAILED:
            return event, None
        log = self._run.host(host).log(int(event.get("generation", 0)), int(event.get("rank", 0)))
        lines = last_words(log, 60)
        failure = None
        if any(PORT_TAKEN_TEXT in line for line in lines):
            failure = {"type": records.RANK_FAILURE, "rank": event.get("rank"), "reason": "port"}
            failure.update(generation=event.get("generation"), message=f"{PORT_TAKEN_TEXT} on its port")
        return {**event, "trace": trace_of(lines)}, failure

    def with_log(self, cause: Mapping[str, Any]) -> dict[str, Any]:
        """A run's cause with the last lines of its rank's log, and what to do about a full disk."""
        fields = dict(cause)
        if "rank" in fields and "host" in fields:
            log = self._run.host(fields["host"]).log(int(fields["generation"]), int(fields["rank"]))
            fields.update(log=log, lines=last_words(log, 15))
            fields["hint"] = self._disks.hint(fields["host"]) or fields.get("hint", "")
        return fields
