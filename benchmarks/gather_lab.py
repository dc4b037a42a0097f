"""Hosts for the measurements of gathering, and what is asked of every one of them."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from launcher.gather.again import Source
from launcher.hosts.local_session import LocalSession
from launcher.hosts.session import Session

Connect = Callable[[], Session]


class Lab:
    """Real sshd's on 127.0.0.x, and connections to them by one transport."""

    def __init__(self, hosts: Any, reacher: Any, transport: str) -> None:
        self.hosts = hosts
        self._reacher = reacher
        self._transport = transport

    def connect(self, index: int = 0, *, bulk: bool = True) -> Session:
        from launcher.spec.model import HostSpec, Ssh

        name = self.hosts[index].name
        host = HostSpec(name=name, ssh=Ssh(alias=name), transport=self._transport)  # type: ignore[arg-type]
        session: Session = self._reacher.open(host, bulk=bulk)
        return session

    def scp(self, source: Path, target: Path) -> None:
        """Copy a folder home as a person would; no setting of ours."""
        line = ["scp", "-q", "-r", "-F", str(self.hosts.config), f"{self.hosts[0].name}:{source}", str(target)]
        subprocess.run(line, check=True)


@contextmanager
def lab_up(folder: Path, count: int, transport: str) -> Iterator[Lab]:
    """So many hosts, each with an sshd of its own."""
    from launcher.hosts.reach import Reacher
    from tests.lab.sshd import sshd_hosts

    with sshd_hosts(folder, count=count) as hosts, Reacher(connect_s=20, config=hosts.config) as reacher:
        yield Lab(hosts, reacher, transport)


def make_sources(folder: Path, count: int, lab: Lab | None) -> list[Source]:
    """So many hosts' folders with room for a log, empty; without a lab they are reached without SSH."""
    sources = []
    for number in range(count):
        name = f"h{number + 1}"
        there, home = folder / "there" / name, folder / "home" / name
        (there / "g1").mkdir(parents=True)
        connect: Connect = _connect(lab, number) if lab else _connect_here(name)
        sources.append(Source(name, str(there), str(home), connect, workdir=str(folder / "workdir")))
    return sources


def _connect(lab: Lab, number: int) -> Connect:
    return lambda: lab.connect(number, bulk=False)


def _connect_here(name: str) -> Connect:
    return lambda: LocalSession(name)


def digest(folder: Path) -> str:
    """Of the names and contents of all files below a folder."""
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            whole.update(str(path.relative_to(folder)).encode())
            with open(path, "rb") as file:
                while data := file.read(1 << 20):
                    whole.update(data)
    return whole.hexdigest()


def forget_peak() -> None:
    """Let the peak of this process's memory be what it has now."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_mb(pid: int | str = "self") -> float:
    """The most memory that a process has had in RAM, in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return round(int(line.split()[1]) * 1024 / 1e6, 1)
    raise ValueError(f"the kernel does not tell the memory of process {pid}")


def percentiles(seconds: list[float]) -> dict[str, float]:
    """In milliseconds."""
    ordered = sorted(seconds)
    return {
        "median_ms": round(1000 * ordered[len(ordered) // 2], 1),
        "p99_ms": round(1000 * ordered[len(ordered) * 99 // 100], 1),
        "worst_ms": round(1000 * ordered[-1], 1),
    }
