"""Functions of windows that slide over images: convolution and pooling, (N, C, H, W) -> (N, O, H', W').

A convolution is one matrix product. On the left is the kernel; on the right is a block of rows for each offset in the
kernel, a shifted slice of the image. In memory the images are batch-last, (C, H, W, N), behind the usual interface:
every slice copies long runs, and nothing is transposed between layers. The gradient of a slice is added in at its
place.
"""

from __future__ import annotations

import functools
import math
import operator
from typing import Any

from tinytorch.autograd import op
from tinytorch.backends import Array, Device
from tinytorch.backends.standard import padded, shifts
from tinytorch.tape.gradients import once

__all__ = [
    "avg_pool2d",
    "conv2d",
    "max_pool2d",
]

Pair = int | tuple[int, int]


def pair(name: str, value: Pair, least: int) -> tuple[int, int]:
    """One integer, or two, as (rows, columns)."""
    if type(value) is int and value >= least:
        return value, value
    if type(value) is tuple and len(value) == 2:
        rows, columns = value
        if type(rows) is type(columns) is int and rows >= least <= columns:
            return value
    try:
        two = tuple(operator.index(n) for n in (value if isinstance(value, tuple | list) else (value, value)))
    except TypeError:
        two = ()
    if len(two) != 2 or min(two) < least:
        raise ValueError(f"{name} is an integer, at least {least}, or two (rows, columns), not {value!r}")
    return two


