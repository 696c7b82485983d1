"""The types of a user's code, as a type checker sees them. mypy checks this file in CI; it is never run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_type

import tinytorch
from tinytorch import Linear, Module, Tensor

if TYPE_CHECKING:

    class Both(Module):
        def forward(self, x: Tensor, n: int) -> tuple[Tensor, int]:
            return x, n

    def operators(x: Tensor) -> None:
        assert_type(x + x, Tensor)
        assert_type(2 - x, Tensor)
        assert_type(-x, Tensor)
        assert_type(x @ x, Tensor)
        assert_type(x > 0, Tensor)
        assert_type(x == x, Tensor)
        assert_type(x[0], Tensor)
        assert_type(x.T, Tensor)
        assert_type(x.mT, Tensor)

    def methods(x: Tensor) -> None:
        assert_type(x.sum(), Tensor)
        assert_type(x.reshape(2, 3), Tensor)
        assert_type(x.detach(), Tensor)
        assert_type(x.to("cpu"), Tensor)
        assert_type(x.softmax(axis=-1), Tensor)
        assert_type(x.shape, tuple[int, ...])

    def functions(x: Tensor) -> None:
        assert_type(tinytorch.matmul(x, x), Tensor)
        assert_type(tinytorch.relu(x), Tensor)
        assert_type(tinytorch.sum(x), Tensor)
        assert_type(tinytorch.where(x > 0, x, 0.0), Tensor)
        assert_type(tinytorch.take(x, x), Tensor)
        assert_type(tinytorch.concat([x, x]), Tensor)
        assert_type(tinytorch.stack([x, x]), Tensor)
        assert_type(tinytorch.clip(x, 0, 1), Tensor)
        assert_type(tinytorch.einsum("ij,jk->ik", x, x), Tensor)
        assert_type(tinytorch.cross_entropy(x, x), Tensor)
        assert_type(tinytorch.mse_loss(x, x), Tensor)
        assert_type(tinytorch.conv2d(x, x), Tensor)
        assert_type(tinytorch.zeros((2, 3)), Tensor)
        assert_type(tinytorch.randn(2, 3), Tensor)
        assert_type(tinytorch.asarray([1.0]), Tensor)
        assert_type(tinytorch.grad(x, x), tuple[Tensor, ...])
        assert_type(tinytorch.broadcast_arrays(x, x), list[Tensor])

    def layers(x: Tensor) -> None:
        assert_type(Linear(1, 1)(x), Tensor)
        assert_type(tinytorch.ReLU()(x), Tensor)
        assert_type(tinytorch.Dropout(0.5)(x), Tensor)
        assert_type(tinytorch.Conv2d(1, 1, 3)(x), Tensor)
        assert_type(tinytorch.LayerNorm(3)(x), Tensor)
        assert_type(tinytorch.Embedding(3, 3)(x), Tensor)
        assert_type(tinytorch.CrossEntropyLoss()(x, x), Tensor)
        assert_type(tinytorch.Sequential(Linear(1, 1))(x), Any)  # its last layer may give anything
        assert_type(Both()(x, 2), tuple[Tensor, int])
