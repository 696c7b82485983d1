"""What a device is: a place where arrays live, and the array library that computes there.

Everything above this package talks to array libraries through a `Device`: its array-API namespace `xp`, host transfer,
and a closed list of extension points, which stand together in one block. The defaults of the extension points are in
`standard.py`, in names of the standard only; a library's own file may override them. Nothing here knows about tensors
or gradients. The file is long because a contract is read as a whole: most lines say what a device promises.

The engine and the bodies of ops call extension points, and methods that move arrays, with arrays of the device. So
these methods need not check their arguments.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, NoReturn

import numpy as np

from tinytorch.backends import standard, written
from tinytorch.backends.standard import Array as Array  # for authors of devices
from tinytorch.backends.standard import Key, Pair

log = logging.getLogger(__name__)

_scopes = threading.local()  # .stack: devices entered with `with`, innermost last


class Unavailable(RuntimeError):
    """A known device that cannot be used on this machine.

    Args:
        reason: what is missing, in one sentence.
        fix: the command or step that mends it; empty if nothing does.
    """

    def __init__(self, reason: str, fix: str = "") -> None:
        super().__init__(f"{reason}; to mend it: {fix}" if fix else reason)
        self.reason = reason
        self.fix = fix


class Stream:
    """An ordered queue of work on a device. This class is for devices that finish each call before the call returns.

    ```python
    with device.stream() as stream:   # work of this thread goes to the stream ...
        y = f(x)
    stream.synchronize()              # ... and is complete after this line
    ```
    """

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def synchronize(self) -> None:
        """Return when all work of the stream is complete."""

    def wait(self, other: Stream) -> None:
        """Let work submitted from now on start only after the work that `other` holds now.

        Raises:
            TypeError: `other` is no stream.
        """
        if not isinstance(other, Stream):
            raise TypeError(f"wait: other is a stream, as of device.stream(), not {type(other).__name__}")


class Device:
    """A place for arrays and the library that computes there.

    Devices are interned, so that `is` compares them: `device("cuda:0") is device("cuda:0")`. As a context manager a
    device is the default for new arrays of this thread:

    >>> from tinytorch import backends
    >>> with backends.device("cpu") as dev:
    ...     backends.default_device() is dev
    True
    """

    library: ClassVar[str]  # the top-level module whose arrays it holds
    is_gpu: bool = False
    name: str  # canonical spelling, such as "cuda:1"
    xp: Any  # array namespace
    native: Any  # the library's own device object, for `device=` of its creation functions
    array_type: type  # type of a proper array; other results of ops go through `asarray`
    large: int = 0  # from so many bytes on results and gradients are shown to `hold`; 0 for never
    current: Callable[..., Any] | None = None  # calls a function with this device current; None if there is no need
    default_int: Any = np.dtype("int64")
    hardware: str = ""  # the maker's name for the hardware, if the library tells
    memory: tuple[int, int] | None = None  # DLPack's name of the memory, (1, 0) for the host; None: not shared

    def __init__(self, index: str) -> None:
        """Make the device of an index that `canonical` has found to exist. Called once: devices are interned."""

    @classmethod
    def canonical(cls, index: str) -> str:
        """The full name of the device spelled `family:index` (or `family` alone, with an empty index).

        The default looks among `available()`. Without an index it takes the first; numbers missing at the end are 0.

        Raises:
            ValueError: the family has no such index.
        """
        names = cls.available()
        if not index:
            return names[0]
        name = f"{names[0].partition(':')[0]}:{index}"
        for spelled in (name, f"{name}:0", name.removesuffix(":0")):
            if spelled in names:
                return spelled
        raise ValueError(f"device: no '{name}'; there are {', '.join(names)}")

    @classmethod
    def available(cls) -> list[str]:
        """The canonical names of all devices of this family on this machine.

        Raises:
            Unavailable: there are no devices; the error says why.
        """
        raise NotImplementedError(f"{cls.__name__}.available: a device class says which devices there are")

    @classmethod
    def of(cls, array: Array) -> str:
        """The canonical name of the device that holds `array`, which is of this class's library."""
        raise NotImplementedError(f"{cls.__name__}.of: a device class says where an array lives")

    # Host and device ---------------------------------------------------------------------------------------------

    def from_numpy(self, array: np.ndarray) -> Array:
        """A NumPy array on this device. Where the device is on the host, the two may share memory."""
        return self.xp.asarray(array, dtype=self.dtype(array.dtype), device=self.native)

    def to_numpy(self, array: Array) -> np.ndarray:
        """The values as a NumPy array that the caller owns. Waits until all values are computed."""
        raise NotImplementedError(f"{type(self).__name__}.to_numpy: a device class says how values reach the host")

    def receive(self, array: Array, source: Device) -> Array:
        """An array of another device, on this one.

        The default shares memory if both devices have the same memory and both libraries allow sharing. Otherwise the
        values go through host memory, which the logger `tinytorch.backends.device` is told at level DEBUG.
        """
        reason = "they share no memory"
        if self.memory is not None and self.memory == source.memory:
            try:
                return self.share(source.exported(array))
            except (BufferError, RuntimeError, TypeError, ValueError) as error:
                reason = str(error).partition("\n")[0]
        host = source.to_numpy(array)
        log.debug("%s to %s: %d bytes copied through the host: %s", source, self, host.nbytes, reason)
        return self.from_numpy(host)

    def share(self, array: Any) -> Array:
        """An array on the memory of another library's array, by DLPack.

        Raises:
            BufferError, RuntimeError, TypeError, ValueError: one of the libraries needs a copy.
        """
        return self.xp.from_dlpack(array)

    def exported(self, array: Array) -> Array:
        """The array for DLPack: a copy if other libraries could not take it as it lies in memory."""
        return array

    @staticmethod
    def transfer(array: Array, source: Device, device: Device) -> Array:
        """An array of the device `source`, on `device`; the array itself if these are one device."""
        return array if source is device else device.receive(array, source)

    def asarray(self, x: Any) -> Array:
        """A result of the library, or a user's array, as a proper array of the device.

        Some libraries return scalars where the standard says arrays of no axes. Some have subclasses of arrays.
        """
        return x if isinstance(x, self.array_type) else self.xp.asarray(x, device=self.native)

    # Dtypes: NumPy's dtype objects are the library-neutral names ---------------------------------------------------

    def dtype(self, dtype: Any) -> Any:
        """The library's dtype for a dtype of NumPy.

        Raises:
            TypeError: the device has no such dtype.
        """
        name = np.dtype(dtype).name
        try:
            return getattr(self.xp, name)
        except AttributeError:
            raise TypeError(f"{self.name} has no {name}") from None

    def dtype_of(self, array: Array) -> np.dtype:
        """The NumPy dtype that names the array's dtype."""
        return array.dtype

    # Work in flight -----------------------------------------------------------------------------------------------

    def stream(self) -> Stream:
        """A new stream. On a device that finishes each call before it returns, a stream never waits."""
        return Stream()

    def synchronize(self) -> None:
        """Return when all work submitted to the device is complete."""

    def keep_memory(self, keep: bool = True) -> bool:
        """Keep unused memory for the next arrays, rather than give it back to the system.

        Memory is kept for the whole process and for good, and so only on request. Returns whether the device can keep
        it. With `keep=False` the device gives back memory that it kept unasked: the CPU the memory that `hold` keeps,
        from now on; a GPU, whose library always keeps memory, the memory that no array uses now.
        """
        if not isinstance(keep, bool | np.bool):
            raise TypeError(f"keep_memory: keep is True or False, not {type(keep).__name__} {keep!r}")
        return False

    # Extension points: standard names only, overridden where a library does better --------------------------------

    def fused(self, function: Callable[..., Any], out: tuple[Array, ...] | None = None) -> Callable[..., Any]:
        """An elementwise function in this device's best form: `dev.fused(function)(dev, *arrays, **numbers)`.

        The default is the function itself. A device may compute the function block by block, compile it, or make one
        kernel of it, and keep the outcome by the function's identity: pass one function object each time.

        Args:
            function: defined in a module, and pure: the function changes no argument, and looks at no value. Its
                arguments are the device, arrays of one shape and dtype, and Python numbers by keyword, for calculations
                only; whatever varies from call to call is a number. The function computes with `dev.xp`, operators and
                `dev.erf`, each element by itself, and returns an array, or a tuple of arrays, of the inputs' shape and
                dtype. `y += b` is for a `y` that the function itself has just made.
            out: arrays for the results, contiguous, of the inputs' shape and dtype, and read by nobody else; the inputs
                may be among them. A device may write the results into them and return them; the default does not.

        The device passed to the function may hold tensors, to record the function, and arrays may be tracers.
        """
        return function

    def elementwise(self, function: Callable[..., Any], *arrays: Array, **numbers: float) -> Any:
        """What `fused` of the function gives for these arrays and numbers: one line of a program."""
        return self.fused(function)(self, *arrays, **numbers)

    def scatter_add(self, values: Array, indices: Array, size: int) -> Array:
        """Sum rows by index: `out[i] = sum of values[n] over all n with indices[n] == i`.

        Args:
            values: (N, ...).
            indices: (N,) integers in [0, size).
            size: number of rows of the result, (size, ...).

        The default sorts the rows and adds neighbours of one index up in log2(N) steps, which needs no mutation.
        """
        return standard.scatter_add(self, values, indices, size)

    def put(self, x: Array, key: tuple[slice, ...] | Array, values: Array) -> Array:
        """A copy of x with `x[key] = values`.

        Args:
            key: a slice with a positive step for each axis; or (N,) integers in [0, len(x)), rows of x. Where an
                integer occurs twice, the last value stays.
            values: broadcast against x[key].

        The default puts zeros around the values, or sorts the integers, which needs no mutation.
        """
        return standard.put(self, x, key, values)

    def add_parts(self, parts: list[Array], keys: list[Key], shape: tuple[int, ...]) -> Array:
        """Zeros of the shape, with each part added at its key: the gradient of all slices of one array.

        Args:
            parts: at least one array, each with as many axes as the shape.
            keys: for each part, a slice for each axis, with a positive step and both ends inside the axis.

        The default joins the parts, and zeros for the gaps, along one axis after the other, which needs no mutation.
        """
        return standard.add_parts(self, parts, keys, shape)

    def windows(self, x: Array, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Array:
        """The pixel under each element of a kernel at each place: (C, H, W, N) -> (C, KH, KW, H', W', N).

        Args:
            x: images, batch-last.
            kernel: (KH, KW); the other arguments, too, are pairs for rows and columns.
            stride: steps between places.
            padding: zeros on each side of the image.
            dilation: steps between the elements of the kernel.

        The default stacks slices. The result may be a view of the images.
        """
        return standard.windows(self, x, kernel, stride, padding, dilation)

    def add_windows(
        self, parts: list[Array], size: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair
    ) -> Array:
        """The gradient of `windows`: images (C, H, W, N), with each part added in at the places that it came from.

        Args:
            parts: (C, H', W', N) for each element of the kernel, row by row.
            size: (H, W).
            kernel, stride, padding, dilation: as for `windows`.

        The default puts zeros around the parts, which needs no mutation.
        """
        return standard.add_windows(self, parts, size, kernel, stride, padding, dilation)

    def erf(self, x: Array) -> Array:
        """The error function `2/sqrt(pi) * integral of exp(-t**2) from 0 to x`, to a few units in the last place.

        The default for float32 is x times a quotient of two polynomials in x**2, up to the x where erf rounds to 1. For
        float64 it is the Taylor series up to |x| = 1, so that small x keep all digits. Beyond, it is a polynomial in
        `(4 - |x|) / (4 + |x|)` for `erfc(|x|) * exp(x**2)`, fitted to Python's `math.erfc` at the first use.
        """
        return standard.erf(self, x)

    def normalized(self, x: Array, weight: Array | None, bias: Array | None, eps: float) -> tuple[Array, Array, Array]:
        """Rows minus their mean, divided by their standard deviation: (h * weight + bias, h, r), h = (x - mean) * r.

        Args:
            x: (M, N).
            weight, bias: (N,), or None.
            eps: r (M, 1) is 1 / sqrt(variance + eps).
        """
        return standard.normalized(self, x, weight, bias, eps)

    def normalized_rule(self, g: Array, gh: Array, h: Array, r: Array, weight: Array | None) -> Array:
        """The gradient of the rows given to `normalized`: (d - mean(d) - h * mean(d * h)) * r with d = g * weight.

        Args:
            g: (M, N), the gradient of the result h * weight + bias.
            gh: g * h, which the gradient of the weight needs, too.
        """
        return standard.normalized_rule(self, g, gh, h, r, weight)

    def may_occur(self, value: int, labels: Array) -> bool:
        """Whether the value may be among labels; all other labels are classes, from 0 on.

        The answer decides only how a result is computed. The default is True without a look: a read would wait for a
        GPU's queue.
        """
        return True

    def class_losses(
        self, z: Array, labels: Array, ignore: int | None, smooth: float
    ) -> tuple[Array, Array | None, tuple[Any, ...]]:
        """The cross entropy of logits and labels: -sum over classes of q * log_softmax(z); 0 for ignored labels.

        Args:
            z: (M, C).
            labels: (M,) integers; q is 1 - smooth + smooth / C at the label, and smooth / C elsewhere.
            ignore: the label to ignore; None if all count.

        Returns:
            The losses (M,); which labels count (M,), or None for all; and the state for `class_losses_rule`.
        """
        return standard.class_losses(self, z, labels, ignore, smooth)

    def class_losses_rule(self, state: tuple[Any, ...], g: Array) -> Array:
        """The gradient of the logits, (softmax(z) - q) * g; 0 for ignored labels. g is (M, 1) or ()."""
        return standard.class_losses_rule(self, state, g)

    def does_as_default(self, point: str, *args: Any) -> bool:
        """Whether an extension point that the device has of its own does what the default does, of such arguments.

        Where it does, a program has the lines of the default, which can be simplified, in place of one opaque line.
        """
        return getattr(type(self), point) is getattr(Device, point)

    def compile(self, program: Any) -> Callable[..., list[Array]]:
        """A function that runs a program: from its inputs to its outputs. Outputs are new arrays, or inputs.

        Args:
            program: a `tinytorch.program.Program`, all of whose arrays are on this device, or several of which this one
                is the first.

        The default is straight-line Python, which forgets each array after its last use.

        Raises:
            Differs: what that raises when a line that `expects` an answer has got another.
        """
        return written.compiled(program)

    def hold(self, array: Array) -> None:
        """Is shown a large result or gradient. A device may keep it, so that the memory below is not given back.

        The default keeps nothing.
        """

    def check_index(self, indices: Array, size: int, what: str, ignore: int | None = None) -> None:
        """Raise IndexError if any of the integers `indices` is outside [0, size) and is not `ignore`.

        The default reads the answer at once. Where reads wait for the whole queue, a device may put the error off until
        values are read, or the device is synchronized. So no computation may depend on the answer.
        """
        standard.check_index(self, indices, size, what, ignore)

    def check_unit(self, values: Array, what: str) -> None:
        """Raise ValueError if any of the floating numbers `values` is outside [0, 1]; NaN passes.

        A device may put the error off, as for `check_index`.
        """
        standard.check_unit(self, values, what)

    def drawn(
        self, generator: np.random.Generator, kind: str, shape: tuple[int, ...], dtype: Any, settings: dict[str, Any]
    ) -> Array:
        """The next numbers of a generator, as an array.

        Args:
            kind: "uniform" in [0, 1), "normal" of mean 0 and variance 1, "integers" in [low, high), "permutation" of
                the integers below the length, or "dropout", see `dropout_mask`.
            settings: `low` and `high`, or `p`.
        """
        return standard.drawn(self, generator, kind, shape, dtype, **settings)

    def dropout_mask(self, generator: np.random.Generator, shape: tuple[int, ...], p: float, dtype: Any) -> Array:
        """0 with probability p, else 1 / (1 - p), from the next numbers of a generator. All devices give equal masks.

        The default draws the numbers on the host.
        """
        return standard.dropout_mask(self, generator, shape, p, dtype)

    def activated(self) -> AbstractContextManager[Any]:
        """A `with` block in which, on this thread, the library's own functions work as if called through `current`."""
        return nullcontext()

    # A device is a name: a copy is the device itself, and `with` makes it the default ------------------------------

    def __enter__(self) -> Device:
        _stack().append(self)
        return self

    def __exit__(self, *exc: object) -> None:
        _stack().pop()

    @property
    def type(self) -> NoReturn:
        """Raise AttributeError: `type` is PyTorch's name. A `__getattr__` would make every attribute slower."""
        raise AttributeError("a device has no attribute 'type'; write device.name, or device.is_gpu")

    def __repr__(self) -> str:
        return f"device('{self.name}')"

    def __str__(self) -> str:
        return self.name

    def __format__(self, spec: str) -> str:
        return format(self.name, spec)

    def __deepcopy__(self, memo: object) -> Device:
        return self

    def __copy__(self) -> Device:
        return self


def _stack() -> list[Device]:
    try:
        return _scopes.stack
    except AttributeError:
        _scopes.stack = []
        return _scopes.stack
