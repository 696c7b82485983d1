"""tinytorch, with freed memory kept for the next arrays instead of given back to the system."""

from __future__ import annotations

import tinytorch
from benchmarks.peers import Step, tinytorch_
from benchmarks.workloads import Workload

NAME = "tinytorch, kept"
variants = tinytorch_.variants


def build(work: Workload, variant: str = "") -> Step:
    """The step, and what goes back to its start."""
    tinytorch.device("cpu").keep_memory()
    return tinytorch_.build(work)
