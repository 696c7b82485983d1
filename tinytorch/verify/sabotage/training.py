"""Bugs in optimizers and data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np

from tinytorch import ops
from tinytorch.data import DataLoader, TensorDataset, digits
from tinytorch.nn import Module
from tinytorch.optim import SGD, Adam, Optimizer
from tinytorch.tensor import Tensor
from tinytorch.verify.sabotage.tools import bug

# Optimizers -------------------------------------------------------------------------------------------------------


@bug
def step_does_nothing() -> Iterator[None]:
    """The optimizer's step changes nothing."""
    with patch.object(Optimizer, "step", lambda self: None):
        yield


@bug
def gradients_never_cleared() -> Iterator[None]:
    """`zero_grad` does nothing, and gradients add up."""
    with (
        patch.object(Optimizer, "zero_grad", lambda self, set_to_none=True: None),
        patch.object(Module, "zero_grad", lambda self: None),
    ):
        yield


@contextmanager
def _updates(change: Callable[..., Any]) -> Iterator[None]:
    """Put `change(update, self, dev, values, grad, state, numbers)` in the place of the optimizers' rules."""

    def changed(cls: Any) -> Any:
        right = cls.update
        return patch.object(cls, "update", lambda self, *args: change(right, self, *args))

    with changed(SGD), changed(Adam):
        yield


@contextmanager
def rates_times(factor: float) -> Iterator[None]:
    """Let the optimizers compute with other learning rates than the given ones."""

    def changed(cls: Any) -> Any:
        right = cls.numbers
        return patch.object(
            cls, "numbers", lambda self, steps, group: right(self, steps, {**group, "lr": group["lr"] * factor})
        )

    with changed(SGD), changed(Adam):
        yield


@bug
def gradient_ascent() -> Iterator[None]:
    """The optimizers go up instead of down."""
    with _updates(lambda right, self, dev, values, grad, *rest: right(self, dev, values, -grad, *rest)):
        yield


@bug
def learning_rate_too_large() -> Iterator[None]:
    """The learning rate is a thousand times what was asked for."""

    with rates_times(1000):
        yield


@bug
def parameter_forgotten() -> Iterator[None]:
    """The optimizer is not given the first of the parameters."""
    add = Optimizer.add_param_group

    def forgetful(self: Optimizer, group: Any) -> None:
        add(self, {**group, "params": list(group["params"])[1:]})

    with patch.object(Optimizer, "add_param_group", forgetful):
        yield


# Data -------------------------------------------------------------------------------------------------------------


@contextmanager
def _batches(change: Callable[[list[Any]], Iterator[Any]]) -> Iterator[None]:
    """Put `change(batches)` in the place of the batches of an epoch."""
    right = DataLoader.__iter__
    with patch.object(DataLoader, "__iter__", lambda self: change(list(right(self)))):
        yield


@bug
def labels_leaked() -> Iterator[None]:
    """In training the inputs contain the labels: as numbers in the first places, or, of tokens, in all."""

    def leak(batches: list[Any]) -> Iterator[Any]:
        for x, y in batches:
            if x.dtype.kind != "f":
                yield y, y
                continue
            values = x.numpy().copy()
            rows, labels = values.reshape(len(values), -1), y.numpy().reshape(len(values))
            if y.dtype.kind == "f":
                rows[:, 0] = labels
            else:
                rows[:, :10] = 5.0 * (labels[:, None] == np.arange(10))
            yield Tensor(values, x.dtype, x.device), y

    with _batches(leak):
        yield


@bug
def labels_misaligned() -> Iterator[None]:
    """Each example has the label of the example before."""
    with _batches(lambda batches: ((x, ops.roll(y, 1, axis=0)) for x, y in batches)):
        yield


@bug
def same_batch_again() -> Iterator[None]:
    """Every batch is the first one, epoch after epoch."""

    def again(self: Any) -> Iterator[Any]:
        if not hasattr(self, "_first"):
            self._first = next(batches(self))
        return (self._first for _ in range(len(self)))

    batches = DataLoader.__iter__
    with patch.object(DataLoader, "__iter__", again):
        yield


@bug
def epochs_cut_short() -> Iterator[None]:
    """An epoch ends after half of its batches."""
    with _batches(lambda batches: iter(batches[: len(batches) // 2])):
        yield


@bug
def held_out_transposed() -> Iterator[None]:
    """The test images of TinyDigits have rows and columns exchanged."""

    def dataset(images: Tensor, labels: Tensor) -> TensorDataset:
        return TensorDataset(images.mT if len(labels) == 200 else images, labels)

    with patch.object(digits, "TensorDataset", dataset):
        yield
