"""The gradient of slicing, kept as a part and a place until the whole is needed."""

from __future__ import annotations

import math
from typing import Any

from tinytorch.backends import Device
from tinytorch.tape.variable import Variable, run_on


class Parts:
    """The gradient that the rule of slicing gives, for the whole array: `part` at `key`, and zero elsewhere.

    The engine collects the parts of one array, and makes one array of all parts (`Device.add_parts`) when the array is
    needed. With an array of zeros for each slice, a loop over the rows of x would take as many times the size of x.

    Args:
        part: an array, or a tensor, with as many axes as the whole.
        key: a slice for each axis, from the first element to behind the last, with a positive step.
        shape: of the whole.
    """

    __slots__ = ("dtype", "keys", "parts", "shape", "size")

    def __init__(self, part: Any, key: tuple[slice, ...], shape: tuple[int, ...]) -> None:
        self.parts, self.keys, self.shape = [part], [key], shape
        self.dtype = part.dtype
        self.size = math.prod(part.shape)

    def whole(self, device: Device) -> Any:
        """The gradient as an array of the device, or as a tensor."""
        first = self.parts[0]
        if isinstance(first, Variable.result):
            return first.__array_namespace__().ops.add_parts(self.parts, self.keys, self.shape)
        out = run_on(device, device.add_parts, self.parts, self.keys, self.shape)
        if device.large and out.nbytes >= device.large:
            device.hold(out)
        return out


def collected(g: Any, other: Any, device: Device) -> Any:
    """The sum of two gradients of one array, at least one of them in parts; in parts while these are small."""
    if type(g) is not Parts:
        g, other = other, g
    if type(other) is not Parts:
        other = Parts(other, tuple(slice(0, n, 1) for n in g.shape), g.shape)
    g.parts += other.parts
    g.keys += other.keys
    g.size += other.size
    return g.whole(device) if g.size > 2 * math.prod(g.shape) + 64 else g
