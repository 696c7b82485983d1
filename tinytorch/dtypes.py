"""Dtypes, whatever the array library: NumPy's dtype objects serve as their names.

Promotion is the array API standard's: dtypes of one kind (bool, integer, floating) mix, kinds do not. A Python number
takes the dtype of the tensor beside it.
"""

from __future__ import annotations

import builtins
import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinytorch.backends import Device, device_of

__all__ = [
    "bool",
    "can_cast",
    "finfo",
    "float32",
    "float64",
    "iinfo",
    "int8",
    "int16",
    "int32",
    "int64",
    "isdtype",
    "result_type",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
]

bool = np.dtype("bool")
int8 = np.dtype("int8")
int16 = np.dtype("int16")
int32 = np.dtype("int32")
int64 = np.dtype("int64")
uint8 = np.dtype("uint8")
uint16 = np.dtype("uint16")
uint32 = np.dtype("uint32")
uint64 = np.dtype("uint64")
float32 = np.dtype("float32")
float64 = np.dtype("float64")

NUMBERS = {builtins.bool: "b", int: "if", float: "f"}  # type of a Python number -> the kinds of dtypes that go with it
ALL = (bool, int8, int16, int32, int64, uint8, uint16, uint32, uint64, float32, float64)


def _dtype_of(name: str, x: Any) -> np.dtype[Any]:
    """The dtype of a tensor, or by a name."""
    dtype = x.dtype if hasattr(x, "dtype") and not isinstance(x, type) else x  # np.float32.dtype is no dtype
    try:
        return as_dtype(dtype)
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from None


def promoted(dtypes: Iterable[np.dtype[Any]], numbers: Iterable[type] = ()) -> np.dtype[Any] | None:
    """The common dtype of arrays of these dtypes and Python numbers of these types; None if they do not mix.

    Dtypes mix if all are bool, or all integers (but not uint64 with a signed one), or all floating. Numbers mix with
    dtypes that their type goes with. Source: array API standard 2024.12, "Type Promotion Rules".
    """
    out = np.result_type(*dtypes)
    kinds = {"i" if d.kind == "u" else d.kind for d in dtypes}
    if len(kinds) > 1 or (kinds == {"i"} and out.kind == "f"):
        return None
    return out if all(kinds <= {*NUMBERS[n]} for n in numbers) else None


def of_numbers(device: Device, *values: Any) -> np.dtype[Any]:
    """The dtype of a tensor made of these Python numbers: float32, the device's integer, or bool."""
    types = {type(v) for v in values}
    return of_kind(device, next(NUMBERS[t][0] for t in (float, int, builtins.bool) if t in types))


def of_kind(device: Device, kind: str) -> np.dtype[Any]:
    """The dtype of a tensor made of Python numbers; `kind` is NumPy's for them: "f", "i", "u" or "b"."""
    return {"f": float32, "b": bool}.get(kind, device.default_int)


def result_type(*arrays_and_dtypes: Any) -> np.dtype[Any]:
    """The dtype that operands of these dtypes (or tensors, or Python numbers) give together.

    Raises:
        TypeError: the kinds differ, or uint64 meets a signed dtype.

    >>> tinytorch.result_type(tinytorch.int8, tinytorch.uint8)
    dtype('int16')
    """
    numbers = [x for x in arrays_and_dtypes if type(x) in NUMBERS]
    dtypes = [_dtype_of("result_type", x) for x in arrays_and_dtypes if type(x) not in NUMBERS]
    if not dtypes:
        raise ValueError("result_type: at least one tensor or dtype")
    out = promoted(dtypes, map(type, numbers))
    if out is None:
        given = ", ".join(str(x) for x in [*dtypes, *numbers])
        raise TypeError(f"result_type: {given} do not mix; convert with .astype(...)")
    return out


def can_cast(from_: Any, to: Any, /) -> Any:
    """Whether every value of one dtype (or tensor) is exact in the other.

    >>> tinytorch.can_cast(tinytorch.int8, tinytorch.int16)
    True
    """
    return np.can_cast(_dtype_of("can_cast", from_), _dtype_of("can_cast", to))


def isdtype(dtype: Any, kind: Any) -> Any:
    """Whether the dtype is of the kind: a dtype, or "bool", "signed integer", "unsigned integer", "integral",
    "real floating", "numeric", or a tuple of such.

    >>> tinytorch.isdtype(tinytorch.float32, "real floating")
    True
    """
    kinds = kind if isinstance(kind, tuple) else (kind,)
    known = ("bool", "signed integer", "unsigned integer", "integral", "real floating", "complex floating", "numeric")
    wanted = tuple(k if isinstance(k, str) and k in known else _dtype_of("isdtype: kind", k) for k in kinds)
    return np.isdtype(_dtype_of("isdtype", dtype), wanted)


