"""Layers, losses and containers, with PyTorch's names, initial values and names in the state."""

import sys
from typing import TYPE_CHECKING, Any

from tinytorch.nn import init
from tinytorch.nn.activation import GELU, Identity, ReLU, Sigmoid, Softmax, Tanh
from tinytorch.nn.attention import MultiHeadAttention, TransformerEncoderLayer
from tinytorch.nn.container import ModuleList, Sequential
from tinytorch.nn.conv import AvgPool2d, Conv2d, MaxPool2d
from tinytorch.nn.dropout import Dropout
from tinytorch.nn.embedding import Embedding, PositionalEncoding
from tinytorch.nn.linear import Flatten, Linear
from tinytorch.nn.loss import BCELoss, BCEWithLogitsLoss, BinaryCrossEntropyLoss, CrossEntropyLoss, MSELoss
from tinytorch.nn.module import Module, Parameter
from tinytorch.nn.norm import LayerNorm
from tinytorch.spelled import missing

__all__ = [
    "GELU",
    "AvgPool2d",
    "BCELoss",
    "BCEWithLogitsLoss",
    "BinaryCrossEntropyLoss",
    "Conv2d",
    "CrossEntropyLoss",
    "Dropout",
    "Embedding",
    "Flatten",
    "Identity",
    "LayerNorm",
    "Linear",
    "MSELoss",
    "MaxPool2d",
    "Module",
    "ModuleList",
    "MultiHeadAttention",
    "Parameter",
    "PositionalEncoding",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "TransformerEncoderLayer",
    "init",
]


if not TYPE_CHECKING:  # a type checker takes a module with `__getattr__` to have every attribute

    def __getattr__(name: str) -> Any:
        raise missing("nn", name, "module 'tinytorch.nn'", sys.modules[__name__])
