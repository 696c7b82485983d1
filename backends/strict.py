"""The devices "strict:...": array-api-strict, which has nothing but what the standard says.

The fake devices live on the CPU, refuse host copies and refuse to be mixed: the linter for one code path. While the
library works for these devices it has its strictest flags: version 2024.12, no boolean indexing, no data-dependent
shapes, no extensions. The flags are the process's: other threads meet them meanwhile. Afterwards they are as before.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np

from tinytorch.backends import importing
from tinytorch.backends.device import Array, Device
from tinytorch.backends.forks import over_forks
from tinytorch.backends.standard import added_up, backwards

with importing.library("array-api-strict", "python -m pip install array-api-strict", "array_api_strict"):
    import array_api_strict as xp


def _sum(x: Array, /, *, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Array:
    """NumPy's sum of numbers side by side in memory: NumPy adds only these pairwise."""
    axes = list(axis) if isinstance(axis, tuple) else [axis]
    if axis is None or dtype is not None or 0 in x.shape or not xp.isdtype(x.dtype, "real floating"):
        return xp.sum(x, axis=axis, dtype=dtype, keepdims=keepdims)
    kept = [i for i in range(x.ndim) if i not in axes and i - x.ndim not in axes]
    if len(kept) + len(axes) != x.ndim:  # an axis is missing, or comes twice
        return xp.sum(x, axis=axis, keepdims=keepdims)
    last = [i for i in range(x.ndim) if i not in kept]
    flat = xp.reshape(xp.permute_dims(x, (*kept, *last)), (-1,), copy=True)
    out = xp.sum(xp.reshape(flat, (*(x.shape[i] for i in kept), -1)), axis=-1)
    return xp.reshape(out, tuple(n if i in kept else 1 for i, n in enumerate(x.shape))) if keepdims else out


def _mean(x: Array, /, *, axis: Any = None, keepdims: bool = False) -> Array:
    out = _sum(x, axis=axis, keepdims=keepdims)
    return out / (x.size // out.size) if x.size else xp.mean(x, axis=axis, keepdims=keepdims)


def _cumulative_sum(x: Array, /, *, axis: Any = None, dtype: Any = None, include_initial: bool = False) -> Array:
    if "float64" in xp.__array_namespace_info__().dtypes(device=x.device):
        return added_up(xp, x, axis, dtype, include_initial)
    return xp.cumulative_sum(x, axis=axis, dtype=dtype, include_initial=include_initial)


def _clip(x: Array, /, min: Any = None, max: Any = None) -> Array:
    """Clip; `max` where min is above max. The standard leaves that open, and array-api-strict (2.6) refuses it."""
    x = x if min is None else xp.maximum(x, min)
    return x if max is None else xp.minimum(x, max)


_HOST = xp.Device("CPU_DEVICE")
_NAMES = [str(d).partition("'")[2].partition("'")[0] for d in xp.__array_namespace_info__().devices()]
_FLAGS = {
    "api_version": "2024.12",
    "boolean_indexing": False,
    "data_dependent_shapes": False,
    "enabled_extensions": (),
}
_lock = over_forks(threading.Lock())
_inside = 0  # number of blocks, on all threads, in which the flags are set
_before: dict[str, Any] = {}  # the flags outside these blocks


@contextmanager
def _strictest() -> Iterator[None]:
    global _inside, _before
    with _lock:
        if _inside == 0:
            _before = xp.get_array_api_strict_flags()
            xp.set_array_api_strict_flags(**_FLAGS)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                xp.set_array_api_strict_flags(**_before)


class StrictDevice(Device):
    """One of array-api-strict's devices: "CPU_DEVICE", "device1", "device2", "no_float64" or "no_x64"."""

    library = "array_api_strict"
    xp = SimpleNamespace(**{**vars(xp), "sum": _sum, "mean": _mean, "cumulative_sum": _cumulative_sum, "clip": _clip})
    array_type = type(xp.zeros(1))

    def __init__(self, index: str) -> None:
        self.native = xp.Device(index)
        info = xp.__array_namespace_info__()
        self._dtypes: dict[str, Any] = info.dtypes(device=self.native)
        self.default_int = np.dtype("int64" if "int64" in self._dtypes else "int32")

    @classmethod
    def canonical(cls, index: str) -> str:
        index = index or "CPU_DEVICE"
        if index not in _NAMES:
            raise ValueError(f"device: no 'strict:{index}'; there are {', '.join('strict:' + n for n in _NAMES)}")
        return "strict:" + index

    @classmethod
    def available(cls) -> list[str]:
        # "no_x64" is not listed: argmax, sort and sum make int64 there, which the device does not have (2.6)
        return ["strict:" + name for name in _NAMES if name != "no_x64"]

    @classmethod
    def of(cls, array: Array) -> str:
        return "strict:" + str(array.device).partition("'")[2].partition("'")[0]

    def activated(self) -> AbstractContextManager[None]:
        return _strictest()

    def current(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call the function with the strictest flags."""
        with _strictest():
            return function(*args, **kwargs)

    def to_numpy(self, array: Array) -> np.ndarray:
        return np.array(array.to_device(_HOST))

    def receive(self, array: Array, source: Device) -> Array:
        if isinstance(source, StrictDevice):
            self.dtype(source.dtype_of(array))
            return array.to_device(self.native)
        return super().receive(array, source)

    def exported(self, array: Array) -> Array:
        if self.native != _HOST:  # array-api-strict (2.6) would export it
            raise BufferError(f"{self.name} stands for memory that other libraries do not see; use x.cpu()")
        host = np.asarray(array)
        return np.ascontiguousarray(host) if backwards(host) else array

    def dtype(self, dtype: Any) -> Any:
        name = np.dtype(dtype).name
        if name not in self._dtypes:
            raise TypeError(f"{self.name} has no {name}; it has {', '.join(self._dtypes)}")
        return self._dtypes[name]

    def dtype_of(self, array: Array) -> np.dtype:
        return np.dtype(str(array.dtype).rpartition(".")[2])
