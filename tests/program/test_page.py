"""The page about compiled functions shows what its code prints."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "compile.md"


def test_the_program_on_the_page_is_the_one_that_its_code_prints():
    blocks = re.findall(r"```(?:python)?\n(.*?)```", PAGE.read_text("utf-8"), re.S)
    at = next(i for i, block in enumerate(blocks) if block.startswith("# xor.py\n"))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(blocks[at], "xor.py", "exec"), {"__name__": "xor"})
    assert printed.getvalue().strip() == blocks[at + 1].strip()
