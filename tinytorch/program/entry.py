"""A program bound to the tensors and optimizers of its function: when it holds, what it is given, what it sets."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from tinytorch import random
from tinytorch.backends import Array
from tinytorch.backends.written import Differs, compiled
from tinytorch.optim.flat import Now, Numbers
from tinytorch.program.reach import unchanged
from tinytorch.program.recording import Leaf, Recording, Same
from tinytorch.tape.modes import grad_mode
from tinytorch.tape.variable import assign_all, wrap

MISSED = object()  # what a program gives that turns out not to be the right one


class Entry:
    """A program, and what binds it to the tensors and optimizers of its function."""

    def __init__(self, recording: Recording, kind: Any, grad: bool) -> None:
        self.recording, self.kind, self.grad = recording, kind, grad
        program = recording.program
        self.run = program.devices[0].compile(program) if program.devices else compiled(program)
        self.lock = threading.Lock()
        self.draws = any(line.call.name == "drawn" for line in program.lines)
        self.sources = [recording.sources.get(v) for v in program.inputs]
        places = {v: i for i, v in enumerate(program.inputs)}
        self.hosts = [(*n[:4], [(k, places.get(v)) for k, v in n[4].items()]) for n in recording.numbers]
        self.at = {v: i for i, v in enumerate(recording.outputs)}

    def holds(self, kind: Any) -> bool:
        """Whether the program is the one for such arguments, as everything is now."""
        return self.grad == grad_mode.enabled and self.kind == kind and self.why_not() is None

    def why_not(self) -> str | None:
        """What is not as it was when the program was recorded; None if all is."""
        for get, then, path in self.recording.reach.checks:
            now = get()
            if now is not then and not unchanged(now, then):
                return path
        for t, shape, dtype, device, requires_grad, grad, name in self.recording.states:
            array = t.array
            if (
                t.device is not device
                or t._requires_grad is not requires_grad
                or (t.grad is not None) is not grad
                or tuple(array.shape) != shape
                or array.dtype != dtype
            ):
                return name
        return None

    def settled(self) -> bool:
        """Whether the flat arrays of the optimizers are those that the program knows, and still its parameters'."""
        for optimizer, arranged in self.recording.arranged:
            if optimizer._flats is not arranged:
                return False
        for flat, *_ in self.recording.flats:
            if any(p.array is not part for p, part in zip(flat.parameters, flat.now.parts)):
                return False
        return True

    def __call__(self, given: Sequence[Any], function: Callable[[], Any]) -> Any:
        """Run the program. Only when all is computed the new arrays take the place of the old ones, at once."""
        r = self.recording
        before = random.generator.bit_generator.state if self.draws else None
        with self.lock:
            inputs = [None if source is None else source(given) for source in self.sources]
            for optimizer, flat, ahead, settings, places in self.hosts:
                try:
                    numbers = Numbers(optimizer, flat, flat.now.steps + ahead, settings)
                except Exception:
                    optimizer.check(settings)
                    raise
                if len(numbers) != len(places):
                    return MISSED
                for name, place in places:
                    if name not in numbers:
                        return MISSED
                    if place is not None:
                        inputs[place] = numbers[name]
            try:
                out = self.run(*inputs)
            except Differs:
                if before is not None:
                    random.generator.bit_generator.state = before
                return function()
        at = self.at

        def made(leaf: Any) -> Any:
            if isinstance(leaf, Same):
                return given[leaf.tensor] if isinstance(leaf.tensor, int) else leaf.tensor
            if not isinstance(leaf, Leaf):
                return leaf
            tensor = wrap(out[at[leaf.value]], leaf.device, leaf.node)
            tensor._requires_grad, tensor.is_view = leaf.requires_grad, leaf.is_view
            return tensor

        result = _rebuilt(made, r.result)
        tensors = [given[t] if isinstance(t, int) else t for t, _ in r.arrays]
        arrays = [out[at[v]] for _, v in r.arrays]
        pairs: list[tuple[Sequence[Any], Sequence[Array]]] = [(tensors, arrays)]
        others: list[tuple[Any, str, Any]] = [
            (given[t] if isinstance(t, int) else t, "grad", None if leaf is None else made(leaf)) for t, leaf in r.grads
        ]
        for flat, values, state, ahead, parts in r.flats:
            kept = [out[at[v]] for v in parts]
            now = Now(out[at[values]], {k: out[at[v]] for k, v in state.items()}, flat.now.steps + ahead, kept)
            others.append((flat, "now", now))
            pairs.append((flat.parameters, kept))
        assign_all(pairs, *others)
        return result


def _rebuilt(made: Callable[[Any], Any], tree: Any) -> Any:
    """A result, with a tensor for each of its leaves."""
    if isinstance(tree, Leaf | Same):
        return made(tree)
    if isinstance(tree, dict):
        return {k: _rebuilt(made, v) for k, v in tree.items()}
    if isinstance(tree, tuple | list):
        inner = [_rebuilt(made, v) for v in tree]
        return type(tree)(*inner) if hasattr(tree, "_fields") else type(tree)(inner)
    return tree
