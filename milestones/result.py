"""What a milestone must show: a run that is watched while it trains, the gates it has to pass, and the result.

A gate is a sentence about the run that is true or false: "the loss fell by more than half". A chapter passes if all of
its gates do. That a gate is worth something is shown by controls (tests/milestones/test_controls.py): break the part
that learns, and the gate must fail.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinytorch import Device, Tensor, no_grad, stack
from tinytorch.nn import Module

Progress = Callable[["Run"], Any]
Spoil = Callable[[Module], Any]


@dataclass(frozen=True)
class Gate:
    """A claim about a run, whether it holds, and what was measured."""

    name: str
    passed: bool
    measured: str

    def __str__(self) -> str:
        return f"{'pass' if self.passed else 'FAIL'}  {self.name}: {self.measured}"


class Run:
    """One training run: give it the model and how to judge it, let it hand out the batches, and show it each loss.

    ```python
    run = Run("MLP", model, device, loss=..., accuracy=...)
    for images, labels in run.batches(loader, epochs=25):
        optimizer.zero_grad()
        loss = criterion(model(images), labels)
        loss.backward()
        run.watch(loss)
        optimizer.step()
    run.finish(accuracy=0.8)
    ```

    Args:
        name: of the model, for tables.
        model: what learns.
        device: where it does.
        loss: computes the loss on all training data; called before and after.
        accuracy: computes the accuracy, on test data where there are any; called at the end, and after each epoch if
            `curve`.
        updates: stop after so many.
        spoil: called after each `backward`, to break something on purpose: see the controls.
        progress: called after each update.
    """

    def __init__(
        self,
        name: str,
        model: Module,
        device: Device,
        *,
        loss: Callable[[], Tensor],
        accuracy: Callable[[], Tensor],
        curve: bool = False,
        updates: int | None = None,
        spoil: Spoil | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.name, self.device = name, device
        self.model: Any = model
        self._loss, self._accuracy, self._spoil, self._progress = loss, accuracy, spoil, progress
        self._limit, self._curve = updates, curve
        self._losses: list[Tensor] = []
        self._start = time.perf_counter()
        self._initial = {name: p.detach().numpy() for name, p in model.named_parameters()}
        self.total = updates or 0  # updates planned
        self.gates: list[Gate] = []
        self.gradients: dict[str, float] = {}  # norm of each parameter's gradient in the first update
        self.curve: list[float] = []  # accuracy after each epoch
        self.before = self._read(loss)
        self.after = self.accuracy = float("nan")
        self.moved: dict[str, float] = {}  # how far each parameter moved, relative to where it started
        self.seconds = 0.0

    def batches(self, loader: Iterable[Any], epochs: int) -> Iterator[Any]:
        """The batches of so many passes over the data."""
        self.total = self.total or epochs * len(loader)  # type: ignore[arg-type]
        for _ in range(epochs):
            for batch in loader:
                if self.updates == self._limit:
                    return
                yield batch
            if self._curve:
                self.curve.append(self._read(self._accuracy))

    def watch(self, loss: Tensor) -> None:
        """Note the loss of an update, between `backward` and the optimizer's step."""
        if self._spoil is not None:
            self._spoil(self.model)
        if not self._losses:
            self.gradients = self._gradient_norms()
        self._losses.append(loss.detach())
        if self._progress is not None:
            self._progress(self)

    def finish(
        self,
        *,
        accuracy: float,
        updates: int,
        floor: float = 1e-3,
        exempt: Mapping[str, str] | None = None,
    ) -> Run:
        """Measure the end, and pass or fail the gates every milestone has.

        Args:
            accuracy: it must be above this, or reach it if this is 1.
            updates: how many the recipe says.
            floor: every parameter must move by more than this, relative to its norm. It tells what is stuck from what
                learns: a bias may start where it belongs.
            exempt: parameters whose gradient is zero by nature, each with the reason.
        """
        self.after, self.accuracy = self._read(self._loss), self._read(self._accuracy)
        self.seconds = time.perf_counter() - self._start
        exempt = exempt or {}
        for name, p in self.model.named_parameters():
            start = self._initial[name]
            norm = float(np.linalg.norm(start))
            change = float(np.linalg.norm(p.detach().numpy() - start))
            self.moved[name] = change / norm if norm else float("inf" if change else 0.0)  # from zero: all the way
        last = self._gradient_norms()
        finite = [n for n in self._initial if np.isfinite(self.gradients.get(n, np.nan)) and np.isfinite(last[n])]
        zero = [n for n in self._initial if not self.gradients.get(n, 0.0) > 0 and n not in exempt]
        still = [n for n in self._initial if not self.moved[n] > floor and n not in exempt]
        count = len(self._initial)
        self.gate(
            "loss drop > 50 %", self.loss_drop > 0.5, f"{self.before:.4f} -> {self.after:.4f}: {self.loss_drop:.1%}"
        )
        enough = self.accuracy >= 1 if accuracy == 1 else self.accuracy > accuracy
        self.gate(f"accuracy {'' if accuracy == 1 else '> '}{accuracy:.0%}", enough, f"{self.accuracy:.2%}")
        self.gate(
            f"finite gradients {count}/{count}",
            len(finite) == count,
            f"{len(finite)}/{count}" + _named(" not", set(self._initial) - set(finite)),
        )
        self.gate("no gradient is zero", not zero, f"{len(zero)} zero" + _named(":", zero))
        self.gate(
            "every parameter moved", not still, f"{count - len(still)}/{count}" + _named(" not", still, self.moved)
        )
        self.gate(f"{updates} updates", self.updates == updates, str(self.updates))
        return self

    def gate(self, name: str, passed: bool, measured: str) -> None:
        """Add a gate of this run."""
        self.gates.append(Gate(name, bool(passed), measured))

    @property
    def updates(self) -> int:
        """How many there have been."""
        return len(self._losses)

    @property
    def losses(self) -> list[float]:
        """The loss of each update, read from the device now."""
        return stack(self._losses).tolist() if self._losses else []

    @property
    def last_loss(self) -> float:
        """The loss of the last update, read from the device now."""
        return float(self._losses[-1].item())

    @property
    def loss_drop(self) -> float:
        """The part of the training loss that is gone."""
        return 1 - self.after / self.before

    @property
    def ok(self) -> bool:
        """Whether all gates passed."""
        return all(gate.passed for gate in self.gates)

    def _read(self, measure: Callable[[], Tensor]) -> float:
        training = self.model.training
        self.model.eval()
        with no_grad():
            value = float(measure().item())
        self.model.train(training)
        return value

    def _gradient_norms(self) -> dict[str, float]:
        missing = np.array(np.nan)
        grads = {n: missing if p.grad is None else p.grad.detach().numpy() for n, p in self.model.named_parameters()}
        return {n: float(np.linalg.norm(g.astype(np.float64))) for n, g in grads.items()}


