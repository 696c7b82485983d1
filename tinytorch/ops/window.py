"""Functions of windows that slide over images: convolution and pooling, (N, C, H, W) -> (N, O, H', W').

A convolution is one matrix product: for each offset in the kernel a shifted slice of the image is a block of rows, and
the kernel is the matrix on the left. In memory the images are kept batch-last, (C, H, W, N), behind the usual
interface, so that every slice copies long runs and nothing has to be transposed between layers. The gradient of taking
a slice is adding its gradient in at the same place.
"""

from __future__ import annotations

import math
import operator
from typing import Any

from backends import Array, Device
from tinytorch.autograd import op, shared
from tinytorch.ops.axes import along
from tinytorch.ops.index import spaced
from tinytorch.ops.shape import padded

__all__ = [
    "avg_pool2d",
    "conv2d",
    "max_pool2d",
]

Pair = int | tuple[int, int]


def pair(name: str, value: Pair, least: int) -> tuple[int, int]:
    """One integer, or two, as (rows, columns)."""
    try:
        two = tuple(operator.index(n) for n in (value if isinstance(value, tuple | list) else (value, value)))
    except TypeError:
        two = ()
    if len(two) != 2 or min(two) < least:
        raise ValueError(f"{name} is an integer, at least {least}, or two (rows, columns), not {value!r}")
    return two


