"""The checks themselves: gradcheck finds gradients that are wrong, assert_close says what differs and where."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

import tinytorch
from tinytorch import Tensor
from tinytorch.autograd import op
from tinytorch.testing import GradcheckError, assert_close, gradcheck, gradgradcheck

# gradcheck --------------------------------------------------------------------------------------------------------


def leaf(*values):
    return Tensor(list(values), "float64", requires_grad=True)


def cube(rule):
    """x**3 with the given rule, of dev.xp, x and the gradient."""

    @op
    def _cube(dev, x, /):
        return x * x * x, lambda g: rule(dev.xp, x, g)

    return _cube


def right(xp, x, g):
    return g * x * x * 3.0


WRONG = {
    "sign": lambda xp, x, g: -(g * x * x * 3.0),
    "factor": lambda xp, x, g: g * x * x * 2.0,
    "power": lambda xp, x, g: g * x * 3.0,
    "incoming": lambda xp, x, g: x * x * 3.0,
    "one-element": lambda xp, x, g: xp.where(x > 1.9, g * 0.0, g * x * x * 3.0),
    "swapped": lambda xp, x, g: xp.flip(g * x * x * 3.0),
    "nan": lambda xp, x, g: g * math.nan,
}


def test_a_right_gradient_passes():
    assert gradcheck(cube(right), leaf(1.0, 2.0, -0.5)) is True
    assert gradgradcheck(cube(right), [leaf(1.0, 2.0, -0.5)]) is True


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_wrong_gradient_is_found(wrong):
    with pytest.raises(GradcheckError, match=r"direction of input 0, \(3,\), the result changes by .* gradient says"):
        gradcheck(cube(wrong), leaf(1.0, 2.0, -0.5))


def test_a_missing_gradient_is_found():
    with pytest.raises(GradcheckError, match=r"gradient says 0 \(it is missing\)"):
        gradcheck(lambda x: (x * 1).detach() * 2, leaf(1.0))
    with pytest.raises(GradcheckError, match=r"input 1, \(1,\).*\(it is missing\)"):
        gradcheck(lambda x, y: x * y.detach(), [leaf(1.0), leaf(2.0)])


def test_the_wrong_input_is_named():
    @op
    def _product(dev, x, y, /):
        return x * y, lambda g: g * y, lambda g: g * y

    with pytest.raises(GradcheckError, match="input 1"):
        gradcheck(_product, [leaf(1.0, 2.0), leaf(3.0, 5.0)])


def test_every_output_is_checked():
    assert gradcheck(lambda x: (x * 2, x + 1, x > 0), leaf(1.0, 2.0))
    with pytest.raises(GradcheckError):
        gradcheck(lambda x: (x * 2, cube(WRONG["sign"])(x)), leaf(1.0, 2.0))


def test_a_rule_that_cannot_be_differentiated_is_found():
    held = cube(lambda xp, x, g: g * (x.detach() * x.detach() * 3.0 if isinstance(x, Tensor) else x * x * 3.0))
    assert gradcheck(held, leaf(1.0, 2.0))
    with pytest.raises(GradcheckError):
        gradgradcheck(held, leaf(1.0, 2.0))


def test_inputs_that_require_no_gradient_are_left_alone():
    c = Tensor([1.0, 2.0])  # float32, and an index
    assert gradcheck(lambda x, c, i: x * 2 + c.astype("float64").sum() * i, [leaf(1.0, 2.0), c, 3])
    assert gradgradcheck(lambda x, c: x * x * c.astype("float64"), [leaf(1.0, 2.0), c])


def test_gradcheck_needs_float64():
    with pytest.raises(TypeError, match=r"input 1 is float32; differences need \.astype\(tinytorch\.float64\)"):
        gradcheck(lambda x, y: x * y.astype("float64"), [leaf(1.0), Tensor([1.0], requires_grad=True)])
    with pytest.raises(ValueError, match="no input requires a gradient"):
        gradcheck(lambda x: x, Tensor([1.0], "float64"))


def test_the_inputs_are_as_before():
    x = leaf(1.0, 2.0)
    gradcheck(cube(right), x)
    gradgradcheck(cube(right), x)
    assert (x.tolist(), x.grad) == ([1.0, 2.0], None)
    assert tinytorch.is_grad_enabled()


def test_a_layer_is_checked_with_its_parameters():
    layer = tinytorch.Linear(3, 2, dtype="float64")
    x = tinytorch.randn(4, 3, dtype="float64", requires_grad=True)
    assert gradgradcheck(lambda x, *parameters: layer(x), [x])


# assert_close -----------------------------------------------------------------------------------------------------


def test_what_is_close(device):
    x = Tensor([1.0, 2.0], device=device)
    assert_close(x, x * (1 + 1e-6))
    assert_close(Tensor([1.0], "float64"), Tensor([1.0 + 5e-8], "float64"))
    assert_close(Tensor([1, 2], device=device), Tensor([1, 2], device=device))
    assert_close(np.ones(2), np.ones(2))
    assert_close(1.0, 1.0)
    assert_close(x, x + 1, rtol=0.0, atol=1.0)
    assert_close(x, x * 2, rtol=0.5, atol=0.0)
    assert_close(tinytorch.zeros((0, 3)), tinytorch.zeros((0, 3)))
    assert_close(Tensor([math.inf, -math.inf]), Tensor([math.inf, -math.inf]))


def test_the_default_tolerance_is_that_of_the_dtype():
    with pytest.raises(AssertionError, match=r"1e-07 \+ 1e-07"):
        assert_close(Tensor([1.0], "float64"), Tensor([1.0 + 1e-6], "float64"))
    with pytest.raises(AssertionError, match=r"1e-05 \+ 1\.3e-06"):
        assert_close(Tensor([1.0]), Tensor([1.0001]))
    with pytest.raises(AssertionError, match=r"0 \+ 0 \* \|expected\|; the most at \(1,\): 2 is not 3"):
        assert_close(Tensor([1, 2]), Tensor([1, 3]))
    with pytest.raises(AssertionError, match="True is not False"):
        assert_close(Tensor([True]), Tensor([False]))


@pytest.mark.parametrize(
    ("actual", "expected", "message"),
    [
        (lambda: Tensor([1.0]), lambda: Tensor([[2]]), "dtype float32 is not int64"),
        (lambda: Tensor([1.0]), lambda: Tensor([1.0], "float64"), "dtype float32 is not float64"),
        (lambda: Tensor([1.0]), lambda: Tensor([2.0, 3.0]), r"shape \(1,\) is not \(2,\)"),
        (lambda: Tensor(1.0), lambda: Tensor([1.0]), r"shape \(\) is not \(1,\)"),
    ],
    ids=["dtype-first", "dtype", "shape", "axes"],
)
def test_kind_and_shape_come_before_values(actual, expected, message):
    with pytest.raises(AssertionError, match=message):
        assert_close(actual(), expected())


def test_the_device_comes_before_values(other):
    here, there = Tensor([1.0], device="cpu"), Tensor([2.0], device=other)
    with pytest.raises(AssertionError, match=f"device cpu is not {other}"):
        assert_close(here, there)
    assert_close(here + 1, there, check_device=False)
    assert_close(here + 1, there.cpu())
    assert_close(here + 1, there.numpy())


def test_a_dtype_may_be_left_out():
    assert_close(Tensor([1.0]), Tensor([1]), check_dtype=False)


def test_the_worst_element_has_a_place():
    a, b = np.zeros((2, 3)), np.zeros((2, 3))
    a[0, 1], a[1, 2] = 0.5, -2.0
    with pytest.raises(AssertionError, match=r"2 of 6 elements differ .*; the most at \(1, 2\): -2\.0 is not 0\.0"):
        assert_close(a, b)
    with pytest.raises(AssertionError, match=r"1 of 1 elements differ .*; the most: 1\.0 is not 2\.0"):
        assert_close(1.0, 2.0)


@pytest.mark.parametrize(
    ("actual", "expected", "place"),
    [
        ([1.0, math.nan], [1.0, 2.0], r"\(1,\): nan is not 2\.0"),
        ([1.0, 2.0], [1.0, math.nan], r"\(1,\): 2\.0 is not nan"),
        ([1.0, math.nan], [1.0, math.nan], r"\(1,\): nan is not nan"),
        ([math.inf, 1.0], [math.inf, 2.0], r"\(1,\): 1\.0 is not 2\.0"),
        ([1.0, 5.0], [1.0, math.inf], r"\(1,\): 5\.0 is not inf"),
        ([1.0, math.inf], [3.0, -math.inf], r"\(1,\): inf is not -inf"),
        ([math.nan, 5.0], [1.0, 2.0], r"\(0,\): nan is not 1\.0"),
    ],
    ids=str,
)
def test_numbers_that_are_none(actual, expected, place):
    with pytest.raises(AssertionError, match=place):
        assert_close(np.array(actual), np.array(expected))


def test_nan_is_nan_if_one_says_so():
    assert_close(Tensor([math.nan, 1.0]), Tensor([math.nan, 1.0]), equal_nan=True)
    with pytest.raises(AssertionError):
        assert_close(Tensor([math.nan]), Tensor([1.0]), equal_nan=True)


def test_containers():
    state = {"a": [Tensor([1.0]), (2.0, np.ones(2))], "b": {}}
    assert_close(state, {"a": [Tensor([1.0]), (2.0, np.ones(2))], "b": {}})
    for wrong, message in (
        ({"a": state["a"]}, r"keys \['a'\] are not \['a', 'b'\]"),
        ({"a": state["a"][:1], "b": {}}, "1 items, not 2"),
        ({"a": [Tensor([9.0]), state["a"][1]], "b": {}}, r"9\.0 is not 1\.0"),
        ({"a": 1.0, "b": {}}, "a float is no list"),
        ([state], "a list is no dict"),
    ):
        with pytest.raises(AssertionError, match=message):
            assert_close(wrong, state)


def test_both_tolerances_or_neither():
    for kwargs in ({"rtol": 0.1}, {"atol": 0.1}):
        with pytest.raises(ValueError, match="give both rtol and atol, or neither"):
            assert_close(1.0, 1.0, **kwargs)


def test_importing_tinytorch_is_enough():
    subprocess.run([sys.executable, "-c", "import tinytorch; tinytorch.testing.gradcheck"], check=True)
