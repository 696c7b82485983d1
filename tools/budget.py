"""The size of each storey, and its budget: `python tools/budget.py` prints both, and fails if a storey is too large.

A file over 400 lines, or a function over 60 without its docstring, says in its docstring why it is long.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENGINE = ("tinytorch/autograd.py", "tinytorch/tape", "tinytorch/tensor.py")
TOOLS = "verify parity cli.py commands.py junit.py progress.py starting.py table.py testing.py"
STOREYS = {  # name -> files and folders, and their budget of lines
    "engine": (ENGINE, 2_050),
    "ops": (("tinytorch/ops",), 3_800),
    "backends": (("backends",), 4_500),
    "nn, optim, data": (("tinytorch/nn", "tinytorch/optim", "tinytorch/data"), 2_950),
    "programs": (("tinytorch/program",), 2_600),
    "tools": (tuple(f"tinytorch/{name}" for name in TOOLS.split()), 6_100),
    "milestones": (("milestones",), 1_250),
}
FILE, FUNCTION = 400, 60


def files(places: tuple[str, ...]) -> list[Path]:
    """The source files at these places."""
    found = [ROOT / place for place in places]
    return [path for place in found for path in (sorted(place.rglob("*.py")) if place.is_dir() else [place])]


def unexplained(path: Path) -> list[str]:
    """The long functions of a file, and the long file itself, if the docstring does not say why."""
    text = path.read_text("utf-8")
    tree, name = ast.parse(text), path.relative_to(ROOT)
    lines = text.count("\n")
    found = [f"{name}: {lines} lines"] if lines > FILE and "long" not in (ast.get_docstring(tree) or "") else []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[1 if ast.get_docstring(node) else 0] if node.body[1:] else node.body[0]
            length = (node.end_lineno or 0) - first.lineno + 1
            if length > FUNCTION and not any("long" in text for text in _docstrings(tree, node)):
                found.append(f"{name}: {node.name} has {length} lines")
    return found


def _docstrings(tree: ast.Module, node: ast.AST) -> list[str]:
    """The docstrings of a function and of the functions around it."""
    around = [outer for outer in ast.walk(tree) if isinstance(outer, ast.FunctionDef) and node in ast.walk(outer)]
    return [ast.get_docstring(outer) or "" for outer in around]


def main() -> int:
    """Print the table, and everything that is too large."""
    wrong: list[str] = []
    print(f"{'storey':16} {'files':>5} {'lines':>6} {'budget':>6}")
    for name, (places, budget) in STOREYS.items():
        every = files(places)
        lines = sum(path.read_text("utf-8").count("\n") for path in every)
        print(f"{name:16} {len(every):5} {lines:6,} {budget:6,}")
        wrong += [f"{name}: {lines:,} lines, budget {budget:,}"] if lines > budget else []
        wrong += [line for path in every for line in unexplained(path)]
    for line in wrong:
        print(f"too large: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
