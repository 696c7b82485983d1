"""What the tape knows of a tensor: the array, the device, and the node that says how the tensor was made.

`Tensor` adds the methods. `tensor.py`, which stands above, sets `Variable.result`, the class that `wrap` makes.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, NoReturn

import numpy as np

from tinytorch.backends import Array, Device
from tinytorch.backends.tree import hold_arrays

_new = object.__new__

Rule = Callable[[Any], Any]

clock = itertools.count(0, -1)  # order of creation; the newest is the smallest, which a heap pops first


class Node:
    """How a recorded tensor was made: the op, its inputs, and a gradient rule for each input.

    The tensors between the ops of a graph are not kept: a rule keeps the arrays that it needs, and nothing else does.
    """

    __slots__ = ("__weakref__", "device", "dtype", "inputs", "made_at", "meta", "op", "order", "rules", "shape")

    op: Any  # the function: `op.name` is its name
    inputs: Sequence[Any]  # for each: its Node, a leaf, an array that needs no gradient, or a number
    meta: dict[str, Any]  # the keyword arguments
    rules: tuple[Rule | None, ...] | None  # one per input; None once the walk back has freed them
    order: int  # when the result was made
    made_at: Any  # by which line of the user's code, if `tinytorch.debug()` was on
    device: Device  # device, shape and dtype are the result's
    shape: tuple[int, ...]
    dtype: Any

    def __repr__(self) -> str:
        return f"<node of {self.op.name}, shape {tuple(self.shape)}>"


class Size(int):
    """The number of elements: an integer that, called as in PyTorch's `x.size()`, says what to write."""

    __slots__ = ()

    def __call__(self, *args: Any) -> NoReturn:
        """Raise TypeError: a length is in the shape."""
        written = f"x.shape[{args[0]!r}]" if args else "x.shape"
        raise TypeError(f"size: x.size is the number of elements, an integer; write {written}")


class Variable:
    """What the tape knows of a tensor: the array, the device, and a node if an op made it. `Tensor` adds the rest."""

    __slots__ = ("__weakref__", "_requires_grad", "array", "changed", "device", "grad", "is_view", "made_at", "node")

    array: Array  # of the device's library; never written into, only replaced, by `assign`
    changed: int  # when the array was last replaced; not set if it never was
    device: Device
    grad: Any
    made_at: Any  # by which line of the user's code, if known: see `Tensor.origin`
    node: Node | None  # None for a leaf
    is_view: bool  # detached or sliced from another tensor, and shows the values of that one
    _requires_grad: bool
    result: ClassVar[type[Any]]  # the class of what ops return: Tensor

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        hold_arrays(cls, _apart, functools.partial(_together, cls))

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis."""
        return tuple(self.array.shape)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return int(self.array.ndim)

    @property
    def size(self) -> int:
        """The number of elements."""
        return Size(math.prod(self.array.shape))

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the elements, as a NumPy dtype, whatever the library: `x.dtype == tinytorch.float32`."""
        return self.device.dtype_of(self.array)

    def assign(self, array: Array, node: Node | None = None) -> None:
        """Take another array, and the node that made it. Graphs recorded before keep the old array."""
        self.array = array
        self.changed = next(clock)
        if node is not None:
            self.node, self._requires_grad = node, True


_set_array: Callable[[Variable, Array], None] = vars(Variable)["array"].__set__

_set_changed: Callable[[Variable, int], None] = vars(Variable)["changed"].__set__


def assign_all(pairs: Iterable[tuple[Sequence[Variable], Sequence[Array]]], *others: tuple[Any, str, Any]) -> None:
    """`assign` tensors their arrays, and set attributes of other objects, given as (object, name, value).

    All of this is one call into C. During the call Python runs no handler of a signal, and without free threading no
    other thread: nobody sees a part of the changes, and an interrupt comes before or after all of them.
    """
    now, changes = itertools.repeat(next(clock)), []  # type: Any, list[Iterable[None]]
    for tensors, arrays in pairs:
        changes += map(_set_array, tensors, arrays), map(_set_changed, tensors, now)
    deque(itertools.chain(*changes, itertools.starmap(object.__setattr__, others)), maxlen=0)


def wrap(array: Array, device: Device, node: Node | None = None) -> Any:
    """A tensor around an array that lives on the device."""
    tensor = _new(Variable.result)
    tensor.array = array if type(array) is device.array_type else device.asarray(array)
    tensor.device = device
    tensor.grad = None
    tensor.node = node
    tensor.is_view = False
    tensor._requires_grad = node is not None
    return tensor


def run_on(device: Device, function: Callable[..., Any], *args: Any) -> Any:
    """Call the function with the device current, where the device asks for that."""
    current = device.current  # read once: another thread may begin or end a recording
    return function(*args) if current is None else current(function, *args)


def _apart(tensor: Variable) -> tuple[tuple[Array], tuple[Any, ...]]:
    """The array of a tensor, and all else that is carried along: not its graph, nor its gradient."""
    leaf = tensor._requires_grad and tensor.node is None
    return (tensor.array,), (tensor.device, leaf, getattr(tensor, "name", None))


def _together(cls: type[Variable], rest: tuple[Any, ...], arrays: Sequence[Array]) -> Variable:
    """A tensor of `_apart`. Whoever walks trees may put anything in the place of an array."""
    tensor = _new(cls)
    (tensor.array,), (tensor.device, tensor._requires_grad, name) = arrays, rest
    tensor.grad, tensor.node, tensor.is_view = None, None, False
    if name is not None:
        tensor.name = name  # type: ignore[attr-defined]
    return tensor


Place = Any  # where a gradient is collected: a Node, or a leaf


def place_of(tensor: Variable) -> Place:
    """Where the gradient of a tensor is collected."""
    return tensor if tensor.node is None else tensor.node
