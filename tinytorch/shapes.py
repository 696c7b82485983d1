"""Shapes that do not fit, in words: what an op says in place of its array library, once that has refused them.

Each library has its own words and error classes for the same mistake; these are the same on every device. Nothing here
is called where shapes fit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Shape = tuple[int, ...]
Why = str | None  # what is wrong, and how to mend it; None if the shapes are not what is wrong


def of(x: Any) -> Shape:
    """The shape of an array, a tensor or a number."""
    return tuple(getattr(x, "shape", ()))


def broadcast(shapes: Sequence[Shape], but: int = 0) -> Why:
    """Why the shapes, without so many last axes of each, have no common one."""
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


def product(a: Shape, b: Shape) -> Why:
    """Why x1 @ x2 is not there."""
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


def attention(query: Shape, key: Shape, value: Shape | None = None) -> Why:
    """Why softmax(query @ key.mT) @ value is not there."""
    for name, shape in (("query", query), ("key", key), ("value", value)):
        if shape is not None and len(shape) < 2:
            return f"the {name} has at least two axes, not {len(shape)}"
    if query[-1] != key[-1]:
        return f"the query has {query[-1]} features and the key {key[-1]}, which must be the same"
    if value is not None and value[-2] != key[-2]:
        return f"there are {key[-2]} keys and {value[-2]} values, which must be as many"
    return broadcast([x for x in (query, key, value) if x is not None], but=2)


def joined(shapes: Sequence[Shape], axis: int) -> Why:
    """Why arrays cannot be joined along an axis. Raises IndexError if that is not there."""
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


def reshaped(shape: Shape, wanted: Any) -> Why:
    """Why an array of a shape cannot have another one."""
    lengths = tuple(wanted) if isinstance(wanted, tuple | list) else (wanted,)
    size, made = math.prod(shape), math.prod(n for n in lengths if n != -1)
    if lengths.count(-1) > 1:
        return "one length may be -1, for what is left over, but not more"
    if -1 not in lengths:
        fix = "; -1 in place of a length is what is left over"
        return f"{size} elements do not make {lengths}, which has {made}{fix}" if size != made else None
    if made == 0:
        return f"with a length of 0 in {lengths} the one that is -1 may be any; say which"
    return f"{size} elements are not a multiple of the {made} that {lengths} asks for" if size % made else None


def along(shape: Shape, indices: Shape, axis: int) -> Why:
    """Why `take_along_axis` has no result. Raises IndexError if the axis is not there."""
    if len(shape) != len(indices):
        return f"x has {len(shape)} axes and the indices {len(indices)}, which must be as many"
    axis = range(len(shape))[axis]
    return broadcast([(*s[:axis], 1, *s[axis + 1 :]) for s in (shape, indices)])


def assigned(shape: Shape, value: Shape, key: tuple[Any, ...]) -> Why:
    """Why a value cannot be assigned to x[key], of integers and slices."""
    there = np.broadcast_to(np.False_, shape)[key].shape
    why = repeated(value, there)
    return why and f"the value {why}"


_BY_OP: dict[str, Callable[..., Why]] = {
    "matmul": lambda x1, x2: product(of(x1), of(x2)),
    "attention_weights": lambda query, key, mask=None, **_: attention(of(query), of(key)),
    "scaled_dot_product_attention": lambda q, k, v, mask=None, **_: attention(of(q), of(k), of(v)),
    "multi_head_attention": lambda q, k=None, v=None, mask=None, **_: attention(of(k), of(k), of(v)) if of(k) else None,
    "concat": lambda *arrays, axis: joined([of(x) for x in arrays], axis),
    "reshape": lambda x, shape, **_: reshaped(of(x), shape),
    "broadcast_to": lambda x, shape: repeated(of(x), tuple(shape)),
    "take_along_axis": lambda x, indices, axis: along(of(x), of(indices), axis),
    "setitem": lambda x, value, key: assigned(of(x), of(value), key),
}


def misfit(op: Any, inputs: Sequence[Any], meta: dict[str, Any]) -> Why:
    """What is wrong with the shapes that an op of ours was given, if something is."""
    try:
        if op.body.__module__ == "tinytorch.ops.elementwise":
            return broadcast([of(x) for x in inputs])
        if op.body.__module__.startswith("tinytorch.ops.") and op.name in _BY_OP:
            return _BY_OP[op.name](*inputs, **meta) or None
    except (TypeError, IndexError, ValueError):  # something else is wrong: an axis or a key
        pass
    return None
