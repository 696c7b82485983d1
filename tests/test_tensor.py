"""Tensor: how it is made, what Python's operators and protocols do with it, and what it refuses."""

from __future__ import annotations

import copy
import math
import operator
import pickle
import statistics
from types import SimpleNamespace

import numpy as np
import pytest

import tinytorch
from tinytorch import Tensor, backends
from tinytorch.backends.cpu import CpuDevice
from tinytorch.intake import expect_dtype
from tinytorch.nn import Parameter
from tinytorch.testing import assert_close

FLOATS = np.array([[1.5, -2.0, 3.0], [0.5, 4.0, -1.0]], dtype="float32")
INTS = np.array([[5, -2, 3], [0, 4, -1]], dtype="int32")
BOOLS = np.array([True, False, True])


def tensor(array, device):
    return Tensor(array, None, device)


# Making -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "dtype", "shape"),
    [
        (2.5, "float32", ()),
        (True, "bool", ()),
        ([1.0, 2], "float32", (2,)),
        ([[True, False]], "bool", (1, 2)),
        (((1.0, 2.0), [3.0, 4.0]), "float32", (2, 2)),
        ([], "float32", (0,)),
        ([[], []], "float32", (2, 0)),
        ([np.float32(1.0), np.float32(2.0)], "float32", (2,)),
        (np.int8(3), "int8", ()),
        (np.float32(3), "float32", ()),
        (np.ones((2, 3), "float32"), "float32", (2, 3)),
        (np.ones((2, 3), "uint8"), "uint8", (2, 3)),
        (np.zeros(3, "bool"), "bool", (3,)),
        (np.arange(6, dtype="int16")[::-2], "int16", (3,)),
        (np.array(3, "int16"), "int16", ()),
    ],
    ids=repr,
)
def test_data_and_the_dtypes_they_have(data, dtype, shape, device):
    x = Tensor(data, None, device)
    assert (x.dtype, x.shape, x.device) == (np.dtype(dtype), shape, backends.device(device))
    assert not x.requires_grad
    assert x.tolist() == np.asarray(data).tolist()


def test_python_integers_have_the_device_s_integer(strict):
    assert Tensor([1, 2], device="cpu").dtype == tinytorch.int64
    assert Tensor([1, 2], device=strict("no_x64")).dtype == tinytorch.int32


def test_a_dtype_and_a_device_that_are_asked_for(device):
    x = Tensor(FLOATS, "int32", device)
    assert (x.dtype, x.device.name) == (tinytorch.int32, device)
    assert x.tolist() == FLOATS.astype("int32").tolist()


def test_an_array_stays_where_it_is(device):
    dev = backends.device(device)
    array = Tensor([1.0, 2.0], device=device).array
    for make in (Tensor, tinytorch.asarray):
        x = make(array)
        assert (x.device, x.tolist()) == (dev, [1.0, 2.0])
    assert tinytorch.asarray(array).array is array


def test_a_tensor_of_data_does_not_share_them(device):
    given = FLOATS.copy()
    x = Tensor(given, None, device)
    given[:] = 0
    assert x.tolist() == FLOATS.tolist()


def test_a_tensor_of_a_tensor_is_a_new_leaf():
    x = Tensor([1.0], requires_grad=True)
    y = Tensor(x * 2, requires_grad=True)
    y.sum().backward()
    assert (y.is_leaf, x.grad) == (True, None)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ([[1.0, 2.0], [3.0]], ValueError, "nested lists must have equal lengths, not 2 and 1$"),
        ([[[1.0], [2.0, 3.0]], [[4.0], [5.0]]], ValueError, "equal lengths, not 1 and 2$"),
        ([[1.0], 2.0], ValueError, "equal lengths, not numbers beside lists$"),
        ([[[1.0], 2.0]], ValueError, "equal lengths, not numbers beside lists$"),
        ("text", TypeError, r"data is a number, a nested list of numbers, an array or a Tensor, not str \('text'\)"),
        (["a", "b"], TypeError, r"not a list with str \('a'\) in it"),
        (None, TypeError, "not None$"),
        ([1.0, None], TypeError, "not a list with None in it"),
        ({"a": 1}, TypeError, "not dict"),
        (1j, TypeError, "not complex"),
        ([1.0, 2j], TypeError, "not a list with complex in it"),
        (np.ones(2, "complex64"), TypeError, "there is no dtype complex64; there are bool, int8"),
        (np.array(["a"]), TypeError, "there is no dtype str"),
        (np.array([object()]), TypeError, "there is no dtype object"),
        (np.ones(1, "float16"), TypeError, "there is no dtype float16"),
        (object(), TypeError, "not object"),
    ],
    ids=lambda x: "" if isinstance(x, type) else None,
)
def test_what_is_no_data(data, error, message):
    with pytest.raises(error, match=message):
        Tensor(data)


def test_a_list_of_tensors_is_no_data():
    with pytest.raises(TypeError, match=r"join tensors with tinytorch\.stack or tinytorch\.concat"):
        Tensor([Tensor(1.0), Tensor(2.0)])


class _Foreign:
    dtype = "float32"


def test_an_array_of_an_unknown_library():
    with pytest.raises(TypeError, match=r"device_of: no registered device holds .*_Foreign objects"):
        Tensor(_Foreign())


@pytest.mark.parametrize(
    "make",
    [
        lambda d: Tensor([1.0], "float64", d),
        lambda d: Tensor(np.ones(2), None, d),
        lambda d: Tensor([1.0], device=d).astype("float64"),
        lambda d: Tensor([1.0], "float64", "cpu").to(d),
        lambda d: tinytorch.zeros(2, dtype="float64", device=d),
        lambda d: tinytorch.linspace(0, 1, 3, dtype="float64", device=d),
    ],
    ids=["numbers", "array", "astype", "to", "zeros", "linspace"],
)
def test_a_dtype_that_the_device_has_not(make, strict):
    device = strict("no_float64")
    with pytest.raises(TypeError, match=rf"{device} has no float64; it has .*float32"):
        make(device)


@pytest.mark.parametrize(("value", "dtype"), [(300, "uint8"), (-1, "uint8"), (2**40, "int32")])
def test_an_integer_that_the_dtype_cannot_hold(value, dtype):
    with pytest.raises(OverflowError, match=f"Tensor: {value} is out of range for {dtype}"):
        Tensor([0, value], dtype)


def test_an_integer_that_the_device_cannot_hold(strict):
    device = strict("no_x64")
    with pytest.raises(OverflowError, match=f"Tensor: {2**40} is out of range for int32"):
        Tensor(2**40, device=device)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda d: tinytorch.zeros((-1,), device=d), ValueError, r"zeros\(\(-1,\)\): .*negative"),
        (lambda d: tinytorch.linspace(0.0, 1.0, -1, device=d), ValueError, r"linspace\(0\.0, 1\.0, -1\): "),
        (lambda d: tinytorch.arange(0, 1, 0, device=d), (ValueError, ZeroDivisionError), r"arange\(0, 1, 0\): "),
        (
            lambda d: tinytorch.ones("two", device=d),
            TypeError,
            r"ones: shape is an integer or a tuple of integers, not str",
        ),
        (lambda d: tinytorch.zeros(2, dtype="float16", device=d), TypeError, "no dtype 'float16'"),
    ],
    ids=range(5),
)
def test_what_cannot_be_created(make, error, message, device):
    with pytest.raises(error, match=message):
        make(device)


