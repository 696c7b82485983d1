"""Every bug is caught, every gate catches something, and no gate fires at what is healthy: docs/sabotage.md is checked.

The table is written by a command; here each bug runs on one model, and must be caught by the gates that the table says.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import tinytorch
from tinytorch import Linear, progress
from tinytorch.milestones import sabotage as command
from tinytorch.milestones.sabotage import MODELS, caught_by, gate_names, models_of, page
from tinytorch.verify import sabotage

PAGE = Path(__file__).parents[2] / "docs" / "sabotage.md"


def table():
    """The page's table: bug -> gate -> letters of models."""
    return command.read(PAGE.read_text())


def test_the_page_is_what_the_command_writes():
    assert page(table()) == PAGE.read_text()
    assert list(table()) == list(sabotage.BUGS)


def test_every_bug_is_caught_and_every_gate_catches_something():
    assert [bug for bug, row in table().items() if not row] == []
    assert [gate for gate in gate_names() if not any(gate in row for row in table().values())] == []


def test_the_chapters_catch_every_bug_in_code_that_they_use():
    missed = {bug for bug, row in table().items() if not set("".join(row.values())) & set("PXMCBT")}
    assert {bug for bug in missed if models_of(bug) != "L"} == set()


def test_what_everybody_does_wrong_is_found_by_diagnose_or_refused():
    habits = {bug for bug, function in sabotage.BUGS.items() if function.__module__.endswith(".habits")}
    assert len(habits) > 10
    missed = {bug for bug in habits if not table()[bug].keys() & {"diagnose", "error"}}
    assert missed == set()


@pytest.mark.parametrize("bug", sabotage.BUGS)
def test_a_bug_is_caught_by_the_gates_that_the_table_names(bug):
    row = table()[bug]
    model = next(m for m in "PXMCLTB" if m in "".join(row.values()))  # the quickest that catches it
    assert caught_by(bug, model) == {gate for gate, models in row.items() if model in models}


@pytest.mark.parametrize("model", MODELS)
def test_no_gate_fires_at_what_is_healthy(model):
    MODELS[model](seeds=[3, 4]).assert_ok()


@pytest.mark.parametrize("bug", sabotage.BUGS)
def test_a_bug_ends_with_its_block(bug):
    def step():
        tinytorch.manual_seed(0)
        model = tinytorch.Sequential(Linear(2, 2), tinytorch.Tanh(), tinytorch.Dropout(), Linear(2, 1)).eval()
        optimizer = tinytorch.SGD(model.parameters(), lr=0.1)
        model(tinytorch.ones((2, 2))).sum().backward()
        optimizer.step()
        gradient = model[0].weight.grad.tolist()
        optimizer.zero_grad()
        return gradient, model[0].weight.tolist(), model[0].weight.grad

    before = step()
    with sabotage.BUGS[bug]():
        pass
    assert step() == before


def test_the_command_says_what_was_caught(capsys, monkeypatch, tmp_path):
    assert command.main(["step_does_nothing", "--write", str(tmp_path / "page.md")]) == 0
    out = capsys.readouterr().out
    assert "1 of 1 bugs caught" in out
    assert "step_does_nothing  PXMCBTL" in out
    assert "`step_does_nothing` | PXMCBTL | PXMCBTL |" in (tmp_path / "page.md").read_text()
    monkeypatch.setattr(command, "models_of", lambda bug: "X")
    assert command.main(["sigmoid_twice", "--write", str(tmp_path / "page.md")]) == 0
    assert list(command.read((tmp_path / "page.md").read_text())) == ["step_does_nothing", "sigmoid_twice"]
    monkeypatch.setattr(command, "models_of", lambda bug: "P")
    assert command.main(["tanh_gradient_forgotten"]) == 1  # the perceptron has no tanh
    assert "0 of 1 bugs caught" in capsys.readouterr().out


def test_the_command_counts_false_alarms(capsys, monkeypatch):
    monkeypatch.setattr(command, "CHAPTERS", command.CHAPTERS[:2])
    monkeypatch.setattr(command, "LEARNERS", {"P": command.LEARNERS["P"]})
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    assert command.main(["--healthy", "2"]) == 0
    out, err = capsys.readouterr()
    assert "0 false alarms in" in out
    assert "update" in err  # what is being done
    with sabotage.step_does_nothing():
        assert command.main(["--healthy", "1"]) == 1
    out = capsys.readouterr().out
    assert "XOR, seed 0: movement: `0.weight`" in out
    assert "diagnose P, seed 0: step too small" in out


@pytest.mark.parametrize(
    ("asked", "said"), [(["typo"], "no bug typo; there are sign_flip"), (["--healthy", "0"], "1 or more, not 0")]
)
def test_the_command_says_what_it_cannot_do(asked, said, capsys):
    with pytest.raises(SystemExit, match="2"):
        command.main(asked)
    assert said in capsys.readouterr().err
