"""NumPy by hand: the floor for any library on NumPy. There is no tape, and a step makes no array.

Everything is laid out for NumPy and BLAS: activations are (features, samples) with a row of ones below, so that one
product adds the bias too and one gives the gradients of weight and bias; images are (C, H, W, N); all parameters lie in
one array, all gradients in another. A layer reads `x.data` and writes `y.data`; backward, it reads `y.grad` and writes
`x.grad`.
"""

# ruff: noqa: D102  (the class says what forward and backward do)

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from benchmarks.peers import Step
from benchmarks.workloads import BETAS, EPS, MOMENTUM, NORM_EPS, Arrays, Workload

NAME = "NumPy by hand"
Array = Any


def variants() -> list[str]:
    """There is one."""
    return [""]


def empty(*shape: int) -> Array:
    """An array without values."""
    return np.empty(shape, "float32")


class Value:
    """The result of a layer, (features, samples), and its gradient."""

    def __init__(self, features: int, samples: int) -> None:
        self.full = np.ones((features + 1, samples), "float32")
        self.data, self.grad = self.full[:-1], empty(features, samples)


class Parameters:
    """All weights in one array and all gradients in another; biases are last columns of their weights."""

    def __init__(self, w: Arrays) -> None:
        self.named: Arrays = {}
        for name, a in w.items():
            if name.endswith(".w") and a.ndim > 1:
                rows = a.T if a.ndim == 2 else a.reshape(len(a), -1)  # (out, in)
                self.named[name[:-2]] = np.concatenate([rows, w[name[:-1] + "b"][:, None]], axis=1)
            elif name in ("token", "position") or (a.ndim == 1 and "norm" in name):
                self.named[name] = a.T
        self.values = np.concatenate([a.ravel() for a in self.named.values()])
        self.start, self.grads = self.values.copy(), np.zeros_like(self.values)
        self.steps, self.m, self.v = 0, np.zeros_like(self.values), np.zeros_like(self.values)

    def reset(self) -> None:
        """Go back to the initial weights."""
        self.values[...], self.steps = self.start, 0
        self.m.fill(0)
        self.v.fill(0)

    def get(self, name: str) -> tuple[Array, Array]:
        """The parameter and its gradient, as views."""
        start = 0
        for key, a in self.named.items():
            if key == name:
                part = slice(start, start + a.size)
                return self.values[part].reshape(a.shape), self.grads[part].reshape(a.shape)
            start += a.size
        raise KeyError(name)

    def updater(self, work: Workload) -> Callable[[], None]:
        """The function that changes the parameters by their gradients."""
        p, g, m, v, t, (b1, b2) = self.values, self.grads, self.m, self.v, np.empty_like(self.values), BETAS

        def sgd() -> None:
            np.multiply(g, work.lr, out=g)
            np.subtract(p, g, out=p)

        def momentum() -> None:
            np.multiply(m, MOMENTUM, out=m)
            np.add(m, g, out=m)
            np.multiply(m, work.lr, out=t)
            np.subtract(p, t, out=p)

        def adam() -> None:  # m and v without their factors 1 - b, which go into the size of the step
            self.steps += 1
            root = ((1 - b2) / (1 - b2**self.steps)) ** 0.5
            np.multiply(m, b1, out=m)
            np.add(m, g, out=m)
            np.multiply(g, g, out=g)
            np.multiply(v, b2, out=v)
            np.add(v, g, out=v)
            np.sqrt(v, out=t)
            np.add(t, EPS / root, out=t)
            np.divide(m, t, out=t)
            np.multiply(t, work.lr * (1 - b1) / (1 - b1**self.steps) / root, out=t)
            np.subtract(p, t, out=p)

        return {"sgd": sgd, "momentum": momentum, "adam": adam, "": lambda: None}[work.optimizer]


