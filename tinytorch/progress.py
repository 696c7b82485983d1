"""Progress of long work: on a terminal one line, which is rewritten; in a log a line now and then."""

from __future__ import annotations

import sys
import time
from typing import Self

from tinytorch.table import plain, width

PATIENCE = 1.0  # seconds until there is something to see
OFTEN = 0.1  # seconds between two looks of the line on a terminal
RARELY = 60.0  # seconds at most between two lines elsewhere


class Progress:
    """Says on `sys.stderr` what is being done, if the work takes longer than a second.

    On a terminal this is one line, which is rewritten, and gone when the block ends. Elsewhere nothing is said; with
    `always` there is a line after 1, 2, 4, 8, ... seconds, and then every minute.

    Args:
        always: also where `sys.stderr` is no terminal.
        on: with False nothing is said.

    >>> from tinytorch.progress import Progress
    >>> with Progress() as progress:
    ...     for i in range(3):
    ...         progress.say(f"{i} of 3")
    """

    def __init__(self, always: bool = False, on: bool = True) -> None:
        self._start = time.perf_counter()
        self._next = self._start + PATIENCE
        self._shown = 0
        self._line = sys.stderr is not None and sys.stderr.isatty()
        self._on = on and (self._line or (always and sys.stderr is not None))

    @property
    def seconds(self) -> float:
        """How long the work has taken so far."""
        return time.perf_counter() - self._start

    def say(self, text: str) -> None:
        """Show what is being done now, unless something was shown a moment ago."""
        now = time.perf_counter()
        if not self._on or now < self._next:
            return
        text = plain(f"{text}, {self.seconds:.0f} s", sys.stderr.encoding)
        if self._line:
            text = text[: max(width(80) - 1, 10)]
            sys.stderr.write("\r" + text.ljust(self._shown))
            self._shown, self._next = len(text), now + OFTEN
        else:
            sys.stderr.write(text + "\n")
            self._next = now + min(self.seconds, RARELY)
        sys.stderr.flush()

    def clear(self) -> None:
        """Remove the line."""
        if self._shown:
            sys.stderr.write("\r" + " " * self._shown + "\r")
            sys.stderr.flush()
            self._shown = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.clear()
