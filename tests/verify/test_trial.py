"""Steps that are too large or too small, gradients that vanish or explode: numbers on both sides of each bound."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tinytorch import Tensor
from tinytorch.nn import Parameter
from tinytorch.optim import SGD, Adam
from tinytorch.verify import diagnosis, trial


def parameter(values, grad):
    p = Parameter(values)
    p.grad = Tensor(grad)
    return p


def tried(loss=1.0, after=0.9, grad=1.0, make=SGD, **settings):
    """What is found of a step of one weight of 1.0; the weight is where the step goes while the loss is computed."""
    w = parameter([1.0], [grad])
    seen = []

    def again():
        seen.append(w.item())
        return after

    found = list(trial.step([make([w], **settings)], {"w": w}, loss, again))
    assert (w.item(), w.grad.item()) == (1.0, np.float32(grad))
    return [(f.kind, f.culprit, f.text) for f in found], seen


def large(before, after, lr="0.1"):
    text = f"a step of the optimizer takes the loss from {before} to {after} (lr {lr})"
    return [("step too large", "optimizer", f'{text}: optimizer.param_groups[0]["lr"] /= 100')]


def test_a_step_that_is_too_large():
    assert tried(lr=0.1) == ([], [pytest.approx(0.9)])
    assert tried(after=3.0, lr=0.1)[0] == []
    assert tried(after=3.01, lr=0.1)[0] == large("1", "3.01")
    assert tried(after=math.nan, lr=0.1)[0] == large("1", "inf")
    assert tried(loss=-2.0, after=6.0, lr=0.1)[0] == []
    assert tried(loss=-2.0, after=6.5, lr=0.1)[0] == large("-2", "6.5")
    assert tried(loss=0.0, after=0.003, lr=0.1)[0] == []
    assert tried(loss=0.0, after=0.0031, lr=0.1)[0] == large("0", "0.0031")
    assert tried(after=9.0, make=Adam, lr=0.5)[0] == large("1", "9", "0.5")


def test_a_step_that_is_too_small():
    text = "a step of the optimizer changes no weight by more than"
    mend = 'optimizer.param_groups[0]["lr"] = 0.01'
    found, seen = tried(lr=1e-9)
    assert found == [("step too small", "optimizer", f"{text} 0.0e+00 of it (lr 1e-09): {mend}")]
    assert seen == []  # the loss is not computed again
    assert tried(lr=0.0)[0] == [("step too small", "optimizer", f"{text} 0.0e+00 of it (lr 0): {mend}")]
    assert tried(lr=2e-7)[0] == []
    assert tried(lr=0.0, loss=1e9, after=1e9)[0] == []  # there is nothing left to learn
    own = type("Still", (SGD,), {"update": lambda self, dev, values, grad, state, *rest: (values + 0.0, state)})
    why = "its update returns other values than p - lr * g"
    assert tried(make=own, lr=0.1)[0] == [("step too small", "optimizer", f"{text} 0.0e+00 of it (lr 0.1): {why}")]
    assert tried(make=own, lr=0.1, grad=5e-6)[0] == []  # for which a rate of 0.01 is too small, too


def test_a_step_that_goes_up():
    up = type("Up", (SGD,), {"update": lambda self, dev, values, grad, state, *rest: (values + grad * 0.1, state)})
    found, seen = tried(make=up, lr=0.1)
    text = "the optimizer's step goes along the gradient, up, not against it: p -= lr * g"
    assert (found, seen) == ([("uphill", "optimizer", text)], [])


def test_a_parameter_of_another_model_is_not_looked_at():
    w, other = parameter([1.0], [1.0]), parameter([1.0], [1.0])
    assert list(trial.step([SGD([w], lr=1e9)], {"w": other}, 1.0, lambda: math.nan)) == []
    assert list(trial.step([SGD([w], lr=1e9)], {}, 1.0, lambda: math.nan)) == []


def uneven(**norms):
    """What is found of matrices whose values and gradients have these norms."""
    parameters = {name: parameter([[w]], [[g]]) for name, (w, g) in norms.items()}
    return [(f.kind, f.culprit, f.text) for f in diagnosis._uneven(parameters)]


def test_a_gradient_that_vanishes():
    mend = "put ReLU() in the place of what saturates, or LayerNorm(...) or a shortcut, x + layer(x)"
    found = uneven(a=(1.0, 1.0), b=(2.0, 2e-6), c=(1.0, 8e-6), d=(1.0, 1.1e-5))
    text = f"the gradient vanishes: the loss depends 2.5e+05 times less on `b` than on `a`: {mend}"
    assert found == [("vanishing", "b, c", f"`b`, `c`: {text}")]
    assert uneven(a=(1.0, 1.0), b=(1.0, 1.1e-5)) == []
    assert uneven(a=(1.0, 1.0), b=(1.0, 0.0)) == []  # which is another finding
    assert uneven(a=(1.0, 1.0), b=(0.0, 1.0)) == []
    assert uneven(a=(1.0, math.inf), b=(1.0, 1e-9)) == []
    assert list(diagnosis._uneven({"v": parameter([1.0], [1e9]), "w": parameter([[1.0]], [[1.0]])})) == []
    assert list(diagnosis._uneven({})) == []


def test_a_gradient_that_explodes():
    mend = "start with smaller weights, or call tinytorch.clip_grad_norm_(model.parameters(), 1.0) "
    mend += "before optimizer.step()"
    found = uneven(a=(0.5, 1001.0), b=(2.0, 2500.0), c=(1.0, 999.0), d=(3.0, 2999.0))
    text = f"the gradient explodes: that of `b` has the norm 2.5e+03, its values 2.0e+00: {mend}"
    assert found == [("exploding", "a, b", f"`a`, `b`: {text}")]
    assert uneven(a=(1.0, 999.0), b=(2.0, 1999.0)) == []
    assert uneven(a=(1.0, math.inf)) == []
