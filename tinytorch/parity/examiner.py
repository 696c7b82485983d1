"""The examination of a device, which tells faults from things that a library does not have.

The values of every row of the table of cases are compared with NumPy's. Gradients, and gradients of gradients, are
compared with those of the device "cpu", which are checked against differences. "unsupported" is everything that a
library refuses: it raises NotImplementedError, or has no such function or dtype, or lacks it by its capabilities.
"failed" is everything else that is not right: wrong numbers, a wrong dtype or device, any other exception.
"""

from __future__ import annotations

import sys
import time
import traceback
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

import tinytorch
from tinytorch.autograd import grad
from tinytorch.backends import Device
from tinytorch.backends import device as _device
from tinytorch.dtypes import ALL, float32, float64
from tinytorch.parity import references
from tinytorch.parity.cases import CASES, Case
from tinytorch.parity.reads import Reads
from tinytorch.tape.variable import run_on, wrap
from tinytorch.tensor import Tensor
from tinytorch.testing import GradcheckError, gradcheck, gradgradcheck
from tinytorch.words import expecting

STAGES = ("values", "gradient", "second order")
TOLERANCES = {float32: 2e-5, float64: 1e-9}  # relative to the largest element, and to 1 where all are smaller
FUNCTIONS = ("add", "multiply", "equal", "less", "concat", "sort", "sum", "astype")  # tried on every dtype


class Fault(NamedTuple):
    """Something that failed, or is unsupported."""

    name: str  # of the op, the dtype, or the extension point
    where: str  # the row of the table
    what: str  # "values", "gradient", "second order", ...
    dtype: str
    message: str

    def __str__(self) -> str:
        row = f" [{self.where}]" if self.where != self.name else ""
        return f"{self.name}{row}, {self.what}, {self.dtype}: {self.message}"


@dataclass
class Card:
    """The outcome of `examine`.

    >>> from tinytorch.parity import examine
    >>> card = examine("cpu")
    >>> card.ok, card.failed, card.count("gradient")["passed"] > 100
    (True, [], True)
    """

    device: str
    library: str
    version: str
    dtypes: dict[str, str] = field(default_factory=dict)  # name -> "works", "absent", or what fails
    checked: dict[str, list[str]] = field(default_factory=lambda: {s: [] for s in STAGES})  # names of ops
    failed: list[Fault] = field(default_factory=list)
    unsupported: list[Fault] = field(default_factory=list)
    host_copies: dict[str, list[str]] = field(default_factory=dict)  # row -> calls that read values in body or rules
    sees_implicit: bool = True  # whether implicit conversions of the library's arrays can be seen
    scatter: str = ""  # duplicate indices: "works", or what fails
    index_check: str = ""  # indices out of range: refused "at once" or "later", or what fails
    seconds: float = 0.0

    def __repr__(self) -> str:
        found = f"{len(self.failed)} failed, {len(self.unsupported)} unsupported"
        return f"<card of {self.device}: {self.library} {self.version}, {found}>"

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.failed

    def names(self, what: str, verdict: str) -> list[str]:
        """The ops that passed, failed or are unsupported in a stage."""
        failed = {f.name for f in self.failed if f.what == what}
        refused = {f.name for f in self.unsupported if f.what == what} - failed
        if verdict == "passed":
            return sorted(set(self.checked[what]) - failed - refused)
        return sorted(failed if verdict == "failed" else refused)

    def count(self, what: str) -> dict[str, int]:
        """How many ops passed, failed and are unsupported in a stage."""
        return {verdict: len(self.names(what, verdict)) for verdict in ("passed", "failed", "unsupported")}


