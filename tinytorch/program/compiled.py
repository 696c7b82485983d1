"""`compile`: a function that is recorded when it is first called, and whose program is run from then on."""

from __future__ import annotations

import functools
import inspect
import threading
import types
import warnings
from collections.abc import Callable
from typing import Any, TypeVar, overload

import numpy as np

from tinytorch import random
from tinytorch.backends.forks import over_forks
from tinytorch.program.entry import MISSED, Entry
from tinytorch.program.noting import CannotCompile
from tinytorch.program.program import Program
from tinytorch.program.reach import PLAIN, Reach, is_fixed
from tinytorch.program.recorder import Recorder
from tinytorch.program.recording import Recording, Taking, different
from tinytorch.program.watching import watched
from tinytorch.tape.modes import grad_mode
from tinytorch.tape.observer import observers
from tinytorch.tape.variable import Variable
from tinytorch.words import shown

F = TypeVar("F", bound=Callable[..., Any])

_MOST = 8  # programs of one function
_TRIES = 6  # half of the calls in which optimizers may arrange their parameters anew, before a program is made

_recording = over_forks(threading.RLock())
_busy = threading.local()  # .recorder: of this thread, if one is on


def _leaves(tree: Any, name: str = "") -> list[tuple[str, Any]]:
    """The leaves of nested tuples, lists and dicts, each with a name."""
    if isinstance(tree, dict):
        return [leaf for k, v in tree.items() for leaf in _leaves(v, f"{name}_{k}" if name else str(k))]
    if isinstance(tree, tuple | list):
        return [leaf for i, v in enumerate(tree) for leaf in _leaves(v, f"{name}_{i}" if name else f"x{i}")]
    return [(name or "x", tree)]


def _kind(x: Any) -> Any:
    """The part of an argument that a program depends on: the layout of a tensor, the value of anything else."""
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
    if isinstance(x, float | complex | np.inexact):  # 0.0 is not -0.0
        return type(x), repr(x)
    if isinstance(x, PLAIN) or is_fixed(x):
        return type(x), x
    return type(x), id(x)


