"""Ctrl-C while a command of tinytorch is still being imported: one line, as `commands.process` prints later.

Python imports the package before its `__main__`, and the import is the longest part of a short command. So this module
is imported first, and imports only modules that every process has. The start of Python itself comes before (some
50 ms), and is out of reach: a Ctrl-C then ends in Python's own words, or in none.
"""

import os
import signal
import sys

INTERRUPTED = 130  # the exit status in a shell of a process that Ctrl-C ended


def _end(*_: object) -> None:
    os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)


def _is_a_command() -> bool:
    """Whether this process is a command of tinytorch, and not a program that imports tinytorch."""
    program = sys.argv[0] if sys.argv else ""
    if program == "-m":  # until Python has found the module
        module = sys.orig_argv[sys.orig_argv.index("-m") + 1 :][:1] if "-m" in sys.orig_argv else []
        return module in (["tinytorch"], ["tinytorch.milestones"])
    chapters = os.path.join(os.path.dirname(__file__), "milestones", "__main__.py")
    return os.path.realpath(program) == os.path.realpath(chapters) or _is_the_script(program)


def _is_the_script(program: str) -> bool:
    """Whether an installer has made the file for the command `tinytorch`."""
    name = os.path.basename(program).lower()
    if name == "tinytorch.exe":
        return True
    if name != "tinytorch":
        return False
    try:
        with open(program, "rb") as file:
            return b"from tinytorch.__main__ import main" in file.read(4096)
    except OSError:
        return False


def begin() -> None:
    """From now on Ctrl-C ends the process with one line, if the process is a command."""
    if _is_a_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def end() -> None:
    """From now on Ctrl-C is a KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)