@expecting
def examine(device: str | Device, ops: Sequence[str] = (), progress: Callable[[int, int], Any] | None = None) -> Card:
    """Run the table of ops and gradients on a device, and check dtypes, `scatter_add` and `check_index`.

    Args:
        ops: only these ops, by name.
        progress: called with the number of rows done, and of all rows.

    Raises:
        ValueError: there is no such device, or no such op in the table.
        backends.Unavailable: the device cannot be used here.
        KeyboardInterrupt: with the card as it is at the interrupt.
    """
    dev, start = _device(device), time.perf_counter()
    cases = [case for case in CASES if not ops or case.op in ops]
    unknown = set(ops) - {case.op for case in cases}
    if unknown:
        raise ValueError(f"doctor: the table has no {', '.join(sorted(unknown))}; it has every op of tinytorch.ops")
    card = Card(dev.name, dev.library, getattr(sys.modules.get(dev.library), "__version__", ""))
    examiner = _Examiner(dev, card)
    with np.errstate(all="ignore"), dev.activated():
        card.dtypes = {dtype.name: examiner.dtype(dtype) for dtype in ALL}
        card.scatter = examiner.scatter()
        card.index_check = examiner.index_check()
        try:
            with examiner.reads.watching():
                for i, case in enumerate(cases, 1):
                    for dtype in (float32, float64):
                        if card.dtypes[dtype.name] != "absent":
                            examiner.case(case, dtype)
                    if progress is not None:
                        progress(i, len(cases))
        except KeyboardInterrupt:
            raise KeyboardInterrupt(card) from None
        finally:
            card.sees_implicit = examiner.reads.sees_implicit
            card.seconds = time.perf_counter() - start
    return card


class _Wrong(Exception):
    """A result is not what it should be."""


