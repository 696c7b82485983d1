"""Pooling over windows that are taken apart into rows and columns, beside loops over all places."""

from __future__ import annotations

import numpy as np
import pytest

import tinytorch
from tinytorch import Tensor


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"),
    [((4, 5), (2, 3), (2, 1), (1, 2)), ((8, 8), (1, 1), (3, 3), (1, 1)), ((4, 4), (4, 4), (0, 0), (1, 1))],
)
def test_windows_of_more_than_nine(kernel, stride, padding, dilation, device):
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
