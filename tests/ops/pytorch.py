"""tinytorch's functions in PyTorch: the standard's are array-api-compat's, and layers and losses are PyTorch's own.

A function is written here if PyTorch's function of that name has other arguments, or if PyTorch has none.
"""

from __future__ import annotations

import math

import pytest

torch, xp = pytest.importorskip("torch"), pytest.importorskip("array_api_compat.torch")
F = pytest.importorskip("torch.nn.functional")


def __getattr__(name):
    return LINES.get(name) or getattr(F if hasattr(F, name) else xp, name)


def put(x, key, values):
    out = x.clone()
    for i, row in [(key, values)] if isinstance(key, tuple) else zip(key, values, strict=True):  # the last one stays
        out[i] = row
    return out


def add_parts(parts, keys, shape):
    out = torch.zeros(shape, dtype=parts[0].dtype)
    for key, part in zip(keys, parts, strict=True):
        out[key] += part
    return out


def attention_weights(query, key, mask=None, is_causal=False, scale=None):
    scores = query @ key.mT * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    if mask is not None:
        scores = torch.where(mask, scores, -math.inf) if mask.dtype == torch.bool else scores + mask
    return torch.softmax(scores, -1)


def multi_head_attention(query, key=None, value=None, mask=None, *, num_heads, is_causal=False):
    parts = query.chunk(3, -1) if key is None else (query, key, value)
    heads = zip(*(x.chunk(num_heads, -1) for x in parts), strict=True)
    return torch.cat([attention_weights(q, k, mask, is_causal) @ v for q, k, v in heads], -1)


LINES = {
    "subtract": lambda x, y: x - y,  # PyTorch's takes no number for x
    "divide": lambda x, y: x / y,
    "masked_scale": lambda x, mask: x * mask,
    "flat_in": lambda x, *others: x.clone(),
    "softmax": lambda x, axis=-1: torch.softmax(x, axis),
    "log_softmax": lambda x, axis=-1: torch.log_softmax(x, axis),
    "logsumexp": lambda x, axis=(0, 1): torch.logsumexp(x, axis),
    "split": lambda x, size, axis=0: torch.split(x, size, axis),
    "pad": lambda x, pad_width, value: F.pad(x, [n for pair in reversed(pad_width) for n in pair], value=value),
    "transfer": lambda x, source, device: x.clone(),
    "wrapped": lambda x, n: x % n,
    "take": lambda x, i, axis: torch.index_select(x, axis, i % x.shape[axis]),
    "take_along_axis": lambda x, i, axis: torch.gather(x, axis, i % x.shape[axis]),
    "scatter_add": lambda v, i, size: torch.zeros(size, *v.shape[1:], dtype=v.dtype).index_add(0, i, v),
    "layer_norm": lambda x, *wb, ndim=1, eps=1e-5: F.layer_norm(x, x.shape[-ndim:], *wb, eps=eps),
    "embedding": lambda ids, weight: F.embedding(ids, weight),
}
