"""1989: a multi-layer perceptron on real data

The problem. XOR has four examples, and all of them are known. Handwriting has no end of examples: a network must get
digits right that it has never seen.

What was new. The method works on real data. LeCun and his colleagues trained a network by backpropagation on digits
from envelopes, and the network read new digits. (Their network already used one set of weights at all places in the
image, as in the next chapter. This chapter takes the plain way, for comparison: all pixels in a row, fully connected.)

    model = Sequential([
        Linear(64, 128),   # 8 x 8 pixels
        ReLU(),            # a modern activation; in 1989 it was tanh
        Linear(128, 64),
        ReLU(),
        Linear(64, 10),    # a score for each of 10 digits
    ])

What to look at. There are 1,000 images to learn from and 200 others to be judged by. Look at the difference between the
two accuracies: a network that learned by heart is good at the 1,000 and bad at the 200. Mini-batches of 32, 25 passes,
775 updates. The controls are shuffled labels (the gradients flow, the weights move, and nothing is learned that holds
for new images) and frozen first layers.

Source: LeCun et al. (1989), "Backpropagation Applied to Handwritten Zip Code Recognition", Neural Computation 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tinytorch import SGD, CrossEntropyLoss, Device, Flatten, Linear, ReLU, Sequential, Tensor
from tinytorch.data import DataLoader, TensorDataset, tinydigits
from tinytorch.milestones.common import accuracy
from tinytorch.verify import Handle, Report, controls, gates, verify

TITLE = "1989 MLP digits"
EPOCHS = 25
BATCH = 32
LEARNING_RATE = 0.05
UPDATES = 775  # 1000 // 32 = 31 batches, 25 times
GATES = [gates.metric(0.8, name="accuracy"), gates.gap(0.15), gates.overfit(), gates.updates(UPDATES)]
CONTROLS = [
    controls.shuffle_labels(),
    controls.shuffle_labels(fails="loss drop"),
    controls.freeze("1", "3"),
]

Data = tuple[TensorDataset, TensorDataset]  # to train, to test


def network() -> Sequential:
    """64-128-64-10, on images as they come."""
    return Sequential([Flatten(), Linear(64, 128), ReLU(), Linear(128, 64), ReLU(), Linear(64, 10)])


def learn(
    run: Handle,
    build: Callable[[], Sequential] = network,
    data: Callable[[], Data] = tinydigits,
    epochs: int = EPOCHS,
) -> Iterator[Tensor]:
    """Train a network on TinyDigits: this chapter's, or the next one's."""
    train_set, test_set = (TensorDataset(x.to(run.dtype), y) for x, y in (part.tensors for part in data()))
    images, labels = train_set.tensors
    test_images, test_labels = test_set.tensors
    model = build().to(run.dtype)  # the weights are drawn as float32, whatever the dtype
    criterion = CrossEntropyLoss()
    optimizer = SGD(model.parameters(), lr=LEARNING_RATE)
    run.watch(
        model,
        optimizer,
        loss=lambda: criterion(model(images), labels),
        metric=lambda: accuracy(model(test_images).argmax(axis=1), test_labels),
        train_metric=lambda: accuracy(model(images).argmax(axis=1), labels),
        curve=True,
    )

    @run.compiled
    def gradients(x: Tensor, y: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        return loss

    step = run.compiled(optimizer.step)
    loader = DataLoader(train_set, batch_size=BATCH, shuffle=True, drop_last=True)
    for x, y in run.batches(loader, epochs):
        yield gradients(x, y)
        step()


def verified(**settings: Any) -> Report:
    """Learn the digits, and be judged; the settings go to `verify`."""
    return verify(learn, name="MLP", gates=GATES, **settings)


def train(device: str | Device | None = None, seed: int = 0, **settings: Any) -> Report:
    """Learn to read digits, pixel by pixel."""
    return Report.joined(TITLE, [verified(device=device, seeds=[seed], **settings)])
