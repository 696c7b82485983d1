"""A report, made by hand: what each of its forms says of passes, failures, what was not measured, and controls."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

import tinytorch
from tinytorch.verify import Control, Found, Report
from tinytorch.verify.report import Controlled, Judged, Subject, Verdict

CPU = tinytorch.device("cpu")
PASS, NOT = Found(True, "70%"), Found(None, "not measured")


def fail(measured, *why):
    return Found(False, measured, why)


def judged(seed, *found, seconds=1.23456):
    """A run, and verdicts of the gates "drop", "metric" and "own" on it."""
    named = zip(("drop", "metric", "own"), ("it drops", "it is right", "it drops"), found, strict=False)
    return Judged(SimpleNamespace(seed=seed, updates=30 + seed, seconds=seconds), [Verdict(*row) for row in named])


def controlled(name, fails, *found, unchanged=()):
    control = Control(name, fails, gradients=print)
    runs = [
        Judged(SimpleNamespace(seed=i, updates=1, seconds=0.5), [Verdict(fails, "c", f)]) for i, f in enumerate(found)
    ]
    return Controlled(control, runs, list(unchanged))


@pytest.fixture
def report():
    first = Subject(
        "a",
        [
            judged(0, PASS, PASS, NOT),
            judged(1, fail("1%", "so", "and so"), PASS, NOT),
            judged(2, PASS, Found(True, "80%"), NOT),
        ],
        [controlled("with x", "drop", fail("0%")), controlled("with y", "metric", PASS, NOT)],
        enough=2,
    )
    second = Subject(
        "b",
        [judged(0, PASS, fail("2%"), PASS), judged(1, PASS, fail("3%", "why"), PASS)],
        [
            controlled("with z", "metric", fail("0%"), unchanged=[1, 4]),
            controlled("with w", "own", fail("0%"), Found(True, "9"), Found(True, "8")),
        ],
        enough=1,
    )
    out = Report("r", CPU, [first, second])
    out.claim("all alike", True, "yes")
    out.claim("none odd", False, "one")
    return out


FAILURES = [
    "none odd: one",
    "metric: with y the gate measures nothing, which proves nothing (not measured) (a)",
    "metric: it is right: 2% (seed 0) (b)",
    "metric: why (seed 1) (b)",
    "metric: with z nothing changes (seed 1, 4): is what the control breaks used in the loss? (b)",
    "own: proves nothing, it passes as well with w (9, 8) (b)",
]


def test_what_failed_and_what_was_not_measured(report):
    assert (report.ok, report.failures) == (False, FAILURES)
    assert report.unmeasured == ["own: not measured (a)"]
    first, second = report.subjects
    assert (first.ok, first.passing, second.ok, second.passing) == (False, 2, False, 0)
    assert [c.noticed for s in report.subjects for c in s.controls] == [True, False, False, False]
    assert [c.verdict for c in first.controls] == ["with x: noticed", "with y: NOT noticed"]
    assert [j.ok for j in first.judged] == [True, False, True]
    assert [j.failed for j in first.judged] == [set(), {"drop"}, set()]
    assert repr(first) == "<'a': 2 of 3 runs pass, 1 of 2 controls are noticed>"
    assert [run.seed for run in report.runs] == [0, 1, 2, 0, 1]
    assert report.counted == (1 + 1 + 5 + 4, 2 + 4 + 6 + 6)
    with pytest.raises(AssertionError) as caught:
        report.assert_ok()
    assert str(caught.value).split("\n") == ["r on cpu:", *FAILURES]


def test_of_one_subject_and_one_run_less_is_said():
    alone = Report("r", CPU, [Subject("a", [judged(7, fail("1%", "so"), NOT)], [], 1)])
    assert alone.failures == ["drop: so"]
    assert alone.unmeasured == ["metric: not measured"]
    nothing = Report("r", CPU, [Subject("a", [judged(7, NOT, NOT)], [], 1)])
    assert nothing.failures == ["no gate measured anything"]
    assert Report("r", CPU, [Subject("a", [], [], 1)]).failures == ["nothing was verified"]
    assert Report("r", CPU, [Subject("a", [judged(7, PASS, NOT)], [], 1)]).ok
    claimed = Report("r", CPU)
    claimed.claim("c", True, "x")
    assert (claimed.ok, claimed.failures, claimed.counted) == (True, [], (1, 1))
    assert not controlled("with x", "drop").noticed


def test_joined(report):
    other = Report("s", CPU)
    other.claim("c", True, "x")
    joined = Report.joined("both", [report, other])
    assert (joined.name, joined.device, joined.subjects) == ("both", CPU, report.subjects)
    assert joined.claims == [*report.claims, *other.claims]


def test_as_lines(report):
    assert report.lines() == [
        "pass  all alike: yes",
        "FAIL  none odd: one",
        "pass  it drops: 70% (a, seed 0)",
        "pass  it is right: 70% (a, seed 0)",
        "n/a  it drops: not measured (a, seed 0)",
        "FAIL  it drops: 1% (a, seed 1)",
        "pass  it is right: 70% (a, seed 1)",
        "n/a  it drops: not measured (a, seed 1)",
        "pass  it drops: 70% (a, seed 2)",
        "pass  it is right: 80% (a, seed 2)",
        "n/a  it drops: not measured (a, seed 2)",
        "pass  drop: with x: noticed (a)",
        "FAIL  metric: with y: NOT noticed (a)",
        "pass  it drops: 70% (b, seed 0)",
        "FAIL  it is right: 2% (b, seed 0)",
        "pass  it drops: 70% (b, seed 0)",
        "pass  it drops: 70% (b, seed 1)",
        "FAIL  it is right: 3% (b, seed 1)",
        "pass  it drops: 70% (b, seed 1)",
        "FAIL  metric: with z: NOT noticed (b)",
        "FAIL  own: with w: NOT noticed (b)",
    ]


def test_as_a_table(report, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    table = report._table()
    assert table.title == "r on cpu"
    assert [(*cells, style) for cells, style in table.rows] == [
        ("most", "it drops", "1%", "2/3", "with x: noticed", ""),
        ("pass", "it is right", "70%", "3/3", "with y: NOT noticed", ""),
        ("n/a", "it drops", "not measured", "0/3", "", "yellow"),
        ("pass", "it drops", "70%", "2/2", "", ""),
        ("FAIL", "it is right", "2%", "0/2", "", "red"),
        ("pass", "it drops", "70%", "2/2", "with w: NOT noticed", ""),
        ("pass", "all alike", "yes", "", "", ""),
        ("FAIL", "none odd", "one", "", "", "red"),
    ]
    text = str(report).splitlines()
    assert text[-len(FAILURES) - 2 :] == ["", *(f"FAIL  {f}" for f in FAILURES), "n/a   own: not measured (a)"]
    fine = Report("r", CPU, [Subject("a", [judged(0, PASS)], [], 1)])
    assert str(fine).splitlines()[-1].split() == ["pass", "it", "drops", "70%", "1/1"]


def test_as_a_dict(report):
    found = report.to_dict()
    assert json.loads(report.to_json()) == found
    assert {k: v for k, v in found.items() if k != "subjects"} == {
        "name": "r",
        "device": "cpu",
        "ok": False,
        "failures": FAILURES,
        "unmeasured": ["own: not measured (a)"],
        "claims": [
            {"gate": "all alike", "claim": "all alike", "passed": True, "measured": "yes", "why": []},
            {"gate": "none odd", "claim": "none odd", "passed": False, "measured": "one", "why": []},
        ],
    }
    first = found["subjects"][0]
    assert (first["name"], first["ok"], first["enough"]) == ("a", False, 2)
    assert first["runs"][1] == {
        "seed": 1,
        "updates": 31,
        "seconds": 1.235,
        "verdicts": [
            {"gate": "drop", "claim": "it drops", "passed": False, "measured": "1%", "why": ["so", "and so"]},
            {"gate": "metric", "claim": "it is right", "passed": True, "measured": "70%", "why": []},
            {"gate": "own", "claim": "it drops", "passed": None, "measured": "not measured", "why": []},
        ],
    }
    assert first["controls"] == [
        {"control": "with x", "must_fail": "drop", "noticed": True, "measured": ["0%"]},
        {"control": "with y", "must_fail": "metric", "noticed": False, "measured": ["70%", "not measured"]},
    ]


def test_as_test_cases(report):
    suites = [(name, [tuple(case) for case in cases]) for name, cases in report.cases()]
    assert [name for name, _ in suites] == ["a", "b", "r: all"]
    assert suites[0][1] == [
        ("drop: it drops [seed 0]", "", "pass  it drops: 70%", 1.23456),
        ("it is right [seed 0]", "", "pass  it is right: 70%", 0.0),
        ("own: it drops [seed 0]", "skipped", "n/a  it drops: not measured", 0.0),
        ("drop: it drops [seed 1]", "", "FAIL  it drops: 1%\nso\nand so", 1.23456),
        ("it is right [seed 1]", "", "pass  it is right: 70%", 0.0),
        ("own: it drops [seed 1]", "skipped", "n/a  it drops: not measured", 0.0),
        ("drop: it drops [seed 2]", "", "pass  it drops: 70%", 1.23456),
        ("it is right [seed 2]", "", "pass  it is right: 80%", 0.0),
        ("own: it drops [seed 2]", "skipped", "n/a  it drops: not measured", 0.0),
        ("drop notices: with x", "", "", 0.5),
        (
            "metric notices: with y",
            "failure",
            "metric: with y the gate measures nothing, which proves nothing (not measured)",
            1.0,
        ),
    ]
    assert [kind for _, kind, *_ in suites[1][1]] == ["", "failure", "", "", "failure", "", "failure", "failure"]
    assert suites[2][1] == [
        ("all alike", "", "pass  all alike: yes", 0.0),
        ("none odd", "failure", "FAIL  none odd: one", 0.0),
    ]
    nothing = [(name, [tuple(case) for case in cases]) for name, cases in Report("r", CPU).cases()]
    assert nothing == [("r", [("something was verified", "failure", "nothing was verified", 0.0)])]
    unnamed = Report("r", CPU, [Subject("", [judged(0, PASS)], [], 1)])
    assert [name for name, _ in unnamed.cases()] == ["r"]
