"""The doctor: what it calls failed, what unsupported, and that it finds every kind of fault there is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import array_api_compat.numpy as xp
import numpy as np
import pytest

import tinytorch
from tests.thirdparty import register
from tinytorch import backends, cli
from tinytorch.autograd import op
from tinytorch.parity import examine, examiner, references
from tinytorch.parity.cases import CASES, Case, normal
from tinytorch.parity.reads import Reads

SOME = ("add", "expm1", "take", "linear", "embedding", "sort", "scatter_add")
ROOT = Path(__file__).parents[1]


def failed(card):
    return {(f.name, f.what) for f in card.failed}


def unsupported(card):
    return {(f.name, f.what) for f in card.unsupported}


def test_nothing_fails_on_the_cpu_or_a_strict_device(strict):
    for name in ("cpu", strict("device1")):
        card = examine(name)
        assert card.failed == []
        assert {f.where for f in card.unsupported} <= {"getitem-mask", "getitem-mask-rows"}
        assert set(card.dtypes.values()) == {"works"}
        assert card.scatter == "works"
        assert card.index_check == "at once"
        assert set(card.names("values", "passed") + card.names("values", "unsupported")) == {c.op for c in CASES}
        assert card.names("second order", "passed") == sorted({c.op for c in CASES if c.gradient})


def test_nothing_fails_on_any_device(device):
    card = examine(device, SOME)
    assert card.failed == []
    assert {f.name for f in card.unsupported} <= {d for d in card.dtypes if d.startswith("uint")}
    assert card.host_copies == {}


def test_a_device_without_float64_is_examined_in_float32(strict):
    card = examine(strict("no_float64"), [*SOME, "getitem"])
    assert card.dtypes["float64"] == "absent"
    assert card.ok
    assert card.count("second order")["passed"] > 0
    assert {f.dtype for f in card.unsupported} == {"float32"}


def test_a_healthy_third_party_has_a_clean_card(monkeypatch):
    card = examine(register(monkeypatch))
    assert (card.failed, card.unsupported) == ([], [])
    assert card.count("gradient") == {
        "passed": len({c.op for c in CASES if c.gradient}),
        "failed": 0,
        "unsupported": 0,
    }


# Failed -----------------------------------------------------------------------------------------------------------


def test_a_wrong_number_in_one_element_is_found_and_only_in_its_op(monkeypatch):
    def expm1(x):
        out = xp.expm1(x)
        out.flat[-1] += 1e-3
        return out

    card = examine(register(monkeypatch, expm1=expm1))
    assert failed(card) == {("expm1", "values")}
    assert unsupported(card) == set()
    assert {f.dtype for f in card.failed} == {"float32", "float64"}
    assert "1 of 12 elements are wrong; the most at (2, 3):" in card.failed[0].message
    assert not card.ok


def test_an_error_below_float32_is_found_in_float64(monkeypatch):
    card = examine(register(monkeypatch, expm1=lambda x: xp.expm1(x) * (1 + 1e-7)), ["expm1"])
    assert [(f.name, f.dtype) for f in card.failed] == [("expm1", "float64")]


@pytest.mark.parametrize("order", ["gradient", "second order"])
def test_a_wrong_rule_is_found_in_its_order(monkeypatch, order):
    """The values of this op are right, and so are its gradients where only its second order is wrong."""

    @op(kinds="f")
    def twisted(dev, x, /):
        taped = getattr(dev, "native", None) is third  # the body runs on tensors, for rules that are recorded
        factor = 3.03 if (dev is third if order == "gradient" else taped) else 3.0
        return x**3, lambda g: g * factor * x * x

    third = register(monkeypatch)
    monkeypatch.setattr(tinytorch.ops, "twisted", twisted, raising=False)
    monkeypatch.setattr(references, "twisted", lambda x: x**3, raising=False)
    monkeypatch.setattr(examiner, "CASES", [Case("twisted", (normal(3),))])
    assert failed(examine(third)) == {("twisted", order)}


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("out of luck"), "out of luck"),
        (AttributeError("'NoneType' object has no attribute 'x'", name="x", obj=None), "AttributeError"),
        (TypeError("no such thing"), "TypeError"),
    ],
)
def test_a_crash_is_a_failure(monkeypatch, error, message):
    def expm1(x):
        raise error

    card = examine(register(monkeypatch, expm1=expm1), ["expm1", "exp"])
    assert failed(card) == {("expm1", "values")}
    assert unsupported(card) == set()
    assert message in str(card.failed[0])


def test_a_crash_while_a_missing_function_is_made_up_for_is_a_failure(monkeypatch):
    def expm1(x):
        try:
            return third.xp.no_such_function(x)
        except AttributeError:
            raise RuntimeError("nor this") from None

    third = register(monkeypatch, expm1=expm1)
    assert failed(examine(third, ["expm1"])) == {("expm1", "values")}


def test_a_wrong_dtype_is_a_failure(monkeypatch):
    card = examine(register(monkeypatch, expm1=lambda x: xp.expm1(x.astype("float64"))), ["expm1", "exp"])
    assert [(f.name, f.dtype, f.message) for f in card.failed] == [
        ("expm1", "float32", "the dtype is float64, not float32")
    ]


def test_a_result_on_another_device_is_a_failure(monkeypatch):
    elsewhere = classmethod(lambda cls, array: "fourth" if array.shape == (3, 4) else "third")
    card = examine(register(monkeypatch, {"of": elsewhere}), ["exp", "scatter_add"])
    assert failed(card) == {("exp", "values")}
    assert card.failed[0].message == "the result is not on third, but on fourth"


def test_lost_updates_in_scatter_are_found(monkeypatch):
    def scatter_add(self, values, indices, size):
        out = np.zeros((size, *values.shape[1:]), values.dtype)
        out[indices] += values  # of equal indices, one counts
        return out

    card = examine(register(monkeypatch, {"scatter_add": scatter_add}), ["embedding", "linear", "scatter_add"])
    assert card.scatter == "fails"
    assert failed(card) == {
        ("scatter_add", "duplicate indices"),
        ("scatter_add", "values"),
        ("embedding", "gradient"),
    }


def test_indices_that_are_not_checked_are_found(monkeypatch):
    card = examine(register(monkeypatch, {"check_index": lambda self, *args, **kwargs: None}), ["exp"])
    assert failed(card) == {("check_index", "an index out of range")}
    assert card.index_check == "fails"


def test_an_index_check_may_be_put_off(monkeypatch):
    def synchronize(self):
        raise IndexError("now")

    methods = {"check_index": lambda self, *args, **kwargs: None, "synchronize": synchronize}
    card = examine(register(monkeypatch, methods), ["exp"])
    assert card.ok
    assert card.index_check == "later"


def test_values_lost_on_the_way_are_found(monkeypatch):
    def to_numpy(self, array):
        return np.clip(array, -1000, 1000) if array.dtype == "int64" else np.array(array)

    card = examine(register(monkeypatch, {"to_numpy": to_numpy}), ["exp"])
    assert failed(card) == {("int64", "there and back")}
    assert card.dtypes["int64"] == "fails: there and back"
    assert card.dtypes["int32"] == "works"


# Unsupported --------------------------------------------------------------------------------------------------------


def test_a_function_that_is_absent_is_unsupported(monkeypatch):
    card = examine(register(monkeypatch, expm1=None))
    assert unsupported(card) == {("expm1", "values")}
    assert card.ok


def test_a_function_that_is_absent_where_the_namespace_looks_is_unsupported(monkeypatch):
    inner = ModuleType("inner")
    vars(inner).update({k: v for k, v in vars(xp).items() if k != "expm1"})

    class Delegating:
        def __getattr__(self, name):
            return getattr(inner, name)

    card = examine(register(monkeypatch, {"xp": Delegating()}), ["expm1", "exp"])
    assert unsupported(card) == {("expm1", "values")}
    assert card.ok


def test_a_function_that_is_not_implemented_is_unsupported(monkeypatch):
    def argsort(x, **kwargs):  # by which tinytorch sorts
        raise NotImplementedError("no sorting here")

    card = examine(register(monkeypatch, argsort=argsort), ["sort", "exp"])
    assert unsupported(card) == {("sort", "values")} | {(d, "sort") for d in card.dtypes if d != "bool"}
    assert card.dtypes["uint8"] == "works, but for sort"
    assert card.ok


def test_a_method_that_arrays_do_not_have_is_unsupported(monkeypatch, strict):
    case = Case("exp", (normal(3),), lambda xp, x: x.array.no_such_method())
    monkeypatch.setattr(examiner, "CASES", [case])
    assert unsupported(examine(strict("device1"))) == {("exp", "values")}


def test_a_dtype_that_is_absent_is_no_failure(monkeypatch):
    def dtype(self, dtype):
        if np.dtype(dtype).name in ("float64", "uint16"):
            raise TypeError(f"third has no {dtype}")
        return np.dtype(dtype)

    card = examine(register(monkeypatch, {"dtype": dtype}), ["exp", "embedding"])
    assert (card.dtypes["float64"], card.dtypes["uint16"], card.dtypes["float32"]) == ("absent", "absent", "works")
    assert card.ok
    case = Case("exp", (normal(3),), lambda xp, x: tinytorch.zeros(3, dtype="uint16", device=x.device))
    monkeypatch.setattr(examiner, "CASES", [case])
    card = examine("third")
    assert unsupported(card) == {("exp", "values")}
    assert card.ok


def test_a_device_without_the_default_dtype_fails(monkeypatch):
    def dtype(self, dtype):
        if np.dtype(dtype).kind == "f":
            raise TypeError(f"third has no {dtype}")
        return np.dtype(dtype)

    card = examine(register(monkeypatch, {"dtype": dtype}), ["exp"])
    assert ("float32", "dtype") in failed(card)
    assert not card.ok


# Host copies --------------------------------------------------------------------------------------------------------


def test_host_copies_in_ops_and_rules_are_noted(monkeypatch, strict):
    dev = backends.device(strict("device1"))
    kind = dev.array_type
    before = dict(vars(kind)), dict(vars(dev))

    library = {"__name__": "array_api_strict._somewhere"}
    exec("def read(x): return bool(x)", library)  # what the library reads is its own affair

    @op(kinds="f")
    def peeping(dev, x, /):
        float(x[0])
        if isinstance(x, kind):
            library["read"](x[0])

        def rule(g):
            native = getattr(dev, "native", None)
            if native is not None and hasattr(g, "to_device") and not isinstance(g, tinytorch.Tensor):
                dev.to_numpy(g)
            return g

        return x + 0.0, rule

    monkeypatch.setattr(tinytorch.ops, "peeping", peeping, raising=False)
    monkeypatch.setattr(references, "peeping", lambda x: x, raising=False)
    cases = [Case("peeping", (normal(3),)), next(c for c in CASES if c.op == "embedding")]
    monkeypatch.setattr(examiner, "CASES", cases)
    card = examine(dev)
    assert card.failed == []
    assert card.host_copies == {"peeping": ["__float__", "to_numpy"]}  # the index check of embedding is no op's affair
    assert card.sees_implicit
    assert (dict(vars(kind)), dict(vars(dev))) == before


def test_a_watch_leaves_no_trace_also_of_methods_that_a_class_inherits(monkeypatch):
    class Base:
        def __float__(self):
            return 1.5

    class Arrays(Base):
        def item(self):
            return 2

    dev = register(monkeypatch, {"array_type": Arrays, "library": "nobody"})
    before = dict(vars(Arrays)), dict(vars(dev))
    reads = Reads(dev)
    with reads.watching(), reads.noted() as found:
        assert (float(Arrays()), Arrays().item()) == (1.5, 2)
    assert found == ["__float__", "item"]
    assert (dict(vars(Arrays)), dict(vars(dev))) == before
    assert reads.sees_implicit


def test_numpy_arrays_cannot_be_watched_and_the_card_says_so(monkeypatch, capsys):
    register(monkeypatch)
    assert cli.main(["doctor", "--device", "third", "--op", "exp"]) == 0
    assert "none; implicit conversions of numpy's arrays cannot be seen" in capsys.readouterr().out


# Somebody else's package --------------------------------------------------------------------------------------------

BACKEND = """
import array_api_compat.numpy as xp
import numpy as np
from tinytorch.backends import Device

