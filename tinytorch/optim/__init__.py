"""Optimizers, with PyTorch's names, arguments and trajectories."""

from tinytorch.optim.adam import Adam, AdamW
from tinytorch.optim.clip import clip_grad_norm_
from tinytorch.optim.optimizer import Optimizer
from tinytorch.optim.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "clip_grad_norm_"]