@pytest.mark.parametrize("widths", [(1,), ((1, 0),), ((1, 0), (1,)), ((1, 0), (0, -1)), (1, 2, 3)], ids=str)
def test_padding_takes_a_pair_for_each_axis(widths):
    x = tinytorch.zeros((2, 3))
    with pytest.raises(ValueError, match=r"pad_width takes a pair of lengths, not negative, for each of 2 axes"):
        tinytorch.pad(x, widths)
    assert tinytorch.pad(x, np.array([[1, 0], [0, 2]])).shape == (3, 5)


@pytest.mark.parametrize("make", [tinytorch.zeros, tinytorch.arange, tinytorch.eye, tinytorch.Tensor])
@pytest.mark.parametrize("dtype", ["float16", "complex64", "float31"])
def test_there_are_no_other_dtypes(make, dtype):
    with pytest.raises(TypeError, match=rf"there is no dtype '{dtype}'; there are bool, int8, int16, .*, float64$"):
        make(3, dtype=dtype)


def test_creation_goes_to_the_device(device):
    like = tinytorch.ones((2, 3), device=device)
    for x in (
        tinytorch.zeros((2, 3), device=device),
        tinytorch.empty((2, 3), device=device),
        tinytorch.full((2, 3), 0.5, device=device),
        tinytorch.zeros_like(like),
        tinytorch.ones_like(like),
        tinytorch.empty_like(like),
        tinytorch.full_like(like, 0.5),
        tinytorch.eye(2, 3, device=device),
        tinytorch.rand(2, 3, device=device),
        tinytorch.randn((2, 3), device=device),
    ):
        assert (x.shape, x.dtype, x.device) == ((2, 3), tinytorch.float32, like.device)
    assert tinytorch.full(2, 1, device=device).dtype == like.device.default_int
    assert tinytorch.full(2, True, device=device).dtype == tinytorch.bool
    assert tinytorch.arange(1, 9, 3, device=device).tolist() == [1, 4, 7]
    assert tinytorch.arange(0.0, 1.0, 0.5, device=device).dtype == tinytorch.float32
    assert tinytorch.linspace(0.0, 1.0, 3, device=device).tolist() == [0.0, 0.5, 1.0]


def test_creation_goes_where_it_is_told_and_not_to_the_default(other):
    like, ints = tinytorch.ones((2, 3), device="cpu"), tinytorch.ones((2, 3), dtype="int32", device=other)
    made = {
        name: getattr(tinytorch, name)
        for name in ("zeros", "ones", "empty", "rand", "randn", "eye", "arange", "randperm", "tensor", "asarray")
    }
    made |= {"full": lambda n, **how: tinytorch.full(n, 0.5, **how), "Tensor": Tensor}
    made |= {"linspace": lambda n, **how: tinytorch.linspace(0.0, 1.0, n, **how)}
    made |= {"randint": lambda n, **how: tinytorch.randint(n, (2,), **how)}
    for name, make in made.items():
        assert make(3, device=other).device.name == other, name
        assert make(3, device="cpu").device.name == "cpu", name
        with tinytorch.device(other):
            assert make(3).device.name == other, name
            assert make(3, device="cpu").device.name == "cpu", name
        if name != "randperm":
            dtype = "int16" if name in ("arange", "randint") else "float64"
            assert make(3, dtype=dtype, device="cpu").dtype == dtype, name
    likes = {name: getattr(tinytorch, f"{name}_like") for name in ("zeros", "ones", "empty")}
    likes["full"] = lambda x, **how: tinytorch.full_like(x, 1, **how)
    for name, make in likes.items():
        for where in (other, "cpu"):
            with tinytorch.device(where):  # which does not matter
                assert (make(like).device.name, make(ints).device.name) == ("cpu", other), name
                assert (make(like).dtype, make(ints).dtype) == ("float32", "int32"), name
        assert (make(like, device=other).device.name, make(ints, device="cpu").device.name) == (other, "cpu"), name
        assert (make(like, dtype="int8").dtype, make(ints, dtype="float32").dtype) == ("int8", "float32"), name
    for made in (tinytorch.asarray(like, device=other), tinytorch.from_dlpack(like, device=other)):
        assert (made.device.name, made.tolist()) == (other, like.tolist())
    host = np.ones(2, "float32")
    for where in (other, "cpu"):
        assert tinytorch.from_dlpack(host, device=where).device.name == where
        assert tinytorch.from_dlpack(host, device=where, copy=True).device.name == where


def test_asarray_copies_as_it_is_told():
    x, n = Tensor([1.0]), np.ones(2, "float32")
    assert tinytorch.asarray(x) is x
    assert tinytorch.asarray(x, copy=True) is not x
    assert tinytorch.asarray(n, copy=False).array is n
    with pytest.raises(ValueError, match="is not to be had without a copy"):
        tinytorch.asarray(x, dtype="float64", copy=False)
    with pytest.raises(ValueError, match="from float32 on cpu to float64 on cpu is not without a copy"):
        tinytorch.asarray(n, dtype="float64", copy=False)
    with pytest.raises(ValueError, match="list cannot become a tensor without a copy"):
        tinytorch.asarray([1.0], copy=False)


def test_dlpack_goes_both_ways():
    n = np.arange(3.0)
    x = tinytorch.from_dlpack(n)
    assert x.tolist() == [0.0, 1.0, 2.0]
    assert np.shares_memory(np.from_dlpack(x), n)
    with pytest.raises(BufferError, match=r"requires a gradient, which would be lost; use x\.detach\(\)"):
        np.from_dlpack(Tensor([1.0], requires_grad=True))


# Operators --------------------------------------------------------------------------------------------------------

ARITHMETIC = [operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod]
COMPARISONS = [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge]
BITS = [operator.and_, operator.or_, operator.xor]
SHIFTS = [operator.lshift, operator.rshift]
named = {"ids": lambda f: getattr(f, "__name__", None)}


@pytest.mark.parametrize("function", [*ARITHMETIC, operator.truediv, *COMPARISONS], **named)
def test_operators_of_floats(function, device):
    other = np.array([2.0, -0.5, 3.0], dtype="float32")
    x, y = tensor(FLOATS, device), tensor(other, device)
    assert_close(function(x, y), tensor(function(FLOATS, other), device))
    assert_close(function(x, 2.0), tensor(function(FLOATS, np.float32(2)), device))
    assert_close(function(x, 2), tensor(function(FLOATS, np.float32(2)), device))
    assert_close(function(2.0, x), tensor(function(np.float32(2), FLOATS), device))


