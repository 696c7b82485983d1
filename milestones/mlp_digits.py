"""1989: a multi-layer perceptron on real data

The problem. XOR has four examples, and all of them are known. Handwriting has no end of examples: a network must get
digits right that it has never seen.

What was new. That it works. LeCun and his colleagues trained a network by backpropagation on digits from envelopes, and
it read new ones. (Theirs already shared weights between places in the image, which is the next chapter. This one takes
the plain way, to have something to compare with: all pixels in a row, fully connected.)

    model = Sequential([
        Linear(64, 128),   # 8 x 8 pixels
        ReLU(),            # a modern activation; in 1989 it was tanh
        Linear(128, 64),
        ReLU(),
        Linear(64, 10),    # a score for each of 10 digits
    ])

What to look at. 1,000 images to learn from, 200 others to be judged by, and the difference between the two accuracies:
a network that learned by heart is good at the first and bad at the second. Mini-batches of 32, 25 passes, 775 updates.
The controls are shuffled labels (the gradients flow, the weights move, and nothing is learned that holds for new
images) and frozen first layers.

Source: LeCun et al. (1989), "Backpropagation Applied to Handwritten Zip Code Recognition", Neural Computation 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tinytorch
from milestones.result import Progress, Result, Run, accuracy
from tinytorch import SGD, CrossEntropyLoss, Device, Flatten, Linear, ReLU, Sequential
from tinytorch.data import DataLoader, TensorDataset, tinydigits
from tinytorch.nn import Module

TITLE = "1989 MLP digits"
EPOCHS = 25
BATCH = 32
LEARNING_RATE = 0.05
UPDATES = 775  # 1000 // 32 = 31 batches, 25 times

Data = tuple[TensorDataset, TensorDataset]  # to train, to test


def network() -> Sequential:
    """64-128-64-10, on images as they come."""
    return Sequential([Flatten(), Linear(64, 128), ReLU(), Linear(128, 64), ReLU(), Linear(64, 10)])


def learn(
    device: str | Device | None = None,
    seed: int = 0,
    *,
    name: str = "MLP",
    build: Callable[[], Sequential] = network,
    data: Callable[[], Data] = tinydigits,
    dtype: Any = tinytorch.float32,
    epochs: int = EPOCHS,
    updates: int | None = None,
    spoil: Callable[[Module], Any] | None = None,
    progress: Progress | None = None,
) -> Run:
    """Train a network on TinyDigits: this chapter's, or the next one's."""
    with tinytorch.device(device) as dev:
        tinytorch.manual_seed(seed)
        train_set, test_set = (TensorDataset(x.to(dtype), y) for x, y in (part.tensors for part in data()))
        images, labels = train_set.tensors
        test_images, test_labels = test_set.tensors
        model = build().to(dtype)  # the weights are drawn as float32, whatever the dtype
        criterion = CrossEntropyLoss()
        optimizer = SGD(model.parameters(), lr=LEARNING_RATE)
        loader = DataLoader(train_set, batch_size=BATCH, shuffle=True, drop_last=True)
        run = Run(
            name,
            model,
            dev,
            loss=lambda: criterion(model(images), labels),
            accuracy=lambda: accuracy(model(test_images).argmax(axis=1), test_labels),
            curve=True,
            updates=updates,
            spoil=spoil,
            progress=progress,
        )
        for x, y in run.batches(loader, epochs):
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            run.watch(loss)
            optimizer.step()
        run.finish(accuracy=0.8, updates=epochs * (len(train_set) // BATCH))
        with tinytorch.no_grad():
            learned = accuracy(model(images).argmax(axis=1), labels).item()
        gap = learned - run.accuracy
        run.gate("less than 15 points better on training data", gap < 0.15, f"{learned:.1%} - {run.accuracy:.1%}")
        return run


def train(device: str | Device | None = None, seed: int = 0, progress: Progress | None = None) -> Result:
    """Learn to read digits, pixel by pixel."""
    return Result(TITLE, tinytorch.device(device), [learn(device, seed, progress=progress)])