def _counts(shape: Any, kernel: Any, stride: Any, padding: Any, dilation: Any) -> tuple[int, int]:
    """The number of places of the kernel along H and W: (n + 2 padding - dilation (k - 1) - 1) // stride + 1."""
    places = []
    for n, k, s, p, d in zip(shape, kernel, stride, padding, dilation, strict=True):
        room = n + 2 * p - d * (k - 1) - 1
        if room < 0:
            raise ValueError(
                f"the kernel spans {d * (k - 1) + 1} but the image, with padding, only {n + 2 * p}; pad more"
            )
        places.append(room // s + 1)
    return places[0], places[1]


def _shifts(
    x: Array,
    axis: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    places: tuple[int, int],
) -> list[Array]:
    """For each offset in the kernel, row by row, the elements under it at all places; `axis` is H, the next one W."""
    lead = (slice(None),) * axis
    (kh, kw), (sh, sw), (dh, dw), (ph, pw) = kernel, stride, dilation, places
    return [
        x[(*lead, slice(i * dh, i * dh + (ph - 1) * sh + 1, sh), slice(j * dw, j * dw + (pw - 1) * sw + 1, sw), ...)]
        for i in range(kh)
        for j in range(kw)
    ]


def _unshift(dev: Any, parts: list[Array], axis: int, kernel: Any, stride: Any, dilation: Any, shape: Any) -> Array:
    """The gradient of `_shifts`: each part added in where its slice was taken from, in an image of the shape (H, W)."""
    kh, kw = kernel
    rows = [_along(dev, parts[i * kw : (i + 1) * kw], axis + 1, stride[1], dilation[1], shape[1]) for i in range(kh)]
    return _along(dev, rows, axis, stride[0], dilation[0], shape[0])


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


@op(kinds="f", same=True, wants="x (N, C, H, W), weight (O, C / groups, KH, KW) and bias (O,) or None")
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
        stride: steps between places of the kernel; each of these is a number or a pair (rows, columns).
        padding: zeros on each side of the image.
        dilation: steps between the elements of the kernel.
        groups: the channels are split into that many groups, each with its own O / groups kernels.

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
    kernel, size = (KH, KW), (H + 2 * padding[0], W + 2 * padding[1])
    places = _counts((H, W), kernel, stride, padding, dilation)
    M = places[0] * places[1] * N
    image = padded(dev, xp.permute_dims(x, (1, 2, 3, 0)), [(0, 0), *((p, p) for p in padding), (0, 0)])  # (C, H, W, N)
    cols = xp.stack(_shifts(image, 1, kernel, stride, dilation, places), axis=1)  # (C, KH KW, H', W', N)
    cols = xp.reshape(cols, (groups, per_group * KH * KW, M))
    w = xp.reshape(weight, (groups, O // groups, per_group * KH * KW))
    y = xp.reshape(xp.matmul(w, cols), (O, M))
    if bias is not None:
        y = y + bias[:, None]
    y = xp.permute_dims(xp.reshape(y, (O, *places, N)), (3, 0, 1, 2))  # (N, O, H', W')

    flat = shared(lambda g: xp.reshape(xp.permute_dims(g, (1, 2, 3, 0)), (groups, O // groups, M)))

    def of_x(g: Array) -> Array:
        gcols = xp.reshape(xp.matmul(w.mT, flat(g)), (C, KH * KW, *places, N))
        image = _unshift(dev, [gcols[:, k, ...] for k in range(KH * KW)], 1, kernel, stride, dilation, size)
        image = image[:, padding[0] : padding[0] + H, padding[1] : padding[1] + W, :]
        return xp.permute_dims(image, (3, 0, 1, 2))

    return (
        y,
        of_x,
        lambda g: xp.reshape(xp.matmul(flat(g), cols.mT), weight.shape),
        lambda g: xp.reshape(xp.sum(flat(g), axis=-1), (O,)),
    )


@op(kinds="f", wants="x (N, C, H, W)")
def max_pool2d(
    dev: Device, x: Array, /, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0, dilation: Pair = 1
) -> Any:
    """The largest element under each place of the window. The first of equal ones gets the gradient.

    Args:
        kernel_size: size of the window; each of these is a number or a pair (rows, columns).
        stride: steps between places; the window's size unless given.
        padding: minus infinities on each side of the image, at most half the window.
        dilation: steps between the elements of the window.

    >>> tinytorch.max_pool2d(Tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), 2)
    tensor([[[[4.]]]])
    """
    xp = dev.xp
    kernel, stride, padding = _window(x, kernel_size, stride, padding)
    dilation = pair("dilation", dilation, 1)
    H, W = x.shape[2:]
    places = _counts((H, W), kernel, stride, padding, dilation)
    wide = padded(dev, x, [(0, 0), (0, 0), *((p, p) for p in padding)], -math.inf)
    parts = _shifts(wide, 2, kernel, stride, dilation, places)
    y = parts[0]
    for part in parts[1:]:
        y = xp.maximum(y, part)

    def of_x(g: Array) -> Array:
        gparts, left = [], None
        for part in parts:
            hit = part == y if left is None else (part == y) & left
            left = ~hit if left is None else left & ~hit
            gparts.append(xp.where(hit, g, 0.0))
        image = _unshift(dev, gparts, 2, kernel, stride, dilation, wide.shape[2:])
        return image[:, :, padding[0] : padding[0] + H, padding[1] : padding[1] + W]

    return y, of_x


@op(kinds="f", wants="x (N, C, H, W)")
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
        kernel_size: size of the window; each of these is a number or a pair (rows, columns).
        stride: steps between places; the window's size unless given.
        padding: zeros on each side of the image, at most half the window.
        count_include_pad: whether those zeros count as elements.

    >>> tinytorch.avg_pool2d(Tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), 2)
    tensor([[[[2.5]]]])
    """
    kernel, stride, padding = _window(x, kernel_size, stride, padding)
    H, W = x.shape[2:]
    places = _counts((H, W), kernel, stride, padding, (1, 1))
    widths = [(0, 0), (0, 0), *((p, p) for p in padding)]
    wide = padded(dev, x, widths)
    area: Any = kernel[0] * kernel[1]
    if not count_include_pad and padding != (0, 0):
        ones = padded(dev, dev.xp.ones((1, 1, H, W), dtype=x.dtype, device=dev.native), widths)
        area = _total(_shifts(ones, 2, kernel, stride, (1, 1), places))

    def of_x(g: Array) -> Array:
        image = _unshift(dev, [g / area] * (kernel[0] * kernel[1]), 2, kernel, stride, (1, 1), wide.shape[2:])
        return image[:, :, padding[0] : padding[0] + H, padding[1] : padding[1] + W]

    return _total(_shifts(wide, 2, kernel, stride, (1, 1), places)) / area, of_x


def _total(parts: list[Array]) -> Array:
    out = parts[0]
    for part in parts[1:]:
        out = out + part
    return out


def _window(x: Array, kernel_size: Pair, stride: Pair | None, padding: Pair) -> tuple[tuple[int, int], ...]:
    """The window of a pooling, checked: (kernel, stride, padding)."""
    if x.ndim != 4:
        raise ValueError("x has four dimensions; for one image write x[None]")
    kernel = pair("kernel_size", kernel_size, 1)
    pad = pair("padding", padding, 0)
    if pad[0] * 2 > kernel[0] or pad[1] * 2 > kernel[1]:
        raise ValueError(f"padding {pad} is more than half of the window {kernel}")
    return kernel, kernel if stride is None else pair("stride", stride, 1), pad
