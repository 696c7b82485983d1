"""What an op says of an error of its library, and which ops there are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import tinytorch
from tinytorch import Tensor, autograd
from tinytorch.autograd import op
from tinytorch.verify import diagnosis
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
    @op(wants="x (N,)")
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
