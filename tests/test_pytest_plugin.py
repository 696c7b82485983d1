"""The pytest plugin, as projects meet it that know nothing of tinytorch: each test here is a project of its own.

Its devices are made up, so that the same happens on every machine: "toy:a" and "toy:b", on the CPU, and "gone", which
cannot be used.
"""

from __future__ import annotations

import re

import pytest

import pytest_tinytorch
from tinytorch import backends
from tinytorch.backends import Unavailable, register, registry, unregister
from tinytorch.backends.cpu import CpuDevice

TOY = """
from tinytorch import backends
from tinytorch.backends.cpu import CpuDevice

class ToyDevice(CpuDevice):
    is_gpu = True

    @classmethod
    def canonical(cls, index):
        if index not in ("", "a", "b"):
            raise ValueError(f"device: no 'toy:{index}'; there are toy:a, toy:b")
        return f"toy:{index or 'a'}"

    @classmethod
    def available(cls):
        return ["toy:a", "toy:b"]
"""
made: dict = {}
exec(TOY, made)
ToyDevice = made["ToyDevice"]


class GoneDevice(CpuDevice):
    @classmethod
    def canonical(cls, index):
        if index == "broken":
            raise OSError("libgone.so: no such file")
        raise Unavailable("there is no card", "put one in")

    @classmethod
    def available(cls):
        return cls.canonical("")


NO_CARD = "there is no card; to mend it: put one in"
ON_EACH = "def test_one(device): pass\n"


