"""Data sets, their parts, batches from them, and the digits in the package."""

from __future__ import annotations

import dataclasses
from importlib.resources import files

import numpy as np
import pytest

import tinytorch
from tinytorch import Tensor
from tinytorch.data import DataLoader, Subset, TensorDataset, random_split, tinydigits


def numbered(n, device=None):
    """Example i is (row of i, label i)."""
    rows = tinytorch.broadcast_to(tinytorch.arange(n, dtype="float32", device=device)[:, None], (n, 2))
    return TensorDataset(rows, tinytorch.arange(n, device=device))


def labels(loader):
    return [y.tolist() for _, y in loader]


class Squares:
    """A data set of somebody else's: a length and items."""

    def __init__(self, item=lambda i: i * i, n=5):
        self.item, self.n = item, n

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        return self.item(index)


# Data sets --------------------------------------------------------------------------------------------------------


def test_examples_of_tensors(device):
    data = numbered(5, device)
    assert len(data) == 5
    x, y = data[3]
    assert (x.tolist(), y.item(), x.device.name) == ([3.0, 3.0], 3, device)
    assert data[1:3][1].tolist() == [1, 2]
    x, y = data.batch([4, 0, 4])
    assert (x.tolist(), y.tolist(), y.device.name) == ([[4.0, 4.0], [0.0, 0.0], [4.0, 4.0]], [4, 0, 4], device)


def test_tensors_on_different_devices(other):
    data = TensorDataset(tinytorch.ones((3, 2), device="cpu"), tinytorch.arange(3, device=other))
    x, y = data.batch([2, 1])
    assert (x.device.name, y.device.name, y.tolist()) == ("cpu", other, [2, 1])


@pytest.mark.parametrize(
    ("tensors", "error", "message"),
    [
        (lambda: (), ValueError, "takes at least one tensor"),
        (lambda: (tinytorch.ones(3), tinytorch.ones(2)), ValueError, r"first axes have lengths \[3, 2\]"),
        (lambda: (np.ones(3),), TypeError, r"tensors are Tensors, not numpy.ndarray.*; see tinytorch\.asarray"),
        (lambda: (Tensor(1.0),), TypeError, "a tensor has a first axis"),
    ],
    ids=["none", "lengths", "numpy", "no-axes"],
)
def test_tensors_that_make_no_data_set(tensors, error, message):
    with pytest.raises(error, match=message):
        TensorDataset(*tensors())


def test_parts_of_parts(device):
    part = Subset(Subset(numbered(10, device), [9, 8, 7, 6]), range(1, 3))
    assert (len(part), [part[i][1].item() for i in range(2)]) == (2, [8, 7])
    assert part.batch([1, 0])[1].tolist() == [7, 8]
    assert Subset(Squares(), [4, 2]).batch([1, 0]).tolist() == [4, 16]
    with pytest.raises(IndexError):
        part[2]


@pytest.mark.parametrize(
    ("n", "lengths", "expected"),
    [
        (10, [7, 3], [7, 3]),
        (10, [0.8, 0.2], [8, 2]),
        (10, [0.5, 0.25, 0.25], [6, 2, 2]),
        (7, [0.5, 0.5], [4, 3]),
        (11, [0.1] * 10, [2] + [1] * 9),
        (4, [4], [4]),
        (4, [1.0], [4]),
        (3, [3, 0], [3, 0]),
        (0, [0, 0], [0, 0]),
    ],
    ids=str,
)
def test_random_parts_hold_everything_once(n, lengths, expected):
    parts = random_split(Squares(lambda i: i, n), lengths)
    assert [len(p) for p in parts] == expected
    assert sorted(p[i] for p in parts for i in range(len(p))) == list(range(n))


@pytest.mark.parametrize(
    "lengths", [[5, 4], [11], [0.5, 0.4], [0.8, 0.3], [12, -2], [11, -1], [1.5, -0.5], [5.0, 5.0], []], ids=str
)
def test_parts_that_do_not_add_up(lengths):
    with pytest.raises(ValueError, match=r"random_split: lengths \[.*\] neither add up to 10 examples nor"):
        random_split(numbered(10), lengths)


def test_random_parts_have_a_seed():
    def parts(**kwargs):
        return [p.indices for p in random_split(Squares(n=20), [10, 10], **kwargs)]

    assert parts(seed=1) == parts(seed=1)
    assert parts(seed=1) != parts(seed=2)
    tinytorch.manual_seed(5)
    first, second = parts(), parts()
    tinytorch.manual_seed(5)
    assert parts() == first != second


# Batches ----------------------------------------------------------------------------------------------------------


def test_batches_in_order(device):
    loader = DataLoader(numbered(5, device), batch_size=2)
    assert len(loader) == 3
    assert labels(loader) == labels(loader) == [[0, 1], [2, 3], [4]]
    assert {t.device.name for batch in loader for t in batch} == {device}
    last = DataLoader(numbered(5, device), 2, drop_last=True)
    assert (len(last), labels(last)) == (2, [[0, 1], [2, 3]])


