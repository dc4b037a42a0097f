"""The lines of journals and progress files: JSON objects, one a line, each with `t` (seconds since 1970) and `type`.

A reader takes whole lines only, passes over a line that is not JSON, and over types and keys that it does not know.
"""

from __future__ import annotations

import json
import math
import time
from typing import Any, Dict, Iterator, List, Tuple

Record = Dict[str, Any]

# The progress file of a rank, written by the trainer.
PHASE = "phase"  # name (fork, import, data, strategy, build, restore, trace, first_step; rescue), seconds
# epoch (from 1), step (whole steps done over all epochs), steps (in all), loss, images_per_second, saving_s: for which
# training has stood still to save in this generation
STEP = "step"
EPOCH = (
    "epoch"  # epoch, step (at its end), [val_]loss, [val_]accuracy, seconds, images_per_second, metrics {name: number}
)
SAVED = "saved"  # folder (name under the rank's checkpoint folder), step, epoch, why: every|asked|rescue|end
RESULT = "result"  # test_loss, test_accuracy, model: file name under the rank's output folder
GOING = "going"  # why: somebody who is not its agent sent it SIGTERM, so its host has to go
FAILURE = "failure"  # reason: data|environment|diverged|port|peer|cluster|error; message, hint; maybe step, differs

# An agent's journal, `hosts/<host>/events.jsonl`; every record also has `seq`, counted from 1.
# pid, warden_pid, start_time, boot_id, machine_id, host, run, code; warm: the run that had kept this very process, or
# not_warm: why one that was kept did not serve
AGENT_STARTED = "agent_started"
COMMANDED_BY = "commanded_by"  # term
COORDINATOR_GONE = "coordinator_gone"  # term
ZYGOTE_READY = "zygote_ready"  # pid, start_time, seconds: it has imported the trainer; workers are forked off it
ZYGOTE_ENDED = "zygote_ended"  # pid, reason
ZYGOTE_KEPT = "zygote_kept"  # pid, start_time, seconds: agent and zygote stay for so long, for the next `up`
ZYGOTE_NOT_KEPT = "zygote_not_kept"  # reason: why it does not stay, though that was wanted
ZYGOTE_ADOPTED = "zygote_adopted"  # pid, start_time, run: the one that had kept it
# Of a trainer's rank also `forked: true`, or `cold`, why it was not forked off a zygote where that was wanted.
RANK_STARTED = "rank_started"  # generation, rank, pid, start_time (clock ticks since boot), state
RANK_FIRST_STEP = "rank_first_step"  # generation, rank, step
RANK_EPOCH = "rank_epoch"  # generation, rank, and the fields of EPOCH (the chief's only)
RANK_RESULT = (
    "rank_result"  # generation, rank, and the fields of RESULT (the chief's only; model relative to the host folder)
)
RANK_FAILURE = "rank_failure"  # generation, rank, and the fields of FAILURE
# Of a trainer, both have `arrays`, too: the hash of its arrays, by which copies are compared.
CHECKPOINT = "checkpoint"  # generation, rank, name, step, epoch, why: published under checkpoints/<name>
CHECKPOINT_REFUSED = (
    "checkpoint_refused"  # generation, rank, name, why: not whole, not of this generation, or unlike the one published
)
CHECKPOINT_PRUNED = "checkpoint_pruned"  # name, and why if it should have stayed until it was home
RANK_ASKED_TO_STOP = "rank_asked_to_stop"  # generation, rank, how: message|SIGTERM|SIGKILL, reason
RANK_UNKILLABLE = "rank_unkillable"  # generation, rank: still there ten seconds after SIGKILL
# generation, rank, state, exit_code or signal (name), step: last one told, reason: why it was ended; raised: the last
# line of the traceback at the end of its log. Of a SIGKILL that
# nobody of the run sent: memory (how full it was), oom (where the kernel says that it had run out)
RANK_ENDED = "rank_ended"
# Ranks that are here do no steps, or no first one. Written after a look at them (`standing`), before anybody is ended.
STALLED = "stalled"  # generation, what, ranks
START_TIMEOUT = "start_timeout"  # generation, what, ranks
STALL_OVER = "stall_over"  # generation: they go on after all, before anybody was ended
LEFTOVERS = "leftovers"  # generation, pids: what its ranks left behind, still there ten seconds after SIGKILL
GENERATION_ENDED = "generation_ended"  # generation, reason
DISK_FULL = "disk_full"  # message: what is written on this host waits or is lost for now
DISK_ROOM = "disk_room"  # there is room again
LEASE_ENDED = "lease_ended"  # term
# generation, why: this host has to go. Its ranks save at the next agreed step and stop; then the agent leaves.
HOST_GOING = "host_going"
AGENT_LEFT = "agent_left"  # reason

