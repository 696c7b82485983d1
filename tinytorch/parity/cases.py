"""The table of cases: a row for every op, and more where it has several ways to go.

One row drives the comparison with NumPy, the checks of gradient and second order, the comparison of devices, what the
doctor says of one, and the comparison with PyTorch. A new op is one row here; a test fails if an op has none.

The file is long because it is a table.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

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


def number(value: float) -> Draw:
    """A Python number in the place of a tensor."""
    return lambda rng: value


KEYS = [(slice(0, 3), slice(1, 4, 2)), (slice(0, 3, 2), slice(0, 4)), (slice(0, 3), slice(1, 3))]  # of `add_parts`


@dataclass
class Case:
    """A call of an op.

    Args:
        op: its name, as registered.
        inputs: how to draw each: floating arrays are float64 and are differentiated.
        options: keyword arguments.
        call: the call itself, given the namespace and the inputs, where it is not `xp.<op>(*inputs, **options)`.
        numpy: the same by NumPy, given arrays; by default NumPy's function of that name. None where there is no easy way.
        torch: the same by PyTorch, given the module and tensors; by default its function of that name.
        gradient: whether there is one.
        note: tells rows of one op apart.
    """

    op: str
    inputs: tuple[Draw, ...]
    options: dict[str, Any] = field(default_factory=dict)
    call: Callable[..., Any] | None = None
    numpy: Callable[..., Any] | str | None = ""
    torch: Callable[..., Any] | str | None = ""
    gradient: bool = True
    note: str = ""
    reads_values: bool = False  # the shape of the result depends on values: not on every device

    @property
    def id(self) -> str:
        return f"{self.op}-{self.note}" if self.note else self.op

    def arrays(self) -> list[Any]:
        """The inputs on the host: the same each time."""
        rng = np.random.Generator(np.random.Philox(zlib.crc32(self.id.encode())))
        return [draw(rng) for draw in self.inputs]

    def run(self, xp: Any, inputs: list[Any]) -> Any:
        return self.call(xp, *inputs) if self.call else getattr(xp.ops, self.op)(*inputs, **self.options)

    def run_numpy(self, inputs: list[Any]) -> Any:
        if callable(self.numpy):
            return self.numpy(*inputs)
        return getattr(np, self.numpy or self.op)(*inputs, **self.options)

    def run_torch(self, torch: Any, inputs: list[Any]) -> Any:
        if callable(self.torch):
            return self.torch(torch, *inputs)
        names = {"axis": "dim", "keepdims": "keepdim"}
        return getattr(torch, self.torch or self.op)(*inputs, **{names.get(k, k): v for k, v in self.options.items()})


def _unary(op: str, draw: Any = normal, numpy: Any = "", torch: Any = "", **more: Any) -> Case:
    return Case(op, (draw(3, 4),), numpy=numpy, torch=torch, **more)


def _binary(op: str, left: Any = normal, right: Any = normal, **more: Any) -> list[Case]:
    """Equal shapes, and shapes that broadcast."""
    return [
        Case(op, (left(3, 4), right(3, 4)), **more),
        Case(op, (left(2, 3, 1), right(3, 4)), note="broadcast", **more),
    ]


def _np_softmax(x: np.ndarray, axis: int = -1) -> np.ndarray:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def _two(v: Any) -> Any:
    return (v, v) if isinstance(v, int) else v


def _np_conv(
    x: Any, w: Any, b: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Any:
    """The definition, in loops."""
    (sh, sw), (ph, pw), (dh, dw) = _two(stride), _two(padding), _two(dilation)
    x = np.pad(x, [(0, 0), (0, 0), (ph, ph), (pw, pw)])
    O, Cg, KH, KW = w.shape
    oh, ow = (x.shape[2] - dh * (KH - 1) - 1) // sh + 1, (x.shape[3] - dw * (KW - 1) - 1) // sw + 1
    y = np.zeros((x.shape[0], O, oh, ow))
    for o in range(O):
        first = o // (O // groups) * Cg
        for h in range(oh):
            for v in range(ow):
                patch = x[:, first : first + Cg, h * sh : h * sh + dh * KH : dh, v * sw : v * sw + dw * KW : dw]
                y[:, o, h, v] = (patch[:, :, :KH, :KW] * w[o]).sum((1, 2, 3)) + (0 if b is None else b[o])
    return y


def _np_pool(reduce: Any, fill: float, x: Any, kernel: Any, stride: Any = None, padding: Any = 0) -> Any:
    (kh, kw), (ph, pw) = _two(kernel), _two(padding)
    sh, sw = _two(kernel if stride is None else stride)
    x = np.pad(x, [(0, 0), (0, 0), (ph, ph), (pw, pw)], constant_values=fill)
    rows, columns = range(0, x.shape[2] - kh + 1, sh), range(0, x.shape[3] - kw + 1, sw)
    return np.stack([np.stack([reduce(x[:, :, i : i + kh, j : j + kw], (2, 3)) for j in columns], -1) for i in rows], 2)


def _np_norm(x: Any, w: Any = 1.0, b: Any = 0.0, ndim: int = 1, eps: float = 1e-5) -> Any:
    axes = tuple(range(-ndim, 0))
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps) * w + b


def _np_heads(q: Any, k: Any, v: Any, mask: Any = None, causal: bool = False) -> Any:
    """Two heads: attention in each half of the features."""
    halves = zip(*(np.split(x, 2, axis=-1) for x in (q, k, v)))
    return np.concatenate([_np_attention(a, b, c, mask, causal) for a, b, c in halves], axis=-1)


def _np_attention(q: Any, k: Any, v: Any, mask: Any = None, causal: bool = False, weights: bool = False) -> Any:
    s = q @ np.swapaxes(k, -1, -2) / math.sqrt(q.shape[-1])
    if causal:
        s = np.where(np.tri(*s.shape[-2:]) > 0, s, -np.inf)
    if mask is not None:
        s = np.where(mask, s, -np.inf) if mask.dtype == bool else s + mask
    p = _np_softmax(s)
    return p if weights else p @ v


def _np_cross_entropy(z: Any, t: Any, ignore: int = -100, smooth: float = 0.0, reduction: str = "mean") -> Any:
    axis = min(z.ndim - 1, 1)
    logp = np.log(_np_softmax(z, axis))
    C = z.shape[axis]
    if t.ndim == z.ndim:
        kept = np.ones(np.delete(z.shape, axis))
        q = t
    else:
        kept = (t != ignore).astype(float)
        q = np.moveaxis(np.eye(C)[np.where(t == ignore, 0, t)], -1, axis)
    q = q * (1 - smooth) + smooth / C
    losses = -(q * logp).sum(axis) * kept
    return {"none": losses, "sum": losses.sum(), "mean": losses.sum() / kept.sum()}[reduction]


def _F(name: str, **options: Any) -> Callable[..., Any]:
    """PyTorch's function of that name in torch.nn.functional."""
    return lambda torch, *inputs: getattr(torch.nn.functional, name)(*inputs, **options)


