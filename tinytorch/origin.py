"""Where a tensor or a module comes from: the op and the line of the user's code that made it.

Tensors made from data and modules note their line when they are made. The results of ops do so inside `debug()`: that
costs a walk up the call stack for each op, so it is not always on.
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
_CHAPTERS = str(Path(__file__).with_name("milestones")) + os.sep  # they are as a user writes them


class Origin:
    """What made something, and where: "log at model.py:41".

    Attributes:
        what: the op, or the class of a leaf or module.
        file, line: of the innermost code outside the library; an empty file and 0 where they are not known.
        order: what was made later has a larger one.
    """

    __slots__ = ("file", "line", "order", "what")
    _orders = itertools.count()

    def __init__(self, what: str, file: str = "", line: int = 0) -> None:
        self.what, self.file, self.line, self.order = what, file, line, next(self._orders)

    @property
    def place(self) -> str:
        """The file's name and the line: "model.py:41"; "" if not known."""
        return f"{os.path.basename(self.file)}:{self.line}" if self.file else ""

    def __str__(self) -> str:
        return f"{self.what} at {self.place}" if self.file else self.what

    def __repr__(self) -> str:
        return f"<{self}>"


def caller(what: str) -> Origin:
    """The line outside the library that is being run."""
    frame: Any = sys._getframe(1)
    while frame is not None and _ours(frame.f_code.co_filename):
        frame = frame.f_back
    return Origin(what, frame.f_code.co_filename, frame.f_lineno) if frame is not None else Origin(what)


def _ours(file: str) -> bool:
    return file.startswith(_OURS) and not file.startswith(_CHAPTERS)


def raised_here(error: BaseException) -> bool:
    """Whether the line that raised an error is in the library."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    return place is not None and _ours(place.tb_frame.f_code.co_filename)


def noted(what: str, tensor: Any) -> Any:
    """The tensor, which now knows by which line it was made."""
    tensor.made_at = caller(what)
    return tensor


class _Recorder(Observer):
    def made(self, op: str, inputs: Sequence[Any], meta: dict[str, Any], result: Any) -> None:
        noted(op, result)
        if result.node is not None:
            result.node.made_at = result.made_at


class debug:
    """Let every op note the line of your code that called it, from now on; as a context manager, in its block only.

    `Tensor.origin` has it, and errors in the backward pass say it. `debug(False)` switches it off again.

    >>> x = Tensor([0.0], requires_grad=True)
    >>> with tinytorch.debug():
    ...     y = tinytorch.sqrt(x)
    >>> y.origin.what, y.origin.line
    ('sqrt', 2)
    >>> tinytorch.sqrt(x).origin
    <sqrt>
    """

    _recorder = _Recorder()
    _on = False

    @expecting
    def __init__(self, mode: bool = True) -> None:
        self._outer = debug._on
        self._set(bool(mode))

    @staticmethod
    def _set(mode: bool) -> None:
        if mode != debug._on:
            debug._recorder.__enter__() if mode else debug._recorder.__exit__()
        debug._on = mode

    def __repr__(self) -> str:
        return f"<debug {'on' if self._on else 'off'}>"

    def __enter__(self) -> debug:
        return self

    def __exit__(self, *exc: object) -> None:
        self._set(self._outer)
