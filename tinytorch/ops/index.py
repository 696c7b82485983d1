"""Gathering by index, and the scatter that is its gradient.

Gradients sum rows of one index (`Device.scatter_add`). Nothing is mutated here, so that immutable libraries work as
they are. Memory and time are proportional to the arrays.
"""

from __future__ import annotations

import math
from typing import Any

from tinytorch.autograd import op
from tinytorch.backends import Array, Device
from tinytorch.dtypes import whole
from tinytorch.intake import to_array
from tinytorch.ops.axes import axis_of, lengths
from tinytorch.ops.shape import astype, broadcast_to, expand_dims, reshape
from tinytorch.shapes import aligned
from tinytorch.tape.variable import Variable, run_on, wrap
from tinytorch.words import OneTensor, worded

__all__ = [
    "nonzero",
    "repeat",
    "searchsorted",
    "take",
    "take_along_axis",
    "unique_all",
    "unique_counts",
    "unique_inverse",
    "unique_values",
]


def as_index(indices: Any, what: str) -> Any:
    """A tensor of integers as the device's integers; raises TypeError for anything else, in the name of `what`."""
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
        what: the function that was given the indices, for messages.
        negative: whether negative indices are allowed, which count from the end.

    Raises:
        TypeError: the indices are not integers.
        IndexError: an index is out of range (on a GPU, when values are next read).
    """
    indices = as_index(indices, what)
    if negative:
        indices = wrapped(indices, n)
    run_on(indices.device, indices.device.check_index, indices.array, n, what)
    return indices


@op(kinds="iu")
def wrapped(dev: Device, x: Array, /, n: int) -> Any:
    """Negative indices counted from the end of n: x + n where x < 0.

    >>> tinytorch.ops.wrapped(Tensor([0, -1]), 4)
    tensor([0, 3], dtype=int64)
    """
    return dev.xp.where(x < 0, x + n, x), None


@op(free=(1,))
def _take(dev: Device, x: Array, indices: Array, /, *, axis: int) -> Any:
    xp, n = dev.xp, x.shape[axis]
    if axis == 0:
        return xp.take(x, indices, axis=0), lambda g: dev.scatter_add(g, indices, n), None  # (N, ...), of x (n, ...)

    def of_x(g: Array) -> Array:  # (..., N, ...) -> (..., n, ...)
        return xp.moveaxis(dev.scatter_add(xp.moveaxis(g, axis, 0), indices, n), 0, axis)  # (..., n, ...)

    return xp.take(x, indices, axis=axis), of_x, None  # (..., N, ...)


@worded
def take(x: Any, indices: Any, /, *, axis: int | None = None) -> OneTensor:
    """The elements at the indices along the axis. The axis may be left out for one dimension.

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
    axis = axis_of(axis, x.ndim)
    places = checked_index(indices, x.shape[axis], "take", negative=True)
    if places.ndim != 1:
        raise ValueError(f"take: indices have one dimension, not {places.ndim}; see x[indices] for more")
    return _take(x, places, axis=axis)  # (..., N, ...)


def taken(x: Any, places: Any, axis: int = 0) -> Any:
    """`take` without a check: the indices are of the device's own integer dtype, and known to be in [0, n)."""
    return _take(x, places, axis=axis)  # (..., N, ...)


@op(free=(1,))
def _scatter_add(dev: Device, values: Array, indices: Array, /, size: int) -> Any:
    # (size, ...), of values (N, ...)
    return dev.scatter_add(values, indices, size), lambda g: dev.xp.take(g, indices, axis=0), None


