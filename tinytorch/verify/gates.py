"""Gates: what must be true of a run, each with what was measured and, where it fails, one sentence for each culprit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch

import numpy as np

from tinytorch.autograd import grad, no_grad
from tinytorch.tensor import Tensor
from tinytorch.verify.run import Run, given_to


@dataclass(frozen=True)
class Found:
    """What a gate found: whether it holds, what was measured, and a sentence for each culprit."""

    passed: bool
    measured: str
    why: tuple[str, ...] = ()


@dataclass(frozen=True)
class Gate:
    """A claim about a run.

    Args:
        name: what a control calls it.
        claim: what must be true.
        check: finds out, from a `Run` that is over; its device is the default one meanwhile.

    >>> from tinytorch.verify import Found, Gate
    >>> Gate("small", "fewer than 10 parameters", lambda run: Found(len(list(run.model.parameters())) < 10, ""))
    Gate(name='small', claim='fewer than 10 parameters')
    """

    name: str
    claim: str
    check: Callable[[Run], Found] = field(repr=False)


Exempt = Mapping[str, str]  # parameters (names, with * as a wildcard) a gate leaves out, each with the reason


def _exempt(name: str, exempt: Exempt | None) -> bool:
    return any(fnmatch(name, pattern) for pattern in exempt or ())


def _percent(x: float) -> str:
    return f"{x * 100:.4g}%"


def loss_drop(least: float = 0.5) -> Gate:
    """The loss falls by more than this part of it."""

    def check(run: Run) -> Found:
        measured = f"{run.before:.4f} -> {run.after:.4f}: {run.loss_drop:.1%}"
        if run.loss_drop > least:
            return Found(True, measured)
        losses = run.losses
        ill = next((i for i, x in enumerate(losses) if not math.isfinite(x)), None)
        if ill is None:
            sentence = f"the loss went from {run.before:.4g} to {run.after:.4g}, down by {run.loss_drop:.1%}"
            return Found(False, measured, (sentence,))
        cause = next(filter(None, (run.reason(name, ill) for name in run.moved)), "")
        return Found(False, measured, (f"the loss is {losses[ill]} at update {ill}{': ' if cause else ''}{cause}",))

    return Gate("loss drop", f"loss drop > {_percent(least)}", check)


def metric(least: float, *, most: float = math.inf, name: str = "metric") -> Gate:
    """The held-out metric is above this; reaches it, if this is 1.

    Args:
        most: more than the task allows: then the model sees what it should not, such as the answer.
        name: of the metric, such as "accuracy".
    """

    claim = f"{name} {'= 100%' if least == 1 else '> ' + _percent(least)}"
    claim += f", < {_percent(most)}" if most < math.inf else ""

    def check(run: Run) -> Found:
        value = run.metric
        if math.isnan(value):
            return Found(False, "not measured", ("no metric, or NaN: pass run.watch(..., metric=lambda: ...)",))
        if value > most:
            return Found(
                False, f"{value:.2%}", (f"{name} {value:.2%} is more than the task allows: is the answer seen?",)
            )
        enough = value >= 1 if least == 1 else value > least
        return Found(enough, f"{value:.2%}", () if enough else (f"{claim} on held-out data, but it is {value:.2%}",))

    return Gate("metric", claim, check)


def gap(most: float = 0.15) -> Gate:
    """The metric on the training data is at most so much better than on held-out data."""

    def check(run: Run) -> Found:
        difference = run.train_metric - run.metric
        measured = f"{run.train_metric:.1%} - {run.metric:.1%}"
        if math.isnan(difference):
            return Found(False, "not measured", ("pass run.watch(..., metric=..., train_metric=...)",))
        if difference < most:
            return Found(True, measured)
        return Found(False, measured, (f"{difference:.1%} better on the data it was trained on: learned by heart",))

    return Gate("gap", f"generalization gap < {_percent(most)}", check)


def finite_gradients(exempt: Exempt | None = None) -> Gate:
    """Every parameter has a gradient, and a finite one, at each update that was looked at."""

    def check(run: Run) -> Found:
        causes: dict[str, str] = {}
        for name in run.moved:
            ill = next((i for i, norms in run.gradients.items() if not math.isfinite(norms.get(name, math.nan))), None)
            if _exempt(name, exempt) or (ill is None and run.gradients):
                continue
            if ill is None:
                causes[name] = "no gradient, since there was no update"
                continue
            missing, cause = run.gradients[ill].get(name) is None, run.reason(name, ill)
            causes[name] = _since("no gradient" if missing else "gradient is not finite", ill, cause)
        n = len(run.moved)
        return Found(not causes and n > 0, f"{n - len(causes)}/{n}", _together(causes))

    return Gate("finite gradients", "every gradient is there and finite", check)


def nonzero_gradients(exempt: Exempt | None = None) -> Gate:
    """No parameter has a gradient of zeros, at each update that was looked at."""

    def check(run: Run) -> Found:
        causes: dict[str, str] = {}
        for name in run.moved:
            zero = next((i for i, norms in run.gradients.items() if norms.get(name) == 0), None)
            if zero is not None and not _exempt(name, exempt) and not _faded(run, name, zero):
                causes[name] = _since("gradient is zero", zero, run.reason(name, zero))
        n = len(run.moved)
        return Found(not causes, f"{n - len(causes)}/{n}", _together(causes))

    return Gate("non-zero gradients", "no gradient is zero", check)


def _since(what: str, update: int, cause: str) -> str:
    return f"{what} since update {update}{': ' if cause else ''}{cause}"


def _together(causes: Mapping[str, str]) -> tuple[str, ...]:
    """One sentence for each cause, which names all parameters it is the cause for."""
    names: dict[str, list[str]] = {}
    for name, cause in causes.items():
        names.setdefault(cause, []).append(f"`{name}`")
    return tuple(f"{', '.join(found)}: {cause}" for cause, found in names.items())


def _faded(run: Run, name: str, update: int) -> bool:
    """Whether a gradient became zero because nothing is left to learn: all did, and the first was not."""
    norms = run.gradients[update]
    return update > 0 and not any(norms.values()) and run.gradients[0].get(name, 0.0) > 0


def movement(least: float = 1e-3, *, of: str = "*", exempt: Exempt | None = None, name: str = "movement") -> Gate:
    """Parameters move by more than this, relative to their norm at the start.

    Args:
        least: the default tells what is stuck from what learns.
        of: which parameters, with * as a wildcard.
        name: of the gate, where there are several.
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
            if not parameters[n].requires_grad:
                causes[n] = "frozen (requires_grad=False)"
            elif given is not None and id(parameters[n]) not in given:
                causes[n] = "not given to the optimizer"
            elif not norm:
                causes[n] = f"did not move: {'no gradient' if norm is None else 'its gradient is zero'}"
            else:
                causes[n] = f"moved {run.moved[n]:.3g} x its norm; the norm of its first gradient is {norm:.3g}"
        moved = [run.moved[n] for n in judged]
        measured = f"{len(judged) - len(causes)}/{len(judged)}, least {min(moved, default=math.nan):.3g} x"
        if not judged:
            return Found(False, measured, (f"no parameter is named {of!r}",))
        return Found(not causes, measured, _together(causes))

    which = "every parameter" if of == "*" else of
    return Gate(name, f"{which} moved > {least:g} x its norm", check)


