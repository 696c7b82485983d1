"""Who is told of everything that is computed: what debugging tools are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from tinytorch.tape.variable import Node, Variable


class Observer:
    """Is told of everything that is computed inside `with observer:`, on all threads: what debugging tools are made of.

    A subclass overrides what it wants to know. It may keep what it is shown. Only `made` may change something, and only
    what the new result holds: its array, its origin, and its node with the gradient rules.

    >>> class Names(tinytorch.autograd.Observer):
    ...     def made(self, op, inputs, meta, result):
    ...         print(op, result.shape)
    >>> with Names():
    ...     y = tinytorch.exp(Tensor([1.0, 2.0])).sum()
    exp (2,)
    sum ()
    """

    def made(self, op: str, inputs: Sequence[Any], meta: dict[str, Any], result: Any) -> None:
        """An op has made a tensor of its inputs (tensors and numbers) and keyword arguments."""

    def pulled(self, node: Node, source: Any, gradient: Any) -> None:
        """A rule of the node has given the gradient of one of its inputs (a Node, or a leaf), an array or a tensor."""

    def left(self, how: str, tensor: Any, values: Any) -> None:
        """A tensor's values have left the graph, by its method `how`: "detach", "numpy", "item", "tolist", "dlpack"."""

    def __enter__(self) -> Self:
        observers.append(self)
        return self

    def __exit__(self, *exc: object) -> None:
        observers.remove(self)


observers: list[Observer] = []


def leaving(how: str, tensor: Variable, values: Any) -> Any:
    """Tell the observers that the values of a tensor leave the graph; returns the values."""
    for observer in observers:
        observer.left(how, tensor, values)
    return values
