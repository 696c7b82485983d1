"""2017: the transformer (Ashish Vaswani and others)

The problem. Language comes in sequences. The networks of the day read a sequence word by word, and kept all earlier
words in one vector. They were slow, since no step can start before the last has ended, and forgetful.

What was new. Attention, and nothing else. Every position looks at all positions at once, and decides by itself how much
of each to take: softmax(q k^T / sqrt(d)) v. Attention alone does not know the order of words. So the positions are
added to the words, as sines and cosines.

    model = Sequential([
        Embedding(vocab_size, d_model),           # token -> vector
        PositionalEncoding(d_model, max_len),     # where the token stands
        MultiHeadAttention(d_model, num_heads),   # attend to all positions
        Linear(d_model, vocab_size),              # predict the token
    ])

What to look at. The task is to copy a sequence of four digits, and then to write it in reverse. There are only 10,000
such sequences, so the gate is not a sample: *all* sequences must be right, after learning from 640. Copying sounds like
a test of attention, but is none: a model without positions or without attention copies perfectly, since every place
only has to repeat its own token. Reversing is a test of attention: a position must look at another position, and know
which. Without positions 43 % of the tokens are right, with uniform attention or without attention fewer. These three
are the controls.

Look at the attention itself: on the way to a reversed sequence, the first position looks at the last. Look also at the
bias of the keys, the only parameter without a gradient: the bias adds one number to all scores of a query, and softmax
does not see that.

The full encoder block (attention, two normalizations, feed-forward network, residual connections) has 19 parameters
with embedding and output layer, and every parameter learns.

Source: Vaswani et al. (2017), "Attention Is All You Need".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

import tinytorch
from tinytorch import (
    Adam,
    CrossEntropyLoss,
    Device,
    Embedding,
    Linear,
    MultiHeadAttention,
    PositionalEncoding,
    Sequential,
    Tensor,
    TransformerEncoderLayer,
)
from tinytorch.data import DataLoader, TensorDataset
from tinytorch.milestones.common import accuracy
from tinytorch.verify import Found, Gate, Handle, Report, Run, controls, gates, verify

TITLE = "2017 transformer"
VOCABULARY, LENGTH = 10, 4
D_MODEL, HEADS = 48, 2
SEQUENCES, BATCH, EPOCHS = 640, 32, 50  # 20 batches, 50 times: 1,000 updates
LEARNING_RATE = 0.01
KEY_BIAS = {"*k_proj.bias": "softmax does not see what is added to all scores of a query"}
CONTROLS = [controls.no_positions(), controls.uniform_attention(), controls.remove(MultiHeadAttention)]


def network() -> Sequential:
    """The model of this chapter: one layer of attention between embedding and output."""
    return Sequential(
        [
            Embedding(VOCABULARY, D_MODEL),
            PositionalEncoding(D_MODEL, LENGTH),
            MultiHeadAttention(D_MODEL, HEADS),
            Linear(D_MODEL, VOCABULARY),
        ]
    )


def block() -> Sequential:
    """The full encoder block in the place of attention: 19 parameters."""
    return Sequential(
        [
            Embedding(VOCABULARY, D_MODEL),
            PositionalEncoding(D_MODEL, LENGTH),
            TransformerEncoderLayer(D_MODEL, HEADS, 4 * D_MODEL, dropout=0.0, batch_first=True),
            Linear(D_MODEL, VOCABULARY),
        ]
    )


def wanted(task: str, sequences: Tensor) -> Tensor:
    """The right answer: the sequence, or the sequence in reverse."""
    return sequences if task == "copy" else sequences[:, ::-1]


def every_sequence() -> Tensor:
    """All 10,000 sequences of four digits, (10000, 4)."""
    return Tensor(np.stack(np.unravel_index(np.arange(VOCABULARY**LENGTH), (VOCABULARY,) * LENGTH), axis=1).tolist())


def attention_where_due(run: Run, task: str) -> Found:
    """The mean attention of a position to the position whose token it must write; by chance 1 / 4."""
    vectors = run.model[:2](every_sequence()[::10])
    with tinytorch.no_grad():
        _, weights = run.model[2](vectors, need_weights=True)  # (N, heads, T, T)
    rows = tinytorch.arange(LENGTH)
    columns = rows if task == "copy" else (LENGTH - 1) - rows
    due = tinytorch.astype(rows[:, None] == rows[None, :], weights.dtype)[columns]
    mean = float((weights * due).sum(axis=-1).mean().item())
    return Found(mean > 2 / LENGTH, f"{mean:.2f}, chance {1 / LENGTH}")


def count(run: Run) -> Found:
    """Whether there are 19 parameters."""
    found = len(list(run.model.parameters()))
    return Found(found == 19, str(found))


def learn(
    run: Handle,
    task: str = "copy",
    build: Callable[[], Sequential] = network,
) -> Iterator[Tensor]:
    """Train a model to "copy" or to "reverse"."""
    model = build().to(run.dtype)
    sequences = tinytorch.randint(VOCABULARY, size=(SEQUENCES, LENGTH))
    everything = every_sequence()
    criterion = CrossEntropyLoss()
    optimizer = Adam(model.parameters(), lr=LEARNING_RATE)

    def loss_of(x: Tensor, y: Tensor) -> Tensor:
        return criterion(model(x).reshape(-1, VOCABULARY), y.reshape(-1))

    @run.compiled
    def gradients(x: Tensor, y: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(x, y)
        loss.backward()
        return loss

    run.watch(
        model,
        optimizer,
        loss=lambda: loss_of(sequences, wanted(task, sequences)),
        metric=lambda: accuracy(model(everything).argmax(axis=-1), wanted(task, everything)),
    )
    step = run.compiled(optimizer.step)
    loader = DataLoader(TensorDataset(sequences, wanted(task, sequences)), batch_size=BATCH, shuffle=True)
    for x, y in run.batches(loader, EPOCHS):
        yield gradients(x, y)
        step()


def verified(task: str = "copy", build: Callable[[], Sequential] = network, **settings: Any) -> Report:
    """Learn a task, and be judged; the settings go to `verify`."""
    judges = [
        gates.metric(1.0 if task == "copy" else 0.99, name="accuracy"),
        gates.updates(EPOCHS * (SEQUENCES // BATCH)),
        gates.nonzero_gradients(exempt=KEY_BIAS),
        gates.movement(exempt=KEY_BIAS),
    ]
    if build is network:
        look = partial(attention_where_due, task=task)
        judges.append(Gate("attention", "attention on the right position > 2 x chance", look))
    else:
        judges.append(Gate("parameters", "19 parameters", count))
    name = f"{'attention' if build is network else 'block'}, {task}"
    return verify(partial(learn, task=task, build=build), name=name, gates=judges, **settings)


def train(device: str | Device | None = None, seed: int = 0, **settings: Any) -> Report:
    """Copy with attention alone and with the full block, and reverse, which needs attention."""
    settings |= {"device": device, "seeds": [seed]}
    variants = [("copy", network), ("copy", block), ("reverse", network)]
    return Report.joined(TITLE, [verified(task, build, **settings) for task, build in variants])
