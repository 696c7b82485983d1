"""What is wrong is found and named, and what is right is left alone."""

from __future__ import annotations

import inspect
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import tinytorch
from tinytorch import SGD, Linear, ReLU, Sequential, Sigmoid, Tensor, TransformerEncoderLayer
from tinytorch.milestones import cnn_digits, mlp_digits, perceptron, transformer_copy, xor
from tinytorch.nn import Module
from tinytorch.verify import diagnose, run_once


class Net(Module):
    """Two layers with something between them."""

    def __init__(self, between, device="cpu"):
        self.first = Linear(4, 8, device=device)
        self.second = Linear(8, 3, device=device)
        self.between = between

    def forward(self, x):
        return self.second(self.between(self.first(x)))


def data(device="cpu"):
    return tinytorch.randn(16, 4, device=device)


def found(diagnosis):
    """(kind, culprit) of each finding; of several culprits, a pair for each."""
    return {(f.kind, culprit) for f in diagnosis for culprit in f.culprit.split(", ")}


def here(function):
    """The place of a one-line function."""
    return f"test_diagnose.py:{function.__code__.co_firstlineno}"


CUTS = {
    "`.detach()` {}": lambda h: h.detach() * 2,
    "`.numpy()` {}": lambda h: Tensor(np.tanh(h.detach().numpy()), device=h.device),
    "`.tolist()` {}": lambda h: Tensor(h.tolist(), device=h.device),
    "`greater` {}, which has no gradient": lambda h: (h > 0).astype(h.dtype),
    "`multiply` under `no_grad` {}": tinytorch.no_grad(lambda h: h * 2),
}


@pytest.mark.parametrize("cut", CUTS)
def test_where_the_graph_is_cut(cut, device):
    model, x = Net(CUTS[cut], device), data(device)
    diagnosis = diagnose(model, lambda: model(x).sum())
    assert found(diagnosis) == {("unreached", "first.weight"), ("unreached", "first.bias")}
    place = f"in test_diagnose.py:{inspect.unwrap(CUTS[cut]).__code__.co_firstlineno}"
    assert str(diagnosis).endswith(f"the graph is cut at {cut.format(place)}")
    assert len(diagnosis) == 1  # a line for the cause


def lines(function, mark):
    """The places of a function's lines that have the mark."""
    source, first = inspect.getsourcelines(function)
    return [f"test_diagnose.py:{first + i}" for i, text in enumerate(source) if mark in text]


def by_numpy(h, seen):
    seen.append(h.detach().numpy().mean() + h.sum().item())
    cut = Tensor(h.detach().numpy())  # here
    seen.append(h.detach().numpy().mean() + h.sum().item())
    return cut * 2


def by_detach(h, seen):
    seen.append(h.detach().numpy().mean() + (h.detach() * 2).sum().item())
    cut = h.detach() * 2  # here
    seen.append(h.detach().numpy().mean() + (h.detach() * 2).sum().item())
    return cut


def by_no_grad(h, seen):
    seen.append(h.detach().numpy().mean())
    with tinytorch.no_grad():
        seen.append((h * 3).sum().item())
        cut = h * 2  # here
    seen.append(h.detach().numpy().mean())
    return cut


@pytest.mark.parametrize("between", [by_numpy, by_detach, by_no_grad])
def test_values_that_are_only_looked_at_are_not_where_it_is_cut(between):
    model, x, y, seen = Net(lambda h: between(h, [])), data(), data()[:, :3], []

    def loss():
        out = model(x)
        seen.append(out.sum().item())
        return tinytorch.mse_loss(out, y)

    (place,) = lines(between, "# here")
    for finding in diagnose(model, loss):
        assert finding.text.endswith(f"in {place}"), finding


def test_looking_at_values_is_fine():
    model, x = Net(lambda h: (seen.append(h.detach().numpy().mean() + h.sum().item()), h.relu())[1]), data()
    seen: list = []
    assert diagnose(model, lambda: model(x).sum()).ok


def test_parameters_that_are_not_used_or_whose_result_is_not_used():
    model, x = Net(lambda h: h), data()
    assert "it is not used" in str(diagnose(model, lambda: model.first(x).sum()))

    def unused():
        model.first(x)
        return model.second(tinytorch.ones((1, 8))).sum()

    assert "does not depend on what is computed from it" in str(diagnose(model, unused))
    model.first.requires_grad_(False)
    assert diagnose(model, lambda: model(x).sum()).ok  # frozen on purpose


