"""What everybody does wrong at some time is found, each as one line with its mend; what is healthy is left alone."""

from __future__ import annotations

import sys
from functools import partial

import numpy as np
import pytest

import tinytorch
from tinytorch import (
    SGD,
    Adam,
    BCELoss,
    Conv2d,
    CrossEntropyLoss,
    Dropout,
    Flatten,
    Linear,
    ReLU,
    Sequential,
    Sigmoid,
    Softmax,
    Tanh,
    Tensor,
)
from tinytorch.milestones.sabotage import LEARNERS
from tinytorch.nn import Module, Parameter
from tinytorch.verify import diagnose, run_once
from tinytorch.verify.mistakes import of_loss

CLASSES = Tensor([0, 1, 2, 3] * 4)
ONE_HOT = Tensor(np.eye(4, dtype=np.float32)[[0, 1, 2, 3] * 4])
BINARY = Tensor([[0.0], [1.0]] * 8)


def points(n=16, seed=0):
    tinytorch.manual_seed(seed)
    return tinytorch.randn(n, 3)


def classifier(*more, out=4):
    points()
    return Sequential(Linear(3, 8), Tanh(), Linear(8, out), *more)


def looked(model, loss, optimizer=None):
    """The one finding, which must be a line of its own with a mend."""
    (finding,) = diagnose(model, loss, optimizer)
    assert "\n" not in str(finding)
    return finding


# Losses ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last", "what"),
    [
        (Softmax(), "softmax in `3` (Softmax)"),
        (Sigmoid(), "sigmoid in `3` (Sigmoid)"),
        (Tanh(), "tanh in `3` (Tanh)"),
        (ReLU(), "relu in `3` (ReLU)"),
    ],
    ids=lambda x: type(x).__name__,
)
def test_what_is_no_logit_before_a_cross_entropy(last, what, device):
    with tinytorch.device(device):
        model, x, y = classifier(last), points(), CLASSES.to(device)
        finding = looked(model, lambda: CrossEntropyLoss()(model(x), y))
    assert finding.kind == "logits"
    assert f"is given the result of {what}" in finding.text
    assert finding.text.endswith("as the loss takes the softmax itself: cross_entropy(logits, y)")


def test_a_softmax_that_is_written_by_hand_or_moved_about():
    model, x = classifier(), points()

    def soft(z):
        e = tinytorch.exp(z)
        return e / e.sum(axis=1, keepdims=True)

    finding = looked(model, lambda: tinytorch.cross_entropy(soft(model(x)), CLASSES))
    assert "divide, which are probabilities that sum to 1" in finding.text

    def moved():
        return tinytorch.cross_entropy(tinytorch.softmax(model(x), axis=1).reshape(4, 4, 4).mT[:, :, 0], CLASSES[:4])

    assert "the result of softmax in test_mistakes.py" in looked(model, moved).text


MOVED = {
    "reshape": lambda z: z.reshape((4, 4)),
    "getitem": lambda z: z[:],
    "astype": lambda z: z.astype("float64"),
    "squeeze": lambda z: z.reshape((4, 1, 4)).squeeze(1),
    "expand_dims": lambda z: z.expand_dims(0)[0],
    "permute_dims": lambda z: z.permute_dims(1, 0),
    "matrix_transpose": lambda z: z.mT,
    "moveaxis": lambda z: tinytorch.moveaxis(z, 0, 1),
}


@pytest.mark.parametrize("way", MOVED)
def test_probabilities_that_are_moved_about_are_probabilities(way):
    model, x = classifier(Sigmoid()), points(4)
    finding = next(iter(diagnose(model, lambda: tinytorch.cross_entropy(MOVED[way](model(x)), Tensor([0, 1, 2, 3])))))
    assert finding.kind == "logits"
    assert "is given the result of sigmoid in `3` (Sigmoid)" in finding.text


def test_what_is_no_logit_before_a_binary_cross_entropy():
    model, x = classifier(Sigmoid(), out=1), points()
    finding = looked(model, lambda: tinytorch.binary_cross_entropy_with_logits(model(x), BINARY))
    assert finding.text.endswith("as the loss takes the sigmoid itself: binary_cross_entropy_with_logits(logits, y)")
    assert diagnose(model, lambda: BCELoss()(model(x), BINARY)).ok


def test_log_softmax_before_a_cross_entropy_changes_nothing():
    model, x = classifier(), points()
    assert diagnose(model, lambda: tinytorch.cross_entropy(tinytorch.log_softmax(model(x), axis=1), CLASSES)).ok


