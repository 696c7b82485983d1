"""The tape: what `backward` and `grad` give, what they refuse, what they leave alone, and what they free."""

from __future__ import annotations

import asyncio
import gc
import inspect
import threading
import tracemalloc
import weakref

import numpy as np
import pytest

import tinytorch
from tinytorch import Tensor, backends
from tinytorch.autograd import Observer, op
from tinytorch.backends.cpu import CpuDevice
from tinytorch.testing import assert_close

DEEP = 10_000


def leaf(values, device=None, dtype="float32"):
    return Tensor(values, dtype, device, requires_grad=True)


# backward ---------------------------------------------------------------------------------------------------------


def test_a_one_element_result_starts_from_one(device):
    x = leaf([[3.0]], device)
    (x * x).backward()
    assert_close(x.grad, Tensor([[6.0]], device=device))


def test_any_other_starts_from_the_gradient_given(device):
    x = leaf([1.0, 2.0], device)
    (x * x).backward(Tensor([10.0, 100.0], device=device))
    assert_close(x.grad, Tensor([20.0, 400.0], device=device))


def test_the_gradient_must_be_given_for_more_than_one_element(device):
    x = leaf([1.0, 2.0], device)
    with pytest.raises(RuntimeError, match=r"shape \(2,\) must be given, as in y\.backward\("):
        (x * x).backward()
    assert x.grad is None


@pytest.mark.parametrize(
    ("gradient", "dtype", "message"),
    [
        ([1.0], "float32", r"the gradient has shape \(1,\), the tensor \(2,\)"),
        ([1.0, 1.0], "float64", "the gradient has dtype float64, the tensor float32"),
    ],
    ids=["shape", "dtype"],
)
def test_the_gradient_given_must_fit(gradient, dtype, message):
    x = leaf([1.0, 2.0], "cpu")
    with pytest.raises(ValueError, match=message):
        (x * x).backward(Tensor(gradient, dtype))
    assert x.grad is None


def test_the_gradient_given_must_be_on_the_device(other):
    x = leaf([1.0, 2.0], "cpu")
    with pytest.raises(ValueError, match=f"on cpu and .* on {other} are on different devices"):
        (x * x).backward(tinytorch.ones(2, device=other))
    assert x.grad is None


def test_the_gradient_given_is_a_tensor():
    x = leaf([1.0])
    with pytest.raises(TypeError, match="the gradient is a Tensor, not float"):
        (x * x).backward(1.0)


def test_backward_needs_something_to_differentiate():
    for y in (Tensor(1.0) * 2, tinytorch.no_grad()(lambda: leaf(1.0) * 2)(), (leaf(1.0) * 2).detach()):
        with pytest.raises(RuntimeError, match=r"does not depend on any tensor with requires_grad=True"):
            y.backward()


def test_a_leaf_is_its_own_gradient():
    x = leaf(3.0)
    x.backward()
    assert x.grad.item() == 1.0


def test_gradients_add_up_until_they_are_forgotten(device):
    x = leaf([1.0, 2.0], device)
    for times in (1, 2, 3):
        (x * 3).sum().backward()
        assert_close(x.grad, Tensor([3.0 * times] * 2, device=device))
    x.grad = None
    (x * 3).sum().backward()
    assert_close(x.grad, Tensor([3.0, 3.0], device=device))


def test_only_leaves_that_ask_for_it_get_a_gradient():
    x, c = leaf([1.0]), Tensor([5.0])
    y = x * c
    (y * 2).backward()
    assert (x.grad.item(), y.grad, c.grad) == (10.0, None, None)


def test_gradients_have_no_graph_of_their_own():
    x = leaf([1.0])
    (x * x).backward()
    assert not x.grad.requires_grad


# Freed graphs -----------------------------------------------------------------------------------------------------


def test_a_second_backward_says_that_the_graph_was_freed_and_changes_nothing():
    a, b = leaf([1.0]), leaf([2.0])
    h = a * a
    h.backward()
    with pytest.raises(RuntimeError, match=r"freed by an earlier backward; call that backward with retain_graph=True"):
        h.backward()
    with pytest.raises(RuntimeError, match="freed"):  # reached only after the gradient of b is known
        (h + b).backward()
    assert (a.grad.item(), b.grad) == (2.0, None)


def test_retain_graph_keeps_it():
    x = leaf([2.0])
    y = x * x * x
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.item() == 24.0
    with pytest.raises(RuntimeError, match="freed"):
        y.backward()


