"""The device "cpu": NumPy arrays."""

from __future__ import annotations

from typing import Any

import array_api_compat.numpy as xp
import numpy as np

from backends.device import Array, Device


class CpuDevice(Device):
    """NumPy on the host. Every call is finished when it returns."""

    library = "numpy"
    xp = xp
    native = "cpu"
    memory = (1, 0)
    array_type = np.ndarray

    @classmethod
    def canonical(cls, index: str) -> str:
        if index:
            raise ValueError(f"device: 'cpu' is one device without an index, not 'cpu:{index}'")
        return "cpu"

    @classmethod
    def available(cls) -> list[str]:
        return ["cpu"]

    @classmethod
    def of(cls, array: Array) -> str:
        return "cpu"

    def from_numpy(self, array: np.ndarray) -> Array:
        return array

    def to_numpy(self, array: Array) -> np.ndarray:
        return np.array(array)

    def exported(self, array: Array) -> Array:
        backwards = any(s < 0 for s in array.strides)  # PyTorch (2.13) ends the process when it is given such an array
        return np.ascontiguousarray(array) if backwards else array

    def asarray(self, x: Array) -> Array:
        return np.asarray(x)

    def scatter_add(self, values: Array, indices: Array, size: int) -> Array:
        # a product with a one-hot matrix is fastest while that is small, but makes NaN of infinities
        if size * len(indices) <= 65536 and np.isfinite(np.sum(values)):
            return super().scatter_add(values, indices, size)
        out = np.zeros((size, *values.shape[1:]), values.dtype)
        np.add.at(out, indices, values)
        return out

    def dtype(self, dtype: Any) -> np.dtype[Any]:
        return np.dtype(dtype)
