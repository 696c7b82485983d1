"""A device with nothing of its own: arrays of NumPy, the defaults of `Device`, and a library that must be current."""

from __future__ import annotations

import array_api_compat.numpy as standard
import numpy as np
import pytest

import tinytorch
from tinytorch import Tensor, backends
from tinytorch.backends import Device, registry
from tinytorch.testing import assert_close


class Plain(Device):
    library = "numpy"
    xp = standard
    native = "cpu"
    array_type = np.ndarray
    inside = 0  # how deep in calls with it current

    @classmethod
    def canonical(cls, index):
        return "plain"

    @classmethod
    def available(cls):
        return ["plain"]

    @classmethod
    def of(cls, array):
        return "plain"

    def current(self, function, *args, **options):
        self.inside += 1
        try:
            return function(*args, **options)
        finally:
            self.inside -= 1

    def to_numpy(self, array):
        return np.array(array)


MAKERS = {"arange", "empty", "eye", "full", "linspace", "ones", "zeros"}


@pytest.fixture
def plain(monkeypatch):
    """The device; its namespace is only called with it current, and makes arrays nowhere else."""
    for name in ("_families", "_devices"):
        monkeypatch.setattr(registry, name, dict(getattr(registry, name)))
    backends.register("plain", Plain)
    dev, outside, elsewhere = tinytorch.device("plain"), [], []

    class Watched:
        def __getattr__(self, name):
            found = getattr(standard, name)
            if not callable(found) or isinstance(found, type) or name in ("asarray", "from_dlpack", "isdtype"):
                return found

            def call(*args, **options):
                if not dev.inside:
                    outside.append(name)
                if name in MAKERS and options.get("device") != dev.native:
                    elsewhere.append(name)
                return found(*args, **options)

            return call

    monkeypatch.setattr(dev, "xp", Watched(), raising=False)
    yield dev
    assert outside == elsewhere == []