ELEMENTWISE = [
    *_binary("add"),
    Case("add", (normal(3), number(2.5)), note="number"),
    *_binary("subtract"),
    Case("subtract", (number(2.5), normal(3)), note="number", torch=lambda t, a, b: a - b),
    *_binary("multiply"),
    *_binary("divide", right=positive),
    Case("divide", (number(2.0), positive(3)), note="number", torch=lambda t, a, b: a / b),
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
    _unary("erf", numpy=np.vectorize(math.erf)),
    Case("erf", (lambda rng: np.linspace(-7, 7, 57),), note="wide", numpy=np.vectorize(math.erf)),
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
    _unary("relu", spread, numpy=lambda x: np.maximum(x, 0)),
    _unary("sigmoid", numpy=lambda x: 1 / (1 + np.exp(-x))),
    Case(
        "sigmoid",
        (given(-800.0, -30.0, 0.0, 30.0, 800.0),),
        note="wide",
        numpy=lambda x: 1 / (1 + np.exp(-np.maximum(x, -700))),
    ),
    _unary("gelu", numpy=lambda x: x * (1 + np.vectorize(math.erf)(x / 2**0.5)) / 2, torch=_F("gelu")),
    Case(
        "gelu",
        (normal(3, 4),),
        {"approximate": "tanh"},
        note="tanh",
        numpy=lambda x: x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))) / 2,
        torch=_F("gelu", approximate="tanh"),
    ),
    *_binary("maximum", spread, unequal),
    *_binary("minimum", spread, unequal),
    Case("where", (booleans(3, 4), normal(3, 4), normal(4))),
    Case("where", (booleans(3, 4), normal(3, 4), number(0.0)), note="number"),
    Case("clip", (spread(3, 4),), {"min": -0.4, "max": 0.6}, numpy=lambda x: np.clip(x, -0.4, 0.6), torch="clamp"),
    Case("clip", (spread(3, 4),), {"max": 0.6}, note="max", numpy=lambda x: np.clip(x, None, 0.6), torch="clamp"),
    Case(
        "clip",
        (spread(3, 4), given(-0.31, -0.52, 0.13, 0.28), given(0.61, 0.52, 0.63, 0.78)),
        note="tensors",
        torch="clamp",
    ),
    *_binary("copysign", spread, unequal),
    *_binary("nextafter", spread, unequal),
    _unary("sign", spread),
    _unary("floor", spread),
    _unary("ceil", spread),
    _unary("trunc", spread),
    _unary("round", spread),
    Case(
        "masked_scale",
        (normal(3),),
        call=lambda xp, x: xp.ops.masked_scale(x, xp.asarray([0.0, 2.0, 1.0], dtype=x.dtype, device=x.device)),
        numpy=lambda x: x * np.asarray([0.0, 2.0, 1.0]),
        torch=None,
    ),
    Case("flat_in", (normal(3), normal(2, 2)), numpy=lambda x, y: x, torch=None),
]

