"""Making tensors: from data, filled with a value, or of evenly spaced numbers.

Unless given, `dtype` is float32 or follows from integers, and `device` is the default device.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from tinytorch import words
from tinytorch.backends import Device, device_of
from tinytorch.backends import device as _device
from tinytorch.dtypes import as_dtype, fitting, float32, int64, number, of_numbers, uint64, whole
from tinytorch.intake import expect_dtype, to_array
from tinytorch.ops.axes import lengths
from tinytorch.origin import with_origin
from tinytorch.tape.variable import run_on, wrap
from tinytorch.tensor import Tensor
from tinytorch.words import worded

__all__ = [
    "arange",
    "asarray",
    "empty",
    "empty_like",
    "eye",
    "from_dlpack",
    "full",
    "full_like",
    "linspace",
    "ones",
    "ones_like",
    "tensor",
    "zeros",
    "zeros_like",
]

Shape = int | tuple[int, ...]
Where = str | Device | None


def _make(name: str, device: Where, dtype: Any, *args: Any, **kwargs: Any) -> Tensor:
    """The tensor that the library's creation function `name` makes, with the device current."""
    dev = _device(device)
    kwargs |= {"dtype": dev.dtype(as_dtype(dtype)), "device": dev.native}
    function = getattr(dev.xp, name)
    try:
        return with_origin(name, wrap(run_on(dev, functools.partial(function, *args, **kwargs)), dev))
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and type(error) is not RuntimeError:  # out of memory, say
            raise
        kind = ValueError if type(error) is RuntimeError else type(error)  # as for ops
        raise kind(f"{name}({', '.join(map(repr, args))}): {error}") from error


@worded
def asarray(obj: Any, /, *, dtype: Any = None, device: Where = None, copy: bool | None = None) -> Tensor:
    """Data as a tensor: numbers, nested lists, an array of a registered library, or a Tensor, which keeps its graph.

    Args:
        copy: True always copies; None shares memory with an array or Tensor where it can; False never copies.

    Raises:
        ValueError: `copy=False`, and a copy is needed.

    >>> tinytorch.asarray([1, 2])
    tensor([1, 2], dtype=int64)
    """
    if copy is not None:
        words.flags("asarray", copy=copy)
    if isinstance(obj, Tensor):
        moved = obj.to(device=device, dtype=dtype)
        if copy is False and moved is not obj:
            raise ValueError("asarray: another dtype or device is not to be had without a copy")
        same = moved is obj or moved.device.memory == obj.device.memory is not None
        return moved.copy() if copy and same else moved
    return with_origin("asarray", wrap(*to_array(obj, dtype, device, copy)))


@worded
def tensor(data: Any, *, dtype: Any = None, device: Where = None, requires_grad: bool = False) -> Tensor:
    """`Tensor(data, ...)` under PyTorch's name: the data, copied, as a tensor.

    >>> tinytorch.tensor([1.0, 2.0])
    tensor([1., 2.])
    """
    return Tensor(data, dtype, device, requires_grad)


@worded
def from_dlpack(x: Any, /, *, device: Where = None, copy: bool | None = None) -> Tensor:
    """A tensor on the memory of any array that offers `__dlpack__`. Do not write into the array any more.

    Whatever the array's library, memory of the host gives a tensor on "cpu", memory of CUDA one on a CUDA device. Other
    memory gives a tensor on the device of the array. To stay with the array's library use `asarray`.

    Args:
        device: the device of the tensor; no copy is made between devices of one memory, as "cpu" and "torch:cpu".

    Raises:
        BufferError: the array does not give its memory away, as a torch.Tensor that requires a gradient.
        ValueError: no device has such memory; or a copy is needed, and `copy=False`.
        Unavailable: x is a CUDA array, and there is no CuPy.

    >>> import numpy
    >>> tinytorch.from_dlpack(numpy.ones(2, dtype="float32"))
    tensor([1., 1.])
    """
    if isinstance(x, Tensor):
        return asarray(x, device=device, copy=copy)
    if not hasattr(x, "__dlpack_device__") or isinstance(x, type):
        raise TypeError(f"from_dlpack: x is an array that offers __dlpack__, not {words.shown(x)}")
    kind, index = x.__dlpack_device__()
    if kind == 1:
        home = _device("cpu")
        try:
            array = np.from_dlpack(x)
        except RuntimeError as error:  # such as bfloat16
            raise TypeError(f"from_dlpack: there is no such dtype: {getattr(x, 'dtype', error)}") from None
    elif kind == 2:
        home = _device(f"cuda:{index}")
        array = home.share(x)
    else:
        try:
            array, home = x, device_of(x)
        except TypeError:
            raise ValueError(
                f"from_dlpack: no device has memory of DLPack's type {int(kind)}; copy the array to the host first, "
                "as in tinytorch.asarray(numpy_array)"
            ) from None
    expect_dtype(home, array, None)
    return asarray(wrap(array, home), device=device, copy=copy)


@worded
def empty(shape: Shape, *, dtype: Any = None, device: Where = None) -> Tensor:
    """A tensor of the shape, with any values.

    >>> tinytorch.empty((2, 3)).shape
    (2, 3)
    """
    return _make("empty", device, float32 if dtype is None else dtype, lengths("empty", shape))


@worded
def zeros(shape: Shape, *, dtype: Any = None, device: Where = None) -> Tensor:
    """A tensor of zeros.

    >>> tinytorch.zeros(2)
    tensor([0., 0.])
    """
    return _make("zeros", device, float32 if dtype is None else dtype, lengths("zeros", shape))


