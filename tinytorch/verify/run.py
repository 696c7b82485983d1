"""What was seen of one training run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinytorch.ops import stack
from tinytorch.tensor import Tensor
from tinytorch.verify.handle import Handle
from tinytorch.verify.trace import Trace


class Run:
    """What was seen of a training run: see `record`.

    Attributes:
        handle: what the training function was given.
        again: `run.again(limit=n)` is the same run once more, up to so many updates, and `run.again(one_batch=True)`
            on its first batch only.
        device, seed: where it trained, and from which seed.
        model, optimizer: as given to `watch`.
        losses: of each update, on its batch.
        before, after: the loss on all data, if `watch` was told how to compute it; else the mean of the first and last
            twentieth of `losses`.
        metric, train_metric: at the end; NaN if `watch` was not told how to compute them.
        curve: the metric after each epoch, if `watch` was told to.
        gradients: at updates 0, 1, 2, 4, 8, ... and the last, the norm of each parameter's gradient by name; parameters
            without one are left out.
        moved: the change of each parameter relative to its norm at the start.
        stale: parameters whose gradient was added to that of the update before.
        compared: the parameters that this was looked at for.
        misplaced: what is wrong with where the loop yields the loss, as a sentence; "" if nothing is.
        updates, total: how many there have been, and how many were planned, as far as `batches` knows.
        seconds: how long it took.
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
        self.kept: list[Tensor] = []  # the loss of each update, where it was computed
        self.reasons: dict[int, dict[str, str]] = {}  # for updates that were traced: see `reason`

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
        """How many there have been."""
        return self.handle.updates

    @property
    def total(self) -> int:
        """How many were planned, as far as `batches` knows."""
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
        """Where the NaN or infinity in the loss of an update was born, or in the loss on all data, as it is now."""
        if update is not None:
            return self.reason("", update)
        with Trace() as trace, np.errstate(all="ignore"):
            trace.names_of(self.model)
            self.handle.evaluate("loss")
        return trace.born_nan()

    def reason(self, name: str, update: int) -> str:
        """Why a parameter has no gradient, one of zeros, or one that is not finite, at an update."""
        if update not in self.reasons:  # the run is the same again, and is traced there
            self.reasons |= self.again(limit=update + 1, traced=(update,)).reasons
        return self.reasons[update].get(name, "")
