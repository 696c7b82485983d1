"""Elementwise functions: arithmetic, exponentials, trigonometry, activations, comparisons, logic, bits.

Names and meanings are the array API standard's; `relu`, `gelu`, `sigmoid` and `erf` are added. Inputs broadcast against
each other. The engine undoes the broadcasting for the gradients.

The file is long because there are many elementwise functions. Each is short, and is read by itself.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from tinytorch.autograd import op
from tinytorch.backends import Array, Device
from tinytorch.dtypes import fitting, of_numbers
from tinytorch.shapes import elementwise
from tinytorch.words import OneTensor, worded

__all__ = [
    "abs",
    "acos",
    "acosh",
    "add",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "bitwise_and",
    "bitwise_invert",
    "bitwise_left_shift",
    "bitwise_or",
    "bitwise_right_shift",
    "bitwise_xor",
    "ceil",
    "clip",
    "conj",
    "copysign",
    "cos",
    "cosh",
    "divide",
    "equal",
    "erf",
    "exp",
    "expm1",
    "floor",
    "floor_divide",
    "gelu",
    "greater",
    "greater_equal",
    "hypot",
    "isfinite",
    "isinf",
    "isnan",
    "less",
    "less_equal",
    "log",
    "log1p",
    "log2",
    "log10",
    "logaddexp",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "maximum",
    "minimum",
    "multiply",
    "negative",
    "nextafter",
    "not_equal",
    "positive",
    "pow",
    "real",
    "reciprocal",
    "relu",
    "remainder",
    "round",
    "sigmoid",
    "sign",
    "signbit",
    "sin",
    "sinh",
    "sqrt",
    "square",
    "subtract",
    "tan",
    "tanh",
    "trunc",
    "where",
]

# Arithmetic -------------------------------------------------------------------------------------------------------


def _floating(dev: Any, x: Array) -> Array:
    """An array of integers as float32; anything else as it is."""
    if isinstance(x, int | float) or dev.dtype_of(x).kind == "f":
        return x
    return dev.xp.astype(x, dev.xp.float32)


def _identity(g: Array) -> Array:
    return g


@op(kinds="iuf", unfit=elementwise)
def add(dev: Device, x1: Array, x2: Array, /) -> Any:
    """x1 + x2

    >>> tinytorch.add(Tensor([1.0, 2.0]), 1)
    tensor([2., 3.])
    """
    return x1 + x2, _identity, _identity


@op(kinds="iuf", unfit=elementwise)
def subtract(dev: Device, x1: Array, x2: Array, /) -> Any:
    """x1 - x2

    >>> tinytorch.subtract(Tensor([1.0, 2.0]), 1)
    tensor([0., 1.])
    """
    return x1 - x2, _identity, operator.neg


@op(kinds="iuf", unfit=elementwise)
def multiply(dev: Device, x1: Array, x2: Array, /) -> Any:
    """x1 * x2

    >>> tinytorch.multiply(Tensor([1.0, 2.0]), Tensor([3.0, 4.0]))
    tensor([3., 8.])
    """
    return x1 * x2, lambda g: g * x2, lambda g: g * x1


@op(kinds="iuf", beyond="divided", unfit=elementwise)
def divide(dev: Device, x1: Array, x2: Array, /) -> Any:
    """x1 / x2. Integers are divided as float32; for whole numbers see `floor_divide`.

    >>> tinytorch.divide(Tensor([1, 2]), 4)
    tensor([0.25, 0.5 ])
    """
    x1, x2 = _floating(dev, x1), _floating(dev, x2)
    y = x1 / x2
    return y, lambda g: g / x2, lambda g: -g * y / x2


def _expect_divisor(dev: Any, x1: Array, x2: Array) -> None:
    """Raise for integers divided by the number 0: no two libraries give the same result."""
    if type(x2) is int and x2 == 0 and dev.dtype_of(x1).kind != "f":
        raise ZeroDivisionError("integers are not divided by zero; convert them with .astype(...)")


@op(kinds="iuf", unfit=elementwise)
def floor_divide(dev: Device, x1: Array, x2: Array, /) -> Any:
    """floor(x1 / x2), without a gradient.

    Raises:
        ZeroDivisionError: integers by the number 0.

    >>> tinytorch.floor_divide(Tensor([7, -7]), 2)
    tensor([ 3, -4], dtype=int64)
    """
    _expect_divisor(dev, x1, x2)
    return x1 // x2, None, None


@op(kinds="iuf", kinked=True, unfit=elementwise)
def remainder(dev: Device, x1: Array, x2: Array, /) -> Any:
    """x1 - floor(x1 / x2) * x2. The result has the sign of x2.

    Raises:
        ZeroDivisionError: integers by the number 0.

    >>> tinytorch.remainder(Tensor([7, -7]), 4)
    tensor([3, 1], dtype=int64)
    """
    _expect_divisor(dev, x1, x2)
    return x1 % x2, lambda g: g, lambda g: -g * (x1 // x2)


@op(kinds="iuf", unfit=elementwise)
def pow(dev: Device, x1: Array, x2: Array, /) -> Any:
    """x1 ** x2. The gradient of x2 is taken as zero where x1 is zero, the gradient of x1 where x2 is zero.

    Raises:
        ValueError: integers to the power of a negative number.

    >>> tinytorch.pow(Tensor([1.0, 3.0]), 2)
    tensor([1., 9.])
    """
    xp = dev.xp
    if type(x2) is int and x2 < 0 and dev.dtype_of(x1).kind != "f":
        raise ValueError("integers have no negative powers among integers; convert them with .astype(...)")
    y = x1**x2

    def of_base(g: Array) -> Array:
        if isinstance(x2, int | float):
            return g * (x2 * x1 ** (x2 - 1)) if x2 != 0 else xp.zeros_like(g)
        flat = x2 == 0
        slope = x1 ** (xp.where(flat & (x1 == 0), 1.0, x2) - 1.0)
        return g * (x2 * xp.where(flat & ((x1 == 0) | ~xp.isfinite(slope)), 0.0, slope))

    def of_exponent(g: Array) -> Array:  # y * log(x1) is 0 where x1 is 0, and infinite where only y is infinite
        if isinstance(x1, int | float):
            log: Any = math.nan if x1 < 0 else math.log(x1) if 0 < x1 < math.inf else 1.0
            flat = (y == y) if x1 == 0 else (y == 0) if x1 > 0 else (y != y)
        else:
            flat = ((x1 == 0) & (y == y)) | ((x1 > 0) & (y == 0))
            log = xp.log(xp.where(flat, 1.0, x1))
        return xp.where(flat, 0.0, g * y) * log

    return y, of_base, of_exponent


@op(kinds="iuf")
def negative(dev: Device, x: Array, /) -> Any:
    """-x

    >>> tinytorch.negative(Tensor([1.0, -2.0]))
    tensor([-1.,  2.])
    """
    return -x, lambda g: -g


@op(kinds="iuf")
def positive(dev: Device, x: Array, /) -> Any:
    """+x

    >>> tinytorch.positive(Tensor([1.0, -2.0]))
    tensor([ 1., -2.])
    """
    return +x, lambda g: g


@worded
def conj(x: Any, /) -> OneTensor:
    """x: all numbers here are real. `conj` lets code for complex numbers run on tensors.

    >>> tinytorch.conj(Tensor([1.0, -2.0]))
    tensor([ 1., -2.])
    """
    return positive(x)


@worded
def real(x: Any, /) -> OneTensor:
    """x: all numbers here are real; see `conj`.

    >>> tinytorch.real(Tensor([1.0, -2.0]))
    tensor([ 1., -2.])
    """
    return positive(x)


@op(kinds="iuf", kinked=True)
def abs(dev: Device, x: Array, /) -> Any:
    """|x|. The gradient at zero is taken as zero.

    >>> tinytorch.abs(Tensor([1.0, -2.0]))
    tensor([1., 2.])
    """
    xp = dev.xp
    return xp.abs(x), lambda g: xp.where(x != 0, g, 0.0) * xp.sign(x)  # where first: g may be infinite


@op(kinds="iuf")
def square(dev: Device, x: Array, /) -> Any:
    """x * x

    >>> tinytorch.square(Tensor([1.0, -2.0]))
    tensor([1., 4.])
    """
    return x * x, lambda g: g * x * 2


@op(kinds="f")
def sqrt(dev: Device, x: Array, /) -> Any:
    """The square root of x.

    >>> tinytorch.sqrt(Tensor([1.0, 4.0]))
    tensor([1., 2.])
    """
    y = dev.xp.sqrt(x)
    return y, lambda g: g / (y * 2)


@op(kinds="f")
def reciprocal(dev: Device, x: Array, /) -> Any:
    """1 / x

    >>> tinytorch.reciprocal(Tensor([1.0, 4.0]))
    tensor([1.  , 0.25])
    """
    y = 1.0 / x
    return y, lambda g: -g * y * y


@op(kinds="f", unfit=elementwise)
def hypot(dev: Device, x1: Array, x2: Array, /) -> Any:
    """sqrt(x1**2 + x2**2), without overflow in between. The gradient at (0, 0) is taken as zero.

    >>> tinytorch.hypot(Tensor([3.0]), Tensor([4.0]))
    tensor([5.])
    """
    xp = dev.xp
    y = xp.hypot(x1, x2)

    def share(x: Array) -> Array:  # x / y, where 0 / 0 and inf / inf would be NaN
        infinite = xp.isinf(y)
        part = xp.where(infinite, xp.where(xp.isinf(x), xp.sign(x), 0.0), x)
        return xp.where(y == 0, 0.0, part) / xp.where(infinite | (y == 0), 1.0, y)

    return y, lambda g: g * share(x1), lambda g: g * share(x2)


# Exponentials and logarithms --------------------------------------------------------------------------------------


@op(kinds="f")
def exp(dev: Device, x: Array, /) -> Any:
    """e**x

    >>> tinytorch.exp(Tensor([0.0, 1.0]))
    tensor([1.    , 2.7183])
    """
    y = dev.xp.exp(x)
    return y, lambda g: g * y


@op(kinds="f")
def expm1(dev: Device, x: Array, /) -> Any:
    """e**x - 1, accurate near zero.

    >>> tinytorch.expm1(Tensor([0.0, 1.0]))
    tensor([0.    , 1.7183])
    """
    y = dev.xp.expm1(x)
    return y, lambda g: g * (y + 1.0)


@op(kinds="f")
def log(dev: Device, x: Array, /) -> Any:
    """The natural logarithm of x.

    >>> tinytorch.log(Tensor([1.0, 2.0]))
    tensor([0.    , 0.6931])
    """
    return dev.xp.log(x), lambda g: g / x


@op(kinds="f")
def log1p(dev: Device, x: Array, /) -> Any:
    """log(1 + x), accurate near zero.

    >>> tinytorch.log1p(Tensor([0.0, 1.0]))
    tensor([0.    , 0.6931])
    """
    return dev.xp.log1p(x), lambda g: g / (x + 1.0)


@op(kinds="f")
def log2(dev: Device, x: Array, /) -> Any:
    """The logarithm of x to base 2.

    >>> tinytorch.log2(Tensor([1.0, 8.0]))
    tensor([0., 3.])
    """
    return dev.xp.log2(x), lambda g: g / (x * math.log(2))


@op(kinds="f")
def log10(dev: Device, x: Array, /) -> Any:
    """The logarithm of x to base 10.

    >>> tinytorch.log10(Tensor([1.0, 100.0]))
    tensor([0., 2.])
    """
    return dev.xp.log10(x), lambda g: g / (x * math.log(10))


@op(kinds="f", unfit=elementwise)
def logaddexp(dev: Device, x1: Array, x2: Array, /) -> Any:
    """log(exp(x1) + exp(x2)), without overflow in between. Equal x1 and x2 each get half of the gradient.

    >>> tinytorch.logaddexp(Tensor([0.0]), Tensor([0.0]))
    tensor([0.6931])
    """
    xp = dev.xp
    y = xp.logaddexp(x1, x2)

    def ahead() -> Array:  # x1 - x2, and 0 where both are one infinity
        return xp.where(xp.isinf(y) & (x1 == x2), 0.0, x1 - x2)

    return y, lambda g: g * logistic(dev, ahead()), lambda g: g * logistic(dev, -ahead())


@op(kinds="f")
def erf(dev: Device, x: Array, /) -> Any:
    """The error function, 2 / sqrt(pi) * integral of exp(-t**2) from 0 to x (not in the array API standard).

    >>> tinytorch.erf(Tensor([0.0, 1.0]))
    tensor([0.    , 0.8427])
    """
    return dev.erf(x), lambda g: dev.fused(_erf_rule)(dev, g, x)


def _erf_rule(dev: Device, g: Array, x: Array) -> Array:
    return dev.xp.exp(-x * x) * (2 / math.sqrt(math.pi)) * g


# Trigonometry -----------------------------------------------------------------------------------------------------


@op(kinds="f")
def sin(dev: Device, x: Array, /) -> Any:
    """The sine of x radians.

    >>> tinytorch.sin(Tensor([0.0, 1.5]))
    tensor([0.    , 0.9975])
    """
    xp = dev.xp
    return xp.sin(x), lambda g: g * xp.cos(x)


@op(kinds="f")
def cos(dev: Device, x: Array, /) -> Any:
    """The cosine of x radians.

    >>> tinytorch.cos(Tensor([0.0, 1.5]))
    tensor([1.    , 0.0707])
    """
    xp = dev.xp
    return xp.cos(x), lambda g: -g * xp.sin(x)


@op(kinds="f")
def tan(dev: Device, x: Array, /) -> Any:
    """The tangent of x radians.

    >>> tinytorch.tan(Tensor([0.0, 1.0]))
    tensor([0.    , 1.5574])
    """
    y = dev.xp.tan(x)
    return y, lambda g: g * (y * y + 1.0)


@op(kinds="f")
def asin(dev: Device, x: Array, /) -> Any:
    """The angle in [-pi/2, pi/2] whose sine is x.

    >>> tinytorch.asin(Tensor([0.0, 1.0]))
    tensor([0.    , 1.5708])
    """
    xp = dev.xp
    return xp.asin(x), lambda g: g / xp.sqrt(1.0 - x * x)


@op(kinds="f")
def acos(dev: Device, x: Array, /) -> Any:
    """The angle in [0, pi] whose cosine is x.

    >>> tinytorch.acos(Tensor([1.0, 0.0]))
    tensor([0.    , 1.5708])
    """
    xp = dev.xp
    return xp.acos(x), lambda g: -g / xp.sqrt(1.0 - x * x)


@op(kinds="f")
def atan(dev: Device, x: Array, /) -> Any:
    """The angle in [-pi/2, pi/2] whose tangent is x.

    >>> tinytorch.atan(Tensor([0.0, 1.0]))
    tensor([0.    , 0.7854])
    """
    return dev.xp.atan(x), lambda g: g / (x * x + 1.0)


@op(kinds="f", unfit=elementwise)
def atan2(dev: Device, x1: Array, x2: Array, /) -> Any:
    """The angle in [-pi, pi] of the point with ordinate x1 and abscissa x2. The gradient at (0, 0) is taken as zero.

    >>> tinytorch.atan2(Tensor([1.0]), Tensor([-1.0]))
    tensor([2.3562])
    """
    xp = dev.xp

    def over_square(t: Array) -> Array:  # t / (x1**2 + x2**2), by its root: the square overflows and underflows earlier
        h = xp.hypot(x1, x2)
        nowhere = (h == 0) | xp.isinf(h)
        h = xp.where(nowhere, 1.0, h)
        return xp.where(nowhere, 0.0, t) / h / h

    return xp.atan2(x1, x2), lambda g: g * over_square(x2), lambda g: g * over_square(-x1)


@op(kinds="f")
def sinh(dev: Device, x: Array, /) -> Any:
    """The hyperbolic sine, (exp(x) - exp(-x)) / 2.

    >>> tinytorch.sinh(Tensor([0.0, 1.0]))
    tensor([0.    , 1.1752])
    """
    xp = dev.xp
    return xp.sinh(x), lambda g: g * xp.cosh(x)


@op(kinds="f")
def cosh(dev: Device, x: Array, /) -> Any:
    """The hyperbolic cosine, (exp(x) + exp(-x)) / 2.

    >>> tinytorch.cosh(Tensor([0.0, 1.0]))
    tensor([1.    , 1.5431])
    """
    xp = dev.xp
    return xp.cosh(x), lambda g: g * xp.sinh(x)


@op(kinds="f")
def tanh(dev: Device, x: Array, /) -> Any:
    """The hyperbolic tangent, sinh(x) / cosh(x).

    >>> tinytorch.tanh(Tensor([0.0, 1.0]))
    tensor([0.    , 0.7616])
    """
    y = dev.xp.tanh(x)
    return y, lambda g: dev.fused(_tanh_rule)(dev, g, y)


def _tanh_rule(dev: Device, g: Array, y: Array) -> Array:
    return (1.0 - y * y) * g


@op(kinds="f")
def asinh(dev: Device, x: Array, /) -> Any:
    """The number whose hyperbolic sine is x.

    >>> tinytorch.asinh(Tensor([0.0, 1.0]))
    tensor([0.    , 0.8814])
    """
    xp = dev.xp
    return xp.asinh(x), lambda g: g / xp.hypot(x, 1.0)  # x * x overflows


@op(kinds="f")
def acosh(dev: Device, x: Array, /) -> Any:
    """The number, at least zero, whose hyperbolic cosine is x.

    >>> tinytorch.acosh(Tensor([1.0, 2.0]))
    tensor([0.   , 1.317])
    """
    xp = dev.xp
    return xp.acosh(x), lambda g: g / xp.sqrt(x * x - 1.0)


@op(kinds="f")
def atanh(dev: Device, x: Array, /) -> Any:
    """The number whose hyperbolic tangent is x.

    >>> tinytorch.atanh(Tensor([0.0, 0.5]))
    tensor([0.    , 0.5493])
    """
    return dev.xp.atanh(x), lambda g: g / (1.0 - x * x)


# Activations ------------------------------------------------------------------------------------------------------


@op(kinds="f", kinked=True)
def relu(dev: Device, x: Array, /) -> Any:
    """max(x, 0), with gradient zero at zero. Source: Nair and Hinton (2010).

    >>> tinytorch.relu(Tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """
    y = dev.xp.maximum(x, 0.0)
    return y, lambda g: dev.fused(_relu_rule)(dev, g, y)


def _relu_rule(dev: Device, g: Array, y: Array) -> Array:
    return dev.xp.where(dev.xp.astype(y, dev.xp.bool), g, 0.0)  # a NaN passes its gradient on


@op(kinds="f")
def sigmoid(dev: Device, x: Array, /) -> Any:
    """1 / (1 + exp(-x)), without overflow for any x.

    >>> tinytorch.sigmoid(Tensor([0.0, 2.0]))
    tensor([0.5   , 0.8808])
    """
    y = logistic(dev, x)
    return y, lambda g: dev.fused(_sigmoid_rule)(dev, g, y)


def logistic(dev: Any, x: Array) -> Array:
    """The values of `sigmoid`."""
    highest = 88.0 if dev.dtype_of(x).itemsize < 8 else 709.0  # exp(highest) is still finite
    y: Array = dev.fused(_sigmoid)(dev, x, highest=highest)
    return y


def _sigmoid(dev: Device, x: Array, *, highest: float) -> Array:
    """1 / (1 + exp(-x)), as e / (e + 1) with e = exp(x); 1 from x = `highest` on."""
    e = dev.xp.exp(dev.xp.minimum(x, highest))
    return e / (e + 1.0)


def _sigmoid_rule(dev: Device, g: Array, y: Array) -> Array:
    return (1.0 - y) * y * g


@op(kinds="f")
def gelu(dev: Device, x: Array, /, *, approximate: str = "none") -> Any:
    """x * Phi(x), with Phi the distribution function of the standard normal. Source: Hendrycks and Gimpel (2016).

    Args:
        approximate: "none" for Phi(x) = (1 + erf(x / sqrt(2))) / 2, or "tanh" for
            (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) / 2, which is faster and differs by less than 0.001.

    >>> tinytorch.gelu(Tensor([-1.0, 1.0]))
    tensor([-0.1587,  0.8413])
    """
    if approximate == "none":
        y, cdf = dev.fused(_gelu)(dev, x)
        return y, lambda g: dev.fused(_gelu_rule)(dev, g, x, cdf)
    if approximate != "tanh":
        raise ValueError(f"gelu: approximate is 'none' or 'tanh', not {approximate!r}")
    y, t = dev.fused(_gelu_tanh)(dev, x)
    return y, lambda g: dev.fused(_gelu_tanh_rule)(dev, g, x, t)


_FAR = 40.0  # from here on Phi is 0 or 1, with slope 0; an infinite x would give 0 * inf


def _gelu(dev: Device, x: Array) -> tuple[Array, Array]:
    """x * Phi(x), and Phi(x)."""
    cdf = dev.erf(x * math.sqrt(0.5))
    cdf += 1.0
    cdf *= 0.5
    return dev.xp.maximum(x, -_FAR) * cdf, cdf


def _gelu_rule(dev: Device, g: Array, x: Array, cdf: Array) -> Array:  # (cdf + x * exp(-x**2 / 2) / sqrt(2 pi)) * g
    near = dev.xp.clip(x, -_FAR, _FAR)
    slope = near * near
    slope *= -0.5
    slope = dev.xp.exp(slope)
    slope *= near
    slope *= 1 / math.sqrt(2 * math.pi)
    slope += cdf
    slope *= g
    return slope


_K, _C = math.sqrt(2 / math.pi), 0.044715


def _gelu_tanh(dev: Device, x: Array) -> tuple[Array, Array]:
    """(t + 1) * x / 2, and t = tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))."""
    u = x * x
    u *= _C * _K
    u += _K
    u *= x
    t = dev.xp.tanh(u)
    y = t + 1.0
    y *= dev.xp.maximum(x, -_FAR)
    y *= 0.5
    return y, t


def _gelu_tanh_rule(dev: Device, g: Array, x: Array, t: Array) -> Array:
    """(t + 1 + (1 - t**2) * x * (3 c k x**2 + k)) * g / 2, negative until the last line."""
    fall = t * t
    fall -= 1.0
    near = dev.xp.clip(x, -_FAR, _FAR)
    slope = near * near
    slope *= 3 * _C * _K
    slope += _K
    slope *= fall
    slope *= near
    slope -= t
    slope -= 1.0
    slope *= g
    slope *= -0.5
    return slope


# Choosing ---------------------------------------------------------------------------------------------------------


@op(kinds="iuf", kinked=True, unfit=elementwise)
def maximum(dev: Device, x1: Array, x2: Array, /) -> Any:
    """The larger of x1 and x2. Equal x1 and x2 each get half of the gradient.

    >>> tinytorch.maximum(Tensor([1.0, 5.0]), 3)
    tensor([3., 5.])
    """
    xp = dev.xp
    return (
        xp.maximum(x1, x2),
        lambda g: xp.where(x1 < x2, 0.0, xp.where(x1 == x2, g * 0.5, g)),
        lambda g: xp.where(x2 < x1, 0.0, xp.where(x1 == x2, g * 0.5, g)),
    )


@op(kinds="iuf", kinked=True, unfit=elementwise)
def minimum(dev: Device, x1: Array, x2: Array, /) -> Any:
    """The smaller of x1 and x2. Equal x1 and x2 each get half of the gradient.

    >>> tinytorch.minimum(Tensor([1.0, 5.0]), 3)
    tensor([1., 3.])
    """
    xp = dev.xp
    return (
        xp.minimum(x1, x2),
        lambda g: xp.where(x1 > x2, 0.0, xp.where(x1 == x2, g * 0.5, g)),
        lambda g: xp.where(x2 > x1, 0.0, xp.where(x1 == x2, g * 0.5, g)),
    )


@op(free=(0,), kinked=True, unfit=elementwise)
def where(dev: Device, condition: Array, x1: Array, x2: Array, /) -> Any:
    """x1 where the condition is true, x2 elsewhere.

    Raises:
        TypeError: the condition is not boolean.

    >>> x = Tensor([-1.0, 2.0])
    >>> tinytorch.where(x > 0, x, 0.0)
    tensor([0., 2.])
    """
    xp = dev.xp
    if condition.dtype != xp.bool:
        raise TypeError(
            f"the condition must be boolean, not {dev.dtype_of(condition).name}; compare, as in where(x != 0, ...)"
        )
    if isinstance(x1, bool | int | float) and isinstance(x2, bool | int | float):
        dtype = of_numbers(dev, x1, x2)
        x1, x2 = (xp.full((), fitting("where", x, dtype), dtype=dev.dtype(dtype), device=dev.native) for x in (x1, x2))
    return (
        xp.where(condition, x1, x2),
        None,
        lambda g: xp.where(condition, g, 0.0),
        lambda g: xp.where(condition, 0.0, g),
    )


@op(kinds="iuf", kinked=True, unfit=elementwise)
def _clip(dev: Device, x: Array, min: Array = None, max: Array = None, /) -> Any:
    xp = dev.xp

    def inside(g: Array) -> Array:
        g = g if min is None else xp.where(x >= min, g, 0.0)
        return g if max is None else xp.where(x <= max, g, 0.0)

    return (
        xp.clip(x, min, max),
        inside,
        lambda g: xp.where((x < min) if max is None else (x < min) & (min < max), g, 0.0),
        lambda g: xp.where((x > max) if min is None else (x > max) | (max < min), g, 0.0),
    )


@worded
def clip(x: Any, /, min: Any = None, max: Any = None) -> OneTensor:
    """x, but at least `min` and at most `max`, each a number, a tensor or None. At the limits x keeps its gradient.

    Where `min` is above `max` the result is `max`, as in NumPy and PyTorch.

    >>> tinytorch.clip(Tensor([-1.0, 0.5, 2.0]), min=0, max=1)
    tensor([0. , 0.5, 1. ])
    """
    return positive(x) if min is None and max is None else _clip(x, min, max)


@op(kinds="f", kinked=True, unfit=elementwise)
def copysign(dev: Device, x1: Array, x2: Array, /) -> Any:
    """|x1| with the sign of x2. The gradient of x1 is taken as zero where x1 is zero.

    >>> tinytorch.copysign(Tensor([1.0, 2.0]), Tensor([-1.0, 1.0]))
    tensor([-1.,  2.])
    """
    xp = dev.xp
    y = xp.copysign(x1, x2)
    return y, lambda g: xp.where(x1 != 0, g, 0.0) * (xp.sign(x1) * xp.sign(y)), xp.zeros_like


@op(kinds="f", kinked=True, unfit=elementwise)
def nextafter(dev: Device, x1: Array, x2: Array, /) -> Any:
    """The next number after x1 in the direction of x2. x1 gets the gradient where x1 != x2; x2 gets zero.

    >>> tinytorch.nextafter(Tensor([1.0]), Tensor([2.0])) > 1
    tensor([ True])
    """
    xp = dev.xp
    return xp.nextafter(x1, x2), lambda g: xp.where(x1 != x2, g, 0.0), xp.zeros_like


@op(kinds="f", one_dtype=True, unfit=elementwise)
def masked_scale(dev: Device, x: Array, mask: Array, /) -> Any:
    """x * mask for dropout: 0 where the mask is 0, even if x is infinite or NaN. The mask has no gradient.

    >>> tinytorch.ops.masked_scale(Tensor([1.0, 2.0]), Tensor([0.0, 2.0]))
    tensor([0., 4.])
    """
    return dev.fused(_masked_scale)(dev, x, mask), lambda g: dev.fused(_masked_scale)(dev, g, mask), None


def _masked_scale(dev: Device, x: Array, mask: Array) -> Array:
    return dev.xp.where(dev.xp.astype(mask, dev.xp.bool), x, 0.0) * mask


# Rounding: the gradient is zero ------------------------------------------------------------------------------------


@op(kinds="iuf", kinked=True)
def sign(dev: Device, x: Array, /) -> Any:
    """-1 where x is negative, 0 where x is zero, 1 where x is positive.

    >>> tinytorch.sign(Tensor([-3.0, 0.0, 2.0]))
    tensor([-1.,  0.,  1.])
    """
    return dev.xp.sign(x), dev.xp.zeros_like


@op(kinds="iuf", kinked=True)
def floor(dev: Device, x: Array, /) -> Any:
    """The largest integer not above x.

    >>> tinytorch.floor(Tensor([-1.5, 1.5]))
    tensor([-2.,  1.])
    """
    return dev.xp.floor(x), dev.xp.zeros_like


@op(kinds="iuf", kinked=True)
def ceil(dev: Device, x: Array, /) -> Any:
    """The smallest integer not below x.

    >>> tinytorch.ceil(Tensor([-1.5, 1.5]))
    tensor([-1.,  2.])
    """
    return dev.xp.ceil(x), dev.xp.zeros_like


@op(kinds="iuf", kinked=True)
def trunc(dev: Device, x: Array, /) -> Any:
    """x rounded towards zero.

    >>> tinytorch.trunc(Tensor([-1.5, 1.5]))
    tensor([-1.,  1.])
    """
    return dev.xp.trunc(x), dev.xp.zeros_like


@op(kinds="iuf", kinked=True)
def round(dev: Device, x: Array, /) -> Any:
    """The integer nearest to x; halves go to the even integer.

    >>> tinytorch.round(Tensor([0.5, 1.5, 1.6]))
    tensor([0., 2., 2.])
    """
    return dev.xp.round(x), dev.xp.zeros_like


@op(unfit=elementwise)
def flat_in(dev: Device, *arrays: Array) -> Any:
    """The first of the arrays, as a function of all of them: the gradients of the others are zero.

    The gradient of max(x, 0) is a function of x with slope zero. So the gradient of that gradient is zero, not missing.

    >>> x = Tensor([1.0], requires_grad=True)
    >>> tinytorch.grad(tinytorch.ops.flat_in(Tensor([2.0]), x), x)
    (tensor([0.]),)
    """
    return arrays[0], _identity, *[lambda g, x=x: dev.xp.zeros_like(x) for x in arrays[1:]]


# Comparisons, logic and bits: no gradient -------------------------------------------------------------------------


def _without_gradient(
    name: str, doc: str, kinds: str, unary: bool = False, beyond: str = "refused"
) -> Callable[..., OneTensor]:
    """The standard's function `name` as an op that passes no gradient on."""

    def one(dev: Device, x: Array, /) -> Any:
        return getattr(dev.xp, name)(x), None

    def two(dev: Device, x1: Array, x2: Array, /) -> Any:
        if shift and type(x2) is int and x2 < 0:
            raise ValueError("bits are not shifted by a negative number; shift the other way")
        return getattr(dev.xp, name)(x1, x2), None, None

    body, shift = one if unary else two, name.endswith("_shift")
    body.__name__ = body.__qualname__ = name
    body.__doc__ = doc
    return op(kinds=kinds, beyond=beyond, unfit=elementwise)(body)


