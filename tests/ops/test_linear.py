"""Indexing costs memory and time in proportion to the arrays: forward, backward, and for many slices of one array.

What is counted is bytes, of all arrays that are made or of the most that are there at a time, for n and for 2 n: twice
as many (and a logarithm more, where something is sorted), not four times.
"""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import tinytorch
from tests import test_counts
from tinytorch import Tensor, backends
from tinytorch.backends import Device, standard
from tinytorch.backends.standard import last_of
from tinytorch.testing import assert_close


class Sliced(test_counts.CountingDevice):
    """Slices put together by the standard-only default."""

    add_parts = Device.add_parts

    @classmethod
    def canonical(cls, index):
        return "sliced"


@pytest.fixture(scope="module", autouse=True)
def _devices():
    backends.register("counting", test_counts.CountingDevice)
    backends.register("sliced", Sliced)
    yield
    for name in ("counting", "sliced"):
        backends.unregister(name)


def draw(*shape):
    return np.random.Generator(np.random.Philox(0)).standard_normal(shape).astype("float32")


def made(work, n, device):
    """The bytes of all arrays that the work makes."""
    work(n, device)
    test_counts.COUNTS.reset()
    work(n, device)
    return test_counts.COUNTS.size


def peak(work, n, device):
    """The most bytes that are there at a time."""
    work(n, device)
    tracemalloc.start()
    work(n, device)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


# Many slices of one tensor ----------------------------------------------------------------------------------------


def rows(take, create=False):
    """The work of n slices of an (n, 8) tensor, each multiplied by itself, and of their gradients."""

    def work(n, device):
        x = Tensor(draw(n, 8), device=device, requires_grad=True)
        squares = [r * r for r in take(x * 2.0)]
        total = tinytorch.stack([s.sum() for s in squares]).sum()
        if not create:
            total.backward()
            return x.grad
        (g,) = tinytorch.grad(total, x, create_graph=True)
        return tinytorch.grad((g * g).sum(), x)[0]

    return work


def columns(x):
    return [x[:, t] for t in range(x.shape[1])]


TAKES = {
    "unstack": tinytorch.unstack,
    "split": lambda x: tinytorch.split(x, 1),
    "iteration": list,
    "x[i]": lambda x: [x[i] for i in range(len(x))],
    "x[-i]": lambda x: [x[-i - 1] for i in range(len(x))],
    "x[i:i + 1]": lambda x: [x[i : i + 1] for i in range(len(x))],
    "x.T[:, t]": lambda x: columns(x.T),
    "x[i, ::2]": lambda x: [x[i, ::2] for i in range(len(x))],
    "x[i, j]": lambda x: [x[i, j] for i in range(len(x)) for j in range(2)],
    "the same row": lambda x: [x[0] for _ in range(len(x))],
    "windows": lambda x: [x[i : i + 3] for i in range(len(x) - 2)],
}


@pytest.mark.parametrize("name", TAKES)
@pytest.mark.parametrize("place", ["counting", "sliced"])
def test_many_slices_of_one_tensor_cost_what_they_are(name, place):
    small, large = (made(rows(TAKES[name]), n, place) for n in (40, 160))
    assert large < 4.6 * small


@pytest.mark.parametrize("name", ["unstack", "x.T[:, t]", "x[i, ::2]"])
@pytest.mark.parametrize("place", ["counting", "sliced"])
def test_they_do_at_second_order(name, place):
    small, large = (made(rows(TAKES[name], create=True), n, place) for n in (40, 160))
    assert large < 4.6 * small


@pytest.mark.parametrize("name", TAKES)
@pytest.mark.parametrize("create", [False, True], ids=["first", "second"])
def test_they_have_the_right_gradient(name, create, device):
    x = Tensor(draw(6, 8), device=device, requires_grad=True)
    counts = np.zeros((6, 8), "float32")
    for part in TAKES[name](Tensor(np.arange(48.0).reshape(6, 8))):
        counts.reshape(-1)[part.numpy().astype(int)] += 1
    if create:  # of (8 count x)**2 that is 2 (8 count)**2 x
        assert_close(rows(TAKES[name], create)(6, device), Tensor(128 * counts**2 * draw(6, 8), device=device))
    else:
        assert_close(rows(TAKES[name])(6, device), Tensor(8 * counts * draw(6, 8), device=device))
    assert x.grad is None


