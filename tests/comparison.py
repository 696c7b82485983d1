"""Comparing with PyTorch: values, gradients, gradients of gradients. `summary` is printed at the end of the run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

import tinytorch
from tinytorch import Tensor

TOLERANCE = 1e-9  # relative to the largest element; rounding errors of float64 and PyTorch's own approximations
KINDS = ("values", "gradients", "second-order gradients", "parameters after optimizer steps")
ERRORS: dict[str, list[float]] = {kind: [] for kind in KINDS}  # the relative errors found


def summary() -> list[str]:
    """A line for each kind of comparison: the number, and the largest relative error."""
    return [
        f"{len(found)} {kind} compared with PyTorch {sys.modules['torch'].__version__}, "
        f"largest relative error {max(found):.1e}"
        for kind, found in ERRORS.items()
        if found
    ]


def compare(kind: str, ours: Any, theirs: Any, tolerance: float = TOLERANCE) -> None:
    """Assert that a tensor or array of ours equals PyTorch's. None equals a gradient of zeros."""
    ours, theirs = _host(ours), _host(theirs)
    if ours is None or theirs is None:
        values = ours if theirs is None else theirs
        assert values is None or not np.any(values), f"{kind}: one is None, the other {values}"
        return
    assert ours.shape == theirs.shape, f"{kind}: shape {ours.shape}, PyTorch's {theirs.shape}"
    if theirs.dtype.kind != "f":
        assert np.array_equal(ours, theirs), f"{kind}: {ours}, PyTorch's {theirs}"
        return
    assert ours.dtype == theirs.dtype, f"{kind}: dtype {ours.dtype}, PyTorch's {theirs.dtype}"
    difference = np.where(np.equal(ours, theirs) | (np.isnan(ours) & np.isnan(theirs)), 0.0, ours - theirs)
    largest = np.max(
        np.abs(theirs[np.isfinite(theirs)]), initial=1e-3
    )  # smaller numbers have rounding errors of larger ones
    error = float(np.max(np.abs(difference), initial=0.0) / largest)
    ERRORS[kind].append(error)
    assert error <= tolerance, f"{kind}: the largest relative error is {error:.1e}"


def compare_gradients(outputs: list[Any], expected: list[Any], leaves: list[Any], references: list[Any]) -> None:
    """Compare the gradients of our results and PyTorch's, and the gradients of these, along the same directions.

    A leaf of ours may be a list of tensors that are, joined along the first axis, one leaf of PyTorch's.
    """
    import torch

    def joined(grads: Sequence[Any]) -> list[Any]:
        left = iter(grads)
        found = [[next(left) for _ in group] for group in groups]
        return [g[0] if len(g) == 1 else None if any(x is None for x in g) else tinytorch.concat(g) for g in found]

    rng = np.random.Generator(np.random.Philox(1))
    groups = [x if isinstance(x, list) else [x] for x in leaves]
    flat = [x for group in groups for x in group]
    seeds = [rng.standard_normal(out.shape) for out in outputs]
    first = joined(tinytorch.grad(outputs, flat, [Tensor(s) for s in seeds], create_graph=True, allow_unused=True))
    theirs = [torch.as_tensor(s) for s in seeds]
    reference = torch.autograd.grad(expected, references, theirs, create_graph=True, allow_unused=True)
    for g, r in zip(first, reference, strict=True):
        compare("gradients", g, r)
    weights = [rng.standard_normal(tuple(r.shape)) for r in references]
    total = sum((g * Tensor(w)).sum() for g, w in zip(first, weights, strict=True) if g is not None)
    given = zip(reference, weights, strict=True)
    reference_total = sum((g * torch.as_tensor(w)).sum() for g, w in given if g is not None)
    if not reference_total.requires_grad:
        return
    again = tinytorch.grad(total, flat, allow_unused=True) if total.requires_grad else [None] * len(flat)
    second = torch.autograd.grad(reference_total, references, allow_unused=True)
    for g, r in zip(joined(again), second, strict=True):
        assert g is not None or r is None, "second-order gradients: PyTorch's depends on the input, if only as zeros"
        compare("second-order gradients", g, r)


def _host(x: Any) -> Any:
    if isinstance(x, Tensor):
        return x.detach().numpy()
    return x.detach().numpy(force=True) if hasattr(x, "detach") else x
