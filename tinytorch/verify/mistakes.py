"""Common mistakes, which `diagnose` finds from the inputs of the ops of one forward pass.

Each function takes the events of the pass and yields a finding for each cause, with the fix as code. There is a finding
only for things that are hardly ever done on purpose: a healthy model must have no findings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinytorch.nn import Dropout, Module
from tinytorch.nn.module import Parameter
from tinytorch.tape.modes import is_grad_enabled
from tinytorch.tensor import Tensor
from tinytorch.verify.trace import Event, Trace
from tinytorch.words import constructor, expecting

DEAD = 0.5  # a layer is reported if more of its units than this are dead or saturated for all examples
FLAT = 1e-3  # a unit is saturated if its slope is less than this part of the steepest slope
LARGE, SMALL = 20.0, 1e-3  # data are reported if their root mean square is outside this interval
SHOWN = 4  # names in a line
ALIKE = 1e-5  # units are alike if weights and gradients differ by less, relatively

LOGITS = {
    "cross_entropy": "softmax",
    "binary_cross_entropy_with_logits": "sigmoid",
}  # loss -> what the loss applies itself
SQUASHED = ("softmax", "sigmoid", "tanh", "relu")
LAYERS = ("linear", "conv2d", "matmul")
MOVING = ("reshape", "getitem", "astype", "squeeze", "expand_dims", "permute_dims", "matrix_transpose")


@constructor(expecting)
@dataclass(frozen=True)
class Finding:
    """A mistake that `diagnose` has found.

    Attributes:
        kind: "nan", "dead", "saturated", "vanishing", "exploding", "alike", "unreached", "zero", "logits",
            "probabilities", "labels", "broadcast", "data", "dtype", "mode", "not a parameter", "not optimized",
            "stale", "setting", "uphill", "step too large" or "step too small".
        culprit: the parameters, the module, or the line.
        text: a sentence about the mistake, with the fix.
    """

    kind: str
    culprit: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


def together(kind: str, causes: dict[str, str]) -> Iterator[Finding]:
    """A finding for each cause, which names all culprits with this cause."""
    names: dict[str, list[str]] = {}
    for name, cause in causes.items():
        names.setdefault(cause, []).append(name)
    for cause, found in names.items():
        shown = ", ".join(f"`{name}`" for name in found[:SHOWN])
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        yield Finding(kind, ", ".join(found), f"{shown}{more}: {cause}")


# The model --------------------------------------------------------------------------------------------------------


def of_model(model: Module) -> Iterator[Finding]:
    """Tensors that should be learned, and are not among `parameters()`."""
    known = {id(p) for p in model.parameters()}
    lost: dict[str, list[str]] = {}
    for path, module in model.named_modules():
        for name, member, what in _members(module):
            if any(isinstance(x, Tensor) and id(x) not in known and _is_made_to_learn(x, known) for x in member):
                lost.setdefault(what, []).append(f"{path}.{name}" if path else name)
    for what, paths in lost.items():
        name = paths[0].rpartition(".")[2]
        text = f"{what} that requires a gradient, which parameters() does not have, so that no optimizer moves it"
        mend = f"self.{name} = Parameter(...)" + ", and so for the others" * (len(paths) > 1)
        if what == HELD:
            mend = f"each as an attribute of its own, self.{name}_0 = Parameter(...)"
        yield from together("not a parameter", dict.fromkeys(paths, f"{text}: write {mend}"))


HELD = "a list or dict with a plain Tensor"


def _members(module: Module) -> Iterator[tuple[str, Iterable[Any], str]]:
    """The attributes of a module and of its class: (name, the tensors and modules in it, what it is in words)."""
    for name, member in vars(module).items():
        if isinstance(member, list | tuple | dict):
            yield name, member.values() if isinstance(member, dict) else member, HELD
        elif name not in module._buffers:
            yield name, [member], "a plain Tensor"
    for cls in type(module).__mro__:
        for name, member in vars(cls).items():
            yield name, [member], "an attribute of the class, not of the module,"


def _is_made_to_learn(x: Tensor, known: set[int]) -> bool:
    """Whether x is a leaf that requires a gradient, or the result of an op on such a leaf, as Tensor(...) * 0.1."""
    if not x.requires_grad or x.node is None:
        return x.requires_grad
    made_of = [leaf for leaf in x.node.inputs if isinstance(leaf, Tensor)]
    return bool(made_of) and not any(id(leaf) in known for leaf in made_of)


def of_mode(model: Module) -> Iterator[Finding]:
    """A model that is in the wrong mode."""
    drops = [path for path, m in model.named_modules() if isinstance(m, Dropout) and m.training and m.p > 0]
    if not is_grad_enabled():
        off = "gradients are switched off, so nothing can be learned: leave `with no_grad():` before"
        if drops:
            off += f"; and if this evaluates the model, dropout is on (`{drops[0]}`): call model.eval() first"
        yield Finding("mode", "no_grad", off)
    elif not model.training:
        text = "the model is in eval mode, in which dropout does nothing: call model.train() before it learns"
        yield Finding("mode", "eval", text)


def of_symmetry(parameters: dict[str, Parameter]) -> Iterator[Finding]:
    """Layers whose units have equal weights and equal gradients, and so stay equal for ever."""
    alike = []
    for name, p in parameters.items():
        if p.ndim > 1 and p.shape[0] > 1 and p.grad is not None:
            pair = [t.detach().numpy().astype(np.float64).reshape(p.shape[0], -1) for t in (p, p.grad)]
            if all(np.abs(rows - rows[:1]).max() <= ALIKE * np.abs(rows).max() for rows in pair):
                alike.append(name)
    text = (
        "all units start with the same weights and get the same gradient, so that they stay alike: start with random "
    )
    yield from together("alike", dict.fromkeys(alike, text + "ones, as nn.init.kaiming_uniform_(weight) does"))


# The ops of a forward pass ----------------------------------------------------------------------------------------


def of_forward(events: list[Event], trace: Trace, parameters: dict[str, Parameter]) -> Iterator[Finding]:
    """Wrong inputs of ops, and dead or saturated units."""
    learned = {id(p.array): name for name, p in parameters.items()}
    made = {id(e.result.array): e for e in reversed(events) if e.result is not None}
    final = {id(e) for loss in events if _is_loss(loss) for e in [_maker(loss.inputs[0], made)] if e is not None}
    seen: set[str] = set()  # one line for each kind of mistake with the data
    for event in events:
        if event.result is None:
            continue
        yield from _dead(event, trace)
        if id(event) not in final:
            yield from _saturated(event, trace)
        if _is_loss(event):
            place = event.place(trace.names)
            yield from of_loss(event.where.what, event.inputs[0], event.inputs[1], place)
            yield from _squashed(event, made, trace)
        for finding in (*_broadcast(event, trace), *_twice(event, made, trace), *_data(event, learned, made, trace)):
            if finding.kind not in seen:
                seen.add(finding.kind)
                yield finding


def _is_loss(event: Event) -> bool:
    return event.where.what in (*LOGITS, "binary_cross_entropy") and len(event.inputs) > 1


def _maker(x: Tensor, made: dict[int, Event]) -> Event | None:
    """The op that computed the values of a tensor (ops that only move values are skipped); None if they are data."""
    event = made.get(id(x.array))
    while event is not None and event.where.what in MOVING and event.inputs:
        event = made.get(id(event.inputs[0].array))
    return event


def _units(event: Event, idle: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Which units are idle for every example: features of (..., F), channels of (N, C, H, W)."""
    unit = 1 if idle.ndim == 4 else idle.ndim - 1
    return np.asarray(idle.all(axis=tuple(i for i in range(idle.ndim) if i != unit)))


