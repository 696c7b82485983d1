"""Arrays put together from slices, in names of the array API standard: what extension points do by default.

Every function takes a device, or what stands for one, for its namespace `xp`; images are (C, H, W, N).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

Array = Any
Pair = tuple[int, int]  # of rows, and of columns


def along(axis: int, index: Any) -> tuple[Any, ...]:
    """The key that indexes the axis and takes all of the others."""
    return (*(slice(None),) * axis, index, ...)


def _filled(dev: Any, shape: tuple[int, ...], value: float, dtype: Any) -> Array:
    if value == 0:  # of any dtype, booleans too
        return dev.xp.zeros(shape, dtype=dtype, device=dev.native)
    return dev.xp.full(shape, value, dtype=dtype, device=dev.native)


def padded(dev: Any, x: Array, widths: Sequence[tuple[int, int]], value: float = 0.0) -> Array:
    """An array with `value` before and after it along each axis: (before, after) for each."""
    xp = dev.xp
    for axis, (before, after) in enumerate(widths):
        if before or after:
            ends = [(*x.shape[:axis], n, *x.shape[axis + 1 :]) for n in (before, after)]
            first, last = (_filled(dev, shape, value, x.dtype) for shape in ends)
            x = xp.concat([first, x, last], axis=axis)
    return x


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


@functools.lru_cache(maxsize=256)
def counts(shape: Pair, kernel: Pair, stride: Pair, dilation: Pair) -> Pair:
    """The number of places of a kernel along H and W of a padded image: (n - dilation (k - 1) - 1) // stride + 1."""
    places = []
    for n, k, s, d in zip(shape, kernel, stride, dilation):
        span = d * (k - 1) + 1
        if span > n:
            raise ValueError(f"the kernel spans {span} but the image, with padding, only {n}; pad more")
        places.append((n - span) // s + 1)
    return places[0], places[1]


def shifts(x: Array, kernel: Pair, stride: Pair, dilation: Pair) -> list[Array]:
    """For each offset in the kernel, row by row, the elements under it at all places: slices of x."""
    return [x[key] for key in _keys(x.shape[1:3], kernel, stride, dilation)]


@functools.lru_cache(maxsize=256)
def _keys(shape: Pair, kernel: Pair, stride: Pair, dilation: Pair) -> list[tuple[Any, ...]]:
    (kh, kw), (sh, sw), (dh, dw), (ph, pw) = kernel, stride, dilation, counts(shape, kernel, stride, dilation)
    rows = [slice(i * dh, i * dh + (ph - 1) * sh + 1, sh) for i in range(kh)]
    columns = [slice(j * dw, j * dw + (pw - 1) * sw + 1, sw) for j in range(kw)]
    return [(slice(None), row, column, slice(None)) for row in rows for column in columns]


def unshift(dev: Any, parts: list[Array], shape: Pair, kernel: Pair, stride: Pair, dilation: Pair) -> Array:
    """The gradient of `shifts`: each part added in where its slice was taken from, in an image of the shape (H, W)."""
    kh, kw = kernel
    rows = [_along(dev, parts[i * kw : (i + 1) * kw], 2, stride[1], dilation[1], shape[1]) for i in range(kh)]
    return _along(dev, rows, 1, stride[0], dilation[0], shape[0])


def _along(dev: Any, parts: list[Array], axis: int, stride: int, dilation: int, size: int) -> Array:
    """out[i * stride + k * dilation] = sum of parts[k][i] along the axis, of length `size`."""
    xp, ndim, n = dev.xp, parts[0].ndim, parts[0].shape[axis]
    around = [(0, 0)] * ndim
    if dilation == 1 and len(parts) <= stride:  # windows do not overlap: interleave the parts, and zeros for the gaps
        parts = parts + [xp.zeros_like(parts[0])] * (stride - len(parts))
        lead, rest = parts[0].shape[:axis], parts[0].shape[axis + 1 :]
        out = xp.reshape(xp.stack(parts, axis=axis + 1), (*lead, n * stride, *rest))
        if n * stride > size:
            return out[along(axis, slice(0, size))]
        around[axis] = (0, size - n * stride)
        return padded(dev, out, around)
    out = None
    for k, part in enumerate(parts):
        wide = spaced(dev, part, axis, stride)
        around[axis] = (k * dilation, size - k * dilation - wide.shape[axis])
        wide = padded(dev, wide, around)
        out = wide if out is None else out + wide
    return out
