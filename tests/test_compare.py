"""The same run on several devices: what is compared, which op is named, and what is an error."""

from __future__ import annotations

import functools
import json
import sys
import threading

import array_api_compat.numpy as xp
import numpy as np
import pytest

import tinytorch
from tests.thirdparty import register
from tinytorch import SGD, Adam, CrossEntropyLoss, Dropout, Linear, Sequential, Tanh, Tensor, cli, random, verify
from tinytorch.data import DataLoader, TensorDataset
from tinytorch.nn import Embedding
from tinytorch.parity import BrokenTraining, Difference, NotTheSameRun, compare, difference

UPDATES = 6


def recipe(run, *, updates=UPDATES, model=None, optimizer=SGD, data=None, labels=None):
    """A small classifier on random data, with dropout."""
    model = model or Sequential([Linear(3, 5), Tanh(), Dropout(0.25), Linear(5, 4)]).to(run.dtype)
    x = data if data is not None else tinytorch.randn(16, 3, dtype=run.dtype)
    y = labels if labels is not None else tinytorch.randint(4, size=(16,))
    learner = optimizer(model.parameters(), lr=0.1)
    run.watch(model, learner)
    done = 0
    while done < updates:
        for inputs, wanted in DataLoader(TensorDataset(x, y), batch_size=4, shuffle=True):
            loss = CrossEntropyLoss()(model(inputs), wanted)
            learner.zero_grad()
            loss.backward()
            yield loss
            learner.step()
            done += 1
            if done == updates:
                return


def with_settings(**settings):
    return functools.partial(recipe, **settings)


# What is found ----------------------------------------------------------------------------------------------------


def test_two_runs_on_one_device_are_the_same_bit_for_bit():
    found = compare(recipe, ["cpu", "cpu", "cpu"], updates=UPDATES)
    assert len(found.losses) == UPDATES
    for run in found.others:
        assert run.first is None
        assert [s.loss for s in run.steps] == found.losses
        assert {(s.loss_difference, s.parameters) for s in run.steps} == {(Difference(0, 0), Difference(0, 0))}
        assert [s.update for s in run.steps] == list(range(1, UPDATES + 1))


def test_the_losses_are_those_of_a_run_that_is_alone():
    losses = verify.run_once(recipe, seed=3).losses
    assert compare(recipe, ["cpu", "cpu"], seed=3).losses == losses
    assert compare(recipe, ["cpu", "cpu"], seed=4).losses != losses


def test_the_random_numbers_of_the_caller_go_on_as_if_nothing_had_been():
    tinytorch.manual_seed(5)
    expected = tinytorch.rand(3).tolist()
    tinytorch.manual_seed(5)
    compare(recipe, ["cpu", "cpu"], updates=2)
    assert tinytorch.rand(3).tolist() == expected


def test_every_device_is_near_the_cpu(other):
    found = compare(with_settings(updates=UPDATES + 1), ["cpu", other], updates=UPDATES)
    assert found.weights == 4
    assert found.inputs == 3 * UPDATES  # in each the batch, the mask and the labels
    assert max(s.loss_difference.relative for s in found.others[0].steps) < 1e-5
    assert max(s.parameters.relative for s in found.others[0].steps) < 1e-4


def test_the_first_op_that_differs_is_named(monkeypatch):
    def tanh(x):
        return xp.where(x == xp.max(x), xp.nextafter(xp.tanh(x), xp.asarray(2, dtype=x.dtype)), xp.tanh(x))

    third = register(monkeypatch, tanh=tanh)
    first = compare(recipe, ["cpu", third]).others[0].first
    assert (first.update, first.kind, first.name, first.shapes) == (1, "forward", "tanh", "(4, 5) -> (4, 5)")
    assert 0 < first.difference.ulps <= 1
    assert str(first).startswith("update 1: tanh, (4, 5) -> (4, 5): ")


