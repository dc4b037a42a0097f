"""How it ended, and what was left."""

from __future__ import annotations

from tests.chaos.checker.evidence import Evidence

# Of docs: the exit code of the command that waits for a run, by the state in which that ended.
CODES = {"trained": 0, "failed": 1, "not fit": 3, "faulty": 70, "parked": 75, "stopped": 130}


def ended_as_it_should(evidence: Evidence) -> list[str]:
    """Trained in the end; before that stopped, failed with a cause or parked, where that might be, and resumed."""
    if evidence.stuck:
        return [f"it did not end: {evidence.stuck}"]
    problems = []
    ends = evidence.run.of("run_ended")
    if not ends or evidence.run.of("run_ended", "coordinator_started")[-1]["type"] != "run_ended":
        problems.append("the run's journal does not end with its end")
    states = [record["state"] for record in ends]
    if states[-1:] != ["trained"] or not set(states[:-1]) <= set(evidence.interruptions):
        problems.append(f"it ended as {states}, and trained was to be: {_words(evidence)}")
    codes = [CODES.get(state) for state in states]
    # It may have been parked while no coordinator was there to write that down.
    if [code for code in evidence.codes if code != 75] != [code for code in codes if code != 75]:
        problems.append(f"it ended as {states}, and its commands with {list(evidence.codes)}")
    for record in ends:
        if record["exit_code"] != CODES.get(record["state"]):
            problems.append(f"its journal says {record['state']} and exit code {record['exit_code']}")
    if states.count("failed") > len(evidence.run.of("cause")):
        problems.append("it failed, and nobody says of what")
    return problems


def _words(evidence: Evidence) -> str:
    said = [record.get("message", "") for record in evidence.run.of("run_ended", "cause")]
    return "; ".join(said)


def nothing_alive(evidence: Evidence) -> list[str]:
    """No process, socket or lock of the run."""
    return list(evidence.left)
