"""2017: the transformer (Ashish Vaswani and others)

The problem. Language comes in sequences. The networks of the day read them word by word, keeping what they had read in
one vector: slow, since no step can start before the last has ended, and forgetful.

What was new. Attention, and nothing else. Every position looks at all positions at once, and decides by itself how much
of each to take: softmax(q k^T / sqrt(d)) v. Because attention alone does not know what comes first, the positions are
added to the words, as sines and cosines.

    model = Sequential([
        Embedding(vocab_size, d_model),           # token -> vector
        PositionalEncoding(d_model, max_len),     # where it stands
        MultiHeadAttention(d_model, num_heads),   # attend to all positions
        Linear(d_model, vocab_size),              # predict the token
    ])

What to look at. The task is to copy a sequence of four digits, and then to write it in reverse. There are only 10,000
such sequences, so the gate is not a sample: *all* of them must be right, after learning from 640. Copying sounds like a
test of attention, but is none: a model without positions or without attention copies perfectly, since every place only
has to say what stands there. Reversing is one. Then a position must look at another one, and know which: without
positions 43 % of the tokens are right, with uniform attention or without attention fewer. Those are the controls.

So look at the attention itself: on the way to a reversed sequence, the first position looks at the last. And at the
bias of the keys, the only parameter without a gradient: it adds the same to all scores of a query, and softmax does not
see that.

The full encoder block (attention, two normalizations, feed-forward network, residual connections) has 19 parameters
with its embedding and output layer, and every one of them learns.

Source: Vaswani et al. (2017), "Attention Is All You Need".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import tinytorch
from milestones.result import Progress, Result, Run, accuracy
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
from tinytorch.nn import Module

TITLE = "2017 transformer"
VOCABULARY, LENGTH = 10, 4
D_MODEL, HEADS = 48, 2
SEQUENCES, BATCH, EPOCHS = 640, 32, 50  # 20 batches, 50 times: 1,000 updates
LEARNING_RATE = 0.01
KEY_BIAS = "softmax does not see what is added to all scores of a query"


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
    """What the model should write: the sequence, or the sequence from its end."""
    return sequences if task == "copy" else sequences[:, ::-1]


def every_sequence() -> Tensor:
    """All 10,000 sequences of four digits, (10000, 4)."""
    return Tensor(np.stack(np.unravel_index(np.arange(VOCABULARY**LENGTH), (VOCABULARY,) * LENGTH), axis=1).tolist())


def attention_where_due(model: Sequential, task: str, sequences: Tensor) -> float:
    """The mean attention that a position pays to the one position whose token it must write; by chance 1 / 4."""
    vectors = model[:2](sequences)
    with tinytorch.no_grad():
        _, weights = model[2](vectors, need_weights=True)  # (N, heads, T, T)
    rows = tinytorch.arange(LENGTH, device=sequences.device)
    columns = rows if task == "copy" else (LENGTH - 1) - rows
    due = tinytorch.astype(rows[:, None] == rows[None, :], weights.dtype)[columns]
    return float((weights * due).sum(axis=-1).mean().item())


def learn(
    device: str | Device | None = None,
    seed: int = 0,
    *,
    task: str = "copy",
    build: Callable[[], Sequential] = network,
    dtype: Any = tinytorch.float32,
    updates: int | None = None,
    spoil: Callable[[Module], Any] | None = None,
    progress: Progress | None = None,
) -> Run:
    """Train a model to "copy" or to "reverse"."""
    with tinytorch.device(device) as dev:
        tinytorch.manual_seed(seed)
        model = build().to(dtype)
        sequences = tinytorch.randint(VOCABULARY, size=(SEQUENCES, LENGTH))
        everything = every_sequence()
        criterion = CrossEntropyLoss()
        optimizer = Adam(model.parameters(), lr=LEARNING_RATE)
        loader = DataLoader(TensorDataset(sequences, wanted(task, sequences)), batch_size=BATCH, shuffle=True)

        def loss_of(x: Tensor, y: Tensor) -> Tensor:
            return criterion(model(x).reshape(-1, VOCABULARY), y.reshape(-1))

        run = Run(
            f"{'block' if build is block else 'attention'}, {task}",
            model,
            dev,
            loss=lambda: loss_of(sequences, wanted(task, sequences)),
            accuracy=lambda: accuracy(model(everything).argmax(axis=-1), wanted(task, everything)),
            updates=updates,
            spoil=spoil,
            progress=progress,
        )
        for x, y in run.batches(loader, EPOCHS):
            optimizer.zero_grad()
            loss = loss_of(x, y)
            loss.backward()
            run.watch(loss)
            optimizer.step()
        run.finish(
            accuracy=1.0 if task == "copy" else 0.99,
            updates=EPOCHS * (SEQUENCES // BATCH),
            exempt={name: KEY_BIAS for name, _ in model.named_parameters() if name.endswith("k_proj.bias")},
        )
        if build is network:
            due = attention_where_due(model, task, everything[::10])
            run.gate(
                "attention on the right position > 2 x chance", due > 2 / LENGTH, f"{due:.2f}, chance {1 / LENGTH}"
            )
        if build is block:
            count = len(list(model.parameters()))
            run.gate("19 parameters", count == 19, str(count))
        return run


def train(device: str | Device | None = None, seed: int = 0, progress: Progress | None = None) -> Result:
    """Copy with attention alone and with the full block, and reverse, which needs attention."""
    return Result(
        TITLE,
        tinytorch.device(device),
        [
            learn(device, seed, task="copy", build=network, progress=progress),
            learn(device, seed, task="copy", build=block, progress=progress),
            learn(device, seed, task="reverse", build=network, progress=progress),
        ],
    )