def test_the_first_gradient_that_differs_is_named(monkeypatch):
    def scatter_add(self, values, indices, size):
        out = np.zeros((size, *values.shape[1:]), values.dtype)
        np.add.at(out, indices, values)
        return out * np.float32(1 + 2**-20)

    third = register(monkeypatch, {"scatter_add": scatter_add})

    def words(run):
        model = Sequential([Embedding(7, 3), Linear(3, 4)])
        return recipe(run, model=model, data=tinytorch.randint(7, size=(16,)))

    first = compare(words, ["cpu", third]).others[0].first
    assert (first.update, first.kind, first.name) == (1, "gradient", "embedding")
    assert first.shapes == "input 0, (4, 3) -> (7, 3)"
    assert first.difference.relative == pytest.approx(2**-20, rel=0.1)


def test_an_optimizer_that_differs_is_named(monkeypatch):
    """Adam takes a square root, which no op of this model does."""
    third = register(monkeypatch, sqrt=lambda x: xp.sqrt(x) * np.float32(1 + 2**-20))
    found = compare(with_settings(optimizer=Adam), ["cpu", third]).others[0]
    assert (found.first.update, found.first.kind) == (1, "optimizer")
    assert found.first.name in ("0.weight", "0.bias", "3.weight", "3.bias")
    assert found.first.name == found.steps[0].worst
    assert found.steps[0].loss_difference.ulps == 0 < found.steps[1].loss_difference.ulps
    plain = compare(with_settings(optimizer=SGD), ["cpu", third]).others[0]
    assert plain.first is None


def test_a_difference_in_the_last_update_is_seen_and_one_after_it_is_not(monkeypatch):
    count = []

    def sqrt(x):
        count.append(1)
        return xp.sqrt(x) * np.float32(1 + 2**-10 * (len(count) == 3))

    third = register(monkeypatch, sqrt=sqrt)
    found = compare(with_settings(optimizer=Adam), ["cpu", third], updates=3).others[0]
    assert (found.first.update, found.first.kind) == (3, "optimizer")
    assert [s.parameters.ulps > 0 for s in found.steps] == [False, False, True]
    count.clear()
    assert compare(with_settings(optimizer=Adam), ["cpu", third], updates=2).others[0].first is None


def test_a_recipe_may_end_before_that_many_updates():
    found = compare(recipe, ["cpu", "cpu"], updates=100)
    assert len(found.losses) == len(found.others[0].steps) == UPDATES


def test_data_may_be_on_the_host_and_moved_in_every_update(other):
    """On the CPU `to` gives the same tensor each time, on another device a new one."""

    def moving(run):
        device = run.device
        host = tinytorch.randn(4, 3, dtype=run.dtype, device="cpu")
        model = Sequential([Linear(3, 5), Tanh(), Linear(5, 1)]).to(run.dtype)
        learner = SGD(model.parameters(), lr=0.1)
        run.watch(model, learner)
        for _ in range(UPDATES):
            hidden = model[:2](host.to(device))
            loss = (model[2](hidden.to("cpu").to(device)) ** 2).mean()
            learner.zero_grad()
            loss.backward()
            yield loss
            learner.step()

    found = compare(moving, ["cpu", other], dtype="float32")
    assert found.inputs == UPDATES
    assert max(s.loss_difference.relative for s in found.others[0].steps) < 1e-5


def test_gradients_and_what_is_detached_or_assigned_is_computed_not_given(monkeypatch):
    """So they may differ, and those who use them need not be told."""
    third = register(monkeypatch, tanh=lambda x: xp.tanh(x) * np.float32(1 + 2**-20))

    def clipping(run):
        model = Sequential([Linear(3, 5), Tanh(), Linear(5, 1)]).to(run.dtype)
        learner = SGD(model.parameters(), lr=0.1)
        run.watch(model, learner)
        x, mean = tinytorch.randn(4, 3, dtype=run.dtype), tinytorch.zeros((), dtype=run.dtype)
        for _ in range(UPDATES):
            loss = (model(x) ** 2).mean()
            learner.zero_grad()
            loss.backward()
            sum((p.grad * p.grad).sum() for p in model.parameters())
            model[0].weight.data * loss.detach()
            mean.data = mean.data * 0.9 + loss.detach()
            mean * 2
            yield loss
            learner.step()

    found = compare(clipping, ["cpu", third])
    assert found.others[0].first.name == "tanh"
    assert found.inputs == UPDATES


