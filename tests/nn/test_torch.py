"""Every layer and loss against its counterpart in torch.nn with the same state: values, gradients, second order."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import tinytorch
from tests.comparison import compare, compare_gradients
from tinytorch import Tensor, nn

torch = pytest.importorskip("torch", reason="PyTorch is not installed: python -m tox -e torch compares with it")

RNG = np.random.Generator(np.random.Philox(5))


def normal(*shape: int) -> Any:
    return RNG.standard_normal(shape)


def chance(*shape: int) -> Any:
    return RNG.uniform(0.1, 0.9, shape)


def different(*shape: int) -> Any:
    """No two alike and none near zero: the same element is the largest for everybody."""
    return (RNG.permutation(np.prod(shape)).reshape(shape) - np.prod(shape) / 2 + 0.3) / 10


def labels(high: int, *shape: int) -> Any:
    return RNG.integers(0, high, shape)


@dataclass
class Pair:
    """A layer of ours, PyTorch's, and what both are called with: floating arrays are differentiated."""

    ours: Callable[[], Any]
    theirs: Callable[[], Any]
    inputs: list[Any]
    note: str = ""
    kwargs: dict[str, Any] = field(default_factory=dict)  # given to both, arrays as tensors
    their_kwargs: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{type(self.ours()).__name__}-{self.note}" if self.note else type(self.ours()).__name__


def same(name: str, inputs: list[Any], *args: Any, note: str = "", **kwargs: Any) -> Pair:
    """A layer of the same name and arguments."""
    return Pair(
        lambda: getattr(nn, name)(*args, **kwargs), lambda: getattr(torch.nn, name)(*args, **kwargs), inputs, note
    )


LATER = np.triu(np.ones((5, 5), bool), 1)
PADDED = np.array([[False] * 5, [False, False, False, True, True]])
ADDED = normal(5, 5)
LEFT_OUT = np.where(PADDED, -np.inf, 0)  # the same, as PyTorch wants it beside an added mask


def attention(
    note: str, inputs: list[Any], their_kwargs: Any = None, weights: bool = False, bias: bool = True, **kwargs: Any
) -> Pair:
    """Ours returns one tensor, PyTorch's always two; self-attention has but one input."""

    class Theirs(torch.nn.MultiheadAttention):
        def forward(self, q, k=None, v=None, **kwargs):
            k = q if k is None else k
            out = super().forward(q, k, k if v is None else v, average_attn_weights=False, **kwargs)
            return out if weights else out[0]

    return Pair(
        lambda: nn.MultiHeadAttention(6, 2, bias=bias),
        lambda: Theirs(6, 2, bias=bias, batch_first=True),
        inputs,
        note,
        kwargs | ({"need_weights": True} if weights else {}),
        {"need_weights": weights} | (their_kwargs or {}),
    )


def encoder(note: str, shape: tuple[int, ...] = (2, 5, 6), call: Any = None, **kwargs: Any) -> Pair:
    pair = same("TransformerEncoderLayer", [normal(*shape)], 6, 2, 8, 0.0, note=note, **kwargs)
    pair.kwargs = call or {}
    return pair


IMAGES = normal(2, 4, 7, 6)
ROWS, SEQUENCES = normal(5, 4), normal(2, 5, 6)