def test_create_graph_keeps_it_unless_told_otherwise():
    x = leaf([2.0])
    y = x * x
    y.backward(create_graph=True)
    y.backward(retain_graph=False, create_graph=True)
    with pytest.raises(RuntimeError, match="freed"):
        y.backward()


def test_a_part_freed_is_no_reason_to_give_half_of_a_gradient():
    x = leaf([2.0])
    h = x * x
    h.backward()
    for y in (h * x, h * 3):
        with pytest.raises(RuntimeError, match="freed"):
            tinytorch.grad(y, x, allow_unused=True)


def test_a_walk_that_ends_at_a_tensor_leaves_what_made_it():
    x = leaf([2.0])
    h = x * x
    (g,) = tinytorch.grad(h * h, h)
    h.backward(g)
    assert x.grad.item() == 32.0  # x**4
    (g,) = tinytorch.grad(h * 5, h)  # what made h is freed by now, and not asked for
    assert g.item() == 5.0


def test_nothing_changes_when_a_rule_raises():
    @op
    def _broken(dev, x, /):
        def rule(g):
            raise ZeroDivisionError("a rule of a test")

        return x * 1, rule

    a, b = leaf([1.0]), leaf([1.0])
    b.grad = Tensor([7.0])
    with pytest.raises(ZeroDivisionError):
        (_broken(a) + b * 2).backward()
    assert a.grad is None
    assert b.grad.item() == 7.0
    assert tinytorch.is_grad_enabled()


# Higher order -----------------------------------------------------------------------------------------------------


def test_third_order(device):
    x = leaf([2.0], device)
    (g,) = tinytorch.grad(x**4, x, create_graph=True)
    (h,) = tinytorch.grad(g, x, create_graph=True)
    (k,) = tinytorch.grad(h, x)
    assert (g.item(), h.item(), k.item()) == (32.0, 48.0, 48.0)
    assert not k.requires_grad


def test_backward_through_a_gradient(device):
    x = leaf([1.0, 2.0], device)
    (g,) = tinytorch.grad((x * x * x).sum(), x, create_graph=True)
    (g * g).sum().backward()  # sum of 9 x**4
    assert_close(x.grad, Tensor([36.0, 288.0], device=device))


def test_backward_with_create_graph_leaves_a_gradient_that_can_be_differentiated():
    x = leaf([3.0])
    (x**3).backward(create_graph=True)
    first, x.grad = x.grad, None
    first.backward()
    assert (first.item(), x.grad.item()) == (27.0, 18.0)


def test_mixed_second_derivatives_are_symmetric():
    x, y = leaf([0.7], dtype="float64"), leaf([1.3], dtype="float64")
    gx, gy = tinytorch.grad(tinytorch.sin(x * y) * tinytorch.exp(x), (x, y), create_graph=True)
    (gxy,) = tinytorch.grad(gx, y, retain_graph=True)
    (gyx,) = tinytorch.grad(gy, x)
    assert_close(gxy, gyx, rtol=1e-14, atol=0)


@pytest.mark.parametrize("how", ["optimizer", "data", "setitem", "load_state_dict"])
def test_a_changed_parameter_is_noticed_where_its_values_are_needed_again(how):
    model = tinytorch.Linear(1, 1, bias=False, dtype="float64")
    w = model.weight
    assert [name for name, _ in model.named_parameters()] == ["weight"]
    loss = (w * w * w).sum()
    w.grad = tinytorch.ones_like(w)
    old = w.item()
    if how == "optimizer":
        tinytorch.SGD([w], lr=0.5).step()
    elif how == "data":
        w.data = tinytorch.zeros_like(w)
    elif how == "setitem":
        with tinytorch.no_grad():
            w[0] = 0.0
    else:
        model.load_state_dict({"weight": np.zeros((1, 1))})
    with pytest.raises(RuntimeError, match=r"float64 \(1, 1\) 'weight' on cpu was changed after multiply used it"):
        tinytorch.grad(loss, w, create_graph=True)
    (g,) = tinytorch.grad(loss, w)  # without, what was recorded is what counts
    assert g.item() == pytest.approx(3 * old**2, rel=1e-12)


# grad -------------------------------------------------------------------------------------------------------------


def test_grad_touches_no_grad(device):
    x = leaf([3.0], device)
    (g,) = tinytorch.grad(x * x, x)
    assert (g.item(), g.device, g.requires_grad, x.grad) == (6.0, x.device, False, None)


def test_grad_of_several_outputs_is_that_of_their_weighted_sum():
    x, y = leaf([2.0]), leaf([5.0])
    weights = [Tensor([10.0]), None]
    gx, gy = tinytorch.grad([x * y, x * x], [x, y], weights)
    assert (gx.item(), gy.item()) == (10 * 5.0 + 4.0, 10 * 2.0)


