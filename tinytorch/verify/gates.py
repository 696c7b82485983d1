"""Gates: claims about a run. A gate tells what was measured and, if it fails, has a sentence for each culprit.

The file is long because there are many gates. Each is short, and is read by itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any

import numpy as np

from tinytorch.autograd import grad
from tinytorch.tape.modes import no_grad
from tinytorch.tensor import Tensor
from tinytorch.verify.handle import given_to
from tinytorch.verify.run import Run
from tinytorch.words import bound, constructor, expecting, shown


@constructor(bound)
@dataclass(frozen=True)
class Found:
    """The outcome of a gate.

    Args:
        passed: whether the claim holds; None if this could not be measured, which is no pass.
        measured: what was measured, as text.
        why: a sentence for each culprit.

    Raises:
        TypeError: `passed` is not True, False or None. A number is refused: NaN would count as True.
    """

    passed: bool | None
    measured: str
    why: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        passed: Any = self.passed
        if isinstance(passed, Tensor | np.ndarray | np.generic) and passed.size == 1 and passed.dtype.kind == "b":
            passed = bool(passed.item())
        if passed is not None and not isinstance(passed, bool):
            raise TypeError(f"Found: passed is True, False, or None for what was not measured, not {passed!r}")
        why: Any = (self.why,) if isinstance(self.why, str) else self.why
        if not isinstance(why, Iterable) or isinstance(why, Tensor):
            raise TypeError(f"Found: why is a tuple of sentences, not {shown(why)}")
        why = tuple(map(str, why))
        for name, value in (("passed", passed), ("measured", str(self.measured)), ("why", why)):
            object.__setattr__(self, name, value)


@constructor(expecting)
@dataclass(frozen=True)
class Gate:
    """A claim about a run.

    Args:
        name: the name by which a control refers to the gate.
        claim: what must be true, in words.
        check: a function of a finished `Run` that gives a `Found`; meanwhile the run's device is the default device.

    >>> from tinytorch.verify import Found, Gate
    >>> Gate("small", "fewer than 10 parameters", lambda run: Found(len(list(run.model.parameters())) < 10, ""))
    Gate(name='small', claim='fewer than 10 parameters')
    """

    name: str
    claim: str
    check: Callable[[Run], Found] = field(repr=False)


Exempt = Mapping[str, str]  # parameter (a name, with * as a wildcard) that a gate leaves out -> the reason


def _exempt(name: str, exempt: Exempt | None) -> bool:
    return any(fnmatch(name, pattern) for pattern in exempt or ())


def _percent(x: float) -> str:
    return f"{x * 100:.4g}%"


def _beside(x: float, bound: float, digits: int) -> str:
    """A part as percent, with more digits if fewer would look like the bound."""
    text = f"{x:.{digits}%}"
    while x != bound and digits < 12 and float(text[:-1]) == round(bound * 100, digits):
        digits += 1
        text = f"{x:.{digits}%}"
    return text


def _part(name: str, x: float) -> float:
    """A threshold of a gate, a part of 1.

    Raises:
        ValueError: x is no part of 1, such as 80 where 80 % is meant.
    """
    if not 0 <= x <= 1:
        raise ValueError(f"{name} is a part of 1, from 0 to 1, not {x}: write 0.8 for 80 %")
    return x


def _change(before: float, after: float, bound: float) -> tuple[float, str]:
    """The part of a loss that is gone, and the change as text. The part is NaN, which passes no gate, if undefined."""
    if not (math.isfinite(before) and math.isfinite(after)):
        return math.nan, f"{before:.4f} -> {after:.4f}"
    if before <= 0:
        return math.nan, f"{before:.4f} -> {after:.4f}: no part of a loss that starts at {before:.4g}"
    drop, times = 1 - after / before, after / before
    how = _beside(drop, bound, 1) if drop >= 0 else f"{times:.3g} times as much"
    return drop, f"{before:.4f} -> {after:.4f}: {how}"


@expecting
def loss_drop(least: float = 0.5) -> Gate:
    """The loss falls by more than the part `least`, and is finite at each update."""

    def check(run: Run) -> Found:
        drop, measured = _change(run.before, run.after, least)
        losses = run.losses
        ill = next((i for i, x in enumerate(losses) if not math.isfinite(x)), None)
        if ill is not None:
            return Found(False, measured, (f"the loss is {losses[ill]} at update {ill}{_because(run.born(ill))}",))
        if not losses:
            return Found(False, "no update", ("there was no update: are there batches, and is there a `yield loss`?",))
        if not math.isfinite(run.before):
            cause = _because(run.again(limit=0).born())
            return Found(False, measured, (f"run.watch(loss=...) gives {run.before} before the first update{cause}",))
        if not math.isfinite(run.after):
            cause = _because(run.born())
            return Found(False, measured, (f"run.watch(loss=...) gives {run.after} after the last update{cause}",))
        if drop > least:
            return Found(True, measured)
        if math.isnan(drop):
            how = "and a part of what is not above 0 says nothing; give a gate of your own, with another measure"
            return Found(False, measured, (f"the loss starts at {run.before:.4g}, {how}",))
        went = "rose" if drop < 0 else "fell" if drop > 0 else "stayed the same"
        return Found(False, measured, (f"the loss {went}, {measured}",))

    return Gate("loss drop", f"loss drop > {_percent(least)}", check)


def _because(cause: str) -> str:
    return f": {cause}" if cause else ""


@expecting
def metric(least: float, *, most: float = math.inf, name: str = "metric") -> Gate:
    """The metric, a part of 1 such as accuracy, is above `least`, or equal to it if `least` is 1.

    Args:
        most: a metric above this fails, too: more than the task allows means that the model sees the answer.
        name: of the metric, such as "accuracy".

    Raises:
        ValueError: a threshold is not a part of 1. (A metric that is no part of 1 needs a gate of your own: `Gate`.)
    """
    _part("gates.metric: least", least)
    if most != math.inf:
        _part("gates.metric: most", most)
    claim = f"{name} {'= 100%' if least == 1 else '> ' + _percent(least)}"
    claim += f", < {_percent(most)}" if most < math.inf else ""

    def check(run: Run) -> Found:
        value = run.metric
        if wrong := _no_part(run, "metric", value):
            return wrong
        shown = _beside(value, least, 2)
        if value > most:
            shown = _beside(value, most, 2)
            return Found(False, shown, (f"{name} is {shown}, more than the task allows: is the answer seen?",))
        enough = value >= 1 if least == 1 else value > least
        return Found(enough, shown, () if enough else (f"{name} is {shown}; the gate is {claim}",))

    return Gate("metric", claim, check)


def _no_part(run: Run, what: str, value: float) -> Found | None:
    """The outcome for a metric that was not measured, or is no part of 1; else None."""
    if not run.handle.measures(what):
        return Found(None, "not measured", (f"pass run.watch(..., {what}=lambda: ...)",))
    if not 0 <= value <= 1 + 1e-6:  # rounding may lift a mean of ones above 1
        how = "percent is divided by 100; for what is no part of 1 give a gate of your own"
        why = f"run.watch({what}=...) gives {value:.6g}, and should give a part of 1, from 0 to 1: {how}"
        return Found(False, f"{value:.6g}", (why,))
    return None


@expecting
def gap(most: float = 0.15) -> Gate:
    """The metric on the training data is better than on held-out data by less than `most`.

    Raises:
        ValueError: `most` is not a part of 1.
    """
    _part("gates.gap: most", most)

    def check(run: Run) -> Found:
        for what, value in (("metric", run.metric), ("train_metric", run.train_metric)):
            if wrong := _no_part(run, what, value):
                return wrong
        difference = run.train_metric - run.metric
        measured = f"{run.train_metric:.1%} - {run.metric:.1%}"
        if difference < most:
            return Found(True, measured)
        shown = _beside(difference, most, 1)
        return Found(False, measured, (f"{shown} better on the data it was trained on: learned by heart",))

    return Gate("gap", f"generalization gap < {_percent(most)}", check)


@expecting
def finite_gradients(exempt: Exempt | None = None) -> Gate:
    """Every parameter has a finite gradient at each update whose gradients were read."""

    def check(run: Run) -> Found:
        causes: dict[str, str] = {}
        judged = [name for name in run.moved if not _exempt(name, exempt)]
        if wrong := _not_seen(run, judged):
            return wrong
        for name in judged:
            ill = next((i for i, norms in run.gradients.items() if not math.isfinite(norms.get(name, math.nan))), None)
            if ill is not None:
                missing, cause = run.gradients[ill].get(name) is None, run.reason(name, ill)
                causes[name] = _since("no gradient" if missing else "gradient is not finite", ill, cause)
        return Found(not causes, f"{len(judged) - len(causes)}/{len(judged)}", _together(causes))

    return Gate("finite gradients", "every gradient is there and finite", check)


@expecting
def nonzero_gradients(exempt: Exempt | None = None) -> Gate:
    """No parameter has a gradient of zeros at any update whose gradients were read."""

    def check(run: Run) -> Found:
        causes: dict[str, str] = {}
        judged = [name for name in run.moved if not _exempt(name, exempt)]
        if wrong := _not_seen(run, judged):
            return wrong
        seen = [name for name in judged if any(name in norms for norms in run.gradients.values())]
        if not seen:
            return Found(None, "not measured: there are no gradients", ("no parameter has a gradient",))
        for name in seen:
            zero = next((i for i, norms in run.gradients.items() if norms.get(name) == 0), None)
            if zero is not None and not _faded(run, name, zero):
                causes[name] = _since("gradient is zero", zero, run.reason(name, zero))
        return Found(not causes, f"{len(seen) - len(causes)}/{len(seen)}", _together(causes))

    return Gate("non-zero gradients", "no gradient is zero", check)


def _not_seen(run: Run, judged: list[str]) -> Found | None:
    """The outcome if no gradients can be judged; else None."""
    if not judged:
        why = "every parameter is exempt" if run.moved else "the model that run.watch was given has no parameters"
        return Found(False, "0/0", (why,))
    if run.misplaced:
        return Found(False, f"0/{len(judged)}", (run.misplaced,))
    if not run.updates:
        return Found(False, f"0/{len(judged)}", ("there was no update",))
    return None


def _since(what: str, update: int, cause: str) -> str:
    return f"{what} since update {update}{': ' if cause else ''}{cause}"


def _together(causes: Mapping[str, str]) -> tuple[str, ...]:
    """One sentence for each cause, which names all parameters with this cause."""
    names: dict[str, list[str]] = {}
    for name, cause in causes.items():
        names.setdefault(cause, []).append(f"`{name}`")
    return tuple(f"{', '.join(found)}: {cause}" for cause, found in names.items())


def _faded(run: Run, name: str, update: int) -> bool:
    """Whether nothing is left to learn: all gradients became zero, and were not zero at first."""
    norms = run.gradients[update]
    return update > 0 and not any(norms.values()) and run.gradients[0].get(name, 0.0) > 0


@expecting
def movement(least: float = 1e-3, *, of: str = "*", exempt: Exempt | None = None, name: str = "movement") -> Gate:
    """Parameters move by more than `least`, relative to their norm at the start.

    Args:
        least: the default tells stuck parameters from parameters that learn.
        of: the names of the parameters, with * as a wildcard.
        name: of the gate, if there are several gates of movement.
    """

    def check(run: Run) -> Found:
        given = given_to(run.optimizer) if run.optimizer is not None else None
        parameters = dict(run.model.named_parameters())
        judged = [n for n in parameters if fnmatch(n, of) and not _exempt(n, exempt)]
        causes: dict[str, str] = {}
        for n in judged:
            norm = run.gradients.get(0, {}).get(n)
            if run.moved[n] > least:
                continue
            if not math.isfinite(run.moved[n]):
                causes[n] = "is not finite after the last update"
                continue
            if not parameters[n].requires_grad:
                causes[n] = "frozen (requires_grad=False)"
            elif given is not None and id(parameters[n]) not in given:
                causes[n] = "not given to the optimizer"
            elif not norm:
                causes[n] = f"did not move: {'no gradient' if norm is None else 'its gradient is zero'}"
            else:
                causes[n] = f"moved {run.moved[n]:.3g} x its norm; the norm of its first gradient is {norm:.3g}"
        moved = [run.moved[n] for n in judged]
        measured = f"{len(judged) - len(causes)}/{len(judged)}, least {float(np.min(moved or [math.nan])):.3g} x"
        if not judged:
            why = f"no parameter is named {of!r}" if not parameters or of != "*" else "every parameter is exempt"
            return Found(False, measured, (why,))
        return Found(not causes, measured, _together(causes))

    which = "every parameter" if of == "*" else of
    return Gate(name, f"{which} moved > {least:g} x its norm", check)


@expecting
def fresh_gradients() -> Gate:
    """The gradients of an update are not added to the gradients of the update before."""

    def check(run: Run) -> Found:
        cause = "the gradient is added to that of the update before: call optimizer.zero_grad() in each"
        if not run.compared:
            return Found(None, "not measured: that takes two updates with gradients")
        return Found(not run.stale, f"{len(run.stale)} stale", _together(dict.fromkeys(run.stale, cause)))

    return Gate("fresh gradients", "gradients are cleared between updates", check)


@expecting
def updates(n: int) -> Gate:
    """There are n updates."""

    def check(run: Run) -> Found:
        right = run.updates == n
        return Found(right, str(run.updates), () if right else (f"{run.updates} updates, not {n}",))

    return Gate("updates", f"{n} updates", check)


@expecting
def overfit(drop: float = 0.9, within: int = 500) -> Gate:
    """On the first batch alone, again and again, the loss falls by more than the part `drop`. Needs `run.batches`."""

    def check(run: Run) -> Found:
        again = run.again(limit=within, one_batch=True)
        losses = again.losses
        if not losses:
            return Found(False, "no update", ("there was no update on one batch",))
        fallen, measured = _change(losses[0], losses[-1], drop)
        if fallen > drop:
            return Found(True, measured)
        ill = next((i for i, x in enumerate(losses) if not math.isfinite(x)), None)
        cause = "" if ill is None else f", and {losses[ill]} at update {ill}{_because(again.born(ill))}"
        sentence = f"after {len(losses)} updates on one batch the loss is {losses[-1]:.4g}{cause}"
        return Found(False, measured, (sentence,))

    return Gate("one batch", f"one batch is learned by heart: loss drop > {_percent(drop)}", check)


@expecting
def repeatable() -> Gate:
    """In `eval` mode the loss of the same data is twice the same; without a loss, the metric is."""

    def check(run: Run) -> Found:
        what = next((what for what in ("loss", "metric") if run.handle.measures(what)), None)
        if what is None:
            return Found(None, "not measured: pass run.watch(loss=...)")
        first, second = run.handle.measure(what), run.handle.measure(what)
        if not (math.isfinite(first) and math.isfinite(second)):
            sentence = f"the {what} is {first!r}, then {second!r}, which tells nothing"
            return Found(False, f"{first:.6g}, {second:.6g}", (sentence,))
        same = first == second
        why = () if same else (f"the {what} is {first!r}, then {second!r}: is dropout on in `eval` mode?",)
        return Found(same, f"{first:.6g} twice" if same else "differs", why)

    return Gate("repeatable", "in eval mode the same data give the same loss", check)


@expecting
def predicted(tolerance: float = 0.1, exempt: Exempt | None = None) -> Gate:
    """Each gradient predicts the change of the loss if its parameter moves: a check of all gradient rules at once.

    Before the first update, each parameter is moved a little along its gradient g, and against g. The difference of the
    losses must be 2 eps |g| within the tolerance. The gate evaluates `run.watch(loss=...)` twice for each parameter: of
    many data, let this loss take some. Without `loss=` nothing is measured.
    """

    def check(run: Run) -> Found:
        start = run.again(limit=0)
        if not start.handle.measures("loss"):
            return Found(None, "not measured: pass run.watch(loss=...)")
        model = start.model.eval()
        parameters = {n: p for n, p in model.named_parameters() if p.requires_grad and not _exempt(n, exempt)}
        value = start.handle.evaluate("loss")
        if not isinstance(value, Tensor):
            return Found(None, "not measured: run.watch(loss=...) gives a number, so leave out its .item()")
        if not math.isfinite(value.item()):
            return Found(False, f"the loss is {value.item()}", (f"the loss is {value.item()}{_because(start.born())}",))
        grads: Iterable[Tensor | None] = [None] * len(parameters)
        if value.requires_grad:
            grads = grad(value, list(parameters.values()), allow_unused=True)
        why, worst, seen = [], 0.0, False
        for (name, p), g in zip(parameters.items(), grads, strict=True):
            said, real, noise = _slopes(p, g, start)
            size = max(abs(real), abs(said))
            off = max(abs(said - real) - noise, 0.0) / size if size else 0.0
            worst, seen = float(np.maximum(worst, off)), seen or size > 0  # NaN counts as the largest
            if not off <= tolerance:
                why.append(f"`{name}`: along its gradient the loss changes by {real:.3g} per unit, not {said:.3g}")
        if not seen:
            return Found(False, "no gradient", ("no parameter that is judged changes the loss of run.watch(loss=...)",))
        return Found(not why, f"{_beside(worst, tolerance, 1)} off", tuple(why))

    return Gate("predicted", f"each gradient predicts the change of the loss within {_percent(tolerance)}", check)


def _slopes(p: Tensor, g: Tensor | None, run: Run) -> tuple[float, float, float]:
    """The slope of the loss along a gradient: as predicted, as measured, and the rounding error of the measurement."""
    home, start = p.data, p.detach().numpy().astype(np.float64)
    direction = np.zeros_like(start) if g is None else g.detach().numpy().astype(np.float64)
    norm = float(np.linalg.norm(direction))
    direction = direction / norm if norm else np.full_like(start, 1 / math.sqrt(start.size))
    eps = 0.02 * max(float(np.sqrt(np.mean(start**2))), 0.05)

    def at(step: float) -> float:
        p.data = Tensor(start + step * direction, p.dtype, p.device)
        with no_grad():
            return float(run.handle.evaluate("loss").item())

    up, down = at(eps), at(-eps)
    p.data = home
    resolution = float(np.finfo(p.dtype).eps)
    return norm, (up - down) / (2 * eps), 8 * resolution * max(abs(up), abs(down)) / eps


@expecting
def common() -> list[Gate]:
    """The gates that `verify` always has."""
    return [
        loss_drop(),
        finite_gradients(),
        nonzero_gradients(),
        movement(),
        fresh_gradients(),
        repeatable(),
        predicted(),
    ]
