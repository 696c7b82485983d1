"""A program: the array computations of a function, as straight-line calls of the array API standard.

A program is data. Each line calls one function of the array library, an operator, or an extension point of a device,
and names the result; there are no branches, and no array is changed. `print(program)` shows the lines as Python.
"""

from __future__ import annotations

import math
import operator
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from tinytorch.backends import Array, Device
from tinytorch.backends.written import SIGNS


class Value:
    """A name in a program: it stands for an array of a shape and dtype, or for a number of the host.

    Attributes:
        name: unique in its program.
        shape: None of a number.
        dtype: as a NumPy dtype; None of a number.
        device: where the array is; None of a number.
        strides: how it lay in memory when it was recorded, where its library says so.
    """

    __slots__ = ("device", "dtype", "name", "shape", "strides")

    def __init__(self, name: str, shape: tuple[int, ...] | None, dtype: np.dtype[Any] | None, device: Any) -> None:
        self.name, self.shape, self.dtype, self.device = name, shape, dtype, device
        self.strides: tuple[int, ...] | None = None

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape or ())

    @property
    def nbytes(self) -> int:
        """The bytes of the elements; 0 of a number."""
        return 0 if self.dtype is None else self.size * self.dtype.itemsize

    def __repr__(self) -> str:
        return self.name


class Call(NamedTuple):
    """The callee of a line."""

    kind: str  # "xp": a function of the device's namespace; "operator": of Python's module; "device": a method
    name: str
    device: Any = None

    @property
    def function(self) -> Callable[..., Any]:
        """The function itself."""
        home: Any = operator if self.kind == "operator" else self.device if self.kind == "device" else self.device.xp
        found: Callable[..., Any] = getattr(home, self.name)
        return found


class Line(NamedTuple):
    """A call, and the names of its results.

    Attributes:
        out: a value, or as many as the call gives, in nested tuples and lists; None if it only checks something.
        args, kwargs: values, and whatever else the call takes.
        part: "forward", "loss", "backward" or "update".
        where: the line of the user's code, as "model.py:41", if known.
        effect: whether it is run even if nobody needs what it gives: a check, or a draw of random numbers.
        expects: the answer that the call has to give for the program to be right; None if any will do.
    """

    out: Any
    call: Call
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    part: str
    where: str
    effect: bool = False
    expects: bool | None = None

    @property
    def outs(self) -> list[Value]:
        """The values of the results."""
        return list(values_in(self.out))

    @property
    def ins(self) -> list[Value]:
        """The values among the arguments, with repeats."""
        return [*values_in(self.args), *values_in(tuple(self.kwargs.values()))]

    def text(self, shown: Mapping[Any, str]) -> str:
        """The line as Python. Values in `shown` appear as their texts."""

        def named(x: Any) -> Any:
            return Value(shown[x], None, None, None) if isinstance(x, Value) and x in shown else x

        args, kwargs = mapped(named, self.args), mapped(named, self.kwargs)
        text = _called(self.call, [_shown(a) for a in args], {k: _shown(v) for k, v in kwargs.items()})
        return text if self.out is None else f"{_shown(self.out)} = {text}"

    def __str__(self) -> str:
        return self.text({})


def values_in(tree: Any) -> Iterator[Value]:
    """All values in nested tuples, lists and dicts, from left to right."""
    if isinstance(tree, Value):
        yield tree
    elif isinstance(tree, tuple | list):
        for x in tree:
            yield from values_in(x)
    elif isinstance(tree, dict):
        yield from values_in(list(tree.values()))


