"""PyTorch, eager: modules, with each implementation of its optimizers, and channels-last images."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.peers import Step
from benchmarks.workloads import BETAS, EPS, MOMENTUM, NORM_EPS, Arrays, Workload

NAME = "PyTorch eager"
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))


def variants() -> list[str]:
    """What a user may choose; the fastest counts."""
    return ["foreach", "fused", "for-loop", "fused, channels_last"]


def linear(w: Arrays, name: str) -> Any:
    """A linear layer with these weights."""
    layer = nn.Linear(*w[name + "w"].shape)
    layer.load_state_dict({"weight": torch.tensor(w[name + "w"].T), "bias": torch.tensor(w[name + "b"])})
    return layer


def norm(w: Arrays, name: str) -> Any:
    """A layer normalization with these weights."""
    layer = nn.LayerNorm(len(w[name + "w"]), eps=NORM_EPS)
    layer.load_state_dict({"weight": torch.tensor(w[name + "w"]), "bias": torch.tensor(w[name + "b"])})
    return layer


def mlp(work: Workload, w: Arrays) -> Any:
    """Linear layers with activations between them, and a sigmoid where the loss is binary."""
    layers: list[Any] = []
    for i, _ in enumerate(pairwise(work.sizes)):
        layers += [linear(w, f"{i}."), {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}[work.activation]()]
    return nn.Sequential(*layers[:-1], *([nn.Sigmoid()] if work.binary else []))


def cnn(work: Workload, w: Arrays) -> Any:
    """Convolutions, each with ReLU and pooling, and a linear layer."""
    layers: list[Any] = []
    seen = 1
    for i, (channels, padding) in enumerate(work.convs):
        conv = nn.Conv2d(seen, channels, 3, padding=padding, groups=seen if work.depthwise else 1)
        seen = channels
        conv.load_state_dict({"weight": torch.tensor(w[f"conv{i}.w"]), "bias": torch.tensor(w[f"conv{i}.b"])})
        layers += [conv, nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), linear(w, "head."))


class LSTM(nn.Module):  # type: ignore[misc]
    """The cell in a loop, and a linear layer at its end."""

    def __init__(self, work: Workload, w: Arrays) -> None:
        super().__init__()
        self.x, self.h, self.head = linear(w, "x."), nn.Parameter(torch.tensor(w["h.w"])), linear(w, "head.")

    def forward(self, x: Any) -> Any:
        """(N, T, features) -> (N, classes)"""
        gates = self.x(x)
        h = c = torch.zeros((len(x), len(self.h)))
        for t in range(x.shape[1]):
            i, f, g, o = (gates[:, t] + h @ self.h).chunk(4, dim=1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        return self.head(h)


class Block(nn.Module):  # type: ignore[misc]
    """Self-attention and a feed-forward network, with residual connections."""

    def __init__(self, work: Workload, w: Arrays, name: str) -> None:
        super().__init__()
        self.heads, self.causal = work.heads, work.causal
        self.qkv, self.out = linear(w, name + "qkv."), linear(w, name + "out.")
        self.up, self.down = linear(w, name + "up."), linear(w, name + "down.")
        self.norm1, self.norm2 = norm(w, name + "norm1."), norm(w, name + "norm2.")

    def attend(self, x: Any) -> Any:
        """Attention of the sequence to itself."""
        n, t, d = x.shape
        q, k, v = self.qkv(x).view(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out(mixed.transpose(1, 2).reshape(n, t, d))

    def forward(self, x: Any) -> Any:
        """(N, T, width) -> (N, T, width)"""
        if self.causal:
            x = x + self.attend(self.norm1(x))
            return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))
        x = self.norm1(x + self.attend(x))
        return self.norm2(x + self.down(F.relu(self.up(x))))


class Transformer(nn.Module):  # type: ignore[misc]
    """Tokens to logits, (N, T) -> (N * T, vocabulary)."""

    def __init__(self, work: Workload, w: Arrays) -> None:
        super().__init__()
        self.token = nn.Embedding.from_pretrained(torch.tensor(w["token"]), freeze=False)
        self.position = nn.Parameter(torch.tensor(w["position"]))
        self.blocks = nn.ModuleList([Block(work, w, f"{i}.") for i in range(work.blocks)])
        self.norm = norm(w, "norm.") if work.causal else nn.Identity()
        self.head = linear(w, "head.")

    def forward(self, ids: Any) -> Any:
        """(N, T) -> (N * T, vocabulary)"""
        x = self.token(ids) + self.position
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)).flatten(0, 1)


MODELS: dict[str, Callable[[Workload, Arrays], Any]] = {
    "mlp": mlp,
    "cnn": cnn,
    "lstm": LSTM,
    "transformer": Transformer,
}


def build(work: Workload, variant: str = "fused", compiled: bool = False) -> Step | None:
    """The step and what goes back to its start, or None where this variant is the same as another."""
    last = variant.endswith("channels_last")
    if (last and work.model != "cnn") or (not work.optimizer and not variant.startswith("fused")):
        return None
    model = MODELS[work.model](work, work.weights())
    if last:
        model.to(memory_format=torch.channels_last)
    run = torch.compile(model) if compiled else model
    x, y = (torch.tensor(a) for a in work.data())
    if not work.optimizer:

        @torch.inference_mode()  # type: ignore[untyped-decorator]
        def infer() -> Any:
            return run(x)

        return infer, lambda: None
    start = [p.detach().clone() for p in model.parameters()]
    choice = (
        {"foreach": True} if variant == "foreach" else {"fused": True} if "fused" in variant else {"foreach": False}
    )
    optimizer: Any
    if work.optimizer == "adam":
        optimizer = torch.optim.Adam(model.parameters(), lr=work.lr, betas=BETAS, eps=EPS, **choice)
    else:
        momentum = MOMENTUM if work.optimizer == "momentum" else 0.0
        optimizer = torch.optim.SGD(model.parameters(), lr=work.lr, momentum=momentum, **choice)
    criterion = F.binary_cross_entropy if work.binary else F.cross_entropy

    def step() -> Any:
        optimizer.zero_grad(set_to_none=True)
        loss = criterion(run(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def reset() -> None:
        for p, values in zip(model.parameters(), start):
            p.copy_(values)
        for state in optimizer.state.values():
            for a in state.values():
                if a is not None:
                    a.zero_()

    return step, reset