FLAT = [
    *_binary("equal", gradient=False, torch="eq"),
    *_binary("not_equal", gradient=False, torch="ne"),
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
    *[
        Case(op, (integers(0, 50, 3, 4), integers(0, 5, 3, 4)), gradient=False, numpy=name, torch=name)
        for op, name in {
            "bitwise_and": "bitwise_and",
            "bitwise_or": "bitwise_or",
            "bitwise_xor": "bitwise_xor",
            "bitwise_left_shift": "bitwise_left_shift",
            "bitwise_right_shift": "bitwise_right_shift",
        }.items()
    ],
    Case("bitwise_invert", (integers(0, 50, 3, 4),), gradient=False, torch="bitwise_not"),
]

REDUCE = [
    Case("sum", (normal(3, 4),)),
    Case("sum", (normal(2, 3, 4),), {"axis": (0, 2)}, note="axes"),
    Case("sum", (normal(3, 4),), {"axis": -1, "keepdims": True}, note="keepdims"),
    Case("sum", (booleans(3, 4),), note="bool", gradient=False),
    Case("mean", (normal(3, 4),)),
    Case("mean", (normal(2, 3, 4),), {"axis": (0, -1)}, note="axes"),
    Case("mean", (normal(3, 4),), {"axis": 1, "keepdims": True}, note="keepdims"),
    Case("var", (normal(3, 4),), torch=lambda t, x: t.var(x, correction=0)),
    Case(
        "var",
        (normal(3, 4),),
        {"axis": 1, "correction": 1},
        note="correction",
        numpy=lambda x: np.var(x, axis=1, ddof=1),
    ),
    Case("std", (normal(3, 4),), torch=lambda t, x: t.std(x, correction=0)),
    Case(
        "std",
        (normal(3, 4),),
        {"axis": 0, "correction": 1, "keepdims": True},
        note="correction",
        numpy=lambda x: np.std(x, axis=0, ddof=1, keepdims=True),
    ),
    Case("prod", (spread(2, 3),)),
    Case("prod", (lambda rng: np.array([[1.5, 0.0, 2.0], [0.0, 0.0, 3.0]]),), {"axis": 1}, note="zeros"),
    Case(
        "prod",
        (spread(2, 3, 2),),
        {"axis": (0, 2), "keepdims": True},
        note="axes",
        torch=lambda t, x: t.prod(t.prod(x, 2, keepdim=True), 0, keepdim=True),
    ),
    Case("cumulative_sum", (normal(3, 4),), {"axis": 1}, torch="cumsum"),
    Case(
        "cumulative_sum",
        (normal(3, 4),),
        {"axis": 0, "include_initial": True},
        note="initial",
        torch=lambda t, x: t.cat([t.zeros_like(x[:1]), t.cumsum(x, 0)]),
    ),
    Case("cumulative_prod", (spread(3, 4),), {"axis": 1}, torch="cumprod"),
    Case(
        "cumulative_prod",
        (lambda rng: np.array([[1.5, 0.0, 2.0], [0.0, 0.0, 3.0]]),),
        {"axis": 1, "include_initial": True},
        note="zeros",
        torch=lambda t, x: t.cat([t.ones_like(x[:, :1]), t.cumprod(x, 1)], 1),
    ),
    Case("max", (spread(3, 4),)),
    Case("max", (spread(3, 4),), {"axis": 1, "keepdims": True}, note="axis", torch="amax"),
    Case("min", (spread(3, 4),)),
    Case("min", (spread(3, 4),), {"axis": 0}, note="axis", torch="amin"),
    Case("argmax", (spread(3, 4),), {"axis": 1}, gradient=False),
    Case("argmin", (spread(3, 4),), gradient=False),
    Case("all", (booleans(3, 4),), {"axis": 1}, gradient=False),
    Case("any", (booleans(3, 4),), {"axis": 1}, gradient=False),
    Case("count_nonzero", (integers(0, 3, 3, 4),), {"axis": 1}, gradient=False),
    Case("count_nonzero", (booleans(3, 4),), note="bool", gradient=False),
    Case("softmax", (normal(3, 4),), numpy=_np_softmax, torch=lambda t, x: t.softmax(x, -1)),
    Case("softmax", (normal(3, 4),), {"axis": 0}, note="axis", numpy=lambda x: _np_softmax(x, 0)),
    Case(
        "log_softmax", (normal(3, 4),), numpy=lambda x: np.log(_np_softmax(x)), torch=lambda t, x: t.log_softmax(x, -1)
    ),
    Case("log_softmax", (normal(3, 4),), {"axis": 0}, note="axis", numpy=lambda x: np.log(_np_softmax(x, 0))),
    Case(
        "logsumexp", (normal(3, 4),), numpy=lambda x: np.log(np.exp(x).sum()), torch=lambda t, x: t.logsumexp(x, (0, 1))
    ),
    Case("logsumexp", (normal(3, 4),), {"axis": 1}, note="axis", numpy=lambda x: np.log(np.exp(x).sum(1))),
    Case("sort", (spread(3, 4),), torch=lambda t, x: t.sort(x)[0]),
    Case(
        "sort",
        (spread(3, 4),),
        {"axis": 0, "descending": True},
        note="descending",
        numpy=lambda x: -np.sort(-x, axis=0),
        torch=lambda t, x: t.sort(x, dim=0, descending=True)[0],
    ),
    Case("argsort", (spread(3, 4),), gradient=False),
    Case("searchsorted", (lambda rng: np.sort(rng.standard_normal(9)), normal(5)), gradient=False),
]

