"""`Device.compile` on each device: a program gives what eager mode gives, whichever way the device runs it.

Devices that run a program line by line call the same functions on the same arrays: their results are equal bit for bit.
JAX compiles it as a whole, and XLA may add up in another order: what it gives may differ by a few units in the last
place (ULP) of the largest number of an array, `ULPS` of them for one step.
"""

from __future__ import annotations

import numpy as np
import pytest

import tinytorch
from benchmarks.peers import tinytorch_
from benchmarks.workloads import WORKLOADS
from tests.ops.test_cases import tensors
from tinytorch import nn
from tinytorch.backends import Device
from tinytorch.parity.cases import CASES

ULPS = {"jax": 8}  # of one step or one case; 0 on all other devices

STEPS = 5  # more than one program's: the first are eager, the program runs in the last ones

SHAPED_BY_VALUES = {"getitem-mask", "getitem-mask-rows", "repeat-tensor"}  # are refused, see tests of `compile`

ON_JAX = [  # each compiles for a third of a second: one row for each extension point, and some others
    "erf",
    "gelu",
    "max-axis",
    "cumulative_sum",
    "softmax",
    "getitem-tensor-pair",
    "put",
    "scatter_add",
    "conv2d-all",
    "max_pool2d-overlap",
    "layer_norm",
    "embedding",
    "scaled_dot_product_attention-mask",
    "binary_cross_entropy",
    "cross_entropy-ignore",
]


def assert_alike(actual, expected, device, steps=1, what=""):
    """Equal bit for bit, or on JAX within the ULPs of so many steps."""
    a, e = (x.detach().numpy() for x in (actual, expected))
    allowed = steps * ULPS.get(device.partition(":")[0], 0)
    assert (a.shape, a.dtype) == (e.shape, e.dtype), what
    if not allowed or a.dtype.kind != "f":
        assert a.tobytes() == e.tobytes(), what
        return
    np.testing.assert_array_equal(np.isfinite(a), np.isfinite(e), what)
    ends = np.abs(e[np.isfinite(e)])
    ulp = np.spacing(ends.max()) if ends.size else 1.0
    np.testing.assert_allclose(a, e, rtol=0, atol=allowed * ulp, equal_nan=True, err_msg=what)


def model_of(step):
    """The model of a workload's step, found in its names."""
    return dict(zip(step.__code__.co_freevars, (c.cell_contents for c in step.__closure__), strict=True))["model"]


@pytest.mark.parametrize("name", ["W1", "W2", "W3m", "W3a"])
def test_steps_of_a_workload(device, name):
    with tinytorch.device(device):
        eager, _ = tinytorch_.build(WORKLOADS[name])
        step, _ = tinytorch_.build(WORKLOADS[name])
        compiled = tinytorch.compile(step)
        for i in range(STEPS):
            assert_alike(compiled(), eager(), device, i + 1, f"the loss of step {i}")
            for p, q in zip(model_of(step).parameters(), model_of(eager).parameters(), strict=True):
                assert_alike(p, q, device, i + 1, f"{p.name} after step {i}")
                assert_alike(p.grad, q.grad, device, 4 * (i + 1), f"the gradient of {p.name} in step {i}")
    assert len(compiled.programs) == 1


def test_a_step_with_dropout_draws_the_same_numbers(device):
    with tinytorch.device(device):
        model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))
        start, x = model.state_dict(), tinytorch.ones((3, 4))

        def train(compiled):
            model.load_state_dict(start)
            optimizer = tinytorch.SGD(model.parameters(), lr=0.1)

            def step():
                optimizer.zero_grad()
                loss = tinytorch.square(model(x)).mean()
                loss.backward()
                optimizer.step()
                return loss

            tinytorch.manual_seed(3)
            step = tinytorch.compile(step) if compiled else step
            losses = [step() for _ in range(STEPS)]
            assert not compiled or step.program is not None
            return losses, tinytorch.random.generator.bit_generator.state

        (eager, after), (actual, then) = train(False), train(True)
        assert str(then) == str(after)
        assert len({x.item() for x in eager}) == STEPS
        for i, (a, e) in enumerate(zip(actual, eager, strict=True)):
            assert_alike(a, e, device, i + 1, f"the loss of step {i}")


def every_case():
    """All rows but those that are refused, for all devices; on JAX, those in the list."""
    cases = [c for c in CASES if c.id not in SHAPED_BY_VALUES]
    return pytest.mark.parametrize("case", cases, ids=lambda c: c.id)


