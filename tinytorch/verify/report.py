"""The report of `verify`: a verdict for each gate of each run, the controls, and all as a table, JSON or JUnit XML."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinytorch.backends import Device
from tinytorch.backends.forks import importing
from tinytorch.junit import Case, junit
from tinytorch.table import Table, plain, width, wrapped
from tinytorch.verify.controls import Control
from tinytorch.verify.gates import Found, Gate
from tinytorch.verify.run import Run
from tinytorch.words import bound, constructor, expecting

STATES = {True: "pass", False: "FAIL", None: "n/a"}  # n/a: not measured


@constructor(expecting)
@dataclass(frozen=True)
class Verdict:
    """Whether a gate passed, and if not, why.

    Attributes:
        gate: the name of the gate.
        claim: what the gate demands.
        found: whether the gate passed, what was measured, and a sentence for each culprit.
    """

    gate: str
    claim: str
    found: Found

    @property
    def passed(self) -> bool:
        """Whether the claim holds. A claim that could not be measured has not passed."""
        return self.found.passed is True

    @property
    def failed(self) -> bool:
        """Whether the claim does not hold. A claim that could not be measured has not failed."""
        return self.found.passed is False

    def __str__(self) -> str:
        return f"{STATES[self.found.passed]}  {self.claim}: {self.found.measured}"


@dataclass
class Judged:
    """A run, and the verdicts on the run."""

    run: Run
    verdicts: list[Verdict]

    @property
    def ok(self) -> bool:
        """Whether no gate failed, and at least one passed."""
        return not self.failed and any(v.passed for v in self.verdicts)

    @property
    def failed(self) -> set[str]:
        """The names of the gates that failed."""
        return {v.gate for v in self.verdicts if v.failed}


@dataclass
class Controlled:
    """A control, and the runs that it has broken, judged by the gate that should fail.

    Attributes:
        unchanged: the seeds whose broken run is the same, number by number, as the healthy run.
    """

    control: Control
    judged: list[Judged]
    unchanged: list[int] = field(default_factory=list)

    @property
    def noticed(self) -> bool:
        """Whether, from every seed, the control changed something, and the gate that should fail has failed."""
        return bool(self.judged) and not self.unchanged and all(self.control.fails in j.failed for j in self.judged)

    @property
    def verdict(self) -> str:
        """The outcome in a few words."""
        return f"{self.control.name}: {'noticed' if self.noticed else 'NOT noticed'}"

    @property
    def failure(self) -> str:
        """A sentence about a control that was not noticed."""
        name, gate = self.control.name, self.control.fails
        if self.unchanged:
            seeds = ", ".join(map(str, self.unchanged))
            return f"{gate}: {name} nothing changes (seed {seeds}): is what the control breaks used in the loss?"
        verdicts = [v for j in self.judged for v in j.verdicts if v.gate == gate]
        if unseen := [v.found.measured for v in verdicts if v.found.passed is None]:
            return f"{gate}: {name} the gate measures nothing, which proves nothing ({unseen[0]})"
        passed = ", ".join(v.found.measured for v in verdicts if v.passed)
        return f"{gate}: proves nothing, it passes as well {name} ({passed})"


@dataclass
class Subject:
    """A model, trained from several seeds, and its controls."""

    name: str
    judged: list[Judged]
    controls: list[Controlled]
    enough: int

    def __repr__(self) -> str:
        noticed = f"{sum(c.noticed for c in self.controls)} of {len(self.controls)} controls are noticed"
        return f"<{self.name!r}: {self.passing} of {len(self.judged)} runs pass, {noticed}>"

    @property
    def ok(self) -> bool:
        """Whether enough runs pass all gates, and every control is noticed."""
        return not self.failures

    @property
    def passing(self) -> int:
        """The number of runs that pass all gates."""
        return sum(j.ok for j in self.judged)

    @property
    def failures(self) -> list[str]:
        """A sentence for each failure."""
        seeds: dict[str, list[str]] = {}
        for j in self.judged if self.passing < self.enough else []:
            if not any(v.passed or v.failed for v in j.verdicts):
                seeds.setdefault("no gate measured anything", []).append(str(j.run.seed))
            for v in j.verdicts:
                for sentence in v.found.why or (f"{v.claim}: {v.found.measured}",) if v.failed else ():
                    seeds.setdefault(f"{v.gate}: {sentence}", []).append(str(j.run.seed))
        several = len(self.judged) > 1
        found = [f"{text} (seed {', '.join(which)})" if several else text for text, which in seeds.items()]
        return [*found, *(c.failure for c in self.controls if not c.noticed)]

    @property
    def unmeasured(self) -> list[str]:
        """Gates that are always there and could not measure anything, each with what that takes."""
        found = [v for j in self.judged for v in j.verdicts if v.found.passed is None]
        return list(dict.fromkeys(f"{v.gate}: {v.found.measured}" for v in found))


@constructor(expecting)
@dataclass
class Report:
    """The outcome of `verify`, on one device.

    Attributes:
        subjects: the models; `verify` gives a report of one.
        claims: verdicts about the models together, added by `claim`.
    """

    name: str
    device: Device
    subjects: list[Subject] = field(default_factory=list)
    claims: list[Verdict] = field(default_factory=list)

    @staticmethod
    @expecting
    def joined(name: str, reports: Sequence[Report]) -> Report:
        """Reports on several models, of one device, as one report.

        Raises:
            ValueError: there are no reports.
        """
        if not reports:
            raise ValueError("Report.joined: there are no reports, which would prove nothing")
        return Report(
            name, reports[0].device, [s for r in reports for s in r.subjects], [c for r in reports for c in r.claims]
        )

    @bound
    def claim(self, claim: str, passed: bool, measured: str) -> None:
        """Add a verdict of your own."""
        self.claims.append(Verdict(claim, claim, Found(passed, measured)))

    def __repr__(self) -> str:
        return str(self)  # for the prompt, and for assertions that fail

    @property
    def runs(self) -> list[Run]:
        """The healthy runs."""
        return [j.run for s in self.subjects for j in s.judged]

    @property
    def ok(self) -> bool:
        """Whether enough runs passed, all controls were noticed, and all claims hold. An empty report is not ok."""
        return not self.failures

    @property
    def failures(self) -> list[str]:
        """A sentence for each failure, with the model's name if there are several models."""
        several = len(self.subjects) > 1
        found = [f"{v.claim}: {v.found.measured}" for v in self.claims if not v.passed]
        if not self.claims and not any(s.judged for s in self.subjects):
            found.append("nothing was verified")
        return found + [f"{f} ({s.name})" if several else f for s in self.subjects for f in s.failures]

    @property
    def unmeasured(self) -> list[str]:
        """Gates that are always there and could not measure anything, each with what that takes."""
        several = len(self.subjects) > 1
        return [f"{text} ({s.name})" if several else text for s in self.subjects for text in s.unmeasured]

    @property
    def counted(self) -> tuple[int, int]:
        """The number of verdicts that are as they should be, and the number of all verdicts.

        A control counts as one verdict. Verdicts that could not be measured do not count.
        """
        verdicts = [v.passed for v in self.claims] + [c.noticed for s in self.subjects for c in s.controls]
        judged = [v for s in self.subjects for j in s.judged for v in j.verdicts]
        verdicts += [v.passed for v in judged if v.found.passed is not None]
        return sum(verdicts), len(verdicts)

    @bound
    def assert_ok(self) -> None:
        """Raise AssertionError with the failures, unless there are none."""
        if not self.ok:
            raise AssertionError("\n".join(map(plain, [f"{self.name} on {self.device}:", *self.failures])))

    @bound
    def lines(self) -> list[str]:
        """Every verdict as a line."""
        found = [str(v) for v in self.claims]
        for s in self.subjects:
            found += [f"{v} ({s.name}, seed {j.run.seed})" for j in s.judged for v in j.verdicts]
            found += [f"{STATES[c.noticed]}  {c.control.fails}: {c.verdict} ({s.name})" for c in s.controls]
        return [plain(line) for line in found]

    # As a table, JSON and JUnit XML -------------------------------------------------------------------------------

    def _table(self) -> Table:
        table = Table("", "gate", "measured", "seeds", "controls", title=f"{self.name} on {self.device}")
        for s in self.subjects:
            for i, first in enumerate(s.judged[0].verdicts if s.judged else []):
                each = [j.verdicts[i] for j in s.judged]
                passed, failed = sum(v.passed for v in each), sum(v.failed for v in each)
                shown = next((v for v in each if v.failed), next((v for v in each if not v.passed), first))
                good = "FAIL" if failed > len(each) - s.enough else "most" if failed else STATES[shown.found.passed]
                controls = [c.verdict for c in s.controls if c.control.fails == first.gate and good != "FAIL"]
                cells = (good, first.claim, shown.found.measured, f"{passed}/{len(each)}", "; ".join(controls))
                table.add_row(*cells, style="red" if good == "FAIL" else "yellow" if good == "n/a" else None)
        for v in self.claims:
            table.add_row(STATES[v.found.passed], v.claim, v.found.measured, style=None if v.passed else "red")
        return table

    @property
    def _sentences(self) -> list[str]:
        found = [f"FAIL  {sentence}" for sentence in self.failures]
        return [plain(line) for line in found + [f"n/a   {sentence}" for sentence in self.unmeasured]]

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        """What `rich` prints."""
        with importing:
            from rich.text import Text

        yield self._table()
        for sentence in ["", *self._sentences]:
            yield from map(Text, wrapped(sentence, options.max_width))

    def __str__(self) -> str:
        columns = width(120)
        sentences = [line for sentence in self._sentences for line in wrapped(sentence, columns)]
        return "\n".join([*self._table().lines(columns), *([""] if sentences else []), *sentences])

    @bound
    def to_dict(self) -> dict[str, Any]:
        """Everything, as dicts, lists, strings and numbers for JSON."""

        def verdict(v: Verdict) -> dict[str, Any]:
            f = v.found
            return {"gate": v.gate, "claim": v.claim, "passed": f.passed, "measured": f.measured, "why": list(f.why)}

        return {
            "name": self.name,
            "device": self.device.name,
            "ok": self.ok,
            "failures": self.failures,
            "unmeasured": self.unmeasured,
            "claims": [verdict(v) for v in self.claims],
            "subjects": [
                {
                    "name": s.name,
                    "ok": s.ok,
                    "enough": s.enough,
                    "runs": [
                        {
                            "seed": j.run.seed,
                            "updates": j.run.updates,
                            "seconds": round(j.run.seconds, 3),
                            "verdicts": [verdict(v) for v in j.verdicts],
                        }
                        for j in s.judged
                    ],
                    "controls": [
                        {
                            "control": c.control.name,
                            "must_fail": c.control.fails,
                            "noticed": c.noticed,
                            "measured": [v.found.measured for j in c.judged for v in j.verdicts],
                        }
                        for c in s.controls
                    ],
                }
                for s in self.subjects
            ],
        }

    @bound
    def to_json(self) -> str:
        """`to_dict` as text."""
        return json.dumps(self.to_dict(), indent=2, default=str)

    @bound
    def to_junit(self) -> str:
        """The verdicts as test cases in JUnit's XML, for CI systems. Verdicts without a measurement are skipped."""
        return junit(f"{self.name} on {self.device}", self.cases())

    @bound
    def cases(self) -> Iterator[tuple[str, Sequence[Case]]]:
        """The verdicts as suites of test cases. The first case of a run has the time of the run."""
        for s in self.subjects:
            cases: list[Case] = []
            claims = Counter(v.claim for j in s.judged[:1] for v in j.verdicts)
            for j in s.judged:
                for i, v in enumerate(j.verdicts):
                    kind = "skipped" if v.found.passed is None else ""
                    kind = "failure" if v.failed and s.passing < s.enough else kind
                    title = v.claim if claims[v.claim] == 1 else f"{v.gate}: {v.claim}"
                    text = "\n".join([str(v), *v.found.why])
                    cases.append(Case(f"{title} [seed {j.run.seed}]", kind, text, 0.0 if i else j.run.seconds))
            for c in s.controls:
                took = sum(j.run.seconds for j in c.judged)
                title = f"{c.control.fails} notices: {c.control.name}"
                cases.append(Case(title, "" if c.noticed else "failure", "" if c.noticed else c.failure, took))
            yield s.name or self.name, cases
        if self.claims:
            named = [Case(v.claim, "" if v.passed else "failure", str(v)) for v in self.claims]
            yield f"{self.name}: all", named
        if not self.claims and not any(s.judged for s in self.subjects):
            yield self.name, [Case("something was verified", "failure", "nothing was verified")]


def judge(
    run: Run,
    gates: Sequence[Gate],
    demanded: Set[str] = frozenset(),
    say: Callable[[str], Any] = lambda name: None,
) -> Judged:
    """The verdicts of the gates on a run.

    Args:
        demanded: the names of gates that fail if nothing could be measured.
        say: called with the name of each gate before the gate is checked.
    """
    with run.device, np.errstate(all="ignore"):
        return Judged(run, [_verdict(run, g, g.name in demanded, say) for g in gates])


def _verdict(run: Run, gate: Gate, demanded: bool, say: Callable[[str], Any]) -> Verdict:
    say(gate.name)
    try:
        found = gate.check(run)
    except Exception as error:
        error.add_note(f"verify: in the gate {gate.name!r} on {run}")
        raise
    if not isinstance(found, Found):
        raise TypeError(f"verify: the gate {gate.name!r} returns Found(passed, measured), not {found!r}")
    if found.passed is None and demanded:
        found = Found(False, found.measured, found.why or (found.measured,))
    return Verdict(gate.name, gate.claim, found)
