"""Every public function is called with every argument of a wrong kind: only the library's own words come out.

An error is the library's own if
* its class is one that Python and the array API standard have for that: never an AttributeError, a KeyError, ...,
* its message begins with the name of the function that was called (of the layer's function, for a layer), and
* there is nothing in it of how Python says it by itself, such as "'<' not supported between instances of".

Where an argument is of a wrong kind, a TypeError names it.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

import tinytorch
from tinytorch import Tensor, autograd, nn

OWN = (TypeError, ValueError, IndexError, OverflowError, NotImplementedError, RuntimeError, BufferError, MemoryError)
RAW = re.compile(
    r"has no attribute|not supported between|unsupported operand|is not iterable|not subscriptable|has no len\(\)|"
    r"object is not callable|not enough values|too many values to unpack|cannot be interpreted as an integer|"
    r"positional arguments? but|unhashable|bad operand type|must be real number|local variable|NoneType' object|"
    r"not implemented for|is not a valid|invalid literal|could not convert|indices must be|can't multiply|"
    r"can't convert|\(\) (got|missing|takes)"
)


def f(*shape, dtype="float32"):
    return Tensor(np.arange(1.0, 1 + np.prod(shape, dtype=int)).reshape(shape) / 8, dtype)


def i(*values):
    return Tensor(list(values))


class Call:
    """A call that is right: a function, its arguments by name, and those that come by position."""

    def __init__(self, name, function, /, *args, names=None, called=None, **kwargs):
        self.name, self.function, self.args, self.kwargs = name, function, args, kwargs
        self.names = names or [str(n) for n in range(len(args))]
        self.called = called or name  # what messages begin with

    def __repr__(self):
        return self.name


def op_calls():
    """Those that take tensors only, of one shape; from their signatures."""
    two = {"iuf": lambda: f(2, 3), "f": lambda: f(2, 3)}
    bools, ints = lambda: Tensor([True, False]), lambda: i(1, 2)
    calls = []
    for name, op in autograd.OPS.items():
        parameters = list(op.__signature__.parameters.values())
        if getattr(tinytorch, name, None) is not op or name in OTHERS:
            continue
        if all(p.kind is p.POSITIONAL_ONLY for p in parameters):
            made = bools if name.startswith("logical") else ints if name.startswith("bitwise") else two["f"]
            function = getattr(tinytorch, name)
            calls.append(Call(name, function, *(made for _ in parameters), names=[p.name for p in parameters]))
    return calls


T = tinytorch
LEAF = f(2).requires_grad_()
OTHERS = {"where", "matmul", "linear", "layer_norm", "conv2d"}
REDUCTIONS = {"keepdims": False, "axis": 1}
CALLS = [
    Call("where", T.where, lambda: Tensor([True, False]), lambda: f(2), lambda: f(2), names=["condition", "x1", "x2"]),
    Call("matmul", T.matmul, lambda: f(2, 3), lambda: f(3, 2), names=["x1", "x2"]),
    *[
        Call(n, getattr(T, n), lambda: f(2, 3), names=["x"], **REDUCTIONS)
        for n in ["sum", "mean", "var", "std", "prod", "max", "min", "argmax", "argmin", "logsumexp"]
    ],
    *[Call(n, getattr(T, n), lambda: Tensor([[True, False]]), names=["x"], **REDUCTIONS) for n in ("all", "any")],
    Call("count_nonzero", T.count_nonzero, lambda: f(2, 3), names=["x"], **REDUCTIONS),
    Call("sum", T.sum, lambda: f(2, 3), names=["x"], dtype=T.float32),
    Call("prod", T.prod, lambda: f(2, 3), names=["x"], dtype=T.float32),
    Call("var", T.var, lambda: f(2, 3), names=["x"], correction=1),
    Call("std", T.std, lambda: f(2, 3), names=["x"], correction=1),
    Call(
        "cumulative_sum", T.cumulative_sum, lambda: f(2, 3), names=["x"], axis=0, dtype=T.float32, include_initial=True
    ),
    Call("cumulative_prod", T.cumulative_prod, lambda: f(2, 3), names=["x"], axis=0, dtype=T.float32),
    Call("softmax", T.softmax, lambda: f(2, 3), names=["x"], axis=1),
    Call("log_softmax", T.log_softmax, lambda: f(2, 3), names=["x"], axis=1),
    Call("sort", T.sort, lambda: f(2, 3), names=["x"], axis=1, descending=True, stable=True),
    Call("argsort", T.argsort, lambda: f(2, 3), names=["x"], axis=1, descending=True, stable=True),
    Call(
        "searchsorted",
        T.searchsorted,
        lambda: f(3),
        lambda: f(2),
        names=["x1", "x2"],
        side="left",
        sorter=lambda: i(0, 1, 2),
    ),
    Call("gelu", T.gelu, lambda: f(2), names=["x"], approximate="tanh"),
    Call("clip", T.clip, lambda: f(2), names=["x"], min=0.1, max=lambda: f(2)),
    Call("conj", T.conj, lambda: f(2), names=["x"]),
    Call("real", T.real, lambda: f(2), names=["x"]),
    Call("reshape", T.reshape, lambda: f(2, 3), names=["x"], shape=(3, 2), copy=True),
    Call("permute_dims", T.permute_dims, lambda: f(2, 3), names=["x"], axes=(1, 0)),
    Call("expand_dims", T.expand_dims, lambda: f(2, 3), names=["x"], axis=1),
    Call("squeeze", T.squeeze, lambda: f(2, 1), names=["x"], axis=1),
    Call("broadcast_to", T.broadcast_to, lambda: f(2, 3), names=["x"], shape=(1, 2, 3)),
    Call("flip", T.flip, lambda: f(2, 3), names=["x"], axis=1),
    Call("roll", T.roll, lambda: f(2, 3), names=["x"], shift=1, axis=0),
    Call("tril", T.tril, lambda: f(2, 3), names=["x"], k=0),
    Call("triu", T.triu, lambda: f(2, 3), names=["x"], k=0),
    Call("astype", T.astype, lambda: f(2, 3), T.float64, names=["x", "dtype"], copy=True, device="cpu"),
    Call("moveaxis", T.moveaxis, lambda: f(2, 3), 0, 1, names=["x", "source", "destination"]),
    Call("flatten", T.flatten, lambda: f(2, 3), names=["x"], start_axis=0, end_axis=1),
    Call("concat", T.concat, lambda: [f(2, 3), f(2, 3)], names=["arrays"], axis=0),
    Call("stack", T.stack, lambda: [f(2, 3), f(2, 3)], names=["arrays"], axis=0),
    Call("unstack", T.unstack, lambda: f(2, 3), names=["x"], axis=0),
    Call("split", T.split, lambda: f(2, 3), 1, names=["x", "split_size_or_sections"], axis=0),
    Call("pad", T.pad, lambda: f(2, 3), names=["x"], pad_width=1, value=0.0),
    Call("repeat", T.repeat, lambda: f(2, 3), 2, names=["x", "repeats"], axis=0),
    Call("tile", T.tile, lambda: f(2, 3), (2, 2), names=["x", "repetitions"]),
    Call("broadcast_arrays", T.broadcast_arrays, lambda: f(2, 3), lambda: f(3), names=["arrays[0]", "arrays[1]"]),
    Call("meshgrid", T.meshgrid, lambda: f(2), lambda: f(3), names=["arrays[0]", "arrays[1]"], indexing="xy"),
    Call("diff", T.diff, lambda: f(2, 3), names=["x"], axis=0, n=1, prepend=lambda: f(1, 3), append=lambda: f(1, 3)),
    Call("take", T.take, lambda: f(2, 3), lambda: i(0, 1), names=["x", "indices"], axis=0),
    Call(
        "take_along_axis",
        T.take_along_axis,
        lambda: f(2, 3),
        lambda: Tensor([[0], [1]]),
        names=["x", "indices"],
        axis=1,
    ),
    Call("scatter_add", T.ops.scatter_add, lambda: f(2, 3), lambda: i(0, 1), names=["values", "indices"], size=2),
    *[
        Call(n, getattr(T, n), lambda: f(2, 3), names=["x"])
        for n in ["nonzero", "unique_all", "unique_counts", "unique_inverse", "unique_values"]
    ],
    Call("vecdot", T.vecdot, lambda: f(2, 3), lambda: f(2, 3), names=["x1", "x2"], axis=-1),
    Call("tensordot", T.tensordot, lambda: f(2, 3), lambda: f(3, 2), names=["x1", "x2"], axes=1),
    Call(
        "einsum",
        T.einsum,
        "ij,jk->ik",
        lambda: f(2, 3),
        lambda: f(3, 2),
        names=["subscripts", "operands[0]", "operands[1]"],
    ),
    *[
        Call(n, getattr(T, n), lambda: f(2), lambda: f(2), names=["input", "target"], reduction="mean")
        for n in ("mse_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits")
    ],
    Call(
        "cross_entropy",
        T.cross_entropy,
        lambda: f(2, 3),
        lambda: i(0, 1),
        names=["input", "target"],
        reduction="mean",
        ignore_index=-100,
        label_smoothing=0.1,
    ),
    Call("linear", T.linear, lambda: f(2, 3), lambda: f(4, 3), lambda: f(4), names=["x", "weight", "bias"]),
    Call(
        "layer_norm",
        T.layer_norm,
        lambda: f(2, 3),
        lambda: f(3),
        lambda: f(3),
        names=["x", "weight", "bias"],
        ndim=1,
        eps=1e-5,
    ),
    Call("embedding", T.embedding, lambda: i(0, 1), lambda: f(2, 3), names=["ids", "weight"]),
    Call(
        "conv2d",
        T.conv2d,
        lambda: f(1, 2, 4, 4),
        lambda: f(2, 2, 2, 2),
        lambda: f(2),
        names=["x", "weight", "bias"],
        stride=1,
        padding=(1, 1),
        dilation=1,
        groups=1,
    ),
    Call(
        "max_pool2d", T.max_pool2d, lambda: f(1, 2, 4, 4), names=["x"], kernel_size=2, stride=2, padding=0, dilation=1
    ),
    Call(
        "avg_pool2d",
        T.avg_pool2d,
        lambda: f(1, 2, 4, 4),
        names=["x"],
        kernel_size=2,
        stride=2,
        padding=0,
        count_include_pad=True,
    ),
    Call(
        "attention_weights",
        T.attention_weights,
        lambda: f(2, 3),
        lambda: f(2, 3),
        lambda: f(2, 2),
        names=["query", "key", "mask"],
        is_causal=True,
        scale=1.0,
    ),
    Call(
        "scaled_dot_product_attention",
        T.scaled_dot_product_attention,
        lambda: f(2, 3),
        lambda: f(2, 3),
        lambda: f(2, 3),
        lambda: f(2, 2),
        names=["query", "key", "value", "mask"],
        is_causal=True,
        scale=1.0,
    ),
    Call(
        "multi_head_attention",
        T.multi_head_attention,
        lambda: f(1, 2, 4),
        lambda: f(1, 2, 4),
        lambda: f(1, 2, 4),
        lambda: f(2, 2),
        names=["query", "key", "value", "mask"],
        num_heads=2,
        is_causal=True,
        scale=1.0,
    ),
    # creation
    Call("asarray", T.asarray, lambda: [1.0], names=["obj|data"], dtype=T.float32, device="cpu", copy=True),
    Call("[tT]ensor", T.tensor, lambda: [1.0], names=["data"], dtype=T.float32, device="cpu", requires_grad=True),
    Call("Tensor", T.Tensor, lambda: [1.0], T.float32, "cpu", True, names=["data", "dtype", "device", "requires_grad"]),
    Call(
        "Parameter",
        nn.Parameter,
        lambda: [1.0],
        T.float32,
        "cpu",
        True,
        names=["data", "dtype", "device", "requires_grad"],
    ),
    Call("from_dlpack", T.from_dlpack, lambda: np.ones(2), names=["x"], device="cpu", copy=True),
    *[
        Call(n, getattr(T, n), (2, 3), names=["shape"], dtype=T.float32, device="cpu")
        for n in ("empty", "zeros", "ones")
    ],
    Call("full", T.full, (2, 3), 1.5, names=["shape", "fill_value"], dtype=T.float32, device="cpu"),
    *[
        Call(n, getattr(T, n), lambda: f(2), names=["x"], dtype=T.float32, device="cpu")
        for n in ("empty_like", "zeros_like", "ones_like")
    ],
    Call("full_like", T.full_like, lambda: f(2), 1.5, names=["x", "fill_value"], dtype=T.float32, device="cpu"),
    Call("arange", T.arange, 0, 3, 1, names=["start", "stop", "step"], dtype=T.float32, device="cpu"),
    Call("linspace", T.linspace, 0, 3, 4, names=["start", "stop", "num"], dtype=T.float32, device="cpu", endpoint=True),
    Call("eye", T.eye, 2, 3, names=["n_rows", "n_cols"], k=0, dtype=T.float32, device="cpu"),
    # random
    Call("manual_seed", T.manual_seed, 0, names=["seed"]),
    Call("rand", T.rand, 2, 3, names=["shape", "shape"], dtype=T.float32, device="cpu", requires_grad=True),
    Call("randn", T.randn, 2, 3, names=["shape", "shape"], dtype=T.float32, device="cpu", requires_grad=True),
    Call("randint", T.randint, 0, 3, (2,), names=["low|integer", "high|integer", "size|shape|integer"], device="cpu"),
    Call("randperm", T.randperm, 3, names=["n"], device="cpu"),
    # dtypes, devices, modes
    Call("result_type", T.result_type, T.float32, T.float64, names=["dtype"] * 2),
    Call("can_cast", T.can_cast, T.float32, T.float64, names=["dtype", "dtype"]),
    Call("isdtype", T.isdtype, T.float32, "real floating", names=["dtype", "kind"]),
    Call("finfo", T.finfo, T.float32, names=["dtype"]),
    Call("iinfo", T.iinfo, T.int8, names=["dtype"]),
    Call("device", T.device, "cpu", names=["spec|name"]),
    Call("set_default_device", T.set_default_device, None, names=["spec|name"], called="device"),
    Call("to", T.to, lambda: [f(2)], "cpu", names=["tree", "device"]),
    Call(
        "grad",
        T.grad,
        lambda: LEAF * 2,
        lambda: LEAF,
        lambda: f(2),
        names=["outputs", "inputs", "grad_outputs|gradient"],
        allow_unused=True,
    ),
    Call(
        "clip_grad_norm_",
        T.clip_grad_norm_,
        lambda: [nn.Parameter([1.0])],
        1.0,
        2.0,
        names=["parameters", "max_norm", "norm_type"],
    ),
    # initial values
    *[Call(n, getattr(nn.init, n), lambda: f(2, 3), names=["tensor"]) for n in ("zeros_", "ones_")],
    Call("uniform_", nn.init.uniform_, lambda: f(2, 3), 0.0, 1.0, names=["tensor", "a", "b"]),
    Call("normal_", nn.init.normal_, lambda: f(2, 3), 0.0, 1.0, names=["tensor", "mean", "std"]),
    Call(
        "trunc_normal_",
        nn.init.trunc_normal_,
        lambda: f(2, 3),
        0.0,
        1.0,
        -2.0,
        2.0,
        names=["tensor", "mean", "std", "a", "b"],
    ),
    Call("constant_", nn.init.constant_, lambda: f(2, 3), 0.0, names=["tensor", "val"]),
    Call("calculate_gain", nn.init.calculate_gain, "leaky_relu", 0.1, names=["nonlinearity", "param"]),
    Call("xavier_uniform_", nn.init.xavier_uniform_, lambda: f(2, 3), 1.0, names=["tensor", "gain"]),
    Call("xavier_normal_", nn.init.xavier_normal_, lambda: f(2, 3), 1.0, names=["tensor", "gain"]),
    Call(
        "kaiming_uniform_",
        nn.init.kaiming_uniform_,
        lambda: f(2, 3),
        0.0,
        "fan_in",
        "relu",
        names=["tensor", "a", "mode", "nonlinearity"],
    ),
    Call(
        "kaiming_normal_",
        nn.init.kaiming_normal_,
        lambda: f(2, 3),
        0.0,
        "fan_in",
        "relu",
        names=["tensor", "a", "mode", "nonlinearity"],
    ),
]

LAYERS = [
    Call("Linear", nn.Linear, in_features=3, out_features=2, bias=True, device="cpu", dtype=T.float32),
    Call(
        "Conv2d",
        nn.Conv2d,
        in_channels=2,
        out_channels=2,
        kernel_size=2,
        stride=1,
        padding=0,
        dilation=1,
        groups=1,
        bias=True,
        device="cpu",
        dtype=T.float32,
    ),
    Call("MaxPool2d", nn.MaxPool2d, kernel_size=2, stride=2, padding=0, dilation=1),
    Call("AvgPool2d", nn.AvgPool2d, kernel_size=2, stride=2, padding=0, count_include_pad=True),
    Call("Embedding", nn.Embedding, num_embeddings=3, embedding_dim=2, device="cpu", dtype=T.float32),
    Call(
        "PositionalEncoding", nn.PositionalEncoding, d_model=4, max_len=6, learned=True, device="cpu", dtype=T.float32
    ),
    Call(
        "LayerNorm",
        nn.LayerNorm,
        normalized_shape=(3,),
        eps=1e-5,
        elementwise_affine=True,
        bias=True,
        device="cpu",
        dtype=T.float32,
    ),
    Call("Dropout", nn.Dropout, p=0.5),
    Call("Flatten", nn.Flatten, start_dim=1, end_dim=-1),
    Call("GELU", nn.GELU, approximate="tanh"),
    Call("Softmax", nn.Softmax, dim=-1),
    Call(
        "MultiHeadAttention",
        nn.MultiHeadAttention,
        embed_dim=4,
        num_heads=2,
        dropout=0.0,
        bias=True,
        device="cpu",
        dtype=T.float32,
    ),
    Call(
        "TransformerEncoderLayer",
        nn.TransformerEncoderLayer,
        d_model=4,
        nhead=2,
        dim_feedforward=8,
        dropout=0.0,
        activation="relu",
        layer_norm_eps=1e-5,
        batch_first=True,
        norm_first=False,
        bias=True,
        device="cpu",
        dtype=T.float32,
    ),
    *[Call(n, getattr(nn, n), reduction="mean") for n in ("MSELoss", "BCELoss", "BCEWithLogitsLoss")],
    Call("CrossEntropyLoss", nn.CrossEntropyLoss, ignore_index=-100, reduction="mean", label_smoothing=0.0),
    Call("ModuleList", nn.ModuleList, lambda: [nn.ReLU()], names=["modules"]),
    Call("Sequential", nn.Sequential, nn.ReLU, names=["modules"]),
    Call("TensorDataset", T.data.TensorDataset, lambda: f(2), names=["tensors"]),
    Call("Subset", T.data.Subset, lambda: T.data.TensorDataset(f(2)), lambda: [0, 1], names=["dataset", "indices"]),
    Call(
        "DataLoader",
        T.data.DataLoader,
        lambda: T.data.TensorDataset(f(2)),
        batch_size=1,
        shuffle=True,
        drop_last=False,
        seed=0,
        device="cpu",
        names=["dataset"],
    ),
    Call(
        "random_split",
        T.data.random_split,
        lambda: T.data.TensorDataset(f(2)),
        lambda: [1, 1],
        names=["dataset", "lengths"],
        seed=0,
    ),
    Call("tinydigits", T.data.tinydigits, device="cpu"),
]


def layer(name, make, *inputs, names=("x",), called=(), **kwargs):
    return Call(
        name, lambda *a, **k: make()(*a, **k), *inputs, names=list(names), called="|".join((name, *called)), **kwargs
    )


LAYER_CALLS = [
    layer("Linear", lambda: nn.Linear(3, 2), lambda: f(2, 3), called=["linear"]),
    layer("Conv2d", lambda: nn.Conv2d(2, 2, 2), lambda: f(1, 2, 3, 3), called=["conv2d"]),
    layer("MaxPool2d", lambda: nn.MaxPool2d(2), lambda: f(1, 2, 3, 3), called=["max_pool2d"]),
    layer("AvgPool2d", lambda: nn.AvgPool2d(2), lambda: f(1, 2, 3, 3), called=["avg_pool2d"]),
    layer("Embedding", lambda: nn.Embedding(3, 2), lambda: i(0, 1), names=["ids"], called=["embedding"]),
    layer("PositionalEncoding", lambda: nn.PositionalEncoding(4, 6), lambda: f(1, 2, 4)),
    layer("LayerNorm", lambda: nn.LayerNorm(3), lambda: f(2, 3), called=["layer_norm"]),
    layer("Dropout", nn.Dropout, lambda: f(2, 3)),
    layer("Flatten", nn.Flatten, lambda: f(2, 3, 4), called=["flatten"]),
    layer("GELU", nn.GELU, lambda: f(2), called=["gelu"]),
    layer("ReLU", nn.ReLU, lambda: f(2), called=["relu"]),
    layer("Tanh", nn.Tanh, lambda: f(2), called=["tanh"]),
    layer("Sigmoid", nn.Sigmoid, lambda: f(2), called=["sigmoid"]),
    layer("Softmax", nn.Softmax, lambda: f(2), called=["softmax"]),
    layer(
        "MultiHeadAttention",
        lambda: nn.MultiHeadAttention(4, 2),
        lambda: f(1, 2, 4),
        lambda: f(1, 2, 4),
        lambda: f(1, 2, 4),
        names=["query", "key", "value"],
        key_padding_mask=lambda: Tensor([[True, False]]),
        attn_mask=lambda: Tensor([[False, False], [False, False]]),
        is_causal=True,
        need_weights=True,
        called=["attention_weights"],
    ),
    layer(
        "TransformerEncoderLayer",
        lambda: nn.TransformerEncoderLayer(4, 2, 8, batch_first=True),
        lambda: f(1, 2, 4),
        names=["src"],
        src_mask=lambda: Tensor([[False, False], [False, False]]),
        src_key_padding_mask=lambda: Tensor([[True, False]]),
        is_causal=True,
        called=["multi_head_attention", "attention_weights", "MultiHeadAttention"],
    ),
    layer("TransformerEncoderLayer", lambda: nn.TransformerEncoderLayer(4, 2, 8), lambda: f(2, 1, 4), names=["src"]),
    layer("MSELoss", nn.MSELoss, lambda: f(2), lambda: f(2), names=["input", "target"], called=["mse_loss"]),
    layer(
        "BCELoss", nn.BCELoss, lambda: f(2), lambda: f(2), names=["input", "target"], called=["binary_cross_entropy"]
    ),
    layer(
        "BCEWithLogitsLoss",
        nn.BCEWithLogitsLoss,
        lambda: f(2),
        lambda: f(2),
        names=["input", "target"],
        called=["binary_cross_entropy_with_logits"],
    ),
    layer(
        "CrossEntropyLoss",
        nn.CrossEntropyLoss,
        lambda: f(2, 3),
        lambda: i(0, 1),
        names=["input", "target"],
        called=["cross_entropy"],
    ),
]


def method(name, /, *args, names=(), called=None, made=lambda: f(2, 3), **kwargs):
    def call(*a, **k):
        return getattr(made(), name)(*a, **k)

    return Call(name, call, *args, names=list(names), called=called, **kwargs)


DUNDERS = {
    "__add__": "add",
    "__radd__": "add",
    "__sub__": "subtract",
    "__rsub__": "subtract",
    "__mul__": "multiply",
    "__rmul__": "multiply",
    "__truediv__": "divide",
    "__rtruediv__": "divide",
    "__floordiv__": "floor_divide",
    "__rfloordiv__": "floor_divide",
    "__mod__": "remainder",
    "__rmod__": "remainder",
    "__pow__": "pow",
    "__rpow__": "pow",
    "__matmul__": "matmul",
    "__rmatmul__": "matmul",
    "__eq__": "equal",
    "__ne__": "not_equal",
    "__lt__": "less",
    "__le__": "less_equal",
    "__gt__": "greater",
    "__ge__": "greater_equal",
    "__iadd__": "x \\S+ y|add",
    "__isub__": "x \\S+ y|subtract",
    "__imul__": "x \\S+ y|multiply",
    "__itruediv__": "x \\S+ y|divide",
    "__ipow__": "x \\S+ y|pow",
    "__imatmul__": "x \\S+ y|matmul",
}
METHODS = [
    *[method(n, lambda: f(2, 2), made=lambda: f(2, 2), names=["x2|x1"], called=c) for n, c in DUNDERS.items()],
    method("__getitem__", 0, names=["index|mask"], called="getitem|x\\[...\\]"),
    method("__getitem__", (0, 1), names=["index|mask"], called="getitem|x\\[...\\]"),
    method(
        "__setitem__",
        0,
        1.0,
        names=["index|mask", "value"],
        called="getitem|setitem|x\\[...\\]|x\\[...\\] = value|where|broadcast_to",
    ),
    method("__contains__", 1.0, names=["x2"], called="equal"),
    method("__array__", np.float64, names=["dtype"], copy=True, called="np.asarray|__array__"),
    method("__dlpack__", stream=None, max_version=(1, 0), dl_device=(1, 0), copy=True),
    method("to", "cpu", names=["argument|device|dtype"], called="to|device"),
    method("to", device="cpu", dtype=T.float64, called="to|device"),
    method("to_device", "cpu", names=["device"], stream=None, called="to_device|to|device"),
    method("cuda", 0, names=["index"], called="cuda|to|device"),
    method(
        "backward",
        lambda: f(2, 3),
        names=["gradient"],
        made=lambda: f(2, 3).requires_grad_() * 2,
        retain_graph=True,
        create_graph=False,
    ),
    method("requires_grad_", True, names=["requires_grad"]),
    method("reshape", (3, 2), names=["shape"]),
    method("reshape", 3, 2, names=["shape", "shape"]),
    method("permute_dims", 1, 0, names=["axes", "axes"]),
    method("assign_data", lambda: f(2, 3), names=["data"], called="data"),
]
METHODS[-1].function = lambda value: setattr(f(2, 3), "data", value)

WRONG: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "string": lambda: "a",
    "int": lambda: 1,
    "negative": lambda: -7,
    "huge": lambda: 10**30,
    "float": lambda: 1.5,
    "nan": lambda: float("nan"),
    "bool": lambda: True,
    "complex": lambda: 1j,
    "list": lambda: [1.0, 2.0],
    "empty list": list,
    "strings": lambda: ["a"],
    "tuple": lambda: (1, None),
    "dict": lambda: {"a": 1},
    "array": lambda: np.ones(2),
    "object": object,
    "class": lambda: nn.ReLU,
    "module": nn.ReLU,
    "function": lambda: len,
    "float tensor": lambda: Tensor([0.5, 1.5, 2.5]),
    "int tensor": lambda: i(1, 2, 3),
    "bool tensor": lambda: Tensor([True]),
    "0-d": lambda: Tensor(1.0),
    "empty": lambda: T.zeros((0,)),
    "rank 5": lambda: T.ones((1, 1, 1, 1, 2)),
    "float64": lambda: f(2, 3, dtype="float64"),
}
if find_spec("array_api_strict"):
    WRONG["elsewhere"] = lambda: f(2, 3).to("strict:device1")
KINDLESS = {
    "string",
    "complex",
    "dict",
    "object",
    "class",
    "module",
    "function",
}  # of a wrong kind anywhere but where they are right


def made(x):
    return x() if callable(x) and getattr(x, "__name__", "") == "<lambda>" else x


def attempts(call):
    for place in [*range(len(call.args)), *call.kwargs]:
        for kind, wrong in WRONG.items():
            args, kwargs = [made(a) for a in call.args], {k: made(v) for k, v in call.kwargs.items()}
            if isinstance(place, int):
                args[place], argument = wrong(), call.names[place]
            else:
                kwargs[place], argument = wrong(), place
            yield argument, kind, args, kwargs


def unbound(call):
    """Attempts with an argument too many: the library's words for it name none."""
    args, kwargs = [made(a) for a in call.args], {k: made(v) for k, v in call.kwargs.items()}
    yield "", "one more", [*args, object()], kwargs
    yield "", "unknown", args, {**kwargs, "unheard_of": 1}


