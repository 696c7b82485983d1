"""Whole layers as single ops, with gradients derived by hand: linear, layer norm, attention.

One op in place of five or ten saves their bookkeeping and the arrays between them. Work that several gradients have in
common is done once.
"""

from __future__ import annotations

import math
from typing import Any

from tinytorch.autograd import op
from tinytorch.backends import Array, Device
from tinytorch.ops.index import checked_index
from tinytorch.ops.reduce import top_of
from tinytorch.shapes import attention
from tinytorch.tape.checks import expect_tensors
from tinytorch.tape.gradients import once
from tinytorch.words import OneTensor, worded

__all__ = [
    "attention_weights",
    "embedding",
    "layer_norm",
    "linear",
    "multi_head_attention",
    "scaled_dot_product_attention",
]


@op(kinds="f", one_dtype=True, shapes="x (..., in), weight (out, in) and bias (out,) or None")
def linear(dev: Device, x: Array, weight: Array, bias: Array = None, /) -> Any:
    """x @ weight.T + bias: (..., in) -> (..., out).

    Args:
        x: (..., in).
        weight: (out, in), as PyTorch has it.
        bias: (out,), or None.

    >>> tinytorch.linear(Tensor([[1.0, 2.0]]), Tensor([[1.0, 1.0], [0.0, 2.0]]), Tensor([0.5, 0.0]))
    tensor([[3.5, 4. ]])
    """
    xp, shape = dev.xp, x.shape
    if weight.ndim != 2:
        raise ValueError(f"the weight has two dimensions, not {weight.ndim}")
    out, into = weight.shape
    if x.ndim == 0 or shape[-1] != into:
        raise ValueError(f"the last axis of x must be of length {into}")
    if bias is not None and bias.shape != (out,):
        raise ValueError(f"the bias has shape {tuple(bias.shape)}, but the weight gives {out} features")
    rows = x if x.ndim == 2 else xp.reshape(x, (math.prod(shape[:-1]), into))  # (M, in): one product, not one per item
    y = xp.matmul(rows, weight.T)  # (M, out)
    if bias is not None:
        y += bias
    if x.ndim == 2:
        # (M, out); of x (M, in), of weight (out, in), of bias (out,)
        return y, lambda g: xp.matmul(g, weight), lambda g: xp.matmul(g.T, rows), lambda g: xp.sum(g, axis=0)

    def flat(g: Array) -> Array:  # (..., out) -> (M, out)
        return xp.reshape(g, (rows.shape[0], out))

    return (
        xp.reshape(y, (*shape[:-1], out)),  # (..., out)
        lambda g: xp.reshape(xp.matmul(flat(g), weight), shape),  # (..., in)
        lambda g: xp.matmul(flat(g).T, rows),  # (out, in)
        lambda g: xp.sum(flat(g), axis=0),  # (out,)
    )


@op(kinds="f", one_dtype=True, shapes="x (..., *normalized_shape), weight and bias (*normalized_shape,) or None")
def layer_norm(
    dev: Device, x: Array, weight: Array = None, bias: Array = None, /, *, ndim: int = 1, eps: float = 1e-5
) -> Any:
    """(x - mean) / sqrt(var + eps) * weight + bias, mean and variance over the last `ndim` axes.

    Source: Ba, Kiros and Hinton (2016), "Layer Normalization". The variance is the biased one, divided by n.

    >>> tinytorch.layer_norm(Tensor([[1.0, 2.0, 3.0]]), eps=0.0)
    tensor([[-1.2247,  0.    ,  1.2247]])
    """
    xp, before = dev.xp, x.shape
    if not 0 < ndim <= x.ndim:
        raise ValueError(f"ndim is between 1 and the {x.ndim} dimensions of x, not {ndim}")
    shape = x.shape[x.ndim - ndim :]
    if any(p is not None and p.shape != shape for p in (weight, bias)):
        raise ValueError(f"weight and bias must have the shape {tuple(shape)} of the last {ndim} axes of x")
    n = math.prod(shape)
    size = (math.prod(x.shape[: x.ndim - ndim]), n)
    w, b = (None if p is None else xp.reshape(p, (n,)) for p in (weight, bias))  # (n,) each, n = prod(normalized_shape)
    y, h, r = dev.normalized(xp.reshape(x, size), w, b, eps)  # (M, n), (M, n), (M, 1)
    flat = once(lambda g: xp.reshape(g, size))  # (M, n)
    along = once(lambda g: flat(g) * h)  # (M, n)
    return (
        xp.reshape(y, before),  # (..., *normalized_shape)
        lambda g: xp.reshape(dev.normalized_rule(flat(g), along(g), h, r, w), before),  # (..., *normalized_shape)
        lambda g: xp.reshape(xp.sum(along(g), axis=0), shape),  # (*normalized_shape,)
        lambda g: xp.reshape(xp.sum(flat(g), axis=0), shape),  # (*normalized_shape,)
    )


