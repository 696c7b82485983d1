"""Small helpers about axes: axes that are not negative, the shapes of reductions, and permutations."""

from __future__ import annotations

import math
from typing import Any

from tinytorch.dtypes import whole


def axes_of(axis: int | tuple[int, ...] | None, ndim: int) -> tuple[int, ...]:
    """The axes as a tuple of different integers in [0, ndim).

    Raises:
        IndexError: there is no such axis.
        TypeError: an axis is no integer.
        ValueError: an axis comes twice.
    """
    if type(axis) is int and -ndim <= axis < ndim:
        return (axis % ndim,)
    if axis is None:
        return tuple(range(ndim))
    given = [whole("axis", i) for i in (axis if isinstance(axis, tuple | list) else (axis,))]
    for i in given:
        if not -ndim <= i < ndim:
            raise IndexError(f"axis {i} is outside [{-ndim}, {ndim}) for {ndim} dimensions")
    axes = tuple(i % ndim for i in given)
    if len(set(axes)) != len(axes):
        raise ValueError(f"axis {axis}: an axis comes twice, of {ndim} dimensions")
    return axes


def axis_of(axis: Any, ndim: int) -> int:
    """The one axis as an integer in [0, ndim); raises as `axes_of`, and TypeError for several."""
    if isinstance(axis, tuple | list) or axis is None:
        raise TypeError(f"axis {axis}: takes one axis, an integer")
    return axes_of(axis, ndim)[0]


def checked(axis: Any, ndim: int) -> Any:
    """The axis or axes in the form that was given (None for all), but not negative; raises as `axes_of`."""
    if axis is None:
        return None
    axes = axes_of(axis, ndim)
    return axes if isinstance(axis, tuple | list) else axes[0]


def lengths(name: str, shape: Any) -> tuple[int, ...]:
    """A shape, one length or a sequence of lengths, as a tuple; `name` is the function that was given the shape.

    Raises:
        TypeError: a length is no integer.
        ValueError: a length is negative, or no machine holds so many elements (JAX 0.10 would end the process).
    """
    axes = getattr(shape, "ndim", 0 if hasattr(shape, "__index__") else 1)
    given = shape if axes else (shape,)
    if isinstance(given, str) or not hasattr(given, "__iter__"):
        raise TypeError(f"{name}({shape!r}): a shape is an integer or a tuple of integers")
    found = tuple(n if type(n) is int else whole(name, n) for n in given)
    if any(n < 0 for n in found):
        raise ValueError(f"{name}({shape!r}): an axis has no negative length")
    if math.prod(found) >= 2**60:
        raise ValueError(f"{name}({shape!r}): these are more elements than any memory holds")
    return found


def kept(shape: tuple[int, ...], axis: int | tuple[int, ...] | None) -> tuple[int, ...]:
    """The shape with the reduced axes of length one."""
    axes = axes_of(axis, len(shape))
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


def count_of(shape: tuple[int, ...], axis: int | tuple[int, ...] | None) -> int:
    """The number of elements that are reduced to one."""
    return math.prod(shape[i] for i in axes_of(axis, len(shape)))


def inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    """The permutation that undoes a permutation."""
    return tuple(sorted(range(len(order)), key=order.__getitem__))
