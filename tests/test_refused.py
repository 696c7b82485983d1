"""What is refused on paths that few take: the error, and what it says."""

from __future__ import annotations

import asyncio
import re
from types import SimpleNamespace

import numpy as np
import pytest

import tinytorch
from tests.thirdparty import register
from tinytorch import Tensor
from tinytorch.autograd import op
from tinytorch.data import TensorDataset
from tinytorch.intake import expect_dtype
from tinytorch.nn import Module
from tinytorch.verify import Control, controls, run_once, verify

X, M = tinytorch.ones(3), tinytorch.ones((2, 3))

REFUSED = {
    "too many indices": (
        lambda: tinytorch.ops.put(X, (slice(0, 1, 1),) * 2, X),
        IndexError,
        "2 indices for 1 dimensions, or more than one '...'",
    ),
    "two ellipses": (
        lambda: tinytorch.ops.put(M, (..., ...), X),
        IndexError,
        "0 indices for 2 dimensions, or more than one '...'",
    ),
    "an integer outside": (lambda: M[0, 3], IndexError, "index 3 is outside axis 1 of length 3"),
    "an integer below": (lambda: M[-3], IndexError, "index -3 is outside axis 0 of length 2"),
    "an integer beside a tensor": (
        lambda: M[2, Tensor([0, 1])],
        IndexError,
        "index 2 is outside an axis of length 2",
    ),
    "a negative one": (lambda: M[Tensor([0, 1]), -4], IndexError, "index -4 is outside axis 1 of length 3"),
    "take": (
        lambda: tinytorch.take(X, Tensor([[0, 1]])),
        ValueError,
        "take: indices have one dimension, not 2; see x[indices] for more",
    ),
    "einsum of other axes": (
        lambda: tinytorch.einsum("ij->ik", M),
        ValueError,
        "einsum: the result 'ik' must name axes of the operands, each once",
    ),
    "einsum twice": (lambda: tinytorch.einsum("ij->ii", M), ValueError, "einsum: the result 'ii' must name axes"),
    "einsum trace": (
        lambda: tinytorch.einsum("ii->i", M),
        ValueError,
        "einsum: axes 'i' of one operand have lengths 2 and 3",
    ),
    "einsum lengths": (
        lambda: tinytorch.einsum("ij,jk->ik", M, M),
        ValueError,
        "einsum: axis 'j' has lengths 3 and 2",
    ),
    "einsum operands": (lambda: tinytorch.einsum("ij,jk", M), ValueError, "einsum: 'ij,jk' is for 2 operands, not 1"),
    "einsum dimensions": (
        lambda: tinytorch.einsum("ijk->i", M),
        ValueError,
        "einsum: 'ijk' does not fit an operand of 2 dimensions",
    ),
    "stack": (
        lambda: tinytorch.stack([X, M]),
        ValueError,
        "stack: takes tensors of one shape, not [(3,), (2, 3)]",
    ),
    "repeat": (
        lambda: tinytorch.repeat(X, Tensor([1, -2, -1])),
        ValueError,
        "repeat: repeats are not negative: -2",
    ),
    "repeat once": (lambda: tinytorch.repeat(X, -1), ValueError, "repeat: repeats are not negative: -1"),
    "too few repeats": (
        lambda: tinytorch.repeat(M, Tensor([1, 2]), axis=1),
        ValueError,
        "repeat: 2 repeats for 3 elements along axis 1",
    ),
    "no arrays": (lambda: tinytorch.ops.flat_in(), TypeError, "flat_in: takes at least one Tensor, arrays"),
    "an argument left out": (lambda: tinytorch.matmul(X), TypeError, "matmul: missing a required argument: 'x2'"),
    "an argument too many": (lambda: tinytorch.exp(X, 1, 2), TypeError, "exp: 2 positional arguments too many"),
    "two arguments too many": (
        lambda: tinytorch.sum(X, 0, 1, 2),
        TypeError,
        "sum: 2 positional arguments too many",
    ),
    "a mask of another number of sequences": (
        lambda: tinytorch.MultiHeadAttention(4, 2)(
            *[tinytorch.ones((3, 5, 4))] * 3, attn_mask=tinytorch.ones((2, 5, 5))
        ),
        ValueError,
        "MultiHeadAttention: attn_mask (2, 5, 5) for 3 sequences and 2 heads: one for each sequence is (3, 5, 5), for "
        "each head of each (6, 5, 5), and for each head (1, 2, 5, 5), as attn_mask[None] has",
    ),
    "padding of another shape": (
        lambda: tinytorch.MultiHeadAttention(4, 2)(*[tinytorch.ones((3, 5, 4))] * 3, key_padding_mask=X > 0),
        ValueError,
        "MultiHeadAttention: key_padding_mask has shape (N, S), (3, 5), not (3,)",
    ),
    "an argument twice": (lambda: tinytorch.sum(X, 0, axis=0), TypeError, "sum: axis given twice"),
    "a string in a list": (
        lambda: Tensor([[1.0, "a"], [2.0, 3.0]]),
        TypeError,
        "Tensor: data is a number, a nested list of numbers, an array or a Tensor, not a list with str ('a') in it",
    ),
    "an example": (
        lambda: TensorDataset(X).batch([0, -4, 3]),
        IndexError,
        "TensorDataset: -4 is no index of 3 examples",
    ),
    "the end of a data set": (
        lambda: TensorDataset(X).batch([3]),
        IndexError,
        "TensorDataset: 3 is no index of 3 examples",
    ),
    "far behind the end of a data set": (
        lambda: TensorDataset(X).batch([0, 9]),
        IndexError,
        "TensorDataset: 9 is no index of 3 examples",
    ),
    "elements backwards": (
        lambda: X[::-1].__dlpack__(copy=False),
        BufferError,
        "__dlpack__: not without a copy: its elements lie backwards in memory; use x.copy()",
    ),
    "a model in place of its training": (
        lambda: run_once(tinytorch.Linear(1, 1)),
        TypeError,
        "run_once: train is a function, not Linear",
    ),
    "a model in place of what is verified": (
        lambda: verify(tinytorch.Linear(1, 1)),
        TypeError,
        "verify: train is a function, not Linear",
    ),
    "a negative seed": (lambda: verify(print_loss, seeds=[1, -2]), ValueError, "verify: a seed is not negative: -2"),
    "a gate that is not there": (
        lambda: verify(print_loss, controls=[Control("broken", "metric", gradients=print)]),
        ValueError,
        "verify: 'broken' must make the gate 'metric' fail, but there is none: there are finite gradients, fresh ",
    ),
    "labels that are no tensor": (
        lambda: controls.shuffle_labels().batch(([1], [2]), np.random.default_rng(0)),
        TypeError,
        "shuffle_labels: the last entry of a batch is a Tensor of labels",
    ),
    "a label alone": (
        lambda: controls.shuffle_labels().batch((X, Tensor(1)), np.random.default_rng(0)),
        TypeError,
        "shuffle_labels: the last entry of a batch is a Tensor of labels",
    ),
}