@pytest.mark.parametrize("function", [*ARITHMETIC, *COMPARISONS, *BITS, *SHIFTS], **named)
def test_operators_of_integers(function, device):
    other = np.array([2, 1, 3], dtype="int32")
    x, y = tensor(INTS, device), tensor(other, device)
    assert_close(function(x, y), tensor(function(INTS, other), device))
    assert_close(function(x, 2), tensor(function(INTS, np.int32(2)), device))
    assert_close(function(7, y), tensor(function(np.int32(7), other), device))


@pytest.mark.parametrize("function", [*BITS, operator.eq, operator.ne], **named)
def test_operators_of_booleans(function, device):
    x = tensor(BOOLS, device)
    assert function(x, tensor(~BOOLS, device)).tolist() == function(BOOLS, ~BOOLS).tolist()
    assert function(x, True).tolist() == function(BOOLS, True).tolist()
    assert function(True, x).tolist() == function(True, BOOLS).tolist()


@pytest.mark.parametrize("function", [operator.neg, operator.pos, operator.abs], **named)
def test_operators_of_one(function, device):
    for array in (FLOATS, INTS):
        assert_close(function(tensor(array, device)), tensor(function(array), device))


def test_invert_pow_and_matmul(device):
    assert (~tensor(BOOLS, device)).tolist() == (~BOOLS).tolist()
    assert (~tensor(INTS, device)).tolist() == (~INTS).tolist()
    x = tensor(FLOATS, device)
    assert_close(x**2, tensor(FLOATS**2, device))
    assert_close(2.0**x, tensor(np.float32(2) ** FLOATS, device))
    assert_close(abs(x) ** x, tensor(np.abs(FLOATS) ** FLOATS, device))
    assert_close(x @ x.mT, tensor(FLOATS @ FLOATS.T, device))
    assert_close(x.T, tensor(FLOATS.T, device))


def test_operators_with_numpy_s_scalars_keep_the_dtype(device):
    x = tensor(FLOATS, device)
    for y in (x * np.float64(2), np.float64(2) * x, x + np.int64(1), np.int64(1) + x):
        assert y.dtype == tinytorch.float32
    assert (np.float64(2) - x).tolist() == (2 - FLOATS).tolist()


def test_an_assignment_operator_changes_the_tensor(device):
    x = y = Tensor([1.0, 2.0], device=device)
    view = x[:1]
    x += 1
    x *= Tensor([2.0, 3.0], device=device)
    assert x is y
    assert x.tolist() == [4.0, 9.0]
    assert view.tolist() == [1.0]  # what was taken before keeps its values
    x -= Tensor([1.0, 1.0], dtype="float64", device=device)
    assert x.dtype == tinytorch.float32


def test_an_assignment_operator_is_recorded():
    w = Tensor([1.0, 2.0], requires_grad=True)
    h = w * 2
    square = h * h
    h += w  # 3 w
    (h.sum() + square.sum()).backward()
    assert w.grad.tolist() == [3 + 8, 3 + 16]


def test_assignment_operators_refused():
    w = Tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(
        RuntimeError, match=r"x \+= y: x is a leaf that requires a gradient.*no_grad\(\), or write x = x"
    ):
        w += 1
    h = w * 2
    with tinytorch.no_grad(), pytest.raises(RuntimeError, match="x is part of a graph, and this would not be recorded"):
        h += 1
    x = Tensor([1.0])
    with pytest.raises(ValueError, match=r"the result has shape \(2,\), the tensor \(1,\)"):
        x += w.detach()
    assert (w.tolist(), h.tolist(), x.tolist()) == ([1.0, 2.0], [2.0, 4.0], [1.0])


def test_parameters_change_under_no_grad_as_in_pytorch():
    p = q = Tensor([1.0, 2.0], requires_grad=True)
    (p * p).sum().backward()
    with tinytorch.no_grad():
        p -= p.grad * 0.5
    assert p is q
    assert (p.tolist(), p.requires_grad, p.is_leaf) == ([0.0, 0.0], True, True)
    p.data += 1  # by way of the values alone, too
    assert p.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: np.ones(2) + x, r"add: x1 is a Tensor or a Python number, not numpy\.ndarray .* tinytorch\.asarray"),
        (lambda x: x * np.ones(2), r"multiply: x2 is a Tensor or a Python number, not numpy\.ndarray"),
        (lambda x: x - [1.0, 2.0], r"subtract: x2 is a Tensor or a Python number, not list"),
        (lambda x: x + "a", r"not str \('a'\)"),
        (lambda x: x @ 2, r"^matmul: x2 is a Tensor, not int \(2\); make it one with"),
        (lambda x: 2.5 @ x, r"^matmul: x1 is a Tensor, not float \(2\.5\)"),
        (lambda x: x * 1j, "not complex"),
        (lambda x: x & x, "bitwise_and: .* takes bool or integer dtypes"),
        (lambda x: x + Tensor([1, 2]), r"float32 \(2,\) on cpu, int64 \(2,\) on cpu: takes dtypes of one kind"),
        (lambda x: Tensor([1, 2]) + 0.5, r"the float 0\.5 does not go with int64; convert the tensor with \.astype"),
        (lambda x: Tensor([True]) + 1, "takes integer or floating dtypes"),
        (lambda x: Tensor([1, 2]) / 2.5, r"divide: the float 2\.5 does not go with int64"),
        (lambda x: x + Tensor([[1.0, 2.0, 3.0]]), r"^add\(.*: \(2,\) and \(1, 3\) do not broadcast"),
    ],
    ids=range(13),
)
def test_operands_that_do_not_go_together(call, message):
    with pytest.raises(ValueError if "broadcast" in message else TypeError, match=message):
        call(Tensor([1.0, 2.0]))


# Tensors of two devices -------------------------------------------------------------------------------------------


def test_mixing_devices_names_both_and_the_fix(other):
    x, y = Tensor([1.0, 2.0], device="cpu"), Tensor([[1.0], [2.0]], device=other)
    with pytest.raises(
        ValueError,
        match=rf"^add: float32 \(2,\) on cpu and float32 \(2, 1\) on {other} are on different devices; "
        r"move the second one with \.to\('cpu'\)$",
    ):
        x + y


def test_mixing_devices_names_the_parameter(other):
    model = tinytorch.Sequential(tinytorch.Linear(3, 2, device="cpu"))
    dict(model.named_parameters())
    with pytest.raises(ValueError, match=rf"float32 \(1, 3\) on {other} and float32 \(2, 3\) '0\.weight' on cpu"):
        model(tinytorch.ones((1, 3), device=other))


# Python's protocols -----------------------------------------------------------------------------------------------


def test_numbers(device):
    x = Tensor([[2.5]], device=device)
    assert (x.item(), float(x), int(x), complex(x), bool(x), bool(x - 2.5)) == (2.5, 2.5, 2, 2.5 + 0j, True, False)
    i = Tensor(2, device=device)
    assert (i.item(), [10, 20, 30][i], list(range(i))) == (2, 30, [0, 1])
    assert isinstance(i.item(), int)
    assert Tensor(True, device=device).item() is True


