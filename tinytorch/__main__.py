"""The command line: python -m tinytorch devices"""

from __future__ import annotations

import argparse
import sys

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import tinytorch


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tinytorch", description=f"tinytorch {tinytorch.__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("devices", help="list every known device, and why those that are not usable are not")
    parser.parse_args(argv)

    table = Table(box=SIMPLE_HEAD)
    for column in ("device", "library", "state", "how to mend it"):
        table.add_column(column, overflow="fold")
    default = tinytorch.default_device().name
    for info in tinytorch.devices():
        state = "usable" + (", the default" if info.name == default else "") if info.usable else info.reason
        table.add_row(*map(escape, (info.name, info.library, state, info.fix)))  # [cuda12] is no markup
    Console(width=None if sys.stdout.isatty() else 150).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