@worded
def ones(shape: Shape, *, dtype: Any = None, device: Where = None) -> Tensor:
    """A tensor of ones.

    >>> tinytorch.ones(2)
    tensor([1., 1.])
    """
    return _make("ones", device, float32 if dtype is None else dtype, lengths("ones", shape))


@worded
def full(shape: Shape, fill_value: bool | float, *, dtype: Any = None, device: Where = None) -> Tensor:
    """A tensor of one value: a number, or a tensor or array without axes, whose value is read.

    Raises:
        OverflowError: the value is outside the range of an integer dtype.
        ValueError: the value is not whole, and the dtype is an integer one.

    >>> tinytorch.full(2, 0.5)
    tensor([0.5, 0.5])
    """
    value = number("full", fill_value)
    wanted = as_dtype(of_numbers(_device(device), value) if dtype is None else dtype)
    return _make("full", device, wanted, lengths("full", shape), fitting("full", value, wanted))


@worded
def empty_like(x: Tensor, /, *, dtype: Any = None, device: Where = None) -> Tensor:
    """`empty`, of the shape, dtype and device of x."""
    return empty(x.shape, dtype=x.dtype if dtype is None else dtype, device=x.device if device is None else device)


@worded
def zeros_like(x: Tensor, /, *, dtype: Any = None, device: Where = None) -> Tensor:
    """`zeros`, of the shape, dtype and device of x."""
    return zeros(x.shape, dtype=x.dtype if dtype is None else dtype, device=x.device if device is None else device)


@worded
def ones_like(x: Tensor, /, *, dtype: Any = None, device: Where = None) -> Tensor:
    """`ones`, of the shape, dtype and device of x."""
    return ones(x.shape, dtype=x.dtype if dtype is None else dtype, device=x.device if device is None else device)


@worded
def full_like(x: Tensor, /, fill_value: bool | float, *, dtype: Any = None, device: Where = None) -> Tensor:
    """`full`, of the shape, dtype and device of x."""
    return full(
        x.shape, fill_value, dtype=x.dtype if dtype is None else dtype, device=x.device if device is None else device
    )


@worded
def arange(
    start: float, /, stop: float | None = None, step: float = 1, *, dtype: Any = None, device: Where = None
) -> Tensor:
    """Numbers from `start` up to but not including `stop`, by `step`; `arange(stop)` starts at 0.

    Raises:
        OverflowError: a number is outside the range of an integer dtype.
        ValueError: the step is zero, or the dtype is an integer one and the numbers are not.

    >>> tinytorch.arange(3), tinytorch.arange(0, 1, 0.5)
    (tensor([0, 1, 2], dtype=int64), tensor([0. , 0.5]))
    """
    dev = _device(device)
    first, last, by = (+number("arange", v) for v in ((0, start, step) if stop is None else (start, stop, step)))
    wanted = as_dtype(of_numbers(dev, first, last, by) if dtype is None else dtype)
    if by == 0 or not math.isfinite(first + last + by):
        raise ValueError(f"arange({first}, {last}, {by}): there is no end")
    if wanted.kind == "b":
        raise TypeError("arange: takes integer and floating dtypes, not bool")
    lengths("arange", math.ceil(min(max(0, (last - first) / by), 2**60)))
    if wanted.kind == "f":
        return _make("arange", dev, wanted, *(fitting("arange", v, wanted) for v in (first, last, by)))
    first, last, by = (fitting("arange", v, uint64 if v > 0 else int64) for v in (first, last, by))
    numbers = range(first, last, by)
    for v in (*numbers[:1], *numbers[-1:]):  # `stop` itself may be beyond the dtype
        fitting("arange", v, wanted)
    if wanted in (dev.default_int, uint64):
        return _make("arange", dev, wanted, first, last, by)
    return with_origin("arange", _make("arange", dev, dev.default_int, first, last, by).astype(wanted))


@worded
def linspace(
    start: float, stop: float, /, num: int, *, dtype: Any = None, device: Where = None, endpoint: bool = True
) -> Tensor:
    """`num` evenly spaced numbers from `start` to `stop`; without `stop` itself if `endpoint` is False.

    Raises:
        TypeError: the dtype is not floating, which would cut the numbers off.

    >>> tinytorch.linspace(0.0, 1.0, 3)
    tensor([0. , 0.5, 1. ])
    """
    wanted = as_dtype(float32 if dtype is None else dtype)
    if wanted.kind != "f":
        raise TypeError(f"linspace: takes floating dtypes, not {wanted.name}; use arange, or .astype(...)")
    first, last = (float(number("linspace", v)) for v in (start, stop))
    count = whole("linspace", num)
    if count < 0:
        raise ValueError(f"linspace({first}, {last}, {count}): there is no negative number of them")
    lengths("linspace", count)
    words.flags("linspace", endpoint=endpoint)
    return _make("linspace", device, wanted, first, last, count, endpoint=bool(endpoint))


@worded
def eye(n_rows: int, n_cols: int | None = None, /, *, k: int = 0, dtype: Any = None, device: Where = None) -> Tensor:
    """Zeros with ones on the k-th diagonal.

    >>> tinytorch.eye(2)
    tensor([[1., 0.],
            [0., 1.]])
    """
    rows, columns = lengths("eye", (n_rows, n_rows if n_cols is None else n_cols))
    return _make("eye", device, float32 if dtype is None else dtype, rows, columns, k=whole("eye", k))