@pytest.mark.parametrize("function", [Tensor.item, float, int, bool])
@pytest.mark.parametrize("shape", [(2,), (0,), (1, 3)], ids=str)
def test_more_or_less_than_one_element_is_no_number(function, shape):
    with pytest.raises(
        ValueError, match=rf"a tensor .*{'any' if function is bool else 'tolist'}|the tensor has .*tolist"
    ):
        function(tinytorch.zeros(shape))


def test_only_integers_are_indices():
    with pytest.raises(TypeError, match="an index is an integer, not float32"):
        [1, 2][Tensor(1.0)]
    with pytest.raises(TypeError, match="an index is an integer, not bool"):
        [1, 2][Tensor(True)]


def test_lengths_rows_and_members(device):
    x = tensor(FLOATS, device)
    assert len(x) == 2
    assert [row.tolist() for row in x] == FLOATS.tolist()
    assert (4.0 in x, 5.0 in x) == (True, False)
    a, b = x
    assert (a - b).shape == (3,)


def test_a_tensor_without_axes_has_neither():
    with pytest.raises(TypeError, match="a tensor without axes has no length"):
        len(Tensor(1.0))
    with pytest.raises(TypeError, match="cannot be iterated over"):
        iter(Tensor(1.0))


def test_shape_size_and_dtype(device):
    x = tinytorch.zeros((2, 3, 4), device=device)
    assert (x.shape, x.ndim, x.size, len(x.shape)) == ((2, 3, 4), 3, 24, 3)
    assert all(type(n) is int for n in x.shape)
    assert (x.dtype, x.device) == (tinytorch.float32, backends.device(device))


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (lambda: Tensor([1.0, 2.5]), "tensor([1. , 2.5])"),
        (lambda: Tensor([True]), "tensor([ True])"),
        (lambda: Tensor([1, 2]), "tensor([1, 2], dtype=int64)"),
        (lambda: Tensor(1.0, "float64", requires_grad=True), "tensor(1., dtype=float64, requires_grad=True)"),
        (lambda: Parameter([[1.0], [2.0]]), "tensor([[1.],\n        [2.]], requires_grad=True)"),
        (lambda: Tensor([]), "tensor([])"),
    ],
    ids=range(6),
)
def test_repr_says_what_is_not_usual(x, text):
    assert repr(x()) == str(x()) == f"{x()}" == text


def test_repr_says_where_it_is(other):
    assert repr(Tensor([1.0, 2.0], device=other)) == f"tensor([1., 2.], device='{other}')"


def test_format_is_that_of_the_number():
    assert f"{Tensor(3.14159):.2f} {Tensor([7]):03d}" == "3.14 007"
    with pytest.raises(ValueError, match=r"^format: a tensor of shape \(2,\) is not one number; write x\.tolist\(\)"):
        f"{Tensor([1.0, 2.0]):.2f}"


NUMBERS = {  # what Python makes of a tensor of one element
    "round": (round, 2),
    "round to digits": (lambda x: round(x, 1), 2.4),
    "trunc": (math.trunc, 2),
    "floor": (math.floor, 2),
    "ceil": (math.ceil, 3),
    "sqrt": (math.sqrt, math.sqrt(2.4375)),
    "isnan": (math.isnan, False),
    "int": (int, 2),
    "complex": (complex, 2.4375 + 0j),
    "percent": (lambda x: f"{x:.1%}", "243.8%"),
    "%": (lambda x: "%.2f" % x, "2.44"),  # noqa: UP031
    "fmean": (lambda x: statistics.fmean([x, x]), 2.4375),
    "max": (lambda x: max(x, x + 1).item(), 3.4375),
    "sorted": (lambda x: [y.item() for y in sorted([x + 1, x])], [2.4375, 3.4375]),
    "sum": (lambda x: sum([x, x]).item(), 4.875),
}


@pytest.mark.parametrize("gradient", [False, True], ids=["plain", "with gradient"])
@pytest.mark.parametrize(("call", "expected"), NUMBERS.values(), ids=NUMBERS)
def test_python_s_functions_of_one_number(call, expected, gradient, device):
    x = tinytorch.asarray(2.4375, device=device).requires_grad_(gradient)
    found = call(x)
    assert type(found) is type(expected)
    assert found == expected


REFUSED = {  # of many elements
    "math.sqrt": (math.sqrt, ValueError, r"^float: a tensor of shape \(3,\) is not one number; tinytorch\.sqrt\(x\)"),
    "math.floor": (math.floor, ValueError, r"^float: a tensor of shape \(3,\) is not one number"),
    "int": (int, ValueError, r"^int: a tensor .*; x\.astype\(tinytorch\.int64\) converts each"),
    "complex": (complex, ValueError, r"^complex: a tensor of shape"),
    "round": (
        round,
        ValueError,
        r"^round: a tensor of shape \(3,\) is not one number; tinytorch\.round\(x\) rounds each$",
    ),
    "trunc": (math.trunc, ValueError, r"^trunc: .*; tinytorch\.trunc\(x\) is of each$"),
    "width": (lambda x: f"{x:>40}", ValueError, r"^format: a tensor of shape"),
    "bytes": (bytes, TypeError, r"^bytes: of the values write bytes\(x\.tolist\(\)\), of their memory x\.numpy"),
    "index": (lambda x: [1, 2][x], TypeError, r"^an index is an integer, not float32 \(3,\) on \S+; x\.tolist"),
    "index of many": (
        lambda x: [1, 2][x.astype("int32")],
        TypeError,
        r"^an index is an integer, not int32 \(3,\) on \S+; x\.tolist\(\) is a list$",
    ),
    "range": (lambda x: range(x[0]), TypeError, r"^an index is an integer, not float32 \(\) on \S+; write int\(x\)$"),
    "x == None": (lambda x: x == None, TypeError, r"^equal: x2 is .*, not None; write x is None$"),  # noqa: E711
    "x != None": (lambda x: x != None, TypeError, r"^not_equal: x2 .*, not None; write x is None$"),  # noqa: E711
    "sorted": (lambda x: sorted([x, x]), ValueError, r"^bool: a tensor of 3 elements is neither true nor false"),
    "like": (lambda x: np.zeros(2, like=x), TypeError, r"^zeros: NumPy makes no tensors; write tinytorch\.zeros$"),
}


