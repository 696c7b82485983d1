"""Stand-ins for arrays, their device and their namespace, which note every call."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from tinytorch.backends import Device
from tinytorch.program.program import Call, Value

_POINTS = (  # extension points: one line, if a device has an implementation of its own
    "add_parts",
    "add_windows",
    "class_losses",
    "class_losses_rule",
    "erf",
    "normalized",
    "normalized_rule",
    "put",
    "scatter_add",
    "windows",
)
SHAPED_BY_VALUES = dict.fromkeys(
    ("nonzero", "repeat", "unique_all", "unique_counts", "unique_inverse", "unique_values"),
    "use masks and tinytorch.where, or call it outside",
)


class CannotCompile(RuntimeError):
    """A function that cannot be written down as a program, with the line and what to write instead."""


class Traced:
    """Stands for an array, or for a number of the host: computes every operation, and notes it."""

    __slots__ = ("recorder", "value", "what")

    def __init__(self, recorder: Any, value: Any, what: Value) -> None:
        self.recorder, self.value, self.what = recorder, value, what

    shape = property(lambda self: self.value.shape)
    dtype = property(lambda self: self.value.dtype)
    ndim = property(lambda self: self.value.ndim)
    size = property(lambda self: self.value.size)
    nbytes = property(lambda self: self.value.nbytes)
    itemsize = property(lambda self: self.value.itemsize)
    device = property(lambda self: self.value.device)

    @property
    def T(self) -> Traced:
        """The transpose of a matrix."""
        return self.recorder.note(Call("xp", "permute_dims", self.what.device), (self, (1, 0)), {}, self.value.T)

    @property
    def mT(self) -> Traced:
        """The transposes of matrices."""
        return self.recorder.note(Call("xp", "matrix_transpose", self.what.device), (self,), {}, self.value.mT)

    def __getitem__(self, key: Any) -> Any:
        return self.recorder.note(Call("operator", "getitem"), (self, key), {})

    def __len__(self) -> int:
        return len(self.value)

    def _read(self, *args: Any) -> Any:
        raise self.recorder.refused("a value is looked at", "compute with tinytorch.where and masks instead")

    __bool__ = __float__ = __int__ = __index__ = __iter__ = __array__ = _read


def _operator(name: str) -> Callable[..., Any]:
    def method(self: Traced, *others: Any) -> Any:
        return self.recorder.note(Call("operator", name), (self, *others), {})

    return method


def _reflected(name: str) -> Callable[..., Any]:
    def method(self: Traced, other: Any) -> Any:
        return self.recorder.note(Call("operator", name), (other, self), {})

    return method


def _in_place(name: str) -> Callable[..., Any]:
    """`y += x` is y = y + x, of the dtype of y: a body does that only to arrays of its own."""

    def method(self: Traced, other: Any) -> Any:
        out = self.recorder.note(Call("operator", name), (self, other), {})
        if out.dtype == self.dtype:
            return out
        return self.recorder.note(Call("xp", "astype", self.what.device), (out, self.dtype), {})

    return method


_ARITHMETIC = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and_", "or_", "xor")
for _name in (*_ARITHMETIC, "lshift", "rshift"):
    _plain_name = _name.rstrip("_")
    setattr(Traced, f"__{_plain_name}__", _operator(_name))
    setattr(Traced, f"__r{_plain_name}__", _reflected(_name))
    setattr(Traced, f"__i{_plain_name}__", _in_place(_name))
for _name in ("lt", "le", "gt", "ge", "eq", "ne", "neg", "pos", "invert", "abs"):
    setattr(Traced, f"__{_name}__", _operator(_name))
Traced.__hash__ = None  # type: ignore[assignment]


class Namespace:
    """The namespace of a device: calls of its functions with stand-ins are noted."""

    def __init__(self, recorder: Any, device: Device) -> None:
        self._recorder, self._device = recorder, device

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._device.xp, name)
        if isinstance(real, type) or not callable(real) or name.startswith("__"):
            return real
        recorder, call = self._recorder, Call("xp", name, self._device)

        def function(*args: Any, **kwargs: Any) -> Any:
            if name in SHAPED_BY_VALUES:
                raise recorder.refused(f"the shape of {name} depends on values", SHAPED_BY_VALUES[name])
            return recorder.note(call, args, kwargs)

        vars(self)[name] = function
        return function


class Noting(Device):
    """A device whose arrays are stand-ins: bodies, rules and optimizers get it during a recording."""

    library = "tinytorch"
    array_type = Traced

    def __init__(self, recorder: Any, device: Device) -> None:
        self.recorder, self.real = recorder, device
        self.name, self.native, self.is_gpu = device.name, device.native, device.is_gpu
        self.default_int, self.memory = device.default_int, None
        self.xp = Namespace(recorder, device)
        for name in _POINTS:
            vars(self)[name] = functools.partial(self._point, name)

    def _point(self, name: str, *args: Any) -> Any:
        """An extension point: the lines of the default if the device computes by them, otherwise one line."""
        if self.real.does_as_default(name, *args):
            return getattr(Device, name)(self, *args)
        return self._noted(name)(*args)

    def _noted(self, name: str, **how: Any) -> Callable[..., Any]:
        call = Call("device", name, self.real)
        return lambda *args, **kwargs: self.recorder.note(call, args, kwargs, **how)

    def dtype(self, dtype: Any) -> Any:
        return self.real.dtype(dtype)

    def dtype_of(self, array: Any) -> np.dtype[Any]:
        return self.real.dtype_of(array.value if isinstance(array, Traced) else array)

    def from_numpy(self, array: np.ndarray[Any, Any]) -> Any:
        return self.recorder.constant(self.real.from_numpy(array), self.real)

    def to_numpy(self, array: Any) -> Any:
        raise self.recorder.refused("a value is looked at", "compute with tinytorch.where and masks instead")

    def asarray(self, x: Any) -> Any:
        return x if isinstance(x, Traced) else self.recorder.constant(self.real.asarray(x), self.real)

    def fused(self, function: Callable[..., Any], out: tuple[Any, ...] | None = None) -> Callable[..., Any]:
        def call(dev: Any, *arrays: Any, **numbers: Any) -> Any:
            if self.real.does_as_default("fused", function, *arrays):
                return function(dev, *arrays, **numbers)
            return self._noted("elementwise")(function, *arrays, **numbers)

        return call

    def check_index(self, indices: Any, size: int, what: str, ignore: int | None = None) -> None:
        self._noted("check_index", effect=True)(indices, size, what, ignore)

    def check_unit(self, values: Any, what: str) -> None:
        self._noted("check_unit", effect=True)(values, what)

    def may_occur(self, value: int, labels: Any) -> bool:
        if self.real.does_as_default("may_occur"):
            return True
        return bool(self._noted("may_occur", effect=True, expected=True)(value, labels))

    def drawn(self, generator: Any, kind: str, shape: tuple[int, ...], dtype: Any, settings: dict[str, Any]) -> Any:
        return self._noted("drawn", effect=True)(generator, kind, shape, dtype, settings)

    @staticmethod
    def transfer(array: Any, source: Any, device: Any) -> Any:
        here, there = (d.real if isinstance(d, Noting) else d for d in (source, device))
        if not isinstance(array, Traced):
            recorder = (source if isinstance(source, Noting) else device).recorder
            return recorder.constant(Device.transfer(array, here, there), there)
        array.recorder.record_on(there)
        return array.recorder.note(Call("device", "transfer", there), (array, here, there), {}, home=there)
