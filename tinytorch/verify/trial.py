"""A step of the optimizer, tried out on copies: does the loss go down, and has the step a good size?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinytorch.nn.module import Parameter
from tinytorch.optim import Optimizer
from tinytorch.tape.modes import no_grad
from tinytorch.tensor import Tensor
from tinytorch.verify.mistakes import Finding

HIGHER = 3.0  # a step down the gradient is far too large if the loss grows to so many times its size
ORDINARY = 0.01  # a learning rate that is not too small
SLOW = 1e-7  # a step is far too small if weights and loss change by less, relatively


def step(
    optimizers: list[Optimizer], parameters: dict[str, Parameter], loss: float, again: Callable[[], float]
) -> Iterator[Finding]:
    """Findings about a first step from here; `again` computes the loss anew."""
    for optimizer in optimizers:
        for group in optimizer.param_groups if isinstance(optimizer, Optimizer) else []:
            known = ", ".join(repr(key) for key in sorted(optimizer.defaults))
            for key in sorted(group.keys() - optimizer.defaults.keys() - {"params"}):
                text = f"{type(optimizer).__name__} has no setting {key!r}, so that it has no effect; it has {known}"
                yield Finding("setting", key, f'{text}: optimizer.param_groups[0]["lr"] = 0.1')
    moved = [pair for optimizer in optimizers if isinstance(optimizer, Optimizer) for pair in _stepped(optimizer)]
    moved = [(p, new) for p, new in moved if any(p is q for q in parameters.values())]
    if not moved:
        return
    rise = norms = 0.0
    relative = wanted = 0.0
    rates = [float(group["lr"]) for optimizer in optimizers for group in optimizer.param_groups if "lr" in group]
    for p, new in moved:
        old, to, g = (t.detach().numpy().astype(np.float64) for t in (p, new, p.grad))
        rise += float(((to - old) * g).sum())
        norms += float(np.linalg.norm(g) * np.linalg.norm(old))
        if np.linalg.norm(old):
            relative = max(relative, float(np.linalg.norm(to - old) / np.linalg.norm(old)))
            wanted = max(wanted, ORDINARY * float(np.linalg.norm(g) / np.linalg.norm(old)))
    lr = ", ".join(dict.fromkeys(f"{rate:.3g}" for rate in rates))
    learns = norms > SLOW * abs(loss)  # these have something left to learn
    if rise > 0 and learns:
        yield Finding(
            "uphill", "optimizer", "the optimizer's step goes along the gradient, up, not against it: p -= lr * g"
        )
        return
    if learns and relative < SLOW and -rise < SLOW * abs(loss):
        text = f"a step of the optimizer changes no weight by more than {relative:.1e} of it (lr {lr})"
        if max(rates, default=0.0) < ORDINARY:
            yield Finding("step too small", "optimizer", f'{text}: optimizer.param_groups[0]["lr"] = {ORDINARY}')
        elif wanted >= SLOW:  # the gradient is large enough: so the rule is wrong
            yield Finding("step too small", "optimizer", f"{text}: its update returns other values than p - lr * g")
        return
    after = _at(moved, again)
    if not after <= HIGHER * max(abs(loss), 1e-3):
        text = f"a step of the optimizer takes the loss from {loss:.3g} to {after:.3g} (lr {lr})"
        yield Finding("step too large", "optimizer", f'{text}: optimizer.param_groups[0]["lr"] /= 100')


def _stepped(optimizer: Optimizer) -> list[tuple[Tensor, Tensor]]:
    """Parameters with gradients, each with a copy that has made a step, by a copy of the optimizer with its state."""
    groups: list[dict[str, Any]] = []
    pairs: list[tuple[Tensor, Tensor]] = []
    make: Any = type(optimizer)
    for group in optimizer.param_groups:
        twins = [Parameter(p.detach().numpy(), p.dtype, p.device) for p in group["params"]]
        for p, twin in zip(group["params"], twins, strict=True):
            if p.grad is not None and p.requires_grad:
                twin.grad = Tensor(p.grad.detach().numpy(), p.grad.dtype, p.grad.device)
                pairs.append((p, twin))
        groups.append({**{k: v for k, v in group.items() if k in optimizer.defaults}, "params": twins})
    try:
        copy = make(groups)
        copy.load_state_dict(optimizer.state_dict())
        copy.step()
    except (TypeError, ValueError, KeyError):  # the optimizer is not made like the library's own
        return []
    return pairs


def _at(moved: list[tuple[Tensor, Tensor]], again: Callable[[], float]) -> float:
    """The loss with the values of the copies. Afterwards parameters and graphs are as before."""
    home = [p.array for p, _ in moved]
    try:
        with no_grad():
            for p, new in moved:
                p.array = new.array
            value = again()
    finally:
        for (p, _), array in zip(moved, home, strict=True):
            p.array = array
    return value if math.isfinite(value) else math.inf