@pytest.mark.parametrize(("call", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_what_python_does_with_one_number_is_refused_of_many(call, error, message, device):
    for gradient in (False, True):
        with pytest.raises(error, match=message):
            call(tinytorch.asarray([1.0, 2.0, 3.0], device=device).requires_grad_(gradient))


def test_divmod_is_a_quotient_and_a_remainder(device):
    x = tinytorch.asarray([7.0, -7.0], device=device).requires_grad_()
    quotient, rest = divmod(x, 4)
    assert (quotient.tolist(), rest.tolist()) == ([1.0, -2.0], [3.0, 1.0])
    assert rest.requires_grad
    assert [part.tolist() for part in divmod(9.0, x)] == [[1.0, -2.0], [2.0, -5.0]]


def test_numpys_comparisons_of_tensors(device):
    x = tinytorch.asarray([1.0, 2.0], device=device)
    host = tinytorch.device(device).memory == (1, 0)
    for equal in (np.array_equal, np.array_equiv):
        if host:
            assert equal(x, x)
            assert not equal(x, [1.0, 3.0])
        for refused in [x.copy().requires_grad_()] + [x] * (not host):  # and NumPy itself would say False
            with pytest.raises(TypeError, match=r"np\.asarray: the tensor (requires a gradient|is on)"):
                equal(refused, refused)
            with pytest.raises(TypeError, match=r"np\.asarray: the tensor (requires a gradient|is on)"):
                equal(a1=[1.0, 2.0], a2=refused)
    if host:
        np.testing.assert_allclose(x, [1.0, 2.0])
        assert np.concatenate([x, x]).tolist() == [1.0, 2.0, 1.0, 2.0]
        assert np.shape(x.copy().requires_grad_()) == (2,)


def test_tensors_are_hashed_by_identity():
    x, y = Tensor([1.0]), Tensor([1.0])
    assert len({x, y, x}) == 2
    assert {x: 1}[x] == 1


# Values on the host -----------------------------------------------------------------------------------------------


def test_numpy_gives_a_copy_that_the_caller_owns(device):
    for x in (tensor(FLOATS, device), tinytorch.broadcast_to(Tensor([1.0], device=device), (3,))):
        before = x.tolist()
        n = x.numpy()
        n[...] = 0
        assert x.tolist() == before
        assert n.flags.owndata


def test_numpy_of_what_requires_a_gradient():
    x = Tensor([1.0], requires_grad=True)
    for y in (x, x * 2):
        with pytest.raises(RuntimeError, match=r"which NumPy would lose; use x\.detach\(\)\.numpy\(\)"):
            y.numpy()
        assert y.detach().numpy().shape == (1,)
        assert y.tolist() == y.detach().tolist()


def test_numpy_computes_with_no_tensor_unasked(device):
    x = Tensor([1.0, 2.0], device=device)
    for function, words in (
        (lambda x: np.ones(2) @ x, r"matmul: .*tinytorch\.asarray"),
        (lambda x: np.add(x, np.ones(2)), r"add: .*tinytorch\.asarray"),
        (np.sin, r"sin: NumPy computes with no tensor; write tinytorch\.sin, or give it x\.numpy\(\)"),
        (np.arctan, r"arctan: .*write tinytorch\.atan\(x\), or"),
        (np.add.reduce, r"add: NumPy computes with no tensor"),
        (np.ones(2).__iadd__, r"add: NumPy computes with no tensor"),
        (np.mean, r"mean: there is no argument 'out'; for np\.mean write tinytorch\.mean\(x\)"),
    ):
        with pytest.raises(TypeError, match=words):
            function(x)
    for function in (np.asarray, np.array):
        with pytest.raises(TypeError, match=r"requires a gradient.* x\.detach\(\)\.numpy\(\)"):
            function(Tensor([1.0], device=device, requires_grad=True))


def test_numbers_of_numpys_go_with_tensors_on_either_side(device):
    x = Tensor([1.0, 2.0], device=device, requires_grad=True)
    for two in (np.float64(2), np.float32(2), np.int64(2)):
        assert (two * x).tolist() == [2, 4]
        assert (two - x).tolist() == [1, 0]
        assert (two**x).tolist() == [2, 4]
        assert (two == x).tolist() == [False, True]
        assert (two > x).tolist() == [True, False]
    (np.float64(2) * x).sum().backward()
    assert x.grad.tolist() == [2, 2]
    assert (np.int64(1) << Tensor([1, 2], device=device)).tolist() == [2, 4]


def test_a_shallow_copy_of_a_result_remembers_how_it_was_made(device):
    x = Tensor([1.0, 2.0], device=device, requires_grad=True)
    y = copy.copy(x * 3)
    y.sum().backward()
    assert x.grad.tolist() == [3, 3]
    assert not y.is_leaf
    with pytest.raises(TypeError, match=r"requires a gradient.* x\.detach\(\)\.numpy\(\)"):
        np.asarray(y)  # what matplotlib does next
    with pytest.raises(RuntimeError, match=r"deepcopy: .* use x\.detach\(\), or x\.copy\(\)"):
        copy.deepcopy(y)


class Table:
    """As a table of pandas: NumPy can have its values."""

    def __array__(self, dtype=None, copy=None):
        return np.asarray([1, 2], dtype or "int16")


class Column(Table):
    """As a column of pandas, which has a dtype, as arrays have that a device holds."""

    dtype, shape = np.dtype("int16"), (2,)


def test_columns_and_tables_of_other_libraries_are_data(device):
    for data in (Column(), Table()):
        x = Tensor(data, device=device)
        assert x.tolist() == [1, 2]
        assert x.dtype == "int16"
        assert str(x.device) == device
        assert tinytorch.asarray(data, dtype="float64", device=device).dtype == "float64"


def test_the_memory_of_the_host_alone_is_numpys(device):
    x = Tensor([1.0, 2.0], device=device)
    if x.device.memory == (1, 0):
        assert np.asarray(x).tolist() == np.array(x).tolist() == [1.0, 2.0]
    else:
        with pytest.raises(TypeError, match=r"copy it to the host: x\.cpu\(\)\.numpy\(\)"):
            np.asarray(x)


# data and detach --------------------------------------------------------------------------------------------------


def test_detach_shares_values_but_no_graph(device):
    x = Tensor([1.0, 2.0], device=device, requires_grad=True)
    for y in (x.detach(), x.data, (x * 1).detach()):
        assert (y.requires_grad, y.is_leaf, y.tolist()) == (False, True, [1.0, 2.0])
    assert x.data.array is x.array


def test_a_detached_tensor_is_not_written_into():
    x = Tensor([1.0, 2.0], requires_grad=True)
    for y in (x.detach(), x.data):
        with pytest.raises(RuntimeError, match=r"was detached or sliced from another.*write into x\.copy\(\)"):
            y[0] = 5.0
    for y in (x.data.copy(), x.detach().clone()):
        y[0] = 5.0
        assert (y.tolist(), x.tolist()) == ([5.0, 2.0], [1.0, 2.0])


def test_a_detached_tensor_can_be_a_new_leaf():
    x = (Tensor([2.0], requires_grad=True) * 1).detach().requires_grad_()
    (x * x).backward()
    assert x.grad.item() == 4.0


def test_data_can_be_assigned(device):
    x = Tensor([1.0, 2.0], device=device, requires_grad=True)
    y = (x * x).sum()
    new = Tensor([5.0, 6.0], device=device)
    x.data = new
    y.backward()
    assert (x.tolist(), x.grad.tolist(), x.requires_grad) == ([5.0, 6.0], [2.0, 4.0], True)
    new[0] = 0.0
    assert x.tolist() == [5.0, 6.0]


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (lambda: [1.0, 2.0], TypeError, "assign a Tensor, not list"),
        (lambda: Tensor([1.0]), ValueError, r"new values have shape \(1,\), the tensor \(2,\)"),
        (lambda: Tensor([1.0, 2.0], "float64"), ValueError, "new values have dtype float64, the tensor float32"),
    ],
    ids=["list", "shape", "dtype"],
)
def test_data_that_do_not_fit(value, error, message):
    x = Tensor([7.0, 8.0])
    with pytest.raises(error, match=message):
        x.data = value()
    assert x.tolist() == [7.0, 8.0]


