"""Data of any kind as an array of a device: Python numbers, nested lists, arrays of any library, tables, tensors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tinytorch import words
from tinytorch.backends import Device, device, device_of
from tinytorch.dtypes import ALL, as_dtype, fitting, float32, of_kind
from tinytorch.tape.variable import Variable, run_on

_NAMES = frozenset(d.name for d in ALL)


def to_array(data: Any, dtype: Any, where: str | Device | None, copy: bool | None) -> tuple[Any, Device]:
    """Data as an array of a device, and the device. Creating a tensor starts here.

    `copy` is as in `asarray`: True always copies, None only if it must, False never.
    """
    wanted = None if dtype is None else as_dtype(dtype)
    if not isinstance(data, (np.ndarray, Variable, np.generic, type)) and hasattr(data, "__array__"):
        data = _of_a_table(data)
    if isinstance(data, Variable):
        source, array = data.device, data.array
        target = source if where is None else device(where)
    elif isinstance(data, np.ndarray):
        if type(data) is not np.ndarray and np.any(getattr(data, "mask", False)):
            raise ValueError("Tensor: a masked array has no numbers where it is masked; write x.filled(0)")
        source, array, target = device("cpu"), np.asarray(data), device(where)
        if not array.dtype.isnative:
            if copy is False:
                raise ValueError(f"asarray: {array.dtype.str}, in another byte order, is not without a copy")
            array, copy = array.astype(array.dtype.newbyteorder("=")), None
    elif hasattr(data, "dtype") and not isinstance(data, np.generic):
        source = device_of(data)
        array = source.asarray(data)
        target = source if where is None else device(where)
    else:
        source, target = device("cpu"), device(where)
        array = _host_array(data, wanted, target)
        wanted, copy = array.dtype, None if copy else copy  # the host array is a copy already
        if copy is False:
            raise ValueError(f"asarray: {type(data).__name__} cannot become a tensor without a copy")
    expect_dtype(source, array, wanted)
    changes = wanted is not None and array.dtype != source.dtype(wanted)
    if copy is False and (target is not source or changes):
        raise ValueError(
            f"asarray: from {array.dtype} on {source} to {wanted or array.dtype} on {target} is not without a copy"
        )
    own = copy and (target is source or target.memory == source.memory is not None)
    if changes or own:
        array = run_on(source, _converted, source, array, wanted if changes else None)
    return run_on(target, _received, target, array, source), target


def _converted(dev: Device, array: Any, dtype: Any) -> Any:
    """A copy of the array, as another dtype if that is given."""
    return dev.xp.asarray(array, copy=True) if dtype is None else dev.xp.astype(array, dev.dtype(dtype))


def _received(dev: Device, array: Any, source: Device) -> Any:
    """The array of a device, on this one."""
    return dev.transfer(array, source, dev)


def _of_a_table(data: Any) -> Any:
    """The values of a column or table (as of pandas) as a NumPy array; data that a device holds, as they are."""
    try:
        device_of(data)
    except TypeError:
        return np.asarray(data)
    return data


def expect_dtype(source: Device, array: Any, wanted: Any) -> None:
    """Raise TypeError unless tensors can have the array's dtype, or it is floating and tensors can have `wanted`."""
    found = array.dtype
    try:
        known = source.dtype_of(array)
    except TypeError:
        known = None
    if isinstance(known, np.dtype) and known in ALL:
        return
    if isinstance(found, np.dtype):  # also bfloat16, of another package
        floating = np.can_cast(found, float) or found == np.longdouble
    else:
        floating = source.xp.isdtype(found, "real floating")
    if not floating or wanted is None or wanted not in ALL:  # NumPy takes None for float64
        fix = "; tinytorch.asarray(x, dtype=tinytorch.float32) converts it" if floating else ""
        fix = '; if all are numbers, x.astype("float32") makes them so' if getattr(found, "kind", "") == "O" else fix
        names = ", ".join(d.name for d in ALL)
        raise TypeError(f"Tensor: there is no dtype {getattr(found, 'name', found)}; there are {names}{fix}")


def _of_large(array: np.ndarray[Any, Any], given: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Large numbers as an array: integers in an integer dtype, all else as floats. No numbers: the array as it is.

    Raises:
        OverflowError: all numbers are integers, and one does not fit the integer dtype.
    """
    if not all(isinstance(x, int | float) for x in given.flat):
        return array
    if dtype.kind in "iu" and all(isinstance(x, int) for x in given.flat):
        for value in given.flat:
            fitting("Tensor", value, dtype)
        return given.astype(dtype)
    return given.astype(float)


def _host_array(data: Any, dtype: np.dtype[Any] | None, target: Device) -> np.ndarray[Any, Any]:
    """Python numbers, or nested sequences of numbers, as a NumPy array of the dtype for the device."""
    if isinstance(data, list | tuple) and any(isinstance(x, Variable) for x in data):
        raise TypeError("Tensor: join tensors with tinytorch.stack or tinytorch.concat, not in a list")
    try:
        array = np.asarray(data)
    except ValueError:
        raise ValueError(f"Tensor: nested lists must have equal lengths, not {_uneven(data)}") from None
    if array.size and (array.dtype.kind == "O" or (array.dtype.kind == "f" and np.abs(array).max() >= 2**63)):
        array = _of_large(array, np.asarray(data, dtype=object), dtype or target.default_int)
    if array.dtype.kind not in "biuf":
        strange = next(_strangers(data), data)
        given = words.shown(data) if strange is data else f"a list with {words.shown(strange)} in it"
        raise TypeError(f"Tensor: data is a number, a nested list of numbers, an array or a Tensor, not {given}")
    if dtype is None:
        dtype = array.dtype
        if not isinstance(data, np.generic):
            dtype = of_kind(target, array.dtype.kind) if array.size else float32
    if dtype.kind in "iu" and array.dtype.kind != "b" and array.size:
        for value in (array.min(), array.max(), *array[array != np.trunc(array)][:1]):  # a NaN is all three
            fitting("Tensor", value.item(), dtype)
    with np.errstate(over="ignore"):  # a number too large for float32 becomes infinite, as in every library
        return array.astype(dtype)


def _strangers(data: Any) -> Iterator[Any]:
    """The items of nested lists that are no numbers."""
    for x in data if isinstance(data, list | tuple) else ():
        if isinstance(x, list | tuple):
            yield from _strangers(x)
        elif not isinstance(x, bool | int | float | np.generic | np.ndarray):
            yield x


def _uneven(data: Any) -> str:
    """Why nested lists make no array, in words: the lengths of lists side by side, or numbers beside lists."""
    lists = [x for x in data if isinstance(x, list | tuple | np.ndarray)]
    if len(lists) < len(data):
        return "numbers beside lists" if lists else "what they are"
    lengths = dict.fromkeys(len(x) for x in lists)
    return " and ".join(map(str, lengths)) if len(lengths) > 1 else _uneven([y for x in lists for y in x])


def device_and_dtype(name: str, args: Any, where: Any, dtype: Any) -> tuple[Device | None, np.dtype[Any] | None]:
    """The device and the dtype in the arguments of `to`, in either order or by keyword; None where not given."""
    for x in args:
        spelled = isinstance(x, Device) or (isinstance(x, str) and x not in _NAMES)
        if x is None:
            continue
        if spelled and where is None:
            where = x
        elif not spelled and dtype is None:
            dtype = x
        else:
            raise TypeError(f"{name}: takes one device and one dtype, not {len(args)} arguments")
    try:
        return None if where is None else device(where), None if dtype is None else as_dtype(dtype)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from None
