"""Helpers of bugs: the list of all bugs, and a way to change the result of an op."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from tinytorch.tape.observer import Observer
from tinytorch.words import expecting

Bug = Callable[[], AbstractContextManager[None]]
BUGS: dict[str, Bug] = {}


def bug(function: Callable[[], Iterator[None]]) -> Bug:
    """Make a bug of a generator function, and add it to the list."""
    found = expecting(contextmanager(function))
    BUGS[function.__name__] = found
    return found


class Tampering(Observer):
    """Changes every result of an op, just after the op: the gradient rules, or the values."""

    def __init__(self, op: str, change: Callable[[Sequence[Any], dict[str, Any], Any], Any]) -> None:
        self._op, self._change, self._busy = op, change, False

    def made(self, op: str, inputs: Sequence[Any], meta: dict[str, Any], result: Any) -> None:
        """Change the result, if it is of the op; `change` may use the op itself."""
        if op == self._op and not self._busy:
            self._busy = True
            try:
                self._change(inputs, meta, result)
            finally:
                self._busy = False


def rule(op: str, position: int, wrong: Callable[[Any, Any], Any]) -> Tampering:
    """Put `wrong(rule, g)` in the place of the gradient rule of one input of an op."""

    def change(inputs: Sequence[Any], meta: dict[str, Any], result: Any) -> None:
        if result.node is not None and result.node.rules[position] is not None:
            rules = list(result.node.rules)
            right = rules[position]
            rules[position] = lambda g: wrong(right, g)
            result.node.rules = tuple(rules)

    return Tampering(op, change)
