"""The devices "sycl:cpu", "sycl:gpu:0", ...: dpnp's arrays, on Intel's CPUs and GPUs (and others that SYCL reaches).

dpnp finds devices through drivers. The driver for CPUs is a package, intel-opencl-rt. The OpenCL loader finds the
package by the environment variable OCL_ICD_FILENAMES, which must be set before the loader starts. If the variable is
not set, it is set here, before dpnp is imported; that is too late if somebody else has imported dpnp already.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import re
from types import SimpleNamespace
from typing import Any

import numpy as np

from tinytorch.backends import importing
from tinytorch.backends.device import Array, Device, Unavailable
from tinytorch.backends.standard import Key, added

_FIX = "python -m pip install 'tinytorch-xp[sycl]'"
_DRIVERS = "OCL_ICD_FILENAMES"


def _cpu_driver() -> str:
    """The path of the OpenCL driver for CPUs in the package intel-opencl-rt; empty if that is not installed."""
    try:
        files = importlib.metadata.files("intel-opencl-rt") or []
    except importlib.metadata.PackageNotFoundError:
        return ""
    drivers = [f for f in files if re.fullmatch(r"libintelocl\.so\.[\d.]+|intelocl64\.dll", f.name)]
    return os.path.realpath(drivers[0].locate()) if drivers else ""


if not os.environ.get(_DRIVERS) and (_driver := _cpu_driver()):
    os.environ[_DRIVERS] = _driver

with importing.library("dpnp", _FIX, "dpctl", "dpnp"):
    import dpctl
    import dpnp
    import dpnp.scipy.special


@functools.cache
def _devices() -> dict[str, Any]:
    """SYCL's devices by our names. A device that several drivers offer comes once, by the driver that SYCL prefers."""
    found = {}
    for kind in ("cpu", "gpu"):
        devices = dpctl.get_devices(device_type=kind)
        if devices:
            preferred = dpctl.SyclDevice(kind).backend
            for i, d in enumerate(d for d in devices if d.backend == preferred):
                found["sycl:cpu" if kind == "cpu" and i == 0 else f"sycl:{kind}:{i}"] = d
    return found


def _matmul(x1: Array, x2: Array, /) -> Array:
    """A copy first, since dpnp (0.20) refuses arrays with strides of zero, such as broadcast arrays."""
    return dpnp.matmul(*(x.copy() if 0 in x.strides else x for x in (x1, x2)))


def _wide(x: Array, dtype: Any) -> Any:
    """The dtype for sums: dpnp adds one number after another, and rounding errors add up."""
    own = x.dtype if dtype is None else np.dtype(dtype)
    return dpnp.float64 if own == np.float32 and x.sycl_device.has_aspect_fp64 else own


def _sum(x: Array, /, *, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Array:
    if x.dtype != np.float32:
        return dpnp.sum(x, axis=axis, dtype=dtype, keepdims=keepdims)
    y = dpnp.sum(x, axis=axis, dtype=_wide(x, dtype), keepdims=keepdims)
    return y.astype(np.float32 if dtype is None else dtype, copy=False)


def _cumulative_sum(x: Array, /, *, axis: Any = None, dtype: Any = None, include_initial: bool = False) -> Array:
    if x.dtype != np.float32:
        return dpnp.cumulative_sum(x, axis=axis, dtype=dtype, include_initial=include_initial)
    y = dpnp.cumulative_sum(x, axis=axis, dtype=_wide(x, dtype), include_initial=include_initial)
    return y.astype(np.float32 if dtype is None else dtype, copy=False)


xp = SimpleNamespace(**vars(dpnp) | {"matmul": _matmul, "sum": _sum, "cumulative_sum": _cumulative_sum})


class SyclDevice(Device):
    """One of SYCL's devices, through dpnp."""

    library = "dpnp"
    xp = xp
    array_type = dpnp.ndarray

    def __init__(self, index: str) -> None:
        found = _devices()[f"sycl:{index}"]
        self.native = dpctl.get_device_cached_queue(found)  # the queue that dpnp itself uses
        self.is_gpu = index != "cpu"
        self.hardware = found.name.strip()
        self.double = found.has_aspect_fp64

    @classmethod
    def available(cls) -> list[str]:
        if not _devices():
            driver = _cpu_driver()
            raise Unavailable(
                f"dpnp {dpnp.__version__} is installed, but finds no driver of a SYCL device",
                f"export {_DRIVERS}={driver} before Python starts"
                if driver
                else "python -m pip install intel-opencl-rt, which is a driver for CPUs",
            )
        return list(_devices())

    @classmethod
    def of(cls, array: Array) -> str:
        return next(name for name, d in _devices().items() if d == array.sycl_device)

    def from_numpy(self, array: np.ndarray) -> Array:
        return dpnp.asarray(array, dtype=self.dtype(array.dtype), device=self.native)

    def to_numpy(self, array: Array) -> np.ndarray:
        return np.array(dpnp.asnumpy(array))

    def receive(self, array: Array, source: Device) -> Array:
        if not isinstance(source, SyclDevice):
            return super().receive(array, source)
        self.dtype(source.dtype_of(array))
        return array.to_device(self.native)

    def asarray(self, x: Any) -> Array:
        return dpnp.asarray(x, device=self.native)  # also from a user's own queue: queues do not mix

    def dtype(self, dtype: Any) -> np.dtype:
        found = np.dtype(dtype)
        if found.name == "float64" and not self.double:
            raise TypeError(f"{self.name} has no float64; use float32")
        return found

    def synchronize(self) -> None:
        self.native.wait()

    def add_parts(self, parts: list[Array], keys: list[Key], shape: tuple[int, ...]) -> Array:
        return added(dpnp.zeros(shape, dtype=parts[0].dtype, device=self.native), parts, keys)

    def erf(self, x: Array) -> Array:
        return dpnp.scipy.special.erf(x)