@pytest.mark.parametrize(
    ("rows", "binary", "kinds"),
    [
        ([0.25, 0.75], False, {"logits"}),
        ([0.25, 0.75], True, set()),  # of which a sigmoid may be taken
        ([-0.5, 1.5], False, set()),
        ([0.25, 0.5], False, set()),
        ([0.5, 0.75], False, set()),
    ],
)
def test_probabilities_are_not_negative_and_sum_to_one(rows, binary, kinds):
    model, x = classifier(out=2), points()
    loss, y = (
        (tinytorch.binary_cross_entropy_with_logits, Tensor([[0.0, 1.0]] * 16))
        if binary
        else (tinytorch.cross_entropy, CLASSES % 2)
    )
    found = diagnose(model, lambda: loss(model(x) * 1e-6 + Tensor(rows), y))
    assert {f.kind for f in found if f.kind == "logits"} == kinds


def test_a_sigmoid_of_a_sigmoid_and_a_softmax_of_one_class():
    model, x = classifier(Sigmoid(), Sigmoid(), out=1), points()
    assert "sigmoid in `4` (Sigmoid)" in looked(model, lambda: BCELoss()(model(x), BINARY)).text
    model = classifier(Softmax(), out=1)
    text = str(diagnose(model, lambda: BCELoss()(model(x), BINARY)))
    assert "is 1 everywhere, as there is one class along its axis: take sigmoid" in text


def test_what_is_no_probability():
    model, x = classifier(out=1), points()
    finding = looked(model, lambda: BCELoss()(model(x), BINARY))
    assert finding.kind == "probabilities"
    assert finding.text.endswith("binary_cross_entropy_with_logits(x, y) takes any numbers")


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (ONE_HOT, "one-hot labels of shape (16, 4), in test_mistakes.py"),
        (ONE_HOT.astype("int64"), "one-hot labels of shape (16, 4), which it refuses: y.argmax(axis=1)"),
        (ONE_HOT > 0.5, "one-hot labels of shape (16, 4), which it refuses: y.argmax(axis=1)"),
        (CLASSES.astype("float32"), 'labels of dtype float32, which it refuses: y.astype("int64")'),
        (CLASSES.astype("float64"), 'labels of dtype float64, which it refuses: y.astype("int64")'),
        (CLASSES.reshape(-1, 1), "labels of shape (16, 1), which it refuses: y.reshape(-1)"),
        (CLASSES.reshape(-1, 1).astype("float32"), "labels of shape (16, 1), which it refuses: y.reshape(-1)"),
        (CLASSES + 1, "labels from 1 to 4 with 4 classes, which it refuses: y - 1"),
        (CLASSES - 1, "labels from -1 to 2 with 4 classes, which it refuses: y + 1"),
        (CLASSES * 3, "labels from 0 to 9 with 4 classes, which it refuses: a model with 10 outputs"),
    ],
    ids=range(10),
)
def test_labels_that_are_no_class_indices(labels, said):
    model, x = classifier(), points()
    finding = looked(model, lambda: CrossEntropyLoss()(model(x), labels))
    assert finding.kind == "labels"
    assert f"`cross_entropy` takes class indices, and is given {said}" in finding.text


def test_soft_labels_and_ignored_ones_are_fine():
    model, x = classifier(), points()
    soft = ONE_HOT * 0.9 + 0.025
    assert diagnose(model, lambda: CrossEntropyLoss()(model(x), soft)).ok
    some = Tensor([0, 1, 2, 3, -100, 1, 2, 3] * 2)
    assert diagnose(model, lambda: CrossEntropyLoss()(model(x), some)).ok


@pytest.mark.parametrize(
    ("labels", "mend"),
    [
        (BINARY * 2 - 1, "(y + 1) / 2"),
        (CLASSES.reshape(-1, 1).astype("float32"), "cross_entropy(logits, y) is for more than two classes"),
        (BINARY * 0.5 + 0.75, "y / y.max()"),
    ],
)
def test_labels_that_are_not_between_zero_and_one(labels, mend):
    model, x = classifier(out=1), points()
    finding = looked(model, lambda: tinytorch.binary_cross_entropy_with_logits(model(x), labels))
    assert finding.kind == "labels"
    assert finding.text.endswith(mend)


def test_integer_labels_of_a_binary_cross_entropy():
    model, x = classifier(out=1), points()
    finding = looked(model, lambda: tinytorch.binary_cross_entropy_with_logits(model(x), BINARY.astype("int64")))
    assert finding.text.endswith('is given int64, which it refuses: y.astype("float32")')


def test_an_error_that_is_none_of_these_is_raised():
    model, x = classifier(), points()
    with pytest.raises(ValueError, match="target has shape"):
        diagnose(model, lambda: CrossEntropyLoss()(model(x), CLASSES[:5]))
    with pytest.raises(ValueError, match=r"linear\(float32 \(16, 3\).* the last axis of x must be of length 8"):
        diagnose(model, lambda: model[2](x).sum())
    with pytest.raises(ZeroDivisionError):
        diagnose(model, lambda: 1 / 0)


