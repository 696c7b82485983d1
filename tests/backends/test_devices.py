"""Devices: their names, which is the default, which are usable and why not, and what all of them must do alike."""

from __future__ import annotations

import copy
import importlib
import importlib.metadata
import importlib.util
import itertools
import math
import mmap
import os
import subprocess
import sys
import threading
from collections import namedtuple
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

import tinytorch
from tinytorch import Tensor, backends
from tinytorch.backends import Device, Unavailable, cpu_memory, registry
from tinytorch.backends.cpu import CpuDevice
from tinytorch.testing import assert_close

ROOT = Path(__file__).parents[2]


def python(code, **variables):
    """What a new Python prints that runs the code."""
    env = {k: v for k, v in {**os.environ, **variables}.items() if v is not None}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def _registry(monkeypatch):
    """What a test registers is forgotten with it."""
    for name in ("_families", "_devices", "_refused"):
        monkeypatch.setattr(registry, name, getattr(registry, name).copy())
    monkeypatch.setattr(registry, "_discovered", True)


@pytest.fixture
def _default():
    yield
    tinytorch.set_default_device(None)


# Names ------------------------------------------------------------------------------------------------------------


def test_a_name_has_one_device(device):
    dev = tinytorch.device(device)
    assert tinytorch.device(device) is dev
    assert tinytorch.device(dev) is dev
    assert (str(dev), dev.name, repr(dev)) == (device, device, f"device('{device}')")
    assert copy.copy(dev) is dev
    assert copy.deepcopy({"device": dev})["device"] is dev


def test_every_usable_device_is_found_by_its_name():
    for info in tinytorch.devices():
        if info.usable:
            dev = tinytorch.device(info.name)
            assert (dev.name, dev.library) == (info.name, info.library)


def test_a_family_alone_is_its_first_device(strict):
    first = tinytorch.device(strict("CPU_DEVICE"))
    assert tinytorch.device("strict") is first
    assert tinytorch.device("strict:CPU_DEVICE") is first


def test_cuda_alone_is_the_current_cuda_device():
    cupy = _cupy()
    for i in range(cupy.cuda.runtime.getDeviceCount()):
        with cupy.cuda.Device(i):
            assert tinytorch.device("cuda").name == f"cuda:{i}"
    assert tinytorch.device("cuda:00") is tinytorch.device("cuda:0")


def test_an_unknown_family():
    with pytest.raises(
        ValueError, match=r"no family 'gpu'; there are cpu, cuda, jax, strict.* and 'auto', with an index as in"
    ):
        tinytorch.device("gpu:0")


def test_an_unknown_index(device):
    family = device.partition(":")[0]
    message = (
        "'cpu' is one device without an index, not 'cpu:99'" if family == "cpu" else f"no '{family}:99'; there are"
    )
    with pytest.raises(ValueError, match=message):
        tinytorch.device(f"{family}:99")


def test_a_device_is_named_by_a_string():
    with pytest.raises(TypeError, match="a name such as 'cpu' or 'cuda:1', not int"):
        tinytorch.device(0)


# The default ------------------------------------------------------------------------------------------------------


def test_the_default_is_the_cpu():
    assert tinytorch.default_device() is tinytorch.device("cpu")
    assert Tensor([1.0]).device is tinytorch.device(None)


@pytest.mark.usefixtures("_default")
def test_the_default_can_be_set(device):
    tinytorch.set_default_device(device)
    made = [Tensor([1.0]), tinytorch.zeros(2), tinytorch.randn(2), tinytorch.Linear(1, 1).weight]
    made += [tinytorch.PositionalEncoding(2).pe, *tinytorch.data.tinydigits()[0].tensors]
    assert {x.device.name for x in made} == {device}
    tinytorch.set_default_device(None)
    assert Tensor([1.0]).device.name == "cpu"


@pytest.mark.usefixtures("_default")
def test_a_default_that_does_not_exist_changes_nothing(device):
    tinytorch.set_default_device(device)
    with pytest.raises(ValueError, match="no family"):
        tinytorch.set_default_device("nonsense")
    assert tinytorch.default_device().name == device


@pytest.mark.usefixtures("_default")
def test_a_with_block_wins_over_what_is_set(other):
    cpu, dev = tinytorch.device("cpu"), tinytorch.device(other)
    tinytorch.set_default_device(other)
    with cpu as entered:
        assert entered is cpu
        assert tinytorch.default_device() is cpu
        with dev, cpu, dev:
            assert tinytorch.zeros(1).device is dev
        assert tinytorch.default_device() is cpu
        with pytest.raises(KeyError), dev:
            raise KeyError
        assert tinytorch.default_device() is cpu
    assert tinytorch.default_device() is dev


def test_a_with_block_is_of_one_thread(other):
    seen = []
    with tinytorch.device(other):
        thread = threading.Thread(target=lambda: seen.append(tinytorch.default_device().name))
        thread.start()
        thread.join()
    assert seen == ["cpu"]


def test_ops_never_ask_for_the_default(other):
    x = Tensor([[1.0, 2.0]], device="cpu", requires_grad=True)
    with tinytorch.device(other):
        y = (x @ x.mT).sum()
        y.backward()
        assert {y.device.name, x.grad.device.name, tinytorch.zeros_like(x).device.name} == {"cpu"}
        assert Tensor(x).device.name == "cpu"


@pytest.mark.usefixtures("_default")
def test_the_environment_names_the_default(library, monkeypatch):
    code = "import tinytorch; print(tinytorch.Linear(1, 1).weight.device)"
    assert python(code, TINYTORCH_DEVICE=library) == library
    assert python(code, TINYTORCH_DEVICE="") == "cpu"
    monkeypatch.setenv("TINYTORCH_DEVICE", library)
    with tinytorch.device("cpu"):
        assert tinytorch.default_device().name == "cpu"
    tinytorch.set_default_device("cpu")
    assert tinytorch.default_device().name == "cpu"


def test_the_environment_is_named_where_it_is_wrong(monkeypatch):
    monkeypatch.setenv("TINYTORCH_DEVICE", "nonsense")
    with pytest.raises(ValueError, match=r"no family 'nonsense'.*from the environment variable TINYTORCH_DEVICE"):
        tinytorch.zeros(1)


# Which are usable -------------------------------------------------------------------------------------------------


def test_the_list_of_devices_starts_with_the_cpu():
    infos = tinytorch.devices()
    assert infos[0] == ("cpu", "numpy", True, "", "")
    assert {info.name.partition(":")[0] for info in infos} >= {"cpu", "cuda", "strict"}
    assert all(info.usable or info.reason for info in infos)
    assert [d.name for d in backends.usable_devices()] == [info.name for info in infos if info.usable]


