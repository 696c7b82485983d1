"""Test cases as JUnit's XML, which CI systems show."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from xml.etree import ElementTree


class Case(NamedTuple):
    """A test case.

    Attributes:
        kind: "failure", "skipped", or "" for a pass.
        text: the reason of a failure or skip; the first line is the summary.
    """

    name: str
    kind: str = ""
    text: str = ""
    seconds: float = 0.0


def junit(name: str, suites: Iterable[tuple[str, Sequence[Case]]]) -> str:
    """Named suites of test cases as XML.

    >>> from tinytorch.junit import Case, junit
    >>> print(junit("devices", [("devices", [Case("cuda", "skipped", "no driver")])]))
    <?xml version='1.0' encoding='us-ascii'?>
    <testsuites name="devices">
      <testsuite name="devices" tests="1" failures="0" errors="0" skipped="1">
        <testcase classname="devices" name="cuda" time="0.000">
          <skipped message="no driver">no driver</skipped>
        </testcase>
      </testsuite>
    </testsuites>
    """
    root = ElementTree.Element("testsuites", name=_text(name))
    for title, cases in suites:
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=_text(title),
            tests=str(len(cases)),
            failures=str(sum(c.kind == "failure" for c in cases)),
            errors="0",
            skipped=str(sum(c.kind == "skipped" for c in cases)),
        )
        for c in cases:
            names = {"classname": _text(title), "name": _text(c.name), "time": f"{c.seconds:.3f}"}
            case = ElementTree.SubElement(suite, "testcase", names)
            if c.kind:
                text = _text(c.text)
                ElementTree.SubElement(case, c.kind, message=text.split("\n")[0]).text = text
    ElementTree.indent(root)
    # with references for characters outside ASCII, so that the encoding of the file does not matter
    return ElementTree.tostring(root, encoding="us-ascii", xml_declaration=True).decode("ascii") + "\n"


def _text(text: str) -> str:
    """The text, without characters that XML does not allow."""
    return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)
