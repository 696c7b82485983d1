"""`tinytorch` as an array API namespace: names, keywords, promotion, and code of others differentiated.

The official suite, array-api-tests, checks much more; these tests are what can be read in a minute.
"""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest

import tinytorch
from tinytorch import Tensor
from tinytorch.testing import gradcheck, gradgradcheck

# Source: array API standard 2024.12, without what is for complex numbers only (imag, complex64, complex128). A name is
# followed by the parameters that may be given by keyword.
FUNCTIONS = """
abs acos acosh add all:axis,keepdims any:axis,keepdims arange:stop,step,dtype,device argmax:axis,keepdims
argmin:axis,keepdims argsort:axis,descending,stable asarray:dtype,device,copy asin asinh astype:copy,device atan atan2
atanh bitwise_and bitwise_invert bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor broadcast_arrays
broadcast_to:shape can_cast ceil clip:min,max concat:axis conj copysign cos cosh count_nonzero:axis,keepdims
cumulative_prod:axis,dtype,include_initial cumulative_sum:axis,dtype,include_initial diff:axis,n,prepend,append divide
empty:shape,dtype,device empty_like:dtype,device equal exp expand_dims:axis expm1 eye:k,dtype,device finfo flip:axis
floor floor_divide from_dlpack:device,copy full:shape,fill_value,dtype,device full_like:fill_value,dtype,device greater
greater_equal hypot iinfo isdtype:dtype,kind isfinite isinf isnan less less_equal linspace:num,dtype,device,endpoint log
log10 log1p log2 logaddexp logical_and logical_not logical_or logical_xor matmul matrix_transpose max:axis,keepdims
maximum mean:axis,keepdims meshgrid:indexing min:axis,keepdims minimum moveaxis multiply negative nextafter nonzero
not_equal ones:shape,dtype,device ones_like:dtype,device permute_dims:axes positive pow prod:axis,dtype,keepdims real
reciprocal remainder repeat:axis reshape:shape,copy result_type roll:shift,axis round searchsorted:side,sorter sign
signbit sin sinh sort:axis,descending,stable sqrt square squeeze:axis stack:axis std:axis,correction,keepdims subtract
sum:axis,dtype,keepdims take:axis take_along_axis:axis tan tanh tensordot:axes tile tril:k triu:k trunc unique_all
unique_counts unique_inverse unique_values unstack:axis var:axis,correction,keepdims vecdot:axis where
zeros:shape,dtype,device zeros_like:dtype,device
"""
OTHERS = """
__array_api_version__ __array_namespace_info__ bool e float32 float64 inf int16 int32 int64 int8 nan newaxis pi
uint16 uint32 uint64 uint8
"""
METHODS = """
T device dtype mT ndim shape size __abs__ __add__ __and__ __array_namespace__ __bool__ __complex__ __dlpack__
__dlpack_device__ __eq__ __float__ __floordiv__ __ge__ __getitem__ __gt__ __index__ __int__ __invert__ __le__ __lshift__
__lt__ __matmul__ __mod__ __mul__ __ne__ __neg__ __or__ __pos__ __pow__ __radd__ __rand__ __rfloordiv__ __rlshift__
__rmatmul__ __rmod__ __rmul__ __ror__ __rpow__ __rrshift__ __rshift__ __rsub__ __rtruediv__ __rxor__ __setitem__ __sub__
__truediv__ __xor__ to_device
"""


