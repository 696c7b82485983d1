"""Reductions along axes, cumulative sums and products, softmax and its relatives, sorting and searching.

`axis` is an integer, a tuple of integers, or None for all axes; `keepdims` keeps the reduced axes with length one.
"""

from __future__ import annotations

from typing import Any

from tinytorch.autograd import op
from tinytorch.backends import Array, Device
from tinytorch.backends.standard import along
from tinytorch.ops.axes import axes_of, axis_of, checked, count_of, inverse, kept
from tinytorch.words import OneTensor, worded

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
    "searchsorted",
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
    y = xp.sum(x, axis=axis, dtype=None if dtype is None else dev.dtype(dtype), keepdims=keepdims)
    return y, _if_floating(dev, y, lambda g: xp.broadcast_to(xp.reshape(g, kept(shape, axis)), shape))


def _if_floating(dev: Any, y: Array, rule: Any) -> Any:
    """The rule, but for results that were asked for as integers: they have no gradient."""
    return rule if dev.dtype_of(y).kind == "f" else None


@op(kinds="f")
def mean(dev: Device, x: Array, /, axis: int | tuple[int, ...] | None = None, *, keepdims: bool = False) -> Any:
    """The mean along the axes, sum(x) / n.

    >>> tinytorch.mean(Tensor([[1.0, 2.0], [3.0, 4.0]]), axis=1)
    tensor([1.5, 3.5])
    """
    xp, shape, axis = dev.xp, x.shape, checked(axis, x.ndim)
    n = count_of(shape, axis)
    if n == 0:
        raise ValueError("the mean of no elements is not defined")
    y = xp.sum(x, axis=axis, keepdims=keepdims) / n
    return y, lambda g: xp.broadcast_to(xp.reshape(g / n, kept(shape, axis)), shape)


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
    """The variance along the axes, sum((x - mean)**2) / (n - correction).

    As in the array API standard the correction is 0 unless given; PyTorch's own default is 1.

    >>> tinytorch.var(Tensor([1.0, 2.0, 3.0, 4.0]))
    tensor(1.25)
    """
    xp, n, wide, axis = dev.xp, count_of(x.shape, axis), kept(x.shape, axis), checked(axis, x.ndim)
    if n <= correction:
        raise ValueError(f"the variance of {n} elements with correction {correction} is not defined")
    d = x - xp.sum(x, axis=axis, keepdims=True) / n
    y = xp.sum(d * d, axis=axis, keepdims=keepdims) / (n - correction)
    return y, lambda g: xp.reshape(g, wide) * d * (2 / (n - correction))


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
    """The standard deviation along the axes, sqrt(var). Where it is zero, so is its gradient.

    As in the array API standard the correction is 0 unless given; PyTorch's own default is 1.

    >>> tinytorch.std(Tensor([1.0, 2.0, 3.0, 4.0]))
    tensor(1.118)
    """
    xp, n, wide, axis = dev.xp, count_of(x.shape, axis), kept(x.shape, axis), checked(axis, x.ndim)
    if n <= correction:
        raise ValueError(f"the deviation of {n} elements with correction {correction} is not defined")
    d = x - xp.sum(x, axis=axis, keepdims=True) / n
    v = xp.sum(d * d, axis=axis, keepdims=keepdims) / (n - correction)
    root = xp.sqrt(xp.where(v == 0, 1.0, v))
    return xp.where(v == 0, 0.0, root), lambda g: xp.reshape(g / root, wide) * d * (1 / (n - correction))


