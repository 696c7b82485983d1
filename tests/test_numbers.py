"""Numbers and dtypes at their edges: one rule on every device, whatever its library would do.

Python numbers outside the range of a dtype, operators in place, numbers that are arrays without axes, and arrays of
dtypes that tensors do not have.
"""

from __future__ import annotations

import enum
import math
import operator
import re
import warnings
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

import tinytorch
from tinytorch import Tensor
from tinytorch.dtypes import fitting, number

INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
integers = pytest.mark.parametrize("dtype", INTEGERS)


@pytest.fixture
def computes(device):
    """Skips dtypes that a library has, but hardly an operation for, as PyTorch has uint16, uint32 and uint64."""

    def expect(dtype):
        x = Tensor([1, 2], dtype=dtype, device="cpu").to(device)
        try:
            with x.device.activated():
                x.device.xp.less(x.device.xp.maximum(x.array, x.array), x.array)
        except (NotImplementedError, RuntimeError, TypeError) as error:
            pytest.skip(f"{device} has no operations for {dtype}: {error}")

    return expect


def limits(dtype):
    found = np.iinfo(dtype)
    return int(found.min), int(found.max)


# Python integers that an integer dtype does not hold --------------------------------------------------------------


@integers
@pytest.mark.parametrize("compare", ["lt", "le", "gt", "ge", "eq", "ne"])
def test_comparisons_with_any_integer_are_exact(compare, dtype, device, computes):
    computes(dtype)
    low, high = limits(dtype)
    values = [low, 1, high]
    x = Tensor(values, dtype=dtype, device=device)
    function = getattr(operator, compare)
    for n in (low, high, low - 1, high + 1, 2**63, 2**64, -(2**63) - 1, 2**70, -(2**70), 10**400):
        assert function(x, n).tolist() == [function(v, n) for v in values], n
        assert function(n, x).tolist() == [function(n, v) for v in values], n


def test_comparisons_of_floats_with_large_integers(device):
    x = Tensor([1.0, -(2.0**100)], device=device)
    for n in (2**63, 2**64, 2**70, 10**400, -(10**400)):
        assert (x < n).tolist() == [n > 0, n > -(2**100)]
    assert (2**70 / x).tolist() == [2.0**70, -(2.0**-30)]
    assert (x + 2**70).tolist() == [2.0**70, -(2.0**100)]
    assert tinytorch.where(x > 0, x, 2**70).tolist() == [1.0, 2.0**70]
    y = Tensor([2.0], device=device, requires_grad=True)
    (g,) = tinytorch.grad((y * y * 2**70).sum(), y, create_graph=True)
    assert g.item() == 2.0**72
    assert tinytorch.grad(g.sum(), y)[0].item() == 2.0**71


ARITHMETIC = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "floor_divide": operator.floordiv,
    "remainder": operator.mod,
    "and": operator.and_,
    "or": operator.or_,
    "xor": operator.xor,
    "lshift": operator.lshift,
    "rshift": operator.rshift,
    "maximum": tinytorch.maximum,
    "minimum": tinytorch.minimum,
    "pow": operator.pow,
    "where": lambda x, n: tinytorch.where((x if isinstance(x, Tensor) else n) > 0, x, n),
    "clip": lambda x, n: tinytorch.clip(x, n) if isinstance(x, Tensor) else tinytorch.clip(n, max=x),
    "pad": lambda x, n: tinytorch.pad(x if isinstance(x, Tensor) else n, 1, value=n if isinstance(x, Tensor) else x),
}


@integers
@pytest.mark.parametrize("name", ARITHMETIC)
def test_arithmetic_refuses_integers_out_of_range(name, dtype, device, computes):
    computes(dtype)
    low, high = limits(dtype)
    function = ARITHMETIC[name]
    x = Tensor([1, 2], dtype=dtype, device=device)
    for n in (low - 1, high + 1, 2**64, -(2**63) - 1, 2**70):
        with pytest.raises(OverflowError, match=rf"{n} is out of range for {dtype}, \[{low}, {high}\]"):
            function(x, n)
        with pytest.raises(OverflowError, match="out of range"):
            function(n, x)


