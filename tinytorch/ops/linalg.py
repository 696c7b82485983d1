"""Products of matrices and tensors."""

from __future__ import annotations

import functools
import math
import string
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinytorch.autograd import op
from tinytorch.backends import Array, Device
from tinytorch.dtypes import whole
from tinytorch.ops.axes import axes_of
from tinytorch.ops.reduce import sum as _sum
from tinytorch.ops.shape import broadcast_to, moveaxis, permute_dims, reshape
from tinytorch.shapes import product
from tinytorch.tape.checks import expect_one_device
from tinytorch.words import OneTensor, worded

__all__ = [
    "einsum",
    "matmul",
    "tensordot",
    "vecdot",
]


@op(kinds="iuf", shapes="(..., N, K) and (..., K, M), or (K,) in place of either", unfit=product)
def matmul(dev: Device, x1: Array, x2: Array, /) -> Any:
    """The matrix product, x1 @ x2: (..., N, K) @ (..., K, M) -> (..., N, M). Leading axes broadcast.

    A one-dimensional x1 is a row, a one-dimensional x2 a column. The result has no axis for a row or a column.

    >>> tinytorch.matmul(Tensor([[1.0, 2.0], [3.0, 4.0]]), Tensor([1.0, 1.0]))
    tensor([3., 7.])
    """
    xp = dev.xp
    if x1.ndim > 1 and x2.ndim > 1:
        # (..., N, M); of x1 (..., N, K), of x2 (..., K, M)
        return xp.matmul(x1, x2), lambda g: xp.matmul(g, x2.mT), lambda g: xp.matmul(x1.mT, g)
    a = x1[None, :] if x1.ndim == 1 else x1  # (..., N, K)
    b = x2[:, None] if x2.ndim == 1 else x2  # (..., K, M)

    def full(g: Array) -> Array:  # -> (..., N, M), with the axes that are not in the result
        g = g[..., None, :] if x1.ndim == 1 and x2.ndim > 1 else g  # (..., 1, M) of a row
        # (..., N, 1) of a column, (1, 1) of a row and a column
        return g[..., None] if x2.ndim == 1 and x1.ndim > 1 else g[None, None] if x1.ndim == 1 == x2.ndim else g

    def of_x2(g: Array) -> Array:  # -> (..., K, M), or (..., K) of a column
        g = xp.matmul(a.mT, full(g))  # (..., K, M)
        return g[..., 0] if x2.ndim == 1 else g  # (..., K) of a column

    return xp.matmul(x1, x2), lambda g: xp.matmul(full(g), b.mT), of_x2  # (..., N), (..., M) or (); of x1 (..., N, K)


@worded
def vecdot(x1: Any, x2: Any, /, *, axis: int = -1) -> OneTensor:
    """The sum of products along the axis, sum(x1 * x2); the other axes broadcast.

    >>> tinytorch.vecdot(Tensor([1.0, 2.0]), Tensor([3.0, 4.0]))
    tensor(11.)
    """
    axis = whole("vecdot", axis)
    if not -min(x1.ndim, x2.ndim) <= axis <= -1 and not (x1.ndim == x2.ndim and 0 <= axis < x1.ndim):
        raise IndexError(f"vecdot: axis {axis} is outside [{-min(x1.ndim, x2.ndim)}, -1]")
    a, b = moveaxis(x1, axis, -1), moveaxis(x2, axis, -1)  # (..., K), (..., K)
    if a.shape[-1] != b.shape[-1]:
        raise ValueError(f"vecdot: lengths {a.shape[-1]} and {b.shape[-1]} along axis {axis} differ")
    products = a * b
    return _sum(products, axis=-1, dtype=products.dtype)  # (...)


