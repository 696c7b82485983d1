"""What the benchmarks promise about the code they measure."""

from __future__ import annotations

import pytest

from benchmarks.extension import CASES, STEPS
from tinytorch.backends import Device, cpu, cpu_functions

_MEANT = {"available", "canonical", "of", "from_numpy", "to_numpy", "exported", "asarray", "dtype", "keep_memory"}
_MEANT |= {"does_as_default"}
_POINTS = {name for name in vars(cpu.CpuDevice) if callable(getattr(Device, name, None))} - _MEANT
_OWN = sorted(cpu_functions.FASTER.keys() | _POINTS)


@pytest.mark.parametrize("name", [name for name in _OWN if not name.startswith("_")])
def test_each_way_that_the_cpu_has_of_its_own_is_measured(name):
    assert any(row.split(",")[0].split()[0] == name for row in [*CASES, *STEPS])