def test_data_of_another_device(other):
    x = Tensor([7.0, 8.0], device="cpu")
    with pytest.raises(ValueError, match=f"on cpu and .* on {other} are on different devices"):
        x.data = Tensor([1.0, 2.0], device=other)


# requires_grad ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [[1, 2], [True]], ids=["integer", "bool"])
def test_only_floating_tensors_have_gradients(data):
    with pytest.raises(
        TypeError, match=r"only floating dtypes have gradients, not (int64|bool); convert with \.astype"
    ):
        Tensor(data, requires_grad=True)
    x = Tensor(data)
    with pytest.raises(TypeError, match="only floating"):
        x.requires_grad_()
    assert not x.requires_grad


def test_only_leaves_are_switched_off():
    x = Tensor([1.0], requires_grad=True)
    y = x * 2
    with pytest.raises(RuntimeError, match=r"only a leaf can be switched off; x\.detach\(\)"):
        y.requires_grad = False
    x.requires_grad = False
    assert not (x * 2).requires_grad
    assert y.requires_grad


# Assignment -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        0,
        -1,
        (1, 2),
        slice(None),
        slice(None, None, 2),
        slice(None, None, -1),
        (slice(1, None), 0),
        (..., slice(0, 2)),
        (None, 1),
        ...,
        (slice(2, 0, -1), slice(None, None, -2)),
        slice(3, 3),
    ],
    ids=str,
)
def test_assignment_is_numpy_s(key, device):
    expected = np.arange(12, dtype="float32").reshape(4, 3)
    x = tensor(expected, device)
    block = np.arange(100, 100 + expected[key].size, dtype="float32").reshape(expected[key].shape)
    for value, given in ((block, tensor(block, device)), (7.0, 7.0), (5, 5)):
        x[key] = given
        expected[key] = value
        assert_close(x, tensor(expected, device))


def test_assignment_broadcasts_and_keeps_the_dtype(device):
    x = tinytorch.zeros((2, 3), device=device)
    x[:, 1:] = tinytorch.asarray([1.0, 2.0], dtype="float32", device=device)
    assert x.tolist() == [[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]]
    i = tinytorch.zeros(3, dtype="int32", device=device)
    i[1] = 5
    assert (i.tolist(), i.dtype) == ([0, 5, 0], tinytorch.int32)
    b = tinytorch.zeros(2, dtype="bool", device=device)
    b[0] = True
    assert b.tolist() == [True, False]


def test_assignment_where_a_mask_is_true(device):
    x = tensor(FLOATS, device)
    x[x < 0] = 0.0
    assert x.tolist() == np.where(FLOATS < 0, 0, FLOATS).tolist()
    x[Tensor([True, False], device=device)] = Tensor(9.0, device=device)
    assert x.tolist() == [[9.0] * 3, [0.5, 4.0, 0.0]]


@pytest.mark.parametrize(
    "key",
    [
        (..., [True, False, True, False]),
        (slice(None), [True, False, True]),
        (slice(None), [True, False, True], slice(1, 3)),
        ([False, True], 0),
        ([True, True], 2, 1),
        ([True, False], [0, 2]),
        (None, [True, False]),
        ([True, False], ..., slice(None, None, -1)),
        (slice(None), [False] * 3),
        (np.arange(6).reshape(2, 3) % 2 == 0, slice(1, 3)),
        (np.arange(6).reshape(2, 3) % 2 == 0, 3),
    ],
    ids=str,
)
def test_masks_stand_for_the_indices_of_their_true_elements(key, device):
    if device.startswith("strict"):
        pytest.skip("shapes do not depend on values there")
    values = np.arange(24, dtype="float32").reshape(2, 3, 4)
    mine = tuple(tinytorch.asarray(k, device=device) if isinstance(k, list | np.ndarray) else k for k in key)
    x = Tensor(values, device=device, requires_grad=True)
    part = x[mine]
    assert np.array_equal(part.detach().numpy(), values[key])
    part.sum().backward()
    expected = np.zeros_like(values)
    expected[key] = 1
    assert np.array_equal(x.grad.numpy(), expected)
    written, expected = Tensor(values, device=device), values.copy()
    written[mine] = part.detach() * 2 + 1
    expected[key] = values[key] * 2 + 1
    assert np.array_equal(written.numpy(), expected)


def test_assignment_leaves_views_and_graphs_their_values(device):
    x = Tensor([1.0, 2.0, 3.0], device=device)
    w = Tensor([1.0, 1.0, 1.0], device=device, requires_grad=True)
    views = [x[:2], x.reshape(3, 1), x.detach(), x.T if x.ndim == 2 else x.flatten()]
    before = [v.tolist() for v in views]
    loss = (w * x).sum()
    x[0] = 100.0
    assert [v.tolist() for v in views] == before
    loss.backward()
    assert w.grad.tolist() == [1.0, 2.0, 3.0]
    assert x.tolist() == [100.0, 2.0, 3.0]


def test_a_slice_is_not_written_into(device):
    x = tinytorch.zeros((2, 3), device=device)
    with pytest.raises(RuntimeError, match=r"x\[i, j\] = value instead of x\[i\]\[j\] = value"):
        x[0][1] = 5.0
    for part in (x[:, 1:], x[...], next(iter(x))):
        with pytest.raises(RuntimeError, match=r"was detached or sliced from another tensor.*write into x\.copy\(\)"):
            part[0] = 5.0
    x[0, 1] = 5.0
    x[1] += 1.0
    x[:, 2] *= 3.0
    assert x.tolist() == [[0.0, 5.0, 0.0], [1.0, 1.0, 3.0]]
    row, picked = x[1].copy(), x[Tensor([1], device=device)]
    row[0] = picked[0, 0] = 9.0
    assert (row.tolist(), picked.tolist(), x[1].tolist()) == ([9.0, 1.0, 3.0], [[9.0, 1.0, 3.0]], [1.0, 1.0, 3.0])


def test_assignment_to_a_leaf_without_recording(device):
    w = Tensor([1.0, 2.0], device=device, requires_grad=True)
    y = (w * w).sum()
    with tinytorch.no_grad():
        w[0] = 10.0
    y.backward()
    assert (w.tolist(), w.grad.tolist(), w.is_leaf, w.requires_grad) == ([10.0, 2.0], [2.0, 4.0], True, True)