def test_a_difference_of_each_with_each():
    model, x = classifier(out=1), points()
    finding = looked(model, lambda: ((model(x) - BINARY.reshape(-1)) ** 2).mean())
    assert finding.kind == "broadcast"
    assert "`subtract` of (16, 1) and (16,) is of shape (16, 16), each with each" in finding.text
    assert diagnose(model, lambda: ((model(x) - BINARY) ** 2).mean()).ok


# What a loss is given, its labels, and what is said of them: nothing where they are as they should be
Z, ONE, IMAGES, ROW = (tinytorch.zeros(shape) for shape in ((4, 3), (4, 1), (4, 3, 2), (3,)))
OF_LABELS = [
    (Z, [0, 1, 2, 5], "labels from 0 to 5 with 3 classes, here: a model with 6 outputs"),
    (Z, [3, 1, 2, 2], "labels from 1 to 3 with 3 classes, here: y - 1"),
    (Z, [-100, -1, 1, 0], "labels from -1 to 1 with 3 classes, here: y + 1"),
    (Z, [-100, 3, 1, 2], "labels from 1 to 3 with 3 classes, here: y - 1"),
    (Z, [-100] * 4, ""),
    (Z, [0, 0, 2, 2], ""),
    (Z, [[1.0, 0.0, 0.0]] * 4, "one-hot labels of shape (4, 3), here: y.argmax(axis=1)"),
    (
        Z,
        [[0.5, 0.5, 0.5]] * 4,
        "labels that are neither indices nor probabilities that sum to 1, here: y / y.sum(axis=1, ",
    ),
    (
        Z,
        [[-0.5, 1.0, 0.5]] * 4,
        "labels that are neither indices nor probabilities that sum to 1, here: y / y.sum(axis=1, ",
    ),
    (Z, [[0.5, 0.25, 0.25]] * 4, ""),
    (Z, [0.0, 1.0, 2.0, 2.0], 'labels of dtype float32, here: y.astype("int64")'),
    (Z, [True, False, True, True], 'labels of dtype bool, here: y.astype("int64")'),
    (Z, [[0], [1], [2], [2]], "labels of shape (4, 1), here: y.reshape(-1)"),
    (ROW, 1.0, 'labels of dtype float32, here: y.astype("int64")'),
    (ROW, [1], ""),
    (ROW, [1.0, 0.0, 0.0], "one-hot labels of shape (3,), here: y.argmax(axis=0)"),
    (ROW, 3, "labels from 3 to 3 with 3 classes, here: y - 3"),
    (ROW, 2, ""),
    (ONE, [[1.0]] * 4, "labels of shape (4, 1), here: y.reshape(-1)"),
    (IMAGES, [[0, 2]] * 4, ""),
    (IMAGES, [[0, 3]] * 4, "labels from 0 to 3 with 3 classes, here: a model with 4 outputs"),
    (IMAGES, [[[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]] * 4, "one-hot labels of shape (4, 3, 2), here: y.argmax(axis=1)"),
]


@pytest.mark.parametrize(("x", "labels", "said"), OF_LABELS, ids=range(len(OF_LABELS)))
def test_what_is_said_of_the_labels_of_a_cross_entropy(x, labels, said):
    found = [(f.kind, f.culprit, f.text) for f in of_loss("cross_entropy", x, Tensor(labels), "here")]
    text = f"`cross_entropy` takes class indices, and is given {said}"
    text += "keepdims=True)" if said.endswith(", ") else ""
    assert found == ([("labels", "cross_entropy", text)] if said else [])


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([-1.0, 1.0], "labels from 0 to 1, and is given -1 to 1, here: (y + 1) / 2"),
        ([-1.0, 0.5], "labels from 0 to 1, and is given -1 to 0.5, here: (y > 0)"),
        ([-2.0, 1.0], "labels from 0 to 1, and is given -2 to 1, here: (y > 0)"),
        ([0.0, 3.0], "labels from 0 to 1, and is given 0 to 3, here: cross_entropy(logits, y) is for more than two "),
        ([0, 2], "labels from 0 to 1, and is given 0 to 2, here: cross_entropy(logits, y) is for more than two "),
        ([0.5, 1.5], "labels from 0 to 1, and is given 0.5 to 1.5, here: y / y.max()"),
        ([0.0, 1.5], "labels from 0 to 1, and is given 0 to 1.5, here: y / y.max()"),
        ([0, 1], 'floating labels, and is given int64, here: y.astype("float32")'),
        ([0.0, 1.0], ""),
    ],
    ids=str,
)
def test_what_is_said_of_the_labels_of_a_binary_cross_entropy(labels, said):
    said += "classes" if said.endswith(" two ") else ""
    for name, x in (("binary_cross_entropy", [0.0, 1.0]), ("binary_cross_entropy_with_logits", [-1.5, 3.0])):
        found = [(f.kind, f.culprit, f.text) for f in of_loss(name, Tensor(x), Tensor(labels), "here")]
        assert found == ([("labels", name, f"`{name}` takes {said}")] if said else [])


