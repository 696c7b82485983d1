"""The table of cases: a row for every op, and more where it has several ways to go.

A row is one call, written once. It is made with `tinytorch.ops` on tensors, with `parity.references` on NumPy's arrays,
and, in the tests, with `tests.ops.pytorch` on PyTorch's. So one row drives the comparison with NumPy, the checks
of gradient and second order, the comparison of devices, what the doctor says of one, and the comparison with PyTorch.
A new op is one row here; a test fails if an op has none.

The file is long because it is a table.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinytorch.parity.references import softmax

Draw = Callable[[np.random.Generator], Any]


def normal(*shape: int) -> Draw:
    return lambda rng: rng.standard_normal(shape)


def positive(*shape: int) -> Draw:
    return lambda rng: rng.uniform(0.5, 2.0, shape)


def unit(*shape: int) -> Draw:
    """Inside (-1, 1), away from the ends."""
    return lambda rng: rng.uniform(-0.9, 0.9, shape)


def chance(*shape: int) -> Draw:
    """Probabilities, away from 0 and 1."""
    return lambda rng: rng.uniform(0.1, 0.9, shape)


def spread(*shape: int, offset: float = 0.45) -> Draw:
    """All different and none near zero: no kink or tie within a small step."""

    def draw(rng: np.random.Generator) -> np.ndarray:
        n = math.prod(shape)
        return rng.permutation((np.arange(n) - n // 2 + offset) * 0.3).reshape(shape)

    return draw


def unequal(*shape: int) -> Draw:
    """As `spread`, and different from all of its numbers."""
    return spread(*shape, offset=0.2)


def integers(low: int, high: int, *shape: int) -> Draw:
    return lambda rng: rng.integers(low, high, shape)


def booleans(*shape: int) -> Draw:
    return lambda rng: rng.random(shape) < 0.5


def given(*values: Any) -> Draw:
    return lambda rng: np.asarray(values)


def classes(*shape: int) -> Draw:
    """The probability of each class, along axis 1."""
    return lambda rng: softmax(rng.standard_normal(shape), 1)


def number(value: float) -> Draw:
    """A Python number in the place of a tensor."""
    return lambda rng: value


@dataclass
class Case:
    """A call of an op.

    Args:
        op: its name, as registered.
        inputs: how to draw each: floating arrays are float64 and are differentiated.
        call: the call, given a namespace and the inputs, where it is not `xp.<op>(*inputs)`.
        note: tells rows of one op apart.
        gradient: whether there is one.
        reads_values: whether the shape of the result depends on values: not on every device.
    """

    op: str
    inputs: tuple[Draw, ...]
    call: Callable[..., Any] | None = None
    note: str = ""
    gradient: bool = True
    reads_values: bool = False

    @property
    def id(self) -> str:
        return f"{self.op}-{self.note}" if self.note else self.op

    def arrays(self) -> list[Any]:
        """The inputs on the host: the same each time."""
        rng = np.random.Generator(np.random.Philox(zlib.crc32(self.id.encode())))
        return [draw(rng) for draw in self.inputs]

    def run(self, xp: Any, inputs: list[Any]) -> Any:
        return self.call(xp, *inputs) if self.call else getattr(xp, self.op)(*inputs)


def _set(op: str, note: str, *inputs: Draw, **settings: Any) -> Case:
    """A call with settings."""
    return Case(op, inputs, lambda xp, *xs: getattr(xp, op)(*xs, **settings), note)


def _unary(op: str, draw: Any = normal, **more: Any) -> Case:
    return Case(op, (draw(3, 4),), **more)


def _binary(op: str, left: Any = normal, right: Any = normal, **more: Any) -> list[Case]:
    """Equal shapes, and shapes that broadcast."""
    return [
        Case(op, (left(3, 4), right(3, 4)), **more),
        Case(op, (left(2, 3, 1), right(3, 4)), note="broadcast", **more),
    ]


ELEMENTWISE = [
    *_binary("add"),
    Case("add", (normal(3), number(2.5)), note="number"),
    *_binary("subtract"),
    Case("subtract", (number(2.5), normal(3)), note="number"),
    *_binary("multiply"),
    *_binary("divide", right=positive),
    Case("divide", (number(2.0), positive(3)), note="number"),
    *_binary("floor_divide", spread, positive, gradient=False),
    *_binary("remainder", spread, positive),
    *_binary("pow", positive),
    Case("pow", (normal(3, 4), number(2)), note="square"),
    Case("pow", (normal(3, 4), number(0)), note="zero"),
    Case("pow", (number(2.0), normal(3)), note="number"),
    _unary("negative"),
    _unary("positive"),
    _unary("conj"),
    _unary("real"),
    _unary("abs", spread),
    _unary("square"),
    _unary("sqrt", positive),
    _unary("reciprocal", positive),
    *_binary("hypot", spread, unequal),
    _unary("exp"),
    _unary("expm1"),
    _unary("log", positive),
    _unary("log1p", positive),
    _unary("log2", positive),
    _unary("log10", positive),
    *_binary("logaddexp"),
    _unary("erf"),
    Case("erf", (lambda rng: np.linspace(-7, 7, 57),), note="wide"),
    _unary("sin"),
    _unary("cos"),
    _unary("tan", unit),
    _unary("asin", unit),
    _unary("acos", unit),
    _unary("atan"),
    *_binary("atan2", spread, unequal),
    _unary("sinh"),
    _unary("cosh"),
    _unary("tanh"),
    _unary("asinh"),
    Case("acosh", (lambda rng: rng.uniform(1.5, 3.0, (3, 4)),)),
    _unary("atanh", unit),
    _unary("relu", spread),
    _unary("sigmoid"),
    Case("sigmoid", (given(-800.0, -30.0, 0.0, 30.0, 800.0),), note="wide"),
    _unary("gelu"),
    Case("gelu", (normal(3, 4),), lambda xp, x: xp.gelu(x, approximate="tanh"), note="tanh"),
    *_binary("maximum", spread, unequal),
    *_binary("minimum", spread, unequal),
    Case("where", (booleans(3, 4), normal(3, 4), normal(4))),
    Case("where", (booleans(3, 4), normal(3, 4), number(0.0)), note="number"),
    Case("clip", (spread(3, 4),), lambda xp, x: xp.clip(x, min=-0.4, max=0.6)),
    Case("clip", (spread(3, 4),), lambda xp, x: xp.clip(x, max=0.6), note="max"),
    Case("clip", (spread(3, 4), given(-0.31, -0.52, 0.13, 0.28), given(0.61, 0.52, 0.63, 0.78)), note="tensors"),
    *_binary("copysign", spread, unequal),
    *_binary("nextafter", spread, unequal),
    _unary("sign", spread),
    _unary("floor", spread),
    _unary("ceil", spread),
    _unary("trunc", spread),
    _unary("round", spread),
    Case("masked_scale", (normal(3), given(0, 2, 1)), lambda xp, x, mask: xp.masked_scale(x, xp.astype(mask, x.dtype))),
    Case("flat_in", (normal(3), normal(2, 2))),
]

FLAT = [
    *_binary("equal", gradient=False),
    *_binary("not_equal", gradient=False),
    *_binary("less", gradient=False),
    *_binary("less_equal", gradient=False),
    *_binary("greater", gradient=False),
    *_binary("greater_equal", gradient=False),
    Case("less", (normal(3, 4), number(0.5)), note="number", gradient=False),
    Case("isfinite", (given(1.0, np.inf, np.nan),), gradient=False),
    Case("isinf", (given(1.0, np.inf, np.nan),), gradient=False),
    Case("isnan", (given(1.0, np.inf, np.nan),), gradient=False),
    Case("signbit", (given(1.0, -1.0, -0.0),), gradient=False),
    *_binary("logical_and", booleans, booleans, gradient=False),
    *_binary("logical_or", booleans, booleans, gradient=False),
    *_binary("logical_xor", booleans, booleans, gradient=False),
    _unary("logical_not", booleans, gradient=False),
    Case("bitwise_and", (integers(0, 50, 3, 4), integers(0, 5, 3, 4)), gradient=False),
    Case("bitwise_or", (integers(0, 50, 3, 4), integers(0, 5, 3, 4)), gradient=False),
    Case("bitwise_xor", (integers(0, 50, 3, 4), integers(0, 5, 3, 4)), gradient=False),
    Case("bitwise_left_shift", (integers(0, 50, 3, 4), integers(0, 5, 3, 4)), gradient=False),
    Case("bitwise_right_shift", (integers(0, 50, 3, 4), integers(0, 5, 3, 4)), gradient=False),
    Case("bitwise_invert", (integers(0, 50, 3, 4),), gradient=False),
]

_ZEROS = given([1.5, 0.0, 2.0], [0.0, 0.0, 3.0])

REDUCE = [
    Case("sum", (normal(3, 4),)),
    Case("sum", (normal(2, 3, 4),), lambda xp, x: xp.sum(x, axis=(0, 2)), note="axes"),
    Case("sum", (normal(3, 4),), lambda xp, x: xp.sum(x, axis=-1, keepdims=True), note="keepdims"),
    Case("sum", (booleans(3, 4),), note="bool", gradient=False),
    Case("mean", (normal(3, 4),)),
    Case("mean", (normal(2, 3, 4),), lambda xp, x: xp.mean(x, axis=(0, -1)), note="axes"),
    Case("mean", (normal(3, 4),), lambda xp, x: xp.mean(x, axis=1, keepdims=True), note="keepdims"),
    Case("var", (normal(3, 4),)),
    Case("var", (normal(3, 4),), lambda xp, x: xp.var(x, axis=1, correction=1), note="correction"),
    Case("std", (normal(3, 4),)),
    Case("std", (normal(3, 4),), lambda xp, x: xp.std(x, axis=0, correction=1, keepdims=True), note="correction"),
    Case("prod", (spread(2, 3),)),
    Case("prod", (_ZEROS,), lambda xp, x: xp.prod(x, axis=1), note="zeros"),
    Case("prod", (spread(2, 3, 2),), lambda xp, x: xp.prod(x, axis=(0, 2), keepdims=True), note="axes"),
    Case("cumulative_sum", (normal(3, 4),), lambda xp, x: xp.cumulative_sum(x, axis=1)),
    _set("cumulative_sum", "initial", normal(3, 4), axis=0, include_initial=True),
    Case("cumulative_prod", (spread(3, 4),), lambda xp, x: xp.cumulative_prod(x, axis=1)),
    Case("cumulative_prod", (_ZEROS,), lambda xp, x: xp.cumulative_prod(x, axis=1, include_initial=True), note="zeros"),
    Case("max", (spread(3, 4),)),
    Case("max", (spread(3, 4),), lambda xp, x: xp.max(x, axis=1, keepdims=True), note="axis"),
    Case("min", (spread(3, 4),)),
    Case("min", (spread(3, 4),), lambda xp, x: xp.min(x, axis=0), note="axis"),
    Case("argmax", (spread(3, 4),), lambda xp, x: xp.argmax(x, axis=1), gradient=False),
    Case("argmin", (spread(3, 4),), gradient=False),
    Case("all", (booleans(3, 4),), lambda xp, x: xp.all(x, axis=1), gradient=False),
    Case("any", (booleans(3, 4),), lambda xp, x: xp.any(x, axis=1), gradient=False),
    Case("count_nonzero", (integers(0, 3, 3, 4),), lambda xp, x: xp.count_nonzero(x, axis=1), gradient=False),
    Case("count_nonzero", (booleans(3, 4),), note="bool", gradient=False),
    Case("softmax", (normal(3, 4),)),
    Case("softmax", (normal(3, 4),), lambda xp, x: xp.softmax(x, axis=0), note="axis"),
    Case("log_softmax", (normal(3, 4),)),
    Case("log_softmax", (normal(3, 4),), lambda xp, x: xp.log_softmax(x, axis=0), note="axis"),
    Case("logsumexp", (normal(3, 4),)),
    Case("logsumexp", (normal(3, 4),), lambda xp, x: xp.logsumexp(x, axis=1), note="axis"),
    Case("sort", (spread(3, 4),)),
    Case("sort", (spread(3, 4),), lambda xp, x: xp.sort(x, axis=0, descending=True), note="descending"),
    Case("argsort", (spread(3, 4),), gradient=False),
    Case("searchsorted", (lambda rng: np.sort(rng.standard_normal(9)), normal(5)), gradient=False),
]

SHAPE = [
    Case("reshape", (normal(3, 4),), lambda xp, x: xp.reshape(x, (2, -1))),
    Case("permute_dims", (normal(2, 3, 4),), lambda xp, x: xp.permute_dims(x, (2, 0, 1))),
    Case("matrix_transpose", (normal(2, 3, 4),)),
    Case("expand_dims", (normal(2, 3),), lambda xp, x: xp.expand_dims(x, axis=1)),
    Case("squeeze", (normal(2, 1, 3),), lambda xp, x: xp.squeeze(x, axis=1)),
    Case("broadcast_to", (normal(3, 1),), lambda xp, x: xp.broadcast_to(x, (2, 3, 4))),
    Case("flip", (normal(3, 4),), lambda xp, x: xp.flip(x, axis=1)),
    Case("roll", (normal(3, 4),), lambda xp, x: xp.roll(x, (1, -2), axis=(0, 1))),
    Case("tril", (normal(2, 3, 4),), lambda xp, x: xp.tril(x, k=1)),
    Case("triu", (normal(3, 4),), lambda xp, x: xp.triu(x, k=-1)),
    Case("astype", (normal(3),), lambda xp, x: xp.astype(x, x.dtype)),
    Case("transfer", (normal(3),), lambda xp, x: xp.transfer(x, x.device, x.device)),
    Case("moveaxis", (normal(2, 3, 4),), lambda xp, x: xp.moveaxis(x, 0, -1)),
    Case("flatten", (normal(2, 3, 4),), lambda xp, x: xp.flatten(x, 1)),
    Case("concat", (normal(2, 3), normal(2, 4)), lambda xp, *xs: xp.concat(xs, axis=1)),
    Case("concat", (normal(2, 3), normal(4)), lambda xp, *xs: xp.concat(xs, axis=None), note="flat"),
    Case("stack", (normal(2, 3), normal(2, 3)), lambda xp, *xs: xp.stack(xs, axis=1)),
    Case("unstack", (normal(2, 3),), lambda xp, x: xp.unstack(x, axis=1)[1]),
    Case("split", (normal(5, 3),), lambda xp, x: xp.split(x, 2)[1]),
    Case("split", (normal(5, 3),), lambda xp, x: xp.split(x, [2, 1], axis=1)[0], note="sizes"),
    Case("pad", (normal(2, 3),), lambda xp, x: xp.pad(x, ((1, 0), (0, 2)), value=1.5)),
    Case("repeat", (normal(2, 3),), lambda xp, x: xp.repeat(x, 2, axis=1)),
    Case("repeat", (normal(2, 3), given(2, 0, 1)), lambda xp, x, n: xp.repeat(x, n, axis=1), note="tensor"),
    Case("tile", (normal(2, 3),), lambda xp, x: xp.tile(x, (2, 1, 2))),
    Case("broadcast_arrays", (normal(2, 1), normal(3)), lambda xp, *xs: xp.add(*xp.broadcast_arrays(*xs))),
    Case("meshgrid", (normal(2), normal(3)), lambda xp, *xs: xp.multiply(*xp.meshgrid(*xs))),
    Case("diff", (normal(3, 5),), lambda xp, x: xp.diff(x, n=2)),
]

_X, _ROWS = normal(4, 5, 6), integers(0, 4, 2, 1)
_KEYS = [(slice(0, 3), slice(1, 4, 2)), (slice(0, 3, 2), slice(0, 4)), (slice(0, 3), slice(1, 3))]

INDEX = [
    Case("getitem", (_X,), lambda xp, x: x[2], note="integer"),
    Case("getitem", (_X,), lambda xp, x: x[-1, 0, 3], note="integers"),
    Case("getitem", (_X,), lambda xp, x: x[1:3, :, -2], note="slices"),
    Case("getitem", (_X,), lambda xp, x: x[::2, 1:5:3], note="steps"),
    Case("getitem", (_X,), lambda xp, x: x[..., None, 2:4], note="new-axis"),
    Case("getitem", (_X,), lambda xp, x: x[2:2, 1], note="empty"),
    Case("getitem", (normal(4, 5),), lambda xp, x: x[::-1, 3:0:-2], note="backwards"),
    Case("getitem", (normal(4, 5),), lambda xp, x: x[1::-1, None, 2], note="backwards-mixed"),
    Case("getitem", (normal(4, 5),), lambda xp, x: x[::-2, ::-3], note="backwards-steps"),
    Case("getitem", (normal(4, 5),), lambda xp, x: x[::-1, 2:2:-4], note="backwards-empty"),
    Case("getitem", (_X, integers(-4, 4, 7)), lambda xp, x, i: x[i], note="tensor"),
    Case("getitem", (_X, integers(0, 4, 2, 3)), lambda xp, x, i: x[i], note="tensor-2d"),
    Case("getitem", (_X, integers(0, 4, 7), integers(-5, 5, 7)), lambda xp, x, i, j: x[i, j], note="tensor-pair"),
    Case("getitem", (_X, _ROWS, integers(0, 5, 3)), lambda xp, x, i, j: x[i, j, 1:3], note="tensor-broadcast"),
    Case("getitem", (_X, integers(0, 4, 3)), lambda xp, x, i: x[i, 2], note="tensor-integer"),
    Case("getitem", (_X, integers(0, 6, 2, 2)), lambda xp, x, i: x[1:, :, i], note="tensor-among-slices"),
    Case("getitem", (_X, integers(0, 6, 3)), lambda xp, x, i: x[..., i], note="tensor-after-dots"),
    Case("getitem", (_X, booleans(4, 5, 6)), lambda xp, x, mask: x[mask], note="mask", reads_values=True),
    Case("getitem", (_X, booleans(4, 5)), lambda xp, x, mask: x[mask], note="mask-rows", reads_values=True),
    Case("take", (normal(4, 5), integers(-5, 5, 7)), lambda xp, x, i: xp.take(x, i, axis=1)),
    Case("take", (normal(4, 5), integers(0, 4, 7)), lambda xp, x, i: xp.take(x, i, axis=0), note="rows"),
    Case("wrapped", (integers(-4, 4, 7),), lambda xp, i: xp.wrapped(i, 4), gradient=False),
    Case("setitem", (normal(4, 5), normal(2, 1)), lambda xp, x, v: xp.put(x, (slice(1, 4, 2), slice(0, 3)), v)),
    Case("put", (normal(5, 3), normal(4, 3), given(1, 3, 1, 0)), lambda xp, x, v, i: xp.put(x, i, v)),
    Case("add_parts", (normal(3, 2), normal(2, 4), normal(3, 2)), lambda xp, *xs: xp.add_parts(xs, _KEYS, (3, 4))),
    Case("scatter_add", (normal(7, 3), integers(0, 4, 7)), lambda xp, v, i: xp.scatter_add(v, i, 4)),
    Case("scatter_add", (normal(7, 2, 3), integers(0, 4, 7)), lambda xp, v, i: xp.scatter_add(v, i, 5), note="blocks"),
    Case("take_along_axis", (normal(4, 5), integers(-5, 5, 4, 3)), lambda xp, x, i: xp.take_along_axis(x, i, axis=1)),
    _set("take_along_axis", "columns", normal(4, 5), integers(0, 4, 2, 5), axis=0),
]


def _einsum(subscripts: str, *inputs: Draw) -> Case:
    return Case("einsum", inputs, lambda xp, *xs: xp.einsum(subscripts, *xs), note=subscripts)


LINALG = [
    Case("matmul", (normal(3, 4), normal(4, 5))),
    Case("matmul", (normal(2, 1, 3, 4), normal(5, 4, 2)), note="batches"),
    Case("matmul", (normal(4), normal(4)), note="vectors"),
    Case("matmul", (normal(4), normal(2, 4, 3)), note="row"),
    Case("matmul", (normal(2, 3, 4), normal(4)), note="column"),
    Case("vecdot", (normal(3, 4), normal(4))),
    Case("tensordot", (normal(2, 3, 4), normal(3, 4, 5))),
    _set("tensordot", "axes", normal(2, 3, 4), normal(4, 5, 2), axes=((0, 2), (2, 0))),
    _einsum("ij,jk->ik", normal(2, 3), normal(3, 4)),
    _einsum("ij,jk", normal(2, 3), normal(3, 4)),
    _einsum("bij,bjk->bik", normal(2, 3, 4), normal(2, 4, 2)),
    _einsum("...ij,...jk->...ik", normal(5, 1, 2, 3), normal(2, 3, 4)),
    _einsum("ii->i", normal(3, 3)),
    _einsum("ii", normal(3, 3)),
    _einsum("ij->j", normal(2, 3)),
    _einsum("i,j,k->kji", normal(2), normal(3), normal(4)),
    _einsum("ij,kj,k->i", normal(2, 3), normal(4, 3), normal(4)),
    _einsum("bhid,bhjd->bhij", normal(2, 2, 3, 4), normal(2, 2, 3, 4)),
]

_IMAGE, _KERNEL, _POOLED = normal(2, 3, 6, 5), normal(4, 3, 3, 2), spread(2, 3, 6, 7)
_BY_CHANNEL = normal(2, 4, 8, 7), normal(4, 1, 3, 2), normal(4)

WINDOW = [
    Case("conv2d", (_IMAGE, _KERNEL, normal(4))),
    Case("conv2d", (_IMAGE, _KERNEL), note="no-bias"),
    _set("conv2d", "stride", _IMAGE, _KERNEL, normal(4), stride=(2, 3)),
    _set("conv2d", "padding", _IMAGE, _KERNEL, normal(4), padding=(2, 1)),
    _set("conv2d", "dilation", _IMAGE, _KERNEL, normal(4), dilation=2),
    _set("conv2d", "groups", normal(2, 4, 5, 5), normal(6, 2, 3, 3), normal(6), groups=2),
    _set("conv2d", "all", *_BY_CHANNEL, stride=2, padding=(2, 3), dilation=(2, 3), groups=4),
    _set("conv2d", "gaps", _IMAGE, normal(4, 3, 1, 1), stride=2),
    Case("max_pool2d", (_POOLED,), lambda xp, x: xp.max_pool2d(x, 2)),
    Case("max_pool2d", (_POOLED,), lambda xp, x: xp.max_pool2d(x, (3, 2), (1, 2), 1), note="overlap"),
    Case("max_pool2d", (_POOLED,), lambda xp, x: xp.max_pool2d(x, 2, 3), note="gaps"),
    Case("max_pool2d", (_POOLED,), lambda xp, x: xp.max_pool2d(x, 2, 1, 0, 2), note="dilation"),
    Case("avg_pool2d", (_POOLED,), lambda xp, x: xp.avg_pool2d(x, 2)),
    Case("avg_pool2d", (_POOLED,), lambda xp, x: xp.avg_pool2d(x, (3, 2), (1, 2), 1), note="overlap"),
    Case("avg_pool2d", (_POOLED,), lambda xp, x: xp.avg_pool2d(x, 3, 2, 1, count_include_pad=False), "not-the-pad"),
]

_Q, _K = normal(2, 3, 4), normal(2, 5, 4)
_MASK = given([True, False, True, True], [True] * 4, [False, True, False, False])

LAYER = [
    Case("linear", (normal(5, 3), normal(4, 3), normal(4))),
    Case("linear", (normal(5, 3), normal(4, 3)), note="no-bias"),
    Case("linear", (normal(2, 5, 3), normal(4, 3), normal(4)), note="batches"),
    Case("linear", (normal(3), normal(4, 3), normal(4)), note="vector"),
    Case("layer_norm", (normal(5, 4), normal(4), normal(4))),
    Case("layer_norm", (normal(2, 3, 4), normal(3, 4)), lambda xp, *xs: xp.layer_norm(*xs, ndim=2), note="axes"),
    Case("layer_norm", (normal(5, 4),), lambda xp, x: xp.layer_norm(x, eps=1e-3), note="plain"),
    Case("embedding", (normal(6, 3), integers(0, 6, 2, 5)), lambda xp, w, i: xp.embedding(i, w)),
    Case("scaled_dot_product_attention", (_Q, _K, normal(2, 5, 2))),
    _set("scaled_dot_product_attention", "causal", *[normal(2, 4, 3)] * 3, is_causal=True),
    Case("scaled_dot_product_attention", (_Q, _K, normal(2, 5, 2), normal(3, 5)), note="added-mask"),
    Case("scaled_dot_product_attention", (_Q, normal(2, 4, 4), normal(2, 4, 2), _MASK), note="mask"),
    _set("multi_head_attention", "added-mask", _Q, _K, _K, normal(3, 5), num_heads=2),
    _set("multi_head_attention", "mask", _Q, normal(2, 4, 4), normal(2, 4, 4), _MASK, num_heads=2),
    _set("multi_head_attention", "packed", normal(2, 3, 12), num_heads=2, is_causal=True),
    Case("attention_weights", (_Q, _K)),
    _set("attention_weights", "mask", _Q, _K, normal(3, 5), scale=1.0),
]

LOSS = [
    _set("mse_loss", "mean", normal(3, 4), normal(3, 4), reduction="mean"),
    _set("mse_loss", "sum", normal(3, 4), normal(3, 4), reduction="sum"),
    _set("mse_loss", "none", normal(3, 4), normal(3, 4), reduction="none"),
    _set("binary_cross_entropy", "", chance(3, 4), chance(3, 4)),
    _set("binary_cross_entropy", "none", chance(3, 4), chance(3, 4), reduction="none"),
    _set("binary_cross_entropy_with_logits", "", spread(3, 4), chance(3, 4)),
    _set("binary_cross_entropy_with_logits", "sum", spread(3, 4), chance(3, 4), reduction="sum"),
    _set("cross_entropy", "", normal(5, 3), integers(0, 3, 5)),
    _set("cross_entropy", "one", normal(3), integers(0, 3)),
    _set("cross_entropy", "ignore", normal(5, 3), given(0, 1, 1, 2, 1), ignore_index=1),
    _set("cross_entropy", "none", normal(5, 3), given(0, -100, 1, 2, -100), reduction="none"),
    _set("cross_entropy", "smooth", normal(5, 3), integers(0, 3, 5), label_smoothing=0.1),
    _set("cross_entropy", "images", normal(2, 3, 4), integers(0, 3, 2, 4), reduction="sum"),
    _set("cross_entropy", "probabilities", normal(5, 3), classes(5, 3)),
    _set("cross_entropy", "probabilities-smooth", normal(2, 3, 4), classes(2, 3, 4), label_smoothing=0.2),
]

CASES = [*ELEMENTWISE, *FLAT, *REDUCE, *SHAPE, *INDEX, *LINALG, *WINDOW, *LAYER, *LOSS]