@pytest.mark.parametrize("entry", FUNCTIONS.split(), ids=lambda entry: entry.partition(":")[0])
def test_the_standard_s_functions_take_its_keywords(entry):
    name, _, keywords = entry.partition(":")
    parameters = inspect.signature(getattr(tinytorch, name)).parameters
    named = {k for k, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    assert set(keywords.split(",")) - {""} <= named


@pytest.mark.parametrize("name", OTHERS.split())
def test_the_standard_s_other_names(name):
    assert hasattr(tinytorch, name)


@pytest.mark.parametrize("name", METHODS.split())
def test_the_standard_s_methods_and_attributes(name):
    assert hasattr(tinytorch.ones((1, 1)), name)


@pytest.mark.parametrize("name", ["complex64", "complex128", "imag", "linalg", "fft"])
def test_what_is_absent_is_absent(name):
    assert not hasattr(tinytorch, name)


def test_the_namespace_of_a_tensor_is_tinytorch():
    x = Tensor([1.0])
    assert x.__array_namespace__() is x.__array_namespace__(api_version="2024.12") is tinytorch
    assert tinytorch.__array_api_version__ == "2024.12"
    with pytest.raises(ValueError, match="2031"):
        x.__array_namespace__(api_version="2031.12")


# Promotion --------------------------------------------------------------------------------------------------------

SIGNED, UNSIGNED, FLOATING = (
    ["int8", "int16", "int32", "int64"],
    ["uint8", "uint16", "uint32", "uint64"],
    ["float32", "float64"],
)
NUMBERS = [*SIGNED, *UNSIGNED, *FLOATING]


def promoted(a: str, b: str) -> str | None:
    """The dtype of the two together; None if they do not mix."""
    for kind in (SIGNED, UNSIGNED, FLOATING):
        if a in kind and b in kind:
            return max(a, b, key=kind.index)
    if {a, b} & set(FLOATING) or "uint64" in (a, b):
        return None
    signed, unsigned = (a, b) if a in SIGNED else (b, a)
    return SIGNED[max(SIGNED.index(signed), UNSIGNED.index(unsigned) + 1)]


@pytest.mark.parametrize("a", NUMBERS)
def test_promotion(a, device):
    x = tinytorch.ones(2, dtype=a, device=device)
    for b in NUMBERS:
        y, expected = tinytorch.ones(2, dtype=b, device=device), promoted(a, b)
        if expected is None:
            for call in (tinytorch.add, tinytorch.less, tinytorch.result_type):
                with pytest.raises(TypeError):
                    call(x, y)
            continue
        assert tinytorch.result_type(x, y) == tinytorch.result_type(x.dtype, y.dtype) == expected
        if device.startswith("torch") and expected in ("uint16", "uint32", "uint64"):
            with pytest.raises(NotImplementedError, match="has no such function of this dtype"):  # PyTorch (2.13)
                x + y
        else:
            assert (x + y).dtype == expected
            assert (x < y).dtype == tinytorch.bool


@pytest.mark.parametrize(("a", "b", "expected"), [("float32", "float64", "float64"), ("int64", "int8", "int64")])
def test_promotion_does_not_depend_on_the_number_of_axes(a, b, expected, device):
    if {a, b} - tinytorch.__array_namespace_info__().dtypes(device=device).keys():
        pytest.skip(f"{device} does not have both {a} and {b}")
    row, scalar = tinytorch.ones(2, dtype=b, device=device), tinytorch.ones((), dtype=a, device=device)
    for x, y in ((row, scalar), (scalar, row), (row.astype(a), scalar.astype(b)), (scalar.astype(b), row.astype(a))):
        results = (x + y, x % y, tinytorch.maximum(x, y), tinytorch.concat([x, y], axis=None))
        assert {r.dtype.name for r in results} == {expected}


def test_gradients_of_gradients_where_dtypes_mix(device):
    if "float64" not in tinytorch.__array_namespace_info__().dtypes(device=device):
        pytest.skip(f"{device} has no float64")
    x = tinytorch.Tensor([1.0, 2.0], device=device, requires_grad=True)
    scale = tinytorch.Tensor(3.0, "float64", device, requires_grad=True)
    (g,) = tinytorch.grad(tinytorch.sin(x * x * scale).sum(), scale, create_graph=True)
    (h,) = tinytorch.grad(g, scale, retain_graph=True)
    (k,) = tinytorch.grad(g, x)
    assert (g.dtype, h.dtype, k.dtype) == (tinytorch.float64, tinytorch.float64, tinytorch.float32)
    assert g.item() == pytest.approx(math.cos(3) + 4 * math.cos(12), rel=1e-14)  # not as of float32
    assert h.item() == pytest.approx(-math.sin(3) - 16 * math.sin(12), rel=1e-14)


@pytest.mark.parametrize(
    ("dtype", "number", "mixes"),
    [
        ("float32", 2, True),
        ("float32", 2.5, True),
        ("float32", True, False),
        ("int8", 2, True),
        ("int8", 2.5, False),
        ("int8", True, False),
        ("uint8", 2, True),
        ("bool", True, True),
        ("bool", 1, False),
    ],
)
def test_a_number_takes_the_dtype_of_the_tensor(dtype, number, mixes, device):
    x = tinytorch.ones(2, dtype=dtype, device=device)
    for call in (lambda: tinytorch.where(x == x, x, number), lambda: tinytorch.equal(x, number)):
        if mixes:
            assert call().dtype in (x.dtype, tinytorch.bool)
        else:
            with pytest.raises(TypeError):
                call()


KINDS = {
    "bool": ["bool"],
    "signed integer": SIGNED,
    "unsigned integer": UNSIGNED,
    "integral": [*SIGNED, *UNSIGNED],
    "real floating": FLOATING,
    "complex floating": [],
    "numeric": NUMBERS,
    "int8": ["int8"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_kinds_of_dtypes(kind):
    for name in ["bool", *NUMBERS]:
        of_kind = name in KINDS[kind]
        for spelled in (name, getattr(tinytorch, name), tinytorch.ones(1, dtype=name), getattr(np, name)):
            assert bool(tinytorch.isdtype(spelled, kind)) is of_kind
        assert bool(tinytorch.isdtype(name, (kind, "bool"))) is (of_kind or name == "bool")
    with pytest.raises(TypeError, match=r"^isdtype: kind: there is no dtype 'real'"):
        tinytorch.isdtype("int8", ("bool", "real"))


def test_what_casts_without_loss():
    for a in ["bool", *NUMBERS]:
        for b in ["bool", *NUMBERS]:
            expected = np.can_cast(a, b)
            for first, second in ((a, b), (getattr(np, a), getattr(np, b)), (tinytorch.ones(1, dtype=a), b)):
                assert bool(tinytorch.can_cast(first, second)) is expected
    assert tinytorch.result_type(np.float32, np.float64) == tinytorch.float64
    with pytest.raises(TypeError, match=r"^can_cast: there is no dtype 'half'"):
        tinytorch.can_cast("int8", "half")
    with pytest.raises(ValueError, match=r"^result_type: at least one tensor or dtype"):
        tinytorch.result_type(1, 2.0)
    with pytest.raises(TypeError, match=r"^result_type: int8, 2\.5 do not mix"):
        tinytorch.result_type(tinytorch.int8, 2.5)


# What code of others relies on ------------------------------------------------------------------------------------


def test_limits_are_python_numbers():
    for dtype in (tinytorch.float32, tinytorch.float64):
        found, expected = tinytorch.finfo(dtype), np.finfo(dtype)
        for name in ("eps", "max", "min", "smallest_normal"):
            assert type(getattr(found, name)) is float
            assert getattr(found, name) == getattr(expected, name)
        assert (found.bits, found.dtype) == (expected.bits, dtype)


def test_lists_where_the_standard_says_lists():
    a, b = tinytorch.zeros((2, 1)), tinytorch.zeros(3)
    assert [x.shape for x in tinytorch.broadcast_arrays(a, b)] == [(2, 3), (2, 3)]
    assert type(tinytorch.broadcast_arrays(a, b)) is type(tinytorch.meshgrid(b, b)) is list


@pytest.mark.parametrize("make", [tinytorch.asarray, tinytorch.from_dlpack], ids=lambda f: f.__name__)
@pytest.mark.parametrize("copy", [None, True, False])
def test_a_tensor_taken_as_an_array_keeps_its_graph(make, copy, device):
    x = Tensor([1.0, 2.0], device=device, requires_grad=True)
    y = make(x, copy=copy)
    (y * y).sum().backward()
    assert x.grad.tolist() == [2.0, 4.0]


def test_a_copy_is_a_copy(device):
    x = Tensor([1.0, 2.0], device=device)
    y = tinytorch.asarray(x, copy=True)
    y[0] = 5.0
    assert (x.tolist(), y.tolist()) == ([1.0, 2.0], [5.0, 2.0])


@pytest.mark.parametrize(
    ("shape", "mask", "value"),
    [((3, 4), (3, 4), None), ((3, 4), (3,), None), ((3, 4), (3,), (4,)), ((5,), (5,), (1,)), ((), (), None)],
    ids=str,
)
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_assignment_of_one_value_for_each_true_element(shape, mask, value, share, device):
    rng = np.random.Generator(np.random.Philox(0))
    expected, where = np.asarray(rng.standard_normal(shape)), np.asarray(rng.random(mask) < share)
    new = rng.standard_normal(expected[where].shape if value is None else value)
    x = Tensor(expected, device=device)
    x[Tensor(where, device=device)] = Tensor(new, device=device)
    expected[where] = new
    assert np.array_equal(x.numpy(), expected)


def test_assignment_of_too_many_values(device):
    x = Tensor([1.0, 2.0, 3.0], device=device)
    with pytest.raises(ValueError, match=r"\(3,\)"):
        x[x > 1.5] = Tensor([1.0, 2.0, 3.0], device=device)


def test_assignment_to_a_tensor_without_axes(device):
    x = Tensor(1.0, device=device)
    x[()] = 2.0
    assert x.item() == 2.0


def test_a_mask_of_length_zero_selects_nothing():
    x = Tensor([[1.0, 2.0], [3.0, 4.0]])
    assert x[tinytorch.zeros((0, 2), dtype="bool")].shape == (0,)
    assert x[tinytorch.zeros(0, dtype="bool")].shape == (0, 2)
    x[tinytorch.zeros(0, dtype="bool")] = 5.0
    assert x.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    with pytest.raises(IndexError, match="does not fit"):
        x[tinytorch.zeros(1, dtype="bool")]


# Code of others, differentiated -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "function",
    [
        lambda xpx, x: xpx.cov(x),
        lambda xpx, x: xpx.kron(x, x),
        lambda xpx, x: xpx.sinc(x),
        lambda xpx, x: xpx.nan_to_num(x),
    ],
    ids=["cov", "kron", "sinc", "nan_to_num"],
)
def test_array_api_extra_is_differentiated(function):
    xpx = pytest.importorskip("array_api_extra")
    x = Tensor(np.random.Generator(np.random.Philox(0)).standard_normal((3, 5)), requires_grad=True)
    assert gradcheck(lambda x: function(xpx, x), [x])
    assert gradgradcheck(lambda x: function(xpx, x), [x])