def test_what_is_said_of_numbers_that_are_no_probabilities():
    def said(x):
        return [str(f) for f in of_loss("binary_cross_entropy", Tensor(x), Tensor([0.5, 0.25]), "here")]

    mend = "binary_cross_entropy_with_logits(x, y) takes any numbers"
    for x, numbers in (([-1.25, 3.0], "-1.25 to 3"), ([-0.5, 1.0], "-0.5 to 1"), ([0.0, 1.5], "0 to 1.5")):
        text = f"`binary_cross_entropy` takes probabilities, and is given numbers from {numbers}, here: {mend}"
        assert said(x) == [f"probabilities: {text}"]
    assert said([0.0, 1.0]) == said([0.5, np.nan]) == said([-1.0, np.inf]) == []
    assert list(of_loss("binary_cross_entropy", Tensor([]), Tensor([]), "here")) == []


def at(function):
    return f"test_mistakes.py:{function.__code__.co_firstlineno}"


def test_the_whole_of_what_is_said():
    x, model = points(), classifier(Softmax())
    loss = lambda: CrossEntropyLoss()(model(x), CLASSES)  # noqa: E731
    finding = looked(model, loss)
    place = f"in `3` (Softmax), {at(loss)}"
    assert (finding.culprit, finding.text) == (
        place,
        f"`cross_entropy` takes logits, any numbers, and is given the result of softmax {place}: leave that out, as "
        "the loss takes the softmax itself: cross_entropy(logits, y)",
    )
    model = classifier(out=1)
    for shapes, loss in {
        "(16, 1) and (16,)": lambda: ((model(x) - BINARY.reshape(-1)) ** 2).mean(),
        "(16,) and (16, 1)": lambda: ((BINARY.reshape(-1) - model(x)) ** 2).mean(),
    }.items():
        finding = looked(model, loss)
        assert (finding.kind, finding.culprit) == ("broadcast", at(loss))
        assert finding.text == (
            f"`subtract` of {shapes} is of shape (16, 16), each with each, in {at(loss)}: make both (16, 1), as by "
            "y.reshape(-1, 1)"
        )
    model = Sequential(Linear(3, 4))
    far = x * 255
    loss = lambda: CrossEntropyLoss()(model(far), CLASSES)  # noqa: E731
    assert looked(model, loss).text == (
        f"the data that come into linear in `0` (Linear), {at(loss)} go from {far.min().item():.3g} to "
        f"{far.max().item():.3g}: normalise them, x = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-6)"
    )
    model = Sequential(Linear(3, 8), Tanh(), Linear(8, 4))
    model[0].bias.data = tinytorch.full((8,), 30.0)
    inside = model[0](x).detach()
    loss = lambda: CrossEntropyLoss()(model(x), CLASSES)  # noqa: E731
    low, high = (f"{v.item():.3g}" for v in (inside.min(), inside.max()))
    assert looked(model, loss).text == (
        "`1`: 8 of 8 units of tanh are saturated for all examples, where they hardly learn, in `1` (Tanh), "
        f"{at(loss)}, from [{low}, {high}]: normalise the data, or start with smaller weights: p.data = p.data * 0.1"
    )
    model = Sequential(Linear(3, 8), ReLU(), Linear(8, 4))
    model[0].bias.data = tinytorch.full((8,), -30.0)
    assert str(looked(model, loss)) == (
        f"dead: `1`: 8 of 8 units of relu are zero for all examples, in `1` (ReLU), {at(loss)}: start with other "
        "weights, or smaller steps"
    )
    model = classifier(Softmax(), out=1)
    loss = lambda: BCELoss()(model(x), BINARY)  # noqa: E731
    place = f"in `3` (Softmax), {at(loss)}"
    assert [(f.kind, f.culprit, f.text) for f in diagnose(model, loss)] == [
        (
            "logits",
            at(loss),
            f"softmax {place} is 1 everywhere, as there is one class along its axis: take sigmoid, or another axis: "
            "softmax(x, axis=1)",
        ),
        (
            "zero",
            "0.weight, 0.bias, 2.weight, 2.bias",
            "`0.weight`, `0.bias`, `2.weight`, `2.bias`: gradient of zeros: its gradient becomes zero in the rule of "
            f"`softmax` {place}",
        ),
    ]
    model = classifier(Sigmoid(), Sigmoid(), out=1)
    finding = looked(model, loss)
    assert (finding.kind, finding.culprit, finding.text) == (
        "logits",
        at(loss),
        f"sigmoid in `4` (Sigmoid), {at(loss)} is taken of the result of sigmoid in `3` (Sigmoid), {at(loss)}: leave "
        "out one of the two",
    )


