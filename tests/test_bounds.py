"""Where a range ends: the last value inside is taken; the first outside is refused, and so is one far away."""

from __future__ import annotations

import numpy as np
import pytest

import tinytorch
from tinytorch import Tensor, nn, optim
from tinytorch.data import DataLoader, TensorDataset, random_split
from tinytorch.verify import gates, run_once, verify

X = tinytorch.ones((2, 3))
IMAGE = tinytorch.ones((1, 2, 4, 4))
DATA = TensorDataset(tinytorch.arange(4))


def at(function):
    """Of an index tensor with a good one beside it."""
    return lambda i: function(Tensor([0, i]))


def along(name):
    return lambda i: getattr(tinytorch, name)(X, axis=i)


def sgd(**settings):
    return optim.SGD([nn.Parameter([1.0])], **settings)


def adam(**settings):
    return optim.Adam([nn.Parameter([1.0])], **settings)


def trained(run):
    run.watch(nn.Linear(1, 1))
    yield tinytorch.ones(())


AXES = {  # of two axes
    name: along(name)
    for name in (
        *("sum", "prod", "mean", "var", "std", "max", "min", "argmax", "argmin", "all", "any", "count_nonzero", "flip"),
        *("softmax", "log_softmax", "logsumexp", "sort", "argsort", "cumulative_sum", "cumulative_prod", "unstack"),
    )
}
AXES |= {
    "roll": lambda i: tinytorch.roll(X, 1, axis=i),
    "concat": lambda i: tinytorch.concat([X, X], axis=i),
    "split": lambda i: tinytorch.split(X, 1, axis=i),
    "repeat": lambda i: tinytorch.repeat(X, 2, axis=i),
    "diff": lambda i: tinytorch.diff(X, axis=i),
    "take": lambda i: tinytorch.take(X, Tensor([0]), axis=i),
    "take_along_axis": lambda i: tinytorch.take_along_axis(X, Tensor([[0]]), axis=i),
    "flatten from": lambda i: tinytorch.flatten(X, i, 1) if i != 1 else None,
    "flatten to": lambda i: tinytorch.flatten(X, 0, i),
    "moveaxis": lambda i: tinytorch.moveaxis(X, i, 0),
    "moveaxis to": lambda i: tinytorch.moveaxis(X, 0, i),
    "tensordot": lambda i: tinytorch.tensordot(X, X, axes=((i,), (i,))),
    "vecdot": lambda i: tinytorch.vecdot(X, X, axis=i),
    "permute_dims": lambda i: tinytorch.permute_dims(X, (i, 1 - i % 2)),
    "x[i]": lambda i: X[i],
    "nn.Softmax": lambda i: nn.Softmax(i)(X),
}
# What is tried, and the ends of what is taken; None where there is no upper one
ENDS = {
    **{name: (call, -2, 1) for name, call in AXES.items()},
    "expand_dims": (lambda i: tinytorch.expand_dims(X, axis=i), -3, 2),
    "stack": (lambda i: tinytorch.stack([X, X], axis=i), -3, 2),
    "x[:, i]": (lambda i: X[:, i], -3, 2),
    "x[0, i]": (lambda i: X[0, i], -3, 2),
    "x[i] = 1": (lambda i: X.copy().__setitem__(i, 1.0), -2, 1),
    "x[indices]": (at(lambda i: X[i]), -2, 1),
    "x[:, indices]": (at(lambda i: X[:, i]), -3, 2),
    "x[indices] = 1": (at(lambda i: X.copy().__setitem__(i, 1.0)), -2, 1),
    "x[i, indices]": (lambda i: X[i, Tensor([0, 1])], -2, 1),
    "take of indices": (at(lambda i: tinytorch.take(X, i, axis=1)), -3, 2),
    "take_along_axis of indices": (at(lambda i: tinytorch.take_along_axis(X[0], i)), -3, 2),
    "scatter_add": (at(lambda i: tinytorch.ops.scatter_add(X, i, 2)), 0, 1),
    "embedding": (at(lambda i: tinytorch.embedding(i, X)), 0, 1),
    "cross_entropy": (at(lambda i: tinytorch.cross_entropy(X, i)), 0, 2),
    "batch": (lambda i: DATA.batch([0, i]), -4, 3),
    "TensorDataset": (lambda i: DATA[i], -4, 3),
    "ModuleList": (lambda i: nn.ModuleList([nn.ReLU()] * 3)[i], -3, 2),
    "batch_size": (lambda n: DataLoader(DATA, batch_size=n), 1, None),
    "a seed of a loader": (lambda n: list(DataLoader(DATA, shuffle=True, seed=n)), 0, None),
    "a seed of a split": (lambda n: random_split(DATA, [2, 2], seed=n), 0, None),
    "manual_seed": (tinytorch.manual_seed, 0, None),
    "randperm": (tinytorch.randperm, 0, None),
    "zeros": (tinytorch.zeros, 0, None),
    "repeat of a number": (lambda n: tinytorch.repeat(X, n), 0, None),
    "split by a size": (lambda n: tinytorch.split(X, n), 1, None),
    "diff n": (lambda n: tinytorch.diff(X, n=n), 0, None),
    "tensordot of last axes": (
        lambda n: tinytorch.tensordot(X.mT, X, axes=n) if n < 2 else tinytorch.tensordot(X, X, axes=n),
        0,
        2,
    ),
    "pad": (lambda n: tinytorch.pad(X, n), 0, None),
    "linspace": (lambda n: tinytorch.linspace(0, 1, n), 0, None),
    "stride": (lambda n: tinytorch.conv2d(IMAGE, IMAGE, stride=n), 1, None),
    "padding": (lambda n: tinytorch.conv2d(IMAGE, IMAGE, padding=n), 0, None),
    "dilation": (lambda n: tinytorch.conv2d(IMAGE, IMAGE[:, :, :1, :1], dilation=n), 1, None),
    "groups": (lambda n: tinytorch.conv2d(IMAGE, IMAGE, groups=n), 1, 1),
    "kernel_size": (lambda n: tinytorch.max_pool2d(IMAGE, n), 1, 4),
    "padding of a pool": (lambda n: tinytorch.avg_pool2d(IMAGE, 4, padding=n), 0, 2),
    "layer_norm": (lambda n: tinytorch.layer_norm(X, ndim=n), 1, 2),
    "heads": (lambda n: tinytorch.multi_head_attention(tinytorch.ones((1, 2, 3)), num_heads=n), 1, 1),
    "Dropout": (nn.Dropout, 0.0, 1.0),
    "label_smoothing": (lambda v: tinytorch.cross_entropy(X, Tensor([0, 1]), label_smoothing=v), 0.0, 1.0),
    "lr": (lambda v: sgd(lr=v), 0.0, None),
    "momentum": (lambda v: sgd(momentum=v), 0.0, None),
    "weight_decay": (lambda v: adam(weight_decay=v), 0.0, None),
    "eps": (lambda v: adam(eps=v), 0.0, None),
    "the first beta": (lambda v: adam(betas=(v, 0.9)), 0.0, 0.9999999),
    "the second beta": (lambda v: adam(betas=(0.9, v)), 0.0, 0.9999999),
    "max_norm": (lambda v: optim.clip_grad_norm_([nn.Parameter([1.0])], v), 0.0, None),
    "metric": (gates.metric, 0.0, 1.0),
    "gap": (gates.gap, 0.0, 1.0),
    "a seed of a run": (lambda n: run_once(trained, seed=n), 0, None),
    "seeds": (lambda n: verify(trained, seeds=[n]), 0, None),
    "uint8": (lambda n: tinytorch.full(1, n, dtype="uint8"), 0, 255),
    "int8": (lambda n: Tensor([1], dtype="int8") + n, -128, 127),
    "a probability": (lambda v: tinytorch.binary_cross_entropy(Tensor([float(v)]), Tensor([0.5])), 0.0, 1.0),
    "a target": (lambda v: tinytorch.binary_cross_entropy(Tensor([0.5]), Tensor([float(v)])), 0.0, 1.0),
}


@pytest.mark.parametrize("name", ENDS)
def test_the_ends_of_a_range(name):
    call, low, high = ENDS[name]
    step = 1 if isinstance(low, int) else 1e-3
    for inside in {low, low if high is None else high}:
        call(inside)
    outside = [low - step, low - 7, low - 1000]
    outside += [] if high is None else [high + step, high + 7, high + 1000]
    for value in outside:
        with pytest.raises((ValueError, IndexError, OverflowError)):
            call(value)


def test_the_open_end_of_a_range():
    for norm_type in (0.0, -1.0, np.nan):
        with pytest.raises(ValueError, match="norm_type is positive"):
            optim.clip_grad_norm_([nn.Parameter([1.0])], 1.0, norm_type=norm_type)
    assert optim.clip_grad_norm_([nn.Parameter([1.0])], 1.0, norm_type=1e-3).item() == 0.0
    for beta in (1.0, 1.5, -1e-9):
        with pytest.raises(ValueError, match=r"betas are in \[0, 1\)"):
            adam(betas=(0.9, beta))
