"""The recorder: an interpreter of op bodies that computes as the device does, and notes each call.

Tensors keep the arrays and the device that they have. Wherever tinytorch computes with arrays it calls a function "with
the device current" (`Device.current`); while a recording is on, that hands the function stand-ins in place of the
arrays, and a `Noting` device in place of theirs. So the bodies of ops, their gradient rules, the walk back and the
optimizers are recorded by the same means, and none of them knows. Other threads compute as ever.

The file is long because a recorder is one class.
"""

from __future__ import annotations

import builtins
import functools
import keyword
import operator
import os
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from tinytorch import backends
from tinytorch.autograd import OPS
from tinytorch.backends import Device
from tinytorch.optim.flat import Numbers
from tinytorch.origin import caller, is_ours
from tinytorch.program.noting import SHAPED_BY_VALUES, CannotCompile, Noting, Traced
from tinytorch.program.program import Call, Line, Value, mapped
from tinytorch.tape.observer import Observer, observers
from tinytorch.tape.parts import Parts


class Recorder(Observer):
    """Notes everything that this thread computes, between `with recorder.on(devices):` and the end of the block."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: list[Line] = []
        self.starts: list[int] = []  # the first line of each op
        self.constants: dict[Value, Any] = {}
        self.numbers: list[tuple[Numbers, dict[str, Value]]] = []
        self.names: dict[str, int] = {}
        self.known: dict[int, tuple[Any, Value]] = {}  # by id of an array: a weak reference to it, and what it is
        self.views: dict[Device, Noting] = {}
        self.thread = threading.get_ident()
        self.inside = False  # inside a body: its arguments are stand-ins already
        self.part, self.where, self.hint = "forward", "", ""
        self.walked = False  # whether a backward pass has begun
        self.kept: dict[Value, Any] | None = None  # the array of each value in this call, if asked for
        self.refusal: CannotCompile | None = None  # the function may catch it
        self.bodies = {f.body for f in OPS.values()}  # type: ignore[attr-defined]

    # What is known of arrays --------------------------------------------------------------------------------------

    def value(self, array: Any, device: Device | None, name: str) -> Value:
        """A new value of a name like that."""
        if keyword.iskeyword(name) or hasattr(builtins, name) or name in ("run", "Differs"):
            name += "_"
        unique = name
        while unique in self.names:
            self.names[name] += 1
            unique = f"{name}_{self.names[name]}"
        self.names[unique] = 0
        if device is None:
            return Value(unique, None, None, None)
        what = Value(unique, tuple(array.shape), device.dtype_of(array), device)
        what.strides = getattr(array, "strides", None)
        return what

    def known_as(self, array: Any, what: Value) -> None:
        """From now on this very array is that value."""
        key = id(array)
        try:
            held: Any = weakref.ref(array, lambda _: self.known.pop(key, None))
        except TypeError:
            held = lambda: array  # noqa: E731
        self.known[key] = held, what

    def of(self, array: Any) -> Value | None:
        """The value that an array is, if it is one."""
        held, what = self.known.get(id(array), (None, None))
        return what if held is not None and held() is array else None

    def constant(self, array: Any, device: Device) -> Traced:
        """An array that is the same in each run."""
        what = self.of(array)
        if what is None:
            what = self.value(array, device, "constant")
            self.constants[what] = array
            self.known_as(array, what)
        return Traced(self, array, what)

    # Noting -------------------------------------------------------------------------------------------------------

    def refused(self, why: str, fix: str) -> CannotCompile:
        """The error that says so, with the line of the user's code."""
        at = f" at {self.where}" if self.where else ""
        self.refusal = CannotCompile(f"compile: {self.name} cannot be compiled: {why}{at}; {fix}")
        return self.refusal

    def note(
        self,
        call: Call,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        result: Any = None,
        *,
        home: Device | None = None,
        effect: bool = False,
        expected: bool = False,
    ) -> Any:
        """Make the call (or take its result as given), and a line for it unless all arguments are constant."""
        given = (args, kwargs)
        traced = _traced_in(given)
        if result is None:
            plain = mapped(_plain, given)
            result = call.function(*plain[0], **plain[1])
        if not traced and not effect:
            device = call.device
            return self._constants(result, device) if device is not None else result
        device = home or call.device or next((t.what.device for t in traced if t.what.device is not None), None)
        for t in traced:
            if result is t.value and not effect:  # it was so already
                return t
        if expected:
            taken, named = self._named(given)
            self.lines.append(Line(None, call, taken, named, self.part, self.where, True, bool(result)))
            return result
        out = mapped(lambda x: self._made(x, device), result)
        names = mapped(lambda x: x.what if isinstance(x, Traced) else x, out)
        if isinstance(out, tuple) and not effect:
            names = mapped(lambda x: x if isinstance(x, Value) else None, names)
        taken, named = self._named(given)
        self.lines.append(Line(names, call, taken, named, self.part, self.where, effect))
        return out

    def _named(self, given: Any) -> Any:
        """The arguments of a call, with values in place of stand-ins, and of arrays that are constants."""

        def name(x: Any) -> Any:
            if isinstance(x, Traced):
                return x.what
            if isinstance(x, Noting):
                return x.real
            device = self._home(x)
            return x if device is None else self.constant(x, device).what

        return mapped(name, given)

    def _made(self, x: Any, device: Device | None) -> Any:
        """A result as a stand-in, if it is an array, or a number computed from numbers."""
        if device is None:
            return Traced(self, x, self.value(x, None, "number")) if isinstance(x, int | float) else x
        if not hasattr(x, "shape") or not hasattr(x, "dtype"):
            return x
        what = self.value(x, device, self.hint or "v")
        if self.kept is not None:
            self.kept[what] = x
        return Traced(self, x, what)

    def _constants(self, result: Any, device: Device) -> Any:
        def constant(x: Any) -> Any:
            return self.constant(x, device) if type(x) is device.array_type else x

        return mapped(constant, result)

    # What is called with the device current -----------------------------------------------------------------------

    def call(self, device: Device, outer: Any, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Stands as `device.current` during the recording; `outer` is the value before."""
        if self.inside or threading.get_ident() != self.thread:
            return outer(function, *args, **kwargs) if outer else function(*args, **kwargs)
        method = isinstance(function, types.MethodType) and function.__self__ is device
        if method:
            function = getattr(self.views[device], function.__name__)
        elif (
            not (args and args[0] is device)
            and getattr(operator, getattr(function, "__name__", ""), None) is not function
        ):
            name = getattr(function, "__name__", "a function")
            library = not (getattr(function, "__module__", None) or "").startswith("tinytorch")
            if library and not name.endswith("_like") and any(map(self._varies, args)):
                self.where = caller(name).place
                if name in SHAPED_BY_VALUES:
                    raise self.refused(f"the shape of {name} depends on values", SHAPED_BY_VALUES[name])
                raise self.refused(f"it calls {name} of the library", "do that outside")
            if name.strip("_") == "ones_like":  # what a walk back starts with
                self._is_loss(args[0])
            out = outer(function, *args, **kwargs) if outer else function(*args, **kwargs)
            return self._registered(out, device)
        self._begin(function, args)
        given, named = self.taken((args, kwargs), strict=function in self.bodies, at=function)
        if function in self.bodies:
            self.starts.append(len(self.lines))
            self.hint = next(filter(None, map(_layer, given[1:])), self.hint)
        self.inside = True
        try:
            out = outer(function, *given, **named) if outer else function(*given, **named)
        finally:
            self.inside = False
        return self.given(out, outer, [t.what if isinstance(t, Traced) else None for t in given[1:]])

    def _begin(self, function: Any, args: Any) -> None:
        """Note the part of the step, and the line of the user's code."""
        home = getattr(function, "__module__", "")
        name = getattr(function, "__name__", "v").strip("_")
        if function in self.bodies:
            self.part = "update" if self.walked else "forward"
            self.where, self.hint = caller(name).place, name
        elif home.startswith("tinytorch.optim"):
            self.part, self.where = "update", caller(name).place
            self.hint = {"divided": "part", "joined": "gradients"}.get(name, "step")
        else:
            self.part = "backward" if self.walked else self.part
            self.hint = "g" if self.walked else name

    def _is_loss(self, array: Any) -> None:
        """Note that the op which made the array is the loss."""
        what = self.of(array)
        at = next((i for i, line in enumerate(self.lines) if what in line.outs), None)
        if at is not None:
            start = max((s for s in self.starts if s <= at), default=at)
            end = min((s for s in self.starts if s > at), default=len(self.lines))
            self.lines[start:end] = [line._replace(part="loss") for line in self.lines[start:end]]

    def _varies(self, x: Any) -> bool:
        what = self.of(x)
        return what is not None and what not in self.constants

    def _registered(self, out: Any, device: Device) -> Any:
        """An array computed from no stand-ins is a constant."""
        if type(out) is device.array_type and self.of(out) is None:
            self.constant(out, device)
        return out

    def taken(self, tree: Any, strict: bool = False, at: Any = None) -> Any:
        """Arguments with stand-ins in place of arrays."""

        def take(x: Any) -> Any:
            if isinstance(x, Device):
                return self.views.get(x, x)
            if type(x) is Parts:
                return _parts(x, take)
            if isinstance(x, Numbers):
                return self._numbers(x)
            device = self._home(x)
            what = self.of(x)
            if device is None or what is not None:
                return x if what is None else Traced(self, x, what)
            if strict:
                name = getattr(at, "__name__", "an op").strip("_")
                raise self.refused(
                    f"{name} uses a tensor of shape {tuple(x.shape)} that is found neither among the arguments nor by "
                    "following the names that the function uses",
                    "pass it as an argument",
                )
            return self.constant(x, device)

        return mapped(take, tree)

    def _home(self, x: Any) -> Device | None:
        """The device of an array, if the recording covers that device."""
        homes = [device for device in self.views if type(x) is device.array_type]
        return next((d for d in homes if len(homes) == 1 or type(d).of(x) == d.name), None)

    def _numbers(self, numbers: Numbers) -> dict[str, Any]:
        named = next((named for known, named in self.numbers if known is numbers), None)
        if named is None:
            named = {k: self.value(v, None, k) for k, v in numbers.items()}
            self.numbers.append((numbers, named))
        return {k: Traced(self, v, named[k]) for k, v in numbers.items()}

    def given(self, tree: Any, outer: Any, sources: Sequence[Value | None]) -> Any:
        """Results with arrays in place of stand-ins, and rules that are recorded when they are called."""
        last: list[Any] = [None, None]  # the gradient that the rules were given last, and its stand-in

        def rule(function: Any, source: Value | None) -> Any:
            @functools.wraps(function)
            def called(g: Any) -> Any:
                if threading.get_ident() != self.thread or self.inside:
                    return function(g)
                self.walked = True
                self.part, self.where, self.hint = "backward", here, f"d_{source.name}" if source else "g"
                if last[0] is not g:
                    last[:] = g, self.taken(g, strict=True, at=function)
                self.inside = True
                try:
                    out = outer(function, last[1]) if outer else function(last[1])
                finally:
                    self.inside = False
                return self.given(out, outer, ())

            return called

        def give(x: Any) -> Any:
            if isinstance(x, Traced):
                return self._landed(x)
            if type(x) is Parts:
                return _parts(x, give)
            if callable(x) and not isinstance(x, type):
                return rule(x, remaining.pop(0) if remaining else None)
            if x is None and remaining:
                remaining.pop(0)
            return x

        here, remaining = self.where, list(sources)
        return mapped(give, tree)

    def _landed(self, x: Traced) -> Any:
        """The array of a stand-in, as a proper array of the device. The array is known from now on."""
        array, device = x.value, x.what.device
        if device is None:
            return array
        if type(array) is not device.array_type:
            array = device.asarray(array)
        if self.of(array) is None:
            self.known_as(array, x.what)
        return array

    # Being on -----------------------------------------------------------------------------------------------------

    def record_on(self, device: Device) -> None:
        """Record computations on that device, too, from now on."""
        if device not in self.views:
            self.views[device] = Noting(self, device)
            self.outer += [(device, name, vars(device).get(name, _missing)) for name in ("current", "to_numpy")]
            device.current = functools.partial(self.call, device, device.current)
            device.to_numpy = functools.partial(self._to_numpy, device.to_numpy)  # type: ignore[method-assign]

    @contextmanager
    def on(self, devices: Sequence[Device]) -> Iterator[None]:
        """Record the computations of this thread on these devices, and on devices that it sends arrays to."""
        self.outer: list[tuple[Device, str, Any]] = []
        try:
            for device in devices:
                self.record_on(device)
            with self:
                yield
        finally:
            for device, name, before in reversed(self.outer):
                vars(device).pop(name, None) if before is _missing else setattr(device, name, before)

    def made(self, op: str, inputs: Sequence[Any], meta: dict[str, Any], result: Any) -> None:
        """Refuse other observers: they would see nothing of a run of the program."""
        if threading.get_ident() == self.thread and observers[-1] is not self:
            self.where = caller(op).place
            raise self.refused("it uses an Observer", "enter it outside: then the function itself is called")

    def left(self, how: str, tensor: Any, values: Any) -> None:
        """Refuse to read values."""
        if how != "detach" and threading.get_ident() == self.thread:
            self._read(how)

    def _to_numpy(self, function: Callable[[Any], Any], array: Any) -> Any:
        if threading.get_ident() == self.thread:
            frame: Any = sys._getframe(1)
            if frame.f_code.co_filename.startswith(_BACKENDS):  # on its way to another device
                return function(array)
            how = "numpy"
            while frame is not None and is_ours(frame.f_code.co_filename):
                how, frame = frame.f_code.co_name, frame.f_back
            self._read(how)
        return function(array)

    def _read(self, how: str) -> NoReturn:
        self.where = caller(how).place
        raise self.refused(
            f"a value is read, by {how}()",
            "return the tensor, and read it outside; a condition on values is tinytorch.where",
        )


_missing = object()
_BACKENDS = os.path.dirname(backends.__file__)


def _layer(x: Any) -> str:
    """The name of the layer whose weight that is; results of its op are named by it."""
    path, _, last = x.what.name.rpartition("_") if isinstance(x, Traced) else ("", "", "")
    if last != "weight":
        return ""
    return f"layer{path}" if path.startswith("_") else path


def _plain(x: Any) -> Any:
    return x.value if isinstance(x, Traced) else x.real if isinstance(x, Noting) else x


def _traced_in(tree: Any) -> list[Traced]:
    found: list[Traced] = []

    def look(x: Any) -> None:
        if isinstance(x, Traced):
            found.append(x)

    mapped(look, tree)
    return found


def _parts(x: Parts, function: Callable[[Any], Any]) -> Parts:
    """Parts with the function applied to each."""
    out = Parts(function(x.parts[0]), x.keys[0], x.shape)
    out.parts, out.keys, out.size = [function(p) for p in x.parts], list(x.keys), x.size
    return out
