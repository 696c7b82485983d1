"""Optimizers: what they refuse, what they leave alone, and that nothing about a device interrupts a trajectory."""

from __future__ import annotations

import gc
import json
import math
import signal
import sys
import threading

import numpy as np
import pytest

import tinytorch
from tinytorch import Tensor
from tinytorch.backends.cpu import CpuDevice
from tinytorch.nn import Parameter
from tinytorch.optim import SGD, Adam, AdamW, Optimizer, clip_grad_norm_, flat
from tinytorch.testing import assert_close

MAKE = {
    "SGD": lambda p: SGD(p, lr=0.1),
    "momentum": lambda p: SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "nesterov": lambda p: SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "Adam": lambda p: Adam(p, lr=0.1, weight_decay=0.01),
    "AdamW": lambda p: AdamW(p, lr=0.1),
}
every = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)


def parameter(values, device=None, grad=None):
    p = Parameter(values, device=device)
    p.grad = None if grad is None else Tensor(grad, device=device)
    return p


def problem(device="cpu"):
    tinytorch.manual_seed(0)
    model = tinytorch.Sequential(tinytorch.Linear(3, 4), tinytorch.Tanh(), tinytorch.Linear(4, 1)).to(device)
    return model, tinytorch.randn(8, 3, device="cpu"), tinytorch.randn(8, 1, device="cpu")


def train(model, optimizer, x, target, steps):
    p = next(iter(model.parameters()))
    x, target = (t.to(p.device, p.dtype) for t in (x, target))
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = tinytorch.mse_loss(model(x), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# Formulas ---------------------------------------------------------------------------------------------------------


def test_sgd_by_hand(device):
    w = parameter([1.0, 2.0], device, [10.0, 20.0])
    optimizer = SGD([w], lr=0.1, momentum=0.5, weight_decay=1.0)
    optimizer.step()  # b = g + w = 11, 22
    assert_close(w.detach(), Tensor([1 - 1.1, 2 - 2.2], device=device))
    optimizer.step()  # b = 5.5 + (10 - 0.1), 11 + (20 - 0.2)
    assert_close(w.detach(), Tensor([-0.1 - 1.54, -0.2 - 3.08], device=device))


def test_the_first_step_of_adam_is_the_rate_long(device):
    w = parameter([1.0, 2.0, 3.0], device, [1e-3, -50.0, 7.0])
    Adam([w], lr=0.25).step()
    assert_close(w.detach(), Tensor([0.75, 2.25, 2.75], device=device), rtol=1e-5, atol=1e-6)


def test_adamw_decays_apart_from_the_gradient():
    w = parameter([2.0], grad=[0.0])
    AdamW([w], lr=0.5, weight_decay=0.1).step()
    assert w.item() == pytest.approx(2.0 * (1 - 0.5 * 0.1), rel=1e-6)


def textbook(name, w, gradients, lr, momentum=0.0, dampening=0.0, nesterov=False, weight_decay=0.0, betas=(), eps=1e-8):
    """One number after steps with these gradients: the formulas of the docstrings, in Python's floats."""
    b = m = v = 0.0
    for t, g in enumerate(gradients, 1):
        if name == "AdamW":
            w -= lr * weight_decay * w
        else:
            g += weight_decay * w
        if name == "SGD":
            b = momentum * b + (1 - dampening) * g if t > 1 else g
            w -= lr * (g + momentum * b if nesterov else b if momentum else g)
        else:
            b1, b2 = betas or (0.9, 0.999)
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
            w -= lr * (m / (1 - b1**t)) / (math.sqrt(v / (1 - b2**t)) + eps)
    return w


@pytest.mark.device(skip="strict:no_float64", reason="compares in float64")
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("SGD", {"lr": 0.05}),
        ("SGD", {"lr": 0.05, "weight_decay": 0.1}),
        ("SGD", {"lr": 0.02, "momentum": 0.9}),
        ("SGD", {"lr": 0.02, "momentum": 0.8, "dampening": 0.3, "weight_decay": 0.01}),
        ("SGD", {"lr": 0.02, "momentum": 0.7, "nesterov": True, "weight_decay": 0.1}),
        ("Adam", {"lr": 0.05, "weight_decay": 0.1}),
        ("Adam", {"lr": 0.05, "betas": (0.8, 0.9), "eps": 1e-2}),
        ("Adam", {"lr": 0.05, "betas": (0.0, 0.0)}),
        ("AdamW", {"lr": 0.05, "weight_decay": 0.3}),
        ("AdamW", {"lr": 0.05, "betas": (0.7, 0.99), "eps": 1e-2, "weight_decay": 0.1}),
    ],
    ids=str,
)
def test_the_formulas(name, settings, device):
    start, gradients = [1.0, -2.0, 0.5], [[0.3, -0.2, 4.0], [-0.1, -0.2, 3.0], [0.7, 0.5, 0.0], [0.25, -1.0, 2.0]]
    w = Parameter(start, "float64", device)
    optimizer = getattr(tinytorch, name)([w], **settings)
    for g in gradients:
        w.grad = Tensor(g, "float64", device)
        optimizer.step()
    expected = [textbook(name, x, [g[i] for g in gradients], **settings) for i, x in enumerate(start)]
    np.testing.assert_allclose(w.detach().numpy(), expected, rtol=1e-12)


def test_the_defaults_are_pytorchs():
    w = parameter([1.0])
    adam = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8}
    assert SGD([w]).defaults == {
        "lr": 1e-3,
        "momentum": 0.0,
        "dampening": 0.0,
        "weight_decay": 0.0,
        "nesterov": False,
    }
    assert Adam([w]).defaults == adam | {"weight_decay": 0.0}
    assert AdamW([w]).defaults == adam | {"weight_decay": 1e-2}


@every
def test_the_loss_falls(make, device):
    model, x, target = problem(device)
    losses = train(model, make(model.parameters()), x, target, 30)
    assert losses[-1] < 0.5 * losses[0]


# A step -----------------------------------------------------------------------------------------------------------