def test_a_batch_larger_than_the_data():
    assert labels(DataLoader(numbered(3), 10)) == [[0, 1, 2]]


def test_shuffled_batches_hold_everything_once_in_a_new_order():
    loader = DataLoader(numbered(20), 6, shuffle=True)
    first, second = ([y for batch in labels(loader) for y in batch] for _ in range(2))
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second
    assert first != list(range(20))
    for x, y in loader:
        assert x.tolist() == [[v, v] for v in y.tolist()]


def test_orders_have_a_seed():
    def two(seed):
        loader = DataLoader(numbered(20), 20, shuffle=True, seed=seed)
        return labels(loader) + labels(loader)

    assert two(1) == two(1) != two(2)
    tinytorch.manual_seed(9)
    first = two(None)
    assert two(1) == two(1)
    tinytorch.manual_seed(9)
    assert two(None) == first


def test_orders_are_the_same_on_every_device(other):
    def order(device):
        tinytorch.manual_seed(4)
        return labels(DataLoader(numbered(50, device), 8, shuffle=True))

    assert order(other) == order("cpu")


def test_batches_go_to_the_device(device):
    for data in (numbered(4, "cpu"), Squares(lambda i: {"x": np.ones(2, "float32"), "n": (i, 0.5)}, 4)):
        for batch in DataLoader(data, 2, device=device):
            tensors = batch if isinstance(batch, tuple) else (batch["x"], batch["n"][0])
            assert {t.device.name for t in tensors} == {device}


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (lambda i: i, [0, 1, 2]),
        (lambda i: i / 2, [0.0, 0.5, 1.0]),
        (lambda i: np.float32(i), [0.0, 1.0, 2.0]),
        (lambda i: np.array([i, -i]), [[0, 0], [1, -1], [2, -2]]),
        (lambda i: Tensor([float(i)]), [[0.0], [1.0], [2.0]]),
    ],
    ids=["integers", "floats", "numpy-scalars", "arrays", "tensors"],
)
def test_examples_are_stacked(item, expected):
    (batch,) = DataLoader(Squares(item, 3), 3)
    assert isinstance(batch, Tensor)
    assert batch.tolist() == expected


def test_structured_examples_are_stacked_field_by_field():
    data = Squares(lambda i: {"image": np.full((2, 2), i, "uint8"), "pair": [i, Tensor([1.5])]}, 3)
    batches = list(DataLoader(data, 2))
    assert [b["image"].shape for b in batches] == [(2, 2, 2), (1, 2, 2)]
    assert batches[0]["image"].dtype == tinytorch.uint8
    assert (batches[1]["pair"][0].tolist(), batches[1]["pair"][1].tolist()) == ([2], [[1.5]])


@pytest.mark.parametrize(
    ("n", "kwargs", "message"),
    [
        (3, {"batch_size": 0}, "a batch has at least 1 example, not 0"),
        (0, {}, "0 examples give no batch of 1$"),
        (3, {"batch_size": 4, "drop_last": True}, "3 examples give no batch of 4 with drop_last=True"),
        (3, {"device": "nonsense"}, "no family 'nonsense'"),
    ],
    ids=["size", "empty", "dropped", "device"],
)
def test_loaders_that_give_nothing(n, kwargs, message):
    with pytest.raises(ValueError, match=message):
        DataLoader(Squares(n=n), **kwargs)


# Digits -----------------------------------------------------------------------------------------------------------


def test_digits_are_as_many_of_each(device):
    for part, each in zip(tinydigits(device), (100, 20), strict=True):
        images, digits = part.tensors
        assert (images.shape, digits.shape, len(part)) == ((10 * each, 1, 8, 8), (10 * each,), 10 * each)
        assert (images.dtype, digits.dtype) == (tinytorch.float32, images.device.default_int)
        assert {images.device.name, digits.device.name} == {device}
        assert np.bincount(digits.numpy()).tolist() == [each] * 10


def test_digits_are_images_between_0_and_1():
    for part in tinydigits():
        values = part.tensors[0].numpy()
        assert (values.min(), values.max()) == (0.0, 1.0)
        assert set(np.unique(values * 16)) == set(range(17))
        assert 0.1 < values.mean() < 0.5


def test_no_test_image_is_a_training_image():
    train, test = ({row.tobytes() for row in part.tensors[0].numpy()} for part in tinydigits())
    assert len(test) == 200
    assert train.isdisjoint(test)


def test_digits_look_like_themselves():
    (images, digits), (unseen, answers) = (part.tensors for part in tinydigits())
    means = tinytorch.stack([images[digits == i].mean(axis=0).flatten() for i in range(10)])
    distances = ((unseen.flatten(1)[:, None, :] - means) ** 2).sum(axis=-1)
    right = (distances.argmin(axis=1) == answers).astype("float32").mean().item()
    assert right > 0.85


