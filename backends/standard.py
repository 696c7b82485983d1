"""The defaults of a device's extension points, in names of the array API standard, and helpers.

A function with the name of an extension point is the default of this point, as described in `Device`. Every function
takes a device, or a stand-in with a namespace `xp`. Images are (C, H, W, N). The file is long: it has a default for
each point.
"""

from __future__ import annotations

import functools
import heapq
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinytorch.backends.forks import importing

Array = Any  # an array of whatever library the device uses: the standard has no common base class
Pair = tuple[int, int]  # for rows and for columns
Key = tuple[slice, ...]  # a slice for each axis, with start, stop and a positive step


def along(axis: int, index: Any) -> tuple[Any, ...]:
    """The key that indexes one axis and takes all other axes whole."""
    return (*(slice(None),) * axis, index, ...)


def _filled(dev: Any, shape: tuple[int, ...], value: float, dtype: Any) -> Array:
    if value == 0:  # zeros, of any dtype, also bool
        return dev.xp.zeros(shape, dtype=dtype, device=dev.native)
    return dev.xp.full(shape, value, dtype=dtype, device=dev.native)


def padded(dev: Any, x: Array, widths: Sequence[tuple[int, int]], value: float = 0.0) -> Array:
    """The array with `value` before and after it; `widths` has (before, after) for each axis."""
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


def add_parts(dev: Any, parts: Sequence[Array], keys: Sequence[Key], shape: tuple[int, ...], axis: int = 0) -> Array:
    """See `Device.add_parts`. Keys and shape count from `axis` on; the axes before are as long as in the parts.

    Parts with one slice of this axis become one block, by a call for the next axis. Blocks that do not overlap are
    joined along this axis, with zeros between them: such a row of blocks is a layer. The result is the sum of layers.
    """
    xp = dev.xp
    if axis == len(shape):
        return functools.reduce(lambda a, b: a + b, parts)
    same: dict[tuple[int, int, int], list[int]] = {}
    for i, key in enumerate(keys):
        k = key[axis]
        same.setdefault((k.start, k.stop, k.step or 1), []).append(i)
    layers: list[list[tuple[int, Array]]] = []  # each of blocks, with their starts
    ends: list[tuple[int, int]] = []  # a heap: where each layer ends
    for (start, _, step), chosen in sorted(same.items()):
        block = add_parts(dev, [parts[i] for i in chosen], [keys[i] for i in chosen], shape, axis + 1)
        block = spaced(dev, block, axis, step)
        if ends and ends[0][0] <= start:
            which = heapq.heappop(ends)[1]
        else:
            which = len(layers)
            layers.append([])
        layers[which].append((start, block))
        heapq.heappush(ends, (start + block.shape[axis], which))
    wholes = [_joined(dev, layer, axis, shape[axis]) for layer in layers]
    out = functools.reduce(lambda a, b: a + b, wholes)
    return out if out.dtype == parts[0].dtype else xp.astype(out, parts[0].dtype)


def added(out: Array, parts: Sequence[Array], keys: Sequence[Key]) -> Array:
    """`out` with each part added at its key: for libraries whose arrays can be written into."""
    for part, key in zip(parts, keys):
        under = out[(*key, ...)]  # `...`: else NumPy gives a number for no axes, not a view
        under += part
    return out


def added_up(xp: Any, x: Array, axis: int | None, dtype: Any, include_initial: bool) -> Array:
    """The cumulative sum, for float32 computed in float64, as otherwise the errors of all steps add up."""
    own = x.dtype if dtype is None else dtype
    if own != xp.float32:
        return xp.cumulative_sum(x, axis=axis, dtype=dtype, include_initial=include_initial)
    return xp.astype(xp.cumulative_sum(x, axis=axis, dtype=xp.float64, include_initial=include_initial), own)


def backwards(array: Any) -> bool:
    """Whether elements lie backwards in memory. An array whose elements do ends the process in PyTorch (2.13)."""
    return any(s < 0 for s in array.strides)


def _joined(dev: Any, blocks: list[tuple[int, Array]], axis: int, size: int) -> Array:
    """The blocks (start, block) along an axis of length `size`, with zeros between them."""
    like = blocks[0][1]
    pieces, end = [], 0
    for start, block in [*blocks, (size, None)]:
        if start > end:
            gap = (*like.shape[:axis], start - end, *like.shape[axis + 1 :])
            pieces.append(dev.xp.zeros(gap, dtype=like.dtype, device=dev.native))
        if block is not None:
            pieces.append(block)
            end = start + block.shape[axis]
    return dev.xp.concat(pieces, axis=axis) if len(pieces) > 1 else pieces[0]


