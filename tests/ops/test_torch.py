"""Every row of the table against PyTorch, in float64: values, gradients, and the gradients of the gradients."""

from __future__ import annotations

import pytest

import tinytorch
from tests.comparison import compare, compare_gradients
from tests.ops.test_cases import every, tensors
from tinytorch import Tensor
from tinytorch.parity.cases import CASES

torch = pytest.importorskip("torch", reason="PyTorch is not installed: python -m tox -e torch compares with it")
pytorch = pytest.importorskip("tests.ops.pytorch")

BACKWARDS = {  # PyTorch has no steps back
    "getitem-backwards": lambda x: x.flip(0)[:, [3, 1]],
    "getitem-backwards-mixed": lambda x: x[[1, 0], None, 2],
    "getitem-backwards-steps": lambda x: x[[3, 1]][:, [4, 1]],
    "getitem-backwards-empty": lambda x: x[:, :0],
}


@every(CASES)
def test_same_as_pytorch(case):
    ours = tensors(case, requires_grad=case.gradient)
    theirs = [
        torch.from_numpy(x.detach().numpy()).requires_grad_(x.requires_grad) if isinstance(x, Tensor) else x
        for x in ours
    ]
    out = case.run(tinytorch.ops, ours)
    expected = BACKWARDS[case.id](*theirs) if case.id in BACKWARDS else case.run(pytorch, theirs)
    compare("values", out, expected)
    if case.gradient:
        leaves = [x for x in ours if isinstance(x, Tensor) and x.requires_grad]
        references = [x for x in theirs if isinstance(x, torch.Tensor) and x.requires_grad]
        compare_gradients([out], [expected], leaves, references)