@op(kinds="iuf")
def prod(
    dev: Device, x: Array, /, axis: int | tuple[int, ...] | None = None, *, dtype: Any = None, keepdims: bool = False
) -> Any:
    """The product along the axes. Its gradient is exact where elements are zero, too.

    >>> tinytorch.prod(Tensor([1.0, 2.0, 3.0]))
    tensor(6.)
    """
    xp, shape, axes = dev.xp, x.shape, axes_of(axis, x.ndim)
    y = xp.prod(x, axis=checked(axis, x.ndim), dtype=None if dtype is None else dev.dtype(dtype), keepdims=keepdims)

    def of_x(g: Array) -> Array:  # of each element: the product of all others, those before times those after
        order = (*(i for i in range(len(shape)) if i not in axes), *axes)
        moved = xp.permute_dims(x, order)
        rest = tuple(shape[i] for i in order[: len(shape) - len(axes)])
        flat = xp.reshape(moved, (*rest, count_of(shape, axes)))
        one = xp.ones_like(flat[..., :1])
        before = xp.cumulative_prod(xp.concat([one, flat[..., :-1]], axis=-1), axis=-1)
        after = xp.flip(
            xp.cumulative_prod(xp.flip(xp.concat([flat[..., 1:], one], axis=-1), axis=-1), axis=-1), axis=-1
        )
        others = xp.permute_dims(xp.reshape(before * after, moved.shape), inverse(order))
        return xp.reshape(g, kept(shape, axes)) * others

    return y, _if_floating(dev, y, of_x)


def _only_axis(name: str, axis: int | None, ndim: int) -> int:
    """The axis of a function that runs along one; it may be left out for one dimension."""
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
    y = xp.cumulative_sum(
        x, axis=axis, dtype=None if dtype is None else dev.dtype(dtype), include_initial=include_initial
    )

    def of_x(g: Array) -> Array:  # sums from the end
        sums = xp.flip(xp.cumulative_sum(xp.flip(g, axis=axis), axis=axis), axis=axis)
        return sums[along(axis, slice(1, None))] if include_initial else sums

    return y, _if_floating(dev, y, of_x)


@op(kinds="iuf")
def cumulative_prod(
    dev: Device, x: Array, /, axis: int | None = None, *, dtype: Any = None, include_initial: bool = False
) -> Any:
    """Products of the elements so far along the axis; `include_initial` puts a one in front.

    Its gradient is exact where elements are zero, too.

    >>> tinytorch.cumulative_prod(Tensor([1.0, 2.0, 3.0]))
    tensor([1., 2., 6.])
    """
    xp, axis = dev.xp, _only_axis("cumulative_prod", axis, x.ndim)
    size = x.shape[axis]
    y = xp.cumulative_prod(
        x, axis=axis, dtype=None if dtype is None else dev.dtype(dtype), include_initial=include_initial
    )

    def of_x(g: Array) -> Array:
        if include_initial:
            g = g[along(axis, slice(1, None))]
        # with P the product of those before k, the gradient is P times s[k] = g[k] + x[k+1] s[k+1]: of that the first
        # 2, 4, ... terms, each time from those that begin where they end
        before = xp.cumulative_prod(x, axis=axis, include_initial=True)[along(axis, slice(0, size))]
        sums, factors, step = g, x[along(axis, slice(1 if size else 0, None))], 1
        while step < size:
            head, tail = along(axis, slice(0, size - step)), along(axis, slice(size - step, None))
            sums = xp.concat([sums[head] + factors * sums[along(axis, slice(step, None))], sums[tail]], axis=axis)
            if 2 * step < size:
                factors = factors[along(axis, slice(0, size - 2 * step))] * factors[along(axis, slice(step, None))]
            step *= 2
        return before * sums

    return y, _if_floating(dev, y, of_x)


# Extremes ---------------------------------------------------------------------------------------------------------


def _expect_elements(x: Array, axis: int | tuple[int, ...] | None) -> None:
    """Raise ValueError if the extreme of nothing is asked for."""
    if 0 in x.shape and count_of(x.shape, axis) == 0:
        raise ValueError("there are no elements, of which none is the largest or smallest")


def _extreme(dev: Device, x: Array, y: Array, axis: int | tuple[int, ...] | None) -> Any:
    """The rule of max and min: elements equal to the result share its gradient evenly."""
    xp, wide = dev.xp, kept(x.shape, axis)

    def of_x(g: Array) -> Array:
        hit = xp.astype(x == xp.reshape(y, wide), g.dtype)
        axes = axes_of(axis, x.ndim)
        return hit * (xp.reshape(g, wide) / xp.sum(hit, axis=axes, keepdims=True))

    return y, of_x


