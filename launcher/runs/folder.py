"""Every path of a run on the coordinator's machine, in one class.

<runs>/<run>/
  cluster.yaml             the spec as it was read        run.json     where it came from, overrides, secrets' names
  plan.g<generation>.json  each generation's plan         events.jsonl the coordinator's journal
  coordinator.log          what the coordinator prints if something is wrong with it
  hosts/<host>/            the mirror of a host's folder; a local host's folder is that folder itself
  staged.json              what was brought to which host, for another coordinator
  hooks.log                what coordinator.on_end and on_event printed
  report/                  loss.png, accuracy.png, metrics.csv, metrics.json
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from worker.contract.layout import HostFolder


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run. Pure: no method touches the disk."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def spec(self) -> Path:
        return self.path / "cluster.yaml"

    @property
    def about(self) -> Path:
        return self.path / "run.json"

    @property
    def journal(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def reserve(self) -> Path:
        return self.path / ".reserve"

    @property
    def coordinator_log(self) -> Path:
        return self.path / "coordinator.log"

    @property
    def hooks_log(self) -> Path:
        return self.path / "hooks.log"

    @property
    def staged(self) -> Path:
        return self.path / "staged.json"

    @property
    def report(self) -> Path:
        return self.path / "report"

    @property
    def hosts(self) -> Path:
        return self.path / "hosts"

    def plan(self, generation: int) -> Path:
        return self.path / f"plan.g{generation}.json"

    def host(self, name: str) -> HostFolder:
        return HostFolder(str(self.hosts / name))
