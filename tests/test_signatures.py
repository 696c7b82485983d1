"""What may be left out: every default of a public function, and each function's own name where it refuses."""

from __future__ import annotations

import inspect
from math import inf

import numpy as np
import pytest

import tinytorch
from tinytorch import nn, ops, optim, verify
from tinytorch.data import DataLoader
from tinytorch.nn import Module, ModuleList, init
from tinytorch.optim import Optimizer
from tinytorch.verify import Handle, Report, Run, controls, gates

float32 = np.dtype("float32")
PLACES = {
    "": tinytorch,
    "nn": nn,
    "nn.init": init,
    "optim": optim,
    "data": tinytorch.data,
    "ops": ops,
    "verify": verify,
    "gates": gates,
    "controls": controls,
}
CLASSES = [tinytorch.Tensor, Module, ModuleList, Optimizer, DataLoader, Report, Handle, Run]

# Of PyTorch for modules and optimizers, of the array API standard for functions, and of this project for the rest
DEFAULTS = {
    "Adam": {"lr": 0.001, "betas": (0.9, 0.999), "eps": 1e-08, "weight_decay": 0.0},
    "AdamW": {"lr": 0.001, "betas": (0.9, 0.999), "eps": 1e-08, "weight_decay": 0.01},
    "AvgPool2d": {"stride": None, "padding": 0, "count_include_pad": True},
    "BCELoss": {"reduction": "mean"},
    "BCEWithLogitsLoss": {"reduction": "mean"},
    "Conv2d": {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "bias": True, "device": None, "dtype": float32},
    "CrossEntropyLoss": {"ignore_index": -100, "reduction": "mean", "label_smoothing": 0.0},
    "Dropout": {"p": 0.5},
    "Embedding": {"device": None, "dtype": float32},
    "Flatten": {"start_dim": 1, "end_dim": -1},
    "GELU": {"approximate": "none"},
    "LayerNorm": {"eps": 1e-05, "elementwise_affine": True, "bias": True, "device": None, "dtype": float32},
    "Linear": {"bias": True, "device": None, "dtype": float32},
    "MSELoss": {"reduction": "mean"},
    "MaxPool2d": {"stride": None, "padding": 0, "dilation": 1},
    "ModuleList": {"modules": ()},
    "MultiHeadAttention": {"dropout": 0.0, "bias": True, "device": None, "dtype": float32},
    "Parameter": {"dtype": None, "device": None, "requires_grad": True},
    "PositionalEncoding": {"max_len": 5000, "learned": False, "device": None, "dtype": float32},
    "SGD": {"lr": 0.001, "momentum": 0.0, "dampening": 0.0, "weight_decay": 0.0, "nesterov": False},
    "Softmax": {"dim": -1},
    "Tensor": {"dtype": None, "device": None, "requires_grad": False},
    "TransformerEncoderLayer": {
        "dim_feedforward": 2048,
        "dropout": 0.1,
        "activation": "relu",
        "layer_norm_eps": 1e-05,
        "batch_first": False,
        "norm_first": False,
        "bias": True,
        "device": None,
        "dtype": float32,
    },
    "Unavailable": {"fix": ""},
    "arange": {"stop": None, "step": 1, "dtype": None, "device": None},
    "argmax": {"axis": None, "keepdims": False},
    "argmin": {"axis": None, "keepdims": False},
    "argsort": {"axis": -1, "descending": False, "stable": True},
    "asarray": {"dtype": None, "device": None, "copy": None},
    "astype": {"copy": True, "device": None},
    "attention_weights": {"mask": None, "is_causal": False, "scale": None},
    "avg_pool2d": {"stride": None, "padding": 0, "count_include_pad": True},
    "binary_cross_entropy": {"reduction": "mean"},
    "binary_cross_entropy_with_logits": {"reduction": "mean"},
    "clip": {"min": None, "max": None},
    "clip_grad_norm_": {"norm_type": 2.0},
    "concat": {"axis": 0},
    "conv2d": {"bias": None, "stride": 1, "padding": 0, "dilation": 1, "groups": 1},
    "count_nonzero": {"axis": None, "keepdims": False},
    "cross_entropy": {"reduction": "mean", "ignore_index": -100, "label_smoothing": 0.0},
    "cumulative_prod": {"axis": None, "dtype": None, "include_initial": False},
    "cumulative_sum": {"axis": None, "dtype": None, "include_initial": False},
    "debug": {"mode": True},
    "diff": {"axis": -1, "n": 1, "prepend": None, "append": None},
    "empty": {"dtype": None, "device": None},
    "empty_like": {"dtype": None, "device": None},
    "enable_grad": {"function": None},
    "expand_dims": {"axis": 0},
    "eye": {"n_cols": None, "k": 0, "dtype": None, "device": None},
    "flatten": {"start_axis": 0, "end_axis": -1},
    "flip": {"axis": None},
    "from_dlpack": {"device": None, "copy": None},
    "full": {"dtype": None, "device": None},
    "full_like": {"dtype": None, "device": None},
    "gelu": {"approximate": "none"},
    "grad": {"grad_outputs": None, "retain_graph": None, "create_graph": False, "allow_unused": False},
    "layer_norm": {"weight": None, "bias": None, "ndim": 1, "eps": 1e-05},
    "linear": {"bias": None},
    "linspace": {"dtype": None, "device": None, "endpoint": True},
    "log_softmax": {"axis": -1},
    "logsumexp": {"axis": None, "keepdims": False},
    "max_pool2d": {"stride": None, "padding": 0, "dilation": 1},
    "mean": {"axis": None, "keepdims": False},
    "meshgrid": {"indexing": "xy"},
    "mse_loss": {"reduction": "mean"},
    "multi_head_attention": {"key": None, "value": None, "mask": None, "is_causal": False, "scale": None},
    "no_grad": {"function": None},
    "ones": {"dtype": None, "device": None},
    "ones_like": {"dtype": None, "device": None},
    "pad": {"value": 0.0},
    "prod": {"axis": None, "dtype": None, "keepdims": False},
    "rand": {"dtype": float32, "device": None, "requires_grad": False},
    "randint": {"low": None, "high": None, "size": None, "dtype": None, "device": None},
    "randn": {"dtype": float32, "device": None, "requires_grad": False},
    "randperm": {"device": None},
    "repeat": {"axis": None},
    "reshape": {"copy": None},
    "roll": {"axis": None},
    "scaled_dot_product_attention": {"mask": None, "is_causal": False, "scale": None},
    "searchsorted": {"side": "left", "sorter": None},
    "softmax": {"axis": -1},
    "sort": {"axis": -1, "descending": False, "stable": True},
    "split": {"axis": 0},
    "squeeze": {"axis": None},
    "stack": {"axis": 0},
    "std": {"axis": None, "correction": 0.0, "keepdims": False},
    "take": {"axis": None},
    "take_along_axis": {"axis": -1},
    "tensor": {"dtype": None, "device": None, "requires_grad": False},
    "tensordot": {"axes": 2},
    "tril": {"k": 0},
    "triu": {"k": 0},
    "unstack": {"axis": 0},
    "var": {"axis": None, "correction": 0.0, "keepdims": False},
    "vecdot": {"axis": -1},
    "zeros": {"dtype": None, "device": None},
    "zeros_like": {"dtype": None, "device": None},
    "nn.init.calculate_gain": {"param": None},
    "nn.init.kaiming_normal_": {"a": 0.0, "mode": "fan_in", "nonlinearity": "leaky_relu"},
    "nn.init.kaiming_uniform_": {"a": 0.0, "mode": "fan_in", "nonlinearity": "leaky_relu"},
    "nn.init.normal_": {"mean": 0.0, "std": 1.0},
    "nn.init.trunc_normal_": {"mean": 0.0, "std": 1.0, "a": -2.0, "b": 2.0},
    "nn.init.uniform_": {"a": 0.0, "b": 1.0},
    "nn.init.xavier_normal_": {"gain": 1.0},
    "nn.init.xavier_uniform_": {"gain": 1.0},
    "data.DataLoader": {"batch_size": 1, "shuffle": False, "drop_last": False, "seed": None, "device": None},
    "data.random_split": {"seed": None},
    "data.tinydigits": {"device": None},
    "all": {"axis": None, "keepdims": False},
    "any": {"axis": None, "keepdims": False},
    "max": {"axis": None, "keepdims": False},
    "min": {"axis": None, "keepdims": False},
    "sum": {"axis": None, "dtype": None, "keepdims": False},
    "verify.Control": {"model": None, "batch": None, "gradients": None},
    "verify.Found": {"why": ()},
    "verify.diagnose": {"optimizer": None},
    "verify.run_once": {
        "seed": 0,
        "device": None,
        "updates": None,
        "control": None,
        "compile": False,
        "name": "",
        "progress": None,
    },
    "verify.verify": {
        "gates": (),
        "controls": (),
        "seeds": 1,
        "enough": None,
        "device": None,
        "compile": False,
        "name": "",
        "progress": None,
    },
    "gates.finite_gradients": {"exempt": None},
    "gates.gap": {"most": 0.15},
    "gates.loss_drop": {"least": 0.5},
    "gates.metric": {"most": inf, "name": "metric"},
    "gates.movement": {"least": 0.001, "of": "*", "exempt": None, "name": "movement"},
    "gates.nonzero_gradients": {"exempt": None},
    "gates.overfit": {"drop": 0.9, "within": 500},
    "gates.predicted": {"tolerance": 0.1, "exempt": None},
    "controls.freeze": {"fails": "movement"},
    "controls.no_positions": {"fails": "metric"},
    "controls.remove": {"fails": "metric"},
    "controls.scale_gradient": {"layer": "", "factor": 0.0, "fails": "movement"},
    "controls.shuffle_labels": {"fails": "metric"},
    "controls.uniform_attention": {"fails": "metric"},
    "Tensor.requires_grad_": {"requires_grad": True},
    "Tensor.backward": {"gradient": None, "retain_graph": None, "create_graph": False},
    "Tensor.to": {"device": None, "dtype": None},
    "Tensor.to_device": {"stream": None},
    "Tensor.cuda": {"index": None},
    "Module.named_modules": {"prefix": "", "remove_duplicate": True},
    "Module.train": {"mode": True},
    "Module.requires_grad_": {"requires_grad": True},
    "Module.to": {"device": None, "dtype": None},
    "Module.cuda": {"index": None},
    "Module.load_state_dict": {"strict": True},
    "Optimizer.check_number": {"least": 0.0},
    "Optimizer.zero_grad": {"set_to_none": True},
    "Handle.watch": {"optimizer": None, "loss": None, "metric": None, "train_metric": None, "curve": False},
    "Handle.batches": {"epochs": 1},
    "Run.born": {"update": None},
}


