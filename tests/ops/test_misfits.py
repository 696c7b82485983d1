"""Shapes that do not fit are refused in the library's own words: the same ones, and the same class, on every device."""

from __future__ import annotations

import inspect
import re

import pytest

import tinytorch
from tinytorch import Tensor, autograd

T = tinytorch


class Maker:
    """Tensors of ones on a device."""

    def __init__(self, device):
        self.device = device

    def __call__(self, *shape, dtype="float32"):
        return T.ones(shape, dtype=dtype, device=self.device)

    def integers(self, *values):
        return T.asarray(list(values), device=self.device)


APART = r"\(2, 3\) and \(4,\) do not broadcast: along axis -1 the lengths are 3 and 4, and neither is 1; x\[:, None\]"


def _elementwise():
    """Each op of elements that takes several tensors, with the dtype that it takes."""
    for name, op in autograd.OPS.items():
        places = [p for p in op.__signature__.parameters.values() if p.kind is inspect.Parameter.POSITIONAL_ONLY]
        if op.body.__module__ == "tinytorch.ops.elementwise" and len(places) > 1:
            dtype = "bool" if name.startswith("logical") else "int32" if name.startswith("bitwise") else "float32"
            yield pytest.param(op, [p.name for p in places], dtype, id=name)


def test_there_are_such_ops():
    assert {"add", "where", "clip", "pow", "less", "atan2"} <= {p.id for p in _elementwise()}


@pytest.mark.parametrize(("op", "places", "dtype"), list(_elementwise()))
def test_shapes_that_do_not_broadcast(op, places, dtype, device):
    x = Maker(device)
    for wrong in range(1, len(places)):
        inputs = [
            x(*(4,) if i == wrong else (2, 3), dtype="bool" if place == "condition" else dtype)
            for i, place in enumerate(places)
        ]
        with pytest.raises(ValueError, match=APART) as caught:
            op(*inputs)
        assert type(caught.value) is ValueError
        assert f"{dtype} (4,) on {device}" in str(caught.value)  # what was given


