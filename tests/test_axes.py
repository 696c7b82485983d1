"""Axes, shapes and slices at their edges: what is nonsense is refused, and all else the same, on every device."""

from __future__ import annotations

import numpy as np
import pytest

import tinytorch
from tinytorch import Tensor

ONE_AXIS = {
    "argmax": tinytorch.argmax,
    "argmin": tinytorch.argmin,
    "argsort": tinytorch.argsort,
    "concat": lambda x, axis: tinytorch.concat([x, x], axis=axis),
    "cumulative_prod": tinytorch.cumulative_prod,
    "cumulative_sum": tinytorch.cumulative_sum,
    "diff": lambda x, axis: tinytorch.diff(x, axis=axis),
    "log_softmax": tinytorch.log_softmax,
    "repeat": lambda x, axis: tinytorch.repeat(x, 2, axis=axis),
    "softmax": tinytorch.softmax,
    "sort": tinytorch.sort,
    "split": lambda x, axis: tinytorch.split(x, 1, axis=axis),
    "take": lambda x, axis: tinytorch.take(x, Tensor([0], device=x.device), axis=axis),
    "take_along_axis": lambda x, axis: tinytorch.take_along_axis(x, tinytorch.argsort(x), axis=axis),
    "unstack": lambda x, axis: tinytorch.unstack(x, axis=axis),
}
NEW_AXIS = {
    "expand_dims": tinytorch.expand_dims,
    "stack": lambda x, axis: tinytorch.stack([x, x], axis=axis),
}
AXES = {
    "all": tinytorch.all,
    "any": tinytorch.any,
    "count_nonzero": tinytorch.count_nonzero,
    "flip": lambda x, axis: tinytorch.flip(x, axis=axis),
    "logsumexp": tinytorch.logsumexp,
    "max": tinytorch.max,
    "mean": tinytorch.mean,
    "min": tinytorch.min,
    "prod": tinytorch.prod,
    "roll": lambda x, axis: tinytorch.roll(x, 1, axis=axis),
    "squeeze": tinytorch.squeeze,
    "std": tinytorch.std,
    "sum": tinytorch.sum,
    "tensordot": lambda x, axis: tinytorch.tensordot(x, x, axes=(axis, axis)),
    "var": tinytorch.var,
}


def of_one(device):
    return tinytorch.ones((1, 1, 1), device=device)


@pytest.mark.parametrize("name", [*ONE_AXIS, *NEW_AXIS, *AXES])
def test_an_axis_exists_and_is_an_integer(name, device):
    function = {**ONE_AXIS, **NEW_AXIS, **AXES}[name]
    x, ndim = of_one(device), 4 if name in NEW_AXIS else 3
    for axis in (ndim, -ndim - 1, 99):
        with pytest.raises(IndexError, match=f"axis {axis} is outside"):
            function(x, axis=axis)
    for axis in (1.0, "a", (1.0,)):
        with pytest.raises(TypeError):
            function(x, axis=axis)
    for axis in range(-ndim, ndim):
        same = [function(x, axis=a) for a in (axis, np.int64(axis), axis % ndim)]
        for found in same if isinstance(same[0], Tensor) else []:
            assert (found.shape, found.tolist()) == (same[-1].shape, same[-1].tolist())


@pytest.mark.parametrize("name", [*ONE_AXIS, *NEW_AXIS])
def test_one_axis_is_not_several(name, device):
    for axis in ((0,), (0, 1), [0, 1], ()):
        with pytest.raises(TypeError, match=r"takes one axis|axis is an integer"):
            {**ONE_AXIS, **NEW_AXIS}[name](of_one(device), axis=axis)


@pytest.mark.parametrize("name", AXES)
def test_an_axis_comes_once(name, device):
    for axis in ((0, 0), (0, -3), (2, 1, -1), [1, 1]):
        with pytest.raises(ValueError, match="comes twice"):
            AXES[name](of_one(device), axis=axis)
    assert AXES[name](of_one(device), axis=(0, -1)).size == 1
    with pytest.raises(IndexError):
        AXES[name](of_one(device), axis=(0, 3))


@pytest.mark.parametrize("name", [name for name in (*ONE_AXIS, *AXES) if name not in ("tensordot", "take_along_axis")])
def test_a_tensor_without_axes_has_none(name, device):
    for axis in (0, -1):
        with pytest.raises(IndexError, match=f"axis {axis} is outside|no axes|has no axis"):
            {**ONE_AXIS, **AXES}[name](tinytorch.ones((), device=device), axis=axis)


