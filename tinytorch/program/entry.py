"""A program bound to the tensors and optimizers of its function: its guards, its inputs and its results.

The binding is written out as Python, too: for a small step a general one takes longer than the program.
"""

from __future__ import annotations

import functools
import operator
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from tinytorch import random
from tinytorch.backends.written import Differs, compiled, defined
from tinytorch.optim.flat import Flat, Now, numbers_of
from tinytorch.program.program import Value
from tinytorch.program.reach import unchanged
from tinytorch.program.recording import Leaf, Recording, Same, Source
from tinytorch.tape.modes import grad_mode
from tinytorch.tape.variable import Variable, clock

MISSED = object()  # the result of a program whose guards do not hold

_ARRAY, _GRAD, _CHANGED = (vars(Variable)[name].__set__ for name in ("array", "grad", "changed"))
_NOW = vars(Flat)["now"].__set__


class Done:
    """Whether the results of a run have been set."""

    __slots__ = ("at",)

    def __init__(self, at: bool) -> None:
        self.at = at


_AT = vars(Done)["at"].__set__


def made(array: Any, device: Any, node: Any, requires_grad: bool, is_view: bool) -> Any:
    """A tensor of a program's results."""
    tensor = object.__new__(Variable.result)
    tensor.array = array
    tensor.device = device
    tensor.grad = None
    tensor.node = node
    tensor.is_view = is_view
    tensor._requires_grad = requires_grad
    return tensor


