"""Where a tensor or a module comes from: the op and the line of the user's code that made it.

Modules, and tensors made from data, note their line when they are made. Results of ops note their line inside `debug()`
only: noting costs a walk up the call stack for each op.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tinytorch import backends
from tinytorch.tape.observer import Observer
from tinytorch.words import expecting

_OURS = tuple(str(Path(file).parent) + os.sep for file in (__file__, backends.__file__))
_CHAPTERS = str(Path(__file__).with_name("milestones")) + os.sep  # the milestones count as a user's code


class Origin:
    """What made a tensor or a module, and where: "log at model.py:41".

    Attributes:
        what: the op, or the class of a leaf or module.
        file, line: of the innermost code outside the library; an empty file and 0 where not known.
        order: grows with every origin.
    """

    __slots__ = ("file", "line", "order", "what")
    _orders = itertools.count()

    def __init__(self, what: str, file: str = "", line: int = 0) -> None:
        self.what, self.file, self.line, self.order = what, file, line, next(self._orders)

    @property
    def place(self) -> str:
        """The file's name and the line: "model.py:41"; "" where not known."""
        return f"{os.path.basename(self.file)}:{self.line}" if self.file else ""

    def __str__(self) -> str:
        return f"{self.what} at {self.place}" if self.file else self.what

    def __repr__(self) -> str:
        return f"<{self}>"


def caller(what: str) -> Origin:
    """The origin of something made now: the innermost line of running code outside the library."""
    frame: Any = sys._getframe(1)
    while frame is not None and is_ours(frame.f_code.co_filename):
        frame = frame.f_back
    return Origin(what, frame.f_code.co_filename, frame.f_lineno) if frame is not None else Origin(what)


def is_ours(file: str) -> bool:
    """Whether a file is the library's; the chapters are as a user writes them."""
    return file.startswith(_OURS) and not file.startswith(_CHAPTERS)


def raised_here(error: BaseException) -> bool:
    """Whether the line that raised an error is in the library."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    return place is not None and is_ours(place.tb_frame.f_code.co_filename)


def with_origin(what: str, tensor: Any) -> Any:
    """The tensor, with the line that made it as its origin."""
    tensor.made_at = caller(what)
    return tensor


class _NotesOrigins(Observer):
    def made(self, op: str, inputs: Sequence[Any], meta: dict[str, Any], result: Any) -> None:
        with_origin(op, result)
        if result.node is not None:
            result.node.made_at = result.made_at


class debug:
    """From now on every op notes the line of your code that called the op; as a context manager, in the block only.

    `Tensor.origin` has the line, and errors in the backward pass name it. `debug(False)` stops the noting.

    >>> x = Tensor([0.0], requires_grad=True)
    >>> with tinytorch.debug():
    ...     y = tinytorch.sqrt(x)
    >>> y.origin.what, y.origin.line
    ('sqrt', 2)
    >>> tinytorch.sqrt(x).origin
    <sqrt>
    """

    _observer = _NotesOrigins()
    _on = False

    @expecting
    def __init__(self, mode: bool = True) -> None:
        self._outer = debug._on
        self._set(bool(mode))

    @staticmethod
    def _set(mode: bool) -> None:
        if mode != debug._on:
            debug._observer.__enter__() if mode else debug._observer.__exit__()
        debug._on = mode

    def __repr__(self) -> str:
        return f"<debug {'on' if self._on else 'off'}>"

    def __enter__(self) -> debug:
        return self

    def __exit__(self, *exc: object) -> None:
        self._set(self._outer)
