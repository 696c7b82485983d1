"""Every row of the table on every other device: the same values, gradients and second-order gradients as on the CPU."""

from __future__ import annotations

import pytest

import tinytorch
from tests.ops.test_cases import every, tensors
from tinytorch import Tensor, backends
from tinytorch.parity.cases import CASES
from tinytorch.testing import assert_close

RTOL = ATOL = 2e-5  # float32, where libraries sum in another order


def results(case, device):
    """The result of a case in float32, its gradients, and the gradients of their sum of squares, on the host."""
    inputs = tensors(case, "float32", device, requires_grad=case.gradient)
    out = case.run(tinytorch.ops, inputs)
    assert out.device is backends.device(device)
    if not case.gradient:
        return [out.numpy()]
    leaves = [x for x in inputs if isinstance(x, Tensor) and x.requires_grad]
    first = tinytorch.grad((out * out).sum(), leaves, create_graph=True, allow_unused=True)
    total = sum((g * g).sum() for g in first if g is not None)
    second = tinytorch.grad(total, leaves, allow_unused=True) if total.requires_grad else []
    assert all(g is None or g.device is out.device for g in (*first, *second))
    return [None if t is None else t.detach().numpy() for t in (out, *first, *second)]


def test_transfer_there_and_back_with_the_gradient(device_pair):
    here, there = device_pair
    x = Tensor([1.0, 2.0], device=here, requires_grad=True)
    y = x.to(there)
    assert y.device is there
    assert (y * y).to(here).detach().tolist() == [1.0, 4.0]
    (y * y).sum().backward()
    assert x.grad.device is here
    assert x.grad.tolist() == [2.0, 4.0]


@every(CASES)
def test_same_as_on_the_cpu(case, library):
    if case.reads_values and library.startswith("strict"):
        pytest.skip("the strict devices have no shapes that depend on values")
    for got, expected in zip(results(case, library), results(case, "cpu"), strict=True):
        if expected is None:
            assert got is None
        else:
            scale = max(1.0, abs(expected).max()) if expected.size and expected.dtype.kind == "f" else 1.0
            assert_close(got, expected, rtol=RTOL, atol=ATOL * scale, equal_nan=True)
