"""Reductions along axes, cumulative sums and products, softmax and its relatives, sorting and searching.

`axis` is an integer, a tuple of integers, or None for all axes; `keepdims` keeps the reduced axes with length one.

The file is long because there are many reductions. Each is short, and is read by itself.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinytorch.autograd import op
from tinytorch.backends import Array, Device
from tinytorch.backends.standard import along
from tinytorch.dtypes import as_dtype
from tinytorch.ops.axes import axes_of, axis_of, checked, count_of, inverse, kept

__all__ = [
    "all",
    "any",
    "argmax",
    "argmin",
    "argsort",
    "count_nonzero",
    "cumulative_prod",
    "cumulative_sum",
    "log_softmax",
    "logsumexp",
    "max",
    "mean",
    "min",
    "prod",
    "softmax",
    "sort",
    "std",
    "sum",
    "var",
]


# Sums and products ------------------------------------------------------------------------------------------------


@op
def sum(
    dev: Device, x: Array, /, axis: int | tuple[int, ...] | None = None, *, dtype: Any = None, keepdims: bool = False
) -> Any:
    """The sum along the axes. Booleans are counted.

    >>> tinytorch.sum(Tensor([[1.0, 2.0], [3.0, 4.0]]), axis=0)
    tensor([4., 6.])
    """
    xp, shape, axis = dev.xp, x.shape, checked(axis, x.ndim)
    if x.dtype == xp.bool:
        dtype = dev.default_int if dtype is None else dtype
        x = xp.astype(x, dev.dtype(dev.default_int))
    y = _added(dev, xp.sum, x, dtype, axis=axis, keepdims=keepdims)  # x.shape without the axes, or 1 there
    return y, _if_floating(dev, y, lambda g: xp.broadcast_to(xp.reshape(g, kept(shape, axis)), shape))  # of x: x.shape


def _added(dev: Any, function: Any, x: Array, dtype: Any, **options: Any) -> Array:
    """The library's sum or product of x. Integers have 64 bits unless a dtype is given: libraries differ."""
    given = dev.dtype_of(x)
    if dtype is not None:
        return function(x, dtype=dev.dtype(as_dtype(dtype)), **options)
    if given.kind == "f":
        return function(x, **options)
    signed = dev.dtype(dev.default_int)  # PyTorch does not add unsigned integers; the bits of the signed sum are theirs
    y = dev.asarray(function(dev.xp.astype(x, signed, copy=False), **options))
    return dev.xp.astype(y, dev.dtype(np.result_type(given, f"{given.kind}{dev.default_int.itemsize}")), copy=False)


def _if_floating(dev: Any, y: Array, rule: Any) -> Any:
    """The rule; None where the dtype of the result was asked for as integers, which have no gradient."""
    return rule if dev.dtype_of(y).kind == "f" else None


@op(kinds="f")
def mean(dev: Device, x: Array, /, axis: int | tuple[int, ...] | None = None, *, keepdims: bool = False) -> Any:
    """The mean along the axes, sum(x) / n. The mean of no elements is NaN.

    >>> tinytorch.mean(Tensor([[1.0, 2.0], [3.0, 4.0]]), axis=1)
    tensor([1.5, 3.5])
    """
    xp, shape, axis = dev.xp, x.shape, checked(axis, x.ndim)
    n = count_of(shape, axis) or math.nan
    y = xp.sum(x, axis=axis, keepdims=keepdims) / n  # x.shape without the axes, or 1 there
    return y, lambda g: xp.broadcast_to(xp.reshape(g / n, kept(shape, axis)), shape)  # of x: x.shape


@op(kinds="f")
def var(
    dev: Device,
    x: Array,
    /,
    axis: int | tuple[int, ...] | None = None,
    *,
    correction: float = 0.0,
    keepdims: bool = False,
) -> Any:
    """The variance along the axes, sum((x - mean)**2) / (n - correction); NaN if the divisor is not positive.

    As in the array API standard the correction is 0 unless given; PyTorch's own default is 1.

    >>> tinytorch.var(Tensor([1.0, 2.0, 3.0, 4.0]))
    tensor(1.25)
    """
    xp, wide, axis = dev.xp, kept(x.shape, axis), checked(axis, x.ndim)
    d, n = _from_mean(dev, x, axis, correction)
    y = xp.sum(d * d, axis=axis, keepdims=keepdims) / n  # x.shape without the axes, or 1 there
    return y, lambda g: xp.reshape(g, wide) * d * (2 / n)  # of x: x.shape