@worded
def tensordot(x1: Any, x2: Any, /, *, axes: int | tuple[int | tuple[int, ...], int | tuple[int, ...]] = 2) -> OneTensor:
    """The sum of products over some axes of x1 paired with as many of x2; the other axes follow each other.

    Args:
        axes: n for the last n axes of x1 and the first n axes of x2; or the axes of x1 and the axes of x2.

    >>> tinytorch.tensordot(tinytorch.ones((2, 3)), tinytorch.ones((3, 4)), axes=1).shape
    (2, 4)
    """
    if not isinstance(axes, tuple | list):
        axes = whole("tensordot", axes)
        if not 0 <= axes <= min(x1.ndim, x2.ndim):
            raise ValueError(f"tensordot: {axes} axes of tensors of {x1.ndim} and {x2.ndim} dimensions")
        first, second = tuple(range(x1.ndim - axes, x1.ndim)), tuple(range(axes))
    else:
        if len(axes) != 2:
            raise ValueError(
                f"tensordot: axes are a number, or those of the first and of the second tensor, not {axes}"
            )
        first, second = axes_of(axes[0], x1.ndim), axes_of(axes[1], x2.ndim)
    lengths = [[x.shape[i] for i in over] for x, over in ((x1, first), (x2, second))]
    if lengths[0] != lengths[1]:
        raise ValueError(f"tensordot: paired axes have lengths {lengths[0]} and {lengths[1]}; they must be the same")
    rest1 = [i for i in range(x1.ndim) if i not in first]
    rest2 = [i for i in range(x2.ndim) if i not in second]
    shape = (*(x1.shape[i] for i in rest1), *(x2.shape[i] for i in rest2))
    inner = math.prod(lengths[0])
    a = reshape(permute_dims(x1, (*rest1, *first)), (math.prod(x1.shape[i] for i in rest1), inner))  # (N, K)
    b = reshape(permute_dims(x2, (*second, *rest2)), (inner, math.prod(x2.shape[i] for i in rest2)))  # (K, M)
    return reshape(matmul(a, b), shape)  # (N, M) -> (*rest1, *rest2)


@worded
def einsum(subscripts: str, /, *operands: Any) -> OneTensor:
    """Sums of products, written with a letter for each axis (Einstein's convention); `...` stands for any further axes.

    Letters that stand in an operand but not behind the arrow are summed over. Without an arrow the result has the
    letters that occur once, in alphabetical order. Operands are multiplied two at a time, as matrices. Of three or more
    operands `numpy.einsum_path` finds, from the shapes, the order with the fewest multiplications.

    Raises:
        ValueError: the subscripts do not fit the operands.

    >>> a, b = tinytorch.ones((2, 3)), tinytorch.ones((3, 4))
    >>> tinytorch.einsum("ij,jk->ik", a, b).shape
    (2, 4)
    """
    expect_one_device("einsum", *operands)
    terms, out = _subscripts(subscripts, operands)
    parts = [_traced(x, term) for x, term in zip(operands, terms, strict=True)]
    for chosen in _path(tuple((tuple(x.shape), tuple(letters)) for x, letters in parts), tuple(out)):
        first, *others = [parts[i] for i in chosen]
        parts = [part for i, part in enumerate(parts) if i not in chosen]
        for i, other in enumerate(others):
            later = set(out).union(*(letters for _, letters in (*parts, *others[i + 1 :])))
            first = _pair(*first, *other, later)
        parts.append(first)
    ((result, letters),) = parts
    gone = tuple(i for i, c in enumerate(letters) if c not in out)
    if gone:
        result = _sum(result, axis=gone)  # the axes of out
        letters = [c for c in letters if c in out]
    return permute_dims(result, tuple(letters.index(c) for c in out)) if letters != list(out) else result  # (*out,)


@functools.lru_cache(maxsize=256)
def _path(parts: tuple[tuple[tuple[int, ...], tuple[str, ...]], ...], out: tuple[str, ...]) -> list[tuple[int, ...]]:
    """The positions, as in `numpy.einsum_path`, of the operands (shape, labels) that are multiplied next."""
    labels = dict.fromkeys(c for _, letters in parts for c in letters)
    from_left = [tuple(range(len(parts)))]
    if len(parts) < 3 or len(labels) > len(string.ascii_letters):
        return from_left
    name = dict(zip(labels, string.ascii_letters))
    terms = [[name[c] for c in letters] for letters in (*(letters for _, letters in parts), out)]
    subscripts = ",".join(map("".join, terms[:-1])) + "->" + "".join(terms[-1])
    shapes = [np.broadcast_to(np.float32(0), shape) for shape, _ in parts]  # arrays of these shapes, without memory
    how = "optimal" if len(parts) < 6 else "greedy"  # "optimal" tries every order: a second for eight operands
    try:
        return list(np.einsum_path(subscripts, *shapes, optimize=(how, 2**62))[0][1:])
    except ValueError:  # lengths do not fit: the product will say which
        return from_left