def test_slices_and_other_uses_of_one_tensor_add_up(device):
    x = Tensor(draw(4, 3), device=device, requires_grad=True)
    h = x * 1.0
    (
        h[1].sum() + (h * h).sum() + h[1:3, ::-2].sum() + h[..., 0].sum() + h[None, 2, None].sum() + h[2:2].sum()
    ).backward()
    expected = 2 * draw(4, 3)
    expected[1] += 1
    expected[1:3, ::-2] += 1
    expected[..., 0] += 1
    expected[2] += 1
    assert_close(x.grad, Tensor(expected, device=device))


def test_slices_of_a_leaf_and_of_a_scalar(device):
    x = Tensor(2.0, device=device, requires_grad=True)
    (x[...] * x[()]).backward()
    assert x.grad.item() == 4.0
    (g,) = tinytorch.grad(x[...] * x[...] * x[None][0], x, create_graph=True)
    (h,) = tinytorch.grad(g, x)
    assert (g.item(), h.item()) == (12.0, 12.0)


def test_observers_see_arrays_of_slices(device):
    shapes = []

    class Shapes(tinytorch.autograd.Observer):
        def pulled(self, node, source, gradient):
            shapes.append((type(gradient) is node.device.array_type, tuple(gradient.shape)))

    x = Tensor(draw(3, 2), device=device, requires_grad=True)
    y = x[0].sum() + x[1].sum()
    with Shapes():
        y.backward()
    assert shapes.count((True, (3, 2))) == 2
    assert x.grad.tolist() == [[1.0, 1.0], [1.0, 1.0], [0.0, 0.0]]


def test_a_loop_over_time_trains_as_one_product(device):
    """x[:, t] in a loop, as a recurrent layer has it."""
    x, w = (Tensor(a, device=device, requires_grad=True) for a in (draw(2, 5, 3), draw(3, 3)))
    h = tinytorch.zeros((2, 3), device=device)
    for t in range(5):
        h = h + x[:, t] @ w
    h.sum().backward()
    gx, gw = x.grad, w.grad
    x.grad = w.grad = None
    (x @ w).sum().backward()
    assert_close(gx, x.grad, rtol=1e-5, atol=1e-5)
    assert_close(gw, w.grad, rtol=1e-5, atol=1e-5)


# Integer indices --------------------------------------------------------------------------------------------------


def one_hot(n, device):
    labels = tinytorch.asarray(np.arange(n) % 10, device=device, dtype=tinytorch.device(device).default_int)
    y = tinytorch.zeros((n, 10), device=device)
    y[tinytorch.arange(n, device=device), labels] = 1.0
    return y


def along(n, device):
    x = Tensor(draw(4, n), device=device, requires_grad=True)
    places = tinytorch.asarray(np.arange(4 * n).reshape(4, n) * 7 % n, device=device)
    tinytorch.take_along_axis(x, places, axis=1).sum().backward()
    return x.grad


def picked(n, device):
    x = Tensor(draw(n, 4), device=device, requires_grad=True)
    x[tinytorch.arange(n, device=device), tinytorch.arange(n, device=device) % 4].sum().backward()
    return x.grad


def product(n, device):
    x = Tensor(1.0 + draw(n) / n, device=device, requires_grad=True)
    tinytorch.cumulative_prod(x).sum().backward()
    return x.grad


@pytest.mark.parametrize("work", [one_hot, along, picked, product])
@pytest.mark.parametrize("place", ["cpu", "strict:device1"])
def test_integer_indices_take_memory_for_themselves(work, place, strict):
    place = place if place == "cpu" else strict("device1")
    assert peak(work, 4000, place) < 2.5 * peak(work, 2000, place)


def test_one_hot_rows(device):
    assert one_hot(12, device).tolist() == np.eye(10, dtype="float32")[np.arange(12) % 10].tolist()


