"""`diagnose`: one forward and backward pass, and the name of what is wrong with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from tinytorch import random
from tinytorch.nn import Module
from tinytorch.nn.module import Parameter
from tinytorch.optim import Optimizer
from tinytorch.tensor import Tensor
from tinytorch.verify.run import given_to
from tinytorch.verify.trace import Event, Trace

DEAD = 0.5  # a ReLU is reported if more of its units than this are zero for all examples
VANISHING = 1e-5  # a layer is reported if the loss depends that much less on it than on another
EXPLODING = 1e3  # and if its gradient is so many times larger than its weights


@dataclass(frozen=True)
class Finding:
    """Something that is wrong.

    Attributes:
        kind: "nan", "dead", "vanishing", "exploding", "unreached", "zero", "not optimized" or "stale".
        culprit: the parameter, the module, or the line.
        text: a sentence about it.
    """

    kind: str
    culprit: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


class Diagnosis(list[Finding]):
    """The findings; prints as a line for each."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self

    def __str__(self) -> str:
        return "\n".join(map(str, self)) or "nothing found"


def diagnose(
    model: Module, loss: Tensor | Callable[[], Tensor], optimizer: Optimizer | Iterable[Optimizer] | None = None
) -> Diagnosis:
    """What is wrong with a model: call it where you would call `loss.backward()`.

    It finds where a NaN is born, dead ReLUs, layers whose gradient vanishes or explodes, parameters that the loss does
    not reach, and where the graph was cut; parameters that the optimizer was not given; and gradients that are still
    there from an earlier `backward`, to which another would add. Gradients, random numbers and graph stay as they are.

    Args:
        model: whose parameters and modules are named.
        loss: a function that computes it, which is then watched; or the loss, of which less can be told.
        optimizer: what will step; one or several.

    Raises:
        TypeError: the loss is not a Tensor.

    >>> from tinytorch.verify import diagnose
    >>> model = tinytorch.Sequential(tinytorch.Linear(2, 3), tinytorch.ReLU(), tinytorch.Linear(3, 1))
    >>> model[0].bias.data = Tensor([-9.0, -9.0, -9.0])
    >>> print(diagnose(model, lambda: model(tinytorch.ones((4, 2))).sum()))  # doctest: +ELLIPSIS
    dead: `1`: 3 of 3 units of relu are zero for all examples, in `1` (ReLU), <doctest ...>:1
    ...
    """
    parameters = dict(model.named_parameters())
    found = [_stale(name) for name, p in parameters.items() if p.grad is not None and bool((p.grad != 0).any())]
    trace = Trace()
    trace.names_of(model)
    with _undisturbed(parameters), trace:
        value = loss() if callable(loss) else loss
        if not isinstance(value, Tensor):
            raise TypeError(f"diagnose: the loss is a Tensor, without .item(), or a function of it, not {value!r}")
        forward = list(trace.events)
        if value.requires_grad:
            value.backward(retain_graph=True)
        with trace.paused():
            found += _not_finite(trace, value)
            found += [f for event in forward for f in _dead(event, trace)]
            found += _unreached(parameters, trace, value)
            found += _uneven(parameters)
    if optimizer is not None:
        given = given_to(optimizer)
        found += [
            Finding("not optimized", name, f"`{name}` was not given to the optimizer: it will stay as it is")
            for name, p in parameters.items()
            if id(p) not in given and p.requires_grad
        ]
    return Diagnosis(found)


@contextmanager
def _undisturbed(parameters: dict[str, Parameter]) -> Iterator[None]:
    """No gradients inside; afterwards all gradients and random numbers are as they were."""
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


def _stale(name: str) -> Finding:
    text = f"`{name}` still has the gradient of an earlier backward, and this one is added: call optimizer.zero_grad()"
    return Finding("stale", name, text)


def _not_finite(trace: Trace, value: Tensor) -> Iterator[Finding]:
    born = trace.born_nan()
    if born and ("NaN" in born or not math.isfinite(float(value.item()))):
        yield Finding("nan", born.split(" in ", 1)[-1].split(",")[0], born)


def _dead(event: Event, trace: Trace) -> Iterator[Finding]:
    """Units of a ReLU that are zero for every example: features of (..., F), channels of (N, C, H, W)."""
    if event.where.what != "relu" or event.result is None or event.result.ndim < 2:
        return
    y = event.result.detach().numpy()
    unit = 1 if y.ndim == 4 else y.ndim - 1
    dead = ~y.any(axis=tuple(i for i in range(y.ndim) if i != unit))
    if dead.mean() > DEAD:
        name = trace.names.get(id(event.module), "") or event.where.place
        text = f"{dead.sum()} of {dead.size} units of relu are zero for all examples, {event.place(trace.names)}"
        yield Finding("dead", name, f"`{name}`: {text}")


def _unreached(parameters: dict[str, Parameter], trace: Trace, value: Tensor) -> Iterator[Finding]:
    for name, p in parameters.items():
        if not p.requires_grad:
            continue
        if p.grad is None:
            yield Finding(
                "unreached", name, f"`{name}` is not reached from the loss: {trace.why_without_gradient(p, value)}"
            )
        elif not bool((p.grad != 0).any()):
            yield Finding("zero", name, f"`{name}` gets a gradient of zeros: {trace.why_without_gradient(p, value)}")


def _uneven(parameters: dict[str, Parameter]) -> Iterator[Finding]:
    """Layers on which the loss depends far less than on others, by |g| |w| of their weights, or far too much."""
    effect = {}
    for name, p in parameters.items():
        if p.ndim > 1 and p.grad is not None:
            g, w = (float(np.linalg.norm(x.detach().numpy().astype(np.float64))) for x in (p.grad, p))
            effect[name] = g * w
            if math.isfinite(g) and g > EXPLODING * max(w, 1.0):
                yield Finding(
                    "exploding", name, f"the gradient of `{name}` explodes: its norm is {g:.1e}, its own {w:.1e}"
                )
    most = max(effect, key=effect.__getitem__, default="")
    for name, e in effect.items():
        if 0 < e < VANISHING * effect[most] < math.inf:
            less = f"{effect[most] / e:.1e} times less than that of `{most}`"
            yield Finding("vanishing", name, f"the gradient of `{name}` vanishes: {less}")