def test_grad_of_one_output_twice_is_twice_the_gradient():
    x = leaf([2.0])
    y = x * x
    assert tinytorch.grad([y, y], x)[0].item() == 8.0


def test_grad_with_respect_to_results_of_ops():
    x = leaf([2.0])
    h = x * x
    y = h * x
    gh, gx, gy = tinytorch.grad(y, [h, x, y])
    assert (gh.item(), gx.item(), gy.item()) == (2.0, 12.0, 1.0)


def test_grad_of_an_input_that_is_not_used():
    x, z = leaf([2.0]), leaf([1.0, 2.0])
    with pytest.raises(RuntimeError, match=r"depend on input 1 \(float32 \(2,\) on cpu\); pass allow_unused=True"):
        tinytorch.grad(x * x, [x, z])
    assert tinytorch.grad(x * x, [x, z], allow_unused=True)[1] is None


def test_grad_wants_outputs_and_inputs_that_require_a_gradient():
    x, c = leaf([2.0]), Tensor([1.0])
    with pytest.raises(RuntimeError, match=r"output 0 does not require a gradient: float32 \(1,\) on cpu"):
        tinytorch.grad(c, x)
    with pytest.raises(RuntimeError, match="input 1 does not require a gradient"):
        tinytorch.grad(x * c, [x, c])
    with pytest.raises(RuntimeError, match=r"output 0 does not require a gradient: 3\.0"):
        tinytorch.grad([3.0], x)
    with pytest.raises(ValueError, match="1 outputs need as many grad_outputs, not 2"):
        tinytorch.grad(x * c, x, [c, c])


def test_grad_does_not_walk_what_does_not_lead_to_an_input():
    called = []

    def noted(name, g):
        called.append(name)
        return g * 1.0

    @op
    def _watched(dev, x, y, /):
        return x + y, lambda g: noted("x", g), lambda g: noted("y", g)

    x, y, z = leaf([2.0]), leaf([3.0]), leaf([5.0])
    out = _watched(x, _watched(y, z))
    assert tinytorch.grad(out, x, retain_graph=True)[0].item() == 1.0
    assert called == ["x"]
    assert tinytorch.grad(out, z)[0].item() == 1.0
    assert called == ["x", "y", "y"]


# Recording or not -------------------------------------------------------------------------------------------------


def test_no_grad_and_enable_grad_nest():
    x = leaf([1.0])
    with tinytorch.no_grad():
        assert not (x * 2).requires_grad
        with tinytorch.enable_grad():
            assert (x * 2).requires_grad
        assert not tinytorch.is_grad_enabled()
    assert (x * 2).requires_grad


def test_no_grad_ends_with_an_exception():
    with pytest.raises(KeyError), tinytorch.no_grad():
        raise KeyError
    assert tinytorch.is_grad_enabled()


def test_no_grad_and_enable_grad_decorate():
    x = leaf([1.0])

    @tinytorch.no_grad()
    def outer(deeper=3):
        """A docstring."""
        inside = tinytorch.enable_grad()(lambda: (x * 2).requires_grad)()
        return (x * 2).requires_grad, inside, outer(deeper - 1) if deeper else None

    assert outer() == (False, True, (False, True, (False, True, (False, True, None))))
    assert outer.__doc__ == "A docstring."
    assert tinytorch.is_grad_enabled()


def test_set_grad_enabled_takes_the_answer():
    x = leaf([1.0])
    for wanted in (True, False):
        with tinytorch.set_grad_enabled(wanted):
            assert (x * 2).requires_grad is wanted


def test_no_grad_is_of_one_thread():
    seen, entered, leave = [], threading.Event(), threading.Event()

    def other():
        with tinytorch.no_grad():
            entered.set()
            assert leave.wait(10)
            seen.append(tinytorch.is_grad_enabled())

    thread = threading.Thread(target=other)
    with tinytorch.no_grad():
        thread.start()
        assert entered.wait(10)
    seen.append(tinytorch.is_grad_enabled())  # while the other thread is still inside its own
    leave.set()
    thread.join()
    assert seen == [True, False]


def test_threads_differentiate_at_the_same_time():
    found = {}

    def work(i):
        x = leaf([float(i)])
        y = x
        for _ in range(200):
            y = y + x * x
        y.backward()
        found[i] = x.grad.item()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert found == {i: 1.0 + 400.0 * i for i in range(4)}


