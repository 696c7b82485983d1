"""The standard's functions in the form that is fastest with NumPy, and elementwise functions in blocks.

On small arrays NumPy's functions take longer to look at their arguments than to compute: so methods and ufuncs are
used. NumPy's reductions along short rows are slow: so sums are products with ones, and maxima along a last axis go
across short rows. The gain of each function is a row of its name in `python -m benchmarks extension`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from tinytorch.backends.device import Array, Device
from tinytorch.backends.forks import importing
from tinytorch.backends.standard import added_up

_add: Any = np.add.reduce
_largest: Any = np.maximum.reduce
_range: Any = np.arange


@functools.lru_cache(maxsize=64)
def ones(n: int, dtype: np.dtype) -> np.ndarray:
    """Ones, made once; what sums are products with."""
    ones = np.ones(n, dtype)
    ones.flags.writeable = False
    return ones


# BLAS adds numbers one after another, a few side by side: the error grows with the length. So longer sums are sums of
# runs, and then sums of these; that is as accurate as NumPy's pairwise sum. NumPy adds pairwise only numbers that lie
# side by side in memory; rows it adds one after another.
RUN = 128
FEW = 512  # numbers, up to which all are summed by one product, and `where` takes NumPy's branches
NARROW = 16  # the longest rows whose maxima are taken across the rows


def _sum(x: Array, /, *, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Array:
    shape, own = x.shape, x.dtype
    ndim = len(shape)
    if own.kind == "f" and ndim and x.size and (dtype is None or dtype == own):
        if axis is None:
            if x.size <= FEW and not keepdims:
                return ones(x.size, own).dot(x.reshape(-1))
            if not x.flags.forc:
                return _in_turn(x, axis, keepdims)
        elif not x.flags.c_contiguous:
            if ndim == 2 and x.flags.f_contiguous and axis in (0, 1, -1):
                out = _sum(x.T, axis=1 - axis % 2)
                return out if not keepdims else out[None] if axis == 0 else out[:, None]
            return _in_turn(x, axis, keepdims)
        elif ndim > 1 and (axis == -1 or axis == ndim - 1):
            return _along_last(_of_runs(x if ndim == 2 else x.reshape(-1, shape[-1])), shape, keepdims)
        elif (k := 1 if axis == 0 else len(axis) if axis in _LEADING else 0) < ndim and k:  # the first k axes
            out = _of_rows(x if ndim == 2 and k == 1 else x.reshape(math.prod(shape[:k]), -1))
            return out if ndim == 2 and not keepdims else out.reshape((1,) * (k * keepdims) + shape[k:])
        else:
            return _in_turn(x, axis, keepdims)
    elif dtype is not None and np.dtype(dtype).kind == "f" and dtype != own:
        return _sum(x.astype(dtype), axis=axis, keepdims=keepdims)
    return _add(x, axis=axis, dtype=dtype, keepdims=keepdims)


def _of_runs(x: Array) -> Array:
    """(A, n) -> (A,)"""
    A, n = x.shape
    if n <= RUN:
        return x.dot(ones(n, x.dtype))
    if d := _divisor(n):
        return _of_runs(x.reshape(-1, d).dot(ones(d, x.dtype)).reshape(A, n // d))
    end = n - n % RUN
    out = _of_runs(np.matmul(x[:, :end].reshape(A, -1, RUN), ones(RUN, x.dtype)))
    return out + x[:, end:].dot(ones(n - end, x.dtype))


@functools.lru_cache(maxsize=256)
def _divisor(n: int) -> int:
    """The largest divisor that makes runs of a good length, or 0."""
    return next((d for d in range(RUN, 31, -1) if n % d == 0), 0)


def _of_rows(x: Array) -> Array:
    """(n, C) -> (C,), or (A, n, C) -> (A, C)"""
    n, C = x.shape[-2:]
    if n <= RUN:
        return ones(n, x.dtype).dot(x) if x.ndim == 2 else np.matmul(ones(n, x.dtype), x)
    k, rest = n // 64, x.shape[:-2]
    end = k * 64  # the first k rows are added to the next k, and so on
    wide = x[..., :end, :].reshape(*rest, 64, k * C)
    out = _of_rows(np.matmul(ones(64, x.dtype), wide).reshape(*rest, k, C))
    return out if end == n else out + np.matmul(ones(n - end, x.dtype), x[..., end:, :])


def _in_turn(x: Array, axis: Any, keepdims: bool) -> Array:
    """The sum along any axes, in any memory layout. Runs of neighbouring axes are summed in turn, the last first."""
    axes = normalize_axis_tuple(range(x.ndim) if axis is None else axis, x.ndim)
    if math.prod([x.shape[i] for i in axes]) <= 32:
        return _add(x, axis=axes, keepdims=keepdims)
    order = sorted(range(x.ndim), key=lambda i: -abs(x.strides[i]))
    shape, y, end = [x.shape[i] for i in order], x.transpose(order), x.ndim
    while end:
        start = end - 1
        if order[start] in axes:
            while start and order[start - 1] in axes:
                start -= 1
            before, n, after = (math.prod(part) for part in (shape[:start], shape[start:end], shape[end:]))
            y = _of_rows(y.reshape(before, n, after)) if after > 1 else _of_runs(y.reshape(before, n))
            shape[start:end] = [1] * (end - start)
        end = start
    y = y.reshape(shape).transpose(sorted(range(x.ndim), key=order.__getitem__))
    return y if keepdims else y.reshape([n for i, n in enumerate(x.shape) if i not in axes])


_LEADING = {tuple(range(k)) for k in range(1, 8)}


def sums_of_groups(rows: Array, starts: Array) -> Array:
    """The sums of rows from each start to the next: pairs are added first, then pairs of pairs, ...; `rows` changes."""
    lengths = np.diff(starts, append=len(rows))
    rank = np.arange(len(rows)) - np.repeat(starts, lengths)
    left = np.repeat(lengths, lengths) - rank  # the number of rows from each row to the end of its group
    step, at = 1, np.flatnonzero(left > 1)
    while at.size:
        at = at[(rank[at] % (2 * step) == 0) & (left[at] > step)]
        rows[at] = rows.take(at, 0) + rows.take(at + step, 0)
        step *= 2
    return rows.take(starts, 0)


def _mean(x: Array, /, *, axis: Any = None, keepdims: bool = False) -> Array:
    if x.size and x.dtype.kind == "f":
        out = _sum(x, axis=axis, keepdims=keepdims)
        return out / x.dtype.type(x.size // out.size)
    return np.mean(x, axis=axis, keepdims=keepdims)


def _cumulative_sum(x: Array, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False) -> Array:
    return added_up(_compat(), x, axis, dtype, include_initial)


def _max(x: Array, /, *, axis: Any = None, keepdims: bool = False) -> Array:
    if x.ndim > 1 and x.size and (axis == -1 or axis == x.ndim - 1):
        n = x.shape[-1]
        rows = x if x.ndim == 2 else x.reshape(-1, n)
        if n <= NARROW:
            return _along_last(np.maximum.reduce(np.ascontiguousarray(rows.T)), x.shape, keepdims)
    return _largest(x, axis=axis, keepdims=keepdims)


def _along_last(rows: Array, shape: tuple[int, ...], keepdims: bool) -> Array:
    """The results for the rows of an array of a shape, in the shape of a reduction along the last axis."""
    if len(shape) == 2:
        return rows[:, None] if keepdims else rows
    return rows.reshape((*shape[:-1], 1) if keepdims else shape[:-1])


def _matmul(x1: Array, x2: Array, /) -> Array:
    return x1.dot(x2) if x1.ndim == 2 == x2.ndim else np.matmul(x1, x2)


def _clip(x: Array, /, min: Any = None, max: Any = None) -> Array:
    if type(min) is float is type(max) and x.dtype.kind == "f":
        return x.clip(min, max)
    return _compat().clip(x, min, max)


ONE = {4: 0x3F800000, 8: 0x3FF0000000000000}  # the bits of 1.0
SHORT = 4096  # so many numbers: a pass over them takes less than the call
_BITS: dict[Any, Any] = {np.dtype("float32"): np.dtype("int32"), np.dtype("float64"): np.dtype("int64")}


def _maximum(x1: Array, x2: Array, /) -> Array:
    if type(x2) is float and x1.size > SHORT and x1.dtype.kind == "f":
        return x1.clip(x2, math.inf)  # `clip` is vectorized for a number, `maximum` only for two arrays
    return np.maximum(x1, x2)


def _minimum(x1: Array, x2: Array, /) -> Array:
    if type(x2) is float and x1.size > SHORT and x1.dtype.kind == "f":
        return x1.clip(-math.inf, x2)
    return np.minimum(x1, x2)


def where(condition: Array, x1: Any, x2: Any, /) -> Array:
    """np.where branches for each element. Where x2 is zero, the bits of x1 times 0 or 1 do without."""
    if type(x2) is float and condition.size > FEW and isinstance(x1, np.ndarray) and x1.shape == condition.shape:
        kind = _BITS.get(x1.dtype) if x2 == 0 and math.copysign(1.0, x2) > 0 else None
        if kind is not None:
            bits = condition.astype(kind)
            bits *= x1.view(kind)
            return bits.view(x1.dtype)
    return np.where(condition, x1, x2)


def _broadcast_to(x: Array, /, shape: tuple[int, ...]) -> Array:
    if x.size == 1 and x.ndim <= len(shape):
        out = np.ndarray(shape, x.dtype, x, 0, (0,) * len(shape))
        out.flags.writeable = False
        return out
    return np.broadcast_to(x, shape)


def _ones_like(x: Array, /, *, dtype: Any = None, device: Any = None) -> Array:
    ones = np.empty_like(x, dtype)
    ones.fill(1)
    return ones


def _arange(
    start: float, /, stop: float | None = None, step: float = 1, *, dtype: Any = None, device: Any = None
) -> Array:
    return _range(start, stop, step, dtype)


def _reshape(x: Array, /, shape: tuple[int, ...], *, copy: bool | None = None) -> Array:
    return x.reshape(shape) if copy is None else x.reshape(shape, copy=copy)


def _permute_dims(x: Array, /, axes: tuple[int, ...]) -> Array:
    return x.transpose(axes)


def _take(x: Array, indices: Array, /, *, axis: int | None = None) -> Array:
    return x.take(indices, axis)


def _expand_dims(x: Array, /, *, axis: int = 0) -> Array:
    if not -x.ndim <= axis + (axis < 0) <= x.ndim:
        raise IndexError(f"axis {axis} is outside [{-x.ndim - 1}, {x.ndim + 1})")
    at = axis % (x.ndim + 1)
    return x.reshape((*x.shape[:at], 1, *x.shape[at:]))


FASTER = {
    "arange": _arange,
    "broadcast_to": _broadcast_to,
    "clip": _clip,
    "cumulative_sum": _cumulative_sum,
    "expand_dims": _expand_dims,
    "matmul": _matmul,
    "max": _max,
    "maximum": _maximum,
    "mean": _mean,
    "minimum": _minimum,
    "ones_like": _ones_like,
    "permute_dims": _permute_dims,
    "reshape": _reshape,
    "sum": _sum,
    "take": _take,
    "where": where,
}


@functools.cache
def _compat() -> Any:
    """NumPy under the standard's names. array-api-compat doubles the import time: it is imported at the first use."""
    with importing:
        import array_api_compat.numpy as compat
    return compat


