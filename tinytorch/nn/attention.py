"""Attention and the transformer's encoder layer. Source: Vaswani et al. (2017), "Attention Is All You Need"."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tinytorch import ops
from tinytorch.backends import Device
from tinytorch.dtypes import float32
from tinytorch.nn import init
from tinytorch.nn.dropout import Dropout
from tinytorch.nn.linear import Linear
from tinytorch.nn.module import Module
from tinytorch.nn.norm import LayerNorm
from tinytorch.nn.settings import check_sizes
from tinytorch.tensor import Tensor
from tinytorch.words import checked, flags


class MultiHeadAttention(Module):
    """Attention in several subspaces: concat(head_1, ..., head_h) @ W_out, head_i = attention(q W_i, k W_i, v W_i).

    Batches come first, (N, T, embed_dim). `MultiHeadAttention(d, h)(x)` is self-attention and returns one tensor. The
    projections are four `Linear`s with eight parameters. The state has PyTorch's names, `in_proj_weight` and so on.

    Args:
        embed_dim: length of the vectors that come in and go out, a multiple of `num_heads`.
        num_heads: number of heads, each with embed_dim / num_heads features.
        dropout: the probability that an attention weight is dropped in training.
        bias: whether the projections have biases.

    >>> attention = tinytorch.MultiHeadAttention(8, 2)
    >>> attention(tinytorch.ones((3, 5, 8))).shape
    (3, 5, 8)
    """

    @checked
    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        *,
        device: str | Device | None = None,
        dtype: Any = float32,
    ) -> None:
        check_sizes("MultiHeadAttention", embed_dim=embed_dim, num_heads=num_heads)
        if embed_dim % num_heads:
            raise ValueError(f"MultiHeadAttention: embed_dim {embed_dim} is not a multiple of {num_heads} heads")
        self.embed_dim, self.num_heads, self.head_dim = embed_dim, num_heads, embed_dim // num_heads
        self.q_proj = Linear(embed_dim, embed_dim, bias, device=device, dtype=dtype)
        self.k_proj = Linear(embed_dim, embed_dim, bias, device=device, dtype=dtype)
        self.v_proj = Linear(embed_dim, embed_dim, bias, device=device, dtype=dtype)
        self.out_proj = Linear(embed_dim, embed_dim, bias, device=device, dtype=dtype)
        self.dropout = Dropout(dropout)
        bound = (6 / (4 * embed_dim)) ** 0.5  # as PyTorch: Xavier for one weight (3 embed_dim, embed_dim)
        for projection in (self.q_proj, self.k_proj, self.v_proj):
            init.uniform_(projection.weight, -bound, bound)
        for projection in (self.q_proj, self.k_proj, self.v_proj, self.out_proj):
            if projection.bias is not None:
                init.zeros_(projection.bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        *,
        key_padding_mask: Tensor | None = None,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
        need_weights: bool = False,
    ) -> Any:
        """Attend from the query to the key, and mix the value.

        Args:
            query: (N, T, embed_dim).
            key: (N, S, embed_dim); the query unless given.
            value: (N, S, embed_dim); the key unless given.
            key_padding_mask: (N, S), booleans that are True for keys to leave out, or numbers added to the scores.
            attn_mask: (T, S) for all, (N, T, S) for each sequence, (N * heads, T, S) as in PyTorch; or any shape that
                broadcasts with (N, heads, T, S), as (1, heads, T, S) for each head. Booleans are True where a query may
                *not* attend, as in PyTorch; numbers are added to the scores.
            is_causal: position t attends to positions up to t only.
            need_weights: return (output, attention weights (N, heads, T, S)).

        Returns:
            (N, T, embed_dim).
        """
        flags("MultiHeadAttention", need_weights=need_weights)
        key = query if key is None else key
        value = key if value is None else value
        for name, x in (("query", query), ("key", key), ("value", value)):
            if x.ndim != 3 or x.shape[-1] != self.embed_dim:
                raise ValueError(f"MultiHeadAttention: {name} has shape (N, T, {self.embed_dim}), not {x.shape}")
        mask = self._mask(query.shape[0], query.shape[1], key.shape[1], attn_mask, key_padding_mask)
        q, k, v = self.q_proj(query), self.k_proj(key), self.v_proj(value)
        weights = None
        if need_weights or (self.training and self.dropout.p > 0):
            # (N, heads, T, S)
            weights = ops.attention_weights(self._heads(q), self._heads(k), mask, is_causal=is_causal)
            mixed = ops.matmul(self.dropout(weights), self._heads(v))  # (N, heads, T, head_dim)
            joined = ops.reshape(ops.permute_dims(mixed, (0, 2, 1, 3)), query.shape)  # (N, T, embed_dim)
        else:
            joined = ops.multi_head_attention(q, k, v, mask, num_heads=self.num_heads, is_causal=is_causal)
        out = self.out_proj(joined)
        return (out, weights) if need_weights else out

    def _mask(self, N: int, T: int, S: int, attn: Tensor | None, padding: Tensor | None) -> Tensor | None:
        """One mask for both, that broadcasts with (N, heads, T, S): booleans, True where to attend, or numbers to add.

        Raises:
            TypeError: a mask is neither boolean nor floating.
            ValueError: a mask has a wrong shape.
        """
        for name, given in (("attn_mask", attn), ("key_padding_mask", padding)):
            if given is not None and given.dtype.kind not in "bf":
                raise TypeError(
                    f"MultiHeadAttention: {name} is boolean, or of numbers that are added to the scores, not "
                    f"{given.dtype.name}; convert it with .astype(bool), true where not to attend"
                )
        if padding is not None:
            if padding.shape != (N, S):
                raise ValueError(
                    f"MultiHeadAttention: key_padding_mask has shape (N, S), {(N, S)}, not {padding.shape}"
                )
            padding = padding[:, None, None, :]  # (N, 1, 1, S)
        if attn is not None and attn.ndim == 3:
            first, heads = attn.shape[0], self.num_heads
            if first not in (1, N, N * heads):
                raise ValueError(
                    f"MultiHeadAttention: attn_mask {attn.shape} for {N} sequences and {heads} heads: one for each "
                    f"sequence is {(N, T, S)}, for each head of each {(N * heads, T, S)}, and for each head "
                    f"{(1, heads, T, S)}, as attn_mask[None] has"
                )
            # (N, heads, T, S), or (N or 1, 1, T, S)
            attn = ops.reshape(attn, (N, heads, T, S)) if first == N * heads != N else attn[:, None]
        masks = [m if m.dtype.kind == "f" else ops.logical_not(m) for m in (attn, padding) if m is not None]
        if len(masks) < 2:
            return masks[0] if masks else None
        a, b = masks
        kinds = a.dtype.kind + b.dtype.kind
        if kinds == "bb":
            return ops.logical_and(a, b)
        if kinds == "ff":
            return a + b
        return ops.where(a, b, float("-inf")) if kinds == "bf" else ops.where(b, a, float("-inf"))

    def _heads(self, x: Tensor) -> Tensor:
        """(N, T, embed_dim) -> (N, heads, T, head_dim)"""
        N, T, _ = x.shape
        # (N, T, heads, head_dim) -> (N, heads, T, head_dim)
        return ops.permute_dims(ops.reshape(x, (N, T, self.num_heads, self.head_dim)), (0, 2, 1, 3))

    def _packed(self) -> dict[str, tuple[str, ...]]:
        return {
            f"in_proj_{part}": (f"q_proj.{part}", f"k_proj.{part}", f"v_proj.{part}") for part in ("weight", "bias")
        }

    def extra_repr(self) -> str:
        return f"embed_dim={self.embed_dim}, num_heads={self.num_heads}"


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": ops.relu, "gelu": ops.gelu}


class TransformerEncoderLayer(Module):
    """Self-attention and a feed-forward network, each with dropout, a residual connection and layer normalization.

    Arguments, defaults and state are those of `torch.nn.TransformerEncoderLayer`. Time comes first, (T, N, d_model),
    unless `batch_first` is True.

    Args:
        d_model: length of the vectors that come in and go out.
        nhead: number of attention heads.
        dim_feedforward: width of the feed-forward network.
        dropout: probability of dropout, in attention and after each part.
        activation: "relu", "gelu" or a function of a tensor.
        layer_norm_eps: `eps` of the normalizations.
        batch_first: sequences are (N, T, d_model).
        norm_first: normalize before attention and before the network, not after the residual connections.
        bias: whether linear layers and normalizations have biases.

    >>> block = tinytorch.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    >>> block(tinytorch.ones((3, 5, 8))).shape, len(list(block.parameters()))
    ((3, 5, 8), 16)
    """

    @checked
    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Callable[[Tensor], Tensor] = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        *,
        device: str | Device | None = None,
        dtype: Any = float32,
    ) -> None:
        if isinstance(activation, str) and activation not in _ACTIVATIONS:
            raise ValueError(f"TransformerEncoderLayer: activation is 'relu', 'gelu' or a function, not {activation!r}")
        self.self_attn = MultiHeadAttention(d_model, nhead, dropout, bias, device=device, dtype=dtype)
        self.linear1 = Linear(d_model, dim_feedforward, bias, device=device, dtype=dtype)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, device=device, dtype=dtype)
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, device=device, dtype=dtype)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, device=device, dtype=dtype)
        self.dropout1, self.dropout2 = Dropout(dropout), Dropout(dropout)
        self.activation = _ACTIVATIONS[activation] if isinstance(activation, str) else activation
        self.batch_first, self.norm_first = batch_first, norm_first

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """The encoded sequences; for the masks see `MultiHeadAttention.forward`."""
        d_model, order = self.linear2.out_features, "(N, T, {})" if self.batch_first else "(T, N, {})"
        if src.ndim != 3 or src.shape[-1] != d_model:
            raise ValueError(f"TransformerEncoderLayer: src has shape {order.format(d_model)}, not {src.shape}")
        x = src if self.batch_first else ops.permute_dims(src, (1, 0, 2))  # (N, T, d_model)

        def attend(x: Tensor) -> Tensor:  # (N, T, d_model) -> the same
            mixed = self.self_attn(x, attn_mask=src_mask, key_padding_mask=src_key_padding_mask, is_causal=is_causal)
            return self.dropout1(mixed)

        def feed(x: Tensor) -> Tensor:  # (N, T, d_model) -> (N, T, dim_feedforward) -> (N, T, d_model)
            return self.dropout2(self.linear2(self.dropout(self.activation(self.linear1(x)))))

        if self.norm_first:
            x = x + attend(self.norm1(x))
            x = x + feed(self.norm2(x))
        else:
            x = self.norm1(x + attend(x))
            x = self.norm2(x + feed(x))
        return x if self.batch_first else ops.permute_dims(x, (1, 0, 2))  # as src
