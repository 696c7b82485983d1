"""Ways to compute into given memory with NumPy, bit for bit as `cpu` does: `cpu_program` writes these calls.

A way is given the writer, the line, its arguments and its result as they may be in a run. It writes the line and
returns True, or returns False where that is not how `cpu` computes it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinytorch.backends.cpu_functions import FEW, NARROW, RUN, ones
from tinytorch.backends.device import Array

Writer = Any


def _matmul(w: Writer, line: Any, args: Any, kwargs: Any, result: Array) -> bool:
    a, b = (w.text(x) for x in line.args)
    if args[0].ndim == 2 == args[1].ndim:
        w.body.append(f"{w.part(line.args[0], 'dot')}({b}, {w.target(line, result)})")
    elif args[0].ndim > 1 < args[1].ndim:
        w.body.append(f"{w.name(np.matmul)}({a}, {b}, {w.target(line, result)})")
    else:
        return False
    return True


def _sum(w: Writer, line: Any, args: Any, kwargs: Any, result: Array, count: int = 0) -> bool:
    """One product with ones, if `cpu` computes the sum so."""
    x, axis, keepdims = args[0], kwargs.get("axis"), kwargs.get("keepdims", False)
    v = line.args[0]
    if set(kwargs) - {"axis", "keepdims"} or x.dtype.kind != "f" or not (x.ndim and x.size) or not x.flags.c_contiguous:
        return False
    n = x.shape[-1]
    rows: tuple[int, ...]
    flat: tuple[int, ...]
    if axis is None and x.size <= FEW and not keepdims:
        rows, flat, left = (-1,), (), True
    elif x.ndim > 1 and axis in (-1, x.ndim - 1) and n <= RUN:
        rows, flat, left = (-1, n), (math.prod(x.shape[:-1]),), False
    else:
        k = 1 if axis == 0 else len(axis) if isinstance(axis, tuple) and axis == tuple(range(len(axis))) else 0
        n = math.prod(x.shape[:k])
        if not 0 < k < x.ndim or n > RUN:
            return False
        rows, flat, left = (n, -1), (math.prod(x.shape[k:]),), True
    given = w.part(v, f"reshape({rows})") if rows != x.shape else v.name
    weights = ones(x.size if axis is None else n, x.dtype)
    if not result.ndim:
        text = f"{w.name(weights.dot)}({given})"
        text = f"{w.name(np.true_divide)}({text}, {w.name(np.asarray(count, x.dtype))})" if count else text
        w.body.append(f"{line.out.name} = {w.name(np.asarray)}({text})")
        return True
    target = w.target(line, result, flat)
    w.body.append(f"{w.name(weights.dot)}({given}, {target})" if left else f"{given}.dot({w.name(weights)}, {target})")
    if count:
        divide, by = w.name(np.true_divide), w.name(np.asarray(count, x.dtype))
        w.body.append(f"{divide}({line.out.name}, {by}, {line.out.name})")
    return True


def _mean(w: Writer, line: Any, args: Any, kwargs: Any, result: Array) -> bool:
    return _sum(w, line, args, kwargs, result, args[0].size // max(result.size, 1))


def _max(w: Writer, line: Any, args: Any, kwargs: Any, result: Array) -> bool:
    x, axis, keepdims = args[0], kwargs.get("axis"), kwargs.get("keepdims", False)
    v, last = line.args[0], x.ndim > 1 and axis in (-1, x.ndim - 1)
    if set(kwargs) - {"axis", "keepdims"}:
        return False
    largest = w.name(np.maximum.reduce)
    if not result.ndim:
        return False
    if last and x.shape[-1] <= NARROW:
        if not (x.ndim == 2 or x.flags.c_contiguous):
            return False
        across, _ = w.place(np.empty((x.shape[-1], x.size // x.shape[-1]), x.dtype))
        w.body.append(f"{w.name(across)}[...] = {w.part(v, f'reshape(-1, {x.shape[-1]}).T')}")
        w.body.append(f"{largest}({w.name(across)}, 0, None, {w.target(line, result, (-1,))})")
    else:
        w.body.append(f"{largest}({v.name}, {axis!r}, None, {w.target(line, result)}, {bool(keepdims)})")
    return True


def _where(w: Writer, line: Any, args: Any, kwargs: Any, result: Array) -> bool:
    condition, x1, x2 = args
    if not (type(x2) is float and x2 == 0 and math.copysign(1.0, x2) > 0 and isinstance(x1, np.ndarray)):
        return False
    if condition.size <= FEW or x1.shape != condition.shape or x1.dtype.itemsize not in (4, 8) or x1.dtype.kind != "f":
        return False
    kind = np.dtype(f"i{x1.dtype.itemsize}")
    if line.out in w.outputs or line.out in w.part_of or np.empty_like(condition, kind).strides != result.strides:
        return False
    bits, buffer = w.place(result.view(kind))
    given, name = w.part(line.args[1], f"view({w.name(kind)})"), w.name(bits)
    w.body.append(f"{name}[...] = {w.text(line.args[0])}")
    w.body.append(f"{w.name(np.multiply)}({name}, {given}, {name})")
    w.keep(line.out, bits.view(x1.dtype), buffer)
    return True


def _clip(w: Writer, line: Any, args: Any, kwargs: Any, result: Array) -> bool:
    """`clip` with numbers. For large arrays `maximum` and `minimum` with a number are that, too."""
    given = {"maximum": [*args[1:], math.inf], "minimum": [-math.inf, *args[1:]]}.get(line.call.name, args[1:])
    if len(given) != 2:
        return False
    low, high = given
    if kwargs or type(low) is not float or type(high) is not float or args[0].dtype.kind != "f":
        return False
    method = w.part(line.args[0], "clip")
    w.body.append(f"{method}({w.name(low)}, {w.name(high)}, {w.target(line, result, elementwise=True)})")
    return True


def _concat(w: Writer, line: Any, args: Any, kwargs: Any, result: Array) -> bool:
    if line.out in w.wholes:
        w.begin(line.out)
        for v, offset in w.wholes[line.out]:
            if v not in w.placed:
                start = offset // v.dtype.itemsize
                w.body.append(f"{line.out.name}[{start}:{start + v.size}] = {v.name}.reshape(-1)")
        return True
    parts = ", ".join(w.text(x) for x in line.args[0])
    w.body.append(f"{w.name(np.concatenate)}(({parts},), {kwargs.get('axis', 0)}, {w.target(line, result)})")
    return True


def _astype(w: Writer, line: Any, args: Any, kwargs: Any, result: Array) -> bool:
    w.body.append(f"{w.target(line, result)}[...] = {w.text(line.args[0])}")
    return True


def _reshape(w: Writer, line: Any, args: Any, kwargs: Any, result: Array) -> bool:
    """A reshape that copies."""
    w.body.append(
        f"{w.target(line, np.empty(result.shape, result.dtype), args[0].shape)}[...] = {w.text(line.args[0])}"
    )
    return True


def _windows(w: Writer, line: Any, args: Any, kwargs: Any, result: Array) -> bool:
    """Windows of a padded image whose frame of zeros is made once."""
    x, kernel, stride, (ph, pw), dilation = args
    C, H, W, N = x.shape
    if ph or pw:
        wide, buffer = w.framed(np.zeros((C, H + 2 * ph, W + 2 * pw, N), x.dtype))
    else:
        wide, buffer = w.place(np.empty(x.shape, x.dtype))
    w.body.append(f"{w.name(wide[:, ph : ph + H, pw : pw + W])}[...] = {w.text(line.args[0])}")
    view = line.call.device.windows(wide, kernel, stride, (0, 0), dilation)
    w.keep(line.out, view, buffer)
    return True


WAYS: dict[Any, Any] = {
    ("xp", "matmul"): _matmul,
    ("operator", "matmul"): _matmul,
    ("xp", "sum"): _sum,
    ("xp", "mean"): _mean,
    ("xp", "max"): _max,
    ("xp", "where"): _where,
    ("xp", "clip"): _clip,
    ("xp", "maximum"): _clip,
    ("xp", "minimum"): _clip,
    ("xp", "concat"): _concat,
    ("xp", "astype"): _astype,
    ("xp", "reshape"): _reshape,
    ("device", "windows"): _windows,
}