@pytest.mark.parametrize(
    ("model_dtype", "dtype", "mend"),
    [
        ("float64", "float32", 'x = x.astype("float64"), or model.to("float32")'),
        ("float32", "float64", 'x = x.astype("float32"), or model.to("float64")'),
        ("float32", "int64", 'x = x.astype("float32")'),
    ],
)
def test_what_is_said_of_another_dtype(model_dtype, dtype, mend):
    model, x = classifier().to(model_dtype), points().astype(dtype)
    finding = looked(model, lambda: CrossEntropyLoss()(model(x), CLASSES))
    assert (finding.kind, finding.culprit) == ("dtype", "0.weight")
    assert finding.text == f"linear is given {dtype}, and `0.weight` is {model_dtype}: {mend}"


def test_data_of_another_dtype_that_mix_with_a_parameter():
    model, x = Module(), points().astype("float64")
    model.w = Parameter(np.ones((3, 4), "float32"))
    loss = lambda: CrossEntropyLoss()(x @ model.w, CLASSES)  # noqa: E731
    finding = next(f for f in diagnose(model, loss) if f.kind == "dtype")
    assert (finding.culprit, finding.text) == (
        "w",
        f"matmul in {at(loss)} mixes float64 with `w`, which is float32: "
        'x = x.astype("float32"), or model.to("float64")',
    )


def test_a_label_that_is_wrong_among_those_a_loss_refuses_is_found_before_it_is_raised():
    model, x = classifier(), points()
    (finding,) = diagnose(model, lambda: CrossEntropyLoss()(model(x), CLASSES + 4))
    assert finding.text.endswith("labels from 4 to 7 with 4 classes, which it refuses: y - 4")


def test_an_optimizer_that_is_made_otherwise_is_not_tried():
    class Own(SGD):
        def __init__(self, model, lr):
            super().__init__(model.parameters(), lr=lr)

    model, x = classifier(), points()
    before = [p.tolist() for p in model.parameters()]
    assert diagnose(model, lambda: CrossEntropyLoss()(model(x), CLASSES), Own(model, lr=1e9)).ok
    assert [p.tolist() for p in model.parameters()] == before


def test_findings_are_wrapped_on_a_terminal_only(monkeypatch):
    model, x = classifier(Softmax()), points()
    found = diagnose(model, lambda: CrossEntropyLoss()(model(x), CLASSES))
    monkeypatch.setenv("COLUMNS", "60")
    assert "\n" not in str(found)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    lines = str(found).split("\n")
    assert len(lines) > 3
    assert all(len(line) <= 60 for line in lines)
    assert all(line.startswith("  ") for line in lines[1:])
    assert repr(found) == str(found)
    monkeypatch.setattr(sys, "stdout", None)
    assert "\n" not in str(found)


# Models ---------------------------------------------------------------------------------------------------------------


def test_eval_mode_that_was_left_on():
    model, x = classifier(Dropout(0.5)), points()
    loss = lambda: CrossEntropyLoss()(model(x), CLASSES)  # noqa: E731
    assert diagnose(model, loss).ok
    model.eval()
    finding = looked(model, loss)
    assert (finding.kind, finding.text.endswith("call model.train() before it learns")) == ("mode", True)
    model.train()
    model[3].eval()  # a part, on purpose
    assert diagnose(model, loss).ok


def test_gradients_that_were_left_off_and_dropout_that_is_on_in_evaluation():
    model, x = classifier(Dropout(0.5)), points()
    with tinytorch.no_grad():
        finding = looked(model, lambda: CrossEntropyLoss()(model(x), CLASSES))
    assert "gradients are switched off, so nothing can be learned" in finding.text
    assert "dropout is on (`3`): call model.eval() first" in finding.text


class Scale(Module):
    def __init__(self, wrap):
        self.w = wrap([1.0, 2.0, 3.0])
        self.layer = Linear(3, 4)

    def forward(self, x):
        return self.layer(x * self.w)