# Shapes of graphs -------------------------------------------------------------------------------------------------


def test_a_shared_subexpression_is_walked_once():
    calls = []

    @op
    def _counted(dev, x, /):
        def rule(g):
            calls.append(g)
            return g * 2

        return x * 2, rule

    x = leaf([1.0])
    h = _counted(x)
    (h * h + h).backward()  # 4 x**2 + 2 x
    assert x.grad.item() == 10.0
    assert len(calls) == 1


def test_diamonds_upon_diamonds():
    x = leaf([1.0])
    y = x
    for _ in range(30):  # 2**30 paths
        y = y + y
    y.backward()
    assert x.grad.item() == 2.0**30


def test_diamonds_upon_diamonds_are_walked_once_for_a_second_derivative():
    x = leaf(1.0)
    y = x * x
    for _ in range(60):
        y = (y + y) * 0.5
    (g,) = tinytorch.grad(y, x, create_graph=True)
    assert (g.item(), tinytorch.grad(g, x)[0].item()) == (2.0, 2.0)


def test_the_same_tensor_twice_in_one_op(device):
    x = leaf([[1.0, 2.0], [3.0, 4.0]], device)
    (x @ x).sum().backward()
    assert_close(x.grad, Tensor([[7.0, 11.0], [9.0, 13.0]], device=device))


def test_an_old_branch_joins_a_new_one():
    x = leaf([2.0])
    old = x * 3
    new = x
    for _ in range(5):
        new = new * x
    (new + old).backward()
    assert x.grad.item() == 6 * 2.0**5 + 3


def test_deep_graphs(device):
    x = leaf([1.0], device)
    y = x
    for _ in range(DEEP):
        y = y + x
    y.backward(retain_graph=True)
    assert x.grad.item() == DEEP + 1
    del y  # a whole graph goes at once

    y = x
    for _ in range(DEEP // 10):
        y = y * 1.0
    (g,) = tinytorch.grad(y, x, create_graph=True)
    assert g.item() == 1.0


def test_a_deep_graph_that_was_never_walked_is_deleted():
    x = leaf([1.0])
    y = x * 1
    first = weakref.ref(y)
    for _ in range(DEEP):
        y = y * 1
    del y
    assert first() is None


def test_wide_graphs():
    x = leaf([1.0])
    y = tinytorch.concat([x * float(i % 2) for i in range(10_000)])
    y.sum().backward()
    assert x.grad.item() == 5000.0


def test_a_list_that_was_given_may_be_changed_afterwards():
    x, axes = leaf([[1.0, 2.0, 3.0]]), [1, 0]
    y = tinytorch.permute_dims(x, axes) * Tensor([[1.0], [2.0], [3.0]])
    axes.reverse()
    (g,) = tinytorch.grad((y * y).sum(), x, create_graph=True)
    assert g.tolist() == [[2.0, 16.0, 54.0]]
    assert tinytorch.grad(g.sum(), x)[0].tolist() == [[2.0, 8.0, 18.0]]


# Broadcasting and dtypes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((), (2, 3)),
        ((1,), (2, 3)),
        ((3,), (2, 3)),
        ((2, 1), (2, 3)),
        ((1, 3), (2, 3)),
        ((1, 1), (2, 3)),
        ((2, 1), (1, 3)),
        ((2, 1), (3,)),
        ((4, 1, 3), (2, 1)),
        ((1, 2, 1), (4, 1, 3)),
        ((1,), (1, 1)),
        ((), ()),
        ((1, 3), (0, 3)),
    ],
    ids=str,
)
def test_broadcasting_is_undone(left, right, device):
    rng = np.random.Generator(np.random.Philox(0))
    a, b = (rng.standard_normal(shape).astype("float32") for shape in (left, right))
    for first, second in ((a, b), (b, a)):
        x, y = leaf(first, device), leaf(second, device)
        (x * y).sum().backward()
        for t, other in ((x, second), (y, first)):
            whole = np.broadcast_to(other, np.broadcast_shapes(left, right))
            lead = whole.ndim - t.ndim
            axes = (*range(lead), *(i + lead for i, n in enumerate(t.shape) if n == 1))
            expected = whole.sum(axis=axes).reshape(t.shape)
            assert_close(t.grad, Tensor(expected, device=device), rtol=1e-5, atol=1e-6)


def test_broadcasting_is_undone_for_the_second_order(device):
    x, y = leaf([[1.0], [2.0]], device), leaf([3.0, 4.0, 5.0], device)
    (g,) = tinytorch.grad((x * y * y).sum(), y, create_graph=True)
    (h,) = tinytorch.grad((g * g).sum(), x)
    assert_close(h, Tensor([[1200.0], [1200.0]], device=device))  # the sum of (2 y sum(x))**2


