"""Programs written out as Python: straight-line calls of an array library, what `Device.compile` does by default.

Nothing here knows what a program is beside its attributes: lines, inputs, constants and outputs.
"""

from __future__ import annotations

import functools
import itertools
import linecache
import weakref
from collections.abc import Callable
from typing import Any


class Differs(Exception):
    """A line of a program gave another answer than the line expects."""


def compiled(program: Any) -> Callable[..., Any]:
    """See `Device.compile`."""
    known: dict[str, Any] = {"Differs": Differs}
    body: list[str] = []
    homes = [device for device in program.devices if device.current is not None]
    for i, (line, last) in enumerate(zip(program.lines, program.last_uses(), strict=True)):
        text = written(line, known, i)
        home = next((v.device for v in line.outs), line.call.device)
        if len(homes) > 1 and home in homes:
            known[f"on_{i}"] = home.current
            text = f"on_{i}(lambda: {text})"
        if line.expects is not None:
            body.append(f"if bool({text}) is not {line.expects}: raise Differs")
        else:
            body.append(text if line.out is None else f"{assigned(line.out)} = {text}")
        if last:
            body.append("del " + ", ".join(v.name for v in last))
    known.update({v.name: array for v, array in program.constants.items()})
    given = ", ".join(v.name for v in program.inputs)
    back = ", ".join(v.name for v in program.outputs)
    source = f"def run({given}):\n    " + "\n    ".join([*body, f"return [{back}]"])
    run = defined(source, known, program.name)
    return functools.partial(homes[0].current, run) if len(homes) == 1 else run


def defined(source: str, known: dict[str, Any], name: str, function: str = "run") -> Callable[..., Any]:
    """The function of a source, whose lines tracebacks show."""
    file = f"<program {name} {next(_programs)}>"
    linecache.cache[file] = len(source), None, source.splitlines(True), file
    exec(compile(source, file, "exec"), known)
    made: Callable[..., Any] = known[function]
    weakref.finalize(made, linecache.cache.pop, file, None)
    return made


_programs = itertools.count()


def is_value(x: Any) -> bool:
    """Whether an argument is a name in the program, and no array or number itself."""
    return hasattr(x, "name") and hasattr(x, "nbytes") and hasattr(x, "shape") and not hasattr(x, "__array__")


def assigned(out: Any) -> str:
    """The left side of an assignment."""
    if isinstance(out, tuple | list):
        return "(" + "".join(f"{assigned(x)}, " for x in out) + ")"
    return "_" if out is None else str(out.name)


def written(line: Any, known: dict[str, Any], number: int) -> str:
    """The call of a line as Python. Objects other than values go into `known`."""

    def shown(x: Any) -> str:
        if is_value(x):
            return str(x.name)
        if x is None or x is Ellipsis or type(x) in (bool, int, str):
            return repr(x)
        if isinstance(x, slice):
            return f"slice({shown(x.start)}, {shown(x.stop)}, {shown(x.step)})"
        if type(x) in (tuple, list):
            inner = "".join(f"{shown(y)}, " for y in x)
            return f"({inner})" if type(x) is tuple else f"[{inner}]"
        if type(x) is dict:
            return "{" + ", ".join(f"{k!r}: {shown(v)}" for k, v in x.items()) + "}"
        name = f"__k{number}_{len(known)}"  # no value has such a name
        known[name] = x
        return name

    call = line.call
    args = [shown(x) for x in line.args]
    if call.kind == "operator" and call.name in SIGNS:
        return f"{args[0]} {SIGNS[call.name]} {args[1]}"
    if call.kind == "operator" and call.name == "getitem":
        return f"{args[0]}[{args[1]}]"
    if call.kind == "xp" and call.name == "permute_dims" and line.args[1:] == ((1, 0),) and not line.kwargs:
        return f"{args[0]}.T"
    function = f"__{call.name}_{number}"
    known[function] = call.function
    return f"{function}({', '.join([*args, *(f'{k}={shown(v)}' for k, v in line.kwargs.items())])})"


SIGNS = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "truediv": "/",
    "floordiv": "//",
    "mod": "%",
    "pow": "**",
    "matmul": "@",
    "and_": "&",
    "or_": "|",
    "xor": "^",
    "lshift": "<<",
    "rshift": ">>",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
    "eq": "==",
    "ne": "!=",
}
