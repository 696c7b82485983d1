"""What `verify` found: a verdict for each gate of each run, the controls, and both as a table, JSON or JUnit XML."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

import numpy as np

from backends import Device
from tinytorch.verify.controls import Control
from tinytorch.verify.gates import Found, Gate
from tinytorch.verify.run import Run


@dataclass(frozen=True)
class Verdict:
    """Whether a gate passed, and if not, why.

    Attributes:
        gate: its name.
        claim: what it demands.
        found: whether it passed, what was measured, and a sentence for each culprit.
    """

    gate: str
    claim: str
    found: Found

    @property
    def passed(self) -> bool:
        """Whether the claim holds."""
        return self.found.passed

    def __str__(self) -> str:
        return f"{'pass' if self.passed else 'FAIL'}  {self.claim}: {self.found.measured}"


@dataclass
class Judged:
    """A run and the verdicts on it."""

    run: Run
    verdicts: list[Verdict]

    @property
    def ok(self) -> bool:
        """Whether all gates passed."""
        return all(v.passed for v in self.verdicts)

    @property
    def failed(self) -> set[str]:
        """The names of the gates that failed."""
        return {v.gate for v in self.verdicts if not v.passed}


@dataclass
class Controlled:
    """A control, and the runs that were broken by it, judged by the gate that should fail."""

    control: Control
    judged: list[Judged]

    @property
    def noticed(self) -> bool:
        """Whether the gate that should fail did, from every seed."""
        return all(self.control.fails in j.failed for j in self.judged)


@dataclass
class Subject:
    """A model, trained from several seeds, and its controls."""

    name: str
    judged: list[Judged]
    controls: list[Controlled]
    enough: int

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
            for v in j.verdicts:
                for sentence in () if v.passed else v.found.why or (f"{v.claim}: {v.found.measured}",):
                    seeds.setdefault(f"{v.gate}: {sentence}", []).append(str(j.run.seed))
        several = len(self.judged) > 1
        found = [f"{text} (seed {', '.join(which)})" if several else text for text, which in seeds.items()]
        for c in self.controls:
            if not c.noticed:
                passed = [v.found.measured for j in c.judged for v in j.verdicts if v.passed]
                found.append(
                    f"{c.control.fails}: proves nothing, it passes as well {c.control.name} ({', '.join(passed)})"
                )
        return found


@dataclass
class Report:
    """What was verified, on which device, and how it came out.

    Attributes:
        subjects: the models; `verify` gives a report of one.
        claims: verdicts that are about the models together, added by `claim`.
    """

    name: str
    device: Device
    subjects: list[Subject] = field(default_factory=list)
    claims: list[Verdict] = field(default_factory=list)

    @staticmethod
    def joined(name: str, reports: Sequence[Report]) -> Report:
        """Reports on several models, of one device, as one."""
        return Report(name, reports[0].device, [s for r in reports for s in r.subjects])

    def claim(self, claim: str, passed: bool, measured: str) -> None:
        """Add a verdict of your own."""
        self.claims.append(Verdict(claim, claim, Found(bool(passed), measured)))

    @property
    def runs(self) -> list[Run]:
        """The healthy runs."""
        return [j.run for s in self.subjects for j in s.judged]

    @property
    def ok(self) -> bool:
        """Whether enough runs passed, all controls were noticed, and all claims hold."""
        return not self.failures

    @property
    def failures(self) -> list[str]:
        """A sentence for each failure, with the model's name where there are several."""
        several = len(self.subjects) > 1
        found = [f"{v.claim}: {v.found.measured}" for v in self.claims if not v.passed]
        return found + [f"{f} ({s.name})" if several else f for s in self.subjects for f in s.failures]

    @property
    def counted(self) -> tuple[int, int]:
        """How many verdicts are as they should be, and how many there are; a control counts as one."""
        verdicts = [v.passed for v in self.claims] + [c.noticed for s in self.subjects for c in s.controls]
        verdicts += [v.passed for s in self.subjects for j in s.judged for v in j.verdicts]
        return sum(verdicts), len(verdicts)

    def assert_ok(self) -> None:
        """Raise AssertionError with the failures, if there are any."""
        assert self.ok, "\n".join([f"{self.name} on {self.device}:", *self.failures])

    def lines(self) -> list[str]:
        """Every verdict as a line."""
        found = [str(v) for v in self.claims]
        for s in self.subjects:
            found += [f"{v} ({s.name}, seed {j.run.seed})" for j in s.judged for v in j.verdicts]
            found += [
                f"{'pass' if c.noticed else 'FAIL'}  {c.control.fails}: {_noticed(c)} ({s.name})" for c in s.controls
            ]
        return found

    # As a table, JSON and JUnit XML -------------------------------------------------------------------------------

    def __rich__(self) -> Any:
        """The table that `rich` prints."""
        from rich.box import SIMPLE_HEAD
        from rich.console import Group
        from rich.markup import escape
        from rich.table import Table

        table = Table(title=f"{self.name} on {self.device}", title_justify="left", box=SIMPLE_HEAD)
        for column in ("", "gate", "measured", "seeds", "controls"):
            table.add_column(column, overflow="fold")
        for s in self.subjects:
            for i, first in enumerate(s.judged[0].verdicts):
                each = [j.verdicts[i] for j in s.judged]
                passed = sum(v.passed for v in each)
                shown = next((v for v in each if not v.passed), first)
                style = None if passed >= s.enough else "red"
                good = "pass" if passed == len(each) else "FAIL" if passed < s.enough else "most"
                controls = [_noticed(c) for c in s.controls if c.control.fails == first.gate and good == "pass"]
                cells = (good, first.claim, shown.found.measured, f"{passed}/{len(each)}", "; ".join(controls))
                table.add_row(*map(escape, cells), style=style)
        for v in self.claims:
            good = "pass" if v.passed else "FAIL"
            table.add_row(good, escape(v.claim), escape(v.found.measured), style=None if v.passed else "red")
        return Group(table, *(escape(f"FAIL  {sentence}") for sentence in self.failures))

    def __str__(self) -> str:
        import io

        from rich.console import Console

        text = io.StringIO()
        Console(file=text, width=120).print(self, highlight=False)
        return "\n".join(line.rstrip() for line in text.getvalue().rstrip().splitlines())

    def to_dict(self) -> dict[str, Any]:
        """Everything, as what JSON has."""

        def verdict(v: Verdict) -> dict[str, Any]:
            f = v.found
            return {"gate": v.gate, "claim": v.claim, "passed": v.passed, "measured": f.measured, "why": list(f.why)}

        return {
            "name": self.name,
            "device": self.device.name,
            "ok": self.ok,
            "failures": self.failures,
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

    def to_json(self) -> str:
        """`to_dict` as text."""
        return json.dumps(self.to_dict(), indent=2)

    def to_junit(self) -> str:
        """The verdicts as test cases in JUnit's XML, which CI systems show."""
        suites = ElementTree.Element("testsuites", name=f"{self.name} on {self.device}")
        for name, cases in self._cases():
            failures = sum(failure is not None for _, failure, _ in cases)
            suite = ElementTree.SubElement(
                suites, "testsuite", name=name, tests=str(len(cases)), failures=str(failures), errors="0", skipped="0"
            )
            for title, failure, seconds in cases:
                case = ElementTree.SubElement(suite, "testcase", classname=name, name=title, time=f"{seconds:.3f}")
                if failure is not None:
                    ElementTree.SubElement(case, "failure", message=failure.split("\n")[0]).text = failure
        ElementTree.indent(suites)
        text = ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"
        return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)  # what XML has

    def _cases(self) -> Iterator[tuple[str, Sequence[tuple[str, str | None, float]]]]:
        """(suite, [(case, failure or None, seconds)]); the time of a run is that of its first case."""
        for s in self.subjects:
            cases: list[tuple[str, str | None, float]] = []
            for j in s.judged:
                for i, v in enumerate(j.verdicts):
                    failure = None if v.passed or s.passing >= s.enough else "\n".join([str(v), *v.found.why])
                    cases.append((f"{v.claim} [seed {j.run.seed}]", failure, 0.0 if i else j.run.seconds))
            for c in s.controls:
                took = sum(j.run.seconds for j in c.judged)
                cases.append(
                    (
                        f"{c.control.fails} notices: {c.control.name}",
                        None if c.noticed else "the gate passes all the same",
                        took,
                    )
                )
            yield s.name or self.name, cases
        if self.claims:
            yield f"{self.name}: all", [(v.claim, None if v.passed else str(v), 0.0) for v in self.claims]


def _noticed(c: Controlled) -> str:
    return f"{c.control.name}: {'noticed' if c.noticed else 'NOT noticed'}"


def judge(run: Run, gates: Sequence[Gate]) -> Judged:
    """The verdicts of the gates on a run."""
    with run.device, np.errstate(all="ignore"):
        return Judged(run, [Verdict(g.name, g.claim, g.check(run)) for g in gates])
