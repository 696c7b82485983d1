"""What all optimizers share: parameter groups, and stepping all parameters of a group as one flat array.

A rule such as Adam's is a dozen elementwise operations. For twenty small parameters that would be hundreds of calls; on
one flat array of all of them it is a dozen. So the parameters of a group that are stepped together are joined, the rule
runs once, and each parameter gets its part of the result. A rule makes new arrays of those it is given, and changes
none, by functions that go through `Device.fused`.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from tinytorch.autograd import assign_all, describe, run_on
from tinytorch.backends import Array, Device
from tinytorch.creation import zeros_like
from tinytorch.tensor import Tensor

State = dict[str, Array]

_LARGE = 131_072  # numbers of a parameter that is a flat array for itself: joining takes longer than it saves


class _Flat:
    """Parameters stepped together: of one device and dtype, stepped equally often."""

    def __init__(self, parameters: list[Tensor], steps: int, states: list[State]) -> None:
        self.device = parameters[0].device
        self.parameters, self.steps = parameters, steps
        self.shapes = [p.shape for p in parameters]
        self.ends = list(itertools.accumulate(math.prod(s) for s in self.shapes))
        self.parts = [p.array for p in parameters]  # what each parameter holds while nobody else sets it
        self.values = self.join(self.parts)
        self.state = {name: self.join([s[name] for s in states]) for name in states[0]}

    def join(self, arrays: Sequence[Array]) -> Array:
        xp = self.device.xp
        return xp.concat(arrays, axis=None) if len(arrays) > 1 else xp.reshape(arrays[0], (-1,))

    def gradients(self) -> list[Array] | None:
        """The gradient of each parameter; None unless all have one that fits, and nobody else has set a parameter."""
        arrays, device = [], self.device
        for p, part, shape in zip(self.parameters, self.parts, self.shapes):
            g = p.grad
            if not isinstance(g, Tensor) or p.array is not part or g.device is not device:
                return None
            array = g.array
            if array.shape != shape or array.dtype != part.dtype:
                return None
            arrays.append(array)
        return arrays

    def split(self, flat: Array) -> list[Array]:
        xp, starts = self.device.xp, [0, *self.ends]
        return [xp.reshape(flat[i:j], s) for i, j, s in zip(starts, self.ends, self.shapes, strict=False)]


def decayed(dev: Device, grad: Array, values: Array, *, decay: float) -> Array:
    """The gradient with that of a weight decay; goes through `Device.fused`."""
    return grad + values * decay


def _same(ready: list[Tensor], arranged: list[Tensor]) -> bool:
    """Whether these are the same tensors."""
    return len(ready) == len(arranged) and all(map(operator.is_, ready, arranged))


class Optimizer:
    """Base of all optimizers: a subclass gives the defaults of a group, defines `update`, and names what that keeps.

    Attributes:
        kept: the names in the state of a parameter once it was stepped; a rule may also keep nothing.

    Args:
        params: parameters, or dicts with the entry "params" and settings of their own.
        defaults: the settings of a group that does not say otherwise.

    Raises:
        ValueError: there are no parameters, one comes twice, or a setting is out of range.
        TypeError: something is not a Tensor.
    """

    kept: ClassVar[tuple[str, ...]] = ()

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        name = type(self).__name__
        if isinstance(params, Tensor | Mapping | str) or not isinstance(params, Iterable):
            raise TypeError(
                f"{name}: takes an iterable of parameters, as model.parameters(), not {type(params).__name__}"
            )
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self._flats: list[list[_Flat]] = []
        self._arranged: list[list[Tensor]] = []  # for each group the parameters in its flat arrays
        self._resting: dict[Tensor, tuple[Device, int, State]] = {}  # state of parameters that are in no flat array
        groups = list(params)
        if not groups:
            raise ValueError(f"{name}: there are no parameters; was the model built before the optimizer?")
        for group in groups if isinstance(groups[0], Mapping) else [{"params": groups}]:
            self.add_param_group(group)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; one with the name of a setting would have no effect, and is refused."""
        self._refuse_setting(name)
        object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        self._refuse_setting(name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _refuse_setting(self, name: str) -> None:
        setting = "lr" if name == "learning_rate" else name
        if setting in vars(self).get("defaults", ()) and name not in vars(self) and not hasattr(type(self), name):
            raise AttributeError(
                f"{type(self).__name__}.{name}: settings are those of a group of parameters, so write "
                f'optimizer.param_groups[0]["{setting}"], or for all of them: for group in optimizer.param_groups: '
                f'group["{setting}"] = ...'
            )

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Add parameters with settings of their own: {"params": [...], "lr": 0.1}."""
        name = type(self).__name__
        if "params" not in group:
            raise ValueError(f"{name}: a group has its parameters in the entry 'params', not {list(group)}")
        given = group["params"]
        parameters = [given] if isinstance(given, Tensor) else list(given)
        known = {id(p) for g in self.param_groups for p in g["params"]}
        if not parameters:
            raise ValueError(f"{name}: a group without parameters")
        for p in parameters:
            if not isinstance(p, Tensor):
                raise TypeError(f"{name}: takes Tensors, as from model.parameters(), not {type(p).__name__}")
            if not p.is_leaf:
                raise ValueError(f"{name}: a parameter is a leaf, not the result of an op; optimize what it is made of")
            if id(p) in known:
                raise ValueError(f"{name}: a parameter comes twice: {getattr(p, 'name', '') or p.shape}")
            known.add(id(p))
        unknown = group.keys() - self.defaults.keys() - {"params"}
        if unknown:
            raise ValueError(f"{name}: unknown settings {sorted(unknown)}; there are {sorted(self.defaults)}")
        new = {**self.defaults, **group, "params": parameters}
        self.check(new)
        self.param_groups.append(new)
        self._flats.append([])
        self._arranged.append([])

    def check(self, group: Mapping[str, Any]) -> None:
        """Raise ValueError if a setting of the group is out of range."""
        for name in ("lr", "weight_decay"):
            if isinstance(group[name], Tensor):
                raise TypeError(f"{type(self).__name__}: {name} is a number, not a Tensor; use .item()")
            if not group[name] >= 0:
                raise ValueError(f"{type(self).__name__}: {name} is not negative: {group[name]}")

    def update(
        self, dev: Device, values: Array, grad: Array, state: State, steps: int, group: Mapping[str, Any]
    ) -> tuple[Array, State]:
        """New values and state, from the old ones and the gradient. None of these is written into.

        The arrays are of all parameters one after another, of one dimension: a rule is elementwise.

        Args:
            state: empty at first.
            steps: how many there have been, this one included.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no update")

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or make them zero."""
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None if set_to_none or p.grad is None else zeros_like(p.grad)

    def step(self) -> None:
        """Change every parameter that has a gradient.

        Raises:
            ValueError: a gradient has another shape, dtype or device than its parameter. Then no parameter has changed.
        """
        ready = [[p for p in group["params"] if p.grad is not None] for group in self.param_groups]
        gradients = self._gradients()
        if gradients is None or not all(map(_same, ready, self._arranged)):
            for parameters in ready:
                self._check_gradients(parameters)
            for index in range(len(ready)):
                self._rest(index)
            for index, parameters in enumerate(ready):
                self._arrange(index, parameters)
            gradients = self._gradients() or []
        remaining = iter(gradients)
        for settings, flats in zip(self.param_groups, self._flats, strict=True):
            group = {k: v.item() if isinstance(v, np.generic) else v for k, v in settings.items()}
            for flat in flats:
                run_on(flat.device, self._advance, flat, next(remaining), group)

    def _advance(self, flat: _Flat, gradients: list[Array], group: Mapping[str, Any]) -> None:
        dev = flat.device
        values, state = self.update(dev, flat.values, flat.join(gradients), flat.state, flat.steps + 1, group)
        if dev.large and values.nbytes >= dev.large:
            for array in (values, *state.values()):
                dev.hold(array)
        flat.steps, flat.state, flat.values, flat.parts = flat.steps + 1, state, values, flat.split(values)
        assign_all(flat.parameters, flat.parts)

    def _gradients(self) -> list[list[Array]] | None:
        """The gradients for each flat array; None if these have to be arranged anew."""
        found = []
        for flats in self._flats:
            for flat in flats:
                gradients = flat.gradients()
                if gradients is None:
                    return None
                found.append(gradients)
        return found

    def _check_gradients(self, parameters: Iterable[Tensor]) -> None:
        for p in parameters:
            g = p.grad
            if not (
                isinstance(g, Tensor)
                and g.device is p.device
                and g.array.shape == p.array.shape
                and g.array.dtype == p.array.dtype
            ):
                raise ValueError(
                    f"{type(self).__name__}: the gradient of {describe(p)} must be a tensor of the same dtype and "
                    f"shape, on the same device, not {describe(g) if isinstance(g, Tensor) else type(g).__name__}"
                    + ("; p.grad = p.grad.to(p) makes it so" if getattr(g, "shape", None) == p.shape else "")
                )

    def _arrange(self, index: int, ready: list[Tensor]) -> None:
        self._arranged[index] = ready
        together: dict[Any, list[Tensor]] = {}
        for p in ready:
            _, steps, state = self._resting.get(p, (p.device, 0, {}))
            alone = id(p) if math.prod(p.shape) >= _LARGE else None
            together.setdefault((p.device, p.dtype, steps, tuple(state), alone), []).append(p)
        for (dev, dtype, steps, *_), parameters in together.items():

            def flat(
                dev: Device = dev, dtype: Any = dtype, steps: int = steps, parameters: list[Tensor] = parameters
            ) -> _Flat:
                states = []
                for p in parameters:
                    home, _, state = self._resting.pop(p, (dev, 0, {}))
                    moved = {k: Device.transfer(a, home, dev) for k, a in state.items()}
                    states.append({k: dev.xp.astype(a, dev.dtype(dtype), copy=False) for k, a in moved.items()})
                return _Flat(parameters, steps, states)

            self._flats[index].append(run_on(dev, flat))

    def _rest(self, index: int) -> None:
        """Take the flat arrays of a group apart: each parameter's state for itself."""
        for f in self._flats[index]:
            parts = {name: run_on(f.device, f.split, a) for name, a in f.state.items()}
            for i, p in enumerate(f.parameters):
                self._resting[p] = (f.device, f.steps, {name: part[i] for name, part in parts.items()})
        self._flats[index], self._arranged[index] = [], []

    # Saving and loading -------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The settings of the groups and the state of each parameter, in PyTorch's form, as copies on the host."""
        parameters = [p for group in self.param_groups for p in group["params"]]
        for index in range(len(self._flats)):
            self._rest(index)
        state = {}
        for i, p in enumerate(parameters):
            if p in self._resting:
                home, steps, arrays = self._resting[p]
                state[i] = {"step": steps, **{name: home.to_numpy(a) for name, a in arrays.items()}}
        number = {id(p): i for i, p in enumerate(parameters)}
        groups = [{**group, "params": [number[id(p)] for p in group["params"]]} for group in self.param_groups]
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over settings and state of a `state_dict`, of an optimizer of as many parameters.

        Raises:
            KeyError: it is no such state.
            ValueError: the groups, shapes or names do not fit. In either case the optimizer is as it was.
        """
        name = type(self).__name__
        if not {"param_groups", "state"} <= state_dict.keys():
            raise KeyError(f"{name}: a state has the entries 'param_groups' and 'state', not {list(state_dict)}")
        groups, state = state_dict["param_groups"], state_dict["state"]
        sizes = [len(g["params"]) for g in groups]
        if sizes != [len(g["params"]) for g in self.param_groups]:
            raise ValueError(
                f"{name}: the state is of groups of {sizes} parameters, "
                f"not {[len(g['params']) for g in self.param_groups]}"
            )
        parameters = [p for group in self.param_groups for p in group["params"]]
        order = [i for g in groups for i in g["params"]]
        resting: dict[Tensor, tuple[Device, int, State]] = {}
        for i, p in zip(order, parameters, strict=True):
            if i not in state:
                continue
            given = {key: value for key, value in state[i].items() if key != "step" and value is not None}
            if given and given.keys() != set(self.kept):
                raise ValueError(
                    f"{name}: the state of parameter {i} is {sorted(given)}, but {name} keeps {sorted(self.kept)}"
                )
            arrays = {}
            for key, value in given.items():
                array = value.detach().numpy() if hasattr(value, "detach") else np.asarray(value)
                if array.shape != p.shape:
                    raise ValueError(f"{name}: {key} of parameter {i} is {array.shape}, the parameter {p.shape}")
                arrays[key] = Tensor(array, p.dtype, p.device).array
            resting[p] = (p.device, int(state[i].get("step", 1)), arrays)
        settings = [
            {**mine, **{k: theirs[k] for k in self.defaults if k in theirs}}
            for mine, theirs in zip(self.param_groups, groups, strict=True)
        ]
        for group in settings:
            self.check(group)
        for mine, new in zip(self.param_groups, settings, strict=True):
            mine.update(new)
        self._flats, self._arranged = [[] for _ in self.param_groups], [[] for _ in self.param_groups]
        self._resting = resting

    def __repr__(self) -> str:
        groups = [", ".join(f"{k}={v}" for k, v in g.items() if k != "params") for g in self.param_groups]
        return f"{type(self).__name__}({'; '.join(groups)})"