def test_a_plain_tensor_in_the_place_of_a_parameter(device):
    points()
    with tinytorch.device(device):
        model, x, y = Sequential(Scale(partial(Tensor, requires_grad=True))), points(), CLASSES.to(device)
        finding = looked(model, lambda: CrossEntropyLoss()(model(x), y))
    assert (finding.kind, finding.culprit) == ("not a parameter", "0.w")
    assert finding.text.endswith("write self.w = Parameter(...)")


ONES = {"data": np.ones(3, "float32"), "requires_grad": True}


class OfTheClass(Module):
    shift = Parameter([1.0, 1.0, 1.0])


def a_list(m):
    m.kept = [Tensor(**ONES), Tensor(**ONES)]


def a_dict(m):
    m.kept = {"a": Tensor(**ONES)}


def a_result(m):
    m.kept = Tensor(**ONES) * 0.1


def a_parameter_scaled(m):
    m.kept = Parameter([1.0, 1.0, 1.0]) * 0.1


def two(m):
    m.kept, m.other = Tensor(**ONES), Tensor(**ONES)


OWN = "write each as an attribute of its own, self.kept_0 = Parameter(...)"


@pytest.mark.parametrize(
    ("keep", "names", "mend"),
    [
        (a_list, "kept", OWN),
        (a_dict, "kept", OWN),
        (a_result, "kept", "write self.kept = Parameter(...)"),
        (a_parameter_scaled, "kept", "write self.kept = Parameter(...)"),
        (two, "kept, other", "write self.kept = Parameter(...), and so for the others"),
    ],
)
def test_wherever_a_module_keeps_what_should_be_learned(keep, names, mend):
    model, x = classifier(), points()
    keep(model)
    finding = looked(model, lambda: CrossEntropyLoss()(model(x), CLASSES))
    assert (finding.kind, finding.culprit) == ("not a parameter", names)
    assert finding.text.endswith(mend)


def test_a_parameter_of_the_class_is_no_parameter_of_the_module():
    model, x = OfTheClass(), points()
    model.layer = Linear(3, 4)
    finding = looked(model, lambda: CrossEntropyLoss()(model.layer(x * model.shift), CLASSES))
    assert (finding.kind, finding.culprit) == ("not a parameter", "shift")


def test_a_model_that_is_frozen_as_a_whole():
    model, x = classifier().requires_grad_(False), points()
    assert "no parameter requires a gradient" in looked(model, lambda: CrossEntropyLoss()(model(x), CLASSES)).text


def test_a_loss_whose_graph_is_gone():
    model, x = classifier(), points()
    loss = CrossEntropyLoss()(model(x), CLASSES)
    loss.backward()
    with pytest.raises(RuntimeError, match=r"^diagnose: .* before loss\.backward\(\), or .*lambda"):
        diagnose(model, loss)


@pytest.mark.parametrize("wrap", [Parameter, Tensor], ids=["parameter", "constant"])
def test_parameters_and_constants_are_fine(wrap):
    points()
    model, x = Scale(wrap), points()
    model.kept = model(x)  # an intermediate result, for a look later
    assert diagnose(model, lambda: CrossEntropyLoss()(model(x), CLASSES)).ok


def test_a_buffer_is_no_forgotten_parameter():
    points()
    model, x = Scale(Tensor), points()
    model.register_buffer("w", Tensor([1.0, 2.0, 3.0], requires_grad=True))
    assert diagnose(model, lambda: CrossEntropyLoss()(model(x), CLASSES)).ok


@pytest.mark.parametrize("activation", [Tanh, Sigmoid])
def test_units_that_are_saturated(activation, device):
    points()
    with tinytorch.device(device):
        model, x, y = Sequential(Linear(3, 8), activation(), Linear(8, 4)), points(), CLASSES.to(device)
        model[0].bias.data = tinytorch.full((8,), 30.0)
        finding = looked(model, lambda: CrossEntropyLoss()(model(x), y))
    assert (finding.kind, finding.culprit) == ("saturated", "1")
    assert f"8 of 8 units of {activation.__name__.lower()} are saturated" in finding.text


@pytest.mark.parametrize(
    ("activation", "inside", "saturated"),
    [(Tanh, 4.2, True), (Tanh, 4.0, False), (Tanh, 0.7, False), (Sigmoid, 8.4, True), (Sigmoid, 8.0, False)],
)
def test_where_a_unit_is_saturated(activation, inside, saturated):
    """Where its slope is less than a thousandth of the steepest: beyond 4.15 for tanh, 8.3 for sigmoid."""
    points()
    for sign in (1.0, -1.0):
        for units, found in ((8, saturated), (5, saturated), (4, False)):  # of 8: more than half
            model, x = Sequential(Linear(3, 8), activation(), Linear(8, 4)), points()
            model[0].weight.data = model[0].weight.data * 1e-3
            model[0].bias.data = Tensor([sign * inside] * units + [0.0] * (8 - units))
            kinds = [f.kind for f in diagnose(model, lambda m=model, x=x: CrossEntropyLoss()(m(x), CLASSES))]
            assert ("saturated" in kinds) is found


