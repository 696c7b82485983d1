"""Initial values: their distribution, their bounds, and the same bits on every device."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tinytorch
from tinytorch import nn
from tinytorch.nn import init

SHAPE = (64, 32, 3, 3)  # fan-in 32 * 9 = 288, fan-out 64 * 9 = 576
TENTH = 0.05  # how far mean and deviation may be off, of the deviation: 18,432 numbers


def drawn(function, *args, shape=SHAPE, **kwargs):
    tensor = tinytorch.zeros(shape)
    assert function(tensor, *args, **kwargs) is tensor
    return tensor.numpy()


@pytest.mark.parametrize(
    ("function", "kwargs", "bound"),
    [
        (init.uniform_, {"a": -2.0, "b": 2.0}, 2.0),
        (init.xavier_uniform_, {}, math.sqrt(6 / (288 + 576))),
        (init.xavier_uniform_, {"gain": 2.0}, 2 * math.sqrt(6 / (288 + 576))),
        (init.kaiming_uniform_, {}, math.sqrt(2) * math.sqrt(3 / 288)),
        (init.kaiming_uniform_, {"mode": "fan_out", "nonlinearity": "relu"}, math.sqrt(2) * math.sqrt(3 / 576)),
        (init.kaiming_uniform_, {"a": math.sqrt(5)}, 1 / math.sqrt(288)),
        (init.kaiming_uniform_, {"nonlinearity": "tanh"}, 5 / 3 * math.sqrt(3 / 288)),
    ],
    ids=lambda x: getattr(x, "__name__", str(x)),
)
def test_uniform_within_the_bound(function, kwargs, bound):
    values = drawn(function, **kwargs)
    assert np.abs(values).max() <= bound
    assert np.abs(values).max() > 0.99 * bound
    assert abs(values.mean()) < TENTH * bound
    assert values.std() == pytest.approx(bound / math.sqrt(3), rel=TENTH)


@pytest.mark.parametrize(
    ("function", "kwargs", "mean", "deviation"),
    [
        (init.normal_, {}, 0.0, 1.0),
        (init.normal_, {"mean": 3.0, "std": 0.5}, 3.0, 0.5),
        (init.xavier_normal_, {}, 0.0, math.sqrt(2 / (288 + 576))),
        (init.kaiming_normal_, {}, 0.0, math.sqrt(2 / 288)),
        (init.kaiming_normal_, {"mode": "fan_out", "nonlinearity": "linear"}, 0.0, math.sqrt(1 / 576)),
        (init.trunc_normal_, {"std": 0.02}, 0.0, 0.02),
        (init.trunc_normal_, {"std": 1.0, "a": -2.0, "b": 2.0}, 0.0, 0.8796),
    ],
    ids=lambda x: getattr(x, "__name__", str(x)),
)
def test_normal_of_the_deviation(function, kwargs, mean, deviation):
    values = drawn(function, **kwargs)
    assert values.mean() == pytest.approx(mean, abs=TENTH * deviation)
    assert values.std() == pytest.approx(deviation, rel=TENTH)
    assert np.mean(np.abs(values - mean) < deviation) == pytest.approx(0.68, abs=0.06)


def test_truncated_values_stay_inside():
    values = drawn(init.trunc_normal_, std=2.0, a=-1.0, b=0.5)
    assert (values.min() >= -1.0, values.max() <= 0.5) == (True, True)
    assert values.min() < -0.99
    for a, b in ((1.0, 1.0), (5.0, 6.0), (-6.0, -5.0)):
        with pytest.raises(ValueError, match=r"trunc_normal_: \[.*\] holds next to nothing of a normal of mean 0"):
            init.trunc_normal_(tinytorch.zeros(3), a=a, b=b)


def test_constants():
    assert set(drawn(init.zeros_).flat) == {0.0}
    assert set(drawn(init.ones_).flat) == {1.0}
    assert set(drawn(init.constant_, 0.5).flat) == {0.5}


def test_values_are_set_in_the_dtype_and_on_the_device(device):
    p = nn.Parameter([[1.0, 2.0]], device=device)
    for function in (init.normal_, init.xavier_uniform_, init.ones_, init.trunc_normal_):
        function(p)
        assert (p.dtype, p.device.name, p.is_leaf, p.requires_grad) == (tinytorch.float32, device, True, True)
    assert init.normal_(tinytorch.zeros(2, dtype="float64", device="cpu")).dtype == tinytorch.float64


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: init.xavier_uniform_(tinytorch.zeros(3)), r"two dimensions or more, not shape \(3,\)"),
        (lambda: init.kaiming_normal_(tinytorch.zeros(())), r"two dimensions or more, not shape \(\)"),
        (
            lambda: init.kaiming_uniform_(tinytorch.zeros((2, 2)), mode="both"),
            "mode is 'fan_in' or 'fan_out', not 'both'",
        ),
        (lambda: init.calculate_gain("swish"), "'swish' is none of linear, conv2d, sigmoid, tanh, relu, leaky_relu"),
    ],
    ids=["vector", "scalar", "mode", "gain"],
)
def test_what_cannot_be_drawn(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("layer", "bounds"),
    [
        (lambda: nn.Linear(100, 50), {"weight": 0.1, "bias": 0.1}),
        (lambda: nn.Conv2d(8, 40, (5, 2), groups=2), {"weight": 1 / math.sqrt(40), "bias": 1 / math.sqrt(40)}),
        (
            lambda: nn.MultiHeadAttention(32, 4),
            {"in_proj_weight": math.sqrt(6 / 128), "out_proj.weight": 1 / math.sqrt(32)},
        ),
    ],
    ids=["Linear", "Conv2d", "MultiHeadAttention"],
)
def test_layers_start_within_pytorch_s_bounds(layer, bounds):
    state = layer().state_dict()
    for name, bound in bounds.items():
        largest = np.abs(state[name]).max()
        assert 0.9 * bound < largest <= bound
    if "in_proj_weight" in bounds:
        assert not state["in_proj_bias"].any()
        assert not state["out_proj.bias"].any()


def test_other_layers_start_as_pytorch_s_do():
    assert nn.Embedding(200, 50).weight.detach().numpy().std() == pytest.approx(1.0, rel=TENTH)
    learned = nn.PositionalEncoding(50, 200, learned=True)
    assert learned.pe.detach().numpy().std() == pytest.approx(0.02, rel=TENTH)
    norm = nn.LayerNorm(3)
    assert (norm.weight.tolist(), norm.bias.tolist()) == ([1.0] * 3, [0.0] * 3)


def test_the_same_seed_gives_the_same_bits_on_every_device(other):
    def weights(device):
        tinytorch.manual_seed(7)
        model = nn.Sequential(
            nn.Conv2d(3, 4, 3, device=device),
            nn.Linear(5, 6, device=device),
            nn.Embedding(7, 8, device=device),
            nn.PositionalEncoding(8, 9, learned=True, device=device),
            nn.TransformerEncoderLayer(8, 2, 16, device=device),
        )
        assert {p.device.name for p in model.parameters()} == {device}
        return model.state_dict()

    here, there = weights("cpu"), weights(other)
    assert here.keys() == there.keys()
    assert all(here[name].tobytes() == there[name].tobytes() for name in here)


def test_another_seed_gives_other_weights():
    def weight(seed):
        tinytorch.manual_seed(seed)
        return nn.Linear(3, 3).weight.tolist()

    assert weight(1) == weight(1) != weight(2)
