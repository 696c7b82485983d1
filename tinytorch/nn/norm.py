"""Layer normalization."""

from __future__ import annotations

from typing import Any

from tinytorch import ops
from tinytorch.backends import Device
from tinytorch.dtypes import float32
from tinytorch.nn import init
from tinytorch.nn.module import Module, Parameter
from tinytorch.nn.settings import check_number, check_sizes, new_parameter
from tinytorch.tensor import Tensor
from tinytorch.words import checked


class LayerNorm(Module):
    """(x - mean) / sqrt(var + eps) * weight + bias, with mean and variance over the last axes.

    Source: Ba, Kiros and Hinton (2016), "Layer Normalization".

    Args:
        normalized_shape: lengths of the last axes; an integer for one axis.
        eps: added to the variance, so that the division is safe.
        elementwise_affine: whether there is a weight (initially ones) and, with `bias`, a bias (zeros).

    >>> tinytorch.LayerNorm(4)(tinytorch.ones((2, 4))).shape
    (2, 4)
    """

    @checked
    def __init__(
        self,
        normalized_shape: int | tuple[int, ...],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        device: str | Device | None = None,
        dtype: Any = float32,
    ) -> None:
        lengths = tuple(normalized_shape) if isinstance(normalized_shape, tuple | list) else (normalized_shape,)
        check_sizes("LayerNorm", **{f"normalized_shape[{i}]": n for i, n in enumerate(lengths)})
        if not lengths:
            raise ValueError("LayerNorm: normalized_shape names at least one axis")
        check_number("LayerNorm", "eps", eps, 0)
        self.normalized_shape = lengths
        self.eps, self.elementwise_affine = eps, elementwise_affine
        self.weight: Parameter | None = None
        self.bias: Parameter | None = None
        if elementwise_affine:
            self.weight = new_parameter(*self.normalized_shape, device=device, dtype=dtype)
            init.ones_(self.weight)
            if bias:
                self.bias = new_parameter(*self.normalized_shape, device=device, dtype=dtype)
                init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        n = len(self.normalized_shape)
        if x.shape[-n:] != self.normalized_shape:
            raise ValueError(f"LayerNorm: the last axes of x must be {self.normalized_shape}, not {x.shape[-n:]}")
        return ops.layer_norm(x, self.weight, self.bias, ndim=n, eps=self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
