"""The five milestones of the seed: each learns, on every device. What "learns" means is in milestones/result.py."""

from __future__ import annotations

from tinytorch.milestones import cnn_digits, mlp_digits, perceptron, transformer_copy, xor


def test_perceptron_learning(learner):
    perceptron.train(learner).assert_ok()


def test_xor_learning(learner):
    xor.train(learner).assert_ok()


def test_mlp_digits_learning(learner):
    mlp_digits.train(learner).assert_ok()


def test_cnn_learning(learner):
    cnn_digits.train(learner).assert_ok()


def test_transformer_learning(learner):
    transformer_copy.train(learner).assert_ok()