class Entry:
    """A program and its binding to the tensors and optimizers of its function.

    Attributes:
        simple: whether all arguments are tensors, given by position.
        call: of the tensors among the arguments, and the function (bound to all of them, unless they are simple): the
            result, or `MISSED`. It looks at arguments only where they are simple.
    """

    def __init__(self, recording: Recording, kind: Any, grad: bool, lock: Any) -> None:
        self.recording, self.kind, self.grad = recording, kind, grad
        program = recording.program
        run = program.devices[0].compile(program) if program.devices else compiled(program)
        self.known: dict[str, Any] = {
            "run": run,
            "MISSED": MISSED,
            "Differs": Differs,
            "made": made,
            "unchanged": unchanged,
            "mode": grad_mode,
            "numbers_of": numbers_of,
            "Now": Now,
            "deque": deque,
            "call": operator.call,
            "clock": clock,
            "lock": lock,
            "Done": Done,
            "bits": random.generator.bit_generator,
        }
        self.flats = list(recording.known)
        self.arranged = [(optimizer, optimizer._flats) for optimizer, _ in recording.arranged]
        self.body: list[str] = []
        self.simple = type(kind) is tuple and len(kind) == 2 and kind[0] is tuple and all(map(_of_tensor, kind[1]))
        self.eager = "eager(*given)" if self.simple else "eager()"
        self._write_guards()
        self._write_run()
        self._write_results()
        source = "def enter(given, eager):\n    " + "\n    ".join(self.body)
        self.call: Callable[[Sequence[Any], Callable[[], Any]], Any] = defined(
            source, self.known, program.name, "enter"
        )
        self._bind()

    # Whether it holds ---------------------------------------------------------------------------------------------

    def holds(self, kind: Any, given: Sequence[Any]) -> bool:
        """Whether the guards hold for such arguments and the present state."""
        return self.grad == grad_mode.enabled and self.kind == kind and self.recording.why_not(given) is None

    def stale(self) -> bool:
        """Whether the optimizers have arranged other flat arrays for good; after loading a state they have none yet."""
        new = [optimizer._flats for optimizer, arranged in self.arranged if optimizer._flats is not arranged]
        return any(map(any, (flats.groups for flats in new)))

    def settled(self) -> bool:
        """Whether the program knows the present flat arrays of the optimizers. Equal new ones are taken over first."""
        if any(optimizer._flats is not arranged for optimizer, arranged in self.arranged):
            new = [f for optimizer, _ in self.arranged for group in optimizer._flats.groups for f in group]
            old = self.recording.known
            if len(new) != len(old) or not all(map(_alike, new, old)):
                return False
            self.flats = new
            self.arranged = [(optimizer, optimizer._flats) for optimizer, _ in self.arranged]
            self._bind()
        return all(p.array is part for f in self.flats for p, part in zip(f.parameters, f.now.parts))

    def _bind(self) -> None:
        """Put the present flat arrays of the optimizers into the code."""
        self.known.update({f"flat{i}": f for i, f in enumerate(self.flats)})
        self.known.update({f"arranged{i}": flats for i, (_, flats) in enumerate(self.arranged)})
        for i, place in self.places_of_flats:
            self.known["objects"][place] = self.flats[i]

    # Writing it out -----------------------------------------------------------------------------------------------

    def name(self, x: Any, hint: str = "k") -> str:
        """A name for an object that the code needs."""
        found = f"{hint}_{len(self.known)}"
        self.known[found] = x
        return found

    def _write_guards(self) -> None:
        """The guards: the code returns MISSED if anything has changed since the recording."""
        r = self.recording
        terms = [f"mode.enabled is {self.grad}", *self._of_arguments()]
        for get, then, _ in r.reach.checks:
            now, was = self._check(get), self.name(then, "was")
            quick = self._quickly(get, then) or f"{now} is {was}"
            terms.append(f"({quick} or unchanged({now}, {was}))")
        in_flats = {p for f in self.flats for p in f.parameters}
        for t, shape, dtype, device, requires_grad, grad, _ in r.states:
            x = self.name(t, "t")
            terms += [f"{x}._requires_grad is {requires_grad}", f"({x}.grad is None) is {not grad}"]
            if t not in in_flats:
                was = self.name((t.array, shape, dtype, device), "was")
                terms.append(f"({x}.array is {was}[0] or alike({x}, {was}))")
        self.known["alike"] = _is_like
        for i, (optimizer, _) in enumerate(self.arranged):
            terms.append(f"{self.name(optimizer, 'optimizer')}._flats is arranged{i}")
        for i, f in enumerate(self.flats):
            terms += [f"{self.name(p, 't')}.array is flat{i}.now.parts[{j}]" for j, p in enumerate(f.parameters)]
        terms += self._of_aliases()
        for v, source in r.gradients():
            kind, text = self.name((v.device.dtype_of, v.dtype, v.shape), "kind"), self._text(source)
            terms.append(f"{kind}[0]({text}) == {kind}[1] and tuple({text}.shape) == {kind}[2]")
        terms += [f"{self._text(a)} is {self._text(b)}" for a, b in r.shared]
        self.body += [f"if not ({t}): return MISSED" for t in terms]

    def _of_aliases(self) -> list[str]:
        """Guards for arguments that are one tensor, or a tensor that the function's names lead to."""
        aliases, known = self.recording.aliases, {id(t): t for t in self.recording.reach.tensors}
        own, terms = self.name(known, "own"), []
        for i, alias in enumerate(aliases):
            if alias in known:
                terms.append(f"given[{i}] is {own}[{alias}]")
            elif alias < i:
                terms.append(f"given[{i}] is given[{alias}]")
            else:
                terms += [f"given[{i}] is not given[{j}]" for j in range(i) if aliases[j] == j]
                terms.append(f"id(given[{i}]) not in {own}")
        return terms

    def _of_arguments(self) -> list[str]:
        """Guards for arguments, if all are tensors."""
        if not self.simple:
            return []
        terms = [f"len(given) == {len(self.kind[1])}"]
        for i, (cls, device, shape, dtype, strides, requires_grad, leaf, no_grad) in enumerate(self.kind[1]):
            x = f"given[{i}]"
            terms += [f"type({x}) is {self.name(cls, 'T')}", f"{x}.device is {self.name(device, 'dev')}"]
            terms += [f"{x}.array.shape == {shape}", f"{x}.array.dtype == {self.name(dtype, 'dtype')}"]
            terms += [f"{x}.array.strides == {strides}"] if strides is not None else []
            terms += [f"{x}._requires_grad is {requires_grad}", f"({x}.node is None) is {leaf}"]
            terms.append(f"({x}.grad is None) is {no_grad}")
        return terms

    def _quickly(self, get: Any, then: Any) -> str:
        """Code for: the list or dict holds the same objects as in the recording."""
        held = get.args[0] if isinstance(get, functools.partial) and get.args else None
        if type(held) is list and isinstance(then, tuple):
            name = self.name(held, "list")
            same = [f"{name}[{i}] is {self.name(x, 'was')}" for i, x in enumerate(then)]
        elif type(held) is dict and type(then) is tuple and getattr(get.func, "__name__", "") == "_items_of":
            name = self.name(held, "d")
            same = [f"{name}.get({self.name(k)}) is {self.name(x, 'was')}" for k, x in then]
        else:
            return ""
        return f"(len({name}) == {len(then)} and {' and '.join([*same, 'True'])})"

    def _check(self, get: Any) -> str:
        """Code for the object of a check. An entry of a dict, an attribute and a length need no call."""
        if isinstance(get, functools.partial) and not get.keywords:
            function, args = get.func, get.args
            owner = getattr(function, "__self__", None)
            if isinstance(owner, dict) and function.__name__ == "get" and len(args) == 1:
                return f"{self.name(owner, 'd')}.get({args[0]!r})"
            if function is getattr:
                return f"{self.name(args[0], 'o')}.{args[1]}"
            if function is len:
                return f"len({self.name(args[0], 'd')})"
            if getattr(function, "__name__", "") == "_in_cell" and _is_set(args[0]):
                return f"{self.name(args[0], 'cell')}.cell_contents"
        return f"{self.name(get, 'get')}()"

    def _text(self, source: Source) -> str:
        """Code for the array of an input."""
        if source.kind in ("values", "state"):
            return f"flat{source.of}.now." + ("values" if source.kind == "values" else f"state[{source.key!r}]")
        tensor = f"given[{source.of}]" if isinstance(source.of, int) else self.name(source.of, "t")
        return f"{tensor}.array" if source.kind == "array" else f"{tensor}.grad.array"

    def _write_run(self) -> None:
        """Get the numbers of the optimizers, and run the program.

        The lock is held from here to the end, so that no other thread steps in between. After an error or an interrupt
        random numbers are as they were, like all else; `done.at` is set together with the results.
        """
        r = self.recording
        texts: dict[Value, str] = {}
        self.draws = any(line.call.name == "drawn" for line in r.program.lines)
        self.body += ["before = bits.state", "done = Done(False)"] if self.draws else []
        self.body += ["try:", "  with lock:"]
        checks = []
        for i, (optimizer, flat, ahead, settings, named) in enumerate(r.numbers):
            o, s = self.name(optimizer, "optimizer"), self.name(settings, "settings")
            checks.append(f"{o}.check({s})")
            self.body.append(f"    n{i} = numbers_of({o}, flat{flat}.now.steps + {ahead}, {s})")
            self.body.append(f"    if n{i}.keys() != {self.name(dict(named).keys(), 'keys')}: return MISSED")
            texts.update({v: f"n{i}[{k!r}]" for k, v in named.items()})
        given = [texts.get(v) or self._text(r.sources[v]) for v in r.program.inputs]
        self.body.append(f"    out = run({', '.join(given)})")
        outs = ", ".join(f"y{i}" for i in range(len(r.outputs)))
        if outs:
            self.body.append(f"    [{outs}] = out")
        for i, v in enumerate(r.outputs):
            if v.shape == ():  # some libraries return scalars here
                self.body.append(f"    y{i} = {self.name(v.device, 'dev')}.asarray(y{i})")
        self.after = ["except BaseException as error:"]
        self.after += ["  if not done.at: bits.state = before"] if self.draws else []
        if checks:
            self.after.append(f"  if isinstance(error, Exception) and type(error) is not Differs: {'; '.join(checks)}")
        self.after += ["  if type(error) is not Differs: raise", f"return {self.eager}"]

    def _write_results(self) -> None:
        """Make the tensors, and set everything at once, by one call into C: no signal comes in between."""
        r = self.recording
        y = {v: f"y{i}" for i, v in enumerate(r.outputs)}

        def shown(x: Any) -> str:
            if isinstance(x, Same):
                return f"given[{x.tensor}]" if isinstance(x.tensor, int) else self.name(x.tensor, "t")
            if isinstance(x, Leaf):
                device, node = self.name(x.device, "dev"), self.name(x.node, "node")
                return f"made({y[x.value]}, {device}, {node}, {x.requires_grad}, {x.is_view})"
            if isinstance(x, dict):
                return "{" + ", ".join(f"{self.name(k)}: {shown(v)}" for k, v in x.items()) + "}"
            if isinstance(x, tuple) and hasattr(x, "_fields"):
                return f"{self.name(type(x), 'T')}({', '.join(map(shown, x))})"
            if isinstance(x, tuple | list):
                inner = "".join(f"{shown(v)}, " for v in x)
                return f"({inner})" if isinstance(x, tuple) else f"[{inner}]"
            return self.name(x)

        setters: list[Any] = []
        objects: list[Any] = []
        values: list[str] = []
        self.places_of_flats: list[tuple[int, int]] = []
        given: list[tuple[int, int]] = []

        def put(setter: Any, target: Any, value: str) -> None:
            if isinstance(target, int):
                given.append((len(objects), target))
            setters.append(setter)
            objects.append(target)
            values.append(value)

        def array(target: Any, value: Value) -> None:
            put(_ARRAY, target, y[value])
            put(_CHANGED, target, "time")

        for target, value in r.arrays:
            array(target, value)
        for i, whole, state, ahead, parts in r.flats:
            for p, part in zip(self.flats[i].parameters, parts, strict=True):
                array(p, part)
            self.places_of_flats.append((i, len(objects)))
            named = ", ".join(f"{k!r}: {y[v]}" for k, v in state.items())
            listed = ", ".join(y[v] for v in parts)
            put(_NOW, None, f"Now({y[whole]}, {{{named}}}, flat{i}.now.steps + {ahead}, [{listed}])")
        for target, leaf in r.grads:
            put(_GRAD, target, "None" if leaf is None else shown(leaf))
        self.known |= {"setters": setters, "objects": objects}
        if self.draws:
            put(_AT, None, "True")
        self.body.append(f"    result = {shown(r.result)}")
        if values:
            self.body.append("    time = next(clock)")
            where = "objects"
            if given or self.draws:
                self.body.append("    own = objects.copy()")
                self.body += [f"    own[{i}] = given[{place}]" for i, place in given]
                self.body += ["    own[-1] = done"] if self.draws else []
                where = "own"
            self.body.append(f"    deque(map(call, setters, {where}, [{', '.join(values)}]), 0)")
        self.body += ["    return result", *self.after]


def _of_tensor(kind: Any) -> bool:
    """Whether an argument of that kind is a tensor."""
    return type(kind) is tuple and isinstance(kind[0], type) and issubclass(kind[0], Variable)


def _alike(new: Flat, old: Flat) -> bool:
    """Whether two flat arrays have the same parameters, and states of the same names."""
    same = len(new.parameters) == len(old.parameters) and all(map(operator.is_, new.parameters, old.parameters))
    return same and new.now.state.keys() == old.now.state.keys() and new.device is old.device


def _is_like(t: Any, was: Any) -> bool:
    """Whether the program is right for another array of a tensor."""
    _, shape, dtype, device = was
    return t.device is device and tuple(t.array.shape) == shape and bool(t.array.dtype == dtype)


def _is_set(cell: Any) -> bool:
    try:
        return cell.cell_contents is not MISSED
    except ValueError:
        return False
