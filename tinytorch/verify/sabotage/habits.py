"""Mistakes that everybody makes at some time: with losses, labels, modes, data and settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

from tinytorch import ops
from tinytorch.creation import arange
from tinytorch.data import TensorDataset, digits
from tinytorch.nn import BCELoss, CrossEntropyLoss, Linear, Module, Sigmoid, init
from tinytorch.optim import Optimizer
from tinytorch.tensor import Tensor
from tinytorch.verify.sabotage.tools import bug
from tinytorch.verify.sabotage.training import rates_times

# Losses and labels ------------------------------------------------------------------------------------------------


def _given(loss: Any, change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> AbstractContextManager[Any]:
    """Give a loss `change(x, y)` in the place of x and y."""
    right = loss.forward
    return patch.object(loss, "forward", lambda self, x, y: right(self, *change(x, y)))


@bug
def softmax_before_loss() -> Iterator[None]:
    """The cross entropy is given probabilities, where it wants logits."""
    with _given(CrossEntropyLoss, lambda x, y: (ops.softmax(x, axis=1), y)):
        yield


@bug
def sigmoid_twice() -> Iterator[None]:
    """The binary cross entropy is given the sigmoid of the sigmoid."""
    with _given(BCELoss, lambda x, y: (ops.sigmoid(x), y)):
        yield


@bug
def logits_as_probabilities() -> Iterator[None]:
    """The sigmoid before the binary cross entropy is forgotten."""
    with patch.object(Sigmoid, "forward", lambda self, x: x):
        yield


@bug
def labels_one_hot() -> Iterator[None]:
    """The cross entropy is given one-hot labels, where it wants indices."""

    def change(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        classes = arange(x.shape[1], dtype=y.dtype, device=y.device)
        return x, ops.astype(y[:, None] == classes, x.dtype)

    with _given(CrossEntropyLoss, change):
        yield


@bug
def labels_floating() -> Iterator[None]:
    """The cross entropy is given labels that are floating numbers."""
    with _given(CrossEntropyLoss, lambda x, y: (x, ops.astype(y, x.dtype))):
        yield


@bug
def labels_off_by_one() -> Iterator[None]:
    """The labels go from 1 to C, where they should go from 0 to C - 1."""
    with _given(CrossEntropyLoss, lambda x, y: (x, y + 1)):
        yield


# Models -----------------------------------------------------------------------------------------------------------


@bug
def eval_mode_left_on() -> Iterator[None]:
    """The model is trained in eval mode, without dropout."""
    with patch.object(Module, "training", False):
        yield


@bug
def weights_start_large() -> Iterator[None]:
    """Initial weights are a hundred times what they should be, so that units saturate."""
    right = init.uniform_
    with patch.object(init, "uniform_", lambda p, a=0.0, b=1.0, *rest, **k: right(p, 100 * a, 100 * b, *rest, **k)):
        yield


@bug
def tensor_for_parameter() -> Iterator[None]:
    """The bias of linear layers is a plain Tensor, not a Parameter."""
    right = Linear.__init__

    def make(self: Any, *args: Any, **kwargs: Any) -> None:
        right(self, *args, **kwargs)
        if self.bias is not None:
            bias = self.bias
            del self.bias
            self.bias = Tensor(bias.detach().numpy(), bias.dtype, bias.device, requires_grad=True)

    with patch.object(Linear, "__init__", make):
        yield


@bug
def dtypes_mixed() -> Iterator[None]:
    """The model is float64, and the data are float32."""
    right = Module.to
    with patch.object(Module, "to", lambda self, *args, **kwargs: right(self, "float64")):
        yield


# Data and settings ------------------------------------------------------------------------------------------------


@bug
def data_not_normalised() -> Iterator[None]:
    """The pixels of TinyDigits go from 0 to 255, not from 0 to 1."""
    with patch.object(digits, "TensorDataset", lambda images, labels: TensorDataset(images * 255.0, labels)):
        yield


@bug
def learning_rate_too_small() -> Iterator[None]:
    """The learning rate is a billionth of what was asked for."""
    with rates_times(1e-9):
        yield


@bug
def learning_rate_as_attribute() -> Iterator[None]:
    """The learning rate is set as an attribute of the optimizer, where it has no effect."""
    right = Optimizer.__init__

    def make(self: Any, *args: Any, **kwargs: Any) -> None:
        right(self, *args, **kwargs)
        self.lr = 0.5

    with patch.object(Optimizer, "__init__", make):
        yield