SHAPE = [
    Case("reshape", (normal(3, 4),), call=lambda xp, x: xp.reshape(x, (2, -1)), numpy=lambda x: x.reshape(2, -1), torch=lambda t, x: x.reshape(2, -1)),
    Case("permute_dims", (normal(2, 3, 4),), call=lambda xp, x: xp.permute_dims(x, (2, 0, 1)), numpy=lambda x: x.transpose(2, 0, 1), torch=lambda t, x: x.permute(2, 0, 1)),
    Case("matrix_transpose", (normal(2, 3, 4),), numpy=lambda x: x.swapaxes(1, 2), torch=lambda t, x: x.mT),
    Case("expand_dims", (normal(2, 3),), {"axis": 1}, torch="unsqueeze"),
    Case("squeeze", (normal(2, 1, 3),), {"axis": 1}),
    Case("broadcast_to", (normal(3, 1),), call=lambda xp, x: xp.broadcast_to(x, (2, 3, 4)), numpy=lambda x: np.broadcast_to(x, (2, 3, 4)), torch=lambda t, x: t.broadcast_to(x, (2, 3, 4))),
    Case("flip", (normal(3, 4),), {"axis": 1}, torch=lambda t, x: t.flip(x, (1,))),
    Case("roll", (normal(3, 4),), call=lambda xp, x: xp.roll(x, (1, -2), axis=(0, 1)), numpy=lambda x: np.roll(x, (1, -2), (0, 1)), torch=lambda t, x: t.roll(x, (1, -2), (0, 1))),
    Case("tril", (normal(2, 3, 4),), {"k": 1}, torch=lambda t, x: t.tril(x, 1)),
    Case("triu", (normal(3, 4),), {"k": -1}, torch=lambda t, x: t.triu(x, -1)),
    Case("astype", (normal(3),), call=lambda xp, x: xp.astype(x, x.dtype), numpy=lambda x: x, torch=lambda t, x: x.clone()),
    Case("transfer", (normal(3),), call=lambda xp, x: xp.ops.transfer(x, x.device, x.device), numpy=lambda x: x, torch=lambda t, x: x.clone()),
    Case("moveaxis", (normal(2, 3, 4),), call=lambda xp, x: xp.moveaxis(x, 0, -1), numpy=lambda x: np.moveaxis(x, 0, -1), torch=lambda t, x: t.moveaxis(x, 0, -1)),
    Case("flatten", (normal(2, 3, 4),), call=lambda xp, x: xp.flatten(x, 1), numpy=lambda x: x.reshape(2, 12), torch=lambda t, x: t.flatten(x, 1)),
    Case("concat", (normal(2, 3), normal(2, 4)), call=lambda xp, *a: xp.concat(a, axis=1), numpy=lambda *a: np.concatenate(a, 1), torch=lambda t, *a: t.cat(a, 1)),
    Case("concat", (normal(2, 3), normal(4)), call=lambda xp, *a: xp.concat(a, axis=None), note="flat", numpy=lambda *a: np.concatenate(a, None), torch=lambda t, *a: t.cat([x.flatten() for x in a])),
    Case("stack", (normal(2, 3), normal(2, 3)), call=lambda xp, *a: xp.stack(a, axis=1), numpy=lambda *a: np.stack(a, 1), torch=lambda t, *a: t.stack(a, 1)),
    Case("unstack", (normal(2, 3),), call=lambda xp, x: xp.unstack(x, axis=1)[1], numpy=lambda x: x[:, 1], torch=lambda t, x: t.unbind(x, 1)[1]),
    Case("split", (normal(5, 3),), call=lambda xp, x: xp.split(x, 2)[1], numpy=lambda x: x[2:4], torch=lambda t, x: t.split(x, 2)[1]),
    Case("split", (normal(5, 3),), call=lambda xp, x: xp.split(x, [2, 1], axis=1)[0], note="sizes", numpy=lambda x: x[:, :2], torch=lambda t, x: t.split(x, [2, 1], 1)[0]),
    Case("pad", (normal(2, 3),), call=lambda xp, x: xp.pad(x, ((1, 0), (0, 2)), value=1.5), numpy=lambda x: np.pad(x, ((1, 0), (0, 2)), constant_values=1.5), torch=lambda t, x: t.nn.functional.pad(x, (0, 2, 1, 0), value=1.5)),
    Case("repeat", (normal(2, 3),), call=lambda xp, x: xp.repeat(x, 2, axis=1), numpy=lambda x: np.repeat(x, 2, 1), torch=lambda t, x: t.repeat_interleave(x, 2, 1)),
    Case("repeat", (normal(2, 3),), call=lambda xp, x: xp.repeat(x, xp.asarray([2, 0, 1], device=x.device), axis=1), note="tensor", numpy=lambda x: np.repeat(x, [2, 0, 1], 1), torch=lambda t, x: t.repeat_interleave(x, t.tensor([2, 0, 1]), 1)),
    Case("tile", (normal(2, 3),), call=lambda xp, x: xp.tile(x, (2, 1, 2)), numpy=lambda x: np.tile(x, (2, 1, 2)), torch=lambda t, x: t.tile(x, (2, 1, 2))),
    Case("broadcast_arrays", (normal(2, 1), normal(3)), call=lambda xp, a, b: xp.add(*xp.broadcast_arrays(a, b)), numpy=lambda a, b: a + b, torch=lambda t, a, b: a + b),
    Case("meshgrid", (normal(2), normal(3)), call=lambda xp, a, b: xp.multiply(*xp.meshgrid(a, b)), numpy=lambda a, b: np.multiply(*np.meshgrid(a, b)), torch=lambda t, a, b: t.mul(*t.meshgrid(a, b, indexing="xy"))),
    Case("diff", (normal(3, 5),), {"n": 2}),
]  # fmt: skip


