"""Checking gradients and comparing values, for tests of your own ops and layers.

A gradient is right if it predicts how the result changes: `gradcheck` compares it with central differences along random
directions, in float64. `gradgradcheck` does the same with the gradient of the gradient.

A test of an op of your own is three lines: its values, its gradient, and the gradient of that.

>>> from tinytorch.autograd import op
>>> from tinytorch.testing import assert_close, gradcheck, gradgradcheck
>>> @op(kinds="f")
... def cube(dev, x, /):
...     return x * x * x, lambda g: g * (x * x) * 3.0
>>> x = Tensor([-1.0, 0.5, 2.0], dtype="float64", requires_grad=True)
>>> assert_close(cube(x).data, x.data ** 3)
>>> gradcheck(cube, x), gradgradcheck(cube, x)
(True, True)

Where a rule is wrong, the error says for which input, and by how much:

>>> @op(kinds="f")
... def scaled(dev, x, factor, /):
...     return x * factor, lambda g: g * factor, lambda g: g * factor   # the second should be g * x
>>> gradcheck(scaled, [x, Tensor([3.0], dtype="float64", requires_grad=True)])  # doctest: +ELLIPSIS
Traceback (most recent call last):
    ...
tinytorch.testing.GradcheckError: gradcheck: along a random direction of input 1, (1,), the result changes by ...

What to check, and how:

* Inputs where the op is smooth: a difference quotient across the kink of a ReLU means nothing.
* Broadcasting, too: give inputs of shapes (3, 1) and (2,). The engine sums the gradient over what was broadcast.
* A function with options: `gradcheck(lambda x: my_op(x, axis=1), x)`. Integer inputs, such as indices, are passed on.
  Only inputs that require a gradient are checked; these inputs must be float64.
* A layer, after `layer.to("float64")`: `gradcheck(layer, x)` checks the gradient of the input. Parameters are checked
as
  inputs of the layer's function: `gradcheck(tinytorch.linear, [x, layer.weight, layer.bias])`.
* Devices: `assert_close(f(x.to(device)).cpu(), f(x))` first compares dtype, shape and device, then values.

The gate `predicted` of `tinytorch.verify` checks the gradients of a whole model, in float32 and while it is trained.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinytorch.autograd import grad
from tinytorch.dtypes import float32, float64
from tinytorch.tape.modes import enable_grad, no_grad
from tinytorch.tensor import Tensor
from tinytorch.words import expecting, shown

__all__ = ["GradcheckError", "assert_close", "gradcheck", "gradgradcheck"]

Function = Callable[..., Any]

TOLERANCES = {float32: (1.3e-6, 1e-5), float64: (1e-7, 1e-7)}  # rtol, atol: those of torch.testing.assert_close


class GradcheckError(AssertionError):
    """A gradient does not predict how the result changes."""


def _outputs(function: Function, inputs: Sequence[Any]) -> list[Tensor]:
    out = function(*inputs)
    return [
        o for o in (out if isinstance(out, tuple | list) else [out]) if isinstance(o, Tensor) and o.dtype.kind == "f"
    ]


class _Settings(NamedTuple):
    eps: float
    atol: float
    rtol: float
    seed: int


def _checked(name: str, inputs: Any, settings: _Settings) -> tuple[list[Any], list[int]]:
    """The inputs as a list, and the places of inputs that require a gradient."""
    for option in ("atol", "rtol", "seed"):
        if not getattr(settings, option) >= 0:
            raise ValueError(f"{name}: {option} is a number from 0 on, not {getattr(settings, option)}")
    if not 0 < settings.eps < math.inf:
        raise ValueError(f"{name}: eps is a positive number, as 1e-6, not {settings.eps}")
    given = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    places = [i for i, x in enumerate(given) if isinstance(x, Tensor) and x.requires_grad]
    if not places:
        raise ValueError(f"{name}: no input requires a gradient; make one with Tensor(..., requires_grad=True)")
    for i in places:
        if given[i].dtype != float64:
            raise TypeError(f"{name}: input {i} is {given[i].dtype.name}; differences need .astype(tinytorch.float64)")
    return given, places


@expecting
def gradcheck(
    function: Function,
    inputs: Tensor | Iterable[Any],
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    seed: int = 0,
) -> bool:
    """Whether the gradients of a function are right, to first order.

    For random v, and for each input x and a random direction u, the derivative of <v, f(x)> along u is computed twice:
    as <gradient of x, u>, and as the difference quotient (f(x + eps u) - f(x - eps u)) / (2 eps). The direction has an
    entry for every element, so that no wrong element goes unseen. The cost is two calls for each input.

    Args:
        function: takes the inputs, returns a tensor or several.
        inputs: a tensor or several; inputs that require a gradient are checked, and must be float64.
        eps: step of the differences.
        atol, rtol: the two derivatives may differ by atol + rtol * |difference quotient|.

    Returns:
        True.

    Raises:
        GradcheckError: a gradient is wrong or missing; the message names the input.
        TypeError: an input to check is not float64.
        ValueError: no input requires a gradient, or a setting is out of range.

    >>> from tinytorch.testing import gradcheck
    >>> gradcheck(tinytorch.sin, Tensor([1.0, 2.0], dtype="float64", requires_grad=True))
    True
    """
    return _predicts("gradcheck", function, inputs, _Settings(eps, atol, rtol, seed))


def _predicts(name: str, function: Function, inputs: Any, settings: _Settings) -> bool:
    """`gradcheck`, with errors in the name of the function that was called."""
    given, places = _checked(name, inputs, settings)
    eps, atol, rtol, seed = settings
    rng = np.random.Generator(np.random.Philox(seed))
    outputs = _outputs(function, given)
    if not outputs:
        raise ValueError(f"{name}: the function returns no tensor of a floating dtype")
    weights = [Tensor(rng.standard_normal(o.shape), None, o.device) for o in outputs]
    tracked = [(o, w) for o, w in zip(outputs, weights, strict=True) if o.requires_grad]
    wanted = [given[i] for i in places]
    grads = grad([o for o, _ in tracked], wanted, [w for _, w in tracked], allow_unused=True)

    def along(i: int, step: Tensor, sign: float) -> float:
        moved = list(given)
        with no_grad():
            moved[i] = given[i].detach() + step * sign
            return sum(
                float((o.detach() * w).sum().item()) for o, w in zip(_outputs(function, moved), weights, strict=True)
            )

    for i, g in zip(places, grads, strict=True):
        x = given[i]
        u = Tensor(rng.standard_normal(x.shape), None, x.device)
        numeric = (along(i, u * eps, 1.0) - along(i, u * eps, -1.0)) / (2 * eps)
        if g is not None and (g.shape != x.shape or g.dtype != x.dtype):
            raise GradcheckError(f"{name}: input {i} is {x.dtype} {x.shape}, but its gradient {g.dtype} {g.shape}")
        analytic = 0.0 if g is None else float((g.detach() * u).sum().item())
        if not abs(analytic - numeric) <= atol + rtol * abs(numeric):
            raise GradcheckError(
                f"{name}: along a random direction of input {i}, {x.shape}, the result changes by {numeric:.9g}, "
                f"but the gradient says {analytic:.9g}{' (it is missing)' if g is None else ''}"
            )
    return True


@expecting
def gradgradcheck(
    function: Function,
    inputs: Tensor | Iterable[Any],
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    seed: int = 0,
) -> bool:
    """Whether the gradients of the gradients of a function are right: `gradcheck` of its gradient, with its arguments.

    >>> from tinytorch.testing import gradgradcheck
    >>> gradgradcheck(tinytorch.sin, Tensor([1.0, 2.0], dtype="float64", requires_grad=True))
    True
    """
    settings = _Settings(eps, atol, rtol, seed)
    given, places = _checked("gradgradcheck", inputs, settings)
    rng = np.random.Generator(np.random.Philox(seed + 1))
    outputs = [o for o in _outputs(function, given) if o.requires_grad]
    weights = [Tensor(rng.standard_normal(o.shape), None, o.device, requires_grad=True) for o in outputs]

    def gradient(*arguments: Any) -> tuple[Tensor, ...]:
        values, cotangents = arguments[: len(given)], arguments[len(given) :]
        fresh = [x if x.requires_grad else x.detach().requires_grad_() for x in (values[i] for i in places)]
        called = list(values)
        for i, x in zip(places, fresh, strict=True):
            called[i] = x
        with enable_grad():
            outs = [o for o in _outputs(function, called) if o.requires_grad]
            found = grad(outs, fresh, list(cotangents), create_graph=True, allow_unused=True)
        return tuple(g for g in found if g is not None)

    return _predicts("gradgradcheck", gradient, [*given, *weights], settings)


def _demand(right: bool, wrong: str, path: str) -> None:
    """`assert`, also under `python -O`."""
    if not right:
        raise AssertionError(f"assert_close: {f'at {path}: ' if path else ''}{wrong}")


@expecting
def assert_close(
    actual: Any,
    expected: Any,
    *,
    rtol: float | None = None,
    atol: float | None = None,
    equal_nan: bool = False,
    check_dtype: bool = True,
    check_device: bool = True,
) -> None:
    """Raise AssertionError unless two tensors, arrays, numbers, or sequences or dicts of them agree.

    Dtype, shape and device must be the same. Then |actual - expected| <= atol + rtol * |expected| must hold everywhere.
    The default tolerances, rtol and atol, are PyTorch's: 1.3e-6 and 1e-5 in float32, 1e-7 and 1e-7 in float64, and 0
    for other dtypes.

    Args:
        rtol, atol: give both or neither.
        equal_nan: NaN agrees with NaN.
        check_dtype, check_device: compare dtype and device, too.

    >>> from tinytorch.testing import assert_close
    >>> assert_close(Tensor([1.0]), Tensor([1.000001]))
    """
    if (rtol is None) != (atol is None):
        raise ValueError("assert_close: give both rtol and atol, or neither")
    for name, value in (("rtol", rtol), ("atol", atol)):
        if value is not None and not value >= 0:
            raise ValueError(f"assert_close: {name} is a number from 0 on, not {value}")
    settings = _Closeness(rtol, atol, equal_nan, check_dtype, check_device)
    _assert_close(actual, expected, "", settings)


class _Closeness(NamedTuple):
    rtol: float | None
    atol: float | None
    equal_nan: bool
    check_dtype: bool
    check_device: bool


def _assert_close(actual: Any, expected: Any, path: str, settings: _Closeness) -> None:
    """`assert_close` of the entries at a path, such as "['w'][0]", in both."""
    if isinstance(expected, Mapping) and isinstance(actual, Mapping):
        _demand(actual.keys() == expected.keys(), f"keys {list(actual)} are not {list(expected)}", path)
        for key in expected:
            _assert_close(actual[key], expected[key], f"{path}[{key!r}]", settings)
        return
    if isinstance(expected, list | tuple) and isinstance(actual, list | tuple):
        _demand(len(actual) == len(expected), f"{len(actual)} items, not {len(expected)}", path)
        for i, (a, e) in enumerate(zip(actual, expected, strict=True)):
            _assert_close(a, e, f"{path}[{i}]", settings)
        return
    a, e = _values("actual", actual, path), _values("expected", expected, path)
    for kind in (Mapping, list | tuple):
        alike = isinstance(actual, kind) == isinstance(expected, kind)
        _demand(alike, f"a {type(actual).__name__} is no {type(expected).__name__}", path)
    if settings.check_dtype:
        _demand(a.dtype == e.dtype, f"dtype {a.dtype} is not {e.dtype}", path)
    _demand(a.shape == e.shape, f"shape {a.shape} is not {e.shape}", path)
    if settings.check_device and isinstance(actual, Tensor) and isinstance(expected, Tensor):
        _demand(actual.device is expected.device, f"device {actual.device} is not {expected.device}", path)
    rtol, atol = settings.rtol, settings.atol
    if rtol is None or atol is None:
        rtol, atol = max((TOLERANCES.get(x.dtype, (0.0, 0.0)) for x in (a, e)), key=sum)
    close = np.isclose(a, e, rtol=float(rtol), atol=float(atol), equal_nan=settings.equal_nan)
    if close.all():
        return
    with np.errstate(invalid="ignore"):  # infinity - infinity
        away = np.where(close, -1.0, np.abs(np.subtract(a, e, dtype=np.float64)))
    worst = np.unravel_index(np.argmax(away), away.shape)  # NaN counts as the largest
    place = f" at {tuple(int(i) for i in worst)}" if a.ndim else ""
    text = (
        f"{int((~close).sum())} of {close.size} elements differ by more than {atol:g} + {rtol:g} * |expected|; "
        f"the most{place}: {a[worst]} is not {e[worst]}"
    )
    _demand(False, text, path)


def _values(which: str, x: Any, path: str) -> np.ndarray[Any, Any]:
    """What is compared, as an array; of a dict or a list, which is compared with something else, that it is one.

    Raises:
        TypeError: it cannot be compared.
    """
    if isinstance(x, Mapping | list | tuple):
        return np.zeros(0)
    values = x.detach().numpy() if isinstance(x, Tensor) else np.asarray(x)
    if values.dtype.kind not in "biufc":
        kinds = "a tensor, an array, a number, or a sequence or dict of them"
        raise TypeError(f"assert_close: {which}{path} is {kinds}, not {shown(x)}")
    return values