def _without(monkeypatch, *modules):
    """As if nothing of these had been imported."""
    for name in modules:
        monkeypatch.delitem(sys.modules, name, raising=False)


def _family(monkeypatch, name, module):
    """A family whose module is imported anew."""
    _without(monkeypatch, module)
    monkeypatch.setattr(backends, module.rpartition(".")[2], None, raising=False)
    library = registry._families[name].library
    backends.unregister(name)
    backends.register(name, f"{module}:{name.capitalize()}Device", library)


def _line(name):
    return next(info for info in tinytorch.devices() if info.name == name)


@pytest.mark.usefixtures("_registry")
@pytest.mark.parametrize(
    ("family", "library", "reason", "fix"),
    [
        ("cuda", "cupy", "CuPy is not installed", r"pip install 'tinytorch-xp\[cuda12\]'"),
        ("strict", "array_api_strict", "array-api-strict is not installed", "pip install array-api-strict"),
    ],
)
def test_a_library_that_is_not_installed(family, library, reason, fix, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)  # as if there were none
    _family(monkeypatch, family, f"tinytorch.backends.{family}")
    info = _line(family)
    assert (info.library, info.usable, info.reason) == (library, False, reason)
    with pytest.raises(Unavailable, match=rf"{reason}; to mend it: .*{fix}") as raised:
        tinytorch.device(f"{family}:0")
    assert (raised.value.reason, raised.value.fix) == (info.reason, info.fix)


@pytest.mark.usefixtures("_registry")
def test_a_cupy_that_cannot_be_imported(monkeypatch, tmp_path):
    (tmp_path / "cupy").mkdir()
    (tmp_path / "cupy" / "__init__.py").write_text("raise ImportError('libnvrtc.so: no such file\\nand so on')")
    _without(monkeypatch, "cupy")
    monkeypatch.syspath_prepend(tmp_path)
    _family(monkeypatch, "cuda", "tinytorch.backends.cuda")
    assert _line("cuda").reason == "CuPy is installed but cannot be imported: libnvrtc.so: no such file"


class _CudaError(RuntimeError):
    pass


def _fails(message):
    def function():
        raise _CudaError(message)

    return function


def _fake_cupy(monkeypatch, driver, count):
    runtime = SimpleNamespace(
        CUDARuntimeError=_CudaError,
        driverGetVersion=driver if callable(driver) else lambda: driver,
        runtimeGetVersion=lambda: 12090,
        getDeviceCount=count if callable(count) else lambda: count,
    )
    cupy = ModuleType("cupy")
    vars(cupy).update(__version__="14.0", ndarray=list, cuda=SimpleNamespace(runtime=runtime))
    special = ModuleType("cupyx.scipy.special")
    vars(special).update(erf=math.erf)
    modules = {"cupy": cupy, "cupyx.scipy.special": special}
    for name in ("cupyx", "cupyx.scipy", "array_api_compat.cupy"):
        modules[name] = ModuleType(name)
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    _family(monkeypatch, "cuda", "tinytorch.backends.cuda")


@pytest.mark.usefixtures("_registry")
@pytest.mark.parametrize(
    ("driver", "count", "message"),
    [
        (0, _fails("not asked"), r"CuPy 14\.0 is installed, but this machine has no NVIDIA driver; .*nvidia-smi"),
        (
            11040,
            _fails("cudaErrorInsufficientDriver: too old"),
            r"CuPy 14\.0 needs CUDA 12\.9, but the NVIDIA driver is for CUDA 11\.4; to mend it: update the",
        ),
        (
            12090,
            _fails("cudaErrorNoDevice: none"),
            r"CuPy 14\.0 and an NVIDIA driver are installed, but there is no GPU",
        ),
        (12090, 0, "there is no GPU"),
        (12040, _fails("cudaErrorUnknown: what"), r"finds a driver for CUDA 12\.4, but: cudaErrorUnknown: what"),
        (_fails("cudaErrorStubLibrary"), 0, r"CuPy 14\.0 is installed, but CUDA does not start: cudaErrorStubLibrary"),
    ],
    ids=["no-driver", "old-driver", "no-device", "none", "broken", "no-start"],
)
def test_a_cupy_without_a_gpu(driver, count, message, monkeypatch):
    _fake_cupy(monkeypatch, driver, count)
    info = _line("cuda")
    assert not info.usable
    for name in ("cuda", "cuda:0"):
        with pytest.raises(Unavailable, match=message) as raised:
            tinytorch.device(name)
        assert raised.value.reason == info.reason
    assert tinytorch.device("auto").name == "cpu"


def test_the_real_cupy_without_a_gpu():
    if importlib.util.find_spec("cupy") is None:
        pytest.skip("CuPy is not installed: nothing to try without a driver")
    code = (
        "import tinytorch; print(next(d for d in tinytorch.devices() if d.name == 'cuda').reason)\n"
        "try: tinytorch.zeros(1, device='cuda')\n"
        "except tinytorch.Unavailable as error: print(error)"
    )
    reason, error = python(code, CUDA_VISIBLE_DEVICES="", LD_PRELOAD=None, LD_LIBRARY_PATH=None).splitlines()
    assert reason.startswith("CuPy ")
    assert "no NVIDIA driver" in reason or "there is no GPU" in reason
    assert error.startswith(reason)


def test_importing_tinytorch_imports_no_other_array_library_and_verification_only_when_it_is_used():
    ours = {path.stem for path in (ROOT / "backends").glob("*.py")} - {"cuda", "jax_", "strict", "sycl", "torch_"}
    code = (
        f"import sys, tinytorch, tinytorch.testing\nOURS = {ours}\n"
        "tinytorch.Linear(1, 1)(tinytorch.ones((1, 1))).sum().backward()\n"
        "libraries = 'cupy', 'cupyx', 'array_api_strict', 'torch', 'jax', 'dpnp', 'array_api_compat.cupy'\n"
        "print([m for m in sys.modules if m in libraries or m.startswith('tinytorch.backends.') and\n"
        "       m.rpartition('.')[2] not in OURS],\n"
        "      'tinytorch.verify' in sys.modules, 'verify' in dir(tinytorch), tinytorch.verify.gates.__name__)"
    )
    assert python(code, TINYTORCH_DEVICE=None) == "[] False True tinytorch.verify.gates"


# Registering ------------------------------------------------------------------------------------------------------


class TwinDevice(CpuDevice):
    """What somebody else's package might register: two devices, on the CPU."""

    is_gpu = True

    @classmethod
    def canonical(cls, index):
        if index not in ("", "0", "1"):
            raise ValueError(f"device: no 'twin:{index}'; there are twin:0, twin:1")
        return f"twin:{index or 0}"

    @classmethod
    def available(cls):
        return ["twin:0", "twin:1"]