def put(dev: Any, x: Array, key: Key | Array, values: Array) -> Array:
    """A copy of x with `x[key] = values`, for a slice for each axis, or integers for the first axis."""
    xp = dev.xp
    if not isinstance(key, tuple):
        last = last_of(dev, key, x.shape[0])  # for each row the place of its value, or -1
        values = xp.broadcast_to(values, (key.shape[0], *x.shape[1:]))
        if key.shape[0] == 0 or x.shape[0] == 0:
            return xp.asarray(x, copy=True)
        chosen = xp.take(values, xp.where(last < 0, 0, last), axis=0)
        return xp.where(xp.reshape(last >= 0, (-1, *(1,) * (x.ndim - 1))), chosen, x)
    shape = tuple(len(range(k.start, k.stop, k.step)) for k in key)
    there = xp.ones(shape, dtype=xp.bool, device=dev.native)
    values = xp.broadcast_to(values, shape)
    for axis, (k, n) in enumerate(zip(key, x.shape)):
        around = [(0, 0)] * x.ndim
        there, values = spaced(dev, there, axis, k.step), spaced(dev, values, axis, k.step)
        around[axis] = (k.start, n - k.start - values.shape[axis]) if values.shape[axis] else (0, n)
        there, values = padded(dev, there, around), padded(dev, values, around)
    return xp.where(there, values, x)


def last_of(dev: Any, indices: Array, size: int) -> Array:
    """For each i in [0, size) the last place of i among the indices, or -1."""
    xp = dev.xp
    order = xp.argsort(indices, stable=True)
    ordered = xp.take(indices, order)
    rows = xp.arange(size, dtype=indices.dtype, device=dev.native)
    at = xp.searchsorted(ordered, rows, side="right") - 1
    inside = xp.where(at < 0, 0, at)
    if indices.shape[0] == 0:
        return xp.full((size,), -1, dtype=indices.dtype, device=dev.native)
    return xp.where((at >= 0) & (xp.take(ordered, inside) == rows), xp.take(order, inside), -1)


def scatter_add(dev: Any, values: Array, indices: Array, size: int) -> Array:
    """out[i] = the sum of values[n] over all n with indices[n] == i: (N, ...) -> (size, ...)."""
    xp, n = dev.xp, indices.shape[0]
    order = xp.argsort(indices, stable=True)
    ordered, sums = xp.take(indices, order), xp.take(values, order, axis=0)
    step = 1
    while step < n:  # sums[i]: over the last `step` rows up to i with the index of row i
        same = xp.reshape(ordered[step:] == ordered[:-step], (-1, *(1,) * (values.ndim - 1)))
        head, tail = sums[:step, ...], sums[step:, ...]
        sums = xp.concat([head, xp.where(same, tail + sums[:-step, ...], tail)], axis=0)
        step *= 2
    zeros = xp.zeros((size, *values.shape[1:]), dtype=values.dtype, device=dev.native)
    if n == 0 or size == 0:
        return zeros
    last = last_of(dev, ordered, size)
    found = xp.take(sums, xp.where(last < 0, 0, last), axis=0)
    return xp.where(xp.reshape(last >= 0, (-1, *(1,) * (values.ndim - 1))), found, zeros)


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
    """A slice of x for each offset in the kernel, row by row: the elements under that offset at all places."""
    return [x[key] for key in _keys(x.shape[1:3], kernel, stride, dilation)]


@functools.lru_cache(maxsize=256)
def _keys(shape: Pair, kernel: Pair, stride: Pair, dilation: Pair) -> list[tuple[Any, ...]]:
    (kh, kw), (sh, sw), (dh, dw), (ph, pw) = kernel, stride, dilation, counts(shape, kernel, stride, dilation)
    rows = [slice(i * dh, i * dh + (ph - 1) * sh + 1, sh) for i in range(kh)]
    columns = [slice(j * dw, j * dw + (pw - 1) * sw + 1, sw) for j in range(kw)]
    return [(slice(None), row, column, slice(None)) for row in rows for column in columns]


def unshift(dev: Any, parts: list[Array], shape: Pair, kernel: Pair, stride: Pair, dilation: Pair) -> Array:
    """The gradient of `shifts`: each part added in at the places of its slice, in an image of the shape (H, W)."""
    kh, kw = kernel
    rows = [_along(dev, parts[i * kw : (i + 1) * kw], 2, stride[1], dilation[1], shape[1]) for i in range(kh)]
    return _along(dev, rows, 1, stride[0], dilation[0], shape[0])


