"""Small helpers about axes: normalising them, the shapes they leave, and indexing along one."""

from __future__ import annotations

import math


def axes_of(axis: int | tuple[int, ...] | None, ndim: int) -> tuple[int, ...]:
    """The axes as a tuple of integers in [0, ndim)."""
    if axis is None:
        return tuple(range(ndim))
    given = (axis,) if isinstance(axis, int) else tuple(axis)
    for i in given:
        if not -ndim <= i < ndim:
            raise IndexError(f"axis {i} is outside [{-ndim}, {ndim}) for {ndim} dimensions")
    return tuple(i % ndim for i in given)


def kept(shape: tuple[int, ...], axis: int | tuple[int, ...] | None) -> tuple[int, ...]:
    """The shape with the reduced axes of length one."""
    axes = axes_of(axis, len(shape))
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


def count_of(shape: tuple[int, ...], axis: int | tuple[int, ...] | None) -> int:
    """The number of elements that are reduced to one."""
    return math.prod(shape[i] for i in axes_of(axis, len(shape)))


def inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    """The permutation that undoes one."""
    return tuple(sorted(range(len(order)), key=order.__getitem__))