@integers
def test_what_sets_values_refuses_integers_out_of_range(dtype, device, computes):
    computes(dtype)
    low, high = limits(dtype)
    x = Tensor([1, 2, 3], dtype=dtype, device=device)
    mask = Tensor([True, False, False], device=device)
    for n in (low - 1, high + 1, 2**70):
        for key in (0, slice(None), Tensor([0, 1], device=device), mask):
            with pytest.raises(OverflowError, match="out of range"):
                x[key] = n
        for make in (
            lambda n=n: Tensor(n, dtype=dtype, device=device),
            lambda n=n: Tensor([1, n], dtype=dtype, device=device),
            lambda n=n: tinytorch.asarray([[n]], dtype=dtype, device=device),
            lambda n=n: tinytorch.full(2, n, dtype=dtype, device=device),
            lambda n=n: tinytorch.full_like(mask, n, dtype=dtype),
            lambda n=n: tinytorch.arange(n, n + 2, dtype=dtype, device=device),
            lambda x=x, n=n: tinytorch.nn.init.constant_(x, n),
        ):
            with pytest.raises(OverflowError, match="out of range"):
                make()
        with pytest.raises(OverflowError, match="out of range"):
            x += n
    assert x.tolist() == [1, 2, 3]
    x[0] = low
    x[1:] = high
    assert x.tolist() == [low, high, high]
    assert tinytorch.full(1, high, dtype=dtype, device=device).tolist() == [high]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e20, 300.0, -1.0, 1.5], ids=str)
def test_floats_that_are_no_such_integers_are_refused(value, device):
    x = Tensor([1, 2], dtype="uint8", device=device)
    for make in (
        lambda: Tensor(value, dtype="uint8", device=device),
        lambda: Tensor([1.0, value], dtype="uint8", device=device),
        lambda: tinytorch.asarray([value], dtype="uint8", device=device),
        lambda: tinytorch.full(2, value, dtype="uint8", device=device),
        lambda: tinytorch.full_like(x, value),
        lambda: tinytorch.arange(value, 1000, dtype="uint8", device=device),
        lambda: tinytorch.pad(x, 1, value=value),
        lambda: tinytorch.nn.init.constant_(x, value),
    ):
        with pytest.raises((ValueError, OverflowError), match=r"(?i)out of range|not a whole number|no end"):
            make()
    for change in (
        lambda: x + value,
        lambda: tinytorch.where(x > 0, x, value),
        lambda: tinytorch.clip(x, value),
        lambda: operator.setitem(x, 0, value),
        lambda: operator.iadd(x, value),
    ):
        with pytest.raises(TypeError, match=r"the float .* does not go with uint8"):
            change()
    assert x.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (math.nan, ValueError, "nan is not a whole number, as uint8 holds them; round it, or use float32"),
        (1.5, ValueError, r"1\.5 is not a whole number, as uint8 holds them"),
        (math.inf, OverflowError, r"inf is out of range for uint8, \[0, 255\]"),
        (-math.inf, OverflowError, r"-inf is out of range for uint8, \[0, 255\]"),
        (256, OverflowError, r"256 is out of range for uint8, \[0, 255\]"),
        (-1.0, OverflowError, r"-1\.0 is out of range for uint8, \[0, 255\]"),
    ],
    ids=str,
)
def test_why_a_number_does_not_fit_a_dtype(value, error, message):
    with pytest.raises(error, match=f"^f: {message}"):
        fitting("f", value, np.dtype("uint8"))
    assert [fitting("f", v, np.dtype("uint8")) for v in (0, 255, 255.0, True)] == [0, 255, 255, 1]
    assert [fitting("f", v, np.dtype("bool")) for v in (0, 0.0, 0.5, math.nan)] == [False, False, True, True]
    assert type(fitting("f", 3, np.dtype("float32"))) is float


@pytest.mark.parametrize("shape", ["ab", "", 2.5, object()], ids=lambda x: type(x).__name__)
def test_what_is_no_shape(shape):
    with pytest.raises(TypeError, match=r"^randint\(.*\): a shape is an integer or a tuple of integers"):
        tinytorch.randint(3, size=shape)
    with pytest.raises(TypeError, match=r"^zeros: shape is an integer or a tuple of integers, not "):
        tinytorch.zeros(shape)


