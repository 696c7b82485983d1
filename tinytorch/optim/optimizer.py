"""The base of optimizers: parameter groups, steps that are all or nothing, and saved states.

A rule is two functions. `numbers` makes Python numbers, on the host, of the settings and the number of steps. `update`
makes new arrays of the arrays and numbers that are given, by functions that go through `Device.fused`, and changes no
array. `update` runs once for all parameters of a group, which are one flat array: see `flat.py`.

A step is all or nothing: everything is computed first, and then all new arrays replace the old arrays at once. So an
error or an interrupt leaves parameters, states and counts as they were, and another thread that uses the model
meanwhile sees the old weights, then the new weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from tinytorch.backends import Array, Device
from tinytorch.creation import zeros_like
from tinytorch.dtypes import number
from tinytorch.optim.flat import Flat, Flats, Now, Numbers, Rest, State, divided, joined, ready, set_all
from tinytorch.spelled import missing
from tinytorch.tape.checks import describe
from tinytorch.tape.variable import run_on
from tinytorch.tensor import Tensor, host_values
from tinytorch.words import bound, flags, shown, worded


def decayed(dev: Device, grad: Array, values: Array, *, decay: float) -> Array:
    """The gradient plus the gradient of a weight decay; goes through `Device.fused`."""
    return grad + values * decay


def _as_number(i: Any) -> Any:
    """The number of a parameter from a key of a state: JSON makes strings of keys."""
    return int(i) if isinstance(i, str) and i.isdecimal() else i


class Optimizer:
    """Base of all optimizers: a subclass gives default settings, defines `update`, and names the state that it keeps.

    Attributes:
        kept: the names in the state of a parameter after a step; a state may also be empty.
        always: whether the state always has all names of `kept`, and the rule depends on the number of steps.

    Args:
        params: parameters, or dicts with the entry "params" and settings of their own.
        defaults: the settings of a group that gives no others.

    Raises:
        ValueError: there are no parameters, a parameter comes twice, or a setting is out of range.
        TypeError: a parameter is not a Tensor.
    """

    kept: ClassVar[tuple[str, ...]] = ()
    always: ClassVar[bool] = False

    @worded
    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        name = type(self).__name__
        if isinstance(params, Tensor | Mapping | str) or not isinstance(params, Iterable):
            raise TypeError(f"{name}: params is an iterable of parameters, as model.parameters(), not {shown(params)}")
        self.check(defaults)
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self._flats = Flats([], [], {})
        groups = list(params)
        if not groups:
            raise ValueError(f"{name}: there are no parameters; was the model built before the optimizer?")
        for group in groups if isinstance(groups[0], Mapping) else [{"params": groups}]:
            self.add_param_group(group)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute. The name of a setting is refused: an attribute of that name would have no effect."""
        self._refuse_setting(name)
        object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        self._refuse_setting(name)
        raise missing("optimizer", name, type(self).__name__, self)

    def _refuse_setting(self, name: str) -> None:
        setting = "lr" if name == "learning_rate" else name
        if setting in vars(self).get("defaults", ()) and name not in vars(self) and not hasattr(type(self), name):
            raise AttributeError(
                f"{type(self).__name__}.{name}: settings are those of a group of parameters, so write "
                f'optimizer.param_groups[0]["{setting}"], or for all of them: for group in optimizer.param_groups: '
                f'group["{setting}"] = ...'
            )

    @bound
    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Add parameters with settings of their own: {"params": [...], "lr": 0.1}."""
        name = type(self).__name__
        if not isinstance(group, Mapping):
            raise TypeError(f"{name}: a group is a dict with the entry 'params', not {type(group).__name__}")
        if "params" not in group:
            raise ValueError(f"{name}: a group has its parameters in the entry 'params', not {list(group)}")
        given = group["params"]
        if not isinstance(given, Iterable):
            raise TypeError(f"{name}: the entry 'params' of a group is a list of parameters, not {given!r}")
        parameters = [given] if isinstance(given, Tensor) else list(given)
        known = {id(p) for g in self.param_groups for p in g["params"]}
        if not parameters:
            raise ValueError(f"{name}: a group without parameters")
        for p in parameters:
            if not isinstance(p, Tensor):
                raise TypeError(f"{name}: takes Tensors, as from model.parameters(), not {type(p).__name__}")
            if not p.is_leaf:
                raise ValueError(
                    f"{name}: a parameter is a leaf, not the result of an op; optimize the leaves behind it"
                )
            if id(p) in known:
                raise ValueError(f"{name}: a parameter comes twice: {getattr(p, 'name', '') or p.shape}")
            known.add(id(p))
        unknown = group.keys() - self.defaults.keys() - {"params"}
        if unknown:
            raise ValueError(f"{name}: unknown settings {sorted(unknown)}; there are {sorted(self.defaults)}")
        new = {**self.defaults, **group, "params": parameters}
        self.check(new)
        self.param_groups.append(new)
        self._flats = self._flats.with_group()

    def check(self, group: Mapping[str, Any]) -> None:
        """Raise TypeError if a setting of the group is of the wrong kind, ValueError if it is out of range."""
        for name in ("lr", "weight_decay"):
            if name in group:
                self.check_number(name, group[name])

    def check_number(self, name: str, value: Any, least: float = 0.0) -> None:
        """Raise TypeError unless the setting is a number, ValueError unless it is finite and at least `least`."""
        if isinstance(value, bool | np.bool) or not isinstance(value, int | float | np.integer | np.floating):
            fix = "; use .item()" if hasattr(value, "item") else f", as in {name}=0.1"
            raise TypeError(f"{type(self).__name__}: {name} is a number, not {type(value).__name__} {value!r}{fix}")
        if least == 0 and not value >= 0:
            raise ValueError(f"{type(self).__name__}: {name} is not negative: {value}")
        if not math.isfinite(value):
            raise ValueError(f"{type(self).__name__}: {name} is finite, not {value}")
        if value < least:
            raise ValueError(f"{type(self).__name__}: {name} is at least {least}, not {value}")

    def numbers(self, steps: int, group: Mapping[str, Any]) -> dict[str, float]:
        """The Python numbers that `update` computes with: settings of the group, and numbers that depend on the step.

        The names tell `update` which terms the rule has. From step to step only the values may change. The default
        gives the settings as they are.

        Args:
            steps: the number of steps, this one included.
        """
        return {name: group[name] for name in self.defaults}

    def update(
        self, dev: Device, values: Array, grad: Array, state: State, numbers: Mapping[str, float]
    ) -> tuple[Array, State]:
        """New values and state, from the old values and state, the gradient, and `numbers`. No array is written into.

        Each array has one dimension, with all parameters one after another: a rule is elementwise.

        Args:
            state: empty at the first step.
            numbers: the numbers of this step. A rule calculates with the values, and does not look at them.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no update")

    @worded
    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or make them zero."""
        if set_to_none is not True and set_to_none is not False:
            flags("zero_grad", set_to_none=set_to_none)
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None if set_to_none or p.grad is None else zeros_like(p.grad)

    @bound
    def step(self) -> None:
        """Change every parameter that has a gradient. After an error or an interrupt no parameter has changed.

        Raises:
            ValueError: a gradient has another shape, dtype or device than its parameter, or a group lacks a setting.
        """
        gradients, groups = self._flats.gradients(), self.param_groups
        if len(groups) != len(self._flats.groups):  # the user has added or removed a group by hand
            for group in groups:
                if lacking := self.defaults.keys() - group.keys():
                    raise ValueError(
                        f"{type(self).__name__}: a group lacks {sorted(lacking)}; optimizer.add_param_group(group) "
                        "fills in the defaults"
                    )
            gradients = None
        if gradients is None or not self._flats.are_of(groups):
            parameters = list(map(ready, groups))
            for those in parameters:
                self._check_gradients(those)
            self._flats = self._flats.arranged(parameters)
            gradients = self._flats.gradients() or []
        remaining, flats, after = iter(gradients), [], []  # type: Any, list[Flat], list[Now]
        for settings, some in zip(groups, self._flats.groups, strict=True):
            for flat in some:
                flats.append(flat)
                after.append(self._advanced(flat, next(remaining), settings))
        before = [flat.now for flat in flats]
        try:
            set_all(flats, after)
        except BaseException:  # an interrupt
            set_all(flats, before)
            raise

    def _advanced(self, flat: Flat, gradients: list[Array], settings: Mapping[str, Any]) -> Now:
        dev, now = flat.device, flat.now
        steps = now.steps + 1
        try:
            numbers = Numbers(self, flat, steps, settings)
            grad = run_on(dev, joined, dev, gradients)
            values, state = run_on(dev, self.update, dev, now.values, grad, now.state, numbers)
        except Exception:
            self.check(settings)  # a changed setting may be wrong
            raise
        if dev.large and values.nbytes >= dev.large:
            for array in (values, *state.values()):
                dev.hold(array)
        return Now(values, state, steps, run_on(dev, divided, dev, values, flat.places))

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
                    f"{type(self).__name__}: the gradient of {self._described(p)} must be a tensor of the same dtype "
                    f"and shape, on the same device, not {describe(g) if isinstance(g, Tensor) else type(g).__name__}"
                    + ("; p.grad = p.grad.to(p) makes it so" if getattr(g, "shape", None) == p.shape else "")
                )

    def _described(self, p: Tensor) -> str:
        """A parameter in an error message; with its number if others have that name, as of two loose layers."""
        every = [q for group in self.param_groups for q in group["params"]]
        name = getattr(p, "name", "")
        number = next(i for i, q in enumerate(every) if q is p)
        alike = sum(getattr(q, "name", "") == name for q in every) > 1
        return f"{describe(p)} (parameter {number}, from 0 to {len(every) - 1})" if alike else describe(p)

    # Saving and loading -------------------------------------------------------------------------------------------

    @bound
    def state_dict(self) -> dict[str, Any]:
        """The settings of the groups and the state of each parameter, in PyTorch's form, as copies on the host."""
        parameters = [p for group in self.param_groups for p in group["params"]]
        known, state = self._flats.states(), {}
        for i, p in enumerate(parameters):
            if p in known:
                home, steps, arrays = known[p]
                state[i] = {"step": steps, **{name: home.to_numpy(a) for name, a in arrays.items()}}
        number = {id(p): i for i, p in enumerate(parameters)}
        groups = [{**group, "params": [number[id(p)] for p in group["params"]]} for group in self.param_groups]
        return {"state": state, "param_groups": groups}

    @bound
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take settings and state from the `state_dict` of an optimizer with as many parameters.

        The state may come from JSON, which makes strings of numbers in keys, and lists of tuples; arrays are then
        nested lists.

        Raises:
            KeyError: an entry of the state is missing.
            TypeError: an entry is of a wrong kind.
            ValueError: the groups, numbers, shapes, names or settings do not fit. After any error the optimizer is as
                it was.
        """
        groups, state = self._entries(state_dict)
        parameters = [p for group in self.param_groups for p in group["params"]]
        order = [i for g in groups for i in g["params"]]
        unknown = [i for i in state if i not in order]
        if unknown or len(set(order)) != len(order):
            raise ValueError(
                f"{type(self).__name__}: the entries of 'state' are of the parameters {sorted(order, key=str)}, each "
                f"numbered once, not of {unknown or 'some of them twice'}"
            )
        resting = {p: self._loaded(i, p, state[i]) for i, p in zip(order, parameters, strict=True) if i in state}
        settings = []
        for i, (mine, theirs) in enumerate(zip(self.param_groups, groups, strict=True)):
            new = {**mine, **{k: theirs[k] for k in self.defaults if k in theirs}}
            new |= {k: tuple(v) for k, v in new.items() if isinstance(v, list) and k != "params"}
            try:
                self.check(new)
                different = [k for k in ("amsgrad", "maximize") if theirs.get(k)]  # PyTorch has these
                if different:
                    raise ValueError(f"{type(self).__name__}: there is no setting {different[0]}")
            except (TypeError, ValueError) as error:
                raise type(error)(f"{error} (in param_groups[{i}] of the state)") from None
            settings.append(new)
        for mine, new in zip(self.param_groups, settings, strict=True):
            mine.update(new)
        self._flats = Flats([[] for _ in settings], [[] for _ in settings], resting)

    def _entries(self, state_dict: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]], dict[int, Mapping[str, Any]]]:
        """The groups, and the states of parameters by number. Raises if the form of `state_dict` is wrong."""
        name = type(self).__name__
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"{name}: a state is a dict, not {type(state_dict).__name__}")
        if not {"param_groups", "state"} <= state_dict.keys():
            raise KeyError(f"{name}: a state has the entries 'param_groups' and 'state', not {list(state_dict)}")
        groups, state = state_dict["param_groups"], state_dict["state"]
        if not (isinstance(groups, Sequence) and all(isinstance(g, Mapping) and "params" in g for g in groups)):
            raise TypeError(f"{name}: 'param_groups' is a list of dicts, each with the entry 'params', not {groups!r}")
        if not (isinstance(state, Mapping) and all(isinstance(entry, Mapping) for entry in state.values())):
            raise TypeError(f"{name}: 'state' is a dict of dicts, by the numbers of parameters, not {state!r:.200}")
        sizes = [len(g["params"]) for g in groups]
        if sizes != [len(g["params"]) for g in self.param_groups]:
            raise ValueError(
                f"{name}: the state is of groups of {sizes} parameters, "
                f"not {[len(g['params']) for g in self.param_groups]}"
            )
        numbered: list[Mapping[str, Any]] = [{**g, "params": [_as_number(i) for i in g["params"]]} for g in groups]
        return numbered, {_as_number(i): entry for i, entry in state.items()}

    def _loaded(self, i: int, p: Tensor, entry: Mapping[str, Any]) -> Rest:
        """The state of parameter i, from its entry."""
        name, who = type(self).__name__, f"{type(self).__name__}: the state of parameter {i}"
        given = {key: value for key, value in entry.items() if key != "step" and value is not None}
        if (given or self.always) and given.keys() != set(self.kept):
            raise ValueError(f"{who} is {sorted(given)}, but {name} keeps {sorted(self.kept)}")
        if self.always and "step" not in entry:
            raise ValueError(f"{who} lacks 'step', the number of steps")
        arrays = {}
        for key, value in given.items():
            try:
                array = host_values(value, p.dtype)
            except (TypeError, ValueError) as error:
                raise TypeError(f"{name}: {key} of parameter {i}: {error}") from error
            if array.shape != p.shape:
                raise ValueError(f"{name}: {key} of parameter {i} is {array.shape}, the parameter {p.shape}")
            arrays[key] = Tensor(array, p.dtype, p.device).array
        steps = number(f"{name}: step of parameter {i}", entry.get("step", 1))  # PyTorch's SGD does not count steps
        if isinstance(steps, bool) or not (steps >= 0 and steps == int(steps)):
            raise ValueError(f"{name}: step of parameter {i} is a whole number and not negative, not {steps}")
        return p.device, int(steps), arrays

    def __repr__(self) -> str:
        groups = [", ".join(f"{k}={v}" for k, v in g.items() if k != "params") for g in self.param_groups]
        return f"{type(self).__name__}({'; '.join(groups)})"