def fresh_gradients() -> Gate:
    """The gradients of an update are not added to those of the one before."""

    def check(run: Run) -> Found:
        cause = "the gradient is added to that of the update before: call optimizer.zero_grad() in each"
        return Found(not run.stale, f"{len(run.stale)} stale", _together(dict.fromkeys(run.stale, cause)))

    return Gate("fresh gradients", "gradients are cleared between updates", check)


def updates(n: int) -> Gate:
    """There are as many updates as the recipe says."""

    def check(run: Run) -> Found:
        right = run.updates == n
        return Found(right, str(run.updates), () if right else (f"{run.updates} updates, not {n}",))

    return Gate("updates", f"{n} updates", check)


def overfit(drop: float = 0.9, within: int = 500) -> Gate:
    """On its first batch alone, again and again, the loss falls by more than this part of it. Needs `run.batches`."""

    def check(run: Run) -> Found:
        losses = run.again(limit=within, one_batch=True).losses or [math.nan]
        fallen = 1 - losses[-1] / losses[0] if losses[0] else math.nan
        measured = f"{losses[0]:.4f} -> {losses[-1]:.4f}: {fallen:.1%}"
        if fallen > drop:
            return Found(True, measured)
        return Found(False, measured, (f"after {len(losses)} updates on one batch the loss is {losses[-1]:.4g}",))

    return Gate("one batch", f"one batch is learned by heart: loss drop > {_percent(drop)}", check)


