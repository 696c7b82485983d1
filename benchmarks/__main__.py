"""Measure what the tape costs, and one training step beside its peers: python -m benchmarks

Times are medians over interleaved rounds (A B C A B C ...), so that a busy neighbour slows all alike: trust the ratios.
One thread each; run it with OPENBLAS_NUM_THREADS=1. A peer that is not installed is left out by name.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from itertools import pairwise

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported

import numpy as np

import tinytorch

Step = Callable[[], object]

SIZES, BATCH = (64, 128, 64, 10), 32
LEARNING_RATE, MOMENTUM, BETAS, EPS = 0.01, 0.9, (0.9, 0.999), 1e-8


def microseconds(steps: dict[str, Step], rounds: int = 15, block: float = 0.02) -> dict[str, float]:
    """The median time of a call of each."""
    counts, times = {}, {name: [] for name in steps}  # type: ignore[var-annotated]
    for name, step in steps.items():
        start, n = time.perf_counter(), 0
        while time.perf_counter() < start + 0.1:
            step()
            n += 1
        counts[name] = max(1, int(n * block / 0.1))
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            for _ in range(counts[name]):
                step()
            times[name].append((time.perf_counter() - start) / counts[name] * 1e6)
    return {name: statistics.median(t) for name, t in times.items()}


def adding() -> dict[str, Step]:
    """A taped addition of two 8 x 8 tensors, and NumPy's."""
    a, b = np.ones((8, 8), "float32"), np.ones((8, 8), "float32")
    x, y = (tinytorch.Tensor(v, requires_grad=True) for v in (a, b))
    return {"np.add": lambda: np.add(a, b), "tinytorch, taped": lambda: tinytorch.add(x, y)}


def data() -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray, np.ndarray]:
    """Weights (out, in), biases, a batch and its labels."""
    rng = np.random.Generator(np.random.Philox(0))
    pairs = list(pairwise(SIZES))
    weights = [(rng.uniform(-1, 1, (o, i)) / i**0.5).astype("float32") for i, o in pairs]
    biases = [np.zeros(o, "float32") for _, o in pairs]
    return weights, biases, rng.standard_normal((BATCH, SIZES[0])).astype("float32"), rng.integers(0, SIZES[-1], BATCH)