def test_gradients_have_the_dtype_of_their_input():
    x, y = leaf([1.0, 2.0], dtype="float32"), leaf([3.0, 4.0], dtype="float64")
    out = x * y
    assert out.dtype == tinytorch.float64
    for create_graph in (True, False):
        gx, gy = tinytorch.grad(out.sum(), (x, y), create_graph=create_graph)
        assert (gx.dtype, gy.dtype) == (tinytorch.float32, tinytorch.float64)
    x.astype("float64").sum().backward()
    assert x.grad.dtype == tinytorch.float32


def test_gradients_come_back_to_the_device_of_their_input(other):
    x = leaf([1.0, 2.0], "cpu")
    (x.to(other) * 3).sum().backward()
    assert_close(x.grad, Tensor([3.0, 3.0]), check_device=True)
    assert x.grad.device.name == "cpu"


# Memory -----------------------------------------------------------------------------------------------------------


def test_the_graph_is_freed_while_it_is_walked(device):
    alive = []

    @op
    def _last(dev, x, /):
        def rule(g):
            alive.append([r() is not None for r in tensors])
            return g

        return x * 1, rule

    x = leaf([1.0], device)
    y = _last(x)
    tensors = []
    for _ in range(5):
        y = tinytorch.exp(y * 0.5)
        tensors.append(weakref.ref(y))
    loss = y.sum()
    del y
    loss.backward()
    assert alive == [[False] * 5]  # while `loss` itself is still held


def test_the_arrays_are_freed_too():
    x = leaf([1.0, 2.0], "cpu")
    h = tinytorch.exp(x)
    kept = weakref.ref(h.array)
    y = (h * h).sum()
    del h
    assert kept() is not None
    y.backward()
    assert kept() is None


@pytest.fixture
def _collector_off():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def _training_step(device):
    """One step of a model that has nearly everything, built anew."""
    model = tinytorch.Sequential(
        tinytorch.Conv2d(1, 2, 3),
        tinytorch.ReLU(),
        tinytorch.MaxPool2d(2),
        tinytorch.Flatten(2),
        tinytorch.Linear(4, 4),
        tinytorch.PositionalEncoding(4, max_len=8),
        tinytorch.TransformerEncoderLayer(4, 2, 8, batch_first=True),
        tinytorch.LayerNorm(4),
        tinytorch.Flatten(),
        tinytorch.Linear(8, 3),
    ).to(device)
    optimizer = tinytorch.AdamW(model.parameters(), lr=0.1)
    x, labels = tinytorch.randn(2, 1, 6, 6, device=device), Tensor([0, 2], device=device)
    for _ in range(2):
        optimizer.zero_grad()
        loss = tinytorch.CrossEntropyLoss()(model(x), labels)
        loss.backward()
        tinytorch.optim.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    (g,) = tinytorch.grad(model(x).sum(), [model[0].weight], create_graph=True)
    tinytorch.grad((g * g).sum(), list(model.parameters()), allow_unused=True)


@pytest.mark.usefixtures("_collector_off")
def test_training_makes_no_reference_cycles(device):
    _training_step(device)  # what the first time leaves behind is not ours
    gc.collect()
    _training_step(device)
    assert gc.collect() == 0


@pytest.mark.usefixtures("_collector_off")
def test_memory_is_flat_over_10_000_steps():
    model = tinytorch.Linear(2, 1, device="cpu")
    optimizer = tinytorch.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    x, target = Tensor([[1.0, 2.0], [3.0, 4.0]], device="cpu"), Tensor([[1.0], [2.0]], device="cpu")

    def train(steps):
        for _ in range(steps):
            optimizer.zero_grad()
            tinytorch.mse_loss(model(x), target).backward()
            optimizer.step()

    train(100)
    tracemalloc.start()
    try:
        train(10)
        before = tracemalloc.get_traced_memory()[0]
        train(10_000)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 10_000, f"{grown} bytes more"  # a single byte a step would be as much


def test_a_grad_of_another_shape_is_not_added_to():
    x, y = Tensor([1.0, 2.0], requires_grad=True), Tensor(1.0, requires_grad=True)
    x.grad = tinytorch.ones((2, 2))
    with pytest.raises(ValueError, match=r"float32 \(2,\) on cpu has a grad of shape \(2, 2\); set it to None first"):
        (x * y).sum().backward()
    assert (x.grad.shape, y.grad) == ((2, 2), None)


