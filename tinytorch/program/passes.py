"""Passes that make a program shorter and leave its results as they are."""

from __future__ import annotations

from typing import Any

from tinytorch.program.program import Line, Program, Value, mapped


def simplified(program: Program) -> Program:
    """The program without needless lines, and without calls made twice."""
    return without_dead(without_repeats(program))


def without_dead(program: Program) -> Program:
    """Without lines, inputs and constants that no output needs. Checks and draws stay."""
    needed = set(program.outputs)
    lines: list[Line] = []
    for line in reversed(program.lines):
        if line.effect or any(v in needed for v in line.outs):
            needed.update(line.ins)
            lines.append(line)
    inputs = [v for v in program.inputs if v in needed]
    constants = {v: a for v, a in program.constants.items() if v in needed}
    return Program(program.name, inputs, constants, lines[::-1], program.outputs)


def without_repeats(program: Program) -> Program:
    """With one call of a function for the same arguments."""
    same: dict[Value, Value] = {}
    seen: dict[Any, Line] = {}
    lines: list[Line] = []

    def now(x: Any) -> Any:
        return same.get(x, x) if isinstance(x, Value) else x

    for line in program.lines:
        line = line._replace(args=mapped(now, line.args), kwargs=mapped(now, line.kwargs))
        key = (line.call, _key(line.args), _key(line.kwargs))
        known = None if line.effect else seen.setdefault(key, line)
        if known is None or known is line:
            lines.append(line)
        else:
            same.update(zip(line.outs, known.outs, strict=True))
    outputs = [now(v) for v in program.outputs]
    return Program(program.name, program.inputs, program.constants, lines, outputs)


def _key(x: Any) -> Any:
    """A hashable key: equal keys mean equal arguments."""
    if isinstance(x, Value):
        return "value", id(x)
    if isinstance(x, tuple | list):
        return type(x), tuple(map(_key, x))
    if isinstance(x, dict):
        return dict, tuple((k, _key(v)) for k, v in x.items())
    if isinstance(x, slice):
        return slice, x.start, x.stop, x.step
    if isinstance(x, str | int | float | bool | None):
        return type(x), repr(x)
    return type(x), id(x)