def print_loss(run):
    yield tinytorch.ones(1)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_and_what_is_said(name):
    call, error, message = REFUSED[name]
    with pytest.raises(error, match=re.escape(message)) as caught:
        call()
    assert caught.type is error


KINDS = {  # what is of floating dtypes only, and what of integer ones only, by the words of a refusal
    "floating": {
        "rand": lambda dtype: tinytorch.rand(2, dtype=dtype),
        "randn": lambda dtype: tinytorch.randn(2, dtype=dtype),
        "linspace": lambda dtype: tinytorch.linspace(0, 1, 3, dtype=dtype),
        "finfo": tinytorch.finfo,
        "requires_grad": lambda dtype: Tensor([0, 1], dtype=dtype, requires_grad=True),
        "to": lambda dtype: tinytorch.Linear(1, 1).to(dtype),
        "exp": lambda dtype: tinytorch.exp(Tensor([0, 1], dtype=dtype)),
        "normal_": lambda dtype: tinytorch.nn.init.normal_(Tensor([0, 1], dtype=dtype)),
        "dropout": lambda dtype: tinytorch.Dropout(0.5)(Tensor([0, 1], dtype=dtype)),
    },
    "integer": {
        "iinfo": tinytorch.iinfo,
        "randint": lambda dtype: tinytorch.randint(2, (2,), dtype=dtype),
        "take": lambda dtype: tinytorch.take(X, Tensor([0, 1], dtype=dtype)),
        "embedding": lambda dtype: tinytorch.embedding(Tensor([0, 1], dtype=dtype), M),
        "scatter_add": lambda dtype: tinytorch.ops.scatter_add(X[:2], Tensor([0, 1], dtype=dtype), 2),
        "take_along_axis": lambda dtype: tinytorch.take_along_axis(X, Tensor([0, 1], dtype=dtype)),
        "repeat": lambda dtype: tinytorch.repeat(X[:2], Tensor([0, 1], dtype=dtype)),
    },
}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, calls in KINDS.items() for name in calls])
def test_what_takes_one_kind_of_dtype(kind, name):
    call = KINDS[kind][name]
    right = ["float32", "float64"] if kind == "floating" else ["int8", "int64", "uint8", "uint64"]
    for dtype in right:
        call(dtype)
    for dtype in {"bool", "int8", "int64", "uint8", "uint64", "float32", "float64"} - set(right):
        with pytest.raises(TypeError, match=rf"(?i){name}.*({kind}.*{dtype}|{dtype}.*{kind})"):
            call(dtype)


