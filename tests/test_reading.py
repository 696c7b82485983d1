"""The code in docs/reading.md is the code of the files that it names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs/reading.md").read_text("utf-8")


def hops():
    """Each block of code, and the file that was named last before it."""
    for block in re.finditer(r"```python\n(.*?)```", TEXT, re.DOTALL):
        named = re.findall(r"`((?:tinytorch|backends)/[\w/]+\.py)`", TEXT[: block.start()])
        yield pytest.param(named[-1], block[1].rstrip("\n").split("\n"), id=f"{named[-1]}-{block.start()}")


@pytest.mark.parametrize(("file", "code"), list(hops()))
def test_its_code_is_that_of_the_file(file, code):
    """Line by line and in this order, maybe with others in between."""
    lines = iter((ROOT / file).read_text("utf-8").split("\n"))
    for line in code:
        assert line in lines, f"{file} has no line {line!r}, or has it elsewhere"


def test_every_file_that_it_names_is_there():
    named = set(re.findall(r"`((?:tinytorch|backends|tests)/[\w/]+\.py)`", TEXT))
    assert len(named) >= 12
    assert [name for name in named if not (ROOT / name).exists()] == []
