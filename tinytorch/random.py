"""Random numbers: drawn on the host from one generator (Philox), then sent to the device.

So the same seed gives the same bits, initial weights, shuffles and dropout masks on every device and array library.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinytorch.backends import Device
from tinytorch.backends import device as _device
from tinytorch.dtypes import float32
from tinytorch.tensor import Tensor

__all__ = ["manual_seed", "rand", "randint", "randn", "randperm"]

Where = str | Device | None

generator = np.random.Generator(np.random.Philox(0))


def manual_seed(seed: int) -> None:
    """Start all randomness of this process anew: the same seed, the same numbers, on every device.

    Without it the seed is 0.

    Raises:
        ValueError: the seed is negative.

    >>> tinytorch.manual_seed(1); a = tinytorch.rand(2)
    >>> tinytorch.manual_seed(1); b = tinytorch.rand(2)
    >>> bool((a == b).all())
    True
    """
    if seed < 0:
        raise ValueError(f"manual_seed: a seed is not negative: {seed}")
    generator.bit_generator.state = np.random.Philox(seed).state


def _shape(shape: tuple[Any, ...]) -> tuple[int, ...]:
    return tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int) else shape


def rand(*shape: Any, dtype: Any = float32, device: Where = None, requires_grad: bool = False) -> Tensor:
    """Uniform numbers in [0, 1).

    >>> tinytorch.rand(2, 3).shape
    (2, 3)
    """
    return Tensor(generator.random(_shape(shape), dtype=dtype), None, _device(device), requires_grad)


def randn(*shape: Any, dtype: Any = float32, device: Where = None, requires_grad: bool = False) -> Tensor:
    """Normal numbers of mean 0 and variance 1.

    >>> tinytorch.randn(2, 3).shape
    (2, 3)
    """
    return Tensor(generator.standard_normal(_shape(shape), dtype=dtype), None, _device(device), requires_grad)


def randint(low: int, high: int | None = None, /, size: tuple[int, ...] = (), *, device: Where = None) -> Tensor:
    """Uniform integers in [low, high), or [0, low) if only one is given.

    >>> tinytorch.randint(5, size=(3,)).shape
    (3,)
    """
    dev = _device(device)
    first, last = (0, low) if high is None else (low, high)
    if first >= last:
        raise ValueError(f"randint: there are no integers in [{first}, {last})")
    return Tensor(generator.integers(first, last, size), dev.default_int, dev)


def randperm(n: int, *, device: Where = None) -> Tensor:
    """The integers from 0 to n - 1 in random order.

    >>> tinytorch.sort(tinytorch.randperm(3))
    tensor([0, 1, 2], dtype=int64)
    """
    dev = _device(device)
    return Tensor(generator.permutation(n), dev.default_int, dev)