@pytest.mark.usefixtures("_registry")
@pytest.mark.parametrize("factory", [TwinDevice, f"{__name__}:TwinDevice"], ids=["class", "path"])
def test_a_device_of_somebody_else_s(factory):
    backends.register("twin", factory)
    assert tinytorch.device("twin") is tinytorch.device("twin:0")
    assert [info.name for info in tinytorch.devices() if info.library == "numpy"] == ["cpu", "twin:0", "twin:1"]
    model = tinytorch.Linear(2, 1, device="twin:1")
    optimizer = tinytorch.Adam(model.parameters(), lr=0.1)
    x = Tensor([[1.0, 2.0]], device="cpu").to("twin:1")
    for _ in range(2):
        optimizer.zero_grad()
        loss = (model(x) ** 2).sum()
        loss.backward()
        optimizer.step()
    assert {loss.device.name, model.weight.device.name, model.weight.grad.device.name} == {"twin:1"}
    with pytest.raises(ValueError, match=r"on twin:1 and .* on twin:0 are on different devices"):
        x + x.to("twin:0")


@pytest.mark.usefixtures("_registry")
def test_auto_is_the_first_gpu():
    expected = next((d for d in backends.usable_devices() if d.is_gpu), None)
    assert tinytorch.device("auto") is (expected or tinytorch.device("cpu"))
    backends.register("twin", TwinDevice)
    assert tinytorch.device("auto") is (expected or tinytorch.device("twin:0"))


@pytest.mark.usefixtures("_registry")
def test_a_family_that_is_unregistered_is_forgotten_with_its_devices():
    backends.register("twin", TwinDevice)
    first = tinytorch.device("twin:1")
    backends.unregister("twin")
    assert "twin" not in backends.families()
    with pytest.raises(ValueError, match="no family 'twin'"):
        tinytorch.device("twin:1")
    with pytest.raises(ValueError, match=r"unregister: no family 'twin'; there are cpu, "):
        backends.unregister("twin")
    backends.register("twin", TwinDevice)
    assert tinytorch.device("twin:1") is not first


@pytest.mark.usefixtures("_registry")
@pytest.mark.parametrize("name", ["", "a:b", "auto"])
def test_names_that_cannot_be_registered(name):
    with pytest.raises(ValueError, match="register: "):
        backends.register(name, TwinDevice)
    assert name not in backends.families()


@pytest.mark.usefixtures("_registry")
def test_a_name_is_registered_once():
    backends.register("twin", TwinDevice)
    backends.register("twin", TwinDevice)  # the same again is no matter
    with pytest.raises(ValueError, match="'twin' is registered already"):
        backends.register("twin", CpuDevice)
    assert tinytorch.device("twin:1").name == "twin:1"


@pytest.mark.usefixtures("_registry")
def test_devices_of_other_distributions_are_discovered(monkeypatch):
    asked = []

    def entry_points(*, group):
        if group != "tinytorch.backends":  # of somebody else, such as JAX
            return []
        asked.append(group)
        make = importlib.metadata.EntryPoint
        return [
            make("twin", f"{__name__}:TwinDevice", group),
            make("cpu", f"{__name__}:TwinDevice", group),  # a name that is taken
            make("gone", "no_such_module_of_anybody:Device", group),
            make("empty", f"{__name__}:NoSuchDevice", group),
        ]

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    monkeypatch.setattr(registry, "_discovered", False)
    assert tinytorch.device("twin:1").name == "twin:1"
    assert type(tinytorch.device("cpu")) is CpuDevice
    assert "no_such_module_of_anybody:Device cannot be imported" in _line("gone").reason
    assert "NoSuchDevice" in _line("empty").reason
    with pytest.raises(Unavailable, match="gone: no_such_module_of_anybody:Device cannot be imported"):
        tinytorch.device("gone")
    assert len(asked) == 1


def test_an_installed_distribution_is_asked_for_its_devices(tmp_path):
    (tmp_path / "other-1.0.dist-info").mkdir()
    (tmp_path / "other-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    entry = "[tinytorch.backends]\nother = no_such_module_of_anybody:Device\n"
    (tmp_path / "other-1.0.dist-info" / "entry_points.txt").write_text(entry)
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    code = "import tinytorch; print([d.reason for d in tinytorch.devices() if d.name == 'other'])"
    assert "no_such_module_of_anybody:Device cannot be imported" in python(code, PYTHONPATH=path)


def _offered(monkeypatch, cls):
    """Another distribution offers the class as "twin", and has not been looked for yet."""
    entry = importlib.metadata.EntryPoint("twin", f"{__name__}:{cls.__name__}", "tinytorch.backends")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda *, group: [entry])
    monkeypatch.setattr(registry, "_discovered", False)


@pytest.mark.usefixtures("_registry")
def test_what_has_registered_itself_is_not_refused(monkeypatch):
    _offered(monkeypatch, TwinDevice)
    backends.register("twin", TwinDevice)
    assert [info.usable for info in tinytorch.devices() if "twin" in info.name] == [True, True]
    assert not registry._families["twin"].foreign
    assert registry._discovered


class OtherName(TwinDevice):
    """Is found by a name of its own, and is not there under the names it says."""

    @classmethod
    def canonical(cls, index):
        if index == "1":
            raise ValueError("no such index")
        return "mine:0"


@pytest.mark.usefixtures("_registry")
def test_a_foreign_device_that_calls_itself_otherwise(monkeypatch):
    _offered(monkeypatch, OtherName)
    with pytest.raises(Unavailable, match=r"^twin:0: TypeError: it calls itself 'mine:0'$") as caught:
        tinytorch.device("twin:0")
    assert (caught.value.reason, caught.value.fix) == ("twin:0: TypeError: it calls itself 'mine:0'", "")
    assert [tuple(info) for info in tinytorch.devices() if "twin" in info.name] == [
        ("twin:0", "numpy", False, "twin:0: TypeError: it calls itself 'mine:0'", ""),
        ("twin:1", "numpy", False, "ValueError: no such index", ""),
    ]


@pytest.mark.usefixtures("_registry", "_default")
def test_auto_in_the_environment_is_looked_for_once(monkeypatch):
    asked = []
    monkeypatch.setattr(registry, "_automatic", None)
    monkeypatch.setattr(registry, "usable_devices", lambda: asked.append(1) or [])
    monkeypatch.setenv("TINYTORCH_DEVICE", "auto")
    assert tinytorch.zeros(1).device.name == tinytorch.default_device().name == "cpu"
    assert asked == [1]
    backends.register("twin", TwinDevice)
    monkeypatch.setattr(registry, "_automatic", None)
    monkeypatch.setattr(registry, "usable_devices", lambda: [tinytorch.device("cpu"), *map(tinytorch.device, TWINS)])
    assert tinytorch.zeros(1).device.name == "twin:0"
    assert tinytorch.device("auto").name == "twin:0"


