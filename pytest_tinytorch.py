"""A pytest plugin: tests that run on every device of every array library.

The plugin is installed with tinytorch, and works in every project without a conftest. A test that asks for `xp` runs
once for each device:

```python
import numpy as np
import pytest
from array_api_compat import array_namespace


def softmax(x):
    xp = array_namespace(x)
    e = xp.exp(x - xp.max(x))
    return e / xp.sum(e)


def test_softmax(xp, device):
    x = xp.asarray([1.0, 1.0], device=device.native)
    y = softmax(x)
    assert y.device == x.device
    np.testing.assert_allclose(device.to_numpy(y), [0.5, 0.5])


@pytest.mark.device(skip="strict", reason="its shapes never depend on values")
def test_nonzero(xp, device):
    assert xp.nonzero(xp.asarray([0, 7], device=device.native))[0].shape == (1,)
```

Fixtures:

* `device`: the device, a `tinytorch.backends.Device`. `device.native` is the library's own device, for `device=`;
  `device.to_numpy` and `device.from_numpy` copy to and from the host; `device.name` is the name in the test's id:
  `test_softmax[cuda:0]`.
* `xp`: the array namespace of the device. If the library has a current device, it is this device until the test ends:
  CuPy's functions take no `device=` and allocate on the current device.
* `device_pair`: two different devices that run, in either order, for tests of transfers.

These fixtures live as long as the tests of a device, which pytest runs one after another. So fixtures of a module or of
the session may ask for them, and tests with Hypothesis' `@given`.

Which devices run:

* `pytest --device cpu --device strict:device1`: these devices. A family stands for the device that `tinytorch.device`
  finds: "cuda" is the current CUDA device. "all" is every usable device, "auto" the first usable GPU, else the CPU. A
  device that is not usable is an error, never a skip.
* `devices = ["cpu", "cuda:0"]` in the ini file: the default. Devices of this list that are not usable do not run, and
  the header and the end of the report say why.
* Neither: every usable device. The environment variable `TINYTORCH_DEVICE`, the default of new arrays, has no effect:
  the devices that it left out would look tested.

The marker `device` narrows the devices of a test, a class or a module. All markers of a test count. A pattern is a
family ("cuda"), a name ("cuda:1") or a glob ("torch:*"):

* `@pytest.mark.device(only=["cpu", "cuda"])`: there is no test for other devices. If no device is left, the test is
  skipped once, and says why; `reason=` adds to the text.
* `@pytest.mark.device(skip="strict", reason="...")`: on these devices the test is skipped, for this reason.

A fixture or parameter of the project wins over a fixture of the plugin with its name, and may ask for
`tinytorch_device`:

```python
@pytest.fixture
def device(tinytorch_device):
    return tinytorch_device.native
```

An option `--device` of the project or of another plugin wins, too. Then the ini setting alone chooses the devices.
`-p no:tinytorch` turns this plugin off.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Generator
from contextlib import ExitStack
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:  # at run time in functions only: many projects have the plugin and do not use it
    from tinytorch.backends import Device

MARKER = "device(only=..., skip=..., reason=...): the devices, by family, name or glob, that the test is for"


class Choice(NamedTuple):
    """Which devices the tests run on."""

    names: list[str]  # canonical
    absent: dict[str, list[str]]  # reason -> names or families that do not run


CHOICE = pytest.StashKey[Choice]()
PARAMETRIZED = {  # (fixture, number of devices) -> fixtures through which tests get it, unless a project has its own
    ("tinytorch_device", 1): {"device", "xp"},
    ("tinytorch_device_pair", 2): {"device_pair"},
}


# Options --------------------------------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> Generator[None, Any, Any]:
    """Add `--device` last: another plugin's option of this name must go on working."""
    known = early_config.known_args_namespace
    values = [value for flag, value in itertools.pairwise(args) if flag == "--device"]
    known.file_or_dir = [path for path in known.file_or_dir if path not in values or os.path.exists(path)]
    result = yield
    missing = object()
    if early_config.getoption("--device", missing) is missing:
        parser.getgroup("tinytorch", "devices of array libraries").addoption(
            "--device",
            action="append",
            dest="tinytorch_devices",
            metavar="NAME",
            help="run the tests on this device, such as 'cpu' or 'cuda:1'; may be repeated; 'all' is every usable one, "
            "'auto' the first usable GPU, else the CPU",
        )
    return result


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the ini setting `devices`."""
    parser.addini("devices", "devices that the tests run on where they are usable, without --device", type="args")


@pytest.hookimpl(trylast=True)  # after conftests, which may register devices
def pytest_configure(config: pytest.Config) -> None:
    """Find the devices that were named, so that a missing device is an error before anything runs."""
    config.addinivalue_line("markers", MARKER)
    if _named(config):
        _choice(config)


def _asked(config: pytest.Config) -> list[str]:
    texts: list[str] = config.getoption("tinytorch_devices", None) or []
    return [name.strip() for text in texts for name in text.split(",")]


def _named(config: pytest.Config) -> bool:
    return bool(_asked(config) or config.getini("devices"))


def _choice(config: pytest.Config) -> Choice:
    """The devices that run, found once: a library is imported when its device is first asked for."""
    if CHOICE not in config.stash:
        config.stash[CHOICE] = _choose(_asked(config), config.getini("devices"))
    return config.stash[CHOICE]


def _choose(asked: list[str], default: list[str]) -> Choice:
    from tinytorch import backends

    names: list[str] = []
    absent: dict[str, list[str]] = {}
    for name in asked or default or ["all"]:
        if name == "all":
            infos = backends.devices()
            names += [info.name for info in infos if info.usable]
            for info in infos:
                if not info.usable:
                    absent.setdefault(str(backends.Unavailable(info.reason, info.fix)), []).append(info.name)
            continue
        try:
            names.append(backends.device(name).name)
        except Exception as error:  # another distribution's device may raise anything
            said = str(error) if isinstance(error, ValueError | backends.Unavailable) else repr(error)
            if asked:
                raise pytest.UsageError(f"--device {name}: {said}") from error
            if name.partition(":")[0] not in backends.families():
                raise pytest.UsageError(f"the ini setting 'devices': {said}") from error
            absent.setdefault(said, []).append(name)
    return Choice(list(dict.fromkeys(names)), absent)


# Report ---------------------------------------------------------------------------------------------------------------


def pytest_report_header(config: pytest.Config) -> list[str]:
    """The devices that run, and why the others do not."""
    return _header(config) if _named(config) else []


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    """The header, if no devices were named: they are known once a test has asked for a device."""
    return _header(config) if CHOICE in config.stash and not _named(config) else []


def _header(config: pytest.Config) -> list[str]:
    from tinytorch import backends

    devices = [backends.device(name) for name in _choice(config).names]
    shown = [f"{d} ({d.hardware})" if d.hardware else str(d) for d in devices]
    lines = [f"devices: {', '.join(shown) or 'none'}", *_not_run(_choice(config))]
    if not hasattr(config.option, "tinytorch_devices"):
        lines.append("--device is the option of another plugin: the ini setting 'devices' says what runs")
    return lines


def _not_run(choice: Choice) -> list[str]:
    from tinytorch import backends

    lines = [f"not usable: {', '.join(names)}: {why}" for why, names in choice.absent.items()]
    named = [name.partition(":")[0] for name in itertools.chain(choice.names, *choice.absent.values())]
    others = [family for family in backends.families() if family not in named]
    return [*lines, f"not asked for: {', '.join(others)}"] if others else lines


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Write the devices of a test into its report. pytest-xdist sends reports from its workers to the main process."""
    report = yield
    params = item.callspec.params if hasattr(item, "callspec") else {}
    report.tinytorch_devices = [name for fixture, _ in PARAMETRIZED for name in params.get(fixture, ())]
    return report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The devices that ran, with their outcomes, and the devices that did not run, with the reason."""
    counts = Counter(
        (name, outcome)
        for outcome, reports in terminalreporter.stats.items()
        for report in reports
        for name in getattr(report, "tinytorch_devices", ())
        if outcome
    )
    if config.option.collectonly or not (counts or CHOICE in config.stash):
        return
    terminalreporter.section("devices", sep="-")
    for name in _choice(config).names:
        outcomes = [f"{number} {outcome}" for (device, outcome), number in sorted(counts.items()) if device == name]
        terminalreporter.write_line(f"{name}: {', '.join(outcomes) or 'no tests'}")
    for line in _not_run(_choice(config)):
        terminalreporter.write_line(line)


# Parameters -----------------------------------------------------------------------------------------------------------


@pytest.hookimpl(trylast=True)  # after the project's hooks
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test for each device, or each pair, that the markers leave."""
    given = {name for call in metafunc._calls[:1] for name in call.params}  # parameters from the project's hooks
    wanted = set(metafunc.fixturenames) - given
    for (fixture, size), users in PARAMETRIZED.items():
        if fixture in wanted and (users & wanted or not users & given):
            parameters = _parameters(metafunc.definition, _choice(metafunc.config), size)
            metafunc.parametrize(fixture, parameters, indirect=True)


