"""The device "cpu": NumPy arrays.

The functions in NumPy's fastest form are in `cpu_functions`, the memory below the arrays is in `cpu_memory`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from tinytorch.backends import cpu_functions, cpu_memory, cpu_program, standard
from tinytorch.backends.device import Array, Device
from tinytorch.backends.standard import Key, Pair, added, backwards, counts, shifts

_UNSIGNED = {n: np.dtype(f"u{n}") for n in (1, 2, 4, 8)}


class CpuDevice(Device):
    """NumPy on the host. Every call is finished when it returns."""

    library = "numpy"
    xp = cpu_functions.Namespace()
    native = "cpu"
    memory = (1, 0)
    array_type = np.ndarray
    large = 65_536 if cpu_memory.KNOWN else 0
    held: tuple[int, Array] = (0, None)  # an address, and the array that is there

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
        return np.ascontiguousarray(array) if backwards(array) else array

    def asarray(self, x: Array) -> Array:
        return np.asarray(x)

    def keep_memory(self, keep: bool = True) -> bool:
        """Set glibc's thresholds (mallopt(3)), so that large arrays of one step do not cost page faults in the next."""
        super().keep_memory(keep)
        if not keep:
            self.large, self.held = 0, (0, None)
            return False
        return cpu_memory.never_give_back()

    def hold(self, array: Array) -> None:
        """Keep the topmost array of the heap, so that the heap stays as large as a step needs."""
        place = array.__array_interface__["data"][0]
        if self.held[0] < place < cpu_memory.end_of_heap():
            self.held = place, array

    def fused(self, function: Callable[..., Any], out: tuple[Array, ...] | None = None) -> Callable[..., Any]:
        call = cpu_functions.in_blocks(function)
        return call if out is None else functools.partial(call, out=out)

    def erf(self, x: Array) -> Array:
        return cpu_functions.in_blocks(standard.erf)(self, x)

    def scatter_add(self, values: Array, indices: Array, size: int) -> Array:
        # for few rows a product with a one-hot matrix is fastest, but it turns infinities into NaN
        if values.size and size <= 256 and len(indices) <= 2048:
            with np.errstate(over="ignore", invalid="ignore"):
                finite = np.isfinite(np.add.reduce(values, axis=None))
            if finite:
                onehot = (np.arange(size)[:, None] == indices).astype(values.dtype)  # (size, N)
                return onehot.dot(values.reshape(len(indices), -1)).reshape((size, *values.shape[1:]))
        if values.ndim == 1 and values.dtype == np.float32 and values.size:
            return np.bincount(indices, values, size).astype(np.float32)  # bincount adds in float64
        out = np.zeros((size, *values.shape[1:]), values.dtype)
        if values.ndim == 1 or values.dtype.kind != "f" or not values.size:
            np.add.at(out, indices, values)
            return out
        # NumPy sorts 16 bits by radix
        order = np.argsort(indices.astype("uint16") if size <= 65_536 else indices, kind="stable")
        found = indices[order]
        first = np.concatenate(([True], found[1:] != found[:-1]))  # where a group starts
        alone = first & np.concatenate((first[1:], [True]))
        out[found[alone]] = values.take(order[alone], 0)
        first, found, rows = first[~alone], found[~alone], values.take(order[~alone], 0)
        out[found[first]] = cpu_functions.sums_of_groups(rows, np.flatnonzero(first))
        return out

    def put(self, x: Array, key: Key | Array, values: Array) -> Array:
        out = x.copy()
        out[key] = values  # where an index occurs twice, NumPy keeps the last value
        return out

    def add_parts(self, parts: list[Array], keys: list[Key], shape: tuple[int, ...]) -> Array:
        return added(np.zeros(shape, parts[0].dtype), parts, keys)

    def check_index(self, indices: Array, size: int, what: str, ignore: int | None = None) -> None:
        unsigned = indices.view(_UNSIGNED[indices.itemsize])  # a negative index is large as unsigned
        if unsigned.size and np.maximum.reduce(unsigned, axis=None) >= size:
            super().check_index(indices, size, what, ignore)

    def check_unit(self, values: Array, what: str) -> None:
        unsigned = values.view(_UNSIGNED[values.itemsize])  # a negative number is above all others as unsigned
        if (
            unsigned.size and np.maximum.reduce(unsigned, axis=None) > cpu_functions.ONE[values.itemsize]
        ):  # wrong, -0.0 or NaN
            super().check_unit(values, what)

    def does_as_default(self, point: str, *args: Any) -> bool:
        if point == "fused":  # below, planned memory does as well as blocks
            return bool(args[1].size < cpu_functions.MANY // 4)
        if point == "class_losses_rule":
            return bool(args[0][0].size <= cpu_functions.SHORT)
        if point == "erf":
            return bool(args[0].size < 2 * cpu_functions.BLOCK)
        return super().does_as_default(point, *args)

    def compile(self, program: Any) -> Callable[..., list[Array]]:
        if program.devices != [self]:
            return super().compile(program)
        return cpu_program.compiled(program)

    def may_occur(self, value: int, labels: Array) -> bool:  # a look costs less than masks
        if value < 0:
            return bool(labels.size) and bool(np.minimum.reduce(labels) < 0)
        return bool(np.logical_or.reduce(labels == value))

    def class_losses_rule(self, state: tuple[Any, ...], g: Array) -> Array:
        e, s, labels, kept, smooth = state
        if e.size <= cpu_functions.SHORT:
            return super().class_losses_rule(state, g)
        share = np.broadcast_to(g, s.shape) if kept is None else cpu_functions.where(kept[:, None], g, 0.0)
        d = e * (share / s)  # one pass; the labels' elements come below, without a one-hot matrix
        if smooth:
            d -= share * (smooth / d.shape[1])
            share = share * (1.0 - smooth)
        at = np.arange(0, d.size, d.shape[1])
        at += labels
        d.reshape(-1)[at] -= share[:, 0]
        return d

    def windows(self, x: Array, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Array:
        C, H, W, N = x.shape
        (ph, pw), (sh, sw), (dh, dw) = padding, stride, dilation
        if ph or pw or not x.flags.c_contiguous:
            wide = np.zeros((C, H + 2 * ph, W + 2 * pw, N), x.dtype)
            wide[:, ph : ph + H, pw : pw + W] = x
            x = wide
        c, h, w, n = x.strides
        places = counts(x.shape[1:3], kernel, stride, dilation)
        return np.ndarray((C, *kernel, *places, N), x.dtype, x, 0, (c, h * dh, w * dw, h * sh, w * sw, n))

    def add_windows(
        self, parts: list[Array], size: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair
    ) -> Array:
        C, _, _, N = parts[0].shape
        (H, W), (ph, pw) = size, padding
        wide = np.zeros((C, H + 2 * ph, W + 2 * pw, N), parts[0].dtype)
        disjoint = dilation == (1, 1) and kernel[0] <= stride[0] and kernel[1] <= stride[1]
        for under, part in zip(shifts(wide, kernel, stride, dilation), parts):
            if disjoint:  # no two windows overlap
                under[...] = part
            else:
                under += part
        return wide[:, ph : ph + H, pw : pw + W]

    def dtype(self, dtype: Any) -> np.dtype[Any]:
        return np.dtype(dtype)
