"""Every row of the table: the values, the gradient, the gradient of the gradient, and the dtype."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinytorch
from tinytorch import Tensor
from tinytorch.autograd import OPS
from tinytorch.parity import references
from tinytorch.parity.cases import CASES, Case
from tinytorch.testing import assert_close, gradcheck, gradgradcheck

NAMES = [c.id for c in CASES]
DIFFERENTIABLE = [c for c in CASES if c.gradient]


def tensors(case: Case, dtype: str = "float64", device: str = "cpu", requires_grad: bool = False) -> list[Any]:
    """The inputs of a case on a device; floating arrays as the dtype."""
    out = []
    for x in case.arrays():
        if isinstance(x, np.ndarray) and x.dtype.kind == "f":
            out.append(Tensor(x, dtype, device, requires_grad))
        else:
            out.append(Tensor(x, None, device) if isinstance(x, np.ndarray | np.generic) else x)
    return out


def every(cases: list[Case]) -> Any:
    return pytest.mark.parametrize("case", cases, ids=lambda c: c.id)


def test_every_op_has_a_case_and_every_name_is_its_own():
    assert sorted(OPS.keys() - {c.op for c in CASES}) == []
    assert len(set(NAMES)) == len(NAMES)


def test_only_what_the_standard_does_not_have_is_defined_in_numpy():
    standard = pytest.importorskip("array_api_strict", reason="array-api-strict is not installed")
    defined = references._LINES.keys() | {name for name in vars(references) if not name.startswith("__")}
    assert sorted(name for name in defined if hasattr(standard, name)) == []
    assert references._LINES.keys() <= {c.op for c in CASES}


@every(CASES)
def test_values(case):
    expected = np.asarray(case.run(references, case.arrays()))
    actual = case.run(tinytorch.ops, tensors(case))
    assert_close(actual, expected, rtol=1e-12, atol=1e-12, equal_nan=True)


@every(DIFFERENTIABLE)
def test_gradient(case):
    assert gradcheck(lambda *x: case.run(tinytorch.ops, list(x)), tensors(case, requires_grad=True))


@every(DIFFERENTIABLE)
def test_second_order(case):
    assert gradgradcheck(lambda *x: case.run(tinytorch.ops, list(x)), tensors(case, requires_grad=True))


@every([c for c in CASES if not c.gradient])
def test_without_gradient(case):
    assert not case.run(tinytorch.ops, tensors(case, requires_grad=True)).requires_grad


@every(CASES)
def test_float32_stays_float32(case):
    inputs = tensors(case, "float32", requires_grad=case.gradient)
    out = case.run(tinytorch.ops, inputs)
    if case.gradient:
        assert out.dtype == tinytorch.float32
        leaves = [x for x in inputs if isinstance(x, Tensor) and x.requires_grad]
        for create_graph in (True, False):
            grads = tinytorch.grad(out.sum(), leaves, create_graph=create_graph, retain_graph=True, allow_unused=True)
            assert {g.dtype for g in grads if g is not None} == {tinytorch.float32}
    exact = case.run(tinytorch.ops, tensors(case))
    assert_close(out.detach(), exact.detach().astype(out.dtype), rtol=2e-5, atol=2e-5, equal_nan=True)
