"""Controls: break the part that learns, and the gate about this part must fail. A gate that passes proves nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinytorch.creation import zeros_like
from tinytorch.nn import Identity, Module, ModuleList, MultiHeadAttention, PositionalEncoding
from tinytorch.tensor import Tensor
from tinytorch.words import constructor, expecting


@constructor(expecting)
@dataclass(frozen=True)
class Control:
    """A way to break a run, and the gate that must notice.

    Args:
        name: what is broken, as in "with `0` frozen".
        fails: the name of the gate that must fail.
        model: a function that changes the model, before the first update.
        batch: a function of a batch and a NumPy random generator that gives a changed batch.
        gradients: a function that changes the gradients of the model, after each `backward`.

    Raises:
        ValueError: no function is given, so that nothing would change.
    """

    name: str
    fails: str
    model: Callable[[Module], Any] | None = field(default=None, repr=False)
    batch: Callable[[Any, np.random.Generator], Any] | None = field(default=None, repr=False)
    gradients: Callable[[Module], Any] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.model is None and self.batch is None and self.gradients is None:
            raise ValueError(
                f"Control: {self.name!r} changes nothing; give it a function: model=, batch= or gradients="
            )


Which = str | type[Module]  # a module by its path, or all modules of a class


def _found(model: Module, which: Which) -> list[tuple[str, Any]]:
    """The modules that are meant, each with all paths that lead to it."""
    modules = list(model.named_modules(remove_duplicate=False))
    meant = {id(m) for path, m in modules if (path == which if isinstance(which, str) else isinstance(m, which))}
    if not meant:
        raise ValueError(
            f"control: the model has no {which!r}; there are {', '.join(repr(p) for p, _ in modules if p)}"
        )
    return [(path, m) for path, m in modules if id(m) in meant]


def _replace(model: Module, path: str, new: Module) -> None:
    """Put a module in the place of another module."""
    lead, _, name = path.rpartition(".")
    if not path:
        raise ValueError("control: a layer of the model can be removed, not the whole model")
    parent = dict(model.named_modules(remove_duplicate=False))[lead]
    if isinstance(parent, ModuleList) and name.isdigit():
        parent[int(name)] = new
    else:
        setattr(parent, name, new)


def _named(which: tuple[Which, ...]) -> str:
    return ", ".join(f"`{w}`" if isinstance(w, str) else w.__name__ for w in which)


@expecting
def freeze(*layers: Which, fails: str = "movement") -> Control:
    """Layers that do not learn.

    >>> from tinytorch.verify.controls import freeze
    >>> freeze("0", "2").name
    'with `0`, `2` frozen'
    """

    def change(model: Module) -> None:
        for layer in layers:
            parameters = [p for _, module in _found(model, layer) for p in module.parameters()]
            if not parameters:
                raise ValueError(f"control: {layer!r} has no parameters, so that freezing it changes nothing")
            for p in parameters:
                p.requires_grad = False

    return Control(f"with {_named(layers)} frozen", fails, model=change)


@expecting
def remove(*layers: Which, fails: str = "metric") -> Control:
    """Layers that return their input: for non-linearities, and other layers that keep the shape.

    >>> from tinytorch.verify.controls import remove
    >>> remove(tinytorch.Tanh).name
    'without Tanh'
    """

    def change(model: Module) -> None:
        for layer in layers:
            for path, _ in reversed(_found(model, layer)):  # inner modules first
                _replace(model, path, Identity())

    return Control(f"without {_named(layers)}", fails, model=change)


@expecting
def no_positions(fails: str = "metric") -> Control:
    """A sequence without order: every PositionalEncoding is removed."""
    return remove(PositionalEncoding, fails=fails)


class _Silent(Module):
    """Zeros in the place of a module's result."""

    def __init__(self, module: Module) -> None:
        self.module = module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return zeros_like(self.module(*args, **kwargs))


@expecting
def uniform_attention(fails: str = "metric") -> Control:
    """Attention with equal weights for all positions: the queries of every MultiHeadAttention are zero."""

    def change(model: Module) -> None:
        for attention in dict.fromkeys(attention for _, attention in _found(model, MultiHeadAttention)):
            attention.q_proj = _Silent(attention.q_proj)

    return Control("with uniform attention", fails, model=change)


@expecting
def shuffle_labels(fails: str = "metric") -> Control:
    """The last entry of each batch in random order, so that nothing learned holds for other examples."""

    def change(batch: Any, rng: np.random.Generator) -> Any:
        *inputs, labels = batch
        if not isinstance(labels, Tensor) or not labels.ndim:
            raise TypeError("shuffle_labels: the last entry of a batch is a Tensor of labels")
        return *inputs, labels[rng.permutation(len(labels)).tolist()]

    return Control("with shuffled labels", fails, batch=change)


@expecting
def scale_gradient(layer: Which = "", factor: float = 0.0, fails: str = "movement") -> Control:
    """The gradient of a layer, or of the whole model, times a factor.

    >>> from tinytorch.verify.controls import scale_gradient
    >>> scale_gradient("0", 0.1).name
    'with the gradient of `0` x 0.1'
    """

    def change(model: Module) -> None:
        for p in dict.fromkeys(p for _, module in _found(model, layer) for p in module.parameters()):
            if p.grad is not None:
                p.grad = p.grad.detach() * factor

    return Control(
        f"with the gradient of {_named((layer,)) if layer else 'the model'} x {factor:g}", fails, gradients=change
    )