@pytest.fixture
def project(pytester, monkeypatch):
    """A project without a conftest, in the machine of this file."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.setattr(registry, "_families", {"cpu": registry.Family(CpuDevice)})
    monkeypatch.setattr(registry, "_devices", {})
    monkeypatch.setattr(registry, "_discovered", True)
    register("toy", ToyDevice)
    register("gone", GoneDevice)
    quick = " ".join(f"-p no:{plugin}" for plugin in ("randomly", "xdist", "xdist.looponfail", "hypothesispytest"))
    pytester.makeini(f"[pytest]\nfilterwarnings = error\naddopts = --strict-markers --strict-config {quick}")
    return pytester


def settings(project, line):
    ini = project.path / "tox.ini"
    ini.write_text(f"{ini.read_text()}\n{line}\n")


def ran(result):
    """The names of the tests that were run or skipped, in order, of a run with -v."""
    return re.findall(r"::(\S+) (?:PASSED|FAILED|SKIPPED|ERROR)", result.stdout.str())


def at_the_end(result):
    """What the report says of devices after the tests."""
    lines = result.outlines
    titles = [i for i, line in enumerate(lines) if re.fullmatch("-+ devices -+", line)]
    return [line for line in lines[titles[-1] + 1 :] if line and line[0] != "="] if titles else None


def refused(result, message):
    """Nothing was run, for that reason."""
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"ERROR: {message}" in result.stderr.str()
    return "passed" not in result.stdout.str()


# Which devices run ----------------------------------------------------------------------------------------------------


def test_the_example_of_the_docstring(pytester, strict):
    example = re.findall("```python\n(.*?)```", pytest_tinytorch.__doc__, re.DOTALL)[0]
    pytester.makepyfile(example)
    names = ["cpu", strict("device1")]
    result = pytester.runpytest("-v", *(f"--device={name}" for name in names))
    result.assert_outcomes(passed=3, skipped=1)
    assert set(ran(result)) == {f"{test}[{name}]" for test in ("test_softmax", "test_nonzero") for name in names}


def test_every_usable_device_where_nobody_names_any(project):
    project.makepyfile(ON_EACH)
    result = project.runpytest("-v")
    assert ran(result) == ["test_one[cpu]", "test_one[toy:a]", "test_one[toy:b]"]
    result.stdout.fnmatch_lines(["*collected 3 items", "devices: cpu, toy:a, toy:b", f"not usable: gone: {NO_CARD}"])
    assert at_the_end(result) == ["cpu: 1 passed", "toy:a: 1 passed", "toy:b: 1 passed", f"not usable: gone: {NO_CARD}"]


def test_the_header_says_what_the_devices_are(project, monkeypatch):
    monkeypatch.setattr(ToyDevice, "hardware", "made of tin")
    project.makepyfile(ON_EACH)
    result = project.runpytest("--device", "cpu", "--device", "toy:b")
    result.stdout.fnmatch_lines(["devices: cpu, toy:b (made of tin)"])


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ("toy:b cpu", ["toy:b", "cpu"]),
        ("toy toy:a cpu cpu", ["toy:a", "cpu"]),
        ("all", ["cpu", "toy:a", "toy:b"]),
        ("toy:b all", ["toy:b", "cpu", "toy:a"]),
        ("auto", ["toy:a"]),
    ],
)
def test_the_devices_asked_for(project, asked, names):
    settings(project, "devices = cpu")  # the option wins
    project.makepyfile(ON_EACH)
    result = project.runpytest("-v", *(word for name in asked.split() for word in ("--device", name)))
    assert ran(result) == [f"test_one[{name}]" for name in names]
    header = result.outlines.index(f"devices: {', '.join(names)}")
    assert header < next(i for i, line in enumerate(result.outlines) if line.startswith("collect"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone", NO_CARD),
        ("gone:broken", "gone:broken: OSError: libgone.so: no such file"),
        ("toy:c", "device: no 'toy:c'; there are toy:a, toy:b"),
        ("tyo", "device: no family 'tyo'; there are cpu, gone, toy and 'auto', with an index as in 'cuda:1'"),
    ],
)
def test_a_device_asked_for_that_is_not_there_is_an_error(project, name, message):
    project.makepyfile("def test_that_needs_no_device(): pass")
    assert refused(project.runpytest("-q", "--device", "cpu", "--device", name), f"--device {name}: {message}")


def test_devices_of_the_ini_file_run_where_they_are_usable(project):
    settings(project, "devices = toy:b gone:0 toy:c gone")
    project.makepyfile(ON_EACH)
    result = project.runpytest("-v")
    result.assert_outcomes(passed=1)
    assert ran(result) == ["test_one[toy:b]"]
    told = [
        f"not usable: gone:0, gone: {NO_CARD}",
        "not usable: toy:c: device: no 'toy:c'; there are toy:a, toy:b",
        "not asked for: cpu",
    ]
    result.stdout.fnmatch_lines(["devices: toy:b", *told, "collect*"], consecutive=False)
    assert at_the_end(result) == ["toy:b: 1 passed", *told]


def test_a_family_in_the_ini_file_that_nobody_knows_is_an_error(project):
    settings(project, "devices = cpu tyo")
    project.makepyfile("def test_that_needs_no_device(): pass")
    assert refused(project.runpytest("-q"), "the ini setting 'devices': device: no family 'tyo'; there are cpu, gone,")


def test_where_no_device_is_usable_that_is_seen(project):
    settings(project, "devices = gone")
    project.makepyfile(ON_EACH)
    result = project.runpytest("-v", "-rs")
    result.assert_outcomes(skipped=1)
    assert ran(result) == ["test_one[no-device]"]
    result.stdout.fnmatch_lines([f"SKIPPED*: no device for this test; devices: none; not usable: gone: {NO_CARD}*"])


def test_the_environment_does_not_choose(project, monkeypatch):
    monkeypatch.setenv("TINYTORCH_DEVICE", "toy:b")
    project.makepyfile(ON_EACH)
    assert ran(project.runpytest("-v")) == ["test_one[cpu]", "test_one[toy:a]", "test_one[toy:b]"]


def test_the_end_counts_what_came_of_each(project):
    project.makepyfile(
        """
        import pytest

        @pytest.fixture
        def broken(device):
            assert device.name != "toy:b"

        def test_error(broken): pass
        def test_failure(device): assert device.name != "toy:a"
        def test_pair(device_pair): pytest.skip("for once")
        @pytest.mark.xfail(strict=True)
        def test_expected(device): assert False
        def test_without(): pass
        """
    )
    result = project.runpytest("--device=toy:a", "--device=toy:b")
    result.assert_outcomes(passed=3, failed=1, errors=1, skipped=2, xfailed=2)
    assert at_the_end(result)[:2] == [
        "toy:a: 1 failed, 1 passed, 2 skipped, 1 xfailed",
        "toy:b: 1 error, 1 passed, 2 skipped, 1 xfailed",
    ]
    result = project.runpytest("--device=toy:a", "--device=toy:b", "-k", "toy:b and expected")
    assert at_the_end(result)[:2] == ["toy:a: no tests", "toy:b: 1 xfailed"]
    assert at_the_end(project.runpytest("--device=toy:a", "--collect-only")) is None


# Fixtures -------------------------------------------------------------------------------------------------------------


def test_xp_is_the_namespace_of_the_device(project):
    project.makepyfile(
        """
        from tinytorch import backends

        def test_both(xp, device):
            assert device is backends.device(device.name)
            assert xp is device.xp
            assert device.to_numpy(xp.zeros(2, device=device.native)).tolist() == [0, 0]

        def test_xp_alone(xp):
            assert xp.ones(1).shape == (1,)
        """
    )
    result = project.runpytest("--device=toy:b")
    result.assert_outcomes(passed=2)
    assert at_the_end(result)[0] == "toy:b: 2 passed"


def test_what_xp_makes_is_on_the_device(xp, tinytorch_device):
    assert backends.device_of(xp.zeros(1, device=tinytorch_device.native)) is tinytorch_device


def test_xp_has_its_device_current_and_device_alone_has_not(project):
    class Current(list):
        def __enter__(self):
            self.append("entered")

        def __exit__(self, *exc):
            self.append("left")

    class CurrentDevice(ToyDevice):
        native = Current()

        def activated(self):
            return self.native

    unregister("toy")
    register("toy", CurrentDevice)
    project.makepyfile(
        """
        import pytest

        @pytest.fixture
        def made(xp, device):
            assert device.native == ["entered"]

        def test_current(made, device):
            assert device.native == ["entered"]
            device.native.append("tested")

        def test_not(device):
            assert device.native == ["entered", "tested", "left"]
        """
    )
    project.runpytest("--device=toy:a").assert_outcomes(passed=2)


def test_pairs_are_of_different_devices_in_either_order(project):
    project.makepyfile(
        """
        def test_pair(device_pair, request):
            source, target = device_pair
            assert source is not target
            assert request.node.name == f"test_pair[{source.name}-{target.name}]"
        """
    )
    result = project.runpytest("-v")
    names = ("cpu", "toy:a", "toy:b")
    assert ran(result) == [f"test_pair[{a}-{b}]" for a in names for b in names if a != b]
    assert at_the_end(result)[0] == "cpu: 4 passed"
    result = project.runpytest("-v", "-rs", "--device=cpu")
    assert ran(result) == ["test_pair[no-device]"]
    result.stdout.fnmatch_lines(["SKIPPED*: no two devices for this test; devices: cpu"])


def test_other_parameters_go_with_it(project):
    project.makepyfile("import pytest\n@pytest.mark.parametrize('n', [1, 2])\ndef test_n(n, device): pass")
    result = project.runpytest("-v", "--device=cpu", "--device=toy:a")
    assert sorted(ran(result)) == ["test_n[1-cpu]", "test_n[1-toy:a]", "test_n[2-cpu]", "test_n[2-toy:a]"]


# The marker -----------------------------------------------------------------------------------------------------------


def marked(project, *marks, test="def test_one(device): pass", module=""):
    lines = ["import pytest", f"pytestmark = [{module}]", *(f"@pytest.mark.device({mark})" for mark in marks), test]
    project.makepyfile("\n".join(lines))
    return project.runpytest("-v", "-rs")


@pytest.mark.parametrize(
    ("only", "names"),
    [
        ("'toy'", ["toy:a", "toy:b"]),
        ("'toy:b'", ["toy:b"]),
        ("'toy:*'", ["toy:a", "toy:b"]),
        ("'*:a'", ["toy:a"]),
        ("['toy:a', 'cpu']", ["cpu", "toy:a"]),
    ],
)
def test_only_some_devices(project, only, names):
    result = marked(project, f"only={only}")
    result.assert_outcomes(passed=len(names))
    assert ran(result) == [f"test_one[{name}]" for name in names]


def test_a_device_that_is_skipped_is_seen(project):
    result = marked(project, "skip='toy', reason='toys cannot do that'")
    result.assert_outcomes(passed=1, skipped=2)
    assert ran(result) == ["test_one[cpu]", "test_one[toy:a]", "test_one[toy:b]"]
    result.stdout.fnmatch_lines(["SKIPPED*: toys cannot do that"])
    assert at_the_end(result)[:2] == ["cpu: 1 passed", "toy:a: 1 skipped"]


def test_all_markers_count(project):
    result = marked(
        project,
        "only=['cpu', 'toy:a']",
        "skip='toy:a', reason='a is out'",
        module="pytest.mark.device(only='toy'), pytest.mark.device(skip='cpu', reason='there is none left of these')",
    )
    result.assert_outcomes(skipped=1)
    assert ran(result) == ["test_one[toy:a]"]
    result.stdout.fnmatch_lines(["SKIPPED*: a is out"])


def test_nothing_left_is_one_skip_that_says_why(project):
    result = marked(project, "only='gone', reason='it needs a card'")
    result.assert_outcomes(skipped=1)
    assert ran(result) == ["test_one[no-device]"]
    expected = "no device for this test; only=['gone'], it needs a card; devices: cpu, toy:a, toy:b"
    assert f": {expected}\n" in result.stdout.str()


def test_pairs_are_made_of_what_the_marker_leaves(project):
    test = "def test_one(device_pair): pass"
    assert ran(marked(project, "only='toy'", test=test)) == ["test_one[toy:a-toy:b]", "test_one[toy:b-toy:a]"]
    marked(project, "skip='cpu', reason='it is slow'", test=test).assert_outcomes(passed=2, skipped=4)
    marked(project, "only='cpu'", test=test).assert_outcomes(skipped=1)


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        ("'toy'", "takes only=, skip= and reason=, not 'toy'\n"),
        ("'toy', only='cpu'", "takes only=, skip= and reason=, not 'toy'\n"),
        ("", "takes only=, skip= and reason=, not nothing"),
        ("reason='why'", "takes only=, skip= and reason=, not nothing"),
        ("onyl='toy'", "takes only=, skip= and reason=, not onyl\n"),
        ("only='toy', skpi='cpu', reason='why'", "takes only=, skip= and reason=, not skpi\n"),
        ("skip='toy'", "skip= needs a reason=, which the report shows"),
        ("skip='toy', reason=''", "skip= needs a reason=, which the report shows"),
        ("only='tyo'", "no family for 'tyo'; there are cpu, toy, gone"),
        ("only=['toy', 'tyo:a']", "no family for 'tyo:a'; there are cpu, toy, gone"),
        ("skip='tyo:*', reason='why'", "no family for 'tyo:*'; there are cpu, toy, gone"),
        ("only=''", "no family for ''; there are cpu, toy, gone"),
    ],
)
def test_a_mistake_in_a_marker_is_an_error(project, mark, message):
    result = marked(project, mark)
    result.assert_outcomes(errors=1)
    assert f".py::test_one: @pytest.mark.device: {message}" in result.stdout.str()


def test_a_marker_on_a_test_of_no_device_changes_nothing(project):
    result = marked(project, "only='gone'", test="def test_one(): pass")
    result.assert_outcomes(passed=1)
    assert at_the_end(result) is None


# With what others have ------------------------------------------------------------------------------------------------

OWN_OPTION = "def pytest_addoption(parser): parser.addoption('--device', default='theirs')\n"


def test_devices_registered_in_a_conftest(project):
    unregister("toy")
    project.makeconftest(TOY + "def pytest_configure(): backends.register('toy', ToyDevice)")
    project.makepyfile(ON_EACH)
    assert ran(project.runpytest("-v", "--device", "all")) == ["test_one[cpu]", "test_one[toy:a]", "test_one[toy:b]"]


def test_devices_of_another_distribution(pytester):
    info = pytester.mkdir("toys-1.0.dist-info")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[tinytorch.backends]\ntoy = toys:ToyDevice\n")
    pytester.makepyfile(toys=TOY, test_it=ON_EACH)
    result = pytester.runpytest_subprocess("-v", "--device", "all")
    assert set(ran(result)) >= {"test_one[cpu]", "test_one[toy:a]", "test_one[toy:b]"}
    result = pytester.runpytest_subprocess("-v", "--device", "toy:b")
    assert ran(result) == ["test_one[toy:b]"]


def test_another_s_option_is_left_to_them(project):
    project.makeconftest(OWN_OPTION)
    settings(project, "devices = toy:a")
    project.makepyfile(ON_EACH + "def test_option(request): assert request.config.getoption('--device') == 'mine'")
    result = project.runpytest("-v", "--device", "mine")
    result.assert_outcomes(passed=2)
    assert "test_one[toy:a]" in ran(result)
    result.stdout.fnmatch_lines(["devices: toy:a", "--device is the option of another plugin: the ini setting 'dev*"])


def test_another_plugin_s_option_is_left_to_it(project):
    project.makepyfile(other_plugin=OWN_OPTION)
    project.syspathinsert()
    project.makepyfile("def test_option(request): assert request.config.getoption('--device') == 'mine'")
    project.runpytest("-p", "other_plugin", "--device", "mine").assert_outcomes(passed=1)


def test_conftests_of_testpaths_may_add_options_beside_it(project):
    settings(project, "testpaths = lib")
    lib = project.mkdir("lib")
    (lib / "conftest.py").write_text("def pytest_addoption(parser): parser.addoption('--more', action='store_true')")
    (lib / "test_it.py").write_text(ON_EACH)
    for device in (["--device", "cpu"], ["--device=cpu"]):
        assert ran(project.runpytest("-v", *device, "--more")) == ["test_one[cpu]"]


@pytest.mark.parametrize(
    ("conftest", "test", "names"),
    [
        ("@pytest.fixture\ndef device(): return 1", "def test_one(device): assert device == 1", ["test_one"]),
        (
            "@pytest.fixture(params=[1, 2])\ndef device(request): return request.param",
            "def test_one(device): assert device in (1, 2)",
            ["test_one[1]", "test_one[2]"],
        ),
        ("", "@pytest.mark.parametrize('device', [1])\ndef test_one(device): assert device == 1", ["test_one[1]"]),
        (
            "def pytest_generate_tests(metafunc): metafunc.parametrize('device', [1])",
            "def test_one(device): assert device == 1",
            ["test_one[1]"],
        ),
        (
            "def pytest_generate_tests(metafunc): metafunc.parametrize('xp', [1])",
            "def test_one(xp): assert xp == 1",
            ["test_one[1]"],
        ),
        (
            "def pytest_generate_tests(metafunc): metafunc.parametrize('device', [1])",
            "def test_one(device, xp):\n    assert device == 1\n    assert xp.ones(1) == 1",
            ["test_one[1-toy:a]"],
        ),
        (
            "@pytest.fixture\ndef device(tinytorch_device): return tinytorch_device.name",
            "def test_one(device): assert device == 'toy:a'",
            ["test_one[toy:a]"],
        ),
        (
            "@pytest.fixture\ndef place(tinytorch_device): return tinytorch_device.name",
            "def test_one(place): assert place == 'toy:a'",
            ["test_one[toy:a]"],
        ),
    ],
    ids=["fixture", "fixture-with-params", "mark", "hook", "hook-xp", "hook-beside-xp", "of-ours", "of-ours-renamed"],
)
def test_a_project_s_own_wins(project, conftest, test, names):
    settings(project, "devices = toy:a")
    project.makeconftest("import pytest\n" + conftest)
    project.makepyfile("import pytest\n" + test)
    result = project.runpytest("-v")
    result.assert_outcomes(passed=len(names))
    assert sorted(ran(result)) == names


def test_a_device_that_no_argument_asks_for_says_so(project):
    project.makepyfile("def test_one(request): request.getfixturevalue('device')")
    result = project.runpytest()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*::test_one has no device: name 'device', 'xp' or 'device_pair' among the arguments *"]
    )


def test_it_can_be_turned_off(project):
    project.makepyfile(ON_EACH)
    result = project.runpytest("-p", "no:tinytorch")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*fixture 'device' not found"])


IMPORTED = """
import sys