class Linear:
    """W x + b, with b the last column of W."""

    def __init__(self, x: Value, p: Parameters, name: str, first: bool = False) -> None:
        self.x, self.first, (self.w, self.gw) = x, first, p.get(name)
        self.y, self.wt, self.xt = Value(len(self.w), x.data.shape[1]), self.w[:, :-1].T, x.full.T

    def forward(self) -> None:
        np.matmul(self.w, self.x.full, out=self.y.data)

    def backward(self) -> None:
        np.matmul(self.y.grad, self.xt, out=self.gw)
        if not self.first:
            np.matmul(self.wt, self.y.grad, out=self.x.grad)


class ReLU:
    """max(x, 0)"""

    def __init__(self, x: Value) -> None:
        self.x, self.y = x, Value(*x.data.shape)
        self.zero, self.mask = np.zeros_like(x.data), np.empty(x.data.shape, bool)

    def forward(self) -> None:
        np.maximum(self.x.data, self.zero, out=self.y.data)

    def backward(self) -> None:
        np.greater(self.y.data, self.zero, out=self.mask)
        np.multiply(self.y.grad, self.mask, out=self.x.grad)


class Tanh:
    """tanh(x)"""

    def __init__(self, x: Value) -> None:
        self.x, self.y, self.t = x, Value(*x.data.shape), np.empty_like(x.data)

    def forward(self) -> None:
        np.tanh(self.x.data, out=self.y.data)

    def backward(self) -> None:
        np.multiply(self.y.data, self.y.data, out=self.t)
        np.subtract(1, self.t, out=self.t)
        np.multiply(self.y.grad, self.t, out=self.x.grad)


