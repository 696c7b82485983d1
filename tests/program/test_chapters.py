"""The chapters with compiled steps: the same run, number by number, and the gates and controls see what they see."""

from __future__ import annotations

from functools import partial

import pytest

from tinytorch.milestones import cnn_digits, mlp_digits, perceptron, transformer_copy, xor
from tinytorch.verify import controls, gates, run_once, verify

LEARN = {
    "perceptron": (perceptron.learn, 100),
    "XOR": (xor.learn, 120),
    "XOR, three hidden layers": (partial(xor.learn, build=xor.deep_network), 120),
    "MLP": (mlp_digits.learn, 70),
    "CNN": (cnn_digits.learn, 70),
    "CNN, two convolutions": (partial(mlp_digits.learn, build=cnn_digits.deep_network), 40),
    "attention": (transformer_copy.learn, 70),
    "attention, reverse": (partial(transformer_copy.learn, task="reverse"), 40),
    "block": (partial(transformer_copy.learn, build=transformer_copy.block), 40),
}


@pytest.mark.parametrize("name", LEARN)
def test_a_compiled_run_is_the_same(name):
    train, updates = LEARN[name]
    eager, compiled = (run_once(train, updates=updates, compile=compile) for compile in (False, True))
    assert compiled.losses == eager.losses
    assert compiled.gradients == eager.gradients
    assert compiled.moved == eager.moved
    assert (compiled.after, compiled.metric) == (eager.after, eager.metric)


def test_gates_and_controls_judge_compiled_steps():
    judges = [gates.metric(1.0, name="accuracy"), gates.movement(1.0, of="0.weight", name="hidden")]
    broken = [controls.remove("1", fails="metric"), controls.freeze("0", fails="hidden")]
    report = verify(xor.learn, gates=judges, controls=broken, compile=True)
    assert report.ok, report.failures