TWINS = "twin:0", "twin:1"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((3, CpuDevice), TypeError, "register: name is a string, such as 'mine', not int"),
        (("mine", CpuDevice, None), TypeError, "register: library is the name of a module, not NoneType"),
        (("mine", 3), TypeError, "register: factory is a subclass of Device, or 'module:Class', not 3"),
        (("mine", int), TypeError, "register: factory is a subclass of Device, or 'module:Class', not <class 'int'>"),
        (("mine", CpuDevice("")), TypeError, "register: factory is a subclass of Device, or 'module:Class', not "),
        (("mi:ne", CpuDevice), ValueError, "register: a family is a word without a colon, not 'mi:ne'"),
        (("", CpuDevice), ValueError, "register: a family is a word without a colon, not ''"),
        (("auto", CpuDevice), ValueError, "register: 'auto' means the first usable GPU and cannot be registered"),
    ],
    ids=range(8),
)
@pytest.mark.usefixtures("_registry")
def test_what_cannot_be_registered(arguments, error, message, monkeypatch):
    monkeypatch.setattr(CpuDevice, "name", "cpu", raising=False)
    before = dict(registry._families)
    with pytest.raises(error, match=f"^{message}"):
        backends.register(*arguments)
    assert registry._families == before


def test_without_an_index_it_is_the_first_device():
    class Pair(Device):
        @classmethod
        def available(cls):
            return ["pair:a:0", "pair:a:1", "pair:b"]

    spelled = {"": "pair:a:0", "a": "pair:a:0", "a:0": "pair:a:0", "a:1": "pair:a:1", "b": "pair:b", "b:0": "pair:b"}
    assert {index: Pair.canonical(index) for index in spelled} == spelled
    for index in ("c", "a:2", "b:1"):
        with pytest.raises(ValueError, match=f"no 'pair:{index}'; there are pair:a:0, pair:a:1, pair:b"):
            Pair.canonical(index)


def test_new_axes_of_the_cpu_s_namespace():
    xp, x = backends.device("cpu").xp, np.ones((2, 3))
    for axis in range(-3, 3):
        assert xp.expand_dims(x, axis=axis).shape == np.expand_dims(x, axis).shape
    for axis in (3, -4):
        with pytest.raises(IndexError, match=rf"axis {axis} is outside \[-3, 3\)"):
            xp.expand_dims(x, axis=axis)


def test_a_device_class_says_what_it_is():
    class Bare(Device):
        pass

    for call in (lambda: Bare.canonical(""), Bare.available, lambda: Bare.of(None), lambda: Bare("").to_numpy(None)):
        with pytest.raises(NotImplementedError, match=r"^Bare\..*: a device class says"):
            call()


# Arrays -----------------------------------------------------------------------------------------------------------


def test_the_device_of_an_array(device):
    dev = tinytorch.device(device)
    assert backends.device_of(tinytorch.zeros(2, device=dev).array) is dev


def test_what_is_no_array_of_a_known_library():
    with pytest.raises(TypeError, match=r"device_of: no registered device holds builtins\.object objects"):
        backends.device_of(object())


@pytest.mark.parametrize("dtype", ["float32", "int32", "bool"])
def test_transfer_between_every_pair(device, dtype):
    values = np.array([[1, 0, 3], [0, 5, 6]], dtype)
    source = tinytorch.device(device)
    for target in backends.usable_devices():
        x = Tensor(values, None, source)
        if dtype == "float32":
            x.requires_grad_()
        y = x.to(target)
        assert (y.device, y.dtype, type(y.array)) == (target, np.dtype(dtype), target.array_type)
        assert y.tolist() == values.tolist()
        if dtype == "float32":
            y.backward(Tensor(values, None, target))
            assert_close(x.grad, Tensor(values, None, source))
            assert type(x.grad.array) is source.array_type
            assert (y is x) is (target is source)


def test_no_device_writes_through_to_the_host_s_array(device):
    dev = tinytorch.device(device)
    host = np.ones(3, "float32")
    back = dev.to_numpy(dev.from_numpy(host))
    back[0] = 7.0
    assert host.tolist() == [1.0, 1.0, 1.0]


def test_what_comes_out_of_a_library_is_made_an_array(device):
    dev = tinytorch.device(device)
    array = dev.asarray(dev.from_numpy(np.ones(3, "float32")))
    assert type(array) is dev.array_type
    total = Tensor(array).sum()
    assert (type(total.array), total.shape) == (dev.array_type, ())


@pytest.mark.parametrize("dtype", ["bytes", "datetime64", 5, "nonsense"])
def test_of_another_dtype_a_device_says_that_it_has_none(dtype, device):
    dev = tinytorch.device(device)
    if dtype in ("bytes", "datetime64") and isinstance(dev.dtype("float32"), np.dtype):  # whose dtypes are NumPy's
        assert dev.dtype(dtype) == dtype
        return
    with pytest.raises(TypeError, match=f"{device} has no {dtype}|data type"):
        dev.dtype(dtype)


def test_dtypes_have_numpy_s_names(device):
    dev = tinytorch.device(device)
    for name in ("bool", "int8", "int32", "uint8", "float32"):
        array = tinytorch.zeros(1, dtype=name, device=dev).array
        assert dev.dtype_of(array) == np.dtype(name)
        assert dev.dtype(np.dtype(name)) == array.dtype
    assert np.dtype(dev.default_int).kind == "i"


# Trees ------------------------------------------------------------------------------------------------------------

Pair = namedtuple("Pair", "left right")


def test_trees_keep_their_kinds_and_aliases(device):
    x, model = Tensor([1.0], device="cpu"), tinytorch.Linear(1, 1, device="cpu")
    inner = [x, "a label"]
    tree = {"x": x, "deep": (inner, {"again": inner}), "pair": Pair(x, None), "model": model, "empty": [(), {}, []]}
    out = tinytorch.to(tree, device)
    assert out["x"].device.name == device
    assert out["deep"][0][0] is out["x"] is out["pair"].left
    assert out["deep"][0] is out["deep"][1]["again"]
    assert out["deep"][0][1] == "a label"
    assert type(out["pair"]) is Pair
    assert out["model"] is model
    assert model.weight.device.name == device
    assert out["empty"] == [(), {}, []]
    assert tree["x"] is x
    assert inner == [x, "a label"]


