"""What coming home costs: files beside scp, logs, and how soon a printed line is on the screen.

    python -m benchmarks.gather [--short] [--only file,files,logs,home,screen] [--transport openssh] [--json FILE]

All over real sshd's on 127.0.0.x, started for it (sshd must be installed; no root is needed): this machine is both
sides, so encryption and the hosts' own work are on the same cores. Medians and ratios are taken within the run.

    file    one file of 512 MB against `scp`, in turn; every byte compared
    files   2,000 small files against `scp -r`, in turn; every byte compared
    logs    64 hosts, each with a log of 100-byte lines, written as fast as they can be; every byte compared
    home    16 hosts, a line every 50 ms on each: how old it is when it is in home's file
    screen  16 hosts, a program that prints its clock every 100 ms: how old a line is on `launcher up --plain`
    follow  the same on `launcher logs -f`

The whole takes about three minutes, `--short` (fewer rounds, smaller) about one. `--at FOLDER` says on which disk:
/dev/shm is memory. On ext4 a file costs up to half a millisecond to make if thousands were deleted in the last five
minutes (it looks past their inodes, one by one), which scp pays, too: see `making_an_empty_file_here_us`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.gather_files import against_scp, make_file, make_files
from benchmarks.gather_lab import Lab, lab_up
from benchmarks.gather_logs import age_at_home, speed
from benchmarks.gather_screen import on_screen

PARTS = ("file", "files", "logs", "home", "screen", "follow")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="a third of the rounds, lines and seconds, 128 MB")
    parser.add_argument("--only", default=",".join(PARTS), help="some of these, with commas: %(default)s")
    parser.add_argument("--transport", choices=["paramiko", "openssh"], default="paramiko", help="but for the screen")
    parser.add_argument("--without-ssh", action="store_true", help="logs and home over pipes, on this machine")
    parser.add_argument("--at", type=Path, help="where the files are; default: the folder for temporary files")
    parser.add_argument("--file-mb", type=int, default=512)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--channels", type=int, default=64, help="hosts of `logs`")
    parser.add_argument("--lines", type=int, default=50_000, help="of each channel's log")
    parser.add_argument("--hosts", type=int, default=16, help="of paced lines")
    parser.add_argument("--seconds", type=float, default=20.0, help="of paced lines")
    parser.add_argument("--json", type=Path, help="write what was found there, too")
    options = parser.parse_args()
    if options.short:
        options.rounds, options.lines, options.seconds = 2, options.lines // 3, options.seconds / 3
        options.file_mb //= 4
    found = {}
    for part in options.only.split(","):
        with tempfile.TemporaryDirectory(prefix="launcher-gather-", dir=options.at) as folder:
            found[part] = _MEASURES[part](Path(folder), options)
        print(json.dumps({part: found[part]}, indent=2), flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


def _file(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    make_file(folder / "one", options.file_mb)
    with lab_up(folder / "lab", 1, options.transport) as lab:
        return against_scp(lab, folder, "one", options.rounds)


def _files(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    make_files(folder / "many", options.files)
    with lab_up(folder / "lab", 1, options.transport) as lab:
        return against_scp(lab, folder, "many", options.rounds)


def _logs(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    with ExitStack() as stack:
        return speed(folder / "logs", options.channels, options.lines, _lab(stack, folder, options, options.channels))


def _home(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    with ExitStack() as stack:
        lab = _lab(stack, folder, options, options.hosts)
        return age_at_home(folder / "paced", options.hosts, options.seconds, lab)


def _screen(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    return on_screen(folder, options.hosts, options.seconds, "up")


def _follow(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    return on_screen(folder, options.hosts, options.seconds, "logs")


def _lab(stack: ExitStack, folder: Path, options: argparse.Namespace, count: int) -> Lab | None:
    if options.without_ssh:
        return None
    return stack.enter_context(lab_up(folder / "lab", count, options.transport))


_MEASURES: dict[str, Callable[[Path, argparse.Namespace], dict[str, Any]]] = dict(
    zip(PARTS, (_file, _files, _logs, _home, _screen, _follow), strict=True)
)


if __name__ == "__main__":
    main()