PAIRS = [
    same("Linear", [ROWS], 4, 3),
    same("Linear", [ROWS], 4, 3, bias=False, note="no-bias"),
    same("Linear", [normal(2, 3, 4)], 4, 3, note="batches"),
    same("Linear", [normal(4)], 4, 3, note="vector"),
    same("Conv2d", [IMAGES], 4, 6, 3),
    same("Conv2d", [IMAGES], 4, 6, (3, 2), bias=False, note="no-bias"),
    same("Conv2d", [IMAGES], 4, 6, 3, stride=2, padding=1, note="stride"),
    same("Conv2d", [IMAGES], 4, 6, 3, padding=(2, 1), dilation=2, note="dilation"),
    same("Conv2d", [IMAGES], 4, 6, 3, groups=2, note="groups"),
    same("Conv2d", [IMAGES], 4, 8, (2, 3), stride=(2, 1), padding=(1, 2), dilation=(2, 1), groups=4, note="all"),
    same("MaxPool2d", [different(2, 3, 6, 7)], 2),
    same("MaxPool2d", [different(2, 3, 6, 7)], (3, 2), stride=(1, 2), padding=1, note="overlap"),
    same("MaxPool2d", [different(2, 3, 6, 7)], 2, stride=1, dilation=2, note="dilation"),
    same("AvgPool2d", [normal(2, 3, 6, 7)], 2),
    same("AvgPool2d", [normal(2, 3, 6, 7)], 3, stride=2, padding=1, note="padding"),
    same("AvgPool2d", [normal(2, 3, 6, 7)], 3, stride=2, padding=1, count_include_pad=False, note="not-the-pad"),
    same("Flatten", [IMAGES]),
    same("Flatten", [IMAGES], 0, 2, note="axes"),
    same("Embedding", [labels(9, 3, 4)], 9, 5),
    same("LayerNorm", [normal(3, 4)], 4),
    same("LayerNorm", [normal(2, 3, 4)], (3, 4), eps=1e-3, note="axes"),
    same("LayerNorm", [normal(3, 4)], 4, elementwise_affine=False, note="plain"),
    same("LayerNorm", [normal(3, 4)], 4, bias=False, note="no-bias"),
    same("Identity", [ROWS]),
    same("ReLU", [different(3, 4)]),
    same("Tanh", [ROWS]),
    same("Sigmoid", [ROWS]),
    same("GELU", [ROWS]),
    same("GELU", [ROWS], approximate="tanh", note="tanh"),
    same("Softmax", [ROWS], dim=-1),
    same("Softmax", [normal(2, 3, 4)], dim=1, note="axis"),
    same("Dropout", [ROWS], 0.0),
    attention("self", [SEQUENCES]),
    attention("no-bias", [SEQUENCES], bias=False),
    attention("cross", [SEQUENCES, normal(2, 3, 6), normal(2, 3, 6)]),
    attention("cross-key-is-value", [SEQUENCES, normal(2, 3, 6)]),
    attention("mask", [SEQUENCES], attn_mask=LATER),
    attention("added-mask", [SEQUENCES], attn_mask=ADDED),
    attention("padding", [SEQUENCES], key_padding_mask=PADDED),
    attention("mask-padding", [SEQUENCES], attn_mask=LATER, key_padding_mask=PADDED),
    attention("added-both", [SEQUENCES], {"key_padding_mask": LEFT_OUT}, attn_mask=ADDED, key_padding_mask=PADDED),
    attention("causal", [SEQUENCES], {"attn_mask": LATER}, is_causal=True),
    attention("causal-padding", [SEQUENCES], {"attn_mask": LATER}, is_causal=True, key_padding_mask=PADDED),
    attention("weights", [SEQUENCES], weights=True),
    attention("weights-mask", [SEQUENCES, normal(2, 5, 6)], weights=True, attn_mask=LATER, key_padding_mask=PADDED),
    encoder("", (5, 2, 6)),
    encoder("batch-first", batch_first=True),
    encoder("norm-first", batch_first=True, norm_first=True),
    encoder("gelu", batch_first=True, activation="gelu"),
    encoder("gelu-norm-first", (5, 2, 6), norm_first=True, activation="gelu", layer_norm_eps=1e-2),
    encoder("no-bias", batch_first=True, bias=False),
    encoder("mask", batch_first=True, call={"src_mask": LATER}),
    encoder("padding", batch_first=True, norm_first=True, call={"src_key_padding_mask": PADDED}),
    encoder("causal", (5, 2, 6), call={"src_mask": LATER, "is_causal": True}),
    encoder("masks", batch_first=True, call={"src_mask": LATER, "src_key_padding_mask": PADDED}),
    Pair(
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 3)),
        lambda: torch.nn.Sequential(
            torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten(), torch.nn.Linear(8, 3)
        ),
        [normal(2, 1, 6, 6)],
    ),
    *[
        same(loss, [inputs, target], reduction=reduction, note=reduction)
        for loss, inputs, target in (
            ("MSELoss", ROWS, normal(5, 4)),
            ("BCELoss", chance(5, 4), chance(5, 4)),
            ("BCEWithLogitsLoss", different(5, 4), chance(5, 4)),
            ("CrossEntropyLoss", ROWS, labels(4, 5)),
        )
        for reduction in ("mean", "sum", "none")
    ],
    same("CrossEntropyLoss", [ROWS, np.array([0, -100, 3, 1, -100])], note="ignored"),
    same("CrossEntropyLoss", [ROWS, np.array([0, 2, 3, 2, 1])], ignore_index=2, label_smoothing=0.1, note="both"),
    same("CrossEntropyLoss", [ROWS, labels(4, 5)], label_smoothing=0.3, note="smooth"),
    same("CrossEntropyLoss", [normal(2, 3, 4, 5), labels(3, 2, 4, 5)], note="pixels"),
    same("CrossEntropyLoss", [ROWS, chance(5, 4)], note="probabilities"),
    same("CrossEntropyLoss", [normal(2, 3, 4), chance(2, 3, 4)], label_smoothing=0.2, reduction="sum", note="images"),
    same("CrossEntropyLoss", [normal(4), labels(4)], note="one"),
]  # fmt: skip


