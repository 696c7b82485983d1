"""PyTorch with the model compiled, and its fused optimizer."""

from __future__ import annotations

from benchmarks.peers import Step, torch_eager
from benchmarks.workloads import Workload

NAME = "torch.compile"


def variants() -> list[str]:
    """The fused optimizer, and for images channels last too."""
    return ["fused", "fused, channels_last"]


def build(work: Workload, variant: str = "fused") -> Step | None:
    """The step, and what goes back to its start."""
    return torch_eager.build(work, variant, compiled=True)