equal = _without_gradient("equal", "True where x1 == x2.", "biuf", beyond="compared")
not_equal = _without_gradient("not_equal", "True where x1 != x2.", "biuf", beyond="compared")
less = _without_gradient("less", "True where x1 < x2.", "iuf", beyond="compared")
less_equal = _without_gradient("less_equal", "True where x1 <= x2.", "iuf", beyond="compared")
greater = _without_gradient("greater", "True where x1 > x2.", "iuf", beyond="compared")
greater_equal = _without_gradient("greater_equal", "True where x1 >= x2.", "iuf", beyond="compared")
isfinite = _without_gradient("isfinite", "True where x is neither infinite nor NaN.", "iuf", unary=True)
isinf = _without_gradient("isinf", "True where x is infinite.", "iuf", unary=True)
isnan = _without_gradient("isnan", "True where x is not a number.", "iuf", unary=True)
signbit = _without_gradient("signbit", "True where x is negative, -0.0 included.", "f", unary=True)
logical_and = _without_gradient("logical_and", "True where x1 and x2 are.", "b")
logical_or = _without_gradient("logical_or", "True where x1 or x2 is.", "b")
logical_xor = _without_gradient("logical_xor", "True where exactly one of x1 and x2 is.", "b")
logical_not = _without_gradient("logical_not", "True where x is not.", "b", unary=True)
bitwise_and = _without_gradient("bitwise_and", "x1 & x2, bit by bit.", "biu")
bitwise_or = _without_gradient("bitwise_or", "x1 | x2, bit by bit.", "biu")
bitwise_xor = _without_gradient("bitwise_xor", "x1 ^ x2, bit by bit.", "biu")
bitwise_invert = _without_gradient("bitwise_invert", "~x, bit by bit.", "biu", unary=True)
bitwise_left_shift = _without_gradient("bitwise_left_shift", "x1 * 2**x2, in bits.", "iu")
bitwise_right_shift = _without_gradient("bitwise_right_shift", "floor(x1 / 2**x2), in bits.", "iu")