def test_what_lies_just_inside_is_taken():
    assert M[-2].tolist() == M[1].tolist() == [1.0] * 3
    assert M[0, -3].item() == M[0, 2].item() == 1.0
    assert M[Tensor([0, 1]), -3].shape == M[Tensor([0, 1]), 2].shape == (2,)
    assert M[-2, Tensor([0, -3])].shape == (2,)
    assert TensorDataset(tinytorch.arange(3)).batch([2, -3])[0].tolist() == [2, 0]


class Settingless(Module):
    def forward(self, x):
        return x


def test_a_module_without_settings_takes_none():
    for call in (lambda: Settingless(3), lambda: Settingless(size=3)):
        with pytest.raises(TypeError, match=r"^Settingless: takes no settings; write Settingless\(\), and call that"):
            call()
    assert Settingless()(3) == 3
    assert repr(tinytorch.MultiHeadAttention(4, 2)).startswith("MultiHeadAttention(embed_dim=4, num_heads=2")


# Bodies and rules of ops --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("made", [lambda x: x, lambda x: (x,), lambda x: [x, None]], ids=["array", "alone", "list"])
def test_the_body_of_an_op_returns_a_rule_for_each_array(made):
    @op
    def lacking(dev, x, /):
        return made(x)

    with pytest.raises(TypeError, match=r"^lacking: the body of an op returns its result and a rule, or None, for"):
        lacking(X)


def test_a_gradient_of_another_device_of_the_same_class_is_refused(monkeypatch):
    there = {
        "of": classmethod(lambda cls, array: "third:1"),
        "canonical": classmethod(lambda cls, i: f"third:{i or 0}"),
    }
    first = register(monkeypatch, methods={**there, "memory": None})
    second = tinytorch.device("third:1")
    assert (first.name, second.name) == ("third:0", "third:1")

    @op
    def wandering(dev, x, /):
        return x * 2.0, lambda g: g * 2.0

    x = Tensor([1.0], device=first, requires_grad=True)
    with pytest.raises(
        ValueError, match=r"^wandering: the gradient rule of x gave an array on third:1 for an input on "
    ):
        wandering(x).backward()


@pytest.mark.parametrize("library", ["alien", "zebra"])
def test_a_gradient_of_another_library_is_refused(library, monkeypatch):
    class Array:
        shape, dtype, ndim = (1,), np.dtype("float32"), 1

        def __array__(self, dtype=None, copy=None):
            return np.ones(1, "float32")

    Array.__module__ = f"{library}.arrays"
    register(monkeypatch, methods={"library": library})

    @op
    def foreign(dev, x, /):
        return x * 2.0, lambda g: Array()

    with pytest.raises(
        ValueError, match=r"^foreign: the gradient rule of x gave an array on third for an input on cpu"
    ):
        foreign(Tensor([1.0], requires_grad=True)).backward()


def test_a_freed_graph_is_not_walked_again_for_another_derivative():
    x = Tensor([2.0], requires_grad=True)
    y = x * x
    z = y * 3.0
    z.backward()
    for again in (
        lambda: z.backward(),
        lambda: z.backward(create_graph=True),
        lambda: (y * 2.0).backward(create_graph=True),
        lambda: tinytorch.grad(z, x),
        lambda: tinytorch.grad(z, x, create_graph=True),
    ):
        with pytest.raises(RuntimeError, match="this part of the graph was freed by an earlier backward"):
            again()
    assert x.grad.tolist() == [12.0]


def test_a_leaf_keeps_no_gradient_that_somebody_else_has():
    for create_graph in (False, True):
        x, g = Tensor([1.0, 2.0], requires_grad=True), Tensor([3.0, 4.0])
        x.backward(g, create_graph=create_graph)
        assert x.grad is not g
        g[0] = 9.0
        assert x.grad.tolist() == [3.0, 4.0]
        x.backward(g, create_graph=create_graph)
        assert x.grad.tolist() == [12.0, 8.0]