def test_ops_of_other_threads_are_nobodys():
    stop = threading.Event()

    def busy():
        while not stop.is_set():
            tinytorch.exp(tinytorch.ones(3))

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        assert compare(recipe, ["cpu", "cpu"]).others[0].first is None
    finally:
        stop.set()
        thread.join()


def test_no_thread_or_observer_is_left():
    before = threading.active_count()
    compare(recipe, ["cpu", "cpu"], updates=2)
    with pytest.raises(RuntimeError, match="breaks off"):
        compare(lambda run: 1 / 0, ["cpu", "cpu"])
    assert threading.active_count() == before
    assert tinytorch.tape.observer.observers == []


# What is an error ---------------------------------------------------------------------------------------------------


def spoiled(**settings):
    """On the second run only, one of the settings is another."""
    runs = []

    def spoiled_recipe(run):
        runs.append(run)
        chosen = {k: v[len(runs) > 1]() for k, v in settings.items()}
        return recipe(run, **chosen)

    return spoiled_recipe


def test_another_initial_weight_is_an_error():
    def model(nudge):
        made = Sequential([Linear(3, 4), Dropout(0.5)])
        made[0].bias.data = Tensor(np.asarray([0, 0, 0, nudge], "float32"))
        return made

    same = spoiled(model=(lambda: model(0.0), lambda: model(0.0)))
    assert compare(same, ["cpu", "cpu"]).others[0].first is None
    other = spoiled(model=(lambda: model(0.0), lambda: model(1e-7)))
    with pytest.raises(NotTheSameRun, match=r"update 1: the initial value of 0\.bias is not the same"):
        compare(other, ["cpu", "cpu"])


def test_another_batch_is_an_error():
    x = np.random.default_rng(0).standard_normal((16, 3)).astype("float32")
    nudged = x.copy()
    nudged[15, 2] = np.nextafter(nudged[15, 2], np.float32(9))
    with pytest.raises(NotTheSameRun, match=r"an input of linear, \(4, 3\), is not the same on cpu and cpu"):
        compare(spoiled(data=(lambda: Tensor(x), lambda: Tensor(nudged))), ["cpu", "cpu"])


def test_other_labels_are_an_error_also_after_results_differ(monkeypatch):
    third = register(monkeypatch, tanh=lambda x: xp.tanh(x) * np.float32(1 + 2**-20))
    labels = np.arange(16) % 4
    other = labels.copy()
    other[7] = 0
    with pytest.raises(NotTheSameRun, match=r"an input of cross_entropy, \(4,\), is not the same on cpu and third"):
        compare(spoiled(labels=(lambda: Tensor(labels), lambda: Tensor(other))), ["cpu", third])


class Unlike(Dropout):
    """Its masks are its own."""

    def forward(self, x):
        random.generator.random()
        return super().forward(x)


def test_another_dropout_mask_is_an_error():
    models = (
        lambda: Sequential([Linear(3, 4), Dropout(0.5)]),
        lambda: Sequential([Linear(3, 4), Unlike(0.5)]),
    )
    with pytest.raises(
        NotTheSameRun, match=r"update 1: an input of masked_scale, \(4, 4\), is not the same on cpu and cpu"
    ):
        compare(spoiled(model=models), ["cpu", "cpu"])


def test_a_device_that_changes_what_it_is_given_is_an_error(monkeypatch):
    def from_numpy(self, array):
        if array.shape != (16, 3):
            return array
        return np.where(array == array.max(), np.nextafter(array, array.dtype.type(9)), array)

    third = register(monkeypatch, {"from_numpy": from_numpy})
    with pytest.raises(NotTheSameRun, match="bit for bit"):
        compare(recipe, ["cpu", third])


