"""The CPU's own ways, beside the standard-only defaults, on inputs as large as those of the milestones.

A row begins with the name of the extension point or function. Each one that the CPU overrides has a row
(tests/test_benchmarks.py). An own way is worth its lines if it is 1.5 times as fast as the default somewhere; or if it
is right where the default is not, and no slower: sums of many numbers.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import array_api_compat.numpy as standard
import numpy as np

import tinytorch
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


def _looking(z: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> tuple[Callable[[], Any], Callable[[], Any]]:
    blind = type("Blind", (type(CPU),), {"may_occur": Device.may_occur})("")
    return lambda: blind.class_losses(z, labels, -100, 0.0), lambda: CPU.class_losses(z, labels, -100, 0.0)


def _compiled(rows: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    layers = tinytorch.nn.Sequential(tinytorch.nn.Linear(64, 64), tinytorch.nn.Tanh(), tinytorch.nn.Linear(64, 10))
    x = tinytorch.Tensor(_draw(rows, 64))
    compiled = tinytorch.compile(lambda x: tinytorch.softmax(layers(x), axis=1).sum())
    for _ in range(3):
        compiled(x)
    program = compiled.programs[0]
    shapes = [v.shape for v in program.inputs]
    given = sorted((t.array for t in (x, *layers.parameters())), key=lambda array: shapes.index(array.shape))
    default, own = Device.compile(CPU, program), CPU.compile(program)
    return lambda: default(*given), lambda: own(*given)


_IMAGE, _PLAIN = _draw(8, 4, 4, 32), ((3, 3), (1, 1), (1, 1), (1, 1))
_LARGE = _draw(800_000)
_ALL = slice(0, 32, 1)

_LABELS = np.arange(256) % 1000
_LOGITS = CPU.class_losses(_draw(256, 1000), _LABELS, None, 0.0)[2]

CASES = {
    "add_parts, 64 columns": _both(
        "add_parts", [_draw(32, 1, 32)] * 64, [(_ALL, slice(t, t + 1, 1), _ALL) for t in range(64)], (32, 64, 32)
    ),
    "add_windows, (8, 4, 4, 32)": _both("add_windows", [_IMAGE] * 9, (4, 4), *_PLAIN),
    "add_windows, (16, 14, 14, 64)": _both("add_windows", [_draw(16, 14, 14, 64)] * 9, (14, 14), *_PLAIN),
    "check_index, 128": _both("check_index", np.arange(128) % 10, 10, "rows"),
    "check_unit, 128": _both("check_unit", np.abs(_draw(128)) / 9, "probabilities"),
    "class_losses_rule, (256, 1000)": _both("class_losses_rule", _LOGITS, _draw(256, 1)),
    "compile, MLP of 32 rows": _compiled(32),
    "erf, 1,000,000": _both("erf", _draw(1_000_000)),
    "fused, GELU of 4,000,000": _fused(_gelu, _draw(4_000_000)),
    "fused, rule of GELU, 4,000,000": _fused(_gelu_rule, *_draw(3, 4_000_000)),
    "fused, Adam of 4,000,000": _fused(_adam, *_draw(4, 4_000_000) ** 2, b1=0.9, b2=0.99, eps=1e-6, rate=0.1),
    "may_occur, losses of (128, 10)": _looking(_draw(128, 10), np.arange(128) % 10),
    "may_occur, losses of (256, 1000)": _looking(_draw(256, 1000), _LABELS),
    "put, 60,000 of 600,000": _both("put", _draw(600_000), np.arange(60_000) * 10, _draw(60_000)),
    "put, slice of (512, 512)": _both("put", _draw(512, 512), (slice(1, 9, 1), slice(0, 512, 1)), _draw(8, 512)),
    "scatter_add, (1024, 128) to 5000": _both("scatter_add", _draw(1024, 128), np.arange(1024) * 4, 5000),
    "scatter_add, (1024, 32) to 64": _both("scatter_add", _draw(1024, 32), np.arange(1024) % 64, 64),
    "scatter_add, 100,000 to 1000": _both("scatter_add", _draw(100_000), np.arange(100_000) % 1000, 1000),
    "windows, (8, 4, 4, 32)": _both("windows", _IMAGE, *_PLAIN),
    "windows, (16, 14, 14, 64)": _both("windows", _draw(16, 14, 14, 64), *_PLAIN),
    "arange": _function("arange", 128),
    "broadcast_to": _function("broadcast_to", _draw(1, 1), (32, 10)),
    "clip, 128": _function("clip", _draw(128), -4.0, 4.0),
    "clip, 800,000": _function("clip", _LARGE, -4.0, 4.0),
    "cumulative_sum, 800,000": _function("cumulative_sum", _LARGE),
    "expand_dims": _function("expand_dims", _draw(32, 128), axis=1),
    "matmul, (8, 16) and (16, 16)": _function("matmul", _draw(8, 16), _draw(16, 16)),
    "max, (32, 4, 4, 4)": _function("max", _draw(32, 4, 4, 4), axis=-1, keepdims=True),
    "maximum, 800,000 and a number": _function("maximum", _LARGE, 0.0),
    "mean of rows, (128, 32)": _function("mean", _draw(128, 32), axis=1, keepdims=True),
    "minimum, 800,000 and a number": _function("minimum", _LARGE, 0.0),
    "ones_like": _function("ones_like", _draw(1)),
    "permute_dims": _function("permute_dims", _draw(32, 128), (1, 0)),
    "reshape": _function("reshape", _draw(32, 128), (-1,)),
    "sum of rows, (32, 128)": _function("sum", _draw(32, 128), axis=0),
    "sum of columns, (1024, 64)": _function("sum", _draw(1024, 64), axis=-1, keepdims=True),
    "take, 64 of (1000, 16)": _function("take", _draw(1000, 16), np.arange(64), axis=0),
    "where, 800,000 and zero": _function("where", _LARGE > 0, _LARGE, 0.0),
}


# a whole step in a new process with a small heap: the workload, and the line that makes the device use the default
STEPS = {
    "hold, CNN 28 x 28": ('WORKLOADS["S2"]', "cpu.keep_memory(False)"),
}


def step(work: str, prepare: str) -> float:
    """The median time of a step of the workload, which is given as code, in a plain loop of training.

    `measure.seconds_of` would not do: it goes back to the initial weights, which frees large arrays and grows the heap.
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


def main(rows: str = "") -> None:
    """Measure and print the rows whose names begin so."""
    print(f"{'microseconds':<40}{'default':>10}{'CPU':>10}")
    chosen = {k: v for k, v in CASES.items() if k.startswith(tuple(rows.split(",")))}
    for name, (default, own) in chosen.items():
        t = microseconds({"default": default, "own": own}, rounds=25)
        print(f"{name:<40}{t['default']:>10.1f}{t['own']:>10.1f}{t['default'] / t['own']:>8.1f} x")
    for name, (work, prepare) in STEPS.items():
        without, with_it = step(work, prepare), step(work, "")
        print(f"{name:<40}{without:>10.1f}{with_it:>10.1f}{without / with_it:>8.1f} x")
