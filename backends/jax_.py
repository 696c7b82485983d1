"""The devices "jax:cpu:0", "jax:gpu:0", ...: JAX's arrays, which cannot be changed. Its gradients are not used.

JAX has 64-bit dtypes only if a flag says so, and here an index is int64 and gradients are checked in float64. So the
flag is set while JAX works for these devices, on that thread; JAX code of your own, in between, finds it as it was. An
array of float64 that you take from a tensor is one there, too, but what you compute with it follows your own flag.

Every new combination of an operation and shapes is compiled when it first comes: first steps are slow.
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
    """The default of an extension point, compiled as a whole: each of its operations by itself takes JAX 10 us.

    Args:
        static: the places of arguments that are no arrays, as the device is at 0.
    """
    return jax.jit(getattr(Device, name), static_argnums=(0, *static))


def _devices() -> dict[str, Any]:
    """JAX's devices by our names: the CPU first, then those of its default platform."""
    found: dict[str, Any] = {}
    for platform in dict.fromkeys(("cpu", jax.default_backend())):
        try:
            found |= {f"jax:{platform}:{d.id}": d for d in jax.local_devices(backend=platform)}
        except RuntimeError:  # JAX_PLATFORMS leaves it out
            continue
    return found


class JaxDevice(Device):
    """One of JAX's devices: the CPU (several, if XLA_FLAGS says so), a GPU or a TPU."""

    library = "jaxlib"  # where the class of its arrays is
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
        except RuntimeError as error:  # JAX_PLATFORMS asks for what is not there
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
        if jax.config.jax_enable_x64:  # it is in such a call already, or its user has them anyway
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
        # without `copy` it copies what does not lie at a multiple of 64 bytes
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
        wide = xp.float64 if values.dtype == xp.float32 else values.dtype  # it adds one after another
        out = xp.zeros((size, *values.shape[1:]), dtype=wide, device=self.native)
        return out.at[indices].add(values.astype(wide)).astype(values.dtype)

    windows = _whole("windows", 2, 3, 4, 5)
    add_windows = _whole("add_windows", 2, 3, 4, 5, 6)
    normalized = _whole("normalized", 4)
    normalized_rule = _whole("normalized_rule")

    def put(self, x: Array, key: Key | Array, values: Array) -> Array:
        if not isinstance(key, tuple) and key.shape[0] > 1 and values.shape[0] > 1:  # equal indices, in any order: to
            places = xp.arange(key.shape[0], dtype=key.dtype, device=self.native)  # all of them goes that of the last
            last = xp.zeros(x.shape[:1], dtype=key.dtype, device=self.native).at[key].max(places)
            values = values[last[key]]
        return x.at[key].set(values)

    def erf(self, x: Array) -> Array:
        return jax.lax.erf(x)