def test_of_equal_indices_the_last_value_stays_and_has_the_gradient(device):
    x = Tensor(draw(5, 3), device=device, requires_grad=True)
    v = Tensor(draw(2, 3, 3), device=device, requires_grad=True)
    y = x * 1.0
    places = tinytorch.asarray([[1, -1, 1], [0, 1, 4]], device=device)
    y[places] = v
    expected = draw(5, 3)
    given = draw(2, 3, 3)
    expected[[1, 0, 4]] = given[1, 1], given[1, 0], given[1, 2]
    assert_close(y, Tensor(expected, device=device))
    (y * y).sum().backward()
    of_x = 2 * draw(5, 3)
    of_x[[0, 1, 4]] = 0
    of_v = np.zeros((2, 3, 3), "float32")
    of_v[1] = 2 * given[1]
    assert_close(x.grad, Tensor(of_x, device=device))
    assert_close(v.grad, Tensor(of_v, device=device))


def test_of_many_equal_indices_the_last_value_stays(device):
    """Enough of them that a library would share them among threads."""
    n = 100_000
    x, values = tinytorch.zeros(3, device=device), tinytorch.arange(float(n), device=device)
    x[tinytorch.arange(n, device=device) % 3] = values
    assert x.tolist() == [99_999.0, 99_997.0, 99_998.0]


def test_assignments_at_indices_broadcast(device):
    v = Tensor([1.0, 2.0], device=device, requires_grad=True)
    s = Tensor(5.0, device=device, requires_grad=True)
    y = tinytorch.zeros((4, 2), device=device)
    y[tinytorch.asarray([0, 2, 0], device=device)] = v
    y[tinytorch.asarray([3, 3], device=device), 1] = s
    assert y.tolist() == [[1.0, 2.0], [0.0, 0.0], [1.0, 2.0], [0.0, 5.0]]
    y.sum().backward()
    assert (v.grad.tolist(), s.grad.item()) == ([2.0, 2.0], 1.0)


@pytest.mark.parametrize(
    "key",
    [
        ([0, 2, 0], 1),
        ([3, -1], slice(1, 3)),
        (slice(None), [0, 2]),
        (slice(3, 0, -2), [[0], [1]]),
        (..., [2, 2]),
        (1, [0, 2]),
        ([2, 0], None, slice(0, 2)),
    ],
    ids=str,
)
def test_assignments_at_indices_and_slices_are_numpy_s(key, device):
    expected = draw(4, 3)
    x, block = Tensor(expected, device=device), draw(*expected[key].shape)
    v = Tensor(block, device=device, requires_grad=True)
    x[key] = v
    expected[key] = block
    assert_close(x, Tensor(expected, device=device))
    (x * x).sum().backward()
    stays = np.zeros((4, 3), int)
    stays[key] = np.arange(1, block.size + 1).reshape(block.shape)
    here = stays[key] == np.arange(1, block.size + 1).reshape(block.shape)
    assert_close(v.grad, Tensor(np.where(here, 2 * block, 0), "float32", device=device))
    x[key] = 7.0
    expected[key] = 7.0
    assert_close(x, Tensor(expected, device=device))


def test_assignments_have_second_derivatives(device):
    v = Tensor([1.0, 2.0, 3.0], device=device, requires_grad=True)
    x = Tensor([1.0, 2.0, 3.0], device=device, requires_grad=True)
    y = x * 1.0
    y[tinytorch.asarray([2, 0, 2], device=device)] = v * v
    y[1:] = y[1:] * v[1:]
    (g,) = tinytorch.grad((y * y).sum(), v, create_graph=True)
    (h,) = tinytorch.grad(g.sum(), v)
    # y = v1**2, x1 v1, v2**3: the sum of their squares is v1**4 + (x1 v1)**2 + v2**6
    assert_close(g, Tensor([0.0, 4 * 8.0 + 2 * 4 * 2.0, 6 * 243.0], device=device), rtol=1e-5, atol=1e-5)
    assert_close(h, Tensor([0.0, 12 * 4.0 + 2 * 4.0, 30 * 81.0], device=device), rtol=1e-5, atol=1e-5)


