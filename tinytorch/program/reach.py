"""What a function can see beside its arguments: tensors, optimizers, and all other state that may change.

A program is right as long as all of that is as it was when it was recorded. So the names that the function's code uses
are followed, through closures, globals, defaults, methods, modules, lists and objects of the user's own classes.
Installed packages are taken as fixed.
"""

from __future__ import annotations

import argparse
import array
import collections
import contextvars
import dis
import functools
import os
import random
import re
import sys
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinytorch.autograd import OPS
from tinytorch.backends import Device, default_device
from tinytorch.nn.module import Module
from tinytorch.optim.flat import Flat
from tinytorch.optim.optimizer import Optimizer
from tinytorch.origin import is_ours
from tinytorch.program.noting import CannotCompile
from tinytorch.tape.variable import Variable

PLAIN = (int, float, bool, str, bytes, complex, type(None), np.generic, np.dtype)
_CONTAINERS = (dict, list, tuple, set, frozenset, collections.deque, types.MappingProxyType)
_BYTES = (bytearray, array.array, memoryview)
_OPEN = (types.SimpleNamespace, argparse.Namespace, collections.UserDict, collections.UserList)  # of the standard
# library, and nothing but what the user puts into them
_MEMBERS = (types.FunctionType, property, staticmethod, classmethod, functools.cached_property)
_OWN = ("_looked_into", "made_at", "_compiled")
_LARGEST = 65_536  # bytes of a NumPy array of the user's that are compared before each run
_DEEP = 100_000  # objects that are followed