def _key(key: Any, note: str, **more: Any) -> Case:
    return Case(
        "getitem",
        (normal(4, 5, 6),),
        call=lambda xp, x: x[key],
        numpy=lambda x: x[key],
        torch=lambda t, x: x[key],
        note=note,
        **more,
    )


def _indexed(note: str, where: Callable[..., Any], *indices: Draw, **more: Any) -> Case:
    """x indexed by tensors: where(x, *indices) is the same expression for everybody."""
    return Case(
        "getitem",
        (normal(4, 5, 6), *indices),
        call=lambda xp, *a: where(*a),
        numpy=where,
        torch=lambda t, *a: where(*a),
        note=note,
        **more,
    )


INDEX = [
    _key(2, "integer"),
    _key((-1, 0, 3), "integers"),
    _key((slice(1, 3), slice(None), -2), "slices"),
    _key((slice(None, None, 2), slice(1, 5, 3)), "steps"),
    _key((Ellipsis, None, slice(2, 4)), "new-axis"),
    _key((slice(2, 2), 1), "empty"),
    Case("getitem", (normal(4, 5),), call=lambda xp, x: x[::-1, 3:0:-2], numpy=lambda x: x[::-1, 3:0:-2], torch=lambda t, x: x.flip(0)[:, [3, 1]], note="backwards"),
    Case("getitem", (normal(4, 5),), call=lambda xp, x: x[1::-1, None, 2], numpy=lambda x: x[1::-1, None, 2], torch=lambda t, x: x[[1, 0], None, 2], note="backwards-mixed"),
    Case("getitem", (normal(4, 5),), call=lambda xp, x: x[::-2, ::-3], numpy=lambda x: x[::-2, ::-3], torch=lambda t, x: x[[3, 1]][:, [4, 1]], note="backwards-steps"),
    Case("getitem", (normal(4, 5),), call=lambda xp, x: x[::-1, 2:2:-4], numpy=lambda x: x[::-1, 2:2:-4], torch=lambda t, x: x[:, :0], note="backwards-empty"),
    _indexed("tensor", lambda x, i: x[i], integers(-4, 4, 7)),
    _indexed("tensor-2d", lambda x, i: x[i], integers(0, 4, 2, 3)),
    _indexed("tensor-pair", lambda x, i, j: x[i, j], integers(0, 4, 7), integers(-5, 5, 7)),
    _indexed("tensor-broadcast", lambda x, i, j: x[i, j, 1:3], integers(0, 4, 2, 1), integers(0, 5, 3)),
    _indexed("tensor-integer", lambda x, i: x[i, 2], integers(0, 4, 3)),
    _indexed("tensor-among-slices", lambda x, i: x[1:, :, i], integers(0, 6, 2, 2)),
    _indexed("tensor-after-dots", lambda x, i: x[..., i], integers(0, 6, 3)),
    _indexed("mask", lambda x, m: x[m], booleans(4, 5, 6), reads_values=True),
    _indexed("mask-rows", lambda x, m: x[m], booleans(4, 5), reads_values=True),
    Case("take", (normal(4, 5), integers(-5, 5, 7)), {"axis": 1}, torch=lambda t, x, i: t.index_select(x, 1, i % 5)),
    Case("take", (normal(4, 5), integers(0, 4, 7)), {"axis": 0}, note="rows", torch=lambda t, x, i: t.index_select(x, 0, i)),
    Case("wrapped", (integers(-4, 4, 7),), call=lambda xp, x: xp.ops.index._wrapped(x, 4), gradient=False, numpy=lambda x: x % 4, torch=lambda t, x: x % 4),
    Case("setitem", (normal(4, 5), normal(2, 1)), call=lambda xp, x, v: xp.ops.subscript._setitem(x, v, (slice(1, 4, 2), slice(0, 3))), numpy=lambda x, v: _np_set(x, v), torch=lambda t, x, v: t.index_put(x, (t.tensor([[1], [3]]), t.tensor([[0, 1, 2]])), v.expand(2, 3))),
    Case("put", (normal(5, 3), normal(4, 3), given(1, 3, 1, 0)), call=lambda xp, x, v, i: xp.ops.put(x, i, v), numpy=lambda x, v, i: np.stack([v[3], v[2], x[2], v[1], x[4]]), torch=lambda t, x, v, i: t.stack([v[3], v[2], x[2], v[1], x[4]])),
    Case("add_parts", (normal(3, 2), normal(2, 4), normal(3, 2)), call=lambda xp, *parts: xp.ops.add_parts(parts, KEYS, (3, 4)), numpy=lambda *parts: _added(np.zeros((3, 4)), parts), torch=lambda t, *parts: _added(t.zeros(3, 4, dtype=t.float64), parts)),
    Case(
        "scatter_add",
        (normal(7, 3), integers(0, 4, 7)),
        {"size": 4},
        numpy=lambda v, i: np.eye(4)[i].T @ v,
        torch=lambda t, v, i: t.zeros(4, 3, dtype=v.dtype).index_add(0, i, v),
    ),
    Case(
        "scatter_add",
        (normal(7, 2, 3), integers(0, 4, 7)),
        {"size": 5},
        note="blocks",
        numpy=lambda v, i: np.einsum("nk,nij->kij", np.eye(5)[i], v),
        torch=lambda t, v, i: t.zeros(5, 2, 3, dtype=v.dtype).index_add(0, i, v),
    ),
    Case("take_along_axis", (normal(4, 5), integers(-5, 5, 4, 3)), {"axis": 1}, torch=lambda t, x, i: t.gather(x, 1, i % 5)),
    Case("take_along_axis", (normal(4, 5), integers(0, 4, 2, 5)), {"axis": 0}, note="columns", torch=lambda t, x, i: t.gather(x, 0, i)),
]  # fmt: skip