def test_an_async_generator_is_thrown_what_its_caller_throws():
    caught = []

    @tinytorch.no_grad()
    async def steps():
        for _ in range(2):
            try:
                yield tinytorch.is_grad_enabled()
            except KeyError as error:
                caught.append((str(error), tinytorch.is_grad_enabled()))

    async def main():
        made = steps()
        assert await anext(made) is False
        assert await made.athrow(KeyError("a")) is False
        assert tinytorch.is_grad_enabled()
        with pytest.raises(ZeroDivisionError):
            await made.athrow(ZeroDivisionError())
        with pytest.raises(StopAsyncIteration):
            await anext(made)
        closed = steps()
        await anext(closed)
        await closed.aclose()
        assert tinytorch.is_grad_enabled()

    asyncio.run(main())
    assert caught == [("'a'", False)]


# Arrays and devices of somebody else's ------------------------------------------------------------------------------


class Foreign:
    """An array of NumPy's that is none of its own class."""

    __module__ = "numpy.foreign"
    dtype, shape = np.dtype("float32"), (2,)

    def __array__(self, dtype=None, copy=None):
        return np.asarray([1.0, 2.0], "float32")


def test_an_array_that_a_device_holds_is_asked_for_by_that_device(other):
    for make in (tinytorch.asarray, Tensor):
        assert (make(Foreign()).tolist(), make(Foreign()).device.name) == ([1.0, 2.0], "cpu")
        assert make(Foreign(), device=other).device.name == other
        with tinytorch.device(other):
            assert make(Foreign()).device.name == "cpu"  # where it is
    with pytest.raises(ValueError, match=r"asarray: from float32 on cpu to float64 on cpu is not without a copy"):
        tinytorch.asarray(Foreign(), dtype="float64", copy=False)


def array_of(dtype):
    return SimpleNamespace(dtype=dtype)


def test_a_dtype_that_a_library_has_and_a_device_not():
    def unknown(array):
        raise TypeError("no such dtype")

    floating = SimpleNamespace(isdtype=lambda dtype, kind: dtype == "wide" and kind == "real floating")
    odd, wide, other = SimpleNamespace(dtype_of=unknown, xp=floating), *map(array_of, ("wide", "other"))
    expect_dtype(odd, wide, np.dtype("float32"))
    with pytest.raises(
        TypeError, match=r"no dtype wide; .*; tinytorch\.asarray\(x, dtype=tinytorch\.float32\) converts"
    ):
        expect_dtype(odd, wide, None)
    with pytest.raises(TypeError, match=r"no dtype other; there are bool, .*float64$"):
        expect_dtype(odd, other, np.dtype("float32"))


def test_memory_of_cuda_and_memory_that_numpy_cannot_take(monkeypatch):
    class Memory:
        dtype = "bfloat16"

        def __init__(self, kind, index):
            self.at = kind, index

        def __dlpack_device__(self):
            return self.at

        def __dlpack__(self, **how):
            raise RuntimeError("Unsupported dtype in DLTensor.")

    third = register(monkeypatch, methods={"share": lambda self, array: np.full(2, array.at[1], "float32")})
    monkeypatch.setattr("tinytorch.backends.registry._devices", {**dict.fromkeys(["cuda:3"], third), "third": third})
    found = tinytorch.from_dlpack(Memory(2, 3))
    assert (found.device, found.tolist()) == (third, [3.0, 3.0])
    with pytest.raises(TypeError, match=r"^from_dlpack: there is no such dtype: bfloat16$"):
        tinytorch.from_dlpack(Memory(1, 0))
    with pytest.raises(ValueError, match=r"^from_dlpack: no device has memory of DLPack's type 9; copy the array to"):
        tinytorch.from_dlpack(Memory(9, 0))


class OutOfMemory(RuntimeError):
    pass


@pytest.mark.parametrize(
    ("raised", "error", "message"),
    [
        (OutOfMemory("17 GB"), OutOfMemory, "^17 GB$"),
        (RuntimeError("no kernel"), ValueError, r"^zeros\(\(2,\)\): no kernel$"),
        (OverflowError("too much"), OverflowError, r"^zeros\(\(2,\)\): too much$"),
    ],
    ids=lambda x: type(x).__name__,
)
def test_what_a_library_says_when_it_makes_an_array(raised, error, message, monkeypatch):
    def zeros(*args, **how):
        raise raised

    third = register(monkeypatch, zeros=zeros)
    with pytest.raises(error, match=message) as caught:
        tinytorch.zeros(2, device=third)
    assert caught.type is error