@op(kinds="iuf")
def max(dev: Device, x: Array, /, axis: int | tuple[int, ...] | None = None, *, keepdims: bool = False) -> Any:
    """The largest element along the axes. Equal largest elements share the gradient evenly.

    >>> tinytorch.max(Tensor([[1.0, 2.0], [3.0, 4.0]]), axis=0)
    tensor([3., 4.])
    """
    axis = checked(axis, x.ndim)
    _expect_elements(x, axis)
    return _extreme(dev, x, dev.xp.max(x, axis=axis, keepdims=keepdims), axis)


@op(kinds="iuf")
def min(dev: Device, x: Array, /, axis: int | tuple[int, ...] | None = None, *, keepdims: bool = False) -> Any:
    """The smallest element along the axes. Equal smallest elements share the gradient evenly.

    >>> tinytorch.min(Tensor([[1.0, 2.0], [3.0, 4.0]]), axis=0)
    tensor([1., 2.])
    """
    axis = checked(axis, x.ndim)
    _expect_elements(x, axis)
    return _extreme(dev, x, dev.xp.min(x, axis=axis, keepdims=keepdims), axis)


@op(kinds="iuf")
def argmax(dev: Device, x: Array, /, axis: int | None = None, *, keepdims: bool = False) -> Any:
    """The index of the first largest element along the axis, or in the flattened array.

    >>> tinytorch.argmax(Tensor([[1.0, 2.0], [4.0, 3.0]]), axis=1)
    tensor([1, 0], dtype=int64)
    """
    axis = None if axis is None else axis_of(axis, x.ndim)
    _expect_elements(x, axis)
    return dev.xp.argmax(x, axis=axis, keepdims=keepdims), None


@op(kinds="iuf")
def argmin(dev: Device, x: Array, /, axis: int | None = None, *, keepdims: bool = False) -> Any:
    """The index of the first smallest element along the axis, or in the flattened array.

    >>> tinytorch.argmin(Tensor([[1.0, 2.0], [4.0, 3.0]]), axis=1)
    tensor([0, 1], dtype=int64)
    """
    axis = None if axis is None else axis_of(axis, x.ndim)
    _expect_elements(x, axis)
    return dev.xp.argmin(x, axis=axis, keepdims=keepdims), None


@op
def all(dev: Device, x: Array, /, axis: int | tuple[int, ...] | None = None, *, keepdims: bool = False) -> Any:
    """Whether all elements along the axes are true (not zero).

    >>> tinytorch.all(Tensor([[1.0, 0.0], [3.0, 4.0]]) > 0, axis=1)
    tensor([False,  True])
    """
    return dev.xp.all(x, axis=checked(axis, x.ndim), keepdims=keepdims), None


@op
def any(dev: Device, x: Array, /, axis: int | tuple[int, ...] | None = None, *, keepdims: bool = False) -> Any:
    """Whether any element along the axes is true (not zero).

    >>> tinytorch.any(Tensor([[1.0, 0.0], [0.0, 0.0]]) > 0, axis=1)
    tensor([ True, False])
    """
    return dev.xp.any(x, axis=checked(axis, x.ndim), keepdims=keepdims), None


@op
def count_nonzero(
    dev: Device, x: Array, /, axis: int | tuple[int, ...] | None = None, *, keepdims: bool = False
) -> Any:
    """The number of elements along the axes that are not zero.

    >>> tinytorch.count_nonzero(Tensor([1.0, 0.0, 3.0]))
    tensor(2, dtype=int64)
    """
    xp, axis = dev.xp, checked(axis, x.ndim)
    return xp.sum(xp.astype(xp.astype(x, xp.bool), dev.dtype(dev.default_int)), axis=axis, keepdims=keepdims), None


# Softmax and relatives: the largest element is subtracted first, so that nothing overflows --------------------------


