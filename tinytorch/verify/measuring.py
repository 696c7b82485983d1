"""`run_once`: a training function is driven from update to update; the measurements are a `Run`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np

from tinytorch.backends import Device
from tinytorch.backends import device as _device
from tinytorch.tensor import Tensor
from tinytorch.verify.controls import Control
from tinytorch.verify.drive import Train, drive, expect_train
from tinytorch.verify.handle import Handle
from tinytorch.verify.run import Run
from tinytorch.verify.trace import Trace
from tinytorch.words import expecting


class Meter:
    """Measures a run: before the first update, at each update, after each epoch, and at the end."""

    def __init__(self, run: Run, traced: tuple[int, ...]) -> None:
        self.run, self._traced = run, traced
        self._initial: dict[str, np.ndarray[Any, Any]] = {}
        self._last: dict[str, Any] = {}  # the gradients of the update before
        self._learned: list[tuple[str, Tensor]] = []
        self._newest: dict[str, tuple[Device, Any]] = {}  # the arrays of the gradients of the newest update
        self._trace: Trace | None = None
        run.handle.told = self._told

    def _told(self, event: str) -> None:
        """A block that a trace of the update leaves out."""
        run, handle = self.run, self.run.handle
        with self._trace.paused() if self._trace is not None else nullcontext():
            if event == "epoch" and handle.measures("curve"):
                run.curve.append(handle.measure("curve"))
            if event == "watched":
                self._initial = {name: p.detach().numpy() for name, p in handle.model.named_parameters()}
                run.before = handle.measure("loss")

    @contextmanager
    def look(self) -> Iterator[None]:
        """The context of an update: a trace for the chosen updates."""
        self._trace = Trace() if self.run.updates in self._traced else None
        traced: AbstractContextManager[Any] = self._trace or nullcontext()
        with traced:
            yield

    def note(self, loss: Tensor) -> None:
        """The gradients of an update have been computed. The step comes next."""
        run, trace, model = self.run, self._trace, self.run.model
        update = run.updates - 1
        if trace is not None and not update:
            run.misplaced = _misplaced(trace, loss, list(model.parameters()))
        if run.handle.control is not None and run.handle.control.gradients is not None:
            run.handle.control.gradients(model)
        if update & (update - 1) == 0 or trace is not None:  # at 0, 1, 2, 4, 8, ... gradients are read to the host
            self._learned = list(model.named_parameters())  # walking the modules would take a tenth of each update
            run.gradients[update] = {n: _norm(p.grad.detach().numpy()) for n, p in self._learned if p.grad is not None}
        if trace is not None:
            trace.names_of(model)
            run.reasons[update] = _explained(trace, loss, self._learned, run.gradients[update])
            self._compare_with_last(trace)
        run.kept.append(loss.detach())
        grads = ((name, p.grad) for name, p in self._learned)
        self._newest = {name: (g.device, g.array) for name, g in grads if g is not None}

    def finish(self) -> None:
        """The last update has been made."""
        run, handle = self.run, self.run.handle
        losses, k = run.losses, max(run.updates // 20, 1)
        if handle.measures("loss"):
            run.after = handle.measure("loss")
        elif losses:
            run.before, run.after = float(np.mean(losses[:k])), float(np.mean(losses[-k:]))
        run.metric, run.train_metric = handle.measure("metric"), handle.measure("train_metric")
        if run.updates:  # kept above: the parameters' gradients may be cleared by now
            run.gradients[run.updates - 1] = {n: _norm(dev.to_numpy(g)) for n, (dev, g) in self._newest.items()}
        for name, p in run.model.named_parameters():
            start = self._initial.get(name, np.zeros(1))
            norm, change = float(np.linalg.norm(start)), float(np.linalg.norm(p.detach().numpy() - start))
            if not np.isfinite(change):
                run.moved[name] = float("nan")
            else:
                run.moved[name] = change / norm if norm else float("inf" if change else 0.0)  # from zero: infinite

    def _compare_with_last(self, trace: Trace) -> None:
        """Note a parameter as stale if this update's gradient was added to the gradient of the update before."""
        for name, p in self._learned:
            old, new = self._last.get(name), trace.sums.get(id(p))
            if old is not None and new is not None and p.grad is not None and old.any():
                self.run.compared.add(name)
                g, scale = p.grad.detach().numpy(), float(np.abs(new).max() + np.abs(old).max())
                if np.abs(g - (old + new)).max() < 1e-4 * scale < np.abs(g - new).max():
                    self.run.stale.append(name)
            self._last[name] = None if p.grad is None else p.grad.detach().numpy()