@pytest.mark.parametrize(
    ("make", "given", "error", "message"),
    [
        ("leaf", lambda: (0, 1.0), RuntimeError, r"x is a leaf that requires a gradient.*under tinytorch\.no_grad\(\)"),
        ("leaf", lambda: ([0, 1], 1.0), RuntimeError, r"or write x = tinytorch\.where\(mask, value, x\)"),
        ("plain", lambda: (Tensor([0.5]), 1.0), IndexError, "an index tensor holds integers or booleans, not float32"),
        ("plain", lambda: (Tensor([0, 3]), 1.0), IndexError, r"3 is outside \[0, 3\)"),
        ("plain", lambda: (Tensor([True, False, True]), Tensor([1.0, 2.0, 3.0])), ValueError, "broadcast"),
        ("plain", lambda: (Tensor([True, False]), 1.0), IndexError, r"mask of shape \(2,\) does not fit shape \(3,\)"),
        ("plain", lambda: (3, 1.0), IndexError, "index 3 is outside axis 0 of length 3"),
        ("plain", lambda: ((0, 0), 1.0), IndexError, "2 indices .* for 1 dimensions"),
        ("plain", lambda: ("a", 1.0), IndexError, "an index is an integer, a slice"),
        ("plain", lambda: (True, 1.0), IndexError, "an index is not a bool"),
        ("plain", lambda: (slice(0, 2), Tensor([1.0, 2.0, 3.0])), ValueError, "setitem"),
        ("plain", lambda: (0, [1.0]), TypeError, "value is a Tensor or a Python number, not list"),
        ("plain", lambda: (0, Tensor(1)), TypeError, "takes dtypes of one kind"),
        ("integer", lambda: (0, 1.5), TypeError, r"the float 1\.5 does not go with int64"),
    ],
    ids=range(14),
)
def test_assignment_refused(make, given, error, message):
    x = {
        "leaf": lambda: Tensor([1.0, 2.0, 3.0], requires_grad=True),
        "result": lambda: Tensor([1.0, 2.0, 3.0], requires_grad=True) * 1,
        "plain": lambda: Tensor([1.0, 2.0, 3.0]),
        "integer": lambda: Tensor([1, 2, 3]),
    }[make]()
    key, value = given()
    with pytest.raises(error, match=message):
        x[key] = value
    assert x.tolist() == [1, 2, 3]


def test_assignment_from_another_device_is_refused(other):
    x = Tensor([1.0, 2.0], device="cpu")
    with pytest.raises(ValueError, match="are on different devices"):
        x[0] = Tensor(5.0, device=other)
    assert x.tolist() == [1.0, 2.0]


def test_assignment_to_a_result_is_refused_without_recording():
    y = Tensor([1.0], requires_grad=True) * 1
    with tinytorch.no_grad(), pytest.raises(RuntimeError, match="x is part of a graph, and this would not be recorded"):
        y[0] = 5.0


@pytest.mark.parametrize(
    ("key", "of_x", "of_value"),
    [
        (lambda: slice(1, 3), [2.0, 0.0, 0.0, 2.0], [2.0, 3.0]),
        (lambda: [1, 2], [2.0, 0.0, 0.0, 2.0], [2.0, 3.0]),
        (lambda: [2, 2], [2.0, 4.0, 0.0, 2.0], [0.0, 3.0]),  # the last one stays
        (lambda: [False, True, True, False], [2.0, 0.0, 0.0, 2.0], [2.0, 3.0]),
    ],
    ids=["slice", "integers", "twice", "mask"],
)
def test_assignment_is_recorded(key, of_x, of_value):
    w = Tensor([1.0, 1.0, 1.0, 1.0], requires_grad=True)
    value = Tensor([5.0, 6.0], requires_grad=True)
    x = w * 2
    x[key()] = value
    weights = Tensor([1.0, 2.0, 3.0, 1.0])
    (x * weights).sum().backward()
    assert w.grad.tolist() == of_x
    assert value.grad.tolist() == of_value


def test_a_plain_tensor_joins_the_graph_of_what_is_assigned_to_it():
    x, w = Tensor([1.0, 2.0]), Tensor(3.0, requires_grad=True)
    square = x * x
    x[0] = w
    assert (x.requires_grad, x.is_leaf, square.requires_grad) == (True, False, False)
    x.sum().backward()
    assert w.grad.item() == 1.0


def test_assignment_at_integer_tensors(device):
    x = tinytorch.zeros((2, 3), device=device)
    x[Tensor([0, 1], device=device), Tensor([2, -3], device=device)] = Tensor([1.0, 2.0], device=device)
    x[Tensor([1], device=device)] += 0.5
    assert x.tolist() == [[0.0, 0.0, 1.0], [2.5, 0.5, 0.5]]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (lambda: 2, "index 2 is outside axis 0 of length 2"),
        (lambda: (0, 3), "index 3 is outside axis 1 of length 3"),
        (lambda: (0, 0, 0, 0), "4 indices and 0 '...' for 3 dimensions"),
        (lambda: (..., ...), "0 indices and 2 '...'"),
        (lambda: 1.0, r"not float \(1\.0\)"),
        (lambda: True, "for a new axis write None"),
        (lambda: Tensor([0.5]), "holds integers or booleans, not float32"),
        (lambda: Tensor([True]), r"mask of shape \(1,\) does not fit shape \(2, 3, 4\)"),
        (lambda: Tensor([2]), r"2 is outside \[0, 2\)"),
        (lambda: (slice(None), Tensor([0]), Tensor([0])), "index in two steps"),
        (lambda: (Tensor(True), 0), "a mask without axes stands alone"),
        (lambda: (..., Tensor([True, False])), r"mask of shape \(2,\) does not fit shape \(2, 3, 4\) at axis 2"),
    ],
    ids=range(12),
)
def test_indexing_refused(key, message):
    with pytest.raises(IndexError, match=message):
        tinytorch.zeros((2, 3, 4))[key()]


# Moving -----------------------------------------------------------------------------------------------------------


def test_to_gives_itself_where_nothing_changes(device):
    x = Tensor([1.0], device=device)
    for y in (x.to(device), x.to(x.device), x.to("float32"), x.to(tinytorch.float32, device), x.to_device(device)):
        assert y is x


def test_to_takes_a_device_and_a_dtype_in_any_order(device):
    x = Tensor([1.5, -2.0], device="cpu")
    for y in (
        x.to(device, "int32"),
        x.to("int32", device),
        x.to(device=device, dtype="int32"),
        x.to(device, dtype=tinytorch.int32),
    ):
        assert (y.tolist(), y.dtype, y.device.name) == ([1, -2], tinytorch.int32, device)


@pytest.mark.parametrize("args", [("cpu", "strict"), ("int32", "int8"), ("cpu", "int8", "int8")], ids=str)
def test_to_takes_one_of_each(args):
    with pytest.raises(TypeError, match="to: takes one device and one dtype"):
        Tensor([1.0]).to(*args)


def test_moving_comes_back(other):
    x = tensor(FLOATS, "cpu")
    there = x.to(other)
    assert there.device.name == other
    assert_close(there.cpu(), x)
    assert_close(there.to_device("cpu"), x)
    with pytest.raises(ValueError, match=r"used as `with device\.stream\(\):`"):
        x.to_device(other, stream=1)


def test_astype_converts_and_moves(other):
    x = tensor(FLOATS, "cpu")
    for device, there in ((other, other), ("cpu", "cpu"), (None, "cpu")):
        found = x.astype("float64", device=device)
        assert (found.device.name, found.dtype.name, found.tolist()) == (there, "float64", x.tolist())


