"""What a training step of each milestone takes, counted exactly: nodes of the tape, calls of NumPy, new arrays.

Times cannot be tested, but what they are made of can. A number that went up is a step that got slower, on every
machine; one that went down is put into the table here and into docs/performance.md. The device that counts is the
CPU's, with arrays that see each call.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinytorch
from benchmarks.peers import tinytorch_
from benchmarks.workloads import WORKLOADS
from tinytorch import autograd, backends
from tinytorch.backends.cpu import CpuDevice

# nodes of the tape, calls of NumPy that compute or copy, arrays these made, and their bytes
EXPECTED = {
    "W1": (3, 34, 33, 10156),
    "W2": (5, 42, 40, 1052),
    "W3m": (6, 38, 30, 317864),
    "W3a": (6, 48, 36, 731288),
    "W4a": (6, 61, 47, 248888),
    "W4b": (9, 99, 70, 772888),
    "W5": (15, 130, 101, 1155684),
    "S1": (6, 72, 50, 18857560),
    "S2": (9, 100, 71, 34910168),
    "S3": (46, 492, 374, 185496200),
}


class Counts:
    """Since the last reset."""

    calls = arrays = size = depth = 0

    def reset(self) -> None:
        self.calls = self.arrays = self.size = 0

    def see(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        """Call it, and count that, but not what it calls in turn."""
        self.depth += 1
        try:
            result = function(*args, **kwargs)
        finally:
            self.depth -= 1
        in_place = "out" in kwargs
        if self.depth == 0 and (in_place or getattr(result, "base", None) is None):  # not a view
            self.calls += 1
            if not in_place:
                self.arrays += 1
                self.size += result.nbytes
        return result


COUNTS = Counts()


def plain(x: Any) -> Any:
    if isinstance(x, tuple | list):
        return type(x)(map(plain, x))
    return x.view(np.ndarray) if isinstance(x, Counted) else x


class Counted(np.ndarray[Any, Any]):
    """An array that counts what is done with it. Views are free."""

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **kwargs):
        if out is not None:
            COUNTS.see(getattr(ufunc, method), *map(plain, inputs), out=plain(out), **kwargs)
            return out[0]
        result = COUNTS.see(getattr(ufunc, method), *map(plain, inputs), **kwargs)
        return result.view(Counted) if isinstance(result, np.ndarray) else result

    def __array_function__(self, function, types, args, kwargs):
        result = COUNTS.see(function, *map(plain, args), **{k: plain(v) for k, v in kwargs.items()})
        return result.view(Counted) if isinstance(result, np.ndarray) else result

    def dot(self, other):
        return COUNTS.see(plain(self).dot, plain(other)).view(Counted)

    def take(self, indices, axis=None):
        return COUNTS.see(plain(self).take, plain(indices), axis).view(Counted)

    def copy(self, order="C"):
        return COUNTS.see(plain(self).copy, order).view(Counted)

    def astype(self, dtype, copy=True):
        return COUNTS.see(plain(self).astype, dtype, copy=copy).view(Counted)

    def reshape(self, *shape, **kwargs):
        result = plain(self).reshape(*shape, **kwargs)
        return COUNTS.see(lambda: result).view(Counted)


class CountingDevice(CpuDevice):
    array_type = Counted
    memory = None

    @classmethod
    def canonical(cls, index: str) -> str:
        return "counting"

    @classmethod
    def available(cls) -> list[str]:
        return []

    def from_numpy(self, array):
        return array.view(Counted)

    def to_numpy(self, array):
        return np.array(plain(array))

    def asarray(self, x):
        return np.asarray(x).view(Counted)


class Nodes(autograd.Observer):
    def __init__(self) -> None:
        self.count = 0

    def made(self, op, inputs, meta, result):
        self.count += result.node is not None


def counted(name: str) -> tuple[int, int, int, int]:
    """What the third step took, when nothing is set up any more."""
    with tinytorch.device("counting"):
        step, _ = tinytorch_.build(WORKLOADS[name])
        for _ in range(2):
            step()
        COUNTS.reset()
        with Nodes() as nodes:
            step()
    return nodes.count, COUNTS.calls, COUNTS.arrays, COUNTS.size


@pytest.fixture(scope="module", autouse=True)
def _device():
    backends.register("counting", CountingDevice)
    yield
    backends.unregister("counting")


@pytest.mark.parametrize("name", EXPECTED)
def test_a_step_takes_what_it_took(name):
    assert counted(name) == EXPECTED[name]
