"""A program as data: it is checked, costed, shortened and printed."""

from __future__ import annotations

import numpy as np
import pytest

import tinytorch
from tinytorch.backends import device
from tinytorch.program.passes import simplified
from tinytorch.program.program import Call, Line, Program, Value

CPU = device("cpu")
F4 = np.dtype("float32")


def value(name: str, *shape: int) -> Value:
    return Value(name, shape, F4, CPU)


def line(out, name, *args, kind="operator", **how) -> Line:
    return Line(out, Call(kind, name, CPU if kind != "operator" else None), args, {}, "forward", "here.py:1", **how)


def test_a_program_is_run_on_any_device():
    x, y, z = (value(n, 2) for n in "xyz")
    program = Program("f", [x], {}, [line(y, "mul", x, 2.0), line(z, "add", y, x)], [z])
    program.check()
    for run in (CPU.compile(program), type(CPU).__mro__[1].compile(CPU, program)):
        (out,) = run(np.asarray([1.0, 3.0], "float32"))
        assert out.tolist() == [3.0, 9.0]


@pytest.mark.parametrize(
    ("lines", "outputs", "text"),
    [
        (lambda x, y, z: [line(z, "add", y, x)], "z", "f: y is used before it is given, in `z = y + x`"),
        (lambda x, y, z: [line(y, "neg", x), line(y, "neg", x)], "y", "f: y is given twice, in `y = -x`"),
        (lambda x, y, z: [line(y, "neg", x)], "z", "f: z is to be returned, and not given"),
        (lambda x, y, z: [line(value("x", 2), "neg", x)], "x", "f: a name stands for two values: x"),
    ],
)
def test_what_is_wrong_with_a_program_is_said(lines, outputs, text):
    values = {n: value(n, 2) for n in "xyz"}
    program = Program("f", [values["x"]], {}, lines(*values.values()), [values[outputs]])
    with pytest.raises(ValueError) as error:
        program.check()
    assert str(error.value).startswith(text)


def test_lines_that_nobody_needs_and_repeats_go_and_checks_stay():
    x, a, b, c, d = (value(n, 2) for n in "xabcd")
    check = Line(None, Call("device", "check_unit", CPU), (x, "p"), {}, "forward", "", True)
    lines = [line(a, "neg", x), line(b, "neg", x), line(c, "mul", a, b), line(d, "mul", a, 3.0), check]
    short = simplified(Program("f", [x, value("unused", 9)], {}, lines, [c]))
    assert [str(one) for one in short.lines] == ["a = -x", "c = a * a", "dev.check_unit(x, 'p')"]
    assert short.inputs == [x]


def test_draws_are_not_made_once_for_two():
    a, b, c = (value(n, 2) for n in "abc")
    draws = [Line(v, Call("device", "drawn", CPU), ("uniform", (2,)), {}, "forward", "", True) for v in (a, b)]
    assert len(simplified(Program("f", [], {}, [*draws, line(c, "add", a, b)], [c])).lines) == 3


def test_a_number_and_an_equal_one_of_another_type_or_sign_are_not_one():
    x, a, b, c, d = (value(n, 2) for n in "xabcd")
    numbers = (0.0, -0.0, 0, False)
    lines = [line(v, "mul", x, n) for v, n in zip((a, b, c, d), numbers, strict=True)]
    assert len(simplified(Program("f", [x], {}, lines, [a, b, c, d])).lines) == 4


def test_what_a_layer_costs():
    layer = tinytorch.Linear(3, 5)
    compiled = tinytorch.compile(lambda x: layer(x))
    for _ in range(3):
        compiled(tinytorch.ones((2, 3)))
    cost = compiled.program.cost()
    assert [(text.partition(" = ")[2], flops, size) for text, _, flops, size in cost.lines] == [
        ("xp.permute_dims(weight, (1, 0))", 0, 0),
        ("x @ linear", 2 * 2 * 3 * 5, 4 * (2 * 3 + 3 * 5 + 2 * 5)),
        ("linear_1 + bias", 2 * 5, 4 * (2 * 5 + 5 + 2 * 5)),
    ]
    assert (cost.calls, cost.flops, cost.nbytes) == (2, 70, 124 + 100)
    assert cost.memory == 4 * (2 * 3 + 3 * 5 + 5 + 2 * 5 + 2 * 5)
    assert str(cost).startswith("2 calls, 70 flops, 224 bytes moved, 184 at once\n")
    assert str(cost).count("test_program.py:") == 3


def test_a_program_is_printed_with_parts_shapes_and_lines():
    weight = tinytorch.nn.Parameter([[1.0, 2.0]])
    weight.name = "weight"

    def step(x):
        weight.grad = None
        loss = (x @ weight.mT).sum()
        loss.backward()
        return loss

    compiled = tinytorch.compile(step)
    for _ in range(4):
        compiled(tinytorch.ones((3, 2)))
    text = str(compiled.program)
    assert text.startswith("def step(x, weight):\n    # x: (3, 2) float32\n")
    at = [text.index(part) for part in ("# loss", "# backward", "    return ")]
    assert at == sorted(at)
    assert "# (1, 2)  test_program.py:" in text
    assert repr(compiled.program).startswith("<program step: ")