@worded
def scatter_add(values: Any, indices: Any, /, size: int) -> Any:
    """Sum rows by index, the gradient of `take`: out[i] is the sum of values[n] over all n with indices[n] == i.

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
    size = whole("scatter_add", size)
    lengths("scatter_add", (size, *values.shape[1:]))
    places = checked_index(indices, size, "scatter_add")
    if places.shape != values.shape[:1]:
        raise ValueError(f"scatter_add: {places.shape} indices for values of shape {values.shape}; one for each row")
    return _scatter_add(values, places, size=size)  # (size, ...)


@op(free=(1,), unfit=aligned)
def _take_along_axis(dev: Device, x: Array, indices: Array, /, *, axis: int) -> Any:
    xp, n = dev.xp, x.shape[axis]

    def of_x(g: Array) -> Array:  # (..., K, ...) -> (..., n, ...)
        lines = xp.moveaxis(g, axis, -1)  # (..., K)
        lead, count = lines.shape[:-1], math.prod(lines.shape[:-1])
        places = xp.broadcast_to(xp.moveaxis(indices, axis, -1), lines.shape)  # (..., K)
        # (count, 1), in one row of lines
        starts = xp.arange(count, dtype=indices.dtype, device=dev.native)[:, None] * n
        # (count * K,)
        flat = xp.reshape(xp.reshape(places, (count, -1)) + starts, (-1,)) if count else xp.reshape(places, (0,))
        summed = dev.scatter_add(xp.reshape(lines, (-1,)), flat, count * n)  # (count * n,)
        return xp.moveaxis(xp.reshape(summed, (*lead, n)), -1, axis)  # (..., n, ...)

    return xp.take_along_axis(x, indices, axis=axis), of_x, None  # (..., K, ...)


@worded
def take_along_axis(x: Any, indices: Any, /, *, axis: int = -1) -> OneTensor:
    """For each line of x along the axis, the elements at the indices in that line of `indices`.

    Args:
        indices: integers, of the shape of x but for the axis (lengths of one broadcast).

    Raises:
        TypeError: the indices are not integers.
        IndexError: an index is outside the axis (on a GPU, when values are next read).

    >>> tinytorch.take_along_axis(Tensor([[1.0, 2.0], [3.0, 4.0]]), Tensor([[1], [0]]), axis=1)
    tensor([[2.],
            [3.]])
    """
    axis = axis_of(axis, x.ndim)
    # (..., K, ...)
    return _take_along_axis(x, checked_index(indices, x.shape[axis], "take_along_axis", negative=True), axis=axis)


@worded
def repeat(x: Any, repeats: int | OneTensor, /, *, axis: int | None = None) -> OneTensor:
    """Each element `repeats` times in a row along the axis; without an axis, of the flattened tensor.

    Args:
        repeats: a number, or an integer tensor with a number for each element along the axis. The values of a tensor
            are read, since the shape of the result depends on them.

    >>> tinytorch.repeat(Tensor([1.0, 2.0]), 2)
    tensor([1., 1., 2., 2.])
    """
    if axis is None:
        x, axis = reshape(x, (-1,)), 0  # (size,)
    axis = axis_of(axis, x.ndim)
    shape = x.shape
    if not isinstance(repeats, Variable):
        repeats = whole("repeat", repeats)
        if repeats < 0:
            raise ValueError(f"repeat: repeats are not negative: {repeats}")
        # (..., n, repeats, ...)
        wide = broadcast_to(expand_dims(x, axis=axis + 1), (*shape[: axis + 1], repeats, *shape[axis + 1 :]))
        return reshape(wide, (*shape[:axis], shape[axis] * repeats, *shape[axis + 1 :]))  # (..., n * repeats, ...)
    if repeats.dtype.kind not in "iu" or repeats.ndim > 1:
        raise TypeError(f"repeat: repeats are integers along one axis, not {repeats.dtype.name} {repeats.shape}")
    counts: Any = repeats.tolist()
    counts = [counts] * shape[axis] if isinstance(counts, int) else counts * (shape[axis] if len(counts) == 1 else 1)
    if any(n < 0 for n in counts):
        raise ValueError(f"repeat: repeats are not negative: {min(counts)}")
    if len(counts) != shape[axis]:
        raise ValueError(f"repeat: {len(counts)} repeats for {shape[axis]} elements along axis {axis}")
    rows = [i for i, n in enumerate(counts) for _ in range(n)]
    return take(x, wrap(*to_array(rows, x.device.default_int, x.device, None)), axis=axis)  # (..., sum(counts), ...)


@op(kinds="iuf", shapes="x1 (N,) and x2 of any shape")
def _searchsorted(dev: Device, x1: Array, x2: Array, /, *, side: str = "left") -> Any:
    if x1.ndim != 1:
        raise ValueError(f"x1 has one axis, not {x1.ndim}")
    places = dev.xp.searchsorted(x1, x2, side=side)  # x2.shape
    return dev.xp.astype(places, dev.dtype(dev.default_int), copy=False), None, None  # JAX (0.10) gives int32


@worded
def searchsorted(x1: Any, x2: Any, /, *, side: str = "left", sorter: OneTensor | None = None) -> OneTensor:
    """Where the elements of x2 belong in x1. x1 is in ascending order, or x1[sorter] is.

    >>> tinytorch.searchsorted(Tensor([1.0, 2.0, 3.0]), Tensor([2.5]))
    tensor([2], dtype=int64)
    """
    if side not in ("left", "right"):
        raise ValueError(f"searchsorted: side is 'left' or 'right', not {side!r}")
    return _searchsorted(x1 if sorter is None else take(x1, sorter, axis=0), x2, side=side)  # x2.shape


# Functions whose shape depends on values: the values are read, and there is no gradient ----------------------------


def _run(x: Any, name: str) -> Any:
    """The results of the namespace's function `name` on the array, as tensors."""
    function = getattr(x.device.xp, name)
    try:
        out = run_on(x.device, function, x.array)
    except NotImplementedError:
        raise NotImplementedError(
            f"{name}: the library of {x.device} has no such function of {x.dtype.name}; use x.cpu()"
        ) from None
    except RuntimeError as error:
        if type(error) is not RuntimeError:  # out of memory, say
            raise
        raise RuntimeError(
            f"{name}: the shape of the result depends on values, which {x.device} does not allow; use x.cpu()"
        ) from None
    made = [wrap(a, x.device) for a in out] if isinstance(out, tuple) else wrap(out, x.device)
    return type(out)(*made) if hasattr(out, "_fields") else tuple(made) if isinstance(out, tuple) else made