@op(kinds="f")
def softmax(dev: Device, x: Array, /, axis: int = -1) -> Any:
    """exp(x) / sum(exp(x)) along the axis.

    >>> tinytorch.softmax(Tensor([0.0, 0.0]))
    tensor([0.5, 0.5])
    """
    xp, axis = dev.xp, axis_of(axis, x.ndim)
    e = xp.exp(x - xp.max(x, axis=axis, keepdims=True))
    y = e / xp.sum(e, axis=axis, keepdims=True)

    def of_x(g: Array) -> Array:
        t = g * y
        return t - y * xp.sum(t, axis=axis, keepdims=True)

    return y, of_x


@op(kinds="f")
def log_softmax(dev: Device, x: Array, /, axis: int = -1) -> Any:
    """x - log(sum(exp(x))) along the axis: the logarithm of softmax, accurate where that is near zero.

    >>> tinytorch.log_softmax(Tensor([0.0, 0.0]))
    tensor([-0.6931, -0.6931])
    """
    xp, axis = dev.xp, axis_of(axis, x.ndim)
    z = x - xp.max(x, axis=axis, keepdims=True)
    y = z - xp.log(xp.sum(xp.exp(z), axis=axis, keepdims=True))
    return y, lambda g: g - xp.exp(y) * xp.sum(g, axis=axis, keepdims=True)


@op(kinds="f")
def logsumexp(dev: Device, x: Array, /, axis: int | tuple[int, ...] | None = None, *, keepdims: bool = False) -> Any:
    """log(sum(exp(x))) along the axes.

    >>> tinytorch.logsumexp(Tensor([0.0, 0.0]))
    tensor(0.6931)
    """
    xp, wide, shape, axis = dev.xp, kept(x.shape, axis), x.shape, checked(axis, x.ndim)
    reduced = wide if keepdims else tuple(n for i, n in enumerate(shape) if i not in axes_of(axis, len(shape)))
    top = xp.max(x, axis=axis, keepdims=True)
    top = xp.where(xp.isfinite(top), top, 0.0)  # all elements -inf: the result is -inf, not NaN
    y = xp.log(xp.sum(xp.exp(x - top), axis=axis, keepdims=True)) + top
    return xp.reshape(y, reduced), lambda g: xp.reshape(g, wide) * xp.exp(x - y)


# Sorting and searching --------------------------------------------------------------------------------------------


@op(kinds="iuf")
def sort(dev: Device, x: Array, /, axis: int = -1, *, descending: bool = False, stable: bool = True) -> Any:
    """The elements along the axis in order.

    >>> tinytorch.sort(Tensor([3.0, 1.0, 2.0]))
    tensor([1., 2., 3.])
    """
    xp, axis = dev.xp, axis_of(axis, x.ndim)
    order = xp.argsort(x, axis=axis, descending=descending, stable=stable)
    # the inverse of a permutation sorts it: element order[i] of x came to place i
    return (
        xp.take_along_axis(x, order, axis=axis),
        lambda g: xp.take_along_axis(g, xp.argsort(order, axis=axis), axis=axis),
    )


@op(kinds="iuf")
def argsort(dev: Device, x: Array, /, axis: int = -1, *, descending: bool = False, stable: bool = True) -> Any:
    """The indices that put the elements along the axis in order.

    >>> tinytorch.argsort(Tensor([3.0, 1.0, 2.0]))
    tensor([1, 2, 0], dtype=int64)
    """
    return dev.xp.argsort(x, axis=axis_of(axis, x.ndim), descending=descending, stable=stable), None


@op(kinds="iuf")
def _searchsorted(dev: Device, x1: Array, x2: Array, /, *, side: str = "left") -> Any:
    places = dev.xp.searchsorted(x1, x2, side=side)
    return dev.xp.astype(places, dev.dtype(dev.default_int), copy=False), None, None  # JAX (0.10) gives int32


@worded
def searchsorted(x1: Any, x2: Any, /, *, side: str = "left", sorter: OneTensor | None = None) -> Any:
    """Where the elements of x2 belong in x1, which is in ascending order (or is put in it by `sorter`).

    >>> tinytorch.searchsorted(Tensor([1.0, 2.0, 3.0]), Tensor([2.5]))
    tensor([2], dtype=int64)
    """
    from tinytorch.ops.index import take

    return _searchsorted(x1 if sorter is None else take(x1, sorter, axis=0), x2, side=side)
