"""What the CPU does in its own way, beside the standard-only default: on inputs of the size that the milestones have.

An extension point of a device is worth its lines if it is 1.5 times as fast as the default somewhere.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import array_api_compat.numpy as standard
import numpy as np

from benchmarks.ops import microseconds
from tinytorch.backends import Device, device
from tinytorch.ops.elementwise import _gelu, _gelu_rule
from tinytorch.optim.adam import _adam

CPU = device("cpu")


def _draw(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.Generator(np.random.Philox(0)).standard_normal(shape).astype("float32")


def _both(name: str, *args: Any) -> tuple[Callable[[], Any], Callable[[], Any]]:
    default, own = getattr(Device, name).__get__(CPU), getattr(CPU, name)
    return lambda: default(*args), lambda: own(*args)


def _function(name: str, *args: Any, **kwargs: Any) -> tuple[Callable[[], Any], Callable[[], Any]]:
    default, own = getattr(standard, name), getattr(CPU.xp, name)
    return lambda: default(*args, **kwargs), lambda: own(*args, **kwargs)


def _fused(function: Callable[..., Any], *arrays: Any, **numbers: float) -> tuple[Callable[[], Any], Callable[[], Any]]:
    return lambda: function(CPU, *arrays, **numbers), lambda: CPU.fused(function)(CPU, *arrays, **numbers)


_IMAGE, _PLAIN = _draw(8, 4, 4, 32), ((3, 3), (1, 1), (1, 1), (1, 1))
_LARGE = _draw(800_000)
_ALL = slice(0, 32, 1)

CASES = {
    "windows, (8, 4, 4, 32)": _both("windows", _IMAGE, *_PLAIN),
    "add_windows, (8, 4, 4, 32)": _both("add_windows", [_IMAGE] * 9, (4, 4), *_PLAIN),
    "windows, (16, 14, 14, 64)": _both("windows", _draw(16, 14, 14, 64), *_PLAIN),
    "add_windows, (16, 14, 14, 64)": _both("add_windows", [_draw(16, 14, 14, 64)] * 9, (14, 14), *_PLAIN),
    "scatter_add, (1024, 128) to 5000": _both("scatter_add", _draw(1024, 128), np.arange(1024) * 4, 5000),
    "fused, GELU of 4,000,000": _fused(_gelu, _draw(4_000_000)),
    "fused, rule of GELU, 4,000,000": _fused(_gelu_rule, *_draw(3, 4_000_000)),
    "fused, Adam of 4,000,000": _fused(_adam, *_draw(4, 4_000_000) ** 2, b1=0.9, b2=0.99, eps=1e-6, rate=0.1),
    "erf, 1,000,000": _both("erf", _draw(1_000_000)),
    "put, 60,000 of 600,000": _both("put", _draw(600_000), np.arange(60_000) * 10, _draw(60_000)),
    "put, slice of (512, 512)": _both("put", _draw(512, 512), (slice(1, 9, 1), slice(0, 512, 1)), _draw(8, 512)),
    "add_parts, 64 columns": _both(
        "add_parts", [_draw(32, 1, 32)] * 64, [(_ALL, slice(t, t + 1, 1), _ALL) for t in range(64)], (32, 64, 32)
    ),
    "check_index, 128": _both("check_index", np.arange(128) % 10, 10, "rows"),
    "sum of rows, (32, 128)": _function("sum", _draw(32, 128), axis=0),
    "sum of columns, (1024, 64)": _function("sum", _draw(1024, 64), axis=-1, keepdims=True),
    "max, (4096, 64)": _function("max", _draw(4096, 64), axis=-1, keepdims=True),
    "max, (32, 4, 4, 4)": _function("max", _draw(32, 4, 4, 4), axis=-1, keepdims=True),
    "clip, 800,000": _function("clip", _LARGE, -4.0, 4.0),
    "matmul, (32, 64) and (128, 64).T": _function("matmul", _draw(32, 64), _draw(128, 64).T),
    "matmul of 64, (64, 32) and (64, 32).T": _function("matmul", _draw(64, 64, 32), _draw(64, 64, 32).mT),
    "matmul, (16, 9) and (9, 50176)": _function("matmul", _draw(16, 9), _draw(9, 50_176)),
    "matmul, (9, 50176) and (16, 50176).T": _function("matmul", _draw(9, 50_176), _draw(16, 50_176).T),
    "mean of rows, (128, 32)": _function("mean", _draw(128, 32), axis=1, keepdims=True),
    "ones_like": _function("ones_like", _draw(1)),
    "reshape": _function("reshape", _draw(32, 128), (-1,)),
    "permute_dims": _function("permute_dims", _draw(32, 128), (1, 0)),
}


# a whole step in a new process, whose heap nothing has grown: what it does, and what makes the device do as the default
_STEPS = {
    "hold, CNN 28 x 28": ('WORKLOADS["S2"]', "cpu.keep_memory(False)"),
}


def step(work: str, prepare: str) -> float:
    """The median time of a step of the workload, of which the code is given, in a plain loop of training.

    Not by `measure.seconds_of`: going back to the initial weights frees large arrays, which grows the heap.
    """
    code = f"""
import time, tinytorch
from benchmarks.peers import tinytorch_
from benchmarks.scaling import mlp
from benchmarks.workloads import WORKLOADS
cpu = tinytorch.device("cpu")
{prepare}
step, _ = tinytorch_.build({work})
times = []
for _ in range(100):
    start = time.process_time()
    step()
    times.append(time.process_time() - start)
print(sorted(times[40:])[30] * 1e6)"""
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def main() -> None:
    """Measure and print."""
    print(f"{'microseconds':<40}{'default':>10}{'CPU':>10}")
    for name, (default, own) in CASES.items():
        t = microseconds({"default": default, "own": own}, rounds=25)
        print(f"{name:<40}{t['default']:>10.1f}{t['own']:>10.1f}{t['default'] / t['own']:>8.1f} x")
    for name, (work, prepare) in _STEPS.items():
        without, with_it = step(work, prepare), step(work, "")
        print(f"{name:<40}{without:>10.1f}{with_it:>10.1f}{without / with_it:>8.1f} x")
