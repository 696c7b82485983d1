"""The five milestones of the seed: each learns, on every device. What "learns" means is in milestones/result.py."""

from __future__ import annotations

from tinytorch.milestones import cnn_digits, mlp_digits, perceptron, transformer_copy, xor


def every_variant(device):
    """JAX and dpnp take 20 us and more for each operation: there one variant of the long chapters stands for all."""
    return not device.startswith(("jax:", "sycl:"))


def test_perceptron_learning(learner):
    perceptron.train(learner).assert_ok()


def test_xor_learning(learner):
    xor.train(learner).assert_ok()


def test_mlp_digits_learning(learner):
    mlp_digits.train(learner).assert_ok()


def test_cnn_learning(learner):
    learn = cnn_digits.train if every_variant(learner) else cnn_digits.verified
    learn(device=learner).assert_ok()


def test_transformer_learning(learner):
    learn = transformer_copy.train if every_variant(learner) else transformer_copy.verified
    learn(device=learner).assert_ok()
