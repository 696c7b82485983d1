"""The work that every peer does: shapes, initial weights, data and settings. NumPy alone.

Weights of linear layers are (in, out) and used as x @ w + b; kernels of convolutions are (out, in, 3, 3); images are
(N, C, H, W). A peer converts all of them once, to the form of its library.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray[Any, Any]]

BETAS, EPS, MOMENTUM, NORM_EPS = (0.9, 0.999), 1e-8, 0.9, 1e-5


@dataclass(frozen=True)
class Workload:
    """One training step; without an optimizer, one inference."""

    name: str
    title: str
    model: str  # mlp, cnn, lstm or transformer
    optimizer: str = "adam"  # sgd, momentum, adam, or "" for inference
    lr: float = 1e-3
    batch: int = 32
    sizes: tuple[int, ...] = ()  # mlp: features of the input and after each layer
    activation: str = "relu"  # mlp: relu, tanh or gelu, the exact one
    image: int = 0  # cnn: height and width
    convs: tuple[tuple[int, int], ...] = ()  # cnn: channels and padding of each convolution, with ReLU and pooling
    depthwise: bool = False  # cnn: each kernel sees one channel
    sequence: int = 0  # transformer: tokens of a sequence, and so on; lstm: vectors of a sequence, sizes and width
    vocabulary: int = 0
    width: int = 0
    heads: int = 4
    hidden: int = 0
    blocks: int = 1
    causal: bool = False  # a GPT: causal, norms first, GELU, a last norm; otherwise norms last and ReLU

    @property
    def binary(self) -> bool:
        """Whether the loss is the binary cross entropy of a sigmoid, not the cross entropy of logits."""
        return self.sizes[-1:] == (1,)

    def weights(self) -> Arrays:
        """The initial weights by name, in order of use."""
        rng = np.random.Generator(np.random.Philox(0))
        out: Arrays = {}

        def linear(name: str, n_in: int, n_out: int) -> None:
            for part, shape in (("w", (n_in, n_out)), ("b", (n_out,))):
                out[name + part] = rng.uniform(-(n_in**-0.5), n_in**-0.5, shape)

        def norm(name: str) -> None:
            out[name + "w"], out[name + "b"] = np.ones(self.width), np.zeros(self.width)

        if self.model == "lstm":
            linear("x.", self.sizes[0], 4 * self.width)
            out["h.w"] = rng.uniform(-(self.width**-0.5), self.width**-0.5, (self.width, 4 * self.width))
            linear("head.", self.width, self.sizes[1])
        else:
            for i, (a, b) in enumerate(pairwise(self.sizes)):
                linear(f"{i}.", a, b)
        channels, side = 1, self.image
        for i, (n, padding) in enumerate(self.convs):
            seen = 1 if self.depthwise else channels
            bound = (seen * 9) ** -0.5
            out[f"conv{i}.w"], out[f"conv{i}.b"] = (rng.uniform(-bound, bound, s) for s in ((n, seen, 3, 3), (n,)))
            channels, side = n, (side + 2 * padding - 2) // 2
        if self.convs:
            linear("head.", channels * side * side, 10)
        if self.model == "transformer":
            out["token"] = 0.5 * rng.standard_normal((self.vocabulary, self.width))
            out["position"] = 0.5 * rng.standard_normal((self.sequence, self.width))
            for i in range(self.blocks):
                linear(f"{i}.qkv.", self.width, 3 * self.width)
                linear(f"{i}.out.", self.width, self.width)
                norm(f"{i}.norm1.")
                linear(f"{i}.up.", self.width, self.hidden)
                linear(f"{i}.down.", self.hidden, self.width)
                norm(f"{i}.norm2.")
            if self.causal:
                norm("norm.")
            linear("head.", self.width, self.vocabulary)
        return {name: w.astype("float32") for name, w in out.items()}

    def data(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """A batch of inputs, and its targets: classes, (N,) or (N * T,), or (N, 1) of zeros and ones."""
        rng = np.random.Generator(np.random.Philox(1))
        if self.model == "transformer":
            tokens = rng.integers(0, self.vocabulary, (2, self.batch, self.sequence))
            return tokens[0], tokens[self.causal * 1].reshape(-1)
        if self.model == "cnn":
            return rng.random((self.batch, 1, self.image, self.image), "float32"), rng.integers(0, 10, self.batch)
        length = (self.sequence,) if self.model == "lstm" else ()
        x = rng.standard_normal((self.batch, *length, self.sizes[0])).astype("float32")
        if self.binary:
            return x, (x[:, :1] * x[:, 1:] > 0).astype("float32")
        return x, rng.integers(0, self.sizes[-1], self.batch)


_MLP: dict[str, Any] = {"model": "mlp", "sizes": (64, 128, 64, 10)}
_CNN: dict[str, Any] = {"model": "cnn", "image": 28, "convs": ((16, 1), (32, 1)), "batch": 64}
_GPT: dict[str, Any] = {
    "model": "transformer", "sequence": 64, "vocabulary": 65, "width": 128, "hidden": 512, "blocks": 4, "batch": 16,
    "causal": True,
}  # fmt: skip

WORKLOADS = {
    w.name: w
    for w in [
        Workload("W1", "perceptron, 100 x 2", "mlp", "sgd", 0.5, batch=100, sizes=(2, 1)),
        Workload("W2", "XOR, 2-4-1", "mlp", "sgd", 0.5, batch=4, sizes=(2, 4, 1), activation="tanh"),
        Workload("W3m", "MLP 64-128-64-10, momentum", optimizer="momentum", lr=0.01, **_MLP),
        Workload("W3a", "MLP 64-128-64-10, Adam", **_MLP),
        Workload("W4a", "CNN 8 x 8, one convolution", "cnn", image=8, convs=((8, 0),)),
        Workload("W4b", "CNN 8 x 8, two convolutions", "cnn", image=8, convs=((8, 1), (16, 1))),
        Workload("W5", "transformer block", "transformer", sequence=4, vocabulary=10, width=32, hidden=64),
        Workload("S1", "MLP 784-512-256-10", "mlp", batch=128, sizes=(784, 512, 256, 10)),
        Workload("S2", "CNN 28 x 28, 16 and 32 channels", **_CNN),
        Workload("S3", "GPT, 4 blocks of 128, T = 64", **_GPT),
        Workload("E1", "MLP 256-1024-256-10 with GELU", "mlp", batch=64, sizes=(256, 1024, 256, 10), activation="gelu"),
        Workload("E2", "LSTM written in ops, T = 20", "lstm", sequence=20, sizes=(32, 10), width=64),
        Workload("E3", "CNN 28 x 28, depthwise", "cnn", image=28, convs=((32, 1), (32, 1)), depthwise=True, batch=64),
        Workload("I1", "inference of S2", optimizer="", **_CNN),
        Workload("I2", "inference of S3", optimizer="", **_GPT),
    ]
}
