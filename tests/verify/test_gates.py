"""What each gate finds, to the word, in runs that are made by hand."""

from __future__ import annotations

from math import inf, nan
from types import SimpleNamespace

import pytest

import tinytorch
from tinytorch import SGD, Linear, Sequential
from tinytorch.verify import Found, gates
from tinytorch.verify.gates import _beside


def a_run(losses=(1.0, 0.2), before=None, after=None, **more):
    """A run of these losses; causes are told as "why NAME AT"."""
    known = {
        "losses": list(losses),
        "before": losses[0] if before is None and losses else before,
        "after": losses[-1] if after is None and losses else after,
        "updates": len(losses),
        "moved": {"a": 1.0, "b": 0.5},
        "gradients": {0: {"a": 1.0, "b": 2.0}, 1: {"a": 1.0, "b": 2.0}},
        "misplaced": "",
        "metric": nan,
        "train_metric": nan,
        "compared": {"a"},
        "stale": [],
        "optimizer": None,
        "born": lambda at=None: "born" + ("" if at is None else f" {at}"),
        "reason": lambda name, at: f"why {name} {at}",
        **more,
    }
    run = SimpleNamespace(**known)
    run.handle = SimpleNamespace(measures=lambda what: known[what] == known[what])
    run.again = lambda **changes: SimpleNamespace(born=lambda at=None: f"{changes} {at}", losses=list(losses))
    return run


LOSSES = [
    (a_run(), Found(True, "1.0000 -> 0.2000: 80.0%")),
    (a_run([1.0, 0.5]), Found(False, "1.0000 -> 0.5000: 50.0%", ("the loss fell, 1.0000 -> 0.5000: 50.0%",))),
    (a_run([1.0, 0.4999]), Found(True, "1.0000 -> 0.4999: 50.01%")),
    (a_run([1.0, 1.0]), Found(False, "1.0000 -> 1.0000: 0.0%", ("the loss stayed the same, 1.0000 -> 1.0000: 0.0%",))),
    (
        a_run([1.0, 3.0]),
        Found(False, "1.0000 -> 3.0000: 3 times as much", ("the loss rose, 1.0000 -> 3.0000: 3 times as much",)),
    ),
    (a_run([1.0, nan, 0.1]), Found(False, "1.0000 -> 0.1000: 90.0%", ("the loss is nan at update 1: born 1",))),
    (a_run([inf, 0.1]), Found(False, "inf -> 0.1000", ("the loss is inf at update 0: born 0",))),
    (
        a_run([1.0], born=lambda at=None: "", after=nan),
        Found(False, "1.0000 -> nan", ("run.watch(loss=...) gives nan after the last update",)),
    ),
    (
        a_run([1.0], after=inf),
        Found(False, "1.0000 -> inf", ("run.watch(loss=...) gives inf after the last update: born",)),
    ),
    (
        a_run([1.0], before=inf),
        Found(False, "inf -> 1.0000", ("run.watch(loss=...) gives inf before the first update: {'limit': 0} None",)),
    ),
    (
        a_run([], before=1.0, after=0.1),
        Found(False, "no update", ("there was no update: are there batches, and is there a `yield loss`?",)),
    ),
    (
        a_run([0.0, -1.0]),
        Found(
            False,
            "0.0000 -> -1.0000: no part of a loss that starts at 0",
            (
                "the loss starts at 0, and a part of what is not above 0 says nothing; give a gate of your own, with "
                "another measure",
            ),
        ),
    ),
]


@pytest.mark.parametrize(("run", "found"), LOSSES, ids=range(len(LOSSES)))
def test_the_drop_of_a_loss(run, found):
    assert gates.loss_drop().check(run) == found


METRICS = [
    (gates.metric(0.8), 0.9, Found(True, "90.00%")),
    (gates.metric(0.8), 0.8, Found(False, "80.00%", ("metric is 80.00%; the gate is metric > 80%",))),
    (gates.metric(0.8), 0.80000001, Found(True, "80.000001%")),
    (gates.metric(1.0), 1.0, Found(True, "100.00%")),
    (gates.metric(1.0), 1.0000001, Found(True, "100.00001%")),
    (gates.metric(0.5, most=0.9, name="hits"), 0.9, Found(True, "90.00%")),
    (
        gates.metric(0.5, most=0.9, name="hits"),
        0.95,
        Found(False, "95.00%", ("hits is 95.00%, more than the task allows: is the answer seen?",)),
    ),
    (
        gates.metric(0.5, most=0.9, name="hits"),
        0.5,
        Found(False, "50.00%", ("hits is 50.00%; the gate is hits > 50%, < 90%",)),
    ),
    (gates.metric(0.0), nan, Found(None, "not measured", ("pass run.watch(..., metric=lambda: ...)",))),
]


