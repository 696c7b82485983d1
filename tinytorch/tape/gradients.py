"""The gradient that a walk back starts with, and the gradients that rules give: made to fit their input, or refused."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from tinytorch.backends import Device, device_of
from tinytorch.backends import device as find_device
from tinytorch.tape.checks import different_devices
from tinytorch.tape.observer import observers
from tinytorch.tape.parts import Parts
from tinytorch.tape.variable import Node, Rule, Variable, run_on, wrap


def once(function: Rule) -> Rule:
    """A step that several rules of one op have in common, computed once for each gradient that comes in.

    ```python
    ds = once(lambda g: ...)
    return out, lambda g: ds(g) @ k, lambda g: ds(g).mT @ q
    ```
    """
    known: list[Any] = [None, None]

    def call(g: Any) -> Any:
        if known[0] is not g:
            known[:] = g, function(g)
        return known[1]

    return call


def seeded(t: Any, gradient: Any, create: bool) -> Any:
    """The gradient that a walk from `t` starts with."""
    if gradient is None:
        if t.size != 1:
            raise RuntimeError(
                f"backward: the gradient of a tensor of shape {t.shape} must be given, as in "
                "y.backward(tinytorch.ones_like(y)); only a one-element tensor starts from 1"
            )
        one = run_on(t.device, t.device.xp.ones_like, t.array)
        return wrap(one, t.device) if create else one
    if not isinstance(gradient, Variable):
        raise TypeError(f"backward: the gradient is a Tensor, not {type(gradient).__name__}")
    if gradient.device is not t.device:
        raise ValueError(different_devices("backward", (t, gradient)))
    for what in ("shape", "dtype"):
        given, needed = getattr(gradient, what), getattr(t, what)
        if given != needed:
            raise ValueError(f"backward: the gradient has {what} {given}, the tensor {needed}; they must be the same")
    return gradient if create else gradient.array


def expected(node: Node, at: int, g: Any, taped: bool) -> Any:
    """The gradient g from a rule, as an array of the input's device (or a tensor, if `taped`).

    Raises:
        TypeError: g is no array, or an array of another library.
        ValueError: g is on another device.
    """
    device: Device = node.inputs[at].device
    if type(g) is Parts:
        return g.whole(device) if observers else g  # observers look at arrays
    if isinstance(g, np.generic) and device.library == "numpy":  # a result of no axes: `wrap` makes an array of it
        return g
    if isinstance(g, device.array_type) and not taped:
        found: Any = find_device(device.of(g))
    elif isinstance(g, Variable) and taped:
        found = g.device
    elif isinstance(g, Variable) or not hasattr(g, "shape") or not hasattr(g, "dtype"):
        what = "a Tensor" if isinstance(g, Variable) else repr(g) if g is None else f"a {type(g).__name__}"
        raise TypeError(
            f"{_rule(node, at)} gave {what} instead of an array; where there is no gradient, the body returns None in "
            "place of the rule"
        )
    else:
        found = device if device.asarray(g) is g else device_of(g)
    if found is not device and (found.library != device.library or type(found) is type(device)):
        raise ValueError(
            f"{_rule(node, at)} gave an array on {found} for an input on {device}; make arrays with device=dev.native"
        )
    return g if taped or type(g) is device.array_type else device.asarray(g)


def unbroadcast(dev: Any, node: Node, at: int, g: Any, shape: tuple[int, ...]) -> Any:
    """The gradient of an array of the shape, from the gradient g of the array broadcast to a larger shape.

    Raises:
        ValueError: an array of the shape does not broadcast to the shape of g.
    """
    extra = g.ndim - len(shape)
    if extra < 0 or any(n not in (1, m) for n, m in zip(shape, g.shape[extra:])):
        raise ValueError(
            f"{_rule(node, at)} gave a gradient of shape {tuple(g.shape)} for an input of shape {tuple(shape)}; a "
            "gradient has the shape of the input, or of the array that the input was broadcast to"
        )
    axes = (*range(extra), *(i + extra for i, n in enumerate(shape) if n == 1 and g.shape[i + extra] != 1))
    return dev.xp.reshape(dev.xp.sum(g, axis=axes), shape)


def cast(dev: Any, node: Node, at: int, g: Any, dtype: Any) -> Any:
    """The gradient g in the dtype of the input. Raises TypeError if g is not floating."""
    found = dev.dtype_of(g)
    if found.kind != "f":
        raise TypeError(
            f"{_rule(node, at)} gave a gradient of dtype {found.name}, which is not floating; where a rule "
            "selects, write xp.where(condition, g, 0.0)"
        )
    return dev.xp.astype(g, dtype)


def _rule(node: Node, at: int) -> str:
    """The name of a node's rule in an error message."""
    source = node.inputs[at]
    parameters = list(inspect.signature(node.op).parameters.values())
    first = parameters[0]
    name = f"{first.name}[{at}]" if first.kind is inspect.Parameter.VAR_POSITIONAL else parameters[at].name
    label = f" {source.name!r}" if getattr(source, "name", "") else ""
    return f"{node.op.name}: the gradient rule of {name}{label}"
