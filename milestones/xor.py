"""1986: learning XOR by backpropagation (David Rumelhart, Geoffrey Hinton, Ronald Williams)

The problem. One neuron draws one line, and XOR needs two. Put neurons between input and output, and they could draw
the lines that a last neuron then combines. But nobody tells a hidden neuron what it should have answered: how is it to
learn?

What was new. Backpropagation: by the chain rule the gradient of the loss goes backwards through the layers, and reaches
every weight, hidden or not. What a hidden neuron should have answered is never needed, only in which direction its
answer should change.

    model = Sequential([
        Linear(2, 4),    # input -> hidden
        Tanh(),          # without it, two layers are one
        Linear(4, 1),    # hidden -> output
        Sigmoid(),
    ])

What to look at. The hidden layer moves the four points until a line can tell them apart: `separable` checks that with
Rosenblatt's own rule, on the inputs (there is no such line) and on the hidden activations (there is). Four random
hidden neurons would do that, too, and by luck the output layer alone can then solve XOR; so the gate that shows that
*learning* did it is another: the hidden weights moved by more than their own length. The controls are a model without
the tanh, which is one line again, and a frozen hidden layer.

Source: Rumelhart, Hinton and Williams (1986), "Learning representations by back-propagating errors", Nature 323.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import tinytorch
from milestones.perceptron import CORNERS, TRUTH
from milestones.result import Progress, Result, Run, accuracy
from tinytorch import SGD, BCELoss, Device, Linear, Sequential, Sigmoid, Tanh, Tensor
from tinytorch.data import DataLoader, TensorDataset
from tinytorch.nn import Module

TITLE = "1986 XOR"
EPOCHS = 500
LEARNING_RATE = 0.5


def network() -> Sequential:
    """The network as it was: 2-4-1."""
    return Sequential([Linear(2, 4), Tanh(), Linear(4, 1), Sigmoid()])


def deep_network() -> Sequential:
    """Three hidden layers, 2-4-4-4-1: the gradient reaches the first through all of them."""
    return Sequential([Linear(2, 4), Tanh(), Linear(4, 4), Tanh(), Linear(4, 4), Tanh(), Linear(4, 1), Sigmoid()])


def separable(points: np.ndarray[Any, Any], which: Sequence[bool], passes: int = 10_000) -> bool:
    """Whether Rosenblatt's rule finds a line (a plane) between two kinds of points.

    It adds a point to the weights where the answer was 0 and should be 1, subtracts it where it was 1 and should be 0,
    and stops when all answers are right: at some time, if there is such a plane.
    """
    inputs = np.concatenate([points, np.ones((len(points), 1))], axis=1)  # with a bias
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


def learn(
    device: str | Device | None = None,
    seed: int = 0,
    *,
    build: Callable[[], Sequential] = network,
    dtype: Any = tinytorch.float32,
    updates: int | None = None,
    spoil: Callable[[Module], Any] | None = None,
    progress: Progress | None = None,
) -> Run:
    """Train a network on the truth table of XOR."""
    with tinytorch.device(device) as dev:
        tinytorch.manual_seed(seed)
        points, which = Tensor(CORNERS, dtype), Tensor(TRUTH["XOR"], dtype)
        model = build().to(dtype)
        criterion = BCELoss()
        optimizer = SGD(model.parameters(), lr=LEARNING_RATE)
        loader = DataLoader(TensorDataset(points, which), batch_size=4)
        run = Run(
            "-".join(["2", *(str(m.out_features) for m in model if isinstance(m, Linear))]),
            model,
            dev,
            loss=lambda: criterion(model(points), which),
            accuracy=lambda: accuracy(model(points) > 0.5, which > 0.5),
            updates=updates,
            spoil=spoil,
            progress=progress,
        )
        for x, y in run.batches(loader, EPOCHS):
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            run.watch(loss)
            optimizer.step()
        run.finish(accuracy=1.0, updates=EPOCHS)
        run.gate("hidden weights moved > 1 x their norm", run.moved["0.weight"] > 1, f"{run.moved['0.weight']:.2f} x")
        hidden = model[:-2](points).detach().numpy()  # (4, 4), what the last neuron sees
        wanted = [row[0] > 0.5 for row in TRUTH["XOR"]]
        before, after = separable(np.array(CORNERS), wanted), separable(hidden, wanted)
        run.gate(
            "a line separates the hidden activations, none the inputs",
            after and not before,
            f"hidden {'yes' if after else 'no'}, inputs {'yes' if before else 'no'}",
        )
        return run


def train(device: str | Device | None = None, seed: int = 0, progress: Progress | None = None) -> Result:
    """Solve XOR with one hidden layer, and with three."""
    return Result(
        TITLE,
        tinytorch.device(device),
        [
            learn(device, seed, build=network, progress=progress),
            learn(device, seed, build=deep_network, progress=progress),
        ],
    )
