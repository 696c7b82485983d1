"""Losses as single ops: each computes its logarithms safely and has its gradient derived by hand.

`reduction` is "mean", "sum", or "none" for one loss per element or example.
"""

from __future__ import annotations

import math
from typing import Any

from backends import Array, Device
from tinytorch.autograd import expect_tensors, op
from tinytorch.ops.index import checked_index

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "mse_loss",
]


def _reduce(dev: Any, losses: Array, reduction: str, count: Any = None) -> tuple[Array, Any]:
    """The losses reduced, and what turns the gradient of the result into that of each loss.

    `count` divides the mean; the number of losses if it is not given.
    """
    if reduction == "none":
        return losses, lambda g: g
    if reduction == "sum":
        return dev.xp.sum(losses), lambda g: g
    if reduction != "mean":
        raise ValueError(f"reduction is 'mean', 'sum' or 'none', not {reduction!r}")
    if count is None:
        count = math.prod(losses.shape)
        if count == 0:
            raise ValueError("the mean of an empty batch is not defined")
    return dev.xp.sum(losses) / count, lambda g: g / count


def _same_shape(x: Array, target: Array) -> None:
    if x.shape != target.shape:
        raise ValueError(
            f"the input has shape {tuple(x.shape)} and the target {tuple(target.shape)}; they must be the same, "
            "so reshape one of them"
        )


@op(kinds="f", same=True)
def mse_loss(dev: Device, input: Array, target: Array, /, *, reduction: str = "mean") -> Any:
    """The squared error, (input - target)**2.

    >>> tinytorch.mse_loss(Tensor([1.0, 2.0]), Tensor([0.0, 0.0]))
    tensor(2.5)
    """
    _same_shape(input, target)
    d = input - target
    y, each = _reduce(dev, d * d, reduction)
    return y, lambda g: d * (each(g) * 2), lambda g: d * (each(g) * -2)


@op(kinds="f", same=True)
def binary_cross_entropy(dev: Device, input: Array, target: Array, /, *, reduction: str = "mean") -> Any:
    """-(target * log(input) + (1 - target) * log(1 - input)), for probabilities. Logarithms are at least -100.

    From logits `binary_cross_entropy_with_logits` is more accurate.

    >>> tinytorch.binary_cross_entropy(Tensor([0.5, 0.5]), Tensor([0.0, 1.0]))
    tensor(0.6931)
    """
    xp = dev.xp
    _same_shape(input, target)
    log_p = xp.maximum(xp.log(xp.maximum(input, 1e-44)), -100.0)
    log_q = xp.where(input == 1, -100.0, xp.log1p(-xp.where(input == 1, 0.0, input)))
    y, each = _reduce(dev, target * (log_q - log_p) - log_q, reduction)

    def of_input(g: Array) -> Array:
        product = input * (1.0 - input)
        return each(g) * ((input - target) / xp.maximum(product, 1e-12))

    return y, of_input, lambda g: each(g) * (log_q - log_p)


@op(kinds="f", same=True)
def binary_cross_entropy_with_logits(dev: Device, input: Array, target: Array, /, *, reduction: str = "mean") -> Any:
    """The binary cross entropy of sigmoid(input): max(z, 0) - z * target + log(1 + exp(-|z|)).

    >>> tinytorch.binary_cross_entropy_with_logits(Tensor([0.0, 0.0]), Tensor([0.0, 1.0]))
    tensor(0.6931)
    """
    xp = dev.xp
    _same_shape(input, target)
    e = xp.exp(-xp.abs(input))
    y, each = _reduce(dev, xp.maximum(input, 0.0) - input * target + xp.log1p(e), reduction)
    return (
        y,
        lambda g: each(g) * (xp.where(input < 0, e, 1.0) / (e + 1.0) - target),
        lambda g: each(g) * -input,
    )