class Compiled:
    """A function that runs as a program: the result of `compile`. Its other attributes are those of the function.

    Attributes:
        program: of the last call; None until there is one.
        programs: all of them.
        function: as it was given.
    """

    def __init__(self, function: Callable[..., Any], engine: str | None = None) -> None:
        functools.update_wrapper(self, function, updated=())
        self.function, self.engine = function, engine
        self._name = getattr(function, "__name__", type(function).__name__)
        self._entries: list[Entry] = []
        self._pending: list[tuple[Any, bool, Recording]] = []  # kinds, grad modes, and recordings seen once
        self._lost = 0  # calls since the last program was made in which optimizers arranged their parameters anew
        self._full = False
        self._lock = over_forks(threading.RLock())
        try:
            self._names = [*inspect.signature(getattr(function, "forward", function)).parameters]
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

    def __getattr__(self, name: str) -> Any:
        if name == "function":  # before `__init__` has set the attribute
            raise AttributeError(name)
        return getattr(self.function, name)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        if isinstance(instance, type) or not hasattr(instance, "__dict__"):
            return types.MethodType(self, instance)
        known = vars(instance).setdefault("_compiled", {})
        if self not in known:
            known[self] = Compiled(self.function.__get__(instance, owner), self.engine)
        return known[self]

    def __reduce__(self) -> Any:
        """Copies and pickles hold the name of the function, as for any function, and no programs."""
        if isinstance(self.function, types.MethodType):
            return getattr, (self.function.__self__, self._name)
        if isinstance(self.function, types.FunctionType):
            return self.function.__qualname__
        return functools.partial(Compiled, engine=self.engine), (self.function,)

    def __repr__(self) -> str:
        name = getattr(self.function, "__qualname__", self._name)
        return f"<compiled {name}: {len(self._entries)} program{'s' * (len(self._entries) != 1)}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The result of the function: from its program, if there is one for these arguments and the present state."""
        if getattr(_busy, "recorder", None) is not None or (observers and not all(map(_of_recording, observers))):
            return self.function(*args, **kwargs)
        if self._entries and not kwargs and (latest := self._entries[0]).simple:
            out = latest.call(args, self.function)
            if out is not MISSED:
                return out
        kind = _kind(args) if not kwargs else (_kind(args), _kind(kwargs))
        given = [x for _, x in _leaves((args, kwargs) if kwargs else args) if isinstance(x, Variable)]
        if any(type(x.array) is not x.device.array_type for x in given):  # of JAX's transformations
            return self.function(*args, **kwargs)
        eager = functools.partial(self.function, *args, **kwargs)
        for i, entry in enumerate(self._entries):
            if entry.holds(kind, given):
                if not entry.settled():
                    if not entry.stale():
                        return eager()
                    self._entries = [e for e in self._entries if e is not entry]
                    self._lost += 1
                    break
                if i:
                    self._entries.insert(0, self._entries.pop(i))
                out = entry.call(given, self.function if entry.simple else eager)
                if out is not MISSED:
                    return out
        return self._record(args, kwargs, kind, given)

    def _record(self, args: Any, kwargs: Any, kind: Any, given: list[Variable]) -> Any:
        """Call the function itself and record the call. A second recording like the first makes a program."""
        if self._full or len(self._entries) >= _MOST or len(self._pending) >= 2 * _MOST or self._lost > 2 * _TRIES:
            if not self._full:
                self._full = True
                warnings.warn(self._why_full(given), RuntimeWarning, stacklevel=3)
            return self.function(*args, **kwargs)
        grad = grad_mode.enabled
        with _recording:
            alike = [r for k, g, r in self._pending if (k, g) == (kind, grad) and r.why_not(given) is None]
            result, recording = self._recorded(args, kwargs, alike)
        if recording is None:
            self._lost += 1
        elif any(_rules(r) == _rules(recording) for r in alike):
            self._entries.insert(0, Entry(recording, kind, grad, self._lock))
            self._pending = [p for p in self._pending if not any(p[2] is r for r in alike)]
            self._lost = 0
        else:
            self._pending.append((kind, grad, recording))
        return result

    def _why_full(self, given: list[Variable]) -> str:
        """Why calls without a program are not recorded any more."""
        why = f"there are {_MOST} programs of it already, by shapes, dtypes, devices, modes and Python values"
        if self._lost > 2 * _TRIES:
            why = "in each call its optimizers step other parameters, or two optimizers step the same ones"
        elif len(self._pending) >= 2 * _MOST:
            changed = self._pending[-1][2].why_not(given)
            why = f"it is another function in each call, by {changed or 'its arguments'}"
        return (
            f"compile: {self._name} runs uncompiled in this call and in those for which it has no program: {why}; pass "
            "numbers that change as tensors, and batches of one size"
        )

    def recorded(self, recorder: Recorder, args: Any, kwargs: Any) -> Program:
        """Call the function in eager mode. Returns the program of that call, as the recorder sees it.

        Raises:
            CannotCompile: there is none; or the optimizers have arranged their parameters anew, as in a first step.
        """
        with _recording:
            _, recording = self._recorded(args, kwargs, [], recorder)
        if recording is None:
            raise recorder.refused("its optimizers have made their first step", "call it once more")
        return recording.program

    def _recorded(
        self, args: Any, kwargs: Any, alike: list[Recording], recorder: Recorder | None = None
    ) -> tuple[Any, Recording | None]:
        """Call the function and record the call, which has to be like the recordings before.

        Raises:
            CannotCompile: it differs, or cannot be recorded. Tensors, optimizers and random numbers are as before.
        """
        reach = Reach(self.function)
        for name, x in _leaves((args, kwargs)):
            if not isinstance(x, Variable):
                reach.follow(x, name)
        recorder = recorder or Recorder(self._name)
        taking = Taking(recorder, reach, self._given(args, kwargs))
        before = random.generator.bit_generator.state
        drawn, settings = reach.draws(), reach.settings()
        _busy.recorder = recorder
        try:
            with recorder.on(taking.devices), watched(recorder):
                result = self.function(*args, **kwargs)
            if recorder.refusal is not None:  # the function caught the error
                raise recorder.refusal
            if (path := reach.changed()) is not None:
                recorder.where = reach.line_of(path)
                raise recorder.refused(
                    f"it changes {path}", "keep what changes in a tensor, by .data = ..., or return it"
                )
            if reach.settings() != settings:
                recorder.where = reach.line_of("param_groups")
                raise recorder.refused("it changes a setting of an optimizer, as lr", "do that outside, between calls")
            if reach.draws() != drawn:
                raise recorder.refused(
                    "it draws random numbers that are not tinytorch's", "use tinytorch.rand and so on"
                )
            recording = taking.recording(result)
            same = [r for r in alike if recording is not None and _rules(r) == _rules(recording)]
            if recording is not None and same and (difference := different(same[-1], recording)) is not None:
                recorder.where = ""
                raise recorder.refused(
                    f"it is not the same from call to call: {difference}", "pass what changes as a tensor"
                )
            return result, recording
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


