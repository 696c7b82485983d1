"""Adam, and Adam with decoupled weight decay."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from tinytorch.backends import Array, Device
from tinytorch.optim.flat import State
from tinytorch.optim.optimizer import Optimizer, decayed
from tinytorch.words import bound


class Adam(Optimizer):
    """p -= lr * (m / (1 - b1**t)) / (sqrt(v / (1 - b2**t)) + eps), with running means of the gradient and its square:

    m = b1 * m + (1 - b1) * g and v = b2 * v + (1 - b2) * g**2, where g is the gradient plus weight_decay * p, and t
    counts the steps. Source: Kingma and Ba (2015), in PyTorch's form.

    Args:
        params: parameters, or dicts of groups with settings of their own.
        lr: about the length of a step in each coordinate.
        betas: b1 and b2.

    >>> w = tinytorch.nn.Parameter([1.0])
    >>> optimizer = tinytorch.Adam([w], lr=0.5)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> round(w.item(), 5)
    0.5
    """

    kept = ("exp_avg", "exp_avg_sq")
    always = True

    @bound
    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def check(self, group: Mapping[str, Any]) -> None:
        super().check(group)
        name, betas = type(self).__name__, group["betas"]
        if not isinstance(betas, tuple | list) or len(betas) != 2:
            raise TypeError(f"{name}: betas are two numbers, as in betas=(0.9, 0.999), not {betas!r}")
        for i, beta in enumerate(betas):
            self.check_number(f"betas[{i}]", beta, -math.inf)
        if not all(0 <= b < 1 for b in betas):
            raise ValueError(f"{name}: betas are in [0, 1), not {betas}")
        self.check_number("eps", group["eps"])

    def numbers(self, steps: int, group: Mapping[str, Any]) -> dict[str, float]:
        b1, b2 = group["betas"]
        root = math.sqrt(1.0 - b2**steps)
        found = {"b1": b1, "b2": b2, "eps": group["eps"] * root, "rate": group["lr"] * root / (1.0 - b1**steps)}
        return found | {"decay": group["weight_decay"]} if group["weight_decay"] else found

    def update(
        self, dev: Device, values: Array, grad: Array, state: State, numbers: Mapping[str, float]
    ) -> tuple[Array, State]:
        if "decay" in numbers:
            grad = dev.fused(decayed)(dev, grad, values, decay=numbers["decay"])
        m, v = (state[name] if state else dev.xp.zeros_like(values) for name in self.kept)
        settings = {name: numbers[name] for name in ("b1", "b2", "eps", "rate")}
        values, m, v = dev.fused(_adam)(dev, values, grad, m, v, **settings)
        return values, {"exp_avg": m, "exp_avg_sq": v}


def _adam(
    dev: Device, values: Array, grad: Array, m: Array, v: Array, *, b1: float, b2: float, eps: float, rate: float
) -> tuple[Array, Array, Array]:
    """The step. `eps` and `rate` hold the factor sqrt(1 - b2**t), by which the quotient is expanded."""
    m = m * b1
    m += grad * (1.0 - b1)
    square = grad * grad
    square *= 1.0 - b2
    v = v * b2
    v += square
    step = dev.xp.sqrt(v)
    step += eps
    step = m / step
    step *= rate
    return values - step, m, v


class AdamW(Adam):
    """Adam, but the weight decay is not part of the gradient: p -= lr * weight_decay * p, and then Adam's step.

    Source: Loshchilov and Hutter (2019), in PyTorch's form.

    >>> w = tinytorch.nn.Parameter([1.0])
    >>> optimizer = tinytorch.AdamW([w], lr=0.1, weight_decay=1.0)
    >>> w.grad = tinytorch.zeros(1)
    >>> optimizer.step()
    >>> round(w.item(), 5)
    0.9
    """

    @bound
    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)

    def numbers(self, steps: int, group: Mapping[str, Any]) -> dict[str, float]:
        return super().numbers(steps, {**group, "weight_decay": 0.0}) | {"by": group["lr"] * group["weight_decay"]}

    def update(
        self, dev: Device, values: Array, grad: Array, state: State, numbers: Mapping[str, float]
    ) -> tuple[Array, State]:
        return super().update(dev, dev.fused(_shrunk)(dev, values, by=numbers["by"]), grad, state, numbers)


def _shrunk(dev: Device, values: Array, *, by: float) -> Array:
    return values * (1.0 - by)