def test_values_of_what_is_not_used_that_are_only_looked_at_are_not_where_it_is_cut():
    model, hidden = Net(ReLU()), Tensor(np.ones((16, 8), np.float32))

    def loss():
        print(model.first.weight.detach().numpy().mean())  # before the data are used, but these are older
        return model.second(hidden).sum()

    texts = {culprit: f.text for f in diagnose(model, loss) for culprit in f.culprit.split(", ")}
    assert texts["first.weight"].endswith("the loss does not depend on what is computed from it")
    assert texts["first.bias"].endswith("it is not used")


def test_what_is_cut_elsewhere_is_not_to_blame():
    first, second, third = Linear(4, 3), Linear(4, 3), Linear(4, 3)
    model, x = Sequential(first, second, third), data()

    def loss():
        first(x).detach().numpy()  # and not used further
        return (second(x).detach() + third(x)).sum()

    texts = {culprit: f.text for f in diagnose(model, loss) for culprit in f.culprit.split(", ")}
    assert texts["0.weight"].endswith("the loss does not depend on what is computed from it")
    assert "cut at `.detach()`" in texts["1.weight"]
    assert set(texts) == {"0.weight", "0.bias", "1.weight", "1.bias"}


def test_other_threads_do_not_count():
    def elsewhere():
        return tinytorch.relu(tinytorch.ones((2, 3)) * -1.0)  # dead

    def loss():
        with ThreadPoolExecutor(1) as pool:
            pool.submit(elsewhere).result()
        return model(x).sum()

    model, x = Net(ReLU()), data()
    assert diagnose(model, loss).ok


def test_where_nan_is_born():
    model, x = Net(lambda h: tinytorch.log(h - 100)), data()
    (first, *_) = diagnose(model, lambda: model(x).sum())
    assert first.kind == "nan"
    assert first.text.startswith(f"NaN is born in `log` in {here(model.between)}, from [-10")


def test_nan_that_was_there_already_is_not_born():
    model, x = Net(ReLU()), data()
    (first, *_) = diagnose(model, lambda: model(x * float("nan")).sum())
    assert first.text.startswith("NaN is born in `multiply`")
    spoiled = Tensor(np.full((16, 4), np.nan, np.float32))
    (first, *_) = diagnose(model, lambda: model(spoiled).sum())
    assert first.text.startswith("NaN comes into `linear` in `first` (Linear)")
    assert "with `Tensor at test_diagnose.py:" in first.text
    model.second.weight.data = model.second.weight.data * float("nan")
    (first, *_) = diagnose(model, lambda: model(x).sum())
    assert first.kind == "nan"
    assert first.text.startswith("NaN comes into `linear` in `second` (Linear)")
    assert first.text.endswith("with `second.weight`")


def test_nan_that_is_only_detached_is_named_where_it_is_used():
    model, x = Net(lambda h: h * Tensor([[float("nan")]], requires_grad=True).detach()), data()
    (first, *_) = diagnose(model, lambda: model(x).sum())
    assert first.text.startswith(f"NaN comes into `multiply` in {here(model.between)}")


def test_where_an_infinity_that_becomes_nan_is_born():
    model, x = Net(lambda h: tinytorch.log(h * 0.0) * 0.0), data()
    (first, *_) = diagnose(model, lambda: model(x).sum())
    assert first.text.startswith("NaN is born in `multiply`")
    assert "after the infinity of `log`" in first.text


def test_nan_that_only_the_gradient_has():
    model, x = Net(lambda h: tinytorch.sqrt(h * 0.0)), data()
    (first, *_) = diagnose(model, lambda: model(x).sum())
    assert first.text.startswith(f"NaN or infinity comes from the gradient rule of `sqrt` in {here(model.between)}")


def test_dead_units_of_a_relu_and_what_follows_from_them(device):
    with tinytorch.device(device):
        model, x = Sequential(Linear(4, 8), ReLU(), Linear(8, 3)), data(device)
        model[0].bias.data = tinytorch.full((8,), -99.0)
        diagnosis = diagnose(model, lambda: model(x).sum())
    assert ("dead", "1") in found(diagnosis)
    assert "`1`: 8 of 8 units of relu are zero for all examples, in `1` (ReLU), test_diagnose.py" in str(diagnosis)
    assert {k for k, _ in found(diagnosis)} == {"dead"}  # and not what follows from it