# Watching ---------------------------------------------------------------------------------------------------------


class Log(Observer):
    def __init__(self):
        self.lines = []

    def made(self, op, inputs, meta, result):
        self.lines.append((op, [getattr(x, "shape", x) for x in inputs], dict(meta), result.shape))

    def pulled(self, node, source, gradient):
        self.lines.append((node.op.name, tuple(gradient.shape)))


@pytest.mark.parametrize("create_graph", [False, True])
def test_an_observer_is_told_of_every_op_and_gradient_inside_its_block_only(device, create_graph):
    x = leaf([[1.0, 2.0]], device)
    x * 3
    with Log() as outer, Log() as log:
        y = (x * 3).sum(axis=0)
    with log:
        y.backward(tinytorch.ones_like(y), create_graph=create_graph)
    y.detach() * 2
    assert log.lines[:2] == outer.lines == [("multiply", [(1, 2), 3], {}, (1, 2)), ("sum", [(1, 2)], {"axis": 0}, (2,))]
    pulls = [line for line in log.lines if len(line) == 2]
    assert pulls == [("sum", (1, 2)), ("multiply", (1, 2))]


def test_an_observer_that_raises_ends_with_its_block():
    class Refuses(Observer):
        def made(self, op, inputs, meta, result):
            raise KeyError(op)

    x = leaf([1.0])
    with pytest.raises(KeyError, match="multiply"), Refuses():
        x * 2
    assert (x * 2).item() == 2.0


# Rules that are wrong ---------------------------------------------------------------------------------------------


def wrong(rule, forward=lambda dev, x, w: dev.xp.matmul(x, w.mT)):
    """An op like `linear` without a bias, the gradient rule of whose weight, (out, in), is not right."""

    @op
    def scaled(dev, x, weight, /):
        return forward(dev, x, weight), lambda g: dev.xp.matmul(g, weight), lambda g: rule(dev, x, g)

    return scaled


@pytest.mark.parametrize("create", [False, True], ids=["first", "second"])
@pytest.mark.parametrize(
    ("rule", "shape"),
    [
        (lambda dev, x, g: dev.xp.matmul(x.mT, g), r"\(3, 2\)"),  # as many elements
        (lambda dev, x, g: dev.xp.reshape(dev.xp.matmul(g.mT, x), (6,)), r"\(6,\)"),
        (lambda dev, x, g: dev.xp.sum(g), r"\(\)"),
        (lambda dev, x, g: dev.xp.matmul(g.mT, x)[:, :1], r"\(2, 1\)"),
        (lambda dev, x, g: dev.xp.matmul(g.mT, x)[None, :, None, :], r"\(1, 2, 1, 3\)"),
    ],
    ids=["transposed", "flat", "scalar", "shorter", "longer"],
)
def test_a_gradient_of_the_wrong_shape_is_refused(rule, shape, create, device):
    x, w = leaf([[1.0, 2.0, 3.0]] * 4, device), leaf([[1.0, 0.0, 1.0]] * 2, device)
    y = wrong(rule)(x, w).sum()
    message = rf"^scaled: the gradient rule of weight gave a gradient of shape {shape} for an input of shape \(2, 3\); "
    with pytest.raises(ValueError, match=message):
        y.backward(create_graph=create)
    assert w.grad is None


@pytest.mark.parametrize("create", [False, True], ids=["first", "second"])
@pytest.mark.parametrize("shape", [(1, 3), (3,), (), (1, 1)], ids=str)
def test_a_gradient_of_what_an_input_was_broadcast_to_is_summed(shape, create, device):
    @op
    def plus(dev, a, b, /):
        return a + b, lambda g: g, lambda g: g

    x, w = leaf([[1.0, 2.0, 3.0]] * 4, device), leaf(np.ones(shape), device)
    plus(x, w).sum().backward(create_graph=create)
    assert (w.grad.shape, w.grad.sum().item()) == (shape, 12.0)


