"""Does a compiled function compute what the function computes? Line by line, with the first line that differs."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinytorch import random
from tinytorch.backends.written import compiled
from tinytorch.parity.runs import Difference, difference
from tinytorch.program import Compiled, Program
from tinytorch.program.program import Line, Value
from tinytorch.program.recorder import Recorder
from tinytorch.tape.variable import run_on


class FirstLine(NamedTuple):
    """The first line of a program whose result differs from that of eager mode. All results before it are equal."""

    line: Line
    value: Value
    difference: Difference

    def __str__(self) -> str:
        ulps, relative = self.difference
        at = f" at {self.line.where}" if self.line.where else ""
        return f"{self.line.part}{at}: `{self.line}`: {ulps:.3g} ULP, relative {relative:.1e}"


def compare_program(step: Compiled, *args: Any, ulps: float = 0.0, **kwargs: Any) -> FirstLine | None:
    """The first line that gives something else in the compiled function than in eager mode; None if all agree.

    The function is called once, in eager mode, with all that it changes. Its lines then run as the device runs
    programs, from the same arrays and random numbers. First each line gives out its result; then only what leaves the
    function does, as in a compiled call, which may share memory between lines.

    Args:
        step: a function that `tinytorch.compile` made. Whether it has a program yet does not matter.
        args, kwargs: for the function.
        ulps: how far results may differ, in units in the last place of the largest element.

    Raises:
        CannotCompile: the function cannot be compiled, or an optimizer has not made its first step yet.
        TypeError: it is no compiled function.

    >>> from tinytorch.parity import compare_program
    >>> double = tinytorch.compile(lambda x: x * 2.0)
    >>> print(compare_program(double, tinytorch.ones(3)))
    None
    """
    if not isinstance(step, Compiled):
        raise TypeError(f"compare_program: step is a compiled function, of tinytorch.compile, not {step!r}")
    recorder = Recorder(step.__name__)
    recorder.kept = {}
    before = random.generator.bit_generator.state
    program = step.recorded(recorder, args, kwargs)
    after = random.generator.bit_generator.state
    named = {v: numbers[k] for numbers, values in recorder.numbers for k, v in values.items()}
    given = [named[v] if v in named else recorder.kept[v] for v in program.inputs]
    made = [v for line in program.lines for v in line.outs if v.shape is not None]
    of = {v: line for line in program.lines for v in line.outs}
    for outputs in (list(dict.fromkeys(made)), [v for v in dict.fromkeys(program.outputs) if v in of]):
        whole = Program(program.name, program.inputs, program.constants, program.lines, outputs)
        run = program.devices[0].compile(whole) if program.devices else compiled(whole)
        random.generator.bit_generator.state = before
        try:
            found = run(*given)
        finally:
            random.generator.bit_generator.state = after
        for v, array in zip(outputs, found, strict=True):
            apart = difference(*(_on_host(v, x) for x in (array, recorder.kept[v])))
            if apart.ulps > ulps:
                return FirstLine(of[v], v, apart)
    return None


def _on_host(v: Value, array: Any) -> np.ndarray[Any, Any]:
    """The values of a result; booleans as numbers."""
    device = v.device
    proper = array if type(array) is device.array_type else device.asarray(array)
    host: np.ndarray[Any, Any] = run_on(device, device.to_numpy, proper)
    return host.astype(np.int8) if host.dtype.kind == "b" else host
