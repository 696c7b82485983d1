"""Vectors for tokens, and for positions."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinytorch import ops
from tinytorch.backends import Device
from tinytorch.backends import device as _device
from tinytorch.dtypes import float32
from tinytorch.nn import init
from tinytorch.nn.module import Module
from tinytorch.nn.settings import check_sizes, new_parameter
from tinytorch.tensor import Tensor
from tinytorch.words import checked


class Embedding(Module):
    """A learned vector for each of a number of tokens: integers (...) -> (..., embedding_dim).

    Args:
        num_embeddings: tokens are integers in [0, num_embeddings).
        embedding_dim: length of a vector.

    Attributes:
        weight: (num_embeddings, embedding_dim), initially standard normal.

    Raises (when called):
        TypeError: the tokens are not integers.
        IndexError: a token is out of range (on a GPU, when values are next read).

    >>> tinytorch.Embedding(10, 4)(Tensor([[1, 2, 3]])).shape
    (1, 3, 4)
    """

    @checked
    def __init__(
        self, num_embeddings: int, embedding_dim: int, *, device: str | Device | None = None, dtype: Any = float32
    ) -> None:
        check_sizes("Embedding", num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.weight = new_parameter(num_embeddings, embedding_dim, device=device, dtype=dtype)
        init.normal_(self.weight)

    def forward(self, ids: Tensor) -> Tensor:
        return ops.embedding(ids, self.weight)  # (..., embedding_dim)

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}"


def sinusoids(length: int, d_model: int) -> np.ndarray[Any, Any]:
    """Sines and cosines of the positions, alternating, with wavelengths from 2 pi to 10000 * 2 pi: (length, d_model).

    Source: Vaswani et al. (2017), section 3.5.
    """
    column = np.arange(d_model)
    angle = np.arange(length)[:, None] / 10000 ** (column // 2 * 2 / d_model)  # (length, d_model)
    return np.where(column % 2 == 0, np.sin(angle), np.cos(angle))  # (length, d_model)


class PositionalEncoding(Module):
    """x plus a vector for each position: (..., T, d_model) -> the same.

    Args:
        d_model: length of a vector.
        max_len: the longest sequence.
        learned: with True the vectors are learned, initially normal of deviation 0.02. Otherwise the buffer `pe` holds
            sines and cosines of the positions (Vaswani et al., 2017, section 3.5).

    >>> tinytorch.PositionalEncoding(8, max_len=16)(tinytorch.zeros((2, 4, 8))).shape
    (2, 4, 8)
    """

    pe: Tensor

    @checked
    def __init__(
        self,
        d_model: int,
        max_len: int = 5000,
        learned: bool = False,
        *,
        device: str | Device | None = None,
        dtype: Any = float32,
    ) -> None:
        check_sizes("PositionalEncoding", d_model=d_model, max_len=max_len)
        self.d_model, self.max_len, self.learned = d_model, max_len, learned
        if learned:
            self.pe = init.normal_(new_parameter(max_len, d_model, device=device, dtype=dtype), 0.0, 0.02)
        else:
            self.register_buffer("pe", Tensor(sinusoids(max_len, d_model), dtype, _device(device)))

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim < 2 or x.shape[-1] != self.d_model:
            raise ValueError(f"PositionalEncoding: x has shape (..., T, {self.d_model}), not {x.shape}")
        length = x.shape[-2]
        if length > self.max_len:
            raise ValueError(f"PositionalEncoding: {length} positions, but max_len is {self.max_len}")
        return x + (self.pe if length == self.max_len else self.pe[:length])  # (..., T, d_model) + (T, d_model)

    def extra_repr(self) -> str:
        return f"{self.d_model}, max_len={self.max_len}, learned={self.learned}"
