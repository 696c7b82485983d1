"""CUDA alone: streams, memory, index checks and joined arrays. Deferred execution shows what does not wait for work."""

from __future__ import annotations

import importlib
import threading

import numpy as np
import pytest

import tinytorch
from tests.backends.test_devices import python
from tinytorch import Tensor, backends


@pytest.fixture
def cupy():
    if not any(d.library == "cupy" for d in backends.usable_devices()):
        pytest.skip("there is no usable CUDA device")
    return importlib.import_module("cupy")


@pytest.fixture
def dev(cupy):
    return tinytorch.device("cuda:0")


@pytest.fixture
def module(dev):
    """backends.cuda, which is imported where CuPy is."""
    return importlib.import_module(type(dev).__module__)


def in_thread(function):
    """Run it in another thread, to its end; what it raised is raised here."""
    failed = []

    def run():
        try:
            function()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    for error in failed:
        raise error


HOST = np.random.Generator(np.random.Philox(0)).standard_normal((64, 64)).astype("float32")


# Streams ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attempt", range(5))
def test_a_stream_starts_after_what_was_asked_for_before_it(attempt, dev, cupy):
    x = Tensor(HOST, device=dev) * 2.0 + 1.0
    with dev.stream() as stream:
        y = x * 3.0
    stream.synchronize()
    np.testing.assert_allclose(cupy.asnumpy(y.array), (HOST * 2.0 + 1.0) * 3.0, rtol=1e-5)


@pytest.mark.parametrize("attempt", range(5))
def test_what_comes_after_a_block_waits_for_its_stream(attempt, dev, cupy):
    x = Tensor(HOST, device=dev)
    dev.synchronize()
    stream = dev.stream()
    with stream:
        y = x * 3.0
    z = y + 1.0
    cupy.cuda.Stream.null.synchronize()  # that of z alone
    np.testing.assert_allclose(cupy.asnumpy(z.array), HOST * 3.0 + 1.0, rtol=1e-5)


def test_streams_inside_each_other_and_a_stream_inside_itself(dev):
    x = Tensor(HOST, device=dev)
    with dev.stream() as first:
        y = x * 2.0
        with dev.stream(), first:
            z = y + 1.0
        z = z * 2.0
    np.testing.assert_allclose(z.numpy(), (HOST * 2.0 + 1.0) * 2.0, rtol=1e-5)
    assert dev.entered.streams == []


def test_an_error_inside_a_block_leaves_it_in_order(dev, cupy):
    before = cupy.cuda.get_current_stream()
    made = []

    def fail():
        made.append(Tensor(HOST, device=dev) * 3.0)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), dev.stream():
        fail()
    assert cupy.cuda.get_current_stream() == before
    np.testing.assert_allclose((made[0] + 1.0).numpy(), HOST * 3.0 + 1.0, rtol=1e-5)


def overwrite(dev, cupy):
    """In another thread, on the default stream: take all memory that is free there, and write into it."""

    def write():
        with cupy.cuda.Device(dev.index):
            taken = [cupy.full(HOST.shape, 7.0, "float32") for _ in range(16)]
            cupy.cuda.Stream.null.synchronize()
            taken.clear()

    in_thread(write)


@pytest.mark.parametrize("calls", [1, 200])
def test_memory_that_a_stream_still_reads_is_not_handed_out(calls, dev, cupy):
    xs = [Tensor(HOST, device=dev) for _ in range(calls)]
    dev.synchronize()
    with dev.stream() as stream:
        ys = [xs.pop() * 3.0 for _ in range(calls)]
        overwrite(dev, cupy)
    overwrite(dev, cupy)
    stream.synchronize()
    for y in ys:
        np.testing.assert_allclose(cupy.asnumpy(y.array), HOST * 3.0, rtol=1e-5)


def test_memory_that_gradient_rules_still_read_is_not_handed_out(dev, cupy):
    x, w = Tensor(HOST, device=dev), Tensor(HOST, device=dev, requires_grad=True)
    y = (w * x).sum()  # the rule of w alone has x
    del x
    dev.synchronize()
    with dev.stream() as stream:
        y.backward()
        del y
        overwrite(dev, cupy)
    stream.synchronize()
    np.testing.assert_allclose(cupy.asnumpy(w.grad.array), HOST, rtol=1e-5)


def test_what_was_kept_for_a_stream_is_let_go(dev):
    with dev.stream() as stream:
        x = Tensor(HOST, device=dev)
        for _ in range(200):
            x = x + 1.0
    stream.synchronize()
    dev.synchronize()
    assert dev._kept == []


