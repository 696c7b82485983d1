"""Limiting gradients."""

from __future__ import annotations

import math
from collections.abc import Iterable

from tinytorch import ops
from tinytorch.tape.checks import expect_tensors
from tinytorch.tape.modes import no_grad
from tinytorch.tensor import Tensor
from tinytorch.words import worded


@worded
@no_grad()
def clip_grad_norm_(parameters: Tensor | Iterable[Tensor], max_norm: float, norm_type: float = 2.0) -> Tensor:
    """Scale all gradients by min(1, max_norm / (norm + 1e-6)), where the norm is of all gradients together.

    No value is read: the norm stays on its device. Source: Pascanu, Mikolov and Bengio (2013).

    Args:
        norm_type: p of the p-norm; infinity gives the largest absolute value.

    Returns:
        The norm before scaling, a tensor of no dimensions; zero if there are no gradients.

    >>> w = tinytorch.nn.Parameter([1.0, 1.0])
    >>> w.grad = Tensor([3.0, 4.0])
    >>> tinytorch.optim.clip_grad_norm_([w], max_norm=1.0)
    tensor(5.)
    >>> w.grad
    tensor([0.6, 0.8])
    """
    if not norm_type > 0:
        raise ValueError(f"clip_grad_norm_: norm_type is positive, not {norm_type}")
    if not max_norm >= 0:
        raise ValueError(f"clip_grad_norm_: max_norm is not negative: {max_norm}")
    given = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    expect_tensors("clip_grad_norm_: parameters", *given)
    grads = [p.grad for p in given if p.grad is not None]
    if not grads:
        return Tensor(0.0)
    home, dtype = grads[0].device, grads[0].dtype
    if math.isinf(norm_type):
        norms = [ops.max(ops.abs(g)) for g in grads]
    else:
        norms = [ops.sum(ops.abs(g) ** norm_type) for g in grads]
    joined = ops.stack([n.to(home, dtype) for n in norms])
    total: Tensor = ops.max(joined) if math.isinf(norm_type) else ops.sum(joined) ** (1 / norm_type)
    factor = ops.minimum(max_norm / (total + 1e-6), 1.0)
    for p in given:
        if p.grad is not None:
            p.grad = p.grad * factor.to(p.grad.device, p.grad.dtype)
    return total