def _called(event: Event, trace: Trace) -> str:
    return trace.names.get(id(event.module), "") or event.where.place


def _dead(event: Event, trace: Trace) -> Iterator[Finding]:
    if event.where.what != "relu" or event.result is None or event.result.ndim < 2 or not event.result.size:
        return
    dead = _units(event, event.result.detach().numpy() == 0)
    if dead.mean() > DEAD:
        text = f"{dead.sum()} of {dead.size} units of relu are zero for all examples, {event.place(trace.names)}"
        mend = "start with other weights, or smaller steps"
        yield Finding("dead", _called(event, trace), f"`{_called(event, trace)}`: {text}: {mend}")


def _saturated(event: Event, trace: Trace) -> Iterator[Finding]:
    what, y = event.where.what, event.result
    if what not in ("tanh", "sigmoid") or y is None or y.ndim < 2 or y.size == 0 or y.shape[0] < 2:
        return
    values = y.detach().numpy().astype(np.float64)
    slope = 1 - values**2 if what == "tanh" else 4 * values * (1 - values)
    flat = _units(event, slope < FLAT)
    if flat.mean() > DEAD:
        x = event.inputs[0].detach().numpy()
        text = f"{flat.sum()} of {flat.size} units of {what} are saturated for all examples, where they hardly learn, "
        text += f"{event.place(trace.names)}, from [{x.min():.3g}, {x.max():.3g}]"
        mend = "normalise the data, or start with smaller weights: p.data = p.data * 0.1"
        yield Finding("saturated", _called(event, trace), f"`{_called(event, trace)}`: {text}: {mend}")


