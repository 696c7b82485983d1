"""Text for a terminal: tables that fit any width and break no word, and users' strings without control characters."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

from tinytorch.backends.forks import importing

GAP = "  "  # between columns


def plain(text: object, encoding: str | None = None) -> str:
    r"""A text that only prints: characters that a terminal obeys, or the encoding lacks, are escaped as in Python.

    Args:
        encoding: the encoding of the stream; of `sys.stdout` unless given.

    >>> from tinytorch.table import plain
    >>> print(plain("\x1b[31m[/] a\nb"))
    \x1b[31m[/] a\nb
    """
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text))
    encoding = encoding or getattr(sys.stdout, "encoding", None) or "utf-8"
    return shown.encode(encoding, "backslashreplace").decode(encoding)


def width(otherwise: int) -> int:
    """The columns of the terminal that `print` writes to, or the variable COLUMNS; else the number given."""
    if os.environ.get("COLUMNS", "").isdigit() or (sys.stdout is not None and sys.stdout.isatty()):
        return max(shutil.get_terminal_size((otherwise, 24)).columns, 1)
    return otherwise


def console(file: TextIO | None = None, otherwise: int = 150) -> Any:
    """A `rich` console for a stream (`sys.stdout`), as wide as the terminal, the variable COLUMNS, or `otherwise`."""
    with importing:
        from rich.console import Console

    file = file or sys.stdout
    known = file.isatty() or os.environ.get("COLUMNS", "").isdigit()
    return Console(file=file, width=None if known else otherwise, highlight=False, markup=False, emoji=False)


def say(screen: Any, text: str, style: str | None = None) -> None:
    """Print a text on a console: on a terminal with line breaks between words, elsewhere as one line."""
    text = plain(text, screen.encoding)
    for line in wrapped(text, screen.width, GAP) if screen.is_terminal else [text]:
        screen.print(line, style=style, soft_wrap=True)


def wrapped(text: str, columns: int, indent: str = "") -> list[str]:
    """The lines of a text, at most so many columns long unless a word is longer; all but the first are indented."""
    lines, line = [], ""
    for word in text.split(" "):
        longer = f"{line} {word}" if line.strip() else line + word
        if line.strip() and _cells(longer) > columns:
            lines.append(line)
            longer = indent + word
        line = longer
    return [*lines, line]


def _cells(text: str) -> int:
    """How many columns a text takes: two for a Chinese character, none for an accent combined with a letter."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


class Table:
    """Rows under headings; where the rows are too wide, a line for each cell.

    >>> from tinytorch.table import Table
    >>> table = Table("device", "state")
    >>> table.add_row("cpu", "usable, the default")
    >>> print(*table.lines(80), sep="\\n")
    device  state
    ---------------------------
    cpu     usable, the default
    >>> print(*table.lines(18), sep="\\n")
    device  state
    ---------------
    cpu     usable,
            the
            default
    >>> print(*table.lines(10), sep="\\n")
    device:
      cpu
    state:
      usable,
      the
      default
    """

    def __init__(self, *columns: str, title: str = "", caption: str = "", right: Sequence[str] = ()) -> None:
        self.columns, self.title, self.caption, self.right = columns, title, caption, right
        self.rows: list[tuple[list[str], str]] = []

    def add_row(self, *cells: object, style: str | None = None) -> None:
        """Add a row, with a style of `rich`'s such as "red"; missing cells are empty."""
        texts = [plain(cell) for cell in cells]
        self.rows.append((texts + [""] * (len(self.columns) - len(texts)), style or ""))

    def lines(self, columns: int) -> list[str]:
        """The table as lines of at most so many columns."""
        return [line for line, _ in self._styled(columns)]

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        with importing:
            from rich.text import Text

        for line, style in self._styled(options.max_width):
            yield Text(line, style=style)

    def _styled(self, columns: int) -> Iterator[tuple[str, str]]:
        for line in [*wrapped(plain(self.title), columns), ""] if self.title else []:
            yield line, "bold" if line else ""
        widths = self._widths(columns)
        if widths is None:
            yield from self._by_cell(columns)
        else:
            yield from ((line, "bold") for line in self._laid(list(self.columns), widths))
            yield "-" * (sum(widths) + len(GAP) * (len(widths) - 1)), ""
            for cells, style in self.rows:
                yield from ((line, style) for line in self._laid(cells, widths))
        for line in ["", *wrapped(plain(self.caption), columns)] if self.caption else []:
            yield line, ""

    def _widths(self, columns: int) -> list[int] | None:
        """The width of each column: of its longest cell, or less, down to its longest word; None if still too wide."""
        each = list(zip(self.columns, *(cells for cells, _ in self.rows)))
        widths = [max(map(_cells, cells)) for cells in each]
        least = [max(_cells(word) for cell in cells for word in cell.split(" ")) for cells in each]
        room = columns - len(GAP) * (len(widths) - 1)
        while sum(widths) > room:
            wide = [i for i, w in enumerate(widths) if w > least[i]]
            if not wide:
                return None
            widths[max(wide, key=lambda i: widths[i])] -= 1
        return [max(_cells(line) for cell in cells for line in wrapped(cell, w)) for cells, w in zip(each, widths)]

    def _laid(self, cells: list[str], widths: list[int]) -> list[str]:
        """A row with its cells side by side."""
        texts = [wrapped(cell, w) for cell, w in zip(cells, widths, strict=True)]
        lines = []
        for i in range(max(map(len, texts))):
            line = []
            for name, text, w in zip(self.columns, texts, widths, strict=True):
                part = text[i] if i < len(text) else ""
                space = " " * (w - _cells(part))
                line.append(space + part if name in self.right else part + space)
            lines.append(GAP.join(line).rstrip())
        return lines

    def _by_cell(self, columns: int) -> Iterator[tuple[str, str]]:
        """A row as a line "column: cell" for each cell."""
        for i, (cells, style) in enumerate(self.rows):
            if i:
                yield "", ""
            for name, cell in zip(self.columns, cells, strict=True):
                if cell:
                    text = f"{name}: {cell}" if name else cell
                    yield from ((line, style) for line in wrapped(text, columns, "  "))