@op(kinds="f", apart=(1,))
def _cross_entropy(
    dev: Device, input: Array, target: Array, /, *, reduction: str, ignore_index: int, label_smoothing: float
) -> Any:
    xp, smooth = dev.xp, label_smoothing
    axis = min(input.ndim - 1, 1)  # of the classes
    C = input.shape[axis]
    indices = target.ndim < input.ndim
    if indices:
        kept = target != ignore_index
        input = xp.where(xp.expand_dims(kept, axis=axis), input, 0.0)
    z = input - xp.max(input, axis=axis, keepdims=True)
    e = xp.exp(z)
    s = xp.sum(e, axis=axis, keepdims=True)
    if not indices:
        cost = xp.log(s) - z  # -log of the probability of each class
        q = target * (1.0 - smooth) + smooth / C if smooth else target
        losses = xp.sum(q * cost, axis=axis)
        y, each = _reduce(dev, losses, reduction, math.prod(input.shape) // C)

        def spread(g: Array) -> Array:  # the gradient of each loss, with the axis of the classes
            return xp.expand_dims(xp.broadcast_to(each(g), losses.shape), axis=axis)

        return (
            y,
            lambda g: (e / s * xp.sum(q, axis=axis, keepdims=True) - q) * spread(g),
            lambda g: cost * (spread(g) * (1.0 - smooth)),
        )

    classes = xp.reshape(xp.arange(C, dtype=target.dtype, device=dev.native), (C,) + (1,) * (input.ndim - axis - 1))
    hot = xp.expand_dims(target, axis=axis) == classes
    picked = xp.sum(xp.where(hot, z, 0.0), axis=axis)  # not a product: a class that is ruled out has logit -infinity
    losses = xp.log(xp.reshape(s, picked.shape)) - picked
    if smooth:
        losses = losses * (1.0 - smooth) + xp.sum(xp.log(s) - z, axis=axis) * (smooth / C)
    weight = xp.astype(kept, input.dtype)
    y, each = _reduce(dev, losses * weight, reduction, xp.sum(weight))

    def of_input(g: Array) -> Array:
        q = xp.astype(hot, input.dtype)
        d = e / s - (q * (1.0 - smooth) + smooth / C if smooth else q)
        return d * xp.expand_dims(each(g) * weight, axis=axis)

    return y, of_input, None


def cross_entropy(
    input: Any, target: Any, /, *, reduction: str = "mean", ignore_index: int = -100, label_smoothing: float = 0.0
) -> Any:
    """-sum over classes of q * log_softmax(input), with q the target as probabilities.

    Args:
        input: logits, (N, C), (C,) or (N, C, d1, ...).
        target: class indices, integers of the shape of the input without C; or probabilities, of its whole shape.
        reduction: "mean" divides by the number of targets that are not ignored.
        ignore_index: targets with this index count for nothing.
        label_smoothing: that part of each q, in [0, 1], is spread evenly over the classes.

    Raises:
        ValueError: the shapes do not go together, or the batch is empty.
        TypeError: the target is neither integer nor of the dtype of the input.
        IndexError: a class index is outside [0, C) (on a GPU, when values are next read).

    >>> tinytorch.cross_entropy(Tensor([[0.0, 0.0]]), Tensor([1]))
    tensor(0.6931)
    """
    expect_tensors("cross_entropy", input, target)
    shape, of_target = input.shape, target.shape
    if not shape:
        raise ValueError("cross_entropy: the input has logits of classes along an axis, not shape ()")
    axis = min(len(shape) - 1, 1)
    C = shape[axis]
    integral = target.dtype.kind in "iu"
    needed = shape[:axis] + shape[axis + 1 :] if integral else shape
    if of_target != needed:
        raise ValueError(
            f"cross_entropy: with an input of shape {shape} the target has shape {shape[:axis] + shape[axis + 1 :]} if "
            f"it holds class indices and {shape} if it holds probabilities; it is {target.dtype.name} of shape "
            f"{of_target}"
        )
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"cross_entropy: label_smoothing is between 0 and 1, not {label_smoothing}")
    if 0 in shape and reduction == "mean":
        raise ValueError(f"cross_entropy: the mean of an empty batch is not defined: input of shape {shape}")
    if integral:
        target = checked_index(target, C, "cross_entropy: class", ignore=ignore_index)
    elif target.dtype != input.dtype:
        raise TypeError(
            f"cross_entropy: the target holds class indices (integers) or probabilities ({input.dtype.name} as the "
            f"input), not {target.dtype.name}; convert with .astype(...)"
        )
    return _cross_entropy(
        input, target, reduction=reduction, ignore_index=ignore_index, label_smoothing=label_smoothing
    )
