"""What an op says of an error of its library, and which ops there are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import tinytorch
from tinytorch import Tensor, autograd
from tinytorch.autograd import op
from tinytorch.verify import diagnose, diagnosis, run_once
from tinytorch.verify.mistakes import Finding

OPS = Path(tinytorch.ops.__file__).parent


def decorated():
    """The names of all functions of `ops` that are made ops."""
    for path in OPS.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef):
                made = [d.func if isinstance(d, ast.Call) else d for d in node.decorator_list]
                if any(getattr(d, "id", "") == "op" for d in made):
                    yield node.name.lstrip("_")
            elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "_without_gradient":
                yield node.args[0].value


def test_every_op_is_registered_under_its_name():
    names = set(decorated())
    assert len(names) > 100
    assert autograd.OPS.keys() == names
    assert all(made.name == name for name, made in autograd.OPS.items())

    @op
    def _another(dev, x, /):
        return x, None

    assert autograd.OPS["another"] is _another


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        *((k("boom"), k) for k in (IndexError, OverflowError, ZeroDivisionError, NotImplementedError, TypeError)),
        *((k("boom"), k) for k in (ValueError, MemoryError)),
        (RuntimeError("boom"), ValueError),
        (UnicodeError("failing: boom"), ValueError),
        (KeyError("boom"), None),
        (AttributeError("boom"), None),
        (RecursionError("boom"), None),
        (NotImplementedError("boom"), NotImplementedError),
    ],
    ids=lambda x: repr(x) if isinstance(x, Exception) else "",
)
def test_an_error_of_the_library_is_said_by_the_op(raised, kind):
    @op(shapes="x (N,)")
    def failing(dev, x, /, *, k=1):
        raise raised

    with pytest.raises(type(raised) if kind is None else kind) as caught:
        failing(Tensor([1.0, 2.0]), k=2)
    if kind is None:
        assert caught.value is raised
    else:
        assert caught.type is kind
        assert str(caught.value) == "failing(float32 (2,) on cpu, k=2): boom; failing takes x (N,)"
        assert caught.value.said_by == "failing"


@pytest.mark.parametrize(("shape", "text"), [((3,), "2 is not 3"), ((2,), "words of a library")], ids=str)
def test_an_op_says_why_shapes_do_not_fit(shape, text):
    @op(unfit=lambda x, y: f"{x.shape[0]} is not {y.shape[0]}" if x.shape != y.shape else None)
    def failing(dev, x, y, /):
        raise ValueError("words of a library")

    with pytest.raises(ValueError, match=rf"^failing\(float32 \(2,\) on cpu, .* on cpu\): {text}$"):
        failing(Tensor([1.0, 2.0]), tinytorch.ones(shape))


@pytest.mark.parametrize("axis", [2, -3, (0, 2), (-3, 1)], ids=str)
def test_an_axis_that_is_not_there_is_an_index_error(axis):
    @op
    def along(dev, x, /, *, axis):
        raise ValueError("words of a library")

    wrong = axis if isinstance(axis, int) else next(i for i in axis if i in (2, -3))
    with pytest.raises(IndexError, match=re.escape(f"axis {wrong} is outside [-2, 2) for 2 dimensions")):
        along(tinytorch.ones((1, 1)), axis=axis)
    with pytest.raises(ValueError, match=r"^along\(.*, axis=\(-2, 1\)\): words of a library$"):
        along(tinytorch.ones((1, 1)), axis=(-2, 1))


def test_a_size_is_no_method():
    x = tinytorch.ones((2, 3))
    assert x.size == 6
    with pytest.raises(TypeError, match=r"^size: x\.size is the number of elements, an integer; write x\.shape$"):
        x.size()
    with pytest.raises(TypeError, match=r"^size: .*; write x\.shape\[-1\]$"):
        x.size(-1)


@pytest.mark.parametrize("mode", [tinytorch.no_grad, tinytorch.enable_grad])
def test_what_cannot_be_decorated(mode):
    with pytest.raises(TypeError, match=rf"^{mode.__name__}: function is a function to decorate, not int"):
        mode()(3)
    shown = "on" if mode is tinytorch.enable_grad else "off"
    assert repr(mode()) == f"<gradients {shown}>"


FOLLOWS = {
    "alike": {"zero", "dead", "vanishing"},
    "dead": {"zero"},
    "saturated": {"zero", "vanishing"},
    "nan": {"zero", "exploding", "vanishing", "alike", "dead", "saturated"},
    "data": {"exploding", "vanishing", "saturated", "dead", "zero", "step too large"},
    "probabilities": {"nan", "exploding", "vanishing", "step too large"},
}
OTHERS = {"unreached", "logits", "labels", "dtype", "mode", "stale", "uphill", "step too small"}


@pytest.mark.parametrize("cause", [*FOLLOWS, *sorted(OTHERS)])
def test_what_follows_from_a_finding_is_not_told_beside_it(cause):
    for kind in {*OTHERS, *FOLLOWS, *(k for kinds in FOLLOWS.values() for k in kinds)}:
        found = [Finding(cause, "a", "a"), Finding(kind, "b", "b")]
        gone = {"b"} if kind in FOLLOWS.get(cause, ()) else {"a"} if cause in FOLLOWS.get(kind, ()) else set()
        assert {f.culprit for f in diagnosis._causes(found)} == {"a", "b"} - gone


# What is as it was after an error ------------------------------------------------------------------------------------


class Wrong(Exception):
    pass


def raising(expected=True):
    assert expected
    raise Wrong


def test_a_device_and_a_mode_are_left_with_an_error(other):
    with pytest.raises(Wrong), tinytorch.device(other):
        raising(tinytorch.default_device().name == other)
    assert tinytorch.default_device().name == "cpu"
    for mode in (tinytorch.no_grad, tinytorch.enable_grad, lambda: tinytorch.set_grad_enabled(False)):
        with pytest.raises(Wrong), mode():
            raising()
        assert tinytorch.is_grad_enabled()
        with pytest.raises(Wrong):
            mode()(raising)()
        assert tinytorch.is_grad_enabled()
    with tinytorch.no_grad(), pytest.raises(Wrong), tinytorch.enable_grad():
        raising()
    assert tinytorch.is_grad_enabled()


def test_a_model_is_in_its_modes_after_a_measure_that_fails():
    def train(run):
        run.watch(model, metric=raising)
        yield tinytorch.ones(())

    model = tinytorch.Sequential(tinytorch.Linear(1, 1), tinytorch.Dropout(0.5))
    model[1].eval()
    with pytest.raises(Wrong):
        run_once(train)
    assert [m.training for m in model.modules()] == [True, True, False]
    assert tinytorch.is_grad_enabled()


def test_parameters_gradients_and_numbers_are_as_they_were_after_a_loss_that_fails():
    model = tinytorch.Sequential(tinytorch.Linear(2, 1))
    optimizer = tinytorch.SGD(model.parameters(), lr=0.1)
    model[0].weight.grad = tinytorch.ones((1, 2))
    before = [p.tolist() for p in model.parameters()]
    for last in (1, 2):  # the first loss, and that after the step which is tried
        calls = []

        def loss(last=last, calls=calls):
            calls.append(1)
            return (model(tinytorch.rand(4, 2)) ** 2).sum() if len(calls) < last else raising()

        tinytorch.manual_seed(3)
        with pytest.raises(Wrong):
            diagnose(model, loss, optimizer)
        assert len(calls) == last
        assert [p.tolist() for p in model.parameters()] == before
        assert (model[0].weight.grad.tolist(), model[0].bias.grad) == ([[1.0, 1.0]], None)
        drawn = tinytorch.rand(3).tolist()
        tinytorch.manual_seed(3)
        assert tinytorch.rand(3).tolist() == drawn
    assert optimizer.state_dict()["state"] == {}


def test_a_graph_and_grads_are_as_they_were_after_a_rule_that_fails():
    fail = [True]

    @op
    def fragile(dev, x, /):
        return x * 2.0, lambda g: raising() if fail[0] else g * 2.0

    x, w = (Tensor([1.0], requires_grad=True) for _ in range(2))
    y = fragile(x) * w
    with pytest.raises(Wrong) as caught:
        y.backward()
    assert "in the gradient rules of fragile, for a result of shape (1,)" in caught.value.__notes__
    assert (x.grad, w.grad) == (None, None)
    assert tinytorch.is_grad_enabled()
    with pytest.raises(Wrong):
        tinytorch.grad(fragile(x), x, create_graph=True)
    fail[0] = False
    tinytorch.grad(fragile(x), x)
    assert tinytorch.is_grad_enabled()
