"""A plan as text for a terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from launcher.errors import some
from launcher.plan.environment import endpoint
from launcher.plan.model import UNKNOWN, HostPlan, LaunchPlan, RankPlan
from launcher.plan.shell import line
from worker.contract import names


def render(plan: LaunchPlan, *, width: int = 80, rank: int | None = None) -> str:
    """The plan in lines of at most `width` characters, except the commands to paste, whose words are never broken.

    With `rank`, that rank alone. Secrets are named, never shown. Control characters are written as escapes.
    """
    chosen = [plan.ranks[rank]] if rank is not None else list(plan.ranks)
    common = _common(chosen) if len(chosen) > 1 else {}
    hosts = {host.name: host for host in plan.hosts}
    promised = _wrapped(f"promised: {plan.promise}", width, "  ") if plan.promise else []
    lines = [*_wrapped(_headline(plan), width, "  "), *promised, "", *_table(chosen, width)]
    if common:
        lines += ["", "Environment of every rank", *_environment(common, width)]
    for one in chosen:
        lines += ["", *_rank(one, hosts[one.host], plan, common, width)]
    if not plan.known:
        lines += ["", *_wrapped(_unknown(plan), width, "")]
    return "\n".join(lines) + "\n"


def _headline(plan: LaunchPlan) -> str:
    counted = all(names.WORLD_SIZE in rank.env for rank in plan.ranks)
    parts = [
        f"{_plural(len(plan.ranks), 'worker') if counted else 'workers: ' + UNKNOWN}"
        f" on {_plural(len(plan.at_work), 'host')}",
    ]
    reserve = [visible(host.name) for host in plan.hosts if not host.ranks]
    parts += [f"{some(reserve)} in reserve"] if reserve else []
    if plan.global_batch is not None and plan.epochs is not None:
        parts += [f"global batch {plan.global_batch}", _plural(plan.epochs, "epoch")]
    parts += [f"goes on from {plan.resumes}"] if plan.resumes else []
    return f"{visible(plan.run)}, generation {plan.generation}: {', '.join(parts)}"


def _table(ranks: Sequence[RankPlan], width: int) -> Iterator[str]:
    rows = [("rank", "host", "address", "threads", "GPUs")]
    rows += [
        (
            str(rank.rank),
            visible(rank.host),
            _address(rank),
            UNKNOWN if rank.threads is None else str(rank.threads),
            ", ".join(rank.gpus) or ("none" if rank.cwd is not None else UNKNOWN),
        )
        for rank in ranks
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        head = "  ".join(cell.ljust(size) for cell, size in zip(row, widths, strict=False))
        yield from _wrapped(f"{head}  {row[4]}", width, " " * min(len(head) + 2, width // 2))


def _address(rank: RankPlan) -> str:
    if rank.address is None:
        return UNKNOWN
    return f"{rank.address}, port {UNKNOWN}" if rank.port is None else endpoint(rank.address, rank.port)


def _common(ranks: Sequence[RankPlan]) -> Mapping[str, str]:
    first = ranks[0].env
    return {name: value for name, value in first.items() if all(rank.env.get(name) == value for rank in ranks)}


def _rank(rank: RankPlan, host: HostPlan, plan: LaunchPlan, common: Mapping[str, str], width: int) -> Iterator[str]:
    copies = " (saves copies of the checkpoints)" if rank.saves else ""
    yield f"Rank {rank.rank} on {visible(host.name)}" + (" (the chief)" if rank.rank == 0 else copies)
    yield from _item("argv", " ".join(_word(word) for word in rank.argv), width)
    yield from _item("cwd", rank.cwd or UNKNOWN, width)
    yield from _item("asked to stop by", "a message" if rank.stop == "message" else "SIGTERM", width)
    yield from _files(rank, host, width)
    yield "  TF_CONFIG"
    yield from _tf_config(rank, plan, width)
    yield "  environment"
    rest = {k: v for k, v in rank.env.items() if k not in common and k != names.TF_CONFIG}
    yield from _environment(rest, width)
    for secret in rank.secrets:
        yield f"    {secret}=*** (from the coordinator's environment)"
    if rank.known:
        yield "  by hand" + (f", in a shell that has {', '.join(rank.secrets)}" if rank.secrets else "")
        yield line(rank, folded=True)


def _files(rank: RankPlan, host: HostPlan, width: int) -> Iterator[str]:
    yield from _item("files in", host.folder or UNKNOWN, width)
    for name, path in rank.files.items():
        yield from _item(f"  {name}", path.removeprefix(f"{host.folder}/"), width)


def _tf_config(rank: RankPlan, plan: LaunchPlan, width: int) -> Iterator[str]:
    workers = ", ".join(json.dumps(_address(peer)) for peer in plan.ranks)
    yield '    {"cluster": {"worker": ['
    yield from _wrapped(" " * 6 + workers, width, " " * 6)
    yield f'    ]}}, "task": {{"type": "worker", "index": {rank.rank}}}}}'


def _environment(env: Mapping[str, str], width: int) -> Iterator[str]:
    for name, value in env.items():
        yield from _wrapped(f"    {name}={visible(value)}", width, " " * 8)


def _item(label: str, value: str, width: int) -> Iterator[str]:
    yield from _wrapped(f"  {label}: {visible(value)}", width, " " * 8)


def _unknown(plan: LaunchPlan) -> str:
    bare = ", ".join(visible(host.name) for host in plan.hosts if host.folder is None)
    return (
        f"{UNKNOWN}: the facts of {bare} are not known here. Every rank needs the addresses of all others, so "
        "there are no lines to paste. --facts FILE takes them from a file; `launcher up` finds them."
    )


def visible(text: str) -> str:
    """Text without control characters: each is written as Python would."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _word(word: str) -> str:
    return json.dumps(word, ensure_ascii=False) if not word or any(c.isspace() or c in "\"'" for c in word) else word


def _wrapped(text: str, width: int, indent: str) -> list[str]:
    """Lines of at most `width`, broken after a space, a slash or a comma where there is one."""
    lines = [""]
    for token in re.findall(r"[^ /,]*[ /,]|[^ /,]+", text):
        if lines[-1].strip() and len(lines[-1]) + len(token.rstrip()) > width:
            lines.append(indent)
        lines[-1] += token
        while len(lines[-1].rstrip()) > width:
            lines[-1:] = [lines[-1][:width], indent + lines[-1][width:]]
    return [one.rstrip() for one in lines]


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