CALLS = {
    "x += y": (lambda x: x(2, 3).__iadd__(x(4)), APART),
    "broadcast_arrays": (lambda x: T.broadcast_arrays(x(2, 3), x(4)), f"^broadcast_arrays: {APART}"),
    "vecdot": (
        lambda x: T.vecdot(x(2, 3), x(4, 3)),
        r"^vecdot: .*\(2, 3\) and \(4, 3\) do not broadcast: along axis -2",
    ),
    "matmul": (
        lambda x: x(2, 3) @ x(4, 2),
        r": axis -1 of x1 has length 3 and axis -2 of x2 4, which must be the same; matmul takes",
    ),
    "matmul, turned": (lambda x: x(2, 3) @ x(4, 3), r"axis -2 of x2 4, which must be the same; x2\.mT fits; matmul"),
    "matmul, turned first": (lambda x: x(4, 3) @ x(4, 2), r"x1 has length 3 .* x2 4, .*; x1\.mT fits; matmul"),
    "matmul, vectors": (lambda x: x(3) @ x(4), r"axis -1 of x1 has length 3 and axis -1 of x2 4, which must be"),
    "matmul, leading": (
        lambda x: x(2, 2, 3) @ x(3, 3, 2),
        r"\(2, 2, 3\) and \(3, 3, 2\) do not broadcast: along axis -3 the lengths are 2 and 3",
    ),
    "matmul, number": (lambda x: x() @ x(3), r"x1 has no axes; write x1 \* x2; matmul takes"),
    "concat": (
        lambda x: T.concat([x(2, 3), x(2, 4)]),
        r": along axis 1 arrays\[0\] has length 3 and arrays\[1\] 4; all axes but axis 0 must .*; axis=1 joins these",
    ),
    "concat, axes": (
        lambda x: T.concat([x(2, 3), x(3)]),
        r": arrays\[1\] has 1 axes and arrays\[0\] 2; x\[None\] is x with one more$",
    ),
    "concat, nothing": (
        lambda x: T.concat([x(2, 3), x(0)]),  # which PyTorch leaves out
        r": arrays\[1\] has 1 axes and arrays\[0\] 2; x\[None\] is x with one more$",
    ),
    "searchsorted": (
        lambda x: T.searchsorted(x(3), x(3), side="up"),
        r"^searchsorted: side is 'left' or 'right', not 'up'$",
    ),
    "stack": (lambda x: T.stack([x(2), x(3)]), r"^stack: takes tensors of one shape, not \[\(2,\), \(3,\)\]$"),
    "diff": (lambda x: T.diff(x(2, 3), prepend=x(5, 1)), r"^diff: .*along axis 0 arrays\[0\] has length 5 and"),
    "reshape": (lambda x: x(2, 3).reshape(4, 2), r": 6 elements do not make \(4, 2\), which has 8; -1 in place of"),
    "reshape, -1": (lambda x: x(2, 3).reshape(4, -1), r": 6 elements are not a multiple of the 4 that \(4, -1\) asks"),
    "reshape, -1 twice": (
        lambda x: x(2, 3).reshape(-1, -1),
        r": only one length may be -1, for the elements left over",
    ),
    "reshape, 0 and -1": (
        lambda x: x(0, 3).reshape(0, -1),
        r": with a length of 0 in \(0, -1\) the length -1 could be",
    ),
    "broadcast_to": (
        lambda x: T.broadcast_to(x(2, 3), (4, 3)),
        r": \(2, 3\) does not broadcast to \(4, 3\): along axis -2 the length is 2, not 4 or 1$",
    ),
    "broadcast_to, axes": (
        lambda x: T.broadcast_to(x(2, 3), (3,)),
        r": \(2, 3\) has more axes than \(3,\); x\.reshape",
    ),
    "take_along_axis": (
        lambda x: T.take_along_axis(x(2, 3), x.integers([0], [0], [0]), axis=1),
        r"\(2, 1\) and \(3, 1\) do not broadcast: along axis -2 the lengths are 2 and 3",
    ),
    "take_along_axis, axes": (
        lambda x: T.take_along_axis(x(2, 3), x.integers(0), axis=1),
        r": x has 2 axes and the indices 1, which must be as many$",
    ),
    "x[0] = y": (
        lambda x: x(2, 3).__setitem__(0, x(4)),
        r"the value \(4,\) does not broadcast to \(3,\): along axis -1",
    ),
    "x[::2] = y": (
        lambda x: x(4, 3).__setitem__(slice(None, None, 2), x(4, 3)),
        r"the value \(4, 3\) does not broadcast to \(2, 3\): along axis -2 the length is 4, not 2 or 1$",
    ),
    "x[i] = y": (
        lambda x: x(2, 3).__setitem__(x.integers(0, 1), x(4)),
        r"^setitem: the value \(4,\) does not broadcast to \(2, 3\): along axis -1",
    ),
    "x[:, i] = y": (
        lambda x: x(2, 3).__setitem__((slice(None), x.integers(0, 1)), x(4)),
        r"^setitem: the value \(4,\) does not broadcast to \(2, 2\): along axis -1",
    ),
    "put": (
        lambda x: T.ops.put(x(3), x.integers(0, 1), x(5)),
        r"^put: the values \(5,\) does not broadcast to \(2,\): along axis -1 the length is 5, not 2 or 1$",
    ),
    "add_parts": (
        lambda x: T.ops.add_parts([x(2)], [(slice(0, 3),)], (4,)),
        r"^add_parts: the part of shape \(2,\) belongs at a key of shape \(3,\)$",
    ),
    "attention, features": (
        lambda x: T.scaled_dot_product_attention(x(2, 3), x(2, 4), x(2, 4)),
        r"the query has 3 features and the key 4, which must be the same; scaled_dot_product_attention takes",
    ),
    "attention, keys": (
        lambda x: T.scaled_dot_product_attention(x(2, 3), x(2, 3), x(5, 3)),
        r"there are 2 keys and 5 values, which must be as many; scaled_dot_product_attention takes",
    ),
    "attention, axes": (
        lambda x: T.scaled_dot_product_attention(x(3), x(2, 3), x(2, 3)),
        r"the query has at least two axes, not 1; scaled_dot_product_attention takes",
    ),
    "attention_weights": (
        lambda x: T.attention_weights(x(2, 2, 3), x(3, 2, 3)),
        r"\(2, 2, 3\) and \(3, 2, 3\) do not broadcast: along axis -3 the lengths are 2 and 3",
    ),
    "multi_head_attention": (
        lambda x: T.multi_head_attention(x(1, 2, 4), x(1, 2, 4), x(1, 3, 4), num_heads=2),
        r"there are 2 keys and 3 values, which must be as many; multi_head_attention takes",
    ),
    "nonzero": (
        lambda x: T.nonzero(x()),
        r"^nonzero: a tensor without axes has no indices; write x\.reshape\(\(1,\)\)$",
    ),
}


@pytest.mark.parametrize(("call", "message"), CALLS.values(), ids=CALLS)
def test_other_shapes_that_do_not_fit(call, message, device):
    with pytest.raises(ValueError, match=message) as caught:
        call(Maker(device))
    assert type(caught.value) is ValueError


