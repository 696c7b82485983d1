"""`diagnose`: one forward and backward pass, the names of the mistakes in it, and how to mend each."""

from __future__ import annotations

import math
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import numpy as np

from tinytorch import random
from tinytorch.nn import Module
from tinytorch.nn.module import Parameter
from tinytorch.optim import Optimizer
from tinytorch.table import plain, width, wrapped
from tinytorch.tape.modes import is_grad_enabled
from tinytorch.tensor import Tensor
from tinytorch.verify import mistakes, trial
from tinytorch.verify.handle import given_to, optimizers_of
from tinytorch.verify.mistakes import Finding, together
from tinytorch.verify.trace import Trace
from tinytorch.words import expecting

VANISHING = 1e-5  # a layer is reported if the loss depends on it by this factor less than on another layer
EXPLODING = 1e3  # a layer is reported if its gradient is so many times larger than its weights


class Diagnosis(list[Finding]):
    """The findings of `diagnose`; printed with a line for each."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self

    def __repr__(self) -> str:
        return str(self)  # for the prompt

    def __str__(self) -> str:
        lines = [plain(finding) for finding in self] or ["nothing found"]
        if sys.stdout is not None and sys.stdout.isatty():  # only there long lines are broken
            lines = [part for line in lines for part in wrapped(line, width(80), "  ")]
        return "\n".join(lines)


@expecting
def diagnose(
    model: Module, loss: Tensor | Callable[[], Tensor], optimizer: Optimizer | Iterable[Optimizer] | None = None
) -> Diagnosis:
    """The mistakes in a model: call `diagnose` where you would call `loss.backward()`.

    The diagnosis has a line for each cause:

    * where a NaN is born; layers whose gradient vanishes or explodes; dead ReLUs and saturated units; units that start
      alike, and stay alike; parameters that the loss does not reach, and where the graph was cut;
    * a softmax, sigmoid or ReLU before a loss that takes logits; numbers outside [0, 1] before a loss that takes
      probabilities; labels that are one-hot, floating or out of range; shapes that broadcast by mistake; data that are
      not normalised, or of another dtype than the model;
    * a model left in eval mode, and gradients left switched off; a plain Tensor in the place of a Parameter;
    * parameters that the optimizer was not given; gradients of an earlier `backward` that were not cleared; a step that
      goes up, or is far too large or far too small (the step is tried out on copies).

    Gradients, parameters, random numbers and graph stay as they are.

    Args:
        model: the model; lines name its parameters and modules.
        loss: a function that computes the loss, and is watched meanwhile; or the loss, which tells less.
        optimizer: the optimizer, or several, for the step.

    Raises:
        TypeError: the loss is not a Tensor. An error of the loss function that has none of these causes is raised as it
            is.

    >>> from tinytorch.verify import diagnose
    >>> model = tinytorch.Sequential(tinytorch.Linear(2, 3), tinytorch.ReLU(), tinytorch.Linear(3, 1))
    >>> model[0].bias.data = Tensor([-9.0, -9.0, -9.0])
    >>> print(diagnose(model, lambda: model(tinytorch.ones((4, 2))).sum()))  # doctest: +ELLIPSIS
    dead: `1`: 3 of 3 units of relu are zero for all examples, in `1` (ReLU), ...: start with other weights, ...
    """
    parameters = dict(model.named_parameters())
    optimizers = optimizers_of("diagnose", optimizer)
    found = [*_stale(parameters), *mistakes.of_model(model), *mistakes.of_mode(model)]
    trace = Trace()
    trace.names_of(model)
    with _undisturbed(parameters), trace:
        state = random.generator.bit_generator.state
        try:
            value = loss() if callable(loss) else loss
        except (TypeError, ValueError, IndexError) as error:
            if wrong := mistakes.of_error(traceback.walk_tb(error.__traceback__), trace):
                return Diagnosis([*found, *wrong])
            raise
        if not isinstance(value, Tensor):
            raise TypeError(f"diagnose: the loss is a Tensor, without .item(), or a function of it, not {value!r}")
        forward = list(trace.events)
        if value.requires_grad:
            try:
                value.backward(retain_graph=True)
            except RuntimeError as error:
                if callable(loss) or "freed" not in str(error):
                    raise
                fix = "call it before loss.backward(), or give it a function: diagnose(model, lambda: loss_of(x))"
                raise RuntimeError(f"diagnose: the graph of the loss was freed by a backward; {fix}") from None
        with trace.paused():
            found += _not_finite(trace, value)
            found += mistakes.of_forward(forward, trace, parameters)
            if is_grad_enabled():
                found += _unreached(parameters, trace, value)
                found += _uneven(parameters)
                found += mistakes.of_symmetry(parameters)
            found += _not_optimized(parameters, optimizers)
            if callable(loss) and optimizers and value.requires_grad and math.isfinite(value.item()):

                def again() -> float:
                    random.generator.bit_generator.state = state  # so that dropout drops the same elements
                    return float(loss().item())

                found += trial.step(optimizers, parameters, value.item(), again)
    return Diagnosis(_causes(found))


CONSEQUENCES = {  # kind of finding -> kinds that follow from it, and are left out beside it
    "alike": {"zero", "dead", "vanishing"},
    "dead": {"zero"},
    "saturated": {"zero", "vanishing"},
    "nan": {"zero", "exploding", "vanishing", "alike", "dead", "saturated"},
    "data": {"exploding", "vanishing", "saturated", "dead", "zero", "step too large"},
    "probabilities": {"nan", "exploding", "vanishing", "step too large"},
}


def _causes(found: list[Finding]) -> list[Finding]:
    """The findings, without findings that follow from another finding."""
    follow = {kind for finding in found for kind in CONSEQUENCES.get(finding.kind, ())}
    return [finding for finding in found if finding.kind not in follow]


@contextmanager
def _undisturbed(parameters: dict[str, Parameter]) -> Iterator[None]:
    """A block that begins without gradients. After the block all gradients and random numbers are as before."""
    grads = {name: p.grad for name, p in parameters.items()}
    state = random.generator.bit_generator.state
    for p in parameters.values():
        p.grad = None
    try:
        with np.errstate(all="ignore"):
            yield
    finally:
        random.generator.bit_generator.state = state
        for name, p in parameters.items():
            p.grad = grads[name]


def _stale(parameters: dict[str, Parameter]) -> Iterator[Finding]:
    old = [name for name, p in parameters.items() if p.grad is not None and bool((p.grad != 0).any())]
    text = "the gradient of an earlier backward is still there, and this one is added: call optimizer.zero_grad()"
    yield from together("stale", dict.fromkeys(old, text))


def _not_finite(trace: Trace, value: Tensor) -> Iterator[Finding]:
    born = trace.born_nan()
    if born and ("NaN" in born or not math.isfinite(float(value.item()))):
        yield Finding("nan", born.split(" in ", 1)[-1].split(",")[0], born)


def _unreached(parameters: dict[str, Parameter], trace: Trace, value: Tensor) -> Iterator[Finding]:
    missing, zero = {}, {}
    if parameters and not any(p.requires_grad for p in parameters.values()):
        text = "no parameter requires a gradient, so that nothing learns: model.requires_grad_()"
        yield Finding("unreached", "requires_grad", text)
    for name, p in parameters.items():
        if not p.requires_grad:
            continue
        if p.grad is None:
            missing[name] = f"not reached from the loss: {trace.why_without_gradient(p, value)}"
        elif not bool((p.grad != 0).any()):
            zero[name] = f"gradient of zeros: {trace.why_without_gradient(p, value)}"
    yield from together("unreached", missing)
    yield from together("zero", zero)


def _uneven(parameters: dict[str, Parameter]) -> Iterator[Finding]:
    """Layers on which the loss depends far less than on others, or far too much; measured by |g| |w| of the weights."""
    effect, exploding = {}, {}
    for name, p in parameters.items():
        if p.ndim > 1 and p.grad is not None:
            g, w = (float(np.linalg.norm(x.detach().numpy().astype(np.float64))) for x in (p.grad, p))
            effect[name] = g * w
            if math.isfinite(g) and g > EXPLODING * max(w, 1.0):
                exploding[name] = g, w
    if exploding:
        worst = max(exploding, key=lambda name: exploding[name][0])
        g, w = exploding[worst]
        text = (
            f"the gradient explodes: that of `{worst}` has the norm {g:.1e}, its values {w:.1e}: start with smaller "
            "weights, or call tinytorch.clip_grad_norm_(model.parameters(), 1.0) before optimizer.step()"
        )
        yield from together("exploding", dict.fromkeys(exploding, text))
    most = max(effect, key=effect.__getitem__, default="")
    weak = {name: e for name, e in effect.items() if 0 < e < VANISHING * effect[most] < math.inf}
    if weak:
        least = min(weak, key=weak.__getitem__)
        text = (
            f"the gradient vanishes: the loss depends {effect[most] / weak[least]:.1e} times less on `{least}` than on "
            f"`{most}`: put ReLU() in the place of what saturates, or LayerNorm(...) or a shortcut, x + layer(x)"
        )
        yield from together("vanishing", dict.fromkeys(weak, text))


def _not_optimized(parameters: dict[str, Parameter], optimizers: list[Optimizer]) -> Iterator[Finding]:
    if not optimizers:
        return
    given = given_to(optimizers)
    left = [name for name, p in parameters.items() if id(p) not in given and p.requires_grad]
    make = f"{type(optimizers[0]).__name__}(model.parameters(), ...)"
    text = f"not given to the optimizer, so it will stay as it is: {make}"
    if left and not any(id(p) in given for p in parameters.values()):
        text = f"the optimizer has other parameters than this model: make it after the model, {make}"
    yield from together("not optimized", dict.fromkeys(left, text))
