"""`verify` passes nothing that it did not see, and gives the right reason: missing, not finite, or out of order."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest

import tinytorch
from tests.verify.test_verify import task
from tinytorch import SGD, Linear, Sequential, Tanh, Tensor
from tinytorch.nn import Module
from tinytorch.progress import Progress
from tinytorch.verify import Control, Found, Gate, Report, controls, gates, run_once, verify

BCE = tinytorch.binary_cross_entropy_with_logits
LENIENT = {"gates": [gates.loss_drop(0.1)]}


def trainer(
    order="zero forward backward yield step", model=lambda: Sequential(Linear(2, 8), Tanh(), Linear(8, 1)), **watch
):
    """A training loop whose parts come in any order."""

    def train(run):
        x, y = task(run.seed)
        net = model()
        optimizer = SGD(net.parameters(), lr=0.5)
        measures = {what: (lambda f=f: f(net, x, y)) for what, f in watch.items()}
        run.watch(net, optimizer, **measures)
        for _ in range(30):
            for part in order.split():
                if part == "zero":
                    optimizer.zero_grad()
                elif part == "forward":
                    loss = BCE(net(x), y)
                elif part == "backward":
                    loss.backward()
                elif part == "yield":
                    yield loss
                else:
                    optimizer.step()

    return train


def whole(net, x, y):
    return BCE(net(x), y)


def accuracy(net, x, y):
    return ((net(x) > 0) == (y > 0.5)).astype("float32").mean()


def verdict(report, gate):
    return next(v for v in report.subjects[0].judged[0].verdicts if v.gate == gate)


def constant(value, updates=3, **watch):
    """A run whose loss is a value, whatever is learned."""

    def train(run):
        model = Linear(1, 1)
        run.watch(model, SGD(model.parameters(), lr=0.1), **{k: (lambda v=v: v) for k, v in watch.items()})
        for v in value if isinstance(value, list) else [value] * updates:
            yield Tensor(v)

    return train


# Not measured -------------------------------------------------------------------------------------------------------


def test_what_is_not_measured_has_not_passed_in_any_form():
    report = verify(trainer(), **LENIENT)
    assert report.ok  # nothing failed that was asked for
    for gate in ("predicted", "repeatable"):
        assert not verdict(report, gate).passed
        assert not verdict(report, gate).failed
    assert report.unmeasured == [
        "repeatable: not measured: pass run.watch(loss=...)",
        "predicted: not measured: pass run.watch(loss=...)",
    ]
    rows = [line for line in str(report).splitlines() if "not measured" in line]
    assert [row.split()[0] for row in rows] == ["n/a"] * 4  # two rows, and two sentences below the table
    assert all("0/1" in row for row in rows[:2])
    found = json.loads(report.to_json())["subjects"][0]["runs"][0]["verdicts"]
    assert {v["gate"] for v in found if v["passed"] is None} == {"predicted", "repeatable"}
    (suite,) = ElementTree.fromstring(report.to_junit())
    assert (suite.get("skipped"), suite.get("failures")) == ("2", "0")
    assert len(suite.findall("testcase/skipped")) == 2
    assert {(cells[0], style) for cells, style in report._table().rows} == {("pass", ""), ("n/a", "yellow")}
    assert report.counted == (5, 5)
    assert sum(line.startswith("n/a") for line in report.lines()) == 2


@pytest.mark.parametrize("gate", [gates.predicted(), gates.repeatable(), gates.metric(0.0), gates.gap()])
def test_a_gate_that_was_asked_for_and_could_not_measure_fails(gate):
    report = verify(trainer(), gates=[gates.loss_drop(0.1), gate])
    assert not report.ok
    assert report.failures[0].startswith(f"{gate.name}: ")
    assert "pass run.watch(" in report.failures[0]


def test_a_gate_of_ones_own_that_measures_nothing_fails():
    report = verify(trainer(), gates=[gates.loss_drop(0.1), Gate("own", "it is", lambda run: Found(None, "no data"))])
    assert report.failures == ["own: no data"]


def test_a_report_of_nothing_is_not_ok():
    report = Report("empty", tinytorch.device("cpu"))
    assert (report.ok, report.failures) == (False, ["nothing was verified"])
    with pytest.raises(AssertionError, match="nothing was verified"):
        report.assert_ok()
    assert ElementTree.fromstring(report.to_junit()).find("testsuite/testcase/failure") is not None
    with pytest.raises(ValueError, match="there are no reports"):
        Report.joined("empty", [])


@pytest.mark.parametrize("passed", [math.nan, 1, "False", np.float32(1.0), [True], Tensor([True, True])])
def test_what_is_no_truth_value_is_not_taken_for_true(passed):
    with pytest.raises(TypeError, match="passed is True, False, or None"):
        Found(passed, "x")
    with pytest.raises(TypeError, match="passed is True, False, or None"):
        Report("r", tinytorch.device("cpu")).claim("c", passed, "x")


def test_a_gate_that_breaks_off_or_answers_nothing_is_an_error_that_names_it():
    for check, error in ((lambda run: 1 / 0, ZeroDivisionError), (lambda run: True, TypeError)):
        with pytest.raises(error) as caught:
            verify(trainer(), gates=[Gate("own", "it is", check)])
        assert "'own'" in str(caught.value) + "".join(getattr(caught.value, "__notes__", []))


def test_what_is_no_gate_or_control_is_refused_with_the_call():
    with pytest.raises(TypeError, match=r"takes Gates, not <function metric .*call it: gates\.metric\(\.\.\.\)"):
        verify(trainer(), gates=[gates.metric])
    with pytest.raises(TypeError, match=r"call it: controls\.shuffle_labels\(\.\.\.\)"):
        verify(trainer(), controls=[controls.shuffle_labels])
    with pytest.raises(TypeError, match="verify: gates is a sequence of Gates, not Gate"):
        verify(trainer(), gates=gates.overfit())
    with pytest.raises(ValueError, match="'nothing' changes nothing"):
        Control("nothing", "movement")
    with pytest.raises(ValueError, match=r"a seed comes twice.*\[3, 3\]"):
        verify(trainer(), seeds=[3, 3])


# Numbers that tell nothing --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_the_same_nan_twice_is_not_repeatable(value):
    found = gates.repeatable().check(run_once(constant(0.0, loss=value)))
    assert found.passed is False
    assert found.why == (f"the loss is {value!r}, then {value!r}, which tells nothing",)


@pytest.mark.parametrize(
    ("before", "after"),
    [(math.inf, 1.0), (1.0, -math.inf), (math.nan, 1.0), (1.0, math.nan), (0.0, 0.0), (-1.0, -0.01)],
)
def test_a_loss_that_was_or_is_not_finite_or_not_above_zero_has_not_dropped(before, after):
    run = run_once(constant([before, after]))
    assert gates.loss_drop(0.5).check(run).passed is False
    run = run_once(constant(1.0, loss=1.0))
    run.before, run.after = before, after
    assert gates.loss_drop(0.5).check(run).passed is False


def test_a_loss_that_is_nan_between_two_that_are_fine_fails():
    (sentence,) = gates.loss_drop(0.5).check(run_once(constant([4.0] + [math.nan] * 2 + [1.0] * 40))).why
    assert sentence.startswith("the loss is nan at update 1")


def test_one_batch_from_infinity_is_not_learned():
    def train(run):
        model = Linear(1, 1)
        run.watch(model)
        for i, _ in enumerate(run.batches([1, 2, 3] * 9)):
            yield Tensor(math.inf if i == 0 else 0.1)

    assert gates.overfit().check(run_once(train)).passed is False


def test_a_loss_that_rises_is_said_to_rise():
    for run in (run_once(constant([0.01, 0.6795])), run_once(constant([1.0, 1.0]))):
        found = gates.loss_drop().check(run)
        assert "-" not in "".join(found.why).replace("->", "")
        assert ("rose, 0.0100 -> 0.6795: 67.9 times as much" in found.why[0]) == (run.before < 1)
        assert ("stayed the same" in found.why[0]) == (run.before == 1)


def test_a_number_beside_its_bound_is_not_rounded_to_it():
    found = gates.metric(1.0, name="accuracy").check(run_once(constant(1.0, metric=0.99999)))
    assert found.why == ("accuracy is 99.999%; the gate is accuracy = 100%",)
    found = gates.loss_drop(0.5).check(run_once(constant([1.0, 0.50001])))
    assert found.measured.endswith(": 49.999%")


@pytest.mark.parametrize("value", [55.0, 1.5, -0.1, math.inf, math.nan, 100])
def test_a_metric_that_is_no_part_of_one_is_refused_in_words(value):
    run = run_once(constant(1.0, metric=value, train_metric=0.5))
    for gate in (gates.metric(0.0), gates.metric(0.5, most=0.9), gates.gap(1.0)):
        found = gate.check(run)
        assert found.passed is False
        assert f"run.watch(metric=...) gives {value:.6g}, and should give a part of 1" in found.why[0]
    run = run_once(constant(1.0, metric=0.5, train_metric=value))
    assert gates.gap(1.0).check(run).passed is False


def test_thresholds_in_percent_are_refused():
    for make in (lambda: gates.metric(80), lambda: gates.metric(0.8, most=95), lambda: gates.gap(15)):
        with pytest.raises(ValueError, match=r"is a part of 1, from 0 to 1, not \d+: write 0\.8 for 80 %"):
            make()


def test_nothing_is_said_of_held_out_data_that_nobody_mentioned():
    found = gates.metric(0.9).check(run_once(constant(1.0, metric=0.5)))
    assert "held-out" not in "".join(found.why)


def test_a_parameter_that_becomes_infinite_has_not_moved():
    def train(run):
        model = Linear(1, 1)
        run.watch(model)
        yield Tensor(1.0)
        model.weight.data = model.weight.data * math.inf

    found = gates.movement().check(run_once(train))
    assert "`weight`: is not finite after the last update" in found.why


def test_a_frozen_parameter_of_zeros_has_not_moved():
    model = lambda: Sequential(Linear(2, 8), Tanh(), tinytorch.LayerNorm(8).requires_grad_(False), Linear(8, 1))  # noqa: E731
    assert run_once(trainer(model=model)).moved["2.bias"] == 0.0


def test_a_change_that_rounding_hides_is_no_failure_at_zero_percent():
    def loss(net, x, y):
        return BCE(net(x), y) + Tensor(math.nan)

    report = verify(trainer(loss=loss), **LENIENT)
    found = verdict(report, "predicted").found
    assert found.passed is False
    assert "0.0% off" not in found.measured
    assert "the loss is nan: NaN comes into `add`" in found.why[0]


@pytest.mark.parametrize(("wrong", "passes"), [(0.0, True), (3.0, True), (30.0, False)])
def test_a_slope_is_off_by_what_rounding_does_not_explain(wrong, passes):
    """Of a loss of 3e5 an eps of 0.02 sees slopes to 14: 8 units in the last place, divided by it."""

    def train(run):
        model = Linear(1, 1, bias=False)
        model.weight.data = Tensor([[1.0]])
        big = Tensor(3e5, requires_grad=False)
        run.watch(model, loss=lambda: model.weight.sum() + (model.weight - model.weight.detach()).sum() * wrong + big)
        return iter(())

    found = gates.predicted().check(run_once(train))
    assert found.passed is passes
    assert (found.measured == "0.0% off") is passes
    if not passes:
        assert found.why[0].startswith("`weight`: along its gradient the loss changes by ")
        assert found.why[0].endswith(" per unit, not 31")


def test_a_loss_that_depends_on_no_parameter_predicts_nothing():
    report = verify(trainer(loss=lambda net, x, y: Tensor(1.0)), **LENIENT)
    assert "predicted: no parameter that is judged changes the loss of run.watch(loss=...)" in report.failures


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_nan_of_the_loss_on_all_data_is_traced_to_its_op(when):
    def loss(net, x, y):
        bad = (net[0].weight.sum() * 0.0).item() == 0.0 and (when == "before" or net.steps > 9)
        return tinytorch.log(BCE(net(x), y) * 0.0 - 1.0) if bad else BCE(net(x), y)

    def model():
        net = Sequential(Linear(2, 8), Tanh(), Linear(8, 1))
        net.steps = 0
        forward = net.forward
        net.forward = lambda x: (setattr(net, "steps", net.steps + 1), forward(x))[1]
        return net

    (found,) = [f for f in verify(trainer(model=model, loss=loss), **LENIENT).failures if f.startswith("loss drop")]
    update = "before the first update" if when == "before" else "after the last update"
    assert found.startswith(
        f"loss drop: run.watch(loss=...) gives nan {update}: NaN is born in `log` in test_unseen.py:"
    )


def test_a_nan_in_the_loss_alone_is_traced_to_its_op():
    def train(run):
        model = Linear(2, 1)
        optimizer = SGD(model.parameters(), lr=0.1)
        run.watch(model, optimizer)
        for step in range(20):
            optimizer.zero_grad()
            loss = model(tinytorch.ones((4, 2))).sum()
            loss.backward()  # finite gradients
            yield loss * 0.0 + tinytorch.log(Tensor(-1.0 if step == 7 else 1.0))
            optimizer.step()

    (found,) = [f for f in verify(train).failures if f.startswith("loss drop")]
    assert found.startswith("loss drop: the loss is nan at update 7: NaN is born in `log` in test_unseen.py:")


# Numbers, tensors, and what is neither --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [float, np.float32, np.float64, np.asarray, lambda v: Tensor([v])])
def test_a_loss_that_is_given_as_a_number_is_one(kind):
    report = verify(trainer(loss=lambda net, x, y: kind(whole(net, x, y).item()), metric=accuracy), **LENIENT)
    assert verdict(report, "loss drop").passed
    assert verdict(report, "repeatable").passed
    assert not verdict(report, "predicted").passed


@pytest.mark.parametrize("value", [None, "0.5", Tensor([1.0, 2.0]), [0.5], object()])
@pytest.mark.parametrize("what", ["loss", "metric"])
def test_what_is_no_number_is_refused_in_words(what, value):
    with pytest.raises(TypeError, match=rf"watch: {what}=\.\.\. gives a one-element Tensor or a number, not "):
        run_once(constant(1.0, **{what: value}))


def test_a_measure_that_was_called_already_is_refused():
    def train(run):
        run.watch(Linear(1, 1), loss=0.5)
        yield Tensor(1.0)

    with pytest.raises(TypeError, match=r"loss is a function that computes it: loss=lambda: \.\.\., not 0\.5"):
        run_once(train)


# Order ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "why"),
    [
        ("zero forward yield backward step", "no loss.backward() comes before `yield loss`"),
        ("forward yield backward step zero", "no loss.backward() comes before `yield loss`"),
        ("zero forward backward step yield", "`yield loss` comes after optimizer.step()"),
        ("forward backward step zero yield", "`yield loss` comes after optimizer.step()"),
        ("forward backward zero yield step", "the gradients are cleared before `yield loss`"),
    ],
)
def test_a_yield_at_the_wrong_place_is_named(order, why):
    report = verify(trainer(order), gates=[gates.loss_drop(-99.0)])
    assert f"finite gradients: {why}: the order is loss.backward(), yield loss, optimizer.step()" in report.failures
    assert not verdict(report, "finite gradients").passed
    assert not verdict(report, "non-zero gradients").passed
    assert not any("no gradient since" in f for f in report.failures)


@pytest.mark.parametrize("order", ["zero forward backward yield step", "forward backward yield step zero"])
def test_a_yield_at_the_right_place_is_fine(order):
    verify(trainer(order, loss=whole), **LENIENT).assert_ok()


def test_one_optimizer_may_step_before_the_other_one_has_its_gradients():
    def train(run):
        x, y = task(run.seed)
        model = Sequential(Linear(2, 8), Tanh(), Linear(8, 1))
        first, last = (SGD(model[i].parameters(), lr=0.3) for i in (0, 2))
        run.watch(model, [first, last])
        for _ in range(40):
            for optimizer in (first, last):
                model.zero_grad()
                loss = BCE(model(x), y)
                loss.backward()
                if optimizer is first:
                    first.step()
            yield loss
            last.step()

    verify(train, gates=[gates.loss_drop(0.05)]).assert_ok()


# Nothing to see -------------------------------------------------------------------------------------------------------


def test_no_update_or_one_is_too_few():
    for updates in (0, 1):
        report = verify(constant(1.0, updates=updates), gates=[gates.loss_drop(-1.0), gates.updates(updates)])
        assert not report.ok
        assert not verdict(report, "fresh gradients").passed
    report = verify(constant(1.0, updates=0, loss=1.0), gates=[gates.loss_drop(-1.0)])
    assert "loss drop: there was no update: are there batches, and is there a `yield loss`?" in report.failures


def test_an_empty_loader_fails_on_one_batch_too():
    def train(run):
        run.watch(Linear(1, 1))
        for _ in run.batches([], epochs=3):
            yield Tensor(1.0)

    found = gates.overfit().check(run_once(train))
    assert (found.passed, found.why) == (False, ("there was no update on one batch",))


def test_batches_that_can_be_gone_through_once_are_not_several_epochs():
    def train(run):
        run.watch(Linear(1, 1))
        for _ in run.batches(iter([1, 2]), epochs=2):
            yield Tensor(1.0)

    with pytest.raises(TypeError, match="list_iterator can be gone through once, not 2 times"):
        run_once(train)


def test_without_parameters_or_with_all_exempt_gradients_prove_nothing():
    def bare(run):
        run.watch(Sequential(Tanh()))
        yield Tensor(1.0)

    every = {"*": "for no reason"}
    for gate in (gates.finite_gradients, gates.nonzero_gradients, gates.movement):
        assert gate().check(run_once(bare)).passed is False
        found = gate(exempt=every).check(run_once(trainer()))
        assert (found.passed, found.why) == (False, ("every parameter is exempt",))
    assert gates.predicted(exempt=every).check(run_once(trainer(loss=whole))).passed is False


# Controls -------------------------------------------------------------------------------------------------------------


class Shared(Module):
    """A non-linearity that is an attribute, and is used through a list of layers."""

    def __init__(self):
        self.act = Tanh()
        self.layers = Sequential(Linear(2, 8), self.act, Linear(8, 1))

    def forward(self, x):
        return self.layers(x)


class Hidden(Module):
    """Its non-linearity is found, and not used: `forward` has another one."""

    def __init__(self):
        self.act, other = Tanh(), Tanh()
        self.layers = Sequential(Linear(2, 8), Linear(8, 1))
        self.use = lambda h: other(h)

    def forward(self, x):
        return self.layers[1](self.use(self.layers[0](x)))


@pytest.mark.parametrize("which", [Tanh, "act", "layers.1"])
def test_a_module_that_is_held_twice_is_removed_in_both_places(which):
    model = Shared()
    controls.remove(which).model(model)
    assert not any(isinstance(m, Tanh) for m in model.modules())
    assert [type(m).__name__ for _, m in model.named_modules(remove_duplicate=False)].count("Identity") == 2
    report = verify(
        trainer(model=Shared, metric=accuracy, loss=whole),
        gates=[gates.loss_drop(0.1), gates.metric(0.7)],
        controls=[controls.remove(which)],
    )
    assert report.subjects[0].controls[0].noticed, report.failures


def test_a_control_that_changes_nothing_is_not_noticed():
    fooled = Gate(
        "fooled",
        "no Identity",
        lambda run: Found(all(type(m) is not tinytorch.nn.Identity for m in run.model.modules()), ""),
    )
    report = verify(
        trainer(model=Hidden), gates=[gates.loss_drop(0.1), fooled], controls=[controls.remove(Tanh, fails="fooled")]
    )
    assert not report.ok
    assert report.failures == [
        "fooled: without Tanh nothing changes (seed 0): is what the control breaks used in the loss?"
    ]
    case = ElementTree.fromstring(report.to_junit()).find(".//failure/..")
    assert case.get("name") == "fooled notices: without Tanh"


def test_a_control_whose_gate_measures_nothing_is_not_noticed():
    report = verify(
        trainer(),
        **LENIENT,
        controls=[controls.freeze("0", fails="predicted"), controls.freeze("0", fails="repeatable")],
    )
    assert [c.noticed for c in report.subjects[0].controls] == [False, False]
    assert (
        "the gate measures nothing, which proves nothing (not measured: pass run.watch(loss=...))" in report.failures[0]
    )


def test_what_cannot_be_frozen_or_removed_is_refused():
    with pytest.raises(ValueError, match="'1' has no parameters, so that freezing it changes nothing"):
        verify(trainer(), controls=[controls.freeze("1")])
    with pytest.raises(ValueError, match=r"control: the model has no '9'; there are '0', '1', '2'"):
        verify(trainer(), controls=[controls.freeze("9")])
    with pytest.raises(ValueError, match=r"control: the model has no <class '.*ReLU'>; there are '0', '1', '2'"):
        verify(trainer(), controls=[controls.remove(tinytorch.ReLU, fails="movement")])
    with pytest.raises(ValueError, match="not the whole model"):
        verify(trainer(metric=accuracy), gates=[gates.metric(0.1)], controls=[controls.remove("")])


def test_an_error_in_a_control_says_in_which():
    with pytest.raises(ValueError) as caught:
        verify(trainer(), **LENIENT, controls=[controls.remove("0", fails="movement")])
    assert "verify: in <run of 'train' without `0` on cpu, seed 0, 0 updates>" in caught.value.__notes__


def test_noticed_controls_are_no_failures_for_ci():
    report = verify(
        trainer(loss=whole, metric=accuracy),
        gates=[gates.loss_drop(0.1), gates.metric(0.6)],
        controls=[controls.freeze("0")],
    )
    report.assert_ok()
    (suite,) = ElementTree.fromstring(report.to_junit())
    assert suite.get("failures") == "0"
    assert suite.find("testcase/failure") is None
    assert any(case.get("name") == "movement notices: with `0` frozen" for case in suite)


# Optimized Python, machines, terminals ---------------------------------------------------------------------------


def test_a_failed_verification_fails_under_optimized_python():
    program = """