def test_axes_of_permutations(device):
    x = tinytorch.zeros((2, 3), device=device)
    for axes in ((0,), (0, 0), (0, -2), (0, 1, 2), (1.0, 0), ()):
        with pytest.raises((ValueError, IndexError, TypeError), match="permute_dims"):
            tinytorch.permute_dims(x, axes)
    for source, destination in (((0, 0), (0, 1)), ((0, 1), (1, -1)), ((0, 1), 0), (0.0, 1)):
        with pytest.raises((ValueError, TypeError)):
            tinytorch.moveaxis(x, source, destination)
    for first, last in ((1, 0), (0, 2), (-3, 1)):
        with pytest.raises((ValueError, IndexError)):
            tinytorch.flatten(x, first, last)
    assert tinytorch.flatten(x, 1, -1).shape == (2, 3)


def test_triangles_are_of_matrices(device):
    for function in (tinytorch.tril, tinytorch.triu):
        for shape in ((), (4,)):
            with pytest.raises(ValueError, match="a matrix has at least two axes"):
                function(tinytorch.ones(shape, device=device))
        with pytest.raises(TypeError, match="k is an integer, not float"):
            function(tinytorch.ones((2, 2), device=device), k=0.5)
        host = getattr(np, function.__name__)
        for k in (-9, -1, 0, 1, 9):
            found = function(tinytorch.ones((2, 3), device=device), k=k)
            assert found.tolist() == host(np.ones((2, 3)), k=k).tolist()


def test_differences(device):
    x = Tensor([1.0, 4.0, 9.0], device=device)
    for n in (-1, -2):
        with pytest.raises(ValueError, match=f"diff: n is at least 0, not {n}"):
            tinytorch.diff(x, n=n)
    for ends in ({"prepend": x}, {"append": x}):
        with pytest.raises(ValueError, match="diff: n is at least 1, not 0"):
            tinytorch.diff(x, n=0, **ends)
    with pytest.raises(TypeError, match="diff: n is an integer"):
        tinytorch.diff(x, n=1.0)
    for n in range(5):
        assert tinytorch.diff(x, n=n).tolist() == np.diff(np.array([1.0, 4.0, 9.0]), n=n).tolist()
    assert tinytorch.diff(x, prepend=x[:1]).tolist() == [0.0, 3.0, 5.0]


def test_rolling(device):
    x = tinytorch.arange(6, device=device).reshape(2, 3)
    for shift, axis in (((2, 1), 0), ((2, 1), None), ((1,), (0, 1)), ((1, 2), (0,)), ((), 0), ((1, 1), (0, 0))):
        with pytest.raises(ValueError, match="roll"):
            tinytorch.roll(x, shift, axis=axis)
    with pytest.raises(TypeError, match=r"roll.* is an integer"):
        tinytorch.roll(x, 1.5)
    for shift, axis in ((1, None), (-7, None), (1, 0), (1, (0, 1)), ((1, 5), (0, -1)), (np.int64(2), 1)):
        expected = np.roll(np.arange(6).reshape(2, 3), shift, axis)
        assert tinytorch.roll(x, shift, axis=axis).tolist() == expected.tolist()
    y = tinytorch.ones((2, 3), device=device, dtype="float32")
    y.requires_grad = True
    (tinytorch.roll(y, 1, axis=(0, 1)) * x.astype("float32")).sum().backward()
    assert y.grad.tolist() == np.roll(np.arange(6.0).reshape(2, 3), (-1, -1), (0, 1)).tolist()