class GELU:
    """x / (1 + exp(-2 k x (1 + c x^2))): the approximation by tanh, in bands of rows that stay in the cache."""

    def __init__(self, x: Value) -> None:
        self.x, self.y, self.s = x, Value(*x.data.shape), np.empty_like(x.data)
        rows = max(1, 32768 // x.data.shape[1])
        self.bands = [slice(i, i + rows) for i in range(0, len(x.data), rows)]
        self.t, self.u = empty(rows, x.data.shape[1]), empty(rows, x.data.shape[1])
        self.a = 2 * (2 / np.pi) ** 0.5
        self.b = self.a * 0.044715

    def forward(self) -> None:
        for band in self.bands:
            x, s = self.x.data[band], self.s[band]
            np.multiply(x, x, out=s)
            np.multiply(s, -self.b, out=s)
            np.subtract(s, self.a, out=s)
            np.multiply(s, x, out=s)
            np.exp(s, out=s)
            np.add(s, 1, out=s)
            np.reciprocal(s, out=s)
            np.multiply(x, s, out=self.y.data[band])

    def backward(self) -> None:  # s + y (1 - s) (a + 3 b x^2)
        for band in self.bands:
            x, s = self.x.data[band], self.s[band]
            t, u = self.t[: len(x)], self.u[: len(x)]
            np.multiply(x, x, out=t)
            np.multiply(t, 3 * self.b, out=t)
            np.add(t, self.a, out=t)
            np.multiply(t, self.y.data[band], out=t)
            np.subtract(1, s, out=u)
            np.multiply(t, u, out=t)
            np.add(t, s, out=t)
            np.multiply(self.y.grad[band], t, out=self.x.grad[band])


class Fork:
    """One value for two readers, whose gradients are added."""

    def __init__(self, x: Value) -> None:
        self.x, self.y, self.z = x, Value(*x.data.shape), Value(*x.data.shape)
        for reader in (self.y, self.z):
            reader.full, reader.data = x.full, x.data

    def forward(self) -> None:
        pass

    def backward(self) -> None:
        np.add(self.y.grad, self.z.grad, out=self.x.grad)


class Add:
    """x1 + x2; both get the gradient of the sum."""

    def __init__(self, x1: Value, x2: Value) -> None:
        self.x1, self.x2, self.y = x1, x2, Value(*x1.data.shape)
        self.x1.grad = self.x2.grad = self.y.grad

    def forward(self) -> None:
        np.add(self.x1.data, self.x2.data, out=self.y.data)

    def backward(self) -> None:
        pass


class LayerNorm:
    """(x - mean) / sqrt(var + eps) * w + b over the features; sums are products with vectors."""

    def __init__(self, x: Value, p: Parameters, name: str) -> None:
        d, n = x.data.shape
        self.x, self.y = x, Value(d, n)
        (self.w, self.gw), (self.b, self.gb) = p.get(name + "w"), p.get(name + "b")
        self.mean, self.ones = np.full(d, 1 / d, "float32"), np.ones(n, "float32")
        self.h, self.t, self.wd = empty(d, n), empty(d, n), empty(d)
        self.r, self.m, self.c = empty(n), empty(n), empty(n)

    def forward(self) -> None:
        h, t, r = self.h, self.t, self.r
        self.mean.dot(self.x.data, self.m)
        np.subtract(self.x.data, self.m, out=h)
        np.multiply(h, h, out=t)
        self.mean.dot(t, r)
        np.add(r, NORM_EPS, out=r)
        np.sqrt(r, out=r)
        np.reciprocal(r, out=r)
        np.multiply(h, r, out=h)
        np.multiply(h, self.w[:, None], out=self.y.data)
        np.add(self.y.data, self.b[:, None], out=self.y.data)

    def backward(self) -> None:
        g, h, t, gx = self.y.grad, self.h, self.t, self.x.grad
        np.multiply(g, h, out=t)
        t.dot(self.ones, self.gw)
        g.dot(self.ones, self.gb)
        np.multiply(self.w, self.mean, out=self.wd)
        self.wd.dot(t, self.m)
        self.wd.dot(g, self.c)
        np.multiply(h, self.m, out=t)
        np.multiply(g, self.w[:, None], out=gx)
        np.subtract(gx, t, out=gx)
        np.subtract(gx, self.c, out=gx)
        np.multiply(gx, self.r, out=gx)


class Attention:
    """softmax(k.T q / sqrt(D)) for each head: short sequences by einsum along the batch, long ones by products."""

    def __init__(self, qkv: Value, work: Workload) -> None:
        self.work, self.qkv = work, qkv
        h, t, n = work.heads, work.sequence, work.batch
        d = work.width // h
        self.y, self.scale, self.long = Value(work.width, n * t), d**-0.5, t > 8
        self.q, self.k, self.v = (self.heads(a) for a in np.split(qkv.data, 3))
        self.gq, self.gk, self.gv = (self.heads(a) for a in np.split(qkv.grad, 3))
        self.o, self.go = self.heads(self.y.data), self.heads(self.y.grad)
        shape = (n, h, t, t) if self.long else (h, t, t, n)
        self.p, self.gp = empty(*shape), empty(*shape)
        self.axis = -1 if self.long else -2  # of the keys
        self.m = empty(*np.max(self.p, axis=self.axis, keepdims=True).shape)
        self.mask = np.where(np.tri(t, dtype=bool), 0, -np.inf).astype("float32")
        self.c, self.g = empty(n, h, t, d), empty(n, h, t, d)

    def heads(self, a: Array) -> Array:
        """(width, samples) as (N, heads, T, D) of long sequences, or (heads, D, T, N): samples are ordered alike."""
        h, t, n = self.work.heads, self.work.sequence, self.work.batch
        return a.reshape(h, -1, n, t).transpose(2, 0, 3, 1) if self.long else a.reshape(h, -1, t, n)

    def softmax(self, p: Array, m: Array) -> None:
        np.multiply(p, self.scale, out=p)
        if self.work.causal:
            np.add(p, self.mask, out=p)
        np.max(p, axis=self.axis, keepdims=True, out=m)
        np.subtract(p, m, out=p)
        np.exp(p, out=p)
        np.sum(p, axis=self.axis, keepdims=True, out=m)
        np.divide(p, m, out=p)

    def forward(self) -> None:
        if self.long:
            np.matmul(self.q, self.k.swapaxes(2, 3), out=self.p)
            for p, m in zip(self.p, self.m):  # a sequence at a time stays in the cache
                self.softmax(p, m)
            np.matmul(self.p, self.v, out=self.c)
            np.copyto(self.o, self.c)
        else:
            np.einsum("hdin,hdjn->hijn", self.q, self.k, out=self.p)
            self.softmax(self.p, self.m)
            np.einsum("hijn,hdjn->hdin", self.p, self.v, out=self.o)

    def of_scores(self, p: Array, gp: Array, m: Array) -> None:
        np.multiply(p, gp, out=gp)
        np.sum(gp, axis=self.axis, keepdims=True, out=m)
        np.subtract(gp, p * m, out=gp)
        np.multiply(gp, self.scale, out=gp)

    def backward(self) -> None:
        if self.long:
            np.copyto(self.g, self.go)
            self.gv[...] = np.matmul(self.p.swapaxes(2, 3), self.g)
            np.matmul(self.g, self.v.swapaxes(2, 3), out=self.gp)
            for p, gp, m in zip(self.p, self.gp, self.m):
                self.of_scores(p, gp, m)
            self.gq[...] = np.matmul(self.gp, self.k)
            self.gk[...] = np.matmul(self.gp.swapaxes(2, 3), self.q)
        else:
            np.einsum("hijn,hdin->hdjn", self.p, self.go, out=self.gv)
            np.einsum("hdin,hdjn->hijn", self.go, self.v, out=self.gp)
            self.of_scores(self.p, self.gp, self.m)
            np.einsum("hijn,hdjn->hdin", self.gp, self.k, out=self.gq)
            np.einsum("hijn,hdin->hdjn", self.gp, self.q, out=self.gk)


class Embedding:
    """The vectors of tokens plus those of positions; the gradients are products with one-hot matrices."""

    def __init__(self, ids: Array, position: Array, p: Parameters) -> None:
        self.y = Value(len(p.named["token"]), ids.size)
        (self.token, self.gtoken), (self.position, self.gposition) = p.get("token"), p.get("position")
        self.ids, self.place = ids, position
        self.hot = np.eye(self.token.shape[1], dtype="float32")[ids]
        self.hot_place = np.eye(self.position.shape[1], dtype="float32")[position]
        self.t = empty(*self.y.data.shape)

    def forward(self) -> None:
        self.hot.fill(0)
        self.hot[np.arange(self.ids.size), self.ids] = 1
        np.matmul(self.token, self.hot.T, out=self.y.data)
        np.take(self.position, self.place, axis=1, out=self.t, mode="clip")
        np.add(self.y.data, self.t, out=self.y.data)

    def backward(self) -> None:
        np.matmul(self.y.grad, self.hot, out=self.gtoken)
        np.matmul(self.y.grad, self.hot_place, out=self.gposition)


class Conv:
    """3 x 3 convolution, 2 x 2 max pooling and ReLU, in this order: pooling and ReLU may change places.

    The columns are ordered by the place in a pooling window first: the four elements of windows are four blocks.
    """

    def __init__(self, x: Array, gx: Array | None, p: Parameters, name: str, padding: int) -> None:
        self.x, self.gx, (self.w, self.gw) = x, gx, p.get(name)
        (c, size, _, n), out = x.shape, len(self.w)
        places = size + 2 * padding - 2
        half = places // 2
        self.image = np.zeros((c, size + 2 * padding, size + 2 * padding, n), "float32")
        self.gimage = np.zeros_like(self.image)
        inner = slice(padding, padding + size)
        self.inside, self.ginside = self.image[:, inner, inner], self.gimage[:, inner, inner]
        under = sliding_window_view(self.image, (places, places), axis=(1, 2)).transpose(0, 1, 2, 4, 5, 3)
        self.under = self.by_window(under)  # (C, 3, 3, 2, 2, half, half, N)
        self.cols, self.gcols = np.ones((c * 9 + 1, places**2 * n), "float32"), empty(c * 9, places**2 * n)
        self.z, self.gz = empty(out, places**2 * n), empty(out, places**2 * n)
        self.four, self.gfour = (a.reshape(out, 4, half * half * n).swapaxes(0, 1) for a in (self.z, self.gz))
        self.y = Value(out * half * half, n)
        self.shape = (out, half, half, n)
        self.tops = empty(3, out, half * half * n)
        self.zero, self.mask = np.zeros_like(self.tops[0]), np.empty(self.tops[0].shape, bool)

    def by_window(self, a: Array) -> Array:
        """(..., H, W, N) with the place in a window of 2 x 2 in front: (..., 2, 2, H / 2, W / 2, N)."""
        *lead, h, w, n = a.shape
        return np.moveaxis(a.reshape(*lead, h // 2, 2, w // 2, 2, n), (-4, -2), (-5, -4))

    def forward(self) -> None:
        np.copyto(self.inside, self.x)
        np.copyto(self.cols[:-1].reshape(self.under.shape), self.under)
        np.matmul(self.w, self.cols, out=self.z)
        top = self.four[0]
        for part, larger in zip(self.four[1:], self.tops):
            top = np.maximum(top, part, out=larger)
        np.maximum(top, self.zero, out=self.y.data.reshape(top.shape))

    def backward(self) -> None:
        y, g = self.y.data.reshape(self.zero.shape), self.y.grad.reshape(self.zero.shape)
        np.greater(y, self.zero, out=self.mask)
        np.multiply(g, self.mask, out=g)
        for i in (3, 2, 1):
            np.greater(self.four[i], self.tops[i - 2] if i > 1 else self.four[0], out=self.mask)
            np.multiply(g, self.mask, out=self.gfour[i])
            np.subtract(g, self.gfour[i], out=g)
        np.copyto(self.gfour[0], g)
        np.matmul(self.gz, self.cols.T, out=self.gw)
        if self.gx is not None:
            np.matmul(self.w[:, :-1].T, self.gz, out=self.gcols)
            self.gimage.fill(0)
            gcols, places = self.gcols.reshape(self.under.shape), self.image.shape[1] - 2
            for i, j in np.ndindex(3, 3):
                under = self.by_window(self.gimage[:, i : i + places, j : j + places])
                np.add(under, gcols[:, i, j], out=under)
            np.copyto(self.gx, self.ginside)


class CrossEntropy:
    """The mean cross entropy of logits; the gradient takes the place of the logits."""

    def __init__(self, z: Value, y: Array) -> None:
        z.grad = z.data
        self.z, self.n = z.data, z.data.shape[1]
        self.flat = self.z.reshape(-1)
        self.index = y * self.n + np.arange(self.n)
        self.m, self.s, self.mean = empty(self.n), empty(self.n), np.full(self.n, 1 / self.n, "float32")

    def __call__(self) -> Any:
        z, m, s = self.z, self.m, self.s
        np.maximum.reduce(z, 0, None, m)
        np.subtract(z, m, out=z)
        self.flat.take(self.index, 0, m, "clip")
        np.exp(z, out=z)
        np.add.reduce(z, 0, None, s)
        np.multiply(z, self.mean[0] / s, out=z)
        self.flat[self.index] -= self.mean[0]
        np.log(s, out=s)
        np.subtract(s, m, out=s)
        return self.mean.dot(s)


class BinaryCrossEntropy:
    """The mean of max(z, 0) - z y + log(1 + exp(-|z|)); the gradient takes the place of the logits."""

    def __init__(self, z: Value, y: Array) -> None:
        z.grad = z.data
        self.z, self.y, self.n = z.data, y.T, y.size
        self.s, self.t, self.mean = np.empty_like(self.z), np.empty_like(self.z), np.full(self.n, 1 / self.n, "float32")

    def __call__(self) -> Any:
        z, s, t = self.z, self.s, self.t
        np.abs(z, out=s)
        np.negative(s, out=s)
        np.exp(s, out=s)
        np.log1p(s, out=s)
        np.maximum(z, 0, out=t)
        np.add(s, t, out=s)
        np.multiply(z, self.y, out=t)
        np.subtract(s, t, out=s)
        np.negative(z, out=z)
        np.exp(z, out=z)
        np.add(z, 1, out=z)
        np.reciprocal(z, out=z)
        np.subtract(z, self.y, out=z)
        np.multiply(z, 1 / self.n, out=z)
        return self.mean.dot(s[0])


def build(work: Workload, variant: str = "") -> Step:
    """The step (all layers forward, the loss, all layers backward, the update) and what goes back to its start."""
    if work.name.startswith("E"):
        raise NotImplementedError("not written by hand")
    p, (x, y) = Parameters(work.weights()), work.data()
    layers, source, logits, y = LAYERS[work.model](work, p, x, y)
    if not work.optimizer:

        def infer() -> Any:
            source()
            for layer in layers:
                layer.forward()
            return logits.data.T

        return infer, lambda: None
    loss, update = (BinaryCrossEntropy if work.binary else CrossEntropy)(logits, y), p.updater(work)

    def step() -> Any:
        source()
        for layer in layers:
            layer.forward()
        value = loss()
        for layer in reversed(layers):
            layer.backward()
        update()
        return value

    return step, p.reset


def mlp(work: Workload, p: Parameters, x: Array, y: Array) -> tuple[list[Any], Callable[[], None], Value, Array]:
    """The layers, what brings the input in, the logits, and the targets in order of the samples."""
    value = Value(x.shape[1], len(x))
    source = value.data
    layers: list[Any] = []
    for i in range(len(work.sizes) - 1):
        layers.append(Linear(value, p, f"{i}", first=i == 0))
        if i < len(work.sizes) - 2:
            layers.append((ReLU if work.activation == "relu" else Tanh)(layers[-1].y))
        value = layers[-1].y
    return layers, lambda: np.copyto(source, x.T), value, y


def cnn(work: Workload, p: Parameters, x: Array, y: Array) -> tuple[list[Any], Callable[[], None], Value, Array]:
    """Likewise."""
    layers: list[Any] = []
    image, grad = x[:, 0].transpose(1, 2, 0)[None], None  # (C, H, W, N)
    for i, (_, padding) in enumerate(work.convs):
        layers.append(Conv(image, grad, p, f"conv{i}", padding))
        image, grad = (a.reshape(layers[-1].shape) for a in (layers[-1].y.data, layers[-1].y.grad))
    layers.append(Linear(layers[-1].y, p, "head"))
    return layers, lambda: None, layers[-1].y, y


def transformer(
    work: Workload, p: Parameters, x: Array, y: Array
) -> tuple[list[Any], Callable[[], None], Value, Array]:
    """The parts of a transformer. Samples are ordered by sequence and position; of short sequences, by position."""
    long = work.sequence > 8
    position = np.broadcast_to(np.arange(work.sequence), x.shape)
    ids, places, y = (a.reshape(x.shape) if long else a.reshape(x.shape).T for a in (x, position, y))
    layers: list[Any] = [Embedding(ids.ravel(), places.ravel(), p)]

    def then(layer: Any) -> Value:
        layers.append(layer)
        return layer.y

    def attend(value: Value, i: int) -> Value:
        return then(Linear(then(Attention(then(Linear(value, p, f"{i}.qkv")), work)), p, f"{i}.out"))

    def feed(value: Value, i: int) -> Value:
        return then(Linear(then((GELU if work.causal else ReLU)(then(Linear(value, p, f"{i}.up")))), p, f"{i}.down"))

    value = layers[0].y
    for i in range(work.blocks):
        for part, name in ((attend, f"{i}.norm1."), (feed, f"{i}.norm2.")):
            fork = Fork(value)
            layers.append(fork)
            if work.causal:
                value = then(Add(fork.y, part(then(LayerNorm(fork.z, p, name)), i)))
            else:
                value = then(LayerNorm(then(Add(fork.y, part(fork.z, i))), p, name))
    if work.causal:
        value = then(LayerNorm(value, p, "norm."))
    return layers, lambda: None, then(Linear(value, p, "head")), y.ravel()


LAYERS = {"mlp": mlp, "cnn": cnn, "transformer": transformer}
