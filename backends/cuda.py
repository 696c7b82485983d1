"""The devices "cuda:0", "cuda:1", ...: CuPy arrays on NVIDIA GPUs. The only file that imports CuPy.

What CuPy needs that the standard does not say:

* It allocates on the *current* CUDA device, whatever the operands' device, and its creation functions take no `device=`
  (array-api-compat drops the keyword). So everything that runs on a device runs through `current`.
* Kernels that read another device's memory do not wait for the work pending there: copies between devices order the two
  streams with events.
* Reading values waits for the whole device, so that work on any stream is in them. Index checks, which would have to
  read, are put off until values are read anyway.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from tinytorch.backends.device import Array, Device, Stream, Unavailable

_FIX = "python -m pip install 'tinytorch-xp[cuda12]' (or [cuda13], to match the driver)"

try:
    import cupy
except ImportError as error:
    if getattr(error, "name", None) == "cupy":
        raise Unavailable("CuPy is not installed", _FIX) from error
    raise Unavailable(
        f"CuPy is installed but cannot be imported: {str(error).strip().splitlines()[0]}", _FIX
    ) from error

import array_api_compat.cupy as xp  # noqa: E402
from cupyx.scipy.special import erf  # noqa: E402

_PENDING = 64  # index checks kept unread before their answers are fetched


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


class CudaStream(Stream):
    """A CUDA stream of one device; entered, it is the current stream of this thread on that device."""

    def __init__(self, device: CudaDevice) -> None:
        self.device = device
        with cupy.cuda.Device(device.index):
            self.native = cupy.cuda.Stream(non_blocking=True)
        self._entered: list[Any] = []

    def __enter__(self) -> CudaStream:
        with cupy.cuda.Device(self.device.index):
            self._entered.append(cupy.cuda.get_current_stream())
            self.native.use()
        return self

    def __exit__(self, *exc: object) -> None:
        with cupy.cuda.Device(self.device.index):
            self._entered.pop().use()

    def synchronize(self) -> None:
        self.native.synchronize()

    def wait(self, other: Stream) -> None:
        if isinstance(other, CudaStream):
            with cupy.cuda.Device(other.device.index):
                event = other.native.record()
            self.native.wait_event(event)
        else:
            other.synchronize()


class CudaDevice(Device):
    """One NVIDIA GPU, through CuPy."""

    library = "cupy"
    is_gpu = True
    xp = xp
    array_type = cupy.ndarray

    def __init__(self, index: str) -> None:
        self.index = int(index)
        self.native = cupy.cuda.Device(self.index)
        self.memory = (2, self.index)
        self.hardware = cupy.cuda.runtime.getDeviceProperties(self.index)["name"].decode()
        self._unread: list[tuple[Any, ...]] = []  # index checks whose answer nobody has read
        self._lock = threading.Lock()

    @classmethod
    def canonical(cls, index: str) -> str:
        count = _count()
        if not index:
            return f"cuda:{cupy.cuda.runtime.getDevice()}"
        if not (index.isascii() and index.isdigit() and int(index) < count):
            raise ValueError(f"device: no 'cuda:{index}'; there are {', '.join(cls.available())}")
        return f"cuda:{int(index)}"

    @classmethod
    def available(cls) -> list[str]:
        return [f"cuda:{i}" for i in range(_count())]

    @classmethod
    def of(cls, array: Array) -> str:
        return f"cuda:{array.device.id}"

    def current(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call the function with this device current."""
        with cupy.cuda.Device(self.index):
            return function(*args, **kwargs)

    def from_numpy(self, array: np.ndarray) -> Array:
        return self.current(cupy.asarray, array)

    def to_numpy(self, array: Array) -> np.ndarray:
        self.synchronize()
        return self.current(cupy.asnumpy, array)

    def share(self, array: Any) -> Array:
        return self.current(cupy.from_dlpack, array)

    def receive(self, array: Array, source: Device) -> Array:
        if not isinstance(source, CudaDevice):
            return super().receive(array, source)
        with cupy.cuda.Device(source.index):
            if not array.flags.c_contiguous:  # only contiguous memory crosses without peer access
                array = array.copy(order="C")
            there = cupy.cuda.get_current_stream()
            written = there.record()
        with cupy.cuda.Device(self.index):
            here = cupy.cuda.get_current_stream()
            here.wait_event(written)
            out = array.copy()
            read = here.record()
        with cupy.cuda.Device(source.index):
            there.wait_event(read)  # its memory is not handed out again before the copy is made
        return out

    def asarray(self, x: Any) -> Array:
        return self.current(cupy.asarray, x)

    def dtype(self, dtype: Any) -> np.dtype:
        return np.dtype(dtype)

    def stream(self) -> CudaStream:
        return CudaStream(self)

    def synchronize(self) -> None:
        self.native.synchronize()
        if self._unread:
            self._raise_unread()

    def scatter_add(self, values: Array, indices: Array, size: int) -> Array:
        out = xp.zeros((size, *values.shape[1:]), dtype=values.dtype)
        cupy.add.at(out, indices, values)
        return out

    def erf(self, x: Array) -> Array:
        return erf(x)

    def check_index(self, indices: Array, size: int, what: str, ignore: int | None = None) -> bool | None:
        """As the default, but the error comes when values are next read or the device is synchronized."""
        bad = xp.any(self._outside(indices, size, ignore))
        with self._lock:
            self._unread.append((bad, indices, size, what, ignore))
            full = len(self._unread) >= _PENDING
        if full:
            self.synchronize()
        return None

    def _raise_unread(self) -> None:
        """Read the answers of all index checks, in one copy, and raise the first error."""
        with self._lock:
            unread, self._unread = self._unread, []
        if not unread:
            return
        answers = self.current(lambda: cupy.asnumpy(cupy.stack([bad for bad, *_ in unread])))
        for answer, (_, indices, *limits) in zip(answers, unread):
            if answer:
                host = self.current(cupy.asnumpy, indices)
                raise IndexError(self._out_of_range(host, *limits) + f", in an earlier call on {self.name}")
