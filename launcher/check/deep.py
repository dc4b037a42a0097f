"""A real all-reduce over all workers of a plan: two steps, and nothing is trained."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from launcher.check import errand
from launcher.check.many import Tell, each, untold
from launcher.check.staged import NOTHING, Staged
from launcher.errors import LauncherError, NotFitError
from launcher.hosts.session import Session
from launcher.plan.facts import Facts, HostFacts
from launcher.plan.model import LaunchPlan, RankPlan
from launcher.spec.model import ClusterSpec
from worker.contract import names

_ALIVE_S = 20.0  # an errand says once a second that it is there
_MOST_LINES = 6


@dataclass(frozen=True)
class Told:
    """How one rank's trial ended. `why` is empty if both sums were right."""

    rank: int
    host: str
    why: str = ""
    victim: bool = False  # ended because another one failed
    replicas: int = 0
    join_s: float = 0.0
    step_s: float = 0.0  # the second step


def all_reduce(
    spec: ClusterSpec,
    sessions: Mapping[str, Session],
    plan: LaunchPlan,
    facts: Facts,
    *,
    staged: Staged = NOTHING,
    tell: Tell = untold,
) -> tuple[Told, ...]:
    """Start every worker of the plan for two steps, on all hosts at once. Blocks up to `timeouts.start` and a little.

    The plan must be whole, and `facts` those that it was made from.
    """
    works = {host.name for host in plan.at_work}
    hosts = {host.name: host for host in spec.hosts if host.name in sessions and host.name in works}
    failed = threading.Event()
    deadline = time.monotonic() + spec.timeouts.start

    def ask(name: str) -> list[Told]:
        ranks = [plan.ranks[rank] for host in plan.hosts if host.name == name for rank in host.ranks]
        talk = errand.begin(hosts[name], sessions[name], "deep")
        told: list[Told] = []
        try:
            workdir = "" if hosts[name].local else hosts[name].workdir
            orders = [_order(rank, facts[name], staged.environments.get(name, {})) for rank in ranks]
            gone = list(staged.gone.get(name, ()))
            talk.send({"type": "start", "workdir": workdir, "ranks": orders, "gone": gone})
            while True:
                frame = talk.receive(timeout_s=_ALIVE_S)
                message: Mapping[str, Any] = frame[0] if frame else {"type": "over"}
                if message["type"] == "ended":
                    told.append(_told(name, message, failed.is_set()))
                    if told[-1].why:
                        failed.set()
                if message["type"] == "over":
                    break
                if failed.is_set() or time.monotonic() > deadline:
                    break
        except (ValueError, TypeError, KeyError) as error:
            failed.set()
            raise NotFitError(f"{name} tells of its trial what makes no sense") from error
        except LauncherError:
            failed.set()
            raise
        finally:
            talk.close()
        ended = {one.rank for one in told}
        why = "ended: another worker had failed" if failed.is_set() else _late(spec)
        return told + [Told(rank.rank, name, why, victim=failed.is_set()) for rank in ranks if rank.rank not in ended]

    done, wrong = each(list(hosts), ask, what="an all-reduce over", tell=tell)
    lost = [
        Told(rank, host.name, wrong[host.name].message)
        for host in plan.hosts
        if host.name in wrong
        for rank in host.ranks
    ]
    return tuple(sorted([*(one for told in done.values() for one in told), *lost], key=lambda one: one.rank))


def _late(spec: ClusterSpec) -> str:
    return f"no end within {spec.timeouts.start:g} s: it waits for a peer, or for a device"


def _order(rank: RankPlan, facts: HostFacts, activated: Mapping[str, str]) -> dict[str, Any]:
    """The environment of the plan, without what names folders that only a run has."""
    env = {name: value for name, value in rank.env.items() if name not in (names.PROGRESS_FILE, "TMPDIR", "PYTHONPATH")}
    return {"rank": rank.rank, "argv": [facts.python, facts.code, "allreduce"], "env": {**activated, **env}}


def _told(host: str, message: Mapping[str, Any], after: bool) -> Told:
    rank, code, said = int(message["rank"]), int(message["exit"]), message.get("said")
    if code == 0 and isinstance(said, dict) and said.get("right") is True:
        steps = said.get("steps_s") or [0.0]
        return Told(rank, host, "", False, int(said["replicas"]), float(said["join_s"]), float(steps[-1]))
    lines = [line.strip() for line in str(message.get("last", ""))[-4000:].splitlines() if line.strip()]
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return Told(rank, host, " | ".join([how, *lines[-_MOST_LINES:]])[:1500], victim=after or code == -9)
