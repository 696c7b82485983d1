"""The output quoted in docs/is-my-model-learning.md is what its programs print."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.pages import rerun

PAGE = Path(__file__).parents[2] / "docs" / "is-my-model-learning.md"
NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[+-]\d+)?%?")


def parts(page):
    """The words of a page, and the numbers in it."""
    return NUMBER.sub("#", " ".join(page.split())).split(" "), [float(n.rstrip("%")) for n in NUMBER.findall(page)]


def test_the_output_on_the_page_is_what_comes():
    """Word for word; numbers may differ as they do between processors."""
    quoted = PAGE.read_text()
    words, numbers = parts(quoted)
    new_words, new_numbers = parts(rerun(quoted))
    assert new_words == words
    assert new_numbers == pytest.approx(numbers, rel=0.2, abs=0.1)


def test_what_a_program_prints_replaces_what_was_quoted():
    one, two, other = (
        "```python\n# one.py\nprint(1)\n```\n",
        "```python\n# two.py\nimport one\n```\n",
        "```text\nleft\n```\n",
    )
    quoted, unnamed = "```text\nold\n```\n", "```python\nraise ValueError\n```\n"
    page = one + two + quoted + other + unnamed + other
    assert rerun(page) == page.replace("old", "1")
