"""The argument of a training function: the device, the seed, `watch` and `batches`."""

from __future__ import annotations

import itertools
import numbers
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any

import numpy as np

from tinytorch.backends import Device
from tinytorch.dtypes import float32
from tinytorch.nn import Module
from tinytorch.optim import Optimizer
from tinytorch.program import compile
from tinytorch.tape.modes import no_grad
from tinytorch.tensor import Tensor
from tinytorch.verify.controls import Control
from tinytorch.words import bound, expecting, shown

Measure = Callable[[], Any]  # the loss or a metric: a one-element tensor or a number


class Handle:
    """The argument of a training function.

    Attributes:
        device, seed: the device and the seed of the run. Device and random numbers are already set to them.
        compile: whether `compiled` compiles.
        dtype: for the model, if the training function can use any dtype: float32, unless `compare` was asked for
            float64.
        model, optimizer: as given to `watch`.
        updates, total: the number of updates so far, and the planned number, as far as `batches` knows.
    """

    @expecting
    def __init__(
        self,
        device: Device,
        seed: int,
        dtype: np.dtype[Any] = float32,
        control: Control | None = None,
        limit: int | None = None,
        one_batch: bool = False,
        compile: bool = False,
    ) -> None:
        self.device, self.seed, self.dtype = device, seed, dtype
        self.model: Any = None
        self.optimizer: Optimizer | Iterable[Optimizer] | None = None
        self.updates, self.total = 0, limit or 0
        self.limit, self.compile = limit, compile
        self.told: Callable[[str], Any] = lambda event: None  # called as "watched", and after each "epoch"
        self.control, self._one_batch = control, one_batch
        self._hands_out = False  # whether `batches` was called
        self._measures: dict[str, Measure | None] = {}

    def __repr__(self) -> str:
        broken = f", {self.control.name}" if self.control is not None else ""
        return f"<handle on {self.device.name}, seed {self.seed}{broken}, {self.updates} updates>"

    @bound
    def watch(
        self,
        model: Module,
        optimizer: Optimizer | Iterable[Optimizer] | None = None,
        *,
        loss: Measure | None = None,
        metric: Measure | None = None,
        train_metric: Measure | None = None,
        curve: bool = False,
    ) -> None:
        """Say what learns, before the first update.

        Args:
            model: the gates judge its parameters.
            optimizer: one or several; with an optimizer, gates name parameters that it was not given.
            loss: a function that computes the loss on all training data, or enough of them.
            metric: a function that computes a number that should get large, on held-out data if there are any.
            train_metric: a function that computes this number on the training data, for the generalization gap.
            curve: measure the metric after each epoch of `batches`, too.

        `loss`, `metric` and `train_metric` are called without arguments, in `eval` mode and under `no_grad`.
        """
        if self.model is not None:
            raise RuntimeError("watch: once for each run; a model of several parts is one Module")
        if not isinstance(model, Module):
            raise TypeError(f"watch: the model is a Module, not {type(model).__name__}")
        for what, function in (("loss", loss), ("metric", metric), ("train_metric", train_metric)):
            if function is not None and not callable(function):
                raise TypeError(f"watch: {what} is a function that computes it: {what}=lambda: ..., not {function!r}")
        if not isinstance(curve, bool):
            raise TypeError(f"watch: curve is True or False, not {shown(curve)}")
        if self.control is not None and self.control.model is not None:
            self.control.model(model)
        self.model = model
        given = optimizers_of("watch", optimizer)
        self.optimizer = optimizer if len(given) == 1 and optimizer is given[0] else given or None
        self._measures = {
            "loss": loss,
            "metric": metric,
            "train_metric": train_metric,
            "curve": metric if curve else None,
        }
        self.told("watched")

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, compiled if this run is to be: a part of the update, such as all up to `loss.backward()`."""
        return compile(function) if self.compile else function

    def batches(self, loader: Iterable[Any], epochs: int = 1) -> Iterator[Any]:
        """The batches of so many passes over the data. Controls and gates change the data here."""
        if isinstance(loader, Sized):
            self.total = self.total or epochs * len(loader)
        self._hands_out = True
        change = self.control.batch if self.control is not None else None
        rng = np.random.Generator(np.random.Philox(self.seed))
        if epochs > 1 and isinstance(loader, Iterator):
            raise TypeError(
                f"batches: {type(loader).__name__} can be gone through once, not {epochs} times; give a DataLoader or "
                "a list of batches"
            )
        for _ in range(epochs):
            for batch in _again_and_again(loader) if self._one_batch else loader:
                if self.updates == self.limit:
                    return
                yield batch if change is None else change(batch, rng)
            self.told("epoch")

    @property
    def misses_batches(self) -> bool:
        """Whether a gate or control changes the batches, and the training function did not call `batches`."""
        return not self._hands_out and (self._one_batch or (self.control is not None and bool(self.control.batch)))

    # Measuring ----------------------------------------------------------------------------------------------------

    def measures(self, what: str) -> bool:
        """Whether `watch` was given a function for the "loss", "metric" or "train_metric"."""
        return self._measures.get(what) is not None

    def measure(self, what: str) -> float:
        """The "loss", "metric" or "train_metric" of the model as it is now; NaN if `watch` was not given a function."""
        if not self.measures(what):
            return float("nan")
        modes = [(m, m.training) for m in self.model.modules()]  # parts of the model may be in another mode
        self.model.eval()
        try:
            with no_grad():
                value = self.evaluate(what)
                return float(value.item() if isinstance(value, Tensor) else value)
        finally:
            for module, training in modes:
                module.training = training

    def evaluate(self, what: str) -> Any:
        """The result of the function for the "loss", "metric" or "train_metric": a one-element tensor or a number.

        Raises:
            TypeError: the result is something else.
        """
        value = self._measures[what]()  # type: ignore[misc]
        number = isinstance(value, numbers.Real) and not isinstance(value, str)
        if number or (isinstance(value, Tensor | np.ndarray) and value.size == 1 and value.dtype.kind in "biuf"):
            return value
        what = {"curve": "metric"}.get(what, what)
        raise TypeError(f"watch: {what}=... gives a one-element Tensor or a number, not {value!r}")

    def loss_function(self) -> Measure | None:
        """The loss on all data, by the function given to `watch`."""
        return self._measures.get("loss")


def _again_and_again(loader: Iterable[Any]) -> Iterator[Any]:
    """The first batch, again and again; nothing if there are no batches."""
    first = next(iter(loader), None)
    return itertools.repeat(first) if first is not None else iter(())


def given_to(optimizer: Optimizer | Iterable[Optimizer]) -> set[int]:
    """The ids of the parameters of an optimizer, or of several."""
    several = optimizers_of("given_to", optimizer)
    return {id(p) for one in several for group in one.param_groups for p in group["params"]}


def optimizers_of(name: str, optimizer: Any) -> list[Optimizer]:
    """One optimizer, several or none, as a list.

    Raises:
        TypeError: something is no optimizer.
    """
    several = [] if optimizer is None else [optimizer] if hasattr(optimizer, "param_groups") else optimizer
    found = list(several) if isinstance(several, Iterable) and not isinstance(several, Tensor) else [several]
    for one in found:
        if not hasattr(one, "param_groups"):
            raise TypeError(f"{name}: optimizer is an Optimizer, or a list of several, not {shown(one)}")
    return found
