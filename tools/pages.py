"""Run the programs of a page of documentation: python tools/pages.py PAGE ... replaces their outputs.

A code block whose first line is `# name.py` is the file name.py; a text block after it is the output of `python
name.py`. A later program can import an earlier program.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

BLOCK = re.compile(r"```(?P<kind>python|text)\n(?P<body>.*?)```", re.DOTALL)


def rerun(page: str) -> str:
    """The page, with every output replaced by the present output.

    Raises:
        subprocess.CalledProcessError: a program fails.
    """
    program, env = "", {**os.environ, "COLUMNS": "120"}
    with tempfile.TemporaryDirectory() as folder:

        def replaced(block: re.Match[str]) -> str:
            nonlocal program
            body = block["body"]
            if block["kind"] == "python":
                named = re.match(r"# (\w+\.py)\n", body)
                program = named[1] if named else ""
                if named:
                    Path(folder, program).write_text(body)
                return block[0]
            if not program:
                return block[0]
            command = [sys.executable, "-W", "error", program]
            program = ""
            run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, env=env)
            return f"```text\n{run.stdout}```"

        return BLOCK.sub(replaced, page)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        path = Path(name)
        path.write_text(rerun(path.read_text()))