def _along(dev: Any, parts: list[Array], axis: int, stride: int, dilation: int, size: int) -> Array:
    """out[i * stride + k * dilation] = sum of parts[k][i] along the axis, of length `size`."""
    xp, ndim, n = dev.xp, parts[0].ndim, parts[0].shape[axis]
    around = [(0, 0)] * ndim
    if dilation == 1 and len(parts) <= stride:  # no two windows overlap: interleave the parts, with zeros in gaps
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


def windows(dev: Any, x: Array, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Array:
    """See `Device.windows`."""
    xp, (kh, kw) = dev.xp, kernel
    wide = padded(dev, x, [(0, 0), *((p, p) for p in padding), (0, 0)])
    stacked = xp.stack(shifts(wide, kernel, stride, dilation), axis=1)
    return xp.reshape(stacked, (x.shape[0], kh, kw, *stacked.shape[2:]))


def add_windows(
    dev: Any, parts: list[Array], size: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> Array:
    """See `Device.add_windows`."""
    (H, W), (ph, pw) = size, padding
    wide = unshift(dev, parts, (H + 2 * ph, W + 2 * pw), kernel, stride, dilation)
    return wide[:, ph : ph + H, pw : pw + W, :]


def erf(dev: Any, x: Array) -> Array:
    """See `Device.erf`."""
    xp = dev.xp
    if dev.dtype_of(x).itemsize <= 4:
        z = xp.clip(x, -_ERF_LIMIT, _ERF_LIMIT)
        square = z * z
        y = _polynomial(square, _ERF_ABOVE)
        y *= z
        y /= _polynomial(square, _ERF_BELOW)
        return xp.clip(y, -1.0, 1.0)
    z = xp.minimum(xp.abs(x), 9.0)  # 1 - erfc(9) rounds to 1
    tail, series = _erf_coefficients()
    p = _polynomial((4.0 - z) / (4.0 + z), tail)
    q = _polynomial(xp.minimum(z, 1.0) ** 2, series)
    return xp.where(z < 1.0, x * q, xp.sign(x) * (1.0 - xp.exp(-z * z) * p))


# erf(x) / x for x up to the limit, from the highest power of x**2. tools/fit_erf.py has made the largest relative error
# least, 3e-8. At the limit the quotient times x is 1, which erf is to half a unit in the last place.
_ERF_LIMIT = 4.0
_ERF_ABOVE = [1.98676503e-06, 0.000284564623, 0.00388334529, 0.053101752, 0.193545297, 1.12837911]
_ERF_BELOW = [3.74199226e-05, 0.00118556886, 0.0152072562, 0.115350075, 0.50485760, 1.0]


def _polynomial(x: Array, coefficients: list[float]) -> Array:
    """The polynomial of x with the coefficients, from the highest power."""
    p = x * coefficients[0]
    for c in coefficients[1:-1]:
        p += c
        p *= x
    p += coefficients[-1]
    return p


@functools.cache
def _erf_coefficients() -> tuple[list[float], list[float]]:
    """From the highest power: erfc(z) * exp(z**2) as a polynomial in (4 - z) / (4 + z), and erf(x) / x in x**2."""
    with importing:
        from numpy.polynomial import chebyshev

    def tail(t: np.ndarray) -> np.ndarray:
        z = 4.0 * (1.0 - t) / (1.0 + t)
        return np.asarray([math.erfc(v) * math.exp(v * v) for v in z])

    lowest = (4.0 - 9.0) / (4.0 + 9.0)  # z = 9
    fit = chebyshev.Chebyshev.interpolate(tail, 24, domain=[lowest, 0.6])  # z = 1
    power = fit.convert(kind=np.polynomial.Polynomial, domain=[-1, 1]).coef
    series = [2 / math.sqrt(math.pi) * (-1) ** n / (math.factorial(n) * (2 * n + 1)) for n in range(18)]
    return [float(c) for c in power[::-1]], series[::-1]


def normalized(dev: Any, x: Array, weight: Array | None, bias: Array | None, eps: float) -> tuple[Array, Array, Array]:
    """See `Device.normalized`."""
    xp = dev.xp
    h = x - xp.mean(x, axis=1, keepdims=True)
    h -= xp.mean(h, axis=1, keepdims=True)  # the rest that rounding leaves of a mean far from zero
    r = xp.reciprocal(xp.sqrt(xp.mean(h * h, axis=1, keepdims=True) + eps))
    h *= r
    y = h if weight is None else h * weight
    if bias is not None:
        if weight is None:
            y = h + bias
        else:
            y += bias
    return y, h, r


def normalized_rule(dev: Any, g: Array, gh: Array, h: Array, r: Array, weight: Array | None) -> Array:
    """See `Device.normalized_rule`."""
    xp, n = dev.xp, h.shape[1]
    if weight is None:
        mean, slope = xp.mean(g, axis=1, keepdims=True), xp.mean(gh, axis=1, keepdims=True)
        d = g - mean
    else:
        share = xp.reshape(weight / n, (n, 1))
        mean, slope = xp.matmul(g, share), xp.matmul(gh, share)
        d = g * weight
        d -= mean
    d -= h * slope
    d *= r
    return d


def class_losses(
    dev: Any, z: Array, labels: Array, ignore: int | None, smooth: float
) -> tuple[Array, Array | None, tuple[Any, ...]]:
    """See `Device.class_losses`."""
    xp, (M, C) = dev.xp, z.shape
    kept = None if ignore is None or not dev.may_occur(ignore, labels) else labels != ignore
    if kept is not None:
        z, labels = xp.where(kept[:, None], z, 0.0), xp.where(kept, labels, 0)
    if C:
        z = z - xp.max(z, axis=1, keepdims=True)
    e = xp.exp(z)
    s = xp.sum(e, axis=1, keepdims=True)
    starts = xp.arange(0, M * C, C or 1, dtype=labels.dtype, device=dev.native)
    losses = xp.reshape(xp.log(s), (M,)) - xp.take(xp.reshape(z, (-1,)), labels + starts, axis=0)
    if smooth:
        losses = losses * (1.0 - smooth) + xp.sum(xp.log(s) - z, axis=1) * (smooth / C)
    if kept is not None:
        losses = xp.where(kept, losses, 0.0)
    return losses, kept, (e, s, labels, kept, smooth)


def class_losses_rule(dev: Any, state: tuple[Any, ...], g: Array) -> Array:
    """See `Device.class_losses_rule`."""
    xp, (e, s, labels, kept, smooth) = dev.xp, state
    C = e.shape[1]
    classes = xp.arange(C, dtype=labels.dtype, device=dev.native)
    q = xp.astype(labels[:, None] == classes, e.dtype)
    d = e / s
    d -= q * (1.0 - smooth) + smooth / C if smooth else q
    d *= g if kept is None else xp.where(kept[:, None], g, 0.0)  # if none is kept, g is infinite
    return d


def check_index(dev: Any, indices: Array, size: int, what: str, ignore: int | None = None) -> None:
    """See `Device.check_index`."""
    if dev.xp.any(outside(indices, size, ignore)):
        host = dev.to_numpy(indices)
        bad = host[outside(host, size, ignore)]
        raise IndexError(out_of_range(what, bad[0], bad.size, f"[0, {size})"))


def check_unit(dev: Any, values: Array, what: str) -> None:
    """See `Device.check_unit`."""
    bad = outside_unit(values)
    if dev.xp.any(bad):
        wrong = dev.to_numpy(values)[dev.to_numpy(bad)]
        raise ValueError(out_of_range(what, f"{wrong[0]:g}", wrong.size, "[0, 1]"))


def outside(indices: Array, size: int, ignore: int | None = None) -> Array:
    """Which integers are outside [0, size) and are not `ignore`."""
    bad = (indices < 0) | (indices >= size)
    return bad if ignore is None else bad & (indices != ignore)


def outside_unit(values: Array) -> Array:
    """Which numbers are outside [0, 1]; NaN is not."""
    return (values < 0) | (values > 1)


def out_of_range(what: str, first: object, count: int, interval: str) -> str:
    """The error text that `count` values are outside the interval, with the first of them."""
    return f"{what}: {first} is outside {interval}" + (f" ({count} such values)" if count > 1 else "")


def drawn(
    dev: Any, generator: np.random.Generator, kind: str, shape: tuple[int, ...], dtype: Any, **settings: Any
) -> Array:
    """See `Device.drawn`."""
    if kind == "dropout":
        return dev.dropout_mask(generator, shape, settings["p"], dtype)
    if kind == "uniform":
        values: Any = generator.random(shape, dtype=dtype)
    elif kind == "normal":
        values = generator.standard_normal(shape, dtype=dtype)
    elif kind == "integers":
        low, high = settings["low"], settings["high"]
        values = generator.integers(low, high, shape, np.uint64 if high > 2**63 else np.int64)
    else:
        values = generator.permutation(*shape)
    return dev.from_numpy(np.asarray(values, dtype))


def dropout_mask(dev: Any, generator: np.random.Generator, shape: tuple[int, ...], p: float, dtype: Any) -> Array:
    """See `Device.dropout_mask`."""
    kept = generator.random(shape, dtype=np.float32) >= p
    scale = 1 / (1 - p) if p < 1 else 0.0
    return dev.from_numpy((kept * scale).astype(dtype))