def test_threads_leave_a_stream_to_where_each_came_from(dev, cupy):
    stream, order, seen = dev.stream(), threading.Barrier(2, timeout=30), {}

    def enter(name):
        with dev.stream() as own:
            order.wait()
            with stream:
                order.wait()
                if name == "last":
                    order.wait()
            if name == "first":
                order.wait()
            with cupy.cuda.Device(dev.index):
                seen[name] = cupy.cuda.get_current_stream() == own.native

    threads = [threading.Thread(target=enter, args=(name,), daemon=True) for name in ("first", "last")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {"first": True, "last": True}


def test_dlpack_is_in_order_whichever_device_is_current(dev, cupy):
    if cupy.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("there is one CUDA device, not two")
    there = tinytorch.device("cuda:1")
    x = Tensor(HOST, device=there)
    there.synchronize()
    with cupy.cuda.Device(1):
        consumer = cupy.cuda.Stream(non_blocking=True)
    with there.stream():
        y = x * 3.0
        y.__dlpack__(stream=consumer.ptr)
        consumer.synchronize()
        with cupy.cuda.Device(1):
            found = cupy.asnumpy(y.array, stream=consumer)
            consumer.synchronize()
    np.testing.assert_allclose(found, HOST * 3.0, rtol=1e-5)


# Memory -----------------------------------------------------------------------------------------------------------


def test_what_lies_backwards_in_memory_is_exported_as_a_copy(dev):
    x = Tensor([1.0, 2.0, 3.0], device=dev)
    for back in (x[::-1], tinytorch.flip(Tensor(HOST, device=dev), axis=1)):
        out = dev.exported(back.array)
        assert min(out.strides) >= 0
        assert dev.to_numpy(out).tolist() == back.tolist()
        if min(back.array.strides) < 0:
            with pytest.raises(BufferError, match="its elements lie backwards in memory"):
                back.__dlpack__(copy=False)
    assert dev.exported(x.array) is x.array


def test_memory_is_given_back_when_it_is_not_to_be_kept(dev, cupy):
    assert dev.keep_memory()
    pool = cupy.get_default_memory_pool()
    with cupy.cuda.Device(dev.index):
        kept = tinytorch.ones((1024,), device=dev)
        tinytorch.zeros((1 << 20,), device=dev).numpy()
        assert pool.free_bytes() >= 4 << 20
        assert dev.keep_memory(False)
        assert pool.free_bytes() < 4 << 20
        assert cupy.get_default_pinned_memory_pool().n_free_blocks() == 0
    assert kept.numpy().sum() == 1024


@pytest.mark.parametrize("shape", [(3,), (0, 4), (1 << 20,), (512, 1024)], ids=str)
def test_host_arrays_are_copied_without_pinned_memory_that_stays(shape, dev, cupy):
    host, pinned = np.ones(shape, "float32"), []
    pool = cupy.get_default_pinned_memory_pool()
    cupy.cuda.set_pinned_memory_allocator(lambda size: (pinned.append(size), pool.malloc(size))[1])
    try:
        for given in (host, host.T):
            array = dev.from_numpy(given)
            host[...] = 2.0
            np.testing.assert_array_equal(dev.to_numpy(array), np.ones(given.shape, "float32"))
            host[...] = 1.0
    finally:
        cupy.cuda.set_pinned_memory_allocator(pool.malloc)
    assert host.nbytes < 1 << 16 or pinned == []


MISSING = {
    "headers": "import cuda.pathfinder as p; p.find_nvidia_header_directory = lambda *_: None",
    "compiler": "import cupy\ndef no(*_): raise RuntimeError('CuPy failed to load libnvrtc.so.12')\n"
    "cupy.cuda.compiler._get_nvrtc_version = no",
    "products": "import sys, cupy; sys.modules['cupy_backends.cuda.libs.cublas'] = None",
}


@pytest.mark.usefixtures("dev")
@pytest.mark.parametrize("what", MISSING)
def test_a_driver_without_a_toolkit(what):
    reason, error = python(
        f"{MISSING[what]}\nimport tinytorch\n"
        "print(next((d.usable, d.reason, d.fix) for d in tinytorch.devices() if d.library == 'cupy'))\n"
        "try: tinytorch.zeros(1, device='cuda')\n"
        "except tinytorch.Unavailable as error: print(error)"
    ).splitlines()
    assert reason.startswith("(False, 'CuPy ")
    assert "an NVIDIA driver are installed, but the CUDA toolkit is not, or not whole: " in reason
    assert "pip install 'tinytorch-xp[cuda12]'" in reason
    assert "the CUDA toolkit is not, or not whole: " in error


# Sums by index, and joined arrays ----------------------------------------------------------------------------------


@pytest.mark.parametrize("in_order", [True, False])
@pytest.mark.parametrize("dtype", [d.name for d in tinytorch.__array_namespace_info__().dtypes().values()])
def test_scatter_add_takes_every_dtype(dtype, in_order, dev, module, monkeypatch):
    if not in_order:
        monkeypatch.setattr(module, "_IN_ORDER", (0, 0))
    rng = np.random.Generator(np.random.Philox(0))
    values, indices = rng.integers(0, 100, (300, 3)).astype(dtype), rng.integers(0, 4, 300)
    values[indices == 2] = 0
    expected = np.zeros((5, 3), dtype)
    np.add.at(expected, indices, values)
    found = dev.current(dev.scatter_add, dev.from_numpy(values), dev.from_numpy(indices), 5)
    assert found.dtype == dtype
    np.testing.assert_array_equal(dev.to_numpy(found), expected)


@pytest.mark.parametrize(("dtype", "large", "total"), [("float64", 1e16, 3.0), ("float32", 1e8, 4.0)])
def test_scatter_add_sums_in_the_order_of_the_indices(dtype, large, total, dev):
    values = np.array([large, 1.0, -large, 1.0, 2.0], dtype)  # float32 is added in float64, which loses nothing here
    found = dev.current(dev.scatter_add, dev.from_numpy(values), dev.from_numpy(np.zeros(5, "int64")), 1)
    assert dev.to_numpy(found).tolist() == [total]


@pytest.mark.parametrize("count", [1, 2, 9, 64, 65, 130])
@pytest.mark.parametrize("axis", [None, 0, 1, 2, -1, -3])
def test_arrays_are_joined_as_numpy_joins_them(axis, count, dev):
    rng = np.random.Generator(np.random.Philox(count))
    hosts = []
    for i in range(count):
        shape = [3, 4, 2]
        shape[axis or 0] = int(rng.integers(0, 4))
        hosts.append(rng.standard_normal(shape).astype("float32"))
        if i % 3 == 1:
            hosts[-1] = np.asfortranarray(hosts[-1])
    arrays = [dev.from_numpy(h) for h in hosts]
    found = dev.current(lambda: dev.xp.concat(arrays, axis=axis))
    np.testing.assert_array_equal(dev.to_numpy(found), np.concatenate(hosts, axis=axis))


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "float32", "int64"])
def test_arrays_of_every_size_of_element_are_joined(dtype, dev):
    hosts = [np.arange(n).astype(dtype) for n in (3, 0, 5)]
    joined = dev.current(lambda: dev.xp.concat([dev.from_numpy(h) for h in hosts]))
    assert (joined.dtype, dev.to_numpy(joined).tolist()) == (dtype, np.concatenate(hosts).tolist())
    for axis in (0, 1, -1):
        rows = [np.arange(6).reshape(2, 3).astype(dtype)] * 10
        stacked = dev.current(lambda rows=rows, axis=axis: dev.xp.stack([dev.from_numpy(r) for r in rows], axis=axis))
        np.testing.assert_array_equal(dev.to_numpy(stacked), np.stack(rows, axis=axis))


