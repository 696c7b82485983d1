"""python -m tinytorch: see `tinytorch.cli`."""

import os
import sys

from tinytorch import cli
from tinytorch.commands import process

ALONE = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def main() -> int:
    """Run a command; returns the exit status of the process."""
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    if command in cli.CHAPTERS and os.name == "posix" and not ALONE.keys() <= os.environ.keys():
        # One thread is faster (see milestones/__main__.py), and NumPy is imported already: start again
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], ALONE | os.environ)
    return process(cli.main)


if __name__ == "__main__":
    sys.exit(main())