class Reach:
    """The objects that the names of a function lead to.

    Attributes:
        tensors: all of them, with the names that lead there.
        optimizers: all of them.
        checks: for all other state a function that reads it, its value then, and the path to it.
        codes: of all functions that were followed, and of those within them.
    """

    def __init__(self, function: Any) -> None:
        self.tensors: dict[Variable, str] = {}
        self.optimizers: list[Optimizer] = []
        self.checks: list[tuple[Callable[[], Any], Any, str]] = []
        self.generators: list[Any] = []
        self.codes: list[types.CodeType] = []
        self.groups: list[tuple[dict[str, Any], str]] = []
        self._seen: dict[int, Any] = {}
        self._check(default_device, "the default device")
        self.follow(function)

    def follow(self, start: Any, path: str = "") -> None:
        """Look at all that can be reached from an object."""
        stack: list[tuple[Any, str]] = [(start, path)]
        while stack:
            x, path = stack.pop()
            if isinstance(x, PLAIN) or id(x) in self._seen:
                continue
            self._seen[id(x)] = x
            if len(self._seen) > _DEEP:
                raise CannotCompile(
                    f"compile: the function's names lead to more than {_DEEP:,} objects, as {path}; "
                    "pass what it needs as arguments"
                )
            stack += reversed(list(self._within(x, path)))
        if any("param_groups" in code.co_names for code in self.codes):  # the code may read settings itself
            for group, path in self.groups:
                self._check(functools.partial(_settings, group), path)
            self.groups.clear()

    def knows(self, x: Any) -> bool:
        """Whether an object was there before the function was called."""
        return id(x) in self._seen

    def line_of(self, path: str) -> str:
        """The line that sets the object at a path, or else uses it, as "model.py:41"; "" if none is found."""
        names = re.findall(r"[A-Za-z_]\w*", path)[::-1]
        found = [
            (names.index(step.argval), not step.opname.startswith("STORE"), code, step.positions.lineno)
            for code in self.codes
            for step in dis.get_instructions(code)
            if step.argval in names and step.positions is not None and isinstance(step.argval, str)
        ]
        if not found:
            return ""
        *_, code, line = min(found, key=lambda f: f[:2])
        return f"{os.path.basename(code.co_filename)}:{line}"

    def _check(self, get: Callable[[], Any], path: str) -> Any:
        now = get()
        self.checks.append((get, now, path))
        return now

    def _within(self, x: Any, path: str) -> Iterator[tuple[Any, str]]:
        """The objects directly within an object, and the paths to them."""
        if isinstance(x, Variable):
            self.tensors[x] = path
        elif isinstance(x, Device):
            return
        elif isinstance(x, Optimizer):
            self.optimizers.append(x)
            yield from self._of_optimizer(x, path)
        elif isinstance(x, types.FunctionType):
            yield from self._of_function(x, path)
        elif isinstance(x, types.MethodType):
            yield from ((v, path) for v in (x.__self__, x.__func__))
        elif isinstance(x, types.BuiltinMethodType):  # the append of a list
            yield x.__self__, path
        elif isinstance(x, functools.partial):
            yield from ((v, path) for v in (x.func, x.args, x.keywords))
        elif isinstance(x, staticmethod | classmethod):
            yield x.__func__, path
        elif isinstance(x, property):
            yield from ((f, path) for f in (x.fget, x.fset) if f is not None)
        elif isinstance(x, functools.cached_property):
            yield x.func, path
        elif isinstance(x, weakref.ref):
            yield self._check(x, path), path
        elif isinstance(x, contextvars.ContextVar):
            yield self._check(functools.partial(x.get, None), path), path
        elif isinstance(x, np.ndarray):
            self._check(functools.partial(_contents, x), path or "an array")
        elif isinstance(x, _BYTES):
            self._check(functools.partial(bytes, x), path)
        elif isinstance(x, np.random.Generator | np.random.RandomState | random.Random):
            self.generators.append(x)
        elif isinstance(x, type):
            yield from self._of_class(x, path)
        elif isinstance(x, types.ModuleType):
            yield from self._of_module(x, path, None)
        else:
            if isinstance(x, _CONTAINERS):
                yield from self._of_container(x, path)
            yield from self._of_object(x, path)

    def _of_optimizer(self, x: Optimizer, path: str) -> Iterator[tuple[Any, str]]:
        groups = f"{path}.param_groups"
        self._check(functools.partial(vars(x).get, "param_groups"), groups)
        self._check(functools.partial(_tuple_of, x.param_groups), groups)
        for i, group in enumerate(x.param_groups):
            self._check(functools.partial(group.get, "params"), f"{groups}[{i}]['params']")
            if isinstance(group["params"], list):
                self._check(functools.partial(_tuple_of, group["params"]), f"{groups}[{i}]['params']")
            self.groups.append((group, f"{groups}[{i}]"))
            yield from ((p, getattr(p, "name", "") or f"{groups}[{i}]") for p in group["params"])
        for name in list(vars(x)):
            if name not in ("_flats", "param_groups"):
                yield self._check(functools.partial(vars(x).get, name), f"{path}.{name}"), f"{path}.{name}"
        yield type(x), path

    def settings(self) -> list[Any]:
        """The settings of all optimizers."""
        return [_settings(group) for x in self.optimizers for group in x.param_groups]

    def _of_function(self, x: types.FunctionType, path: str) -> Iterator[tuple[Any, str]]:
        if OPS.get(getattr(x, "name", "")) is x:
            yield x.body, path  # type: ignore[attr-defined]
            return
        ours = is_ours(x.__code__.co_filename)
        for name, cell in zip(x.__code__.co_freevars, x.__closure__ or (), strict=True):
            if not ours:
                yield self._check(functools.partial(_in_cell, cell), name), name
            elif callable(inner := _in_cell(cell)):  # a function that was decorated
                yield inner, name
        if ours or _of_a_library(x.__module__):
            return
        for part in ("__code__", "__defaults__", "__kwdefaults__"):
            self._check(functools.partial(getattr, x, part), f"{x.__qualname__}.{part}")
        yield from ((v, x.__qualname__) for v in (x.__defaults__, x.__kwdefaults__, vars(x) or None))
        codes = list(_codes_in(x.__code__))
        self.codes += codes
        names = set().union(*[code.co_names for code in codes])
        package = x.__globals__.get("__package__")
        for name in sorted(names):
            if name in x.__globals__:
                got = self._check(functools.partial(x.__globals__.get, name), name)
                yield from self._of_module(got, name, names) if isinstance(got, types.ModuleType) else [(got, name)]
            else:
                for module in filter(None, map(sys.modules.get, (name, f"{package}.{name}"))):  # imported inside
                    yield from self._of_module(module, name, names)

    def _of_module(self, x: types.ModuleType, path: str, names: set[str] | None) -> Iterator[tuple[Any, str]]:
        """The attributes of these names, or all, in a module of the user's."""
        if is_ours(getattr(x, "__file__", None) or "") or _of_a_library(x.__name__):
            return
        self._seen[id(x)] = x
        for name in sorted(vars(x).keys() if names is None else names & vars(x).keys()):
            if name.startswith("__"):
                continue
            got = self._check(functools.partial(vars(x).get, name), f"{path}.{name}")
            if not isinstance(got, types.ModuleType):
                yield got, f"{path}.{name}"
            elif not self.knows(got):
                yield from self._of_module(got, f"{path}.{name}", names)

    def _of_container(self, x: Any, path: str) -> Iterator[tuple[Any, str]]:
        if isinstance(x, dict | types.MappingProxyType):
            self._check(functools.partial(_items_of, x), path)
            yield from ((v, f"{path}[{k!r}]" if path else str(k)) for k, v in list(x.items()))
        else:
            if not isinstance(x, tuple | frozenset):
                self._check(functools.partial(_tuple_of, x), path)
            yield from ((v, f"{path}[{i}]") for i, v in enumerate(list(x)))

    def _of_class(self, x: type, path: str) -> Iterator[tuple[Any, str]]:
        for kind in x.__mro__:
            file = getattr(sys.modules.get(kind.__module__), "__file__", None) or ""
            if kind is object or is_ours(file) or _of_a_library(kind.__module__):
                continue
            for name, member in list(vars(kind).items()):
                if isinstance(member, _MEMBERS) or not name.startswith("__"):
                    self._check(functools.partial(vars(kind).get, name), f"{kind.__qualname__}.{name}")
                    yield member, f"{kind.__qualname__}.{name}"

    def _of_object(self, x: Any, path: str) -> Iterator[tuple[Any, str]]:
        kind, members = type(x), getattr(x, "__dict__", {})
        if "__wrapped__" in members:  # of a function that was decorated
            yield x.__wrapped__, path
            if callable(x):
                return
        if _of_a_library(kind.__module__) and not isinstance(x, (Module, *_OPEN)):
            if isinstance(x, Iterator):
                raise CannotCompile(
                    f"compile: {path or kind.__name__} is an iterator ({kind.__name__}), which moves on from call to "
                    "call; take from it outside, and pass a tensor"
                )
            return
        if isinstance(x, Module):  # so that train() and eval() add no attribute
            members.setdefault("training", x.training)
        if hasattr(x, "__dict__"):
            self._check(functools.partial(len, members), f"the attributes of {path or kind.__name__}")
        for name in list(members):
            if name not in _OWN:
                to = f"{path}.{name}" if path and path != "self" else name
                yield self._check(functools.partial(members.get, name), to), to
        for name in {s for k in kind.__mro__ for s in _slots(k)}:
            yield self._check(functools.partial(getattr, x, name, None), f"{path}.{name}"), f"{path}.{name}"
        yield kind, path

    def flats(self) -> list[Flat]:
        """The flat arrays of all optimizers."""
        return [flat for x in self.optimizers for group in x._flats.groups for flat in group]

    def draws(self) -> Any:
        """The state of all generators of random numbers that are not tinytorch's."""
        state: Any = np.random.get_state()  # noqa: NPY002
        _, words, *place = state
        return random.getstate(), words.tobytes(), place, [_state_of(g) for g in self.generators]

    def changed(self) -> str | None:
        """The path to an object that has changed; None if there is none."""
        for get, then, path in self.checks:
            if not unchanged(get(), then):
                return path
        return None