def test_dead_channels_of_images():
    model = cnn_digits.network()
    model[0].bias.data = tinytorch.full((8,), -99.0)
    images = tinytorch.ones((3, 1, 8, 8))
    assert "8 of 8 units" in str(diagnose(model, lambda: model(images).sum()))


def deep(activation, scale):
    model = Sequential([Linear(16, 16)] + [m for _ in range(12) for m in (activation(), Linear(16, 16))])
    for p in model.parameters():
        p.data = p.data * scale
    return model, tinytorch.randn(16, 16)


def test_layers_that_vanish():
    model, x = deep(Sigmoid, 0.5)
    diagnosis = diagnose(model, lambda: (model(x) ** 2).mean())
    assert ("vanishing", "0.weight") in found(diagnosis)
    assert not {c for _, c in found(diagnosis)} & {"22.weight", "24.weight"}


def test_layers_that_explode():
    model, x = deep(ReLU, 10.0)
    assert ("exploding", "0.weight") in found(diagnose(model, lambda: model(x).mean()))


def test_parameters_that_the_optimizer_was_not_given():
    model, x = Net(ReLU()), data()
    optimizer = SGD(model.first.parameters(), lr=0.1)
    names = {("not optimized", "second.weight"), ("not optimized", "second.bias")}
    assert found(diagnose(model, lambda: model(x).sum(), optimizer)) == names
    model.second.requires_grad_(False)
    assert diagnose(model, lambda: model(x).sum(), optimizer).ok  # frozen on purpose


def test_there_may_be_several_optimizers():
    model, x = Net(ReLU()), data()
    optimizers = [SGD(layer.parameters(), lr=0.1) for layer in (model.first, model.second)]
    assert diagnose(model, lambda: model(x).sum(), optimizers).ok
    names = {("not optimized", "second.weight"), ("not optimized", "second.bias")}
    assert found(diagnose(model, lambda: model(x).sum(), optimizers[:1])) == names


@pytest.mark.parametrize(
    ("loss", "message"), [(None, "diagnose: loss is a Tensor"), (lambda: 3.0, "diagnose: the loss is a Tensor")]
)
def test_a_loss_is_a_tensor(loss, message):
    with pytest.raises(TypeError, match=message):
        diagnose(Net(ReLU()), loss)


def test_a_second_backward_without_zero_grad():
    model, x = Net(ReLU()), data()
    model(x).sum().backward()
    assert {k for k, _ in found(diagnose(model, lambda: model(x).sum()))} == {"stale"}
    model.zero_grad()
    assert diagnose(model, lambda: model(x).sum()).ok


def test_a_loss_that_is_there_already():
    model, x = Net(ReLU()), data()
    with tinytorch.debug():
        loss = model.second(tinytorch.ones((2, 8))).sum()
    assert found(diagnose(model, loss)) == {("unreached", "first.weight"), ("unreached", "first.bias")}
    loss.backward()  # its graph is still there
    assert model.second.weight.grad is not None
    model.zero_grad()
    assert diagnose(model, model(x).sum()).ok


def test_nothing_is_changed():
    model = TransformerEncoderLayer(8, 2, 16, dropout=0.5, batch_first=True)
    x = tinytorch.randn(2, 3, 8)
    model(x).sum().backward()
    grads = [p.grad for p in model.parameters()]
    tinytorch.manual_seed(3)
    diagnose(model, lambda: model(x).sum())
    assert all(p.grad is g for p, g in zip(model.parameters(), grads, strict=True))
    after = tinytorch.rand(4).tolist()
    tinytorch.manual_seed(3)
    assert tinytorch.rand(4).tolist() == after


@pytest.mark.parametrize("updates", [0, 50])
@pytest.mark.parametrize(
    "learn",
    [perceptron.learn, xor.learn, mlp_digits.learn, transformer_copy.learn],
    ids=["perceptron", "xor", "mlp", "transformer"],
)
def test_nothing_is_found_in_healthy_models(learn, updates):
    run = run_once(learn, updates=updates)
    run.model.zero_grad()
    diagnosis = diagnose(run.model, run.handle.loss_function(), run.optimizer)
    assert diagnosis.ok, diagnosis
    assert str(diagnosis) == "nothing found"


def test_a_relu_of_one_dimension_has_no_units():
    w = tinytorch.nn.Parameter([1.0, 2.0])
    x = Tensor([-1.0, -2.0])
    with tinytorch.debug():
        assert "dead" not in {
            f.kind for f in diagnose(Sequential(ReLU()), lambda: tinytorch.relu(w * x).sum() + w.sum())
        }