def test_a_list_in_itself_is_walked_once():
    tree = [1]
    tree.append(tree)
    out = backends.map_tree(lambda x: x + 1, tree)
    assert out[0] == 2
    assert out[1] is out


# Extension points: the default and what a library does instead ----------------------------------------------------


def _called(dev, function, *args):
    return function(*args) if dev.current is None else dev.current(function, *args)


@pytest.mark.parametrize("shape", [(7,), (7, 3), (7, 2, 3), (0, 3)], ids=str)
def test_scatter_add(shape, device):
    dev = tinytorch.device(device)
    rng = np.random.Generator(np.random.Philox(0))
    values, indices = rng.standard_normal(shape).astype("float32"), rng.integers(0, 4, shape[0]).astype("int32")
    expected = np.zeros((5, *shape[1:]), "float32")
    np.add.at(expected, indices, values)
    args = (dev.from_numpy(values), dev.from_numpy(indices), 5)
    for function in (Device.scatter_add.__get__(dev), dev.scatter_add):
        assert_close(dev.to_numpy(_called(dev, function, *args)), expected, rtol=1e-5, atol=1e-6)


def test_scatter_add_of_numbers_whose_sum_is_none():
    dev = tinytorch.device("cpu")
    for values in (np.asarray([math.inf, -math.inf, 1.0]), np.asarray([3e38, 3e38, 1.0], "float32")):
        assert dev.scatter_add(values, np.asarray([0, 2, 3]), 4).tolist() == [values[0], 0.0, values[1], 1.0]


@pytest.mark.parametrize("size", [300, 65_536, 65_537])
def test_scatter_add_to_many_rows(size, device):
    dev, rng = tinytorch.device(device), np.random.Generator(np.random.Philox(0))
    indices = np.concatenate([[size - 1, 0, size - 1], rng.integers(0, 40, 90), np.full(17, 77)])
    values = rng.integers(-9, 9, (len(indices), 3)).astype("float32")
    expected = np.zeros((size, 3), "float32")
    np.add.at(expected, indices, values)
    found = _called(dev, dev.scatter_add, dev.from_numpy(values), dev.from_numpy(indices), size)
    assert np.array_equal(dev.to_numpy(found), expected)


WINDOWS = {  # size of the image, kernel, stride, padding, dilation
    "plain": ((5, 4), (3, 2), (1, 1), (0, 0), (1, 1)),
    "padded": ((4, 5), (3, 3), (1, 1), (1, 2), (1, 1)),
    "apart": ((7, 6), (2, 2), (3, 2), (0, 0), (1, 1)),
    "stride": ((7, 6), (3, 2), (2, 1), (1, 0), (1, 1)),
    "dilation": ((7, 7), (2, 3), (1, 2), (1, 1), (3, 2)),
    "gaps": ((9, 8), (2, 3), (3, 3), (0, 0), (2, 2)),
    "touching": ((6, 7), (2, 3), (2, 3), (0, 0), (1, 1)),
}


@pytest.mark.parametrize("case", WINDOWS)
def test_windows_and_their_gradient(case, device):
    dev = tinytorch.device(device)
    size, kernel, stride, padding, dilation = WINDOWS[case]
    rng = np.random.Generator(np.random.Philox(0))
    image = rng.standard_normal((2, *size, 3)).astype("float32")
    wide = np.pad(image, [(0, 0), *((p, p) for p in padding), (0, 0)])
    places = [(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(wide.shape[1:3], kernel, stride, dilation)]
    expected = np.empty((2, *kernel, *places, 3), "float32")
    grad = np.zeros(wide.shape, "float32")
    parts = rng.standard_normal(expected.shape).astype("float32")
    for i, j in np.ndindex(kernel):
        for h, w in np.ndindex(*places):
            under = (slice(None), i * dilation[0] + h * stride[0], j * dilation[1] + w * stride[1])
            expected[:, i, j, h, w] = wide[under]
            grad[under] += parts[:, i, j, h, w]
    grad = grad[:, padding[0] : padding[0] + size[0], padding[1] : padding[1] + size[1]]
    for x in (image, np.asfortranarray(image)):
        for function in (Device.windows.__get__(dev), dev.windows):
            found = _called(dev, function, dev.from_numpy(x), kernel, stride, padding, dilation)
            assert_close(dev.to_numpy(found), expected, rtol=0, atol=0)
    each = [dev.from_numpy(parts[:, i, j]) for i, j in np.ndindex(kernel)]
    for function in (Device.add_windows.__get__(dev), dev.add_windows):
        found = _called(dev, function, each, size, kernel, stride, padding, dilation)
        assert_close(dev.to_numpy(found), grad, rtol=1e-6, atol=1e-6)


def test_dropout_keeps_what_is_drawn_at_its_probability(device):
    dev = tinytorch.device(device)
    drawn = np.array([0.0, 0.25, 0.5, 0.75], "float32")
    generator = SimpleNamespace(random=lambda shape, dtype: drawn)
    for p, expected in ((0.0, [1, 1, 1, 1]), (0.5, [0, 0, 2, 2]), (0.75, [0, 0, 0, 4]), (1.0, [0, 0, 0, 0])):
        mask = Device.dropout_mask(dev, generator, (4,), p, np.dtype("float32"))
        assert (dev.to_numpy(mask).tolist(), dev.dtype_of(mask)) == (expected, np.float32)


@pytest.mark.parametrize("given", ["neither", "weight", "bias", "both"])
@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (3, 700), (40, 33), (0, 3)], ids=str)
def test_normalized_rows_and_their_gradient(shape, given, device):
    dev, N = tinytorch.device(device), shape[1]
    rng = np.random.Generator(np.random.Philox(0))
    x, g = (1000 + rng.standard_normal(shape)).astype("float32"), rng.standard_normal(shape).astype("float32")
    weight, bias = (rng.standard_normal(N).astype("float32") for _ in range(2))
    weight, bias = (a if given in (name, "both") else None for name, a in (("weight", weight), ("bias", bias)))
    exact = x.astype("float64") - x.mean(axis=1, keepdims=True, dtype="float64")
    r = 1 / np.sqrt((exact**2).mean(axis=1, keepdims=True) + 1e-3)
    h, d = exact * r, g.astype("float64") * (1 if weight is None else weight)
    y = h * (1 if weight is None else weight) + (0 if bias is None else bias)
    gx = (d - d.mean(axis=1, keepdims=True) - h * (d * h).mean(axis=1, keepdims=True)) * r
    arrays = [None if a is None else dev.from_numpy(a) for a in (x, weight, bias)]
    slope = [dev.from_numpy(a.astype("float32")) for a in (g, g * h, h, r)] + [arrays[1]]
    for of in (Device, type(dev)):
        found = _called(dev, of.normalized, dev, *arrays, 1e-3)
        for a, expected in zip(found, (y, h, r), strict=True):
            assert_close(dev.to_numpy(a), expected.astype("float32"), rtol=1e-4, atol=2e-4)
        back = _called(dev, of.normalized_rule, dev, *slope)
        assert_close(dev.to_numpy(back), gx.astype("float32"), rtol=1e-4, atol=1e-4 * r.max(initial=1.0))


