"""Which op and which line made a tensor or a module."""

from __future__ import annotations

import copy
import inspect

import pytest

import tinytorch
from tinytorch import Linear, Sequential, Tensor
from tinytorch.autograd import Observer, op


def line():
    """The line that calls this."""
    return inspect.currentframe().f_back.f_lineno


def test_leaves_and_modules_always_know_their_line():
    x, here = Tensor([1.0]), line()
    assert (x.origin.what, x.origin.file, x.origin.line) == ("Tensor", __file__, here)
    assert str(x.origin) == f"Tensor at test_origin.py:{here}"
    for make in (lambda: tinytorch.zeros(2), lambda: tinytorch.asarray([1.0]), lambda: tinytorch.randn(2)):
        assert (make().origin.file, make().origin.line) == (__file__, make.__code__.co_firstlineno)
    model, here = Sequential(Linear(2, 3)), line()
    assert model.made_at.line == model[0].made_at.line == model[0].weight.origin.line == here
    assert (model[0].made_at.what, model[0].weight.origin.what) == ("Linear", "Parameter")
    assert copy.deepcopy(model)[0].made_at.line == here


def test_a_result_knows_its_op_and_inside_debug_its_line(device):
    x = Tensor([1.0, 2.0], device=device, requires_grad=True)
    assert str((x * 2).origin) == "multiply"
    assert (x.detach() * 2).origin is None  # not recorded
    with tinytorch.debug():
        y, here = x * 2, line()
        z, there = Linear(2, 1, device=device)(x), line()
        free = x.detach() * 2
    assert (y.origin.what, y.origin.line) == ("multiply", here)
    assert (z.origin.what, z.origin.line, free.origin.what) == ("linear", there, "multiply")
    assert str((x * 2).origin) == "multiply"


def test_debug_stays_on_until_it_is_switched_off_and_blocks_nest():
    tinytorch.debug()
    try:
        with tinytorch.debug(False):
            assert (tinytorch.ones(1) * 2).origin is None
        assert (tinytorch.ones(1) * 2).origin.line == line()
        with tinytorch.debug():
            pass
        assert (tinytorch.ones(1) * 2).origin.line == line()
    finally:
        tinytorch.debug(False)
    assert (tinytorch.ones(1) * 2).origin is None


def test_an_error_in_the_backward_pass_says_which_line_made_the_node():
    @op
    def refuses(dev, x, /):
        def rule(g):
            raise RuntimeError("no")

        return x, rule

    x = Tensor([1.0], requires_grad=True)
    with tinytorch.debug():
        y, here = refuses(x), line()
    with pytest.raises(RuntimeError) as error:
        y.sum().backward()
    assert error.value.__notes__[0].startswith(f"in the gradient rules of refuses at test_origin.py:{here}, for a")
    with pytest.raises(RuntimeError) as error:
        refuses(x).sum().backward()
    assert error.value.__notes__[0].startswith("in the gradient rules of refuses, for a")


def test_observers_are_told_when_values_leave_the_graph(device):
    class Leaving(Observer):
        def left(self, how, tensor, values):
            seen.append((how, tensor.shape, type(values).__name__))

    seen: list = []
    x = Tensor([1.0], device=device, requires_grad=True)
    with Leaving():
        x.detach().numpy()
        x.item()
        x.tolist()
    x.detach()
    told = [(how, kind) for how, _, kind in seen]
    assert told == [("detach", "Tensor"), ("numpy", "ndarray"), ("item", "float"), ("tolist", "list")]
