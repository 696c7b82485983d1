"""The parameters of an optimizer as flat arrays.

A rule such as Adam's is a dozen elementwise operations. For twenty small parameters that would be hundreds of calls. On
one flat array of all parameters the rule is a dozen calls. So the parameters of a group that are stepped together are
joined, the rule runs once, and each parameter gets its part of the result.

The states of a parameter, and the ways from state to state:

| state    | its moments and steps are       | becomes                                                              |
| -------- | ------------------------------- | -------------------------------------------------------------------- |
| new      | not there                       | arranged, by a step for which it has a gradient                      |
| arranged | its part of a flat array        | stale, if its gradient is missing or misfits, or it is set or moved  |
| stale    | still that part                 | arranged or resting, by the next step, which arranges all anew       |
| resting  | its own, where they were        | arranged, by a step for which it has a gradient                      |

Loading a state makes all parameters resting, or new. Everything here changes by replacement only: a `Flat` gets another
`Now`, together with its parameters' arrays (`set_all`), and an optimizer gets another `Flats`.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinytorch.backends import Array, Device
from tinytorch.tape.variable import assign_all, run_on
from tinytorch.tensor import Tensor

State = dict[str, Array]
Rest = tuple[Device, int, State]  # of one parameter: the device of its state, the steps so far, and the state

_LARGE = 131_072  # from so many numbers on a parameter is a flat array by itself: joining would cost more than it saves


class Now(NamedTuple):
    """The part of a `Flat` that a step replaces."""

    values: Array  # of all parameters, one after another
    state: State
    steps: int
    parts: list[Array]  # the values of each parameter, and its array until somebody else sets it


def joined(dev: Device, arrays: Sequence[Array]) -> Array:
    """The numbers of arrays, one after another."""
    return dev.xp.concat(arrays, axis=None) if len(arrays) > 1 else dev.xp.reshape(arrays[0], (-1,))


def divided(dev: Device, flat: Array, places: Sequence[tuple[int, int, tuple[int, ...]]]) -> list[Array]:
    """What lies at the places (start, end, shape) of a flat array."""
    reshape = dev.xp.reshape
    return [reshape(flat[i:j], shape) for i, j, shape in places]


def numbers_of(optimizer: Any, steps: int, settings: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a step, with NumPy's scalars among the settings as Python numbers."""
    for v in settings.values():
        if isinstance(v, np.generic):
            settings = {k: v.item() if isinstance(v, np.generic) else v for k, v in settings.items()}
            break
    found: dict[str, float] = optimizer.numbers(steps, settings)
    return found


class Numbers(dict[str, float]):
    """What a rule computes with in one step: numbers of the host, which differ from step to step."""

    def __init__(self, optimizer: Any, flat: Flat, steps: int, settings: Mapping[str, Any]) -> None:
        self.optimizer, self.flat, self.steps, self.settings = optimizer, flat, steps, settings
        super().__init__(numbers_of(optimizer, steps, settings))


class Flat:
    """Parameters that are stepped together: of one device, one dtype, and one number of steps."""

    __slots__ = ("device", "now", "parameters", "places")

    now: Now  # replaced, never changed

    def __init__(self, parameters: list[Tensor], steps: int, states: list[State]) -> None:
        self.device, self.parameters = parameters[0].device, parameters
        shapes = [p.shape for p in parameters]
        ends = list(itertools.accumulate(map(math.prod, shapes)))
        self.places = list(zip([0, *ends], ends, shapes, strict=False))  # start, end and shape of each
        parts = [p.array for p in parameters]
        state = {name: joined(self.device, [s[name] for s in states]) for name in states[0]}
        self.now = Now(joined(self.device, parts), state, steps, parts)

    def gradients(self) -> list[Array] | None:
        """The gradient of each parameter; None if a gradient is missing or misfits, or a parameter was reassigned."""
        arrays, device = [], self.device
        for p, part, place in zip(self.parameters, self.now.parts, self.places):
            g = p.grad
            if not isinstance(g, Tensor) or p.array is not part or g.device is not device:
                return None
            array = g.array
            if array.shape != place[2] or array.dtype != part.dtype:
                return None
            arrays.append(array)
        return arrays