@pytest.mark.parametrize(("gate", "value", "found"), METRICS, ids=range(len(METRICS)))
def test_a_metric(gate, value, found):
    assert gate.check(a_run(metric=value)) == found


@pytest.mark.parametrize(
    ("x", "bound", "digits", "text"),
    [
        (0.5, 0.5, 1, "50.0%"),
        (0.49999, 0.5, 1, "49.999%"),
        (0.4, 0.5, 1, "40.0%"),
        (0.15, 0.15, 1, "15.0%"),
        (0.1500001, 0.15, 1, "15.00001%"),
        (0.5 + 1e-15, 0.5, 2, "50.000000000000%"),
        (0.123, 1.0, 0, "12%"),
    ],
)
def test_a_number_beside_its_bound(x, bound, digits, text):
    assert _beside(x, bound, digits) == text


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda x: gates.metric(x), "gates.metric: least"),
        (lambda x: gates.metric(0.5, most=x), "gates.metric: most"),
        (lambda x: gates.gap(x), "gates.gap: most"),
    ],
)
def test_thresholds_are_parts_of_one(make, what):
    for x in (-0.1, 1.1, 80, nan):
        with pytest.raises(ValueError, match=f"^{what} is a part of 1, from 0 to 1, not {x}: write 0.8 for 80 %$"):
            make(x)
    for x in (0, 1):
        assert make(x).check is not None


FINITE = [
    ({}, Found(True, "2/2")),
    (
        {"gradients": {0: {"a": 1.0, "b": 1.0}, 1: {"a": nan}}},
        Found(
            False,
            "0/2",
            ("`a`: gradient is not finite since update 1: why a 1", "`b`: no gradient since update 1: why b 1"),
        ),
    ),
    (
        {"gradients": {0: {"b": inf}, 4: {}}, "reason": lambda name, at: ""},
        Found(False, "0/2", ("`a`: no gradient since update 0", "`b`: gradient is not finite since update 0")),
    ),
    (
        {"gradients": {2: {}}, "reason": lambda n, at: "so"},
        Found(False, "0/2", ("`a`, `b`: no gradient since update 2: so",)),
    ),
]
ZERO = [
    ({}, Found(True, "2/2")),
    (
        {"gradients": {0: {"a": 0.0, "b": 1.0}, 1: {"a": 1.0, "b": 0.0}}},
        Found(
            False,
            "0/2",
            ("`a`: gradient is zero since update 0: why a 0", "`b`: gradient is zero since update 1: why b 1"),
        ),
    ),
    ({"gradients": {0: {"a": 1.0, "b": 1.0}, 8: {"a": 0.0, "b": 0.0}}}, Found(True, "2/2")),  # nothing is left to learn
    (
        {"gradients": {0: {"a": 1.0, "b": 0.0}, 8: {"a": 0.0, "b": 0.0}}},
        Found(False, "1/2", ("`b`: gradient is zero since update 0: why b 0",)),
    ),
    ({"gradients": {0: {"a": 1.0}}}, Found(True, "1/1")),
    ({"gradients": {0: {}}}, Found(None, "not measured: there are no gradients", ("no parameter has a gradient",))),
]


@pytest.mark.parametrize(
    ("gate", "more", "found"),
    [(gates.finite_gradients, *row) for row in FINITE] + [(gates.nonzero_gradients, *row) for row in ZERO],
    ids=range(len(FINITE) + len(ZERO)),
)
def test_gradients(gate, more, found):
    assert gate().check(a_run(**more)) == found


@pytest.mark.parametrize("gate", [gates.finite_gradients, gates.nonzero_gradients])
def test_gradients_that_cannot_be_judged(gate):
    assert gate().check(a_run(misplaced="out of order")) == Found(False, "0/2", ("out of order",))
    assert gate().check(a_run([])) == Found(False, "0/2", ("there was no update",))
    none = ("the model that run.watch was given has no parameters",)
    assert gate().check(a_run(moved={})) == Found(False, "0/0", none)
    assert gate(exempt={"a": "", "b*": ""}).check(a_run()) == Found(False, "0/0", ("every parameter is exempt",))
    assert gate(exempt={"a": "on purpose"}).check(a_run()) == Found(True, "1/1")


def model_run(moved, gradients=None, optimizer=None, **more):
    model = Sequential(Linear(2, 1, bias=False), Linear(1, 1, bias=False))
    names = dict(zip(("0.weight", "1.weight"), moved, strict=True))
    given = None if optimizer is None else SGD(model[optimizer].parameters(), lr=0.1)
    return a_run(model=model, moved=names, gradients={0: gradients or {}}, optimizer=given, **more)


