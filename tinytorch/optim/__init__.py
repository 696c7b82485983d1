"""Optimizers, with PyTorch's names, arguments and trajectories."""

import sys
from typing import TYPE_CHECKING, Any

from tinytorch.optim.adam import Adam, AdamW
from tinytorch.optim.clip import clip_grad_norm_
from tinytorch.optim.optimizer import Optimizer
from tinytorch.optim.sgd import SGD
from tinytorch.spelled import missing

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "clip_grad_norm_"]


if not TYPE_CHECKING:  # a type checker takes a module with `__getattr__` to have every attribute

    def __getattr__(name: str) -> Any:
        raise missing("optim", name, "module 'tinytorch.optim'", sys.modules[__name__])
