"""Making tensors: from data, filled with a value, or of evenly spaced numbers.

`dtype` is float32 unless given, or follows from integers; `device` is the default device unless given.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from tinytorch.autograd import run_on, wrap
from tinytorch.backends import Device, device_of
from tinytorch.backends import device as _device
from tinytorch.dtypes import as_dtype, float32
from tinytorch.origin import noted
from tinytorch.tensor import Tensor, to_array

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
    """What the creation function of that name makes, with that device current."""
    dev = _device(device)
    kwargs |= {"dtype": dev.dtype(as_dtype(dtype)), "device": dev.native}
    function = getattr(dev.xp, name)
    try:
        return noted(name, wrap(run_on(dev, functools.partial(function, *args, **kwargs)), dev))
    except (TypeError, ValueError, OverflowError, ZeroDivisionError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and type(error) is not RuntimeError:  # out of memory, say
            raise
        kind = ValueError if type(error) is RuntimeError else type(error)  # as for ops
        text = str(error)
        if isinstance(args[0], tuple) and any(isinstance(n, int) and n < 0 for n in args[0]):
            kind, text = ValueError, "an axis has no negative length"  # which few libraries say, and JAX by TypeError
        raise kind(f"{name}({', '.join(map(repr, args))}): {text}") from error


def asarray(obj: Any, /, *, dtype: Any = None, device: Where = None, copy: bool | None = None) -> Tensor:
    """Data as a tensor: numbers, nested lists, an array of a registered library, or a Tensor, which keeps its graph.

    Args:
        copy: True always copies; None shares memory with an array or Tensor where it can; False never copies.

    Raises:
        ValueError: `copy=False`, and it cannot be done without.

    >>> tinytorch.asarray([1, 2])
    tensor([1, 2], dtype=int64)
    """
    if isinstance(obj, Tensor):
        moved = obj.to(device=device, dtype=dtype)
        if copy is False and moved is not obj:
            raise ValueError("asarray: another dtype or device is not to be had without a copy")
        same = moved is obj or moved.device.memory == obj.device.memory is not None
        return moved.copy() if copy and same else moved
    return noted("asarray", wrap(*to_array(obj, dtype, device, copy)))


def tensor(data: Any, *, dtype: Any = None, device: Where = None, requires_grad: bool = False) -> Tensor:
    """`Tensor(data, ...)`, under PyTorch's name for it: data, copied, as a tensor.

    >>> tinytorch.tensor([1.0, 2.0])
    tensor([1., 2.])
    """
    return Tensor(data, dtype, device, requires_grad)


def from_dlpack(x: Any, /, *, device: Where = None, copy: bool | None = None) -> Tensor:
    """A tensor on the memory of any array that offers `__dlpack__`, which then is not to be written into any more.

    It is on the device "cpu" if that memory is the host's and on a CUDA device if it is CUDA's, whatever the library;
    otherwise on the device of the array. To stay with the library of the array use `asarray`.

    Args:
        device: where it is to be instead; without a copy if that has the same memory, as "cpu" and "torch:cpu" do.

    Raises:
        BufferError: the array does not give its memory away, as a torch.Tensor that requires a gradient.
        ValueError: no device has such memory, or not without a copy and `copy=False`.
        Unavailable: it is a CUDA array, and there is no CuPy.

    >>> import numpy
    >>> tinytorch.from_dlpack(numpy.ones(2, dtype="float32"))
    tensor([1., 1.])
    """
    if isinstance(x, Tensor):
        return asarray(x, device=device, copy=copy)
    kind, index = x.__dlpack_device__()
    if kind == 1:
        array, home = np.from_dlpack(x), _device("cpu")
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
    return asarray(wrap(array, home), device=device, copy=copy)


def empty(shape: Shape, *, dtype: Any = None, device: Where = None) -> Tensor:
    """A tensor of the shape; what is in it is not said.

    >>> tinytorch.empty((2, 3)).shape
    (2, 3)
    """
    return _make("empty", device, float32 if dtype is None else dtype, shape)


def zeros(shape: Shape, *, dtype: Any = None, device: Where = None) -> Tensor:
    """A tensor of zeros.

    >>> tinytorch.zeros(2)
    tensor([0., 0.])
    """
    return _make("zeros", device, float32 if dtype is None else dtype, shape)


def ones(shape: Shape, *, dtype: Any = None, device: Where = None) -> Tensor:
    """A tensor of ones.

    >>> tinytorch.ones(2)
    tensor([1., 1.])
    """
    return _make("ones", device, float32 if dtype is None else dtype, shape)


def _dtype_for(dev: Device, *values: Any) -> Any:
    """The dtype of Python (or NumPy) numbers: bool, the device's integer, or float32."""
    values = tuple(v.item() if isinstance(v, np.generic) else v for v in values)
    if any(isinstance(v, float) for v in values):
        return float32
    return np.dtype("bool") if any(isinstance(v, bool) for v in values) else dev.default_int


