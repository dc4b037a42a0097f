"""A plan's ranks as the message that starts them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from launcher.plan.model import LaunchPlan
from launcher.spec.model import ClusterSpec
from launcher.stage.remote import Activated
from worker.contract import wire


def start_message(
    plan: LaunchPlan,
    spec: ClusterSpec,
    host: str,
    term: int,
    secrets: Mapping[str, str],
    activated: Activated = Activated(),  # noqa: B008 - immutable
) -> dict[str, Any]:
    """The START message for one host: the only place where the values of secrets stand, and what `activate:` gave,
    which may hold some. What the plan sets counts more than that."""
    orders = [
        {
            "rank": rank.rank,
            "argv": list(rank.argv),
            "cwd": rank.cwd,
            "env": {**activated.env, **rank.env},
            "unset": list(activated.gone),
            "secrets": {name: secrets[name] for name in rank.secrets},
            "stop": rank.stop,
            "chief": rank.rank == 0,
        }
        for rank in plan.ranks
        if rank.host == host
    ]
    timeouts, checkpoint = spec.timeouts, spec.checkpoint
    local = any(one.name == host and one.local for one in plan.hosts)
    # With `home: all` everything stays at home, and with a host that is this machine that is its own folder.
    kept_here = local and checkpoint.home == "all"
    return {
        "type": wire.START,
        "term": term,
        "generation": plan.generation,
        "ranks": orders,
        "keep": None if kept_here else checkpoint.keep,
        "until_home": checkpoint.home == "all" and not local,
        "workers": len(plan.ranks),
        "zygote": spec.restart.zygote,
        "timeouts": {
            "stop_s": timeouts.stop,
            "checkpoint_s": timeouts.checkpoint,
            "start_s": timeouts.start,
            "stall_s": timeouts.stall,
        },
    }