def test_indices_that_do_not_broadcast(device):
    x = Maker(device)
    i, j = x.integers(0, 1), x.integers(0, 1, 2)
    for call in (lambda: x(2, 3)[i, j], lambda: x(2, 3).__setitem__((i, j), 0.0)):
        with pytest.raises(
            IndexError, match=r"^getitem: integer tensors of shapes \(2,\) and \(3,\) do not broadcast: "
        ):
            call()


def test_where_the_lower_bound_is_above_the_upper_one_the_upper_is_the_result(device):
    x = T.asarray([0.0, 1.5, 3.0], device=device).requires_grad_()
    y = T.clip(x, 2.0, 1.0)
    assert y.tolist() == [1.0, 1.0, 1.0]
    low, high = T.asarray([2.0, 0.0, 0.0], device=device), T.asarray([1.0, 1.0, 5.0], device=device)
    assert T.clip(x, low, high).tolist() == [1.0, 1.0, 3.0]


def test_what_depends_on_values_is_refused_in_words(strict):
    x = T.ones((2,), device=strict("device1"))
    for name in ("nonzero", "unique_values", "unique_all"):
        with pytest.raises(
            RuntimeError, match=rf"^{name}: the shape of the result depends on values, .*; use x\.cpu\(\)"
        ):
            getattr(T, name)(x)


TOO_MANY = {
    "zeros": lambda d: T.zeros((10**9, 10**9, 10**9), device=d),
    "eye": lambda d: T.eye(10**12, device=d),
    "arange": lambda d: T.arange(0.0, 1e30, device=d),
    "arange, infinite": lambda d: T.arange(-1e308, 1e308, 1.0, device=d),
    "linspace": lambda d: T.linspace(0, 1, 10**19, device=d),
    "rand": lambda d: T.rand(10**9, 10**9, 10**9, device=d),
    "broadcast_to": lambda d: T.broadcast_to(T.zeros(1, device=d), (10**9, 10**9, 10**9)),
    "repeat": lambda d: T.repeat(T.zeros(2, device=d), 10**20),
    "pad": lambda d: T.pad(T.zeros(2, device=d), 10**20),
    "scatter_add": lambda d: T.ops.scatter_add(T.zeros(2, device=d), T.asarray([0, 1], device=d), 10**20),
}


@pytest.mark.parametrize("call", TOO_MANY.values(), ids=TOO_MANY)
def test_more_elements_than_any_memory_holds(call, device):
    """JAX (0.10) ends the process when it is asked for them."""
    with pytest.raises(ValueError, match="these are more elements than any memory holds"):
        call(device)


def test_an_op_of_the_users_own_keeps_the_words_of_the_library(device):
    @autograd.op
    def refuses(dev, x1, x2, /):
        raise ValueError("in my own words")

    x = Maker(device)
    with pytest.raises(ValueError, match=re.escape(f"on {device}): in my own words")):
        refuses(x(2, 3), x(4))


def test_an_axis_that_is_not_there_comes_first():
    with pytest.raises(IndexError, match="axis 5 is outside"):
        T.concat([Tensor([1.0]), Tensor([[1.0]])], axis=5)


OF_A_WRONG_KIND = {
    "clip": (lambda x: T.clip(2.5, 0.0, x(3)), r"^clip: x is a Tensor, not float \(2\.5\); make it one with"),
    "searchsorted": (
        lambda x: T.searchsorted(x(3), 2.5),
        r"^searchsorted: x2 is a Tensor, not float \(2\.5\); make it",
    ),
    "where": (lambda x: T.where(x(3), 1.0, 2.0), r": the condition must be boolean, not float32; compare, as in where"),
    "mask": (
        lambda x: T.attention_weights(x(2, 3), x(2, 3), x(2, 2, dtype="int64")),
        r": the mask is boolean or float32 as the query, not int64; convert with \.astype",
    ),
}


@pytest.mark.parametrize(("call", "message"), OF_A_WRONG_KIND.values(), ids=OF_A_WRONG_KIND)
def test_arguments_that_one_library_takes_are_refused_on_every_device(call, message, device):
    with pytest.raises(TypeError, match=message):
        call(Maker(device))


@pytest.mark.device(only=["torch"], reason="it has few functions of uint64")
def test_a_function_that_a_library_has_not_for_a_dtype(device):
    x = T.asarray([1, 2], dtype="uint64", device=device)
    for call in (abs, T.sign, lambda x: ~x):
        with pytest.raises(
            NotImplementedError, match=r": the library of the device has no such function of this dtype"
        ):
            call(x)
    with pytest.raises(
        NotImplementedError, match=r"^nonzero: the library of \S+ has no such function of uint64; use x"
    ):
        T.nonzero(x)