@every
def test_only_parameters_with_a_gradient_change(make):
    a, b = parameter([1.0], grad=[1.0]), parameter([1.0])
    optimizer = make([a, b])
    optimizer.step()
    assert (a.item() != 1.0, b.item()) == (True, 1.0)
    optimizer.zero_grad()
    assert (a.grad, b.grad) == (None, None)
    before = a.item()
    optimizer.step()
    assert a.item() == before


@every
def test_a_step_leaves_recorded_graphs_their_values(make):
    w = parameter([3.0])
    y = w * w
    w.grad = Tensor([1.0])
    make([w]).step()
    w.grad = None
    y.backward()
    assert w.grad.item() == 6.0


@every
def test_parameters_stay_leaves_of_their_dtype(make, device):
    model, x, target = problem(device)
    parameters = list(model.parameters())
    train(model, make(parameters), x, target, 2)
    for p, same in zip(model.parameters(), parameters, strict=True):
        assert p is same
        assert (p.is_leaf, p.requires_grad, p.dtype, p.device.name) == (True, True, tinytorch.float32, device)


@pytest.mark.parametrize(
    ("grad", "message"),
    [
        (
            lambda: Tensor([1.0]),
            r"SGD: the gradient of float32 \(2,\) 'w' on cpu must be .* not float32 \(1,\) on cpu",
        ),
        (
            lambda: tinytorch.ones((2, 2)),
            r"must be a tensor of the same dtype and shape, on the same device, not float32 \(2, 2\)",
        ),
        (lambda: tinytorch.ones(2, dtype="float64"), r"not float64 \(2,\) on cpu"),
        (lambda: np.ones(2, "float32"), "not ndarray"),
    ],
    ids=["shape", "more", "dtype", "array"],
)
def test_a_gradient_that_does_not_fit_changes_nothing(grad, message):
    first, w = parameter([1.0], grad=[1.0]), parameter([1.0, 2.0])
    w.name, w.grad = "w", grad()
    optimizer = SGD([{"params": [first]}, {"params": [w]}], lr=0.1, momentum=0.9)
    with pytest.raises(ValueError, match=message):
        optimizer.step()
    assert (first.item(), w.tolist(), optimizer.state_dict()["state"]) == (1.0, [1.0, 2.0], {})


def test_a_gradient_of_another_device(other):
    w = parameter([1.0], "cpu")
    w.grad = Tensor([1.0], device=other)
    with pytest.raises(
        ValueError, match=rf"the gradient of float32 \(1,\) on cpu must be .* not float32 \(1,\) on {other}"
    ):
        SGD([w]).step()
    assert w.item() == 1.0


# Making -----------------------------------------------------------------------------------------------------------


@every
@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        (list, ValueError, "there are no parameters; was the model built before the optimizer"),
        (lambda: tinytorch.ReLU().parameters(), ValueError, "there are no parameters"),
        (lambda: [{"params": []}], ValueError, "a group without parameters"),
        (
            lambda: parameter([1.0]),
            TypeError,
            r"params is an iterable of parameters, as model\.parameters\(\), not Parameter",
        ),
        (lambda: {"params": [parameter([1.0])]}, TypeError, "params is an iterable of parameters, .* not dict"),
        (lambda: [parameter([1.0]), 2.0], TypeError, "takes Tensors, .* not float"),
        (lambda: ["weight"], TypeError, "takes Tensors, .* not str"),
        (lambda: [parameter([1.0]) * 2], ValueError, "a parameter is a leaf, not the result of an op"),
        (lambda: [parameter([1.0, 2.0])] * 2, ValueError, r"a parameter comes twice: \(2,\)"),
        (
            lambda: [{"params": [parameter([1.0])], "rate": 1.0}],
            ValueError,
            r"unknown settings \['rate'\]; there are \['.*lr'.*\]",
        ),
        (lambda: [{"params": [parameter([1.0])], "lr": -1.0}], ValueError, r"lr is not negative: -1\.0"),
        (lambda: [{"lr": 0.1}], ValueError, r"a group has its parameters in the entry 'params', not \['lr'\]"),
    ],
    ids=range(12),
)
def test_what_cannot_be_optimized(make, params, error, message):
    with pytest.raises(error, match=rf"^(SGD|AdamW?): {message}"):
        make(params())


def test_a_parameter_in_two_groups_is_named():
    w = parameter([1.0])
    w.name = "0.weight"
    with pytest.raises(ValueError, match=r"a parameter comes twice: 0\.weight"):
        SGD([{"params": [w]}, {"params": [w]}])