def test_what_moved():
    check = gates.movement().check
    assert check(model_run([0.5, 0.25])) == Found(True, "2/2, least 0.25 x")
    assert check(model_run([0.001, 0.25], {"0.weight": 3.0})) == Found(
        False, "1/2, least 0.001 x", ("`0.weight`: moved 0.001 x its norm; the norm of its first gradient is 3",)
    )
    assert check(model_run([0.0, 0.0], {"0.weight": 0.0})) == Found(
        False,
        "0/2, least 0 x",
        ("`0.weight`: did not move: its gradient is zero", "`1.weight`: did not move: no gradient"),
    )
    assert check(model_run([nan, 0.25])) == Found(
        False, "1/2, least nan x", ("`0.weight`: is not finite after the last update",)
    )
    found = check(model_run([0.0, 0.0], {"0.weight": 1.0, "1.weight": 1.0}, optimizer=1))
    assert found.why == (
        "`0.weight`: not given to the optimizer",
        "`1.weight`: moved 0 x its norm; the norm of its first gradient is 1",
    )
    frozen = model_run([0.0, 0.5])
    frozen.model[0].requires_grad_(False)
    assert check(frozen).why == ("`0.weight`: frozen (requires_grad=False)",)
    assert gates.movement(of="1.*").check(model_run([0.0, 0.5])) == Found(True, "1/1, least 0.5 x")
    assert gates.movement(0.6).check(model_run([0.5, 0.7])).measured == "1/2, least 0.5 x"
    assert gates.movement(of="2.*").check(model_run([0.5, 0.7])).why == ("no parameter is named '2.*'",)
    assert gates.movement(exempt={"*": ""}).check(model_run([0.5, 0.7])).why == ("every parameter is exempt",)


def test_gradients_that_are_fresh_and_updates():
    check = gates.fresh_gradients().check
    assert check(a_run()) == Found(True, "0 stale")
    cause = "the gradient is added to that of the update before: call optimizer.zero_grad() in each"
    assert check(a_run(stale=["a", "b"])) == Found(False, "2 stale", (f"`a`, `b`: {cause}",))
    assert check(a_run(compared=set())) == Found(None, "not measured: that takes two updates with gradients")
    assert gates.updates(2).check(a_run()) == Found(True, "2")
    assert gates.updates(3).check(a_run()) == Found(False, "2", ("2 updates, not 3",))


def test_one_batch():
    check = gates.overfit(0.5).check
    assert check(a_run([1.0, 0.25])) == Found(True, "1.0000 -> 0.2500: 75.0%")
    assert check(a_run([1.0, 0.5])) == Found(
        False, "1.0000 -> 0.5000: 50.0%", ("after 2 updates on one batch the loss is 0.5",)
    )
    cause = "and nan at update 1: {'limit': 500, 'one_batch': True} 1"
    assert check(a_run([1.0, nan, 0.75])).why == (f"after 3 updates on one batch the loss is 0.75, {cause}",)
    assert check(a_run([])) == Found(False, "no update", ("there was no update on one batch",))


def test_what_repeats():
    def found(loss, metric=(nan, nan)):
        values = {"loss": iter(loss), "metric": iter(metric)}
        run = a_run()
        run.handle.measures = lambda what: {"loss": loss, "metric": metric}[what][0] is not None
        run.handle.measure = lambda what: next(values[what])
        return gates.repeatable().check(run)

    assert found((0.5, 0.5)) == Found(True, "0.5 twice")
    why = "the loss is 0.5, then 0.25: is dropout on in `eval` mode?"
    assert found((0.5, 0.25)) == Found(False, "differs", (why,))
    why = "the loss is nan, then 1.0, which tells nothing"
    assert found((nan, 1.0)) == Found(False, "nan, 1", (why,))
    why = "the metric is 1.0, then inf, which tells nothing"
    assert found((None, None), (1.0, inf)) == Found(False, "1, inf", (why,))
    assert found((None, None), (0.5, 0.5)) == Found(True, "0.5 twice")
    assert found((None, None), (None, None)) == Found(None, "not measured: pass run.watch(loss=...)")


def test_a_finding_is_of_true_false_or_none():
    assert Found(tinytorch.Tensor(True), 3, "why") == Found(True, "3", ("why",))
    with pytest.raises(TypeError, match=r"^Found: why is a tuple of sentences, not int"):
        Found(True, "x", 3)
    with pytest.raises(TypeError, match=r"^Found: why is a tuple of sentences, not Tensor"):
        Found(True, "x", tinytorch.ones(1))