def mapped(function: Callable[[Any], Any], tree: Any) -> Any:
    """Nested tuples, lists and dicts with the function applied to all else."""
    kind = type(tree)
    if kind is tuple or kind is list:
        return kind([mapped(function, x) for x in tree])
    if kind is dict:
        return {k: mapped(function, v) for k, v in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return kind(*[mapped(function, x) for x in tree])
    return function(tree)


def _called(call: Call, args: list[str], kwargs: dict[str, str]) -> str:
    if call.kind == "operator":
        if call.name in SIGNS:
            return f"{args[0]} {SIGNS[call.name]} {args[1]}"
        if call.name == "getitem":
            return f"{args[0]}[{args[1]}]"
        return {"neg": "-{0}", "pos": "+{0}", "invert": "~{0}", "abs": "abs({0})"}[call.name].format(*args)
    if call.name == "matmul" and len(args) == 2 and not kwargs:
        return f"{args[0]} @ {args[1]}"
    home = "dev" if call.kind == "device" else "xp"
    return f"{home}.{call.name}({', '.join([*args, *(f'{k}={v}' for k, v in kwargs.items())])})"


def _shown(x: Any) -> str:
    """An argument or result, as Python."""
    if isinstance(x, slice):
        start, stop, step = ("" if v is None else str(v) for v in (x.start, x.stop, x.step))
        return f"{start}:{stop}" + (f":{step}" if step else "")
    if x is Ellipsis:
        return "..."
    if type(x) is tuple and any(isinstance(y, slice) for y in x):  # a key
        return ", ".join(_shown(y) for y in x)
    if isinstance(x, tuple | list):
        inner = ", ".join(_shown(y) for y in x)
        return f"[{inner}]" if isinstance(x, list) else f"({inner}{',' if len(x) == 1 else ''})"
    if isinstance(x, dict):
        return "{" + ", ".join(f"{k!r}: {_shown(v)}" for k, v in x.items()) + "}"
    if isinstance(x, np.dtype):
        return f"xp.{x.name}"
    if isinstance(x, np.random.Generator):
        return "generator"
    if callable(x) and hasattr(x, "__name__"):
        return str(x.__name__).strip("_")
    return repr(x)


class Cost(NamedTuple):
    """The cost of a run of a program.

    Attributes:
        calls: of the array library.
        flops: additions, multiplications and calls of functions, of each element.
        nbytes: read and written by the calls, if none of it is in a cache.
        memory: the most that is alive at once, inputs and constants included.
        lines: for each line (text, where, flops, bytes).
    """

    calls: int
    flops: int
    nbytes: int
    memory: int
    lines: tuple[tuple[str, str, int, int], ...]

    def __str__(self) -> str:
        rows = [("line", "of", "flops", "bytes")]
        rows += [(text, where, f"{flops:,}", f"{size:,}") for text, where, flops, size in self.lines]
        wide = [max(len(row[i]) for row in rows) for i in range(4)]
        lines = [f"{a:<{wide[0]}}  {b:<{wide[1]}}  {c:>{wide[2]}}  {d:>{wide[3]}}" for a, b, c, d in rows]
        head = f"{self.calls:,} calls, {self.flops:,} flops, {self.nbytes:,} bytes moved, {self.memory:,} at once"
        return "\n".join([head, "", *lines])


_VIEWS = {
    "reshape",
    "permute_dims",
    "expand_dims",
    "squeeze",
    "broadcast_to",
    "getitem",
    "matrix_transpose",
    "moveaxis",
}
_COPIES = {"take", "concat", "stack", "astype", "zeros_like", "ones_like", "where", "put", "windows", "asarray", "flip"}


class Program:
    """Straight-line array code.

    Attributes:
        name: of the function that it was recorded from.
        inputs: the values that it is given, in order.
        constants: the values that never change, and the array of each.
        lines: the calls, in order.
        outputs: the values that it gives, in order.
    """

    def __init__(
        self,
        name: str,
        inputs: list[Value],
        constants: Mapping[Value, Array],
        lines: list[Line],
        outputs: list[Value],
    ) -> None:
        self.name, self.inputs, self.constants = name, inputs, dict(constants)
        self.lines, self.outputs = lines, outputs

    def check(self) -> None:
        """Raise ValueError unless every value is computed once, before its first use, and all outputs are computed."""
        known = {*self.inputs, *self.constants}
        names = [v.name for v in known]
        for line in self.lines:
            for v in line.ins:
                if v not in known:
                    raise ValueError(f"{self.name}: {v} is used before it is given, in `{line}`")
            for v in line.outs:
                if v in known:
                    raise ValueError(f"{self.name}: {v} is given twice, in `{line}`")
                known.add(v)
                names.append(v.name)
        for v in self.outputs:
            if v not in known:
                raise ValueError(f"{self.name}: {v} is to be returned, and not given")
        twice = sorted(n for n, count in Counter(names).items() if count > 1)
        if twice:
            raise ValueError(f"{self.name}: a name stands for two values: {', '.join(twice)}")

    @property
    def devices(self) -> list[Device]:
        """All devices with arrays in it."""
        every = [*self.inputs, *self.constants, *(v for line in self.lines for v in line.outs)]
        return list(dict.fromkeys(v.device for v in every if v.device is not None))

    def last_uses(self) -> list[list[Value]]:
        """For each line the values that neither later lines nor the outputs need."""
        needed, found = {*self.outputs, *self.constants}, []
        for line in reversed(self.lines):
            last = [v for v in dict.fromkeys([*line.ins, *line.outs]) if v not in needed]
            needed.update(last)
            found.append(last)
        return found[::-1]

    def __str__(self) -> str:
        given = ", ".join(v.name for v in self.inputs)
        out = [f"def {self.name}({given}):"]
        for v in (*self.inputs, *self.constants):
            if v.shape is not None:
                out.append(f"    # {v.name}: {v.shape} {v.dtype}" + (", constant" if v in self.constants else ""))
        part, shown = "", self._in_place_of()
        lines = [line for line in self.lines if line.out not in shown]
        texts = [line.text(shown) for line in lines]
        wide = min(max(map(len, texts), default=0), 70)
        for line, text in zip(lines, texts):
            if line.part != part:
                part = line.part
                out.append(f"\n    # {part}")
            shapes = ", ".join(str(v.shape) for v in line.outs if v.shape is not None)
            note = "  ".join(filter(None, (shapes, line.where)))
            expected = "" if line.expects is None else f"  # must be {line.expects}"
            out.append(f"    {text:<{wide}}  # {note}".rstrip(" #") + expected)
        back = ", ".join(shown.get(v, v.name) for v in self.outputs)
        out.append(f"\n    return {back}")
        return "\n".join(out) + "\n"

    def _in_place_of(self) -> dict[Any, str]:
        """Transposes and slices with one use: the text to print at that use."""
        used: dict[Any, int] = {}
        for v in (*(v for line in self.lines for v in line.ins), *self.outputs):
            used[v] = used.get(v, 0) + 1
        shown: dict[Any, str] = {}
        for line in self.lines:
            transposed = line.call.name == "permute_dims" and line.args[1:] == ((1, 0),)
            if used.get(line.out) == 1 and (transposed or line.call.name == "getitem"):
                shown[line.out] = f"{line.args[0]}.T" if transposed else line.text({}).partition(" = ")[2]
        return shown

    def __repr__(self) -> str:
        return f"<program {self.name}: {len(self.lines)} lines, {len(self.inputs)} inputs, {len(self.outputs)} outputs>"

    def cost(self) -> Cost:
        """Calls, flops, bytes and memory of a run, and a table by line."""
        rows: list[tuple[str, str, int, int]] = []
        most = alive = sum(v.nbytes for v in (*self.inputs, *self.constants))  # the caller holds these
        made: set[Value] = set()
        calls = 0
        for line, last in zip(self.lines, self.last_uses(), strict=True):
            view = line.call.name in _VIEWS
            moved = 0 if view else sum(v.nbytes for v in (*line.ins, *line.outs))
            rows.append((str(line), line.where, _flops(line), moved))
            calls += moved > 0
            if not view:
                made.update(line.outs)
                alive += sum(v.nbytes for v in line.outs)
                most = max(most, alive)
                alive -= sum(v.nbytes for v in last if v in made)
        return Cost(calls, sum(r[2] for r in rows), sum(r[3] for r in rows), most, tuple(rows))


def _flops(line: Line) -> int:
    """Additions, multiplications and function calls of a line; 2 n for each element of a matrix product."""
    name = line.call.name
    if name in _VIEWS or name in _COPIES or not line.outs:
        return 0
    arrays = [v for v in line.ins if v.shape is not None]
    if name in ("matmul", "vecdot"):
        return 2 * line.outs[0].size * (arrays[0].shape or (1,))[-1]
    return max([v.size for v in (*line.outs, *arrays)], default=0)