def test_examples_are_no_units():
    model, x = classifier(out=1), points()
    model[2].bias.data = Tensor([12.0])
    assert diagnose(model, lambda: (tinytorch.sigmoid(model(x).reshape(-1)) * tinytorch.ones(16)).sum()).ok


def test_an_output_that_is_sure_is_not_saturated():
    model, x = classifier(Sigmoid(), out=1), points()
    model[2].bias.data = Tensor([12.0])
    assert diagnose(model, lambda: BCELoss()(model(x), BINARY * 0.0 + 1.0)).ok


@pytest.mark.parametrize("value", [0.0, 0.1])
def test_units_that_start_alike_and_stay_alike(value):
    model, x = classifier(), points()
    for p in model.parameters():
        p.data = p.data * 0.0 + value
    finding = looked(model, lambda: CrossEntropyLoss()(model(x), CLASSES))
    assert finding.kind == "alike"
    assert "0.weight" in finding.culprit
    model = classifier()
    model[2].weight.data = model[2].weight.data * 0.0  # its units get gradients that differ
    found = diagnose(model, lambda: CrossEntropyLoss()(model(x), CLASSES))
    assert not any(f.kind == "alike" for f in found)


# Data -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [255.0, 1e-5])
@pytest.mark.parametrize("flat", [True, False], ids=["linear", "convolution"])
def test_data_that_are_not_normalised(factor, flat):
    tinytorch.manual_seed(0)
    layers = [Linear(16, 4), Linear(4, 4)] if flat else [Conv2d(1, 2, 3, padding=1), Flatten(), Linear(32, 4)]
    model = Sequential(layers)
    x = tinytorch.rand(*((16, 16) if flat else (16, 1, 4, 4)))
    loss = lambda: CrossEntropyLoss()(model(x), CLASSES)  # noqa: E731
    assert diagnose(model, loss).ok
    x = x * factor
    finding = looked(model, loss)
    assert (finding.kind, finding.culprit) == ("data", "0.weight")
    assert finding.text.endswith("normalise them, x = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-6)")


@pytest.mark.parametrize("dtypes", [("float64", "float32"), ("float32", "float64")])
def test_data_of_another_dtype_than_the_model(dtypes):
    model, x = classifier().to(dtypes[0]), points().astype(dtypes[1])
    finding = looked(model, lambda: CrossEntropyLoss()(model(x), CLASSES))
    assert finding.kind == "dtype"
    assert f'x = x.astype("{dtypes[0]}")' in finding.text


# Optimizers -----------------------------------------------------------------------------------------------------------


OPTIMIZERS = [SGD, partial(SGD, momentum=0.9), Adam]


@pytest.mark.parametrize("make", OPTIMIZERS, ids=["sgd", "momentum", "adam"])
@pytest.mark.parametrize(
    ("lr", "kind"), [(1e4, "step too large"), (1e-12, "step too small"), (0.0, "step too small"), (0.01, None)]
)
def test_a_learning_rate_that_is_far_too_large_or_too_small(make, lr, kind, device):
    with tinytorch.device(device):
        model, x, y = classifier(), points(), CLASSES.to(device)
        optimizer = make(model.parameters(), lr=lr)
        loss = lambda: CrossEntropyLoss()(model(x), y)  # noqa: E731
        assert [f.kind for f in diagnose(model, loss, optimizer)] == ([kind] if kind else [])


def test_what_is_no_fault_of_the_learning_rate_is_not_put_down_to_it():
    class Still(SGD):
        def update(self, dev, values, grad, state, *rest):
            return values + 0.0, state

    model, x = classifier(), points()
    loss = lambda: CrossEntropyLoss()(model(x), CLASSES)  # noqa: E731
    finding = looked(model, loss, Still(model.parameters(), lr=0.1))
    assert finding.kind == "step too small"
    assert finding.text.endswith("(lr 0.1): its update returns other values than p - lr * g")
    faint = lambda: loss() * 0.0 + model[0].weight.sum() * 1e-8 + 1e-3  # noqa: E731
    assert not any(f.kind == "step too small" for f in diagnose(model, faint, SGD(model.parameters(), lr=0.1)))


def test_a_step_that_goes_up():
    class Up(SGD):
        def update(self, dev, values, grad, *rest):
            return super().update(dev, values, -grad, *rest)

    model, x = classifier(), points()
    finding = looked(model, lambda: CrossEntropyLoss()(model(x), CLASSES), Up(model.parameters(), lr=0.01))
    assert finding.kind == "uphill"


