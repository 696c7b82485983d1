"""The devices "cuda:0", "cuda:1", ...: CuPy arrays on NVIDIA GPUs. The only file that imports CuPy.

CuPy needs more than the standard says:

* CuPy allocates on the *current* CUDA device, whatever the operands' device, and creation functions take no `device=`
  (array-api-compat drops the keyword). So everything that runs on a device runs through `current`.
* A kernel that reads another device's memory does not wait for the work pending there. So copies between devices order
  the two streams with events.
* Streams do not wait for each other. Freed memory is at once handed out again to the stream that it came from, though
  another stream may still read it: see `CudaStream`.
* Reading values waits for the whole device, so that the work of all streams is done. Index checks would have to read:
  they are put off until values are read anyway.
* Launching a kernel takes longer than most kernels run. So computations that take CuPy many launches have kernels of
  their own (backends/cuda_source.py).

The file is long because only one file may import CuPy.
"""

from __future__ import annotations

import functools
import itertools
import math
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from types import SimpleNamespace
from typing import Any

import numpy as np

from tinytorch.backends import cuda_source as source
from tinytorch.backends import importing
from tinytorch.backends.device import Array, Device, Stream, Unavailable
from tinytorch.backends.standard import Key, Pair, added, added_up, backwards, counts, last_of, out_of_range
from tinytorch.backends.tracing import Kernel

_FIX = "python -m pip install 'tinytorch-xp[cuda12]' (or [cuda13], to match the driver)"

with importing.library("CuPy", _FIX, "cupy"):
    import cupy

import array_api_compat.cupy as compat  # noqa: E402
from cupyx.scipy.special import erf  # noqa: E402

_PENDING = 512  # index checks kept unread before their answers are fetched
_READS = 64  # calls in a stream's block, after which finished ones are let go
_LARGE = 1 << 16  # from so many bytes on host memory is copied as it is, and not through pinned memory
_IN_ORDER = 4096, 1 << 28  # up to so many rows and comparisons scatter_add sums in the order of the indices
_THREADS, _BLOCKS = 256, 1024


@functools.cache
def _toolkit() -> None:
    """Load a small kernel and the library of matrix products: CuPy's wheel has neither compiler nor headers.

    Raises:
        Unavailable: CuPy cannot compile, or cannot multiply matrices.
    """
    try:
        cupy.RawKernel('extern "C" __global__ void empty() {}', "empty").compile()
        cupy.cuda.cublas  # noqa: B018  # this imports the library
    except Exception as error:  # the kind depends on what is missing
        raise Unavailable(
            f"CuPy {cupy.__version__} and an NVIDIA driver are installed, but the CUDA toolkit is not, or not whole: "
            f"{str(error).strip().partition(chr(10))[0]}",
            _FIX,
        ) from error


def _count() -> int:
    """The number of CUDA devices; probes the driver, since CuPy imports without one.

    Raises:
        Unavailable: no driver, one too old for this CuPy, or no GPU.
    """
    runtime = cupy.cuda.runtime
    try:
        driver, needed = runtime.driverGetVersion(), runtime.runtimeGetVersion()
    except runtime.CUDARuntimeError as error:
        raise Unavailable(f"CuPy {cupy.__version__} is installed, but CUDA does not start: {error}", "") from error
    if driver == 0:
        raise Unavailable(
            f"CuPy {cupy.__version__} is installed, but this machine has no NVIDIA driver",
            "install the NVIDIA driver, then run nvidia-smi to see that it works",
        )
    try:
        count: int = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        have, want = (f"{v // 1000}.{v % 1000 // 10}" for v in (driver, needed))
        if "InsufficientDriver" in str(error):
            raise Unavailable(
                f"CuPy {cupy.__version__} needs CUDA {want}, but the NVIDIA driver is for CUDA {have}",
                "update the NVIDIA driver, or install the CuPy for its CUDA version",
            ) from error
        count = 0
        if "NoDevice" not in str(error):
            raise Unavailable(f"CuPy {cupy.__version__} finds a driver for CUDA {have}, but: {error}") from error
    if count == 0:
        raise Unavailable(f"CuPy {cupy.__version__} and an NVIDIA driver are installed, but there is no GPU")
    return count


