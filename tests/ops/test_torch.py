"""Every row of the table against PyTorch, in float64: values, gradients, and the gradients of the gradients."""

from __future__ import annotations

import numpy as np
import pytest

import tinytorch
from tests.ops.cases import CASES
from tests.ops.test_cases import every, tensors
from tinytorch import Tensor

torch = pytest.importorskip("torch", reason="PyTorch is not installed: python -m tox -e torch compares with it")

TOLERANCE = 1e-9  # relative to the largest element; rounding errors of float64 and PyTorch's own approximations
ERRORS: dict[str, list[float]] = {"values": [], "gradients": [], "second-order gradients": []}


@pytest.fixture(scope="module", autouse=True)
def _report(request):
    yield
    lines = [
        f"{len(v)} {k} compared with PyTorch {torch.__version__}, largest relative error {max(v, default=0):.1e}"
        for k, v in ERRORS.items()
    ]
    request.config.stash.setdefault(SUMMARY, []).extend(lines)


SUMMARY = pytest.StashKey[list]()


def compare(kind, ours, theirs):
    if ours is None or theirs is None:
        values = ours if theirs is None else theirs.detach().numpy(force=True)
        assert values is None or not np.any(values)
        return
    theirs = theirs.detach().numpy(force=True)
    assert ours.shape == theirs.shape
    if theirs.dtype.kind != "f":
        assert np.array_equal(ours, theirs)
        return
    difference = np.where(np.equal(ours, theirs) | (np.isnan(ours) & np.isnan(theirs)), 0.0, ours - theirs)
    largest = np.max(np.abs(theirs[np.isfinite(theirs)]), initial=1e-3)  # below that, rounding errors of larger numbers
    ERRORS[kind].append(float(np.max(np.abs(difference), initial=0.0) / largest))
    assert ERRORS[kind][-1] <= TOLERANCE


@every([c for c in CASES if c.torch is not None])
def test_same_as_pytorch(case):
    ours = tensors(case, requires_grad=case.gradient)
    theirs = [
        torch.from_numpy(x.detach().numpy().copy()).requires_grad_(x.requires_grad) if isinstance(x, Tensor) else x
        for x in ours
    ]
    out, expected = case.run(tinytorch, ours), case.run_torch(torch, theirs)
    compare("values", out.detach().numpy(), expected)
    if not case.gradient:
        return
    leaves = [x for x in ours if isinstance(x, Tensor) and x.requires_grad]
    references = [x for x in theirs if isinstance(x, torch.Tensor) and x.requires_grad]
    weight = np.random.Generator(np.random.Philox(1)).standard_normal(out.shape)
    mine = tinytorch.grad(out, leaves, Tensor(weight), create_graph=True, allow_unused=True)
    reference = torch.autograd.grad(expected, references, torch.as_tensor(weight), create_graph=True, allow_unused=True)
    for g, r in zip(mine, reference, strict=True):
        compare("gradients", None if g is None else g.detach().numpy(), r)
    weights = [np.random.Generator(np.random.Philox(2)).standard_normal(x.shape) for x in leaves]
    mine_total = sum((g * Tensor(w)).sum() for g, w in zip(mine, weights, strict=True) if g is not None)
    total = sum((g * torch.as_tensor(w)).sum() for g, w in zip(reference, weights, strict=True) if g is not None)
    if not total.requires_grad:
        return
    again = tinytorch.grad(mine_total, leaves, allow_unused=True) if mine_total.requires_grad else [None] * len(leaves)
    for g, r in zip(again, torch.autograd.grad(total, references, allow_unused=True), strict=True):
        compare("second-order gradients", None if g is None else g.numpy(), r)
