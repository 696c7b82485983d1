"""`run_once` and `verify`: what a training function is told, what is measured, and what a report says."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest

import tinytorch
from tinytorch import SGD, Dropout, Linear, ReLU, Sequential, Tensor
from tinytorch.data import DataLoader, TensorDataset
from tinytorch.verify import Control, Found, Gate, controls, gates, run_once, verify
from tinytorch.verify.mistakes import Finding
from tinytorch.verify.report import Verdict


def task(seed):
    """Points, and which are on one side of a circle."""
    tinytorch.manual_seed(seed)
    x = tinytorch.randn(64, 2)
    return x, ((x * x).sum(axis=1, keepdims=True) > 1.5).astype("float32")


def learner(change=lambda model: None, updates=60, clear=True, loss=True, own=lambda model: model.parameters()):
    """A training function, with things that can be wrong."""

    def train(run):
        x, y = task(run.seed)
        model = Sequential(Linear(2, 16), ReLU(), Linear(16, 1))
        change(model)
        optimizer = SGD(own(model), lr=0.5)
        criterion = tinytorch.binary_cross_entropy_with_logits
        run.watch(
            model,
            optimizer,
            loss=(lambda: criterion(model(x), y)) if loss else None,
            metric=lambda: ((model(x) > 0) == (y > 0.5)).astype("float32").mean(),
        )
        for a, b in run.batches(DataLoader(TensorDataset(x, y), batch_size=64), epochs=updates):
            if clear:
                optimizer.zero_grad()
            value = criterion(model(a), b)
            value.backward()
            yield value
            optimizer.step()

    return train


def failures(train, **settings):
    return verify(train, **({"gates": [gates.loss_drop(0.2)]} | settings)).failures


# Recording ----------------------------------------------------------------------------------------------------------


def test_a_run_is_seeded_watched_and_counted(device):
    run = run_once(learner(), seed=3, device=device, updates=20)
    assert (run.updates, len(run.losses), run.total) == (20, 20, 20)
    assert run.device.name == run.model[0].weight.device.name == device
    assert sorted(run.gradients) == [0, 1, 2, 4, 8, 16, 19]
    assert set(run.moved) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert 0 < run.loss_drop < 1
    assert run.losses == run_once(learner(), seed=3, device=device, updates=20).losses
    assert run.losses != run_once(learner(), seed=4, device=device, updates=20).losses


def test_the_seed_decides_all_that_is_random():
    def train(run):
        run.watch(Linear(3, 3))
        return iter(())

    first, again, other = (run_once(train, seed=seed).model.weight.tolist() for seed in (1, 1, 2))
    assert first == again != other


def test_on_one_batch_the_batch_is_the_same_again_and_again():
    def train(run):
        model = Linear(1, 1)
        run.watch(model)
        for (x,) in run.batches(DataLoader(TensorDataset(tinytorch.arange(6)), batch_size=2), epochs=2):
            seen.append(x.tolist())
            yield model(x.astype("float32")[:, None]).sum()

    seen: list = []
    run = run_once(train)
    assert seen == [[0, 1], [2, 3], [4, 5]] * 2
    seen.clear()
    run.again(one_batch=True, limit=4)
    assert seen == [[0, 1]] * 4


def test_measures_are_taken_in_eval_mode_and_training_goes_on():
    def train(run):
        run.watch(model, metric=lambda: model(tinytorch.ones(100)).mean(), loss=lambda: Tensor(1.0))
        assert model.training
        return iter(())

    model = Sequential(Dropout(0.5))
    run = run_once(train)
    assert run.metric == 1.0
    assert run.model.training


def test_a_part_that_is_in_eval_mode_stays_in_it():
    def train(run):
        model = Sequential(Linear(1, 1), Dropout(0.5))
        model[1].eval()
        run.watch(model, loss=lambda: Tensor(1.0))
        assert (model.training, model[1].training) == (True, False)
        return iter(())

    run_once(train)


def test_without_a_loss_function_the_ends_of_the_losses_are_compared():
    run = run_once(learner(loss=False), updates=40)
    losses = run.losses
    assert (run.before, run.after) == (pytest.approx(sum(losses[:2]) / 2), pytest.approx(sum(losses[-2:]) / 2))


def test_a_limit_also_ends_loops_of_ones_own():
    def endless(run):
        model = Linear(1, 1)
        run.watch(model)
        while True:
            loss = model(tinytorch.ones((1, 1))).sum()
            loss.backward()
            yield loss

    assert run_once(endless, updates=7).updates == 7


def test_what_is_no_training_function_is_told_how_to_be_one():
    with pytest.raises(TypeError, match=r"a training function is a generator(.|\n)*yield loss(.|\n)*returned NoneType"):
        run_once(lambda run: None)
    with pytest.raises(RuntimeError, match=r"called no `run\.watch"):
        run_once(lambda run: iter(()))
    with pytest.raises(RuntimeError, match=r"call `run.watch\(model\)` before the first `yield`"):
        run_once(lambda run: iter([Tensor(1.0)]))
    with pytest.raises(TypeError, match=r"yield the loss, a one-element Tensor, not 1\.0"):
        run_once(lambda run: iter([1.0]))

    def own_batches(run):
        run.watch(Linear(1, 1))
        return iter(())

    for settings in ({"gates": [gates.overfit()]}, {"controls": [controls.shuffle_labels(fails="movement")]}):
        with pytest.raises(RuntimeError, match=r"changes the batches, so use `run\.batches`"):
            verify(own_batches, **settings)

    def twice(run):
        run.watch(Linear(1, 1))
        run.watch(Linear(1, 1))
        yield

    with pytest.raises(RuntimeError, match="once for each run"):
        run_once(twice)


# Gates --------------------------------------------------------------------------------------------------------------


def test_a_healthy_run_passes():
    assert verify(learner(), gates=[gates.metric(0.8), gates.updates(60), gates.overfit(0.3)], seeds=2).ok


def test_a_frozen_layer_is_named():
    found = failures(learner(lambda model: model[0].requires_grad_(False)))
    assert (
        "finite gradients: `0.weight`, `0.bias`: no gradient since update 0: it is frozen (requires_grad=False)"
        in found
    )
    assert "movement: `0.weight`, `0.bias`: frozen (requires_grad=False)" in found


def test_a_parameter_that_the_optimizer_was_not_given_is_named():
    found = failures(learner(own=lambda model: model[2].parameters()))
    assert "movement: `0.weight`, `0.bias`: not given to the optimizer" in found


@pytest.mark.parametrize(("given", "passes"), [((0, 2), True), ((0,), False)])
def test_there_may_be_several_optimizers(given, passes):
    def train(run):
        x, y = task(run.seed)
        model = Sequential(Linear(2, 16), ReLU(), Linear(16, 1))
        optimizers = [SGD(model[i].parameters(), lr=0.5) for i in given]
        run.watch(model, (o for o in optimizers))
        for _ in range(60):
            model.zero_grad()
            loss = tinytorch.binary_cross_entropy_with_logits(model(x), y)
            loss.backward()
            yield loss
            for optimizer in optimizers:
                optimizer.step()

    found = failures(train, gates=[gates.loss_drop(0.01)])
    assert found == ([] if passes else ["movement: `2.weight`, `2.bias`: not given to the optimizer"])


def test_a_cut_graph_is_named_with_its_line():
    def cut(model):
        model[1].forward = lambda h: Tensor(h.detach().numpy()).relu()

    place = f"test_verify.py:{cut.__code__.co_firstlineno + 1}"
    expected = f"`0.weight`, `0.bias`: no gradient since update 0: the graph is cut at `.numpy()` in {place}"
    assert f"finite gradients: {expected}" in failures(learner(cut))


def test_what_the_run_itself_reads_is_not_where_the_graph_is_cut():
    def train(run):
        x, y = task(run.seed)  # before `watch`, which reads all parameters
        model = Sequential(Linear(2, 1), Linear(2, 2))
        optimizer = SGD(model.parameters(), lr=0.5)
        run.watch(model, optimizer)
        for _ in range(20):
            optimizer.zero_grad()
            loss = tinytorch.binary_cross_entropy_with_logits(model[0](x), y)
            loss.backward()
            yield loss
            optimizer.step()

    assert "finite gradients: `1.weight`, `1.bias`: no gradient since update 0: it is not used" in failures(train)


def test_a_gradient_that_becomes_zero_later_is_traced_where_it_does():
    def dies(model):
        def forward(h):
            calls.append(1)
            return (h - 99.0 if sum(calls) > 8 else h).relu()

        calls: list = []
        model[1].forward = forward

    (found,) = [f for f in failures(learner(dies, loss=False)) if "`0.weight`" in f]
    assert "gradient is zero since update 8: its gradient becomes zero in the rule of `relu`" in found


def test_nan_is_traced_to_the_op_and_the_update():
    def explodes(model):
        def forward(h):
            calls.append(1)
            return tinytorch.log(h * 0.0 - 1.0) if sum(calls) == 6 else h.relu()

        calls: list = []
        model[1].forward = forward

    train = learner(explodes, loss=False)
    (found,) = [f for f in failures(train) if f.startswith("loss drop")]
    assert found.startswith("loss drop: the loss is nan at update 5: NaN is born in `log` in ")


def test_nan_is_reported_not_raised_as_a_warning():
    ill = learner(lambda model: setattr(model[1], "forward", lambda h: tinytorch.log(h * 0.0 - 1.0)))
    assert any(f.startswith("predicted: ") for f in failures(ill, gates=[gates.predicted()]))


def test_gradients_that_are_not_cleared_are_named():
    (found,) = failures(learner(clear=False, updates=3), gates=[gates.loss_drop(-9.0)])
    assert found.startswith("fresh gradients: `0.weight`, `0.bias`, `2.weight`, `2.bias`: the gradient is added")


def test_two_backward_passes_for_one_update_are_fine():
    def accumulating(run):
        model = Linear(2, 1)
        optimizer = SGD(model.parameters(), lr=0.01)
        run.watch(model, optimizer)
        for _ in range(30):
            optimizer.zero_grad()
            for _ in range(2):
                loss = (model(tinytorch.randn(8, 2)) ** 2).mean()
                loss.backward()
            yield loss
            optimizer.step()

    assert run_once(accumulating).stale == []


def test_dropout_that_stays_on_is_noticed_by_a_loss_that_differs():
    def always(model):
        drop = Dropout(0.5)
        model[1].forward = lambda h: drop(h.relu())

    assert any(f.startswith("repeatable: the loss is 0.") for f in failures(learner(always)))


def test_a_wrong_rule_is_noticed_by_the_change_of_the_loss():
    def doubled(model):
        right = model[2].forward
        model[2].forward = lambda h: right(h) + (h - h.detach()).sum() * 0.3

    (found, *_) = [f for f in failures(learner(doubled)) if f.startswith("predicted")]
    assert found.startswith("predicted: `0.weight`: along its gradient the loss changes by")


def test_a_metric_that_is_nan_missing_or_too_good_does_not_pass():
    def check(value, gate):
        def train(run):
            run.watch(Linear(1, 1), metric=lambda: value)
            return iter(())

        run = run_once(train)
        return gate.check(run).passed

    assert check(0.9, gates.metric(0.8))
    assert not check(math.nan, gates.metric(0.8))
    assert not check(0.8, gates.metric(0.8))
    assert check(1.0, gates.metric(1.0))
    assert not check(0.999, gates.metric(1.0))
    assert not check(1.0, gates.metric(0.8, most=0.9))
    assert not check(0.9, gates.gap())  # train_metric is missing


def test_the_gap_between_training_and_held_out_data():
    def found(train, held_out, most=0.15):
        def watched(run):
            run.watch(Linear(1, 1), metric=lambda: held_out, train_metric=lambda: train)
            return iter(())

        return gates.gap(most).check(run_once(watched))

    assert found(0.9, 0.8) == Found(True, "90.0% - 80.0%")
    assert found(0.5, 0.75) == Found(True, "50.0% - 75.0%")
    sentence = "25.0% better on the data it was trained on: learned by heart"
    assert found(1.0, 0.75) == Found(False, "100.0% - 75.0%", (sentence,))
    assert found(1.0, 0.75, most=0.25).passed is False
    assert found(1.0, 0.75, most=0.26).passed is True


CLAIMS = [
    (gates.loss_drop(), "loss drop", "loss drop > 50%"),
    (gates.loss_drop(0.123456), "loss drop", "loss drop > 12.35%"),
    (gates.metric(0.8), "metric", "metric > 80%"),
    (gates.metric(1), "metric", "metric = 100%"),
    (gates.metric(0.5, most=0.95, name="accuracy"), "metric", "accuracy > 50%, < 95%"),
    (gates.gap(), "gap", "generalization gap < 15%"),
    (gates.finite_gradients(), "finite gradients", "every gradient is there and finite"),
    (gates.nonzero_gradients(), "non-zero gradients", "no gradient is zero"),
    (gates.movement(), "movement", "every parameter moved > 0.001 x its norm"),
    (gates.movement(0.5, of="a.*", name="mine"), "mine", "a.* moved > 0.5 x its norm"),
    (gates.fresh_gradients(), "fresh gradients", "gradients are cleared between updates"),
    (gates.updates(3), "updates", "3 updates"),
    (gates.overfit(), "one batch", "one batch is learned by heart: loss drop > 90%"),
    (gates.repeatable(), "repeatable", "in eval mode the same data give the same loss"),
    (gates.predicted(), "predicted", "each gradient predicts the change of the loss within 10%"),
]


@pytest.mark.parametrize(("gate", "name", "claim"), CLAIMS, ids=[claim for _, _, claim in CLAIMS])
def test_what_each_gate_claims(gate, name, claim):
    assert (gate.name, gate.claim) == (name, claim)


def test_what_verify_always_demands():
    names = ["loss drop", "finite gradients", "non-zero gradients", "movement", "fresh gradients", "repeatable"]
    assert [gate.name for gate in gates.common()] == [*names, "predicted"]
    run = run_once(learner(), updates=40)
    found = {gate.name: gate.check(run) for gate in [*gates.common(), gates.updates(40), gates.metric(0.5)]}
    assert {name: f.measured for name, f in found.items() if name not in ("movement", "predicted", "repeatable")} == {
        "loss drop": f"{run.before:.4f} -> {run.after:.4f}: {run.loss_drop:.1%}",
        "finite gradients": "4/4",
        "non-zero gradients": "4/4",
        "fresh gradients": "0 stale",
        "updates": "40",
        "metric": f"{run.metric:.2%}",
    }
    assert found["movement"].measured == f"4/4, least {min(run.moved.values()):.3g} x"
    assert found["repeatable"].measured == f"{run.after:.6g} twice"
    assert re.fullmatch(r"\d\.\d% off", found["predicted"].measured)
    assert all(f.passed for name, f in found.items() if name != "loss drop")


@pytest.mark.parametrize(
    "made",
    [
        Found(True, "x"),
        gates.gap(),
        controls.freeze("0"),
        Verdict("a", "b", Found(True, "x")),
        Finding("a", "b", "c"),
    ],
    ids=lambda x: type(x).__name__,
)
def test_what_was_found_is_not_changed_later(made):
    for name in vars(made):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(made, name, None)


def test_exemptions_are_by_name_with_wildcards():
    frozen = learner(lambda model: model[0].requires_grad_(False))
    exempt = {"0.*": "a random projection, on purpose"}
    lenient = [g(exempt=exempt) for g in (gates.finite_gradients, gates.nonzero_gradients, gates.movement)]
    assert failures(frozen, gates=[gates.loss_drop(0.2), *lenient]) == []
    assert failures(learner(), gates=[gates.loss_drop(0.2), gates.movement(of="7.*", name="mine")]) == [
        "mine: no parameter is named '7.*'"
    ]


def test_without_training_nothing_passes():
    def idle(run):
        run.watch(Linear(2, 1), loss=lambda: Tensor(1.0))
        return iter(())

    failed = verify(idle, gates=[gates.updates(1)]).subjects[0].judged[0].failed
    assert failed >= {"loss drop", "finite gradients", "movement", "updates"}


# Controls, seeds, reports -------------------------------------------------------------------------------------------


def test_a_control_that_no_gate_notices_says_that_the_gate_proves_nothing():
    report = verify(
        learner(),
        gates=[gates.loss_drop(0.2), gates.metric(0.5)],
        controls=[controls.freeze("0", fails="metric"), controls.freeze("0"), controls.shuffle_labels()],
    )
    noticed = [c.noticed for c in report.subjects[0].controls]
    assert noticed[:2] == [False, True]
    assert report.failures[0].startswith("metric: proves nothing, it passes as well with `0` frozen (")
    with pytest.raises(AssertionError, match="proves nothing"):
        report.assert_ok()


def test_a_control_of_ones_own_changes_batches_and_gradients():
    seen: list = []

    def gradients(model):
        seen.append(model[0].weight.grad.shape)

    blank = Control("with blank inputs", "loss drop", batch=lambda b, rng: (b[0] * 0.0, b[1]), gradients=gradients)
    report = verify(learner(), gates=[gates.loss_drop(0.2)], controls=[blank])
    report.assert_ok()
    assert seen == [(16, 2)] * 60


def test_attention_that_takes_the_same_of_each_position():
    model = Sequential(tinytorch.TransformerEncoderLayer(8, 2, 16, dropout=0.0)).eval()
    x = tinytorch.randn(2, 5, 8)
    attention = model[0].self_attn
    before = attention(x, x, x, need_weights=True)[1].detach().numpy()
    assert abs(before - 0.2).max() > 1e-3
    controls.uniform_attention().model(model)
    weights = attention(x, x, x, need_weights=True)[1].detach().numpy()
    assert weights.shape == before.shape
    assert abs(weights - 0.2).max() < 1e-6
    shared = Sequential(attention, attention)
    assert controls.uniform_attention(fails="mine").fails == "mine"
    controls.uniform_attention().model(shared)
    assert type(attention.q_proj.module).__name__ == "_Silent"  # once more, not twice
    assert type(attention.q_proj.module.module).__name__ == "Linear"
    with pytest.raises(ValueError, match=r"control: the model has no <class '.*MultiHeadAttention'>"):
        controls.uniform_attention().model(Sequential(Linear(1, 1)))


@pytest.mark.parametrize(
    ("control", "name", "fails"),
    [
        (controls.freeze("0", Linear), "with `0`, Linear frozen", "movement"),
        (controls.remove(ReLU), "without ReLU", "metric"),
        (controls.no_positions(), "without PositionalEncoding", "metric"),
        (controls.uniform_attention(), "with uniform attention", "metric"),
        (controls.shuffle_labels(), "with shuffled labels", "metric"),
        (controls.scale_gradient(), "with the gradient of the model x 0", "movement"),
        (controls.scale_gradient("0", 0.25), "with the gradient of `0` x 0.25", "movement"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_what_each_control_is_called(control, name, fails):
    assert (control.name, control.fails) == (name, fails)


def test_gradients_are_scaled_where_there_are_some():
    model = Sequential(Linear(2, 1), Linear(1, 1))
    model(tinytorch.ones((1, 2))).sum().backward()
    model[0].bias.grad = None
    before = [None if p.grad is None else p.grad.tolist() for p in model.parameters()]
    controls.scale_gradient("0", 0.5).gradients(model)
    assert model[0].weight.grad.tolist() == [[g * 0.5 for g in before[0][0]]]
    assert (model[0].bias.grad, model[1].weight.grad.tolist()) == (None, before[2])
    controls.scale_gradient().gradients(model)
    assert not any(p.grad is not None and p.grad.numpy().any() for p in model.parameters())


def test_labels_are_shuffled_and_inputs_are_not():
    x, y = tinytorch.arange(50), tinytorch.arange(50)
    same, again, labels = controls.shuffle_labels().batch((x, x, y), np.random.default_rng(0))
    assert same is again is x
    assert sorted(labels.tolist()) == y.tolist() != labels.tolist()


def test_a_control_must_be_noticed_from_every_seed():
    odd = Gate("odd", "odd or healthy", lambda run: Found(run.seed % 2 == 1 or run.model[0].weight.requires_grad, "x"))
    report = verify(
        learner(), gates=[gates.loss_drop(0.2), odd], controls=[controls.freeze("0", fails="odd")], seeds=[0, 1]
    )
    assert report.failures == ["odd: proves nothing, it passes as well with `0` frozen (x)"]


def test_enough_seeds_of_all():
    luck = Gate("luck", "an even seed", lambda run: Found(run.seed % 2 == 0, str(run.seed)))
    settings = {"gates": [gates.loss_drop(0.2), luck], "seeds": [0, 1, 2]}
    report = verify(learner(), **settings, enough=2)
    assert report.ok
    assert {(cells[0], style) for cells, style in report._table().rows} == {("pass", ""), ("most", "")}
    assert "failure" not in report.to_junit().replace('failures="0"', "")
    report = verify(learner(), **settings)
    assert report.failures == ["luck: an even seed: 1 (seed 1)"]
    failed = ElementTree.fromstring(report.to_junit()).findall(".//failure/..")
    assert [case.get("name") for case in failed] == ["an even seed [seed 1]"]


def test_without_a_loss_function_the_metric_must_repeat():
    assert gates.repeatable().check(run_once(learner(loss=False), updates=1)).measured.endswith(" twice")


@pytest.mark.parametrize("settings", [{"seeds": 0}, {"seeds": []}, {"enough": 0}, {"seeds": 2, "enough": 3}])
def test_a_report_that_would_prove_nothing_is_refused(settings):
    with pytest.raises(ValueError, match=r"verify: .* seeds shall pass, which proves nothing"):
        verify(learner(), **settings)


def test_no_gate_is_dropped_for_another_of_its_name():
    with pytest.raises(ValueError, match="two gates are named 'movement'; give one another name"):
        verify(learner(), gates=[gates.movement(of="*.weight"), gates.movement(of="*.bias")])


@pytest.fixture(scope="module")
def broken():
    return verify(
        learner(lambda model: model[0].requires_grad_(False)),
        gates=[gates.loss_drop(0.2), gates.metric(0.5)],
        controls=[controls.remove("1", fails="metric")],
        seeds=2,
        name="circle <1>",
    )


def test_a_report_as_a_table(broken, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    text = str(broken)
    assert "circle <1> on cpu" in text
    assert {(cells[0], style) for cells, style in broken._table().rows} == {("pass", ""), ("FAIL", "red")}
    assert re.search(r"FAIL +every parameter moved > 0.001 x its norm +2/4, least 0 x +0/2", text)
    assert "FAIL  movement: `0.weight`, `0.bias`: frozen (requires_grad=False) (seed 0, 1)" in text


def test_a_report_as_json(broken):
    found = json.loads(broken.to_json())
    assert found["ok"] is False
    assert found["failures"] == broken.failures
    (subject,) = found["subjects"]
    assert [run["seed"] for run in subject["runs"]] == [0, 1]
    verdict = next(v for v in subject["runs"][0]["verdicts"] if v["gate"] == "movement")
    assert verdict["passed"] is False
    assert verdict["why"] == ["`0.weight`, `0.bias`: frozen (requires_grad=False)"]
    assert subject["controls"][0]["must_fail"] == "metric"


def test_a_report_as_junit_xml(broken):
    root = ElementTree.fromstring(broken.to_junit())
    (suite,) = root
    cases = list(suite)
    failed = {case.get("name") for case in cases if case.find("failure") is not None}
    assert (suite.get("name"), int(suite.get("tests"))) == ("circle <1>", len(cases))
    assert int(suite.get("failures")) == len(failed)
    for case in (case for case in cases if "notices" in case.get("name")):
        assert (case.find("failure") is None) or "proves nothing" in case.find("failure").text
    assert "metric notices: without `1`" in {case.get("name") for case in cases}
    assert {name for name in failed if "moved" in name} == {
        "every parameter moved > 0.001 x its norm [seed 0]",
        "every parameter moved > 0.001 x its norm [seed 1]",
    }
    assert ElementTree.fromstring(dataclasses.replace(broken, name="\x1b[1m \x00").to_junit()) is not None
    assert (
        "`0.weight`, `0.bias`: frozen"
        in suite.find(".//failure[@message]/..[@name='" + min(n for n in failed if "moved" in n) + "']/failure").text
    )
