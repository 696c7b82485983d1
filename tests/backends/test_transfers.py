"""Every device to every other: values, memory that is shared or copied, training that goes on, and DLPack both ways."""

from __future__ import annotations

import copy
import logging

import numpy as np
import pytest

import tinytorch
from tinytorch import Tensor
from tinytorch.testing import assert_close

HOST = (1, 0)  # DLPack's name of the host's memory


def aligned(n=64, offset=0):
    """float32 numbers 0, 1, ... at an address `offset` bytes after a multiple of 64, which is what JAX wants."""
    memory = np.zeros(4 * n + 128, "uint8")
    start = -memory.ctypes.data % 64 + offset
    out = memory[start : start + 4 * n].view("float32")
    out[:] = np.arange(n)
    return out


def address(x):
    """Where the elements of a tensor of host memory lie."""
    return np.from_dlpack(x.detach()).ctypes.data


def shares(source, target):
    return source.memory == target.memory is not None


def test_whose_memory_is_the_host_s(device):
    assert (tinytorch.device(device).memory == HOST) is (device in ("cpu", "torch:cpu", "jax:cpu:0"))


def test_memory_is_shared_where_it_can_be_and_copies_are_logged(device_pair, caplog):
    source, target = device_pair
    x = tinytorch.from_dlpack(aligned(), device=source)
    caplog.set_level(logging.DEBUG, "tinytorch.backends")
    caplog.clear()
    y = x.to(target)
    assert y.tolist() == list(range(64))
    if source.library == target.library:  # the library copies by itself, or there is nothing to do
        assert caplog.messages == []
    elif shares(source, target):
        assert caplog.messages == []
        if source.memory == HOST:
            assert address(y) == address(x)
    else:
        (record,) = caplog.records
        assert (record.name, record.levelno) == ("tinytorch.backends.device", logging.DEBUG)
        assert record.getMessage() == f"{source} to {target}: 256 bytes copied through the host: they share no memory"


@pytest.mark.device(only="jax:cpu:0", reason="JAX wants its memory aligned and compact")
def test_what_cannot_be_shared_is_copied_and_the_reason_logged(device, caplog):
    caplog.set_level(logging.DEBUG, "tinytorch.backends")
    for x, reason in ((aligned(offset=4), "not aligned"), (aligned()[::2], "striding"), (aligned()[::-1][:0], "")):
        caplog.clear()
        y = tinytorch.from_dlpack(x).to(device)
        assert y.tolist() == x.tolist()
        if reason:
            assert f"cpu to {device}: {x.nbytes} bytes copied through the host: " in caplog.text
            assert reason in caplog.text
            assert not np.shares_memory(np.from_dlpack(y), x)