@worded
def nonzero(x: Any, /) -> tuple[OneTensor, ...]:
    """The indices of the elements that are not zero, as a tensor for each axis.

    >>> tinytorch.nonzero(Tensor([0.0, 1.0, 2.0]))
    (tensor([1, 2], dtype=int64),)
    """
    if x.ndim == 0:
        raise ValueError("nonzero: a tensor without axes has no indices; write x.reshape((1,))")
    return _run(x, "nonzero")


@worded
def unique_values(x: Any, /) -> OneTensor:
    """The different elements.

    >>> tinytorch.unique_values(Tensor([2.0, 1.0, 2.0]))
    tensor([1., 2.])
    """
    return _run(x, "unique_values")


@worded
def unique_counts(x: Any, /) -> Any:
    """The different elements and how often each occurs: a named tuple (values, counts).

    >>> tinytorch.unique_counts(Tensor([2.0, 1.0, 2.0])).counts
    tensor([1, 2], dtype=int64)
    """
    return _run(x, "unique_counts")


@worded
def unique_inverse(x: Any, /) -> Any:
    """The different elements and, for each element of x, its index among them: (values, inverse_indices).

    >>> tinytorch.unique_inverse(Tensor([2.0, 1.0, 2.0])).inverse_indices
    tensor([1, 0, 1], dtype=int64)
    """
    return _run(x, "unique_inverse")


@worded
def unique_all(x: Any, /) -> Any:
    """The different elements, where each first occurs, and the rest: (values, indices, inverse_indices, counts).

    >>> tinytorch.unique_all(Tensor([2.0, 1.0, 2.0])).indices
    tensor([1, 0], dtype=int64)
    """
    return _run(x, "unique_all")
