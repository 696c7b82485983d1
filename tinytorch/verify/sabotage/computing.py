"""Bugs in ops and layers: wrong gradient rules, wrong results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from unittest.mock import patch

import numpy as np

from tinytorch import ops
from tinytorch.creation import ones, zeros_like
from tinytorch.nn import Dropout, PositionalEncoding, init
from tinytorch.tape.modes import no_grad
from tinytorch.tensor import Tensor
from tinytorch.verify.sabotage.tools import Tampering, bug, rule

# Gradient rules ---------------------------------------------------------------------------------------------------


@bug
def sign_flip() -> Iterator[None]:
    """The gradient of a linear layer's weight has the wrong sign."""
    with rule("linear", 1, lambda right, g: -right(g)):
        yield


@bug
def missing_broadcast_sum() -> Iterator[None]:
    """The gradient of a linear layer's bias is that of the first row alone, not the sum over all."""

    def first(right: Any, g: Any) -> Any:
        while g.ndim > 1:
            g = g[0, ...]
        return g

    with rule("linear", 2, first):
        yield


@bug
def conv_gradient_zero() -> Iterator[None]:
    """The gradient of convolution kernels is zero."""
    with rule("conv2d", 1, lambda right, g: right(g) * 0.0):
        yield


@bug
def conv_gradient_tenth() -> Iterator[None]:
    """The gradient of convolution kernels is a tenth of what it should be."""
    with rule("conv2d", 1, lambda right, g: right(g) * 0.1):
        yield


@bug
def conv_gradient_transposed() -> Iterator[None]:
    """The gradient of square convolution kernels has rows and columns exchanged."""
    with rule("conv2d", 1, lambda right, g: right(g).mT):
        yield


@bug
def relu_gradient_everywhere() -> Iterator[None]:
    """ReLU lets all of the gradient through."""
    with rule("relu", 0, lambda right, g: g):
        yield


@bug
def tanh_gradient_forgotten() -> Iterator[None]:
    """Tanh hands the gradient on as if its slope were 1."""
    with rule("tanh", 0, lambda right, g: g):
        yield


@bug
def key_gradient_missing() -> Iterator[None]:
    """Attention has no gradient for its keys."""
    with rule("multi_head_attention", 1, lambda right, g: right(g) * 0.0):
        yield


@bug
def nan_gradient() -> Iterator[None]:
    """A linear layer's weight gets a gradient of NaN."""
    with rule("linear", 1, lambda right, g: right(g) * float("nan")):
        yield


@bug
def layer_norm_statistics_constant() -> Iterator[None]:
    """Layer normalization forgets that mean and variance depend on x, too."""

    def change(inputs: Sequence[Any], meta: dict[str, Any], result: Any) -> None:
        if result.node is not None:
            x, weight, *_ = inputs
            with no_grad():
                slope = (weight / ops.sqrt(ops.var(x, axis=-1, keepdims=True) + meta.get("eps", 1e-5))).array
            result.node.rules = (lambda g: g * slope, *result.node.rules[1:])

    with Tampering("layer_norm", change):
        yield


@bug
def repeated_tokens_overwrite() -> Iterator[None]:
    """A token that comes several times gets only its last gradient from an embedding."""

    def change(inputs: Sequence[Any], meta: dict[str, Any], result: Any) -> None:
        if result.node is not None:
            weight, ids = inputs
            flat = ids.numpy().ravel()
            last = np.zeros(flat.shape)
            last[len(flat) - 1 - np.unique(flat[::-1], return_index=True)[1]] = 1.0
            mask = Tensor(last.reshape((*ids.shape, 1)), weight.dtype, weight.device).array
            right = result.node.rules[0]
            result.node.rules = (lambda g: right(g * mask), None)

    with Tampering("embedding", change):
        yield


@bug
def graph_cut() -> Iterator[None]:
    """The results of tanh, ReLU and attention are detached from their inputs."""

    def change(inputs: Sequence[Any], meta: dict[str, Any], result: Any) -> None:
        result.node, result._requires_grad = None, False

    with (
        Tampering("tanh", change),
        Tampering("relu", change),
        Tampering("multi_head_attention", change),
    ):
        yield


# Forward ----------------------------------------------------------------------------------------------------------


@bug
def loss_zero() -> Iterator[None]:
    """The losses compute 0, with a gradient as if all were well."""

    def change(inputs: Sequence[Any], meta: dict[str, Any], result: Any) -> None:
        result.array = zeros_like(result.detach()).array

    with Tampering("cross_entropy", change), Tampering("binary_cross_entropy", change):
        yield


@bug
def kernel_transposed() -> Iterator[None]:
    """Convolution uses its kernels with rows and columns exchanged, and its gradient does not."""

    def change(inputs: Sequence[Any], meta: dict[str, Any], result: Any) -> None:
        x, weight, *bias = inputs
        with no_grad():
            result.array = ops.conv2d(x, weight.mT, *bias, **meta).array

    with Tampering("conv2d", change):
        yield


@bug
def causal_mask_off_by_one() -> Iterator[None]:
    """A causal mask lets each position see the next one."""

    def leaking(name: str) -> Any:
        right = getattr(ops, name)

        def attend(*tensors: Any, is_causal: bool = False, **meta: Any) -> Any:
            q, k = tensors[:2]
            if is_causal:
                seen = ops.tril(ones((q.shape[-2], k.shape[-2]), dtype="bool", device=q.device), k=1)
                tensors = (*(t for t in tensors if t is not None), seen)
            return right(*tensors, **meta)

        return patch.object(ops, name, attend)

    with leaking("multi_head_attention"), leaking("attention_weights"):
        yield


@bug
def positions_ignored() -> Iterator[None]:
    """The positional encoding adds nothing."""
    with patch.object(PositionalEncoding, "forward", lambda self, x: x):
        yield


@bug
def dropout_always_on() -> Iterator[None]:
    """Dropout drops in `eval` mode, too."""
    forward = Dropout.forward

    def always(self: Dropout, x: Tensor) -> Tensor:
        training, self.training = self.training, True
        try:
            return forward(self, x)
        finally:
            self.training = training

    with patch.object(Dropout, "forward", always):
        yield


@bug
def weights_start_at_zero() -> Iterator[None]:
    """All initial weights are zero, so that all neurons of a layer stay the same."""
    with patch.object(init, "uniform_", lambda p, *a, **k: init.zeros_(p)):
        yield
