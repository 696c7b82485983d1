"""A compiled function beside eager mode, line by line."""

from __future__ import annotations

import numpy as np
import pytest

import tinytorch
from tests.program.test_compile import bits, build
from tinytorch import nn
from tinytorch.backends import written
from tinytorch.backends.cpu import CpuDevice
from tinytorch.parity import compare_program


@pytest.mark.parametrize("name", ["W1", "W3a", "W4b", "W5"])
def test_no_line_of_a_step_differs(name):
    step = tinytorch.compile(build(name)[0])
    step()
    assert compare_program(step) is None


def test_the_step_is_made_once():
    step, model, _ = build("W3a")
    other, twin, _ = build("W3a")
    compiled = tinytorch.compile(step)
    compiled(), other()
    compare_program(compiled), other()
    assert [bits(p) for p in model.parameters()] == [bits(p) for p in twin.parameters()]


def test_random_numbers_are_drawn_as_in_eager_mode():
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    step = tinytorch.compile(lambda x: model(x).sum())
    tinytorch.manual_seed(3)
    first = tinytorch.rand(4)
    tinytorch.manual_seed(3)
    assert compare_program(step, tinytorch.ones((3, 4))) is None
    assert compare_program(step, tinytorch.ones((3, 4))) is None
    tinytorch.manual_seed(3)
    model(tinytorch.ones((3, 4)))
    assert bits(tinytorch.rand(4)) != bits(first)


def test_the_first_line_that_differs_is_named(monkeypatch):
    """By a device whose programs have tanh wrong, by a little."""

    class Wrong(CpuDevice):
        def compile(self, program):
            run = written.compiled(program)
            at = [i for i, v in enumerate(program.outputs) if v.name.startswith("tanh")]

            def changed(*given):
                out = run(*given)
                for i in at:
                    out[i] = np.nextafter(out[i], np.float32(2))
                return out

            return changed

    monkeypatch.setattr(CpuDevice, "compile", Wrong.compile)
    step, *_ = build("W2")
    compiled = tinytorch.compile(step)
    compiled()
    found = compare_program(compiled)
    assert found.line.call.name == "tanh"
    assert str(found).startswith("forward at tinytorch_.py:")
    assert "`tanh = xp.tanh(" in str(found)
    assert 0 < found.difference.ulps <= 1
    assert compare_program(compiled, ulps=1.0) is None


def test_memory_that_two_lines_share_by_mistake_is_seen(monkeypatch):
    """Lines agree one by one, and what leaves the function does not."""
    from tinytorch.backends import cpu_program

    right = cpu_program._laid_out

    def wrong(buffers, heirs):
        size = right(buffers, heirs)
        for buffer in buffers:
            buffer.whole.offset = 0
        return size

    monkeypatch.setattr(cpu_program, "_laid_out", wrong)
    step = tinytorch.compile(lambda x: tinytorch.exp(x * 2.0) * tinytorch.exp(x * 3.0))
    found = compare_program(step, tinytorch.ones(5))
    assert str(found.line) == "multiply_2 = exp * exp_1"
    assert found.difference.ulps > 1000


def test_what_is_no_compiled_function_is_refused():
    with pytest.raises(TypeError, match=r"^compare_program: step is a compiled function, of tinytorch.compile, not "):
        compare_program(len)


def test_a_first_step_of_an_optimizer_has_no_program_yet():
    step = tinytorch.compile(build("W3a")[0])
    with pytest.raises(tinytorch.CannotCompile, match="call it once more"):
        compare_program(step)
    assert compare_program(step) is None