@pytest.mark.parametrize(
    ("optimizer", "settings", "message"),
    [
        (SGD, {"lr": -0.1}, r"SGD: lr is not negative: -0\.1"),
        (SGD, {"lr": math.nan}, "SGD: lr is not negative: nan"),
        (SGD, {"weight_decay": -1}, "SGD: weight_decay is not negative: -1"),
        (SGD, {"momentum": -0.5}, r"SGD: momentum is not negative: -0\.5"),
        (SGD, {"nesterov": True}, "nesterov needs a momentum and no dampening"),
        (SGD, {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, "nesterov needs a momentum and no dampening"),
        (Adam, {"lr": -1}, "Adam: lr is not negative"),
        (Adam, {"betas": (0.9, 1.0)}, r"Adam: betas are in \[0, 1\), not \(0\.9, 1\.0\)"),
        (Adam, {"betas": (-0.1, 0.9)}, "Adam: betas are in"),
        (AdamW, {"eps": -1e-8}, "AdamW: eps is not negative"),
        (AdamW, {"weight_decay": -0.1}, "AdamW: weight_decay is not negative"),
    ],
    ids=str,
)
def test_settings_out_of_range(optimizer, settings, message):
    with pytest.raises(ValueError, match=message):
        optimizer([parameter([1.0])], **settings)


def test_groups_have_settings_of_their_own():
    a, b, c = (parameter([1.0], grad=[1.0]) for _ in range(3))
    optimizer = SGD([{"params": [a], "lr": 0.5}, {"params": b}], lr=0.25)
    optimizer.add_param_group({"params": [c], "lr": 0.0})
    optimizer.step()
    assert (a.item(), b.item(), c.item()) == (0.5, 0.75, 1.0)
    optimizer.param_groups[1]["lr"] = 0.75
    optimizer.step()
    assert (a.item(), b.item(), c.item()) == (0.0, 0.0, 1.0)
    assert repr(optimizer).startswith("SGD(lr=0.5, momentum=0.0")


def test_groups_may_be_put_in_and_taken_out_by_hand():
    def made():
        a, b = (parameter([1.0, 2.0], grad=[1.0, 1.0]) for _ in range(2))
        return a, b, tinytorch.Adam([a], lr=0.1)

    a, b, optimizer = made()
    optimizer.add_param_group({"params": [b], "lr": 0.5})
    x, y, other = made()
    other.param_groups.append({"params": [y], "lr": 0.5})
    with pytest.raises(ValueError, match=r"Adam: a group lacks \['betas', 'eps', 'weight_decay'\].*add_param_group"):
        other.step()
    assert x.tolist() == y.tolist() == [1.0, 2.0]
    other.param_groups[1] = {**other.defaults, "params": [y], "lr": 0.5}
    for _ in range(2):
        optimizer.step()
        other.step()
    assert (a.tolist(), b.tolist()) == (x.tolist(), y.tolist()) != ([1.0, 2.0], [1.0, 2.0])
    del other.param_groups[1]
    other.step()
    optimizer.step()
    assert x.tolist() == a.tolist()
    assert other.state_dict()["state"][0]["step"] == 3


@pytest.mark.parametrize(("at", "to"), [(0, 1), (1, 0)], ids=["later", "earlier"])
def test_a_parameter_moves_to_another_group_with_its_state(at, to):
    a, b, c = (parameter([0.0], grad=[1.0]) for _ in range(3))
    groups = [{"params": [a], "lr": 1.0}, {"params": [c], "lr": 10.0}]
    groups[at]["params"].append(b)
    optimizer = SGD(groups, momentum=0.5)
    optimizer.step()
    optimizer.param_groups[to]["params"].append(optimizer.param_groups[at]["params"].pop())
    optimizer.step()
    assert (a.item(), c.item()) == (-2.5, -25.0)
    assert b.item() == -groups[at]["lr"] - 1.5 * groups[to]["lr"]


def test_a_parameter_that_takes_the_place_of_another():
    a, b = (parameter([0.0], grad=[1.0]) for _ in range(2))
    optimizer = SGD([a], lr=1.0, momentum=0.5)
    optimizer.step()
    optimizer.param_groups[0]["params"][0] = b
    optimizer.step()
    assert (a.item(), b.item()) == (-1.0, -1.0)


def test_an_optimizer_says_how_it_updates():
    class Lazy(Optimizer):
        def __init__(self, params):
            super().__init__(params, {"lr": 0.1, "weight_decay": 0.0})

    with pytest.raises(NotImplementedError, match="Lazy defines no update"):
        Lazy([parameter([1.0], grad=[1.0])]).step()


def test_an_optimizer_of_one_s_own(device):
    class Signed(Optimizer):
        kept = ("total",)

        def __init__(self, params, lr):
            super().__init__(params, {"lr": lr, "weight_decay": 0.0})

        def numbers(self, steps, group):
            return {"length": group["lr"] / steps}

        def update(self, dev, values, grad, state, numbers):
            total = dev.xp.abs(grad) + state.get("total", 0.0)
            return values - dev.xp.sign(grad) * numbers["length"], {"total": total}

    w = parameter([[1.0, 2.0]], device, [[5.0, -5.0]])
    optimizer = Signed([w], lr=1.0)
    optimizer.step()
    optimizer.step()
    assert w.tolist() == [[-0.5, 3.5]]
    state = optimizer.state_dict()
    assert state["state"][0]["total"].tolist() == [[10.0, 10.0]]
    optimizer = Signed([w], lr=1.0)
    optimizer.load_state_dict(state)
    optimizer.step()
    assert optimizer.state_dict()["state"][0]["total"].tolist() == [[15.0, 15.0]]


@every
def test_a_large_parameter_is_stepped_alone(make, device, monkeypatch):
    found = []
    for large in (flat._LARGE, 4):
        monkeypatch.setattr(flat, "_LARGE", large)
        model, x, y = problem(device)
        optimizer = make(model.parameters())
        losses = train(model, optimizer, x, y, 4)
        found.append((losses, optimizer.state_dict()["state"], model.state_dict()))
    assert_close(found[0], found[1], rtol=1e-6, atol=1e-7)


def test_a_rule_keeps_no_array_of_somebody_else():
    memory = np.ones(200_000, "float32")
    w = tinytorch.nn.Parameter(tinytorch.zeros(200_000))
    optimizer = SGD([w], lr=1.0, momentum=0.5)
    w.grad = Tensor(memory)
    optimizer.step()
    memory[:] = 7.0
    assert optimizer.state_dict()["state"][0]["momentum_buffer"][0] == 1.0


# Moving, and setting values by hand -------------------------------------------------------------------------------


@every
def test_every_device_trains_alike(make, other):
    def weights(device):
        model, x, target = problem(device)
        train(model, make(model.parameters()), x, target, 10)
        return model.state_dict()

    assert_close(weights(other), weights("cpu"), rtol=1e-4, atol=1e-5)


@every
def test_moving_the_model_interrupts_nothing(make, device):
    model, x, target = problem("cpu")
    expected = train(model, make(model.parameters()), x, target, 12)
    model, x, target = problem("cpu")
    optimizer = make(model.parameters())
    found = train(model, optimizer, x, target, 4)
    for where in (device, "cpu"):
        model.to(where)
        found += train(model, optimizer, x, target, 4)
        assert {p.device.name for p in model.parameters()} == {where}
    assert found == pytest.approx(expected, rel=1e-4)


@every
def test_another_dtype_interrupts_nothing(make):
    model, x, target = problem("cpu")
    expected = train(model.to("float64"), make(model.parameters()), x, target, 12)
    model, x, target = problem("cpu")
    optimizer = make(model.parameters())
    found = train(model, optimizer, x, target, 4)
    found += train(model.to("float64"), optimizer, x, target, 4)
    assert {a.dtype.name for f in optimizer._flats.groups[0] for a in f.now.state.values()} <= {"float64"}
    found += train(model.to("float32"), optimizer, x, target, 4)
    assert {p.dtype.name for p in model.parameters()} == {"float32"}
    assert found == pytest.approx(expected, rel=1e-4)


@every
def test_a_part_on_another_device(make, other):
    a, b = parameter([1.0, 2.0], "cpu"), parameter([1.0, 2.0], other)
    optimizer = make([a, b])
    for _ in range(3):
        for p in (a, b):
            p.grad = Tensor([1.0, -3.0], device=p.device)
        optimizer.step()
    assert (a.device.name, b.device.name) == ("cpu", other)
    assert_close(b.detach().cpu(), a.detach(), rtol=1e-5, atol=1e-6)


def test_values_set_by_hand_are_where_the_next_step_starts(device):
    model = tinytorch.Linear(1, 1, bias=False, device=device)
    w = model.weight
    optimizer = SGD([w], lr=1.0)

    def step():
        w.grad = Tensor([[1.0]], device=device)
        optimizer.step()
        return w.item()

    step()
    w.data = Tensor([[10.0]], device=device)
    assert step() == 9.0
    model.load_state_dict({"weight": np.array([[20.0]])})
    assert step() == 19.0
    with tinytorch.no_grad():
        w[0, 0] = 30.0
    assert step() == 29.0
    tinytorch.nn.init.constant_(w, 40.0)
    assert (step(), step()) == (39.0, 38.0)


# Saving and loading -----------------------------------------------------------------------------------------------


@every
def test_a_saved_state_goes_on_where_it_was(make, device):
    model, x, target = problem(device)
    optimizer = make(model.parameters())
    train(model, optimizer, x, target, 5)
    weights, state = model.state_dict(), optimizer.state_dict()
    expected = train(model, optimizer, x, target, 5)
    for again in range(2):  # the state is a copy: it can be used twice
        twin, _, _ = problem("cpu" if again else device)
        fresh = make(twin.parameters())
        twin.load_state_dict(weights)
        fresh.load_state_dict(state)
        assert train(twin, fresh, x, target, 5) == pytest.approx(expected, rel=1e-5)


def test_a_state_is_in_pytorch_s_form():
    model, x, target = problem()
    optimizer = AdamW([{"params": model[0].parameters()}, {"params": model[2].parameters(), "lr": 0.5}])
    assert optimizer.state_dict()["state"] == {}
    train(model, optimizer, x, target, 3)
    state = optimizer.state_dict()
    assert [g["params"] for g in state["param_groups"]] == [[0, 1], [2, 3]]
    assert [g["lr"] for g in state["param_groups"]] == [1e-3, 0.5]
    assert {k: v.shape for k, v in state["state"][0].items() if k != "step"} == {
        "exp_avg": (4, 3),
        "exp_avg_sq": (4, 3),
    }
    assert {entry["step"] for entry in state["state"].values()} == {3}


def test_taking_a_state_changes_no_trajectory():
    model, x, target = problem()
    expected = train(model, Adam(model.parameters(), lr=0.1), x, target, 6)
    model, x, target = problem()
    optimizer = Adam(model.parameters(), lr=0.1)
    found = []
    for _ in range(6):
        found += train(model, optimizer, x, target, 1)
        optimizer.state_dict()["state"][0]["exp_avg"][:] = 1e6
    assert found == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s["param_groups"].append(s["param_groups"][0]), r"groups of \[4, 4\] parameters, not \[4\]"),
        (lambda s: s["param_groups"][0]["params"].pop(), r"groups of \[3\] parameters, not \[4\]"),
        (
            lambda s: s["state"][3].update(exp_avg=np.zeros(7)),
            r"Adam: exp_avg of parameter 3 is \(7,\), the parameter \(1,\)",
        ),
        (lambda s: s["param_groups"][0].update(lr=-1.0), "lr is not negative"),
        (
            lambda s: s["state"][3].pop("exp_avg"),
            r"the state of parameter 3 is \['exp_avg_sq'\], but Adam keeps \['exp_avg', 'exp_avg_sq'\]",
        ),
        (
            lambda s: s["state"].update({3: {"step": 3, "momentum_buffer": np.zeros((4,))}}),
            r"the state of parameter 3 is \['momentum_buffer'\], but Adam keeps",
        ),
        (lambda s: s.pop("state"), r"a state has the entries 'param_groups' and 'state', not \['param_groups'\]"),
    ],
    ids=["groups", "parameters", "shape", "setting", "missing", "of SGD", "no state"],
)
def test_a_state_that_does_not_fit_changes_nothing(change, message):
    model, x, target = problem()
    optimizer = Adam(model.parameters(), lr=0.1)
    train(model, optimizer, x, target, 3)
    before = optimizer.state_dict()
    wrong = optimizer.state_dict()
    wrong["param_groups"][0]["lr"] = 9.0
    for entry in wrong["state"].values():
        entry["exp_avg"] += 1.0
    change(wrong)
    with pytest.raises((ValueError, KeyError), match=message):
        optimizer.load_state_dict(wrong)
    after = optimizer.state_dict()
    assert after["param_groups"] == before["param_groups"]
    assert_close(after["state"], before["state"], rtol=0, atol=0)