class _Examiner:
    def __init__(self, device: Device, card: Card) -> None:
        self.device, self.card, self.reads = device, card, Reads(device)
        self.cpu = _device("cpu")
        try:
            with device.activated():
                self.capabilities = dict(device.xp.__array_namespace_info__().capabilities())
        except AttributeError:
            self.capabilities = {}

    @contextmanager
    def judged(self, name: str, where: str, what: str, dtype: np.dtype[Any], values: bool = False) -> Iterator[None]:
        """A block whose errors become faults. `values`: the block needs shapes that depend on values."""
        try:
            yield
        except (_Wrong, GradcheckError) as error:
            self.card.failed.append(Fault(name, where, what, dtype.name, str(error)))
        except Exception as error:
            cannot = values and not all(self.capabilities.get(k, True) for k in _BY_VALUES)
            found = self.card.unsupported if cannot or self.refuses(error) else self.card.failed
            text = str(error).strip().partition("\n")[0]
            found.append(Fault(name, where, what, dtype.name, f"{type(error).__name__}: {text}"))

    def refuses(self, error: BaseException | None) -> bool:
        """Whether the library says that it does not have something."""
        while error is not None:
            if isinstance(error, NotImplementedError):
                return True
            if isinstance(error, AttributeError) and (
                error.obj is self.device.xp
                or isinstance(error.obj, self.device.array_type)
                or (isinstance(error.obj, ModuleType) and not hasattr(self.device.xp, str(error.name)))
            ):
                return True  # an absent function; the namespace may delegate to a module
            if isinstance(error, TypeError) and _last_call(error) is getattr(type(self.device).dtype, "__code__", ""):
                return True  # an absent dtype
            error = error.__cause__ or error.__context__
        return False

    # Rows of the table --------------------------------------------------------------------------------------------

    def case(self, case: Case, dtype: np.dtype[Any]) -> None:
        """Values, gradient and second order of one row, in this order, up to the first that is wrong."""
        noted = len(self.card.failed), len(self.card.unsupported)
        for stage in STAGES if case.gradient else STAGES[:1]:
            if case.op not in self.card.checked[stage]:
                self.card.checked[stage].append(case.op)
            with self.judged(case.op, case.id, stage, dtype, case.reads_values):
                self.stage(case, stage, dtype)
            if noted != (len(self.card.failed), len(self.card.unsupported)):
                return

    def stage(self, case: Case, stage: str, dtype: np.dtype[Any]) -> None:
        """Raise unless the results of one row are right to an order."""
        host = [_rounded(x, dtype) for x in case.arrays()]
        inputs = _tensors(host, dtype, self.device, case.gradient)
        if stage != "values" and self.device is self.cpu:
            if dtype == float64:
                check = gradcheck if stage == "gradient" else gradgradcheck
                check(lambda *x: case.run(tinytorch.ops, list(x)), inputs)
            return
        with self.reads.noted() as read:
            found = _results(case, stage, inputs)
        if read and not case.reads_values:
            known = self.card.host_copies.setdefault(case.id, [])
            known += [name for name in dict.fromkeys(read) if name not in known]
        for t in found:
            if t is not None and (t.device is not self.device or type(self.device).of(t.array) != self.device.name):
                raise _Wrong(f"the result is not on {self.device}, but on {type(self.device).of(t.array)}")
        if stage == "values":
            expected: list[Any] = [np.asarray(case.run(references, host))]
        else:
            reference = _results(case, stage, _tensors(host, float64, self.cpu, case.gradient))
            expected = [None if t is None else t.detach().numpy() for t in reference]
        for t, e in zip(found, expected, strict=True):
            self.equal(None if t is None else t.detach().numpy(), e, dtype)

    def equal(self, actual: Any, expected: Any, dtype: np.dtype[Any]) -> None:
        """Raise unless two arrays are equal but for rounding errors; None stands for a gradient of zeros."""
        if actual is None or expected is None:
            if np.any(expected if actual is None else actual):
                raise _Wrong("there is no gradient" if actual is None else "there is a gradient and should be none")
            return
        if actual.shape != expected.shape:
            raise _Wrong(f"the shape is {actual.shape}, not {expected.shape}")
        kinds = "iu" if expected.dtype.kind in "iu" else expected.dtype.kind
        if actual.dtype.kind not in kinds or (kinds == "f" and actual.dtype != dtype):
            raise _Wrong(f"the dtype is {actual.dtype}, not {dtype if kinds == 'f' else expected.dtype}")
        finite = expected[np.isfinite(expected)]
        scale = max(1.0, float(np.max(np.abs(finite), initial=0.0))) if kinds == "f" else 0.0
        close = np.isclose(actual, expected, TOLERANCES[dtype], TOLERANCES[dtype] * scale, equal_nan=True)
        if kinds != "f":
            close = actual == expected
        if not close.all():
            away = np.where(close, -1.0, np.abs(np.subtract(actual, expected, dtype=np.float64)))
            worst = np.unravel_index(np.argmax(away), away.shape)
            place = f" at {tuple(int(i) for i in worst)}" if worst else ""
            count = f"{int((~close).sum())} of {close.size} elements are"
            raise _Wrong(f"{count} wrong; the most{place}: {actual[worst]} is not {expected[worst]}")

    # What else a device has to do -----------------------------------------------------------------------------------

    def dtype(self, dtype: np.dtype[Any]) -> str:
        """Whether the device has the dtype; if so, whether values come back unchanged, and some functions work."""
        before, missing = len(self.card.failed), []
        with self.judged(dtype.name, dtype.name, "dtype", dtype):
            try:
                self.device.dtype(dtype)
            except (TypeError, AttributeError):
                if dtype == float32:
                    raise _Wrong("absent, and nothing works without it: it is the default") from None
                return "absent"
        limits = np.finfo(dtype) if dtype.kind == "f" else None if dtype.kind == "b" else np.iinfo(dtype)
        ends = [limits.min, limits.max] if limits else []
        host = np.asarray([1, 0, 1, 3, 2, *ends] if limits else [1, 0, 1, 0], dtype)
        with self.judged(dtype.name, dtype.name, "there and back", dtype):
            x = Tensor(host, None, self.device)
            if x.dtype != dtype or x.numpy().dtype != dtype or not np.array_equal(x.numpy(), host):
                raise _Wrong(f"{host.tolist()} comes back as {x.dtype} {x.numpy().tolist()}")
        small = host[:4]
        for name in FUNCTIONS:
            if dtype.kind == "b" and name in ("add", "multiply", "less", "sort"):
                continue  # not in the standard
            refused = len(self.card.unsupported)
            with self.judged(dtype.name, dtype.name, name, dtype):
                got = _of_dtype(name, Tensor(small, None, self.device)).numpy()
                if not np.array_equal(got, _of_dtype(name, Tensor(small)).numpy()):
                    raise _Wrong(f"{name} of {small.tolist()} is {got.tolist()}")
            if len(self.card.unsupported) > refused:
                missing.append(name)
        if len(self.card.failed) > before:
            return "fails: " + ", ".join(f.what for f in self.card.failed[before:])
        return f"works, but for {', '.join(missing)}" if missing else "works"

    def scatter(self) -> str:
        """Whether rows of values with the same index are added up."""
        before = len(self.card.failed), len(self.card.unsupported)
        rng = np.random.Generator(np.random.Philox(0))
        some = np.asarray([0, 2, 2, 2, 5, 0, 2, 5, 5])  # but no 1, 3, 4, 6
        for dtype in (float32, float64):
            if self.card.dtypes[dtype.name] == "absent":
                continue
            for indices, size, rest in ((some, 7, ()), (some, 7, (3,)), (rng.integers(0, 3, 1000), 3, (2, 2))):
                shape = (len(indices), *rest)
                with self.judged("scatter_add", f"{shape} to {size}", "duplicate indices", dtype):
                    values = rng.standard_normal(shape).astype(dtype)
                    expected = np.zeros((size, *rest))
                    np.add.at(expected, indices, values.astype(np.float64))
                    v, i = (Tensor(values, None, self.device), Tensor(indices, self.device.default_int, self.device))
                    out = run_on(self.device, self.device.scatter_add, v.array, i.array, size)
                    self.equal(wrap(out, self.device).numpy(), expected, dtype)
        after = len(self.card.failed), len(self.card.unsupported)
        return "works" if after == before else "fails" if after[0] > before[0] else "unsupported"

    def index_check(self) -> str:
        """Whether an index out of range is an error, at the latest when the device is synchronized."""
        dtype = self.device.default_int
        with self.judged("check_index", "check_index", "an index out of range", dtype):
            indices = Tensor(np.asarray([0, 3, 1]), dtype, self.device)
            try:
                run_on(self.device, self.device.check_index, indices.array, 3, "doctor")
            except IndexError:
                return "at once"
            try:
                self.device.synchronize()
            except IndexError:
                return "later"
            raise _Wrong("index 3 into 3 rows is no error")
        return "fails"


