"""Programs on NumPy: straight-line calls that write into planned memory.

A result that nobody sees has a place in one block of memory, which is laid out when the program is made: places are
reused as soon as nothing needs them, so that what is computed stays in the cache. A place does not move, so reshapes,
transposes, slices and windows of it are made once, too, and take no time in a run. What leaves the program is new.
Each call is the one that `cpu` makes of arrays of that shape and layout, so its results are the same bit for bit.
The file is long because all that is known of a program while it is written is in one place.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinytorch.backends.cpu_functions import ONE, SHORT
from tinytorch.backends.cpu_ways import WAYS
from tinytorch.backends.device import Array
from tinytorch.backends.written import Differs, assigned, defined, is_value, written

_UFUNCS = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "truediv": np.true_divide,
    "floordiv": np.floor_divide,
    "mod": np.remainder,
    "and_": np.bitwise_and,
    "or_": np.bitwise_or,
    "xor": np.bitwise_xor,
    "lshift": np.left_shift,
    "rshift": np.right_shift,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "eq": np.equal,
    "ne": np.not_equal,
    "neg": np.negative,
    "invert": np.invert,
    "abs": np.absolute,
}
_IN_PLACE = {"matmul", "sum", "add", "mul", "sub", "truediv"}  # calls whose result is told where to be
_OF_SHAPE = {"zeros_like", "ones_like"}  # whose result depends on no value
_ALIGNED = 64  # bytes: a line of the cache


class Buffer:
    """Memory of a result, from the line that computes the result to the last line that needs it."""

    __slots__ = ("first", "last", "nbytes", "offset", "whole")

    def __init__(self, first: int, nbytes: int) -> None:
        self.first = self.last = first
        self.nbytes, self.offset = nbytes, 0
        self.whole: Buffer = self  # the buffer whose place this one takes


class Writer:
    """Writes a program out. A first pass finds out which memory is needed how long, a second uses the layout."""

    def __init__(self, program: Any, samples: dict[Any, Any], planned: list[Buffer] | None, memory: Any) -> None:
        self.program, self.samples, self.planned, self.memory = program, samples, planned, memory
        self.known: dict[str, Any] = {"Differs": Differs, **{v.name: array for v, array in program.constants.items()}}
        self.fixed: dict[Any, Array] = dict(program.constants)  # values that are always the same array
        self.buffers: list[Buffer] = []
        self.of: dict[Any, Buffer] = {}  # where fixed values are that change from run to run
        self.body: list[str] = []
        self.outputs = set(program.outputs)
        self.line = 0
        self.heirs: list[tuple[Buffer, Buffer, int]] = []
        self.begun: set[Any] = set()
        self.part_of: dict[Any, tuple[Any, int]] = {}
        self.wholes: dict[Any, list[tuple[Any, int]]] = {}
        self.within: dict[Any, str] = {}
        self.placed: set[Any] = set()
        self.root: dict[Any, Any] = {}
        self.origin: dict[Any, Any] = {}  # for a reshaped or converted value the value before
        self.checked: dict[Any, int] = {}  # indices whose check is in that line
        self.new: set[Any] = set()  # values in new memory in each run
        self.find_wholes()
        lines = enumerate(program.lines)
        self.last = {v: len(program.lines) for v in program.outputs}
        for i, line in lines:
            for v in (*line.ins, *line.outs):
                self.last[v] = max(i, self.last.get(v, 0))

    def find_wholes(self) -> None:
        """Find arrays whose only use is to be joined: they are computed in their places in the whole."""
        used: dict[Any, int] = {}
        made = {v: line for line in self.program.lines for v in line.outs}
        for line in self.program.lines:
            for v in line.ins:
                used[v] = used.get(v, 0) + 1
        for line in self.program.lines:
            if line.call.kind != "xp" or line.call.name != "concat" or line.kwargs != {"axis": None}:
                continue
            parts, offset, places = list(line.args[0]), 0, []
            for v in parts:
                places.append((v, offset))
                offset += v.nbytes
            if line.out in self.outputs or len({v.dtype for v in parts}) > 1 or len(set(parts)) < len(parts):
                continue
            self.wholes[line.out] = places
            for v, start in places:
                if v in made and used[v] == 1 and made[v].call.name in _IN_PLACE:
                    self.part_of[v] = line.out, start

    # Memory -------------------------------------------------------------------------------------------------------

    def place(self, like: Array) -> tuple[Array, Buffer]:
        """An array with the layout of another, in memory of its own until its last use."""
        number = len(self.buffers)
        strides = like.strides if like.flags.c_contiguous else np.empty_like(like).strides
        if self.planned is None:
            buffer = Buffer(self.line, like.nbytes)
            array = _outline(like.shape, like.dtype, strides)
        else:
            buffer = self.planned[number]
            array = np.ndarray(like.shape, like.dtype, self.memory, buffer.whole.offset, strides)
        self.buffers.append(buffer)
        return array, buffer

    def framed(self, array: Array) -> tuple[Array, Buffer]:
        """An array that never shares its memory: a part of it is written once and for all."""
        return array, Buffer(self.line, 0)

    def keep(self, v: Any, array: Array, buffer: Buffer | None) -> None:
        """The value is that array from now on, in that memory; without memory the value is constant."""
        self.fixed[v] = self.known[v.name] = array
        if buffer is not None:
            self.of[v] = buffer
            buffer.last = max(buffer.last, self.last.get(v, self.line))

    # Text ---------------------------------------------------------------------------------------------------------

    def name(self, x: Any) -> str:
        """A name for something that the code needs."""
        name = f"__{getattr(x, '__name__', 'k')}_{len(self.known)}"  # no value has such a name
        self.known[name] = x
        return name

    def text(self, x: Any, like: Any = None) -> str:
        """An argument as code. A number beside floating arrays becomes an array without axes: NumPy is faster so."""
        if is_value(x):
            return str(x.name)
        if like is not None and like.dtype.kind == "f" and type(x) in (int, float) and abs(x) < 2**24:
            return self.name(np.asarray(x, like.dtype))
        return repr(x) if type(x) in (int, bool, float, type(None)) and x == x and abs(x or 0) < 1e300 else self.name(x)

    def part(self, v: Any, what: str) -> str:
        """A method or view of a value, `v.what`, as code: of a fixed array it is had once."""
        return self.name(eval(f"x.{what}", self.known, {"x": self.fixed[v]})) if v in self.fixed else f"{v.name}.{what}"

    def sample(self, x: Any) -> Any:
        """An argument with the layout that it has in a run."""
        if isinstance(x, tuple | list):
            return type(x)(map(self.sample, x))
        try:
            return self.samples.get(x, x)
        except TypeError:
            return x

    def now(self, x: Any) -> Any:
        """An argument, as the fixed array if there is one."""
        if isinstance(x, tuple | list):
            return type(x)(map(self.now, x))
        try:
            return self.fixed[x] if x in self.fixed else self.sample(x)
        except TypeError:
            return x

    # Lines --------------------------------------------------------------------------------------------------------

    def write(self) -> Callable[..., list[Array]]:
        """The function that runs the program."""
        with np.errstate(all="ignore"):
            for i, (line, last) in enumerate(zip(self.program.lines, self.program.last_uses(), strict=True)):
                self.line = i
                self.one(line)
                for v in last if self.planned is None else ():
                    x = self.samples[v]
                    if isinstance(x, np.ndarray) and x.nbytes > SHORT:
                        self.samples[v] = _outline(x.shape, x.dtype, x.strides)
        back = [f"{v.name}.copy('K')" if v in self.of else v.name for v in self.program.outputs]
        for v in self.program.outputs:
            self.flush(v)
        given = ", ".join(v.name for v in self.program.inputs)
        source = f"def run({given}):\n    " + "\n    ".join([*self.body, f"return [{', '.join(back)}]"])
        return defined(source, self.known, self.program.name)

    def one(self, line: Any) -> None:
        """Write a line."""
        if line.expects is not None or line.effect:
            for v in line.ins:
                self.flush(v)
            self.check(line)
            return
        args, kwargs = [self.sample(x) for x in line.args], {k: self.sample(x) for k, x in line.kwargs.items()}
        if not isinstance(line.out, tuple | list) and line.out is not None:
            if line.out.shape is None:
                self.plainly(line, args, kwargs)
                return
            if line.call.name in ("reshape", "astype") and line.args[0].dtype.kind in "iu":
                self.origin[line.out] = self.origin.get(line.args[0], line.args[0])
            if self.folded(line, args, kwargs) or self.viewed(line, args, kwargs):
                return
            for v in line.ins:
                self.flush(v)
            if line.out not in self.part_of:
                self.new.add(line.out)
            if self.computed(line, args, kwargs):
                return
        self.plainly(line, args, kwargs)

    def plainly(self, line: Any, args: Any, kwargs: Any) -> None:
        """The call and a name for its result, as in the default."""
        for v in line.ins:
            self.flush(v)
        if line.out is not None and any(v not in self.samples for v in line.outs):
            _sampled(self.samples, line.out, line.call.function(*args, **kwargs))
        self.body.append(f"{assigned(line.out)} = {written(line, self.known, self.line)}")

    def folded(self, line: Any, args: Any, kwargs: Any) -> bool:
        """Compute now, if all arguments are constant or only a shape matters."""
        constant = all(v in self.fixed and v not in self.of for v in line.ins)
        if not (constant or line.call.name in _OF_SHAPE) or line.out in self.outputs:
            return False
        array = np.asarray(line.call.function(*args, **kwargs))
        self.samples[line.out] = array
        self.keep(line.out, array, None)
        return True

    def viewed(self, line: Any, args: Any, kwargs: Any) -> bool:
        """Make a view of a fixed array now."""
        arrays = [v for v in line.ins if v in self.fixed]
        if line.out not in self.samples:
            self.samples[line.out] = np.asarray(line.call.function(*args, **kwargs))
        result = self.samples[line.out]
        base = next((v for v in line.ins if v.shape is not None and self.views(line, v, result)), None)
        if base is None:
            return False
        if base not in arrays:
            return self.pointed(line, base, result)
        given, named = [self.now(x) for x in line.args], {k: self.now(x) for k, x in line.kwargs.items()}
        self.keep(line.out, np.asarray(line.call.function(*given, **named)), self.of.get(base))
        return True

    def pointed(self, line: Any, base: Any, result: Array) -> bool:
        """Make a view of new memory in each run, from its whole, and only if a line needs the view."""
        root = self.root.get(base, base)
        array = self.samples[root]
        if (
            root not in self.new
            or not array.flags.c_contiguous
            or any(s < 0 for s in result.strides)
            or not result.size
        ):
            return False
        key = "offset", line.out
        if key not in self.samples:
            inner = result.__array_interface__["data"][0] - self.samples[base].__array_interface__["data"][0]
            self.samples[key] = self.samples.get(("offset", base), 0) + inner
        strides = "" if result.flags.c_contiguous else f", {result.strides}"
        place = f"{self.name(result.dtype)}, {root.name}, {self.samples[key]}{strides}"
        self.within[line.out] = f"{line.out.name} = {self.name(np.ndarray)}({result.shape}, {place})"
        self.root[line.out] = root
        return True

    def flush(self, v: Any) -> None:
        """Make a view now that a line needs it."""
        if v in self.within:
            self.body.append(self.within.pop(v))

    def views(self, line: Any, v: Any, result: Array) -> bool:
        """Whether the result of the line shows elements of the value."""
        known = self.samples.setdefault(("views", line.out, v), np.may_share_memory(result, self.sample(v)))
        return bool(known)

    def computed(self, line: Any, args: Any, kwargs: Any) -> bool:
        """Compute into memory of its own, if there is a way."""
        call = line.call
        function = _UFUNCS.get(call.name) if call.kind == "operator" else call.function
        result = self.samples[line.out]
        new = line.out in self.outputs or line.out in self.part_of
        if not result.size or (new and not result.flags.c_contiguous):
            return False
        if call.kind == "operator" and call.name == "pow":
            function = _power(args)
            args = args[:1] if function in (np.square, np.sqrt, np.reciprocal) else args
        elif call.kind == "xp":
            function = _BY_NUMBER.get(call.name, function) if len(args) == 2 and _plain(args) else function
        if isinstance(function, np.ufunc) and function.nout == 1 and not kwargs:
            self.elementwise(line, function, args, result)
            return True
        way = WAYS.get((call.kind, call.name))
        return way is not None and bool(way(self, line, args, kwargs, result))

    def elementwise(self, line: Any, function: Any, args: Any, result: Array) -> None:
        """A call of an elementwise function. The result may take the place of an argument after its last use."""
        floats = next((a for a in args if isinstance(a, np.ndarray) and a.dtype.kind == "f"), None)
        given = [self.text(x, floats) for x in line.args[: len(args)]]
        if not result.ndim:  # NumPy is faster without `out` here
            out = f"{line.out.name} = {self.name(np.asarray)}" if line.out in self.outputs else f"{line.out.name} = "
            self.body.append(f"{out}({self.name(function)}({', '.join(given)}))")
            return
        by_name = "out=" if function in (np.maximum, np.minimum) else ""  # NumPy (2.4) warns otherwise
        given.append(f"{by_name}{self.target(line, result, elementwise=True)}")
        self.body.append(f"{self.name(function)}({', '.join(given)})")

    def inherit(self, line: Any, out: Array, buffer: Buffer) -> None:
        """Note that the result may take the place of an argument after its last use."""
        for v in line.ins if self.planned is None else ():
            mine = self.of.get(v)
            if mine is not None and mine is not buffer:
                array = self.fixed[v]
                same = array.nbytes == out.nbytes == mine.nbytes and array.strides == out.strides
                if same and array.shape == out.shape:
                    self.heirs.append((mine, buffer, self.line))

    def target(
        self, line: Any, result: Array, shape: tuple[int, ...] | None = None, *, elementwise: bool = False
    ) -> str:
        """Memory for the result of the line, as code, in that shape: new memory if the result is an output."""
        v = line.out
        if v not in self.outputs and v not in self.part_of:
            out, buffer = self.place(result)
            if elementwise:
                self.inherit(line, out, buffer)
            self.keep(v, out, buffer)
            return v.name if shape in (None, out.shape) else self.name(out.reshape(shape))
        dtype = self.name(result.dtype)
        if v in self.part_of:
            whole, offset = self.part_of[v]
            self.begin(whole)
            self.placed.add(v)
            text = f"{self.name(np.ndarray)}({result.shape}, {dtype}, {whole.name}, {offset})"
        else:
            text = f"{self.name(np.empty)}({result.shape}, {dtype})"
        self.body.append(f"{v.name} = {text}")
        return v.name if shape in (None, result.shape) else f"{v.name}.reshape({shape})"

    def begin(self, whole: Any) -> None:
        """New memory for all parts of a whole, if there is none yet."""
        if whole not in self.begun:
            self.begun.add(whole)
            self.body.append(f"{whole.name} = {self.name(np.empty)}({whole.shape}, {self.name(whole.dtype)})")

    def check(self, line: Any) -> None:
        """A check, in its shortest form; or a draw."""
        text = written(line, self.known, self.line)
        v = self.origin.get(line.args[0], line.args[0]) if line.call.name == "check_index" else None
        if line.expects is not None:
            seen = self.origin.get(line.args[1], line.args[1])
            look = f"if {text} is not {line.expects}: raise Differs"
            if seen in self.checked and line.args[0] < 0 and not line.expects:  # it would be too large an index, too
                known = self.known | {v.name: None for v in line.ins}
                source = f"def look({line.args[1].name}):\n    {look}"
                name = self.name(defined(source, known, self.program.name, "look"))
                at = self.checked[seen]
                self.body[at] += f"; {name}({seen.name})"
            else:
                self.body.append(look)
            return
        for out in line.outs if line.out is not None else ():
            self.samples.setdefault(out, np.zeros(out.shape, out.dtype))
            self.new.add(out)
        if line.call.name in ("check_index", "check_unit") and line.args[0].size:
            given = line.args[0]
            kind = np.dtype(f"u{given.dtype.itemsize}")
            most = line.args[1] - 1 if line.call.name == "check_index" else ONE[given.dtype.itemsize]
            seen = self.part(given, f"view({self.name(kind)})")
            self.body.append(f"if {self.name(np.maximum.reduce)}({seen}, None) > {most}: {text}")
            if v is not None and line.args[1:2] and line.args[1] <= 2**31:
                self.checked[v] = len(self.body) - 1
        else:
            self.body.append(text if line.out is None else f"{assigned(line.out)} = {text}")


def _sampled(samples: dict[Any, Any], out: Any, result: Any) -> None:
    if isinstance(out, tuple | list):
        for a, b in zip(out, result, strict=True):
            _sampled(samples, a, b)
    elif out is not None:
        samples[out] = np.asarray(result) if out.shape is not None else result


def _outline(shape: Any, dtype: Any, strides: Any) -> Array:
    """An array of that layout without memory, for code that looks at layouts alone."""
    return np.lib.stride_tricks.as_strided(np.zeros(1, dtype), shape, strides)


def _power(args: Any) -> Any:
    """The function that NumPy's operator `**` calls: a faster one for some exponents."""
    x, n = args
    if isinstance(x, np.ndarray) and x.ndim and type(n) in (int, float):
        known = {2: np.square, 0.5: np.sqrt, -1: np.reciprocal}.get(n)
        if known is not None and x.dtype.kind == "f":
            return known
    return np.power if not (type(n) in (int, float) and n in (0, 1)) else None


