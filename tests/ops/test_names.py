"""Every function of the array API that tinytorch calls is there in every array library, read from the source.

For CuPy this needs no GPU: its namespace is looked at, nothing is computed.
"""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "tinytorch/parity/cases.py"  # there, xp is not only a device's
DEVICE = [ROOT / "backends/device.py", ROOT / "backends/standard.py"]
FILES = [*DEVICE, *sorted(set((ROOT / "tinytorch").rglob("*.py")) - {TABLE})]
COMPAT = [f"array_api_compat.{name}" for name in ("cupy", "numpy", "torch")]
BY_NAME = {"_make": 0, "_run": 1, "_without_gradient": 0}  # helpers that take the name of a function, and where


def is_namespace(node):
    """`xp`, `dev.xp`, `self.device.xp`."""
    return (isinstance(node, ast.Name) and node.id == "xp") or (isinstance(node, ast.Attribute) and node.attr == "xp")


def used(source):
    """The names looked up in the array namespace."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and is_namespace(node.value):
            found.add(node.attr)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in BY_NAME:
            name = node.args[BY_NAME[node.func.id]]
            found |= {name.value} if isinstance(name, ast.Constant) else set()
    return found


NAMES = set().union(*(used(path.read_text("utf-8")) for path in FILES)) - {"ops"}  # tinytorch's own, for its _Taped


def test_the_walk_sees_every_way_to_name_a_function():
    source = 'xp.exp(x)\nlambda g: self.dev.xp.sum(g, axis=xp.max(y))\n_run(x, "nonzero")\nnp.linalg.norm(x)'
    assert used(source) == {"exp", "sum", "max", "nonzero"}
    expected = {"matmul", "take_along_axis", "logical_xor", "linspace", "unique_all", "float32", "astype"}
    assert expected < NAMES
    assert len(NAMES) > 90


@pytest.mark.parametrize("namespace", [*COMPAT, "jax.numpy", "dpnp", "array_api_strict"])
def test_every_name_is_there(namespace):
    library = namespace.removeprefix("array_api_compat.").partition(".")[0]
    pytest.importorskip(library, reason=f"{library} is not installed")
    xp = importlib.import_module(namespace)
    assert sorted(name for name in NAMES if not hasattr(xp, name)) == []
