"""Cliffs: work that once took many times PyTorch's time, and the ratio that each row may have now.

Each row is forward and backward to all inputs that have gradients, unless the name of the row says otherwise. One
thread; each library in a process of its own, in interleaved rounds; processor time.

    python -m benchmarks cliffs                      # all rows
    python -m benchmarks cliffs --rows sort,gelu     # rows whose names begin so
    python -m benchmarks cliffs --before ../other    # beside the tinytorch of another checkout, in the same run
"""

from __future__ import annotations

import functools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Call = Callable[[], Any]


@dataclass(frozen=True)
class Row:
    """The work of both libraries, and the ratio of their times to reach.

    `ours` takes tinytorch and `theirs` takes torch, each with the arrays as tensors of the library. With `backward` the
    results are differentiated, if some array is floating.
    """

    target: float
    arrays: Callable[[], list[Any]]
    ours: Callable[..., Any]
    theirs: Callable[..., Any]
    backward: bool = True


def _draw(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.Generator(np.random.Philox(seed)).standard_normal(shape).astype("float32")


def _integers(high: int, *shape: int) -> np.ndarray[Any, Any]:
    return np.random.Generator(np.random.Philox(0)).integers(0, high, shape)


def _cell(sigmoid: Any, tanh: Any, x: Any, h: Any, c: Any, w: Any, u: Any, b: Any) -> Any:
    """A cell of an LSTM, written in ops: Hochreiter and Schmidhuber (1997), with a forget gate."""
    z = x @ w + h @ u + b
    n = c.shape[1]
    i, f, g, o = (z[:, k * n : (k + 1) * n] for k in range(4))
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c)


def _added(slices: Iterable[Any]) -> Any:
    """The sum of slices, one after the other."""
    return functools.reduce(lambda a, b: a + b, slices)


def _recurrent(tanh: Any, x: Any, w: Any, u: Any) -> Any:
    """A recurrent layer written as a loop over time: Elman (1990)."""
    h = x[:, 0] @ w
    for t in range(1, x.shape[1]):
        h = tanh(x[:, t] @ w + h @ u)
    return h


def _one_hot(m: Any, labels: Any) -> Any:
    y = m.zeros((len(labels), 10))
    y[m.arange(len(labels)), labels] = 1.0
    return y