def _plain(args: Any) -> bool:
    """Whether `cpu` calls NumPy's own maximum and minimum for these."""
    return not (type(args[1]) is float and isinstance(args[0], np.ndarray) and args[0].size > SHORT)


_BY_NUMBER = {"maximum": np.maximum, "minimum": np.minimum}


def _laid_out(buffers: Sequence[Buffer], heirs: Sequence[tuple[Buffer, Buffer, int]]) -> int:
    """Give each buffer its place. Buffers needed at the same time do not overlap. Returns the bytes of all."""
    for mine, heir, line in heirs:
        if mine.whole.last == line and heir.whole is heir and mine.whole is not heir:
            heir.whole = mine.whole
            mine.whole.last = max(mine.whole.last, heir.last)
    alive: list[Buffer] = []  # placed, and needed by this line or later ones
    end = 0
    for buffer in buffers:  # in the order of their first lines
        if buffer.whole is not buffer:
            continue
        alive = [other for other in alive if other.last >= buffer.first]
        size, offset = -(-buffer.nbytes // _ALIGNED) * _ALIGNED, 0
        for other in sorted(alive, key=_offset):
            if other.offset >= offset + size:
                break
            offset = max(offset, other.offset + -(-other.nbytes // _ALIGNED) * _ALIGNED)
        buffer.offset = offset
        alive.append(buffer)
        end = max(end, offset + buffer.nbytes)
    return end


_offset = operator.attrgetter("offset")


def _layout(v: Any) -> Any:
    """An array with the layout of an input, or a number."""
    if v.shape is None:
        return 0.5
    strides = getattr(v, "strides", None)
    if strides is None or not v.size or any(s < 0 for s in strides):
        return np.zeros(v.shape, v.dtype)
    span = sum(s * (n - 1) for s, n in zip(strides, v.shape)) + v.dtype.itemsize
    return np.ndarray(v.shape, v.dtype, np.zeros(span, "u1"), 0, strides)


def compiled(program: Any) -> Callable[..., list[Array]]:
    """See `Device.compile`. The function keeps its memory: one thread runs it at a time."""
    samples: dict[Any, Any] = {**{v: _layout(v) for v in program.inputs}, **program.constants}
    first = Writer(program, samples, None, None)
    first.write()
    size = _laid_out(first.buffers, first.heirs)
    memory = np.empty(size + _ALIGNED, "u1")
    start = -memory.__array_interface__["data"][0] % _ALIGNED
    second = Writer(program, samples, first.buffers, memory[start:])
    return second.write()
