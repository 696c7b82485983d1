"""What an installation puts on the path: `tinytorch`, `pytest_tinytorch`, and none of a user's names."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy
import pytest

ROOT = Path(__file__).parents[1]
OURS = ["pytest_tinytorch.py", "tinytorch"]
INSTALLED = "wheel", "editable"
BUILD = "import sys; from hatchling import build; print(getattr(build, sys.argv[1])(sys.argv[2]))"
THEIRS = {  # a user's project: names that a checkout of tinytorch has, too
    "backends/__init__.py": "WHO = 'the user'\n",
    "milestones/__init__.py": "WHO = 'the user'\n",
    "benchmarks/__init__.py": "WHO = 'the user'\n",
    "tests/__init__.py": "WHO = 'the user'\n",
    "conftest.py": "import backends\nWHO = backends.WHO\n",
    "tests/test_theirs.py": """
import backends, benchmarks, conftest, milestones, tests
import tinytorch

def test_the_names_are_theirs():
    assert {m.WHO for m in (backends, benchmarks, conftest, milestones, tests)} == {"the user"}

def test_the_devices_are_ours(xp, device):
    x = tinytorch.Tensor(xp.asarray([1.0, 2.0], device=device.native))
    assert x.device is device
    assert type(device).__module__ == "tinytorch.backends.cpu"