# Functions of the standard that take several launches in CuPy ------------------------------------------------------


@functools.cache
def _elementwise(*spec: str) -> Any:
    """An ElementwiseKernel of backends/cuda_source.py."""
    return cupy.ElementwiseKernel(*spec)


_C_TYPES = {
    1: "unsigned char",
    2: "unsigned short",
    4: "unsigned int",
    8: "unsigned long long",
    "int32": "int",
    "int64": "long long",
    "float32": "float",
    "float64": "double",
}


@functools.cache
def _raw(code: str, name: str, T: Any) -> Any:
    """A kernel of backends/cuda_source.py for arrays of the type T, a key of _C_TYPES."""
    return cupy.RawKernel(f"typedef {_C_TYPES[T]} T;\n{code}", name)


def _launch(kernel: Any, count: int, *args: Any) -> None:
    """Launch a kernel whose threads share `count` elements."""
    kernel((min(-(-count // _THREADS), _BLOCKS) or 1,), (_THREADS,), args)


def _rows(code: str, name: str, shape: tuple[int, int], T: Any, *args: Any) -> None:
    """Launch a kernel with a block of threads for each row of an array."""
    threads = min(max(32, 1 << (shape[1] // 4).bit_length()), _THREADS)
    _raw(code, name, T.name)((shape[0],), (threads,), args)


@functools.cache
def _in_double(name: str, result: str) -> Any:
    """A sum of float32, added in float64: a thread adds many numbers one after another, and errors add up."""
    return cupy.ReductionKernel(
        "T x", "T y", "(double)x", "a + b", f"y = (T)({result})", "0", name, reduce_type="double"
    )


def _sum(x: Array, /, *, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Array:
    if x.dtype == np.float32 and (dtype is None or dtype == np.float32):
        return _in_double("add_up", "a")(x, axis=axis, keepdims=keepdims)
    return compat.sum(x, axis=axis, dtype=dtype, keepdims=keepdims)


def _mean(x: Array, /, *, axis: Any = None, keepdims: bool = False) -> Array:
    if x.dtype == np.float32 and x.size:
        return _in_double("mean_of", "a * _out_ind.size() / _in_ind.size()")(x, axis=axis, keepdims=keepdims)
    return compat.mean(x, axis=axis, keepdims=keepdims)


def _cumulative_sum(x: Array, /, *, axis: Any = None, dtype: Any = None, include_initial: bool = False) -> Array:
    return added_up(compat, x, axis, dtype, include_initial)


_TABLE = np.dtype([("at", np.uint64, source.JOIN_MOST), ("end", np.int64, source.JOIN_MOST)])


def _concat(arrays: Sequence[Array], /, *, axis: int | None = 0) -> Array:
    """Join arrays with one launch for every 64, and one more for each array that is not contiguous."""
    arrays = [a.ravel() for a in arrays] if axis is None else list(arrays)
    axis = axis or 0
    first = arrays[0]
    ndim, lead = first.ndim, first.shape[: axis % max(first.ndim, 1)]
    rest = first.shape[len(lead) + 1 :]
    if not -ndim <= axis < ndim or any(
        a.dtype != first.dtype or a.ndim != ndim or a.shape[: len(lead)] != lead or a.shape[len(lead) + 1 :] != rest
        for a in arrays
    ):
        return cupy.concatenate(arrays, axis)  # CuPy promotes, or raises
    rows, inner = math.prod(lead), math.prod(rest)
    lengths = [a.shape[len(lead)] for a in arrays]
    out = cupy.empty((*lead, sum(lengths), *rest), first.dtype)
    if not out.size:
        return out
    stride, start, kernel = sum(lengths) * inner, 0, _raw(source.JOIN, "join", first.itemsize)
    for i in range(0, len(arrays), source.JOIN_MOST):
        some = slice(i, i + source.JOIN_MOST)
        kept = [a if a.flags.c_contiguous else a.copy(order="C") for a in arrays[some]]
        ends = [*itertools.accumulate(n * inner for n in lengths[some])]
        table = np.zeros(1, _TABLE)
        table["at"][0, : len(kept)] = [a.data.ptr for a in kept]
        table["end"][0, : len(kept)] = ends
        place = out.reshape(-1)[start:] if start else out
        _launch(kernel, rows * ends[-1], table[0], len(kept), rows, ends[-1], stride, place)
        start += ends[-1]
    return out


def _stack(arrays: Sequence[Array], /, *, axis: int = 0) -> Array:
    thin = [cupy.expand_dims(a, axis) for a in arrays]
    return _concat(thin, axis=axis % thin[0].ndim)


@functools.cache
def _traced(function: Callable[..., Any], arrays: int, numbers: tuple[str, ...], dtype: np.dtype[Any]) -> Any:
    """An elementwise function as one kernel, the number of arrays it returns, and whether it returns no tuple.

    None if the function cannot be written out as C++, and so takes several launches.
    """
    try:
        kernel = Kernel(function, arrays, numbers, dtype)
    except (AttributeError, TypeError):
        return None
    name = f"fused_{function.__name__.strip('_')}"
    made = cupy.ElementwiseKernel(kernel.takes, kernel.returns, "\n".join(kernel.lines), name)
    return made, kernel.outputs, kernel.single


def _fused(function: Callable[..., Any], out: Any, dev: Device, *arrays: Array, **numbers: float) -> Any:
    """The call of `Device.fused(function, out)`, see there."""
    made = _traced(function, len(arrays), tuple(numbers), arrays[0].dtype)
    if made is None:
        return function(dev, *arrays, **numbers)
    kernel, outputs, single = made
    if out is None:
        like = next((a for a in arrays[::-1] if 0 not in a.strides), arrays[0])  # its memory order is the results'
        out = tuple([cupy.empty_like(like) for _ in range(outputs)])
    kernel(*arrays, *numbers.values(), *out)
    return out[0] if single else out


# Streams ------------------------------------------------------------------------------------------------------------


class CudaStream(Stream):
    """A CUDA stream of one device; entered, it is the current stream of this thread on that device.

    Blocks of one thread run in order: at the start of a block its stream waits for the work of the outer stream, and at
    the end the outer stream waits for the block's. Work runs at the same time only from several threads, each in a
    stream of its own, or on several devices. Arrays read inside a block are kept until the reading is done. Otherwise
    their memory could be handed out again, to another thread in the stream that it came from.
    """

    def __init__(self, device: CudaDevice) -> None:
        self.device = device
        with cupy.cuda.Device(device.index):
            self.native = cupy.cuda.Stream(non_blocking=True)

    def __enter__(self) -> CudaStream:
        with cupy.cuda.Device(self.device.index):
            outer = cupy.cuda.get_current_stream()
            if outer != self.native:
                self.native.wait_event(_event_after(outer))
            self.native.use()
        self.device.entered.streams.append((outer, []))
        return self

    def __exit__(self, *exc: object) -> None:
        outer, reads = self.device.entered.streams.pop()
        with cupy.cuda.Device(self.device.index):
            done = _event_after(self.native)
            if outer != self.native:
                outer.wait_event(done)
            outer.use()
        self.device.keep_until(done, reads)

    def synchronize(self) -> None:
        self.native.synchronize()

    def wait(self, other: Stream) -> None:
        if isinstance(other, CudaStream):
            with cupy.cuda.Device(other.device.index):
                event = _event_after(other.native)
            self.native.wait_event(event)
        else:
            super().wait(other)
            other.synchronize()


def _event_after(stream: Any) -> Any:
    """An event that is done when all work now in a stream of the current device is done."""
    return stream.record(cupy.cuda.Event(disable_timing=True))


class _Entered(threading.local):
    """The streams of a device that this thread has entered: for each the outer stream, and the arrays read inside."""

    def __init__(self) -> None:
        self.streams: list[tuple[Any, list[Any]]] = []


_Asked = tuple[str, str, Any, str]  # what was checked, the interval, the type of the values, their format


class _Checks:
    """Checks of one thread on one stream with answers that are not read yet; each has a row of the table."""

    def __init__(self) -> None:
        self.table = cupy.zeros((_PENDING, 4), np.uint64)
        self.asked: list[_Asked] = []

    def answers(self) -> list[str]:
        """The errors found, in words. The table is empty afterwards."""
        host = cupy.asnumpy(self.table[: len(self.asked)])
        wrong = [
            out_of_range(what, shown.format(value.view(kind)), int(count), interval)
            for (what, interval, kind, shown), (_, count, _, value) in zip(self.asked, host)
            if count
        ]
        self.asked = []
        if wrong:
            self.table = cupy.zeros_like(self.table)
        return wrong


def _uploaded(array: np.ndarray) -> Array:
    """A host array on the current device."""
    if array.nbytes < _LARGE:
        return cupy.asarray(array)
    out = cupy.empty(array.shape, array.dtype)
    out.set(array)  # asarray would keep pinned memory for good, the next power of two
    return out


def _side_by_side(parts: list[Array]) -> Array:
    """K arrays of one shape (C, ...) as one (C, K, ...); without a copy if they lie in memory at equal distances."""
    first = parts[0]
    places = [p.data.ptr for p in parts]
    distance = places[1] - places[0] if len(parts) > 1 else 0
    in_a_row = all(b - a == distance for a, b in itertools.pairwise(places)) and distance >= 0
    if not in_a_row or any(p.strides != first.strides or p.data.mem is not first.data.mem for p in parts):
        return _stack(parts, axis=1)
    c, *rest = first.strides
    C, *lengths = first.shape
    return cupy.lib.stride_tricks.as_strided(first, (C, len(parts), *lengths), (c, distance, *rest))


def _advanced(generator: np.random.Generator, count: int) -> dict[str, Any]:
    """The state of a Philox generator. The generator is then advanced as if `count` float32 numbers were drawn."""
    bits: Any = generator.bit_generator
    with bits.lock:
        before = bits.state
        held = 2 * (4 - before["buffer_pos"]) + before["has_uint32"]  # numbers that the generator holds
        after, left = np.random.Philox(0), count
        after.state = before
        if count > held:  # skip all but the last eight numbers, and draw these
            blocks = (count - held - 1) // 8
            after.advance(blocks)
            left = count - held - 8 * blocks
        np.random.Generator(after).random(left, dtype=np.float32)
        bits.state = after.state
    return before


class CudaDevice(Device):
    """One NVIDIA GPU, through CuPy."""

    library = "cupy"
    is_gpu = True
    xp = SimpleNamespace(
        **vars(compat)
        | {"concat": _concat, "stack": _stack, "sum": _sum, "mean": _mean, "cumulative_sum": _cumulative_sum}
    )
    array_type = cupy.ndarray

    def __init__(self, index: str) -> None:
        self.index = int(index)
        self.native = cupy.cuda.Device(self.index)
        self.memory = (2, self.index)
        self.hardware = cupy.cuda.runtime.getDeviceProperties(self.index)["name"].decode()
        self.entered = _Entered()
        self._checks: dict[tuple[threading.Thread, Any], _Checks] = {}  # for each thread and stream
        self._kept: list[tuple[Any, list[Any]]] = []  # (event, objects to keep until it is done)
        self._lock = threading.Lock()

    @classmethod
    def canonical(cls, index: str) -> str:
        count = len(cls.available())
        if not index:
            return f"cuda:{cupy.cuda.runtime.getDevice()}"
        if not (index.isascii() and index.isdigit() and int(index) < count):
            raise ValueError(f"device: no 'cuda:{index}'; there are {', '.join(cls.available())}")
        return f"cuda:{int(index)}"

    @classmethod
    def available(cls) -> list[str]:
        count = _count()
        _toolkit()
        return [f"cuda:{i}" for i in range(count)]

    @classmethod
    def of(cls, array: Array) -> str:
        return f"cuda:{array.device.id}"

    def current(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call the function with this device current."""
        try:
            with cupy.cuda.Device(self.index):
                return function(*args, **kwargs)
        finally:
            if self.entered.streams:
                self._read((function, args))

    def activated(self) -> AbstractContextManager[Any]:
        manager: AbstractContextManager[Any] = cupy.cuda.Device(self.index)
        return manager

    def _read(self, call: tuple[Any, ...]) -> None:
        """Keep a function and its arguments until this thread's stream has done the call."""
        _, reads = self.entered.streams[-1]
        reads.append(call)
        if len(reads) >= _READS:
            with cupy.cuda.Device(self.index):
                self.keep_until(_event_after(cupy.cuda.get_current_stream()), reads[:])
            reads.clear()

    def keep_until(self, event: Any, reads: list[Any]) -> None:
        """Keep objects until the event is done, and let go of objects whose event is done."""
        self._let_go([(event, reads)])

    def _let_go(self, new: Sequence[tuple[Any, list[Any]]] = ()) -> None:
        """Let go of objects whose event is done; outside the lock, as that can run any code."""
        with self._lock:
            kept, self._kept = self._kept, []
        left = [(event, reads) for event, reads in [*kept, *new] if not event.done]
        with self._lock:
            self._kept += left

    def from_numpy(self, array: np.ndarray) -> Array:
        return self.current(_uploaded, array)

    def to_numpy(self, array: Array) -> np.ndarray:
        self.synchronize()
        return self.current(cupy.asnumpy, array)

    def share(self, array: Any) -> Array:
        return self.current(cupy.from_dlpack, array)

    def receive(self, array: Array, source: Device) -> Array:
        if not isinstance(source, CudaDevice):
            return super().receive(array, source)
        with cupy.cuda.Device(source.index):
            if not array.flags.c_contiguous:  # without peer access only contiguous memory can be copied
                array = array.copy(order="C")
            there = cupy.cuda.get_current_stream()
            written = there.record()
        with cupy.cuda.Device(self.index):
            here = cupy.cuda.get_current_stream()
            here.wait_event(written)
            out = array.copy()
            read = here.record()
        with cupy.cuda.Device(source.index):
            there.wait_event(read)  # the memory is not handed out again before the copy is made
        return out

    def exported(self, array: Array) -> Array:
        return self.current(cupy.ascontiguousarray, array) if backwards(array) else array

    def asarray(self, x: Any) -> Array:
        return self.current(cupy.asarray, x)

    def dtype(self, dtype: Any) -> np.dtype:
        return np.dtype(dtype)

    def stream(self) -> CudaStream:
        return CudaStream(self)

    def synchronize(self) -> None:
        self.native.synchronize()
        if self._kept:
            self._let_go()
        self._raise_unread()

    def keep_memory(self, keep: bool = True) -> bool:
        """With keep=False, give back memory that no array uses now. Otherwise CuPy keeps memory anyway."""
        super().keep_memory(keep)
        if not keep:
            self.synchronize()
            self.current(cupy.get_default_memory_pool().free_all_blocks)
            cupy.get_default_pinned_memory_pool().free_all_blocks()
        return True

    def fused(self, function: Callable[..., Any], out: tuple[Array, ...] | None = None) -> Callable[..., Any]:
        return functools.partial(_fused, function, out)

    def scatter_add(self, values: Array, indices: Array, size: int) -> Array:
        """Repeatable up to 4096 rows of values; above, floating numbers are added in any order."""
        shape, count, width = (size, *values.shape[1:]), len(indices), math.prod(values.shape[1:])
        most, comparisons = _IN_ORDER
        if count <= most and size * width * count <= comparisons:
            out = cupy.empty(shape, values.dtype)
            if out.size:
                _elementwise(*source.SCATTER_ADD)(values, indices, count, width, out)
            return out
        wide = np.dtype("float64") if values.dtype == np.float32 else values.dtype
        if values.dtype.itemsize < 4 and values.dtype.kind != "f":
            wide = np.dtype("int32")  # CUDA cannot add in fewer bits
        out = cupy.zeros(shape, wide)
        cupy.add.at(out, indices, values.astype(wide, copy=False))
        return out.astype(values.dtype, copy=False)

    def windows(self, x: Array, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Array:
        C, H, W, N = x.shape
        (ph, pw), (sh, sw), (dh, dw) = padding, stride, dilation
        places = counts((H + 2 * ph, W + 2 * pw), kernel, stride, dilation)
        shape = (C, *kernel, *places, N)
        if padding == (0, 0):
            c, h, w, n = x.strides
            return cupy.lib.stride_tricks.as_strided(x, shape, (c, h * dh, w * dw, h * sh, w * sw, n))
        out = cupy.empty(shape, x.dtype)
        _elementwise(*source.WINDOWS)(x, H, W, N, *kernel, *places, sh, sw, ph, pw, dh, dw, out)
        return out

    def add_windows(
        self, parts: list[Array], size: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair
    ) -> Array:
        C, *places, N = parts[0].shape
        out = cupy.empty((C, *size, N), parts[0].dtype)
        sizes = (*size, N, *kernel, *places, *stride, *padding, *dilation)
        if out.size:
            _elementwise(*source.ADD_WINDOWS)(_side_by_side(parts), *sizes, out)
        return out

    def put(self, x: Array, key: Key | Array, values: Array) -> Array:
        out = x.copy()
        if not isinstance(key, tuple) and key.shape[0] > 1 and values.shape[0] > 1:
            # CuPy sets equal indices in any order: so all of them get the value of the last
            values = values[last_of(self, key, x.shape[0])[key]]
        out[key] = values
        return out

    def add_parts(self, parts: list[Array], keys: list[Key], shape: tuple[int, ...]) -> Array:
        return added(cupy.zeros(shape, dtype=parts[0].dtype), parts, keys)

    def erf(self, x: Array) -> Array:
        return erf(x)

    def normalized(self, x: Array, weight: Array | None, bias: Array | None, eps: float) -> tuple[Array, Array, Array]:
        if not x.size or x.dtype.name not in _C_TYPES:
            return super().normalized(x, weight, bias, eps)
        x, *given = (0 if a is None else cupy.ascontiguousarray(a) for a in (x, weight, bias))  # 0: no address
        h, r = cupy.empty(x.shape, x.dtype), cupy.empty((len(x), 1), x.dtype)
        y = h if weight is None is bias else cupy.empty(x.shape, x.dtype)
        _rows(source.NORMALIZED, "normalized", x.shape, x.dtype, x, *given, x.shape[1], eps, y, h, r)
        return y, h, r

    def normalized_rule(self, g: Array, gh: Array, h: Array, r: Array, weight: Array | None) -> Array:
        if not g.size or g.dtype.name not in _C_TYPES:
            return super().normalized_rule(g, gh, h, r, weight)
        g, h, r, given = (0 if a is None else cupy.ascontiguousarray(a) for a in (g, h, r, weight))
        out = cupy.empty(g.shape, g.dtype)
        _rows(source.NORMALIZED_RULE, "normalized_rule", g.shape, g.dtype, g, h, r, given, g.shape[1], out)
        return out

    def class_losses(
        self, z: Array, labels: Array, ignore: int | None, smooth: float
    ) -> tuple[Array, Array | None, tuple[Any, ...]]:
        if not z.size or z.dtype.name not in _C_TYPES or labels.dtype != np.int64:
            return super().class_losses(z, labels, ignore, smooth)
        z, labels, M = cupy.ascontiguousarray(z), cupy.ascontiguousarray(labels), len(z)
        losses, kept, state = (cupy.empty(shape, z.dtype) for shape in ((M,), (M,), (2, M)))
        numbers = z.shape[1], ignore is not None, ignore or 0, smooth
        _rows(source.CLASS_LOSSES, "class_losses", z.shape, z.dtype, z, labels, M, *numbers, losses, kept, state)
        return losses, None if ignore is None else kept, (z, labels, state, numbers)

    def class_losses_rule(self, state: tuple[Any, ...], g: Array) -> Array:
        if len(state) != 4:
            return super().class_losses_rule(state, g)
        z, labels, known, numbers = state
        out = cupy.empty(z.shape, z.dtype)
        return _elementwise(*source.CLASS_LOSSES_RULE)(z, labels, known, g, int(g.size > 1), len(z), *numbers, out)

    def dropout_mask(self, generator: np.random.Generator, shape: tuple[int, ...], p: float, dtype: Any) -> Array:
        if not math.prod(shape):
            return cupy.empty(shape, dtype)
        state = _advanced(generator, math.prod(shape))
        words = [*state["state"]["counter"], *state["state"]["key"], *state["buffer"]]
        held = 4 - state["buffer_pos"], state["has_uint32"], np.uint32(state["uinteger"])
        mask = cupy.empty(shape, dtype)
        scale = 1 / (1 - p) if p < 1 else 0.0
        return _elementwise(*source.KEPT)(*words, *held, p, scale, mask)

    def check_index(self, indices: Array, size: int, what: str, ignore: int | None = None) -> None:
        """As the default, but the error comes when this thread next reads values or synchronizes the device.

        The errors of a thread that has ended come in the next thread that does so. All errors are raised as one.
        """
        if not indices.size:
            return
        at = indices if indices.dtype.name in _C_TYPES else indices.astype(np.int64)
        asked = what, f"[0, {size})", np.int64, "{}"
        self._ask(source.CHECK_INDEX, "check_index", at, asked, size, ignore is not None, ignore or 0)

    def check_unit(self, values: Array, what: str) -> None:
        """As the default, but with an IndexError, which is put off as in `check_index`."""
        if values.size:
            self._ask(source.CHECK_UNIT, "check_unit", values, (what, "[0, 1]", np.float64, "{:g}"))

    def _ask(self, code: str, name: str, at: Array, asked: _Asked, *args: Any) -> None:
        """Launch a check. The answer is read later."""
        at, mine = cupy.ascontiguousarray(at), (threading.current_thread(), cupy.cuda.get_current_stream())
        checks = self._checks.get(mine)
        if checks is None:
            checks = self._checks[mine] = _Checks()
        answer = checks.table.data.ptr + checks.table.strides[0] * len(checks.asked)
        checks.asked.append(asked)
        _launch(_raw(code, name, at.dtype.name), at.size, at, at.size, *args, answer)
        if len(checks.asked) == _PENDING:
            self.synchronize()

    def _raise_unread(self) -> None:
        """Read the answers to all checks of this thread and of ended threads, and raise the errors."""
        me = threading.current_thread()
        wrong: list[str] = []
        for thread, stream in list(self._checks):
            if thread is me or not thread.is_alive():
                checks = self._checks[thread, stream] if thread is me else self._checks.pop((thread, stream), None)
                if checks is not None and checks.asked:
                    wrong += self.current(checks.answers)
        if wrong:
            raise IndexError("; ".join(dict.fromkeys(wrong)) + f", in an earlier call on {self.name}")
