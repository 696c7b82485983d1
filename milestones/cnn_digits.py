"""1998: convolutional networks (Yann LeCun, Leon Bottou, Yoshua Bengio, Patrick Haffner)

The problem. The multi-layer perceptron does not know that pixels have neighbours. Shuffle the pixels, the same way in
all images: for the perceptron nothing has changed. A stroke learned in one corner must be learned again in every other.

What was new. A small kernel slides over the image, with the same weights at every place. A kernel finds everywhere what
it has learned once, and has few weights: 810 numbers here, where the perceptron of the last chapter has 17,226.

    model = Sequential([
        Conv2d(1, 8, kernel_size=3),   # 8 spatial filters
        ReLU(),
        MaxPool2d(kernel_size=2),      # half the resolution
        Flatten(),
        Linear(8 * 3 * 3, 10),         # classification
    ])

What to look at. On 8 x 8 pixels both networks read more than 80 % of new digits, so accuracy alone shows little: a CNN
with *frozen* random filters still reaches about 85 %. Four things show that convolution learns, and is convolution:

* The filters move by more than 1.5 times their length. (Frozen filters do not move; with a tenth of the gradient
filters
  move less than once their length.)
* Shuffling the pixels costs the CNN much, the perceptron next to nothing: only the CNN uses neighbourhood.
* The CNN gets to 80 % no later than the perceptron, with a twentieth of the weights.
* Shifting the image shifts the result of a convolution. That is equivariance, often called
  translation *invariance*. Convolution has no invariance; pooling and the last layer have some.

The controls are a frozen convolution, its gradient set to zero, and its gradient a tenth of what it should be.

Source: LeCun, Bottou, Bengio and Haffner (1998), "Gradient-Based Learning Applied to Document Recognition".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

import tinytorch
from tinytorch import Conv2d, Device, Flatten, Linear, MaxPool2d, ReLU, Sequential
from tinytorch.data import TensorDataset, tinydigits
from tinytorch.milestones import mlp_digits
from tinytorch.milestones.mlp_digits import Data
from tinytorch.nn import Module
from tinytorch.verify import Report, controls, gates, run_once, verify

TITLE = "1998 CNN digits"
CONTROLS = [
    controls.freeze("0", fails="filters"),
    controls.scale_gradient("0", 0.0, fails="filters"),
    controls.scale_gradient("0", 0.0, fails="movement"),
    controls.scale_gradient("0", 0.1, fails="filters"),
]
PROBE_EPOCHS = 10  # of runs that compare this network with the last chapter's
SEEDS = 3


def network() -> Sequential:
    """The network of this chapter: one convolution."""
    return Sequential([Conv2d(1, 8, kernel_size=3), ReLU(), MaxPool2d(kernel_size=2), Flatten(), Linear(8 * 3 * 3, 10)])


def deep_network() -> Sequential:
    """Two convolutions: the second finds patterns in the result of the first."""
    return Sequential(
        [
            Conv2d(1, 8, kernel_size=3, padding=1),
            ReLU(),
            MaxPool2d(kernel_size=2),  # 8 x 4 x 4
            Conv2d(8, 16, kernel_size=3, padding=1),
            ReLU(),
            MaxPool2d(kernel_size=2),  # 16 x 2 x 2
            Flatten(),
            Linear(16 * 2 * 2, 10),
        ]
    )


learn = partial(mlp_digits.learn, build=network)  # the recipe is the last chapter's


def shuffled(seed: int) -> Callable[[], Data]:
    """TinyDigits with the pixels of all images shuffled the same way."""
    order = np.random.Generator(np.random.Philox(seed)).permutation(64).tolist()

    def shuffle(part: TensorDataset) -> TensorDataset:
        images, labels = part.tensors
        return TensorDataset(images.reshape(-1, 64)[:, order].reshape(images.shape), labels)

    def data() -> Data:
        train_set, test_set = tinydigits()
        return shuffle(train_set), shuffle(test_set)

    return data


def probe(
    build: Callable[[], Sequential], data: Callable[[], Data], device: str | Device | None, seed: int
) -> tuple[float, list[float]]:
    """The loss on test images after 10 epochs, and the accuracy after each."""
    learn = partial(mlp_digits.learn, build=build, data=data, epochs=PROBE_EPOCHS)
    run = run_once(learn, device=device, seed=seed)
    with run.device, tinytorch.no_grad():
        images, labels = data()[1].tensors
        return float(tinytorch.cross_entropy(run.model(images), labels).item()), run.curve


def compare(
    build: Callable[[], Sequential], device: str | Device | None, seeds: Sequence[int]
) -> tuple[float, list[float]]:
    """Over several seeds: how much higher the loss gets when all pixels are shuffled, and the mean accuracy curve."""
    plain = [probe(build, tinydigits, device, seed) for seed in seeds]
    mixed = [probe(build, shuffled(seed), device, seed) for seed in seeds]
    cost = np.mean([loss for loss, _ in mixed]) - np.mean([loss for loss, _ in plain])
    return float(cost), np.mean([curve for _, curve in plain], axis=0).tolist()


def shift_error(conv: Module, device: Device) -> float:
    """The largest difference between conv(shift(x)) and shift(conv(x)), away from the border."""
    with device, tinytorch.no_grad():
        image = tinydigits()[1].tensors[0][:32]
        moved = tinytorch.roll(image, (1, 1), axis=(2, 3))  # down and to the right
        difference = conv(moved)[:, :, 1:, 1:] - conv(image)[:, :, :-1, :-1]
        return float(tinytorch.max(tinytorch.abs(difference)).item())


def epochs_to(accuracy: float, curve: Sequence[float]) -> int:
    """The number of epochs until the accuracy was that high; if it never was, one more than all epochs."""
    return next((i for i, a in enumerate(curve, 1) if a >= accuracy), len(curve) + 1)


def scalars(model: Module) -> int:
    """How many numbers a model learns."""
    return sum(p.size for p in model.parameters())


def verified(build: Callable[[], Sequential] = network, least: float = 1.5, **settings: Any) -> Report:
    """Train a network on the last chapter's recipe. The filters must move by `least` times their norm."""
    judges = [*mlp_digits.GATES, gates.movement(least, of="[03].weight", name="filters")]
    name = "CNN" if build is network else "CNN, two convolutions"
    return verify(partial(mlp_digits.learn, build=build), name=name, gates=judges, **settings)


