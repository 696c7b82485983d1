"""Data sets, batches, and the digits that the milestones learn."""

import sys
from typing import TYPE_CHECKING, Any

from tinytorch.data.dataset import DataLoader, Subset, TensorDataset, random_split
from tinytorch.data.digits import tinydigits
from tinytorch.spelled import missing

__all__ = ["DataLoader", "Subset", "TensorDataset", "random_split", "tinydigits"]


if not TYPE_CHECKING:  # a type checker takes a module with `__getattr__` to have every attribute

    def __getattr__(name: str) -> Any:
        raise missing("data", name, "module 'tinytorch.data'", sys.modules[__name__])
