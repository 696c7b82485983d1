"""`compile`: a function that is recorded when it is first called, and whose program is run from then on."""

from __future__ import annotations

import functools
import inspect
import threading
import warnings
from collections.abc import Callable
from typing import Any, TypeVar, overload

import numpy as np

from tinytorch import random
from tinytorch.backends.forks import over_forks
from tinytorch.program.entry import MISSED, Entry
from tinytorch.program.noting import CannotCompile
from tinytorch.program.program import Program
from tinytorch.program.reach import Reach
from tinytorch.program.recorder import Recorder
from tinytorch.program.recording import Recording, Taking, differing
from tinytorch.tape.modes import grad_mode
from tinytorch.tape.variable import Variable
from tinytorch.words import shown

F = TypeVar("F", bound=Callable[..., Any])

_MOST = 8  # programs of one function
_TRIES = 6  # recordings until two that follow each other are alike

_recording = over_forks(threading.RLock())
_busy = threading.local()  # .recorder: of this thread, if one is on


def _leaves(tree: Any, name: str = "") -> list[tuple[str, Any]]:
    """What is in nested tuples, lists and dicts, each with a name."""
    if isinstance(tree, dict):
        return [leaf for k, v in tree.items() for leaf in _leaves(v, f"{name}_{k}" if name else str(k))]
    if isinstance(tree, tuple | list):
        return [leaf for i, v in enumerate(tree) for leaf in _leaves(v, f"{name}_{i}" if name else f"x{i}")]
    return [(name or "x", tree)]


def _kind(x: Any) -> Any:
    """What a program depends on of an argument: of all else than tensors, its value."""
    if isinstance(x, Variable):
        array = x.array
        return (
            type(x),
            x.device,
            tuple(array.shape),
            array.dtype,
            getattr(array, "strides", None) if type(array) is np.ndarray else None,
            x._requires_grad,
            x.node is None,
            x.grad is None,
        )
    if isinstance(x, dict):
        return dict, tuple([(k, _kind(v)) for k, v in x.items()])
    if isinstance(x, tuple | list):
        return type(x), tuple([_kind(v) for v in x])
    if isinstance(x, np.ndarray):
        raise CannotCompile(
            f"compile: an argument is a NumPy array of shape {x.shape}, whose values may differ from call to call; "
            "pass a Tensor"
        )
    if isinstance(x, float):
        return float, repr(x)
    try:
        hash(x)
    except TypeError:
        return type(x), id(x)
    return type(x), x