def test_cuda_is_a_cuda_device_or_says_why_there_is_none():
    x = Tensor([1.0], device="cpu")
    if any(d.library == "cupy" for d in backends.usable_devices()):
        assert (x.cuda(0).device.name, x.cuda().device.library, x.cuda().tolist()) == ("cuda:0", "cupy", [1.0])
        layer = tinytorch.Linear(1, 1)
        assert layer.cuda(0).weight.device.name == layer.cuda().bias.device.name == "cuda:0"
        assert layer.cpu().weight.device.name == "cpu"
    else:
        for move in (x.cuda, lambda: x.cuda(0), tinytorch.Linear(1, 1).cuda):
            with pytest.raises(tinytorch.Unavailable, match="CuPy"):
                move()


# Copies -----------------------------------------------------------------------------------------------------------


def test_deepcopy_of_a_leaf(device):
    w = Parameter([1.0, 2.0], device=device)
    w.name, w.grad = "w", Tensor([5.0, 6.0], device=device)
    same = copy.deepcopy({"a": w, "b": w})
    c = same["a"]
    assert same["b"] is c
    assert (type(c), c.name, c.requires_grad, c.device) == (Parameter, "w", True, w.device)
    assert (c.tolist(), c.grad.tolist()) == ([1.0, 2.0], [5.0, 6.0])
    c.grad[0] = 0.0
    c.data = tinytorch.zeros_like(c)
    assert (w.tolist(), w.grad.tolist()) == ([1.0, 2.0], [5.0, 6.0])


def test_deepcopy_of_a_result_is_refused():
    with pytest.raises(RuntimeError, match="only leaves can be copied"):
        copy.deepcopy(Tensor([1.0], requires_grad=True) * 2)


def test_a_copied_model_trains_apart(device):
    model = tinytorch.Linear(2, 1, device=device)
    twin = copy.deepcopy(model)
    before = model.state_dict()
    optimizer = tinytorch.SGD(twin.parameters(), lr=1.0)
    twin(tinytorch.ones((1, 2), device=device)).sum().backward()
    optimizer.step()
    assert_close(model.state_dict(), before)
    assert twin.weight.tolist() != model.weight.tolist()
    assert model.weight.grad is None


def test_tensors_are_not_pickled():
    for x in (Tensor([1.0]), tinytorch.Linear(1, 1), Parameter([1.0])):
        with pytest.raises(TypeError, match=r"is not pickled, which would run code on loading; save model\.state_dict"):
            pickle.dumps(x)


def test_the_namespace_of_a_tensor_is_tinytorch():
    x = Tensor([1.0])
    assert x.__array_namespace__() is tinytorch
    assert x.__array_namespace__(api_version="2024.12") is tinytorch
    with pytest.raises(ValueError, match=r"api_version is one of 2021\.12, .*2024\.12, not '1999\.12'"):
        x.__array_namespace__(api_version="1999.12")


def test_methods_are_the_functions_of_that_name(device):
    x = tensor(FLOATS, device)
    assert_close(x.reshape(3, 2), x.reshape((3, 2)))
    assert_close(x.permute_dims(1, 0), x.permute_dims((1, 0)))
    assert_close(x.sum(axis=1), tensor(FLOATS.sum(axis=1), device))
    assert_close(x.exp().log(), x, rtol=1e-5, atol=1e-6)
    assert x.argmax(axis=1).tolist() == FLOATS.argmax(axis=1).tolist()
    with pytest.raises(ValueError, match=r"a matrix has two dimensions, not 1; use x\.mT"):
        _ = x[0].T


def test_a_host_tensor_without_a_gradient_is_an_array_where_numpy_asks_for_one():
    x = Tensor([1.0, 2.0])
    assert np.asarray(x).tolist() == [1.0, 2.0]
    assert np.array(x, dtype="float64").dtype == "float64"
    np.asarray(x)[0] = 5.0  # a copy: tensors are not written into
    assert x.tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match="the values are copied"):
        np.asarray(x, copy=False)
    for ask in (np.asarray, np.array, lambda w: np.stack([w])):
        with pytest.raises(TypeError, match=r"requires a gradient, which would be lost; use x\.detach\(\)\.numpy\(\)"):
            ask(Tensor([1.0], requires_grad=True))
    with pytest.raises(TypeError, match=r"multiply: x1 is a Tensor or a Python number, not numpy\.ndarray"):
        np.ones(2) * x


@pytest.mark.parametrize("memory", [None, (2, 0)], ids=str)
def test_a_tensor_of_another_memory_is_no_array_unasked(memory, monkeypatch):
    monkeypatch.setattr(CpuDevice, "memory", memory)
    with pytest.raises(TypeError, match=r"on cpu; copy it to the host: x\.cpu\(\)\.numpy\(\)"):
        np.asarray(Tensor([1.0]))


@pytest.mark.parametrize("counts", [2, [2], [2, 2, 2]])
def test_repeats_as_a_tensor(counts, device):
    x = Tensor([1.0, 2.0, 3.0], device=device)
    assert tinytorch.repeat(x, tinytorch.asarray(counts, device=device)).tolist() == [1.0, 1.0, 2.0, 2.0, 3.0, 3.0]


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "bool"])
def test_as_an_array_it_keeps_its_dtype_or_has_the_one_asked_for(dtype):
    x = Tensor([0, 1], dtype=dtype)
    assert np.asarray(x).dtype == dtype
    assert np.asarray(x, dtype="int64").dtype == x.__array__(dtype="int64").dtype == "int64"


def test_a_list_of_which_no_index_can_be_made():
    with pytest.raises(IndexError, match=r"or a list of integers, not \['a'\]"):
        Tensor([1.0, 2.0])[["a"]]


def test_the_tensor_that_is_no_parameter_is_the_one_to_move(other):
    w, x = Parameter([1.0], device="cpu"), Tensor([1.0], device=other)
    w.name = "weight"
    with pytest.raises(ValueError, match=rf"move the second one with \.to\('cpu'\), or the model with .*'{other}'"):
        w * x
    with pytest.raises(ValueError, match=rf"move the first one with \.to\('cpu'\), or the model with .*'{other}'"):
        x * w
    v = Parameter([1.0], device=other)
    v.name = "bias"
    with pytest.raises(ValueError, match=r"move the second one with \.to\('cpu'\)$"):
        w * v


@pytest.mark.parametrize("kind", ["real floating", "integral"])
def test_a_dtype_of_a_library_that_numpy_does_not_know(kind):
    half = SimpleNamespace(name="float8")
    library = SimpleNamespace(
        dtype_of=lambda array: half, xp=SimpleNamespace(isdtype=lambda dtype, kinds: kinds == kind)
    )
    array = SimpleNamespace(dtype=half)
    if kind == "real floating":
        expect_dtype(library, array, np.dtype("float32"))
    with pytest.raises(TypeError, match="Tensor: there is no dtype float8; there are") as caught:
        expect_dtype(library, array, None if kind == "real floating" else np.dtype("float32"))
    assert ("dtype=tinytorch.float32) converts it" in str(caught.value)) == (kind == "real floating")
