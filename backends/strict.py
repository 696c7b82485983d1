"""The devices "strict:...": array-api-strict, which has nothing but what the standard says.

Its fake devices live on the CPU, refuse host copies and refuse to be mixed: the linter for one code path. Making the
first of them sets the library to its strictest flags, for the whole process: version 2024.12, no boolean indexing, no
data-dependent shapes, no extensions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinytorch.backends.device import Array, Device, Unavailable

try:
    import array_api_strict as xp
except ImportError as error:
    raise Unavailable("array-api-strict is not installed", "python -m pip install array-api-strict") from error

_HOST = xp.Device("CPU_DEVICE")
_NAMES = [str(d).partition("'")[2].partition("'")[0] for d in xp.__array_namespace_info__().devices()]


class StrictDevice(Device):
    """One of array-api-strict's devices: "CPU_DEVICE", "device1", "device2", "no_float64" or "no_x64"."""

    library = "array_api_strict"
    xp = xp
    array_type = type(xp.zeros(1))

    def __init__(self, index: str) -> None:
        xp.set_array_api_strict_flags(
            api_version="2024.12", boolean_indexing=False, data_dependent_shapes=False, enabled_extensions=()
        )
        self.native = xp.Device(index)
        info = xp.__array_namespace_info__()
        self._dtypes: dict[str, Any] = info.dtypes(device=self.native)
        self.default_int = np.dtype("int64" if "int64" in self._dtypes else "int32")

    @classmethod
    def canonical(cls, index: str) -> str:
        index = index or "CPU_DEVICE"
        if index not in _NAMES:
            raise ValueError(f"device: no 'strict:{index}'; there are {', '.join('strict:' + n for n in _NAMES)}")
        return "strict:" + index

    @classmethod
    def available(cls) -> list[str]:
        # "no_x64" is there for the asking, but not whole: argmax, sort and sum make int64, which it does not have (2.6)
        return ["strict:" + name for name in _NAMES if name != "no_x64"]

    @classmethod
    def of(cls, array: Array) -> str:
        return "strict:" + str(array.device).partition("'")[2].partition("'")[0]

    def to_numpy(self, array: Array) -> np.ndarray:
        return np.array(array.to_device(_HOST))

    def receive(self, array: Array, source: Device) -> Array:
        if isinstance(source, StrictDevice):
            self.dtype(source.dtype_of(array))
            return array.to_device(self.native)
        return super().receive(array, source)

    def exported(self, array: Array) -> Array:
        if self.native != _HOST:  # array-api-strict (2.6) itself would give it away
            raise BufferError(f"{self.name} stands for memory that other libraries do not see; use x.cpu()")
        host = np.asarray(array)
        return np.ascontiguousarray(host) if any(s < 0 for s in host.strides) else array

    def dtype(self, dtype: Any) -> Any:
        name = np.dtype(dtype).name
        if name not in self._dtypes:
            raise TypeError(f"{self.name} has no {name}; it has {', '.join(self._dtypes)}")
        return self._dtypes[name]

    def dtype_of(self, array: Array) -> np.dtype:
        return np.dtype(str(array.dtype).rpartition(".")[2])
