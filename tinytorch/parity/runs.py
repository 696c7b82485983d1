"""One training run on several devices, step by step: by how much do the results differ, and in which op first?

The runs advance in turn, from one update to the next. So only the values of one update of one run are kept, and a run
cannot tell that it is not alone: each run has its own random numbers. The inputs of the runs (weights, batches and
dropout masks) must be bit-identical, and are checked. Computed results may differ by rounding, and the first result
that differs is named. All results before it are equal: so the two libraries compute this very op in different ways.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import numpy as np

from tinytorch import random
from tinytorch.backends import Device
from tinytorch.backends import device as _device
from tinytorch.dtypes import as_dtype, float32
from tinytorch.tape.observer import Observer
from tinytorch.tape.variable import Node, Variable
from tinytorch.tensor import Tensor
from tinytorch.verify.drive import Train, drive, expect_train
from tinytorch.verify.handle import Handle
from tinytorch.words import expecting

# Ops that bring data into shape: their results still count as given to a run, not as computed
PREPARING = frozenset({"astype", "concat", "getitem", "reshape", "stack", "take", "transfer", "wrapped"})


class NotTheSameRun(RuntimeError):
    """Two runs had different weights, batches or masks, or ran different ops: they cannot be compared."""


class BrokenTraining(RuntimeError):
    """The training function raised an error, which is the cause."""


def _told(error: BaseException) -> str:
    """The text of an error, with the line of the training function where it came up."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = str(Path(__file__).parents[1])
    own = [f for f in frames if not f.filename.startswith(ours)] or frames
    place = f"at {own[-1].filename}:{own[-1].lineno}: " if own else ""
    return f"{place}{type(error).__name__}: {error}"


class Difference(NamedTuple):
    """The largest difference of any two elements: in units in the last place, and relative to the largest element."""

    ulps: float
    relative: float


class First(NamedTuple):
    """The first result that differs from the reference. All results before it are equal."""

    update: int
    kind: str  # "forward", "gradient", or "optimizer"
    name: str  # of the op, or of the parameter that the optimizer changed
    shapes: str  # the shapes of inputs and result
    difference: Difference

    def __str__(self) -> str:
        what = {"forward": "", "gradient": "gradient of ", "optimizer": "the optimizer's step, parameter "}[self.kind]
        ulps, relative = self.difference
        return f"update {self.update}: {what}{self.name}, {self.shapes}: {ulps:.3g} ULP, relative {relative:.1e}"


class Step(NamedTuple):
    """How far a run is from the reference in one update: by the loss, and by the parameters after the update."""

    update: int
    loss: float
    loss_difference: Difference
    parameters: Difference
    worst: str  # the parameter that differs most


@dataclass
class Other:
    """The run on one device, beside the reference."""

    device: str
    steps: list[Step]
    first: First | None


@dataclass
class Comparison:
    """The outcome of `compare`."""

    reference: str  # the first device
    dtype: str
    seed: int
    losses: list[float]  # the reference's
    weights: int  # the number of initial weights and buffers, all bit-identical
    inputs: int  # the number of inputs from outside, such as batches and masks, all bit-identical
    others: list[Other]

    def __repr__(self) -> str:
        others = ", ".join(run.device for run in self.others)
        return f"<{self.reference} and {others}: {len(self.losses)} updates in {self.dtype}, seed {self.seed}>"