def _parameters(test: pytest.Item, choice: Choice, size: int) -> list[Any]:
    names, told = choice.names, []
    skips: dict[str, str] = {}
    for mark in test.iter_markers("device"):
        only, skip, reason = _checked(test, mark)
        if only is not None:
            names = [name for name in names if _among(only, name)]
            told.append(f"only={only}" + (f", {reason}" if reason else ""))
        skips |= {name: reason for name in choice.names if _among(skip, name)}
    groups = list(itertools.permutations(names, size))
    if not groups:
        ran = ", ".join(choice.names) or "; ".join(["none", *_not_run(choice)])
        why = "; ".join([f"no {'device' if size == 1 else 'two devices'} for this test", *told, f"devices: {ran}"])
        return [pytest.param((), id="no-device", marks=pytest.mark.skip(reason=why))]
    return [
        pytest.param(group, id="-".join(group), marks=[pytest.mark.skip(reason=skips[n]) for n in group if n in skips])
        for group in groups
    ]


def _checked(test: pytest.Item, mark: pytest.Mark) -> tuple[list[str] | None, list[str], str]:
    """The settings of a marker. A mistake in a marker is an error, since it would leave out tests unseen."""
    from tinytorch import backends

    def wrong(what: str) -> None:
        pytest.fail(f"{test.nodeid}: @pytest.mark.device: {what}", pytrace=False)

    patterns = dict(mark.kwargs)
    reason = patterns.pop("reason", "")
    unknown = [*map(repr, mark.args), *sorted(patterns.keys() - {"only", "skip"})]
    if unknown or not patterns:
        wrong(f"takes only=, skip= and reason=, not {', '.join(unknown) or 'nothing'}")
    if "skip" in patterns and not reason:
        wrong("skip= needs a reason=, which the report shows")
    lists = {key: [value] if isinstance(value, str) else list(value) for key, value in patterns.items()}
    for pattern in itertools.chain(*lists.values()):
        if not any(fnmatchcase(family, pattern.partition(":")[0]) for family in backends.families()):
            wrong(f"no family for {pattern!r}; there are {', '.join(backends.families())}")
    return lists.get("only"), lists.get("skip", []), reason