@op(kinds="f", one_dtype=True, shapes="x (N, C, H, W), weight (O, C / groups, KH, KW) and bias (O,) or None")
def conv2d(
    dev: Device,
    x: Array,
    weight: Array,
    bias: Array = None,
    /,
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Any:
    """Cross-correlation: out[n, o, h, w] = bias[o] + sum over c, i, j of weight[o, c, i, j] * x[n, c, h + i, w + j].

    Args:
        x: (N, C, H, W).
        weight: (O, C / groups, KH, KW).
        bias: (O,), or None.
        stride: steps between places of the kernel; like padding and dilation a number or a pair (rows, columns).
        padding: zeros on each side of the image.
        dilation: steps between the elements of the kernel.
        groups: the channels are split into so many groups, each with its own O / groups kernels.

    Returns:
        (N, O, H', W') with H' = (H + 2 padding - dilation (KH - 1) - 1) // stride + 1.

    >>> tinytorch.conv2d(tinytorch.ones((1, 1, 3, 3)), tinytorch.ones((1, 1, 2, 2))).shape
    (1, 1, 2, 2)
    """
    xp = dev.xp
    if x.ndim != 4 or weight.ndim != 4:
        raise ValueError("x and weight have four dimensions; for one image write x[None]")
    N, C, H, W = x.shape
    O, per_group, KH, KW = weight.shape
    stride, padding, dilation = pair("stride", stride, 1), pair("padding", padding, 0), pair("dilation", dilation, 1)
    if groups < 1 or per_group * groups != C or O % groups:
        raise ValueError(f"{C} channels and {O} kernels of {per_group} channels do not make {groups} groups")
    if bias is not None and bias.shape != (O,):
        raise ValueError(f"the bias must have shape ({O},)")
    kernel, per_kernel = (KH, KW), per_group * KH * KW
    cols = dev.windows(xp.permute_dims(x, (1, 2, 3, 0)), kernel, stride, padding, dilation)  # (C, KH, KW, H', W', N)
    places = cols.shape[3:5]
    M = places[0] * places[1] * N
    cols = xp.reshape(cols, (groups, per_kernel, M))  # (groups, K, M), K = C / groups * KH * KW, M = H' * W' * N
    w = xp.reshape(weight, (groups, O // groups, per_kernel))  # (groups, O / groups, K)
    y = xp.reshape(xp.matmul(w, cols), (O, M))  # (groups, O / groups, M) -> (O, M)
    if bias is not None:
        y += bias[:, None]  # (O, M) + (O, 1)
    y = xp.permute_dims(xp.reshape(y, (O, *places, N)), (3, 0, 1, 2))  # (N, O, H', W')

    # (N, O, H', W') -> (groups, O / groups, M)
    flat = once(lambda g: xp.reshape(xp.permute_dims(g, (1, 2, 3, 0)), (groups, O // groups, M)))

    def of_x(g: Array) -> Array:  # (N, O, H', W') -> (N, C, H, W)
        # (groups, K, M) -> (C, KH * KW, H', W', N)
        gcols = xp.reshape(xp.matmul(w.mT, flat(g)), (C, KH * KW, *places, N))
        parts = [gcols[:, k, ...] for k in range(KH * KW)]  # each (C, H', W', N)
        # (C, H, W, N) -> (N, C, H, W)
        return xp.permute_dims(dev.add_windows(parts, (H, W), kernel, stride, padding, dilation), (3, 0, 1, 2))

    return (
        y,  # (N, O, H', W')
        of_x,  # (N, C, H, W)
        lambda g: xp.reshape(xp.matmul(cols, flat(g).mT).mT, (O, per_group, KH, KW)),  # (O, C / groups, KH, KW)
        lambda g: xp.reshape(xp.sum(flat(g), axis=-1), (O,)),  # (O,)
    )


@op(kinds="f", kinked=True, shapes="x (N, C, H, W)")
def max_pool2d(
    dev: Device, x: Array, /, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0, dilation: Pair = 1
) -> Any:
    """The largest element under each place of the window. The first of equal elements gets the gradient.

    Args:
        kernel_size: size of the window; like the other arguments a number or a pair (rows, columns).
        stride: steps between places; the window's size unless given.
        padding: minus infinities on each side of the image, at most half the window, without gradient.
        dilation: steps between the elements of the window.

    >>> tinytorch.max_pool2d(Tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), 2)
    tensor([[[[4.]]]])
    """
    xp = dev.xp
    kernel, stride, padding = _window(x, kernel_size, stride, padding)
    dilation = pair("dilation", dilation, 1)
    image, steps = xp.permute_dims(x, (1, 2, 3, 0)), [(kernel, stride, padding, dilation)]  # (C, H, W, N)
    if kernel[0] * kernel[1] > 9:  # first along W, then along H: fewer comparisons
        across = (1, kernel[1]), (1, stride[1]), (0, padding[1]), (1, dilation[1])
        down = (kernel[0], 1), (stride[0], 1), (padding[0], 0), (dilation[0], 1)
        steps = [across, down]
    rules = []
    for step in steps:
        image, rule = _largest(dev, image, *step)  # (C, H', W', N); after `across` (C, H, W', N)
        rules.append(rule)
    pooled = image.shape
    if len(steps) > 1 and kernel == stride and padding == (0, 0) and dilation == (1, 1):
        rules = [_to_first_largest(dev, xp.permute_dims(x, (1, 2, 3, 0)), kernel)]  # from (C, H, W, N)

    def of_x(g: Array) -> Array:  # (N, C, H', W') -> (N, C, H, W)
        # (C, H', W', N), in memory as the image
        g = xp.reshape(xp.reshape(xp.permute_dims(g, (1, 2, 3, 0)), (-1,)), pooled)
        for rule in reversed(rules):
            g = rule(g)  # at last (C, H, W, N)
        return xp.permute_dims(g, (3, 0, 1, 2))  # (N, C, H, W)

    return xp.permute_dims(image, (3, 0, 1, 2)), of_x  # (N, C, H', W')


def _to_first_largest(dev: Any, x: Array, kernel: tuple[int, int]) -> Any:
    """The rule of large windows side by side, which looks up the place of each window's first largest element."""
    xp, (C, H, W, N), (KH, KW) = dev.xp, x.shape, kernel

    def rule(g: Array) -> Array:  # (C, h, w, N) -> (C, H, W, N)
        _, h, w, _ = g.shape
        rows = xp.reshape(x[:, : h * KH, : w * KW, :], (C, h, KH, w, KW, N))  # (C, h, KH, w, KW, N)
        rows = xp.reshape(xp.permute_dims(rows, (0, 1, 3, 5, 2, 4)), (-1, KH * KW))  # (C * h * w * N, KH * KW)
        k = xp.reshape(xp.argmax(rows, axis=1), g.shape)  # (C, h, w, N)
        at = (k // KW * W + k % KW) * N
        for axis, (n, step) in enumerate(zip(g.shape, (H * W * N, KH * W * N, KW * N, 1))):
            steps = xp.arange(0, n * step, step, dtype=k.dtype, device=dev.native)
            at = at + xp.reshape(steps, (-1, *(1,) * (3 - axis)))  # (C, h, w, N) + (C, 1, 1, 1), then (h, 1, 1), ...
        zeros = xp.zeros((C * H * W * N,), dtype=g.dtype, device=dev.native)
        return xp.reshape(dev.put(zeros, xp.reshape(at, (-1,)), xp.reshape(g, (-1,))), x.shape)  # (C, H, W, N)

    return rule


def _largest(dev: Any, x: Array, kernel: Any, stride: Any, padding: Any, dilation: Any) -> tuple[Array, Any]:
    """The largest element under each window of (C, H, W, N), and the rule: the first of equals gets the gradient."""
    xp, size = dev.xp, x.shape[1:3]
    parts = shifts(padded(dev, x, _around(padding), -math.inf), kernel, stride, dilation)  # each (C, H', W', N)
    tops = parts[:1]  # the largest of the first part, of the first two, ...
    for part in parts[1:]:
        tops.append(xp.maximum(tops[-1], part))
    inside = _entering(dev, x, kernel, stride, padding, dilation) if padding != (0, 0) else None

    def rule(g: Array) -> Array:  # (C, H', W', N) -> (C, H, W, N)
        gparts, left = [], None  # `left`: the gradient of places where no later part is the largest
        for k in range(len(parts) - 1, 0, -1):
            won = parts[k] > tops[k - 1]
            if inside is not None:
                won = won | inside[k]
            if left is not None:
                won = won & left
            left = xp.logical_not(won) if left is None else left ^ won
            gparts.append(xp.where(won, g, 0.0))
        gparts.append(g if left is None else xp.where(left, g, 0.0))
        return dev.add_windows(gparts[::-1], size, kernel, stride, padding, dilation)

    return tops[-1], rule


@op(kinds="f", kinked=True, shapes="x (N, C, H, W)")
def avg_pool2d(
    dev: Device,
    x: Array,
    /,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    *,
    count_include_pad: bool = True,
) -> Any:
    """The mean of the elements under each place of the window.

    Args:
        kernel_size: size of the window; like stride and padding a number or a pair (rows, columns).
        stride: steps between places; the window's size unless given.
        padding: zeros on each side of the image, at most half the window.
        count_include_pad: whether the zeros of the padding count as elements.

    >>> tinytorch.avg_pool2d(Tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), 2)
    tensor([[[[2.5]]]])
    """
    xp, once = dev.xp, (1, 1)
    kernel, stride, padding = _window(x, kernel_size, stride, padding)
    H, W = x.shape[2:]

    columns, rows = ((1, kernel[1]), (1, stride[1])), ((kernel[0], 1), (stride[0], 1))

    # (C, H, W, N) -> (C, H', W', N): sums along W, then along H
    def total(image: Array) -> Array:
        wide = padded(dev, image, _around(padding))  # (C, H + 2 padding, W + 2 padding, N)
        for part, step in (columns, rows):
            wide = functools.reduce(operator.add, shifts(wide, part, step, once))  # (C, ..., W', N), (C, H', W', N)
        return wide

    def of_x(g: Array) -> Array:  # (N, C, H', W') -> (N, C, H, W)
        g = xp.permute_dims(g / area, (1, 2, 3, 0))  # (C, H', W', N)
        g = dev.add_windows([g] * kernel[0], (H, g.shape[2]), *rows, (padding[0], 0), once)  # (C, H, W', N)
        g = dev.add_windows([g] * kernel[1], (H, W), *columns, (0, padding[1]), once)  # (C, H, W, N)
        return xp.permute_dims(g, (3, 0, 1, 2))  # (N, C, H, W)

    area: Any = kernel[0] * kernel[1]
    if not count_include_pad and padding != (0, 0):
        ones = xp.ones((1, H, W, 1), dtype=x.dtype, device=dev.native)
        area = xp.permute_dims(total(ones), (3, 0, 1, 2))  # (1, 1, H', W')
    return xp.permute_dims(total(xp.permute_dims(x, (1, 2, 3, 0))), (3, 0, 1, 2)) / area, of_x  # (N, C, H', W')


def _entering(dev: Any, x: Array, kernel: Any, stride: Any, padding: Any, dilation: Any) -> list[Array]:
    """For each element of the window, (1, H', W', 1): where it is the first of the window's elements in the image."""
    xp, (H, W) = dev.xp, x.shape[1:3]
    image = xp.ones((1, H, W, 1), dtype=xp.bool, device=dev.native)
    parts = shifts(padded(dev, image, _around(padding), False), kernel, stride, dilation)  # each (1, H', W', 1)
    seen, first = parts[0], parts[:1]
    for part in parts[1:]:
        first.append(part & ~seen)
        seen = seen | part
    return first


def _around(padding: tuple[int, int]) -> list[tuple[int, int]]:
    """The widths of a padding of (C, H, W, N)."""
    return [(0, 0), *((p, p) for p in padding), (0, 0)]


def _window(x: Array, kernel_size: Pair, stride: Pair | None, padding: Pair) -> tuple[tuple[int, int], ...]:
    """The window of a pooling, checked: (kernel, stride, padding)."""
    if x.ndim != 4:
        raise ValueError("x has four dimensions; for one image write x[None]")
    return pooling(kernel_size, stride, padding)


def pooling(kernel_size: Pair, stride: Pair | None, padding: Pair) -> tuple[tuple[int, int], ...]:
    """The settings of a pooling, checked: (kernel, stride, padding)."""
    kernel = pair("kernel_size", kernel_size, 1)
    pad = pair("padding", padding, 0)
    if pad[0] * 2 > kernel[0] or pad[1] * 2 > kernel[1]:
        raise ValueError(f"padding {pad} is more than half of the window {kernel}")
    return kernel, kernel if stride is None else pair("stride", stride, 1), pad