@expecting
def difference(actual: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> Difference:
    """How far two arrays of one shape differ; NaN equals NaN.

    The unit in the last place is that of the largest element of both arrays, in the dtype of `expected`; for integers
    it is 1. So a tiny number in the place of a zero does not count for millions of units.

    >>> difference(np.ones(2), np.ones(2) + [0.0, 2.0**-51])
    Difference(ulps=2.0, relative=4.440892098500624e-16)
    """
    if actual.shape != expected.shape:
        raise ValueError(f"difference: the arrays are of one shape, not {actual.shape} and {expected.shape}")
    a, b = (np.asarray(x, np.float64) for x in (actual, expected))
    differs = ~((a == b) | (np.isnan(a) & np.isnan(b)))
    if not differs.any():
        return Difference(0.0, 0.0)
    if not (np.isfinite(a) & np.isfinite(b) | ~differs).all():
        return Difference(np.inf, np.inf)
    away = float(np.abs(np.subtract(a, b, where=differs, out=np.zeros_like(a))).max())
    size = max(float(np.abs(x, where=np.isfinite(x), out=np.zeros_like(x)).max()) for x in (a, b))
    unit = float(np.spacing(expected.dtype.type(size))) if expected.dtype.kind == "f" else 1.0
    return Difference(away / unit, away / size)


@expecting
def compare(
    train: Train,
    devices: Sequence[str | Device],
    *,
    seed: int = 0,
    updates: int = 50,
    dtype: Any = float32,
    progress: Callable[[int, int], Any] | None = None,
) -> Comparison:
    """Train by one function on each device, and say how far each run is from the run on the first device.

    Args:
        train: your training loop, a generator as `tinytorch.verify.run_once` takes it; `run.dtype` is the dtype. The
            device is also the default for new tensors.
        devices: two or more; the first is the reference.
        updates: how many updates to compare; the training function is then closed.
        progress: called with the number of updates done, and of all updates.

    Raises:
        NotTheSameRun: initial weights, batches or masks are not bit-identical, or the runs ran different ops.
        BrokenTraining: the training function raised an error, which is the cause.
        ValueError: fewer than two devices, no update, or a negative seed.
        TypeError: a device does not have the dtype.

    >>> def train(run):
    ...     model = tinytorch.Linear(3, 1).to(run.dtype)
    ...     optimizer = tinytorch.SGD(model.parameters(), lr=0.1)
    ...     run.watch(model, optimizer)
    ...     for _ in range(10):
    ...         loss = (model(tinytorch.randn(4, 3, dtype=run.dtype)) ** 2).mean()
    ...         optimizer.zero_grad()
    ...         loss.backward()
    ...         yield loss
    ...         optimizer.step()
    >>> found = compare(train, ["cpu", "cpu"], updates=5)
    >>> len(found.losses), found.others[0].steps[-1].loss_difference, found.others[0].first
    (5, Difference(ulps=0.0, relative=0.0), None)
    """
    expect_train("compare", train)
    targets, dtype = [_device(d) for d in devices], as_dtype(float32 if dtype is None else dtype)
    if len(targets) < 2:
        raise ValueError("compare: takes two devices or more, the first to compare the others with")
    if updates < 1:
        raise ValueError(f"compare: at least one update, not {updates}")
    if seed < 0:
        raise ValueError(f"compare: a seed is not negative: {seed}")
    for target in targets:
        target.dtype(dtype)
    reference = _Lane(train, Handle(targets[0], seed, dtype), None)
    others = [_Lane(train, Handle(target, seed, dtype), reference) for target in targets[1:]]
    before = random.generator.bit_generator.state
    try:
        return _advance_all(reference, others, updates, progress or (lambda done, of: None))
    finally:
        for lane in (reference, *others):
            lane.leave()
        random.generator.bit_generator.state = before


def _advance_all(
    reference: _Lane, others: list[_Lane], updates: int, progress: Callable[[int, int], Any]
) -> Comparison:
    handle = reference.handle
    found = Comparison(handle.device.name, handle.dtype.name, handle.seed, [], 0, 0, [x.found for x in others])
    for update in range(1, updates + 2):  # one more, for the parameters after the last update
        looking = update <= updates
        reference.advance(update, looking and any(lane.found.first is None for lane in others))
        weights, ends = reference.weights(), reference.ended or not looking
        if not weights:
            raise ValueError("compare: the model that run.watch was given has no parameters or buffers")
        if update == 1:
            found.weights = len(weights)
        if not ends:
            found.losses.append(reference.loss)
            found.inputs += len(reference.given)
        for lane in others:
            lane.advance(update, looking and lane.found.first is None)
            lane.check_end()
            lane.compare_weights(weights)
            if not ends:
                lane.compare_loss(reference.loss)
        if ends:
            break
        progress(update, updates)
    return found


def _same_bits(actual: np.ndarray[Any, Any], expected: np.ndarray[Any, Any], what: str, lane: _Lane) -> None:
    kind = np.int64 if expected.dtype.kind == "i" else expected.dtype  # a device may have no int64
    if actual.shape != expected.shape or actual.astype(kind).tobytes() != expected.astype(kind).tobytes():
        there = lane.reference.device if lane.reference else ""
        raise NotTheSameRun(
            f"compare: update {lane.update}: {what} is not the same on {there} and {lane.device}, bit for bit; draw "
            "random numbers with tinytorch.manual_seed(seed) and tinytorch's functions, and make data on the host"
        )


class _Lane(Observer):
    """The run on one device: it is driven from update to update, and observed meanwhile."""

    def __init__(self, train: Train, handle: Handle, reference: _Lane | None) -> None:
        self.handle, self.device, self.reference = handle, handle.device, reference
        self.loss = float("nan")
        self.ended = False
        self.found = Other(handle.device.name, [], None)
        self._steps = drive(train, handle)
        self._draws = random.generator.bit_generator.state
        self._thread = threading.get_ident()
        self._computed: WeakValueDictionary[int, Tensor] = WeakValueDictionary()  # tensors by id
        self._learned: WeakValueDictionary[int, Tensor] = WeakValueDictionary()

    # From outside: step by step -----------------------------------------------------------------------------------

    def advance(self, update: int, looking: bool) -> None:
        """Let the run go on to its next update, or its end. With `looking` results of ops are noted, or compared."""
        self.update, self._looking = update, looking
        self.given: list[tuple[str, np.ndarray[Any, Any]]] = []  # of the reference: the other runs compare with them
        self.results: list[tuple[str, str, str, np.ndarray[Any, Any]]] = []
        self._at = [0, 0]  # how many of the reference's inputs and results were met
        random.generator.bit_generator.state = self._draws
        try:
            with self, self.device, np.errstate(all="ignore"):
                loss = next(self._steps, None)
        except NotTheSameRun:
            raise
        except (Exception, SystemExit) as error:
            raise BrokenTraining(
                f"compare: the training breaks off on {self.device}, in update {update}, {_told(error)}"
            ) from error
        self._draws = random.generator.bit_generator.state
        self.ended = loss is None
        if loss is not None:
            self.loss = float(loss.item())

    def leave(self) -> None:
        """End the run."""
        self._steps.close()

    def weights(self) -> dict[str, np.ndarray[Any, Any]]:
        """Parameters and buffers, by name, on the host."""
        model = self.handle.model
        return {n: t.detach().numpy() for n, t in (*model.named_parameters(), *model.named_buffers())}

    def check_end(self) -> None:
        """Raise NotTheSameRun unless the update had as many inputs and results as the reference's."""
        there: Any = self.reference
        if self.ended is not there.ended:
            raise self._longer(there if self.ended else self)
        noted: list[Sequence[Any]] = [there.given, there.results if self._looking else []]
        for seen, events in zip(self._at, noted, strict=True):
            if seen < len(events):
                raise self._parted(events[seen][0], "nothing more")

    def compare_weights(self, expected: dict[str, np.ndarray[Any, Any]]) -> None:
        """Compare the parameters after the last update with the reference's. Initial values must be bit-identical."""
        mine = self.weights()
        if mine.keys() != expected.keys():
            raise NotTheSameRun(f"compare: not all runs have a parameter {min(mine.keys() ^ expected.keys())!r}")
        if self.update == 1:
            for name, values in expected.items():
                _same_bits(mine[name], values, f"the initial value of {name}", self)
            return
        gap, worst = max((difference(mine[n], expected[n]), n) for n in expected)
        last = self.found.steps[-1]
        self.found.steps[-1] = last._replace(parameters=gap, worst=worst if gap.ulps else "")
        if gap.ulps and (self.found.first is None or self.found.first.update == self.update):
            shape = str(expected[worst].shape)  # all results of the last update were equal: so the step differs
            self.found.first = First(last.update, "optimizer", worst, shape, gap)

    def compare_loss(self, expected: float) -> None:
        """Compare the loss of this update with the reference's."""
        gap = difference(np.asarray(self.loss, self.handle.dtype), np.asarray(expected, self.handle.dtype))
        self.found.steps.append(Step(self.update, self.loss, gap, Difference(0.0, 0.0), ""))

    # From inside: what is computed --------------------------------------------------------------------------------

    def made(self, op: str, inputs: Sequence[Any], meta: dict[str, Any], result: Any) -> None:
        """Note or compare the result of an op, and inputs that come from outside."""
        if threading.get_ident() != self._thread:
            return
        tensors = [x for x in inputs if isinstance(x, Variable)]
        given = [x for x in tensors if self._is_given(x)]
        if op in PREPARING and len(given) == len(tensors):
            return  # checked when another op computes with the result
        for x in given:
            self._check_given(op, x)
        self._computed[id(result)] = result
        if self._looking and op != "transfer":  # not every device needs a transfer
            shapes = ", ".join(str(x.shape) if isinstance(x, Variable) else repr(x) for x in inputs)
            self._result("forward", op, f"{shapes} -> {result.shape}", result.device, result.array)

    def pulled(self, node: Node, source: Any, gradient: Any) -> None:
        """Note or compare a gradient."""
        name = node.op.name
        if threading.get_ident() == self._thread and self._looking and name != "transfer":
            position = next(i for i, x in enumerate(node.inputs) if x is source)
            array = gradient.array if isinstance(gradient, Variable) else gradient
            shapes = f"input {position}, {tuple(node.shape)} -> {tuple(array.shape)}"
            self._result("gradient", name, shapes, node.device, array)

    def _is_given(self, x: Any) -> bool:
        """Whether a tensor comes from outside: not computed, not learned, and no gradient."""
        if x.requires_grad:
            if x.node is None:
                self._learned[id(x)] = x
            return False
        if x.is_view or getattr(x, "changed", None) is not None or self._computed.get(id(x)) is x:
            return False
        return not any(p.grad is x for p in list(self._learned.values()))

    def _check_given(self, op: str, x: Any) -> None:
        values = x.device.to_numpy(x.array)
        if self.reference is None:
            self.given.append((op, values))
            return
        there, expected = self._next(0, self.reference.given, op)
        if there != op:
            raise self._parted(there, op)
        _same_bits(values, expected, f"an input of {op}, {x.shape},", self)

    def _result(self, kind: str, name: str, shapes: str, device: Device, array: Any) -> None:
        values = device.to_numpy(array)
        if self.reference is None:
            self.results.append((name, kind, shapes, values))
            return
        *there, expected = self._next(1, self.reference.results, name)
        if there != [name, kind, shapes]:
            raise self._parted(f"{there[0]} ({there[1]}, {there[2]})", f"{name} ({kind}, {shapes})")
        gap = difference(values, expected)
        if gap.ulps:
            self.found.first = First(self.update, kind, name, shapes, gap)
            self._looking = False

    def _next(self, which: int, there: Sequence[Any], name: str) -> Any:
        at = self._at[which]
        if at == len(there):
            raise self._longer(self) if self.reference and self.reference.ended else self._parted("nothing more", name)
        self._at[which] += 1
        return there[at]

    def _longer(self, lane: _Lane) -> NotTheSameRun:
        other = self.reference if lane is self else self
        return NotTheSameRun(
            f"compare: the run on {other.device if other else ''} ends before update {self.update}, that on "
            f"{lane.device} does not; it must make as many updates on every device"
        )

    def _parted(self, there: str, here: str) -> NotTheSameRun:
        other = self.reference.device if self.reference else ""
        return NotTheSameRun(
            f"compare: update {self.update}: the runs part: next, {other} runs {there}, but {self.device} runs {here}; "
            "a training function must run the same ops on every device"
        )
