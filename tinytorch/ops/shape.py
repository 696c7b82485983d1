"""Rearranging elements: reshaping, moving axes, joining, splitting, padding, repeating, masking triangles, casting.

The file is long because there are many ways to rearrange. Each function is short, and is read by itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinytorch import shapes
from tinytorch.autograd import op
from tinytorch.backends import Array, Device
from tinytorch.backends.standard import along, padded
from tinytorch.dtypes import as_dtype, fitting, number, whole
from tinytorch.ops.axes import axes_of, axis_of, checked, inverse, lengths
from tinytorch.tape.checks import expect_one_device, expect_tensors
from tinytorch.words import OneTensor, worded

__all__ = [
    "astype",
    "broadcast_arrays",
    "broadcast_to",
    "concat",
    "diff",
    "expand_dims",
    "flatten",
    "flip",
    "matrix_transpose",
    "meshgrid",
    "moveaxis",
    "pad",
    "permute_dims",
    "reshape",
    "roll",
    "split",
    "squeeze",
    "stack",
    "tile",
    "tril",
    "triu",
    "unstack",
]

Widths = int | Sequence[int] | Sequence[Sequence[int]]

# One tensor -------------------------------------------------------------------------------------------------------


def _length(n: Any) -> int:
    """A length for `reshape`, or -1."""
    if whole("reshape", n) < -1:
        raise ValueError(f"a length is at least 0, or -1 for what is left over, not {n}")
    return whole("reshape", n)


@op(unfit=shapes.reshaped)
def reshape(dev: Device, x: Array, /, shape: int | tuple[int, ...], *, copy: bool | None = None) -> Any:
    """The elements, in row-major order, in another shape; one length may be -1.

    `copy=True` forbids sharing memory with x. Otherwise the memory may be shared, which never shows.

    >>> tinytorch.reshape(Tensor([1.0, 2.0, 3.0, 4.0]), (2, -1)).shape
    (2, 2)
    """
    xp, before = dev.xp, x.shape
    given = shape if isinstance(shape, tuple | list) else (shape,)
    shape = tuple(n if type(n) is int and n >= -1 else _length(n) for n in given)
    return xp.reshape(x, shape, copy=copy), lambda g: xp.reshape(g, before)  # shape; of x: x.shape


@op
def permute_dims(dev: Device, x: Array, /, axes: tuple[int, ...]) -> Any:
    """The axes in another order: axis i of the result is axis axes[i] of x.

    >>> tinytorch.permute_dims(tinytorch.zeros((2, 3, 4)), (2, 0, 1)).shape
    (4, 2, 3)
    """
    xp, order = dev.xp, axes_of(tuple(axes), x.ndim)
    if len(order) != x.ndim or len(set(order)) != x.ndim:
        raise ValueError(f"axes {tuple(axes)} must name each of the {x.ndim} axes once")
    return xp.permute_dims(x, order), lambda g: xp.permute_dims(g, inverse(order))  # in that order; of x: x.shape


@op
def matrix_transpose(dev: Device, x: Array, /) -> Any:
    """The last two axes exchanged: `x.mT`.

    >>> tinytorch.matrix_transpose(tinytorch.zeros((2, 3, 4))).shape
    (2, 4, 3)
    """
    if x.ndim < 2:
        raise ValueError("a matrix has at least two axes")
    return x.mT, lambda g: g.mT  # (..., N, M) -> (..., M, N); of x (..., N, M)


@op
def expand_dims(dev: Device, x: Array, /, axis: int = 0) -> Any:
    """A new axis of length one at the position `axis` of the result.

    >>> tinytorch.expand_dims(tinytorch.zeros((2, 3)), axis=1).shape
    (2, 1, 3)
    """
    xp, before = dev.xp, x.shape
    # (..., 1, ...); of x: x.shape
    return xp.expand_dims(x, axis=axis_of(axis, x.ndim + 1)), lambda g: xp.reshape(g, before)


@op
def squeeze(dev: Device, x: Array, /, axis: int | tuple[int, ...] | None = None) -> Any:
    """x without the given axes, each of length one; by default without all axes of length one.

    >>> tinytorch.squeeze(tinytorch.zeros((2, 1, 3)), axis=1).shape
    (2, 3)
    """
    xp, before = dev.xp, x.shape
    gone = tuple(i for i, n in enumerate(before) if n == 1) if axis is None else axes_of(axis, x.ndim)
    for i in gone:
        if before[i] != 1:
            raise ValueError(f"axis {i} has length {before[i]}; only axes of length 1 can be taken away")
    after = tuple(n for i, n in enumerate(before) if i not in gone)
    return xp.reshape(x, after), lambda g: xp.reshape(g, before)  # after; of x: x.shape


@op(unfit=shapes.widened)
def broadcast_to(dev: Device, x: Array, /, shape: tuple[int, ...]) -> Any:
    """x repeated along axes of length one, and along new first axes, up to the shape.

    >>> tinytorch.broadcast_to(Tensor([1.0, 2.0]), (3, 2)).shape
    (3, 2)
    """
    return dev.xp.broadcast_to(x, lengths("broadcast_to", shape)), lambda g: g  # shape, the gradient too


@op
def flip(dev: Device, x: Array, /, *, axis: int | tuple[int, ...] | None = None) -> Any:
    """The elements along the axes in reverse; along all axes if none is given.

    >>> tinytorch.flip(Tensor([1.0, 2.0, 3.0]))
    tensor([3., 2., 1.])
    """
    xp, axes = dev.xp, axes_of(axis, x.ndim)
    return xp.flip(x, axis=axes), lambda g: xp.flip(g, axis=axes)


@op
def roll(dev: Device, x: Array, /, shift: int | tuple[int, ...], *, axis: int | tuple[int, ...] | None = None) -> Any:
    """The elements moved by `shift` along the axes. Elements that fall off one end come back at the other.

    Args:
        shift: how far, along every given axis (without an axis, in the flattened array); or a length for each axis.

    >>> tinytorch.roll(Tensor([1.0, 2.0, 3.0]), 1)
    tensor([3., 1., 2.])
    """
    xp, axes = dev.xp, checked(axis, x.ndim)
    several = isinstance(shift, tuple | list)
    far = tuple(whole("roll", s) for s in (shift if isinstance(shift, tuple | list) else (shift,)))
    if several and not (isinstance(axes, tuple) and len(axes) == len(far)):
        raise ValueError(f"shift {shift} needs as many axes, not {axis}")
    if axes is None:
        return xp.roll(x, far[0]), lambda g: xp.roll(g, -far[0])
    axes = axes if isinstance(axes, tuple) else (axes,)
    far = far if several else far * len(axes)
    back = tuple(-s for s in far)
    return xp.roll(x, far, axis=axes), lambda g: xp.roll(g, back, axis=axes)


def _diagonal(x: Array, k: Any) -> int:
    """The number k of a diagonal. Raises ValueError if x has no diagonals."""
    if x.ndim < 2:
        raise ValueError("a matrix has at least two axes")
    return whole("k", k)


@op
def tril(dev: Device, x: Array, /, *, k: int = 0) -> Any:
    """Zero above the k-th diagonal of the last two axes.

    >>> tinytorch.tril(tinytorch.ones((2, 2)))
    tensor([[1., 0.],
            [1., 1.]])
    """
    xp, k = dev.xp, _diagonal(x, k)
    return xp.tril(x, k=k), lambda g: xp.tril(g, k=k)


@op
def triu(dev: Device, x: Array, /, *, k: int = 0) -> Any:
    """Zero below the k-th diagonal of the last two axes.

    >>> tinytorch.triu(tinytorch.ones((2, 2)))
    tensor([[1., 1.],
            [0., 1.]])
    """
    xp, k = dev.xp, _diagonal(x, k)
    return xp.triu(x, k=k), lambda g: xp.triu(g, k=k)


@op
def _astype(dev: Device, x: Array, /, dtype: Any, *, copy: bool = True) -> Any:
    xp = dev.xp
    y = xp.astype(x, dev.dtype(dtype), copy=copy)
    return y, (lambda g: g) if xp.isdtype(y.dtype, "real floating") else None  # the engine casts the gradient back


@worded
def astype(x: Any, dtype: Any, /, *, copy: bool = True, device: str | Device | None = None) -> OneTensor:
    """The elements as another dtype. A gradient comes back in the dtype of x.

    >>> tinytorch.astype(Tensor([1.5, -1.5]), tinytorch.int32)
    tensor([ 1, -1], dtype=int32)
    """
    return _astype(x if device is None else x.to(device=device), as_dtype(dtype), copy=copy)


@op(moves=True)
def transfer(dev: Device, x: Array, /, source: Device, device: Device) -> Any:
    """x of the device `source`, moved to `device`, as `Tensor.to` does. The gradient goes back to `source`.

    >>> x = Tensor([1.0])
    >>> tinytorch.ops.transfer(x, x.device, x.device)
    tensor([1.])
    """
    return dev.transfer(x, source, device), lambda g: dev.transfer(g, device, source)


@worded
def moveaxis(x: Any, source: int | tuple[int, ...], destination: int | tuple[int, ...], /) -> OneTensor:
    """The axes at the positions `source` moved to the positions `destination`; the others keep their order.

    >>> tinytorch.moveaxis(tinytorch.zeros((2, 3, 4)), 0, -1).shape
    (3, 4, 2)
    """
    start, end = axes_of(source, x.ndim), axes_of(destination, x.ndim)
    if len(start) != len(end) or len(set(start)) != len(start) or len(set(end)) != len(end):
        raise ValueError(f"moveaxis: source {source} and destination {destination} must name as many different axes")
    order = [i for i in range(x.ndim) if i not in start]
    for to, axis in sorted(zip(end, start, strict=True)):
        order.insert(to, axis)
    return permute_dims(x, tuple(order))  # axes in that order


@worded
def flatten(x: Any, /, start_axis: int = 0, end_axis: int = -1) -> OneTensor:
    """The axes from `start_axis` to `end_axis`, both included, as one.

    >>> tinytorch.flatten(tinytorch.zeros((2, 3, 4)), start_axis=1).shape
    (2, 12)
    """
    if x.ndim == 0:
        return reshape(x, shape=(1,))  # (1,)
    first, last = axis_of(start_axis, x.ndim), axis_of(end_axis, x.ndim)
    if first > last:
        raise ValueError(f"flatten: start_axis {start_axis} comes after end_axis {end_axis}")
    # (..., K, ...)
    return reshape(x, shape=(*x.shape[:first], math.prod(x.shape[first : last + 1]), *x.shape[last + 1 :]))


# Several tensors --------------------------------------------------------------------------------------------------


@op(unfit=shapes.joined)
def _concat(dev: Device, *arrays: Array, axis: int) -> Any:
    xp = dev.xp
    axis = axis_of(axis, arrays[0].ndim)
    rules, start = [], 0
    for a in arrays:
        part = along(axis, slice(start, start + a.shape[axis]))
        rules.append(lambda g, part=part: g[part])  # (..., n, ...) as the array
        start += a.shape[axis]
    return xp.concat(list(arrays), axis=axis), *rules  # (..., sum of n, ...)


@worded
def concat(arrays: Sequence[OneTensor], /, axis: int | None = 0) -> OneTensor:
    """The tensors joined along an existing axis; with `axis=None` flattened and joined.

    Raises:
        ValueError: there are no tensors, or their other axes differ.

    >>> tinytorch.concat([Tensor([1.0]), Tensor([2.0, 3.0])])
    tensor([1., 2., 3.])
    """
    if not arrays:
        raise ValueError("concat: takes at least one tensor")
    if axis is None:
        expect_one_device("concat", *arrays)
        arrays = [reshape(a, (-1,)) for a in arrays]  # each (size,)
    return _concat(*arrays, axis=0 if axis is None else axis)  # (..., sum of n, ...)


@worded
def stack(arrays: Sequence[OneTensor], /, axis: int = 0) -> OneTensor:
    """The tensors, of one shape, joined along a new axis.

    Raises:
        ValueError: there are no tensors, or their shapes differ.

    >>> tinytorch.stack([Tensor([1.0, 2.0]), Tensor([3.0, 4.0])], axis=1)
    tensor([[1., 3.],
            [2., 4.]])
    """
    expect_tensors("stack", *arrays)
    if not arrays:
        raise ValueError("stack: takes at least one tensor")
    expect_one_device("stack", *arrays)
    found = [tuple(a.shape) for a in arrays]
    if len(set(found)) != 1:
        raise ValueError(f"stack: takes tensors of one shape, not {found}")
    # (..., len(arrays), ...)
    return concat([expand_dims(a, axis=axis) for a in arrays], axis=axis_of(axis, len(found[0]) + 1))


@worded
def unstack(x: Any, /, *, axis: int = 0) -> tuple[OneTensor, ...]:
    """The tensors that `stack` would join to x.

    >>> tinytorch.unstack(Tensor([[1.0, 2.0], [3.0, 4.0]]))
    (tensor([1., 2.]), tensor([3., 4.]))
    """
    axis = axis_of(axis, x.ndim)
    return tuple(x[along(axis, i)] for i in range(x.shape[axis]))  # each x.shape without axis


@worded
def split(x: Any, split_size_or_sections: int | Sequence[int], /, axis: int = 0) -> tuple[OneTensor, ...]:
    """Consecutive parts along the axis, as in PyTorch: of one size (the last may be smaller), or of the given sizes.

    >>> tinytorch.split(Tensor([1.0, 2.0, 3.0]), 2)
    (tensor([1., 2.]), tensor([3.]))
    >>> tinytorch.split(Tensor([1.0, 2.0, 3.0]), [1, 2])
    (tensor([1.]), tensor([2., 3.]))
    """
    axis = axis_of(axis, x.ndim)
    n = x.shape[axis]
    if not isinstance(split_size_or_sections, tuple | list):
        size = whole("split", split_size_or_sections)
        if size <= 0:
            raise ValueError(f"split: the size of a part is at least 1, not {size}")
        sizes = [min(size, n - i) for i in range(0, n, size)]
    else:
        sizes = [whole("split", size) for size in split_size_or_sections]
        if sum(sizes) != n or any(size < 0 for size in sizes):
            raise ValueError(f"split: sizes {sizes} add up to {sum(sizes)}, but axis {axis} has length {n}")
    parts, start = [], 0
    for size in sizes:
        parts.append(x[along(axis, slice(start, start + size))])  # (..., size, ...)
        start += size
    return tuple(parts)


@op
def pad(dev: Device, x: Array, /, pad_width: Widths, *, value: float = 0.0) -> Any:
    """x with `value` around it.

    Args:
        pad_width: (before, after) for each axis, as in NumPy; or one pair, or one number, for all axes.

    >>> tinytorch.pad(Tensor([1.0, 2.0]), (1, 2))
    tensor([0., 1., 2., 0., 0.])
    """
    value = fitting("pad", number("pad", value), dev.dtype_of(x))
    pad_width = pad_width.tolist() if isinstance(pad_width, np.ndarray) else pad_width
    try:
        if not isinstance(pad_width, tuple | list):
            widths = [(whole("pad", pad_width),) * 2] * x.ndim
        elif len(pad_width) == 2 and not any(isinstance(n, tuple | list) for n in pad_width):
            widths = [(whole("pad", pad_width[0]), whole("pad", pad_width[1]))] * x.ndim
        else:
            widths = [(whole("pad", before), whole("pad", after)) for before, after in pad_width]
    except (TypeError, ValueError):  # not pairs of integers
        widths = []
    if len(widths) != x.ndim or any(n < 0 for pair in widths for n in pair):
        raise ValueError(f"pad_width takes a pair of lengths, not negative, for each of {x.ndim} axes, not {pad_width}")
    lengths("pad", [n + before + after for (before, after), n in zip(widths, x.shape)])
    inner = tuple(slice(before, before + n) for (before, _), n in zip(widths, x.shape, strict=True))
    return padded(dev, x, widths, value), lambda g: g[inner]  # (before + n + after, ...); of x: x.shape


@worded
def tile(x: Any, repetitions: tuple[int, ...], /) -> OneTensor:
    """x side by side, `repetitions[i]` times along axis i; x gets new first axes as needed.

    >>> tinytorch.tile(Tensor([1.0, 2.0]), (2, 2))
    tensor([[1., 2., 1., 2.],
            [1., 2., 1., 2.]])
    """
    given = lengths("tile", repetitions)
    ndim = max(len(given), x.ndim)
    times = (1,) * (ndim - len(given)) + given
    shape = (1,) * (ndim - x.ndim) + tuple(x.shape)
    thin = reshape(x, tuple(n for size in shape for n in (1, size)))  # (1, n, 1, m, ...)
    wide = broadcast_to(thin, tuple(n for pair in zip(times, shape, strict=True) for n in pair))  # (s, n, t, m, ...)
    return reshape(wide, tuple(t * n for t, n in zip(times, shape, strict=True)))  # (s * n, t * m, ...)


@worded
def broadcast_arrays(*arrays: Any) -> list[OneTensor]:
    """The tensors broadcast to their common shape.

    >>> a, b = tinytorch.broadcast_arrays(tinytorch.zeros((2, 1)), tinytorch.zeros((3,)))
    >>> a.shape, b.shape
    ((2, 3), (2, 3))
    """
    found = [tuple(a.shape) for a in arrays]
    wrong = shapes.broadcast(found)
    if wrong:
        raise ValueError(f"broadcast_arrays: {wrong}")
    shape = np.broadcast_shapes(*found)
    return [broadcast_to(a, shape) for a in arrays]  # each shape


@worded
def meshgrid(*arrays: Any, indexing: str = "xy") -> list[OneTensor]:
    """Coordinate tensors of a grid, from the coordinates along each axis.

    Args:
        indexing: "xy" exchanges the first two axes (columns come first), "ij" does not.

    >>> a, b = tinytorch.meshgrid(Tensor([1.0, 2.0]), Tensor([3.0, 4.0, 5.0]))
    >>> a.shape
    (3, 2)
    """
    if indexing not in ("xy", "ij"):
        raise ValueError(f"meshgrid: indexing is 'xy' or 'ij', not {indexing!r}")
    if any(a.ndim > 1 for a in arrays):
        raise ValueError(f"meshgrid: takes tensors of one dimension, not {[a.ndim for a in arrays]}")
    order = list(range(len(arrays)))
    if indexing == "xy" and len(arrays) > 1:
        order[:2] = [1, 0]
    thin = [
        reshape(a, tuple(-1 if axis == i else 1 for axis in range(len(arrays))))  # (1, ..., n, ..., 1), n at axis i
        for i, a in zip(order, arrays, strict=True)
    ]
    return broadcast_arrays(*thin)  # each (N, M, ...): "ij" of N, M, ... coordinates, "xy" of M, N, ...


@worded
def diff(
    x: Any, /, *, axis: int = -1, n: int = 1, prepend: OneTensor | None = None, append: OneTensor | None = None
) -> OneTensor:
    """Differences of neighbours along the axis, x[1:] - x[:-1], n times over.

    Args:
        prepend, append: tensors that are first joined to x, in front and at the end.

    Raises:
        ValueError: n is negative, or 0 with something to join.

    >>> tinytorch.diff(Tensor([1.0, 3.0, 6.0]))
    tensor([2., 3.])
    """
    axis, n = axis_of(axis, x.ndim), whole("diff", n)
    parts = [a for a in (prepend, x, append) if a is not None]
    if n < 0 or (n == 0 and len(parts) > 1):
        raise ValueError(f"diff: n is at least {1 if len(parts) > 1 else 0}, not {n}")
    x = concat(parts, axis=axis)  # (..., K, ...)
    for _ in range(min(n, x.shape[axis])):  # then nothing is left
        x = x[along(axis, slice(1, None))] - x[along(axis, slice(None, -1))]  # (..., K - 1, ...)
    return x
