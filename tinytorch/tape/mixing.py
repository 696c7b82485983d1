"""Arrays of several dtypes and Python numbers in one op, made to fit each other by one rule on every device."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinytorch.backends import Device
from tinytorch.dtypes import NUMBERS, promoted
from tinytorch.tape.variable import Variable


def _is_array(x: Any) -> bool:
    return x is not None and type(x) not in NUMBERS


def _converted(device: Device, arrays: Sequence[Any], *, free: tuple[int, ...], dtype: Any) -> list[Any]:
    """The arrays as the dtype. Numbers, None, and the positions `free` stay as they are."""
    xp = device.xp
    return [a if i in free or not _is_array(a) else xp.astype(a, dtype, copy=False) for i, a in enumerate(arrays)]


def fitting_of(device: Device, arrays: Sequence[Any], free: tuple[int, ...], beyond: str) -> Any:
    """The function that makes arrays of these dtypes, and numbers, fit each other; None if there is nothing to do.

    The function is called with the device, which is current, and the arrays.
    """
    mixing = {i: a for i, a in enumerate(arrays) if i not in free}
    found = {device.dtype_of(a) for a in mixing.values() if _is_array(a)}
    numbers = [i for i, a in mixing.items() if type(a) is int]
    if not found:
        return None
    dtype: Any = promoted(found)
    convert = None
    if len(found) > 1:  # not all libraries promote alike: PyTorch leaves 0-d arrays out
        convert = functools.partial(_converted, free=free, dtype=device.dtype(dtype))
    if not numbers or dtype.kind not in "iu":
        return convert
    low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)

    def fit(device: Device, arrays: list[Any]) -> list[Any]:
        for i in numbers:
            n = arrays[i]
            if not low <= n <= high:
                if beyond == "refused":
                    raise OverflowError(
                        f"{n} is out of range for {dtype.name}, [{low}, {high}]; convert the tensor with .astype(...)"
                    )
                if beyond == "compared":  # as floats: comparing with infinity is exact
                    arrays = _converted(device, arrays, free=free, dtype=device.dtype("float32"))
                    n = math.inf if n > 0 else -math.inf
                arrays = [*arrays[:i], float(n), *arrays[i + 1 :]]
            elif n >= 2**63:  # a Python number of this size is refused by some libraries
                arrays = [*arrays[:i], device.from_numpy(np.asarray(n, dtype)), *arrays[i + 1 :]]
        return arrays if convert is None else convert(device, arrays)

    return fit


def as_float(n: int) -> float:
    """The integer as a float, infinite if no float is that large."""
    try:
        return float(n)
    except OverflowError:
        return math.inf if n > 0 else -math.inf


def any_large(inputs: Sequence[Any]) -> bool:
    """Whether an input is an integer outside int64, beside floating tensors: some libraries take it only as a float."""
    floating = any(isinstance(x, Variable) and x.dtype.kind == "f" for x in inputs)
    return floating and any(type(x) is int and not -(2**63) <= x < 2**63 for x in inputs)
