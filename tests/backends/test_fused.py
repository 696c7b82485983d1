"""`Device.fused`: every function that goes through it, by the default and by each device's own way, on equal data."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

import tinytorch
from tinytorch.autograd import run_on
from tinytorch.backends import Device, cpu_functions
from tinytorch.backends.tracing import Kernel
from tinytorch.ops import elementwise
from tinytorch.optim import adam, optimizer, sgd
from tinytorch.testing import assert_close

ROOT = Path(__file__).parents[2]

STEP = {"lr": 0.1, "momentum": 0.9}
FUSED = {  # function: how many arrays it takes, and its numbers
    elementwise._erf_rule: (2, {}),
    elementwise._tanh_rule: (2, {}),
    elementwise._relu_rule: (2, {}),
    elementwise._masked_scale: (2, {}),
    elementwise._sigmoid: (1, {"highest": 88.0}),
    elementwise._sigmoid_rule: (2, {}),
    elementwise._gelu: (1, {}),
    elementwise._gelu_rule: (3, {}),
    elementwise._gelu_tanh: (1, {}),
    elementwise._gelu_tanh_rule: (3, {}),
    optimizer.decayed: (2, {"decay": 0.1}),
    sgd._plain: (2, {"lr": 0.1}),
    sgd._heavy: (3, STEP),
    sgd._dampened: (3, {**STEP, "share": 0.5}),
    sgd._nesterov: (3, STEP),
    adam._adam: (4, {"b1": 0.9, "b2": 0.99, "eps": 1e-6, "rate": 0.1}),
    adam._shrunk: (1, {"by": 0.1}),
}
every = pytest.mark.parametrize("function", FUSED, ids=lambda f: f.__name__)


def test_every_function_that_is_fused_is_here():
    found = set()
    for path in (ROOT / "tinytorch").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "fused":
                found.add(node.args[0].id)
    assert found == {f.__name__ for f in FUSED}


@every
def test_every_function_that_is_fused_can_be_written_out_as_one_kernel(function):
    arrays, numbers = FUSED[function]
    assert Kernel(function, arrays, tuple(numbers), np.dtype("float32")).outputs >= 1


@pytest.fixture
def _small_blocks(monkeypatch):
    """The CPU works on ten numbers at a time, whatever the function."""
    monkeypatch.setattr(cpu_functions, "BLOCK", 10)
    monkeypatch.setattr(cpu_functions, "MANY", 11)
    monkeypatch.setattr(cpu_functions, "_PASSES", 0)
    cpu_functions.in_blocks.cache_clear()
    yield
    cpu_functions.in_blocks.cache_clear()


def evaluated(dev, function, arrays, numbers, out=None):
    result = run_on(dev, lambda: dev.fused(function, out)(dev, *arrays, **numbers))
    return result if isinstance(result, tuple) else (result,)


def drawn(count, shape, seed=0):
    return list(np.random.default_rng(seed).uniform(0.1, 2.0, (count, *shape)).astype("float32"))


@pytest.mark.usefixtures("_small_blocks")
@every
@pytest.mark.parametrize("shape", [(), (0, 3), (3,), (23,), (4, 5, 6)], ids=str)
def test_the_default_and_the_device_agree(function, shape, device):
    dev = tinytorch.device(device)
    count, numbers = FUSED[function]
    arrays = [dev.from_numpy(a) for a in drawn(count, shape)]
    expected = run_on(dev, lambda: Device.fused(dev, function)(dev, *arrays, **numbers))
    expected = expected if isinstance(expected, tuple) else (expected,)
    found = evaluated(dev, function, arrays, numbers)
    assert len(found) == len(expected)
    for a, b in zip(found, expected):
        assert dev.dtype_of(a) == "float32"
        assert_close(dev.to_numpy(dev.asarray(a)), dev.to_numpy(dev.asarray(b)), rtol=1e-5, atol=1e-7)
    for a, b in zip(arrays, drawn(count, shape)):
        assert_close(dev.to_numpy(a), b, rtol=0, atol=0)  # it is pure


@pytest.mark.usefixtures("_small_blocks")
@every
def test_results_may_be_written_where_the_arrays_are(function, device):
    dev = tinytorch.device(device)
    count, numbers = FUSED[function]
    arrays = [dev.from_numpy(a) for a in drawn(count, (57,))]
    expected = [dev.to_numpy(dev.asarray(a)) for a in evaluated(dev, function, arrays, numbers)]
    places = (*arrays, dev.from_numpy(np.ones(57, "float32")))[: len(expected)]
    found = evaluated(dev, function, arrays, numbers, places)
    for a, b in zip(found, expected, strict=True):
        assert_close(dev.to_numpy(dev.asarray(a)), b, rtol=0, atol=0)


@pytest.mark.usefixtures("_small_blocks")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_layouts_of_blocks(dtype):
    dev = tinytorch.device("cpu")
    base = np.random.default_rng(0).uniform(0.1, 2.0, (6, 7, 8)).astype(dtype)
    other = np.ones((8, 6, 7), dtype) * 3
    for x in (base, base.transpose(2, 0, 1), base[::-1, ::2], np.broadcast_to(base[:, :1], base.shape), base[:, :, 3]):
        for g in (np.broadcast_to(np.asarray(2.0, dtype), x.shape), other.reshape(-1)[: x.size].reshape(x.shape)):
            found = dev.fused(elementwise._tanh_rule)(dev, g, x)
            assert_close(found, (1 - x * x) * g, rtol=1e-6, atol=1e-6)
            assert found.dtype == dtype
    turned = base.transpose(2, 0, 1)
    assert dev.fused(elementwise._sigmoid)(dev, turned, highest=88.0).strides == turned.strides


@pytest.mark.parametrize("size", [50_000, 4_000_000])
def test_only_large_arrays_are_evaluated_in_blocks(size):
    dev, sizes = tinytorch.device("cpu"), []

    def seen(dev, x):
        sizes.append(x.size)
        y = x * 2.0
        for _ in range(9):
            y += 1.0
        return y

    x = np.arange(size, dtype="float32")
    assert np.array_equal(dev.fused(seen)(dev, x), x * 2.0 + 9.0)
    assert sizes == [size] if size < 10**6 else max(sizes) < 10**5
    assert (dev.fused(seen)(dev, x) == dev.fused(seen)(dev, x)).all()


def test_a_function_of_few_passes_is_evaluated_whole():
    dev, sizes = tinytorch.device("cpu"), []

    def seen(dev, x):
        sizes.append(x.size)
        return x + 1.0

    dev.fused(seen)(dev, np.zeros(5_000_000, "float32"))
    assert sizes[-1] == 5_000_000


def test_what_goes_through_has_second_derivatives(device):
    x = tinytorch.tensor([-1.5, 0.3, 2.0], device=device, requires_grad=True)
    for function in (tinytorch.gelu, tinytorch.sigmoid, tinytorch.tanh, tinytorch.erf):
        (g,) = tinytorch.grad(function(x).sum(), x, create_graph=True)
        (h,) = tinytorch.grad(g.sum(), x)
        step = 1e-2
        ahead, behind = (tinytorch.grad(function(x + s).sum(), x)[0] for s in (step, -step))
        assert_close(h.numpy(), ((ahead - behind) / (2 * step)).numpy(), rtol=1e-2, atol=1e-3)


def test_erf_ends_at_one():
    dev = tinytorch.device("cpu")
    x = np.array([4.0, 5.0, 1e30, np.inf, -4.0, -np.inf, np.nan], "float32")
    for function in (Device.erf.__get__(dev), dev.erf):
        assert np.array_equal(function(x), np.array([1, 1, 1, 1, -1, -1, np.nan], "float32"), equal_nan=True)