@dataclass(frozen=True)
class _FloatLimits:
    bits: int
    eps: float
    max: float
    min: float
    smallest_normal: float
    dtype: np.dtype[Any]


_FloatLimits.__qualname__ = "finfo"  # as its repr begins


def finfo(type: Any, /) -> _FloatLimits:
    """Limits of a floating dtype: bits, dtype, and as Python numbers eps, max, min, smallest_normal.

    >>> tinytorch.finfo(tinytorch.float32).bits
    32
    """
    dtype = _dtype_of("finfo", type)
    if dtype.kind != "f":
        raise TypeError(f"finfo: type is a floating dtype, not {dtype.name}; see iinfo")
    found = np.finfo(dtype)
    return _FloatLimits(
        found.bits, float(found.eps), float(found.max), float(found.min), float(found.smallest_normal), found.dtype
    )


def iinfo(type: Any, /) -> Any:
    """Limits of an integer dtype: bits, max, min, dtype.

    >>> tinytorch.iinfo(tinytorch.int8).max
    127
    """
    dtype = _dtype_of("iinfo", type)
    if dtype.kind not in "iu":
        raise TypeError(f"iinfo: type is an integer dtype, not {dtype.name}; see finfo")
    return np.iinfo(dtype)


def as_dtype(dtype: Any) -> np.dtype[Any]:
    """The dtype of a name; a dtype as it is.

    Raises:
        TypeError: there is no such dtype.
    """
    try:
        old = isinstance(dtype, str) and dtype.startswith("a")  # "a" means bytes, and NumPy warns
        found = np.dtype(dtype) if isinstance(dtype, str | np.dtype | type) and not old else None
    except TypeError:
        found = None
    if found is None or found not in ALL:  # NumPy takes None for float64
        named = dtype is None or isinstance(dtype, str | np.dtype | type)
        given = repr(dtype) if named else f"{type(dtype).__name__} object"
        raise TypeError(f"there is no dtype {given}; there are {', '.join(d.name for d in ALL)}")
    return found


def number(name: str, x: Any) -> Any:
    """The Python number that x is or holds: x is also a number of NumPy's, or a tensor or array without axes.

    Raises:
        TypeError: x is something else, such as a Fraction or a string; `name` is the function that was given x.
    """
    if type(x) in NUMBERS:
        return x
    if getattr(x, "shape", None) == () and hasattr(x, "dtype"):
        value = x.item() if hasattr(x, "item") else device_of(x).to_numpy(x).item()
        value = float(value) if isinstance(value, np.floating) else value  # a long double is no Python number
    else:
        value = next((kind(x) for kind in (int, float) if isinstance(x, kind)), None)  # such as an IntEnum
    if type(value) not in NUMBERS:
        convert = f"; write float({x!r})" if hasattr(x, "__float__") and not hasattr(x, "shape") else ""
        raise TypeError(f"{name}: takes a number, not {type(x).__module__}.{type(x).__qualname__} {x!r}{convert}")
    return value


def whole(name: str, x: Any) -> int:
    """The Python integer that x is or holds.

    Raises:
        TypeError: x is something else, such as 2.0.
    """
    try:
        return operator.index(x)
    except (TypeError, IndexError):  # the library says which, for an array
        value = x.item() if getattr(x, "shape", None) == () and hasattr(x, "item") else None
        if type(value) is int:  # the library's arrays are no indices
            return value
        found = x.dtype if getattr(x, "shape", None) == () else type(x).__qualname__
        raise TypeError(f"{name}: takes an integer, not {found} {x!r}; write int(...)") from None


def fitting(name: str, x: Any, dtype: np.dtype[Any]) -> Any:
    """A Python number as a number of the dtype, by one rule for all devices, whatever their libraries would do.

    Raises:
        OverflowError: the number is outside the range of an integer dtype.
        ValueError: the number is not whole, and the dtype is an integer one.

    >>> tinytorch.dtypes.fitting("full", 3.0, tinytorch.uint8)
    3
    """
    if dtype.kind == "b":
        return x != 0
    if dtype.kind == "f":
        return float(x)
    limits = np.iinfo(dtype)
    if x != x or (limits.min <= x <= limits.max and x != int(x)):
        raise ValueError(f"{name}: {x} is not a whole number, as {dtype.name} holds them; round it, or use float32")
    if not limits.min <= x <= limits.max:
        raise OverflowError(f"{name}: {x} is out of range for {dtype.name}, [{limits.min}, {limits.max}]")
    return int(x)
