"""Imports point down only, and array libraries are met in few places: read from the source, whatever is installed."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PLUGIN = ROOT / "pytest_tinytorch.py"
FILES = [*sorted(path for package in ("backends", "tinytorch") for path in (ROOT / package).rglob("*.py")), PLUGIN]

BELOW = {  # what a module, or all of a package, may import of ours: itself and these
    "tinytorch.backends": (),
    "pytest_tinytorch": ("tinytorch.backends",),
    "tinytorch.dtypes": ("tinytorch.backends",),
    "tinytorch.words": ("tinytorch.backends", "tinytorch.dtypes"),
    "tinytorch.shapes": (),
    "tinytorch.tape": ("tinytorch.backends", "tinytorch.dtypes", "tinytorch.shapes", "tinytorch.words"),
    "tinytorch.intake": ("tinytorch.backends", "tinytorch.dtypes", "tinytorch.words", "tinytorch.tape"),
    "tinytorch.autograd": (
        "tinytorch.backends",
        "tinytorch.dtypes",
        "tinytorch.spelled",
        "tinytorch.tape",
        "tinytorch.words",
    ),
    "tinytorch.ops": (
        "tinytorch.backends",
        "tinytorch.words",
        "tinytorch.dtypes",
        "tinytorch.shapes",
        "tinytorch.tape",
        "tinytorch.intake",
        "tinytorch.autograd",
    ),
    "tinytorch.namespace": ("tinytorch.backends", "tinytorch.dtypes", "tinytorch.words"),
    "tinytorch.origin": ("tinytorch.backends", "tinytorch.tape", "tinytorch.words"),
    "tinytorch.tensor": (
        "tinytorch.backends",
        "tinytorch.words",
        "tinytorch.dtypes",
        "tinytorch.tape",
        "tinytorch.intake",
        "tinytorch.autograd",
        "tinytorch.ops",
        "tinytorch.origin",
        "tinytorch.spelled",
    ),
}
LATE = {"tinytorch.tensor": ("tinytorch",)}  # imports inside functions, which would be circular at the top
LIBRARIES = {  # array library -> the only module that may import it
    "cupy": "tinytorch.backends.cuda",
    "cupyx": "tinytorch.backends.cuda",
    "array_api_compat.cupy": "tinytorch.backends.cuda",
    "array_api_strict": "tinytorch.backends.strict",
    "torch": "tinytorch.backends.torch_",
    "array_api_compat.torch": "tinytorch.backends.torch_",
    "jax": "tinytorch.backends.jax_",
    "dpnp": "tinytorch.backends.sycl",
    "dpctl": "tinytorch.backends.sycl",
}
XP = (  # who computes with arrays rather than tensors; of the optimizers, what all share and the update rules
    "tinytorch.backends",
    "pytest_tinytorch",  # only hands it out
    "tinytorch.autograd",
    "tinytorch.creation",
    "tinytorch.parity",
    "tinytorch.program",  # which notes what is called there
    "tinytorch.intake",
    "tinytorch.ops",
    "tinytorch.tape",
    "tinytorch.tensor",
    "tinytorch.optim.optimizer",
    "tinytorch.optim.flat",
    "tinytorch.optim.sgd",
    "tinytorch.optim.adam",
)


class Import(NamedTuple):
    name: str
    inside: bool  # of a function


def module_of(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    return f"tinytorch.{name}" if within(name, ("backends",)) else name


def within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == p or name.startswith(p + ".") for p in packages)


def imports(tree: ast.AST, inside: bool = False) -> list[Import]:
    """All modules that a source imports; `from a import b` is a.b where that is a module of ours."""
    found = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):  # is never run
            continue
        if isinstance(node, ast.Import):
            found += [Import(alias.name, inside) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                deeper = f"{node.module}.{alias.name}"
                place = ROOT / deeper.replace(".", "/")
                ours = place.with_suffix(".py").exists() or (place / "__init__.py").exists()
                found.append(Import(deeper if ours or deeper in LIBRARIES else str(node.module), inside))
        found += imports(node, inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))
    return found


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


every = pytest.mark.parametrize("path", FILES, ids=module_of)


def test_the_walk_sees_every_kind_of_import():
    source = (
        "import os, cupy.cuda\n"
        "from tinytorch import ops, Tensor\n"
        "from array_api_compat import cupy as xp\n"
        "try:\n    import array_api_strict as xp\nexcept ImportError:\n    pass\n"
        "class A:\n    def f(self):\n        from tinytorch.creation import asarray\n"
    )
    names = ["os", "cupy.cuda", "tinytorch.ops", "tinytorch", "array_api_compat.cupy", "array_api_strict"]
    assert imports(ast.parse(source)) == [*(Import(n, False) for n in names), Import("tinytorch.creation", True)]
    assert {module_of(p) for p in FILES} >= {
        "tinytorch.backends",
        "tinytorch.backends.cuda",
        "tinytorch",
        "tinytorch.nn.module",
        *BELOW,
    }


@every
def test_imports_point_down(path):
    module = module_of(path)
    layer = next((name for name in BELOW if within(module, (name,))), None)
    for name, inside in imports(parsed(path)):
        if within(name, ("backends", "pytest_tinytorch", "tinytorch", "milestones", "tests")):
            allowed = ("tinytorch",) if layer is None else (layer, *BELOW[layer])
            late = inside and name in LATE.get(layer or "", ())
            assert within(name, allowed) or late, f"{module} imports {name}"


def circles(graph):
    """The modules that import each other, directly or in a ring."""
    left = dict(graph)
    while ends := [name for name, below in left.items() if not any(b in left for b in below)]:
        for name in ends:
            del left[name]
    return sorted(left)


def test_imports_make_no_circle():
    """Those inside functions, too; but for the package itself, which a tensor is asked for as a namespace."""
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"e"}, "e": set()}) == ["a", "b", "c"]
    found = {module_of(path): {name for name, _ in imports(parsed(path))} for path in FILES}
    del found["tinytorch"]
    assert circles({name: below - {name} for name, below in found.items()}) == []


@every
def test_an_array_library_is_imported_in_one_place(path):
    module = module_of(path)
    for name, _ in imports(parsed(path)):
        for library, home in LIBRARIES.items():
            assert not within(name, (library,)) or module == home, f"{module} imports {name}"
        assert not within(name, ("scipy", "sklearn")), f"{module} imports {name}"


def test_every_library_is_where_it_is_said_to_be():
    for library, home in LIBRARIES.items():
        path = ROOT / (home.replace(".", "/") + ".py")
        assert any(within(name, (library,)) for name, _ in imports(parsed(path)))


@every
def test_only_ops_and_devices_touch_the_array_namespace(path):
    module = module_of(path)
    if not within(module, XP):
        touched = [n.lineno for n in ast.walk(parsed(path)) if isinstance(n, ast.Attribute) and n.attr == "xp"]
        assert not touched, f"{module}, lines {touched}: layers are made of ops and tensors"


@every
def test_gradient_rules_live_in_ops(path):
    module = module_of(path)
    if not within(module, ("tinytorch.ops",)):
        for node in ast.walk(parsed(path)):
            for decorator in getattr(node, "decorator_list", []):
                name = decorator.func if isinstance(decorator, ast.Call) else decorator
                assert getattr(name, "id", getattr(name, "attr", "")) != "op", f"{module}: {node.name} is an op"


def kept_for_a_shape(function: ast.FunctionDef) -> list[str]:
    """Names of the function that the functions inside it, which live on as rules do, use for a shape or dtype only."""
    arguments = {a.arg for a in ast.walk(function.args) if isinstance(a, ast.arg)}
    own = arguments | {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    uses: dict[str, set[str]] = {}
    for inner in ast.walk(function):
        if isinstance(inner, ast.Lambda | ast.FunctionDef) and inner is not function:
            given = {a.arg for a in ast.walk(inner.args) if isinstance(a, ast.arg)}
            attributes = {id(n.value): n.attr for n in ast.walk(inner) if isinstance(n, ast.Attribute)}
            for n in ast.walk(inner):
                if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load) and n.id in own - given:
                    uses.setdefault(n.id, set()).add(attributes.get(id(n), ""))
    return [name for name, how in uses.items() if how <= {"shape", "ndim", "dtype", "size"}]


def test_arrays_that_are_kept_for_a_shape_are_found():
    source = "def f(dev, x, y):\n    def g(z): return z.shape + y\n    return x + y, lambda g: g.shape + x.shape"
    assert kept_for_a_shape(ast.parse(source).body[0]) == ["x"]


@every
def test_no_rule_keeps_an_array_for_its_shape(path):
    """A loop of assignments would keep every state of what is assigned to."""
    if within(module_of(path), ("tinytorch.ops",)):
        functions = [node for node in ast.walk(parsed(path)) if isinstance(node, ast.FunctionDef)]
        assert [(f.name, name) for f in functions for name in kept_for_a_shape(f)] == []


@every
def test_random_numbers_come_through_one_door(path):
    """`tinytorch.random.drawn`: who records what a step computes must see each draw. A loader's shuffle is its own."""
    module = module_of(path)
    if not within(module, ("tinytorch.random", "tinytorch.backends", "tinytorch.data")):
        draws = {"integers", "permutation", "random", "shuffle", "standard_normal", "uniform", "normal", "choice"}
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Attribute) and node.attr in draws:
                owner = getattr(node.value, "attr", getattr(node.value, "id", ""))
                assert owner != "generator", f"{module}, line {node.lineno}: write random.drawn(...)"


@every
def test_nothing_is_pickled(path):
    assert not [name for name, _ in imports(parsed(path)) if within(name, ("pickle", "cPickle", "dill", "joblib"))]
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "load":
            allowed = {k.arg: getattr(k.value, "value", None) for k in node.keywords}
            assert allowed.get("allow_pickle") is False, f"{module_of(path)}, line {node.lineno}"


@pytest.mark.parametrize("path", [*FILES, *sorted((ROOT / "milestones").rglob("*.py"))], ids=str)
def test_nothing_rests_on_assert_which_python_can_be_told_to_skip(path):
    found = [node.lineno for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Assert)]
    assert not found, f"{path}: raise an error in lines {found}: `python -O` leaves assert out"
