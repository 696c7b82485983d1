"""The controls: break the part that learns, and the gate that is about it must fail.

A gate that passes anyway would prove nothing. Each control also says which gates still pass: those are the ones that a
broken model fools.
"""

from __future__ import annotations

import numpy as np
import pytest

import tinytorch
from milestones import cnn_digits, mlp_digits, perceptron, transformer_copy, xor
from tinytorch import Embedding, Linear, PositionalEncoding, Sequential, Sigmoid
from tinytorch.data import TensorDataset, tinydigits
from tinytorch.nn import Module, MultiHeadAttention

SEEDS = (0, 1, 2)
seeds = pytest.mark.parametrize("seed", SEEDS)


def failed(run):
    """The names of the gates that failed."""
    return {gate.name for gate in run.gates if not gate.passed}


def frozen(build, *which):
    """The network with the layers at these places frozen."""

    def frozen_network():
        model = build()
        for i in which:
            model[i].requires_grad_(False)
        return model

    return frozen_network


# 1957 ------------------------------------------------------------------------------------------------------------


@seeds
def test_a_perceptron_cannot_learn_xor(seed):
    run = perceptron.learn("XOR", seed=seed)
    assert run.accuracy <= 0.75
    assert {"accuracy 100%", "loss drop > 50 %"} <= failed(run)


@seeds
@pytest.mark.parametrize("task", ["AND", "OR", "blobs"])
def test_a_perceptron_with_no_learning_rate_does_not_learn(task, seed):
    run = perceptron.learn(task, seed=seed, lr=0.0)
    assert {"loss drop > 50 %", "every parameter moved"} <= failed(run)


# 1986 ------------------------------------------------------------------------------------------------------------


@seeds
def test_xor_is_not_learned_without_a_non_linearity(seed):
    run = xor.learn(seed=seed, build=lambda: Sequential([Linear(2, 4), Identity(), Linear(4, 1), Sigmoid()]))
    assert {"accuracy 100%", "loss drop > 50 %", "a line separates the hidden activations, none the inputs"} <= failed(
        run
    )


class Identity(Module):
    def forward(self, x):
        return x


@seeds
def test_a_frozen_hidden_layer_is_caught_by_the_movement_gates(seed):
    run = xor.learn(seed=seed, build=frozen(xor.network, 0))
    assert {
        "hidden weights moved > 1 x their norm",
        "every parameter moved",
        "finite gradients 4/4",
    } <= failed(run)


# 1989 ------------------------------------------------------------------------------------------------------------


def shuffled_labels():
    train_set, test_set = tinydigits()
    images, labels = train_set.tensors
    order = np.random.Generator(np.random.Philox(5)).permutation(len(labels)).tolist()
    return TensorDataset(images, labels[order]), test_set


@seeds
def test_shuffled_labels_do_not_generalize(seed):
    run = mlp_digits.learn(seed=seed, data=shuffled_labels)
    assert {"accuracy > 80%", "loss drop > 50 %"} <= failed(run)
    assert "every parameter moved" not in failed(run)  # it is busy all the same


@seeds
def test_frozen_first_layers_are_caught_by_the_movement_gate(seed):
    run = mlp_digits.learn(seed=seed, build=frozen(mlp_digits.network, 1, 3))
    assert {"every parameter moved", "finite gradients 6/6"} <= failed(run)


# 1998 ------------------------------------------------------------------------------------------------------------

FILTERS = "filters 0.weight moved > 1.5 x their norm"


@seeds
def test_a_frozen_convolution_is_caught_though_accuracy_is_not(seed):
    run = cnn_digits.learn(seed=seed, build=frozen_cnn)
    assert {FILTERS, "every parameter moved", "finite gradients 4/4"} <= failed(run)
    assert "accuracy > 80%" not in failed(run)


def frozen_cnn():
    return frozen(cnn_digits.network, 0)()


def scaled(factor):
    """Spoil the gradient of the filters."""

    def spoil(model):
        model[0].weight.grad = model[0].weight.grad * factor

    return spoil


@seeds
def test_a_zero_convolution_gradient_is_caught(seed):
    run = cnn_digits.learn(seed=seed, spoil=scaled(0.0))
    assert {FILTERS, "no gradient is zero", "every parameter moved"} <= failed(run)


@seeds
def test_a_convolution_gradient_of_a_tenth_is_caught(seed):
    run = cnn_digits.learn(seed=seed, spoil=scaled(0.1))
    assert failed(run) == {FILTERS}  # by nothing else


# 2017 ------------------------------------------------------------------------------------------------------------

V, D, T, H = transformer_copy.VOCABULARY, transformer_copy.D_MODEL, transformer_copy.LENGTH, transformer_copy.HEADS
REVERSED = "accuracy > 99%"


class UniformAttention(MultiHeadAttention):
    """Every position takes the same of each: the mean of the values."""

    def forward(self, query, *args, **kwargs):
        mean = tinytorch.mean(self.v_proj(query), axis=1, keepdims=True)
        return self.out_proj(tinytorch.broadcast_to(mean, query.shape))


def without_positions():
    return Sequential([Embedding(V, D), MultiHeadAttention(D, H), Linear(D, V)])


def uniform_attention():
    return Sequential([Embedding(V, D), PositionalEncoding(D, T), UniformAttention(D, H), Linear(D, V)])


def without_attention():
    return Sequential([Embedding(V, D), PositionalEncoding(D, T), Linear(D, V)])


@pytest.mark.parametrize("build", [without_positions, uniform_attention, without_attention])
@seeds
def test_reversing_needs_positions_and_attention(build, seed):
    run = transformer_copy.learn(seed=seed, task="reverse", build=build)
    assert REVERSED in failed(run)
    assert run.accuracy < 0.5


@pytest.mark.parametrize("build", [without_positions, without_attention])
def test_copying_needs_neither(build):
    """Why the copy task alone would prove nothing."""
    assert transformer_copy.learn(task="copy", build=build).accuracy == 1