def _squashed(event: Event, made: dict[int, Event], trace: Trace) -> Iterator[Finding]:
    """A loss that takes logits, and is given the result of a softmax, sigmoid or ReLU."""
    loss = event.where.what
    if loss not in LOGITS:
        return
    x, maker = event.inputs[0], _maker(event.inputs[0], made)
    what, place = (maker.where.what, f" {maker.place(trace.names)}") if maker is not None else ("", "")
    if what not in SQUASHED:
        values = x.detach().numpy()
        axis = min(values.ndim - 1, 1)
        sums = values.sum(axis=axis)
        if loss != "cross_entropy" or values.shape[axis] < 2 or values.min(initial=0.0) < 0 or not sums.size:
            return
        if not np.abs(sums - 1).max() <= 1e-3 or maker is None:
            return
        what, place = f"{what}, which are probabilities that sum to 1,", place
    text = f"`{loss}` takes logits, any numbers, and is given the result of {what}{place}: leave that out, as the loss "
    yield Finding("logits", place.strip() or loss, f"{text}takes the {LOGITS[loss]} itself: {loss}(logits, y)")


def _twice(event: Event, made: dict[int, Event], trace: Trace) -> Iterator[Finding]:
    """A softmax or sigmoid of a softmax or sigmoid; a softmax of one class."""
    what = event.where.what
    if what not in ("softmax", "sigmoid") or event.result is None:
        return
    maker = _maker(event.inputs[0], made)
    if maker is not None and maker.where.what in ("softmax", "sigmoid"):
        text = f"{what} {event.place(trace.names)} is taken of the result of {maker.where.what} "
        yield Finding("logits", event.where.place, f"{text}{maker.place(trace.names)}: leave out one of the two")
    elif what == "softmax" and event.result.size > 1 and bool((event.result == 1).all()):
        text = f"softmax {event.place(trace.names)} is 1 everywhere, as there is one class along its axis"
        yield Finding("logits", event.where.place, f"{text}: take sigmoid, or another axis: softmax(x, axis=1)")


def _broadcast(event: Event, trace: Trace) -> Iterator[Finding]:
    """The difference of (N, 1) and (N,), which is (N, N)."""
    if event.where.what != "subtract" or len(event.inputs) != 2:
        return
    a, b = (x.shape for x in event.inputs)
    column, row = (a, b) if len(a) == 2 else (b, a)
    if len(row) == 1 and row[0] > 1 and column == (row[0], 1) and event.live:
        text = f"`subtract` of {a} and {b} is of shape {(row[0], row[0])}, each with each, {event.place(trace.names)}"
        yield Finding("broadcast", event.where.place, f"{text}: make both {column}, as by y.reshape(-1, 1)")


def _data(event: Event, learned: dict[int, str], made: dict[int, Event], trace: Trace) -> Iterator[Finding]:
    """Data of a layer that are far too large or small, or have another dtype than the parameters."""
    if event.where.what not in LAYERS or len(event.inputs) < 2:
        return
    x, name = event.inputs[0], next((learned[key] for key in event.sources[1:] if key in learned), "")
    p = next((y for y, key in zip(event.inputs[1:], event.sources[1:]) if key in learned), None)
    if p is None or x.dtype.kind != "f":
        return
    place = event.place(trace.names)
    if x.dtype != p.dtype:
        text = f"{event.where.what} {place} mixes {x.dtype.name} with `{name}`, which is {p.dtype.name}"
        yield Finding("dtype", name, f'{text}: x = x.astype("{p.dtype.name}"), or model.to("{x.dtype.name}")')
    if x.requires_grad or event.sources[0] in learned or not x.size:
        return
    values = x.detach().numpy().astype(np.float64)
    if not np.isfinite(values).all():
        return
    size = float(np.sqrt(np.mean(values**2)))
    if size > LARGE or 0 < size < SMALL:
        text = f"the data that come into {event.where.what} {place} go from {values.min():.3g} to {values.max():.3g}"
        yield Finding("data", name, f"{text}: normalise them, x = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-6)")


# Losses -----------------------------------------------------------------------------------------------------------