@op(kinds="f", free=(1,))
def _embedding(dev: Device, weight: Array, ids: Array, /) -> Any:
    xp, n = dev.xp, weight.shape[0]
    flat = xp.reshape(ids, (-1,))  # (M,)
    rows = xp.take(weight, flat, axis=0)  # (M, D)
    shape = rows.shape
    return (
        xp.reshape(rows, (*ids.shape, weight.shape[1])),  # (..., D)
        lambda g: dev.scatter_add(xp.reshape(g, shape), flat, n),  # (N, D)
        None,
    )


@worded
def embedding(ids: Any, weight: Any, /) -> OneTensor:
    """The row of the weight for each index: (...) integers -> (..., D).

    Args:
        ids: integers in [0, N), of any shape.
        weight: (N, D).

    Raises:
        TypeError: the indices are not integers.
        IndexError: an index is outside [0, N) (on a GPU, when values are next read).

    >>> tinytorch.embedding(Tensor([1, 1]), Tensor([[0.0, 0.0], [1.0, 2.0]]))
    tensor([[1., 2.],
            [1., 2.]])
    """
    expect_tensors("embedding", weight)
    if weight.ndim != 2:
        raise ValueError(f"embedding: the weight has shape (N, D), not {weight.shape}")
    return _embedding(weight, checked_index(ids, weight.shape[0], "embedding"))


def _attend(dev: Any, query: Array, key: Array, mask: Array | None, is_causal: bool, scale: float | None) -> Any:
    """The attention weights, and the rules of query, key and mask from the gradient of the weights."""
    xp = dev.xp
    if mask is not None and mask.dtype != xp.bool and mask.dtype != query.dtype:
        raise TypeError(
            f"the mask is boolean or {dev.dtype_of(query).name} as the query, not {dev.dtype_of(mask).name}; convert "
            "with .astype(...)"
        )
    if query.ndim < 2 or key.ndim < 2:
        raise ValueError("query and key have at least two dimensions")
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = xp.matmul(query, key.mT)  # (..., T, S)
    scores *= factor
    zero = xp.zeros((), dtype=scores.dtype, device=dev.native)  # added where attention is allowed; elsewhere -inf is
    if is_causal:
        T, S = scores.shape[-2:]
        integer = dev.dtype(dev.default_int)
        t = xp.arange(T, dtype=integer, device=dev.native)
        s = xp.arange(S, dtype=integer, device=dev.native)
        scores += xp.where(s[None, :] <= t[:, None], zero, -math.inf)  # (..., T, S) + (T, S)
    if mask is not None:
        if any(m != n and 1 not in (m, n) for m, n in zip(mask.shape[::-1], scores.shape[::-1])):
            raise ValueError(f"a mask of shape {tuple(mask.shape)} does not broadcast with {tuple(scores.shape)}")
        scores = scores + (xp.where(mask, zero, -math.inf) if mask.dtype == xp.bool else mask)
    top = top_of(dev, scores, -1)  # (..., T, 1)
    if mask is not None:
        top = xp.where(top == -math.inf, 0.0, top)
    scores -= top
    p = xp.exp(scores)
    total = xp.sum(p, axis=-1, keepdims=True)  # (..., T, 1)
    if mask is not None:
        total = xp.where(total == 0, 1.0, total)  # a query that may attend to nothing gets zeros
    p /= total

    def of_scores(g: Array) -> Array:  # (..., T, S) -> the same
        t = g * p
        t -= p * xp.sum(t, axis=-1, keepdims=True)  # (..., T, S), the sum (..., T, 1)
        return t

    ds = once(of_scores)
    learned = mask is not None and mask.dtype != xp.bool
    return (
        p,  # (..., T, S)
        lambda g: xp.matmul(ds(g), key) * factor,  # (..., T, D)
        lambda g: xp.matmul(ds(g).mT, query) * factor,  # (..., S, D)
        ds if learned else None,  # (..., T, S)
    )


@op(
    kinds="f",
    one_dtype=True,
    free=(2,),
    shapes="query (..., T, D), key (..., S, D) and mask (..., T, S) or None",
    unfit=lambda query, key, mask=None, **_: attention(query, key),
)
def attention_weights(
    dev: Device,
    query: Array,
    key: Array,
    mask: Array = None,
    /,
    *,
    is_causal: bool = False,
    scale: float | None = None,
) -> Any:
    """softmax(query @ key.mT * scale + mask), (..., T, S): the weights in `scaled_dot_product_attention`.

    >>> tinytorch.attention_weights(Tensor([[1.0], [1.0]]), Tensor([[0.0], [0.0]]), is_causal=True)
    tensor([[1. , 0. ],
            [0.5, 0.5]])
    """
    return _attend(dev, query, key, mask, is_causal, scale)