_BY_VALUES = ("boolean indexing", "data-dependent shapes")


def _last_call(error: BaseException) -> Any:
    """The code that raised the error."""
    return [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)][-1]


def _rounded(x: Any, dtype: np.dtype[Any]) -> Any:
    """Floating arrays rounded to the dtype, as float64."""
    floating = isinstance(x, np.ndarray | np.generic) and x.dtype.kind == "f"
    return np.asarray(x, dtype).astype(np.float64) if floating else x


def _tensors(host: list[Any], dtype: np.dtype[Any], device: Device, requires_grad: bool) -> list[Any]:
    """The inputs of a row on a device, with integers of the device's own dtype."""
    kinds = {"f": dtype, "i": device.default_int}
    return [
        Tensor(x, kinds.get(x.dtype.kind), device, requires_grad and x.dtype.kind == "f")
        if isinstance(x, np.ndarray | np.generic)
        else x
        for x in host
    ]


def _results(case: Case, stage: str, inputs: list[Any]) -> list[Any]:
    """The result of a row; or its gradients along fixed directions; or the gradients of these gradients."""
    out = case.run(tinytorch.ops, inputs)
    if stage == "values":
        return [out]
    rng = np.random.Generator(np.random.Philox(zlib.crc32(case.id.encode())))

    def along(t: Tensor) -> Tensor:
        return Tensor(rng.standard_normal(t.shape), t.dtype, t.device, requires_grad=stage == "second order")

    leaves = [x for x in inputs if isinstance(x, Tensor) and x.requires_grad]
    w = along(out)
    first = grad(out, leaves, w, create_graph=stage == "second order", allow_unused=True)
    if stage == "gradient":
        return list(first)
    found = [g for g in first if g is not None and g.requires_grad]
    return list(grad(found, [*leaves, w], [along(g) for g in found], allow_unused=True)) if found else []


def _of_dtype(name: str, x: Tensor) -> Tensor:
    """One of FUNCTIONS of a tensor."""
    if name == "concat":
        return tinytorch.concat([x, x])
    if name == "astype":
        return tinytorch.astype(x, float32)
    result: Tensor = getattr(tinytorch, name)(*[x] * (1 if name in ("sort", "sum") else 2))
    return result
