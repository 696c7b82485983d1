"""Losses as modules; the functions are in `tinytorch.ops.loss`."""

from __future__ import annotations

import numpy as np

from tinytorch import ops
from tinytorch.nn.module import Module
from tinytorch.nn.settings import check_number
from tinytorch.tensor import Tensor
from tinytorch.words import checked


class _Loss(Module):
    @checked
    def __init__(self, *, reduction: str = "mean") -> None:
        if reduction not in ("mean", "sum", "none"):
            raise ValueError(f"{type(self).__name__}: reduction is 'mean', 'sum' or 'none', not {reduction!r}")
        self.reduction = reduction

    def extra_repr(self) -> str:
        return f"reduction={self.reduction!r}"


class MSELoss(_Loss):
    """The mean of (input - target)**2; see `tinytorch.mse_loss`.

    >>> tinytorch.MSELoss()(Tensor([1.0, 2.0]), Tensor([0.0, 0.0]))
    tensor(2.5)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return ops.mse_loss(input, target, reduction=self.reduction)


class BCELoss(_Loss):
    """The binary cross entropy of probabilities; see `tinytorch.binary_cross_entropy`.

    >>> tinytorch.BCELoss()(Tensor([0.5]), Tensor([1.0]))
    tensor(0.6931)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return ops.binary_cross_entropy(input, target, reduction=self.reduction)


BinaryCrossEntropyLoss = BCELoss  # the spelling of the course that this library follows


class BCEWithLogitsLoss(_Loss):
    """The binary cross entropy of sigmoid(input); see `tinytorch.binary_cross_entropy_with_logits`.

    >>> tinytorch.BCEWithLogitsLoss()(Tensor([0.0]), Tensor([1.0]))
    tensor(0.6931)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return ops.binary_cross_entropy_with_logits(input, target, reduction=self.reduction)


class CrossEntropyLoss(_Loss):
    """The cross entropy of softmax(input), from logits and classes or probabilities; see `tinytorch.cross_entropy`.

    >>> tinytorch.CrossEntropyLoss()(Tensor([[0.0, 0.0]]), Tensor([1]))
    tensor(0.6931)
    """

    @checked
    def __init__(self, *, ignore_index: int = -100, reduction: str = "mean", label_smoothing: float = 0.0) -> None:
        super().__init__(reduction=reduction)
        if not isinstance(ignore_index, int | np.integer) or isinstance(ignore_index, bool):
            raise TypeError(f"CrossEntropyLoss: ignore_index is an integer, not {ignore_index!r}")
        check_number("CrossEntropyLoss", "label_smoothing", label_smoothing, 0, 1)
        self.ignore_index, self.label_smoothing = int(ignore_index), label_smoothing

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, ignore_index={self.ignore_index}, label_smoothing={self.label_smoothing}"

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return ops.cross_entropy(
            input,
            target,
            reduction=self.reduction,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
        )
