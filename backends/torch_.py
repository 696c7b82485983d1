"""The devices "torch:cpu", "torch:cuda:0", "torch:mps": PyTorch's arrays. PyTorch's autograd is not used.

array-api-compat gives PyTorch's functions the standard's names and meanings. This file does the rest.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from tinytorch.backends import importing
from tinytorch.backends.device import Array, Device, Unavailable
from tinytorch.backends.standard import Key, added

with importing.library("PyTorch", "python -m pip install 'tinytorch-xp[torch]'", "torch"):
    import torch

import array_api_compat.torch as xp


def _concat(arrays: Any, /, *, axis: int | None = 0) -> Array:
    """Join arrays by the standard's rule: PyTorch (2.13) drops arrays of shape (0,)."""
    if axis is not None and any(a.ndim != arrays[0].ndim for a in arrays):
        raise ValueError("concat: arrays have as many axes")
    return xp.concat(arrays, axis=axis)


class TorchDevice(Device):
    """One of PyTorch's devices: the CPU, an NVIDIA GPU, or Apple's (mps), which has no float64."""

    library = "torch"
    xp = SimpleNamespace(**{**vars(xp), "concat": _concat})
    array_type = torch.Tensor

    def __init__(self, index: str) -> None:
        self.native = torch.device(index)
        self.is_gpu = self.native.type != "cpu"
        self.hardware = torch.cuda.get_device_name(self.native) if self.native.type == "cuda" else ""
        self.memory = {"cpu": (1, 0), "cuda": (2, self.native.index)}.get(self.native.type)

    @classmethod
    def canonical(cls, index: str) -> str:
        kind = index.partition(":")[0]
        if kind == "cuda" and not torch.cuda.is_available():
            if torch.version.cuda is None:
                raise Unavailable(
                    f"PyTorch {torch.__version__} is built without CUDA",
                    "install the PyTorch for your CUDA version: https://pytorch.org/get-started/locally",
                )
            raise Unavailable(
                f"PyTorch {torch.__version__} is built for CUDA {torch.version.cuda}, but finds no usable GPU",
                "run nvidia-smi to see whether the NVIDIA driver works",
            )
        if kind == "mps" and not torch.backends.mps.is_available():
            raise Unavailable(f"PyTorch {torch.__version__} finds no Apple GPU (mps)")
        return super().canonical(f"cuda:{torch.cuda.current_device()}" if index == "cuda" else index)

    @classmethod
    def available(cls) -> list[str]:
        cuda = [f"torch:cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
        return ["torch:cpu", *cuda, *(["torch:mps"] if torch.backends.mps.is_available() else [])]

    @classmethod
    def of(cls, array: Array) -> str:
        if array.requires_grad:
            raise ValueError("a torch.Tensor that requires a gradient, which would be lost; pass x.detach()")
        kind = array.device.type
        return f"torch:{array.device}" if kind == "cuda" else f"torch:{kind}"

    def from_numpy(self, array: np.ndarray) -> Array:
        return torch.asarray(array, device=self.native, copy=None if array.flags.writeable else True)

    def to_numpy(self, array: Array) -> np.ndarray:
        return np.array(array.numpy(force=True))

    def receive(self, array: Array, source: Device) -> Array:
        if not isinstance(source, TorchDevice):
            return super().receive(array, source)
        self.dtype(source.dtype_of(array))
        return array.to(self.native)

    def asarray(self, x: Any) -> Array:
        return x if type(x) is torch.Tensor else torch.asarray(x, device=self.native).as_subclass(torch.Tensor)

    def dtype(self, dtype: Any) -> Any:
        name = np.dtype(dtype).name
        if self.native.type == "mps" and name == "float64":
            raise TypeError(f"{self.name} has no float64; use float32")
        found = getattr(torch, name, None)
        if not isinstance(found, torch.dtype):
            raise TypeError(f"{self.name} has no {name}")
        return found

    def dtype_of(self, array: Array) -> np.dtype:
        try:
            return _DTYPES[array.dtype]
        except KeyError:
            raise TypeError(f"{self.name}: there is no NumPy dtype for {array.dtype}") from None

    def synchronize(self) -> None:
        if self.native.type == "cuda":
            torch.cuda.synchronize(self.native)
        elif self.native.type == "mps":
            torch.mps.synchronize()

    def scatter_add(self, values: Array, indices: Array, size: int) -> Array:
        # PyTorch adds one number after another: so in float64, if the device has it
        wide = torch.float64 if values.dtype is torch.float32 and self.native.type != "mps" else values.dtype
        out = torch.zeros((size, *values.shape[1:]), dtype=wide, device=self.native)
        return out.index_add_(0, indices, values.to(wide)).to(values.dtype)

    def put(self, x: Array, key: Key | Array, values: Array) -> Array:
        out = x.clone()
        if not isinstance(key, tuple) and key.shape[0] > 1 and values.shape[0] > 1:
            # PyTorch sets equal indices in any order: so all of them get the value of the last
            places = torch.arange(key.shape[0], device=self.native)
            last = torch.zeros(x.shape[:1], dtype=places.dtype, device=self.native)
            values = values[last.scatter_reduce_(0, key, places, "amax")[key]]
        out[key] = values
        return out

    def add_parts(self, parts: list[Array], keys: list[Key], shape: tuple[int, ...]) -> Array:
        return added(torch.zeros(shape, dtype=parts[0].dtype, device=self.native), parts, keys)

    def erf(self, x: Array) -> Array:
        return torch.erf(x)


_DTYPES = {
    getattr(torch, name): np.dtype(name)
    for name in (
        *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float16", "float32", "float64", "complex64", "complex128"),
    )
}
