"""tinytorch, with the step compiled."""

from __future__ import annotations

import tinytorch
from benchmarks.peers import Step, tinytorch_
from benchmarks.workloads import Workload

NAME = "tinytorch, compiled"
variants = tinytorch_.variants


def build(work: Workload, variant: str = "") -> Step:
    """The step, and what goes back to its start."""
    step, reset = tinytorch_.build(work, variant)
    return tinytorch.compile(step), reset
