"""The events of one update, op by op, which show where a graph was cut, or a gradient became zero or NaN.

Inside its `with` block a `Trace` is told of every op and every gradient, keeps all of them, and reads values to the
host: a debugging tool, for an update or two. Two questions are answered: `why_without_gradient` and `born_nan`.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinytorch.nn import Module
from tinytorch.origin import Origin, caller
from tinytorch.tape.modes import is_grad_enabled
from tinytorch.tape.observer import Observer
from tinytorch.tape.variable import Node, wrap
from tinytorch.tensor import Tensor

Key = int  # the id of an array; a tensor and its `detach()` have one array


@dataclass
class Event:
    """A tensor was made by an op, or its values left the graph."""

    where: Origin
    inputs: list[Tensor]
    sources: list[Key]  # the inputs' arrays
    live: list[Key]  # the arrays of inputs that required a gradient
    result: Tensor | None  # None if the values are no tensor
    cut: str = ""  # why gradients do not pass here, to be filled with the place: "`.numpy()` {}"
    module: Module | None = None  # the module whose `forward` was running

    def place(self, names: dict[int, str]) -> str:
        """The place in words: "in `2` (Linear), model.py:41"; `names` has the paths of modules by id."""
        path = names.get(id(self.module), "") if self.module is not None else ""
        inside = f"in `{path}` ({type(self.module).__name__}), " if path else "in "
        return inside + (self.where.place or "an unknown line")


class Trace(Observer):
    """Keeps the events inside its `with` block.

    >>> from tinytorch.verify.trace import Trace
    >>> w = tinytorch.nn.Parameter([2.0])
    >>> with Trace() as trace:
    ...     loss = Tensor((w * 3).detach().numpy()).sum()
    >>> trace.why_without_gradient(w, loss)
    'the graph is cut at `.numpy()` in <doctest tinytorch.verify.trace.Trace[2]>:2'
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.names: dict[int, str] = {}  # of modules, by id
        self.sums: dict[int, np.ndarray[Any, Any]] = {}  # sum of the gradients that a leaf got, by id
        self._pulled_at: dict[int, int | None] = {}  # for each leaf with a gradient, its `changed` then, by id
        self._made: dict[Key, int] = {}  # the index of the event that made an array
        self._first: dict[Key, tuple[int, Origin | None]] = {}  # for data, the index of the first event, and the origin
        self._nodes: dict[int, tuple[Node, Event]] = {}
        self._pulls: dict[int, list[Node]] = {}  # the nodes that gave a place a gradient
        self._alive: dict[int, bool] = {}  # whether a place got a gradient that is not zero
        self._mad: Event | None = None  # the rule that first made a NaN
        self._kept: list[Any] = []  # all arrays, so that no id comes twice
        self._paused = False
        self._thread = threading.get_ident()  # other threads do not belong to this run

    @contextmanager
    def paused(self) -> Iterator[None]:
        """A block whose events are left out."""
        outer, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = outer

    def names_of(self, model: Module) -> None:
        """Call the modules by their paths in the model."""
        self.names = {id(module): path for path, module in model.named_modules()}

    # Being told ---------------------------------------------------------------------------------------------------

    def made(self, op: str, inputs: Sequence[Any], meta: dict[str, Any], result: Any) -> None:
        """Keep the result of an op, and whether gradients pass the op."""
        if self._deaf():
            return
        tensors = [x for x in inputs if isinstance(x, Tensor)]
        cut = ""
        if not result.requires_grad and any(x.requires_grad for x in tensors):
            cut = f"`{op}` {{}}, which has no gradient" if is_grad_enabled() else f"`{op}` under `no_grad` {{}}"
        event = self._note(caller(op), tensors, result, cut)
        self._made.setdefault(id(result.array), len(self.events) - 1)
        if result.node is not None:
            self._nodes[id(result.node)] = result.node, event

    def left(self, how: str, tensor: Any, values: Any) -> None:
        """Keep the place where values left the graph."""
        if not self._deaf():
            self._note(caller(how), [tensor], values if isinstance(values, Tensor) else None, f"`.{how}()` {{}}")

    def pulled(self, node: Node, source: Any, gradient: Any) -> None:
        """Keep whether a gradient is zero and whether it is finite, and add up the gradients of leaves."""
        if self._deaf():
            return
        with self.paused():
            g = (gradient if isinstance(gradient, Tensor) else wrap(gradient, source.device)).detach().numpy()
        self._pulls.setdefault(id(source), []).append(node)
        self._alive[id(source)] = self._alive.get(id(source), False) or bool(g.any())
        if self._mad is None and not np.isfinite(g).all() and id(node) in self._nodes:
            self._mad = self._nodes[id(node)][1]
        if not isinstance(source, Node):
            self.sums[id(source)] = self.sums.get(id(source), 0.0) + g
            self._pulled_at[id(source)] = getattr(source, "changed", None)

    def _deaf(self) -> bool:
        return self._paused or threading.get_ident() != self._thread

    def _note(self, where: Origin, inputs: list[Tensor], result: Tensor | None, cut: str) -> Event:
        sources, live = [id(x.array) for x in inputs], [id(x.array) for x in inputs if x.requires_grad]
        event = Event(where, inputs, sources, live, result, cut, _forward())
        self._kept += [x.array for x in (*inputs, result) if x is not None]
        for key, x in zip(sources, inputs):
            if key not in self._made and not x.requires_grad:
                self._first.setdefault(key, (len(self.events), x.origin))
        self.events.append(event)
        return event

    # Asking -------------------------------------------------------------------------------------------------------

    def changed_since_pulled(self, leaf: Tensor) -> bool:
        """Whether a leaf got other values after its last gradient."""
        return self._pulled_at[id(leaf)] != getattr(leaf, "changed", None)

    def why_without_gradient(self, parameter: Tensor, loss: Tensor) -> str:
        """Why a parameter got no gradient from the loss, or a gradient of zeros."""
        if not parameter.requires_grad:
            return "it is frozen (requires_grad=False)"
        if id(parameter) in self._pulls:
            return self._why_zero(parameter)
        if not any(id(parameter.array) in event.sources for event in self.events):
            return "it is not used"
        above, reached = self._above(loss), {id(parameter.array)}
        nearest, found = math.inf, ""
        for i, event in enumerate(self.events):
            if not event.cut:
                if event.result is not None and not reached.isdisjoint(event.live):
                    reached.add(id(event.result.array))
            elif not reached.isdisjoint(event.sources):
                way = self._way_on(i, above)
                if way < math.inf and way <= nearest:
                    nearest, found = way, event.cut.format(event.place(self.names))
        return f"the graph is cut at {found}" if found else "the loss does not depend on what is computed from it"

    def _way_on(self, i: int, above: set[Key]) -> float:
        """The distance from a cut to the place where its values go on to the loss; infinite if they do not."""
        where, result = self.events[i].where, self.events[i].result
        if result is not None and where.what != "detach":
            return 0 if id(result.array) in above else math.inf
        if result is not None:
            on = [e.result for e in self.events[i + 1 :] if any(x is result for x in e.inputs)]
            return 0 if any(x is not None and id(x.array) in above for x in on) else math.inf
        # values that return from NumPy or Python have no link to the tensor: so match them by source line
        back = math.inf
        for key, (first, made) in self._first.items():
            if first > i and key in above and (made is None or made.order > where.order):
                below = made.line - where.line if made is not None and made.file == where.file else -1
                back = min(back, below if below >= 0 else 1_000_000 + first - i)
        return back

    def _why_zero(self, parameter: Tensor) -> str:
        if self._alive[id(parameter)]:
            return ""
        place, seen = id(parameter), set[int]()
        node = self._pulls[place][0]
        while not self._alive.get(id(node), True) and id(node) in self._pulls and id(node) not in seen:
            seen.add(id(node))
            node = self._pulls[id(node)][0]
        if id(node) not in self._nodes:
            return f"its gradient becomes zero in the rule of `{node.op.name}`"
        event = self._nodes[id(node)][1]
        with self.paused():
            silent = event.result is not None and not event.result.detach().numpy().any()
            starved = [x for x in event.inputs if x.dtype.kind == "f" and not x.detach().numpy().any()]
        why = ", whose output is all zero" if silent else ", whose input is all zero" if starved else ""
        return f"its gradient becomes zero in the rule of `{event.where.what}` {event.place(self.names)}{why}"

    def born_nan(self) -> str:
        """The op that first made a NaN or infinity of finite numbers, or got a NaN: in the forward pass, else backward.

        The text is empty if no op did.
        """
        ill: dict[Key, Event] = {}  # array that is not finite -> the event that first made the infinity
        infinite: Event | None = None
        with self.paused():
            for event in self.events:
                if event.result is None or event.result.dtype.kind != "f" or event.where.what == "detach":
                    continue
                values = event.result.detach().numpy()
                if np.isfinite(values).all():
                    continue
                guilty = next((ill[key] for key in event.sources if key in ill), None)
                ill[id(event.result.array)] = guilty or event
                infinite = infinite or event
                if np.isnan(values).any():
                    return self._birth("NaN", event, guilty)
        if self._mad is not None:
            event = self._mad
            place = f"`{event.where.what}` {event.place(self.names)}{self._range(event)}"
            return f"NaN or infinity comes from the gradient rule of {place}"
        return "" if infinite is None else self._birth("infinity", infinite, None)

    def _birth(self, what: str, event: Event, guilty: Event | None) -> str:
        with self.paused():
            ill = [x for x in event.inputs if x.dtype.kind == "f" and np.isnan(x.detach().numpy()).any()]
        verb = "comes into" if ill else "is born in"  # data or a parameter had it already
        text = f"{what} {verb} `{event.where.what}` {event.place(self.names)}" + self._range(event)
        if ill:
            name = getattr(ill[0], "name", "") or ill[0].origin
            text += f", with `{name}`" if name else ""
        if guilty is not None and guilty is not event:
            text += f", after the infinity of `{guilty.where.what}` {guilty.place(self.names)}" + self._range(guilty)
        return text

    def _range(self, event: Event) -> str:
        with self.paused():
            values = [x.detach().numpy() for x in event.inputs if x.dtype.kind == "f" and x.size]
        return f", from {', '.join(f'[{v.min():.3g}, {v.max():.3g}]' for v in values)}" if values else ""

    def _above(self, loss: Tensor) -> set[Key]:
        """The arrays that the loss was computed from, also across cuts."""
        found: set[Key] = set()
        stack = [id(loss.array)]
        while stack:
            key = stack.pop()
            if key not in found:
                found.add(key)
                stack += self.events[self._made[key]].sources if key in self._made else []
        return found


def _forward() -> Module | None:
    """The module whose `forward` is running."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_name == "forward" and isinstance(frame.f_locals.get("self"), Module):
            return frame.f_locals["self"]
        frame = frame.f_back
    return None
