"""Pooling and convolution whose settings differ for rows and columns, beside loops over all places."""

from __future__ import annotations

import numpy as np
import pytest

import tinytorch
from tinytorch import Tensor


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"),
    [
        ((4, 5), (2, 3), (2, 1), (1, 2)),
        ((5, 4), (3, 2), (1, 2), (2, 1)),
        ((8, 8), (1, 1), (3, 3), (1, 1)),
        ((4, 4), (4, 4), (0, 0), (1, 1)),
        ((3, 5), (3, 5), (0, 0), (1, 1)),
        ((5, 3), (5, 3), (0, 1), (1, 1)),
        ((4, 4), (4, 4), (0, 0), (1, 2)),
        ((2, 3), (2, 1), (0, 1), (2, 1)),
        ((3, 2), (1, 2), (1, 0), (1, 3)),
        ((1, 3), (1, 2), (0, 0), (1, 1)),
    ],
)
def test_the_largest_under_a_window(kernel, stride, padding, dilation, device):
    rng = np.random.default_rng(0)
    a = rng.integers(0, 4, (2, 3, 12, 11)).astype("float32")  # with equal ones
    wide = np.pad(a, ((0, 0), (0, 0), *((p, p) for p in padding)), constant_values=-np.inf)
    size = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in zip((12, 11), kernel, stride, padding, dilation)
    ]
    y, grad = np.zeros((2, 3, *size), "float32"), np.zeros(wide.shape, "float32")
    seed = rng.integers(1, 9, y.shape).astype("float32")
    for n, c, i, j in np.ndindex(y.shape):
        rows = i * stride[0] + dilation[0] * np.arange(kernel[0])
        columns = j * stride[1] + dilation[1] * np.arange(kernel[1])
        window = wide[n, c][np.ix_(rows, columns)]
        y[n, c, i, j] = window.max()
        first = np.unravel_index(window.argmax(), window.shape)
        grad[n, c, rows[first[0]], columns[first[1]]] += seed[n, c, i, j]
    x = Tensor(a, device=device, requires_grad=True)
    found = tinytorch.max_pool2d(x, kernel, stride, padding, dilation)
    found.backward(Tensor(seed, device=device))
    np.testing.assert_array_equal(found.detach().numpy(), y)
    inner = grad[:, :, padding[0] : padding[0] + 12, padding[1] : padding[1] + 11]
    np.testing.assert_array_equal(x.grad.numpy(), inner)


@pytest.mark.parametrize("count_include_pad", [True, False])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [
        ((2, 3), (2, 1), (0, 1)),
        ((3, 2), (1, 2), (1, 0)),
        ((4, 2), (1, 3), (2, 1)),
        ((2, 4), (3, 1), (1, 2)),
        ((1, 3), (1, 3), (0, 0)),
    ],
)
def test_the_mean_under_a_window(kernel, stride, padding, count_include_pad, device):
    rng = np.random.default_rng(0)
    a = rng.standard_normal((2, 3, 7, 6)).astype("float32")
    wide, inside = (np.pad(t, ((0, 0), (0, 0), *((p, p) for p in padding))) for t in (a, np.ones_like(a)))
    size = [(n + 2 * p - k) // s + 1 for n, k, s, p in zip((7, 6), kernel, stride, padding)]
    y, grad = np.zeros((2, 3, *size), "float32"), np.zeros(wide.shape, "float32")
    seed = rng.standard_normal(y.shape).astype("float32")
    for n, c, i, j in np.ndindex(y.shape):
        at = n, c, slice(i * stride[0], i * stride[0] + kernel[0]), slice(j * stride[1], j * stride[1] + kernel[1])
        count = kernel[0] * kernel[1] if count_include_pad else inside[at].sum()
        y[n, c, i, j] = wide[at].sum() / count
        grad[at] += seed[n, c, i, j] / count
    x = Tensor(a, device=device, requires_grad=True)
    found = tinytorch.avg_pool2d(x, kernel, stride, padding, count_include_pad=count_include_pad)
    found.backward(Tensor(seed, device=device))
    np.testing.assert_allclose(found.detach().numpy(), y, rtol=1e-5, atol=1e-6)
    inner = grad[:, :, padding[0] : padding[0] + 7, padding[1] : padding[1] + 6]
    np.testing.assert_allclose(x.grad.numpy(), inner, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"),
    [
        ((3, 2), (2, 1), (1, 2), (1, 2)),
        ((2, 3), (1, 2), (2, 0), (2, 1)),
        ((1, 2), (3, 2), (0, 1), (1, 3)),
        ((2, 2), (2, 3), (0, 0), (1, 1)),
    ],
)
def test_a_convolution(kernel, stride, padding, dilation, groups, device):
    rng = np.random.default_rng(0)
    x, w, b = (rng.standard_normal(shape).astype("float32") for shape in ((2, 4, 7, 6), (6, 4 // groups, *kernel), 6))
    settings = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    wide = np.pad(x, ((0, 0), (0, 0), *((p, p) for p in padding)))
    size = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in zip((7, 6), kernel, stride, padding, dilation)]
    y, of_wide, of_w = np.zeros((2, 6, *size), "float32"), np.zeros_like(wide), np.zeros_like(w)
    seed = rng.standard_normal(y.shape).astype("float32")
    for n, o, i, j in np.ndindex(y.shape):
        first = o // (6 // groups) * (4 // groups)
        rows = i * stride[0] + dilation[0] * np.arange(kernel[0])
        columns = j * stride[1] + dilation[1] * np.arange(kernel[1])
        at = np.ix_([n], range(first, first + 4 // groups), rows, columns)
        y[n, o, i, j] = (wide[at][0] * w[o]).sum() + b[o]
        of_wide[at] += seed[n, o, i, j] * w[o]
        of_w[o] += seed[n, o, i, j] * wide[at][0]
    inputs = [Tensor(v, device=device, requires_grad=True) for v in (x, w, b)]
    found = tinytorch.conv2d(*inputs, **settings)
    found.backward(Tensor(seed, device=device))
    inner = of_wide[:, :, padding[0] : padding[0] + 7, padding[1] : padding[1] + 6]
    np.testing.assert_allclose(found.detach().numpy(), y, rtol=1e-4, atol=1e-5)
    for t, expected in zip(inputs, (inner, of_w, seed.sum(axis=(0, 2, 3))), strict=True):
        np.testing.assert_allclose(t.grad.numpy(), expected, rtol=1e-4, atol=1e-4)