class Compiled:
    """A function that runs as a program: what `compile` makes.

    Attributes:
        program: of the last call; None until there is one.
        programs: all of them.
        function: as it was given.
    """

    def __init__(self, function: Callable[..., Any], engine: str | None = None) -> None:
        functools.update_wrapper(self, function, updated=())
        self.function, self.engine = function, engine
        self._entries: list[Entry] = []
        self._tries: dict[Any, list[Recording | None]] = {}
        self._eager = False
        try:
            self._names = [*inspect.signature(function).parameters]
        except (TypeError, ValueError):
            self._names = []

    @property
    def programs(self) -> list[Program]:
        """The programs that were made so far, the one used last first."""
        return [entry.recording.program for entry in self._entries]

    @property
    def program(self) -> Program | None:
        """The program that was run last; None if there is none yet."""
        return self._entries[0].recording.program if self._entries else None

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        known = vars(instance).setdefault("_compiled", {}) if hasattr(instance, "__dict__") else {}
        if self not in known:
            known[self] = Compiled(self.function.__get__(instance, owner), self.engine)
        return known[self]

    def __repr__(self) -> str:
        name = getattr(self.function, "__qualname__", type(self.function).__name__)
        return f"<compiled {name}: {len(self._entries)} program{'s' * (len(self._entries) != 1)}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the function gives: of its program, if there is one for these arguments and for how all is now."""
        if getattr(_busy, "recorder", None) is not None or self._eager:
            return self.function(*args, **kwargs)
        if self._entries and not kwargs and (latest := self._entries[0]).simple:
            out = latest.call(args, self.function)
            if out is not MISSED:
                return out
        kind = _kind(args) if not kwargs else (_kind(args), _kind(kwargs))
        given = [x for _, x in _leaves((args, kwargs) if kwargs else args) if isinstance(x, Variable)]
        eager = functools.partial(self.function, *args, **kwargs)
        for i, entry in enumerate(self._entries):
            if entry.holds(kind):
                if not entry.settled():
                    return eager()
                if i:
                    self._entries.insert(0, self._entries.pop(i))
                out = entry.call(given, self.function if entry.simple else eager)
                if out is not MISSED:
                    return out
        return self._record(args, kwargs, kind)

    def _record(self, args: Any, kwargs: Any, kind: Any) -> Any:
        """Call the function itself and write down what it does; the second time that is the same, keep the program."""
        key = kind, grad_mode.enabled
        if (key not in self._tries and len(self._tries) >= _MOST) or len(self._entries) >= _MOST:
            self._eager = True
            warnings.warn(
                f"compile: {self.function.__name__} was called in more than {_MOST} ways, by shapes, dtypes, devices, "
                "modes or Python values, and is not compiled any more; pass numbers that change as tensors, and "
                "batches of one size",
                RuntimeWarning,
                stacklevel=3,
            )
            return self.function(*args, **kwargs)
        tries = self._tries.setdefault(key, [])
        with _recording:
            result, recording = self._recorded(args, kwargs)
        if recording is not None and tries and tries[-1] is not None:
            difference = differing(tries[-1].program, recording.program)
            if difference is None:
                self._entries.insert(0, Entry(recording, kind, grad_mode.enabled))
                del self._tries[key]
                return result
            if len(tries) >= _TRIES:
                raise CannotCompile(
                    f"compile: {self.function.__name__} is not the same from call to call: {difference}; pass what "
                    "changes as a tensor"
                )
        tries.append(recording)
        if len(tries) > 2 * _TRIES:
            raise CannotCompile(
                f"compile: {self.function.__name__} steps other parameters in each call; give all of them a gradient"
            )
        return result

    def _recorded(self, args: Any, kwargs: Any) -> tuple[Any, Recording | None]:
        reach = Reach((self.function, args, kwargs))
        recorder = Recorder(getattr(self.function, "__name__", type(self.function).__name__))
        taking = Taking(recorder, reach, self._given(args, kwargs))
        before = random.generator.bit_generator.state
        drawn = reach.draws()
        _busy.recorder = recorder
        try:
            with recorder.on(taking.devices):
                result = self.function(*args, **kwargs)
            if (path := reach.changed()) is not None:
                raise recorder.refused(
                    f"it changes {path}", "keep what changes in a tensor, by .data = ..., or return it"
                )
            if reach.draws() != drawn:
                raise recorder.refused(
                    "it draws random numbers that are not tinytorch's", "use tinytorch.rand and so on"
                )
            return result, taking.recording(result)
        except BaseException:
            taking.restore()
            random.generator.bit_generator.state = before
            raise
        finally:
            _busy.recorder = None

    def _given(self, args: Any, kwargs: Any) -> list[tuple[str, Variable]]:
        """The tensors among the arguments, with names."""
        names = [*self._names, *(f"x{i}" for i in range(len(self._names), len(args)))]
        named = [leaf for name, x in zip(names, args) for leaf in _leaves(x, name)]
        named += [leaf for name, x in kwargs.items() for leaf in _leaves(x, name)]
        return [(name, x) for name, x in named if isinstance(x, Variable)]


@overload
def compile(function: F, /, *, engine: str | None = None) -> Compiled: ...


@overload
def compile(*, engine: str | None = None) -> Callable[[F], Compiled]: ...


def compile(function: Any = None, /, *, engine: str | None = None) -> Any:
    """The function as a program: recorded when it is called, and from the third call or so on run without the tape."""
    if engine is not None:
        raise ValueError(f"compile: there is no engine {engine!r}")
    if function is None:
        return functools.partial(compile, engine=engine)
    if not callable(function):
        raise TypeError(f"compile: function is a function to compile, not {shown(function)}")
    return function if isinstance(function, Compiled) else Compiled(function, engine)
