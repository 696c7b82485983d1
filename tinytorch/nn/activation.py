"""Activations as modules, for use in `Sequential`."""

from __future__ import annotations

from tinytorch import ops
from tinytorch.nn.module import Module
from tinytorch.tensor import Tensor
from tinytorch.words import checked


class Identity(Module):
    """x, unchanged, for an empty place in a model.

    >>> tinytorch.Identity()(Tensor([1.0]))
    tensor([1.])
    """

    def forward(self, x: Tensor) -> Tensor:
        return x


class ReLU(Module):
    """max(x, 0). Source: Nair and Hinton (2010).

    >>> tinytorch.ReLU()(Tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """

    def forward(self, x: Tensor) -> Tensor:
        return ops.relu(x)


class Tanh(Module):
    """The hyperbolic tangent.

    >>> tinytorch.Tanh()(Tensor([0.0]))
    tensor([0.])
    """

    def forward(self, x: Tensor) -> Tensor:
        return ops.tanh(x)


class Sigmoid(Module):
    """1 / (1 + exp(-x)).

    >>> tinytorch.Sigmoid()(Tensor([0.0]))
    tensor([0.5])
    """

    def forward(self, x: Tensor) -> Tensor:
        return ops.sigmoid(x)


class GELU(Module):
    """x * Phi(x), exactly or by tanh; see `tinytorch.gelu`. Source: Hendrycks and Gimpel (2016).

    >>> tinytorch.GELU(approximate="tanh")
    GELU(approximate='tanh')
    """

    @checked
    def __init__(self, approximate: str = "none") -> None:
        if approximate not in ("none", "tanh"):
            raise ValueError(f"GELU: approximate is 'none' or 'tanh', not {approximate!r}")
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        return ops.gelu(x, approximate=self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class Softmax(Module):
    """exp(x) / sum(exp(x)) along the axis `dim`.

    >>> tinytorch.Softmax(dim=-1)(Tensor([0.0, 0.0]))
    tensor([0.5, 0.5])
    """

    @checked
    def __init__(self, dim: int = -1) -> None:
        if not isinstance(dim, int) or isinstance(dim, bool):
            raise TypeError(f"Softmax: dim is the number of an axis, not {dim!r}")
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return ops.softmax(x, axis=self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"
