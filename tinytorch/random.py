"""Random numbers: drawn on the host from one generator (Philox), then sent to the device.

So the same seed gives the same bits, initial weights, shuffles and dropout masks on every device and array library.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from tinytorch.backends import Array, Device
from tinytorch.backends import device as _device
from tinytorch.backends.forks import over_forks
from tinytorch.dtypes import as_dtype, fitting, float32, whole
from tinytorch.ops.axes import lengths
from tinytorch.origin import with_origin
from tinytorch.spelled import missing
from tinytorch.tape.variable import run_on, wrap
from tinytorch.tensor import Tensor
from tinytorch.words import worded

__all__ = ["manual_seed", "rand", "randint", "randn", "randperm"]

Where = str | Device | None
Shape = int | tuple[int, ...]

generator = np.random.Generator(np.random.Philox(0))
over_forks(generator.bit_generator.lock)


@worded
def manual_seed(seed: int) -> None:
    """Start all randomness of this process anew. One seed gives the same numbers on every device; the first seed is 0.

    Raises:
        ValueError: the seed is negative.

    >>> tinytorch.manual_seed(1); a = tinytorch.rand(2)
    >>> tinytorch.manual_seed(1); b = tinytorch.rand(2)
    >>> bool((a == b).all())
    True
    """
    seed = whole("manual_seed", seed)
    if seed < 0:
        raise ValueError(f"manual_seed: a seed is not negative: {seed}")
    generator.bit_generator.state = np.random.Philox(seed).state


def drawn(kind: str, shape: tuple[int, ...], dtype: Any, device: Device, **settings: Any) -> Array:
    """The next numbers of the generator, as an array of the device. All random numbers come through this one door.

    Args:
        kind, settings: see `Device.drawn`.
    """
    return run_on(device, device.drawn, generator, kind, shape, dtype, settings)


def _tensor(name: str, kind: str, shape: Any, dtype: Any, device: Where, requires_grad: bool = False) -> Tensor:
    """Random numbers of a floating dtype, as a tensor. The shape is given as one tuple or as lengths."""
    wanted, dev = as_dtype(float32 if dtype is None else dtype), _device(device)
    if wanted.kind != "f":
        raise TypeError(f"{name}: takes floating dtypes, not {wanted.name}; for integers see randint")
    given = lengths(name, shape[0] if len(shape) == 1 else shape)
    dev.dtype(wanted)  # a device without this dtype refuses before anything is drawn
    out: Tensor = with_origin(name, wrap(drawn(kind, given, wanted, dev), dev))
    return out.requires_grad_(requires_grad)


@worded
def rand(*shape: Shape, dtype: Any = float32, device: Where = None, requires_grad: bool = False) -> Tensor:
    """Uniform numbers in [0, 1).

    >>> tinytorch.rand(2, 3).shape
    (2, 3)
    """
    return _tensor("rand", "uniform", shape, dtype, device, requires_grad)


@worded
def randn(*shape: Shape, dtype: Any = float32, device: Where = None, requires_grad: bool = False) -> Tensor:
    """Normal numbers of mean 0 and variance 1.

    >>> tinytorch.randn(2, 3).shape
    (2, 3)
    """
    return _tensor("randn", "normal", shape, dtype, device, requires_grad)


@worded
def randint(low: Any = None, high: Any = None, size: Any = None, *, dtype: Any = None, device: Where = None) -> Tensor:
    """Uniform integers in [low, high): `randint(0, 10, (2,))`; or in [0, high): `randint(10, (2, 2))`.

    Args:
        size: the shape; without a size there is one number, without axes.
        dtype: an integer dtype; the device's own unless given.

    Raises:
        OverflowError: the range does not fit the dtype.
        ValueError: there are no integers in the range.

    >>> tinytorch.randint(5, (3,)).shape
    (3,)
    """
    dev = _device(device)
    if size is None and isinstance(high, tuple | list):
        high, size = None, high
    ends = [whole("randint", v) for v in (low, high) if v is not None]
    if not ends:
        raise TypeError("randint: takes at least the end of the range, as in randint(10, (2, 2))")
    first, last = ends if len(ends) == 2 else (0, *ends)
    if first >= last:
        raise ValueError(f"randint: there are no integers in [{first}, {last})")
    wanted = as_dtype(dev.default_int if dtype is None else dtype)
    if wanted.kind not in "iu":
        raise TypeError(f"randint: takes integer dtypes, not {wanted.name}; convert with .astype(...)")
    for end in (first, last - 1):
        fitting("randint", end, wanted)
    shape = lengths("randint", () if size is None else size)
    dev.dtype(wanted)
    return with_origin("randint", wrap(drawn("integers", shape, wanted, dev, low=first, high=last), dev))


@worded
def randperm(n: int, *, device: Where = None) -> Tensor:
    """The integers from 0 to n - 1 in random order.

    >>> tinytorch.sort(tinytorch.randperm(3))
    tensor([0, 1, 2], dtype=int64)
    """
    dev = _device(device)
    shape = lengths("randperm", whole("randperm", n))
    return with_origin("randperm", wrap(drawn("permutation", shape, dev.default_int, dev), dev))


if not TYPE_CHECKING:  # a type checker takes a module with `__getattr__` to have every attribute

    def __getattr__(name: str) -> Any:
        raise missing("random", name, "module 'tinytorch.random'", sys.modules[__name__])