def _from_mean(dev: Any, x: Array, axis: int | tuple[int, ...] | None, correction: float) -> tuple[Array, float]:
    """The elements minus their mean, and the divisor for the sum of squares (NaN if the divisor is not positive)."""
    n = count_of(x.shape, axis)
    d = x - dev.xp.sum(x, axis=axis, keepdims=True) / (n or math.nan)  # x.shape, the sum 1 at the axes
    return d, n - correction if n > correction else math.nan


@op(kinds="f")
def std(
    dev: Device,
    x: Array,
    /,
    axis: int | tuple[int, ...] | None = None,
    *,
    correction: float = 0.0,
    keepdims: bool = False,
) -> Any:
    """The standard deviation along the axes, sqrt(var), NaN where `var` is NaN. The gradient is 0 where std is.

    As in the array API standard the correction is 0 unless given; PyTorch's own default is 1.

    >>> tinytorch.std(Tensor([1.0, 2.0, 3.0, 4.0]))
    tensor(1.118)
    """
    xp, wide, axis = dev.xp, kept(x.shape, axis), checked(axis, x.ndim)
    d, n = _from_mean(dev, x, axis, correction)
    v = xp.sum(d * d, axis=axis, keepdims=keepdims) / n  # x.shape without the axes, or 1 there
    root = xp.sqrt(xp.where(v == 0, 1.0, v))
    return (
        xp.where(v == 0, 0.0, root),
        lambda g: xp.reshape(xp.where(v != 0, g, 0.0) / root, wide) * d * (1 / n),  # x.shape
    )


@op(kinds="iuf")
def prod(
    dev: Device, x: Array, /, axis: int | tuple[int, ...] | None = None, *, dtype: Any = None, keepdims: bool = False
) -> Any:
    """The product along the axes. The gradient is exact also where elements are zero.

    >>> tinytorch.prod(Tensor([1.0, 2.0, 3.0]))
    tensor(6.)
    """
    xp, shape, axes = dev.xp, x.shape, axes_of(axis, x.ndim)
    # x.shape without the axes, or 1 there
    y = _added(dev, xp.prod, x, dtype, axis=checked(axis, x.ndim), keepdims=keepdims)

    def of_x(g: Array) -> Array:  # for each element, the product of the elements before and after it
        order = (*(i for i in range(len(shape)) if i not in axes), *axes)
        moved = xp.permute_dims(x, order)  # (*rest, *axes)
        rest = tuple(shape[i] for i in order[: len(shape) - len(axes)])
        flat = xp.reshape(moved, (*rest, count_of(shape, axes)))  # (*rest, K)
        one = xp.ones_like(flat[..., :1])  # (*rest, 1)
        before = xp.cumulative_prod(xp.concat([one, flat[..., :-1]], axis=-1), axis=-1)  # (*rest, K)
        after = xp.flip(  # (*rest, K)
            xp.cumulative_prod(xp.flip(xp.concat([flat[..., 1:], one], axis=-1), axis=-1), axis=-1), axis=-1
        )
        others = xp.permute_dims(xp.reshape(before * after, moved.shape), inverse(order))  # x.shape
        return xp.reshape(g, kept(shape, axes)) * others  # x.shape

    return y, _if_floating(dev, y, of_x)


def _only_axis(name: str, axis: int | None, ndim: int) -> int:
    """The axis of a function that runs along one axis. For one dimension the axis may be left out."""
    if axis is None:
        if ndim != 1:
            raise ValueError(f"{name} of {ndim} dimensions needs an axis")
        return 0
    return axis_of(axis, ndim)


