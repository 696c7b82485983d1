"""Data sets, batches, and the digits that the milestones learn."""

from tinytorch.data.dataset import DataLoader, Subset, TensorDataset, random_split
from tinytorch.data.digits import tinydigits

__all__ = ["DataLoader", "Subset", "TensorDataset", "random_split", "tinydigits"]
