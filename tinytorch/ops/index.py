"""Indexing: `x[...]` and `x[...] = v`, gathering by index, and the scatter that is its gradient.

Slices get their gradient by putting zeros around it, integer indices by summing rows with `Device.scatter_add`: nothing
is mutated, so that immutable libraries work as they are.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from tinytorch.autograd import Variable, expect_one_device, is_grad_enabled, op, run_on, wrap
from tinytorch.backends import Array, Device
from tinytorch.backends.standard import padded, spaced
from tinytorch.ops.axes import axes_of
from tinytorch.ops.elementwise import clip, where
from tinytorch.ops.reduce import cumulative_sum
from tinytorch.ops.reduce import max as largest
from tinytorch.ops.shape import astype, broadcast_to, reshape

__all__ = [
    "nonzero",
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

    def forwards(self) -> slice:
        """The elements in ascending order, with no bound outside the axis: the standard does not say what that does."""
        last = self.start + (self.length - 1) * self.step
        return slice(self.start, last + 1, self.step) if self.length else slice(0, 0)


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
    y = x[tuple(p.start if p.dropped else p.forwards() for p in parts)]
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


@op
def _getitem(dev: Device, x: Array, /, key: tuple[Any, ...]) -> Any:
    shape = x.shape
    return _sliced(dev, x, key), lambda g: _placed(dev, g, shape, key)


# Integer indices --------------------------------------------------------------------------------------------------


def as_index(indices: Any, what: str) -> Any:
    """An integer tensor as the device's integers. Raises TypeError if it is something else; `what` says whose it is."""
    if not isinstance(indices, Variable):
        raise TypeError(f"{what}: indices are a Tensor, not {type(indices).__name__}; use tinytorch.asarray(...)")
    dtype = indices.dtype
    if dtype.kind not in "iu":
        raise TypeError(f"{what}: indices are integers, not {dtype.name}; convert with .astype(...)")
    default = indices.device.default_int
    return indices if dtype == default else astype(indices, default)


def checked_index(indices: Any, n: int, what: str, *, negative: bool = False) -> Any:
    """An integer tensor of indices into n elements, as the device's integers.

    Args:
        what: whose indices they are, for messages.
        negative: whether negative ones are allowed, and counted from the end.

    Raises:
        TypeError: they are not integers.
        IndexError: one is out of range (on a GPU, when values are next read).
    """
    indices = as_index(indices, what)
    if negative:
        indices = _wrapped(indices, n)
    run_on(indices.device, indices.device.check_index, indices.array, n, what)
    return indices


