"""PyTorch, JAX and dpnp: how their devices are spelled, and what is said where they cannot be used."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import os
import re

import numpy as np
import pytest

import tinytorch
from tests.backends.test_devices import python
from tinytorch import Unavailable, backends

TRY = "\ntry: print(tinytorch.device({name!r}))\nexcept tinytorch.Unavailable as error: print(error)"


def attempt(name, before="", **variables):
    """What a new Python says that asks for the device."""
    return python(f"import sys\n{before}\nimport tinytorch{TRY.format(name=name)}", **variables)


@functools.cache
def usable():
    return {info.name for info in tinytorch.devices() if info.usable}


def installed(library):
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")


def packaged(distribution):
    try:
        importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(
    ("spelled", "name"),
    [
        *(("torch", "torch:cpu"), ("torch:cpu", "torch:cpu"), ("torch:cpu:0", "torch:cpu")),
        *(("jax", "jax:cpu:0"), ("jax:cpu", "jax:cpu:0"), ("jax:cpu:0", "jax:cpu:0")),
        *(("sycl:cpu", "sycl:cpu"), ("sycl:cpu:0", "sycl:cpu")),
    ],
)
def test_the_index_may_be_left_out(spelled, name):
    if name not in usable():
        pytest.skip(f"{name} is not usable here")
    assert tinytorch.device(spelled) is tinytorch.device(name)
    assert tinytorch.device(spelled).name == name


@pytest.mark.parametrize("name", ["torch:cpu:1", "torch:xpu", "torch:", "jax:cpu:99", "jax:0", "sycl:cpu:99"])
def test_what_is_not_there(name):
    family = name.partition(":")[0]
    if not any(known.startswith(family) for known in usable()):
        pytest.skip(f"{family} is not usable here")
    if name == "torch:":
        assert tinytorch.device(name).name == "torch:cpu"
    else:
        with pytest.raises(ValueError, match=rf"no '{name}'; there are {family}:cpu"):
            tinytorch.device(name)


@pytest.mark.parametrize(("family", "library"), [("torch", "torch"), ("jax", "jax"), ("sycl", "dpnp")])
class TestALibrary:
    def test_that_is_not_installed(self, family, library):
        said = attempt(f"{family}:cpu", f"sys.modules[{library!r}] = None")
        assert re.fullmatch(
            rf"(PyTorch|JAX|dpnp) is not installed; to mend it: python -m pip install 'tinytorch-xp\[{family}\]'", said
        )

    def test_that_cannot_be_imported(self, family, library, tmp_path):
        for package in ("dpctl", library):  # dpnp is on top of dpctl
            (tmp_path / package).mkdir()
            (tmp_path / package / "__init__.py").touch()
        (tmp_path / library / "__init__.py").write_text("raise ImportError('libfoo.so: no such file\\nand so on')")
        said = attempt(f"{family}:cpu", f"sys.path.insert(0, {str(tmp_path)!r})")
        assert "is installed but cannot be imported: libfoo.so: no such file" in said
        assert "and so on" not in said

    def test_is_listed(self, family, library):
        lines = [info for info in tinytorch.devices() if info.name.partition(":")[0] == family]
        assert lines
        assert {info.library for info in lines} == {"jaxlib" if library == "jax" else library}
        assert all(info.usable or info.reason for info in lines)


def test_pytorch_without_cuda():
    installed("torch")
    torch = importlib.import_module("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    expected = r"is built without CUDA" if torch.version.cuda is None else "finds no usable GPU"
    for name in ("torch:cuda", "torch:cuda:0"):
        with pytest.raises(Unavailable, match=rf"PyTorch {re.escape(torch.__version__)} .*{expected}.*; to mend it: "):
            tinytorch.device(name)


def test_pytorch_without_an_apple_gpu():
    installed("torch")
    if "torch:mps" in usable():
        pytest.skip("there is one")
    with pytest.raises(Unavailable, match=r"finds no Apple GPU \(mps\)"):
        tinytorch.device("torch:mps")


def test_jax_without_a_gpu():
    installed("jax")
    if any(name.startswith("jax:gpu") for name in usable()):
        pytest.skip("there is one")
    for name in ("jax:gpu", "jax:gpu:0"):
        with pytest.raises(Unavailable, match=r"JAX [\d.]+ finds no GPU; to mend it: .*pip install 'jax\[cuda12\]'"):
            tinytorch.device(name)


def test_jax_that_does_not_start():
    installed("jax")
    assert attempt("jax", JAX_PLATFORMS="nonsense").startswith("JAX ")
    assert " does not start: " in attempt("jax:cpu", JAX_PLATFORMS="nonsense")


def test_jax_keeps_its_own_setting_of_64_bits_beside_a_device_that_has_them():
    installed("jax")
    code = (
        "import jax, tinytorch; known = [jax.config.jax_enable_x64]; tinytorch.devices()\n"
        "known.append(jax.config.jax_enable_x64); x = tinytorch.ones(1, dtype='float64', device='jax')\n"
        "print(*known, jax.config.jax_enable_x64, x.array.dtype)"
    )
    assert python(code) == "False False False float64"


def test_several_cpu_devices_of_jax():
    installed("jax")
    code = (
        "import tinytorch; x = tinytorch.ones(3, device='jax:cpu:1'); y = (x + 1).to('jax:cpu:0')\n"
        "print(x.device, (x * 2).array.devices(), y.device, y.array.devices(), y.to('cpu').tolist())"
    )
    found = python(code, XLA_FLAGS="--xla_force_host_platform_device_count=2")
    assert found == "jax:cpu:1 {CpuDevice(id=1)} jax:cpu:0 {CpuDevice(id=0)} [2.0, 2.0, 2.0]"


WITHOUT = "import importlib.metadata as m\ndef files(name): raise m.PackageNotFoundError(name)\nm.files = files"


def test_dpnp_finds_the_driver_that_is_a_package():
    installed("dpnp")
    packaged("intel-opencl-rt")
    assert attempt("sycl:cpu", OCL_ICD_FILENAMES="") == "sycl:cpu"


def test_dpnp_without_a_driver_says_how_to_get_one():
    installed("dpnp")
    said = attempt("sycl:cpu", WITHOUT, OCL_ICD_FILENAMES="")
    if said == "sycl:cpu":
        pytest.skip("this machine has a driver of its own")
    assert re.match(r"dpnp [\d.]+ is installed, but finds no driver of a SYCL device; to mend it: ", said)
    assert said.endswith("python -m pip install intel-opencl-rt, which is a driver for CPUs")


def test_dpnp_that_was_imported_before_its_driver_was_named_says_what_names_it():
    installed("dpnp")
    packaged("intel-opencl-rt")
    said = attempt("sycl:cpu", "import dpctl; dpctl.get_devices()", OCL_ICD_FILENAMES="")
    if said == "sycl:cpu":
        pytest.skip("this machine has a driver of its own")
    variable, path = re.search(r"export (OCL_ICD_FILENAMES)=(\S+) before Python starts", said).groups()
    assert os.path.exists(path)
    assert attempt("sycl:cpu", "import dpctl; dpctl.get_devices()", **{variable: path}) == "sycl:cpu"  # that mends it


def test_an_array_on_a_queue_of_somebody_s_own():
    if "sycl:cpu" not in usable():
        pytest.skip("sycl:cpu is not usable here")
    dpctl, dpnp = importlib.import_module("dpctl"), importlib.import_module("dpnp")
    x = tinytorch.asarray(dpnp.ones(3, dtype="float32", device=dpctl.SyclQueue("cpu")))
    assert (x + tinytorch.ones(3, device="sycl:cpu")).tolist() == [2.0, 2.0, 2.0]


def test_dpnp_multiplies_arrays_that_repeat_elements():
    if "sycl:cpu" not in usable():
        pytest.skip("sycl:cpu is not usable here")
    a, b = np.array([[1.0], [2.0], [3.0]]), np.arange(8.0).reshape(4, 2)
    wide, y = np.broadcast_to(a, (3, 4)), tinytorch.Tensor(b, device="sycl:cpu")
    x = tinytorch.broadcast_to(tinytorch.Tensor(a, device="sycl:cpu"), (3, 4))
    assert 0 in x.array.strides
    assert (x @ y).tolist() == (wide @ b).tolist()
    assert (y.T @ x.T).tolist() == (b.T @ wide.T).tolist()
    assert (x @ y[:, 0]).tolist() == (wide @ b[:, 0]).tolist()


SETTINGS = {
    "jax:cpu:0": "import jax.numpy as xp; seen = lambda: (str(xp.ones(1).dtype), str(xp.arange(1).dtype))",
    "strict:device1": "import array_api_strict as xp; seen = lambda: sorted(xp.get_array_api_strict_flags().items())",
}


@pytest.mark.parametrize("device", SETTINGS)
def test_a_library_is_left_as_its_other_users_have_it(device):
    pytest.importorskip({"jax": "jax", "strict": "array_api_strict"}[device.partition(":")[0]])
    code = f"""
{SETTINGS[device]}
before = seen()
import threading, tinytorch
def train():
    x = tinytorch.ones((3, 2), dtype="float64", device="{device}").requires_grad_()
    optimizer = tinytorch.Adam([x], lr=0.1)
    (x[tinytorch.arange(2, device="{device}")] ** 2).sum().backward()
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.step()
    assert (x.dtype, x.array.dtype, x.grad.array.dtype) == (tinytorch.float64, xp.float64, xp.float64)
    assert abs(float(x.sum()) - 5.2) < 1e-7
    assert tinytorch.from_dlpack(x.detach().cpu()).to("{device}").dtype == tinytorch.float64
threads = [threading.Thread(target=train) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
train()
print(seen() == before)
"""
    assert python(code, JAX_ENABLE_X64=None) == "True"


def test_the_strict_library_is_strictest_where_an_op_runs(strict):
    dev = backends.device(strict("device1"))

    def flags():
        found = importlib.import_module("array_api_strict").get_array_api_strict_flags()
        return found["api_version"], found["boolean_indexing"], found["data_dependent_shapes"]

    assert dev.current(flags) == ("2024.12", False, False)
    with dev.activated():
        assert flags() == ("2024.12", False, False)