def test_lengths_are_integers_and_not_negative(device):
    x = tinytorch.ones((2, 3), device=device)
    makes = {
        "zeros": lambda n: tinytorch.zeros(n, device=device),
        "ones": lambda n: tinytorch.ones((1, n), device=device),
        "empty": lambda n: tinytorch.empty([n], device=device),
        "full": lambda n: tinytorch.full(n, 1.0, device=device),
        "rand": lambda n: tinytorch.rand(n, 1, device=device),
        "eye": lambda n: tinytorch.eye(n, device=device),
        "linspace": lambda n: tinytorch.linspace(0, 1, n, device=device),
        "randperm": lambda n: tinytorch.randperm(n, device=device),
        "tile": lambda n: tinytorch.tile(x, (n,)),
        "repeat": lambda n: tinytorch.repeat(x, n),
        "broadcast_to": lambda n: tinytorch.broadcast_to(x, (n, 2, 3)),
        "split": lambda n: tinytorch.split(x, [n, 3 - n], axis=1) if isinstance(n, int) else tinytorch.split(x, n),
    }
    for name, make in makes.items():
        with pytest.raises(ValueError, match=name):
            make(-2)
        for wrong in (1.0, "a", None):
            with pytest.raises(TypeError, match=name):
                make(wrong)
    for shape in (-3, (-2, -3), (2, -2, 3)):
        with pytest.raises(ValueError, match="reshape"):
            tinytorch.reshape(x, shape)
    with pytest.raises(TypeError, match=r"reshape: shape is an integer or a tuple of integers, not tuple"):
        tinytorch.reshape(x, (2.0, 3))
    assert tinytorch.reshape(x, np.int64(6)).shape == (6,)


SLICES = [
    slice(None, None, -1),
    slice(None, None, -2),
    slice(None, None, -9),
    slice(0, 99),
    slice(-99, 99),
    slice(5, 1),
    slice(99, None, -1),
    slice(1, None, -5),
    slice(7, 9),
    slice(-1, -99, -1),
    slice(2, 0, -1),
    slice(0, 0, -1),
    slice(-(2**70), 2**70),
    slice(np.int64(1), None),
]


@pytest.mark.parametrize("length", [0, 1, 2, 5])
@pytest.mark.parametrize("part", SLICES, ids=str)
def test_slices_are_python_s(part, length, device):
    host = np.arange(3 * length, dtype="float32").reshape(length, 3)
    for key in (part, (part, 1), (None, part), (..., part), (part, None, slice(None, None, -1)), (part, 0, None)):
        x = Tensor(host, device=device, requires_grad=True)
        found = x[key]
        assert (found.shape, found.tolist()) == (host[key].shape, host[key].tolist()), key
        if found.size:
            found.sum().backward()
            hit = np.zeros_like(host)
            hit[key] = 1.0
            assert x.grad.tolist() == hit.tolist(), key
        y, expected = Tensor(host, device=device), host.copy()
        y[key] = 7.0
        expected[key] = 7.0
        assert y.tolist() == expected.tolist(), key


def test_slices_without_a_step_or_with_floats_are_refused(device):
    x = tinytorch.ones(3, device=device)
    with pytest.raises(ValueError, match="step cannot be zero"):
        x[::0]
    with pytest.raises(TypeError, match="where a slice starts and stops are integers"):
        x[:2.0]


def test_extremes_of_nothing(device):
    x = tinytorch.zeros((0, 3), device=device)
    for function in (tinytorch.max, tinytorch.min, tinytorch.argmax, tinytorch.argmin):
        for axis in (0, None):
            with pytest.raises(ValueError, match="there are no elements"):
                function(x, axis=axis)
        assert function(x, axis=1).shape == (0,)


@pytest.mark.parametrize("indexing", ["xy", "ij"])
@pytest.mark.parametrize("lengths", [(3,), (3, 2), (2, 3, 4)], ids=str)
def test_grids(lengths, indexing, device):
    found = tinytorch.meshgrid(*(tinytorch.arange(n, device=device) for n in lengths), indexing=indexing)
    expected = np.meshgrid(*map(np.arange, lengths), indexing=indexing)
    assert [x.tolist() for x in found] == [a.tolist() for a in expected]


def test_paired_axes_are_of_one_length(device):
    x, y = tinytorch.ones((2, 3), device=device), tinytorch.ones((4, 3), device=device)
    with pytest.raises(ValueError, match=r"tensordot: paired axes have lengths \[2, 3\] and \[3, 4\]; they must be"):
        tinytorch.tensordot(x, y, axes=((0, 1), (1, 0)))


@pytest.mark.parametrize(("axis", "named", "length"), [(0, 0, 2), (-1, 2, 3), ((1, 0), 0, 2), ((1, 2), 2, 3)])
def test_only_axes_of_length_one_are_taken_away(axis, named, length):
    message = rf"axis {named} has length {length}; only axes of length 1 can be taken away$"
    with pytest.raises(ValueError, match=message):
        tinytorch.squeeze(tinytorch.zeros((2, 1, 3)), axis=axis)
