"""Shapes that do not fit, in words: what an op says in place of an array library that has refused the shapes.

Each library has its own words and error class for one mistake; the words here are for every device. An op names its
function of this file as `op(unfit=...)`. Nothing here is called where shapes fit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Shape = tuple[int, ...]
Why = str | None  # what is wrong with the shapes, and the fix; None if nothing is wrong


def of(x: Any) -> Shape:
    """The shape of an array, a tensor or a number."""
    return tuple(getattr(x, "shape", ()))


def broadcast(shapes: Sequence[Shape], but: int = 0) -> Why:
    """Why the shapes do not broadcast to a common one; the last `but` axes of each are left out."""
    for i, b in enumerate(shapes):
        for a in shapes[:i]:
            for axis, (m, n) in enumerate(zip(a[::-1], b[::-1]), start=1):
                if axis > but and m != n and 1 not in (m, n):
                    return (
                        f"{a} and {b} do not broadcast: along axis {-axis} the lengths are {m} and {n}, and neither "
                        "is 1; x[:, None] is x with a new axis of length 1"
                    )
    return None


def repeated(shape: Shape, wanted: Shape) -> Why:
    """Why an array of a shape does not broadcast to another shape."""
    if len(shape) > len(wanted):
        return f"{shape} has more axes than {wanted}; x.reshape(...) makes it an array of fewer"
    for axis, (m, n) in enumerate(zip(shape[::-1], wanted[::-1]), start=1):
        if m not in (1, n):
            return f"{shape} does not broadcast to {wanted}: along axis {-axis} the length is {m}, not {n} or 1"
    return None


def elementwise(*arrays: Any) -> Why:
    """Why arrays of an elementwise op have no common shape."""
    return broadcast([of(x) for x in arrays])


def product(x1: Any, x2: Any) -> Why:
    """Why there is no x1 @ x2."""
    a, b = of(x1), of(x2)
    if not a or not b:
        return f"{'x2' if a else 'x1'} has no axes; write x1 * x2"
    k, other = a[-1], b[-2] if len(b) > 1 else b[0]
    if k == other:
        return broadcast([a, b], but=2)
    turned = ""
    if len(b) > 1 and b[-1] == k:
        turned = "; x2.mT fits"
    elif len(a) > 1 and a[-2] == other:
        turned = "; x1.mT fits"
    axis = -min(len(b), 2)
    return f"axis -1 of x1 has length {k} and axis {axis} of x2 {other}, which must be the same{turned}"


def attention(query: Any, key: Any, value: Any = None, mask: Any = None, **_: Any) -> Why:
    """Why there is no softmax(query @ key.mT) @ value. The mask is not looked at."""
    given = {name: of(x) for name, x in (("query", query), ("key", key), ("value", value)) if x is not None}
    for name, shape in given.items():
        if len(shape) < 2:
            return f"the {name} has at least two axes, not {len(shape)}"
    q, k, v = given["query"], given["key"], given.get("value")
    if q[-1] != k[-1]:
        return f"the query has {q[-1]} features and the key {k[-1]}, which must be the same"
    if v is not None and v[-2] != k[-2]:
        return f"there are {k[-2]} keys and {v[-2]} values, which must be as many"
    return broadcast(list(given.values()), but=2)


def joined(*arrays: Any, axis: int) -> Why:
    """Why arrays cannot be joined along an axis. Raises IndexError if there is no such axis."""
    shapes = [of(x) for x in arrays]
    first = shapes[0]
    axis = range(len(first))[axis]
    for i, shape in enumerate(shapes):
        if len(shape) != len(first):
            return f"arrays[{i}] has {len(shape)} axes and arrays[0] {len(first)}; x[None] is x with one more"
        other = [j for j, (m, n) in enumerate(zip(first, shape)) if m != n and j != axis]
        if other:
            instead = f"; axis={other[0]} joins these two" if len(other) == 1 and first[axis] == shape[axis] else ""
            return (
                f"along axis {other[0]} arrays[0] has length {first[other[0]]} and arrays[{i}] {shape[other[0]]}; all "
                f"axes but axis {axis} must have the same lengths{instead}"
            )
    return None


def widened(x: Any, shape: Sequence[int]) -> Why:
    """Why an array does not broadcast to a shape."""
    return repeated(of(x), tuple(shape))


def reshaped(x: Any, shape: Any, **_: Any) -> Why:
    """Why an array cannot have a shape."""
    lengths = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
    size, made = math.prod(of(x)), math.prod(n for n in lengths if n != -1)
    if lengths.count(-1) > 1:
        return "only one length may be -1, for the elements left over"
    if -1 not in lengths:
        fix = "; -1 in place of a length is what is left over"
        return f"{size} elements do not make {lengths}, which has {made}{fix}" if size != made else None
    if made == 0:
        return f"with a length of 0 in {lengths} the length -1 could be any number; write the number"
    return f"{size} elements are not a multiple of the {made} that {lengths} asks for" if size % made else None


def aligned(x: Any, indices: Any, axis: int) -> Why:
    """Why `take_along_axis` has no result. Raises IndexError if there is no such axis."""
    a, b = of(x), of(indices)
    if len(a) != len(b):
        return f"x has {len(a)} axes and the indices {len(b)}, which must be as many"
    axis = range(len(a))[axis]
    return broadcast([(*s[:axis], 1, *s[axis + 1 :]) for s in (a, b)])


def assigned(x: Any, value: Any, key: tuple[Any, ...]) -> Why:
    """Why a value cannot be assigned to x[key], a key of integers and slices."""
    there = np.broadcast_to(np.False_, of(x))[key].shape
    why = repeated(of(value), there)
    return why and f"the value {why}"


def misfit(op: Any, inputs: Sequence[Any], meta: dict[str, Any]) -> Why:
    """What is wrong with the shapes that an op was given, if something is and the op has the setting `unfit`."""
    if op.unfit is None:
        return None
    try:
        return op.unfit(*inputs, **meta) or None
    except (TypeError, IndexError, ValueError):  # something else is wrong: an axis or a key
        return None