@op(kinds="iuf")
def cumulative_sum(
    dev: Device, x: Array, /, axis: int | None = None, *, dtype: Any = None, include_initial: bool = False
) -> Any:
    """Sums of the elements so far along the axis; `include_initial` puts a zero in front.

    >>> tinytorch.cumulative_sum(Tensor([1.0, 2.0, 3.0]))
    tensor([1., 3., 6.])
    """
    xp, axis = dev.xp, _only_axis("cumulative_sum", axis, x.ndim)
    y = _added(dev, xp.cumulative_sum, x, dtype, axis=axis, include_initial=include_initial)  # (..., K or K + 1, ...)

    def of_x(g: Array) -> Array:  # (..., K or K + 1, ...) -> (..., K, ...): sums from the end
        sums = xp.flip(xp.cumulative_sum(xp.flip(g, axis=axis), axis=axis), axis=axis)
        return sums[along(axis, slice(1, None))] if include_initial else sums  # (..., K, ...)

    return y, _if_floating(dev, y, of_x)


@op(kinds="iuf")
def cumulative_prod(
    dev: Device, x: Array, /, axis: int | None = None, *, dtype: Any = None, include_initial: bool = False
) -> Any:
    """Products of the elements so far along the axis; `include_initial` puts a one in front.

    The gradient is exact also where elements are zero.

    >>> tinytorch.cumulative_prod(Tensor([1.0, 2.0, 3.0]))
    tensor([1., 2., 6.])
    """
    xp, axis = dev.xp, _only_axis("cumulative_prod", axis, x.ndim)
    size = x.shape[axis]
    y = _added(dev, xp.cumulative_prod, x, dtype, axis=axis, include_initial=include_initial)  # (..., K or K + 1, ...)

    def of_x(g: Array) -> Array:  # (..., K or K + 1, ...) -> (..., K, ...)
        if include_initial:
            g = g[along(axis, slice(1, None))]  # (..., K, ...)
        # the gradient is P s[k], with P the product of x before k, and s[k] = g[k] + x[k+1] s[k+1]. Each round doubles
        # the terms of s that are summed: 1, 2, 4, ...
        before = xp.cumulative_prod(x, axis=axis, include_initial=True)[along(axis, slice(0, size))]  # (..., K, ...)
        sums, factors, step = g, x[along(axis, slice(1 if size else 0, None))], 1  # (..., K, ...), (..., K - 1, ...)
        while step < size:
            head, tail = along(axis, slice(0, size - step)), along(axis, slice(size - step, None))
            # (..., K, ...)
            sums = xp.concat([sums[head] + factors * sums[along(axis, slice(step, None))], sums[tail]], axis=axis)
            if 2 * step < size:
                # (..., K - 2 step, ...)
                factors = factors[along(axis, slice(0, size - 2 * step))] * factors[along(axis, slice(step, None))]
            step *= 2
        return before * sums

    return y, _if_floating(dev, y, of_x)


# Extremes ---------------------------------------------------------------------------------------------------------


def _expect_elements(x: Array, axis: int | tuple[int, ...] | None) -> None:
    """Raise ValueError if there are no elements to take an extreme of."""
    if 0 in x.shape and count_of(x.shape, axis) == 0:
        raise ValueError("there are no elements, of which none is the largest or smallest")


def _extreme(dev: Device, function: Any, x: Array, axis: int | tuple[int, ...] | None, keepdims: bool) -> Any:
    """The library's max or min, and the rule: elements equal to the result share the gradient evenly."""
    axis = checked(axis, x.ndim)
    _expect_elements(x, axis)
    xp, wide = dev.xp, kept(x.shape, axis)
    y = function(x, axis=axis, keepdims=keepdims)  # x.shape without the axes, or 1 there

    def of_x(g: Array) -> Array:  # -> x.shape
        hit = (x == xp.reshape(y, wide)) | (x != x)  # x.shape; a NaN is the largest, and the smallest
        count = xp.sum(xp.astype(hit, g.dtype), axis=axes_of(axis, x.ndim), keepdims=True)  # x.shape with 1 at the axes
        return xp.where(hit, xp.broadcast_to(xp.reshape(g, wide) / count, x.shape), 0.0)  # x.shape

    return y, of_x


@op(kinds="iuf", kinked=True)
def max(dev: Device, x: Array, /, axis: int | tuple[int, ...] | None = None, *, keepdims: bool = False) -> Any:
    """The largest element along the axes. Equal largest elements share the gradient evenly.

    >>> tinytorch.max(Tensor([[1.0, 2.0], [3.0, 4.0]]), axis=0)
    tensor([3., 4.])
    """
    return _extreme(dev, dev.xp.max, x, axis, keepdims)