@op(kinds="iu")
def _wrapped(dev: Device, x: Array, /, n: int) -> Any:
    return dev.xp.where(x < 0, x + n, x), None


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
        TypeError: the indices are not integers.
        IndexError: an index is outside the axis (on a GPU, when values are next read).

    >>> tinytorch.take(Tensor([10.0, 20.0, 30.0]), Tensor([2, 0, 2]))
    tensor([30., 10., 30.])
    """
    if axis is None:
        if x.ndim != 1:
            raise ValueError(f"take: {x.ndim} dimensions need an axis")
        axis = 0
    axis = axes_of(axis, x.ndim)[0]
    places = checked_index(indices, x.shape[axis], "take", negative=True)
    if places.ndim != 1:
        raise ValueError(f"take: indices have one dimension, not {places.ndim}; see x[indices] for more")
    return _take(x, places, axis=axis)


@op(apart=(1,))
def _scatter_add(dev: Device, values: Array, indices: Array, /, size: int) -> Any:
    return dev.scatter_add(values, indices, size), lambda g: dev.xp.take(g, indices, axis=0), None


def scatter_add(values: Any, indices: Any, /, size: int) -> Any:
    """Sum rows by index: out[i] is the sum of values[n] over all n with indices[n] == i. The gradient of `take`.

    Args:
        values: (N, ...).
        indices: (N,), integers in [0, size); they may repeat.
        size: the length of the first axis of the result.

    Raises:
        TypeError: the indices are not integers.
        IndexError: an index is outside [0, size) (on a GPU, when values are next read).

    >>> tinytorch.ops.scatter_add(Tensor([1.0, 2.0, 3.0]), Tensor([0, 2, 0]), size=3)
    tensor([4., 0., 2.])
    """
    places = checked_index(indices, size, "scatter_add")
    if places.shape != values.shape[:1]:
        raise ValueError(f"scatter_add: {places.shape} indices for values of shape {values.shape}; one for each row")
    return _scatter_add(values, places, size=size)


@op(apart=(1,))
def _take_along_axis(dev: Device, x: Array, indices: Array, /, *, axis: int) -> Any:
    xp, n = dev.xp, x.shape[axis]

    def of_x(g: Array) -> Array:  # out[..., j] = sum of g[..., i] over the i whose index is j
        at = xp.arange(n, dtype=indices.dtype, device=dev.native)
        lines, places = xp.moveaxis(g, axis, -1), xp.moveaxis(indices, axis, -1)
        hits = xp.where(places[..., :, None] == at, lines[..., :, None], 0.0)  # (..., i, j)
        return xp.moveaxis(xp.sum(hits, axis=-2), -1, axis)

    return xp.take_along_axis(x, indices, axis=axis), of_x, None


def take_along_axis(x: Any, indices: Any, /, *, axis: int = -1) -> Any:
    """For each line of x along the axis the elements at the indices in the same line of `indices`.

    The gradient compares every index with every place of its line: it takes memory for all these pairs.

    Args:
        indices: integers, of the shape of x but for the axis (lengths of one broadcast).

    Raises:
        TypeError: the indices are not integers.
        IndexError: an index is outside the axis (on a GPU, when values are next read).

    >>> tinytorch.take_along_axis(Tensor([[1.0, 2.0], [3.0, 4.0]]), Tensor([[1], [0]]), axis=1)
    tensor([[2.],
            [3.]])
    """
    axis = axes_of(axis, x.ndim)[0]
    return _take_along_axis(x, checked_index(indices, x.shape[axis], "take_along_axis", negative=True), axis=axis)


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
        part = _getitem(x, key=keys)
        part.shared = True  # so that x[i][j] = value, which would not reach x, is refused
        return part
    first, last = arrays[0], arrays[-1]
    lead, rest = keys[: last + 1], keys[last + 1 :]
    if keys[first].dtype.kind == "b":
        if len(lead) > 1 or any(k != slice(None) for k in rest):
            raise IndexError("getitem: a boolean tensor stands alone; index in two steps, as in x[mask][:, i]")
        mask = keys[first]
        rows = reshape(x, (math.prod(x.shape[: mask.ndim]), *x.shape[mask.ndim :]))
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
    places = checked_index(keys[first], sliced.shape[first], "getitem", negative=True)
    y = _take(sliced, reshape(places, (-1,)), axis=first)
    return reshape(y, (*sliced.shape[:first], *places.shape, *sliced.shape[first + 1 :]))


def _keys(x: Any, key: Any) -> tuple[Any, ...]:
    """The key as a tuple of integers, slices, None and tensors that says something of every axis."""
    keys: list[Any] = []
    axes = 0
    for k in key if isinstance(key, tuple) else (key,):
        if isinstance(k, list | np.ndarray):
            from tinytorch.creation import asarray

            k = asarray(k, dtype=x.device.default_int if len(k) == 0 else None, device=x.device)
        if isinstance(k, Variable):
            expect_one_device("x[...]", x, k)
            kind = x.device.dtype_of(k.array).kind
            if kind not in "biu":
                raise IndexError(
                    f"getitem: an index tensor holds integers or booleans, not {k.device.dtype_of(k.array)}"
                )
            lengths = x.shape[axes : axes + k.ndim]
            if kind == "b" and (len(lengths) < k.ndim or any(m not in (0, n) for m, n in zip(k.shape, lengths))):
                raise IndexError(
                    f"getitem: a mask of shape {tuple(k.shape)} does not fit shape {tuple(x.shape)}; "
                    "it must have the lengths of the axes it stands for, or 0"
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


def _flat(x: Any, lead: tuple[Any, ...]) -> tuple[Any, Any]:
    """x with its leading axes as one, and integers and integer tensors that index them as one index into that one."""
    rest = x.shape[len(lead) :]
    flat: Any = 0
    for k, n in zip(lead, x.shape):
        if isinstance(k, int) and not -n <= k < n:
            raise IndexError(f"index {k} is outside an axis of length {n}")
        flat = flat * n + (k % n if isinstance(k, int) else checked_index(k, n, "getitem", negative=True))
    return reshape(x, (math.prod(x.shape[: len(lead)]), *rest)), flat


def _gather(x: Any, lead: tuple[Any, ...]) -> Any:
    """x[lead], for integers and integer tensors."""
    rows, flat = _flat(x, lead)
    return reshape(_take(rows, reshape(flat, (-1,)), axis=0), (*flat.shape, *rows.shape[1:]))


def may_change(x: Any, written: str, instead: str) -> None:
    """Raise RuntimeError if the tensor must not be changed now.

    A leaf that requires a gradient may be changed only while nothing is recorded, and a recorded tensor only while
    everything is: otherwise a gradient would be of values that are no longer there.
    """
    if x._requires_grad and x.node is None and is_grad_enabled():
        raise RuntimeError(
            f"{written}: x is a leaf that requires a gradient, which would be lost; do it under tinytorch.no_grad(), "
            f"or write {instead}"
        )
    if x.node is not None and not is_grad_enabled():
        raise RuntimeError(f"{written}: x is part of a graph, and this would not be recorded; write {instead}")


def setitem(x: Any, key: Any, value: Any) -> None:
    """x[key] = value, for integers, slices, `...` and None, integer tensors in front, or a boolean tensor alone.

    The tensor gets a new array: views of the old one, and graphs recorded with it, keep the old values. The assignment
    is recorded, so that gradients reach the value. Where an index occurs twice, the last value stays. Of a mask and a
    value with axes the number of true elements is read.

    Raises:
        RuntimeError: x is a leaf that requires a gradient, or was detached or sliced from another tensor, which would
            not see the change.
        IndexError: an index is outside its axis, or the key mixes what cannot be mixed.
    """
    may_change(x, "x[...] = value", "x = tinytorch.where(mask, value, x)")
    if x.shared:
        raise RuntimeError(
            "x[...] = value: x was detached or sliced from another tensor, which would not see the change; write into "
            "x.copy(), or into the other tensor: x[i, j] = value instead of x[i][j] = value, and under "
            "tinytorch.no_grad() if it is a leaf that requires a gradient"
        )
    expect_one_device("x[...] = value", x, value)
    keys = _keys(x, key)
    arrays = [i for i, k in enumerate(keys) if isinstance(k, Variable)]
    lead, rest = (keys[: arrays[-1] + 1], keys[arrays[-1] + 1 :]) if arrays else ((), keys)
    if not arrays:
        new = _setitem(x, value, key=keys)
    elif any(k != slice(None) for k in rest):
        raise IndexError(_STEPS)
    elif keys[arrays[0]].dtype.kind == "b" and len(lead) == 1:
        new = _masked(x, keys[0], value)
    elif all(isinstance(k, int | Variable) and getattr(k, "dtype", x.device.default_int).kind != "b" for k in lead):
        new = _at_rows(x, lead, value)
    else:
        raise IndexError(_STEPS)
    new = new.to(x.dtype)
    x.assign(new.array, new.node)


_STEPS = (
    "x[...] = value: takes integers and slices, integer tensors in front, or a boolean tensor alone; write "
    "x = tinytorch.where(mask, value, x) for more"
)


def _at_rows(x: Any, lead: tuple[Any, ...], value: Any) -> Any:
    """x with the value, which broadcasts against x[lead], at integer tensors and integers; the last of equals stays."""
    rows, flat = _flat(x, lead)
    places, rest = reshape(flat, (-1,)), rows.shape[1:]
    if places.size == 0:
        return x
    each, nth = (_counting(n, x.device) for n in (rows.shape[0], places.size))
    last = largest(where(places[None, :] == each[:, None], nth[None, :], -1), axis=1)  # of each row; -1: not there
    hit = reshape(last >= 0, (-1, *(1,) * len(rest)))
    if isinstance(value, Variable):
        values = reshape(broadcast_to(value, (*flat.shape, *rest)), (places.size, *rest))
        value = _take(values, clip(last, min=0), axis=0)
    return reshape(where(hit, value, rows), x.shape)


def _counting(n: int, device: Device) -> Any:
    """The integers from 0 to n - 1."""
    dtype = device.dtype(device.default_int)
    return wrap(run_on(device, lambda: device.xp.arange(n, dtype=dtype, device=device.native)), device)


def _masked(x: Any, mask: Any, value: Any) -> Any:
    """x with the value, which broadcasts against x[mask], where the mask is true."""
    if mask.size == 0:  # it selects nothing, and may be of another shape than x
        return x
    rest = x.shape[mask.ndim :]
    wide = reshape(mask, (*mask.shape, *(1,) * len(rest)))
    if not isinstance(value, Variable) or value.ndim == 0:
        return where(wide, value, x)
    nth = cumulative_sum(astype(reshape(mask, (-1,)), x.device.default_int))  # 1, 2, ... where the mask is true
    rows = broadcast_to(value, (int(nth[-1]), *rest))
    if rows.size == 0:
        return x
    chosen = _take(rows, clip(nth - 1, min=0), axis=0)
    return where(wide, reshape(chosen, (*mask.shape, *rest)), x)


@op
def _setitem(dev: Device, x: Array, value: Array, /, key: tuple[Any, ...]) -> Any:
    xp = dev.xp
    shape = _sliced(dev, x, key).shape
    if isinstance(value, bool | int | float):
        block = xp.full(shape, value, dtype=x.dtype, device=dev.native)
    else:
        block = xp.astype(xp.broadcast_to(value, shape), x.dtype)
    there = _placed(dev, xp.ones(shape, dtype=xp.bool, device=dev.native), x.shape, key)
    return (
        xp.where(there, _placed(dev, block, x.shape, key), x),
        lambda g: xp.where(there, 0.0, g),
        lambda g: _sliced(dev, g, key),
    )


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