def by_tinytorch(adam: bool) -> Step:
    """The step as a user writes it."""
    weights, biases, x, y = data()
    linear = [tinytorch.Linear(i, o) for i, o in pairwise(SIZES)]
    model = tinytorch.Sequential(linear[0], tinytorch.ReLU(), linear[1], tinytorch.ReLU(), linear[2])
    for layer, w, b in zip(linear, weights, biases):
        layer.load_state_dict({"weight": w, "bias": b})
    optimizer: tinytorch.optim.Optimizer = (
        tinytorch.Adam(model.parameters(), lr=LEARNING_RATE, betas=BETAS, eps=EPS)
        if adam
        else tinytorch.SGD(model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)
    )
    criterion = tinytorch.CrossEntropyLoss()
    images, labels = tinytorch.Tensor(x), tinytorch.Tensor(y)

    def step() -> tinytorch.Tensor:
        optimizer.zero_grad()
        loss = criterion(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    return step


def by_hand(adam: bool) -> Step:
    """The step in straight-line NumPy: no objects, one flat array of parameters, results written in place."""
    weights, biases, x, y = data()
    shapes = [a.shape for pair in zip(weights, biases) for a in pair]
    ends = np.cumsum([0, *(int(np.prod(s)) for s in shapes)])
    flat = np.concatenate([a.ravel() for pair in zip(weights, biases) for a in pair])
    grad, m, v, t = np.empty_like(flat), np.zeros_like(flat), np.zeros_like(flat), np.empty_like(flat)
    w1, b1, w2, b2, w3, b3 = (flat[i:j].reshape(s) for i, j, s in zip(ends, ends[1:], shapes))
    gw1, gb1, gw2, gb2, gw3, gb3 = (grad[i:j].reshape(s) for i, j, s in zip(ends, ends[1:], shapes))
    rows, ones, count = np.arange(BATCH), np.ones(BATCH, "float32"), [0]
    h1, h2, z = (np.empty((BATCH, n), "float32") for n in SIZES[1:])

    def step() -> float:
        np.maximum(np.add(np.matmul(x, w1.T, out=h1), b1, out=h1), 0, out=h1)
        np.maximum(np.add(np.matmul(h1, w2.T, out=h2), b2, out=h2), 0, out=h2)
        np.add(np.matmul(h2, w3.T, out=z), b3, out=z)
        np.subtract(z, z.max(axis=1, keepdims=True), out=z)
        picked = z[rows, y]
        np.exp(z, out=z)
        total = z.sum(axis=1, keepdims=True)
        loss = float((np.log(total[:, 0]) - picked).mean())
        np.divide(z, total, out=z)
        z[rows, y] -= 1
        np.divide(z, BATCH, out=z)
        np.matmul(z.T, h2, out=gw3)
        ones.dot(z, out=gb3)
        d2 = (z @ w3) * (h2 > 0)
        np.matmul(d2.T, h1, out=gw2)
        ones.dot(d2, out=gb2)
        d1 = (d2 @ w2) * (h1 > 0)
        np.matmul(d1.T, x, out=gw1)
        ones.dot(d1, out=gb1)
        if adam:
            count[0] += 1
            np.multiply(m, BETAS[0], out=m)
            np.add(m, np.multiply(grad, 1 - BETAS[0], out=t), out=m)
            np.multiply(v, BETAS[1], out=v)
            np.add(v, np.multiply(np.multiply(grad, grad, out=t), 1 - BETAS[1], out=t), out=v)
            np.divide(np.sqrt(v, out=t), (1 - BETAS[1] ** count[0]) ** 0.5, out=t)
            np.divide(m, np.add(t, EPS, out=t), out=t)
            np.subtract(flat, np.multiply(t, LEARNING_RATE / (1 - BETAS[0] ** count[0]), out=t), out=flat)
        else:
            np.add(np.multiply(m, MOMENTUM, out=m), grad, out=m)
            np.subtract(flat, np.multiply(m, LEARNING_RATE, out=t), out=flat)
        return loss

    return step


def by_pytorch(adam: bool) -> Step:
    """The step in eager PyTorch, with its fused optimizer."""
    import torch

    torch.set_num_threads(1)
    weights, biases, x, y = data()
    linear = [torch.nn.Linear(i, o) for i, o in pairwise(SIZES)]
    for layer, w, b in zip(linear, weights, biases):
        layer.load_state_dict({"weight": torch.from_numpy(w), "bias": torch.from_numpy(b)})
    model = torch.nn.Sequential(linear[0], torch.nn.ReLU(), linear[1], torch.nn.ReLU(), linear[2])
    optimizer = (
        torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, betas=BETAS, eps=EPS, fused=True)
        if adam
        else torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, fused=True)
    )
    images, labels = torch.from_numpy(x), torch.from_numpy(y)

    def step() -> object:
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    return step


def check(steps: dict[str, Step]) -> None:
    """Raise AssertionError unless the first five losses of all are the same."""
    losses = {name: [_value(step()) for _ in range(5)] for name, step in steps.items()}
    first = next(iter(losses.values()))
    for name, values in losses.items():
        assert np.allclose(values, first, rtol=1e-4), f"{name} computes other losses: {values}, not {first}"


def _value(loss: object) -> float:
    return loss.item() if hasattr(loss, "item") else float(loss)  # type: ignore[arg-type]


def show(title: str, times: dict[str, float]) -> None:
    """A line for each, with the ratio to the first."""
    print(f"\n{title}")
    base = next(iter(times.values()))
    for name, t in times.items():
        print(f"  {name:<28} {t:9.2f} us   {t / base:5.2f} x")


def main() -> None:
    """Measure and print."""
    show("addition of two 8 x 8 tensors", microseconds(adding()))
    for adam in (False, True):
        peers = {"NumPy by hand": by_hand, "tinytorch": by_tinytorch, "PyTorch, eager": by_pytorch}
        steps = {}
        for name, build in peers.items():
            try:
                steps[name] = build(adam)
            except ImportError as error:
                print(f"\n{name} is left out: {error}")
        check(steps)
        show(f"one step of an MLP 64-128-64-10, batch 32, {'Adam' if adam else 'momentum'}", microseconds(steps))


if __name__ == "__main__":
    main()