def _added(out: Any, parts: Sequence[Any]) -> Any:
    for key, part in zip(KEYS, parts, strict=True):
        out[key] += part
    return out


def _np_set(x: np.ndarray, v: np.ndarray) -> np.ndarray:
    x = x.copy()
    x[1:4:2, 0:3] = v
    return x


def _einsum(subscripts: str, *inputs: Draw) -> Case:
    return Case(
        "einsum",
        inputs,
        call=lambda xp, *a: xp.einsum(subscripts, *a),
        numpy=lambda *a: np.einsum(subscripts, *a),
        torch=lambda t, *a: t.einsum(subscripts, *a),
        note=subscripts,
    )


LINALG = [
    Case("matmul", (normal(3, 4), normal(4, 5))),
    Case("matmul", (normal(2, 1, 3, 4), normal(5, 4, 2)), note="batches"),
    Case("matmul", (normal(4), normal(4)), note="vectors"),
    Case("matmul", (normal(4), normal(2, 4, 3)), note="row"),
    Case("matmul", (normal(2, 3, 4), normal(4)), note="column"),
    Case("vecdot", (normal(3, 4), normal(4)), torch=lambda t, a, b: t.linalg.vecdot(a, b)),
    Case("tensordot", (normal(2, 3, 4), normal(3, 4, 5)), call=lambda xp, a, b: xp.tensordot(a, b), numpy=lambda a, b: np.tensordot(a, b, 2), torch=lambda t, a, b: t.tensordot(a, b, 2)),
    Case("tensordot", (normal(2, 3, 4), normal(4, 5, 2)), call=lambda xp, a, b: xp.tensordot(a, b, axes=((0, 2), (2, 0))), note="axes", numpy=lambda a, b: np.tensordot(a, b, ((0, 2), (2, 0))), torch=lambda t, a, b: t.tensordot(a, b, ((0, 2), (2, 0)))),
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
]  # fmt: skip

_IMAGE, _KERNEL = normal(2, 3, 6, 5), normal(4, 3, 3, 2)


