"""What a function can see beside its arguments: its tensors, optimizers, and everything it would read that may change.

A program is right as long as all of that is as it was when it was recorded. So the names that the function's code uses
are followed, through closures, globals, defaults, methods, modules, lists and objects of the user's own classes.
"""

from __future__ import annotations

import functools
import random
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinytorch.nn.module import Module
from tinytorch.optim.flat import Flat
from tinytorch.optim.optimizer import Optimizer
from tinytorch.origin import is_ours
from tinytorch.program.noting import CannotCompile
from tinytorch.tape.variable import Variable

_PLAIN = (int, float, bool, str, bytes, complex, type(None), np.generic, np.dtype)
_LARGEST = 65_536  # bytes of a NumPy array of the user's that are compared before each run
_DEEP = 100_000  # objects that are followed


class Reach:
    """What can be reached from a function.

    Attributes:
        tensors: all of them, with the names that lead there.
        optimizers: all of them.
        checks: for everything else that may change a function that gives it, what it gave, and what leads there.
    """

    def __init__(self, function: Any) -> None:
        self.tensors: dict[Variable, str] = {}
        self.optimizers: list[Optimizer] = []
        self.checks: list[tuple[Callable[[], Any], Any, str]] = []
        self.generators: list[np.random.Generator] = []
        self._seen: dict[int, Any] = {}
        self._name_of(function)
        stack: list[tuple[Any, str]] = [(function, "")]
        while stack:
            x, path = stack.pop()
            if isinstance(x, _PLAIN) or id(x) in self._seen:
                continue
            self._seen[id(x)] = x
            if len(self._seen) > _DEEP:
                raise CannotCompile(f"compile: the function's names lead to more than {_DEEP:,} objects, as {path}")
            stack += reversed(list(self._within(x, path)))

    def _name_of(self, function: Any) -> None:
        self.name = getattr(function, "__qualname__", type(function).__name__)

    def _check(self, get: Callable[[], Any], path: str) -> Any:
        now = get()
        self.checks.append((get, now, path))
        return now

    def _within(self, x: Any, path: str) -> Iterator[tuple[Any, str]]:
        """What is directly within an object, and the names that lead there."""
        if isinstance(x, Variable):
            self.tensors[x] = path
        elif isinstance(x, Optimizer):
            self.optimizers.append(x)
            yield from self._of_optimizer(x, path)
        elif isinstance(x, types.FunctionType):
            if not is_ours(x.__code__.co_filename) and not _of_a_library(x.__module__):
                yield from self._of_function(x, path)
            else:
                yield from self._of_closure(x, path)
        elif isinstance(x, types.MethodType):
            yield x.__self__, path
            yield x.__func__, path
        elif isinstance(x, functools.partial):
            yield from ((v, path) for v in (x.func, *x.args, *x.keywords.values()))
        elif isinstance(x, staticmethod | classmethod):
            yield x.__func__, path
        elif isinstance(x, property):
            yield from ((f, path) for f in (x.fget, x.fset) if f is not None)
        elif isinstance(x, dict | list | tuple | set | frozenset):
            yield from self._of_container(x, path)
        elif isinstance(x, np.ndarray):
            self._check(functools.partial(_contents, x), path or "an array")
        elif isinstance(x, np.random.Generator):
            self.generators.append(x)
        elif isinstance(x, type):
            yield from self._of_class(x, path)
        elif hasattr(x, "__dict__") and not isinstance(x, types.ModuleType):
            yield from self._of_object(x, path)

    def _of_optimizer(self, x: Optimizer, path: str) -> Iterator[tuple[Any, str]]:
        self._check(functools.partial(len, x.param_groups), f"{path}.param_groups")
        for i, group in enumerate(x.param_groups):
            self._check(functools.partial(_tuple_of, group["params"]), f"{path}.param_groups[{i}]['params']")
            for p in group["params"]:
                yield p, getattr(p, "name", "") or f"{path}.param_groups[{i}]"
        yield type(x), path

    def _of_closure(self, x: types.FunctionType, path: str) -> Iterator[tuple[Any, str]]:
        names = x.__code__.co_freevars
        for name, cell in zip(names, x.__closure__ or (), strict=True):
            yield self._check(functools.partial(_in_cell, cell), name), name

    def _of_function(self, x: types.FunctionType, path: str) -> Iterator[tuple[Any, str]]:
        yield from self._of_closure(x, path)
        for name in ("__code__", "__defaults__", "__kwdefaults__"):
            self._check(functools.partial(getattr, x, name), f"{x.__qualname__}.{name}")
        yield x.__defaults__, x.__qualname__
        yield x.__kwdefaults__, x.__qualname__
        names = _names_in(x.__code__)
        for name in names:
            if name in x.__globals__:
                got = self._check(functools.partial(x.__globals__.get, name), name)
                yield from self._of_module(got, name, names) if isinstance(got, types.ModuleType) else [(got, name)]

    def _of_module(self, x: types.ModuleType, path: str, names: set[str]) -> Iterator[tuple[Any, str]]:
        """What is read in a file of the user's, by these names."""
        if is_ours(getattr(x, "__file__", None) or "") or _of_a_library(x.__name__):
            return
        for name in names & vars(x).keys():
            got = self._check(functools.partial(vars(x).get, name), f"{path}.{name}")
            if not isinstance(got, types.ModuleType):
                yield got, f"{path}.{name}"

    def _of_container(self, x: Any, path: str) -> Iterator[tuple[Any, str]]:
        if isinstance(x, dict):
            self._check(functools.partial(_items_of, x), path)
            yield from ((v, f"{path}[{k!r}]" if path else str(k)) for k, v in list(x.items()))
        else:
            if not isinstance(x, tuple):
                self._check(functools.partial(_tuple_of, x), path)
            yield from ((v, f"{path}[{i}]") for i, v in enumerate(list(x)))

    def _of_class(self, x: type, path: str) -> Iterator[tuple[Any, str]]:
        for kind in x.__mro__:
            file = getattr(sys.modules.get(kind.__module__), "__file__", None) or ""
            if kind is object or is_ours(file) or _of_a_library(kind.__module__):
                continue
            for name, member in list(vars(kind).items()):
                if not name.startswith("__") or name in ("__call__", "__getattr__"):
                    if isinstance(member, _PLAIN):
                        self._check(functools.partial(vars(kind).get, name), f"{kind.__qualname__}.{name}")
                    yield member, f"{kind.__qualname__}.{name}"

    def _of_object(self, x: Any, path: str) -> Iterator[tuple[Any, str]]:
        module = isinstance(x, Module)
        if not module and _of_a_library(type(x).__module__):
            return
        if not module and is_ours(getattr(sys.modules.get(type(x).__module__), "__file__", None) or ""):
            return
        self._check(functools.partial(len, vars(x)), f"the attributes of {path or type(x).__name__}")
        for name, member in list(vars(x).items()):
            if name in ("_looked_into", "made_at"):
                continue
            to = f"{path}.{name}" if path and path != "self" else name
            self._check(functools.partial(vars(x).get, name), to)
            yield member, to
        yield type(x), path

    def flats(self) -> list[Flat]:
        """The flat arrays of all optimizers."""
        return [flat for x in self.optimizers for group in x._flats.groups for flat in group]

    def draws(self) -> Any:
        """The state of all generators of random numbers that are not tinytorch's."""
        old = str(np.random.get_state())  # noqa: NPY002
        return random.getstate(), old, [str(g.bit_generator.state) for g in self.generators]

    def changed(self) -> str | None:
        """What is not as it was any more; None if all is."""
        for get, then, path in self.checks:
            if not unchanged(get(), then):
                return path
        return None


