"""Where numbers end: zeros, infinities and NaN in values, gradients and second-order gradients; nothing to reduce."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

import tinytorch
from tinytorch import Tensor
from tinytorch.parity.cases import ELEMENTWISE

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy speaks of infinities that were asked for

inf, nan = math.inf, math.nan


def gradients(function, device, *values, gradient=None):
    """The gradients of a function of float64 tensors, from a gradient of its result (ones if not given)."""
    inputs = [Tensor(np.asarray(v, "float64"), device=device, requires_grad=True) for v in values]
    out = function(*inputs)
    seed = tinytorch.ones_like(out) if gradient is None else Tensor(np.asarray(gradient, "float64"), device=device)
    return [g.numpy() for g in tinytorch.grad(out, inputs, seed)]


def pool(x):
    return tinytorch.max_pool2d(x, 2)


# A function, where it is taken, the gradient that comes in, and the one that is right: what is not selected gets 0
SELECTED = {
    "relu": (tinytorch.relu, [0.0, -1.0, 2.0, nan], [inf, -inf, inf, 5.0], [0, 0, inf, 5]),
    "abs": (tinytorch.abs, [0.0, -1.0, 2.0], [inf, inf, inf], [0, -inf, inf]),
    "copysign": (lambda x: tinytorch.copysign(x, Tensor(-1.0, x.dtype, x.device)), [0.0, 2.0], [inf, 3.0], [0, -3]),
    "maximum": (lambda x: tinytorch.maximum(x, 1.0), [0.0, 1.0, 2.0], [inf, inf, inf], [0, inf, inf]),
    "minimum": (lambda x: tinytorch.minimum(x, 1.0), [0.0, 1.0, 2.0], [inf, inf, inf], [inf, inf, 0]),
    "clip": (lambda x: tinytorch.clip(x, 0.0, 1.0), [-1.0, 0.5, 2.0], [inf, inf, nan], [0, inf, 0]),
    "where": (lambda x: tinytorch.where(x > 0, x, 0.0), [-1.0, 2.0], [inf, inf], [0, inf]),
    "leaky": (lambda x: tinytorch.where(x > 0, x, x * 0.5), [-1.0, 0.0, 2.0], [2.0, inf, inf], [1, inf, inf]),
    "max": (lambda x: tinytorch.max(x, axis=1), [[1.0, 2.0], [3.0, 3.0]], [inf, inf], [[0, inf], [inf, inf]]),
    "max of NaN": (lambda x: tinytorch.max(x, axis=1), [[1.0, nan], [3.0, 4.0]], [5.0, 6.0], [[0, 5], [0, 6]]),
    "max of -inf": (tinytorch.max, [-inf, -inf], 3.0, [1.5, 1.5]),
    "min": (tinytorch.min, [1.0, 2.0], inf, [inf, 0]),
    "std": (lambda x: tinytorch.std(x, axis=1), [[1.0, 1.0], [1.0, 3.0]], [inf, 1.0], [[0, 0], [-0.5, 0.5]]),
    "cumulative_prod": (tinytorch.cumulative_prod, [2.0, 3.0], [inf, 1.0], [inf, 2]),
    "tril": (tinytorch.tril, [[1.0, 2.0], [3.0, 4.0]], [[1.0, inf], [inf, nan]], [[1, 0], [inf, nan]]),
    "max_pool2d": (pool, [[[[0.0, 1.0], [2.0, 0.0]]]], [[[[inf]]]], [[[[0, 0], [inf, 0]]]]),
    "max_pool2d of equal": (pool, [[[[0.0, 0.0], [0.0, 0.0]]]], [[[[inf]]]], [[[[inf, 0], [0, 0]]]]),
    "take": (lambda x: tinytorch.take(x, Tensor([2, 0], device=x.device)), [1.0, 2.0, 3.0], [inf, 1], [1, 0, inf]),
    "scatter_add": (
        lambda x: tinytorch.take(x, Tensor([0, 0, 1, 1, 2, 3], device=x.device), axis=0),
        [[1.0], [1.0], [1.0], [1.0], [1.0]],
        [[inf], [1.0], [inf], [-inf], [nan], [-inf]],
        [[inf], [nan], [nan], [-inf], [0]],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SELECTED)
def test_what_is_not_selected_gets_a_zero_of_an_infinite_gradient(device, name):
    function, x, gradient, expected = SELECTED[name]
    (found,) = gradients(function, device, x, gradient=gradient)
    np.testing.assert_array_equal(found, np.asarray(expected, "float64"))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [3, 5000])
def test_selecting_many_is_as_selecting_few(device, dtype, size):
    x = Tensor(np.tile([-1.0, 0.0, 2.0], size), dtype, device, requires_grad=True)
    (g,) = tinytorch.grad(tinytorch.relu(x), x, Tensor(np.tile([inf, nan, -inf], size), dtype, device))
    np.testing.assert_array_equal(g.numpy(), np.tile([0.0, 0.0, -inf], size))
    negative = tinytorch.where(x > 5.0, x, -0.0).detach().numpy()
    assert np.all(np.signbit(negative))


def test_distances_between_points_of_which_two_are_one(device):
    points = Tensor([[0.0, 0.0], [3.0, 4.0]], device=device, requires_grad=True)
    square = ((points[:, None] - points[None]) ** 2).sum(axis=-1)
    tinytorch.sqrt(tinytorch.relu(square)).sum().backward()
    np.testing.assert_allclose(points.grad.numpy(), [[-1.2, -1.6], [1.2, 1.6]], rtol=1e-6)


def test_dropout_drops_infinities(device):
    x = Tensor([inf, -inf, 1.0, nan] * 16, device=device, requires_grad=True)
    dropout = tinytorch.Dropout(0.5)
    y = dropout(x)
    (g,) = tinytorch.grad(y, x, tinytorch.ones_like(y) * inf)
    kept = g.numpy() != 0
    assert 0 < kept.sum() < 64
    np.testing.assert_array_equal(y.detach().numpy(), np.where(kept, x.detach().numpy() * 2, 0))
    np.testing.assert_array_equal(g.numpy()[kept], inf)
    np.testing.assert_array_equal(tinytorch.Dropout(1.0)(x).detach().numpy(), 0)


@pytest.mark.parametrize("dilation", [1, 2])
def test_padding_wins_no_gradient_from_windows_of_minus_infinities(device, dilation):
    x = np.full((1, 2, 4, 5), -inf)
    x[0, 1, 2, 2] = 1.0
    (g,) = gradients(lambda x: tinytorch.max_pool2d(x, 3, 1, 1, dilation), device, x)
    places = (4 if dilation == 1 else 2) * (5 if dilation == 1 else 3)
    assert g.sum(axis=(0, 2, 3)).tolist() == [places, places]
    torch = pytest.importorskip("torch")
    t = torch.tensor(x, requires_grad=True)
    torch.nn.functional.max_pool2d(t, 3, 1, 1, dilation).sum().backward()
    np.testing.assert_array_equal(g, t.grad.numpy())


FLAT = {
    "relu": tinytorch.relu,
    "abs": tinytorch.abs,
    "clip": lambda x: tinytorch.clip(x, -0.5, 0.5),
    "maximum": lambda x: tinytorch.maximum(x, 0.1),
    "minimum": lambda x: tinytorch.minimum(0.1, x),
    "max": lambda x: tinytorch.max(x, axis=-1),
    "min": tinytorch.min,
    "median": lambda x: tinytorch.sort(x, axis=-1)[..., 1],
    "where": lambda x: tinytorch.where(x > 0, x, x * 0.1),
    "max_pool2d": pool,
    "avg_pool2d": lambda x: tinytorch.avg_pool2d(x, 2),
    "copysign": lambda x: tinytorch.copysign(x, x * 2.0),
    "remainder": lambda x: 3.0 % x,
    "sign": tinytorch.sign,
    "floor": tinytorch.floor,
    "ceil": tinytorch.ceil,
    "trunc": tinytorch.trunc,
    "round": tinytorch.round,
    "nextafter": lambda x: tinytorch.nextafter(x, x * 2.0),
}


@pytest.mark.parametrize("name", FLAT)
def test_the_second_derivative_between_kinks_is_zero(device, name):
    x = Tensor(np.random.default_rng(0).standard_normal((1, 1, 4, 4)), device=device, requires_grad=True)
    (first,) = tinytorch.grad(FLAT[name](x).sum(), x, create_graph=True)
    plain = tinytorch.grad(FLAT[name](x).sum(), x)[0]
    np.testing.assert_array_equal(first.detach().numpy(), plain.numpy())
    (second,) = tinytorch.grad(first.sum(), x)
    assert (second.dtype, second.shape) == (x.dtype, x.shape)
    assert not second.numpy().any()


def test_a_penalty_on_gradients_through_kinks(device):
    x = Tensor([[1.0, -2.0, 3.0]], device=device, requires_grad=True)
    w = Tensor([[1.0], [2.0], [3.0]], device=device, requires_grad=True)
    (first,) = tinytorch.grad(tinytorch.relu(x @ w).sum(), x, create_graph=True)
    (first * first).sum().backward()  # |w|**2 where the sum is positive
    assert w.grad.tolist() == [[2.0], [4.0], [6.0]]
    assert x.grad.tolist() == [[0.0, 0.0, 0.0]]


# Where numbers end ------------------------------------------------------------------------------------------------


def both(f):
    """Of one argument with two elements, as of two arguments."""
    return lambda x, y: f(tinytorch.stack([x, y], axis=-1))


def bce(z, t):
    return tinytorch.binary_cross_entropy_with_logits(z, t, reduction="none")


def soft_cross_entropy(x, y):
    logits = tinytorch.stack([x, y], axis=-1)[None]
    return tinytorch.cross_entropy(logits, Tensor([[0.0, 1.0]], x.dtype, x.device))


def tanh_gelu(x):
    return tinytorch.gelu(x, approximate="tanh")


# A function, its arguments, its value there, and its gradients: limits, or what its docstring says
LIMITS = [
    ("sigmoid", tinytorch.sigmoid, [-inf], 0.0, [0.0]),
    ("sigmoid", tinytorch.sigmoid, [inf], 1.0, [0.0]),
    ("sigmoid", tinytorch.sigmoid, [1e30], 1.0, [0.0]),
    ("sigmoid", tinytorch.sigmoid, [nan], nan, [nan]),
    ("sigmoid", tinytorch.sigmoid, [-80.0], math.exp(-80), [math.exp(-80)]),
    ("log of sigmoid", lambda x: tinytorch.log(tinytorch.sigmoid(x).detach()) + 0 * x.sum(), [-1e30], -inf, [0.0]),
    ("gelu", tinytorch.gelu, [-inf], 0.0, [0.0]),
    ("gelu", tinytorch.gelu, [inf], inf, [1.0]),
    ("gelu", tinytorch.gelu, [1e30], 1e30, [1.0]),
    ("gelu", tinytorch.gelu, [-1e30], 0.0, [0.0]),
    ("gelu", tinytorch.gelu, [nan], nan, [nan]),
    ("tanh gelu", tanh_gelu, [-inf], 0.0, [0.0]),
    ("tanh gelu", tanh_gelu, [inf], inf, [1.0]),
    ("tanh gelu", tanh_gelu, [1e30], 1e30, [1.0]),
    ("tanh gelu", tanh_gelu, [-1e30], 0.0, [0.0]),
    ("tanh", tinytorch.tanh, [inf], 1.0, [0.0]),
    ("erf", tinytorch.erf, [-inf], -1.0, [0.0]),
    ("asinh", tinytorch.asinh, [1e30], math.asinh(1e30), [1e-30]),
    ("sqrt", tinytorch.sqrt, [0.0], 0.0, [inf]),
    ("log1p", tinytorch.log1p, [-1.0], -inf, [inf]),
    ("expm1", tinytorch.expm1, [-inf], -1.0, [0.0]),
    ("relu", tinytorch.relu, [nan], nan, [1.0]),
    ("logaddexp", tinytorch.logaddexp, [1e8, 1e8], 1e8 + math.log(2), [0.5, 0.5]),
    ("logaddexp", tinytorch.logaddexp, [-1e30, -1e30], -1e30, [0.5, 0.5]),
    ("logaddexp", tinytorch.logaddexp, [inf, 0.0], inf, [1.0, 0.0]),
    ("logaddexp", tinytorch.logaddexp, [-inf, 0.0], 0.0, [0.0, 1.0]),
    ("logaddexp", tinytorch.logaddexp, [inf, inf], inf, [0.5, 0.5]),
    ("logaddexp", tinytorch.logaddexp, [-inf, -inf], -inf, [0.5, 0.5]),
    ("logaddexp", tinytorch.logaddexp, [-inf, inf], inf, [0.0, 1.0]),
    ("logsumexp", both(lambda x: tinytorch.logsumexp(x, axis=-1)), [1e8, 1e8], 1e8 + math.log(2), [0.5, 0.5]),
    ("logsumexp", both(lambda x: tinytorch.logsumexp(x, axis=-1)), [inf, 0.0], inf, [1.0, 0.0]),
    ("logsumexp", both(lambda x: tinytorch.logsumexp(x, axis=-1)), [-inf, 0.0], 0.0, [0.0, 1.0]),
    ("logsumexp", both(lambda x: tinytorch.logsumexp(x, axis=-1)), [-inf, -inf], -inf, [0.5, 0.5]),
    ("logsumexp", both(lambda x: tinytorch.logsumexp(x, axis=-1)), [inf, inf], inf, [0.5, 0.5]),
    ("hypot", tinytorch.hypot, [0.0, 0.0], 0.0, [0.0, 0.0]),
    ("hypot", tinytorch.hypot, [3e30, -4e30], 5e30, [0.6, -0.8]),
    ("hypot", tinytorch.hypot, [-inf, 1.0], inf, [-1.0, 0.0]),
    ("atan2", tinytorch.atan2, [0.0, 0.0], 0.0, [0.0, 0.0]),
    ("atan2", tinytorch.atan2, [1e25, 1e25], math.pi / 4, [5e-26, -5e-26]),
    ("atan2", tinytorch.atan2, [1e-30, 1e-30], math.pi / 4, [5e29, -5e29]),
    ("atan2", tinytorch.atan2, [inf, 1.0], math.pi / 2, [0.0, 0.0]),
    ("atan2", tinytorch.atan2, [1.0, -inf], math.pi, [0.0, 0.0]),
    ("copysign", tinytorch.copysign, [inf, -1.0], -inf, [-1.0, 0.0]),
    ("copysign", tinytorch.copysign, [0.0, -1.0], 0.0, [0.0, 0.0]),
    ("nextafter", tinytorch.nextafter, [1.0, 2.0], 1.0, [1.0, 0.0]),
    ("pow", tinytorch.pow, [0.0, -0.5], inf, [-inf, 0.0]),
    ("pow", tinytorch.pow, [0.0, 0.0], 1.0, [0.0, 0.0]),
    ("pow", tinytorch.pow, [0.0, 2.0], 0.0, [0.0, 0.0]),
    ("pow", tinytorch.pow, [0.0, nan], nan, [nan, nan]),
    ("pow", tinytorch.pow, [inf, -1.0], 0.0, [0.0, 0.0]),
    ("pow", tinytorch.pow, [inf, 0.0], 1.0, [0.0, inf]),
    ("pow", tinytorch.pow, [-2.0, 2.0], 4.0, [-4.0, nan]),
    ("0 ** x", lambda x: 0.0**x, [-0.5], inf, [0.0]),
    ("0 ** x", lambda x: 0.0**x, [0.0], 1.0, [0.0]),
    ("0 ** x", lambda x: 0**x, [nan], nan, [nan]),
    ("2 ** x", lambda x: 2.0**x, [-inf], 0.0, [0.0]),
    ("bce", bce, [inf, 0.0], inf, [1.0, -inf]),
    ("bce", bce, [inf, 1.0], 0.0, [0.0, -inf]),
    ("bce", bce, [-inf, 0.0], 0.0, [0.0, inf]),
    ("bce", bce, [-inf, 1.0], inf, [-1.0, inf]),
    ("bce", bce, [inf, 0.5], inf, [0.5, -inf]),
    ("bce", bce, [0.0, 1.0], math.log(2), [-0.5, 0.0]),
    ("bce", bce, [nan, 1.0], nan, [nan, nan]),
    ("cross_entropy", soft_cross_entropy, [-inf, 0.0], 0.0, [0.0, 0.0]),
    ("cross_entropy", soft_cross_entropy, [0.0, -inf], inf, [1.0, -1.0]),
    ("log_softmax", both(lambda x: tinytorch.log_softmax(x)[..., 1]), [-inf, 0.0], 0.0, [0.0, 0.0]),
    ("softmax", both(lambda x: tinytorch.softmax(x)[..., 1]), [-inf, 0.0], 1.0, [0.0, 0.0]),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("row", LIMITS, ids=[f"{name}{x}" for name, _, x, *_ in LIMITS])
def test_the_value_and_the_gradients_at_the_edge(device, row, dtype):
    _, function, given, value, expected = row
    if any(abs(v) < 1e-37 for v in (*expected, *given) if v) and dtype == "float32":
        pytest.skip("float32 has no such numbers")
    inputs = [Tensor(np.asarray(v, dtype), device=device, requires_grad=True) for v in given]
    out = function(*inputs)
    found = [g.numpy() for g in tinytorch.grad(out, inputs)]
    rtol = {"float32": 2e-6, "float64": 1e-12}[dtype]
    np.testing.assert_allclose(out.detach().numpy(), value, rtol=rtol, atol=1e-36)
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-36)


SECOND = [  # a function, its arguments, and the matrix of its second derivatives there
    (tinytorch.pow, [2.0, 0.0], [[0.0, 0.5], [0.5, math.log(2) ** 2]]),
    (tinytorch.pow, [0.0, 2.0], [[2.0, 0.0], [0.0, 0.0]]),
    (tinytorch.logaddexp, [0.0, 0.0], [[0.25, -0.25], [-0.25, 0.25]]),
    (tinytorch.logaddexp, [1e8, 1e8], [[0.25, -0.25], [-0.25, 0.25]]),
    (tinytorch.logaddexp, [inf, 0.0], [[0.0, 0.0], [0.0, 0.0]]),
    (both(lambda x: tinytorch.logsumexp(x, axis=-1)), [1e8, 1e8], [[0.25, -0.25], [-0.25, 0.25]]),
    (tinytorch.hypot, [0.0, 0.0], [[0.0, 0.0], [0.0, 0.0]]),
    (tinytorch.hypot, [3.0, 4.0], [[16 / 125, -12 / 125], [-12 / 125, 9 / 125]]),
    (tinytorch.atan2, [0.0, 0.0], [[0.0, 0.0], [0.0, 0.0]]),
    (bce, [0.0, 1.0], [[0.25, -1.0], [-1.0, 0.0]]),
    (bce, [inf, 1.0], [[0.0, -1.0], [-1.0, 0.0]]),
    (lambda x: tinytorch.gelu(x), [inf], [[0.0]]),
    (lambda x: tinytorch.gelu(x), [-inf], [[0.0]]),
    (lambda x: tinytorch.sigmoid(x), [inf], [[0.0]]),
]


@pytest.mark.parametrize("row", SECOND, ids=lambda row: f"{getattr(row[0], '__name__', '')}{row[1]}")
def test_the_second_derivatives_at_the_edge(device, row):
    function, given, expected = row
    inputs = [Tensor(v, tinytorch.float64, device, requires_grad=True) for v in given]
    first = tinytorch.grad(function(*inputs), inputs, create_graph=True)
    for g, line in zip(first, expected, strict=True):
        found = tinytorch.grad(g, inputs, retain_graph=True, allow_unused=True)
        np.testing.assert_allclose([0.0 if h is None else h.item() for h in found], line, atol=1e-12)


GRID = [0.0, 1.0, 0.5, 2.0, 3.0, 1e-300, 1e-30, 30.0, 100.0, 1e8, 1e38, 1e300, inf]
GRID = [*GRID, *(-v for v in GRID), nan]


def _far(x):  # where x * x, which PyTorch computes, is 0 or infinite
    return (x < 1e-150) | (x > 1e150)


# Where ours is another number than PyTorch's, and why: by op and by which of value, gradients and second derivatives
OTHER = {
    ("abs", "g0"): lambda x: np.isnan(x),  # PyTorch has 0 at NaN
    ("sign", "y"): lambda x: np.isnan(x),  # the standard says NaN
    ("pow", "g1"): lambda x, y: (x == 0) & (y < 0),  # taken as zero; PyTorch has an infinity
    ("pow", "h11"): lambda x, y: (x == 0) & (y < 0),
    ("pow", "h01"): lambda x, y: y == 0,  # PyTorch has 0, which is wrong
    ("pow", "h10"): lambda x, y: (x == 0) | (y == 0) & ~((x > 0) & (x < inf)),  # undefined there
    **{
        ("atan2", f"{a}"): lambda x, y: _far(np.hypot(x, y)) | (abs(x) == abs(y))
        for a in ("g0", "g1", "h00", "h01", "h10", "h11")
    },
}


@pytest.mark.parametrize(
    "case",
    [c for c in ELEMENTWISE if c.gradient and c.note != "broadcast"],
    ids=lambda c: c.id,
)
def test_everywhere_as_pytorch(case):
    torch = pytest.importorskip("torch")
    pytorch = pytest.importorskip("tests.ops.pytorch")
    rows = case.arrays()
    count = sum(isinstance(x, np.ndarray) for x in rows)
    if count > 2 or any(isinstance(x, np.ndarray) and x.dtype.kind != "f" for x in rows):
        pytest.skip("not of one or two floating arrays")
    points = iter(np.asarray(list(itertools.product(GRID, repeat=count))).T.copy())
    host = [next(points) if isinstance(x, np.ndarray) else x for x in rows]
    at = [x for x in host if isinstance(x, np.ndarray)]
    mine, other = [_tensor(x, Tensor) for x in host], [_tensor(x, torch.tensor) for x in host]
    ours = derivatives(tinytorch, tinytorch.grad, case.run(tinytorch.ops, mine), mine)
    theirs = derivatives(torch, torch.autograd.grad, case.run(pytorch, other), other)
    for name, expected in theirs.items():
        found = ours.get(name)
        known = np.isnan(expected)  # or else ours may be a number: see LIMITS
        if (case.op, name) in OTHER:
            known |= OTHER[case.op, name](*at)
        found = np.zeros_like(expected) if found is None else found
        np.testing.assert_allclose(found[~known], expected[~known], rtol=1e-9, atol=1e-13, err_msg=f"{case.id} {name}")


def _tensor(x, make):
    return make(x, requires_grad=True) if isinstance(x, np.ndarray) else x


def derivatives(xp, grad, out, inputs):
    """The value, the gradients g0, g1 and the second derivatives h00, h01, ... by the names of the inputs."""
    leaves = [x for x in inputs if hasattr(x, "requires_grad")]
    found = {"y": out}
    if out.requires_grad:
        first = grad(out, leaves, xp.ones_like(out), create_graph=True, allow_unused=True)
        for i, g in enumerate(first):
            found[f"g{i}"] = g
            if g is not None and g.requires_grad:
                second = grad(g, leaves, xp.ones_like(g), retain_graph=True, allow_unused=True)
                found |= {f"h{i}{j}": h for j, h in enumerate(second)}
    how = {} if xp is tinytorch else {"force": True}
    return {name: v.detach().numpy(**how) for name, v in found.items() if v is not None}


# Nothing, and what has no axes ------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["mean", "var", "std"])
@pytest.mark.parametrize(("shape", "axis"), [((0,), None), ((2, 0), 1), ((0, 3), 0), ((2, 0, 3), (0, 1))])
def test_the_mean_of_nothing_is_nan_without_a_warning(device, name, shape, axis):
    x = tinytorch.zeros(shape, device=device).requires_grad_()
    out = getattr(tinytorch, name)(x, axis=axis)
    expected = np.sum(np.zeros(shape), axis=axis) * nan
    np.testing.assert_array_equal(out.detach().numpy(), expected)
    (g,) = tinytorch.grad(out, x, tinytorch.ones_like(out))
    assert g.shape == shape


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["var", "std"])
@pytest.mark.parametrize("correction", [2, 3, 2.5])
def test_a_divisor_that_is_not_positive_gives_nan(device, name, correction):
    x = Tensor([[1.0, 2.0]], device=device, requires_grad=True)
    out = getattr(tinytorch, name)(x, axis=1, correction=correction)
    assert np.isnan(out.detach().numpy()).all()
    assert np.isnan(tinytorch.grad(out, x)[0].numpy()).all()


@pytest.mark.filterwarnings("error")
def test_softmax_and_attention_over_nothing(device):
    x = tinytorch.zeros((2, 0), device=device).requires_grad_()
    assert tinytorch.softmax(x, axis=1).shape == tinytorch.log_softmax(x, axis=1).shape == (2, 0)
    total = tinytorch.logsumexp(x, axis=1)
    np.testing.assert_array_equal(total.detach().numpy(), [-inf, -inf])
    assert tinytorch.grad(total, x, tinytorch.ones_like(total))[0].shape == (2, 0)
    np.testing.assert_array_equal(tinytorch.logsumexp(x, axis=0).detach().numpy(), np.zeros(0))
    q, k, v = (
        Tensor(np.ones(shape, "float32"), device=device, requires_grad=True) for shape in ((3, 4), (0, 4), (0, 5))
    )
    for mask in (None, tinytorch.ones((3, 0), dtype="bool", device=device)):
        out = tinytorch.scaled_dot_product_attention(q, k, v, mask)
        np.testing.assert_array_equal(out.detach().numpy(), np.zeros((3, 5)))
        shapes = [g.shape for g in tinytorch.grad(out, [q, k, v], tinytorch.ones_like(out))]
        assert shapes == [(3, 4), (0, 4), (0, 5)]
        assert tinytorch.attention_weights(q, k, mask).shape == (3, 0)
    heads = tinytorch.multi_head_attention(q[None], k[None], k[None], num_heads=2)
    np.testing.assert_array_equal(heads.detach().numpy(), np.zeros((1, 3, 4)))


REDUCTIONS = (
    *("sum", "prod", "mean", "var", "std", "max", "min", "argmax", "argmin", "all", "any", "count_nonzero"),
    *("softmax", "log_softmax", "logsumexp", "sort", "argsort", "cumulative_sum", "cumulative_prod"),
)


@pytest.mark.parametrize("name", REDUCTIONS)
def test_the_axis_of_a_tensor_without_axes(device, name):
    function, x = getattr(tinytorch, name), Tensor(2.0, device=device)
    for axis in (0, 1, -1, -2):
        with pytest.raises(IndexError, match=rf"{name}.*axis {axis} is outside"):
            function(x, axis=axis)
    with pytest.raises(IndexError, match=rf"{name}.*axis 2 is outside"):
        function(tinytorch.ones((3, 2), device=device), axis=2)
    if name in ("sum", "mean", "all"):
        assert function(x).shape == ()


@pytest.mark.parametrize("name", ["sum", "prod", "cumulative_sum", "cumulative_prod"])
@pytest.mark.parametrize("kind", ["uint", "int"])
@pytest.mark.parametrize("bits", [8, 16, 32, 64])
def test_sums_of_small_integers_have_64_bits(device, name, kind, bits):
    x = Tensor(np.asarray([100, 100, 3], f"{kind}{bits}"), device=device)
    out = getattr(tinytorch, name)(x)
    assert out.dtype == np.dtype(f"{kind}64")
    numpy = {"cumulative_sum": np.cumsum, "cumulative_prod": np.cumprod}.get(name) or getattr(np, name)
    np.testing.assert_array_equal(out.numpy(), numpy(np.asarray([100, 100, 3])))
    assert getattr(tinytorch, name)(x, dtype="int8").dtype == np.dtype("int8")