class Namespace:
    def __init__(self, **functions):
        self.functions = functions
    def __getattr__(self, name):
        return self.functions.get(name) or getattr(xp, name)

class Healthy(Device):
    library, xp, native, array_type = "numpy", Namespace(), "cpu", np.ndarray
    name_of = "healthy"
    @classmethod
    def canonical(cls, index):
        return cls.name_of
    @classmethod
    def available(cls):
        return [cls.name_of]
    @classmethod
    def of(cls, array):
        return cls.name_of
    def to_numpy(self, array):
        return np.array(array)

class Crooked(Healthy):
    name_of = "crooked"
    xp = Namespace(expm1=lambda x: xp.expm1(x) + 0.001)
"""


@pytest.fixture
def installed(tmp_path):
    """Run the doctor where a distribution is installed that offers the devices "healthy" and "crooked"."""
    (tmp_path / "crooked_backend.py").write_text(BACKEND)
    info = tmp_path / "crooked_backend-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: crooked-backend\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[tinytorch.backends]\nhealthy = crooked_backend:Healthy\ncrooked = crooked_backend:Crooked\n"
    )

    def run(*arguments):
        paths = os.pathsep.join([str(tmp_path), str(ROOT)])
        return subprocess.run(
            [sys.executable, "-W", "error", "-m", "tinytorch", "doctor", *arguments],
            env=os.environ | {"PYTHONPATH": paths},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_another_packages_device_gets_its_card(installed):
    done = installed("--device", "crooked")
    assert done.returncode == 1, done.stderr
    assert "FAILED: expm1, values, float32: 12 of 12 elements are wrong" in done.stdout
    assert "crooked: fails: expm1; " in done.stdout
    assert "unsupported:" not in done.stdout


def test_another_packages_healthy_device_gets_a_clean_card(installed):
    done = installed("--device", "healthy", "--json")
    assert done.returncode == 0, done.stderr
    card = json.loads(done.stdout)["healthy"]
    assert (card["ok"], card["failed"], card["unsupported"]) == (True, [], [])
    assert len(card["checked"]["values"]) == len({c.op for c in CASES})


def test_the_command_says_what_it_cannot_do(capsys):
    assert cli.main(["doctor", "--device", "abacus"]) == 2
    assert "no family 'abacus'" in capsys.readouterr().err
    assert cli.main(["doctor", "--device", "cpu", "--op", "expm2"]) == 2
    assert "the table has no expm2" in capsys.readouterr().err
