"""`python -m launcher`, and the `launcher` command."""

from __future__ import annotations

import sys


def main() -> None:
    from launcher.cli.app import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
