"""Runs, gates, devices and the command line."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import numpy as np
import pytest

import tinytorch
from milestones import __main__ as command
from milestones import cnn_digits, mlp_digits, perceptron, transformer_copy, xor
from milestones.result import Gate, Result, Run
from tinytorch import Linear, Tensor

FIRST = 20  # updates

RUNS = {
    "perceptron": lambda device: perceptron.learn("blobs", device, updates=FIRST),
    "xor": lambda device: xor.learn(device, build=xor.deep_network, updates=FIRST),
    "mlp_digits": lambda device: mlp_digits.learn(device, updates=FIRST),
    "cnn_digits": lambda device: cnn_digits.learn(device, build=cnn_digits.deep_network, updates=FIRST),
    "transformer_copy": lambda device: transformer_copy.learn(device, build=transformer_copy.block, updates=FIRST),
}


@pytest.mark.parametrize("chapter", RUNS)
def test_the_first_updates_are_the_same_on_every_device(chapter, other):
    here, there = RUNS[chapter]("cpu"), RUNS[chapter](other)
    assert here.updates == there.updates == FIRST
    np.testing.assert_allclose(there.losses, here.losses, rtol=0, atol=1e-5)
    assert there.before == pytest.approx(here.before, abs=1e-5)


def test_two_seeds_differ_and_one_repeats():
    losses = [mlp_digits.learn(seed=seed, updates=FIRST).losses for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]


def unlearned(**settings):
    """A run of no updates of a model whose answers are made up."""
    model = Linear(2, 1)
    settings = {"loss": lambda: Tensor(1.0), "accuracy": lambda: Tensor(1.0)} | settings
    return Run("made up", model, tinytorch.device("cpu"), **settings)


def test_gates_fail_without_training():
    run = unlearned()
    run.finish(accuracy=0.5, updates=1)
    failed = {g.name for g in run.gates if not g.passed}
    assert failed == {
        "loss drop > 50 %",
        "finite gradients 2/2",
        "no gradient is zero",
        "every parameter moved",
        "1 updates",
    }
    assert not run.ok
    with pytest.raises(
        AssertionError, match=r"title on cpu:\nFAIL  loss drop > 50 %: 1.0000 -> 1.0000: 0.0% \(made up\)"
    ):
        Result("title", run.device, [run]).assert_ok()


def test_an_accuracy_that_is_no_number_does_not_pass():
    run = unlearned(accuracy=lambda: Tensor(math.nan))
    run.finish(accuracy=0.5, updates=0)
    assert "accuracy > 50%" in {g.name for g in run.gates if not g.passed}


def test_exempt_parameters_may_have_a_zero_gradient_and_stay():
    run = unlearned()
    run.model.bias.grad = tinytorch.zeros(1)
    run.model.weight.grad = tinytorch.ones((1, 2))
    run.watch(Tensor(1.0))
    run.finish(accuracy=0.5, updates=1, exempt={"bias": "for the test"})
    measured = {g.name: g.measured for g in run.gates}
    assert measured["no gradient is zero"] == "0 zero"
    assert measured["every parameter moved"] == "1/2 not weight (0)"


def test_a_result_fails_with_a_gate_of_its_own():
    result = Result("title", tinytorch.device("cpu"), [])
    assert result.ok
    result.gate("claim", False, "0 of 1")
    assert result.failures == [str(Gate("claim", False, "0 of 1"))] == ["FAIL  claim: 0 of 1"]


def test_the_command_prints_a_table_and_fails_if_a_gate_does(capsys, monkeypatch, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"above {command.START} old {command.END} below")
    assert command.main(["perceptron", "--seed", "3", "--gates", "--write", str(readme)]) == 0
    out = capsys.readouterr().out
    assert "1957 perceptron: blobs" in out
    assert "gates passed, seed 3" in out
    text = readme.read_text()
    assert text.startswith(f"above {command.START}\n| milestone | device |")
    assert text.endswith(f"{command.END} below")
    assert " old " not in text

    cpu = tinytorch.device("cpu")
    monkeypatch.setattr(perceptron, "train", lambda *a: Result("1957", cpu, [perceptron.learn("OR", lr=0.0)]))
    assert command.main(["perceptron"]) == 1
    out = capsys.readouterr().out
    assert "FAILED" in out
    assert "1957 on cpu: FAIL  every parameter moved: 0/2 not 0.bias (0), 0.weight (0) (OR)" in out


def test_a_chapter_that_breaks_off_fails_and_the_others_run(capsys, monkeypatch):
    monkeypatch.setattr(perceptron, "learn", lambda *a, **k: 1 / 0)
    assert command.main(["perceptron", "xor"]) == 1
    out = capsys.readouterr().out
    assert "1957 perceptron on cpu: FAIL  ran to its end: ZeroDivisionError: division by zero" in out
    assert "1986 XOR: 2-4-1" in out


def test_the_command_says_what_it_cannot_do(capsys, tmp_path):
    assert command.main(["perceptron", "lenet"]) == 2
    assert "no chapter lenet; there are perceptron, xor" in capsys.readouterr().out
    assert command.main(["--device", "abacus"]) == 2
    assert "no family 'abacus'" in capsys.readouterr().out
    unmarked = tmp_path / "README.md"
    unmarked.write_text("no marks")
    with pytest.raises(ValueError, match="needs <!-- milestones -->"):
        command.main(["perceptron", "--write", str(unmarked)])


def test_one_thread_unless_told_otherwise():
    watch = """
import os, sys
class Watch:
    def find_spec(self, name, *rest):
        if name == "numpy":
            print(os.environ.get("OPENBLAS_NUM_THREADS"))
sys.meta_path.insert(0, Watch())
import milestones.__main__
"""
    for given, used in (({}, "1"), ({"OPENBLAS_NUM_THREADS": "2"}, "2")):
        env = {k: v for k, v in os.environ.items() if k != "OPENBLAS_NUM_THREADS"} | given
        out = subprocess.run([sys.executable, "-c", watch], env=env, capture_output=True, text=True, check=True).stdout
        assert out.split() == [used]  # when NumPy is imported


def test_devices_are_chosen_by_name_by_all_and_by_the_environment(monkeypatch):
    usable = [d.name for d in command.chosen_devices(["all"])]
    assert usable[0] == "cpu"
    assert len(set(usable)) == len(usable)
    assert [d.name for d in command.chosen_devices(["cpu", "cpu"])] == ["cpu"]
    assert command.chosen_devices(["auto"])[0].name in usable
    monkeypatch.setenv("TINYTORCH_DEVICE", usable[-1])
    assert [d.name for d in command.chosen_devices(None)] == [usable[-1]]
