"""Make tinytorch/data/tinydigits.npz from the digits of scikit-learn: python tools/make_tinydigits.py

Takes 100 training and 20 test images of each digit, in a random order of fixed seed, and writes the images as uint8
from 0 to 16, as in the original. Needs scikit-learn.
"""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

TRAIN, TEST = 100, 20  # images of each digit

bunch = load_digits()
images, labels = bunch.images.astype(np.uint8), bunch.target.astype(np.uint8)
rng = np.random.Generator(np.random.Philox(1998))
chosen: dict[str, list[np.ndarray]] = {"train": [], "test": []}
for digit in range(10):
    order = rng.permutation(np.flatnonzero(labels == digit))
    chosen["train"].append(order[:TRAIN])
    chosen["test"].append(order[TRAIN : TRAIN + TEST])
parts = {}
for name, of_digits in chosen.items():
    order = rng.permutation(np.concatenate(of_digits))
    parts[f"{name}_images"], parts[f"{name}_labels"] = images[order], labels[order]
target = Path(__file__).parent.parent / "tinytorch" / "data" / "tinydigits.npz"
np.savez_compressed(target, **parts)
print(f"{target}: {', '.join(f'{k} {v.shape}' for k, v in parts.items())}")
