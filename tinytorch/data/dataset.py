"""Data sets, and batches from them."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tinytorch import ops, random, words
from tinytorch.backends import Device, map_tree
from tinytorch.backends import device as _device
from tinytorch.creation import asarray
from tinytorch.ops.index import taken
from tinytorch.tensor import Tensor
from tinytorch.words import bound, checked, worded


class TensorDataset:
    """Examples from tensors whose first axes have the same length: item i is (t[i] for each t).

    Raises:
        ValueError: there are no tensors, or their first lengths differ.

    >>> data = tinytorch.data.TensorDataset(tinytorch.ones((5, 2)), tinytorch.arange(5))
    >>> len(data), data[3][1]
    (5, tensor(3, dtype=int64))
    """

    @bound
    def __init__(self, *tensors: Tensor) -> None:
        if not tensors:
            raise ValueError("TensorDataset: takes at least one tensor")
        for t in tensors:
            if not isinstance(t, Tensor):
                raise TypeError(f"TensorDataset: tensors are Tensors, not {words.shown(t)}; see tinytorch.asarray")
            if t.ndim == 0:
                raise TypeError("TensorDataset: a tensor has a first axis, along which the examples lie, not shape ()")
        lengths = [len(t) for t in tensors]
        if len(set(lengths)) > 1:
            raise ValueError(f"TensorDataset: the first axes have lengths {lengths}; they must be the same")
        self.tensors = tensors

    def __repr__(self) -> str:
        shapes = ", ".join(f"{t.dtype.name} {t.shape}" for t in self.tensors)
        return f"TensorDataset({len(self)} examples: {shapes})"

    def __len__(self) -> int:
        return len(self.tensors[0])

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(t[index] for t in self.tensors)

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, ...]:
        """The examples at the indices, stacked, by one lookup for each tensor.

        Raises:
            IndexError: there is no such example.
        """
        n, at = len(self), np.asarray(indices, dtype=np.int64)
        outside = at[(at < -n) | (at >= n)]  # checked on the host, without a read from a device
        if outside.size:
            raise IndexError(f"TensorDataset: {outside[0]} is no index of {n} examples")
        at = np.where(at < 0, at + n, at)
        found: dict[Device, Tensor] = {}
        for t in self.tensors:
            if t.device not in found:
                found[t.device] = asarray(at, dtype=t.device.default_int, device=t.device)
        return tuple(taken(t, found[t.device]) for t in self.tensors)


def _expect_dataset(name: str, dataset: Any) -> None:
    """Raise TypeError unless a data set has a length and items."""
    if isinstance(dataset, Mapping) and 0 not in dataset:
        keys = ", ".join(map(repr, [*dataset][:3]))
        raise TypeError(f"{name}: dataset has the items 0, 1, 2, ..., not {keys}; write TensorDataset(*d.values())")
    if isinstance(dataset, type) or not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise TypeError(f"{name}: dataset is anything with a length and items, not {words.shown(dataset)}")


class Subset:
    """The examples of a data set at some indices.

    >>> data = tinytorch.data.TensorDataset(tinytorch.arange(5))
    >>> tinytorch.data.Subset(data, [4, 2])[0]
    (tensor(4, dtype=int64),)
    """

    @checked
    def __init__(self, dataset: Any, indices: Sequence[int]) -> None:
        _expect_dataset("Subset", dataset)
        self.dataset, self.indices = dataset, list(indices)

    def __repr__(self) -> str:
        return f"Subset({len(self)} of {self.dataset!r})"

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[self.indices[index]]

    def batch(self, indices: Sequence[int]) -> Any:
        """The examples at the indices, stacked."""
        return _batch(self.dataset, [self.indices[i] for i in indices])


@worded
def random_split(dataset: Any, lengths: Sequence[float], *, seed: int | None = None) -> list[Subset]:
    """Random parts of a data set that do not overlap.

    Args:
        lengths: numbers of examples that add up to all, or fractions that add up to 1. Examples that rounding leaves
            over go to the first parts, one each.
        seed: one seed gives always the same parts; by default the generator of `manual_seed` decides.

    Raises:
        ValueError: the lengths do not add up.

    >>> data = tinytorch.data.TensorDataset(tinytorch.arange(5))
    >>> [len(part) for part in tinytorch.data.random_split(data, [0.8, 0.2])]
    [4, 1]
    """
    _expect_dataset("random_split", dataset)
    n = len(dataset)
    sizes = [int(x) for x in lengths]
    if any(isinstance(x, float) for x in lengths) and abs(sum(lengths) - 1) < 1e-9:
        sizes = [int(n * x) for x in lengths]
        for i in range(n - sum(sizes)):
            sizes[i % len(sizes)] += 1
    if (
        sum(sizes) != n
        or any(s < 0 for s in sizes)
        or (any(isinstance(x, float) for x in lengths) and sum(lengths) > 1 + 1e-9)
    ):
        raise ValueError(
            f"random_split: lengths {list(lengths)} neither add up to {n} examples nor, as fractions, to 1"
        )
    order = _generator(seed).permutation(n).tolist()
    ends = np.cumsum(sizes).tolist()
    return [Subset(dataset, order[end - size : end]) for size, end in zip(sizes, ends, strict=True)]


def _generator(seed: int | None) -> np.random.Generator:
    return random.generator if seed is None else np.random.Generator(np.random.Philox(seed))


def _batch(dataset: Any, indices: Sequence[int]) -> Any:
    if hasattr(dataset, "batch"):
        return dataset.batch(indices)
    return _stacked([dataset[i] for i in indices])


def _stacked(examples: Sequence[Any], field: str = "") -> Any:
    """Examples as a batch: tuples and dicts field by field, tensors and arrays along a new first axis.

    Raises:
        TypeError, ValueError: a field cannot be stacked. `field` is its place in an example.
    """
    first = examples[0]
    if isinstance(first, tuple | list):
        lengths = [len(e) if isinstance(e, tuple | list) else type(e).__name__ for e in examples]
        _expect_alike(field, "of the same number of parts in every example", lengths)
        return tuple(_stacked([e[i] for e in examples], f"{field}[{i}]") for i in range(len(first)))
    if isinstance(first, dict):
        keys = [sorted(map(str, e)) if isinstance(e, dict) else type(e).__name__ for e in examples]
        _expect_alike(field, "of the same keys in every example", keys)
        return {key: _stacked([e[key] for e in examples], f"{field}[{key!r}]") for key in first}
    kinds = [_kind(field, e) for e in examples]
    _expect_alike(field, "of one kind in every example", kinds)
    if kinds[0] == "a number":
        return asarray(list(examples), device="cpu")
    _expect_alike(
        field,
        "of one shape in every example; pad them, or batch them one by one with batch_size=1",
        [e.shape for e in examples],
    )
    if isinstance(first, Tensor):
        return ops.stack(examples)
    return asarray(np.stack(examples), device="cpu")


def _expect_alike(field: str, how: str, found: list[Any]) -> None:
    """Raise ValueError unless `found` has equal entries for all examples; `how` says how the field must be."""
    other = next((i for i, x in enumerate(found) if x != found[0]), None)
    if other is not None:
        raise ValueError(
            f"DataLoader: example{field} must be {how}; the first of a batch has {found[0]}, and example {other} "
            f"of it {found[other]}"
        )


def _kind(field: str, value: Any) -> str:
    """The kind of a value: a Tensor, an array or a number. Raises TypeError if a batch cannot hold the value."""
    if isinstance(value, Tensor):
        return "a Tensor"
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return "an array"
    if isinstance(value, bool | int | float | np.bool_ | np.integer | np.floating):
        return "a number"
    mends: dict[type, str] = {
        str: "map each to a number first, as in vocabulary[word]",
        bytes: "read the numbers first, as in np.frombuffer(data, dtype)",
        type(None): "leave the field out, or put a number such as -1 or nan there",
    }
    mend = next((text for kind, text in mends.items() if isinstance(value, kind)), "")
    if not mend and hasattr(value, "__dataclass_fields__"):
        mend = "return dataclasses.asdict(example), or a tuple of its fields"
    kind = f"array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
    raise TypeError(
        f"DataLoader: example{field} is {kind}, {reprlib.repr(value)}, which makes no tensor; examples are tensors, "
        f"arrays, numbers, or tuples or dicts of them: {mend or 'return those from __getitem__'}"
    )


class DataLoader:
    """Batches of a data set. Each iteration starts anew.

    Args:
        dataset: anything with a length and items: tensors, arrays, numbers, or tuples or dicts of them.
        batch_size: examples in a batch.
        shuffle: a new order of the examples for each iteration.
        drop_last: leave out a last batch that is smaller.
        seed: one seed gives always the same orders; by default the generator of `manual_seed` decides.
        device: the device of the batches; by default the device of the data.

    Raises:
        ValueError: the batch size is not positive, or there is no batch.

    >>> data = tinytorch.data.TensorDataset(tinytorch.arange(5))
    >>> [x.tolist() for (x,) in tinytorch.data.DataLoader(data, batch_size=2)]
    [[0, 1], [2, 3], [4]]
    """

    @checked
    def __init__(
        self,
        dataset: Any,
        batch_size: int = 1,
        shuffle: bool = False,
        *,
        drop_last: bool = False,
        seed: int | None = None,
        device: str | Device | None = None,
    ) -> None:
        _expect_dataset("DataLoader", dataset)
        if batch_size < 1:
            raise ValueError(f"DataLoader: a batch has at least 1 example, not {batch_size}")
        self.dataset, self.batch_size, self.shuffle, self.drop_last = dataset, batch_size, shuffle, drop_last
        self.device = None if device is None else _device(device)
        self._generator = _generator(seed)
        if len(self) == 0:
            raise ValueError(
                f"DataLoader: {len(dataset)} examples give no batch of {batch_size}"
                + (" with drop_last=True" if drop_last else "")
            )

    def __len__(self) -> int:
        n = len(self.dataset)
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        n = len(self.dataset)
        order = self._generator.permutation(n) if self.shuffle else np.arange(n)
        for i in range(len(self)):
            batch = _batch(self.dataset, order[i * self.batch_size : (i + 1) * self.batch_size].tolist())
            yield batch if self.device is None else map_tree(self._moved, batch)

    def __repr__(self) -> str:
        order = "in random order" if self.shuffle else "in order"
        return f"DataLoader({len(self)} batches of {self.batch_size} {order}, of {self.dataset!r})"

    def _moved(self, x: Any) -> Any:
        return x.to(self.device) if isinstance(x, Tensor) else x