def unchanged(now: Any, then: Any) -> bool:
    """Whether both are one object, or equal numbers or strings, or tuples of such."""
    if now is then:
        return True
    if type(now) is not type(then):
        return False
    if isinstance(now, tuple):
        return len(now) == len(then) and all(map(unchanged, now, then))
    if isinstance(now, dict):
        return now.keys() == then.keys() and all(unchanged(now[k], then[k]) for k in now)
    if isinstance(now, float | complex | np.inexact):  # 0.0 is not -0.0, and nan is nan
        return repr(now) == repr(then)
    return isinstance(now, PLAIN) and bool(now == then)


def is_fixed(x: Any) -> bool:
    """Whether an object is a value of the standard library or the like, which never changes: a device, a fraction."""
    return isinstance(x, Device | type | slice) or (_of_a_library(type(x).__module__) and _has_hash(x))


def _has_hash(x: Any) -> bool:
    try:
        return isinstance(hash(x), int)
    except TypeError:
        return False


def _codes_in(code: types.CodeType) -> Iterator[types.CodeType]:
    """A function's code, and that of the functions within it."""
    yield code
    for c in code.co_consts:
        if isinstance(c, types.CodeType):
            yield from _codes_in(c)


def _of_a_library(name: str | None) -> bool:
    top = (name or "").partition(".")[0]
    if top in sys.stdlib_module_names or top in ("builtins", "numpy", "array_api_compat", "cupy", "torch", "jax"):
        return top != "__main__"
    return "site-packages" in (getattr(sys.modules.get(top), "__file__", None) or "")


def _slots(kind: type) -> tuple[str, ...]:
    slots = vars(kind).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(s for s in slots if not s.startswith("__"))


def _in_cell(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is not set yet
        return None


def _items_of(x: Any) -> tuple[Any, ...]:
    return tuple(x.items())


def _tuple_of(x: Any) -> tuple[Any, ...]:
    return tuple(x)


def _settings(group: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in group.items() if k != "params"}


def _state_of(generator: Any) -> str:
    if isinstance(generator, np.random.Generator):
        return str(generator.bit_generator.state)
    return str(generator.getstate() if isinstance(generator, random.Random) else generator.get_state())


def _contents(x: np.ndarray[Any, Any]) -> Any:
    if x.nbytes > _LARGEST:
        raise CannotCompile(
            f"compile: a NumPy array of shape {x.shape} is read, which may change unseen; make a Tensor of it outside"
        )
    return x.dtype.str, x.shape, x.tobytes()