# Clipping ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.0, math.inf])
def test_gradients_are_scaled_to_the_norm(norm_type, device):
    values = [[3.0, -4.0], [12.0]]
    given = [parameter([0.0] * len(g), device, g) for g in values]
    expected = np.linalg.norm(np.concatenate(values), norm_type)
    norm = clip_grad_norm_(given, 2.0, norm_type)
    assert (norm.shape, norm.device.name) == ((), device)
    assert norm.item() == pytest.approx(expected, rel=1e-5)
    for p, g in zip(given, values, strict=True):
        assert p.grad.tolist() == pytest.approx([v * 2.0 / expected for v in g], rel=1e-4)


def test_small_gradients_are_left_as_they_are(device):
    p, none = parameter([0.0, 0.0], device, [0.3, -0.4]), parameter([0.0], device)
    assert clip_grad_norm_(iter([p, none]), 1.0).item() == pytest.approx(0.5, rel=1e-5)
    assert p.grad.tolist() == [np.float32(0.3), np.float32(-0.4)]
    assert none.grad is None


def test_clipping_takes_one_tensor_or_no_gradients():
    p = parameter([0.0], grad=[8.0])
    assert clip_grad_norm_(p, 2.0).item() == 8.0
    assert p.grad.item() == pytest.approx(2.0, rel=1e-5)
    assert clip_grad_norm_([parameter([1.0])], 1.0).item() == 0.0