def test_what_cannot_be_joined_is_refused(dev):
    for a, b in (((2, 3), (2, 4)), ((2,), (2, 2)), ((), ())):
        with pytest.raises((ValueError, IndexError)):
            tinytorch.concat([tinytorch.zeros(a, device=dev), tinytorch.zeros(b, device=dev)])
    with pytest.raises((ValueError, IndexError)):
        tinytorch.concat([tinytorch.zeros((2,), device=dev)] * 2, axis=1)


# Index checks -----------------------------------------------------------------------------------------------------


def check(dev, numbers, size=5, what="rows", ignore=None, dtype="int64"):
    indices = dev.from_numpy(np.array(numbers, dtype))
    return indices, dev.current(dev.check_index, indices, size, what, ignore)


def test_an_index_check_says_what_was_there_when_it_was_asked_for(dev, cupy):
    indices, _ = check(dev, [0, 9, 7])
    with cupy.cuda.Device(dev.index):
        indices[...] = 0
    with pytest.raises(IndexError, match=r"^rows: 9 is outside \[0, 5\) \(2 such values\), in an earlier call on cuda"):
        dev.synchronize()
    dev.synchronize()


def test_all_failed_index_checks_are_said(dev):
    check(dev, [5], what="first")
    check(dev, [4], what="right")
    check(dev, [0, -3], what="second")
    check(dev, [-3], what="second")
    with pytest.raises(IndexError) as raised:
        tinytorch.ones(1, device=dev).numpy()
    said = "first: 5 is outside [0, 5); second: -3 is outside [0, 5), in an earlier call on cuda:0"
    assert str(raised.value) == said
    check(dev, [4])
    dev.synchronize()


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "int64"])
def test_index_checks_of_every_integer(dtype, dev):
    check(dev, [0, 4, 100], ignore=100, dtype=dtype)
    check(dev, [[0, 4], [1, 2]], dtype=dtype)
    dev.synchronize()
    check(dev, np.arange(100)[::-1][::3].reshape(2, -1), 99, dtype=dtype)
    with pytest.raises(IndexError, match="rows: 99 is outside"):
        dev.synchronize()
    check(dev, [], dtype=dtype)
    dev.synchronize()


