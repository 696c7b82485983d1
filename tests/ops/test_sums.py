"""Sums of many numbers: as accurate as NumPy's pairwise sum along memory, on every axis, in every layout."""

from __future__ import annotations

import numpy as np
import pytest

import tinytorch
from tinytorch import Tensor
from tinytorch.backends import cpu_functions


def assert_close(found, expected, rtol, atol):
    np.testing.assert_allclose(np.asarray(found, "float64"), np.asarray(expected, "float64"), rtol=rtol, atol=atol)


SHAPES = {
    "rows": ((50_000, 2), (0,)),
    "columns": ((2, 50_000), (1,)),
    "the first two": ((400, 500, 2), (0, 1)),
    "the middle": ((2, 30_011, 2), (1,)),
    "outer": ((3000, 3, 40), (0, 2)),
    "all": ((100_000, 3), (0, 1)),
    "a long prime": ((3, 50_021), (1,)),
}
LAYOUTS = {
    "as made": lambda a: a,
    "turned": lambda a: np.ascontiguousarray(a.T).T,
    "with gaps": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
}


def numbers(shape, kind):
    rng = np.random.default_rng(0)
    return (rng.uniform(250, 320, shape) if kind == "uniform" else np.full(shape, 0.1)).astype("float32")


@pytest.mark.parametrize("kind", ["uniform", "equal"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", SHAPES)
def test_every_axis_and_layout(case, layout, kind, device):
    shape, axes = SHAPES[case]
    a = LAYOUTS[layout](numbers(shape, kind))
    x, exact = Tensor(a, device=device), a.astype("float64")
    for keepdims in (False, True):
        for function in (tinytorch.sum, tinytorch.mean):
            found = function(x, axis=axes if len(axes) > 1 else axes[0], keepdims=keepdims)
            assert_close(
                found.numpy(), getattr(exact, function.__name__)(axis=axes, keepdims=keepdims), rtol=1e-6, atol=0
            )
    if kind == "uniform":
        assert_close(tinytorch.std(x, axis=axes).numpy(), exact.std(axis=axes), rtol=2e-6, atol=0)


@pytest.mark.parametrize(("shape", "axis"), [((100_000,), 0), ((100_000, 2), 0), ((2, 100_000), 1)])
def test_cumulative_sums(shape, axis, device):
    a = numbers(shape, "equal")
    for include in (False, True):
        found = tinytorch.cumulative_sum(Tensor(a, device=device), axis=axis, include_initial=include).numpy()
        assert found.dtype == "float32"
        expected = np.cumulative_sum(a.astype("float64"), axis=axis, include_initial=include)
        assert_close(found, expected, rtol=2e-6, atol=0)
    assert tinytorch.cumulative_sum(Tensor([True, True], device=device).astype(tinytorch.int64)).tolist() == [1, 2]


def test_gradients_that_were_broadcast(device):
    a = numbers((2000, 200), "equal")
    for shape, axes in (((200,), (0,)), ((2000, 1), (1,)), ((1, 1), (0, 1))):
        w = Tensor(np.ones(shape, "float32"), device=device, requires_grad=True)
        (w * Tensor(a, device=device)).backward(tinytorch.ones((2000, 200), device=device))
        expected = a.astype("float64").sum(axis=axes).reshape(shape)
        assert_close(w.grad.numpy(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("rows", [4000, 20_000])
def test_many_rows_of_one_index(rows, columns, device):
    values = numbers((rows, columns), "equal")
    w = Tensor(np.ones((300, columns), "float32"), device=device, requires_grad=True)
    tinytorch.embedding(tinytorch.zeros(rows, dtype=tinytorch.int64, device=device), w).backward(
        Tensor(values, device=device)
    )
    assert_close(w.grad.numpy()[0], values.astype("float64").sum(axis=0), rtol=1e-6, atol=0)
    assert not w.grad.numpy()[1:].any()


@pytest.mark.parametrize("shape", [(), (50,), (2, 3)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool"])
def test_rows_of_any_index(shape, dtype, device):
    rng = np.random.default_rng(0)
    dev = tinytorch.device(device)
    if dtype not in tinytorch.__array_namespace_info__().dtypes(device=dev) or (dtype == "bool" and device != "cpu"):
        pytest.skip("not here")
    indices, values = rng.integers(0, 300, 3000), rng.integers(0, 2, (3000, *shape)).astype(dtype)
    expected = np.zeros((301, *shape), dtype)
    np.add.at(expected, indices, values)
    with dev.activated():
        found = dev.to_numpy(dev.scatter_add(dev.from_numpy(values), dev.from_numpy(indices), 301))
    assert found.dtype == dtype
    assert_close(found, expected, rtol=0, atol=0)


def test_the_cache_of_ones_stays_small(monkeypatch):
    made = []
    monkeypatch.setattr(cpu_functions, "ones", lambda n, dtype: made.append(n) or np.ones(n, dtype))
    for shape in [(100_000, 3), (3, 99_991), (1_000_000,), (2, 70_001, 2)]:
        for axis in (0, -1, None):
            tinytorch.sum(tinytorch.ones(shape), axis=axis, keepdims=True)
            tinytorch.sum(tinytorch.ones(shape), axis=axis)
    assert max(made) <= 512