def test_one_norm_of_several_devices(other):
    a, b = parameter([0.0], "cpu", [3.0]), parameter([0.0], other, [4.0])
    assert clip_grad_norm_([a, b], 1.0).item() == pytest.approx(5.0, rel=1e-5)
    assert (a.grad.device.name, b.grad.device.name) == ("cpu", other)
    assert b.grad.item() == pytest.approx(0.8, rel=1e-4)


def test_clipping_out_of_range():
    for wrong in (0, -1.0):
        with pytest.raises(ValueError, match=f"clip_grad_norm_: norm_type is positive, not {wrong}"):
            clip_grad_norm_([parameter([1.0], grad=[1.0])], 1.0, wrong)
    with pytest.raises(ValueError, match="clip_grad_norm_: max_norm is not negative: -1"):
        clip_grad_norm_([parameter([1.0], grad=[1.0])], -1.0)


@pytest.mark.parametrize("make", [SGD, Adam])
def test_a_step_changes_nothing_that_others_hold(make, device):
    w, b = Parameter([1.0, 2.0], device=device), Parameter([3.0], device=device)
    optimizer = make([w, b], lr=0.1)
    for _ in range(3):  # from the second step on the parameters' memory is the optimizer's
        optimizer.zero_grad()
        loss = (w * w).sum() + b.sum() * 2.0
        loss.backward(retain_graph=True)
        held, view, before = w.detach(), w.detach()[1:], w.detach().numpy()
        optimizer.step()
        assert not np.allclose(w.detach().numpy(), before)
        assert_close(held.numpy(), before, rtol=0, atol=0)
        assert_close(view.numpy(), before[1:], rtol=0, atol=0)
        optimizer.zero_grad()
        loss.backward()  # the graph goes on with the old values
        assert_close(w.grad.numpy(), 2 * before, rtol=1e-6, atol=0)
        del held, view, loss
        optimizer.step()


# All or nothing -----------------------------------------------------------------------------------------------------


class Interrupt(KeyboardInterrupt):
    pass


def everything(optimizer):
    """What a step changes, as bits: values of parameters, states, counts."""
    groups = [p for group in optimizer.param_groups for p in group["params"]]
    state = optimizer.state_dict()["state"]
    return (
        [p.detach().numpy().tobytes() for p in groups],
        {i: {k: v if k == "step" else v.tobytes() for k, v in entry.items()} for i, entry in state.items()},
    )


def several(make, device, large=False):
    """An optimizer of two groups: several parameters, one on its own, and one without a gradient."""
    tinytorch.manual_seed(1)
    shapes = [(3, 2), (5,), (200, 700) if large else (2, 2), (1,)]
    params = [Parameter(tinytorch.randn(*shape, device=device)) for shape in shapes]
    for p in params[:-1]:
        p.grad = tinytorch.randn(*p.shape, device=device)
    return make([{"params": params[:2], "lr": 0.5}, {"params": params[2:]}]), params


def interrupted(call, at):
    """Call, with an interrupt before the line with the number `at`; whether it came to that."""
    seen = 0

    def trace(frame, event, argument):
        nonlocal seen
        if event == "line":
            seen += 1
            if seen == at:
                raise Interrupt
        return trace

    before = sys.gettrace()
    gc.disable()  # what it calls swallows an interrupt
    sys.settrace(trace)
    try:
        call()
    except Interrupt:
        return True
    finally:
        sys.settrace(before)
        gc.enable()
    return False


def ready_to_step(make, when):
    """An optimizer before its first step, a later one, or one for which its arrays are arranged anew."""
    optimizer, params = several(make, "cpu")
    if when != "first":
        optimizer.step()
        optimizer.step()
    if when == "arranged anew":
        params[-1].grad, params[0].grad = tinytorch.ones(1), None
    return optimizer


@every
@pytest.mark.parametrize("when", ["first", "later", "arranged anew"])
def test_an_interrupt_at_any_line_of_a_step_changes_nothing(make, when):
    at, came = 0, True
    while came:
        at += 1
        optimizer = ready_to_step(make, when)
        before = everything(optimizer)
        came = interrupted(optimizer.step, at)
        after = everything(optimizer)
        assert (after == before) is came, f"line {at}"
        if came:
            optimizer.step()  # and it goes on as if nothing had been
            reference = ready_to_step(make, when)
            reference.step()
            assert everything(optimizer) == everything(reference)
    assert at > 50


@every
def test_an_interrupt_while_blocks_are_computed_changes_nothing(make):
    optimizer, _ = several(make, "cpu", large=True)
    optimizer.step()
    before = everything(optimizer)
    for at in range(1, 10_000, 7):
        if not interrupted(optimizer.step, at):
            break
        assert everything(optimizer) == before
    else:
        raise AssertionError("a step has fewer lines than that")


