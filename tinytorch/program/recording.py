"""One call of a function: its program, its inputs from tensors and optimizers, and its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import EllipsisType
from typing import Any, NamedTuple

import numpy as np

from tinytorch.backends import Device, default_device
from tinytorch.optim.flat import Flat, Flats
from tinytorch.optim.optimizer import Optimizer
from tinytorch.program.passes import simplified
from tinytorch.program.program import Program, Value
from tinytorch.program.reach import PLAIN, Reach, unchanged
from tinytorch.program.recorder import Recorder
from tinytorch.tape.variable import Node, Variable, wrap


class Leaf(NamedTuple):
    """A tensor in a result: its value and its other attributes."""

    value: Value
    device: Device
    requires_grad: bool
    node: Any
    is_view: bool


class State(NamedTuple):
    """A tensor that a program reads or changes, and its attributes before a run."""

    tensor: Variable
    shape: tuple[int, ...]
    dtype: Any
    device: Device
    requires_grad: bool
    grad: bool  # whether it has one
    name: str


class Same(NamedTuple):
    """In a result: a tensor that the function got as an argument, or that its names lead to."""

    tensor: Any  # or the number of an argument; or a list or dict


class Source(NamedTuple):
    """Where the array of an input comes from."""

    kind: str  # "array" or "grad" of a tensor, "values" or "state" of a flat array
    of: Any  # the tensor, or its number among the arguments; the number of the flat array
    key: str = ""  # in the state


class Recording(NamedTuple):
    """One call of a function."""

    program: Program
    reach: Reach
    sources: dict[Value, Source]
    shared: list[tuple[Source, Source]]  # of tensors that have one array
    numbers: list[tuple[Optimizer, int, int, Any, dict[str, Value]]]  # with the number of the flat array
    result: Any  # a tree with a `Leaf` for each tensor
    arrays: list[tuple[Any, Value]]  # tensors that get new arrays: they, or the number of an argument
    grads: list[tuple[Any, Leaf | None]]
    flats: list[tuple[int, Value, dict[str, Value], int, list[Value]]]  # the number of each that is stepped, and so on
    known: list[Flat]  # all flat arrays, by their number
    states: list[State]
    arranged: list[tuple[Optimizer, Flats]]
    outputs: list[Value]  # of the program, as the fields above name them
    aliases: list[int]  # see `aliases`

    def why_not(self, given: Sequence[Variable]) -> str | None:
        """What has changed since the recording; None if nothing has."""
        for get, then, path in self.reach.checks:
            now = get()
            if now is not then and not unchanged(now, then):
                return path
        for t, shape, dtype, device, requires_grad, grad, name in self.states:
            array = t.array
            if (
                t.device is not device
                or t._requires_grad is not requires_grad
                or (t.grad is not None) is not grad
                or tuple(array.shape) != shape
                or array.dtype != dtype
            ):
                return name
        if aliases(given, self.reach.tensors) != self.aliases:
            return "which arguments are the same"
        for v, source in self.gradients():
            array = self._array(source, given)
            if tuple(array.shape) != v.shape or v.device.dtype_of(array) != v.dtype:
                return f"the dtype of {v}"
        if any(self._array(a, given) is not self._array(b, given) for a, b in self.shared):
            return "which tensors have one array"
        return None

    def gradients(self) -> list[tuple[Value, Source]]:
        """The inputs of the program that are gradients: the program adds to them."""
        return [
            (v, self.sources[v]) for v in self.program.inputs if v in self.sources and self.sources[v].kind == "grad"
        ]

    def _array(self, source: Source, given: Sequence[Variable]) -> Any:
        if source.kind in ("values", "state"):
            now = self.known[source.of].now
            return now.values if source.kind == "values" else now.state[source.key]
        tensor = given[source.of] if isinstance(source.of, int) else source.of
        return tensor.array if source.kind == "array" else tensor.grad.array


def aliases(given: Sequence[Variable], known: Mapping[Variable, str]) -> list[int]:
    """For each argument the number of the first one that is the same tensor, or the id of a tensor in `known`."""
    first: dict[int, int] = {}
    return [id(t) if t in known else first.setdefault(id(t), i) for i, t in enumerate(given)]


def _no_gradient(g: Any) -> Any:
    raise RuntimeError(
        "backward: a tensor is the result of a compiled function, whose gradients are not recorded; compile the whole "
        "step, with backward() inside, or call the function itself"
    )


class Taking:
    """The state before a recording, and the recording made of it."""

    def __init__(self, recorder: Recorder, reach: Reach, given: list[tuple[str, Variable]]) -> None:
        self.recorder, self.reach, self.given = recorder, reach, given
        self.sources: dict[Value, Source] = {}
        self.places = {id(t): i for i, (_, t) in reversed(list(enumerate(given))) if t not in reach.tensors}
        self.tensors: dict[Variable, str] = {t: name for name, t in given}
        self.tensors |= {t: getattr(t, "name", "") or path for t, path in reach.tensors.items()}
        self.flats = reach.flats()
        self.arranged = [(o, o._flats) for o in reach.optimizers]
        for t in list(self.tensors):
            if t.node is not None and id(t) not in self.places:
                raise recorder.refused(
                    f"it reads {self.tensors[t] or 'a tensor'}, which was computed outside and requires a gradient",
                    "pass x.detach(), or compute it inside",
                )
            if t.node is not None:
                raise recorder.refused(
                    f"the argument {self.tensors[t]} was computed outside and requires a gradient",
                    "pass x.detach(), or compile the whole step",
                )
        self.before = [
            (t, t.array, t.grad, None if t.grad is None else t.grad.array, t.device, t._requires_grad, t.node)
            for t in self.tensors
        ]
        self.nows = [(flat, flat.now) for flat in self.flats]
        self.devices = list(dict.fromkeys([*[t.device for t in self.tensors], default_device()]))
        self.shared: list[tuple[Source, Source]] = []
        for t, name in self.tensors.items():
            target = self.places.get(id(t), t)
            self._input(t.array, t.device, name, Source("array", target))
            if t.grad is not None:
                self._input(t.grad.array, t.grad.device, f"grad_{name}", Source("grad", target))
        for i, flat in enumerate(self.flats):
            self._input(flat.now.values, flat.device, f"flat_{i}", Source("values", i))
            for key, array in flat.now.state.items():
                self._input(array, flat.device, f"{key}_{i}", Source("state", i, key))
        self.states = [
            State(
                t, tuple(t.array.shape), t.array.dtype, t.device, t._requires_grad, t.grad is not None, self.tensors[t]
            )
            for t in self.tensors
            if id(t) not in self.places
        ]

    def _input(self, array: Any, device: Device, name: str, source: Source) -> None:
        known = self.recorder.of(array)
        if known is not None:  # two tensors have one array: as long as they do
            self.shared.append((self.sources[known], source))
            return
        name = "".join(c if c.isalnum() else "_" for c in name).strip("_") or "x"
        what = self.recorder.value(array, device, name if not name[0].isdigit() else f"_{name}")
        self.recorder.known_as(array, what)
        if self.recorder.kept is not None:
            self.recorder.kept[what] = array
        self.sources[what] = source

    def restore(self) -> None:
        """Put back the state before the recording."""
        for t, array, grad, of_grad, device, requires_grad, node in self.before:
            t.array, t.grad, t.device, t._requires_grad, t.node = array, grad, device, requires_grad, node
            if grad is not None:
                grad.array = of_grad
        for flat, now in self.nows:
            flat.now = now
        for optimizer, arranged in self.arranged:
            object.__setattr__(optimizer, "_flats", arranged)

    def recording(self, result: Any) -> Recording | None:
        """The recording; None if the optimizers have arranged their parameters anew, as in a first step."""
        recorder = self.recorder
        if recorder.refusal is not None:  # and the function went on
            raise recorder.refusal
        if any(o._flats is not arranged for o, arranged in self.arranged):
            return None
        tree = self._tree(result)
        arrays, grads = self._changed()
        if any(flat.now.state.keys() != now.state.keys() for flat, now in self.nows):
            return None  # the first step of a rule
        flats = [self._stepped(i, flat, now) for i, (flat, now) in enumerate(self.nows) if flat.now is not now]
        steps = {id(flat): (i, now.steps) for i, (flat, now) in enumerate(self.nows)}
        numbers = [
            (n.optimizer, steps[id(n.flat)][0], n.steps - steps[id(n.flat)][1], n.settings, named)
            for n, named in recorder.numbers
            if id(n.flat) in steps
        ]
        outputs: dict[Value, None] = {}
        outputs.update(dict.fromkeys(leaf.value for leaf in _found(tree)))
        outputs.update({v: None for _, v in arrays})
        outputs.update({g.value: None for _, g in grads if isinstance(g, Leaf)})
        for _, whole, state, _, parts in flats:
            outputs.update(dict.fromkeys([whole, *state.values(), *parts]))
        inputs = [*self.sources, *(v for _, named in recorder.numbers for v in named.values())]
        program = simplified(Program(recorder.name, inputs, recorder.constants, recorder.lines, list(outputs)))
        program.check()
        return Recording(
            program,
            self.reach,
            self.sources,
            self.shared,
            numbers,
            tree,
            arrays,
            grads,
            flats,
            self.flats,
            self.states,
            self.arranged,
            list(outputs),
            aliases([t for _, t in self.given], self.reach.tensors),
        )

    def _of(self, array: Any, what: str) -> Value:
        found = self.recorder.of(array)
        if found is None:
            raise self.recorder.refused(f"{what} was not computed by tinytorch's functions", "use them")
        return found

    def _tree(self, x: Any) -> Any:
        """A result, with a `Leaf` or `Same` for each tensor; a list or dict that the function knows is the same one."""
        kind = type(x)
        if kind in (list, dict) and self.reach.knows(x):
            return Same(x)
        if kind is dict:
            return {k: self._tree(v) for k, v in x.items()}
        if kind in (tuple, list) or (isinstance(x, tuple) and hasattr(x, "_fields")):
            inner = [self._tree(v) for v in x]
            return kind(inner) if kind in (tuple, list) else kind(*inner)
        return self._leaf(x)

    def _leaf(self, x: Any) -> Any:
        """A part of a result: a `Leaf`, a `Same`, or a constant object."""
        if not isinstance(x, Variable):
            if isinstance(x, np.ndarray | np.generic):
                raise self.recorder.refused("it returns a NumPy array", "return the tensor, and call .numpy() outside")
            if not isinstance(x, (*PLAIN, type, Device, slice, EllipsisType)) and not self.reach.knows(x):
                raise self.recorder.refused(
                    f"it returns an object of the type {type(x).__name__}, which would be the same one in each call",
                    "return tensors, in tuples, lists and dicts",
                )
            return x
        if id(x) in self.places:
            return Same(self.places[id(x)])
        if x in self.tensors:
            return Same(x)
        node = x.node
        if node is not None:
            shared = Node()
            shared.op, shared.inputs, shared.meta = node.op, (), {}
            shared.rules = None if node.rules is None else (_no_gradient,)
            shared.inputs = () if node.rules is None else (_leaf_of(x),)
            shared.order, shared.device, shared.shape, shared.dtype = node.order, x.device, node.shape, node.dtype
            node = shared
        return Leaf(self._of(x.array, "the result"), x.device, x._requires_grad, node, x.is_view)

    def _changed(self) -> tuple[list[tuple[Any, Value]], list[tuple[Any, Any]]]:
        """Tensors with new arrays (other than by an optimizer's step) and with new gradients, and the new values."""
        arrays: list[tuple[Any, Value]] = []
        grads: list[tuple[Any, Any]] = []
        stepped = {id(p) for flat, now in self.nows if flat.now is not now for p in flat.parameters}
        for t, array, grad, of_grad, device, requires_grad, node in self.before:
            name = self.tensors[t] or "a tensor"
            if t.device is not device or t._requires_grad is not requires_grad or t.node is not node:
                raise self.recorder.refused(f"it changes the device or the graph of {name}", "do that outside")
            target = self.places.get(id(t), t)
            if t.array is not array and id(t) not in stepped:
                arrays.append((target, self._of(t.array, name)))
            if t.grad is None:
                grads += [] if grad is None else [(target, None)]
            elif t.grad is not grad:
                grads.append((target, self._leaf(t.grad)))
            elif grad.array is not of_grad:  # it was changed in place
                grads.append(
                    (target, Leaf(self._of(grad.array, f"the gradient of {name}"), t.device, False, None, False))
                )
        return arrays, grads

    def _stepped(self, i: int, flat: Flat, before: Any) -> tuple[int, Value, dict[str, Value], int, list[Value]]:
        """The new values and state of a flat array after a step."""
        new = flat.now
        state = {k: self._of(a, k) for k, a in new.state.items()}
        parts = [self._of(a, "a parameter") for a in new.parts]
        if any(p.array is not a for p, a in zip(flat.parameters, new.parts)):
            raise self.recorder.refused("it sets a parameter after the optimizer's step", "set it before")
        return i, self._of(new.values, "a parameter"), state, new.steps - before.steps, parts


def _form(tree: Any, at: Mapping[Value, int]) -> Any:
    """A result with numbers of outputs in place of tensors, to be compared with that of another call."""
    if isinstance(tree, Leaf):
        return "leaf", at[tree.value], tree.device, tree.requires_grad, tree.node is None
    if isinstance(tree, Value):
        return at[tree]
    if isinstance(tree, dict):
        return dict, *((k, _form(v, at)) for k, v in tree.items())
    if isinstance(tree, tuple | list):
        return type(tree), *(_form(x, at) for x in tree)
    return tree


def _found(tree: Any) -> list[Leaf]:
    """The tensors in a result."""
    if isinstance(tree, Leaf):
        return [tree]
    inner = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, tuple | list) else ()
    return [] if isinstance(tree, Same) else [leaf for x in inner for leaf in _found(x)]