""",
}


def run(python: Path | str, *arguments: str, cwd: Path, **variables: str) -> str:
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH" and not k.startswith("PYTEST_")} | variables
    done = subprocess.run([str(python), *arguments], cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def built(folder: Path, kind: str, target: Path) -> Path:
    """The wheel that `pip` would make of the checkout in the folder."""
    pytest.importorskip("hatchling", reason="the build backend is not installed: pip install hatchling")
    function = "build_editable" if kind == "editable" else "build_wheel"
    return target / run(sys.executable, "-c", BUILD, function, str(target), cwd=folder).split()[-1]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of what belongs into the wheel, so that nothing is written where the tests are."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("README.md", "LICENSE", "pyproject.toml", "pytest_tinytorch.py", "conftest.py"):
        shutil.copy(ROOT / name, folder)
    for name in ("backends", "milestones", "tinytorch", "tools", "tests"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def environment(wheel: Path, folder: Path) -> Path:
    """The Python of a new virtual environment that has the wheel, and the libraries that these tests have."""
    venv.create(folder, symlinks=os.name != "nt")
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)  # all that an installer does with a wheel of Python files
    (site / "zz_libraries.pth").write_text(str(Path(numpy.__file__).parents[1]))
    return python


@pytest.fixture(scope="module", params=INSTALLED)
def installed(request, checkout, tmp_path_factory):
    """The Python of a virtual environment with tinytorch."""
    wheel = built(checkout, request.param, tmp_path_factory.mktemp(request.param))
    return environment(wheel, tmp_path_factory.mktemp("venv"))


def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_a_wheel_has_two_names_at_its_top(checkout, tmp_path):
    files = names(built(checkout, "wheel", tmp_path))
    assert sorted({f.partition("/")[0] for f in files if ".dist-info/" not in f}) == OURS
    inside = {"backends/cpu.py", "backends/py.typed", "milestones/xor.py", "milestones/__main__.py", "test_tour.py"}
    assert {f"tinytorch/{name}" for name in inside} <= set(files)
    assert len(files) == len(set(files))


def test_an_editable_wheel_is_a_folder_with_two_links(checkout, tmp_path):
    wheel = built(checkout, "editable", tmp_path)
    (pth,) = [f for f in names(wheel) if ".dist-info/" not in f]
    with zipfile.ZipFile(wheel) as archive:
        folder = Path(archive.read(pth).decode())
    assert sorted(p.name for p in folder.iterdir()) == OURS
    assert all((folder / name).samefile(checkout / name) for name in OURS)


def test_nothing_of_a_users_is_disturbed(installed, tmp_path):
    for name, text in THEIRS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    plugins = "-p", "no:randomly", "-p", "no:xdist", "-p", "no:cacheprovider"
    out = run(installed, "-m", "pytest", "-q", "--device", "cpu", *plugins, cwd=tmp_path)
    assert "2 passed" in out
    out = run(installed, "-m", "tinytorch", "milestones", "perceptron", cwd=tmp_path)
    assert "1957 perceptron: AND" in out


def test_no_other_name_is_there(installed, tmp_path):
    code = (
        "from importlib.util import find_spec\n"
        "names = 'backends', 'benchmarks', 'conftest', 'milestones', 'tests', 'tools'\n"
        "print([n for n in names if find_spec(n)])\n"
        "import tinytorch.milestones.xor, tinytorch.backends.cpu"
    )
    assert run(installed, "-c", code, cwd=tmp_path) == "[]\n"


@pytest.mark.skipif("TINYTORCH_TYPES" not in os.environ, reason="slow; tox -e types runs it, by TINYTORCH_TYPES=1")
def test_a_type_checker_finds_everything(installed, tmp_path):
    (tmp_path / "backends").mkdir()
    (tmp_path / "backends/__init__.py").write_text("WHO = 'the user'\n")
    (tmp_path / "use.py").write_text(
        "import backends\nimport tinytorch\nfrom tinytorch.backends import Device\n"
        "from tinytorch.backends.standard import counts\nfrom tinytorch.milestones import xor\n\n"
        "def f(d: Device) -> None:\n"
        "    reveal_type(d)\n    reveal_type(backends.WHO)\n    reveal_type(xor.train().ok)\n"
    )
    out = run(sys.executable, "-m", "mypy", "--python-executable", str(installed), "--strict", "use.py", cwd=tmp_path)
    assert [line.partition("Revealed type is ")[2].strip('"')[:32] for line in out.splitlines()[:3]] == [
        "tinytorch.backends.device.Device",
        "str",
        "bool",
    ]
    assert "Success" in out


def test_import_backends_in_a_checkout_gives_the_same_modules():
    code = (
        "import backends.strict, backends.cpu, backends, tinytorch\n"
        "from backends.registry import device\n"
        "print(backends is tinytorch.backends, backends.cpu is tinytorch.backends.cpu,\n"
        "      device('cpu') is tinytorch.device('cpu'), tinytorch.backends.device is device,\n"
        "      backends.strict.__name__, backends.strict.__spec__.name)"
    )
    pytest.importorskip("array_api_strict")
    assert run(sys.executable, "-c", code, cwd=ROOT) == "True True True True" + 2 * " tinytorch.backends.strict" + "\n"


@pytest.fixture
def without_links(checkout, tmp_path):
    """The checkout on a system that has no links: in their place stand files."""
    folder = tmp_path / "checkout"
    shutil.copytree(checkout, folder, symlinks=True, ignore=shutil.ignore_patterns(".editable"))
    for name in ("backends", "milestones"):
        link = folder / "tinytorch" / name
        assert link.is_symlink()
        link.unlink()
        link.write_text(f"../{name}")
    return folder


def test_a_checkout_without_links_works(without_links):
    code = "import tinytorch.milestones.xor, tinytorch.backends.cpu as cpu; print(cpu.__file__)"
    out = run(sys.executable, "-c", code, cwd=without_links)
    assert Path(out.strip()).samefile(without_links / "backends/cpu.py")
    files = names(built(without_links, "wheel", without_links.parent))
    assert {"tinytorch/backends/cpu.py", "tinytorch/milestones/xor.py"} <= set(files)
    assert "tinytorch/backends" not in files


def test_an_editable_install_without_links_is_a_hook(without_links, tmp_path):
    pytest.importorskip("hatchling", reason="the build backend is not installed: pip install hatchling")
    pytest.importorskip("editables", reason="what the build backend makes hooks with is not installed")
    refuse = "import pathlib\ndef refuse(*args): raise OSError\npathlib.Path.symlink_to = refuse\n"
    out = run(sys.executable, "-c", refuse + BUILD, "build_editable", str(tmp_path), cwd=without_links)
    python = environment(tmp_path / out.split()[-1], tmp_path / "venv")
    code = (
        "import tinytorch.backends.cpu, pytest_tinytorch\nfrom importlib.util import find_spec\n"
        "print(tinytorch.__file__, find_spec('conftest'), find_spec('backends'))"
    )
    file, *others = run(python, "-c", code, cwd=tmp_path).split()
    assert others == ["None", "None"]
    assert Path(file).samefile(without_links / "tinytorch/__init__.py")