LAYOUTS = {
    "strided": lambda x: x[::2],
    "backwards": lambda x: tinytorch.flip(x),
    "transposed": lambda x: x.reshape(8, 8).T,
    "broadcast": lambda x: tinytorch.broadcast_to(x, (2, 64)),
    "empty": lambda x: x[:0],
    "scalar": lambda x: x[3],
    "bool": lambda x: x > 5,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout_arrives(device_pair, layout):
    source, target = device_pair
    x = LAYOUTS[layout](tinytorch.from_dlpack(aligned(), device=source))
    y = x.to(target)
    assert (y.device, y.dtype, y.shape) == (target, x.dtype, x.shape)
    assert y.tolist() == x.tolist()
    assert (y == y.copy()).all()


def test_a_change_of_one_is_not_seen_by_the_other(device_pair):
    source, target = device_pair
    for change in (
        lambda t: t.__setitem__(0, 9.0),
        lambda t: t.__iadd__(1.0),
        lambda t: setattr(t, "data", t.data * 2 + 1),
        lambda t: t.numpy().fill(9.0),
        lambda t: tinytorch.nn.init.constant_(t, 7.0),
    ):
        for first in (True, False):
            x = tinytorch.from_dlpack(aligned(4), device=source)
            y = x.to(target)
            change(x if first else y)
            assert (y if first else x).tolist() == [0.0, 1.0, 2.0, 3.0]


def test_a_new_tensor_shares_nothing_with_what_it_was_made_of(device_pair):
    source, target = device_pair
    host = aligned(4)
    x = tinytorch.from_dlpack(host, device=source)
    made = [
        Tensor(host, device=target),
        Tensor(x, device=target),
        tinytorch.asarray(host, device=target, copy=True),
        tinytorch.asarray(x, device=target, copy=True),
        tinytorch.from_dlpack(host, device=target, copy=True),
    ]
    host[:] = 9.0
    assert [t.tolist() for t in made] == [[0.0, 1.0, 2.0, 3.0]] * 5


def test_an_optimizer_leaves_the_tensors_alone_that_share_with_parameters(device_pair):
    source, target = device_pair
    there = tinytorch.nn.Parameter(tinytorch.from_dlpack(aligned(4), device=source))
    here = tinytorch.nn.Parameter(there.detach().to(target))
    twin = copy.deepcopy(here)
    optimizer = tinytorch.SGD([here], lr=1.0)
    (here * 3.0).sum().backward()
    optimizer.step()
    assert here.tolist() == [-3.0, -2.0, -1.0, 0.0]
    assert there.tolist() == twin.tolist() == [0.0, 1.0, 2.0, 3.0]


# Training goes on -------------------------------------------------------------------------------------------------

OPTIMIZERS = {
    "SGD": lambda parameters: tinytorch.SGD(parameters, lr=0.05, momentum=0.9, nesterov=True),
    "Adam": lambda parameters: tinytorch.Adam(parameters, lr=0.02),
}


def trained(model, optimizer, x, labels, steps):
    p = next(model.parameters())
    x, labels = x.to(p.device), labels.to(p.device)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = tinytorch.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_goes_on_where_the_model_is_moved(device_pair, name):
    source, target = device_pair

    def start():
        tinytorch.manual_seed(3)
        model = tinytorch.Sequential(tinytorch.Linear(4, 8), tinytorch.Tanh(), tinytorch.Linear(8, 3)).to(source)
        return model, OPTIMIZERS[name](model.parameters())

    rng = np.random.Generator(np.random.Philox(1))
    x, labels = Tensor(rng.standard_normal((12, 4)), "float32"), Tensor(rng.integers(0, 3, 12), "int32")
    model, optimizer = start()
    expected = trained(model, optimizer, x, labels, 8)
    end = model.state_dict()

    model, optimizer = start()
    found = trained(model, optimizer, x, labels, 4)
    model.to(target)
    found += trained(model, optimizer, x, labels, 4)
    assert {p.device for p in model.parameters()} == {target}
    assert_close(np.asarray(found), np.asarray(expected), rtol=1e-5, atol=1e-6)
    assert_close(model.state_dict(), end, rtol=1e-4, atol=1e-5)
    assert found[-1] < found[0] * 0.9

    model, optimizer = start()  # and it is the state that makes it go on like that
    trained(model, optimizer, x, labels, 4)
    fresh = trained(model, OPTIMIZERS[name](model.parameters()), x, labels, 4)
    assert abs(fresh[-1] - expected[-1]) > 1e-3


# DLPack -----------------------------------------------------------------------------------------------------------


def test_numpy_takes_a_tensor_of_host_memory_as_it_is(device):
    dev = tinytorch.device(device)
    x = tinytorch.from_dlpack(aligned(), device=device)
    if dev.memory == HOST:
        n = np.from_dlpack(x)
        assert n.ctypes.data == address(x.to("cpu"))
        assert n.tolist() == x.tolist()
    elif x.__dlpack_device__()[0] != HOST[0] or dev.name.startswith("strict:d"):
        with pytest.raises((BufferError, RuntimeError), match=r"Unsupported device|use x\.cpu\(\)"):
            np.from_dlpack(x)
    assert np.from_dlpack(x.cpu()).tolist() == x.tolist()  # the fix


def test_a_tensor_is_made_of_any_library_s_array(device):
    dev = tinytorch.device(device)
    x = tinytorch.from_dlpack(aligned(), device=device)
    kind = x.__dlpack_device__()[0]
    y = tinytorch.from_dlpack(x.array)
    assert y.device.name == ("cpu" if kind == HOST[0] else device)
    assert y.tolist() == x.tolist()
    if dev.memory == HOST:
        assert address(y) == address(x)
    again = tinytorch.from_dlpack(x.array, device=device)
    assert (again.device, type(again.array)) == (dev, dev.array_type)
    assert again.tolist() == x.tolist()
    assert tinytorch.asarray(x.array).device is dev  # asarray stays with the library


class Elsewhere:
    def __dlpack_device__(self):
        return 99, 0


def test_memory_that_no_device_has():
    with pytest.raises(ValueError, match=r"no device has memory of DLPack's type 99; copy the array to the host first"):
        tinytorch.from_dlpack(Elsewhere())


def library(name):
    return pytest.importorskip(name, reason=f"{name} is not installed")


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_another_library_takes_a_tensor_as_it_is(name, device):
    if tinytorch.device(device).memory != HOST:
        pytest.skip(f"{device} is not of host memory")
    take = library(name).from_dlpack if name == "torch" else library("jax.dlpack").from_dlpack
    host = aligned()
    x = tinytorch.from_dlpack(host, device=device)
    taken = take(x)
    assert type(taken).__module__.startswith(name)
    assert np.from_dlpack(taken).ctypes.data == address(x) == host.ctypes.data
    back = tinytorch.from_dlpack(taken)
    assert back.tolist() == host.tolist()
    assert address(back) == host.ctypes.data


def test_pytorch_is_not_ended_by_elements_that_lie_backwards(device):
    torch = library("torch")
    if tinytorch.device(device).memory != HOST and device != "strict:CPU_DEVICE":
        pytest.skip(f"{device} is not of host memory")
    x = tinytorch.flip(tinytorch.from_dlpack(aligned(4), device=device))
    assert torch.from_dlpack(x).tolist() == [3.0, 2.0, 1.0, 0.0]
    if device == "cpu":
        with pytest.raises(BufferError, match=r"not without a copy.*use x\.copy\(\)"):
            x.__dlpack__(copy=False)


def test_a_pytorch_tensor_with_a_gradient_is_not_taken():
    torch = library("torch")
    x = torch.ones(2, requires_grad=True)
    with pytest.raises(BufferError, match="tensors that require gradient"):
        tinytorch.from_dlpack(x)
    with pytest.raises(ValueError, match=r"requires a gradient, which would be lost; pass x\.detach\(\)"):
        tinytorch.asarray(x)
    assert tinytorch.asarray(x.detach()).device.name == "torch:cpu"


def test_arrays_of_a_subclass_become_plain_ones():
    torch = library("torch")
    x = tinytorch.asarray(torch.nn.Parameter(torch.ones(2), requires_grad=False))
    assert type(x.array) is type((x + 1).array) is torch.Tensor