def pytest_unconfigure():
    names = "numpy", "tinytorch", "array_api_compat", "array_api_strict", "cupy", "torch", "jax", "dpnp"
    print("imported:", *[name for name in names if name in sys.modules])
"""


@pytest.mark.parametrize(
    ("args", "test", "imported"),
    [
        ([], "def test_one(): pass", ""),
        ([], "import pytest\n@pytest.mark.device('theirs')\ndef test_one(device_of_mine=1): pass", ""),
        (["--device", "cpu"], ON_EACH, " numpy tinytorch"),
    ],
    ids=["unused", "marker-of-theirs", "cpu"],
)
def test_nothing_is_imported_that_is_not_used(pytester, args, test, imported):
    pytester.makeconftest(IMPORTED)
    pytester.makepyfile(test)
    result = pytester.runpytest_subprocess("-s", *args, "-p", "no:hypothesispytest", "-p", "no:randomly")
    result.assert_outcomes(passed=1)
    assert re.search("imported:(.*)", result.stdout.str()).group(1) == imported


def test_with_xdist_and_in_random_order(pytester):
    pytester.makeconftest(TOY + "backends.register('toy', ToyDevice)")
    pytester.makepyfile(
        "import pytest\n"
        "@pytest.mark.parametrize('n', range(3))\n"
        "def test_n(n, device): pass\n"
        "def test_pair(device_pair): pass\n"
        "@pytest.mark.device(skip='cpu', reason='why')\n"
        "def test_skip(xp): pass\n"
    )
    devices = ["--device", "cpu", "--device", "toy:b"]
    for args in (["-n", "2", *devices], ["-p", "randomly", *devices]):
        result = pytester.runpytest_subprocess(*args)
        result.assert_outcomes(passed=9, skipped=1)
        assert at_the_end(result)[:2] == ["cpu: 5 passed, 1 skipped", "toy:b: 6 passed"]
        result.stdout.fnmatch_lines(["devices: cpu, toy:b"])
    result = pytester.runpytest_subprocess("-n", "2")  # nobody named any: the report is made where nothing is collected
    assert any(re.fullmatch(r"toy:a: \d+ passed", line) for line in at_the_end(result))
    assert pytester.runpytest_subprocess("-n", "2", "--device", "nonsense").ret == pytest.ExitCode.USAGE_ERROR


def test_wide_fixtures_and_hypothesis_may_ask_for_the_device(pytester, strict):
    strict("device1")
    pytester.makepyfile(
        """
        import pytest
        from hypothesis import given, strategies as st

        @pytest.fixture(scope="module")
        def table(device):
            return device.xp.ones(3, device=device.native)

        @pytest.fixture(scope="session")
        def big(xp, device):
            return xp.ones(4, device=device.native)

        @given(n=st.integers(0, 3))
        def test_given(xp, device, n):
            assert xp.ones(n, device=device.native).shape == (n,)

        def test_wide(table, big, device):
            assert (table.shape, big.shape) == ((3,), (4,))
            assert table.device == big.device == device.xp.ones(1, device=device.native).device
        """
    )
    pytester.runpytest("--device=cpu", "--device=strict:device1").assert_outcomes(passed=4)
