"""Losses as single ops: each computes its logarithms safely and has its gradient derived by hand.

`reduction` is "mean", "sum", or "none" for one loss per element or example.
"""

from __future__ import annotations

import math
from typing import Any

from tinytorch.autograd import op
from tinytorch.backends import Array, Device
from tinytorch.ops.elementwise import logistic
from tinytorch.ops.index import as_index
from tinytorch.ops.reduce import top_of
from tinytorch.tape.checks import expect_tensors
from tinytorch.tape.variable import Variable, run_on
from tinytorch.words import OneTensor, bound, worded

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "mse_loss",
]


def _reduce(dev: Any, losses: Array, reduction: str, count: Any = None) -> tuple[Array, Any]:
    """The losses reduced, and a function from the gradient of the result to the gradient of each loss.

    A mean is divided by `count`, by default the number of losses.
    """
    if reduction == "none":
        return losses, lambda g: g
    if reduction == "sum":
        return dev.xp.sum(losses), lambda g: g  # ()
    if reduction != "mean":
        raise ValueError(f"reduction is 'mean', 'sum' or 'none', not {reduction!r}")
    if count is None:
        count = math.prod(losses.shape)
        if count == 0:
            raise ValueError("the mean of an empty batch is not defined")
    return dev.xp.sum(losses) / count, lambda g: g / count  # ()


def _same_shape(x: Array, target: Array) -> None:
    if x.shape != target.shape:
        raise ValueError(
            f"the input has shape {tuple(x.shape)} and the target {tuple(target.shape)}; they must be the same, "
            "so reshape one of them"
        )


_INSIDE = {"sigmoid", "softmax"}  # ops whose results are in [0, 1]


def _expect_probabilities(x: Any, what: str) -> None:
    """Raise ValueError if a number is outside [0, 1]: the loss would have no lower bound."""
    if isinstance(x, Variable) and x.dtype.kind == "f" and (x.node is None or x.node.op.name not in _INSIDE):
        run_on(x.device, x.device.check_unit, x.array, what)


@op(kinds="f", one_dtype=True)
def mse_loss(dev: Device, input: Array, target: Array, /, *, reduction: str = "mean") -> Any:
    """The squared error, (input - target)**2.

    >>> tinytorch.mse_loss(Tensor([1.0, 2.0]), Tensor([0.0, 0.0]))
    tensor(2.5)
    """
    _same_shape(input, target)
    d = input - target
    y, each = _reduce(dev, d * d, reduction)
    return y, lambda g: d * (each(g) * 2), lambda g: d * (each(g) * -2)


@op(kinds="f", one_dtype=True)
def _binary_cross_entropy(dev: Device, input: Array, target: Array, /, *, reduction: str) -> Any:
    xp = dev.xp
    _same_shape(input, target)
    log_p = xp.maximum(xp.log(xp.maximum(input, 1e-44)), -100.0)
    sure = xp.astype(input == 1, input.dtype)  # 1 where the input is 1, else 0
    log_q = xp.log1p(sure - input) - sure * 100.0
    y, each = _reduce(dev, target * (log_q - log_p) - log_q, reduction)

    def of_input(g: Array) -> Array:
        product = input * (1.0 - input)
        return each(g) * ((input - target) / xp.maximum(product, 1e-12))

    return y, of_input, lambda g: each(g) * (log_q - log_p)


@bound
def binary_cross_entropy(input: Any, target: Any, /, *, reduction: str = "mean") -> OneTensor:
    """-(target * log(input) + (1 - target) * log(1 - input)), for probabilities. Logarithms are at least -100.

    For logits `binary_cross_entropy_with_logits` is more accurate.

    Raises:
        ValueError: the shapes differ, or a number of the input or target is outside [0, 1], and so no probability.
        IndexError: a number is outside [0, 1] on a GPU; raised when values are next read.

    >>> tinytorch.binary_cross_entropy(Tensor([0.5, 0.5]), Tensor([0.0, 1.0]))
    tensor(0.6931)
    """
    _expect_probabilities(
        input,
        "binary_cross_entropy: the input is of probabilities, as of sigmoid(input), or "
        "binary_cross_entropy_with_logits",
    )
    _expect_probabilities(target, "binary_cross_entropy: the target is of probabilities, as of labels 0 and 1")
    return _binary_cross_entropy(input, target, reduction=reduction)


@op(kinds="f", one_dtype=True)
def _binary_cross_entropy_with_logits(dev: Device, input: Array, target: Array, /, *, reduction: str) -> Any:
    xp = dev.xp
    _same_shape(input, target)
    wrong = xp.astype(input >= 0, input.dtype) - target  # 1 or 0, the side of the logit, minus the target
    losses = xp.where(wrong != 0, input, 0.0) * wrong + xp.log1p(xp.exp(-xp.abs(input)))  # no infinity times 0
    y, each = _reduce(dev, losses, reduction)
    return y, lambda g: each(g) * (logistic(dev, input) - target), lambda g: each(g) * -input


@bound
def binary_cross_entropy_with_logits(input: Any, target: Any, /, *, reduction: str = "mean") -> OneTensor:
    """Binary cross entropy of sigmoid(z): max(z, 0) - z * target + log(1 + exp(-|z|)), z the input, finite or not.

    Raises:
        ValueError: the shapes differ, or a number of the target is outside [0, 1], and so no probability.
        IndexError: a number is outside [0, 1] on a GPU; raised when values are next read.

    >>> tinytorch.binary_cross_entropy_with_logits(Tensor([0.0, 0.0]), Tensor([0.0, 1.0]))
    tensor(0.6931)
    """
    _expect_probabilities(
        target, "binary_cross_entropy_with_logits: the target is of probabilities, as of labels 0 and 1"
    )
    return _binary_cross_entropy_with_logits(input, target, reduction=reduction)


