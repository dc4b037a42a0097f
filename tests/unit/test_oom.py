"""Whether a killed rank was killed for want of memory: by the kernel's own records, written here by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.agent.oom import OF_GROUP, OF_LOG, OF_MACHINE, Files, Kill, KillRecords

GB = 1_000_000_000
PID = 4242


class Kernel:
    """The files of a kernel, and a rank in a control group of it."""

    def __init__(self, folder: Path, version: int = 2) -> None:
        self.proc, self.cgroups, self.log = folder / "proc", folder / "cg", folder / "kmsg"
        self.group = self.cgroups / "job" if version == 2 else self.cgroups / "memory" / "job"
        self.events = self.group / ("memory.events" if version == 2 else "memory.oom_control")
        for path in (self.proc / str(PID), self.group):
            path.mkdir(parents=True)
        (self.proc / "meminfo").write_text("MemTotal: 32000000 kB\nMemAvailable: 16000000 kB\n")
        (self.proc / str(PID) / "cgroup").write_text("0::/job\n" if version == 2 else "4:memory:/job\n")
        files = ("max", "current") if version == 2 else ("limit_in_bytes", "usage_in_bytes")
        (self.group / f"memory.{files[0]}").write_text(str(16 * GB))
        (self.group / f"memory.{files[1]}").write_text(str(15 * GB + GB // 2))
        (self.group / "memory.stat").write_text("inactive_file 0\n")
        self.count(0, 0)
        self.now = 100.0
        self.records = KillRecords(Files(str(self.proc), str(self.cgroups), str(self.log)), lambda: self.now)

    def count(self, group: int | None, machine: int | None) -> None:
        if group is not None:
            self.events.write_text(f"oom {group}\noom_kill {group}\n")
        if machine is not None:
            (self.proc / "vmstat").write_text(f"nr_free_pages 1\noom_kill {machine}\n")

    def live(self, seconds: int = 5) -> None:
        for _ in range(seconds):
            self.now += 1
            self.records.look([PID])


FULL = "15.5 of 16.0 GB"


@pytest.mark.parametrize("version", [1, 2])
def test_a_kill_that_its_control_group_counted_just_now(tmp_path: Path, version: int) -> None:
    kernel = Kernel(tmp_path, version)
    kernel.live()
    kernel.count(1, 1)
    assert kernel.records.of(PID) == Kill(OF_GROUP, FULL)


def test_the_count_may_have_been_looked_at_between_the_kill_and_the_news_of_it(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path)
    kernel.live()
    kernel.count(1, 1)
    kernel.live(1)
    assert kernel.records.of(PID) == Kill(OF_GROUP, FULL)


def test_a_kill_of_long_ago_is_somebody_elses(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path)
    kernel.live()
    kernel.count(1, 1)
    kernel.live()
    assert kernel.records.of(PID) == Kill("", FULL)


def test_without_a_control_group_the_machines_count_counts(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path)
    kernel.events.unlink()
    kernel.live()
    kernel.count(None, 1)
    assert kernel.records.of(PID) == Kill(OF_MACHINE, FULL)


def test_where_the_kernel_has_no_records_nothing_is_guessed(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path)
    kernel.events.unlink()
    (kernel.proc / "vmstat").unlink()
    kernel.live()
    assert kernel.records.of(PID) == Kill("", FULL), "full memory is no record"
    assert Kernel(tmp_path / "other").records.of(1) == Kill("", "")


def test_another_group_is_not_the_ranks(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path)
    kernel.live()
    other = kernel.cgroups / "other"
    other.mkdir()
    (other / "memory.events").write_text("oom_kill 5\n")
    assert kernel.records.of(PID) == Kill("", FULL)


def test_the_log_names_the_very_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.agent.oom._kills", lambda _: [(10**18, PID)])
    kernel = Kernel(tmp_path)
    (kernel.proc / "vmstat").unlink()
    kernel.live()
    assert kernel.records.of(PID) == Kill(OF_LOG, FULL)
    assert kernel.records.of(PID + 1) == Kill("", "")
