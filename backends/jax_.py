"""The devices "jax:cpu:0", "jax:gpu:0", ...: JAX's arrays, which cannot be changed. JAX's gradients are not used.

JAX has 64-bit dtypes only if a flag is set. Here an index is int64, and gradients are checked in float64. So the flag
is set while JAX works for these devices, on that thread; your own JAX code, in between, finds the flag as it was. A
float64 array that you take from a tensor keeps its dtype, but what you compute with it follows your own flag.

JAX compiles every new combination of an operation and shapes: first steps are slow.
"""

from __future__ import annotations

import copy
import functools
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from tinytorch.backends import importing, standard, tree
from tinytorch.backends.device import Array, Device, Unavailable
from tinytorch.backends.standard import Key
from tinytorch.backends.written import compiled

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


# What a check of a program finds wrong in an array, as an array of bools
_CHECKS: dict[str, Callable[..., Any]] = {
    "check_index": lambda indices, size, what, ignore=None: standard.outside(indices, size, ignore),
    "check_unit": lambda values, what: standard.outside_unit(values),
}


def _found(line: Any, array: Any) -> Any:
    """Whether the check of that line finds something wrong."""
    return _CHECKS[line.call.name](array, *line.args[1:], **line.kwargs).any()


class _Jitted:
    """A program as one function of `jax.jit`, which has no effects.

    Random numbers are drawn before, in the order of the program, and are among its inputs. Checks of the program's
    inputs are made before, on the host: once for an array, as arrays do not change here. Of the other checks the
    function gives one answer, which is read after it. If any finds something, the program is run line by line, from the
    same state of the generators, and raises what it raises.

    No input is donated, that is, none is overwritten by an output: tensors that share an array (`p.data`, a gradient
    that a user kept) keep their values when p is stepped; and the run line by line needs the inputs as they were.
    """

    def __init__(self, program: Any) -> None:
        self.lines = compiled(program)
        self.draws = [line for line in program.lines if line.call.name == "drawn"]
        checks = [line for line in program.lines if line.call.name in _CHECKS]
        self.before = [(line, program.inputs.index(line.args[0])) for line in checks if line.args[0] in program.inputs]
        self.after = [line for line in checks if line.args[0] not in program.inputs]
        self.seen: list[Any] = [lambda: None] * len(self.before)  # weak references to what the first of them passed
        pure = copy.copy(program)
        pure.lines = [line for line in program.lines if not line.effect]
        pure.inputs = [*program.inputs, *(line.out for line in self.draws)]
        pure.outputs = [*program.outputs, *(line.args[0] for line in self.after)]
        self.pure = compiled(pure)
        self.whole = jax.jit(self._whole)

    def _whole(self, *inputs: Any) -> tuple[list[Array], Array | None]:
        """The outputs, and whether a check found something; None if there are no checks."""
        out = self.pure(*inputs)
        outputs, checked = out[: len(out) - len(self.after)], out[len(out) - len(self.after) :]
        found = [_found(line, x) for line, x in zip(self.after, checked, strict=True)]
        return outputs, functools.reduce(xp.logical_or, found) if found else None

    def _passed(self, inputs: tuple[Any, ...]) -> bool:
        """Whether the checks of inputs find nothing."""
        for i, (line, place) in enumerate(self.before):
            array = inputs[place]
            if self.seen[i]() is not array and not isinstance(array, jax.core.Tracer):
                if _found(line, np.asarray(array)):
                    return False
                self.seen[i] = weakref.ref(array)
        return True

    def __call__(self, *inputs: Any) -> list[Array]:
        if not self._passed(inputs):
            return self.lines(*inputs)
        if not self.draws and not self.after:
            return self.whole(*inputs)[0]
        generators = [line.args[0].bit_generator for line in self.draws]
        before = [g.state for g in generators]
        drawn = [line.call.function(*line.args, **line.kwargs) for line in self.draws]
        out, found = self.whole(*inputs, *drawn)
        if found is None or isinstance(found, jax.core.Tracer) or not found:
            return out
        for g, state in zip(generators[::-1], before[::-1]):
            g.state = state
        return self.lines(*inputs)


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
        if isinstance(array, jax.core.Tracer):  # is nowhere yet
            default = jax.config.jax_default_device
            device = default if isinstance(default, jax.Device) else jax.devices(default)[0]
        else:
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
        return x if isinstance(x, jax.Array) else self.current(super().asarray, x)

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

    def check_index(self, indices: Array, size: int, what: str, ignore: int | None = None) -> None:
        if not isinstance(indices, jax.core.Tracer):  # which has no values
            super().check_index(indices, size, what, ignore)

    def check_unit(self, values: Array, what: str) -> None:
        if not isinstance(values, jax.core.Tracer):
            super().check_unit(values, what)

    def compile(self, program: Any) -> Callable[..., list[Array]]:
        """The program as one function of `jax.jit`; line by line if it needs more devices, or answers in between."""
        effects = {line.call.name for line in program.lines if line.effect}
        if program.devices != [self] or not effects <= {"drawn", *_CHECKS}:
            return compiled(program)
        return functools.partial(self.current, _Jitted(program))

    def does_as_default(self, point: str, *args: Any) -> bool:
        jitted = ("fused", "windows", "add_windows", "normalized", "normalized_rule")  # as a program is anyway
        return point in jitted or super().does_as_default(point, *args)

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


tree.tell(jax.tree_util.register_pytree_node)