@every
def test_an_error_in_a_later_group_changes_nothing(make, device):
    optimizer, _ = several(make, device)
    optimizer.step()
    before = everything(optimizer)
    update, calls = optimizer.update, []

    def failing(*args):
        calls.append(1)
        if len(calls) == 2:
            raise FloatingPointError("in the second group")
        return update(*args)

    optimizer.update = failing
    with pytest.raises(FloatingPointError):
        optimizer.step()
    optimizer.update = update
    assert everything(optimizer) == before
    optimizer.param_groups[1]["lr"] = "x"
    with pytest.raises(TypeError, match=r"lr is a number, not str 'x'"):
        optimizer.step()
    assert everything(optimizer) == before
    assert len({entry["step"] for entry in optimizer.state_dict()["state"].values()}) == 1


@pytest.mark.parametrize("name", ["momentum", "AdamW"])
def test_signals_leave_all_parameters_moved_or_none(name):
    if not hasattr(signal, "setitimer"):
        pytest.skip("no timers that send signals here")
    optimizer, _ = several(MAKE[name], "cpu", large=True)
    optimizer.step()

    def interrupt(*args):
        raise Interrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for n in range(150):
            old = everything(optimizer)
            came = False
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-5 * (n + 1))
                optimizer.step()
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Interrupt:
                came = True
            signal.setitimer(signal.ITIMER_REAL, 0)
            new = everything(optimizer)
            moved = {a != b for a, b in zip(old[0][:-1], new[0][:-1], strict=True)}
            counts = {new[1][i]["step"] - old[1][i]["step"] for i in old[1]}
            assert (moved, counts) in (({True}, {1}), ({False}, {0})), (n, came)
            assert came or moved == {True}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("name", ["SGD", "momentum", "Adam"])
def test_another_thread_never_sees_torn_weights(name):
    """All numbers of a parameter are equal before and after every step, since all gradients are: so are those read."""
    params = [Parameter(tinytorch.ones(300_000)), Parameter(tinytorch.ones((2, 3)))]
    optimizer = MAKE[name](params)
    held = [p.array for p in params]
    copies = [a.copy() for a in held]
    torn, done = [], threading.Event()

    def read():
        while not done.is_set():
            for p in params:
                seen = p.detach().numpy()
                if seen.min() != seen.max():
                    torn.append(seen)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(100):
            for p in params:
                p.grad = tinytorch.full(p.shape, 0.5)
            optimizer.step()
    finally:
        done.set()
        reader.join()
    assert not torn
    assert all(np.array_equal(a, b) for a, b in zip(held, copies, strict=True))  # nobody wrote into what they held


# Settings, and states that are wrong --------------------------------------------------------------------------------

WRONG_SETTINGS = [
    *((kind, {"lr": v}, TypeError, "lr is a number") for kind in (SGD, Adam, AdamW) for v in ("x", None, [0.1], 1j)),
    *((kind, {"lr": v}, ValueError, "lr is") for kind in (SGD, Adam, AdamW) for v in (math.nan, math.inf, -1)),
    *((kind, {"weight_decay": v}, TypeError, "weight_decay is a number") for kind in (SGD, AdamW) for v in ("x", None)),
    *((kind, {"weight_decay": v}, ValueError, "weight_decay is") for kind in (SGD, Adam) for v in (math.nan, math.inf)),
    (SGD, {"lr": True}, TypeError, "lr is a number, not bool True"),
    (SGD, {"lr": np.array(0.1)}, TypeError, r"lr is a number, not ndarray array\(0\.1\); use \.item\(\)"),
    (Adam, {"lr": Tensor(0.1)}, TypeError, r"lr is a number, not Tensor tensor\(0\.1\); use \.item\(\)"),
    (SGD, {"momentum": None}, TypeError, "momentum is a number, not NoneType None, as in momentum=0.1"),
    (SGD, {"momentum": math.inf}, ValueError, "momentum is finite, not inf"),
    (SGD, {"momentum": "0.9"}, TypeError, "momentum is a number, not str '0.9'"),
    (SGD, {"dampening": math.nan}, ValueError, "dampening is finite, not nan"),
    (SGD, {"dampening": -math.inf}, ValueError, "dampening is finite, not -inf"),
    (SGD, {"dampening": None}, TypeError, "dampening is a number"),
    (SGD, {"nesterov": "yes", "momentum": 0.9}, TypeError, "nesterov is True or False, not 'yes'"),
    (SGD, {"nesterov": None}, TypeError, "nesterov is True or False, not None"),
    (SGD, {"nesterov": True}, ValueError, "nesterov needs a momentum"),
    *((k, {"betas": v}, TypeError, "betas are two numbers") for k in (Adam, AdamW) for v in (0.9, None, "ab")),
    *((k, {"betas": v}, TypeError, "betas are two numbers") for k in (Adam, AdamW) for v in ((0.9,), (0.9, 0.99, 0.9))),
    (Adam, {"betas": (0.9, Tensor(0.999))}, TypeError, r"betas\[1\] is a number, not Tensor .*; use \.item\(\)"),
    (Adam, {"betas": ("0.9", 0.999)}, TypeError, r"betas\[0\] is a number, not str '0\.9'"),
    (Adam, {"betas": (0.9, math.nan)}, ValueError, r"betas\[1\] is finite, not nan"),
    (Adam, {"betas": (math.inf, 0.9)}, ValueError, r"betas\[0\] is finite, not inf"),
    (AdamW, {"eps": None}, TypeError, "eps is a number"),
    (AdamW, {"eps": math.inf}, ValueError, "eps is finite, not inf"),
    (AdamW, {"eps": math.nan}, ValueError, "eps is"),
]