def repeatable() -> Gate:
    """In `eval` mode the same data give the same loss twice."""

    def check(run: Run) -> Found:
        what = "loss" if run.loss_function() is not None else "metric"
        first, second = run.measure(what), run.measure(what)
        if what == "metric" and math.isnan(first):
            return Found(True, "not measured: pass run.watch(loss=...)")
        same = first == second or (math.isnan(first) and math.isnan(second))
        why = () if same else (f"the {what} is {first!r}, then {second!r}: is dropout on in `eval` mode?",)
        return Found(same, f"{first:.6g} twice" if same else "differs", why)

    return Gate("repeatable", "in eval mode the same data give the same loss", check)


def predicted(tolerance: float = 0.1, exempt: Exempt | None = None) -> Gate:
    """Each gradient says how the loss changes if its parameter moves along it: the check of all gradient rules at once.

    Before the first update, each parameter is moved a little along its gradient g and against it; the difference of the
    losses must be 2 eps |g| within the tolerance. It takes two evaluations of `run.watch(loss=...)` for each parameter,
    so let that be of some of the data if they are many; without it nothing is measured.
    """

    def check(run: Run) -> Found:
        start = run.again(limit=0)
        loss = start.loss_function()
        if loss is None:
            return Found(True, "not measured: pass run.watch(loss=...)")
        model = start.model.eval()
        parameters = {n: p for n, p in model.named_parameters() if p.requires_grad and not _exempt(n, exempt)}
        value = loss()
        grads: Iterable[Tensor | None] = [None] * len(parameters)
        if isinstance(value, Tensor) and value.requires_grad:
            grads = grad(value, list(parameters.values()), allow_unused=True)
        why, worst = [], 0.0
        for (name, p), g in zip(parameters.items(), grads, strict=True):
            said, real, noise = _slopes(p, g, loss)
            off = abs(said - real) - noise
            worst = max(worst, off / max(abs(real), abs(said), 1e-12))
            if not off <= tolerance * max(abs(real), abs(said)):
                why.append(f"`{name}`: along its gradient the loss changes by {real:.3g} per unit, not {said:.3g}")
        return Found(not why, f"{worst:.1%} off", tuple(why))

    return Gate("predicted", f"each gradient predicts the change of the loss within {_percent(tolerance)}", check)


def _slopes(p: Tensor, g: Tensor | None, loss: Callable[[], Tensor]) -> tuple[float, float, float]:
    """The slope of the loss along a gradient: as the gradient says, as it is, and how far rounding blurs that."""
    home, start = p.data, p.detach().numpy().astype(np.float64)
    direction = np.zeros_like(start) if g is None else g.detach().numpy().astype(np.float64)
    norm = float(np.linalg.norm(direction))
    direction = direction / norm if norm else np.full_like(start, 1 / math.sqrt(start.size))
    eps = 0.02 * max(float(np.sqrt(np.mean(start**2))), 0.05)

    def at(step: float) -> float:
        p.data = Tensor(start + step * direction, p.dtype, p.device)
        with no_grad():
            return float(loss().item())

    up, down = at(eps), at(-eps)
    p.data = home
    resolution = float(np.finfo(p.dtype).eps)
    return norm, (up - down) / (2 * eps), 8 * resolution * max(abs(up), abs(down)) / eps


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
