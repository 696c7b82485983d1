"""The cost of single ops and layers, forward and backward: tinytorch beside PyTorch, and NumPy's own call if any.

All in one process, on one thread, in interleaved rounds; processor time.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import tinytorch

Call = Callable[[], Any]


def microseconds(calls: dict[str, Call], rounds: int = 15, block: float = 0.005) -> dict[str, float]:
    """The median time of each call, over interleaved rounds."""
    counts, clock = {}, time.process_time
    for name, call in calls.items():
        start, n = clock(), 0
        while n == 0 or clock() < start + block:
            call()
            n += 1
        counts[name] = n
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = clock()
            for _ in range(counts[name]):
                call()
            times[name].append((clock() - start) / counts[name] * 1e6)
    return {name: statistics.median(t) for name, t in times.items()}


def _draw(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.Generator(np.random.Philox(0)).standard_normal(shape).astype("float32")


_CLASSES = np.random.Generator(np.random.Philox(0)).integers(0, 10, 32)

# name: the arrays, NumPy's call, and what the two libraries call (m is tinytorch or torch.nn.functional with torch)
CASES: dict[str, tuple[list[Any], Callable[..., Any] | None, Callable[..., Any], Callable[..., Any]]] = {
    "x + y, (8, 8)": ([_draw(8, 8), _draw(8, 8)], np.add, lambda m, x, y: x + y, lambda t, x, y: x + y),
    "x * y, (256, 256)": ([_draw(256, 256)] * 2, np.multiply, lambda m, x, y: x * y, lambda t, x, y: x * y),
    "x @ y, (64, 64)": ([_draw(64, 64), _draw(64, 64)], np.matmul, lambda m, x, y: x @ y, lambda t, x, y: x @ y),
    "exp, (64, 64)": ([_draw(64, 64)], np.exp, lambda m, x: m.exp(x), lambda t, x: t.exp(x)),
    "sum, (64, 64)": ([_draw(64, 64)], np.sum, lambda m, x: m.sum(x), lambda t, x: t.sum(x)),
    "softmax, (32, 64)": ([_draw(32, 64)], None, lambda m, x: m.softmax(x, axis=-1), lambda t, x: t.softmax(x, -1)),
    "relu, (32, 128)": ([_draw(32, 128)], None, lambda m, x: m.relu(x), lambda t, x: t.relu(x)),
    "gelu, (64, 512)": ([_draw(64, 512)], None, lambda m, x: m.gelu(x), lambda t, x: t.nn.functional.gelu(x)),
    "linear, (32, 64) to 128": (
        [_draw(32, 64), _draw(128, 64), _draw(128)], None,
        lambda m, x, w, b: m.linear(x, w, b), lambda t, x, w, b: t.nn.functional.linear(x, w, b),
    ),
    "layer_norm, (32, 4, 32)": (
        [_draw(32, 4, 32), _draw(32), _draw(32)], None,
        lambda m, x, w, b: m.layer_norm(x, w, b), lambda t, x, w, b: t.nn.functional.layer_norm(x, (32,), w, b),
    ),
    "conv2d, (32, 8, 8, 8) to 16": (
        [_draw(32, 8, 8, 8), _draw(16, 8, 3, 3), _draw(16)], None,
        lambda m, x, w, b: m.conv2d(x, w, b, padding=1),
        lambda t, x, w, b: t.nn.functional.conv2d(x, w, b, padding=1),
    ),
    "max_pool2d, (32, 8, 8, 8)": (
        [_draw(32, 8, 8, 8)], None, lambda m, x: m.max_pool2d(x, 2), lambda t, x: t.nn.functional.max_pool2d(x, 2),
    ),
    "cross_entropy, (32, 10)": (
        [_draw(32, 10), _CLASSES], None,
        lambda m, z, y: m.cross_entropy(z, y), lambda t, z, y: t.nn.functional.cross_entropy(z, y),
    ),
    "embedding, (32, 4) of (10, 32)": (
        [_CLASSES.repeat(4).reshape(32, 4), _draw(10, 32)], None,
        lambda m, i, w: m.embedding(i, w), lambda t, i, w: t.nn.functional.embedding(i, w),
    ),
    "attention, (16, 4, 64, 32)": (
        [_draw(16, 4, 64, 32)] * 3, None,
        lambda m, q, k, v: m.scaled_dot_product_attention(q, k, v, is_causal=True),
        lambda t, q, k, v: t.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True),
    ),
}  # fmt: skip


def taped(
    module: Any, tensors: list[Any], function: Callable[..., Any], ones: Callable[[Any], Any]
) -> tuple[Call, Call]:
    """The call forward, recorded; and forward and back to all floating inputs."""
    leaves = [x for x in tensors if x.requires_grad]
    seed = ones(function(module, *tensors))

    def both() -> None:
        for x in leaves:
            x.grad = None
        function(module, *tensors).backward(seed)

    return lambda: function(module, *tensors), both


def main() -> None:
    """Measure and print."""
    try:
        import torch

        torch.set_num_threads(1)
    except ImportError as error:
        torch = None
        print(f"PyTorch is left out: {error}")
    print(f"{'microseconds':<32}{'NumPy':>9}{'forward':>10}{'PyTorch':>9}{'':>8}{'+ backward':>12}{'PyTorch':>9}")
    for name, (arrays, direct, ours, theirs) in CASES.items():
        calls: dict[str, Call] = {}
        if direct is not None:
            calls["numpy"] = lambda direct=direct, arrays=arrays: direct(*arrays)  # type: ignore[misc]
        tensors = [tinytorch.Tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
        calls["forward"], calls["both"] = taped(tinytorch, tensors, ours, tinytorch.ones_like)
        if torch is not None:
            others = [torch.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
            calls["torch"], calls["torch both"] = taped(torch, others, theirs, torch.ones_like)
        t = microseconds(calls)
        row = f"{name:<32}{t['numpy']:>9.2f}" if direct is not None else f"{name:<32}{'':>9}"
        row += f"{t['forward']:>10.1f}"
        if torch is not None:
            row += f"{t['torch']:>9.1f}{t['forward'] / t['torch']:>6.2f} x{t['both']:>12.1f}{t['torch both']:>9.1f}"
            row += f"{t['both'] / t['torch both']:>6.2f} x"
        print(row)