def set_all(flats: list[Flat], states: list[Now]) -> None:
    """Replace the state of every `Flat` and the array of every parameter, all at once."""
    pairs = [(flat.parameters, now.parts) for flat, now in zip(flats, states)]
    assign_all(pairs, *[(flat, "now", now) for flat, now in zip(flats, states)])


def _flat_of(parameters: list[Tensor], dev: Device, dtype: Any, steps: int, states: list[Rest]) -> Flat:
    """The parameters as one flat array, with their states moved to the device and the dtype."""
    moved = [{k: Device.transfer(a, home, dev) for k, a in state.items()} for home, _, state in states]
    xp, kind = dev.xp, dev.dtype(dtype)
    return Flat(parameters, steps, [{k: xp.astype(a, kind, copy=False) for k, a in state.items()} for state in moved])


def _identical(some: list[Tensor], others: list[Tensor]) -> bool:
    """Whether two lists hold identical tensors."""
    return len(some) == len(others) and all(map(operator.is_, some, others))


def ready(group: Mapping[str, Any]) -> list[Tensor]:
    """The parameters of a group that have a gradient."""
    return [p for p in group["params"] if p.grad is not None]


class Flats(NamedTuple):
    """The flat arrays of all groups of an optimizer, and the state of parameters that are in no flat array."""

    groups: list[list[Flat]]
    parameters: list[list[Tensor]]  # the parameters in the flat arrays of each group
    resting: dict[Tensor, Rest]

    def with_group(self) -> Flats:
        """With one more group, whose parameters are new."""
        return Flats([*self.groups, []], [*self.parameters, []], self.resting)

    def gradients(self) -> list[list[Array]] | None:
        """The gradients for each flat array; None if any parameter is stale."""
        found = []
        for flats in self.groups:
            for flat in flats:
                gradients = flat.gradients()
                if gradients is None:
                    return None
                found.append(gradients)
        return found

    def are_of(self, groups: Sequence[Mapping[str, Any]]) -> bool:
        """Whether the arranged parameters are those with a gradient. If all have one, as mostly, no list is made."""
        return all(
            _identical(group["params"], arranged) or _identical(ready(group), arranged)
            for group, arranged in zip(groups, self.parameters, strict=True)
        )

    def arranged(self, parameters: list[list[Tensor]]) -> Flats:
        """Flat arrays of the given parameters of each group. The state of every parameter stays the same."""
        resting = self.states()
        groups: list[list[Flat]] = []
        for some in parameters:
            together: dict[Any, list[Tensor]] = {}
            for p in some:
                _, steps, state = resting.get(p, (p.device, 0, {}))
                alone = id(p) if math.prod(p.shape) >= _LARGE else None
                together.setdefault((p.device, p.dtype, steps, tuple(state), alone), []).append(p)
            groups.append([])
            for (dev, dtype, steps, *_), joined in together.items():
                states = [resting.pop(p, (dev, 0, {})) for p in joined]
                groups[-1].append(run_on(dev, _flat_of, joined, dev, dtype, steps, states))
        return Flats(groups, parameters, resting)

    def states(self) -> dict[Tensor, Rest]:
        """The device, the number of steps and the state of each parameter."""
        found = dict(self.resting)
        for f in itertools.chain(*self.groups):
            _, state, steps, _ = f.now
            if steps == 0 and not state:  # arranged, and never stepped
                continue
            parts = {name: run_on(f.device, divided, f.device, a, f.places) for name, a in state.items()}
            for i, p in enumerate(f.parameters):
                found[p] = f.device, steps, {name: part[i] for name, part in parts.items()}
        return found
