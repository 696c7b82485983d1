"""Tensor: an array on a device, with the operators and methods of PyTorch and of the array API standard.

Everything it computes is an op from `tinytorch.ops`; the tape behind it is in `tinytorch.autograd`.

The file is long because a tensor has as many methods as two standards give it; most of them are one line.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinytorch import autograd, ops, words
from tinytorch.backends import Device
from tinytorch.dtypes import float32
from tinytorch.intake import device_and_dtype, to_array
from tinytorch.ops.subscript import getitem, may_change, setitem
from tinytorch.origin import Origin, caller
from tinytorch.spelled import KNOWN, hint, missing
from tinytorch.tape.checks import describe, expect_one_device
from tinytorch.tape.observer import leaving
from tinytorch.tape.variable import Variable, run_on, wrap


def _reflected(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The function with its operands exchanged: what Python calls for `2 - x`."""
    return lambda x, other: function(other, x)


def _as_given(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A method that takes lengths or axes one by one, or as a tuple: x.reshape(2, 3) or x.reshape((2, 3))."""

    def method(x: Tensor, *given: Any, **options: Any) -> Tensor:
        if not given:  # they are given by name
            return function(x, **options)
        return function(x, given[0] if len(given) == 1 and not isinstance(given[0], int) else given, **options)

    method.__name__, method.__doc__ = function.__name__, function.__doc__
    return method


_SIGNS = {
    "add": "+",
    "subtract": "-",
    "multiply": "*",
    "divide": "/",
    "floor_divide": "//",
    "remainder": "%",
    "pow": "**",
    "matmul": "@",
    "bitwise_and": "&",
    "bitwise_or": "|",
    "bitwise_xor": "^",
    "bitwise_left_shift": "<<",
    "bitwise_right_shift": ">>",
}


_NUMPYS = {name: getattr(ops, name) for name in _SIGNS}  # NumPy's name of an operator -> the function
_NUMPYS |= {
    name: getattr(ops, name) for name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
}
_NUMPYS |= {"power": ops.pow, "left_shift": ops.bitwise_left_shift, "right_shift": ops.bitwise_right_shift}


def _in_place(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`x += y`: the tensor gets the result, recorded or not, and keeps its shape and dtype; see `may_change`.

    A view, as from `data`, is not changed: the result replaces the view, so that `p.data -= step` changes p.
    """
    sign = _SIGNS[function.__name__]

    def method(x: Tensor, other: Any) -> Tensor:
        if not x.is_view:
            may_change(x, f"x {sign}= y", f"x = x {sign} y")
        new = function(x, other)
        for what in ("shape", "dtype"):
            made, had = getattr(new, what), getattr(x, what)
            if made != had and (what == "shape" or not np.can_cast(made, had, "same_kind")):
                instead = " or x //= y" if sign == "/" else ""
                raise (ValueError if what == "shape" else TypeError)(
                    f"x {sign}= y: the result has {what} {made}, the tensor {had}; write x = x {sign} y{instead}"
                )
        new = new if new.dtype == x.dtype else new.to(x.dtype)
        if x.is_view:
            return new
        x.assign(new.array, new.node)
        return x

    return method


class Tensor(Variable):
    """An n-dimensional array on a device that can remember how it was computed.

    Args:
        data: a number, a nested list, an array of NumPy or of any registered library, or a Tensor; always copied.
        dtype: such as `tinytorch.float32` or "float32"; otherwise an array's own dtype; for Python numbers float32,
            the device's integer, or bool.
        device: such as "cuda:0"; otherwise the default device, but a Tensor or a GPU library's array stays where it is.
        requires_grad: whether `backward` computes its gradient; floating dtypes only.

    Raises:
        TypeError: the data are not numbers, or the device has no such dtype.
        ValueError: nested lists have different lengths.
        OverflowError: a Python integer does not fit the dtype.

    >>> x = Tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    tensor([[2., 4.],
            [6., 8.]])
    """

    __slots__ = ()

    def __init__(
        self, data: Any, dtype: Any = None, device: str | Device | None = None, requires_grad: bool = False
    ) -> None:
        self.grad = self.node = None
        self.is_view = self._requires_grad = False
        try:
            self.array, self.device = to_array(data, dtype, device, copy=True)
            self.requires_grad = requires_grad
        except words.FAILED as error:
            if isinstance(dtype, int):  # PyTorch's old way to say a shape
                name, fix = type(self).__name__, f"for a tensor of a shape write tinytorch.zeros(({data!r}, {dtype}))"
                raise TypeError(f"{name}: dtype is such as tinytorch.float32, not {dtype}; {fix}") from None
            words.tell(type(self).__name__, Tensor.__init__, (self, data, dtype, device, requires_grad), {}, error)
        self.made_at = caller(type(self).__name__)

    # What it is ---------------------------------------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        """Whether the tensor is part of what `backward` differentiates."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if value is not True and value is not False:
            words.flags("requires_grad", requires_grad=value)
        if value and self.dtype.kind != "f":
            raise TypeError(
                f"requires_grad: only floating dtypes have gradients, not {self.dtype.name}; convert with .astype(...)"
            )
        if not value and not self.is_leaf:
            raise RuntimeError("requires_grad: only a leaf can be switched off; x.detach() has no graph")
        self._requires_grad = bool(value)

    @words.worded
    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Set `requires_grad` and return the tensor."""
        self.requires_grad = requires_grad
        return self

    @property
    def is_leaf(self) -> bool:
        """Whether no recorded op made the tensor. Leaves keep their gradients, in `grad`."""
        return self.node is None

    @property
    def origin(self) -> Origin | None:
        """What made the tensor (an op, or its class), and the line of your code, if known: see `tinytorch.debug`."""
        known = getattr(self, "made_at", None)
        return Origin(self.node.op.name) if known is None and self.node is not None else known

    @property
    def data(self) -> Tensor:
        """The values without the graph. A tensor of this shape, dtype and device can be assigned, to replace them."""
        out: Tensor = wrap(self.array, self.device)
        out.is_view = True
        return leaving("detach", self, out)

    @data.setter
    def data(self, value: Tensor) -> None:
        if not isinstance(value, Tensor):
            raise TypeError(f"data: assign a Tensor, not {type(value).__name__}")
        expect_one_device("data", self, value)
        for what in ("shape", "dtype"):
            new, old = getattr(value, what), getattr(self, what)
            if new != old:
                raise ValueError(f"data: the new values have {what} {new}, the tensor {old}; they must be the same")
        self.assign(value.array)

    # Gradients ----------------------------------------------------------------------------------------------------

    @words.worded
    def backward(
        self, gradient: Tensor | None = None, *, retain_graph: bool | None = None, create_graph: bool = False
    ) -> None:
        """Add the gradient of this tensor to the `grad` of every leaf it was computed from.

        Args:
            gradient: the gradient to start from, of the tensor's shape; 1 for a one-element tensor.
            retain_graph: keep the graph for another `backward`; otherwise its memory is freed on the way. By default
                as `create_graph`.
            create_graph: record the walk, so that `grad` can be differentiated in turn. The leaves and their gradients
                then refer to each other until `grad` is set to None; `tinytorch.grad` avoids that.

        Raises:
            RuntimeError: the tensor has no graph, the graph was freed, or a gradient is needed and not given. No
                `grad` has changed then.

        >>> x = Tensor(3.0, requires_grad=True)
        >>> (x * x).backward()
        >>> x.grad
        tensor(6.)
        """
        autograd.backward(self, gradient, create_graph if retain_graph is None else retain_graph, create_graph)

    @words.bound
    def detach(self) -> Tensor:
        """The values without the graph, in a tensor that shares memory with this one: write into `x.copy()` instead."""
        return self.data

    # Values -------------------------------------------------------------------------------------------------------

    @words.bound
    def numpy(self) -> np.ndarray[Any, Any]:
        """The values as a NumPy array that the caller owns. Waits until all values are computed.

        Raises:
            RuntimeError: the tensor requires a gradient, which NumPy would lose; use x.detach().numpy().
        """
        if self._requires_grad:
            raise RuntimeError("numpy: the tensor requires a gradient, which NumPy would lose; use x.detach().numpy()")
        return leaving("numpy", self, self.device.to_numpy(self.array))

    @words.bound
    def item(self) -> Any:
        """The value of a one-element tensor as a Python number.

        Raises:
            ValueError: there are more elements, or none.
        """
        if self.size != 1:
            raise ValueError(f"item: the tensor has {self.size} elements (shape {self.shape}), not one; see tolist()")
        return leaving("item", self, self.device.to_numpy(self.array).item())

    @words.bound
    def tolist(self) -> Any:
        """The values as nested lists of Python numbers."""
        return leaving("tolist", self, self.device.to_numpy(self.array).tolist())

    @words.bound
    def copy(self) -> Tensor:
        """A tensor with equal values in memory of its own, in the graph of this tensor."""
        return ops.astype(self, self.dtype, copy=True)

    clone = copy

    # Devices ------------------------------------------------------------------------------------------------------

    @words.bound
    def to(self, *args: Any, device: Any = None, dtype: Any = None) -> Tensor:
        """The tensor on a device, of a dtype, or both (also those of another tensor); itself if nothing changes.

        >>> x = Tensor([1.0])
        >>> x.to("cpu") is x, x.to(tinytorch.float64).dtype, x.to("cpu", tinytorch.float64).dtype
        (True, dtype('float64'), dtype('float64'))
        """
        if len(args) == 1 and isinstance(args[0], Tensor):
            args = (args[0].device, args[0].dtype)
        where, kind = device_and_dtype("to", args, device, dtype)
        out = self
        if where is not None and where is not self.device:
            out = ops.transfer(out, source=self.device, device=where)
        if kind is not None and kind != self.dtype:
            out = ops.astype(out, kind)
        return out

    @words.worded
    def to_device(self, device: str | Device, /, *, stream: Any = None) -> Tensor:
        """The tensor on a device: the array API standard's spelling of `to`."""
        if stream is not None:
            raise ValueError("to_device: streams are used as `with device.stream():`")
        return self.to(device)

    @words.bound
    def cpu(self) -> Tensor:
        """The tensor on the device "cpu"."""
        return self.to("cpu")

    @words.worded
    def cuda(self, index: int | None = None) -> Tensor:
        """The tensor on a CUDA device, the current one unless an index is given."""
        return self.to("cuda" if index is None else f"cuda:{index}")

    # Python protocols ---------------------------------------------------------------------------------------------

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ValueError(
                f"bool: a tensor of {self.size} elements is neither true nor false; use tinytorch.any(x) or "
                "tinytorch.all(x)"
            )
        return bool(self.item())

    def _number(self, name: str, fix: str) -> Any:
        """The value of a one-element tensor for a function of Python's."""
        if self.size != 1:
            raise ValueError(f"{name}: a tensor of shape {self.shape} is not one number; {fix}")
        return self.item()

    def __int__(self) -> int:
        return int(self._number("int", "x.astype(tinytorch.int64) converts each, x.tolist() is a list"))

    def __float__(self) -> float:
        return float(self._number("float", "tinytorch.sqrt(x) and so on are of each, x.tolist() is a list"))

    def __complex__(self) -> complex:
        return complex(self._number("complex", "x.tolist() is a list"))

    def __index__(self) -> int:
        if self.dtype.kind not in "iu" or self.size != 1:
            fix = "x.tolist() is a list" if self.size != 1 else "write int(x)"
            raise TypeError(f"an index is an integer, not {describe(self)}; {fix}")
        return int(self.item())

    def __bytes__(self) -> bytes:
        raise TypeError("bytes: of the values write bytes(x.tolist()), of their memory x.numpy().tobytes()")

    def __round__(self, ndigits: int | None = None) -> Any:
        return round(self._number("round", "tinytorch.round(x) rounds each"), ndigits)

    def __trunc__(self) -> int:
        return math.trunc(self._number("trunc", "tinytorch.trunc(x) is of each"))

    def __divmod__(self, other: Any) -> tuple[Tensor, Tensor]:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> tuple[Tensor, Tensor]:
        return other // self, other % self

    def __len__(self) -> int:
        if self.ndim == 0:
            raise TypeError("len: a tensor without axes has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if self.ndim == 0:
            raise TypeError("a tensor without axes cannot be iterated over")
        return (self[i] for i in range(self.shape[0]))

    def __contains__(self, value: Any) -> bool:
        return bool(ops.any(ops.equal(self, value)))

    def __repr__(self) -> str:
        values = self.device.to_numpy(self.array)
        text = np.array2string(values, precision=4, separator=", ", prefix="tensor(")
        known = self.dtype in (float32, np.dtype(bool))
        notes = [f"shape={self.shape}"] if self.size == 0 and self.ndim != 1 else []
        notes += [] if known else [f"dtype={self.dtype.name}"]
        notes += [f"device='{self.device}'"] if self.device.name != "cpu" else []
        notes += ["requires_grad=True"] if self._requires_grad else []
        return f"tensor({', '.join([text, *notes])})"

    def __format__(self, spec: str) -> str:
        if not spec:
            return repr(self)
        return format(self._number("format", "write x.tolist(), or x without a format"), spec)

    def __copy__(self) -> Tensor:
        return self.__deepcopy__({}) if self.node is None else wrap(self.array, self.device, self.node)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if not self.is_leaf:
            raise RuntimeError(
                "deepcopy: only leaves can be copied, not results that remember how they were made; "
                "use x.detach(), or x.copy(), which keeps the graph"
            )
        out = memo[id(self)] = object.__new__(type(self))
        # two tensors may have one array: arrays are replaced, never written into
        out.array, out.device, out._requires_grad = self.array, self.device, self._requires_grad
        out.node, out.is_view = None, False
        out.grad = None if self.grad is None else self.grad.detach().copy()
        if hasattr(self, "name"):  # a Parameter
            out.name = self.name  # type: ignore[attr-defined]
        return out

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("a Tensor is not pickled, which would run code on loading; save model.state_dict()")

    @words.worded
    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """The memory of the tensor for another library: what `np.from_dlpack(x)` and `torch.from_dlpack(x)` call.

        The memory is shared, also with tensors that were detached or deep-copied from this one, and with tensors of
        another library on this memory. Do not write into the memory, but into a copy. Slices that lie backwards are
        copied. NumPy takes memory of the host only; on a GPU write `x.cpu()`. JAX takes no slices with steps; write
        `x.copy()`.

        Raises:
            BufferError: the tensor requires a gradient, or its library does not give memory away.
            ValueError: a stream is given for a device on the host.
        """
        if self._requires_grad:
            raise BufferError("__dlpack__: the tensor requires a gradient, which would be lost; use x.detach()")
        if copy is not None:
            words.flags("__dlpack__", copy=copy)
        if stream is not None and self.device.memory == (1, 0):
            raise ValueError(f"__dlpack__: on {self.device} stream is None, not {words.shown(stream)}")
        array = self.device.exported(self.array)
        if copy is False and array is not self.array:
            raise BufferError("__dlpack__: not without a copy: its elements lie backwards in memory; use x.copy()")
        version, where = (None if pair is None else tuple(pair) for pair in (max_version, dl_device))
        given = {"stream": stream, "max_version": version, "dl_device": where, "copy": copy}
        given = {key: value for key, value in given.items() if value is not None}
        # with the device current, so that its work on the array comes first
        return leaving("dlpack", self, run_on(self.device, lambda: array.__dlpack__(**given)))

    @words.bound
    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()

    @words.bound
    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        """The values for `np.asarray(x)`, of a tensor on the host that requires no gradient."""
        if self._requires_grad:
            raise TypeError("np.asarray: the tensor requires a gradient, which would be lost; use x.detach().numpy()")
        if self.device.memory != (1, 0):
            raise TypeError(f"np.asarray: the tensor is on {self.device}; copy it to the host: x.cpu().numpy()")
        if copy is not None:
            words.flags("np.asarray", copy=copy)
        if copy is False:
            raise ValueError("np.asarray: the values are copied; use copy=None, or np.from_dlpack(x) to share memory")
        values = leaving("numpy", self, self.device.to_numpy(self.array))
        try:
            return values if dtype is None else values.astype(dtype, copy=False)
        except (TypeError, ValueError):
            raise TypeError(
                f"np.asarray: dtype is one of NumPy's, such as 'float32', not {words.shown(dtype)}"
            ) from None

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """NumPy calls this for functions that are no ufuncs: these go on with `np.asarray(x)`, as without this method.

        `np.array_equal` and `np.array_equiv` take an error of `np.asarray` for "not equal": so errors come before.
        """
        go_on = getattr(function, "_implementation", None)
        if go_on is None:  # as of np.zeros(..., like=x)
            name = function.__name__
            raise TypeError(f"{name}: NumPy makes no tensors; {hint('tinytorch', name, KNOWN)}")
        if not all(issubclass(t, Tensor | np.ndarray) for t in types):
            return NotImplemented
        if function in (np.array_equal, np.array_equiv):
            for x in (*args, *kwargs.values()):
                if isinstance(x, Tensor):
                    np.asarray(x)
        return go_on(*args, **kwargs)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """NumPy calls this for its ufuncs: np.exp(x) is refused, np.float64(2) * x is the tensor's own operator."""
        name = ufunc.__name__
        if method == "__call__" and not options and name in _NUMPYS:
            # to compare, NumPy has made arrays of its numbers
            return _NUMPYS[name](*(x[()] if isinstance(x, np.ndarray) and x.ndim == 0 else x for x in inputs))
        values = "x.detach().numpy()" if self._requires_grad else "x.numpy()"
        raise TypeError(f"{name}: NumPy computes with no tensor; {hint('tinytorch', name, KNOWN)}, or give it {values}")

    __hash__ = object.__hash__

    @words.bound
    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        """The array API namespace of tensors: `tinytorch`."""
        import tinytorch

        known = ("2021.12", "2022.12", "2023.12", tinytorch.__array_api_version__)
        if api_version is not None and not (isinstance(api_version, str) and api_version in known):
            raise ValueError(f"__array_namespace__: api_version is one of {', '.join(known)}, not {api_version!r}")
        return tinytorch

    # Operators ----------------------------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        if hasattr(type(self), name):  # a slot not set, or a property with an error of its own
            return object.__getattribute__(self, name)
        raise missing("tensor", name, "Tensor", self)

    __getitem__ = getitem
    __setitem__ = setitem
    __add__ = ops.add
    __radd__ = _reflected(ops.add)
    __sub__ = ops.subtract
    __rsub__ = _reflected(ops.subtract)
    __mul__ = ops.multiply
    __rmul__ = _reflected(ops.multiply)
    __truediv__ = ops.divide
    __rtruediv__ = _reflected(ops.divide)
    __floordiv__ = ops.floor_divide
    __rfloordiv__ = _reflected(ops.floor_divide)
    __mod__ = ops.remainder
    __rmod__ = _reflected(ops.remainder)
    __pow__ = ops.pow
    __rpow__ = _reflected(ops.pow)
    __matmul__ = ops.matmul
    __rmatmul__ = _reflected(ops.matmul)
    __neg__ = ops.negative
    __pos__ = ops.positive
    __abs__ = ops.abs
    __eq__ = ops.equal  # type: ignore[assignment]
    __ne__ = ops.not_equal  # type: ignore[assignment]
    __lt__ = ops.less
    __le__ = ops.less_equal
    __gt__ = ops.greater
    __ge__ = ops.greater_equal
    __and__ = ops.bitwise_and
    __rand__ = _reflected(ops.bitwise_and)
    __or__ = ops.bitwise_or
    __ror__ = _reflected(ops.bitwise_or)
    __xor__ = ops.bitwise_xor
    __rxor__ = _reflected(ops.bitwise_xor)
    __invert__ = ops.bitwise_invert
    __lshift__ = ops.bitwise_left_shift
    __rlshift__ = _reflected(ops.bitwise_left_shift)
    __rshift__ = ops.bitwise_right_shift
    __rrshift__ = _reflected(ops.bitwise_right_shift)

    __iadd__ = _in_place(ops.add)
    __isub__ = _in_place(ops.subtract)
    __imul__ = _in_place(ops.multiply)
    __itruediv__ = _in_place(ops.divide)
    __ifloordiv__ = _in_place(ops.floor_divide)
    __imod__ = _in_place(ops.remainder)
    __ipow__ = _in_place(ops.pow)
    __imatmul__ = _in_place(ops.matmul)
    __iand__ = _in_place(ops.bitwise_and)
    __ior__ = _in_place(ops.bitwise_or)
    __ixor__ = _in_place(ops.bitwise_xor)
    __ilshift__ = _in_place(ops.bitwise_left_shift)
    __irshift__ = _in_place(ops.bitwise_right_shift)

    # Methods: the functions of the same name, the tensor first ----------------------------------------------------

    abs = ops.abs
    all = ops.all
    any = ops.any
    argmax = ops.argmax
    argmin = ops.argmin
    argsort = ops.argsort
    astype = ops.astype
    clip = ops.clip
    cos = ops.cos
    cumulative_sum = ops.cumulative_sum
    exp = ops.exp
    expand_dims = ops.expand_dims
    flatten = ops.flatten
    log = ops.log
    log_softmax = ops.log_softmax
    max = ops.max
    mean = ops.mean
    min = ops.min
    permute_dims = _as_given(ops.permute_dims)
    prod = ops.prod
    relu = ops.relu
    reshape = _as_given(ops.reshape)
    sigmoid = ops.sigmoid
    sin = ops.sin
    softmax = ops.softmax
    sort = ops.sort
    sqrt = ops.sqrt
    squeeze = ops.squeeze
    std = ops.std
    sum = ops.sum
    tanh = ops.tanh
    tril = ops.tril
    triu = ops.triu
    var = ops.var

    @property
    def mT(self) -> Tensor:
        """The transposes of matrices along the last two axes."""
        return ops.matrix_transpose(self)

    @property
    def T(self) -> Tensor:
        """The transpose of a matrix."""
        if self.ndim != 2:
            raise ValueError(f"T: a matrix has two dimensions, not {self.ndim}; use x.mT or x.permute_dims(...)")
        return ops.permute_dims(self, (1, 0))


Variable.result = Tensor


def host_values(data: Any, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """The values of an array or tensor of any library, as the dtype: so a saved state is read."""
    return Tensor(data.detach() if hasattr(data, "detach") else data, dtype, "cpu").numpy()
