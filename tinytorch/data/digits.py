"""TinyDigits: 1,200 handwritten digits of 8 x 8 pixels, in the package."""

from __future__ import annotations

from importlib.resources import files

import numpy as np

from tinytorch.backends import Device
from tinytorch.backends import device as _device
from tinytorch.data.dataset import TensorDataset
from tinytorch.tensor import Tensor
from tinytorch.words import worded

_STORED = "train_images", "train_labels", "test_images", "test_labels"


@worded
def tinydigits(device: str | Device | None = None) -> tuple[TensorDataset, TensorDataset]:
    """1,000 training and 200 test images of handwritten digits, with labels: two data sets.

    A data set has images, (N, 1, 8, 8) with values in [0, 1], and labels, (N,) integers from 0 to 9. There are 100
    images of each digit to train, and 20 to test. Source: Alpaydin and Kaynak (1998), "Optical Recognition of
    Handwritten Digits", UCI Machine Learning Repository, the part that scikit-learn has; `data/README.md` has the
    notices.

    Raises:
        OSError: the file in the package cannot be read.

    >>> train, test = tinytorch.data.tinydigits()
    >>> train.tensors[0].shape, train.tensors[1].shape, len(test)
    ((1000, 1, 8, 8), (1000,), 200)
    """
    dev = _device(device)
    path = files("tinytorch.data").joinpath("tinydigits.npz")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            found = {name: stored[name] for name in _STORED}
    except Exception as error:  # zipfile, zlib and NumPy have different classes
        raise OSError(
            f"tinydigits: {path} cannot be read ({type(error).__name__}: {error}); install the package again: "
            "python -m pip install --force-reinstall --no-deps tinytorch-xp"
        ) from None

    def part(name: str) -> TensorDataset:
        images = found[f"{name}_images"].astype(np.float32)[:, None] / 16  # (N, 1, 8, 8)
        return TensorDataset(Tensor(images, None, dev), Tensor(found[f"{name}_labels"], dev.default_int, dev))

    return part("train"), part("test")
