"""Modules made of modules."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from typing import Any

from tinytorch.nn.module import Module
from tinytorch.tensor import Tensor
from tinytorch.words import bound, shown


class ModuleList(Module):
    """A list of modules without a `forward`. Unlike those in a Python list, their parameters are found.

    >>> layers = tinytorch.nn.ModuleList([tinytorch.Linear(2, 2) for _ in range(3)])
    >>> len(layers), [name for name, _ in layers.named_parameters()][:2]
    (3, ['0.weight', '0.bias'])
    """

    @bound
    def __init__(self, modules: Iterable[Module] = ()) -> None:
        self._list: list[Module] = []
        self.extend(modules)

    def _members(self) -> Iterator[tuple[str, Any]]:
        yield from super()._members()  # a subclass may have attributes of its own
        yield from ((str(i), module) for i, module in enumerate(self._list))

    @bound
    def append(self, module: Module) -> ModuleList:
        """Add a module at the end."""
        self._list.append(self._expected(module))
        return self

    @bound
    def extend(self, modules: Iterable[Module]) -> ModuleList:
        """Add modules at the end."""
        if not isinstance(modules, Iterable) or isinstance(modules, Tensor):
            raise TypeError(f"{type(self).__name__}: modules is a list of modules, not {shown(modules)}")
        for module in modules:
            self.append(module)
        return self

    def __len__(self) -> int:
        return len(self._list)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._list)

    def __getitem__(self, index: int | slice) -> Any:
        found = self._list[self._at(index)]
        return type(self)(found) if isinstance(index, slice) else found

    def __setitem__(self, index: int, module: Module) -> None:
        self._list[self._at(index)] = self._expected(module)

    def _expected(self, module: Any) -> Module:
        if not isinstance(module, Module):
            raise TypeError(f"{type(self).__name__}: takes modules, not {shown(module)}")
        return module

    def _at(self, index: Any) -> Any:
        """The index of an existing module, or a slice, as it is; else raises TypeError or IndexError."""
        if isinstance(index, slice):
            return index
        try:
            at, n = operator.index(index), len(self)
        except (TypeError, ValueError):
            raise TypeError(f"{type(self).__name__}: index is an integer or a slice, not {shown(index)}") from None
        if not -n <= at < n:
            raise IndexError(f"{type(self).__name__}: {at} is no index of {n} modules")
        return at


class Sequential(ModuleList):
    """Modules one after the other: `Sequential(a, b)` or `Sequential([a, b])` computes b(a(x)).

    >>> model = tinytorch.Sequential(tinytorch.Linear(2, 4), tinytorch.ReLU(), tinytorch.Linear(4, 1))
    >>> model(tinytorch.ones((3, 2))).shape
    (3, 1)
    """

    @bound
    def __init__(self, *modules: Any) -> None:
        several = (
            len(modules) == 1 and isinstance(modules[0], Iterable) and not isinstance(modules[0], Module | Tensor | str)
        )
        super().__init__(modules[0] if several else modules)

    def forward(self, x: Any) -> Any:
        for module in self._list:
            x = module(x)
        return x