@op(kinds="iuf", kinked=True)
def min(dev: Device, x: Array, /, axis: int | tuple[int, ...] | None = None, *, keepdims: bool = False) -> Any:
    """The smallest element along the axes. Equal smallest elements share the gradient evenly.

    >>> tinytorch.min(Tensor([[1.0, 2.0], [3.0, 4.0]]), axis=0)
    tensor([1., 2.])
    """
    return _extreme(dev, dev.xp.min, x, axis, keepdims)


@op(kinds="iuf")
def argmax(dev: Device, x: Array, /, axis: int | None = None, *, keepdims: bool = False) -> Any:
    """The index of the first largest element along the axis; without an axis, in the flattened array.

    >>> tinytorch.argmax(Tensor([[1.0, 2.0], [4.0, 3.0]]), axis=1)
    tensor([1, 0], dtype=int64)
    """
    axis = None if axis is None else axis_of(axis, x.ndim)
    _expect_elements(x, axis)
    return dev.xp.argmax(x, axis=axis, keepdims=keepdims), None  # x.shape without the axis, or 1 there


@op(kinds="iuf")
def argmin(dev: Device, x: Array, /, axis: int | None = None, *, keepdims: bool = False) -> Any:
    """The index of the first smallest element along the axis; without an axis, in the flattened array.

    >>> tinytorch.argmin(Tensor([[1.0, 2.0], [4.0, 3.0]]), axis=1)
    tensor([0, 1], dtype=int64)
    """
    axis = None if axis is None else axis_of(axis, x.ndim)
    _expect_elements(x, axis)
    return dev.xp.argmin(x, axis=axis, keepdims=keepdims), None  # x.shape without the axis, or 1 there


@op
def all(dev: Device, x: Array, /, axis: int | tuple[int, ...] | None = None, *, keepdims: bool = False) -> Any:
    """Whether all elements along the axes are true (not zero).

    >>> tinytorch.all(Tensor([[1.0, 0.0], [3.0, 4.0]]) > 0, axis=1)
    tensor([False,  True])
    """
    return dev.xp.all(x, axis=checked(axis, x.ndim), keepdims=keepdims), None  # x.shape without the axes, or 1 there


@op
def any(dev: Device, x: Array, /, axis: int | tuple[int, ...] | None = None, *, keepdims: bool = False) -> Any:
    """Whether any element along the axes is true (not zero).

    >>> tinytorch.any(Tensor([[1.0, 0.0], [0.0, 0.0]]) > 0, axis=1)
    tensor([ True, False])
    """
    return dev.xp.any(x, axis=checked(axis, x.ndim), keepdims=keepdims), None  # x.shape without the axes, or 1 there


@op
def count_nonzero(
    dev: Device, x: Array, /, axis: int | tuple[int, ...] | None = None, *, keepdims: bool = False
) -> Any:
    """The number of elements along the axes that are not zero.

    >>> tinytorch.count_nonzero(Tensor([1.0, 0.0, 3.0]))
    tensor(2, dtype=int64)
    """
    xp, axis = dev.xp, checked(axis, x.ndim)
    # x.shape without the axes, or 1 there
    return xp.sum(xp.astype(xp.astype(x, xp.bool), dev.dtype(dev.default_int)), axis=axis, keepdims=keepdims), None


# Softmax and relatives: the largest element is subtracted first, so that nothing overflows --------------------------


def top_of(dev: Any, x: Array, axis: int | tuple[int, ...] | None) -> Array:
    """The largest element along the axes, with the axes kept; 0 if there are no elements."""
    xp, shape = dev.xp, kept(x.shape, axis)
    if count_of(x.shape, axis) == 0:
        return xp.zeros(shape, dtype=x.dtype, device=dev.native)  # x.shape with 1 at the axes
    return xp.max(x, axis=axis, keepdims=True)  # x.shape with 1 at the axes