def test_other_ops_are_an_error():
    models = (lambda: Sequential([Linear(3, 4), Tanh()]), lambda: Sequential([Linear(3, 4), tinytorch.Sigmoid()]))
    with pytest.raises(NotTheSameRun, match=r"the runs part: next, cpu runs tanh .*, but cpu runs sigmoid"):
        compare(spoiled(model=models), ["cpu", "cpu"])
    models = (lambda: Sequential([Linear(3, 4), Tanh()]), lambda: Linear(3, 4))
    with pytest.raises(NotTheSameRun, match="the runs part"):
        compare(spoiled(model=models), ["cpu", "cpu"])


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("extra", [lambda: tinytorch.exp(Tensor(1.0)), lambda: Tensor([1.0], requires_grad=True) * 2])
def test_an_op_more_at_the_end_of_an_update_is_an_error(which, extra):
    runs = []

    def one_more(run):
        runs.append(run)
        mine = len(runs) - 1
        for loss in recipe(run):
            if mine == which:
                extra()
            yield loss

    with pytest.raises(NotTheSameRun, match="the runs part: next, cpu runs"):
        compare(one_more, ["cpu", "cpu"])


@pytest.mark.parametrize("more", [(2, 3), (3, 2)])
def test_another_number_of_updates_is_an_error(more):
    with pytest.raises(NotTheSameRun, match="the run on cpu ends before update 3, that on cpu does not"):
        compare(spoiled(updates=(lambda: more[0], lambda: more[1])), ["cpu", "cpu"])


def test_an_error_in_a_recipe_says_where():
    def broken(run):
        yield from recipe(run, updates=2)
        raise ValueError("of the recipe")

    with pytest.raises(
        BrokenTraining, match=r"the training breaks off on cpu, in update 3, at .*test_compare"
    ) as caught:
        compare(broken, ["cpu", "cpu"])
    assert str(caught.value.__cause__) == "of the recipe"


def test_what_cannot_be_compared(strict):
    with pytest.raises(ValueError, match="two devices or more"):
        compare(recipe, ["cpu"])
    with pytest.raises(ValueError, match="at least one update, not 0"):
        compare(recipe, ["cpu", "cpu"], updates=0)
    with pytest.raises(ValueError, match="a seed is not negative: -1"):
        compare(recipe, ["cpu", "cpu"], seed=-1)
    for wrong, why in (
        (lambda run: run.watch([]), "watch: the model is a Module, not list"),
        (lambda run: None, "a training function is a generator"),
        (lambda run: iter([]), r"the training function called no `run\.watch\(model\)`"),
        (lambda run: iter([1.0]), "yield the loss, a one-element Tensor, not 1.0"),
    ):
        with pytest.raises(BrokenTraining, match=rf"(?s)the training breaks off on cpu, .*{why}"):
            compare(wrong, ["cpu", "cpu"])
    with pytest.raises(TypeError, match="compare: train is a function, not Linear"):
        compare(Linear(1, 1), ["cpu", "cpu"])
    with pytest.raises(ValueError, match=r"the model that run\.watch was given has no parameters or buffers"):
        compare(lambda run: (run.watch(Tanh()), iter([]))[1], ["cpu", "cpu"])
    with pytest.raises(TypeError, match="no float64"):
        compare(recipe, ["cpu", strict("no_float64")], dtype="float64")


# How far apart ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("actual", "expected", "ulps"),
    [
        (np.float32([1.0, -1.0]), np.float32([1.0, -1.0]), 0),
        (np.float32([0.0, np.nan, np.inf]), np.float32([-0.0, np.nan, np.inf]), 0),
        (np.nextafter(np.float32([3.0]), np.float32(4)), np.float32([3.0]), 1),
        (np.float32([1e-10, 1024.0]), np.float32([0.0, 1024.0]), 1e-10 * 2**13),
        (np.float32([np.nan]), np.float32([1.0]), np.inf),
        (np.float32([np.inf]), np.float32([-np.inf]), np.inf),
        (np.float32([np.inf, 1.0]), np.float32([np.inf, 1.0 + 2**-23]), 1),
        (np.array([3, 5]), np.array([3, 9]), 4),
        (np.array([True]), np.array([False]), 1),
        (np.float32(0.0), np.float32(0.0), 0),
        (np.zeros((0, 3)), np.zeros((0, 3)), 0),
    ],
)
def test_units_in_the_last_place(actual, expected, ulps):
    assert difference(np.asarray(actual), np.asarray(expected)).ulps == pytest.approx(ulps)


def test_relative_to_the_largest_element():
    assert difference(np.array([1.0, 100.0]), np.array([2.0, 100.0])) == (1 / np.spacing(100.0), 0.01)