def _subscripts(subscripts: str, operands: Sequence[Any]) -> tuple[list[list[str]], list[str]]:
    """A label for each axis of each operand, and of the result; axes under `...` get labels that are no letters."""
    given, arrow, out = subscripts.replace(" ", "").partition("->")
    terms = given.split(",")
    if len(terms) != len(operands):
        raise ValueError(f"einsum: {subscripts!r} is for {len(terms)} operands, not {len(operands)}")
    labels, dots = [], 0
    for term, x in zip(terms, operands, strict=True):
        head, ellipsis, tail = term.partition("...")
        extra = x.ndim - len(head) - len(tail)
        if (not (head + tail).isalpha() and head + tail) or extra < 0 or (extra and not ellipsis):
            raise ValueError(f"einsum: {term!r} does not fit an operand of {x.ndim} dimensions")
        dots = max(dots, extra)
        labels.append([*head, *(str(-i) for i in range(extra, 0, -1)), *tail])
    every = [c for label in labels for c in label]
    rest = [str(-i) for i in range(dots, 0, -1)]
    if not arrow:
        return labels, [*rest, *sorted(c for c in set(every) if c.isalpha() and every.count(c) == 1)]
    head, ellipsis, tail = out.partition("...")
    result = [*head, *(rest if ellipsis else []), *tail]
    if len(set(result)) != len(result) or not set(result) <= set(every):
        raise ValueError(f"einsum: the result {out!r} must name axes of the operands, each once")
    return labels, result


def _traced(x: Any, letters: list[str]) -> tuple[Any, list[str]]:
    """The operand, with the diagonal in place of axes with one letter."""
    letters = list(letters)
    for c in dict.fromkeys(letters):
        while letters.count(c) > 1:
            i = letters.index(c)
            j = letters.index(c, i + 1)
            n = x.shape[i]
            if x.shape[j] != n:
                raise ValueError(f"einsum: axes {c!r} of one operand have lengths {n} and {x.shape[j]}")
            x = moveaxis(x, (i, j), (0, 1))  # (n, n, ...)
            x = reshape(x, (n * n, *x.shape[2:]))[:: n + 1] if n else reshape(x, (0, *x.shape[2:]))  # (n, ...)
            del letters[j], letters[i]
            letters.insert(0, c)
    return x, letters


def _pair(a: Any, left: list[str], b: Any, right: list[str], later: set[str]) -> tuple[Any, list[str]]:
    """The product of two operands as one batched matrix product, summed over letters that are not needed later."""
    for x, letters, others in ((0, left, right), (1, right, left)):
        gone = tuple(i for i, c in enumerate(letters) if c not in others and c not in later)
        if gone:
            kept = [c for c in letters if c in others or c in later]
            if x == 0:
                a, left = _sum(a, axis=gone), kept  # (*kept,)
            else:
                b, right = _sum(b, axis=gone), kept  # (*kept,)
    size: dict[str, int] = {}
    for x, letters in ((a, left), (b, right)):
        for c, n in zip(letters, x.shape, strict=True):
            if size.setdefault(c, n) != n and 1 not in (size[c], n):
                raise ValueError(f"einsum: axis {c!r} has lengths {size[c]} and {n}")
            size[c] = max(size[c], n) if 0 not in (size[c], n) else 0
    batch = [c for c in left if c in right and c in later]
    inner = [c for c in left if c in right and c not in later]
    rows, columns = [c for c in left if c not in right], [c for c in right if c not in left]

    def matrix(x: Any, letters: list[str], first: list[str], second: list[str]) -> Any:  # (*letters) -> (*batch, N, M)
        order = [*batch, *first, *second]
        x = permute_dims(x, tuple(letters.index(c) for c in order))  # (*batch, *first, *second), some of length 1
        x = broadcast_to(x, tuple(size[c] for c in order))  # (*batch, *first, *second)
        lead = tuple(size[c] for c in batch)
        # (*batch, N, M)
        return reshape(x, (*lead, math.prod(size[c] for c in first), math.prod(size[c] for c in second)))

    y = matmul(matrix(a, left, rows, inner), matrix(b, right, inner, columns))  # (*batch, N, K) @ (*batch, K, M)
    letters = [*batch, *rows, *columns]
    return reshape(y, tuple(size[c] for c in letters)), letters  # (*batch, *rows, *columns)