def test_trying_a_step_changes_nothing():
    model, x = classifier(Dropout(0.3)), points()
    optimizer = Adam(model.parameters(), lr=0.01)
    twin, other = classifier(Dropout(0.3)), None
    other = Adam(twin.parameters(), lr=0.01)

    def train(model, optimizer, look):
        tinytorch.manual_seed(1)
        for _ in range(4):
            optimizer.zero_grad()
            if look:
                diagnose(model, lambda: CrossEntropyLoss()(model(x), CLASSES), optimizer)
            loss = CrossEntropyLoss()(model(x), CLASSES)
            if look:
                optimizer_state = optimizer.state_dict()["state"]
                assert diagnose(model, loss, optimizer) is not None  # the graph is there still
                np.testing.assert_equal(optimizer.state_dict()["state"], optimizer_state)
            loss.backward()
            optimizer.step()

    train(model, optimizer, True)
    train(twin, other, False)
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert p.tolist() == q.tolist()


def test_a_setting_that_there_is_not():
    model, x = classifier(), points()
    optimizer = SGD(model.parameters(), lr=0.1)
    optimizer.param_groups[0]["learning_rate"] = 0.5
    finding = looked(model, lambda: CrossEntropyLoss()(model(x), CLASSES), optimizer)
    assert (finding.kind, finding.culprit) == ("setting", "learning_rate")
    assert "SGD has no setting 'learning_rate', so that it has no effect" in finding.text
    assert finding.text.count("'dampening', 'lr', 'momentum', 'nesterov', 'weight_decay'") == 1
    optimizer.param_groups[0]["decay"] = 0.5
    findings = diagnose(model, lambda: CrossEntropyLoss()(model(x), CLASSES), optimizer)
    assert [f.culprit for f in findings if f.kind == "setting"] == ["decay", "learning_rate"]


@pytest.mark.parametrize("name", ["lr", "learning_rate", "momentum", "weight_decay"])
def test_a_setting_is_no_attribute_of_an_optimizer(name):
    optimizer = SGD([Parameter([1.0])], lr=0.1)
    setting = "lr" if name == "learning_rate" else name
    for access in (lambda: setattr(optimizer, name, 0.5), lambda: getattr(optimizer, name)):
        with pytest.raises(AttributeError, match=rf'write optimizer\.param_groups\[0\]\["{setting}"\]'):
            access()
    assert optimizer.param_groups[0]["lr"] == 0.1
    optimizer.note = "an attribute of another name is yours"
    with pytest.raises(AttributeError, match="has no attribute 'typo'"):
        optimizer.typo  # noqa: B018


def test_an_optimizer_of_ones_own_may_keep_a_setting_as_an_attribute():
    class Own(SGD):
        beta = dampening = 0.5

        def __init__(self, params, lr):
            self.lr = lr
            super().__init__(params, lr=lr)

    optimizer = Own([Parameter([1.0])], lr=0.1)
    optimizer.lr = optimizer.beta = optimizer.dampening = 0.2
    assert (optimizer.lr, optimizer.beta, optimizer.dampening) == (0.2, 0.2, 0.2)


def test_an_optimizer_of_another_model():
    model, x = classifier(), points()
    optimizer = SGD(classifier().parameters(), lr=0.1)
    finding = looked(model, lambda: CrossEntropyLoss()(model(x), CLASSES), optimizer)
    assert finding.kind == "not optimized"
    assert "make it after the model, SGD(model.parameters(), ...)" in finding.text


def test_a_line_for_each_cause_names_a_few():
    tinytorch.manual_seed(0)
    layers = Sequential([Linear(3, 3) for _ in range(5)])
    (finding,) = diagnose(layers, lambda: layers(points()).detach().sum())
    assert finding.text.startswith("`0.weight`, `0.bias`, `1.weight`, `1.bias` and 6 more: not reached from the loss")
    assert finding.culprit.count(",") == 9


# No false alarms ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", LEARNERS)
@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_found_in_what_learns(model, seed):
    for updates in (0, 1, 20):
        run = run_once(LEARNERS[model], seed=seed, updates=updates)
        run.model.zero_grad()
        found = diagnose(run.model, run.handle.loss_function(), run.optimizer)
        assert found.ok, f"after {updates} updates: {found}"


@pytest.mark.parametrize("model", "PXM")
def test_nothing_is_found_in_what_has_learned(model):
    run = run_once(LEARNERS[model])
    run.model.zero_grad()
    found = diagnose(run.model, run.handle.loss_function(), run.optimizer)
    assert found.ok, found