def _among(patterns: list[str], name: str) -> bool:
    return any(name.startswith(pattern + ":") or fnmatchcase(name, pattern) for pattern in patterns)


# Fixtures -------------------------------------------------------------------------------------------------------------


def _devices(request: pytest.FixtureRequest) -> list[Device]:
    from tinytorch import backends

    if not hasattr(request, "param"):
        test = request._pyfuncitem.nodeid
        pytest.fail(
            f"{test} has no device: name 'device', 'xp' or 'device_pair' among the arguments of the "
            f"test or of its fixtures, and {request.fixturename!r} among those of a fixture that replaces one of them",
            pytrace=False,
        )
    return [backends.device(name) for name in request.param]


@pytest.fixture(scope="session")
def tinytorch_device(request: pytest.FixtureRequest) -> Device:
    """`device`, for a fixture that replaces `device`."""
    (device,) = _devices(request)
    return device


@pytest.fixture(scope="session")
def tinytorch_device_pair(request: pytest.FixtureRequest) -> tuple[Device, Device]:
    """`device_pair`, for a fixture that replaces `device_pair`."""
    source, target = _devices(request)
    return source, target


@pytest.fixture(scope="session")
def device(tinytorch_device: Device) -> Device:
    """Each device that runs, a tinytorch.backends.Device."""
    return tinytorch_device


@pytest.fixture(scope="session")
def xp(tinytorch_device: Device) -> Any:
    """The array namespace of each device that runs. In a test that asks for `xp` the device is the current device."""
    return tinytorch_device.xp


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """Make the device the library's current device while a test with our `xp` is set up, runs and is taken down."""
    with ExitStack() as stack:
        names = item.callspec.params.get("tinytorch_device", ()) if hasattr(item, "callspec") else ()
        found = getattr(item, "_fixtureinfo", None)
        defined = found.name2fixturedefs.get("xp", ()) if found and names else ()
        if defined and defined[-1].func.__module__ == __name__:
            from tinytorch import backends

            (device,) = map(backends.device, names)
            stack.enter_context(device.activated())
        return (yield)


@pytest.fixture(scope="session")
def device_pair(tinytorch_device_pair: tuple[Device, Device]) -> tuple[Device, Device]:
    """Every two different devices that run, in either order."""
    return tinytorch_device_pair