def _leaf_of(x: Any) -> Any:
    out = wrap(x.array, x.device)
    out._requires_grad = True
    return out


def different(one: Recording, other: Recording) -> str | None:
    """The difference between two recordings in words; None if they are alike."""
    if (found := differing(one.program, other.program)) is not None:
        return found
    for a, b in zip(one.program.inputs, other.program.inputs):
        if not unchanged(one.sources.get(a), other.sources.get(b)):
            return f"it uses {a}, then {b}"
    forms = [
        _form([r.result, r.arrays, r.grads, r.flats], {v: i for i, v in enumerate(r.outputs)}) for r in (one, other)
    ]
    return None if unchanged(*forms) else "it returns or sets something else"


def differing(one: Program, other: Program) -> str | None:
    """The first line in which two programs differ; None if they are alike."""
    names: dict[Value, Value] = dict(zip(one.inputs, other.inputs))
    if len(one.inputs) != len(other.inputs) or len(one.lines) != len(other.lines):
        return next((f"`{a}`, then `{b}`" for a, b in zip(one.lines, other.lines) if str(a) != str(b)), "its length")

    def alike(a: Any, b: Any) -> bool:
        if isinstance(a, Value) and isinstance(b, Value):
            if a in one.constants and b in other.constants:
                x, y = one.constants[a], other.constants[b]
                return x is y or (
                    a.shape == b.shape
                    and a.dtype == b.dtype
                    and a.device is b.device
                    and a.device.to_numpy(x).tobytes() == a.device.to_numpy(y).tobytes()
                )
            return names.get(a) is b
        if type(a) is not type(b):
            return False
        if isinstance(a, tuple | list):
            return len(a) == len(b) and all(map(alike, a, b))
        if isinstance(a, dict):
            return a.keys() == b.keys() and all(alike(a[k], b[k]) for k in a)
        if isinstance(a, int | float | str):
            return unchanged(a, b) or (a != a and b != b)
        return a is b or unchanged(a, b) or (a == b) is True  # a dtype, which need not be one object

    for a, b in zip(one.lines, other.lines):
        if a.call != b.call or not alike(a.args, b.args) or not alike(a.kwargs, b.kwargs) or a.expects != b.expects:
            return f"`{a}`, then `{b}`" + (f" at {b.where}" if b.where else "")
        outs, others = a.outs, b.outs
        if [(v.shape, v.dtype) for v in outs] != [(v.shape, v.dtype) for v in others]:
            return f"the shape of `{a}`"
        names.update(zip(outs, others))
    return None if alike(one.outputs, other.outputs) else "its results"