# The command --------------------------------------------------------------------------------------------------------


def test_the_command_prints_a_table_for_each_milestone(capsys):
    assert cli.main(["compare", "xor", "mlp_digits", "--devices", "cpu,cpu", "--updates", "4", "--seed", "2"]) == 0
    out = capsys.readouterr().out
    assert "xor, float32, seed 2" in out
    assert "mlp_digits, float32, seed 2" in out
    assert "cpu does not differ in any result" in out
    assert "6 initial weights and" in out


def test_the_command_prints_every_update_as_json(capsys, monkeypatch):
    register(monkeypatch, tanh=lambda x: xp.tanh(x) * (1 + 1e-6))
    arguments = ["compare", "xor", "--devices", "cpu,third", "--dtype", "float64", "--updates", "30", "--json"]
    assert cli.main(arguments) == 0
    found = json.loads(capsys.readouterr().out)["xor"]
    assert (found["reference"], found["dtype"], len(found["losses"])) == ("cpu", "float64", 30)
    (run,) = found["others"]
    assert (run["device"], len(run["steps"])) == ("third", 30)
    assert (run["first"]["name"], run["first"]["update"]) == ("tanh", 1)
    assert 1e-9 < run["steps"][0]["loss_difference"]["relative"] < 1e-5
    assert cli.main([*arguments, "--tolerance", "1e-5"]) == 0
    assert cli.main([*arguments, "--tolerance", "1e-9"]) == 1
    assert "the loss on third is off by" in capsys.readouterr().err


def test_the_command_takes_a_recipe_of_the_users(capsys):
    assert cli.main(["compare", "tests.test_compare:recipe", "--devices", "cpu, cpu"]) == 0
    assert "tests.test_compare:recipe, float32, seed 0" in capsys.readouterr().out


def test_the_command_says_what_it_cannot_do(capsys):
    def complaint(*arguments):
        assert cli.main(["compare", *arguments]) == 2
        return capsys.readouterr().err

    assert "no milestone 'lenet'; there are perceptron, xor" in complaint("lenet", "--devices", "cpu,cpu")
    assert "two devices or more" in complaint("xor", "--devices", "cpu")
    assert "no family 'abacus'" in complaint("xor", "--devices", "cpu,abacus")
    assert "tests:nothing cannot be imported" in complaint("tests:nothing", "--devices", "cpu,cpu")


def test_runs_that_are_not_the_same_fail(capsys, monkeypatch):
    monkeypatch.setattr(cli, "find_recipe", lambda name: spoiled(updates=(lambda: 2, lambda: 3)))
    assert cli.main(["compare", "xor", "--devices", "cpu,cpu"]) == 1
    assert "ends before update 3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise KeyError('mine')", "KeyError: 'mine'"),
        ("raise SystemExit(7)", "SystemExit: 7"),
        ("tinytorch.zeros(2) @ tinytorch.zeros(3)", "ValueError: matmul"),
    ],
    ids=["error", "exit", "op"],
)
def test_the_command_tells_where_a_recipe_broke_off_in_one_line(body, said, tmp_path, monkeypatch, capsys):
    (tmp_path / "broken_recipe.py").write_text(f"import tinytorch\ndef recipe(run):\n    {body}\n")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["compare", "broken_recipe:recipe", "--devices", "cpu,cpu"]) == 2
    error = capsys.readouterr().err
    sys.modules.pop("broken_recipe")
    assert "compare: the training breaks off on cpu, in update 1, at " in error
    assert f"broken_recipe.py:3: {said}" in error.replace("\n", "")
    assert "Traceback" not in error


@pytest.mark.parametrize("source", ["def f(:", "1 / 0", "raise SystemExit(3)"], ids=["syntax", "error", "exit"])
def test_a_recipe_whose_module_cannot_be_imported_is_told_in_one_line(source, tmp_path, monkeypatch, capsys):
    (tmp_path / "no_recipe.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["compare", "no_recipe:recipe", "--devices", "cpu,cpu"]) == 2
    assert "compare: no_recipe:recipe cannot be imported: " in capsys.readouterr().err
