"""Which devices the tests run on, and what doctests may use.

Without an option: every usable one of "cpu", "cuda:0", "cuda:1" and "strict:device1"; the header says why the others do
not run. `--device NAME` (again for more, "all" for every usable one) runs just those, and fails if one is not usable.
"""

from __future__ import annotations

import pytest

import backends
import tinytorch
from tests.comparison import summary
from tinytorch import autograd

DEFAULT = ("cpu", "cuda:0", "cuda:1", "strict:device1")


def pytest_addoption(parser):
    parser.addoption("--device", action="append", metavar="NAME", help="run on this device; may be repeated; or 'all'")


def pytest_configure(config):
    asked = config.getoption("--device")
    infos = backends.devices()
    usable = [info.name for info in infos if info.usable]
    absent = [f"{info.name}: {info.reason}" for info in infos if not info.usable]
    if not asked:
        names = [name for name in DEFAULT if name in usable]
    elif asked == ["all"]:
        names = usable
    else:
        try:
            names = [backends.device(name).name for name in asked]
        except (ValueError, backends.Unavailable) as error:
            raise pytest.UsageError(f"--device: {error}") from None
    config.stash[DEVICES], config.stash[ABSENT] = names, absent


DEVICES = pytest.StashKey[list]()
ABSENT = pytest.StashKey[list]()


def pytest_report_header(config):
    lines = [f"devices: {', '.join(config.stash[DEVICES])}"]
    return lines + [f"not usable: {line}" for line in config.stash[ABSENT]]


def pytest_terminal_summary(terminalreporter):
    for line in summary():
        terminalreporter.write_line(line)


def pytest_generate_tests(metafunc):
    """`device`: each device. `other`: each but the CPU. `learner`: each that is meant for more than checks."""
    names = metafunc.config.stash[DEVICES]
    learners = names if metafunc.config.getoption("--device") else [n for n in names if not n.startswith("strict")]
    choices = {"device": names, "other": [n for n in names if n != "cpu"], "learner": learners}
    for fixture, chosen in choices.items():
        if fixture in metafunc.fixturenames:
            metafunc.parametrize(fixture, chosen)


@pytest.fixture(autouse=True)
def _doctest_names(doctest_namespace):
    doctest_namespace["tinytorch"] = tinytorch
    doctest_namespace["Tensor"] = tinytorch.Tensor


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    """A test meets neither the ops that another one made nor the default device of whoever runs it."""
    monkeypatch.setattr(autograd, "OPS", dict(autograd.OPS))
    monkeypatch.delenv("TINYTORCH_DEVICE", raising=False)


@pytest.fixture(autouse=True)
def _seeded():
    tinytorch.manual_seed(0)


@pytest.fixture
def strict():
    """strict("no_float64") is that fake device of array-api-strict, whichever devices the other tests run on."""

    def device(index):
        try:
            return backends.device(f"strict:{index}").name
        except (ValueError, backends.Unavailable) as error:
            return pytest.skip(str(error))

    return device
