"""The first updates on every device, and the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial

import numpy as np
import pytest

from tinytorch import SGD
from tinytorch.milestones import __main__ as command
from tinytorch.milestones import cnn_digits, mlp_digits, perceptron, transformer_copy, xor
from tinytorch.verify import run_once

FIRST = 20  # updates

RUNS = {
    "perceptron": perceptron.learn,
    "xor": partial(xor.learn, build=xor.deep_network),
    "mlp_digits": mlp_digits.learn,
    "cnn_digits": partial(mlp_digits.learn, build=cnn_digits.deep_network),
    "transformer_copy": partial(transformer_copy.learn, build=transformer_copy.block),
}


@pytest.mark.parametrize("chapter", RUNS)
def test_the_first_updates_are_the_same_on_every_device(chapter, other):
    here, there = (run_once(RUNS[chapter], device=device, updates=FIRST) for device in ("cpu", other))
    assert here.updates == there.updates == FIRST
    np.testing.assert_allclose(there.losses, here.losses, rtol=0, atol=1e-5)
    assert there.before == pytest.approx(here.before, abs=1e-5)


def test_two_seeds_differ_and_one_repeats():
    losses = [run_once(mlp_digits.learn, seed=seed, updates=FIRST).losses for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]


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

    monkeypatch.setattr(SGD, "step", lambda self: None)
    assert command.main(["perceptron"]) == 1
    out = capsys.readouterr().out
    assert "FAILED" in out
    assert (
        "1957 perceptron on cpu: FAIL  movement: `0.weight`: moved 0 x its norm; the norm of its first gradient" in out
    )


def test_a_chapter_that_breaks_off_fails_and_the_others_run(capsys, monkeypatch):
    monkeypatch.setattr(perceptron, "learn", lambda *a, **k: 1 / 0)
    assert command.main(["perceptron", "xor"]) == 1
    out = capsys.readouterr().out
    assert "1957 perceptron on cpu: FAIL  ran to its end: ZeroDivisionError: division by zero" in out
    assert "1986 XOR: 2-4-1" in out


def test_devices_are_chosen_by_name_by_all_and_by_the_environment(monkeypatch):
    usable = [d.name for d in command.chosen_devices(["all"])]
    assert usable[0] == "cpu"
    assert len(set(usable)) == len(usable)
    assert [d.name for d in command.chosen_devices(["cpu", "cpu"])] == ["cpu", "cpu"]
    assert command.chosen_devices(["auto"])[0].name in usable
    monkeypatch.setenv("TINYTORCH_DEVICE", usable[-1])
    assert [d.name for d in command.chosen_devices(None)] == [usable[-1]]


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
