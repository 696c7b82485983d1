"""The devices "jax:cpu:0", "jax:gpu:0", ...: JAX's arrays, which cannot be changed. JAX's gradients are not used.

JAX has 64-bit dtypes only if a flag is set. Here an index is int64, and gradients are checked in float64. So the flag
is set while JAX works for these devices, on that thread; your own JAX code, in between, finds the flag as it was. A
float64 array that you take from a tensor keeps its dtype, but what you compute with it follows your own flag.

JAX compiles every new combination of an operation and shapes: first steps are slow.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from tinytorch.backends import importing
from tinytorch.backends.device import Array, Device, Unavailable
from tinytorch.backends.standard import Key

_FIX = "python -m pip install 'tinytorch-xp[jax]'"

with importing.library("JAX", _FIX, "jax"):
    import jax
    import jax.numpy as xp


@functools.cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return jax.jit(function, static_argnums=0)


def _whole(name: str, *static: int) -> Callable[..., Any]:
    """The default of an extension point, compiled as a whole: one by one, JAX takes 10 us for each operation.

    Args:
        static: the places of arguments that are no arrays; the device is at 0.
    """
    return jax.jit(getattr(Device, name), static_argnums=(0, *static))


def _devices() -> dict[str, Any]:
    """JAX's devices by our names: the CPU first, then the devices of JAX's default platform."""
    found: dict[str, Any] = {}
    for platform in dict.fromkeys(("cpu", jax.default_backend())):
        try:
            found |= {f"jax:{platform}:{d.id}": d for d in jax.local_devices(backend=platform)}
        except RuntimeError:  # JAX_PLATFORMS leaves the platform out
            continue
    return found


class JaxDevice(Device):
    """One of JAX's devices: the CPU (several, if XLA_FLAGS says so), a GPU or a TPU."""

    library = "jaxlib"  # the module with the class of JAX's arrays
    xp = xp

    def __init__(self, index: str) -> None:
        self.native = _devices()[f"jax:{index}"]
        self.is_gpu = self.native.platform != "cpu"
        self.hardware = self.native.device_kind if self.is_gpu else ""
        if self.native.platform == "gpu" or self.native == jax.local_devices(backend="cpu")[0]:
            self.memory = (2 if self.is_gpu else 1, self.native.local_hardware_id or 0)
        self.array_type = type(self.from_numpy(np.zeros(1)))

    @classmethod
    def canonical(cls, index: str) -> str:
        platform = index.partition(":")[0]
        if platform in ("gpu", "tpu") and platform != jax.default_backend():
            fix = "python -m pip install 'jax[cuda12]' (or [cuda13], to match the driver)" if platform == "gpu" else ""
            raise Unavailable(f"JAX {jax.__version__} finds no {platform.upper()}", fix)
        return super().canonical(index)

    @classmethod
    def available(cls) -> list[str]:
        try:
            return list(_devices())
        except RuntimeError as error:  # JAX_PLATFORMS asks for a missing platform
            raise Unavailable(f"JAX {jax.__version__} does not start: {str(error).splitlines()[0]}") from error

    @classmethod
    def of(cls, array: Array) -> str:
        (device,) = array.devices()
        return f"jax:{device.platform}:{device.id}"

    def activated(self) -> AbstractContextManager[Any]:
        manager: AbstractContextManager[Any] = jax.enable_x64(True)
        return manager

    def current(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call the function with JAX's 64-bit dtypes."""
        if jax.config.jax_enable_x64:  # inside another such call, or the user has set the flag
            return function(*args, **kwargs)
        with jax.enable_x64(True):
            return function(*args, **kwargs)

    def from_numpy(self, array: np.ndarray) -> Array:
        return self.current(jax.device_put, array, self.native)

    def asarray(self, x: Any) -> Array:
        return self.current(super().asarray, x)

    def to_numpy(self, array: Array) -> np.ndarray:
        return np.array(array)

    def share(self, array: Array) -> Array:
        # without `copy` JAX copies an array whose address is no multiple of 64 bytes
        return self.current(xp.from_dlpack, array, copy=False)

    def receive(self, array: Array, source: Device) -> Array:
        return self.from_numpy(array) if isinstance(source, JaxDevice) else super().receive(array, source)

    def synchronize(self) -> None:
        for array in jax.live_arrays(self.native.platform):
            if self.native in array.devices():
                array.block_until_ready()

    def fused(self, function: Callable[..., Any], out: tuple[Array, ...] | None = None) -> Callable[..., Any]:
        return _compiled(function)

    def scatter_add(self, values: Array, indices: Array, size: int) -> Array:
        wide = xp.float64 if values.dtype == xp.float32 else values.dtype  # JAX adds one number after another
        out = xp.zeros((size, *values.shape[1:]), dtype=wide, device=self.native)
        return out.at[indices].add(values.astype(wide)).astype(values.dtype)

    windows = _whole("windows", 2, 3, 4, 5)
    add_windows = _whole("add_windows", 2, 3, 4, 5, 6)
    normalized = _whole("normalized", 4)
    normalized_rule = _whole("normalized_rule")

    def put(self, x: Array, key: Key | Array, values: Array) -> Array:
        if not isinstance(key, tuple) and key.shape[0] > 1 and values.shape[0] > 1:
            # JAX sets equal indices in any order: so all of them get the value of the last
            places = xp.arange(key.shape[0], dtype=key.dtype, device=self.native)
            last = xp.zeros(x.shape[:1], dtype=key.dtype, device=self.native).at[key].max(places)
            values = values[last[key]]
        return x.at[key].set(values)

    def erf(self, x: Array) -> Array:
        return jax.lax.erf(x)