def unchanged(now: Any, then: Any) -> bool:
    """Whether it is the same object, or an equal number, string or tuple of such."""
    if now is then:
        return True
    if type(now) is not type(then):
        return False
    if isinstance(now, tuple):
        return len(now) == len(then) and all(map(unchanged, now, then))
    if isinstance(now, dict):
        return now.keys() == then.keys() and all(unchanged(now[k], then[k]) for k in now)
    if isinstance(now, float) and now == 0 == then:
        return str(now) == str(then)
    return isinstance(now, _PLAIN) and bool(now == then)


def _names_in(code: types.CodeType) -> set[str]:
    """The names that a function's code uses, and that of the functions within it."""
    inner = [_names_in(c) for c in code.co_consts if isinstance(c, types.CodeType)]
    return set(code.co_names).union(*inner)


def _of_a_library(name: str | None) -> bool:
    top = (name or "").partition(".")[0]
    if top in sys.stdlib_module_names or top in ("builtins", "numpy", "array_api_compat", "cupy", "torch", "jax"):
        return top != "__main__"
    return "site-packages" in (getattr(sys.modules.get(top), "__file__", None) or "")


def _in_cell(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is not set yet
        return None


def _items_of(x: Any) -> tuple[Any, ...]:
    return tuple(x.items())


def _tuple_of(x: Any) -> tuple[Any, ...]:
    return tuple(x)


def _contents(x: np.ndarray[Any, Any]) -> Any:
    if x.nbytes > _LARGEST:
        raise CannotCompile(
            f"compile: a NumPy array of shape {x.shape} is read, which may change unseen; make a Tensor of it outside"
        )
    return x.dtype.str, x.shape, x.tobytes()