def complaint(call, argument, kind, args, kwargs):
    """What is not right with what comes out of a call; nothing if it is a result."""
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Data type alias 'a'")  # which np.asarray(x, dtype="a") takes
            call.function(*args, **kwargs)
    except Exception as error:
        state = isinstance(error, KeyError) and call.name == "load_state_dict"  # whose docstring says so
        text = str(error.args[0]) if state else str(error)
        said = f"{type(error).__name__}: {text}"
        if type(error) not in (*OWN, tinytorch.Unavailable) and not state:
            return f"not of the library's classes: {said}"
        if isinstance(error, tinytorch.Unavailable):  # CuPy is not installed, ...
            return ""
        if not re.match(rf"({call.called})\b[^\w]|({call.called})[ :(]|{call.called}: ", text):
            return f"does not begin with {call.called}: {said}"
        if RAW.search(text):
            return f"Python's own words: {said}"
        if (
            kind in KINDLESS
            and isinstance(error, TypeError)
            and not re.search(rf"\b({re.escape(argument) if '|' not in argument else argument})", text)
        ):
            return f"does not name {argument}: {said}"
    return ""


@pytest.mark.parametrize("call", [*op_calls(), *CALLS, *LAYERS, *LAYER_CALLS, *METHODS], ids=repr)
def test_only_the_librarys_own_errors_come_out(call):
    if call.name not in ("cuda", "Sequential"):  # what is right comes through
        with np.errstate(all="ignore"):
            call.function(*map(made, call.args), **{k: made(v) for k, v in call.kwargs.items()})
    wrong = [
        f"{argument} = {kind}: {found}"
        for argument, kind, args, kwargs in attempts(call)
        if (found := complaint(call, argument, kind, args, kwargs))
    ]
    assert not wrong, f"{len(wrong)}:\n" + "\n".join(wrong)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: T.stack([f(2), None]), r"stack: arrays\[1\] is a Tensor, not None; make it one with"),
        (lambda: T.concat([2, f(2)]), r"concat: arrays\[0\] is a Tensor, not int \(2\)"),
        (lambda: T.concat("ab"), r"concat: arrays is a sequence of Tensors, not str \('ab'\)"),
        (lambda: T.tensordot(f(2), f(2), axes=([0], ["a"])), r"a tuple of 2 \(integers or tuples of integers\), not"),
    ],
    ids=range(4),
)
def test_of_a_sequence_it_is_said_which_element_is_wrong(call, message):
    with pytest.raises(TypeError, match=message):
        call()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dim": 0}, r"^sum: there is no argument 'dim'; .*; names are the array API's: axis, keepdims$"),
        ({"keepdim": True}, r"^sum: there is no argument 'keepdim'; .*; names are the array API's: axis, keepdims$"),
        ({"foo": 1}, r"^sum: there is no argument 'foo'; there are x, axis, dtype, keepdims$"),
    ],
)
def test_of_an_unknown_argument_it_is_said_which_there_are(settings, message):
    with pytest.raises(TypeError, match=message):
        T.sum(f(2), **settings)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: T.zeros(2, 3), r"^zeros: the shape is one argument: zeros\(\(2, 3\)\)$"),
        (lambda: T.zeros((2, None)), r"^zeros: shape is an integer or a tuple of integers, not tuple \(2, None\)$"),
        (lambda: nn.CrossEntropyLoss(weight=f(2)), r"^CrossEntropyLoss: there is no argument 'weight'; there are \w+"),
        (lambda: T.data.DataLoader([1.0], num_workers=2), "^DataLoader: there is no argument 'num_workers'; .*shuffle"),
        (lambda: f(2).numpy(1), r"^numpy: too many positional arguments; there are none$"),
        (lambda: Tensor(2, 3), r"^Tensor: dtype is such as .*, not 3; .*tinytorch\.zeros\(\(2, 3\)\)$"),
        (lambda: f(2, 2) @ f(3), r"^matmul\(float32 \(2, 2\) on cpu, float32 \(3,\) on cpu\): axis -1 of x1 has "),
        (lambda: f(4)[: 4 / 2], "where a slice starts and stops are integers; write n // 2, not n / 2"),
        (lambda: T.searchsorted(f(2, 2), f(2)), r"x1 has one axis, not 2; "),
        (
            lambda: T.data.random_split(T.data.TensorDataset(f(2)), 2),
            r"lengths is a sequence of numbers, not int \(2\)$",
        ),
        (lambda: T.data.DataLoader({"x": f(2)}), r"^DataLoader: dataset has the items 0, 1, .*, not 'x'; write Tensor"),
        (lambda: T.asarray([[1], [2, 3]]), "^asarray: nested lists must have equal lengths, not 1 and 2$"),
        (
            lambda: Tensor(np.array([1, None])),
            r'^Tensor: there is no dtype object; .*x\.astype\("float32"\)',
        ),
        (lambda: Tensor(np.ma.array([1, 2], mask=[0, 1])), r"^Tensor: a masked array .* write x\.filled\(0\)$"),
        (lambda: nn.init.normal_(f(2), std=-1.0), r"^normal_: std is not negative: -1\.0$"),
        (lambda: nn.init.uniform_(i(1)), r"^uniform_: tensor has a floating dtype, not int64; convert"),
        (
            lambda: setattr(nn.Linear(1, 1), "weight", np.ones(1)),
            r"^Linear\.weight is a Parameter, and numpy\.ndarray of",
        ),
    ],
    ids=range(17),
)
def test_what_newcomers_do_is_refused_in_words_of_its_own(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


def test_a_dict_of_examples_by_number_is_a_data_set():
    assert [x.tolist() for x in T.data.DataLoader({0: 1.0, 1: 2.0})] == [[1.0], [2.0]]


def test_a_masked_array_that_hides_nothing_is_one_like_others():
    assert Tensor(np.ma.array([1, 2], mask=[0, 0])).tolist() == [1, 2]