def train(device: str | Device | None = None, seed: int = 0, **settings: Any) -> Report:
    """Learn to read digits by their strokes, and compare with the last chapter."""
    settings |= {"device": device, "seeds": [seed]}
    report = Report.joined(TITLE, [verified(**settings), verified(deep_network, 1.0, **settings)])

    sizes = scalars(network()), scalars(mlp_digits.network())
    report.claim("810 numbers against 17,226", sizes == (810, 17_226), f"{sizes[0]:,} against {sizes[1]:,}")
    seeds = range(seed, seed + SEEDS)  # with one run alone chance would decide
    (cost, curve), (mlp_cost, mlp_curve) = (compare(b, device, seeds) for b in (network, mlp_digits.network))
    first, second = epochs_to(0.8, curve), epochs_to(0.8, mlp_curve)
    report.claim("80 % no later than the MLP", first <= second, f"after {first} epochs against {second}, {SEEDS} seeds")
    report.claim(
        "shuffling pixels costs the CNN more than the MLP",
        cost > mlp_cost + 0.1,
        f"test loss {cost:+.3f} against {mlp_cost:+.3f}, {SEEDS} seeds",
    )
    error = shift_error(report.runs[0].model[0], report.device)
    report.claim("a shifted image gives a shifted map", error < 1e-5, f"largest difference {error:.1e}")
    return report
