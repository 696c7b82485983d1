"""One training run, watched: `record` drives a training function from update to update and measures on the way."""

from __future__ import annotations

import itertools
import numbers
import time
import types
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from tinytorch import random
from tinytorch.backends import Device
from tinytorch.backends import device as _device
from tinytorch.nn import Module
from tinytorch.ops import stack
from tinytorch.optim import Optimizer
from tinytorch.tape.modes import no_grad
from tinytorch.tensor import Tensor
from tinytorch.verify.controls import Control
from tinytorch.verify.trace import Trace
from tinytorch.words import bound, expecting, shown

Train = Callable[["Run"], Iterator[Tensor]]
Measure = Callable[[], Any]  # the loss or a metric: a one-element tensor or a number

HOW = """a training function is a generator:

    def train(run):
        model = ...
        optimizer = ...
        run.watch(model, optimizer)
        for x, y in run.batches(loader, epochs=10):
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            yield loss
            optimizer.step()
"""


class Run:
    """What a training function is given, and what was seen of it: see `record`.

    Attributes:
        device, seed: where it trains, and from which seed; both are set already when it starts.
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

    @expecting
    def __init__(
        self,
        train: Train,
        seed: int,
        device: Device,
        name: str = "",
        control: Control | None = None,
        limit: int | None = None,
        one_batch: bool = False,
        traced: tuple[int, ...] = (0, 1),
        progress: Callable[[Run], Any] | None = None,
    ) -> None:
        self.name, self.seed, self.device = name, seed, device
        self.model: Any = None
        self.optimizer: Optimizer | Iterable[Optimizer] | None = None
        self.total = limit or 0
        self.before = self.after = self.metric = self.train_metric = float("nan")
        self.curve: list[float] = []
        self.gradients: dict[int, dict[str, float]] = {}
        self.moved: dict[str, float] = {}
        self.stale: list[str] = []
        self.compared: set[str] = set()
        self.misplaced = ""
        self.seconds = 0.0
        self._train, self._control, self._limit, self._one_batch = train, control, limit, one_batch
        self._traced, self._progress = traced, progress
        self._losses: list[Tensor] = []
        self._initial: dict[str, np.ndarray[Any, Any]] = {}
        self._last: dict[str, Any] = {}  # gradients of the update before
        self._learned: list[tuple[str, Tensor]] = []
        self._newest: dict[str, tuple[Device, Any]] = {}  # the arrays of the gradients of the newest update
        self._reasons: dict[int, dict[str, str]] = {}
        self._trace: Trace | None = None
        self._hands_out = False  # whether the batches come from `batches`
        self._measures: dict[str, Measure | None] = {}

    def __repr__(self) -> str:
        broken = f" {self._control.name}" if self._control is not None else ""
        name = self.name or getattr(self._train, "__name__", "")
        return f"<run of {name!r}{broken} on {self.device.name}, seed {self.seed}, {self.updates} updates>"

    # For the training function ------------------------------------------------------------------------------------

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
            model: its parameters are judged.
            optimizer: one or several; then a parameter that none was given is named.
            loss: computes the loss on all training data, or enough of it.
            metric: computes what should get large, on held-out data where there are any.
            train_metric: the same on the training data: the difference is the generalization gap.
            curve: measure the metric after each epoch of `batches`, too.

        These three are called without arguments, in `eval` mode and under `no_grad`.
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
        if self._control is not None and self._control.model is not None:
            self._control.model(model)
        self.model = model
        given = optimizers_of("watch", optimizer)
        self.optimizer = optimizer if len(given) == 1 and optimizer is given[0] else given or None
        self._measures = {
            "loss": loss,
            "metric": metric,
            "train_metric": train_metric,
            "curve": metric if curve else None,
        }
        with self._unseen():
            self._initial = {name: p.detach().numpy() for name, p in model.named_parameters()}
        if loss is not None:
            self.before = self.measure("loss")

    def batches(self, loader: Iterable[Any], epochs: int = 1) -> Iterator[Any]:
        """The batches of so many passes over the data. Controls and gates that change the data do it here."""
        if isinstance(loader, Sized):
            self.total = self.total or epochs * len(loader)
        self._hands_out = True
        change = self._control.batch if self._control is not None else None
        rng = np.random.Generator(np.random.Philox(self.seed))
        if epochs > 1 and isinstance(loader, Iterator):
            raise TypeError(
                f"batches: {type(loader).__name__} can be gone through once, not {epochs} times; give a DataLoader or "
                "a list of batches"
            )
        for _ in range(epochs):
            for batch in _again_and_again(loader) if self._one_batch else loader:
                if self.updates == self._limit:
                    return
                yield batch if change is None else change(batch, rng)
            if self._measures.get("curve") is not None:
                self.curve.append(self.measure("curve"))

    # Driving ------------------------------------------------------------------------------------------------------

    def go(self) -> None:
        """Train, to the end or to the limit. An error says in which run it came."""
        try:
            self._go()
        except Exception as error:
            error.add_note(f"verify: in {self}")
            raise

    def _go(self) -> None:
        start = time.perf_counter()
        with self.device, np.errstate(all="ignore"):
            random.manual_seed(self.seed)
            steps = self._train(self)
            if not isinstance(steps, Iterator):
                raise TypeError(f"verify: {HOW}This one returned {type(steps).__name__}")
            while True:
                self._trace = Trace() if self.updates in self._traced else None
                with self._trace or nullcontext():
                    loss = next(steps, None)
                if loss is None or self.updates == self._limit:
                    break
                self._note(loss)
            getattr(steps, "close", lambda: None)()
            if self.model is None:
                raise RuntimeError(f"verify: the training function called no `run.watch(model)`; {HOW}")
            if not self._hands_out and (self._one_batch or (self._control is not None and self._control.batch)):
                raise RuntimeError(f"verify: a gate or control changes the batches, so use `run.batches`; {HOW}")
            self._finish()
        self.seconds = time.perf_counter() - start

    def _note(self, loss: Any) -> None:
        """An update has been computed, and is about to be made."""
        if not isinstance(loss, Tensor) or loss.size != 1:
            raise TypeError(f"verify: yield the loss, a one-element Tensor, not {loss!r}; {HOW}")
        if self.model is None:
            raise RuntimeError(f"verify: call `run.watch(model)` before the first `yield`; {HOW}")
        update, trace = self.updates, self._trace
        if trace is not None and not update:
            self.misplaced = self._misplaced(trace, loss)
        if self._control is not None and self._control.gradients is not None:
            self._control.gradients(self.model)
        if update & (update - 1) == 0 or trace is not None:  # 0, 1, 2, 4, 8, ...: each is read to the host
            self._learned = list(
                self.model.named_parameters()
            )  # to walk the modules in each update costs a tenth of it
            self.gradients[update] = self._norms()
        if trace is not None:
            trace.names_of(self.model)
            self._reasons[update] = self._explained(trace, loss)
            self._compare_with_last(trace)
        self._losses.append(loss.detach())
        grads = ((name, p.grad) for name, p in self._learned)
        self._newest = {name: (g.device, g.array) for name, g in grads if g is not None}
        if self._progress is not None:
            self._progress(self)

    def _finish(self) -> None:
        losses, k = self.losses, max(self.updates // 20, 1)
        if self._measures["loss"] is not None:
            self.after = self.measure("loss")
        elif losses:
            self.before, self.after = float(np.mean(losses[:k])), float(np.mean(losses[-k:]))
        self.metric, self.train_metric = self.measure("metric"), self.measure("train_metric")
        if self.updates:  # the gradients themselves may be cleared by now
            self.gradients[self.updates - 1] = {n: _norm(dev.to_numpy(g)) for n, (dev, g) in self._newest.items()}
        for name, p in self.model.named_parameters():
            start = self._initial.get(name, np.zeros(1))
            norm, change = float(np.linalg.norm(start)), float(np.linalg.norm(p.detach().numpy() - start))
            if not np.isfinite(change):
                self.moved[name] = float("nan")
            else:
                self.moved[name] = change / norm if norm else float("inf" if change else 0.0)  # from zero: all the way

    # Measuring ----------------------------------------------------------------------------------------------------

    def measures(self, what: str) -> bool:
        """Whether `watch` was told how to compute the "loss", "metric" or "train_metric"."""
        return self._measures.get(what) is not None

    def measure(self, what: str) -> float:
        """The "loss", "metric" or "train_metric" of the model as it is now; NaN if `watch` was not told how."""
        if not self.measures(what):
            return float("nan")
        modes = [(m, m.training) for m in self.model.modules()]  # a part may be in another than the whole
        self.model.eval()
        try:
            with no_grad(), self._unseen():
                value = self.evaluate(what)
                return float(value.item() if isinstance(value, Tensor) else value)
        finally:
            for module, training in modes:
                module.training = training

    def evaluate(self, what: str) -> Any:
        """What the function for the "loss", "metric" or "train_metric" gives: a one-element tensor or a number.

        Raises:
            TypeError: it gives something else.
        """
        value = self._measures[what]()  # type: ignore[misc]
        number = isinstance(value, numbers.Real) and not isinstance(value, str)
        if number or (isinstance(value, Tensor | np.ndarray) and value.size == 1 and value.dtype.kind in "biuf"):
            return value
        what = {"curve": "metric"}.get(what, what)
        raise TypeError(f"watch: {what}=... gives a one-element Tensor or a number, not {value!r}")

    def _unseen(self) -> AbstractContextManager[None]:
        """What happens inside is no part of the update that is traced."""
        return self._trace.paused() if self._trace is not None else nullcontext()

    def loss_function(self) -> Measure | None:
        """The loss on all data, as `watch` was given it."""
        return self._measures.get("loss")

    def again(self, **changes: Any) -> Run:
        """The same run once more, up to a `limit` of updates, or on `one_batch` only."""
        settings = {"name": self.name, "control": self._control, "traced": (), **changes}
        run = Run(self._train, self.seed, self.device, **settings)
        run.go()
        return run

    def born(self, update: int | None = None) -> str:
        """Where the NaN or infinity in the loss of an update was born, or in the loss on all data, as it is now."""
        if update is not None:
            return self.reason("", update)
        with Trace() as trace, np.errstate(all="ignore"):
            trace.names_of(self.model)
            self.evaluate("loss")
        return trace.born_nan()

    def reason(self, name: str, update: int) -> str:
        """Why a parameter has no gradient, one of zeros, or one that is not finite, at an update."""
        if update not in self._reasons:  # the run is the same again, and is traced there
            self._reasons |= self.again(limit=update + 1, traced=(update,))._reasons
        return self._reasons[update].get(name, "")

    @property
    def updates(self) -> int:
        """How many there have been."""
        return len(self._losses)

    @property
    def losses(self) -> list[float]:
        """The loss of each update, read from the device now."""
        return stack([loss.reshape(()) for loss in self._losses]).tolist() if self._losses else []

    @property
    def last_loss(self) -> float:
        """The loss of the last update, read from the device now."""
        return float(self._losses[-1].item())

    @property
    def loss_drop(self) -> float:
        """The part of the loss that is gone."""
        return 1 - self.after / self.before if self.before else float("nan")

    def _norms(self) -> dict[str, float]:
        return {n: _norm(p.grad.detach().numpy()) for n, p in self.model.named_parameters() if p.grad is not None}

    def _misplaced(self, trace: Trace, loss: Tensor) -> str:
        """What is wrong with where the loop yields, which must be between `backward` and `step`."""
        parameters = list(self.model.parameters())
        order = "the order is loss.backward(), yield loss, optimizer.step()"
        pulled = [p for p in parameters if id(p) in trace.sums]
        if pulled and all(trace.changed_since_pulled(p) for p in pulled):
            return f"`yield loss` comes after optimizer.step(): {order}"
        if pulled and all(p.grad is None for p in pulled):
            return f"the gradients are cleared before `yield loss`: {order}"
        if not trace.sums and loss.requires_grad and all(p.grad is None for p in parameters):
            return f"no loss.backward() comes before `yield loss`: {order}"
        return ""

    def _explained(self, trace: Trace, loss: Tensor) -> dict[str, str]:
        """For each parameter whose gradient is missing, zero or not finite: why."""
        norms = self.gradients[self.updates]
        reasons = {}
        for name, p in self.model.named_parameters():
            if not norms.get(name):
                reasons[name] = trace.why_without_gradient(p, loss)
            elif not np.isfinite(norms[name]):
                reasons[name] = trace.born_nan()
        with trace.paused():
            if not np.isfinite(loss.item()):
                reasons[""] = trace.born_nan()
        return reasons

    def _compare_with_last(self, trace: Trace) -> None:
        """Whether a gradient is that of this update, or was added to the one before."""
        for name, p in self.model.named_parameters():
            old, new = self._last.get(name), trace.sums.get(id(p))
            if old is not None and new is not None and p.grad is not None and old.any():
                self.compared.add(name)
                g, scale = p.grad.detach().numpy(), float(np.abs(new).max() + np.abs(old).max())
                if np.abs(g - (old + new)).max() < 1e-4 * scale < np.abs(g - new).max():
                    self.stale.append(name)
            self._last[name] = None if p.grad is None else p.grad.detach().numpy()


def _norm(gradient: np.ndarray[Any, Any]) -> float:
    return float(np.linalg.norm(gradient.astype(np.float64)))


def _again_and_again(loader: Iterable[Any]) -> Iterator[Any]:
    """The first batch, for ever; nothing if there is none."""
    first = next(iter(loader), None)
    return itertools.repeat(first) if first is not None else iter(())


def given_to(optimizer: Optimizer | Iterable[Optimizer]) -> set[int]:
    """The ids of the parameters that an optimizer, or one of several, was given."""
    several = optimizers_of("given_to", optimizer)
    return {id(p) for one in several for group in one.param_groups for p in group["params"]}


def optimizers_of(name: str, optimizer: Any) -> list[Optimizer]:
    """One optimizer, several or none, as a list.

    Raises:
        TypeError: something else is among them.
    """
    several = [] if optimizer is None else [optimizer] if hasattr(optimizer, "param_groups") else optimizer
    found = list(several) if isinstance(several, Iterable) and not isinstance(several, Tensor) else [several]
    for one in found:
        if not hasattr(one, "param_groups"):
            raise TypeError(f"{name}: optimizer is an Optimizer, or a list of several, not {shown(one)}")
    return found


def expect_train(name: str, train: Any) -> None:
    """Raise TypeError if a training function cannot be one: the commonest mistake is to give the model."""
    if isinstance(train, type | Module | types.BuiltinFunctionType):
        raise TypeError(f"{name}: train is a function, not {shown(train)}; {HOW}")


@expecting
def record(
    train: Train,
    *,
    seed: int = 0,
    device: str | Device | None = None,
    updates: int | None = None,
    control: Control | None = None,
    name: str = "",
    progress: Callable[[Run], Any] | None = None,
) -> Run:
    """Run a training function from a seed on a device, and watch it.

    Args:
        train: a generator function: it is given the `Run`, calls its `watch`, and yields the loss of each update
            between `backward` and the optimizer's step.
        updates: stop after so many.
        control: what to break: see `tinytorch.verify.controls`.
        name: of the run, for reports.
        progress: called with the run at each update.

    >>> from tinytorch.verify import record
    >>> def train(run):
    ...     model = tinytorch.Linear(2, 1)
    ...     optimizer = tinytorch.SGD(model.parameters(), lr=0.1)
    ...     run.watch(model, optimizer)
    ...     for step in range(20):
    ...         optimizer.zero_grad()
    ...         loss = tinytorch.mse_loss(model(tinytorch.ones((1, 2))), tinytorch.ones((1, 1)))
    ...         loss.backward()
    ...         yield loss
    ...         optimizer.step()
    >>> run = record(train)
    >>> run.updates, run.loss_drop > 0.9, sorted(run.moved)
    (20, True, ['bias', 'weight'])
    """
    if seed < 0:
        raise ValueError(f"record: a seed is not negative: {seed}")
    expect_train("record", train)
    run = Run(train, seed, _device(device), name, control, updates, progress=progress)
    run.go()
    return run
