"""The fully connected layer, and `Flatten`, which only changes shapes."""

from __future__ import annotations

from typing import Any

from tinytorch import ops
from tinytorch.backends import Device
from tinytorch.dtypes import float32
from tinytorch.nn.init import init_affine
from tinytorch.nn.module import Module
from tinytorch.nn.settings import check_sizes, new_parameter
from tinytorch.tensor import Tensor
from tinytorch.words import checked


class Linear(Module):
    """y = x @ weight.T + bias: (..., in_features) -> (..., out_features).

    Args:
        in_features: length of the last axis of x.
        out_features: length of the last axis of y.
        bias: whether there is a bias.

    Attributes:
        weight: (out_features, in_features), initially uniform in +-1 / sqrt(in_features).
        bias: (out_features,), with the same initial law, or None.

    >>> tinytorch.Linear(3, 2)(tinytorch.ones((4, 3))).shape
    (4, 2)
    """

    @checked
    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        device: str | Device | None = None,
        dtype: Any = float32,
    ) -> None:
        check_sizes("Linear", in_features=in_features, out_features=out_features)
        self.in_features, self.out_features = in_features, out_features
        self.weight = new_parameter(out_features, in_features, device=device, dtype=dtype)
        self.bias = new_parameter(out_features, device=device, dtype=dtype) if bias else None
        init_affine(self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return ops.linear(x, self.weight, self.bias)  # (..., out_features)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Flatten(Module):
    """The axes from `start_dim` to `end_dim`, both included, as one axis: by default (N, C, H, W) -> (N, C * H * W).

    >>> tinytorch.Flatten()(tinytorch.ones((2, 3, 4, 5))).shape
    (2, 60)
    """

    @checked
    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Tensor) -> Tensor:
        return ops.flatten(x, self.start_dim, self.end_dim)  # (N, C * H * W) by default

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"