import tinytorch
from tinytorch.testing import assert_close
from tinytorch.verify import Report
failed = []
report = Report("r", tinytorch.device("cpu"))
report.claim("c", False, "x")
one = tinytorch.ones(1)
for call in (
    report.assert_ok,
    lambda: assert_close(one, one + 1),
    lambda: assert_close(one, tinytorch.ones(2)),
    lambda: assert_close(one, one.astype("float64")),
    lambda: assert_close([one], [one, one]),
    lambda: assert_close({}, {"a": one}),
    lambda: assert_close(one, [one]),
    lambda: assert_close(one, {"a": one}),
):
    try:
        call()
    except AssertionError:
        failed.append(1)
print(len(failed))
"""
    out = subprocess.run([sys.executable, "-O", "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "8"


ODD = {
    "bool": np.bool_(True),
    "array": np.asarray(True),
    "tensor": Tensor(True),
    "plain": True,
}


@pytest.mark.parametrize("passed", ODD.values(), ids=ODD)
def test_numpy_scalars_and_arrays_become_json(passed):
    odd = Gate("odd", "odd", lambda run: Found(passed, np.float32(1.5), (np.str_("a"), np.int64(3))))
    one = Gate("one", "one", lambda run: Found(passed, np.arange(2), "one sentence"))
    report = verify(trainer(), gates=[gates.loss_drop(0.1), odd, one], seeds=np.arange(2), enough=np.int64(2))
    found = json.loads(report.to_json())
    assert [run["seed"] for run in found["subjects"][0]["runs"]] == [0, 1]
    *_, a, b = found["subjects"][0]["runs"][0]["verdicts"]
    assert (a["passed"], a["measured"], a["why"]) == (True, "1.5", ["a", "3"])
    assert (b["passed"], b["measured"], b["why"]) == (True, "[0 1]", ["one sentence"])


NASTY = "[/] [v2] [bold]x[/bold] \x1b[31mred\x1b[0m \x07\r\n\x00 <&\"'> é 網 \u202e \ud800 :smile:"


@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_no_name_acts_on_the_terminal_or_is_read_as_markup(columns, monkeypatch):
    from rich.console import Console

    monkeypatch.setenv("COLUMNS", columns)
    odd = Gate("odd" + NASTY, "claim" + NASTY, lambda run: Found(False, "measured" + NASTY, ("why" + NASTY,)))
    report = verify(trainer(), gates=[odd], name="name" + NASTY, controls=[controls.freeze("0", fails=odd.name)])
    report.claim("own" + NASTY, False, NASTY)
    console = Console(width=int(columns), force_terminal=False)
    with console.capture() as capture:
        console.print(report)
    for text in (str(report), capture.get(), *report.lines()):
        assert not any((ord(c) < 32 and c != "\n") or c in "\x7f\x9b\u202e\ud800" for c in text)
        assert "[/]" in text
        assert "[v2]" in text
        assert "\\x1b[31mred\\x1b[0m" in text
        assert ":smile:" in text
    with pytest.raises(AssertionError) as caught:
        report.assert_ok()
    assert "\x1b" not in str(caught.value)
    suites = ElementTree.fromstring(report.to_junit())
    assert "[v2]" in suites.get("name")
    json.loads(report.to_json())


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_a_report_breaks_no_word_and_no_number(columns, monkeypatch):
    report = verify(trainer(), **LENIENT, controls=[controls.freeze("0"), controls.freeze("0", fails="loss drop")])
    monkeypatch.setenv("COLUMNS", "1000")
    wide = set(str(report).split())
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = str(report).splitlines()
    assert all(len(line) <= columns for line in lines)
    new = {word for line in lines for word in line.split() if not set(word) <= {"-"}} - wide
    assert {word.rstrip(":") for word in new} <= wide  # the headings, where a row is a line for each cell


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_a_report_is_printed_on_any_stream(encoding):
    program = """
