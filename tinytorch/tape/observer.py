"""Observers are told of everything that is computed: debugging tools are made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from tinytorch.tape.variable import Node, Variable


class Observer:
    """Is told of everything that is computed inside `with observer:`, on all threads: debugging tools are made of this.

    A subclass overrides the methods that it needs. An observer may keep everything that it is shown. Only `made` may
    change something: the array, the origin and the node (with the gradient rules) of the new result.

    >>> class Names(tinytorch.autograd.Observer):
    ...     def made(self, op, inputs, meta, result):
    ...         print(op, result.shape)
    >>> with Names():
    ...     y = tinytorch.exp(Tensor([1.0, 2.0])).sum()
    exp (2,)
    sum ()
    """

    def made(self, op: str, inputs: Sequence[Any], meta: dict[str, Any], result: Any) -> None:
        """An op has made the tensor `result` from inputs (tensors and numbers) and keyword arguments."""

    def pulled(self, node: Node, source: Any, gradient: Any) -> None:
        """A rule of the node has given a gradient (an array or a tensor) for the input `source` (a Node or a leaf)."""

    def left(self, how: str, tensor: Any, values: Any) -> None:
        """A tensor's values have left the graph, by the method `how`: "detach", "numpy", "item", "tolist", "dlpack"."""

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
