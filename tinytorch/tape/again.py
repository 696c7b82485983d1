"""Gradients of gradients: an op's body is run again, on tensors, so that the rules are made of ops and are recorded.

A device is an interpreter of bodies, and `Taped` is the one whose arrays are tensors.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tinytorch.backends import Device
from tinytorch.dtypes import NUMBERS
from tinytorch.tape.checks import describe
from tinytorch.tape.graph import FREED, reachable
from tinytorch.tape.mixing import fitting_of
from tinytorch.tape.variable import Node, Place, Rule, Variable, run_on, wrap

_OPS = ("add_parts", "erf", "put", "scatter_add", "transfer")


class Taped(Device):
    """A device whose arrays are tensors: what an op's body is given when its rules are to be recorded.

    The namespace of the device is tinytorch. A method that is also an op is that op. The other extension points are the
    defaults, which use standard names, and so ops.
    """

    library = "tinytorch"
    name = "tape"
    array_type = Variable

    def __init__(self, device: Device, xp: Any) -> None:
        self.native = device
        self.xp = xp
        self.default_int = device.default_int
        vars(self).update({name: getattr(xp.ops, name) for name in _OPS})

    def dtype(self, dtype: Any) -> np.dtype[Any]:
        """The dtype: tensors have NumPy's."""
        return np.dtype(dtype)


def replayed(starts: Iterable[Place]) -> dict[Node, Any]:
    """The tensor of each node, computed again from the leaves: a graph does not keep tensors."""
    values: dict[Node, Any] = {}
    for node in reachable(starts):
        if node.rules is None:
            raise RuntimeError(FREED)
        device, arrays = node.device, []
        for source in node.inputs:
            if isinstance(source, Variable):
                if getattr(source, "changed", 0) < node.order:
                    raise RuntimeError(
                        f"backward: {describe(source)} was changed after {node.op.name} used it, by an optimizer "
                        "step or an assignment; take gradients with create_graph=True before changing it"
                    )
                device = source.device
                arrays.append(source.array)
            elif type(source) is Node:
                device = source.device
                arrays.append(values[source].array)
            else:
                arrays.append(source)
        made_by: Any = node.op
        fit = fitting_of(device, arrays, made_by.free, made_by.beyond)
        arrays = arrays if fit is None else run_on(device, fit, device, arrays)
        body = node.op.body if not node.meta else functools.partial(node.op.body, **node.meta)
        out = run_on(device, body, device, *arrays)[0]
        values[node] = wrap(out, node.device, node)
    return values


def taped_rules(node: Node, values: dict[Node, Any]) -> tuple[Taped, tuple[Rule | None, ...]]:
    """The rules of a node, made of ops, from the op's body run on tensors."""
    given = [values[s] if type(s) is Node else s for s in node.inputs]
    device = next(x.device for x in given if isinstance(x, Variable))
    plain = (Variable, *NUMBERS, type(None))
    tensors = [x if isinstance(x, plain) else wrap(x, device) for x in given]
    xp = next(iter(values.values())).__array_namespace__()
    dev, op = Taped(device, xp), node.op
    rules = op.body(dev, *tensors, **node.meta)[1:]
    if op.kinked:
        free = op.free
        on = [x for i, x in enumerate(tensors) if i not in free and isinstance(x, Variable)]
        rules = tuple([rule and functools.partial(_kinked, xp, rule, on) for rule in rules])
    return dev, rules


def _kinked(xp: Any, rule: Rule, inputs: Sequence[Any], g: Any) -> Any:
    """The gradient that the rule makes of g, as a function of the op's inputs, too."""
    return xp.ops.flat_in(rule(g), *inputs)