def of_error(frames: Iterable[tuple[Any, int]], trace: Trace) -> list[Finding]:
    """Wrong inputs that a loss or layer has refused, found in the frames of the error."""
    for frame, _ in frames:
        local = frame.f_locals
        if frame.f_code.co_name == "call" and isinstance(local.get("inputs"), tuple):  # an op
            name, given = str(local.get("name")), [x for x in local["inputs"] if isinstance(x, Tensor)]
        else:
            name, given = frame.f_code.co_name, [local.get("input"), local.get("target")]
        if not all(isinstance(x, Tensor) for x in given) or len(given) < 2:
            continue
        with trace.paused():
            if name in (*LOGITS, "binary_cross_entropy"):
                return list(of_loss(name, given[0], given[1], "which it refuses"))
            x, p = given[:2]
            if name in LAYERS and isinstance(p, Parameter) and x.dtype != p.dtype:
                text = f"{name} is given {x.dtype.name}, and `{p.name}` is {p.dtype.name}"
                mend = f'x = x.astype("{p.dtype.name}")'
                mend += f', or model.to("{x.dtype.name}")' if x.dtype.kind == "f" else ""
                return [Finding("dtype", p.name, f"{text}: {mend}")]
    return []


def of_loss(loss: str, x: Tensor, y: Tensor, place: str) -> Iterator[Finding]:
    """Labels and probabilities that do not fit a loss."""
    if not y.size or not x.size:
        return
    values, given = y.detach().numpy(), x.detach().numpy()
    if loss == "cross_entropy":
        yield from _classes(values, given.shape, place)
        return
    if loss == "binary_cross_entropy" and not ((given >= 0) & (given <= 1)).all() and np.isfinite(given).all():
        text = (
            f"`{loss}` takes probabilities, and is given numbers from {given.min():.3g} to {given.max():.3g}, {place}"
        )
        yield Finding("probabilities", loss, f"{text}: binary_cross_entropy_with_logits(x, y) takes any numbers")
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 1:
        mend = "(y + 1) / 2" if (low, high) == (-1, 1) else "y / y.max()" if low >= 0 else "(y > 0)"
        if low >= 0 and high > 1 and (values == np.round(values)).all():
            mend = "cross_entropy(logits, y) is for more than two classes"
        text = f"`{loss}` takes labels from 0 to 1, and is given {low:.3g} to {high:.3g}, {place}"
        yield Finding("labels", loss, f"{text}: {mend}")
    elif values.dtype.kind != "f":
        text = f"`{loss}` takes floating labels, and is given {values.dtype.name}, {place}"
        yield Finding("labels", loss, f'{text}: y.astype("{x.dtype.name}")')


def _classes(y: np.ndarray[Any, Any], shape: tuple[int, ...], place: str) -> Iterator[Finding]:
    """Labels of a cross entropy that are neither class indices, (N,) from 0 to C - 1, nor probabilities."""
    axis = min(len(shape) - 1, 1)
    C, others = shape[axis], shape[:axis] + shape[axis + 1 :]
    text, mend = "", ""
    if y.shape == shape and C > 1 and np.isin(y, (0, 1)).all() and (y.sum(axis=axis) == 1).all():
        text, mend = f"one-hot labels of shape {y.shape}", f"y.argmax(axis={axis})"
    elif y.shape == shape and y.dtype.kind == "f" and (y.min() < 0 or np.abs(y.sum(axis=axis) - 1).max() > 1e-3):
        text, mend = (
            "labels that are neither indices nor probabilities that sum to 1",
            "y / y.sum(axis=1, keepdims=True)",
        )
    elif y.dtype.kind not in "iu" and y.shape == others:
        text, mend = f"labels of dtype {y.dtype.name}", 'y.astype("int64")'
    elif y.shape == (*others, 1) and others:
        text, mend = f"labels of shape {y.shape}", "y.reshape(-1)"
    elif y.dtype.kind in "iu" and y.shape == others:
        kept = y[y != -100]  # without ignored labels
        low, high = (int(kept.min()), int(kept.max())) if kept.size else (0, 0)
        if low < 0 or high >= C:
            text = f"labels from {low} to {high} with {C} classes"
            mend = f"y {'+' if low < 0 else '-'} {abs(low)}" if high - low < C else f"a model with {high + 1} outputs"
    if text:
        yield Finding(
            "labels", "cross_entropy", f"`cross_entropy` takes class indices, and is given {text}, {place}: {mend}"
        )