def found():
    """Every public function, class and method once: (how it is called, itself)."""
    seen = set()
    for place, space in PLACES.items():
        for name in getattr(space, "__all__", None) or dir(space):
            member = getattr(space, name, None)
            ours = callable(member) and getattr(member, "__module__", "").startswith("tinytorch")
            if name.startswith("_") or not ours or id(member) in seen:
                continue
            seen.add(id(member))
            yield (f"{place}.{name}" if place not in ("", "ops") else name), member
    for cls in CLASSES:
        for name, member in vars(cls).items():
            if inspect.isfunction(member) and not name.startswith("_") and id(member) not in seen:
                seen.add(id(member))
                yield f"{cls.__name__}.{name}", member


FOUND = dict(found())


def of(member):
    try:
        parameters = inspect.signature(member).parameters.values()
    except ValueError:  # of a class of Python's
        return {}
    return {p.name: p.default for p in parameters if p.default is not p.empty}


@pytest.mark.parametrize("name", DEFAULTS)
def test_what_may_be_left_out(name):
    expected = DEFAULTS[name]
    assert of(FOUND[name]) == expected
    assert {k: type(v) for k, v in of(FOUND[name]).items()} == {k: type(v) for k, v in expected.items()}


def test_no_default_is_forgotten():
    left = {name for name, member in FOUND.items() if name not in DEFAULTS and of(member)}
    assert left == UNLISTED