def test_the_file_holds_plain_arrays():
    with files("tinytorch.data").joinpath("tinydigits.npz").open("rb") as file, np.load(file, allow_pickle=False) as f:
        stored = {name: f[name] for name in f.files}
    assert {name: v.dtype.kind for name, v in stored.items()} == {
        "train_images": "u",
        "train_labels": "u",
        "test_images": "u",
        "test_labels": "u",
    }


def test_digits_train_a_model_through_a_loader(device):
    train, _ = tinydigits("cpu")
    part = Subset(train, range(0, 1000, 10))
    model = tinytorch.Sequential(tinytorch.Flatten(), tinytorch.Linear(64, 10)).to(device)
    optimizer = tinytorch.Adam(model.parameters(), lr=0.05)
    losses = []
    for _ in range(5):
        for images, digits in DataLoader(part, 25, shuffle=True, device=device):
            optimizer.zero_grad()
            loss = tinytorch.cross_entropy(model(images), digits)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert len(losses) == 20


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 no archive", "half", "fewer"], ids=["empty", "no archive", "half", "fewer"]
)
def test_a_corrupt_file_is_one_clear_error(content, monkeypatch, tmp_path):
    from tinytorch.data import digits

    stored = digits.files("tinytorch.data").joinpath("tinydigits.npz").read_bytes()
    path = tmp_path / "tinydigits.npz"
    if content == "fewer":
        np.savez(path, train_images=np.zeros((1, 8, 8)))
    else:
        path.write_bytes(stored[: len(stored) // 2] if content == "half" else content)
    monkeypatch.setattr(digits, "files", lambda package: tmp_path)
    with pytest.raises(
        OSError, match=r"^tinydigits: .*tinydigits\.npz cannot be read \(.*install the package again"
    ) as e:
        tinytorch.data.tinydigits()
    assert e.value.__cause__ is None
    assert e.value.__suppress_context__


@dataclasses.dataclass
class Pair:
    x: float
    y: int


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        (["a", "b"], r"example is str, 'a', which makes no tensor.*vocabulary\[word\]"),
        ([(1.0, "a"), (2.0, "b")], r"example\[1\] is str, 'a'"),
        ([{"x": 1.0, "y": None}] * 2, r"example\['y'\] is NoneType, None.*leave the field out"),
        ([(1.0, 2.0), (1.0, None)], r"example\[1\] is NoneType"),
        ([Pair(1.0, 2)] * 2, r"example is Pair, .*dataclasses\.asdict\(example\)"),
        ([{"a": ({"b": [1, b"x"]},)}] * 2, r"example\['a'\]\[0\]\['b'\]\[1\] is bytes.*np\.frombuffer"),
        ([(np.asarray(["a"]), 1)] * 2, r"example\[0\] is array of <U1"),
        ([(np.asarray([None]), 1)] * 2, r"example\[0\] is array of object"),
        ([object()] * 2, r"example is object, .*return those from __getitem__"),
        ([1j, 2j], r"example is complex, 1j"),
    ],
)
def test_what_makes_no_tensor_is_named_by_its_field(examples, message):
    with pytest.raises(TypeError, match=f"DataLoader: {message}"):
        next(iter(tinytorch.data.DataLoader(examples, batch_size=2)))


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ([np.zeros(2), np.zeros(3)], r"example must be of one shape.*has \(2,\), and example 1 of it \(3,\)"),
        ([(1, Tensor([1.0])), (1, Tensor([1.0, 2.0]))], r"example\[1\] must be of one shape.*pad them"),
        (
            [(1, [1, 2]), (1, [1, 2, 3])],
            r"example\[1\] must be of the same number of parts.*has 2, and example 1 of it 3",
        ),
        ([(1, [1, 2]), (1, 3)], r"example\[1\] must be of the same number of parts.*2, and example 1 of it int"),
        ([{"x": 1}, {"y": 1}], r"example must be of the same keys.*\['x'\], and example 1 of it \['y'\]"),
        ([{"x": 1}, 2], r"example must be of the same keys.*\['x'\], and example 1 of it int"),
        ([1.0, Tensor(1.0)], r"example must be of one kind.*a number, and example 1 of it a Tensor"),
    ],
)
def test_examples_that_are_not_alike_are_named_by_their_field(examples, message):
    with pytest.raises(ValueError, match=f"DataLoader: {message}"):
        next(iter(tinytorch.data.DataLoader(examples, batch_size=2)))


def test_numbers_of_numpy_and_of_python_go_together():
    (x, y) = next(iter(tinytorch.data.DataLoader([(1.0, True), (np.float64(2.0), np.bool_(False))], batch_size=2)))
    assert (x.tolist(), y.tolist()) == ([1.0, 2.0], [True, False])


def test_negative_indices_count_from_the_end(device):
    x, y = numbered(5, device).batch([-1, 0, -5, -2])
    assert (x.tolist(), y.tolist()) == ([[4.0, 4.0], [0.0, 0.0], [0.0, 0.0], [3.0, 3.0]], [4, 0, 0, 3])