@pytest.mark.parametrize("create", [False, True], ids=["first", "second"])
@pytest.mark.parametrize(
    ("rule", "what"),
    [
        (lambda dev, x, g: None, "gave None instead of an array.*returns None in place of the rule"),
        (lambda dev, x, g: 1.5, "gave a float instead of an array"),
        (lambda dev, x, g: (g, g), "gave a tuple instead of an array"),
        (lambda dev, x, g: dev.xp.matmul(g.mT, x) > 0, r"of dtype bool, which is not floating.*xp\.where"),
        (lambda dev, x, g: dev.xp.ones((2, 3), dtype=dev.xp.int32, device=dev.native), "of dtype int32, which is not"),
    ],
    ids=["None", "number", "tuple", "bool", "integers"],
)
def test_what_is_no_gradient_is_refused(rule, what, create, device):
    x, w = leaf([[1.0, 2.0, 3.0]] * 4, device), leaf([[1.0, 0.0, 1.0]] * 2, device)
    for _ in range(2):
        with pytest.raises(TypeError, match=f"^scaled: the gradient rule of weight .*{what}"):
            wrong(rule)(x, w).sum().backward(create_graph=create)
    assert w.grad is None


def test_rules_are_looked_at_once_for_each_device(other):
    good = wrong(lambda dev, x, g: dev.xp.matmul(g.mT, x))
    for device in ("cpu", "cpu", other):
        x, w = leaf([[1.0, 2.0, 3.0]] * 4, device), leaf([[1.0, 0.0, 1.0]] * 2, device)
        good(x, w).sum().backward()
        assert x.device in good.walked
    assert good.walked == {backends.device("cpu"), backends.device(other)}


def test_a_gradient_on_another_device_is_refused(library):
    x, w = leaf([[1.0, 2.0, 3.0]] * 4, library), leaf([[1.0, 0.0, 1.0]] * 2, library)
    host = wrong(lambda dev, x, g: np.ones((2, 3), "float32"))
    for _ in range(2):
        with pytest.raises(
            ValueError, match=f"^scaled: the gradient rule of weight gave an array on cpu .* on {library};"
        ):
            host(x, w).sum().backward()
    with pytest.raises(TypeError, match=r"^scaled: the gradient rule of weight gave a Tensor instead of an array"):
        wrong(lambda dev, x, g: Tensor([[1.0] * 3] * 2, device=library))(x, w).sum().backward()


def test_a_gradient_on_another_device_of_its_library_is_refused(strict):
    x, w = leaf([[1.0, 2.0, 3.0]] * 4, strict("device1")), leaf([[1.0, 0.0, 1.0]] * 2, strict("device1"))
    elsewhere = wrong(lambda dev, x, g: dev.xp.ones((2, 3), dtype=g.dtype))
    with pytest.raises(ValueError, match="gave an array on strict:CPU_DEVICE for an input on strict:device1; make "):
        elsewhere(x, w).sum().backward()


def test_the_rule_that_is_wrong_is_named_by_position_and_parameter():
    @op
    def joined(dev, *arrays):
        return dev.xp.concat(list(arrays)), *([lambda g: g[:2]] * len(arrays))

    layer = tinytorch.Linear(2, 3)
    with pytest.raises(ValueError, match=r"^joined: the gradient rule of arrays\[1\] 'bias' gave .*\(2,\) .* \(3,\)"):
        joined(layer.weight[0], layer.bias).sum().backward()


# Modes: generators, coroutines, decorators; leaves that are switched off --------------------------------------------


MODES = [  # every way to switch recording off for a function
    lambda f: tinytorch.no_grad()(f),
    tinytorch.no_grad,
    lambda f: tinytorch.set_grad_enabled(False)(f),
]


@pytest.mark.parametrize("way", range(3))
def test_a_decorated_generator_records_as_it_says_and_its_caller_as_before(way):
    x = Tensor([1.0], requires_grad=True)
    seen = []

    def numbers(n):
        try:
            for i in range(n):
                try:
                    seen.append((yield (x * i).requires_grad))
                except KeyError as error:
                    seen.append((repr(error), (x * 2).requires_grad))
                    yield "caught"
        finally:
            seen.append(("end", (x * 2).requires_grad))
        return "done"

    steps = MODES[way](numbers)(3)
    assert tinytorch.is_grad_enabled()
    assert next(steps) is False
    assert tinytorch.is_grad_enabled()
    assert steps.send("sent") is False
    assert steps.throw(KeyError("k")) == "caught"
    assert tinytorch.is_grad_enabled()
    assert list(steps) == [False]
    assert seen == ["sent", ("KeyError('k')", False), None, ("end", False)]
    closed = MODES[way](numbers)(3)
    next(closed)
    closed.close()
    assert seen[-1] == ("end", False)
    assert tinytorch.is_grad_enabled()

    def outer():
        return (yield from tinytorch.no_grad(numbers)(1))

    steps = outer()
    next(steps)
    with pytest.raises(StopIteration, match="done"):
        next(steps)


