"""1986: learning XOR by backpropagation (David Rumelhart, Geoffrey Hinton, Ronald Williams)

The problem. One neuron draws one line, and XOR needs two. Neurons between input and output could draw the lines, and a
last neuron could combine them. But nobody tells a hidden neuron the right answer: how is a hidden neuron to learn?

What was new. Backpropagation: by the chain rule the gradient of the loss goes backwards through the layers, and reaches
every weight, hidden or not. The right answer of a hidden neuron is never needed: the direction in which the answer
should change is enough.

    model = Sequential([
        Linear(2, 4),    # input -> hidden
        Tanh(),          # without it, two layers are one
        Linear(4, 1),    # hidden -> output
        Sigmoid(),
    ])

What to look at. The hidden layer moves the four points until a line can tell the points apart. `separable` checks that
with Rosenblatt's own rule, on the inputs (there is no such line) and on the hidden activations (there is). Four random
hidden neurons can move the points apart, too: with luck the output layer alone then solves XOR. So another gate shows
that *learning* did it: the hidden weights moved by more than their own length. The controls are a model without the
tanh, which is one line again, and a frozen hidden layer.

Source: Rumelhart, Hinton and Williams (1986), "Learning representations by back-propagating errors", Nature 323.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from tinytorch import SGD, BCELoss, Device, Linear, Sequential, Sigmoid, Tanh, Tensor
from tinytorch.data import DataLoader, TensorDataset
from tinytorch.milestones.common import accuracy
from tinytorch.milestones.perceptron import CORNERS, TRUTH
from tinytorch.verify import Found, Gate, Handle, Report, Run, controls, gates, verify

TITLE = "1986 XOR"
EPOCHS = 500
LEARNING_RATE = 0.5
CONTROLS = [
    controls.remove("1", fails="metric"),
    controls.remove("1", fails="separable"),
    controls.freeze("0", fails="hidden"),
]


def network() -> Sequential:
    """The network as it was: 2-4-1."""
    return Sequential([Linear(2, 4), Tanh(), Linear(4, 1), Sigmoid()])


def deep_network() -> Sequential:
    """Three hidden layers, 2-4-4-4-1: the gradient reaches the first through the others."""
    return Sequential([Linear(2, 4), Tanh(), Linear(4, 4), Tanh(), Linear(4, 4), Tanh(), Linear(4, 1), Sigmoid()])


def separable(points: np.ndarray[Any, Any], which: Sequence[bool], passes: int = 10_000) -> bool:
    """Whether Rosenblatt's rule finds a line (a plane) between two kinds of points.

    The rule adds a point to the weights where the answer 0 should be 1, and subtracts a point where the answer 1 should
    be 0. The rule stops when all answers are right, which happens at some time if there is such a plane.
    """
    inputs = np.concatenate([points, np.ones((len(points), 1))], axis=1)  # the bias
    weights = np.zeros(inputs.shape[1])
    for _ in range(passes):
        right = True
        for x, wanted in zip(inputs, which):
            if (weights @ x > 0) != wanted:
                weights += x if wanted else -x
                right = False
        if right:
            return True
    return False


def hidden_separable(run: Run) -> Found:
    """Whether a line separates the two kinds of points as the last neuron sees them."""
    points = Tensor(CORNERS, next(run.model.parameters()).dtype)
    hidden = run.model[:-2](points).detach().numpy()  # (4, 4)
    wanted = [row[0] > 0.5 for row in TRUTH["XOR"]]
    before, after = separable(np.array(CORNERS), wanted), separable(hidden, wanted)
    said = {True: "yes", False: "no"}
    return Found(after and not before, f"hidden {said[after]}, inputs {said[before]}")


def learn(run: Handle, build: Callable[[], Sequential] = network) -> Iterator[Tensor]:
    """Train a network on the truth table of XOR."""
    points, which = Tensor(CORNERS, run.dtype), Tensor(TRUTH["XOR"], run.dtype)
    model = build().to(run.dtype)
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
    loader = DataLoader(TensorDataset(points, which), batch_size=4)
    for x, y in run.batches(loader, EPOCHS):
        yield gradients(x, y)
        step()


def verified(build: Callable[[], Sequential] = network, **settings: Any) -> Report:
    """Solve XOR, and be judged; the settings go to `verify`."""
    judges = [
        gates.metric(1.0, name="accuracy"),
        gates.updates(EPOCHS),
        gates.movement(1.0, of="0.weight", name="hidden"),
        Gate("separable", "a line separates the hidden activations, none the inputs", hidden_separable),
    ]
    name = "2-4-1" if build is network else "2-4-4-4-1"
    return verify(partial(learn, build=build), name=name, gates=judges, **settings)


def train(device: str | Device | None = None, seed: int = 0, **settings: Any) -> Report:
    """Solve XOR with one hidden layer, and with three."""
    settings |= {"device": device, "seeds": [seed]}
    return Report.joined(TITLE, [verified(build, **settings) for build in (network, deep_network)])