class Namespace:
    """The standard's functions, in NumPy's fastest form where this file has one; looked up at the first use."""

    def __getattr__(self, name: str) -> Any:
        vars(self).update(vars(_compat()) | FASTER)
        return object.__getattribute__(self, name)


BLOCK = 65_536  # numbers: a few arrays of this size stay in a core's own cache from one pass to the next
_PASSES = 4  # passes over memory for each result: with fewer, the copies of the blocks' results cost what blocks gain
MANY = 2**22  # numbers in all passes for a result: from here on they do not stay in the cache without blocks


class _Probe(np.ndarray):
    """An array that counts the passes over it."""

    passes = 0

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        _Probe.passes += 1
        plain = [x.view(np.ndarray) if isinstance(x, _Probe) else x for x in (*inputs, *kwargs.pop("out", ()))]
        out = {"out": tuple(plain[len(inputs) :])} if plain[len(inputs) :] else {}
        result = getattr(ufunc, method)(*plain[: len(inputs)], **out, **kwargs)
        return result.view(_Probe)


@functools.cache
def in_blocks(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, computed for `BLOCK` numbers at a time where this is faster."""
    least: float = 2 * BLOCK  # the size of arrays from which on blocks are used; until `look`, may be used
    results = 0  # how many arrays the function returns; 0 until `look`
    single = False  # whether the function returns an array, and not a tuple

    def look(dev: Device, arrays: tuple[Array, ...], numbers: dict[str, float]) -> None:
        nonlocal least, results, single
        before = _Probe.passes
        found = function(dev, *(np.ones(1, a.dtype).view(_Probe) for a in arrays), **numbers)
        single = type(found) is not tuple
        results = 1 if single else len(found)
        passes = max(_Probe.passes - before, 1) / results
        least = MANY / passes if passes >= _PASSES else math.inf

    def call(dev: Device, *arrays: Array, out: tuple[Array, ...] | None = None, **numbers: float) -> Any:
        first = arrays[0]
        if first.size < least:
            return function(dev, *arrays, **numbers)
        if not results:
            look(dev, arrays, numbers)
            return call(dev, *arrays, out=out, **numbers)
        if out is None:
            out = tuple([np.empty_like(first) for _ in range(results)])
        flags: list[Any] = [["readonly"]] * len(arrays) + [["writeonly"]] * results
        with np.nditer([*arrays, *out], ["external_loop", "buffered"], flags, order="K", buffersize=BLOCK) as blocks:
            for block in blocks:
                found = function(dev, *block[: len(arrays)], **numbers)
                for place, part in zip(block[len(arrays) :], (found,) if single else found):
                    place[...] = part
        return out[0] if single else out

    return call