@pytest.mark.parametrize("smooth", [0.0, 0.1])
@pytest.mark.parametrize("ignore", [None, 1, -100])
@pytest.mark.parametrize("shape", [(1, 2), (6, 3), (5, 1000), (70, 10)], ids=str)
def test_losses_of_classes_and_their_gradient(shape, ignore, smooth, device):
    dev, (M, C) = tinytorch.device(device), shape
    rng = np.random.Generator(np.random.Philox(0))
    z = (1e4 + 3 * rng.standard_normal(shape)).astype("float32")
    z[0, 0] = -math.inf if C > 2 and not smooth else z[0, 0]
    labels, g = rng.integers(0, C, M), rng.standard_normal((M, 1)).astype("float32")
    labels[0] = labels[0] if ignore != -100 else -100
    kept = labels != ignore
    exact = z.astype("float64") - z.max(axis=1, keepdims=True)
    log_p = exact - np.log(np.exp(exact).sum(axis=1, keepdims=True))
    q = (labels[:, None] == np.arange(C)) * (1 - smooth) + smooth / C
    losses = np.where(kept, -np.where(q == 0, 0, q * np.where(q == 0, 0, log_p)).sum(axis=1), 0).astype("float32")
    gz = np.where(kept[:, None], np.exp(log_p) - q, 0)
    args = dev.from_numpy(z), dev.from_numpy(labels.astype(dev.default_int)), ignore, smooth
    for of in (Device, type(dev)):
        found, counts, state = _called(dev, of.class_losses, dev, *args)
        assert_close(dev.to_numpy(found), losses, rtol=1e-4, atol=1e-4)
        if counts is None:  # all do
            assert kept.all()
        else:
            assert dev.to_numpy(counts).astype(bool).tolist() == kept.tolist()
        for each in (g, g[0, 0] * np.ones((), "float32")):
            back = _called(dev, of.class_losses_rule, dev, state, dev.from_numpy(np.asarray(each)))
            assert_close(dev.to_numpy(back), (gz * each).astype("float32"), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "bool"])
@pytest.mark.parametrize(
    "shape", [(), (1,), (7,), (5, 4), (3, 4, 5), (2, 3, 1, 4), (3, 40), (2, 3, 17), (30, 40)], ids=str
)
def test_the_functions_of_the_cpu_are_numpys(dtype, shape):
    xp = backends.device("cpu").xp
    x = np.random.Generator(np.random.Philox(0)).integers(-9, 9, shape).astype(dtype)
    layouts = [x, np.asfortranarray(x), np.repeat(x, 2, axis=-1)[..., ::2], x[::-1]] if shape else [x]
    if x.size > 1 and x.dtype.kind == "f":
        x = x.copy()
        x.flat[0], x.flat[-1] = np.nan, np.inf
        layouts.append(x)
    axes = [None, *range(-len(shape), len(shape)), *([tuple(range(1, len(shape)))] if len(shape) > 2 else [])]
    for x, axis, keepdims in itertools.product(layouts, axes, (False, True)):
        for name in ("sum", "max", "mean"):
            found = getattr(xp, name)(x, axis=axis, keepdims=keepdims)
            expected = getattr(np, name)(x, axis=axis, keepdims=keepdims)
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * (name == "mean"))
            assert np.asarray(found).dtype == expected.dtype
    for x in layouts:
        np.testing.assert_array_equal(xp.maximum(x, 2.0), np.maximum(x, 2.0))
        assert_close(xp.ones_like(x), np.ones_like(x), rtol=0, atol=0)
        assert xp.ones_like(x, dtype=np.dtype("int8")).dtype == np.int8
    assert xp.mean(np.full((1, 1000), 1234.5, dtype), axis=1)[0] == np.dtype(dtype).type(
        1234.5
    )  # exact, where sums are
    x = layouts[0]
    if len(shape) > 1:
        y = np.swapaxes(x, -1, -2)
        big = np.concatenate([x] * 64, axis=-1)  # (..., n, 64 m)
        for a, b in ((x, y), (y, x), (big, np.swapaxes(big, -1, -2)), (np.concatenate([big] * 40, -2), big.mT)):
            assert_close(xp.matmul(a, b), a @ b, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
def test_extremes_of_many_numbers_and_one(dtype):
    xp = backends.device("cpu").xp
    x = np.random.Generator(np.random.Philox(0)).integers(-9, 9, 5000).astype(dtype)
    if dtype != "int32":
        x[:3] = np.nan, np.inf, -np.inf
    for bound in (2.0, -np.inf, np.inf, np.nan):
        assert np.array_equal(xp.maximum(x, bound), np.maximum(x, bound), equal_nan=True)
        assert np.array_equal(xp.minimum(x, bound), np.minimum(x, bound), equal_nan=True)


def test_keeping_memory_is_for_whoever_asks(device):
    code = f"""
import resource, numpy as np, tinytorch
dev = tinytorch.device("{device}")
kept = dev.keep_memory() if {{asked}} else False
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def step():
    return [np.ones(1_000_000, "float32") for _ in range(8)]
step()
before = faults()
for _ in range(4):
    step()
print(kept, faults() - before > 1000)
"""
    outputs = {}
    env = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    for asked in (False, True):
        command = [sys.executable, "-c", code.replace("{asked}", str(asked))]
        outputs[asked] = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.split()
    assert outputs[False] == ["False", "True"]
    assert max(cpu_memory.THRESHOLDS.values()) < 2**31  # an int of C's
    assert outputs[True][0] == str(tinytorch.device(device).keep_memory.__func__ is not Device.keep_memory)
    if outputs[True][0] == "True" and not tinytorch.device(device).is_gpu:  # the pages of the host are NumPy's
        assert outputs[True][1] == "False"


@pytest.mark.skipif(not backends.device("cpu").large, reason="the C library's heap is not looked at here")
@pytest.mark.parametrize("kind", ["training", "inference"])
def test_the_heap_stays_as_large_as_a_step_needs_it(kind):
    """Without `hold` the C library gives memory back after each step, and takes a page fault for each 4 kB of it."""
    code = f"""
import resource, tinytorch
from tinytorch import nn
if {{off}}:
    tinytorch.device("cpu").keep_memory(False)
model = nn.Sequential(*[layer for _ in range(8) for layer in (nn.Linear(64, 64), nn.ReLU())])
x = tinytorch.ones((2048, 64))  # half a megabyte
def step():
    if {kind == "training"}:
        model(x).sum().backward()
    else:
        with tinytorch.no_grad():
            model(x)
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
before = faults()
for _ in range(10):
    step()
print(faults() - before)
"""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    found = {}
    for off in (False, True):
        command = [sys.executable, "-c", code.replace("{off}", str(off))]
        found[off] = int(subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout)
    if found[True] < 1000:
        pytest.skip("something else on the heap keeps the C library from giving memory back")
    assert found[False] < 100


def test_what_is_held_is_the_topmost_array_of_the_heap():
    dev = type(backends.device("cpu"))("")
    arrays = sorted((np.empty(2**13) for _ in range(3)), key=lambda a: a.__array_interface__["data"][0])
    for array, top in zip([arrays[1], arrays[0], arrays[2], arrays[1]], [1, 1, 2, 2]):
        dev.hold(array)
        assert dev.held[1] is (arrays[top] if dev.large else None)
    dev.hold(np.frombuffer(mmap.mmap(-1, 2**16), "u1"))  # not on the heap: large arrays have memory of their own
    assert dev.held[1] is (arrays[2] if dev.large else None)
    assert dev.keep_memory(False) is False
    assert dev.held == (0, None)
    assert dev.large == 0
    assert backends.device("cpu").large == type(dev).large


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_erf(dtype, device):
    dev = tinytorch.device(device)
    if dtype not in tinytorch.__array_namespace_info__().dtypes(device=dev):
        pytest.skip(f"{dev} has no {dtype}")
    numbers = [*np.linspace(-10, 10, 2001), 1e-30, -1e-8, 0.0, math.inf, -math.inf]
    x = np.array(numbers, dtype)
    expected = np.array([math.erf(v) for v in x.tolist()], dtype)
    for function in (Device.erf.__get__(dev), dev.erf):
        found = dev.to_numpy(_called(dev, function, dev.from_numpy(x)))
        assert_close(found, expected, rtol=8 * float(np.finfo(dtype).eps), atol=0)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ([0, 4, 2], None),
        ([], None),
        ([0, 5], r"rows: 5 is outside \[0, 5\)"),
        ([0, -1], r"rows: -1 is outside \[0, 5\)"),
        ([7, -1, 2], r"rows: 7 is outside \[0, 5\) \(2 such values\)"),
    ],
    ids=str,
)
def test_check_index(numbers, message, device):
    dev = tinytorch.device(device)
    indices = dev.from_numpy(np.array(numbers, "int32"))

    def default():
        assert _called(dev, Device.check_index.__get__(dev), indices, 5, "rows") is None

    def override():  # what is computed cannot depend on the answer
        assert _called(dev, dev.check_index, indices, 5, "rows") is None
        dev.synchronize()  # by then at the latest

    postponed = rf"(, in an earlier call on {device})?"
    for check, end in ((default, "$"), (override, postponed + "$")):
        if message is None:
            check()
        else:
            with pytest.raises(IndexError, match=message + end):
                check()
        dev.synchronize()  # and it is said once


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_check_unit_at_the_ends_of_the_interval(dtype, device):
    dev, one, zero, tiny = tinytorch.device(device), np.ones(1, dtype), np.zeros(1, dtype), np.finfo(dtype).tiny
    postponed = rf"(, in an earlier call on {device})?"

    def check(of, values):
        _called(dev, of.check_unit, dev, dev.from_numpy(values.astype(dtype)), "here")
        dev.synchronize()

    for of in (Device, type(dev)):
        for values in (zero, one, -zero, zero * np.nan, np.nextafter(one, zero), zero + tiny, one * 0.5, one[:0]):
            check(of, values)
        for values in (np.nextafter(one, one * 2), zero - tiny, one * 2, one * np.inf, -one):
            with pytest.raises((ValueError, IndexError), match=rf"^here: \S+ is outside \[0, 1\]{postponed}$"):
                check(of, values)
        with pytest.raises(
            (ValueError, IndexError), match=rf"^here: 3 is outside \[0, 1\] \(2 such values\){postponed}$"
        ):
            check(of, np.concatenate([one, one * 3, zero, one * 2]))