@pytest.mark.parametrize(("kind", "settings", "error", "message"), WRONG_SETTINGS, ids=str)
def test_settings_of_a_wrong_kind_are_refused_when_given(kind, settings, error, message):
    with pytest.raises(error, match=rf"^{kind.__name__}: {message}"):
        kind([parameter([1.0])], **settings)
    with pytest.raises(error, match=rf"^{kind.__name__}: {message}"):
        kind([{"params": [parameter([1.0])], **settings}])
    optimizer = kind([parameter([1.0])])
    with pytest.raises(error, match=rf"^{kind.__name__}: {message}"):
        optimizer.add_param_group({"params": [parameter([1.0])], **settings})
    assert len(optimizer.param_groups) == 1
    state = optimizer.state_dict()
    state["param_groups"][0] |= settings
    before = repr(optimizer)
    with pytest.raises(error, match=rf"^{kind.__name__}: {message}.* \(in param_groups\[0\] of the state\)"):
        optimizer.load_state_dict(state)
    assert repr(optimizer) == before


def test_settings_may_be_numpy_s_numbers():
    w = parameter([1.0], grad=[1.0])
    Adam([w], lr=np.float64(0.5), betas=(np.float32(0.5), 0.999), eps=np.float32(1e-8), weight_decay=0).step()
    assert w.item() == pytest.approx(0.5)


@pytest.mark.parametrize("group", [[], None, 3, [parameter([1.0])]], ids=str)
def test_a_group_is_a_dict(group):
    optimizer = SGD([parameter([1.0])])
    with pytest.raises(TypeError, match="SGD: a group is a dict with the entry 'params', not"):
        optimizer.add_param_group(group)
    with pytest.raises(TypeError, match="SGD: the entry 'params' of a group is a list of parameters, not None"):
        optimizer.add_param_group({"params": None})


@every
def test_a_state_may_go_through_json(make, device):
    model, x, target = problem(device)
    optimizer = make([{"params": model[0].parameters(), "lr": 0.05}, {"params": model[2].parameters()}])
    train(model, optimizer, x, target, 3)
    weights = model.state_dict()
    text = json.dumps(optimizer.state_dict(), default=lambda array: array.tolist())
    expected = train(model, optimizer, x, target, 3)
    twin, _, _ = problem(device)
    twin.load_state_dict(weights)
    fresh = make([{"params": twin[0].parameters()}, {"params": twin[2].parameters()}])
    fresh.load_state_dict(json.loads(text))
    assert train(twin, fresh, x, target, 3) == pytest.approx(expected, rel=1e-6)
    assert json.loads(json.dumps(fresh.state_dict()["param_groups"])) is not None
    assert repr(fresh) == repr(optimizer)


def _entry(state, **changes):
    state["state"][1] |= changes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.update(state=[]), r"'state' is a dict of dicts, by the numbers of parameters, not \[\]"),
        (lambda s: s.update(state=None), "'state' is a dict of dicts"),
        (lambda s: s["state"].update({0: []}), "'state' is a dict of dicts"),
        (lambda s: s.update(param_groups={}), r"'param_groups' is a list of dicts, each with the entry 'params'"),
        (lambda s: s.update(param_groups=[{}]), "'param_groups' is a list of dicts"),
        (lambda s: s["state"].update({7: s["state"].pop(0)}), r"are of the parameters \[0, 1, 2, 3\].* not of \[7\]"),
        (lambda s: s["state"].update({"weight": s["state"].pop(0)}), r"not of \['weight'\]"),
        (lambda s: s["param_groups"][0].update(params=[0, 0, 1, 2]), r"not of \[3\]"),
        (lambda s: _entry(s, step=-5), "step of parameter 1 is a whole number and not negative, not -5"),
        (lambda s: _entry(s, step=2.5), "step of parameter 1 is a whole number and not negative, not 2.5"),
        (lambda s: _entry(s, step=math.nan), "step of parameter 1 is a whole number"),
        (lambda s: _entry(s, step=True), "step of parameter 1 is a whole number"),
        (lambda s: _entry(s, step="3"), "step of parameter 1: takes a number, not builtins.str '3'"),
        (lambda s: _entry(s, step=None), "step of parameter 1: takes a number, not builtins.NoneType"),
        (lambda s: s["state"][1].pop("step"), "the state of parameter 1 lacks 'step'"),
        (lambda s: s["state"].update({1: {"step": 3}}), r"the state of parameter 1 is \[\], but Adam keeps"),
        (lambda s: _entry(s, exp_avg=None), r"the state of parameter 1 is \['exp_avg_sq'\], but Adam keeps"),
        (lambda s: _entry(s, max_exp_avg_sq=1.0), "the state of parameter 1 is .*max_exp_avg_sq.*, but Adam keeps"),
        (lambda s: _entry(s, exp_avg="abc"), "exp_avg of parameter 1: .*data is a number"),
        (lambda s: _entry(s, exp_avg=np.array(["a"])), "exp_avg of parameter 1: .*there is no dtype str"),
        (lambda s: _entry(s, exp_avg=np.zeros(3)), r"exp_avg of parameter 1 is \(3,\), the parameter \(4,\)"),
        (lambda s: s["param_groups"][0].update(betas=[0.9, 0.99, 0.9]), r"betas are two numbers.*in param_groups\[0\]"),
        (lambda s: s["param_groups"][0].update(betas=[0.9, 2.0]), r"betas are in \[0, 1\).*in param_groups\[0\]"),
        (lambda s: s["param_groups"][0].update(amsgrad=True), r"there is no setting amsgrad \(in param_groups\[0\]"),
    ],
    ids=range(24),
)
def test_a_wrong_entry_of_a_state_is_named_and_changes_nothing(change, message):
    model, x, target = problem()
    optimizer = Adam(model.parameters(), lr=0.1)
    train(model, optimizer, x, target, 3)
    before, shown = everything(optimizer), repr(optimizer)
    wrong = optimizer.state_dict()
    wrong["param_groups"][0]["lr"] = 9.0
    change(wrong)
    with pytest.raises((ValueError, TypeError), match=rf"^Adam: .*{message}"):
        optimizer.load_state_dict(wrong)
    assert (everything(optimizer), repr(optimizer)) == (before, shown)
    for nothing in (None, [], "state"):
        with pytest.raises(TypeError, match="Adam: a state is a dict, not"):
            optimizer.load_state_dict(nothing)


