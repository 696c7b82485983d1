"""The controls of the chapters: each breaks the part that learns, and the gate that is about it must fail.

Some tests also say what does not notice: those are the gates that a broken model fools.
"""

from __future__ import annotations

import pytest

from tinytorch import Embedding, MultiHeadAttention, PositionalEncoding
from tinytorch.milestones import cnn_digits, mlp_digits, perceptron, transformer_copy, xor
from tinytorch.verify import controls

SEEDS = (0, 1, 2)


def noticed(report):
    return [c.noticed for c in report.subjects[0].controls]


def test_a_perceptron_cannot_learn_xor():
    report = perceptron.verified("XOR", seeds=SEEDS)
    assert all({"metric", "loss drop"} <= judged.failed for judged in report.subjects[0].judged)
    assert all(run.metric <= 0.75 for run in report.runs)


@pytest.mark.parametrize("task", ["AND", "OR", "blobs"])
def test_a_perceptron_needs_its_gradient(task):
    perceptron.verified(task, seeds=SEEDS, controls=perceptron.CONTROLS).assert_ok()


def test_xor_needs_a_non_linearity_and_a_hidden_layer_that_learns():
    xor.verified(seeds=SEEDS, controls=xor.CONTROLS).assert_ok()


def test_digits_need_their_labels_and_frozen_layers_are_noticed():
    mlp_digits.verified(seeds=SEEDS, controls=mlp_digits.CONTROLS).assert_ok()


def test_with_shuffled_labels_a_network_is_busy_all_the_same():
    assert noticed(mlp_digits.verified(controls=[controls.shuffle_labels(fails="movement")])) == [False]


def test_a_convolution_that_does_not_learn_is_noticed():
    cnn_digits.verified(seeds=SEEDS, controls=cnn_digits.CONTROLS).assert_ok()


def test_neither_accuracy_nor_loss_notice_a_frozen_convolution_or_a_tenth_of_its_gradient():
    fooled = [controls.freeze("0", fails="metric")]
    fooled += [controls.scale_gradient("0", 0.1, fails=gate) for gate in ("metric", "loss drop", "movement")]
    assert noticed(cnn_digits.verified(controls=fooled)) == [False] * 4


def test_reversing_needs_positions_and_attention():
    report = transformer_copy.verified("reverse", seeds=SEEDS, controls=transformer_copy.CONTROLS)
    report.assert_ok()
    assert all(judged.run.metric < 0.5 for c in report.subjects[0].controls for judged in c.judged)


def test_copying_needs_neither():
    """Why the copy task alone would prove nothing: the report says so."""
    broken = [controls.no_positions(), controls.remove(MultiHeadAttention)]
    assert transformer_copy.verified("copy", controls=broken).failures == [
        "metric: proves nothing, it passes as well without PositionalEncoding (100.00%)",
        "metric: proves nothing, it passes as well without MultiHeadAttention (100.00%)",
    ]


def test_a_control_finds_what_it_breaks():
    with pytest.raises(ValueError, match=r"the model has no '7'; there are '0', '1'"):
        perceptron.verified(controls=[controls.freeze("7")])
    with pytest.raises(ValueError, match=r"no <class .*Embedding"):
        perceptron.verified(controls=[controls.remove(Embedding)])
    with pytest.raises(
        ValueError, match="must make the gate 'accuracy' fail, but there is none: there are finite gradients, fresh"
    ):
        perceptron.verified(controls=[controls.remove(PositionalEncoding, fails="accuracy")])
