"""Layers: what they compute, apart from the comparison with PyTorch, and what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tinytorch
from tinytorch import Tensor, nn
from tinytorch.nn import Parameter
from tinytorch.testing import assert_close


def randn(*shape, device=None, **kwargs):
    return tinytorch.randn(*shape, device=device, **kwargs)


# What does not fit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Linear(0, 2), "Linear: in_features is an integer, at least 1, not 0"),
        (lambda: nn.LayerNorm(0), r"LayerNorm: normalized_shape\[0\] is an integer, at least 1, not 0"),
        (lambda: nn.LayerNorm([2, -1]), r"normalized_shape\[1\] is an integer, at least 1, not -1"),
        (lambda: nn.LayerNorm(()), "LayerNorm: normalized_shape names at least one axis"),
        (lambda: nn.Conv2d(3, 4, 3, groups=2), "Conv2d: 3 and 4 channels must be multiples of groups=2"),
        (lambda: nn.Conv2d(4, 4, 3, groups=0), "Conv2d: groups is an integer, at least 1, not 0"),
        (lambda: nn.Conv2d(1, 1, 0), "kernel_size is an integer, at least 1, or two"),
        (lambda: nn.Conv2d(1, 1, (3, 3, 3)), r"kernel_size .* not \(3, 3, 3\)"),
        (lambda: nn.Conv2d(1, 1, 3, stride=0), "stride is an integer, at least 1"),
        (lambda: nn.Conv2d(1, 1, 3, padding=-1), "padding is an integer, at least 0"),
        (lambda: nn.MaxPool2d(2, stride=0), "stride is an integer, at least 1"),
        (lambda: nn.AvgPool2d(0), "kernel_size is an integer, at least 1"),
        (lambda: nn.Embedding(0, 3), "Embedding: num_embeddings is an integer, at least 1, not 0"),
        (lambda: nn.PositionalEncoding(4, 0), "PositionalEncoding: max_len is an integer, at least 1, not 0"),
        (lambda: nn.MultiHeadAttention(6, 4), "embed_dim 6 is not a multiple of 4 heads"),
        (lambda: nn.MultiHeadAttention(6, 0), "num_heads is an integer, at least 1, not 0"),
        (lambda: nn.TransformerEncoderLayer(4, 2, activation="swish"), "'relu', 'gelu' or a function, not 'swish'"),
        (lambda: nn.Dropout(1.5), "Dropout: p is a number between 0 and 1, not 1.5"),
    ],
    ids=range(18),
)
def test_layers_that_cannot_be_made(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Linear(2.0, 2), "Linear: in_features is an integer, at least 1, not 2.0"),
        (lambda: nn.Linear(2, None), "Linear: out_features is an integer, at least 1, not None"),
        (lambda: nn.Linear(True, 2), "Linear: in_features is an integer, at least 1, not True"),
        (lambda: nn.Conv2d(1, "2", 3), "Conv2d: out_channels is an integer, at least 1, not '2'"),
        (lambda: nn.Embedding(3.0, 2), "Embedding: num_embeddings is an integer, at least 1, not 3.0"),
        (lambda: nn.LayerNorm(2.5), "LayerNorm: normalized_shape is an integer or a tuple of integers, not float"),
        (lambda: nn.LayerNorm("ab"), "LayerNorm: normalized_shape is an integer or a tuple of integers, not str"),
    ],
    ids=range(7),
)
def test_sizes_of_layers_are_integers(make, message):
    with pytest.raises(TypeError, match=message):
        make()


def test_sizes_of_layers_may_be_numpy_integers():
    assert nn.Linear(np.int64(3), np.int32(2)).weight.shape == (2, 3)


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (
            lambda d: nn.Linear(3, 2, device=d),
            (4, 5),
            r"linear\(float32 \(4, 5\) on .*, float32 \(2, 3\) .*: the last axis of x must be of length 3.*; linear",
        ),
        (lambda d: nn.Linear(3, 2, device=d), (), r"the last axis of x must be of length 3"),
        (lambda d: nn.Conv2d(3, 2, 3, device=d), (1, 4, 8, 8), "4 channels and 2 kernels of 3 channels do not make 1"),
        (
            lambda d: lambda x: tinytorch.conv2d(x, x, tinytorch.ones(2, device=d)),
            (1, 1, 2, 2),
            r"the bias must have shape \(1,\)",
        ),
        (lambda d: nn.Conv2d(3, 2, 3, device=d), (3, 8, 8), r"four dimensions; for one image write x\[None\]"),
        (
            lambda d: nn.Conv2d(1, 1, 3, dilation=2, device=d),
            (1, 1, 4, 4),
            "the kernel spans 5 but the image, with padding, only 4; pad more",
        ),
        (lambda d: nn.MaxPool2d(2), (4, 4), r"max_pool2d.*four dimensions; for one image write x\[None\]"),
        (lambda d: nn.MaxPool2d(5), (1, 1, 4, 4), "the kernel spans 5 but the image, with padding, only 4"),
        (lambda d: nn.LayerNorm(3, device=d), (2, 4), r"LayerNorm: the last axes of x must be \(3,\), not \(4,\)"),
        (lambda d: nn.LayerNorm((2, 3), device=d), (3,), r"must be \(2, 3\), not \(3,\)"),
        (lambda d: nn.PositionalEncoding(4, 3, device=d), (1, 4, 4), "4 positions, but max_len is 3"),
        (lambda d: nn.PositionalEncoding(4, 3, device=d), (1, 2, 5), r"x has shape \(\.\.\., T, 4\), not \(1, 2, 5\)"),
        (lambda d: nn.PositionalEncoding(4, 3, device=d), (1, 2, 1), r"x has shape \(\.\.\., T, 4\)"),  # not broadcast
        (lambda d: nn.PositionalEncoding(4, 3, device=d), (4,), r"x has shape \(\.\.\., T, 4\)"),
        (lambda d: nn.MultiHeadAttention(4, 2, device=d), (2, 4), r"query has shape \(N, T, 4\), not \(2, 4\)"),
        (lambda d: nn.MultiHeadAttention(4, 2, device=d), (2, 3, 5), r"query has shape \(N, T, 4\), not \(2, 3, 5\)"),
    ],
    ids=range(16),
)
def test_shapes_that_do_not_fit(layer, shape, message, device):
    module = layer(device)
    with pytest.raises(ValueError, match=message):
        module(tinytorch.ones(shape, device=device))


@pytest.mark.parametrize("layer", [nn.Flatten(2), nn.Softmax(3)], ids=repr)
def test_axes_that_are_not_there(layer, device):
    with pytest.raises(IndexError, match="axis"):
        layer(tinytorch.ones((2, 2), device=device))


def test_an_error_names_the_parameter():
    model = nn.Sequential(nn.Linear(3, 2))
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias"]
    with pytest.raises(ValueError, match=r"float32 \(2, 3\) '0\.weight' on cpu, float32 \(2,\) '0\.bias' on cpu"):
        model(tinytorch.ones((1, 5)))


@pytest.mark.parametrize(
    ("layer", "x", "message"),
    [
        (
            lambda: nn.Linear(3, 2),
            lambda: tinytorch.ones((1, 3), dtype="float64"),
            "linear: float64 .* takes one dtype",
        ),
        (lambda: nn.Linear(3, 2), lambda: tinytorch.ones((1, 3), dtype="int32"), "takes .* convert with"),
        (lambda: nn.LayerNorm(3), lambda: tinytorch.ones((1, 3), dtype="float64"), "layer_norm: .* takes one dtype"),
        (lambda: nn.ReLU(), lambda: Tensor([1, 2]), "relu: int64 .* takes floating dtypes"),
        (lambda: nn.Softmax(), lambda: Tensor([True]), "softmax: bool .* takes floating dtypes"),
        (lambda: nn.Embedding(3, 2), lambda: Tensor([1.0]), "embedding: indices are integers, not float32"),
        (lambda: nn.MaxPool2d(1), lambda: tinytorch.ones((1, 1, 1, 1), dtype="int32"), "max_pool2d: .* floating"),
    ],
    ids=range(7),
)
def test_dtypes_that_do_not_fit(layer, x, message):
    with pytest.raises(TypeError, match=message):
        layer()(x())


@pytest.mark.parametrize("token", [3, -1])
def test_tokens_out_of_range(token, device):
    layer = nn.Embedding(3, 2, device=device)
    with pytest.raises(IndexError, match=rf"embedding: {token} is outside \[0, 3\)"):
        layer(Tensor([[0, token]], device=device)).tolist()


# Linear, convolution, pooling, normalization ----------------------------------------------------------------------


def test_linear_takes_any_leading_axes(device):
    layer = nn.Linear(3, 2, device=device)
    rows = randn(4, 3, device=device)
    expected = layer(rows).detach()
    assert_close(layer(rows.reshape(2, 2, 3)).detach().reshape(4, 2), expected)
    assert_close(layer(rows[0]).detach(), expected[0], rtol=1e-5, atol=1e-6)
    assert layer(tinytorch.zeros((0, 3), device=device)).shape == (0, 2)
    assert nn.Linear(3, 2, bias=False, device=device).bias is None


def test_an_empty_batch_goes_through(device):
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3, device=device), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 2, device=device)
    )
    y = model(tinytorch.zeros((0, 1, 6, 6), device=device))
    assert y.shape == (0, 2)
    y.sum().backward()
    assert all(float(p.grad.abs().sum()) == 0.0 for p in model.parameters())


@pytest.mark.parametrize("memory", [None, 5], ids=["to itself", "to another"])
def test_an_empty_batch_attends(memory, device):
    x = Tensor(np.zeros((0, 3, 4), "float32"), device=device, requires_grad=True)
    key = None if memory is None else tinytorch.zeros((0, memory, 4), device=device)
    y = nn.MultiHeadAttention(4, 2, device=device)(x, key)
    assert y.shape == x.shape
    y.sum().backward()
    assert x.grad.shape == x.shape
    packed = Tensor(np.zeros((0, 3, 12), "float32"), device=device)
    assert tinytorch.multi_head_attention(packed, num_heads=2).shape == x.shape


@pytest.mark.parametrize("shape", [(1, 2, 8), (2, 2, 4)], ids=["features", "batch"])
def test_keys_of_another_shape_are_not_taken_apart(shape, device):
    query, key = tinytorch.ones((1, 3, 4), device=device), tinytorch.ones(shape, device=device)
    with pytest.raises(ValueError, match="key and value have the 1 sequences and 4 features of the query"):
        tinytorch.multi_head_attention(query, key, key, num_heads=2)


def test_layer_norm_normalizes_the_last_axes(device):
    x = randn(4, 3, 5, device=device) * 7 + 3
    y = nn.LayerNorm((3, 5), elementwise_affine=False)(x).reshape(4, 15)
    assert_close(y.mean(axis=1).cpu(), tinytorch.zeros(4, device="cpu"), rtol=0, atol=1e-5)
    assert_close(y.std(axis=1).cpu(), tinytorch.ones(4, device="cpu"), rtol=1e-4, atol=0)
    plain = nn.LayerNorm(5, elementwise_affine=False)
    assert list(plain.parameters()) == []
    assert [name for name, _ in nn.LayerNorm(5, bias=False).named_parameters()] == ["weight"]


@pytest.mark.parametrize(
    ("offset", "spread", "first"), [(1000.1, 0.0, 1000.1), (1000.1, 1.0, 0.0), (-1e5, 1.0, -1e5), (0.0, 1.0, 1e6)]
)
def test_layer_norm_far_from_zero(device, offset, spread, first):
    """The mean of a float32 row of a thousand numbers near 1000 is known to 1e-4 only: it must not be what counts."""
    x = (np.random.Generator(np.random.Philox(0)).standard_normal((4, 1000)) * spread + offset).astype("float32")
    x[:, 0] = first
    h = x.astype("float64") - x.astype("float64").mean(axis=1, keepdims=True)
    h /= np.sqrt((h * h).mean(axis=1, keepdims=True) + 1e-5)
    y = tinytorch.layer_norm(Tensor(x, device=device))
    np.testing.assert_allclose(y.numpy(), h, rtol=4e-6, atol=2e-6)


def test_flatten_joins_the_axes():
    x = tinytorch.ones((2, 3, 4, 5))
    assert nn.Flatten()(x).shape == (2, 60)
    assert nn.Flatten(0, 1)(x).shape == (6, 4, 5)
    assert nn.Flatten(-2)(x).shape == (2, 3, 20)
    with pytest.raises(ValueError, match="start_axis 2 comes after end_axis 1"):
        nn.Flatten(2, 1)(x)


@pytest.mark.parametrize(
    ("layer", "function"),
    [
        (nn.ReLU(), lambda x: np.maximum(x, 0)),
        (nn.Tanh(), np.tanh),
        (nn.Sigmoid(), lambda x: 1 / (1 + np.exp(-x))),
        (nn.GELU(), lambda x: x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))),
        (nn.GELU("tanh"), lambda x: x * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))),
        (nn.Softmax(dim=0), lambda x: np.exp(x) / np.exp(x).sum(0)),
        (nn.Softmax(), lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True)),
    ],
    ids=lambda x: repr(x) if isinstance(x, nn.Module) else "",  # a function's address differs from run to run
)
def test_activations(layer, function, device):
    x = np.linspace(-3, 3, 12, dtype="float32").reshape(3, 4)
    expected = Tensor(function(x.astype("float64")), "float32", device)
    assert_close(layer(Tensor(x, None, device)), expected, rtol=1e-5, atol=1e-6)
    assert list(layer.parameters()) == []


def test_an_unknown_approximation():
    with pytest.raises(ValueError, match="approximate is 'none' or 'tanh', not 'sigmoid'"):
        nn.GELU("sigmoid")(Tensor([1.0]))


# Dropout ----------------------------------------------------------------------------------------------------------


def test_dropout_scales_what_it_keeps(device):
    y = nn.Dropout(0.25)(tinytorch.ones((100, 100), device=device))
    values = y.numpy()
    assert set(values.flat) == {0.0, np.float32(1 / 0.75)}
    assert np.mean(values == 0) == pytest.approx(0.25, abs=0.02)
    assert values.mean() == pytest.approx(1.0, abs=0.03)


def test_dropout_draws_anew_each_time():
    layer, x = nn.Dropout(), tinytorch.ones(100)
    first = layer(x).tolist()
    assert layer(x).tolist() != first
    tinytorch.manual_seed(0)
    assert layer(x).tolist() == first


def test_dropout_only_trains():
    x = tinytorch.ones(5)
    assert nn.Dropout(0.9).eval()(x) is x
    assert nn.Dropout(0.0)(x) is x
    assert nn.Dropout(1.0)(x).tolist() == [0.0] * 5


def test_the_gradient_of_dropout_is_its_mask(device):
    x = Tensor(np.full(50, 3.0, "float32"), None, device, requires_grad=True)
    y = nn.Dropout(0.5)(x)
    y.sum().backward()
    assert (y.detach() / 3).tolist() == x.grad.tolist()
    assert set(x.grad.tolist()) == {0.0, 2.0}


def test_dropout_masks_are_the_same_bits_on_every_device(other):
    def dropped(device):
        tinytorch.manual_seed(3)
        x = tinytorch.ones((4, 8), device=device)
        attention = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.5, batch_first=True, device=device)
        return nn.Dropout(0.3)(x).numpy(), attention(x[None]).detach().numpy()

    (mask, out), (mask_there, out_there) = dropped("cpu"), dropped(other)
    assert mask.tobytes() == mask_there.tobytes()
    np.testing.assert_allclose(out_there, out, rtol=1e-4, atol=1e-5)


# Positions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("d_model", [6, 7])
def test_positions_are_sines_and_cosines(d_model, device):
    layer = nn.PositionalEncoding(d_model, max_len=20, device=device)
    expected = np.zeros((20, d_model))
    for position in range(20):
        for i in range(0, d_model, 2):
            angle = position / 10000 ** (i / d_model)
            expected[position, i] = math.sin(angle)
            if i + 1 < d_model:
                expected[position, i + 1] = math.cos(angle)
    for length in (20, 5):
        x = randn(2, length, d_model, device=device)
        assert_close(layer(x) - x, Tensor(np.stack([expected[:length]] * 2), "float32", device), rtol=1e-5, atol=1e-6)
    assert list(layer.parameters()) == []
    assert list(layer.state_dict()) == ["pe"]


def test_positions_can_be_learned():
    layer = nn.PositionalEncoding(4, max_len=6, learned=True)
    assert [name for name, _ in layer.named_parameters()] == ["pe"]
    layer(tinytorch.zeros((3, 2, 4))).sum().backward()
    assert layer.pe.grad.tolist() == [[3.0] * 4] * 2 + [[0.0] * 4] * 4


def test_embedding_gradients_of_tokens_that_repeat(device):
    layer = nn.Embedding(4, 2, device=device)
    layer(Tensor([[1, 1, 3]], device=device)).sum().backward()
    assert layer.weight.grad.tolist() == [[0.0, 0.0], [2.0, 2.0], [0.0, 0.0], [1.0, 1.0]]


# Attention --------------------------------------------------------------------------------------------------------


def attention(device, **kwargs):
    return nn.MultiHeadAttention(8, 2, device=device, **kwargs)


def test_attention_returns_one_tensor_or_the_weights_too(device):
    layer, x = attention(device), randn(3, 5, 8, device=device)
    alone = layer(x)
    out, weights = layer(x, need_weights=True)
    assert (alone.shape, weights.shape) == ((3, 5, 8), (3, 2, 5, 5))
    assert_close(out.detach(), alone.detach(), rtol=1e-5, atol=1e-6)
    assert_close(weights.sum(axis=-1).detach(), tinytorch.ones((3, 2, 5), device=device), rtol=1e-5, atol=0)


def test_self_attention_is_attention_to_oneself(device):
    layer, x = attention(device), randn(2, 3, 8, device=device)
    assert_close(layer(x).detach(), layer(x, x, x).detach(), rtol=0, atol=0)
    memory = randn(2, 4, 8, device=device)
    assert_close(layer(x, memory).detach(), layer(x, memory, memory).detach(), rtol=0, atol=0)


def test_cross_attention_has_the_length_of_the_query(device):
    layer = attention(device)
    query, memory = randn(2, 3, 8, device=device), randn(2, 7, 8, device=device)
    out, weights = layer(query, memory, need_weights=True)
    assert (out.shape, weights.shape) == ((2, 3, 8), (2, 2, 3, 7))
    for name, args in (("key", (query, memory[:, :, :4])), ("value", (query, memory, memory[0]))):
        with pytest.raises(ValueError, match=rf"MultiHeadAttention: {name} has shape \(N, T, 8\)"):
            layer(*args)


def test_attention_has_eight_parameters_under_pytorch_s_names():
    layer = attention("cpu")
    assert len(list(layer.parameters())) == 8
    assert {name: v.shape for name, v in layer.state_dict().items()} == {
        "in_proj_weight": (24, 8),
        "in_proj_bias": (24,),
        "out_proj.weight": (8, 8),
        "out_proj.bias": (8,),
    }
    assert list(attention("cpu", bias=False).state_dict()) == ["in_proj_weight", "out_proj.weight"]


@pytest.mark.parametrize("need_weights", [False, True])
def test_causal_attention_does_not_see_the_future(need_weights, device):
    layer, x = attention(device), randn(1, 6, 8, device=device)
    changed = x.copy()
    changed[:, 4:] = 100.0

    def run(x):
        out = layer(x, is_causal=True, need_weights=need_weights)
        return (out[0] if need_weights else out).detach()

    assert_close(run(changed)[:, :4], run(x)[:, :4], rtol=1e-5, atol=1e-6)
    assert run(changed)[:, 4:].tolist() != run(x)[:, 4:].tolist()


def test_a_causal_mask_is_the_same_as_causal(device):
    layer, x = attention(device), randn(2, 5, 8, device=device)
    above = tinytorch.triu(tinytorch.ones((5, 5), device=device), k=1)
    expected = layer(x, is_causal=True).detach()
    later = above > 0
    added = tinytorch.where(later, tinytorch.full((), -math.inf, device=device), 0.0)
    for mask in (later, added, later[None, None], tinytorch.broadcast_to(later, (2, 2, 5, 5))):
        assert_close(layer(x, attn_mask=mask).detach(), expected, rtol=1e-5, atol=1e-6)


def test_padding_is_left_out(device):
    layer, x = attention(device), randn(2, 5, 8, device=device)
    padding = Tensor([[False] * 5, [False, False, False, True, True]], device=device)
    out, weights = layer(x, key_padding_mask=padding, need_weights=True)
    assert weights[1, :, :, 3:].abs().max().item() == 0.0
    assert_close(out[1:, :3].detach(), layer(x[1:, :3]).detach(), rtol=1e-5, atol=1e-6)
    assert_close(out[:1].detach(), layer(x[:1]).detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["bool", "float"])
def test_masks_combine(kind, device):
    layer, x = attention(device), randn(1, 4, 8, device=device)
    blocked = np.array([[0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]], "bool")
    given = blocked if kind == "bool" else np.where(blocked, -np.inf, 0).astype("float32")
    padding = Tensor([[False, False, False, True]], device=device)
    _, weights = layer(
        x, attn_mask=Tensor(given, None, device), key_padding_mask=padding, is_causal=True, need_weights=True
    )
    allowed = ~blocked & np.tri(4, dtype=bool)
    allowed[:, 3] = False
    assert np.array_equal(weights.detach().numpy()[0, 0] > 0, allowed)


@pytest.mark.parametrize("need_weights", [False, True])
def test_a_query_that_may_attend_to_nothing_gets_zeros(need_weights, device):
    layer = attention(device, bias=False)
    x = randn(2, 3, 8, device=device, requires_grad=True)
    padding = Tensor([[True] * 3, [False] * 3], device=device)
    out = layer(x, key_padding_mask=padding, need_weights=need_weights)
    out = out[0] if need_weights else out
    assert out[0].abs().max().item() == 0.0
    assert out[1].abs().max().item() > 0.0
    out.sum().backward()
    assert np.isfinite(x.grad.numpy()).all()
    assert all(np.isfinite(p.grad.numpy()).all() for p in layer.parameters())


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"attn_mask": lambda d: tinytorch.zeros((3, 3), device=d)}, ValueError, r"mask \(\.\.\., T, S\) or None"),
        ({"attn_mask": lambda d: Tensor([[0] * 5] * 5, device=d)}, TypeError, "attn_mask is boolean, or of numbers"),
        ({"key_padding_mask": lambda d: Tensor([[False] * 4] * 2, device=d)}, ValueError, r"mask has shape \(N, S\)"),
        ({"key_padding_mask": lambda d: Tensor([[0] * 5] * 2, device=d)}, TypeError, "padding_mask is boolean, or of"),
    ],
    ids=["shape", "integers", "padding-shape", "padding-dtype"],
)
def test_masks_that_do_not_fit(kwargs, error, message, device):
    layer, x = attention(device), randn(2, 5, 8, device=device)
    with pytest.raises(error, match=message):
        layer(x, **{name: make(device) for name, make in kwargs.items()})


def test_dropout_of_attention_weights_only_trains(device):
    layer, x = attention(device, dropout=0.5), randn(1, 6, 8, device=device)
    assert layer(x).tolist() != layer(x).tolist()
    layer.eval()
    assert layer(x).tolist() == layer(x).tolist()


# The encoder layer ------------------------------------------------------------------------------------------------


def test_time_or_the_batch_comes_first(device):
    tinytorch.manual_seed(1)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, device=device)
    x = randn(5, 3, 8, device=device)  # (T, N, d_model)
    expected = layer(x).detach()
    layer.batch_first = True
    assert_close(layer(x.permute_dims(1, 0, 2)).detach().permute_dims(1, 0, 2), expected, rtol=1e-5, atol=1e-5)


def test_an_encoder_layer_with_an_activation_of_one_s_own():
    twin = nn.TransformerEncoderLayer(8, 2, 16, 0.0, activation=lambda x: tinytorch.gelu(x), batch_first=True)
    layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, activation="gelu", batch_first=True)
    layer.load_state_dict(twin.state_dict())
    x = randn(1, 3, 8)
    assert_close(layer(x).detach(), twin(x).detach(), rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")  # of x**3, whose tanh is right
def test_gelu_is_zero_or_the_identity_far_out(device):
    x = Tensor([-1e18, -1e14, 1e14, 1e18], device=device, requires_grad=True)
    tinytorch.gelu(x, approximate="tanh").sum().backward()
    assert x.grad.tolist() == [0.0, 0.0, 1.0, 1.0]


def test_where_an_encoder_layer_normalizes(device):
    x = randn(2, 4, 8, device=device) * 10
    after = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True, device=device)
    before = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True, norm_first=True, device=device)
    assert_close(after(x).detach().mean(axis=-1), tinytorch.zeros((2, 4), device=device), rtol=0, atol=1e-5)
    assert float((before(x) - x).detach().abs().max()) < 5.0  # the residual path is not normalized


def test_an_encoder_layer_without_biases():
    layer = nn.TransformerEncoderLayer(8, 2, 16, bias=False)
    assert not any(name.endswith("bias") for name, _ in layer.named_parameters())
    assert layer.eval()(randn(3, 1, 8)).shape == (3, 1, 8)


def test_every_parameter_of_an_encoder_layer_is_learned(device):
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, device=device)
    x = randn(2, 4, 8, device=device)
    (layer(x) * randn(2, 4, 8, device=device)).sum().backward()
    still = [n for n, p in layer.named_parameters() if p.grad is None or float(p.grad.abs().max()) == 0.0]
    assert still == []
    assert all(isinstance(p, Parameter) for p in layer.parameters())


# Masks of attention -----------------------------------------------------------------------------------------------


def masked_attention(N, T, heads, device, **masks):
    """The weights (N, heads, T, T) of an attention, with these masks."""
    tinytorch.manual_seed(3)
    attention = tinytorch.MultiHeadAttention(4, heads, device=device)
    x = Tensor(np.random.default_rng(0).standard_normal((N, T, 4)), tinytorch.float32, device)
    given = {name: Tensor(mask, device=device) for name, mask in masks.items()}
    out, weights = attention(x, need_weights=True, **given)
    np.testing.assert_allclose(attention(x, **given).detach().numpy(), out.detach().numpy(), rtol=1e-5, atol=1e-6)
    return weights.detach().numpy()


@pytest.mark.parametrize(("N", "heads"), [(2, 2), (4, 2), (2, 4), (1, 2), (2, 1)])
@pytest.mark.parametrize("kind", ["bool", "float32"])
def test_a_mask_of_three_axes_is_for_each_sequence_or_as_pytorch_has_it(device, N, heads, kind):
    T = 3
    rng = np.random.default_rng(1)
    away = rng.random((N, heads, T, T)) < 0.4
    away[..., 0] = False

    def given(mask):
        return mask if kind == "bool" else np.where(mask, -np.inf, 0).astype("float32")

    per_sequence = masked_attention(N, T, heads, device, attn_mask=given(away[:, 0]))
    np.testing.assert_array_equal(per_sequence == 0, np.broadcast_to(away[:, :1], away.shape))
    flat = masked_attention(N, T, heads, device, attn_mask=given(away.reshape(N * heads, T, T)))
    if heads > 1:
        np.testing.assert_array_equal(flat == 0, away)
    np.testing.assert_array_equal(masked_attention(N, T, heads, device, attn_mask=given(away)) == 0, away)
    per_head = masked_attention(N, T, heads, device, attn_mask=given(away[:1]))
    np.testing.assert_array_equal(per_head == 0, np.broadcast_to(away[:1], away.shape))


@pytest.mark.parametrize("attn", ["bool", "float32", ""])
@pytest.mark.parametrize("padding", ["bool", "float32"])
def test_masks_of_all_kinds_go_together(device, attn, padding):
    away, out = np.triu(np.ones((3, 3), bool), 1), np.asarray([[False, False, True], [False, True, False]])
    masks = {"key_padding_mask": out if padding == "bool" else np.where(out, -np.inf, 0).astype("float32")}
    if attn:
        masks["attn_mask"] = away if attn == "bool" else np.where(away, -np.inf, 0).astype("float32")
    found = masked_attention(2, 3, 2, device, **masks) == 0
    np.testing.assert_array_equal(found, np.broadcast_to(out[:, None, None] | (away & bool(attn)), (2, 2, 3, 3)))


def test_masks_of_other_shapes_and_kinds_are_refused(device):
    def zeros(*shape):
        return np.zeros(shape, bool)

    with pytest.raises(ValueError, match=r"attn_mask \(4, 3, 3\) for 3 sequences and 4 heads.*\(1, 4, 3, 3\)"):
        masked_attention(3, 3, 4, device, attn_mask=zeros(4, 3, 3))
    with pytest.raises(ValueError, match=r"key_padding_mask has shape \(N, S\), \(2, 3\), not \(3, 2\)"):
        masked_attention(2, 3, 2, device, key_padding_mask=zeros(3, 2))
    with pytest.raises(ValueError, match=r"key_padding_mask has shape \(N, S\), \(2, 3\), not \(2, 1\)"):
        masked_attention(2, 3, 2, device, key_padding_mask=zeros(2, 1))
    for name, shape in (("attn_mask", (3, 3)), ("key_padding_mask", (2, 3))):
        with pytest.raises(TypeError, match=f"{name} is boolean, or of numbers that are added.*not int64; .*astype"):
            masked_attention(2, 3, 2, device, **{name: np.zeros(shape, "int64")})
    x, mask = tinytorch.ones((2, 3, 4), device=device), tinytorch.ones((2, 3, 3), dtype="bool", device=device)
    with pytest.raises(ValueError, match=r"mask\[:, None\] or mask\[None\]"):
        tinytorch.multi_head_attention(x, x, x, mask, num_heads=2)


@pytest.mark.parametrize("pool", [nn.MaxPool2d, nn.AvgPool2d])
def test_a_padding_of_more_than_half_the_window_is_refused_when_given(pool):
    for padding in (2, (1, 2)):
        with pytest.raises(ValueError, match=rf"{pool.__name__}: padding .* is more than half of the window \(3, 3\)"):
            pool(3, padding=padding)
    assert pool(4, padding=2).padding == (2, 2)


def test_a_weight_or_bias_that_is_none_is_left_out(device):
    x, w = tinytorch.randn(2, 3, device=device), tinytorch.randn(4, 3, device=device)
    image, kernel = tinytorch.randn(1, 1, 4, 4, device=device), tinytorch.randn(2, 1, 3, 3, device=device)
    for found, expected in (
        (tinytorch.linear(x, w, None), tinytorch.linear(x, w)),
        (tinytorch.conv2d(image, kernel, None), tinytorch.conv2d(image, kernel)),
        (tinytorch.layer_norm(x, None, None), tinytorch.layer_norm(x)),
    ):
        assert found.tolist() == expected.tolist()


@pytest.mark.parametrize(("name", "wrong", "least"), [("stride", 0, 1), ("dilation", 0, 1), ("padding", -1, 0)])
def test_windows_are_at_least_so_far_apart(name, wrong, least, device):
    x = tinytorch.ones((1, 1, 5, 5), device=device)
    for call in (
        lambda n: tinytorch.conv2d(x, x[..., :2, :2], **{name: n}),
        lambda n: tinytorch.max_pool2d(x, 2, **{name: n}),
    ):
        for n in (wrong, (wrong, 2), (2, wrong)):
            with pytest.raises(ValueError, match=rf"{name} is an integer, at least {least}, or two"):
                call(n)
        assert call(least).ndim == call((least, least)).ndim == 4


def test_one_mask_may_stand_for_all_sequences(device):
    layer = nn.MultiHeadAttention(4, 2, device=device)
    x, mask = tinytorch.randn(3, 5, 4, device=device), tinytorch.ones((5, 5), dtype="bool", device=device).tril()
    expected = layer(x, x, x, attn_mask=mask)
    for wide in (mask[None], tinytorch.stack([mask] * 3), tinytorch.stack([mask] * 6)):
        assert_close(layer(x, x, x, attn_mask=wide), expected)
    with pytest.raises(ValueError, match=r"attn_mask \(2, 5, 5\) for 3 sequences and 2 heads"):
        layer(x, x, x, attn_mask=tinytorch.stack([mask] * 2))


SIZES = {  # a layer, its settings, and those of them that are sizes
    tinytorch.Linear: {"in_features": 4, "out_features": 4},
    tinytorch.Conv2d: {"in_channels": 4, "out_channels": 4, "kernel_size": 1, "groups": 1},
    tinytorch.Embedding: {"num_embeddings": 4, "embedding_dim": 4},
    tinytorch.PositionalEncoding: {"d_model": 4, "max_len": 4},
    tinytorch.MultiHeadAttention: {"embed_dim": 4, "num_heads": 2},
}


@pytest.mark.parametrize(("layer", "name"), [(layer, name) for layer, sizes in SIZES.items() for name in sizes])
def test_every_size_of_a_layer_is_at_least_one(layer, name):
    sizes = SIZES[layer]
    assert isinstance(layer(**sizes), tinytorch.nn.Module)
    for wrong in (0, -1):
        with pytest.raises(ValueError, match=rf"^({layer.__name__}: )?{name} is an integer, at least 1.*not {wrong}"):
            layer(**{**sizes, name: wrong})
