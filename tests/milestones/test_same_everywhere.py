"""Every chapter is the same run on every device: the same draws bit for bit, and in float64 the same losses."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from tinytorch import Embedding, Linear, PositionalEncoding, Sequential, TransformerEncoderLayer, backends
from tinytorch.milestones import cnn_digits, mlp_digits, perceptron, transformer_copy, xor
from tinytorch.parity import compare

UPDATES = 50


def block_with_dropout():
    V, D, T, H = transformer_copy.VOCABULARY, transformer_copy.D_MODEL, transformer_copy.LENGTH, transformer_copy.HEADS
    layer = TransformerEncoderLayer(D, H, 4 * D, dropout=0.1, batch_first=True)
    return Sequential([Embedding(V, D), PositionalEncoding(D, T), layer, Linear(D, V)])


RUNS = {
    "perceptron": functools.partial(perceptron.learn, task="blobs"),
    "xor": functools.partial(xor.learn, build=xor.deep_network),
    "mlp_digits": mlp_digits.learn,
    "cnn_digits": functools.partial(cnn_digits.learn, build=cnn_digits.deep_network),
    "transformer_copy": functools.partial(transformer_copy.learn, build=transformer_copy.block),
    "transformer_copy with dropout": functools.partial(transformer_copy.learn, build=block_with_dropout),
}
# parameters and buffers; tensors given in each update: indices, inputs, targets and, with dropout, masks
SIZES = {
    "perceptron": (2, 2),
    "xor": (8, 2),
    "mlp_digits": (6, 2),
    "cnn_digits": (6, 2),
    "transformer_copy": (20, 2),
    "transformer_copy with dropout": (20, 2 + 4),
}


def has_float64(name):
    try:
        backends.device(name).dtype("float64")
    except TypeError:
        return False
    return True


@pytest.mark.parametrize("chapter", RUNS)
def test_in_float64_the_losses_of_every_device_agree(chapter, other):
    if not has_float64(other):
        pytest.skip(f"{other} has no float64")
    found = compare(RUNS[chapter], ["cpu", other], updates=UPDATES, dtype="float64")
    assert len(found.losses) == len(found.others[0].steps) == UPDATES
    assert all(float(np.float32(loss)) != loss for loss in found.losses)  # they were computed in float64
    for expected, step in zip(found.losses, found.others[0].steps, strict=True):
        assert abs(step.loss - expected) <= 1e-9
        assert step.loss_difference.relative <= 1e-9


@pytest.mark.parametrize("chapter", RUNS)
def test_weights_batches_and_masks_are_the_same_bits(chapter, other):
    """`compare` raises an error if one is not: see tests/test_compare.py. Here: that it looked at all of them."""
    found = compare(RUNS[chapter], ["cpu", other], updates=5)
    weights, each = SIZES[chapter]
    assert found.weights == weights
    assert found.inputs >= 5 * each
