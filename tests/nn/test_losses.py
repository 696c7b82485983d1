"""Losses: their formulas on a few numbers, their reductions, and targets that do not fit."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tinytorch
from tinytorch import Tensor, nn
from tinytorch.testing import assert_close

LOGITS = np.array([[2.0, 1.0, -1.0], [0.0, 0.5, 3.0]], "float32")
LOG_P = LOGITS - np.log(np.exp(LOGITS).sum(1, keepdims=True))


def close(loss, expected):
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_squared_error(device):
    x, t = Tensor([[1.0, 2.0], [3.0, 4.0]], device=device), Tensor([[0.0, 2.0], [5.0, 1.0]], device=device)
    close(nn.MSELoss()(x, t), 14 / 4)
    close(nn.MSELoss(reduction="sum")(x, t), 14.0)
    assert nn.MSELoss(reduction="none")(x, t).tolist() == [[1.0, 0.0], [4.0, 9.0]]


def test_binary_cross_entropy(device):
    p, t = Tensor([0.9, 0.2], device=device), Tensor([1.0, 0.5], device=device)
    first, second = -math.log(0.9), -0.5 * (math.log(0.2) + math.log(0.8))
    close(nn.BCELoss()(p, t), (first + second) / 2)
    close(nn.BCELoss(reduction="sum")(p, t), first + second)
    logits = tinytorch.log(p / (1.0 - p))
    close(nn.BCEWithLogitsLoss()(logits, t), (first + second) / 2)
    assert_close(
        nn.BCEWithLogitsLoss(reduction="none")(logits, t), nn.BCELoss(reduction="none")(p, t), rtol=1e-5, atol=1e-6
    )


def test_certain_and_wrong_is_a_hundred_not_infinite(device):
    p = Tensor([0.0, 1.0, 0.0, 1.0], device=device, requires_grad=True)
    losses = nn.BCELoss(reduction="none")(p, Tensor([0.0, 1.0, 1.0, 0.0], device=device))
    assert_close(losses.detach(), Tensor([0.0, 0.0, 100.0, 100.0], device=device), rtol=1e-6, atol=1e-6)
    losses.sum().backward()
    assert np.isfinite(p.grad.numpy()).all()


@pytest.mark.parametrize("size", [90.0, 1000.0])
def test_large_logits_do_not_overflow(size, device):
    z = Tensor([size, -size], device=device, requires_grad=True)
    loss = nn.BCEWithLogitsLoss(reduction="sum")(z, Tensor([0.0, 1.0], device=device))
    close(loss, 2 * size)
    loss.backward()
    assert z.grad.tolist() == [1.0, -1.0]
    rows = Tensor([[size, -size, 0.0]], device=device, requires_grad=True)
    loss = nn.CrossEntropyLoss()(rows, Tensor([1], device=device))
    close(loss, 2 * size)
    loss.backward()
    assert_close(rows.grad, Tensor([[1.0, -1.0, 0.0]], device=device))


def test_the_curvature_at_logits_of_zero(device):
    z = Tensor([0.0, 0.0], device=device, requires_grad=True)
    loss = tinytorch.binary_cross_entropy_with_logits(z, Tensor([0.0, 1.0], device=device), reduction="sum")
    (slope,) = tinytorch.grad(loss, z, create_graph=True)
    (curvature,) = tinytorch.grad(slope.sum(), z)
    assert slope.tolist() == [0.5, -0.5]
    assert curvature.tolist() == [0.25, 0.25]  # s * (1 - s), s = sigmoid(0)


def test_cross_entropy_of_classes(device):
    z, t = Tensor(LOGITS, None, device), Tensor([0, 1], device=device)
    each = [-float(LOG_P[0, 0]), -float(LOG_P[1, 1])]
    close(nn.CrossEntropyLoss()(z, t), sum(each) / 2)
    close(nn.CrossEntropyLoss(reduction="sum")(z, t), sum(each))
    assert nn.CrossEntropyLoss(reduction="none")(z, t).tolist() == pytest.approx(each, rel=1e-5)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32"])
def test_labels_of_every_integer_dtype(dtype, device):
    z = Tensor(LOGITS, None, device)
    close(nn.CrossEntropyLoss()(z, Tensor([0, 2], dtype, device)), -(LOG_P[0, 0] + LOG_P[1, 2]) / 2)
    close(nn.CrossEntropyLoss(ignore_index=2)(z, Tensor([0, 2], dtype, device)), -LOG_P[0, 0])


def test_labels_that_are_ignored_count_for_nothing(device):
    z = Tensor(LOGITS, None, device, requires_grad=True)
    loss = nn.CrossEntropyLoss()(z, Tensor([-100, 2], device=device))
    close(loss, -LOG_P[1, 2])
    loss.backward()
    assert z.grad[0].tolist() == [0.0, 0.0, 0.0]
    close(nn.CrossEntropyLoss(ignore_index=7)(z, Tensor([7, 2], device=device)), -LOG_P[1, 2])


def test_label_smoothing_spreads_a_part_evenly(device):
    z, t = Tensor(LOGITS, None, device), Tensor([0, 1], device=device)
    q = np.array([[0.9, 0.0, 0.0], [0.0, 0.9, 0.0]]) + 0.1 / 3
    close(nn.CrossEntropyLoss(label_smoothing=0.1)(z, t), -(q * LOG_P).sum() / 2)
    close(nn.CrossEntropyLoss()(z, Tensor(q, "float32", device)), -(q * LOG_P).sum() / 2)


def test_a_loss_for_each_pixel(device):
    z = tinytorch.randn(2, 3, 4, 5, device=device)
    t = tinytorch.randint(3, size=(2, 4, 5), device=device)
    losses = nn.CrossEntropyLoss(reduction="none")(z, t)
    assert losses.shape == (2, 4, 5)
    rows = z.permute_dims(0, 2, 3, 1).reshape(40, 3)
    assert_close(losses.flatten(), nn.CrossEntropyLoss(reduction="none")(rows, t.flatten()), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("label", "message"), [(3, "3 is outside"), (-1, "-1 is outside"), (-100, "-100 is outside")])
def test_a_label_out_of_range(label, message, device):
    criterion = nn.CrossEntropyLoss(ignore_index=1)
    with pytest.raises(IndexError, match=rf"cross_entropy: class: {message} \[0, 3\)"):
        criterion(Tensor(LOGITS, None, device), Tensor([0, label], device=device)).item()


@pytest.mark.parametrize(
    ("loss", "target", "error", "message"),
    [
        (
            nn.CrossEntropyLoss(),
            lambda: Tensor([0.0, 1.0]),
            ValueError,
            r"target has shape \(2,\) if .* indices and \(2, 3\)",
        ),
        (nn.CrossEntropyLoss(), lambda: Tensor([0, 1, 2]), ValueError, r"it is int64 of shape \(3,\)"),
        (nn.CrossEntropyLoss(), lambda: Tensor([[0], [1]]), ValueError, r"it is int64 of shape \(2, 1\)"),
        (nn.CrossEntropyLoss(), lambda: Tensor([[0, 0, 1]] * 2), ValueError, r"it is int64 of shape \(2, 3\)"),
        (nn.CrossEntropyLoss(), lambda: Tensor([True, False]), ValueError, r"it is bool of shape \(2,\)"),
        (nn.CrossEntropyLoss(), lambda: tinytorch.ones((2, 3), dtype="float64"), TypeError, r"probabilities \(float32"),
        (nn.CrossEntropyLoss(), lambda: tinytorch.ones((2, 3)) > 0, TypeError, "not bool; convert with"),
        (nn.MSELoss(), lambda: tinytorch.ones(2), ValueError, r"input has shape \(2, 3\) and the target \(2,\)"),
        (nn.MSELoss(), lambda: tinytorch.ones((2, 1)), ValueError, "must be the same, so reshape one of them"),
        (nn.MSELoss(), lambda: tinytorch.ones((2, 3), dtype="float64"), TypeError, "mse_loss: .* takes one dtype"),
        (nn.MSELoss(), lambda: Tensor([[0, 1, 2]] * 2), TypeError, "takes one dtype|dtypes of one kind"),
        (nn.BCEWithLogitsLoss(), lambda: tinytorch.ones((2,)), ValueError, r"the target \(2,\)"),
        (nn.BCELoss(), lambda: tinytorch.ones((3, 2)), ValueError, r"the target \(3, 2\)"),
        (nn.BCELoss(), lambda: Tensor([[0, 1, 1]] * 2), TypeError, "takes"),
    ],
    ids=range(14),
)
def test_targets_that_do_not_fit(loss, target, error, message):
    with pytest.raises(error, match=message):
        loss(tinytorch.full((2, 3), 0.5), target())


@pytest.mark.parametrize("loss", [nn.MSELoss, nn.BCELoss, nn.BCEWithLogitsLoss, nn.CrossEntropyLoss])
def test_the_mean_of_an_empty_batch_is_refused(loss, device):
    x = tinytorch.zeros((0, 3), device=device)
    t = tinytorch.zeros(0, dtype="int32", device=device) if loss is nn.CrossEntropyLoss else x
    with pytest.raises(ValueError, match="the mean of an empty batch is not defined"):
        loss()(x, t)
    assert loss(reduction="sum")(x, t).item() == 0.0
    assert loss(reduction="none")(x, t).size == 0


def test_settings_out_of_range():
    for loss in (nn.MSELoss, nn.BCELoss, nn.BCEWithLogitsLoss, nn.CrossEntropyLoss):
        with pytest.raises(ValueError, match=rf"{loss.__name__}: reduction is 'mean', 'sum' or 'none', not 'avg'"):
            loss(reduction="avg")
    with pytest.raises(ValueError, match="reduction is 'mean', 'sum' or 'none', not 'avg'"):
        tinytorch.mse_loss(Tensor([1.0]), Tensor([1.0]), reduction="avg")
    with pytest.raises(ValueError, match=r"label_smoothing is .*between 0 and 1, not 1\.5"):
        nn.CrossEntropyLoss(label_smoothing=1.5)(Tensor(LOGITS), Tensor([0, 1]))
    with pytest.raises(ValueError, match=r"logits of classes along an axis, not shape \(\)"):
        nn.CrossEntropyLoss()(Tensor(1.0), Tensor(0))


def test_small_probabilities_keep_their_digits(device):
    p = Tensor([1e-9, 0.0, 1.0], device=device)
    losses = tinytorch.binary_cross_entropy(p, Tensor([0.0, 0.0, 1.0], device=device), reduction="none")
    np.testing.assert_allclose(losses.numpy(), [1e-9, 0.0, 0.0], rtol=1e-6)
    wrong = tinytorch.binary_cross_entropy(p, Tensor([0.0, 1.0, 0.0], device=device), reduction="none")
    np.testing.assert_allclose(wrong.numpy()[1:], [100.0, 100.0])


def test_logits_of_classes_that_are_ruled_out(device):
    logits = Tensor([[0.0, -math.inf, 1.0], [math.nan, 1.0, 1.0]], device=device, requires_grad=True)
    labels = Tensor([0, -100], device=device)
    loss = tinytorch.cross_entropy(logits, labels)
    close(loss.detach(), math.log(1 + math.e))
    loss.backward()
    p = math.e / (1 + math.e)
    np.testing.assert_allclose(logits.grad.numpy(), [[-p, 0.0, p], [0.0, 0.0, 0.0]], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32"])
def test_labels_and_indices_of_every_integer_dtype(dtype, device):
    labels = Tensor([3, 4], dtype, device)
    weight = tinytorch.zeros((600, 2), device=device).requires_grad_()
    tinytorch.embedding(labels, weight).sum().backward()
    assert weight.grad.sum(axis=1).numpy().nonzero()[0].tolist() == [3, 4]
    close(tinytorch.cross_entropy(tinytorch.zeros((2, 600), device=device), labels), math.log(600))
    table = tinytorch.arange(10000.0, device=device).reshape(100, 100)
    assert table[labels, labels].tolist() == [303.0, 404.0]
    assert tinytorch.take(table, labels, axis=1)[0].tolist() == [3.0, 4.0]


def test_a_loss_shows_its_settings():
    assert repr(tinytorch.MSELoss(reduction="sum")) == "MSELoss(reduction='sum')"
    shown = "CrossEntropyLoss(reduction='mean', ignore_index=-1, label_smoothing=0.1)"
    assert repr(tinytorch.CrossEntropyLoss(ignore_index=-1, label_smoothing=0.1)) == shown


@pytest.mark.filterwarnings("ignore:(invalid value|divide by zero):RuntimeWarning")
def test_a_batch_of_ignored_targets_has_no_gradient(device):
    logits = Tensor(LOGITS, device=device, requires_grad=True)
    loss = tinytorch.cross_entropy(logits, Tensor([-100, -100], device=device))
    assert math.isnan(loss.detach())
    loss.backward()
    assert not logits.grad.numpy().any()


@pytest.mark.parametrize("value", [-0.5, 1.5, 2.0, -np.inf, np.inf])
def test_what_is_no_probability_is_refused(value, device):
    def tensor(*numbers):
        return Tensor(np.asarray(numbers, "float32"), device=device)

    right, wrong = tensor(0.5, 1.0, np.nan, 0.0), tensor(0.5, value, 0.0, value)
    words = rf"{value:g} is outside \[0, 1\] \(2 such values\)"
    for loss in (tinytorch.binary_cross_entropy, tinytorch.BCELoss()):
        loss(right, right).detach().numpy()
        for pair, what in (((wrong, right), "input"), ((right, wrong), "target")):
            with pytest.raises((ValueError, IndexError), match=f"binary_cross_entropy: the {what} .*{words}"):
                loss(*pair).detach().numpy()
    for loss in (tinytorch.binary_cross_entropy_with_logits, tinytorch.BCEWithLogitsLoss()):
        loss(wrong, right).detach().numpy()
        with pytest.raises((ValueError, IndexError), match=f"with_logits: the target .*{words}"):
            loss(right, wrong).detach().numpy()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: tinytorch.CrossEntropyLoss(label_smoothing=1.5),
            ValueError,
            "label_smoothing is a number between 0 and 1",
        ),
        (lambda: tinytorch.CrossEntropyLoss(label_smoothing=float("nan")), ValueError, "label_smoothing is a number"),
        (lambda: tinytorch.CrossEntropyLoss(label_smoothing="no"), TypeError, "label_smoothing is a number"),
        (lambda: tinytorch.CrossEntropyLoss(ignore_index=0.5), TypeError, "ignore_index is an integer, not 0.5"),
        (lambda: tinytorch.CrossEntropyLoss(ignore_index=None), TypeError, "ignore_index is an integer, not None"),
        (lambda: tinytorch.BCELoss(reduction="avg"), ValueError, "reduction is 'mean', 'sum' or 'none', not 'avg'"),
        (lambda: tinytorch.Dropout("half"), TypeError, "Dropout: p is a number between 0 and 1, not 'half'"),
        (lambda: tinytorch.LayerNorm(3, eps=-1e-5), ValueError, "LayerNorm: eps is a number at least 0"),
        (lambda: tinytorch.LayerNorm(3, eps=None), TypeError, "LayerNorm: eps is a number at least 0"),
        (lambda: tinytorch.GELU("fast"), ValueError, "GELU: approximate is 'none' or 'tanh', not 'fast'"),
        (lambda: tinytorch.Softmax(dim=0.5), TypeError, "Softmax: dim is the number of an axis, not 0.5"),
    ],
)
def test_settings_are_checked_when_a_module_is_made(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_the_sum_of_no_losses_of_no_classes(device):
    nothing = tinytorch.zeros((0, 0), device=device).requires_grad_()
    labels = tinytorch.zeros(0, dtype="int64", device=device)
    for target in (labels, tinytorch.zeros((0, 0), device=device)):
        loss = tinytorch.cross_entropy(nothing, target, reduction="sum")
        assert loss.item() == 0.0
        assert tinytorch.grad(loss, nothing)[0].shape == (0, 0)
    smooth = tinytorch.cross_entropy(
        tinytorch.zeros((0, 3), device=device), labels, reduction="none", label_smoothing=0.5
    )
    assert smooth.shape == (0,)