def _conv(note: str, x: Draw, w: Draw, *b: Draw, **options: Any) -> Case:
    return Case(
        "conv2d",
        (x, w, *b),
        options,
        note=note,
        numpy=lambda *a: _np_conv(*a, **options),
        torch=_F("conv2d", **options),
    )


def _pool(op: str, note: str, *args: Any, torch: Any = None, numpy: Any = "", **options: Any) -> Case:
    reduce = np.max if op == "max_pool2d" else np.mean
    fill = -np.inf if op == "max_pool2d" else 0.0
    return Case(
        op,
        (spread(2, 3, 6, 7),),
        call=lambda xp, x: getattr(xp, op)(x, *args, **options),
        note=note,
        numpy=(lambda x: _np_pool(reduce, fill, x, *args)) if numpy == "" else numpy,
        torch=lambda t, x: getattr(t.nn.functional, op)(x, *args, **options),
    )


WINDOW = [
    _conv("", _IMAGE, _KERNEL, normal(4)),
    _conv("no-bias", _IMAGE, _KERNEL),
    _conv("stride", _IMAGE, _KERNEL, normal(4), stride=(2, 3)),
    _conv("padding", _IMAGE, _KERNEL, normal(4), padding=(2, 1)),
    _conv("dilation", _IMAGE, _KERNEL, normal(4), dilation=2),
    _conv("groups", normal(2, 4, 5, 5), normal(6, 2, 3, 3), normal(6), groups=2),
    _conv(
        "all", normal(2, 4, 8, 7), normal(4, 1, 3, 2), normal(4), stride=2, padding=(2, 3), dilation=(2, 3), groups=4
    ),
    _conv("gaps", _IMAGE, normal(4, 3, 1, 1), stride=2),
    _pool("max_pool2d", "", 2),
    _pool("max_pool2d", "overlap", (3, 2), (1, 2), 1),
    _pool("max_pool2d", "gaps", 2, 3),
    _pool("max_pool2d", "dilation", 2, 1, 0, 2, numpy=None),
    _pool("avg_pool2d", "", 2),
    _pool("avg_pool2d", "overlap", (3, 2), (1, 2), 1),
    _pool("avg_pool2d", "not-the-pad", 3, 2, 1, count_include_pad=False, numpy=None),
]

LAYER = [
    Case("linear", (normal(5, 3), normal(4, 3), normal(4)), numpy=lambda x, w, b: x @ w.T + b, torch=_F("linear")),
    Case("linear", (normal(5, 3), normal(4, 3)), note="no-bias", numpy=lambda x, w: x @ w.T, torch=_F("linear")),
    Case("linear", (normal(2, 5, 3), normal(4, 3), normal(4)), note="batches", numpy=lambda x, w, b: x @ w.T + b, torch=_F("linear")),
    Case("linear", (normal(3), normal(4, 3), normal(4)), note="vector", numpy=lambda x, w, b: x @ w.T + b, torch=_F("linear")),
    Case("layer_norm", (normal(5, 4), normal(4), normal(4)), numpy=_np_norm, torch=lambda t, x, w, b: t.nn.functional.layer_norm(x, (4,), w, b)),
    Case("layer_norm", (normal(2, 3, 4), normal(3, 4)), {"ndim": 2}, note="axes", numpy=lambda x, w: _np_norm(x, w, ndim=2), torch=lambda t, x, w: t.nn.functional.layer_norm(x, (3, 4), w)),
    Case("layer_norm", (normal(5, 4),), {"eps": 1e-3}, note="plain", numpy=lambda x: _np_norm(x, eps=1e-3), torch=lambda t, x: t.nn.functional.layer_norm(x, (4,), eps=1e-3)),
    Case("embedding", (normal(6, 3), integers(0, 6, 2, 5)), call=lambda xp, w, i: xp.embedding(i, w), numpy=lambda w, i: w[i], torch=lambda t, w, i: t.nn.functional.embedding(i, w)),
    Case("scaled_dot_product_attention", (normal(2, 3, 4), normal(2, 5, 4), normal(2, 5, 2)), numpy=_np_attention, torch=_F("scaled_dot_product_attention")),
    Case("scaled_dot_product_attention", (normal(2, 4, 3), normal(2, 4, 3), normal(2, 4, 3)), {"is_causal": True}, note="causal", numpy=lambda q, k, v: _np_attention(q, k, v, causal=True), torch=_F("scaled_dot_product_attention", is_causal=True)),
    Case("scaled_dot_product_attention", (normal(2, 3, 4), normal(2, 5, 4), normal(2, 5, 2), normal(3, 5)), note="added-mask", numpy=_np_attention, torch=_F("scaled_dot_product_attention")),
    Case("scaled_dot_product_attention", (normal(2, 3, 4), normal(2, 4, 4), normal(2, 4, 2), given([True, False, True, True], [True] * 4, [False, True, False, False])), note="mask", numpy=_np_attention, torch=_F("scaled_dot_product_attention")),
    Case("multi_head_attention", (normal(2, 3, 4), normal(2, 5, 4), normal(2, 5, 4), normal(3, 5)), {"num_heads": 2}, note="added-mask", numpy=_np_heads, torch=None),
    Case("multi_head_attention", (normal(2, 3, 4), normal(2, 4, 4), normal(2, 4, 4), given([True, False, True, True], [True] * 4, [False, True, False, False])), {"num_heads": 2}, note="mask", numpy=_np_heads, torch=None),
    Case("multi_head_attention", (normal(2, 3, 12),), {"num_heads": 2, "is_causal": True}, note="packed", numpy=lambda x: _np_heads(x[..., :4], x[..., 4:8], x[..., 8:], causal=True), torch=None),
    Case("attention_weights", (normal(2, 3, 4), normal(2, 5, 4)), numpy=lambda q, k: _np_attention(q, k, None, weights=True), torch=lambda t, q, k: t.softmax(q @ k.mT / 2, -1)),
    Case("attention_weights", (normal(2, 3, 4), normal(2, 5, 4), normal(3, 5)), {"scale": 1.0}, note="mask", numpy=lambda q, k, m: _np_softmax(q @ k.swapaxes(-1, -2) + m), torch=lambda t, q, k, m: t.softmax(q @ k.mT + m, -1)),
]  # fmt: skip