def draw(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype("float32")


def convolution(x):
    return tinytorch.conv2d(x, x[:2, :, :2, :3], stride=(2, 1), padding=1)


def smooth_classes(x):
    labels = tinytorch.ones((3, 5, 4), dtype="int64", device=x.device)
    return tinytorch.cross_entropy(x, labels, label_smoothing=0.1)


X = (draw(3, 2, 5, 4),)
FUNCTIONS = {
    "arithmetic": (lambda x: (x * x + x / (x + 9.0)) ** 2 - x, X),
    "several uses": (lambda x: x * x + tinytorch.exp(x) + x[0], X),
    "slices": (lambda x: x[0, :, ::2, 0] * x[1, :, ::-2, -1], X),
    "many slices": (lambda x: tinytorch.stack([x[i] * float(i) for i in range(3)], axis=1), X),
    "rows": (lambda x: x[Tensor([2, 0, 2], device=x.device)] * 2.0, X),
    "no rows": (lambda x: x.sum() + x[tinytorch.zeros(0, dtype="int64", device=x.device)].sum(), X),
    "rows put": (lambda x: tinytorch.ops.put(x, Tensor([2, 0, 2], device=x.device), x * x), X),
    "no rows put": (lambda x: x * tinytorch.ops.put(x, Tensor([], "int64", x.device), x[:0]), X),
    "columns": (lambda x: x[:, :, Tensor([4, 0, 4], device=x.device)] * 3.0, X),
    "a mask": (lambda x: x[x > 0.5], X),
    "along an axis": (lambda x: tinytorch.take_along_axis(x, Tensor([[[[1]], [[0]]]], device=x.device), axis=2), X),
    "convolution": (convolution, X),
    "pooling": (lambda x: tinytorch.max_pool2d(x, (2, 3), (1, 2), 1) - tinytorch.avg_pool2d(x, (2, 3), (1, 2), 1), X),
    "large windows": (lambda x: tinytorch.max_pool2d(x, (5, 4)), X),
    "reductions": (lambda x: x.sum(axis=(0, 2)) + x.mean(axis=(0, 2)) + x.max(axis=(0, 2)) + x.std(axis=(0, 2)), X),
    "softmax": (lambda x: tinytorch.softmax(x) * tinytorch.log_softmax(x, axis=1), X),
    "activations": (lambda x: tinytorch.relu(x) + tinytorch.gelu(x) + tinytorch.sigmoid(x) + tinytorch.tanh(x), X),
    "erf": (lambda x: tinytorch.erf(x) + tinytorch.gelu(x, approximate="tanh"), X),
    "layer norm": (lambda x: tinytorch.layer_norm(x, x[0, 0, 0], x[1, 1, 1]), X),
    "linear": (lambda x: tinytorch.linear(x, x[0, 0], x[0, 0, :, 0]), X),
    "attention": (lambda x: tinytorch.scaled_dot_product_attention(x, x, x * 2.0, is_causal=True), X),
    "classes": (lambda x: tinytorch.cross_entropy(x[:, :, 0, 0], Tensor([1, -100, 0], device=x.device)), X),
    "smooth classes": (smooth_classes, X),
    "sorted": (lambda x: tinytorch.sort(x, axis=1, descending=True), X),
    "einsum": (lambda x: tinytorch.einsum("abij,abkj->aik", x, x), X),
    "cumulative": (lambda x: tinytorch.cumulative_sum(x, axis=2) * tinytorch.cumulative_prod(x, axis=3), X),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_gradients_are_those_of_the_cpu(name, plain):
    function, arrays = FUNCTIONS[name]
    found = {}
    for device in ("cpu", plain):
        inputs = [Tensor(a, device=device, requires_grad=True) for a in arrays]
        y = function(*inputs)
        first = tinytorch.grad((y * y).sum(), inputs)
        again = tinytorch.grad((function(*inputs) ** 2).sum(), inputs, create_graph=True)
        second = tinytorch.grad(sum((g * g).sum() for g in again), inputs)
        assert {t.device.name for t in (y, *first, *again, *second)} == {str(device)}
        assert all(type(t.array) is np.ndarray for t in (y, *first, *again, *second))
        found[str(device)] = [t.detach().numpy() for t in (y, *first, *again, *second)]
    for a, b in zip(found["cpu"], found["plain"], strict=True):
        assert_close(b, a, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("make", [tinytorch.SGD, tinytorch.Adam, tinytorch.AdamW])
def test_training_is_that_of_the_cpu(make, plain):
    def trained(device):
        tinytorch.manual_seed(0)
        model = tinytorch.Sequential(
            tinytorch.Linear(4, 8, device=device), tinytorch.Dropout(0.25), tinytorch.Linear(8, 3, device=device)
        )
        optimizer = make(model.parameters(), lr=0.1)
        x, y = Tensor(draw(6, 4), device=device), Tensor([0, 1, 2, 2, 1, 0], device=device)
        for _ in range(3):
            optimizer.zero_grad()
            tinytorch.cross_entropy(model(x), y).backward()
            tinytorch.optim.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
        x[0] = 1.0
        x[Tensor([1, 2, 1], device=device)] = 2.0
        x[3:, 1] += 1.0
        x[tinytorch.zeros(0, dtype="int64", device=device)] = 3.0
        return [p.detach().numpy() for p in model.parameters()] + [x.numpy()]

    for a, b in zip(trained("cpu"), trained(plain), strict=True):
        assert_close(b, a, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["bool", "int8", "int64", "uint16", "float32", "float64"])
def test_arrays_come_and_go(dtype, plain):
    x = Tensor([0, 1, 1], dtype=dtype, device=plain)
    assert (x.device, x.dtype, x.tolist(), x.numpy().tolist()) == (plain, np.dtype(dtype), [0, 1, 1], [0, 1, 1])
    assert (x.cpu().device.name, x.cpu().tolist(), x.cpu().to(plain).tolist()) == ("cpu", [0, 1, 1], [0, 1, 1])
    assert Device.dtype(plain, dtype) == np.dtype(dtype)
    assert type(plain.asarray(np.float32(2.0))) is np.ndarray
    assert plain.keep_memory() is plain.keep_memory(False) is False
    assert (plain.is_gpu, plain.large, plain.hardware, plain.memory) == (False, 0, "", None)
    array = np.ones(2)
    assert plain.asarray(array) is plain.exported(array) is array
    with pytest.raises(IndexError, match=r"take: 3 is outside \[0, 3\)"):
        tinytorch.take(x, Tensor([0, 3], device=plain))


def test_memory_that_cannot_be_shared_is_copied_and_the_reason_logged(plain, caplog, monkeypatch):
    def share(array):
        raise BufferError("not today\nand so on")

    x = Tensor([1.0, 2.0], device="cpu")
    caplog.set_level("DEBUG", "tinytorch.backends.device")
    assert x.to(plain).tolist() == [1.0, 2.0]
    monkeypatch.setattr(plain, "memory", (1, 0), raising=False)
    assert np.shares_memory(x.to(plain).array, x.array)
    assert [r.getMessage() for r in caplog.records] == [
        "cpu to plain: 8 bytes copied through the host: they share no memory"
    ]
    monkeypatch.setattr(plain, "share", share, raising=False)
    assert not np.shares_memory(x.to(plain).array, x.array)
    assert caplog.records[-1].getMessage() == "cpu to plain: 8 bytes copied through the host: not today"