def test_a_generator_that_records_again_under_no_grad():
    x = Tensor([1.0], requires_grad=True)

    @tinytorch.enable_grad()
    def values():
        yield (x * 2).requires_grad
        yield (x * 3).requires_grad

    with tinytorch.no_grad():
        for recorded in values():
            assert recorded
            assert not (x * 2).requires_grad


@pytest.mark.parametrize("mode", [tinytorch.no_grad, tinytorch.enable_grad])
def test_what_is_decorated_stays_what_it_is(mode):
    def plain():
        """Plain."""

    def steps():
        """Steps."""
        yield

    async def coroutine():
        """A coroutine."""

    async def stream():
        """A stream."""
        yield

    kinds = (inspect.isgeneratorfunction, inspect.iscoroutinefunction, inspect.isasyncgenfunction)
    for function in (plain, steps, coroutine, stream):
        made = mode(function)
        assert (made.__name__, made.__doc__, made.__wrapped__) == (function.__name__, function.__doc__, function)
        assert [kind(made) for kind in kinds] == [kind(function) for kind in kinds]


@pytest.mark.parametrize("way", range(3))
def test_a_decorated_coroutine_leaves_others_alone(way):
    x = Tensor([1.0], requires_grad=True)
    found = []

    async def quiet(name):
        for _ in range(3):
            found.append((name, (x * 2).requires_grad))
            await asyncio.sleep(0)
        return name

    async def stream(name):
        for _ in range(3):
            await asyncio.sleep(0)
            yield (x * 2).requires_grad

    async def loud():
        for _ in range(3):
            found.append(("loud", (x * 2).requires_grad))
            await asyncio.sleep(0)
        return [v async for v in MODES[way](stream)("s")], (x * 2).requires_grad

    async def main():
        return await asyncio.gather(MODES[way](quiet)("quiet"), loud())

    assert asyncio.run(main()) == ["quiet", ([False] * 3, True)]
    assert sorted(set(found)) == [("loud", True), ("quiet", False)]
    assert tinytorch.is_grad_enabled()


def test_set_grad_enabled_as_a_decorator_leaves_nothing_behind():
    x = Tensor([1.0], requires_grad=True)

    @tinytorch.set_grad_enabled(False)
    def double(t, factor=2.0):
        """Twice t."""
        return t * factor

    assert tinytorch.is_grad_enabled()
    assert not double(x, factor=3.0).requires_grad
    assert (double.__name__, double.__doc__) == ("double", "Twice t.")
    with pytest.raises(TypeError):
        double()
    assert tinytorch.is_grad_enabled()
    with tinytorch.no_grad():
        assert tinytorch.set_grad_enabled(True)(lambda: (x * 2).requires_grad)()
        assert not tinytorch.is_grad_enabled()


@pytest.mark.parametrize("create_graph", [False, True])
def test_a_leaf_that_was_switched_off_gets_no_gradient(device, create_graph):
    x, w = (Tensor([2.0], device=device, requires_grad=True) for _ in range(2))
    loss = (x * w).sum()
    w.requires_grad = False
    loss.backward(retain_graph=True, create_graph=create_graph)
    assert w.grad is None
    assert x.grad.tolist() == [2.0]
    with pytest.raises(RuntimeError, match="input 1 does not require a gradient"):
        tinytorch.grad(loss, [x, w])
    w.requires_grad = True
    x.grad = None
    loss.backward()
    assert (x.grad.tolist(), w.grad.tolist()) == ([2.0], [2.0])


def test_large_results_and_gradients_are_held_and_small_ones_not(monkeypatch):
    held = []
    monkeypatch.setattr(CpuDevice, "large", 1024)
    monkeypatch.setattr(CpuDevice, "hold", lambda self, array: held.append(array.shape))
    for n, expected in ((255, []), (256, [(256,)] * 3)):  # the result, its gradient of two parts, and that of x
        held.clear()
        y = leaf(np.ones(n), "cpu") * 2.0
        (y[:100].sum() + y[100:].sum()).backward()
        assert held == expected


@pytest.mark.parametrize("key", [lambda t: t, lambda t: tinytorch.asarray([t])], ids=["number", "tensor"])
def test_a_loop_of_assignments_keeps_no_copy_for_each(key):
    v = tinytorch.ones((20_000,)).requires_grad_()
    y = tinytorch.zeros((50, 20_000))  # 4 MB
    y[0] = v
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for t in range(50):
            y[key(t)] = v
        assert tracemalloc.get_traced_memory()[0] - before < 12e6
    finally:
        tracemalloc.stop()
    (y * y).sum().backward()
    assert v.grad.tolist() == [100.0] * 20_000