def test_half_precision_moments_load():
    torch = pytest.importorskip("torch")
    w = torch.nn.Parameter(torch.tensor([1.5, -2.0], dtype=torch.bfloat16))
    theirs = torch.optim.Adam([w], lr=0.5)
    w.grad = torch.tensor([0.5, 0.25], dtype=torch.bfloat16)
    theirs.step()
    ours = Adam([parameter([1.5, -2.0])], lr=0.5)
    ours.load_state_dict(theirs.state_dict())
    state = ours.state_dict()["state"][0]
    assert state["step"] == 1
    assert state["exp_avg"].dtype == np.float32
    assert np.array_equal(state["exp_avg"], theirs.state_dict()["state"][0]["exp_avg"].float().numpy())


def test_a_gradient_of_another_dtype_has_a_hint_and_one_of_another_shape_none():
    p = Parameter([1.0, 2.0])
    optimizer = SGD([p], lr=0.1)
    p.grad = Tensor([1.0, 2.0], "float64")
    with pytest.raises(ValueError, match=r"p\.grad = p\.grad\.to\(p\) makes it so"):
        optimizer.step()
    p.grad = Tensor([1.0])
    with pytest.raises(ValueError, match=r"not float32 \(1,\) on cpu$"):
        optimizer.step()


def test_repr_shows_the_settings_of_each_group():
    optimizer = SGD([parameter([1.0])], lr=0.5, momentum=0.9)
    assert repr(optimizer) == "SGD(lr=0.5, momentum=0.9, dampening=0.0, weight_decay=0.0, nesterov=False)"
    optimizer.add_param_group({"params": [parameter([1.0])], "lr": 0.1})
    assert repr(optimizer).count("; lr=0.1, momentum=0.9") == 1


def test_groups_and_parameters_are_not_mixed():
    w, group = parameter([1.0]), {"params": [parameter([1.0])]}
    with pytest.raises(TypeError, match=r"SGD: takes Tensors, as from model\.parameters\(\), not dict"):
        SGD([w, group])
    with pytest.raises(TypeError, match="SGD: a group is a dict with the entry 'params', not"):
        SGD([group, w])


def test_large_new_arrays_are_held_and_small_ones_not(monkeypatch):
    held = []
    monkeypatch.setattr(CpuDevice, "large", 1024)
    monkeypatch.setattr(CpuDevice, "hold", lambda self, array: held.append(array.size))
    for size, expected in ((255, []), (256, [256] * 3)):
        w = Parameter(np.ones(size, "float32"))
        w.grad = Tensor(np.ones(size, "float32"))
        held.clear()
        Adam([w]).step()
        assert held == expected


def test_a_count_of_steps_may_be_a_float():
    optimizer = Adam([parameter([1.0], grad=[1.0])])
    optimizer.step()
    state = optimizer.state_dict()
    for step in (3.0, np.float32(3.0), Tensor(3.0), np.array(3.0, "float32")):
        state["state"][0]["step"] = step
        optimizer.load_state_dict(state)
        assert optimizer.state_dict()["state"][0]["step"] == 3


def test_parameters_of_one_name_are_told_apart_by_their_numbers():
    first, second = tinytorch.nn.Linear(2, 2), tinytorch.nn.Linear(2, 2)
    optimizer = tinytorch.SGD([*first.parameters(), *second.parameters()], lr=0.1)
    for p in (*first.parameters(), *second.parameters()):
        p.grad = tinytorch.ones_like(p)
    second.weight.grad = tinytorch.ones((3,))
    with pytest.raises(ValueError, match=r"of float32 \(2, 2\) 'weight' on cpu \(parameter 2, from 0 to 3\) must be"):
        optimizer.step()
    named = tinytorch.Sequential(first, second)
    optimizer = tinytorch.SGD(named.parameters(), lr=0.1)
    with pytest.raises(ValueError, match=r"of float32 \(2, 2\) '1\.weight' on cpu must be"):
        optimizer.step()


def test_gradients_are_cleared_or_made_zeros():
    a, b = parameter([1.0, 2.0], grad=[3.0, 4.0]), parameter([1.0])
    optimizer = SGD([{"params": [a]}, {"params": [b]}])
    optimizer.zero_grad(set_to_none=False)
    assert (a.grad.tolist(), b.grad) == ([0.0, 0.0], None)
    optimizer.zero_grad()
    assert (a.grad, b.grad) == (None, None)
    for wrong in (0, 1, 0.0, None, "no", Tensor([0.0, 1.0])):
        with pytest.raises(TypeError, match=r"^zero_grad: set_to_none is True or False"):
            optimizer.zero_grad(set_to_none=wrong)


@every
@pytest.mark.parametrize(
    "wrong", [[1.0], [[1.0, 1.0]], np.ones(2), np.ones(2, "float32")], ids=["shape", "axes", "dtype", "array"]
)
def test_a_gradient_that_fits_no_more_after_a_step_changes_nothing(make, wrong):
    a, b = parameter([1.0, 2.0], grad=[1.0, 1.0]), parameter([3.0], grad=[1.0])
    optimizer = make([a, b])
    optimizer.step()
    before = everything(optimizer)
    a.grad = wrong if isinstance(wrong, np.ndarray) and wrong.dtype == "float32" else Tensor(wrong)
    with pytest.raises(ValueError, match=r"the gradient of float32 \(2,\) on cpu .*must be"):
        optimizer.step()
    a.grad = Tensor([1.0, 1.0])
    assert everything(optimizer) == before
    optimizer.step()
    assert everything(optimizer) != before


def test_a_setting_of_ones_own_has_a_least_value_of_its_own():
    optimizer = SGD([parameter([1.0])], lr=0.1)
    optimizer.check_number("k", 1.0, 1.0)
    with pytest.raises(ValueError, match=r"^SGD: k is at least 1\.0, not 0\.5$"):
        optimizer.check_number("k", 0.5, 1.0)
    with pytest.raises(ValueError, match=r"^SGD: k is not negative: -0\.5$"):
        optimizer.check_number("k", -0.5)