def _rules(recording: Recording) -> list[Any]:
    """The rules that the optimizers step by. A setting of zero selects another rule."""
    return [(id(optimizer), *numbers) for optimizer, _, _, _, numbers in recording.numbers]


def _of_recording(observer: Any) -> bool:
    return isinstance(observer, Recorder)


@overload
def compile(function: F, /, *, engine: str | None = None) -> Compiled: ...


@overload
def compile(*, engine: str | None = None) -> Callable[[F], Compiled]: ...


def compile(function: Any = None, /, *, engine: str | None = None) -> Any:
    """The function as a program: recorded when it is called, and from the third call or so on run without the tape.

    What is recorded is all that the function computes with tensors: forward, `backward()`, the steps of optimizers,
    draws of tinytorch's random numbers. It is kept as soon as two calls have done the same, as straight-line calls of
    the array library: `print(step.program)`. A program gives what the function would give, on "cpu" bit for bit.

    A program is for shapes, dtypes and devices of tensors, for the values of other arguments, for the grad mode and the
    default device, and for all that the function's names lead to: closures, globals, attributes such as `training`,
    lists, NumPy arrays, settings. Each call looks whether that is as it was; if not, the function itself is called, and
    recorded. Settings of optimizers, as lr, may change from call to call. Installed packages are taken as fixed.

    What happens in a call happens as a whole: after an error or an interrupt parameters, gradients, optimizers and
    random numbers are as they were before. Of a compiled module, or method, each instance has its own programs.

    Args:
        function: a function, method or module. Its arguments and results are tensors, and tuples, lists and dicts of
            them; what else it takes and gives is the same in each call of a program.
        engine: what runs the program; None is the device's own way.

    Raises:
        CannotCompile: when called, with the line: the function looks at values (`item`, `if tensor`, shapes that
            depend on values), changes what is no tensor (a counter, a list), draws random numbers of others, reads the
            clock, prints, takes or returns a NumPy array, or is not the same from call to call. Also of generators
            and coroutines.
        TypeError: it is no function.
        ValueError: there is no such engine.

    A function that is called in more than 8 ways is run uncompiled in others, with one RuntimeWarning.

    >>> w = tinytorch.nn.Parameter(Tensor([3.0]))
    >>> @tinytorch.compile
    ... def step(x):
    ...     w.grad = None
    ...     loss = ((w * x) ** 2).sum()
    ...     loss.backward()
    ...     w.data = w.data - 0.25 * w.grad
    ...     return loss
    >>> [step(Tensor([1.0])).item() for _ in range(4)]
    [9.0, 2.25, 0.5625, 0.140625]
    >>> step
    <compiled step: 1 program>
    """
    if engine is not None:
        raise ValueError(f"compile: there is no engine {shown(engine)}; engine=None is the device's own way")
    if function is None:
        return functools.partial(compile, engine=engine)
    if isinstance(function, classmethod):
        raise TypeError("compile: a classmethod is no function; write @classmethod above @tinytorch.compile")
    if not callable(function) or isinstance(function, type | Variable):
        raise TypeError(f"compile: function is a function to compile, not {shown(function)}")
    for kind in (inspect.isgeneratorfunction, inspect.iscoroutinefunction, inspect.isasyncgenfunction):
        if kind(function):
            name = getattr(function, "__name__", "the function")
            raise CannotCompile(
                f"compile: {name} is a generator or a coroutine, which waits in between; compile the step that it calls"
            )
    return function if isinstance(function, Compiled) else Compiled(function, engine)