@functools.cache
def _vocabulary(library: Any) -> Any:
    """A model that holds a vocabulary of 20,000 words, both ways."""

    class Model(library.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.words = [f"word {i}" for i in range(20_000)]
            self.numbers = {word: i for i, word in enumerate(self.words)}
            self.layer = library.nn.Linear(64, 64)

        def forward(self, x: Any) -> Any:
            return self.layer(x)

    return Model()


def _walked(library: Any, x: Any) -> Any:
    """The calls of a step to the model before the backward pass."""
    model = _vocabulary(library)
    model.train()
    model.zero_grad()
    assert len(list(model.parameters())) == 2
    return model(x)


def _conv(channels: int, out: int, size: int, groups: int = 1, batch: int = 16, kernel: int = 3) -> Row:
    return Row(
        2.0,
        lambda: [_draw(batch, channels, size, size), _draw(out, channels // groups, kernel, kernel), _draw(out)],
        lambda m, x, w, b: m.conv2d(x, w, b, padding=kernel // 2, **({} if groups == 1 else {"groups": groups})),
        lambda t, x, w, b: t.nn.functional.conv2d(x, w, b, padding=kernel // 2, groups=groups),
    )


def _pool(kind: str, kernel: int, stride: int, size: int = 64) -> Row:
    name = f"{kind}_pool2d"
    return Row(
        1.5,
        lambda: [_draw(8, 16, size, size)],
        lambda m, x: getattr(m, name)(x, kernel, stride),
        lambda t, x: getattr(t.nn.functional, name)(x, kernel, stride),
    )


ROWS = {
    "gelu of 1,000,000": Row(
        1.5, lambda: [_draw(1000, 1000)], lambda m, x: m.gelu(x), lambda t, x: t.nn.functional.gelu(x)
    ),
    "gelu of 30,000": Row(1.5, lambda: [_draw(60, 500)], lambda m, x: m.gelu(x), lambda t, x: t.nn.functional.gelu(x)),
    "softmax, (256, 10000)": Row(
        1.5, lambda: [_draw(256, 10_000)], lambda m, x: m.softmax(x, axis=-1), lambda t, x: t.softmax(x, -1)
    ),
    "log_softmax, (256, 10000)": Row(
        1.5, lambda: [_draw(256, 10_000)], lambda m, x: m.log_softmax(x, axis=-1), lambda t, x: t.log_softmax(x, -1)
    ),
    "layer_norm, (256, 4096)": Row(
        1.5,
        lambda: [_draw(256, 4096), _draw(4096), _draw(4096)],
        lambda m, x, w, b: m.layer_norm(x, w, b),
        lambda t, x, w, b: t.nn.functional.layer_norm(x, (4096,), w, b),
    ),
    "cross_entropy, (256, 10000)": Row(
        1.5,
        lambda: [_draw(256, 10_000), _integers(10_000, 256)],
        lambda m, z, y: m.cross_entropy(z, y),
        lambda t, z, y: t.nn.functional.cross_entropy(z, y),
    ),
    "sort, (100, 10000)": Row(
        2.0, lambda: [_draw(100, 10_000)], lambda m, x: m.sort(x), lambda t, x: t.sort(x, stable=True).values
    ),
    "argsort, (100, 10000)": Row(
        2.0,
        lambda: [_draw(100, 10_000)],
        lambda m, x: m.argsort(x),
        lambda t, x: t.argsort(x, stable=True),
        backward=False,
    ),
    "embedding, (64, 128) of (16000, 128)": Row(
        1.5,
        lambda: [_integers(16_000, 64, 128), _draw(16_000, 128)],
        lambda m, i, w: m.embedding(i, w),
        lambda t, i, w: t.nn.functional.embedding(i, w),
    ),
    "conv2d 3 x 3, 16 to 32, 28 x 28": _conv(16, 32, 28),
    "conv2d 3 x 3, 64 to 64, 16 x 16": _conv(64, 64, 16),
    "conv2d 3 x 3, 3 to 16, 64 x 64": _conv(3, 16, 64, batch=8),
    "depthwise conv2d 3 x 3 of 64, 28 x 28": _conv(64, 64, 28, groups=64),
    "max_pool2d of 8": _pool("max", 8, 8),
    "max_pool2d of 8, stride 1": _pool("max", 8, 1),
    "avg_pool2d of 8, stride 1": _pool("avg", 8, 1),
    "LSTM cell of 128, 32 rows": Row(
        1.5,
        lambda: [_draw(32, 128)] * 3 + [_draw(128, 512) / 16, _draw(128, 512) / 16, _draw(512)],
        lambda m, *tensors: _cell(m.sigmoid, m.tanh, *tensors),
        lambda t, *tensors: _cell(t.sigmoid, t.tanh, *tensors),
    ),
    "x[arange(n), labels] = 1, 3,000 rows": Row(
        5.0, lambda: [_integers(10, 3000)], lambda m, y: _one_hot(m, y), lambda t, y: _one_hot(t, y), backward=False
    ),
    "x[arange(n), labels] = 1, 60,000 rows": Row(
        5.0, lambda: [_integers(10, 60_000)], lambda m, y: _one_hot(m, y), lambda t, y: _one_hot(t, y), backward=False
    ),
    "take_along_axis, (300, 300)": Row(
        5.0,
        lambda: [_draw(300, 300), _integers(300, 300, 300)],
        lambda m, x, i: m.take_along_axis(x, i, axis=1),
        lambda t, x, i: t.gather(x, 1, i),
    ),
    "unstack of 2,000 rows": Row(
        4.0, lambda: [_draw(2000, 64)], lambda m, x: _added(m.unstack(x)), lambda t, x: _added(t.unbind(x))
    ),
    "split into 2,000 rows": Row(
        4.0, lambda: [_draw(2000, 64)], lambda m, x: _added(m.split(x, 1)), lambda t, x: _added(t.split(x, 1))
    ),
    "iteration over 2,000 rows": Row(4.0, lambda: [_draw(2000, 64)], lambda m, x: _added(x), lambda t, x: _added(x)),
    "x[i] for 2,000 rows": Row(
        1.5,
        lambda: [_draw(2000, 64)],
        lambda m, x: _added(x[i] for i in range(2000)),
        lambda t, x: _added(x[i] for i in range(2000)),
    ),
    "x[:, t] for 2,000 columns": Row(
        1.5,
        lambda: [_draw(64, 2000)],
        lambda m, x: _added(x[:, t] for t in range(2000)),
        lambda t, x: _added(x[:, i] for i in range(2000)),
    ),
    "a recurrent layer of 500 steps": Row(
        1.5,
        lambda: [_draw(16, 500, 32), _draw(32, 32) / 8, _draw(32, 32) / 8],
        lambda m, *tensors: _recurrent(m.tanh, *tensors),
        lambda t, *tensors: _recurrent(t.tanh, *tensors),
    ),
    "a model with 20,000 words": Row(5.0, lambda: [_draw(32, 64)], _walked, _walked),
    "einsum ij,jk,kl->il, of 300, 300, 300, 2": Row(
        1.5,
        lambda: [_draw(300, 300), _draw(300, 300), _draw(300, 2)],
        lambda m, *tensors: m.einsum("ij,jk,kl->il", *tensors),
        lambda t, *tensors: t.einsum("ij,jk,kl->il", *tensors),
    ),
}


def _work(library: str, row: Row) -> Call:
    """One round of a row, by tinytorch or torch."""
    arrays = row.arrays()
    if library == "torch":
        import torch

        torch.set_num_threads(1)
        module: Any = torch
        tensors = [torch.tensor(a) for a in arrays]
    else:
        import tinytorch

        module = tinytorch
        tensors = [tinytorch.Tensor(a) for a in arrays]
    function = row.theirs if library == "torch" else row.ours
    leaves = [x for x, a in zip(tensors, arrays) if row.backward and a.dtype.kind == "f"]
    for x in leaves:
        x.requires_grad = True
    result = function(module, *tensors)
    if not getattr(result, "requires_grad", False):
        return lambda: function(module, *tensors)
    seed = module.ones_like(result)

    def both() -> None:
        for x in leaves:
            x.grad = None
        function(module, *tensors).backward(seed)

    return both


def serve(library: str) -> None:
    """The loop of a process: reading a name, it prepares the row; reading an empty line, it times the row."""
    call: Call | None = None
    count, clock = 1, time.process_time
    for line in sys.stdin:
        try:
            if line.strip():
                call, count = None, 1
                call = _work(library, ROWS[line.strip()])
                call()
                start = clock()
                call()
                count = max(1, round(0.02 / max(clock() - start, 1e-6)))
                print("ready", flush=True)
            else:
                assert call is not None
                start = clock()
                for _ in range(count):
                    call()
                print((clock() - start) / count * 1e6, flush=True)
        except Exception as error:
            print(f"{type(error).__name__}: {error}".replace("\n", " "), flush=True)


def _started(library: str, tree: Path) -> Any:
    """A process that serves, with the tinytorch of a checkout."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-P", __file__, library]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def _ask(process: Any, line: str) -> str:
    process.stdin.write(line + "\n")
    process.stdin.flush()
    return str(process.stdout.readline()).strip()


def main(rows: str = "", before: str = "", rounds: int = 9) -> None:
    """Measure, and print for each row the medians over the rounds."""
    here = Path(__file__).resolve().parents[1]
    libraries = {"tinytorch": ("tinytorch", here), "PyTorch": ("torch", here)}
    if before:
        libraries["before"] = ("tinytorch", Path(before).resolve())
    print(f"{'microseconds':<40}{'tinytorch':>12}{'PyTorch':>12}{'ratio':>8}{'target':>8}", end="")
    print(f"{'before':>12}{'ratio':>8}" if before else "")
    for name, row in ROWS.items():
        if not name.startswith(tuple(rows.split(","))):
            continue
        running = {title: _started(*how) for title, how in libraries.items()}
        said = {title: _ask(process, name) for title, process in running.items()}
        times: dict[str, list[float]] = {title: [] for title, answer in said.items() if answer == "ready"}
        for _ in range(rounds):
            for title in times:
                times[title].append(float(_ask(running[title], "")))
        for process in running.values():
            process.communicate()
        found = {title: statistics.median(t) for title, t in times.items()}
        both = [found.get(title, float("nan")) for title in ("tinytorch", "PyTorch")]
        line = f"{name:<40}{both[0]:>12,.0f}{both[1]:>12,.0f}"
        line += f"{both[0] / both[1]:>8.2f}{row.target:>8.1f}"
        if "before" in found:
            line += f"{found['before']:>12,.0f}{found['before'] / both[1]:>8.2f}"
        print(line, *(f"\n    {title}: {answer}" for title, answer in said.items() if answer != "ready"), flush=True)


if __name__ == "__main__":
    serve(sys.argv[1])