def full(shape: Shape, fill_value: Any, *, dtype: Any = None, device: Where = None) -> Tensor:
    """A tensor of one value.

    >>> tinytorch.full(2, 0.5)
    tensor([0.5, 0.5])
    """
    dtype = _dtype_for(_device(device), fill_value) if dtype is None else dtype
    return _make("full", device, dtype, shape, fill_value)


def empty_like(x: Tensor, /, *, dtype: Any = None, device: Where = None) -> Tensor:
    """`empty`, of the shape, dtype and device of x."""
    return empty(x.shape, dtype=x.dtype if dtype is None else dtype, device=x.device if device is None else device)


def zeros_like(x: Tensor, /, *, dtype: Any = None, device: Where = None) -> Tensor:
    """`zeros`, of the shape, dtype and device of x."""
    return zeros(x.shape, dtype=x.dtype if dtype is None else dtype, device=x.device if device is None else device)


def ones_like(x: Tensor, /, *, dtype: Any = None, device: Where = None) -> Tensor:
    """`ones`, of the shape, dtype and device of x."""
    return ones(x.shape, dtype=x.dtype if dtype is None else dtype, device=x.device if device is None else device)


def full_like(x: Tensor, /, fill_value: Any, *, dtype: Any = None, device: Where = None) -> Tensor:
    """`full`, of the shape, dtype and device of x."""
    return full(
        x.shape, fill_value, dtype=x.dtype if dtype is None else dtype, device=x.device if device is None else device
    )


def arange(
    start: float, /, stop: float | None = None, step: float = 1, *, dtype: Any = None, device: Where = None
) -> Tensor:
    """Numbers from `start` (or 0, if only one is given) up to but not including `stop`, `step` apart.

    >>> tinytorch.arange(3), tinytorch.arange(0, 1, 0.5)
    (tensor([0, 1, 2], dtype=int64), tensor([0. , 0.5]))
    """
    first, last = (0, start) if stop is None else (start, stop)
    dtype = _dtype_for(_device(device), first, last, step) if dtype is None else dtype
    return _make("arange", device, dtype, first, last, step)


def linspace(
    start: float, stop: float, /, num: int, *, dtype: Any = None, device: Where = None, endpoint: bool = True
) -> Tensor:
    """`num` evenly spaced numbers from `start` to `stop`, which is left out if `endpoint` is false.

    >>> tinytorch.linspace(0.0, 1.0, 3)
    tensor([0. , 0.5, 1. ])
    """
    return _make("linspace", device, float32 if dtype is None else dtype, start, stop, num, endpoint=endpoint)


def eye(n_rows: int, n_cols: int | None = None, /, *, k: int = 0, dtype: Any = None, device: Where = None) -> Tensor:
    """Zeros with ones on the k-th diagonal.

    >>> tinytorch.eye(2)
    tensor([[1., 0.],
            [0., 1.]])
    """
    return _make("eye", device, float32 if dtype is None else dtype, n_rows, n_cols, k=k)
