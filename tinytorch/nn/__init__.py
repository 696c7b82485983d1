"""Layers, losses and containers, under PyTorch's names and with its initial values and state names."""

from tinytorch.nn import init
from tinytorch.nn.activation import GELU, Identity, ReLU, Sigmoid, Softmax, Tanh
from tinytorch.nn.attention import MultiHeadAttention, TransformerEncoderLayer
from tinytorch.nn.container import ModuleList, Sequential
from tinytorch.nn.conv import AvgPool2d, Conv2d, MaxPool2d
from tinytorch.nn.dropout import Dropout
from tinytorch.nn.embedding import Embedding, PositionalEncoding
from tinytorch.nn.linear import Flatten, Linear
from tinytorch.nn.loss import BCELoss, BCEWithLogitsLoss, CrossEntropyLoss, MSELoss
from tinytorch.nn.module import Module, Parameter
from tinytorch.nn.norm import LayerNorm

__all__ = [
    "GELU",
    "AvgPool2d",
    "BCELoss",
    "BCEWithLogitsLoss",
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