def made(pair: Pair) -> tuple[Any, Any]:
    """Ours and PyTorch's in float64, with the same random state: ours was loaded into theirs."""
    ours, theirs = pair.ours().to("float64"), pair.theirs().double()
    rng = np.random.Generator(np.random.Philox(zlib.crc32(pair.id.encode())))
    state = {name: rng.standard_normal(value.shape) * 0.5 for name, value in ours.state_dict().items()}
    ours.load_state_dict(state)
    loaded = theirs.load_state_dict({name: torch.from_numpy(value) for name, value in ours.state_dict().items()})
    assert not loaded.missing_keys
    assert not loaded.unexpected_keys
    return ours, theirs


def given(values: Any, make: Callable[[Any], Any]) -> Any:
    return make(values) if isinstance(values, np.ndarray | np.integer) else values


def ours_of(x: Any) -> Tensor:
    return Tensor(x, requires_grad=x.dtype.kind == "f")


def theirs_of(x: Any) -> Any:
    return torch.tensor(x, requires_grad=x.dtype.kind == "f")


def outputs(out: Any) -> list[Any]:
    return list(out) if isinstance(out, tuple) else [out]


def parameters(ours: Any, theirs: Any) -> tuple[list[Any], list[Any]]:
    """The parameters of both in the same order; several of ours are one of theirs where projections are joined."""
    mine = dict(ours.named_parameters())
    groups, references = [], []
    for name, p in theirs.named_parameters():
        if name in mine:
            groups.append(mine.pop(name))
        else:
            lead, part = name.rsplit("in_proj_", 1)
            groups.append([mine.pop(f"{lead}{x}_proj.{part}") for x in "qkv"])
        references.append(p)
    assert mine == {}
    return groups, references


every = pytest.mark.parametrize("pair", PAIRS, ids=[p.id for p in PAIRS])


def test_every_layer_is_compared():
    layers = {found.__name__ for name in nn.__all__ if isinstance(found := getattr(nn, name), type)}  # by one name
    ours_alone = {"Module", "ModuleList", "Parameter", "PositionalEncoding"}  # PyTorch's last one does not exist
    assert layers - {type(p.ours()).__name__ for p in PAIRS} == ours_alone


@every
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_same_as_pytorch(pair, training):
    ours, theirs = made(pair)
    ours.train(training), theirs.train(training)
    xs, references = [ours_of(x) for x in pair.inputs], [theirs_of(x) for x in pair.inputs]
    kwargs = {k: given(v, Tensor) for k, v in pair.kwargs.items()}
    their_kwargs = {k: given(v, torch.from_numpy) for k, v in (pair.kwargs | pair.their_kwargs).items()}
    out = outputs(ours(*xs, **kwargs))
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):  # the others have no second order
        expected = outputs(theirs(*references, **their_kwargs))
    leaves, weights = parameters(ours, theirs)
    leaves += [x for x in xs if x.requires_grad]
    weights += [x for x in references if x.requires_grad]
    for y, r in zip(out, expected, strict=True):
        compare("values", y, r)
    compare_gradients(out, expected, leaves, weights)


@every
def test_the_state_of_pytorch_s_can_be_loaded(pair):
    _, theirs = made(pair)
    ours = pair.ours().to("float64")
    state = theirs.state_dict()
    ours.load_state_dict(state)
    mine = ours.state_dict()
    assert list(mine) == list(state)
    assert all(np.array_equal(mine[name], value.numpy()) for name, value in state.items())


@pytest.mark.parametrize("pair", [p for p in PAIRS if p.id.startswith("TransformerEncoder")], ids=lambda p: p.id)
def test_inference_without_recording(pair):
    """PyTorch takes a path of its own here, made for speed."""
    ours, theirs = made(pair)
    ours.eval(), theirs.eval()
    with tinytorch.no_grad(), torch.no_grad():
        out = ours(Tensor(pair.inputs[0]), **{k: given(v, Tensor) for k, v in pair.kwargs.items()})
        expected = theirs(
            torch.from_numpy(pair.inputs[0]), **{k: given(v, torch.from_numpy) for k, v in pair.kwargs.items()}
        )
    kept = ~PADDED if "src_key_padding_mask" in pair.kwargs else np.ones(out.shape[:2], bool)
    compare("values", out.numpy()[kept], expected.numpy()[kept])