def test_take_along_axis_adds_up_where_lines_broadcast(device):
    x = Tensor(draw(1, 4), device=device, requires_grad=True)
    places = tinytorch.asarray([[0, 0, -1], [1, 0, 3]], device=device)
    tinytorch.take_along_axis(x, places, axis=1).sum().backward()
    assert x.grad.tolist() == [[3.0, 1.0, 0.0, 2.0]]
    x = Tensor(draw(0, 4), device=device, requires_grad=True)
    none = tinytorch.zeros((0, 2), dtype=tinytorch.int64, device=device)
    tinytorch.take_along_axis(x, none, axis=1).sum().backward()
    assert x.grad.shape == (0, 4)


# The defaults of the extension points -----------------------------------------------------------------------------


KEYS = {
    "rows": [(slice(i, i + 1, 1), slice(0, 4, 1)) for i in (3, 0, 2)],
    "overlapping": [(slice(i, i + 3, 1), slice(0, 4, 1)) for i in (0, 1, 2)],
    "equal": [(slice(1, 2, 1), slice(2, 3, 1))] * 3,
    "steps": [(slice(0, 5, 2), slice(1, 4, 2)), (slice(1, 4, 2), slice(0, 4, 3))],
    "empty": [(slice(0, 0, 1), slice(0, 4, 1))],
    "empty, and not": [(slice(0, 0, 1), slice(0, 4, 1)), (slice(4, 5, 1), slice(0, 4, 1))],
    "crossing": [(slice(0, 5, 1), slice(1, 2, 1)), (slice(1, 2, 1), slice(0, 4, 1)), (slice(0, 5, 1), slice(0, 4, 1))],
}


@pytest.mark.parametrize("name", KEYS)
def test_add_parts_and_put(name, device):
    dev = tinytorch.device(device)
    shape, keys = (5, 4), KEYS[name]
    hosts = [draw(*(len(range(k.start, k.stop, k.step)) for k in key)) for key in keys]
    parts = [dev.from_numpy(a) for a in hosts]
    expected, set_to = np.zeros(shape, "float32"), draw(*shape)
    for key, part in zip(keys, hosts, strict=True):
        expected[key] += part
    set_to[keys[0]] = hosts[0]

    def call(function, *args):
        return dev.to_numpy(tinytorch.autograd.run_on(dev, function, *args))

    for add in (lambda *args: standard.add_parts(dev, *args), dev.add_parts):
        assert_close(call(add, parts, keys, shape), expected, rtol=1e-6, atol=1e-6)
    for put in (lambda *args: standard.put(dev, *args), dev.put):
        assert_close(call(put, dev.from_numpy(draw(*shape)), keys[0], parts[0]), set_to)


@pytest.mark.parametrize("indices", [[2, 0, 2, 2, 4], [], [1], [3, 3]], ids=str)
def test_rows_put_and_summed(indices, device):
    dev = tinytorch.device(device)
    places, values = np.asarray(indices, dev.default_int), draw(len(indices), 3)
    put, summed, last = draw(5, 3), np.zeros((5, 3), "float32"), np.full(5, -1)
    put[places] = values
    np.add.at(summed, places, values)
    last[places] = np.arange(len(indices))
    args = dev.from_numpy(draw(5, 3)), dev.from_numpy(places), dev.from_numpy(values)

    def call(function, *args):
        return dev.to_numpy(tinytorch.autograd.run_on(dev, function, *args))

    for function in (lambda *args: standard.put(dev, *args), dev.put):
        assert_close(call(function, *args), put)
    for function in (lambda *args: standard.scatter_add(dev, *args), dev.scatter_add):
        assert_close(call(function, args[2], args[1], 5), summed, rtol=1e-6, atol=1e-6)
    assert call(lambda i: last_of(dev, i, 5), args[1]).tolist() == last.tolist()


def test_sums_by_index_keep_infinities_to_their_rows(device):
    values = tinytorch.asarray([np.inf, 1.0, np.nan, 2.0], device=device)
    summed = tinytorch.ops.scatter_add(values, tinytorch.asarray([0, 1, 2, 1], device=device), size=4)
    assert np.array_equal(summed.numpy(), np.asarray([np.inf, 3.0, np.nan, 0.0]), equal_nan=True)
