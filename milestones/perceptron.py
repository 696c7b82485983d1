"""1957: the perceptron (Frank Rosenblatt)

The problem. A computer did what it was told, step by step. Rosenblatt wanted a machine that is only shown examples and
finds out by itself how to tell the examples apart.

What was new. The weights of a single artificial neuron are adjusted after every look at the examples, a little in the
direction that makes the answer better. Here the neuron is a weighted sum and a sigmoid, and the direction is against
the gradient of the binary cross entropy. (Rosenblatt's neuron had a hard threshold, whose gradient is useless, and a
rule of its own. The smooth version learns the same lines and leads to the next chapter.)

    perceptron = Linear(2, 1)   # 2 inputs -> 1 output

What to look at. Two weights and a bias are a straight line in the plane: the examples on one side are 1, on the other
0. So AND, OR and two clouds of points are learned without fail. XOR is not: no line has (0, 1) and (1, 0) on one side
and (0, 0) and (1, 1) on the other, and the best that any line gets right is three of the four points. Minsky and Papert
(1969) wrote a book about that. Try it: `verified("XOR")` stays at 75 % or below. That is a control for this chapter.
The other control is a gradient of zero.

Source: Rosenblatt (1958), "The Perceptron: A Probabilistic Model for Information Storage and Organization in the
Brain", Psychological Review 65.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from tinytorch import SGD, BCELoss, Device, Linear, Sequential, Sigmoid, Tensor
from tinytorch.data import DataLoader, TensorDataset
from tinytorch.milestones.common import accuracy
from tinytorch.verify import Handle, Report, controls, gates, verify

TITLE = "1957 perceptron"
EPOCHS = 100
LEARNING_RATE = 0.5
CONTROLS = [controls.scale_gradient(factor=0.0), controls.scale_gradient(factor=0.0, fails="loss drop")]

CORNERS = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
TRUTH = {
    "AND": [[0.0], [0.0], [0.0], [1.0]],
    "OR": [[0.0], [1.0], [1.0], [1.0]],
    "XOR": [[0.0], [1.0], [1.0], [0.0]],
}


def examples(task: str, seed: int) -> tuple[Tensor, Tensor]:
    """Points, (N, 2), and labels, (N, 1): a truth table, or two Gaussian clouds of 50 points each."""
    if task in TRUTH:
        return Tensor(CORNERS), Tensor(TRUTH[task])
    rng = np.random.Generator(np.random.Philox(seed))
    points = rng.normal(0.0, 0.7, (2, 50, 2)) + np.array([[[-1.5, -1.5]], [[1.5, 1.5]]])
    which = np.repeat([0.0, 1.0], 50)
    return Tensor(points.reshape(100, 2), "float32"), Tensor(which[:, None], "float32")


def learn(run: Handle, task: str = "blobs") -> Iterator[Tensor]:
    """Train a perceptron on a task: "AND", "OR", "blobs", or, in vain, "XOR"."""
    points, which = (t.to(run.dtype) for t in examples(task, run.seed))
    perceptron = Linear(2, 1)
    model = Sequential([perceptron, Sigmoid()]).to(run.dtype)
    criterion = BCELoss()
    optimizer = SGD(model.parameters(), lr=LEARNING_RATE)
    run.watch(
        model,
        optimizer,
        loss=lambda: criterion(model(points), which),
        metric=lambda: accuracy(model(points) > 0.5, which > 0.5),
    )

    @run.compiled
    def gradients(x: Tensor, y: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        return loss

    step = run.compiled(optimizer.step)
    loader = DataLoader(TensorDataset(points, which), batch_size=len(points))
    for x, y in run.batches(loader, EPOCHS):
        yield gradients(x, y)
        step()


def verified(task: str = "blobs", **settings: Any) -> Report:
    """Learn a task, and be judged; the settings go to `verify`."""
    judges = [gates.metric(1.0 if task in TRUTH else 0.9, name="accuracy"), gates.updates(EPOCHS)]
    return verify(partial(learn, task=task), name=task, gates=judges, **settings)


def train(device: str | Device | None = None, seed: int = 0, **settings: Any) -> Report:
    """Learn everything a line can tell apart."""
    settings |= {"device": device, "seeds": [seed]}
    return Report.joined(TITLE, [verified(task, **settings) for task in ("blobs", "AND", "OR")])
