"""JAX with the whole step compiled, on the CPU."""

from __future__ import annotations

import functools
import os
from typing import Any

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp

from benchmarks.peers import Step
from benchmarks.workloads import BETAS, EPS, MOMENTUM, NORM_EPS, Workload

NAME = "JAX jit"


ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh, "gelu": functools.partial(jax.nn.gelu, approximate=False)}


def variants() -> list[str]:
    """There is one."""
    return [""]


def norm(p: Any, name: str, x: Any) -> Any:
    """Layer normalization."""
    d = x - x.mean(-1, keepdims=True)
    return d * jax.lax.rsqrt((d * d).mean(-1, keepdims=True) + NORM_EPS) * p[name + "w"] + p[name + "b"]


def linear(p: Any, name: str, x: Any) -> Any:
    """x @ w + b"""
    return x @ p[name + "w"] + p[name + "b"]


def attend(work: Workload, p: Any, name: str, x: Any) -> Any:
    """Attention of the sequence to itself."""
    n, t, d = x.shape
    q, k, v = jnp.moveaxis(linear(p, name + "qkv.", x).reshape(n, t, 3, work.heads, -1), (2, 3), (0, 2))
    scores = q @ k.swapaxes(2, 3) / (d // work.heads) ** 0.5
    if work.causal:
        scores = jnp.where(jnp.tri(t, dtype=bool), scores, -jnp.inf)
    mixed = jax.nn.softmax(scores) @ v
    return linear(p, name + "out.", mixed.swapaxes(1, 2).reshape(n, t, d))


def logits(work: Workload, p: Any, x: Any) -> Any:
    """The output of the model."""
    if work.model == "mlp":
        for i in range(len(work.sizes) - 1):
            x = linear(p, f"{i}.", x)
            if i < len(work.sizes) - 2:
                x = ACTIVATIONS[work.activation](x)
        return x
    if work.model == "lstm":
        h = c = jnp.zeros((len(x), work.width))
        for gates in jnp.moveaxis(linear(p, "x.", x), 1, 0):
            i, f, g, o = jnp.split(gates + h @ p["h.w"], 4, axis=1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return linear(p, "head.", h)
    if work.model == "cnn":
        for i, (_, padding) in enumerate(work.convs):
            groups = x.shape[1] if work.depthwise else 1
            x = jax.lax.conv_general_dilated(
                x, p[f"conv{i}.w"], (1, 1), [(padding, padding)] * 2, feature_group_count=groups
            )
            x = x + p[f"conv{i}.b"][:, None, None]
            n, c, h, w = x.shape
            x = jax.nn.relu(x).reshape(n, c, h // 2, 2, w // 2, 2).max((3, 5))
        return linear(p, "head.", x.reshape(len(x), -1))
    x = p["token"][x] + p["position"]
    for i in range(work.blocks):
        if work.causal:
            x = x + attend(work, p, f"{i}.", norm(p, f"{i}.norm1.", x))
            x = x + linear(p, f"{i}.down.", jax.nn.gelu(linear(p, f"{i}.up.", norm(p, f"{i}.norm2.", x))))
        else:
            x = norm(p, f"{i}.norm1.", x + attend(work, p, f"{i}.", x))
            x = norm(p, f"{i}.norm2.", x + linear(p, f"{i}.down.", jax.nn.relu(linear(p, f"{i}.up.", x))))
    x = norm(p, "norm.", x) if work.causal else x
    return linear(p, "head.", x).reshape(-1, work.vocabulary)


def loss(work: Workload, p: Any, x: Any, y: Any) -> Any:
    """The mean loss."""
    z = logits(work, p, x)
    if work.binary:
        return (jnp.maximum(z, 0) - z * y + jnp.log1p(jnp.exp(-jnp.abs(z)))).mean()
    return (jax.nn.logsumexp(z, -1) - z[jnp.arange(len(z)), y]).mean()


def build(work: Workload, variant: str = "") -> Step:
    """The step, and what goes back to its start."""
    weights = {k: jnp.asarray(w) for k, w in work.weights().items()}
    x, y = (jnp.asarray(a) for a in work.data())
    if not work.optimizer:
        run = jax.jit(lambda x: logits(work, weights, x))
        return lambda: run(x), lambda: None
    (b1, b2), each = BETAS, jax.tree_util.tree_map

    def step(p: Any, m: Any, v: Any, t: Any, x: Any, y: Any) -> Any:
        value, g = jax.value_and_grad(lambda p: loss(work, p, x, y))(p)
        t = t + 1
        if work.optimizer == "sgd":
            return value, each(lambda p, g: p - work.lr * g, p, g), m, v, t
        if work.optimizer == "momentum":
            m = each(lambda m, g: MOMENTUM * m + g, m, g)
            return value, each(lambda p, m: p - work.lr * m, p, m), m, v, t
        m = each(lambda m, g: b1 * m + (1 - b1) * g, m, g)
        v = each(lambda v, g: b2 * v + (1 - b2) * g * g, v, g)
        rate, root = work.lr / (1 - b1**t), jnp.sqrt(1 - b2**t)
        return value, each(lambda p, m, v: p - rate * m / (jnp.sqrt(v) / root + EPS), p, m, v), m, v, t

    run = jax.jit(step, donate_argnums=(0, 1, 2, 3))
    state: list[Any] = []

    def reset() -> None:
        zeros = [each(jnp.zeros_like, weights) for _ in range(2)]
        state[:] = [each(jnp.copy, weights), *zeros, jnp.zeros(())]

    def once() -> Any:
        value, *state[:] = run(*state, x, y)
        return value

    reset()
    return once, reset