def _misplaced(trace: Trace, loss: Tensor, parameters: list[Tensor]) -> str:
    """What is wrong with the place of the `yield`, which must be between `backward` and `step`; "" if nothing is."""
    order = "the order is loss.backward(), yield loss, optimizer.step()"
    pulled = [p for p in parameters if id(p) in trace.sums]
    if pulled and all(trace.changed_since_pulled(p) for p in pulled):
        return f"`yield loss` comes after optimizer.step(): {order}"
    if pulled and all(p.grad is None for p in pulled):
        return f"the gradients are cleared before `yield loss`: {order}"
    if not trace.sums and loss.requires_grad and all(p.grad is None for p in parameters):
        return f"no loss.backward() comes before `yield loss`: {order}"
    return ""


def _explained(
    trace: Trace, loss: Tensor, learned: list[tuple[str, Tensor]], norms: dict[str, float]
) -> dict[str, str]:
    """The reason, for each parameter whose gradient is missing, zero or not finite."""
    reasons = {}
    for name, p in learned:
        if not norms.get(name):
            reasons[name] = trace.why_without_gradient(p, loss)
        elif not np.isfinite(norms[name]):
            reasons[name] = trace.born_nan()
    with trace.paused():
        if not np.isfinite(loss.item()):
            reasons[""] = trace.born_nan()
    return reasons


def _norm(gradient: np.ndarray[Any, Any]) -> float:
    return float(np.linalg.norm(gradient.astype(np.float64)))


def _driven(
    train: Train,
    handle: Handle,
    name: str,
    traced: tuple[int, ...],
    progress: Callable[[Run], Any] | None = None,
) -> Run:
    """A run to its end or limit. An error is told in which run it came."""

    def again(*, traced: tuple[int, ...] = (), **changes: Any) -> Run:
        changes = {"control": handle.control, "compile": handle.compile, **changes}
        return _driven(train, Handle(handle.device, handle.seed, **changes), name, traced)

    run = Run(handle, name or getattr(train, "__name__", ""), again)
    meter, start = Meter(run, traced), time.perf_counter()
    try:
        with run.device, np.errstate(all="ignore"):
            for loss in drive(train, handle, meter.look):
                meter.note(loss)
                if progress is not None:
                    progress(run)
            meter.finish()
    except Exception as error:
        error.add_note(f"verify: in {run}")
        raise
    run.seconds = time.perf_counter() - start
    return run


@expecting
def run_once(
    train: Train,
    *,
    seed: int = 0,
    device: str | Device | None = None,
    updates: int | None = None,
    control: Control | None = None,
    compile: bool = False,
    name: str = "",
    progress: Callable[[Run], Any] | None = None,
) -> Run:
    """Run a training function from a seed on a device, and measure it.

    Args:
        train: a generator function that takes a `Handle`, calls `Handle.watch`, and yields the loss of each update
            between `backward` and the optimizer's step.
        updates: stop after so many updates.
        control: what to break: see `tinytorch.verify.controls`.
        compile: whether what the training function gives to `run.compiled` is compiled.
        name: of the run, for reports.
        progress: called with the run at each update.

    >>> from tinytorch.verify import run_once
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
    >>> run = run_once(train)
    >>> run.updates, run.loss_drop > 0.9, sorted(run.moved)
    (20, True, ['bias', 'weight'])
    """
    if seed < 0:
        raise ValueError(f"run_once: a seed is not negative: {seed}")
    expect_train("run_once", train)
    handle = Handle(_device(device), seed, control=control, limit=updates, compile=compile)
    return _driven(train, handle, name, (0, 1), progress)