@every_case()
def test_a_case_and_its_gradient(device, case):
    if device.startswith("jax") and case.id not in ON_JAX:
        pytest.skip("each row compiles for a third of a second: some of them")
    inputs = tensors(case, "float32", device, requires_grad=case.gradient)
    leaves = [x for x in inputs if isinstance(x, tinytorch.Tensor) and x.requires_grad]

    def function(*inputs):
        out = case.run(tinytorch.ops, list(inputs))
        if not case.gradient:
            return [out]
        return [out.detach(), *tinytorch.grad((out * out).sum(), leaves, allow_unused=True)]

    compiled = tinytorch.compile(function)
    for _ in range(4):
        tinytorch.manual_seed(0)
        expected = function(*inputs)
        tinytorch.manual_seed(0)
        for i, (a, e) in enumerate(zip(compiled(*inputs), expected, strict=True)):
            if e is None:
                assert a is None
            else:
                assert_alike(a, e, device, what="the values" if i == 0 else f"gradient {i - 1}")
    assert compiled.program is not None, "it has run as a program"


def test_a_check_that_fails_raises_what_eager_mode_raises_and_changes_nothing(device):
    """Of an input, of something that was computed, and after a draw."""
    with tinytorch.device(device):
        table = tinytorch.Tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
        drop = nn.Dropout(0.5)

        def step(ids, times):
            table.grad = None
            loss = drop(tinytorch.embedding(ids, table) + tinytorch.embedding(ids * times, table)).sum()
            loss.backward()
            return loss

        good, zero, one, two = tinytorch.Tensor([0, 1, 0]), *(tinytorch.Tensor(i) for i in range(3))
        compiled = tinytorch.compile(step)
        for _ in range(4):
            compiled(good, one)
        assert compiled.program is not None
        grad, before = table.grad, tinytorch.random.generator.bit_generator.state
        for ids, times in [(tinytorch.Tensor([0, 2, 0]), zero), (good, two)]:
            messages = []
            for function in (step, compiled):
                table.grad = grad
                tinytorch.random.generator.bit_generator.state = before
                with pytest.raises(IndexError) as caught:
                    function(ids, times).item()  # a GPU says so when values are read
                messages.append(str(caught.value))
            assert messages[0] == messages[1]
            if not tinytorch.device(device).is_gpu:
                assert table.grad is grad  # of the compiled one: eager mode has set it to None
                assert str(tinytorch.random.generator.bit_generator.state) == str(before)
        assert compiled(good, one).shape == ()


@pytest.mark.parametrize("names", [["second"], ["second", "cpu"]])
def test_each_line_is_called_with_its_device_current(monkeypatch, names):
    """By the default of `Device.compile`. Here it is noted on NumPy under another name, and on the CPU."""
    called = []

    def noting(dev):
        def current(function, *args, **kwargs):
            called.append(dev.name)
            return function(*args, **kwargs)

        return current

    for name in names:
        dev = tinytorch.device(name)
        monkeypatch.setattr(dev, "current", noting(dev), raising=False)
    x, there = tinytorch.Tensor([1.0, 2.0], device="second"), names[-1]
    double = tinytorch.compile(lambda x: (x * 2.0).to(there) + 1.0)
    for _ in range(3):
        double(x)
    run = Device.compile(dev, double.program)
    called.clear()
    assert run(x.array)[0].tolist() == [3.0, 5.0]
    assert called == (["second", "cpu", "cpu"] if there == "cpu" else ["second"])


def squared(p, optimizer):
    """A compiled step that makes the square of a parameter smaller."""

    @tinytorch.compile
    def step():
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        optimizer.step()
        return loss

    return step


@pytest.mark.device(only="jax", reason="has a compiler of its own")
def test_numbers_that_change_compile_nothing_anew(device):
    with tinytorch.device(device):
        p = nn.Parameter([1.0, 2.0])
        optimizer = tinytorch.Adam([p], lr=0.1)
        step = squared(p, optimizer)
        for i in range(8):
            optimizer.param_groups[0]["lr"] = 0.1 / (i + 1)
            step()
        assert len(step.programs) == 1
        jitted = step._entries[0].known["run"].args[0].whole
        assert jitted._cache_size() == 1


@pytest.mark.device(only="jax", reason="its arrays can be given away, which no step does")
def test_arrays_that_a_user_holds_live_on(device):
    with tinytorch.device(device):
        p = nn.Parameter([1.0, 2.0])
        optimizer = tinytorch.SGD([p], lr=0.1, momentum=0.9)
        step = squared(p, optimizer)
        held = []
        for _ in range(6):
            held.append((p.data, p.tolist(), step()))
            held.append((p.grad, p.grad.tolist(), None))
        for kept, values, _ in held:
            assert kept.tolist() == values
