"""Setting initial values, in place, under PyTorch's names. The numbers are drawn on the host: see `tinytorch.random`.

The fan-in of a weight is the number of inputs of one output, shape[1] times the size of the kernel. The fan-out is the
number of outputs of one input, shape[0] times the size of the kernel.
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from tinytorch import random
from tinytorch.backends import device
from tinytorch.dtypes import fitting, number
from tinytorch.spelled import missing
from tinytorch.tensor import Tensor
from tinytorch.words import checked

__all__ = [
    "calculate_gain",
    "constant_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]


def _set(tensor: Tensor, values: np.ndarray[Any, Any]) -> Tensor:
    tensor.data = Tensor(values, tensor.dtype, tensor.device)
    return tensor


def _floating(name: str, tensor: Tensor) -> Any:
    """The dtype of the numbers to draw."""
    if tensor.dtype.kind != "f":
        raise TypeError(f"{name}: tensor has a floating dtype, not {tensor.dtype.name}; convert with .astype(...)")
    return tensor.dtype


def _drawn(kind: str, shape: tuple[int, ...], dtype: Any) -> Any:
    """Random numbers, drawn on the host, so that no device's arithmetic changes the weights."""
    return random.drawn(kind, shape, dtype, device("cpu"))


@checked
def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0) -> Tensor:
    """Uniform in [a, b).

    >>> w = tinytorch.nn.init.uniform_(tinytorch.zeros((2, 2)), -1.0, 1.0)
    """
    return _set(tensor, _drawn("uniform", tensor.shape, _floating("uniform_", tensor)) * (b - a) + a)


@checked
def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Normal.

    Raises:
        ValueError: the deviation is negative.
    """
    if std < 0:
        raise ValueError(f"normal_: std is not negative: {std}")
    return _set(tensor, _drawn("normal", tensor.shape, _floating("normal_", tensor)) * std + mean)


@checked
def trunc_normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0) -> Tensor:
    """Normal; numbers outside [a, b] are drawn again.

    Raises:
        ValueError: [a, b] is so far from the mean that hardly a number falls into it.
    """
    if not a < b or a > mean + 4 * std or b < mean - 4 * std or b - a < 1e-4 * std:
        raise ValueError(f"trunc_normal_: [{a}, {b}] holds next to nothing of a normal of mean {mean}, deviation {std}")
    values = np.full(tensor.shape, math.inf, dtype=_floating("trunc_normal_", tensor))
    outside = np.ones(tensor.shape, dtype=bool)
    while outside.any():
        values[outside] = _drawn("normal", (int(outside.sum()),), tensor.dtype) * std + mean
        outside = (values < a) | (values > b)
    return _set(tensor, values)


@checked
def constant_(tensor: Tensor, val: float) -> Tensor:
    """One value."""
    value = fitting("constant_", number("constant_", val), tensor.dtype)
    return _set(tensor, np.full(tensor.shape, value, dtype=tensor.dtype))


@checked
def zeros_(tensor: Tensor) -> Tensor:
    """Zeros."""
    return constant_(tensor, 0.0)


@checked
def ones_(tensor: Tensor) -> Tensor:
    """Ones."""
    return constant_(tensor, 1.0)


@checked
def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor with which a layer with this non-linearity keeps the variance.

    >>> tinytorch.nn.init.calculate_gain("tanh")
    1.6666666666666667
    """
    slope = 0.01 if param is None else param
    gains = {
        "linear": 1.0,
        "conv2d": 1.0,
        "sigmoid": 1.0,
        "tanh": 5 / 3,
        "relu": math.sqrt(2.0),
        "leaky_relu": math.sqrt(2.0 / (1 + slope**2)),
    }
    if nonlinearity not in gains:
        raise ValueError(f"calculate_gain: {nonlinearity!r} is none of {', '.join(gains)}")
    return gains[nonlinearity]


def _fans(tensor: Tensor) -> tuple[int, int]:
    if tensor.ndim < 2:
        raise ValueError(f"fan-in and fan-out are of weights with two dimensions or more, not shape {tensor.shape}")
    area = math.prod(tensor.shape[2:])
    return tensor.shape[1] * area, tensor.shape[0] * area


@checked
def xavier_uniform_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """Uniform in +-gain * sqrt(6 / (fan_in + fan_out)). Source: Glorot and Bengio (2010)."""
    bound = gain * math.sqrt(6 / sum(_fans(tensor)))
    return uniform_(tensor, -bound, bound)


@checked
def xavier_normal_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """Normal with deviation gain * sqrt(2 / (fan_in + fan_out)). Source: Glorot and Bengio (2010)."""
    return normal_(tensor, 0.0, gain * math.sqrt(2 / sum(_fans(tensor))))


def _kaiming(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"mode is 'fan_in' or 'fan_out', not {mode!r}")
    return calculate_gain(nonlinearity, a) / math.sqrt(_fans(tensor)[mode == "fan_out"])


@checked
def kaiming_uniform_(tensor: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Tensor:
    """Uniform in +-gain * sqrt(3 / fan). Source: He et al. (2015)."""
    bound = math.sqrt(3.0) * _kaiming(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound)


@checked
def kaiming_normal_(tensor: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Tensor:
    """Normal with deviation gain / sqrt(fan). Source: He et al. (2015)."""
    return normal_(tensor, 0.0, _kaiming(tensor, a, mode, nonlinearity))


def init_affine(weight: Tensor, bias: Tensor | None) -> None:
    """PyTorch's initial values of a linear layer or convolution: uniform in +-1 / sqrt(fan_in)."""
    bound = 1 / math.sqrt(weight.size // weight.shape[0]) if weight.size else 0.0
    uniform_(weight, -bound, bound)
    if bias is not None:
        uniform_(bias, -bound, bound)


if not TYPE_CHECKING:  # a type checker takes a module with `__getattr__` to have every attribute

    def __getattr__(name: str) -> Any:
        raise missing("nn.init", name, "module 'tinytorch.nn.init'", sys.modules[__name__])