@op(
    kinds="f",
    one_dtype=True,
    free=(3,),
    shapes="query (..., T, D), key (..., S, D), value (..., S, E), mask (..., T, S) or None",
    unfit=attention,
)
def scaled_dot_product_attention(
    dev: Device,
    query: Array,
    key: Array,
    value: Array,
    mask: Array = None,
    /,
    *,
    is_causal: bool = False,
    scale: float | None = None,
) -> Any:
    """softmax(query @ key.mT * scale + mask) @ value. Source: Vaswani et al. (2017), section 3.2.1.

    Args:
        query: (..., T, D).
        key: (..., S, D).
        value: (..., S, E).
        mask: broadcasts with (..., T, S); booleans are True where a query may attend, numbers are added to the scores.
        is_causal: position t attends to positions up to t only.
        scale: 1 / sqrt(D) unless given.

    A query that may attend to nothing gets zeros.

    >>> q = k = v = Tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> tinytorch.scaled_dot_product_attention(q, k, v, is_causal=True)
    tensor([[1.    , 0.    ],
            [0.3302, 0.6698]])
    """
    return _mix(dev, query, key, value, mask, is_causal, scale)


def _mix(
    dev: Any, query: Array, key: Array, value: Array, mask: Array | None, is_causal: bool, scale: float | None
) -> Any:
    """The result of attention, and the rules of query, key, value and mask."""
    xp = dev.xp
    p, of_query, of_key, of_mask = _attend(dev, query, key, mask, is_causal, scale)
    gp = once(lambda g: xp.matmul(g, value.mT))  # (..., T, S), the gradient of the weights
    return (
        xp.matmul(p, value),  # (..., T, E)
        lambda g: of_query(gp(g)),  # (..., T, D)
        lambda g: of_key(gp(g)),  # (..., S, D)
        lambda g: xp.matmul(p.mT, g),  # (..., S, E)
        None if of_mask is None else lambda g: of_mask(gp(g)),  # (..., T, S)
    )


@op(
    kinds="f",
    one_dtype=True,
    free=(3,),
    shapes="query (N, T, E), key (N, S, E), value (N, S, E), or all in (N, T, 3 E), and mask (..., T, S) or None",
    unfit=lambda query, key=None, value=None, mask=None, **_: None if key is None else attention(key, key, value),
)
def multi_head_attention(
    dev: Device,
    query: Array,
    key: Array = None,
    value: Array = None,
    mask: Array = None,
    /,
    *,
    num_heads: int,
    is_causal: bool = False,
    scale: float | None = None,
) -> Any:
    """`scaled_dot_product_attention` in each of `num_heads` parts of the features; the results are joined, (N, T, E).

    Args:
        query: (N, T, E), E a multiple of `num_heads`; or (N, T, 3 E): query, key and value one after another.
        key: (N, S, E); None with (N, T, 3 E).
        value: (N, S, E); None with (N, T, 3 E).
        mask: broadcasts with (N, num_heads, T, S): (N, 1, T, S) for each sequence, (1, num_heads, T, S) for each head.
        is_causal, scale: as in `scaled_dot_product_attention`, with D = E / num_heads.

    >>> tinytorch.multi_head_attention(tinytorch.ones((1, 5, 12)), num_heads=2).shape
    (1, 5, 4)
    """
    xp, packed = dev.xp, key is None
    if query.ndim != 3 or (key is None) != (value is None):
        raise ValueError("query, key and value have three dimensions, or the query alone holds all three")
    N, E = query.shape[0], query.shape[2] // 3 if packed else query.shape[2]
    if num_heads < 1 or E % num_heads or (packed and query.shape[2] != 3 * E):
        raise ValueError(f"{query.shape[2]} features are not {3 if packed else 1} x {num_heads} heads of one length")
    if not packed and any(x.ndim != 3 or (x.shape[0], x.shape[2]) != (N, E) for x in (key, value)):
        raise ValueError(f"key and value have the {N} sequences and {E} features of the query")

    if mask is not None and mask.ndim == 3 and mask.shape[0] != 1:
        raise ValueError(
            f"a mask {tuple(mask.shape)} is for each sequence or for each head: write mask[:, None] or mask[None]"
        )

    def split(x: Array) -> Array:  # (N, T, E) -> (N, heads, T, D)
        return xp.permute_dims(xp.reshape(x, (N, x.shape[1], num_heads, E // num_heads)), (0, 2, 1, 3))

    def join(x: Array) -> Array:  # (N, heads, T, D) -> (N, T, E)
        return xp.reshape(xp.permute_dims(x, (0, 2, 1, 3)), (N, x.shape[2], E))

    q, k, v = [query[..., i * E : (i + 1) * E] for i in range(3)] if packed else (query, key, value)  # (N, T or S, E)
    y, *of_parts, of_mask = _mix(dev, split(q), split(k), split(v), mask, is_causal, scale)  # y (N, heads, T, D)
    part = once(split)  # (N, heads, T, D), the gradient of the result for each head
    rules: tuple[Any, ...]
    if packed:
        rules = lambda g: xp.concat([join(rule(part(g))) for rule in of_parts], axis=-1), None, None  # (N, T, 3 E)
    else:
        rules = tuple([lambda g, rule=rule: join(rule(part(g))) for rule in of_parts])  # (N, T or S, E) each
    return join(y), *rules, None if of_mask is None else lambda g: of_mask(part(g))  # (N, T, E), mask (N, heads, T, S)