def _named(lead: str, names: Iterable[str], values: Mapping[str, float] | None = None) -> str:
    listed = [f"{n} ({values[n]:.3g})" if values else n for n in sorted(names)]
    return f"{lead} {', '.join(listed)}" if listed else ""


@dataclass
class Result:
    """What a chapter has shown: its runs, and gates that compare them."""

    title: str
    device: Device
    runs: Sequence[Run]
    gates: list[Gate] = field(default_factory=list)

    def gate(self, name: str, passed: bool, measured: str) -> None:
        """Add a gate that is about the runs together."""
        self.gates.append(Gate(name, bool(passed), measured))

    @property
    def seconds(self) -> float:
        """Of all runs."""
        return sum(run.seconds for run in self.runs)

    @property
    def ok(self) -> bool:
        """Whether all gates passed."""
        return not self.failures

    @property
    def failures(self) -> list[str]:
        """The gates that failed, each with the run it is about and what was measured."""
        own = [str(gate) for gate in self.gates if not gate.passed]
        return own + [f"{gate} ({run.name})" for run in self.runs for gate in run.gates if not gate.passed]

    def assert_ok(self) -> None:
        """Raise AssertionError with the gates that failed."""
        assert self.ok, "\n".join([f"{self.title} on {self.device}:", *self.failures])


def accuracy(predicted: Tensor, target: Tensor) -> Tensor:
    """The fraction of elements that are equal."""
    return (predicted == target).sum() / predicted.size if predicted.size else Tensor(float("nan"))
