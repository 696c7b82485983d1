"""Fixtures for our tests, beside the plugin `pytest_tinytorch`: seeds, devices by name, and names for doctests."""

from __future__ import annotations

import pytest

import pytest_tinytorch
import tinytorch
from tests.comparison import summary
from tests.thirdparty import ThirdParty
from tinytorch import autograd, backends
from tinytorch.backends import registry
from tinytorch.backends.cpu import CpuDevice

pytest_plugins = ["pytester"]


class _Second(ThirdParty):
    """NumPy again, in place of a device of another library when tests run on the CPU alone."""

    name = family = "second"
    memory = CpuDevice.memory


registry._devices["second"] = _Second("")  # found by name, and in no list


def pytest_terminal_summary(terminalreporter):
    for line in summary():
        terminalreporter.write_line(line)


def pytest_generate_tests(metafunc):
    names = metafunc.fixturenames
    asked = {"other": "tinytorch_device", "device_pair": "tinytorch_device_pair"}
    given = next((asked[name] for name in asked if name in names), "")
    if given and {*pytest_tinytorch._choice(metafunc.config).names} <= {"cpu"}:
        groups = [("second",)] if given == "tinytorch_device" else [("cpu", "second"), ("second", "cpu")]
        metafunc.parametrize(given, groups, ids=map("-".join, groups), indirect=True, scope="session")
    elif "other" in names or "library" in names:
        _only(metafunc, "cpu", "compares with the CPU")
    if "learner" in metafunc.fixturenames and not metafunc.config.getoption("--device"):
        _only(metafunc, "strict", "the strict devices are for checks, and learn when they are named")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Begin with the longest tests: the other processes would wait for a long test that starts last."""
    items.sort(key=lambda item: "tests/milestones/" not in item.nodeid and "tests/test_doctor" not in item.nodeid)


def _only(metafunc, but, reason):
    families = [family for family in backends.families() if family != but]
    metafunc.definition.add_marker(pytest.mark.device(only=families, reason=reason))


@pytest.fixture
def device(tinytorch_device):
    """Each device, by name."""
    return tinytorch_device.name


@pytest.fixture
def other(device):
    """Each device but the CPU; "second" if there is none."""
    return device


@pytest.fixture
def library(device):
    """Each device but the CPU."""
    return device


@pytest.fixture
def learner(device):
    """Each device that is not only for checks."""
    return device


@pytest.fixture(autouse=True)
def _doctest_names(doctest_namespace):
    doctest_namespace["tinytorch"] = tinytorch
    doctest_namespace["Tensor"] = tinytorch.Tensor


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    """A test meets neither the ops of another test nor the default device of its caller."""
    monkeypatch.setattr(autograd, "OPS", dict(autograd.OPS))
    monkeypatch.delenv("TINYTORCH_DEVICE", raising=False)


@pytest.fixture(autouse=True)
def _seeded():
    tinytorch.manual_seed(0)


@pytest.fixture
def strict():
    """strict("no_float64") is this fake device of array-api-strict, on whatever devices other tests run."""

    def device(index):
        try:
            return backends.device(f"strict:{index}").name
        except (ValueError, backends.Unavailable) as error:
            return pytest.skip(str(error))

    return device
