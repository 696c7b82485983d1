"""Indexing: `x[...]` and `x[...] = v`, gathering by index, and the scatter that is its gradient.

Slices get their gradient by putting zeros around it, integer indices by summing rows with `Device.scatter_add`: nothing
is mutated, so that immutable libraries work as they are.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from backends import Array, Device
from tinytorch.autograd import SHARED, Variable, is_grad_enabled, op, wrap
from tinytorch.ops.axes import along, axes_of
from tinytorch.ops.elementwise import where
from tinytorch.ops.shape import padded, reshape

__all__ = [
    "nonzero",
    "scatter_add",
    "take",
    "take_along_axis",
    "unique_all",
    "unique_counts",
    "unique_inverse",
    "unique_values",
]

# Slices -----------------------------------------------------------------------------------------------------------


class _Part(NamedTuple):
    """What a basic index takes of one axis: `length` elements from `start`, `step` apart (backwards if `reverse`)."""

    start: int
    step: int
    length: int
    reverse: bool
    dropped: bool  # an integer: the axis goes away


def _parts(key: tuple[Any, ...], shape: tuple[int, ...]) -> tuple[list[_Part], list[int]]:
    """A basic key, axis by axis, and the places of its new axes in the result.

    Raises:
        IndexError: too many indices, or one outside its axis.
    """
    axes = sum(k is not None and k is not Ellipsis for k in key)
    if axes > len(shape) or sum(k is Ellipsis for k in key) > 1:
        raise IndexError(f"{axes} indices for {len(shape)} dimensions, or more than one '...'")
    parts: list[_Part] = []
    new: list[int] = []
    place = 0
    for k in key:
        if k is None:
            new.append(place)
            place += 1
            continue
        missing = len(shape) - axes if k is Ellipsis else 1
        for n in shape[len(parts) : len(parts) + missing]:
            if isinstance(k, int):
                if not -n <= k < n:
                    raise IndexError(f"index {k} is outside axis {len(parts)} of length {n}")
                parts.append(_Part(k % n, 1, 1, False, True))
                continue
            start, stop, step = (slice(None) if k is Ellipsis else k).indices(n)
            length = len(range(start, stop, step))
            if step < 0:
                start, step = start + (length - 1) * step, -step
                parts.append(_Part(max(start, 0), step, length, length > 1, False))
            else:
                parts.append(_Part(start, step, length, False, False))
            place += 1
    parts += [_Part(0, 1, n, False, False) for n in shape[len(parts) :]]
    return parts, new


def _sliced(dev: Any, x: Array, key: tuple[Any, ...]) -> Array:
    """x[key] for a basic key. Not every library has negative steps: those slice forwards and flip."""
    parts, new = _parts(key, x.shape)
    if not any(p.reverse for p in parts):
        return x[key]
    ends = [min(p.start + p.length * p.step, n) for p, n in zip(parts, x.shape, strict=True)]
    y = x[tuple(p.start if p.dropped else slice(p.start, end, p.step) for p, end in zip(parts, ends, strict=True))]
    y = dev.xp.flip(y, axis=tuple(i for i, p in enumerate(p for p in parts if not p.dropped) if p.reverse))
    for place in new:
        y = dev.xp.expand_dims(y, axis=place)
    return y


def _placed(dev: Any, g: Array, shape: tuple[int, ...], key: tuple[Any, ...]) -> Array:
    """Zeros of the shape, but g at x[key]: the gradient of slicing."""
    xp = dev.xp
    parts, _ = _parts(key, shape)
    g = xp.reshape(g, tuple(p.length for p in parts))
    backwards = tuple(i for i, p in enumerate(parts) if p.reverse)
    if backwards:
        g = xp.flip(g, axis=backwards)
    for axis, (p, n) in enumerate(zip(parts, shape, strict=True)):
        if p.length == n:
            continue
        g = spaced(dev, g, axis, p.step)
        around = [(0, 0)] * len(shape)
        around[axis] = (p.start, n - p.start - g.shape[axis]) if p.length else (0, n)
        g = padded(dev, g, around)
    return g


def spaced(dev: Any, g: Array, axis: int, step: int) -> Array:
    """g with step - 1 zeros between neighbours along the axis."""
    n = g.shape[axis]
    if step == 1 or n < 2:
        return g
    xp = dev.xp
    lead, rest = g.shape[:axis], g.shape[axis + 1 :]
    zeros = xp.zeros((*lead, n, step - 1, *rest), dtype=g.dtype, device=dev.native)
    wide = xp.reshape(xp.concat([xp.expand_dims(g, axis=axis + 1), zeros], axis=axis + 1), (*lead, n * step, *rest))
    return wide[along(axis, slice(0, (n - 1) * step + 1))]


@op
def _getitem(dev: Device, x: Array, /, key: tuple[Any, ...]) -> Any:
    shape = x.shape
    return _sliced(dev, x, key), lambda g: _placed(dev, g, shape, key)


# Integer indices --------------------------------------------------------------------------------------------------


@op(apart=(1,))
def _take(dev: Device, x: Array, indices: Array, /, *, axis: int) -> Any:
    xp, n = dev.xp, x.shape[axis]
    if axis == 0:
        return xp.take(x, indices, axis=0), lambda g: dev.scatter_add(g, indices, n), None

    def of_x(g: Array) -> Array:
        return xp.moveaxis(dev.scatter_add(xp.moveaxis(g, axis, 0), indices, n), 0, axis)

    return xp.take(x, indices, axis=axis), of_x, None


def take(x: Any, indices: Any, /, *, axis: int | None = None) -> Any:
    """The elements at the indices along the axis, which may be left out for one dimension.

    Args:
        indices: an integer tensor of one dimension; negative ones count from the end.

    Raises:
        IndexError: an index is outside the axis (on a GPU, when values are next read).

    >>> tinytorch.take(Tensor([10.0, 20.0, 30.0]), Tensor([2, 0, 2]))
    tensor([30., 10., 30.])
    """
    if axis is None:
        if x.ndim != 1:
            raise ValueError(f"take: {x.ndim} dimensions need an axis")
        axis = 0
    axis = axes_of(axis, x.ndim)[0]
    if indices.ndim != 1:
        raise ValueError(f"take: indices have one dimension, not {indices.ndim}; see x[indices] for more")
    return _take(x, _within(indices, x.shape[axis], "take"), axis=axis)


def _within(indices: Any, n: int, what: str) -> Any:
    """Integer indices into an axis of length n, the negative ones counted from the end, checked."""
    if indices.dtype.kind == "i":
        indices = _wrapped(indices, n)
    check_index(indices, n, what)
    return indices


def check_index(indices: Any, n: int, what: str) -> None:
    """Raise TypeError unless the tensor holds integers, and IndexError unless they are in [0, n)."""
    if indices.dtype.kind not in "iu":
        raise TypeError(f"{what}: indices are integers, not {indices.dtype.name}; convert with .astype(...)")
    dev = indices.device
    check = dev.check_index if dev.current is None else functools.partial(dev.current, dev.check_index)
    check(indices.array, n, what)


@op(kinds="iu")
def _wrapped(dev: Device, x: Array, /, n: int) -> Any:
    return dev.xp.where(x < 0, x + n, x), None


@op(apart=(1,))
def scatter_add(dev: Device, values: Array, indices: Array, /, size: int) -> Any:
    """Sum rows by index: out[i] is the sum of values[n] over all n with indices[n] == i.

    Args:
        values: (N, ...).
        indices: (N,), integers in [0, size); they may repeat.
        size: the length of the first axis of the result.

    >>> tinytorch.scatter_add(Tensor([1.0, 2.0, 3.0]), Tensor([0, 2, 0]), size=3)
    tensor([4., 0., 2.])
    """
    return dev.scatter_add(values, indices, size), lambda g: dev.xp.take(g, indices, axis=0), None


@op(apart=(1,))
def take_along_axis(dev: Device, x: Array, indices: Array, /, *, axis: int = -1) -> Any:
    """For each line of x along the axis the elements at the indices in the same line of `indices`.

    Args:
        indices: integers, of the shape of x but for the axis (lengths of one broadcast).

    >>> tinytorch.take_along_axis(Tensor([[1.0, 2.0], [3.0, 4.0]]), Tensor([[1], [0]]), axis=1)
    tensor([[2.],
            [3.]])
    """
    xp, axis = dev.xp, axes_of(axis, x.ndim)[0]
    n = x.shape[axis]

    def of_x(g: Array) -> Array:  # out[..., j] = sum of g[..., i] over the i whose index is j
        at = xp.arange(n, dtype=indices.dtype, device=dev.native)
        lines, where = xp.moveaxis(g, axis, -1), xp.moveaxis(indices, axis, -1)
        where = xp.where(where < 0, where + n, where)
        hits = xp.where(where[..., :, None] == at, lines[..., :, None], 0.0)  # (..., i, j)
        return xp.moveaxis(xp.sum(hits, axis=-2), -1, axis)

    return xp.take_along_axis(x, indices, axis=axis), of_x, None


# x[key] and x[key] = value ----------------------------------------------------------------------------------------


def getitem(x: Any, key: Any) -> Any:
    """x[key], for integers, slices, `...`, None, integer tensors and a boolean tensor, as in NumPy.

    Integer tensors stand either in front, where they broadcast with integers, or one of them stands among slices. A
    boolean tensor stands alone; the shape of the result then depends on its values, which are read.

    Raises:
        IndexError: an index is outside its axis, or the key mixes what cannot be mixed.

    >>> x = Tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> x[:, 1]
    tensor([2., 4.])
    >>> x[Tensor([1, 1, 0])].shape
    (3, 2)
    >>> x[x > 1.5]
    tensor([2., 3., 4.])
    """
    keys = _keys(x, key)
    arrays = [i for i, k in enumerate(keys) if isinstance(k, Variable)]
    if not arrays:
        return _getitem(x, key=keys)
    first, last = arrays[0], arrays[-1]
    lead, rest = keys[: last + 1], keys[last + 1 :]
    if keys[first].dtype.kind == "b":
        if len(lead) > 1 or any(k != slice(None) for k in rest):
            raise IndexError("getitem: a boolean tensor stands alone; index in two steps, as in x[mask][:, i]")
        mask = keys[first]
        rows = reshape(x, (mask.size, *x.shape[mask.ndim :]))
        return _take(rows, nonzero(reshape(mask, (-1,)))[0], axis=0)
    if all(isinstance(k, int | Variable) for k in lead):
        y = _gather(x, lead)
        kept = y.ndim - (x.ndim - len(lead))  # dimensions of the broadcast indices
        return y if all(k == slice(None) for k in rest) else _getitem(y, key=(*(slice(None),) * kept, *rest))
    if len(arrays) > 1 or any(isinstance(k, int) for k in keys):
        raise IndexError(
            "getitem: integer tensors stand in front, or one of them among slices; index in two steps, as in x[i][:, j]"
        )
    sliced = _getitem(x, key=(*keys[:first], slice(None), *keys[first + 1 :]))
    return _take_many(sliced, keys[first], first)


def _keys(x: Any, key: Any) -> tuple[Any, ...]:
    """The key as a tuple of integers, slices, None and tensors that says something of every axis."""
    keys: list[Any] = []
    axes = 0
    for k in key if isinstance(key, tuple) else (key,):
        if isinstance(k, list | np.ndarray):
            from tinytorch.creation import asarray

            k = asarray(k, device=x.device)
        if isinstance(k, Variable):
            kind = x.device.dtype_of(k.array).kind
            if kind not in "biu":
                raise IndexError(
                    f"getitem: an index tensor holds integers or booleans, not {k.device.dtype_of(k.array)}"
                )
            if kind == "b" and tuple(x.shape[axes : axes + k.ndim]) != tuple(k.shape):
                raise IndexError(
                    f"getitem: a mask of shape {tuple(k.shape)} does not fit shape {tuple(x.shape)}; "
                    "it must have the lengths of the axes it stands for"
                )
            axes += k.ndim if kind == "b" else 1
        elif isinstance(k, bool | np.bool):
            raise IndexError("getitem: an index is not a bool; for a new axis write None")
        elif isinstance(k, int | np.integer):
            k = int(k)
            axes += 1
        elif isinstance(k, slice):
            axes += 1
        elif k is not None and k is not Ellipsis:
            raise IndexError(
                f"getitem: an index is an integer, a slice, '...', None or a Tensor, not {type(k).__name__} ({k!r})"
            )
        keys.append(k)
    dots = [i for i, k in enumerate(keys) if k is Ellipsis]
    if axes > x.ndim or len(dots) > 1:
        raise IndexError(f"getitem: {axes} indices and {len(dots)} '...' for {x.ndim} dimensions")
    at = dots[0] if dots else len(keys)
    return (*keys[:at], *(slice(None),) * (x.ndim - axes), *keys[at + 1 :])


def _gather(x: Any, lead: tuple[Any, ...]) -> Any:
    """x[lead], for integers and integer tensors: one flat index into the leading axes as one."""
    if len(lead) == 1:
        return _take_many(x, lead[0], 0)
    flat: Any = 0
    for k, n in zip(lead, x.shape, strict=False):
        if isinstance(k, int) and not -n <= k < n:
            raise IndexError(f"getitem: index {k} is outside an axis of length {n}")
        flat = flat * n + (k % n if isinstance(k, int) else _within(k, n, "getitem"))
    rows = reshape(x, (math.prod(x.shape[: len(lead)]), *x.shape[len(lead) :]))
    return _take_many(rows, flat, 0)


def _take_many(x: Any, indices: Any, axis: int) -> Any:
    """The elements at the indices, of any number of dimensions, which stand in place of the axis."""
    y = take(x, reshape(indices, (-1,)), axis=axis)
    return reshape(y, (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


def setitem(x: Any, key: Any, value: Any) -> None:
    """x[key] = value, for integers, slices, `...` and None, or for a boolean tensor and one number.

    The tensor gets a new array: views of the old one, and graphs recorded with it, keep the old values.

    Raises:
        RuntimeError: x or the value is part of a graph, or x shares its values with the tensor it was detached from.
        IndexError: the key holds integer tensors.
    """
    if x._requires_grad and (is_grad_enabled() or x.rules is not None):
        raise RuntimeError(
            "x[...] = value: x requires a gradient, and what was recorded with it would no longer hold; write "
            "x = tinytorch.where(mask, value, x), or, for a leaf, assign under tinytorch.no_grad()"
        )
    if x.rules is SHARED:
        raise RuntimeError(
            "x[...] = value: x was detached from another tensor, which would not see the change; write into "
            "x.copy(), or into the other tensor under tinytorch.no_grad()"
        )
    if isinstance(value, Variable) and value._requires_grad and is_grad_enabled():
        raise RuntimeError(
            "x[...] = value: the gradient of the value would be lost; write x = tinytorch.where(mask, value, x) or "
            "join the parts with tinytorch.concat"
        )
    keys = _keys(x, key)
    masked = isinstance(keys[0], Variable) and keys[0].dtype.kind == "b"
    if masked and all(k == slice(None) for k in keys[1:]) and (not isinstance(value, Variable) or value.ndim == 0):
        mask = reshape(keys[0], (*keys[0].shape, *(1,) * (x.ndim - keys[0].ndim)))
        new = where(mask, value, x)
    elif any(isinstance(k, Variable) for k in keys):
        raise IndexError(
            "x[...] = value: takes integers and slices, or a boolean tensor and one number; write "
            "x = tinytorch.where(mask, value, x) for more"
        )
    else:
        new = _setitem(x, value, key=keys)
    x.array = new.array if new.dtype == x.dtype else new.astype(x.dtype).array


@op
def _setitem(dev: Device, x: Array, value: Array, /, key: tuple[Any, ...]) -> Any:
    xp = dev.xp
    shape = _sliced(dev, x, key).shape
    if isinstance(value, bool | int | float):
        block = xp.full(shape, value, dtype=x.dtype, device=dev.native)
    else:
        block = xp.astype(xp.broadcast_to(value, shape), x.dtype)
    there = _placed(dev, xp.ones(shape, dtype=xp.bool, device=dev.native), x.shape, key)
    return xp.where(there, _placed(dev, block, x.shape, key), x), None, None


# Functions whose result has a shape that depends on values: they read them, and have no gradient -------------------


def _run(x: Any, name: str) -> Any:
    """The namespace's function of that name applied to the array, its results as tensors."""
    function = getattr(x.device.xp, name)
    out = function(x.array) if x.device.current is None else x.device.current(function, x.array)
    made = [wrap(a, x.device) for a in out] if isinstance(out, tuple) else wrap(out, x.device)
    return type(out)(*made) if hasattr(out, "_fields") else tuple(made) if isinstance(out, tuple) else made


