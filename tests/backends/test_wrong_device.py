"""Tensors on different devices: whatever meets them says which, where each is, and what moves it."""

from __future__ import annotations

import re

import numpy as np
import pytest

import tinytorch
from tinytorch import Tensor

OPS = {
    "add": lambda a, b: a + b,
    "x += y": lambda a, b: a.__iadd__(b),
    "matmul": lambda a, b: a @ b,
    "where": lambda a, b: tinytorch.where(a > 0, a, b),
    "maximum": tinytorch.maximum,
    "concat": lambda a, b: tinytorch.concat([a, b]),
    "concat, flat": lambda a, b: tinytorch.concat([a, b], axis=None),
    "stack": lambda a, b: tinytorch.stack([a, b]),
    "einsum": lambda a, b: tinytorch.einsum("ij,jk->ik", a, b),
    "mse_loss": tinytorch.mse_loss,
    "binary_cross_entropy_with_logits": tinytorch.nn.BCEWithLogitsLoss(),
    "cross_entropy": tinytorch.nn.CrossEntropyLoss(),
    "scaled_dot_product_attention": lambda a, b: tinytorch.scaled_dot_product_attention(a, a, a, b),
    "clip": lambda a, b: tinytorch.clip(a, min=b),
    "setitem": lambda a, b: a.__setitem__(..., b),
    "setitem, rows": lambda a, b: a.__setitem__(tinytorch.asarray([0, 1], device=a.device), b),
    "data": lambda a, b: setattr(a, "data", b),
    "backward": lambda a, b: (a.requires_grad_() * 1).backward(b),
    "grad": lambda a, b: tinytorch.grad(a.requires_grad_() * 1, a, b),
}


@pytest.mark.parametrize("call", OPS.values(), ids=OPS)
def test_two_tensors_on_different_devices(call, other):
    for here, there in (("cpu", other), (other, "cpu")):
        a, b = tinytorch.ones((2, 2), device=here), tinytorch.zeros((2, 2), device=there)
        message = (
            rf": (float32|bool) \(2, 2\) on {here} and float32 \(2, 2\) on {there} are on different devices; "
            rf"move the second one with \.to\('{here}'\)$"
        )
        with pytest.raises(ValueError, match=message):
            call(a, b)
        assert a.tolist() == [[1.0, 1.0]] * 2  # nothing has changed


INDICES = {
    "x[i]": lambda x, i: x[i],
    "x[:, i]": lambda x, i: x[:, i],
    "x[i] = 0": lambda x, i: x.__setitem__(i, 0.0),
    "x[mask]": lambda x, i: x[i > 0],
    "x[mask] = 0": lambda x, i: x.__setitem__(i > 0, 0.0),
    "take": lambda x, i: tinytorch.take(x, i, axis=0),
    "embedding": lambda x, i: tinytorch.embedding(i, x),
    "take_along_axis": lambda x, i: tinytorch.take_along_axis(x, i[None, :], axis=1),
    "scatter_add": lambda x, i: tinytorch.ops.scatter_add(x, i, size=2),
    "cross_entropy": tinytorch.cross_entropy,
}


@pytest.mark.parametrize("call", INDICES.values(), ids=INDICES)
def test_indices_on_another_device(call, other):
    for here, there in (("cpu", other), (other, "cpu")):
        x, i = tinytorch.ones((2, 2), device=here), tinytorch.asarray([1, 0], device=there)
        message = rf"float32 \(2, 2\) on {here} and (int64|int32|bool) \(.*\) on {there} are on different devices; move"
        with pytest.raises(ValueError, match=message):
            call(x, i)
        assert x.tolist() == [[1.0, 1.0]] * 2


LAYERS = {
    "Linear": (tinytorch.Linear(2, 2, device="cpu"), (1, 2), "weight"),
    "Conv2d": (tinytorch.Conv2d(1, 1, 2, device="cpu"), (1, 1, 2, 2), "weight"),
    "LayerNorm": (tinytorch.nn.LayerNorm(2, device="cpu"), (1, 2), "weight"),
    "Sequential": (tinytorch.Sequential(tinytorch.ReLU(), tinytorch.Linear(2, 2, device="cpu")), (1, 2), "1.weight"),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_names_its_parameter_and_both_ways_out(name, other):
    layer, shape, parameter = LAYERS[name]
    list(layer.named_parameters())  # by what they are called in the outermost module
    x = tinytorch.ones(shape, device=other)
    message = (
        rf"float32 {re.escape(str(shape))} on {other} and float32 \(.*\) '{re.escape(parameter)}' on cpu are on "
        rf"different devices; move the first one with \.to\('cpu'\), or the model with model\.to\('{other}'\)"
    )
    with pytest.raises(ValueError, match=message):
        layer(x)
    layer(x.to("cpu"))  # the fix


def test_an_embedding_layer_names_its_weight(other):
    layer = tinytorch.Embedding(3, 2, device="cpu")
    ids = tinytorch.asarray([1, 2], device=other)
    with pytest.raises(ValueError, match=rf"'weight' on cpu and int\d+ \(2,\) on {other} .*; move the second one"):
        layer(ids)
    assert layer(ids.to("cpu")).shape == (2, 2)


def test_an_optimizer_names_the_parameter_and_its_gradient(other):
    model = tinytorch.Linear(2, 1, device="cpu")
    optimizer = tinytorch.SGD(model.parameters(), lr=1.0)
    model.weight.grad = tinytorch.ones((1, 2), device=other)
    before = model.weight.tolist()
    message = (
        r"SGD: the gradient of float32 \(1, 2\) 'weight' on cpu must be .* on the same device, "
        rf"not float32 \(1, 2\) on {other}; p\.grad = p\.grad\.to\(p\) makes it so"
    )
    with pytest.raises(ValueError, match=message):
        optimizer.step()
    assert model.weight.tolist() == before
    model.weight.grad = model.weight.grad.to(model.weight)  # the fix
    optimizer.step()
    np.testing.assert_allclose(model.weight.tolist(), np.asarray(before) - 1.0, rtol=1e-6)


def test_a_model_whose_parts_are_on_different_devices(other):
    model = tinytorch.Sequential(tinytorch.Linear(2, 2, device="cpu"), tinytorch.Linear(2, 2, device=other))
    list(model.named_parameters())
    with pytest.raises(
        ValueError, match=rf"float32 \(1, 2\) on cpu and float32 \(2, 2\) '1\.weight' on {other} .* the"
    ):
        model(tinytorch.ones((1, 2), device="cpu"))
    model.to(other)
    assert model(Tensor([[1.0, 2.0]], device=other)).device.name == other
