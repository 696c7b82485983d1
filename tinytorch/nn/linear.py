"""The fully connected layer, and the one that only changes shapes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinytorch import ops
from tinytorch.backends import Device
from tinytorch.creation import empty
from tinytorch.dtypes import float32
from tinytorch.nn import init
from tinytorch.nn.module import Module, Parameter
from tinytorch.tensor import Tensor
from tinytorch.words import checked


def check_sizes(layer: str, **sizes: Any) -> None:
    """Raise TypeError or ValueError unless each of the sizes of a layer is an integer, at least 1."""
    for name, n in sizes.items():
        integer = isinstance(n, int | np.integer) and not isinstance(n, bool)
        if not integer or n < 1:
            raise (ValueError if integer else TypeError)(f"{layer}: {name} is an integer, at least 1, not {n!r}")


def check_number(layer: str, name: str, value: Any, least: float, most: float = math.inf) -> None:
    """Raise TypeError or ValueError unless a setting of a layer is a number in [least, most]."""
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not number or not least <= value <= most or math.isinf(value):
        bounds = f"between {least} and {most}" if most < math.inf else f"at least {least}"
        raise (ValueError if number else TypeError)(f"{layer}: {name} is a number {bounds}, not {value!r}")


def new_parameter(*shape: int, device: str | Device | None, dtype: Any) -> Parameter:
    """A parameter whose values are not set yet."""
    return Parameter(empty(shape, dtype=dtype, device=device))


def init_affine(weight: Parameter, bias: Parameter | None) -> None:
    """PyTorch's initial values of a linear layer or convolution: uniform in +-1 / sqrt(fan_in)."""
    bound = 1 / math.sqrt(weight.size // weight.shape[0]) if weight.size else 0.0
    init.uniform_(weight, -bound, bound)
    if bias is not None:
        init.uniform_(bias, -bound, bound)


class Linear(Module):
    """y = x @ weight.T + bias: (..., in_features) -> (..., out_features).

    Args:
        in_features: length of the last axis of x.
        out_features: length of the last axis of y.
        bias: whether there is a bias.

    Attributes:
        weight: (out_features, in_features), initially uniform in +-1 / sqrt(in_features).
        bias: (out_features,), likewise, or None.

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
    """The axes from `start_dim` to `end_dim`, both included, as one: by default (N, C, H, W) -> (N, C * H * W).

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