def test_many_index_checks_over_many_elements(dev):
    indices = dev.from_numpy(np.arange(400_000) % 7)
    for i in range(400):
        dev.current(dev.check_index, indices[:10], 7, "few", None)
        if i == 300:
            dev.current(dev.check_index, indices, 6, "many", None)
    with pytest.raises(IndexError, match=r"^many: 6 is outside \[0, 6\) \(57142 such values\)"):
        dev.synchronize()


def test_index_checks_that_nobody_reads_are_read_in_the_end(dev, module):
    check(dev, [9])
    for _ in range(module._PENDING - 2):
        check(dev, [0])
    with pytest.raises(IndexError, match="rows: 9 is outside"):
        check(dev, [0])
    dev.synchronize()


def test_each_thread_gets_its_own_index_errors(dev):
    checked, read = threading.Event(), threading.Event()

    def other():
        check(dev, [8], what="theirs")
        checked.set()
        read.wait(30)
        with pytest.raises(IndexError, match=r"^theirs: 8 is outside"):
            dev.synchronize()

    thread = threading.Thread(target=in_thread, args=(other,), daemon=True)
    thread.start()
    checked.wait(30)
    check(dev, [6], what="mine")
    with pytest.raises(IndexError, match=r"^mine: 6 is outside \[0, 5\), in"):
        dev.synchronize()
    dev.synchronize()
    read.set()
    thread.join()
    in_thread(lambda: check(dev, [7], what="whose thread has ended"))
    with pytest.raises(IndexError, match=r"^whose thread has ended: 7"):
        dev.synchronize()
    dev.synchronize()


def test_index_checks_inside_streams(dev):
    for numbers in ([6], [7]):
        with dev.stream():
            check(dev, numbers)
    with pytest.raises(IndexError, match=r"rows: 6 is outside \[0, 5\); rows: 7 is outside"):
        dev.synchronize()
    dev.synchronize()


# Dropout ----------------------------------------------------------------------------------------------------------


HELD = {"none": [], "half": [1], "words": [2], "both": [3, 2], "one": [7], "doubles": [-1, 1], "eight": [8]}


@pytest.mark.parametrize("held", HELD)
@pytest.mark.parametrize("shape", [(), (1,), (5,), (8,), (9,), (17, 3), (1000,), (0, 2)], ids=str)
def test_dropout_masks_are_numpys_and_leave_its_generator_alike(shape, held, dev):
    for dtype in ("float32", "float64"):
        found = []
        for where in (tinytorch.device("cpu"), dev):
            generator = np.random.Generator(np.random.Philox(3))
            for n in HELD[held]:
                generator.random(abs(n), dtype="float32" if n > 0 else "float64")
            args = generator, shape, 0.3, np.dtype(dtype)
            mask = where.to_numpy(tinytorch.autograd.run_on(where, where.dropout_mask, *args))
            found.append((mask.dtype, mask.tolist(), repr(generator.bit_generator.state)))
        assert found[0] == found[1]


@pytest.mark.parametrize("counter", [(-1, 0, 0, 0), (-3, -1, -1, 5), (-4, -1, -1, -1)], ids=str)
def test_the_counter_of_dropout_carries(counter, dev):
    found = []
    for where in (tinytorch.device("cpu"), dev):
        bits = np.random.Philox(1)
        state = bits.state
        state["state"]["counter"] = np.array(counter).astype("uint64")
        bits.state = state
        mask = tinytorch.autograd.run_on(
            where, where.dropout_mask, np.random.Generator(bits), (200,), 0.5, np.dtype("float32")
        )
        found.append((where.to_numpy(mask).tolist(), repr(bits.state)))
    assert found[0] == found[1]


@pytest.mark.parametrize("p", [0.0, 0.1, 1.0])
def test_dropout_on_cuda_is_dropout_on_the_cpu(p, dev):
    values = []
    for where in ("cpu", dev):
        tinytorch.manual_seed(5)
        layer = tinytorch.Dropout(p)
        x = tinytorch.ones((50, 7), device=where)
        values.append([layer(x).tolist(), layer(x).tolist(), tinytorch.rand(3).tolist()])
    assert values[0] == values[1]