import tinytorch
from tinytorch.verify import Report, diagnose
report = Report("caf\\u00e9 \\u7db2", tinytorch.device("cpu"))
report.claim("c \\u2192", False, "x")
print(report)
from rich import print as show
show(report)
"""
    env = {"PYTHONIOENCODING": encoding, "PATH": "", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, env=env, check=False)
    assert done.returncode == 0, done.stderr.decode()
    text = done.stdout.decode(encoding)
    assert text.count("FAIL") == 4
    assert ("caf\u00e9" in text) == (encoding != "ascii")
    assert ("\u7db2" in text) == (encoding == "utf-8")


def test_verify_shows_on_a_terminal_what_it_does(monkeypatch, capsys):
    said = []
    monkeypatch.setattr(Progress, "say", lambda self, text: said.append(text) if self._on else None)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    settings = {"gates": [gates.loss_drop(0.1)], "controls": [controls.freeze("0")], "seeds": 2, "name": "mine"}
    verify(trainer(), **settings)
    assert "mine on cpu, seed 0: update 1" in said
    assert "mine: is predicted?" in said
    assert "mine with `0` frozen on cpu, seed 1: update 30" in said
    said.clear()
    verify(trainer(), **settings, progress=lambda run: None)  # who shows it otherwise sees no second line
    assert said == []