@op(kinds="f")
def softmax(dev: Device, x: Array, /, axis: int = -1) -> Any:
    """exp(x) / sum(exp(x)) along the axis.

    >>> tinytorch.softmax(Tensor([0.0, 0.0]))
    tensor([0.5, 0.5])
    """
    xp, axis = dev.xp, axis_of(axis, x.ndim)
    y = xp.exp(x - top_of(dev, x, axis))  # (..., K, ...) - (..., 1, ...)
    y /= xp.sum(y, axis=axis, keepdims=True)  # (..., K, ...) / (..., 1, ...)

    def of_x(g: Array) -> Array:  # (..., K, ...) -> the same
        t = g * y
        t -= y * xp.sum(t, axis=axis, keepdims=True)  # (..., K, ...), the sum (..., 1, ...)
        return t

    return y, of_x


@op(kinds="f")
def log_softmax(dev: Device, x: Array, /, axis: int = -1) -> Any:
    """x - log(sum(exp(x))) along the axis: the logarithm of softmax, accurate where softmax is near zero.

    >>> tinytorch.log_softmax(Tensor([0.0, 0.0]))
    tensor([-0.6931, -0.6931])
    """
    xp, axis = dev.xp, axis_of(axis, x.ndim)
    y = x - top_of(dev, x, axis)  # (..., K, ...) - (..., 1, ...)
    y -= xp.log(xp.sum(xp.exp(y), axis=axis, keepdims=True))  # (..., K, ...) - (..., 1, ...)

    def of_x(g: Array) -> Array:  # (..., K, ...) -> the same
        p = xp.exp(y)
        p *= xp.sum(g, axis=axis, keepdims=True)  # (..., K, ...) * (..., 1, ...)
        return g - p

    return y, of_x


@op(kinds="f")
def logsumexp(dev: Device, x: Array, /, axis: int | tuple[int, ...] | None = None, *, keepdims: bool = False) -> Any:
    """log(sum(exp(x))) along the axes; -inf if there are no elements. Infinite elements share the gradient evenly.

    >>> tinytorch.logsumexp(Tensor([0.0, 0.0]))
    tensor(0.6931)
    """
    xp, wide, shape, axis = dev.xp, kept(x.shape, axis), x.shape, checked(axis, x.ndim)
    reduced = wide if keepdims else tuple(n for i, n in enumerate(shape) if i not in axes_of(axis, len(shape)))
    top = top_of(dev, x, axis)  # x.shape with 1 at the axes
    top = xp.where(xp.isfinite(top), top, 0.0)  # all elements -inf: the result is -inf, not NaN
    e = xp.exp(x - top)  # x.shape
    total = xp.sum(e, axis=axis, keepdims=True)  # x.shape with 1 at the axes
    y = xp.where(total == 0, -math.inf, xp.log(xp.where(total == 0, 1.0, total)) + top)

    def of_x(g: Array) -> Array:  # -> x.shape; exp(x - y) would do, but y is rounded
        part = xp.where(xp.isinf(y), xp.astype(x == y, x.dtype), e)
        return xp.reshape(g, wide) * (part / xp.sum(part, axis=axis, keepdims=True))  # x.shape

    return xp.reshape(y, reduced), of_x  # x.shape without the axes, or 1 there


# Sorting and searching --------------------------------------------------------------------------------------------


@op(kinds="iuf", kinked=True)
def sort(dev: Device, x: Array, /, axis: int = -1, *, descending: bool = False, stable: bool = True) -> Any:
    """The elements along the axis in order.

    >>> tinytorch.sort(Tensor([3.0, 1.0, 2.0]))
    tensor([1., 2., 3.])
    """
    xp, axis = dev.xp, axis_of(axis, x.ndim)
    order = xp.argsort(x, axis=axis, descending=descending, stable=stable)
    # argsort(order) is the inverse permutation: it takes place i back to element order[i] of x
    return (
        xp.take_along_axis(x, order, axis=axis),  # x.shape
        lambda g: xp.take_along_axis(g, xp.argsort(order, axis=axis), axis=axis),  # x.shape
    )


@op(kinds="iuf")
def argsort(dev: Device, x: Array, /, axis: int = -1, *, descending: bool = False, stable: bool = True) -> Any:
    """The indices that put the elements along the axis in order.

    >>> tinytorch.argsort(Tensor([3.0, 1.0, 2.0]))
    tensor([1, 2, 0], dtype=int64)
    """
    return dev.xp.argsort(x, axis=axis_of(axis, x.ndim), descending=descending, stable=stable), None