@op(kinds="f", free=(1,))
def _cross_entropy(
    dev: Device, input: Array, target: Array, /, *, reduction: str, ignore_index: int, label_smoothing: float
) -> Any:
    xp, smooth = dev.xp, label_smoothing
    axis = min(input.ndim - 1, 1)  # of the classes
    C, shape = input.shape[axis], input.shape
    others = (*shape[:axis], *shape[axis + 1 :])

    def rows(x: Array) -> Array:  # (N, C, d1, ...) -> (M, C), the classes of each example
        return x if x.ndim == 2 else xp.reshape(xp.moveaxis(x, axis, -1), (-1, C))

    def unrows(x: Array) -> Array:  # (M, C) -> (N, C, d1, ...)
        return x if len(shape) == 2 else xp.moveaxis(xp.reshape(x, (*others, C)), -1, axis)

    def column(g: Array) -> Array:  # (N, d1, ...) -> (M, 1), the gradient of each loss; () of all
        return xp.reshape(g, (-1, 1)) if g.ndim else g

    z = rows(input)  # (M, C)
    M = z.shape[0]
    indices = target.ndim < input.ndim
    labels = xp.reshape(target, (M,)) if indices else rows(target)  # (M,), of probabilities (M, C)
    if not indices:
        z = z - top_of(dev, z, 1)  # (M, C) - (M, 1)
        e = xp.exp(z)
        s = xp.sum(e, axis=1, keepdims=True)  # (M, 1)
        cost = xp.log(s) - z  # -log of the probability of each class
        q = labels * (1.0 - smooth) + smooth / C if smooth else labels
        losses = xp.sum(xp.where(q == 0, 0.0, q * cost), axis=1)  # (M,); where q is 0 the cost may be infinite
        y, each = _reduce(dev, xp.reshape(losses, others), reduction)  # (N, d1, ...) or ()
        return (
            y,  # (N, d1, ...) or ()
            lambda g: unrows((e / s * xp.sum(q, axis=1, keepdims=True) - q) * column(each(g))),  # (N, C, d1, ...)
            lambda g: unrows(cost * (column(each(g)) * (1.0 - smooth))),  # (N, C, d1, ...)
        )
    losses, kept, state = dev.class_losses(z, labels, ignore_index, smooth)  # losses (M,), kept (M,) or None
    count: Any = M if kept is None else xp.sum(xp.astype(kept, z.dtype, copy=False))  # a number or ()
    y, each = _reduce(dev, xp.reshape(losses, others), reduction, count)  # (N, d1, ...) or ()
    return y, lambda g: unrows(dev.class_losses_rule(state, column(each(g)))), None  # of input (N, C, d1, ...)


@worded
def cross_entropy(
    input: Any, target: Any, /, *, reduction: str = "mean", ignore_index: int = -100, label_smoothing: float = 0.0
) -> OneTensor:
    """-sum over classes of q * log_softmax(input), with q the target as probabilities.

    Args:
        input: logits, (N, C), (C,) or (N, C, d1, ...).
        target: class indices, integers of the shape of the input without C; or probabilities of the input's shape.
        reduction: "mean" divides by the number of targets that are not ignored.
        ignore_index: targets with this index are ignored.
        label_smoothing: the part of each q, in [0, 1], that is spread evenly over the classes.

    Raises:
        ValueError: the shapes do not go together, or the batch is empty.
        TypeError: the target is neither integer nor of the dtype of the input.
        IndexError: a class index is outside [0, C) (on a GPU, when values are next read).

    >>> tinytorch.cross_entropy(Tensor([[0.0, 0.0]]), Tensor([1]))
    tensor(0.6931)
    """
    expect_tensors("cross_entropy", input, target)
    shape, kind, dev = input.shape, target.dtype.kind, target.device
    if not shape:
        raise ValueError("cross_entropy: the input has logits of classes along an axis, not shape ()")
    axis = min(len(shape) - 1, 1)
    C, others = shape[axis], shape[:axis] + shape[axis + 1 :]
    if target.shape != (others if kind in "iu" else shape):
        raise ValueError(
            f"cross_entropy: with an input of shape {shape} the target has shape {others} if it holds class indices "
            f"and {shape} if it holds probabilities; it is {target.dtype.name} of shape {target.shape}"
        )
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"cross_entropy: label_smoothing is between 0 and 1, not {label_smoothing}")
    if 0 in shape and reduction == "mean":
        raise ValueError(f"cross_entropy: the mean of an empty batch is not defined: input of shape {shape}")
    if kind in "iu":
        target = as_index(target, "cross_entropy")
        run_on(dev, dev.check_index, target.array, C, "cross_entropy: class", ignore_index)
    elif target.dtype != input.dtype:
        raise TypeError(
            f"cross_entropy: the target holds class indices (integers) or probabilities ({input.dtype.name} as the "
            f"input), not {target.dtype.name}; convert with .astype(...)"
        )
    return _cross_entropy(
        input, target, reduction=reduction, ignore_index=ignore_index, label_smoothing=label_smoothing
    )