def test_whole_floats_are_integers_where_a_dtype_is_asked_for(device):
    assert tinytorch.full(2, 3.0, dtype="uint8", device=device).tolist() == [3, 3]
    assert Tensor([1.0, -2.0], dtype="int8", device=device).tolist() == [1, -2]
    assert tinytorch.pad(Tensor([1], device=device), 1).tolist() == [0, 1, 0]
    assert Tensor(True, dtype="int8", device=device).item() == 1


def test_integers_beyond_all_dtypes_are_floats_only_among_floats(device):
    with pytest.raises(OverflowError, match=r"Tensor: 9223372036854775808 is out of range for int64"):
        Tensor([2**63, -1], device=device)  # NumPy makes floats of these
    assert Tensor([2**70], dtype="float32", device=device).tolist() == [2.0**70]
    assert Tensor([2**70, 1.5], device=device).tolist() == [2.0**70, 1.5]
    assert Tensor([1e300, 1.0], device=device).tolist() == [math.inf, 1.0]


def test_division_of_integers_is_by_any_number(device):
    u = Tensor([1, 200], dtype="uint8", device=device)
    assert (u / 400).tolist() == [0.0024999999441206455, 0.5]
    assert (1000 / u).tolist() == [1000.0, 5.0]
    assert (u / 2**70).tolist() == [2.0**-70, 200 * 2.0**-70]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64"])