def _class_probabilities(*shape: int) -> Draw:
    return lambda rng: _np_softmax(rng.standard_normal(shape), 1)


LOSS = [
    *[
        Case("mse_loss", (normal(3, 4), normal(3, 4)), {"reduction": r}, note=r, numpy=lambda x, t, r=r: {"mean": ((x - t) ** 2).mean(), "sum": ((x - t) ** 2).sum(), "none": (x - t) ** 2}[r], torch=_F("mse_loss", reduction=r))
        for r in ("mean", "sum", "none")
    ],
    Case("binary_cross_entropy", (chance(3, 4), chance(3, 4)), numpy=lambda p, t: -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean(), torch=_F("binary_cross_entropy")),
    Case("binary_cross_entropy", (chance(3, 4), chance(3, 4)), {"reduction": "none"}, note="none", numpy=lambda p, t: -(t * np.log(p) + (1 - t) * np.log(1 - p)), torch=_F("binary_cross_entropy", reduction="none")),
    Case("binary_cross_entropy_with_logits", (spread(3, 4), chance(3, 4)), numpy=lambda z, t: (np.log1p(np.exp(z)) - z * t).mean(), torch=_F("binary_cross_entropy_with_logits")),
    Case("binary_cross_entropy_with_logits", (spread(3, 4), chance(3, 4)), {"reduction": "sum"}, note="sum", numpy=lambda z, t: (np.log1p(np.exp(z)) - z * t).sum(), torch=_F("binary_cross_entropy_with_logits", reduction="sum")),
    Case("cross_entropy", (normal(5, 3), integers(0, 3, 5)), numpy=_np_cross_entropy, torch=_F("cross_entropy")),
    Case("cross_entropy", (normal(3), integers(0, 3)), note="one", numpy=_np_cross_entropy, torch=_F("cross_entropy")),
    Case("cross_entropy", (normal(5, 3), given(0, 1, 1, 2, 1)), {"ignore_index": 1}, note="ignore", numpy=lambda z, t: _np_cross_entropy(z, t, ignore=1), torch=_F("cross_entropy", ignore_index=1)),
    Case("cross_entropy", (normal(5, 3), given(0, -100, 1, 2, -100)), {"reduction": "none"}, note="none", numpy=lambda z, t: _np_cross_entropy(z, t, reduction="none"), torch=_F("cross_entropy", reduction="none")),
    Case("cross_entropy", (normal(5, 3), integers(0, 3, 5)), {"label_smoothing": 0.1}, note="smooth", numpy=lambda z, t: _np_cross_entropy(z, t, smooth=0.1), torch=_F("cross_entropy", label_smoothing=0.1)),
    Case("cross_entropy", (normal(2, 3, 4), integers(0, 3, 2, 4)), {"reduction": "sum"}, note="images", numpy=lambda z, t: _np_cross_entropy(z, t, reduction="sum"), torch=_F("cross_entropy", reduction="sum")),
    Case("cross_entropy", (normal(5, 3), _class_probabilities(5, 3)), note="probabilities", numpy=_np_cross_entropy, torch=_F("cross_entropy")),
    Case("cross_entropy", (normal(2, 3, 4), _class_probabilities(2, 3, 4)), {"label_smoothing": 0.2}, note="probabilities-smooth", numpy=lambda z, t: _np_cross_entropy(z, t, smooth=0.2), torch=_F("cross_entropy", label_smoothing=0.2)),
]  # fmt: skip

CASES = [*ELEMENTWISE, *FLAT, *REDUCE, *SHAPE, *INDEX, *LINALG, *WINDOW, *LAYER, *LOSS]
