"""A compiled step is the eager one: the same losses, parameters, gradients, optimizer states and random numbers."""

from __future__ import annotations

import numpy as np
import pytest

import tinytorch
from benchmarks.peers import tinytorch_
from benchmarks.workloads import WORKLOADS
from tinytorch import nn


def build(name: str):
    """The step of a workload, its model and its optimizer, found in the step's own names."""
    step, _ = tinytorch_.build(WORKLOADS[name])
    names = dict(zip(step.__code__.co_freevars, (c.cell_contents for c in step.__closure__), strict=True))
    return step, names["model"], names.get("optimizer")


def bits(x) -> bytes:
    return x.detach().numpy().tobytes()


@pytest.mark.parametrize("name", ["W1", "W2", "W3m", "W3a", "W4a", "W4b", "W5"])
def test_a_hundred_steps_of_a_workload_are_the_same_bit_for_bit(name):
    eager, model, optimizer = build(name)
    step, other, another = build(name)
    compiled = tinytorch.compile(step)
    for i in range(100):
        assert bits(eager()) == bits(compiled()), f"the loss of step {i}"
        for p, q in zip(model.parameters(), other.parameters(), strict=True):
            assert bits(p) == bits(q), f"{p.name} after step {i}"
            assert bits(p.grad) == bits(q.grad), f"the gradient of {p.name} in step {i}"
    assert len(compiled.programs) == 1
    one, two = optimizer.state_dict(), another.state_dict()
    for a, b in zip(one["state"].values(), two["state"].values(), strict=True):
        assert a.keys() == b.keys()
        assert all(np.array_equal(a[k], b[k]) for k in a)


def test_a_program_is_used_from_the_third_call_on():
    x = tinytorch.Tensor([1.0, 2.0])

    @tinytorch.compile
    def double(x):
        return x * 2.0

    assert double.program is None
    for _ in range(4):
        assert double(x).tolist() == [2.0, 4.0]
    assert len(double.program.lines) == 1
    assert str(double.program.lines[0]) == "multiply = x * 2.0"


def test_dropout_draws_the_same_numbers():
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    x = tinytorch.ones((3, 4))
    step = tinytorch.compile(lambda x: model(x).sum())
    tinytorch.manual_seed(3)
    expected = [model(x).sum().item() for _ in range(6)]
    tinytorch.manual_seed(3)
    assert [step(x).item() for _ in range(6)] == expected
    assert len(set(expected)) > 1


def test_functions_of_tinytorch_are_not_followed_into_their_own_memory():
    """An op keeps the dtypes that it has seen, which is no change of the user's."""
    tanh, weight = tinytorch.tanh, tinytorch.nn.Parameter([0.5])
    kinds = [tinytorch.float32, tinytorch.float64]
    for kind in kinds:
        step = tinytorch.compile(lambda x: tanh(x) * weight.astype(x.dtype))
        x = tinytorch.Tensor([0.25], kind)
        expected = bits(tinytorch.tanh(x) * 0.5)
        assert [bits(step(x)) for _ in range(4)] == [expected] * 4
        assert len(step.programs) == 1


def test_an_op_of_ones_own_is_followed():
    factor = 2.0

    @tinytorch.autograd.op
    def scaled(dev, x, /):
        return x * factor, lambda g: g * factor

    step = tinytorch.compile(lambda x: scaled(x))
    x = tinytorch.ones(1)
    assert [step(x).item() for _ in range(4)] == [2.0] * 4
    factor = 3.0
    assert [step(x).item() for _ in range(4)] == [3.0] * 4
    del tinytorch.autograd.OPS["scaled"]


def test_a_program_comes_back_after_a_state_is_loaded():
    step, model, optimizer = build("W3a")
    compiled = tinytorch.compile(step)
    start = model.state_dict(), optimizer.state_dict()
    first = [bits(compiled()) for _ in range(6)]
    program = compiled.program
    for _ in range(2):
        model.load_state_dict(start[0])
        optimizer.load_state_dict(start[1])
        assert [bits(compiled()) for _ in range(6)] == first
        assert compiled.programs == [program]