UNLISTED = {"device", "verify.Diagnosis", "verify.Handle", "verify.Report"}

# Which a subclass overrides, or which are for the library itself
INNER = {"forward", "extra_repr", "check", "check_number", "numbers", "update", "batch"}
# Which take what they are given, and refuse an argument that there is not in Python's own words
BARE = {"can_cast", "default_device", "device", "devices", "finfo", "iinfo", "isdtype", "result_type"}
BARE |= {"set_default_device", "bound", "constructor", "expecting", "given_to", "shown"}


@pytest.fixture(scope="module")
def made():
    layer = tinytorch.Linear(1, 1)
    one = [tinytorch.ones(2), layer, ModuleList([layer]), optim.SGD(layer.parameters())]
    one += [DataLoader([1, 2]), Report("r", tinytorch.device("cpu"))]
    return {cls.__name__: x for cls, x in zip(CLASSES, one, strict=False)}


@pytest.mark.parametrize(
    "name", [n for n, f in FOUND.items() if inspect.isfunction(f) and n.partition(".")[0] not in ("Handle", "Run")]
)
def test_an_argument_that_there_is_not_is_refused_by_its_name(name, made):
    place, _, last = name.rpartition(".")
    if last in INNER | BARE:
        return
    given = [made[place]] if place in made else []
    own = {"clone": "copy"}.get(last, last)
    with pytest.raises(TypeError, match=rf"^{own}(: |\((?!\) ))"):  # "name() got an unexpected ..." is Python's
        FOUND[name](*given, nonsense=1)
