"""Helpers of all commands: errors in one line, options for devices and files, and the exit status.

The exit status is 0 if all is well, 1 if something is not right, 2 if it cannot be done, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import tinytorch
from tinytorch import backends, starting
from tinytorch.starting import INTERRUPTED
from tinytorch.table import plain

STATUS = "Exit status: 0 all is well, 1 something is not right, 2 it cannot be done, 130 interrupted."


class Parser(argparse.ArgumentParser):
    """A parser that refuses wrong arguments in one line, and ends the process with 2."""

    def error(self, message: str) -> NoReturn:
        """Refuse arguments that are not understood."""
        self.refuse(f"{message}; {self.prog} --help says what there is")

    def refuse(self, message: str) -> NoReturn:
        """Say what cannot be done, and end the process with 2."""
        self.exit(2, plain(f"{self.prog}: {message}", sys.stderr.encoding) + "\n")

    def add_version(self) -> None:
        """Add `--version`."""
        self.add_argument("--version", action="version", version=f"tinytorch {tinytorch.__version__}")

    def add_devices(self, text: str, **settings: Any) -> None:
        """Add `--device`, which may be repeated, and may have several names with commas between them."""
        flags = "--device", "--devices"
        self.add_argument(*flags, dest="device", action="extend", type=_names, metavar="NAME", help=text, **settings)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def chosen_devices(names: Sequence[str] | None) -> list[backends.Device]:
    """The devices of these names; "all" is every usable device. Without names it is the default device.

    Raises:
        ValueError: there is no such device.
        backends.Unavailable: a device cannot be used here.
    """
    found: list[backends.Device] = []
    for name in names or [None]:  # type: ignore[list-item]
        found += backends.usable_devices() if name == "all" else [backends.device(name)]
    return found


def at_least(least: int, kind: type[int] | type[float] = int) -> Callable[[str], float]:
    """A function for `add_argument(type=...)` that makes a number of an option, and refuses numbers below `least`."""
    said = f"a {'whole ' if kind is int else ''}number, {least} or more"

    def parse(text: str) -> float:
        try:
            number = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{said}, not {text!r}") from None
        if not number >= least:
            raise argparse.ArgumentTypeError(f"{said}, not {text}")
        return number

    return parse


def output(text: str) -> Path:
    """A file for `add_argument(type=...)`. A file that cannot be written is refused before any work is done."""
    path = Path(text)
    folder = path.parent
    if not folder.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {str(folder)!r} for {text!r}")
    if path.is_dir() or not os.access(path if path.exists() else folder, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text!r} cannot be written")
    return path


def process(main: Callable[[], int]) -> int:
    """Call the main function of a command as the only work of this process; returns the exit status.

    Ctrl-C ends the process with one line. If the reader of the output stops reading, as `head` does, it ends in
    silence.
    """
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        starting.end()
        return main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