def nonzero(x: Any, /) -> tuple[Any, ...]:
    """The indices of the elements that are not zero: a tensor for each axis.

    >>> tinytorch.nonzero(Tensor([0.0, 1.0, 2.0]))
    (tensor([1, 2], dtype=int64),)
    """
    return _run(x, "nonzero")


def unique_values(x: Any, /) -> Any:
    """The different elements.

    >>> tinytorch.unique_values(Tensor([2.0, 1.0, 2.0]))
    tensor([1., 2.])
    """
    return _run(x, "unique_values")


def unique_counts(x: Any, /) -> Any:
    """The different elements and how often each occurs: a named tuple (values, counts).

    >>> tinytorch.unique_counts(Tensor([2.0, 1.0, 2.0])).counts
    tensor([1, 2], dtype=int64)
    """
    return _run(x, "unique_counts")


def unique_inverse(x: Any, /) -> Any:
    """The different elements and, for each element of x, its index among them: (values, inverse_indices).

    >>> tinytorch.unique_inverse(Tensor([2.0, 1.0, 2.0])).inverse_indices
    tensor([1, 0, 1], dtype=int64)
    """
    return _run(x, "unique_inverse")


def unique_all(x: Any, /) -> Any:
    """The different elements, where each first occurs, and the rest: (values, indices, inverse_indices, counts).

    >>> tinytorch.unique_all(Tensor([2.0, 1.0, 2.0])).indices
    tensor([1, 0], dtype=int64)
    """
    return _run(x, "unique_all")