def test_integers_have_no_negative_powers_quotients_by_zero_or_negative_shifts(dtype, device):
    x = Tensor([1, 7], dtype=dtype, device=device)
    for divide in (operator.floordiv, operator.mod, operator.ifloordiv, operator.imod):
        with pytest.raises(ZeroDivisionError, match="integers are not divided by zero"):
            divide(x, 0)
    if dtype[0] != "u":
        for power in (operator.pow, operator.ipow):
            with pytest.raises(ValueError, match="no negative powers"):
                power(x, -1)
        for shift in (operator.lshift, operator.rshift):
            with pytest.raises(ValueError, match="negative number"):
                shift(x, -1)
    assert (x**0).tolist() == [1, 1]
    with np.errstate(all="ignore"):
        assert (Tensor([1.0], device=device) // 0).item() == math.inf


def test_where_of_two_numbers(device):
    c = Tensor([True, False], device=device)
    for a, b, dtype in ((1, 2, c.device.default_int), (1, 2.5, "float32"), (True, False, "bool"), (True, 2, "int64")):
        found = tinytorch.where(c, a, b)
        assert (found.tolist(), found.dtype) == ([a, b], np.dtype(dtype))
    with pytest.raises(OverflowError, match="out of range for int64"):
        tinytorch.where(c, 1, 2**70)


# In place ---------------------------------------------------------------------------------------------------------

IN_PLACE = {
    "+": operator.iadd,
    "-": operator.isub,
    "*": operator.imul,
    "/": operator.itruediv,
    "//": operator.ifloordiv,
    "%": operator.imod,
    "**": operator.ipow,
    "&": operator.iand,
    "|": operator.ior,
    "^": operator.ixor,
    "<<": operator.ilshift,
    ">>": operator.irshift,
}


@integers
def test_division_of_integers_in_place_is_refused(dtype, device):
    for other in (2, 255, Tensor([2, 2], dtype=dtype, device=device)):
        for shared in (False, True):
            x = Tensor([4, 6], dtype=dtype, device=device)
            given = x.detach() if shared else x
            with pytest.raises(TypeError, match=rf"x /= y: .*float32, the tensor {dtype}; write x = x / y or x //= y"):
                given /= other
            assert (x.tolist(), x.dtype) == ([4, 6], np.dtype(dtype))
    with pytest.raises(TypeError, match=rf"x /= y: .*float32, the tensor {dtype}"):
        x[0] /= 2


SOME = ["bool", "int8", "int64", "uint8", "uint64", "float32", "float64"]


@pytest.mark.parametrize("sign", IN_PLACE)
@pytest.mark.parametrize("dtype", SOME)
def test_in_place_gives_what_numpy_gives_or_is_refused(sign, dtype, device, computes):
    computes(dtype)
    for other in (*SOME, 0.5, 2, True):
        _as_numpy(sign, dtype, other, device)


def _as_numpy(sign, dtype, other, device):
    x = Tensor([3, 1], dtype=dtype, device=device)
    y = Tensor([1, 2], dtype=other, device=device) if isinstance(other, str) else other
    host, host_y = np.asarray([3, 1], dtype), np.asarray([1, 2], other) if isinstance(other, str) else other
    try:
        IN_PLACE[sign](host, host_y)
    except (TypeError, ValueError):
        with pytest.raises((TypeError, ValueError)):
            IN_PLACE[sign](x, y)
        assert x.tolist() == Tensor([3, 1], dtype=dtype).tolist()
        return
    try:
        same = IN_PLACE[sign](x, y)
    except (TypeError, NotImplementedError, ValueError):  # kinds do not mix here, and bools are no numbers
        kind = np.dtype(other).kind if isinstance(other, str) else "a number"
        if "uint64" in (dtype, other) or dtype == "bool" or np.dtype(dtype).kind != kind:
            return  # uint64 mixes with no signed dtype, and PyTorch lacks operations for it
        raise
    else:
        assert same is x
        assert (x.dtype, x.tolist()) == (host.dtype, host.tolist())


def test_in_place_narrows_within_a_kind_only(device):
    small, wide = Tensor([1], dtype="int8", device=device), Tensor([2], dtype="int64", device=device)
    small += wide
    assert (small.tolist(), small.dtype) == ([3], tinytorch.int8)
    u = Tensor([1], dtype="uint8", device=device)
    with pytest.raises(TypeError, match=r"x \+= y: the result has dtype int64, the tensor uint8; write x = x \+ y"):
        u += wide
    f = Tensor([1.0], device=device)
    f += Tensor([1.0], dtype="float64", device=device)
    assert f.dtype == tinytorch.float32
    d = f.detach()
    d += Tensor([1.0], dtype="float64", device=device)  # replaced, and of the same dtype all the same
    assert (d.dtype, d.tolist(), f.tolist()) == (tinytorch.float32, [3.0], [2.0])
    with pytest.raises(ValueError, match=r"x \*= y: the result has shape \(2,\), the tensor \(1,\)"):
        d *= Tensor([1.0, 2.0], device=device)
    m = Tensor([[1, 2], [3, 4]], dtype="int8", device=device)
    with pytest.raises(ValueError, match=r"x @= y: the result has shape"):
        m @= Tensor([1, 1], dtype="int8", device=device)
    m @= m
    assert m.tolist() == [[7, 10], [15, 22]]


# Numbers that are arrays without axes -------------------------------------------------------------------------------


class Three(enum.IntEnum):
    THREE = 3


def held(device):
    """The numbers 1.5, 2 and True as scalars of NumPy, and as arrays without axes of all kinds."""
    found = {
        "numpy": (np.float64(1.5), np.int16(2), np.True_),
        "narrow": (np.float16(1.5), np.uint8(2), np.True_),
        "long": (np.longdouble(1.5), np.int64(2), np.True_),
        "array": (np.array(1.5), np.array(2), np.array(True)),
        "backwards": (np.array(1.5, ">f8"), np.array(2, ">i4"), np.array(True)),
        "tensor": tuple(Tensor(v, device=device) for v in (1.5, 2, True)),
        "library": tuple(Tensor(v, device=device).array for v in (1.5, 2, True)),
        "leaf": (Tensor(1.5, device=device, requires_grad=True), Tensor(2, device=device), Tensor(True, device=device)),
    }
    return found.items()


def test_a_number_may_be_an_array_without_axes(device):
    dev = tinytorch.device(device)
    for name, (real, integer, truth) in held(device):
        for value, expected, dtype in (
            (real, 1.5, tinytorch.float32),
            (integer, 2, dev.default_int),
            (truth, True, tinytorch.bool),
        ):
            made = tinytorch.full((2,), value, device=device)
            assert (made.dtype, made.tolist()) == (dtype, [expected] * 2), name
        like = tinytorch.zeros(1, device=device)
        assert tinytorch.full_like(like, real).tolist() == [1.5]
        assert tinytorch.arange(integer, device=device).tolist() == [0, 1]
        steps = tinytorch.arange(Tensor(0.0), np.array(3.0), real, device=device)
        assert (steps.dtype, steps.tolist()) == (tinytorch.float32, [0.0, 1.5])
        assert tinytorch.arange(0, 3, real, device=device).dtype == tinytorch.float32
        assert tinytorch.linspace(0, real, integer, device=device).tolist() == [0.0, 1.5]
        assert tinytorch.eye(integer, k=integer, device=device).tolist() == [[0.0, 0.0], [0.0, 0.0]]
        assert tinytorch.zeros(integer, device=device).shape == (2,)
        assert tinytorch.ones((integer, 3), device=device).shape == (2, 3)
        assert tinytorch.rand(integer, device=device).shape == (2,)
        assert tinytorch.randint(integer, (3,), device=device).shape == (3,)
        assert tinytorch.pad(like, 1, value=real).tolist() == [1.5, 0.0, 1.5]
        assert tinytorch.nn.init.constant_(like, real).tolist() == [1.5]
        with pytest.raises(ValueError, match=r"1\.5 is not a whole number"):
            tinytorch.full((2,), real, dtype="int32", device=device)
        for refused in (
            lambda real=real: tinytorch.zeros(real, device=device),
            lambda real=real: tinytorch.eye(real, device=device),
            lambda real=real: tinytorch.randint(real, (3,), device=device),
            lambda real=real: tinytorch.linspace(0, 1, real, device=device),
            lambda real=real: tinytorch.randperm(real, device=device),
            lambda real=real: tinytorch.manual_seed(real),
            lambda like=like, real=real: tinytorch.sum(like, axis=real),
        ):
            with pytest.raises(TypeError, match="integer"):
                refused()
    assert tinytorch.full(2, Three.THREE, device=device).tolist() == [3, 3]
    assert tinytorch.arange(True, device=device).tolist() == [0]


@pytest.mark.parametrize(
    "value",
    [Fraction(1, 2), Decimal("1.5"), "1", None, 1j, np.array([1.5]), np.array(1j), Tensor([1.5]), [1], object()],
    ids=lambda v: type(v).__name__,
)
def test_what_is_no_number_is_refused_by_name(value):
    x = tinytorch.ones(2)
    for name, make in {
        "full": lambda: tinytorch.full(2, value),
        "arange": lambda: tinytorch.arange(value),
        "linspace": lambda: tinytorch.linspace(0, value, 2),
        "pad": lambda: tinytorch.pad(x, 1, value=value),
        "constant_": lambda: tinytorch.nn.init.constant_(x, value),
    }.items():
        with pytest.raises(TypeError, match=rf"^{name}.*a number, not .*{type(value).__name__.removesuffix('Type')}"):
            make()
    if isinstance(value, Fraction | Decimal):
        with pytest.raises(TypeError, match=r"write float\("):
            tinytorch.full(2, value)


@pytest.mark.parametrize(
    ("value", "fix"),
    [(Fraction(1, 2), r"; write float\(Fraction\(1, 2\)\)"), ("1", ""), (None, ""), (np.array([1.5]), "")],
    ids=str,
)
def test_what_has_a_float_is_told_to_be_one(value, fix):
    with pytest.raises(TypeError, match=rf"^f: takes a number, not \w+\.\w+ {re.escape(repr(value))}{fix}$"):
        number("f", value)


def test_integers_of_a_dtype(device):
    assert tinytorch.arange(0, 256, dtype="uint8", device=device).tolist() == list(range(256))
    for wrong in ((0, 257), (-1, 2), (256, 0, -1), (2, -2, -1)):
        with pytest.raises(OverflowError, match=r"arange: -?\d+ is out of range for uint8"):
            tinytorch.arange(*wrong, dtype="uint8", device=device)
    assert tinytorch.arange(127, -129, -1, dtype="int8", device=device).tolist() == list(range(127, -129, -1))
    assert tinytorch.arange(0.0, 3.0, dtype="int16", device=device).tolist() == [0, 1, 2]
    assert tinytorch.arange(2**64 - 3, 2**64 - 1, dtype="uint64", device="cpu").tolist() == [2**64 - 3, 2**64 - 2]
    assert tinytorch.arange(2**63 - 3, 2**63 - 1, dtype="int64", device="cpu").tolist() == [2**63 - 3, 2**63 - 2]
    with pytest.raises(ValueError, match=r"0\.5 is not a whole number"):
        tinytorch.arange(0, 3, 0.5, dtype="int32", device=device)
    with pytest.raises(TypeError, match="arange: takes integer and floating dtypes, not bool"):
        tinytorch.arange(2, dtype="bool", device=device)
    with pytest.raises(TypeError, match="linspace: takes floating dtypes, not int32"):
        tinytorch.linspace(0, 1, 3, dtype="int32", device=device)


def test_randint_takes_pytorch_s_arguments(device):
    for drawn in (
        tinytorch.randint(10, (2, 2), device=device),
        tinytorch.randint(0, 10, (2, 2), device=device),
        tinytorch.randint(10, size=(2, 2), device=device),
        tinytorch.randint(high=10, size=(2, 2), device=device),
        tinytorch.randint(low=0, high=10, size=[2, 2], device=device),
    ):
        assert (drawn.shape, drawn.dtype) == ((2, 2), tinytorch.device(device).default_int)
        assert 0 <= drawn.min().item() <= drawn.max().item() < 10
    assert tinytorch.randint(5, device=device).shape == ()
    assert tinytorch.randint(3, 4, 2, dtype="uint8", device=device).tolist() == [3, 3]
    assert tinytorch.randint(2**64 - 1, 2**64, (1,), dtype="uint64").tolist() == [2**64 - 1]
    for args, dtype, error in (
        ((0, 300, (1,)), "uint8", OverflowError),
        ((-1, 3, (1,)), "uint8", OverflowError),
        ((2**70, (1,)), None, OverflowError),
        ((3, 3, (1,)), None, ValueError),
        ((0, 3, (-1,)), None, ValueError),
        ((), None, TypeError),
        ((2.5, (1,)), None, TypeError),
        ((0, 3, (1,)), "float32", TypeError),
    ):
        with pytest.raises(error, match=r"^randint"):
            tinytorch.randint(*args, dtype=dtype, device=device)
    for draw in (tinytorch.rand, tinytorch.randn):
        assert draw(np.int64(2), 3, device=device).shape == (2, 3)
        assert draw((2,), dtype="float64", device="cpu").dtype == tinytorch.float64
        with pytest.raises(TypeError, match="takes floating dtypes, not int32; for integers see randint"):
            draw(2, dtype="int32", device=device)
        with pytest.raises(ValueError, match="no negative length"):
            draw(-1, device=device)


# Arrays of dtypes that tensors do not have ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [">f4", ">f8", ">i2", ">i8", ">u4"])
def test_arrays_in_the_other_byte_order_are_converted(dtype, device):
    array = np.array([1, 258], dtype)
    for make in (Tensor, tinytorch.tensor, tinytorch.asarray):
        made = make(array, device=device)
        assert (made.tolist(), made.dtype) == ([1, 258], array.dtype.newbyteorder("="))
    assert made.array is not array
    assert Tensor(array, dtype="float32", device=device).tolist() == [1.0, 258.0]
    with pytest.raises(ValueError, match="not without a copy"):
        tinytorch.asarray(array, copy=False)


def halves():
    """Half-precision arrays with the values 1.5 and -2, of every library that is installed."""
    found = {"numpy": np.array([1.5, -2], "float16"), "backwards": np.array([1.5, -2], ">f2")}
    torch, jax = (_imported(name) for name in ("torch", "jax"))
    if torch:
        found |= {f"torch {d}": torch.tensor([1.5, -2], dtype=getattr(torch, d)) for d in ("float16", "bfloat16")}
    if jax:
        found |= {f"jax {d}": jax.numpy.asarray([1.5, -2], dtype=d) for d in ("float16", "bfloat16")}
        found["ml_dtypes"] = np.asarray(found["jax bfloat16"])
    return found.items()


def _imported(name):
    try:
        return __import__(name)
    except ImportError:
        return None


def test_half_precision_is_converted_when_asked_for_and_named_when_not():
    for name, array in halves():
        dtype = "bfloat16" if "b" in name.split()[-1][:1] or name == "ml_dtypes" else "float16"
        dtype = "float16" if name == "backwards" else dtype
        fix = r"asarray\(x, dtype=tinytorch\.float32\) converts it"
        for make in (Tensor, tinytorch.asarray):
            with pytest.raises(TypeError, match=rf"there is no dtype .*{dtype}; there are bool, .*; tinytorch\.{fix}"):
                make(array)
        made = Tensor(array, dtype="float32", device="cpu")
        assert (made.tolist(), made.dtype) == ([1.5, -2.0], tinytorch.float32), name
        with pytest.raises((TypeError, BufferError)):
            tinytorch.from_dlpack(array)


def test_half_precision_states_load():
    for name, array in halves():
        model = tinytorch.Linear(2, 1, bias=False)
        model.load_state_dict({"weight": array.reshape(1, 2)})
        assert (model.weight.tolist(), model.weight.dtype) == ([[1.5, -2.0]], tinytorch.float32), name
        model.to("float64").load_state_dict({"weight": array.reshape(1, 2)})
        assert (model.weight.tolist(), model.weight.dtype) == ([[1.5, -2.0]], tinytorch.float64), name
    attention = tinytorch.MultiHeadAttention(4, 2)
    torch = _imported("torch")
    if torch:
        theirs = torch.nn.MultiheadAttention(4, 2, batch_first=True)
        exact = theirs.to(torch.bfloat16).state_dict()
        attention.load_state_dict(exact)
        joined = attention.state_dict()
        assert all(np.array_equal(joined[k], v.to(torch.float32).numpy()) for k, v in exact.items())


def test_a_state_that_holds_no_numbers_changes_nothing():
    model = tinytorch.Linear(2, 1)
    before = model.state_dict()
    for wrong in (np.array([["a", "b"]]), np.array([[None, 1.0]]), np.ones((1, 2), "complex64"), {"a": 1}):
        with pytest.raises(TypeError, match=r"load_state_dict: weight: .*"):
            model.load_state_dict({"bias": np.ones(1), "weight": wrong})
    assert all(np.array_equal(before[k], v) for k, v in model.state_dict().items())


@pytest.mark.parametrize(
    ("array", "name"),
    [
        (np.ones(2, "complex64"), "complex64"),
        (np.array(["1.5"]), "str"),
        (np.array([b"1"]), "bytes"),
        (np.array(["2020-01-01"], "M8[D]"), "datetime64"),
        (np.array([1], "m8[s]"), "timedelta64"),
        (np.array([1, None], object), "object"),
        (np.zeros(2, [("a", "f4")]), "void"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_what_is_no_real_number_is_never_converted(array, name):
    for dtype in (None, "float32", "int64"):
        with pytest.raises(TypeError, match=rf"Tensor: there is no dtype {name}.*; there are bool"):
            Tensor(array, dtype=dtype)


def test_long_doubles():
    array = np.array([1.5], np.longdouble)
    if array.dtype == np.float64:
        pytest.skip("a long double is a double here")
    for given in (array, array[0]):
        with pytest.raises(TypeError, match=rf"no dtype {array.dtype.name}"):
            Tensor(given)
        assert Tensor(given, dtype="float64").numpy().reshape(-1).tolist() == [1.5]
    assert (tinytorch.ones(1) * array[0]).tolist() == [1.5]


@pytest.mark.parametrize(
    ("shape", "dtype", "text"),
    [
        ((0,), "float32", "tensor([])"),
        ((0, 3), "float32", "tensor([], shape=(0, 3))"),
        ((2, 0), "int32", "tensor([], shape=(2, 0), dtype=int32)"),
        ((0, 0, 2), "bool", "tensor([], shape=(0, 0, 2))"),
    ],
)
def test_an_empty_tensor_shows_its_shape(shape, dtype, text):
    assert repr(tinytorch.zeros(shape, dtype=dtype, device="cpu")) == text


def test_no_warning_reaches_the_user():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Tensor([1e300]).tolist() == [math.inf]
        assert Tensor([math.nan, 1.0]).tolist()[1] == 1.0


@pytest.mark.parametrize("n", [2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 10**30])
def test_integers_at_the_end_of_int64_beside_floats(n, device):
    x = Tensor([1.0, -1.0], device=device)
    assert (x < n).tolist() == [n > 0] * 2
    assert (x + n).tolist() == [pytest.approx(n, rel=1e-6)] * 2