def test_an_index_out_of_range_is_an_error_when_values_are_read(device):
    weight = tinytorch.ones((3, 2), device=device)
    with pytest.raises(IndexError, match=r"embedding: 3 is outside \[0, 3\)"):
        tinytorch.embedding(Tensor([0, 3], device=device), weight).numpy()
    weight.numpy()  # and it is said once


# Work in flight ---------------------------------------------------------------------------------------------------


def test_streams(device):
    dev = tinytorch.device(device)
    x = tinytorch.ones((64, 64), device=dev)
    dev.synchronize()
    with dev.stream() as first:
        y = x @ x
        with dev.stream() as second:
            second.wait(first)
            z = y + 1
    second.synchronize()
    first.synchronize()
    dev.synchronize()
    assert z.numpy().max() == z.numpy().min() == 65.0


def test_a_cuda_stream_is_current_inside_its_block_only():
    cupy = _cupy()
    dev = tinytorch.device("cuda:0")
    with cupy.cuda.Device(0):
        before = cupy.cuda.get_current_stream()
        with dev.stream() as first:
            with dev.stream() as second, first:
                assert cupy.cuda.get_current_stream() == first.native != second.native
            assert cupy.cuda.get_current_stream() == first.native
        assert cupy.cuda.get_current_stream() == before


def test_streams_of_two_devices_wait_for_each_other(other):
    here, there = tinytorch.device("cpu").stream(), tinytorch.device(other).stream()
    here.wait(there)
    there.wait(here)
    there.synchronize()


def _cupy():
    if not any(d.library == "cupy" for d in backends.usable_devices()):
        pytest.skip("there is no usable CUDA device")
    return importlib.import_module("cupy")


def test_a_device_that_is_not_the_current_one():
    cupy = _cupy()
    if cupy.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("there is one CUDA device, not two")
    for current, used in ((0, 1), (1, 0)):
        with cupy.cuda.Device(current):
            model = tinytorch.Sequential(tinytorch.Linear(3, 4), tinytorch.GELU(), tinytorch.Linear(4, 2))
            model.to(f"cuda:{used}")
            optimizer = tinytorch.Adam(model.parameters(), lr=0.1)
            x, labels = tinytorch.randn(5, 3, device=f"cuda:{used}"), Tensor([0, 1, 1, 0, 1], device=f"cuda:{used}")
            for _ in range(2):
                optimizer.zero_grad()
                loss = tinytorch.CrossEntropyLoss()(model(x), labels)
                loss.backward()
                tinytorch.optim.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
            (g,) = tinytorch.grad(model(x).sum(), [model[0].weight], create_graph=True)
            (h,) = tinytorch.grad((g * g).sum(), [model[0].weight])
            made = [x, loss, g, h, *model.parameters(), *(p.grad for p in model.parameters())]
            assert {t.array.device.id for t in made} == {used}
            assert {a.device.id for f in optimizer._flats.groups[0] for a in f.now.state.values()} == {used}
            assert cupy.cuda.runtime.getDevice() == current
            assert math.isfinite(loss.item())


