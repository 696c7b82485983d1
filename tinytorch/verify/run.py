"""The measurements of one training run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinytorch.ops import stack
from tinytorch.tensor import Tensor
from tinytorch.verify.handle import Handle
from tinytorch.verify.trace import Trace


class Run:
    """The measurements of a training run: see `run_once`.

    Attributes:
        handle: the argument of the training function.
        again: `run.again(limit=n)` repeats the run up to n updates, `run.again(one_batch=True)` repeats it on its first
            batch only.
        device, seed: the device and the seed of the run.
        model, optimizer: as given to `watch`.
        losses: the loss of each update, on its batch.
        before, after: the loss on all data at the start and at the end, if `watch` was given `loss=`; else the mean of
            the first and of the last twentieth of `losses`.
        metric, train_metric: at the end; NaN if `watch` was not given a function.
        curve: the metric after each epoch, if `watch` was given `curve=True`.
        gradients: for updates 0, 1, 2, 4, 8, ... and the last, the norm of each parameter's gradient, by name;
            parameters without a gradient are left out.
        moved: the change of each parameter, relative to its norm at the start.
        stale: parameters whose gradient was added to the gradient of the update before.
        compared: the parameters whose gradients of two updates could be compared, for `stale`.
        misplaced: what is wrong with the place of the `yield`, as a sentence; "" if nothing is.
        updates, total: the number of updates, and the planned number, as far as `batches` knows.
        seconds: the time that the run took.
    """

    def __init__(self, handle: Handle, name: str, again: Callable[..., Run]) -> None:
        self.handle, self.name, self.again = handle, name, again
        self.device, self.seed = handle.device, handle.seed
        self.before = self.after = self.metric = self.train_metric = float("nan")
        self.curve: list[float] = []
        self.gradients: dict[int, dict[str, float]] = {}
        self.moved: dict[str, float] = {}
        self.stale: list[str] = []
        self.compared: set[str] = set()
        self.misplaced = ""
        self.seconds = 0.0
        self.kept: list[Tensor] = []  # the loss of each update, on its device
        self.reasons: dict[int, dict[str, str]] = {}  # for traced updates: see `reason`

    def __repr__(self) -> str:
        broken = f" {self.handle.control.name}" if self.handle.control is not None else ""
        return f"<run of {self.name!r}{broken} on {self.device.name}, seed {self.seed}, {self.updates} updates>"

    @property
    def model(self) -> Any:
        """As given to `watch`."""
        return self.handle.model

    @property
    def optimizer(self) -> Any:
        """As given to `watch`."""
        return self.handle.optimizer

    @property
    def updates(self) -> int:
        """The number of updates so far."""
        return self.handle.updates

    @property
    def total(self) -> int:
        """The planned number of updates, as far as `batches` knows."""
        return self.handle.total

    @property
    def losses(self) -> list[float]:
        """The loss of each update, read from the device now."""
        return stack([loss.reshape(()) for loss in self.kept]).tolist() if self.kept else []

    @property
    def last_loss(self) -> float:
        """The loss of the last update, read from the device now."""
        return float(self.kept[-1].item())

    @property
    def loss_drop(self) -> float:
        """The part of the loss that is gone."""
        return 1 - self.after / self.before if self.before else float("nan")

    # What gates ask ---------------------------------------------------------------------------------------------

    def born(self, update: int | None = None) -> str:
        """Where the NaN or infinity in the loss of an update was born; without `update`, in the loss on all data."""
        if update is not None:
            return self.reason("", update)
        with Trace() as trace, np.errstate(all="ignore"):
            trace.names_of(self.model)
            self.handle.evaluate("loss")
        return trace.born_nan()

    def reason(self, name: str, update: int) -> str:
        """Why, at an update, a parameter's gradient is missing, zero or not finite."""
        if update not in self.reasons:  # repeat the run, and trace this update
            self.reasons |= self.again(limit=update + 1, traced=(update,)).reasons
        return self.reasons[update].get(name, "")
