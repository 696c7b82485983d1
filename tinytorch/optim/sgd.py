"""Stochastic gradient descent."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tinytorch.backends import Array, Device
from tinytorch.optim.flat import State
from tinytorch.optim.optimizer import Optimizer, decayed
from tinytorch.words import bound


class SGD(Optimizer):
    """p -= lr * b, with b = momentum * b + (1 - dampening) * g and g the gradient plus weight_decay * p.

    The first b is g. Without momentum b is g; with `nesterov` the step is lr * (g + momentum * b). Source: Robbins and
    Monro (1951); Sutskever et al. (2013), in PyTorch's form.

    Args:
        params: parameters, or dicts of groups with settings of their own.
        lr: length of a step.

    >>> w = tinytorch.nn.Parameter([1.0])
    >>> optimizer = tinytorch.SGD([w], lr=0.5)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.data
    tensor([0.])
    """

    kept = ("momentum_buffer",)

    @bound
    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
            },
        )

    def check(self, group: Mapping[str, Any]) -> None:
        super().check(group)
        self.check_number("momentum", group["momentum"])
        self.check_number("dampening", group["dampening"], -math.inf)
        if not isinstance(group["nesterov"], bool | np.bool):
            raise TypeError(f"SGD: nesterov is True or False, not {group['nesterov']!r}")
        if group["nesterov"] and (group["momentum"] == 0 or group["dampening"] != 0):
            raise ValueError("SGD: nesterov needs a momentum and no dampening")

    def numbers(self, steps: int, group: Mapping[str, Any]) -> dict[str, float]:
        found = {"lr": group["lr"]}
        if group["weight_decay"]:
            found["decay"] = group["weight_decay"]
        if group["momentum"]:
            found["momentum"] = group["momentum"]
        if group["nesterov"]:
            found["first"] = group["lr"] * (1.0 + group["momentum"])  # the first step has no buffer yet
        if group["momentum"] and group["dampening"]:
            found["share"] = 1.0 - group["dampening"]
        return found

    def update(
        self, dev: Device, values: Array, grad: Array, state: State, numbers: Mapping[str, float]
    ) -> tuple[Array, State]:
        lr = numbers["lr"]
        if "decay" in numbers:
            grad = dev.fused(decayed)(dev, grad, values, decay=numbers["decay"])
        if "momentum" not in numbers:
            return dev.fused(_plain)(dev, values, grad, lr=lr), state
        if not state:
            values = dev.fused(_plain)(dev, values, grad, lr=numbers.get("first", lr))
            return values, {"momentum_buffer": dev.xp.asarray(grad, copy=True)}
        b, momentum = state["momentum_buffer"], numbers["momentum"]
        if "first" in numbers:
            values, b = dev.fused(_nesterov)(dev, values, grad, b, lr=lr, momentum=momentum)
        elif "share" in numbers:
            values, b = dev.fused(_dampened)(dev, values, grad, b, share=numbers["share"], lr=lr, momentum=momentum)
        else:
            values, b = dev.fused(_heavy)(dev, values, grad, b, lr=lr, momentum=momentum)
        return values, {"momentum_buffer": b}


def _plain(dev: Device, values: Array, grad: Array, *, lr: float) -> Array:
    return values - grad * lr


def _heavy(dev: Device, values: Array, grad: Array, b: Array, *, lr: float, momentum: float) -> tuple[Array, Array]:
    b = b * momentum
    b += grad
    return values - b * lr, b


def _dampened(
    dev: Device, values: Array, grad: Array, b: Array, *, lr: float, momentum: float, share: float
) -> tuple[Array, Array]:
    return _heavy(dev, values, grad * share, b, lr=lr, momentum=momentum)


def _nesterov(dev: Device, values: Array, grad: Array, b: Array, *, lr: float, momentum: float) -> tuple[Array, Array]:
    b = b * momentum
    b += grad
    step = b * momentum
    step += grad
    return values - step * lr, b
