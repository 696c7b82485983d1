"""Helpers of all chapters."""

from __future__ import annotations

from tinytorch import Tensor


def accuracy(predicted: Tensor, target: Tensor) -> Tensor:
    """The fraction of elements that are equal."""
    return (predicted == target).sum() / predicted.size
