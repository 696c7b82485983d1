"""tinytorch, as its users write it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import tinytorch
from benchmarks.peers import Step
from benchmarks.workloads import BETAS, EPS, MOMENTUM, NORM_EPS, Arrays, Workload
from tinytorch import nn

NAME = "tinytorch"


def variants() -> list[str]:
    """There is one; `tinytorch_kept` is another peer, as it changes its whole process."""
    return [""]


def linear(w: Arrays, name: str) -> nn.Linear:
    """A linear layer with these weights."""
    layer = nn.Linear(*w[name + "w"].shape)
    layer.load_state_dict({"weight": w[name + "w"].T, "bias": w[name + "b"]})
    return layer


def norm(w: Arrays, name: str) -> nn.LayerNorm:
    """A layer normalization with these weights."""
    layer = nn.LayerNorm(len(w[name + "w"]), eps=NORM_EPS)
    layer.load_state_dict({"weight": w[name + "w"], "bias": w[name + "b"]})
    return layer


def mlp(work: Workload, w: Arrays) -> nn.Module:
    """Linear layers with activations between them, and a sigmoid where the loss is binary."""
    layers: list[nn.Module] = []
    for i, _ in enumerate(pairwise(work.sizes)):
        layers += [linear(w, f"{i}."), {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}[work.activation]()]
    return nn.Sequential(*layers[:-1], *([nn.Sigmoid()] if work.binary else []))


def cnn(work: Workload, w: Arrays) -> nn.Module:
    """Convolutions, each with ReLU and pooling, and a linear layer."""
    layers: list[nn.Module] = []
    seen = 1
    for i, (channels, padding) in enumerate(work.convs):
        conv = nn.Conv2d(seen, channels, 3, padding=padding, groups=seen if work.depthwise else 1)
        seen = channels
        conv.load_state_dict({"weight": w[f"conv{i}.w"], "bias": w[f"conv{i}.b"]})
        layers += [conv, nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), linear(w, "head."))


class LSTM(nn.Module):
    """The cell of Hochreiter and Schmidhuber (1997), with a forget gate, in a loop; a linear layer at its end."""

    def __init__(self, work: Workload, w: Arrays) -> None:
        self.x, self.h, self.head = linear(w, "x."), nn.Parameter(w["h.w"]), linear(w, "head.")

    def forward(self, x: tinytorch.Tensor) -> tinytorch.Tensor:
        """(N, T, features) -> (N, classes)"""
        gates = self.x(x)
        h = c = tinytorch.zeros((len(x), len(self.h)))
        for t in range(x.shape[1]):
            i, f, g, o = tinytorch.split(gates[:, t] + h @ self.h, len(self.h), axis=1)
            c = tinytorch.sigmoid(f) * c + tinytorch.sigmoid(i) * tinytorch.tanh(g)
            h = tinytorch.sigmoid(o) * tinytorch.tanh(c)
        return self.head(h)


class Block(nn.Module):
    """Self-attention and a feed-forward network, with residual connections."""

    def __init__(self, work: Workload, w: Arrays, name: str) -> None:
        self.heads, self.causal = work.heads, work.causal
        self.qkv, self.out = linear(w, name + "qkv."), linear(w, name + "out.")
        self.up, self.down = linear(w, name + "up."), linear(w, name + "down.")
        self.norm1, self.norm2 = norm(w, name + "norm1."), norm(w, name + "norm2.")

    def attend(self, x: tinytorch.Tensor) -> tinytorch.Tensor:
        """Attention of the sequence to itself."""
        return self.out(tinytorch.multi_head_attention(self.qkv(x), num_heads=self.heads, is_causal=self.causal))

    def forward(self, x: tinytorch.Tensor) -> tinytorch.Tensor:
        """(N, T, width) -> (N, T, width)"""
        if self.causal:
            x = x + self.attend(self.norm1(x))
            return x + self.down(tinytorch.gelu(self.up(self.norm2(x)), approximate="tanh"))
        x = self.norm1(x + self.attend(x))
        return self.norm2(x + self.down(tinytorch.relu(self.up(x))))


class Transformer(nn.Module):
    """Tokens to logits, (N, T) -> (N * T, vocabulary)."""

    def __init__(self, work: Workload, w: Arrays) -> None:
        self.token = nn.Embedding(*w["token"].shape)
        self.token.load_state_dict({"weight": w["token"]})
        self.position = nn.Parameter(w["position"])
        self.blocks = nn.ModuleList([Block(work, w, f"{i}.") for i in range(work.blocks)])
        self.norm = norm(w, "norm.") if work.causal else nn.Identity()
        self.head = linear(w, "head.")

    def forward(self, ids: tinytorch.Tensor) -> tinytorch.Tensor:
        """(N, T) -> (N * T, vocabulary)"""
        x = self.token(ids) + self.position
        for block in self.blocks:
            x = block(x)
        return tinytorch.flatten(self.head(self.norm(x)), 0, 1)


MODELS: dict[str, Callable[[Workload, Arrays], nn.Module]] = {
    "mlp": mlp,
    "cnn": cnn,
    "lstm": LSTM,
    "transformer": Transformer,
}


def build(work: Workload, variant: str = "") -> Step:
    """The step, and what goes back to its start."""
    model = MODELS[work.model](work, work.weights())
    x, y = (tinytorch.Tensor(a) for a in work.data())
    if not work.optimizer:

        @tinytorch.no_grad()
        def infer() -> tinytorch.Tensor:
            return model(x)

        return infer, lambda: None
    parameters = list(model.parameters())
    optimizer: tinytorch.optim.Optimizer
    if work.optimizer == "adam":
        optimizer = tinytorch.Adam(parameters, lr=work.lr, betas=BETAS, eps=EPS)
    else:
        optimizer = tinytorch.SGD(parameters, lr=work.lr, momentum=MOMENTUM if work.optimizer == "momentum" else 0.0)
    start = model.state_dict(), optimizer.state_dict()
    criterion = nn.BCELoss() if work.binary else nn.CrossEntropyLoss()

    def step() -> tinytorch.Tensor:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    def reset() -> None:
        model.load_state_dict(start[0])
        optimizer.load_state_dict(start[1])

    return step, reset
