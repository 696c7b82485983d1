"""tinytorch's functions in NumPy: the expected values of the table of cases.

Functions of the standard are array-api-compat's. All other functions are defined here, as in a textbook, without care
for speed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import array_api_compat.numpy
import numpy as np

erf = np.vectorize(math.erf)


def __getattr__(name: str) -> Any:
    return _LINES.get(name) or getattr(array_api_compat.numpy, name)


def gelu(x: Any, approximate: str = "none") -> Any:
    if approximate == "tanh":
        return x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))) / 2
    return x * (1 + erf(x / 2**0.5)) / 2


def softmax(x: Any, axis: int = -1) -> Any:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def split(x: Any, size: int | Sequence[int], axis: int = 0) -> Any:
    return np.split(x, range(size, x.shape[axis], size) if isinstance(size, int) else np.cumsum(size)[:-1], axis)


def put(x: Any, key: Any, values: Any) -> Any:
    x = x.copy()
    x[key] = values
    return x


def add_parts(parts: Any, keys: Any, shape: tuple[int, ...]) -> Any:
    out = np.zeros(shape)
    for key, part in zip(keys, parts, strict=True):
        out[key] += part
    return out


def _patches(x: Any, kernel: Any, stride: Any, padding: Any, dilation: Any = 1, fill: float = 0.0) -> Any:
    """The windows of images, (N, C, OH, OW, KH, KW)."""
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = (
        (v, v) if isinstance(v, int) else v for v in (kernel, stride, padding, dilation)
    )
    x = np.pad(x, [(0, 0), (0, 0), (ph, ph), (pw, pw)], constant_values=fill)
    h, w = dh * (kh - 1) + 1, dw * (kw - 1) + 1
    rows, columns = range(0, x.shape[2] - h + 1, sh), range(0, x.shape[3] - w + 1, sw)
    return np.stack([np.stack([x[:, :, i : i + h : dh, j : j + w : dw] for j in columns], 2) for i in rows], 2)


def conv2d(
    x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Any:
    patches = _patches(x, weight.shape[2:], stride, padding, dilation)
    pairs = zip(np.split(patches, groups, 1), np.split(weight, groups), strict=True)
    y = np.concatenate([np.einsum("nchwij,ocij->nohw", p, w) for p, w in pairs], 1)
    return y if bias is None else y + bias[:, None, None]


def max_pool2d(x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1) -> Any:
    stride = kernel_size if stride is None else stride
    return _patches(x, kernel_size, stride, padding, dilation, -np.inf).max((4, 5))


def avg_pool2d(x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, count_include_pad: bool = True) -> Any:
    stride, fill = kernel_size if stride is None else stride, 0.0 if count_include_pad else np.nan
    return np.nanmean(_patches(x, kernel_size, stride, padding, fill=fill), (4, 5))


def layer_norm(x: Any, weight: Any = 1.0, bias: Any = 0.0, ndim: int = 1, eps: float = 1e-5) -> Any:
    axes = tuple(range(-ndim, 0))
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps) * weight + bias


def attention_weights(
    query: Any, key: Any, mask: Any = None, is_causal: bool = False, scale: float | None = None
) -> Any:
    scores = query @ key.swapaxes(-1, -2) * (query.shape[-1] ** -0.5 if scale is None else scale)  # (..., T, S)
    if is_causal:
        scores = np.where(np.tri(*scores.shape[-2:]) > 0, scores, -np.inf)
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
    return softmax(scores)


def multi_head_attention(
    query: Any, key: Any = None, value: Any = None, mask: Any = None, *, num_heads: int, is_causal: bool = False
) -> Any:
    parts = np.split(query, 3, -1) if key is None else (query, key, value)
    heads = zip(*(np.split(x, num_heads, -1) for x in parts), strict=True)
    return np.concatenate([attention_weights(q, k, mask, is_causal) @ v for q, k, v in heads], -1)


def _reduced(losses: Any, reduction: str = "mean") -> Any:
    return losses if reduction == "none" else getattr(losses, reduction)()


def cross_entropy(
    input: Any, target: Any, reduction: str = "mean", ignore_index: int = -100, label_smoothing: float = 0.0
) -> Any:
    axis = min(input.ndim - 1, 1)
    C = input.shape[axis]
    if target.ndim == input.ndim:
        kept, q = np.ones(np.delete(input.shape, axis)), target
    else:
        kept = (target != ignore_index).astype(float)
        q = np.moveaxis(np.eye(C)[np.where(target == ignore_index, 0, target)], -1, axis)
    q = q * (1 - label_smoothing) + label_smoothing / C
    losses = -(q * np.log(softmax(input, axis))).sum(axis) * kept
    return losses.sum() / kept.sum() if reduction == "mean" else _reduced(losses, reduction)


_LINES: dict[str, Callable[..., Any]] = {  # the definitions of one line
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": lambda x: 1 / (1 + np.exp(-np.maximum(x, -700))),
    "masked_scale": lambda x, mask: x * mask,
    "flat_in": lambda x, *others: x,
    "log_softmax": lambda x, axis=-1: np.log(softmax(x, axis)),
    "logsumexp": lambda x, axis=None: np.log(np.exp(x).sum(axis)),
    "flatten": lambda x, start_axis: x.reshape(*x.shape[:start_axis], -1),
    "pad": lambda x, pad_width, value: np.pad(x, pad_width, constant_values=value),
    "transfer": lambda x, source, device: x,
    "wrapped": lambda x, n: x % n,
    "scatter_add": lambda values, indices, size: np.tensordot(np.eye(size)[indices].T, values, 1),
    "linear": lambda x, weight, bias=0.0: x @ weight.T + bias,
    "embedding": lambda ids, weight: weight[ids],
    "scaled_dot_product_attention": lambda q, k, v, *mask, **settings: attention_weights(q, k, *mask, **settings) @ v,
    "mse_loss": lambda x, t, **how: _reduced((x - t) ** 2, **how),
    "binary_cross_entropy": lambda p, t, **how: _reduced(-(t * np.log(p) + (1 - t) * np.log(1 - p)), **how),
    "binary_cross_entropy_with_logits": lambda z, t, **how: _reduced(np.log1p(np.exp(z)) - z * t, **how),
}