# Devices of other distributions that are broken -------------------------------------------------------------------


class Broken(TwinDevice):
    """Says that a device is there, and cannot make it."""

    library = "broken_library"

    @classmethod
    def available(cls):
        return ["broken:0"]

    @classmethod
    def canonical(cls, index):
        return "broken:0"

    def __init__(self, index):
        raise OSError("no such bus")


class Empty(Broken):
    @classmethod
    def available(cls):
        return []


class NoNames(Broken):
    @classmethod
    def available(cls):
        return [3, "cpu"]


class Leaves(Broken):
    @classmethod
    def available(cls):
        raise SystemExit(3)


class Nothing(Device):
    """Defines nothing, not even its library."""


@pytest.fixture
def _broken(_registry, monkeypatch, tmp_path):
    """Distributions that offer broken devices, each before a good one."""
    monkeypatch.setattr(registry, "_refused", [])
    sources = {
        "raises_on_import": "raise RuntimeError('first line\\nsecond line')",
        "leaves_on_import": "raise SystemExit(2)",
        "no_syntax": "def f(:",
        "divides": "1 / 0",
        "mute": "class Mute(Exception):\n    def __str__(self):\n        raise ValueError\nraise Mute",
    }
    for name, source in sources.items():
        (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    make = importlib.metadata.EntryPoint
    classes = {"broken": "Broken", "none": "Empty", "nameless": "NoNames", "leaves": "Leaves", "nothing": "Nothing"}
    entries = [make(name, f"{name}:Device", "tinytorch.backends") for name in sources]
    entries += [make(name, f"{__name__}:{cls}", "tinytorch.backends") for name, cls in classes.items()]
    taken = "with:colon", "", "auto", "cpu"
    entries += [make(name, f"{__name__}:TwinDevice", "tinytorch.backends") for name in taken]
    entries.append(make("no class", "math:pi", "tinytorch.backends"))
    entries.append(make("twin", f"{__name__}:TwinDevice", "tinytorch.backends"))
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda *, group: entries if "tinytorch" in group else [])
    monkeypatch.setattr(registry, "_discovered", False)


REASONS = {
    "raises_on_import": "raises_on_import: raises_on_import:Device cannot be imported: RuntimeError: first line",
    "leaves_on_import": "leaves_on_import: leaves_on_import:Device cannot be imported: SystemExit: 2",
    "no_syntax": "no_syntax: no_syntax:Device cannot be imported: SyntaxError: invalid syntax (no_syntax.py, line 1)",
    "divides": "divides: divides:Device cannot be imported: ZeroDivisionError: division by zero",
    "mute": "mute: mute:Device cannot be imported: Mute",
    "no class": "no class: math:pi cannot be imported: TypeError: it is not a subclass of Device",
    "none": "there is no such device",
    "leaves": "SystemExit: 3",
    "nothing": "NotImplementedError: Nothing.available: a device class says which devices there are",
    "with:colon": "register: a family is a word without a colon, not 'with:colon'",
    "": "register: a family is a word without a colon, not ''",
    "auto": "register: 'auto' means the first usable GPU and cannot be registered",
    "cpu": "register: 'cpu' is registered already",
}


@pytest.mark.usefixtures("_broken")
def test_a_broken_device_of_another_distribution_is_a_line():
    lines = {info.name: info for info in tinytorch.devices() if not info.usable}
    for name, reason in REASONS.items():
        assert reason in lines[name].reason
        assert "second line" not in lines[name].reason
    assert [info.reason for info in tinytorch.devices() if info.name == "nameless"] == [
        f"a device that it calls {name}, not 'nameless' or 'nameless:...'" for name in ("3", "'cpu'")
    ]
    assert "OSError: no such bus" in lines["broken:0"].reason
    assert not (lines.keys() - {"cpu"}) & {d.name for d in backends.usable_devices()}


@pytest.mark.usefixtures("_broken")
def test_a_broken_device_disturbs_nobody(monkeypatch):
    assert tinytorch.device("twin:1").name == "twin:1"  # which comes after all of them
    assert backends.device_of(np.zeros(2)) is tinytorch.device("cpu")
    assert backends.default_device() is tinytorch.device("cpu")
    if importlib.util.find_spec("array_api_strict"):
        assert tinytorch.Tensor(tinytorch.zeros(2, device="strict").array).device.name == "strict:CPU_DEVICE"
        assert tinytorch.device("strict:device1") in backends.usable_devices()
    assert tinytorch.device("cpu") in backends.usable_devices()
    assert tinytorch.device("auto") in backends.usable_devices()
    with pytest.raises(TypeError, match="no registered device holds"):
        backends.device_of(object())
    with pytest.raises(Unavailable, match="broken:0: OSError: no such bus"):
        tinytorch.device("broken:0")
    with pytest.raises(ValueError, match="no family 'nowhere'"):
        tinytorch.device("nowhere")
    for name in ("raises_on_import", "divides"):
        with pytest.raises(Unavailable, match=f"{name}:Device cannot be imported"):
            tinytorch.device(name)
    imported = []
    monkeypatch.setattr(importlib, "import_module", lambda name: imported.append(name))
    with pytest.raises(TypeError, match="no registered device holds"):
        backends.device_of(object())
    assert not {"raises_on_import", "divides", "no_syntax"} & set(imported)  # not tried again each time


@pytest.mark.usefixtures("_registry")
def test_metadata_that_cannot_be_read_is_a_line(monkeypatch):
    def entry_points(*, group):
        raise UnicodeDecodeError("utf-8", b"", 0, 1, "invalid start byte")

    monkeypatch.setattr(registry, "_refused", [])
    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    monkeypatch.setattr(registry, "_discovered", False)
    assert "UnicodeDecodeError" in _line("entry points").reason
    assert tinytorch.device("cpu") in backends.usable_devices()


def test_whether_to_keep_memory_is_true_or_false(device):
    with pytest.raises(TypeError, match=r"^keep_memory: keep is True or False, not str 'no'$"):
        backends.device(device).keep_memory("no")


def test_a_device_is_written_in_columns():
    assert f"{backends.device('cpu'):>5}|" == "  cpu|"