# The coordinator's journal, `events.jsonl` of the run folder; every record also has `seq`, counted from 1.
RUN_CREATED = "run_created"  # run, spec (path), hosts: [name], workers, epochs, launched_at (t of the command)
# pid, start_time, boot_id, term, remote: hosts on other machines, took: {reached, made_ready, examined: seconds},
# clocks: {host: seconds ahead} of those that are wrong, offsets: {host: [seconds ahead, give or take]} of all machines
COORDINATOR_STARTED = "coordinator_started"
RUN_STATE = "run_state"  # state, reason
GENERATION_STARTED = (
    "generation_started"  # generation, epochs, ranks: [{rank, host, address, port}], resumes (checkpoint or "")
)
COPIES_DIFFER = (
    "copies_differ"  # generation, step, name, copies: [{rank, host, arrays}]: the workers have drifted apart
)
REPLANNED = "replanned"  # generation, resumes (a checkpoint's name, or empty)
RESTART = "restart"  # generation (that failed), message, pause_s, progressed, and what CAUSE has but the log's lines
# generation, reason: all its workers are to save at a step they agree on and leave, and another one is to begin
GENERATION_ENDING = "generation_ending"
STOP_REQUESTED = "stop_requested"  # how, by
HOST_LEAVING = "host_leaving"  # host, why: it has to go; all save and stop, and the run goes on without it, or parks
HOST_LEFT = "host_left"  # host: nothing of the run is alive there any more, nor is anything of it only there
LINK_LOST = "link_lost"  # host, why: its agent goes on, unseen; the link is tried again and again
LINK_BACK = "link_back"  # host, seconds: for which it was lost
# host, why, unreachable: while it had ranks, its agent is gone; or a generation failed and it was waited for in vain
HOST_LOST = "host_lost"
REMARK = "remark"  # text: something that a person should know
# rank, host, generation, how, message, hint, log (path), lines: [last of its log]; also: [{rank, host, how}], which may
# as well have been the first
CAUSE = "cause"
RUN_ENDED = "run_ended"  # state, exit_code, message, model (path or "")


def line(type_: str, **fields: Any) -> bytes:
    """One record as a line, stamped with the wall clock."""
    return dumps({"t": round(time.time(), 6), "type": type_, **fields})


def dumps(record: Record) -> bytes:
    """A record as one line. Numbers that are not finite become null: JSON has none."""
    try:
        text = json.dumps(record, allow_nan=False, separators=(",", ":"))
    except ValueError:
        text = json.dumps(_finite(record), separators=(",", ":"))
    return text.encode("utf-8") + b"\n"


def parse(data: bytes) -> Tuple[List[Record], int]:
    """The records in `data` and how many bytes their whole lines take: the rest is a line still being written."""
    end = data.rfind(b"\n") + 1
    return list(_records(data[:end])), end


def _records(data: bytes) -> Iterator[Record]:
    for text in data.splitlines():
        try:
            record = json.loads(text.decode("utf-8"))
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and isinstance(record.get("type"), str):
            yield record


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
