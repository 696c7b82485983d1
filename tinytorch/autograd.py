"""The tape: what an op is, how it is recorded, and how gradients are walked back. No gradient rules live here.

The one idea: an op is one function that computes its result and hands back one gradient rule per tensor it was given.

```python
@op
def multiply(dev, x1, x2, /):
    return (
        x1 * x2,
        lambda g: g * x2,     # gradient of x1
        lambda g: g * x1,     # gradient of x2
    )
```

`op` unwraps the tensors to arrays of one device, runs the body, and wraps the result in a tensor that remembers its
inputs and rules: that is the tape. `backward` goes from the newest tensor to the oldest, asks each tensor for the
gradients of its inputs, and adds the gradients up. Broadcasting is undone here, once: rules need not undo it.

For gradients of gradients the body is run again, on tensors, with a device whose namespace is tinytorch. The rules that
the body then returns are made of ops, and are recorded like everything else.

The file is long because recording and walking back are read together.
"""

from __future__ import annotations

import functools
import inspect
import operator
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, overload

from tinytorch import words
from tinytorch.backends import Device
from tinytorch.backends.forks import over_forks
from tinytorch.dtypes import NUMBERS
from tinytorch.spelled import missing
from tinytorch.tape import checks
from tinytorch.tape.again import replayed, taped_rules
from tinytorch.tape.gradients import cast, expected, seeded, unbroadcast
from tinytorch.tape.graph import FREED, leading_to
from tinytorch.tape.mixing import any_large, as_float, fitting_of
from tinytorch.tape.modes import GradMode, enable_grad, grad_mode, is_grad_enabled, no_grad, set_grad_enabled
from tinytorch.tape.observer import Observer, observers
from tinytorch.tape.parts import Parts, collected
from tinytorch.tape.variable import Node, Place, Rule, Variable, clock, place_of, run_on, wrap
from tinytorch.words import OneTensor

__all__ = ["OPS", "Observer", "backward", "enable_grad", "grad", "is_grad_enabled", "no_grad", "op", "set_grad_enabled"]

OPS: dict[str, Callable[..., Any]] = {}  # every op by name: a test demands a case for each

_unseen = object()
_new = object.__new__


@overload
def op(body: Callable[..., Any], /) -> Callable[..., OneTensor]: ...


@overload
def op(
    *,
    kinds: str = "biuf",
    one_dtype: bool = False,
    free: tuple[int, ...] = (),
    beyond: str = "refused",
    moves: bool = False,
    kinked: bool = False,
    shapes: str = "",
    unfit: Callable[..., str | None] | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., OneTensor]]: ...


def op(
    body: Callable[..., Any] | None = None,
    /,
    *,
    kinds: str = "biuf",
    one_dtype: bool = False,
    free: tuple[int, ...] = (),
    beyond: str = "refused",
    moves: bool = False,
    kinked: bool = False,
    shapes: str = "",
    unfit: Callable[..., str | None] | None = None,
) -> Any:
    """Make a public, recorded function of an op's body.

    The body takes the device, then the arrays (positional-only), then everything else. The body returns its result and
    one rule per array: a function from the gradient of the result to the gradient of that array, or None where there
    is no gradient. The body uses standard names, array operators and the device's extension points, never looks at
    values, and changes no array that was given. A Python number may stand for an array, and None where the body allows
    None.

    Args:
        kinds: the kinds of dtype that the op takes, in NumPy's letters: b(ool), i(nteger), u(nsigned), f(loating).
        one_dtype: the arrays must have one dtype; otherwise dtypes of one kind mix, as the standard promotes them.
        free: positions of arrays whose dtype has nothing to do with the others', such as indices.
        beyond: what becomes of a Python integer outside the range of the dtype of integer arrays: the integer is
            "refused", "compared" as the infinity of its sign, with the arrays as float32, or "divided" as a float.
        moves: the result lives on the device given as the argument `device`.
        kinked: the op is linear between kinks, as max(x, 0) is: the gradient depends on the arrays, with slope zero.
        shapes: the shapes that the op takes, in words, for error messages.
        unfit: a function of arrays and keyword arguments that says why their shapes do not fit, or None; it is called
            only after the body has failed. See `tinytorch.shapes`.

    `call` is long on purpose: every op goes through `call`, and a further function would add a twentieth to the time.
    """
    if body is None:
        settings: Any = {"kinds": kinds, "one_dtype": one_dtype, "free": free, "beyond": beyond, "moves": moves}
        return functools.partial(op, **settings, kinked=kinked, shapes=shapes, unfit=unfit)
    run: Callable[..., Any] = body
    name = run.__name__.lstrip("_")
    signature = inspect.signature(run)
    parameters = list(signature.parameters.values())[1:]
    variadic = parameters[0].kind is inspect.Parameter.VAR_POSITIONAL
    count = sys.maxsize if variadic else sum(p.kind is inspect.Parameter.POSITIONAL_ONLY for p in parameters)
    places = [p for p in parameters if p.kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL)]
    seen: set[tuple[str, type]] = set()  # keyword arguments and types already checked
    # input dtypes already checked (one if they agree) -> the function that makes such inputs fit, or None
    checked: dict[Device, dict[Any, Any]] = defaultdict(dict)

    @functools.wraps(run)
    def call(*inputs: Any, **meta: Any) -> Any:
        if len(inputs) > count:
            meta = checks.named(call, inputs[count:], meta)
            inputs = inputs[:count]
        for k, v in meta.items():
            if (k, type(v)) not in seen:
                meta = checks.checked_meta(call, meta, seen)
                break
        device = dtype = None  # type: Any
        tracked, uniform = False, True
        arrays, sources = [], []
        for x in inputs:
            if isinstance(x, Variable):
                array = x.array
                if x.device is not device:
                    if device is not None:
                        raise ValueError(checks.different_devices(name, inputs))
                    device, dtype = x.device, array.dtype
                elif array.dtype is not dtype:
                    uniform = False
                arrays.append(array)
                if x._requires_grad:
                    tracked = True
                    sources.append(x.node or x)
                else:
                    sources.append(array)
            else:
                uniform = False
                number = x if x is None or type(x) in NUMBERS else checks.as_number(call, inputs, x)
                arrays.append(number)
                sources.append(number)
        if device is None:
            raise checks.no_tensor(call, inputs)
        if not uniform:
            dtype = tuple([x.array.dtype if isinstance(x, Variable) else type(x) for x in inputs])
        fit = checked[device].get(dtype, _unseen)
        new = fit is _unseen
        if new:
            checks.check_places(call, inputs)
            checks.check_dtypes(call, inputs, arrays)
            fit = None if uniform else fitting_of(device, arrays, free, beyond)
        try:
            if fit is not None:
                arrays = run_on(device, fit, device, arrays)
            current = device.current  # read once: another thread may begin or end a recording
            if current is None:
                result = run(device, *arrays, **meta) if meta else run(device, *arrays)
            else:
                result = current(run, device, *arrays, **meta)
        except (*checks.ERRORS, AttributeError, RuntimeError) as error:
            if isinstance(error, checks.ERRORS) and any_large(inputs):
                return call(*(as_float(x) if type(x) is int else x for x in inputs), **meta)
            told = checks.explained(error, call, inputs, meta)
            if told is error:
                raise
            raise told.with_traceback(error.__traceback__) from None
        if new:
            if type(result) is not tuple or len(result) <= len(inputs):
                raise TypeError(f"{name}: the body of an op returns its result and a rule, or None, for each array")
            checked[device][dtype] = fit
        if moves:
            device = meta["device"]
        out = result[0]
        if type(out) is not device.array_type:
            out = device.asarray(out)
        if device.large and out.nbytes >= device.large:
            device.hold(out)
        tensor = _new(Variable.result)
        tensor.array = out
        tensor.device = device
        tensor.grad = None
        tensor.is_view = False
        rules = result[1:] if tracked and grad_mode.enabled else ()
        if rules and (None not in rules or _any_rule(sources, rules)):
            tensor._requires_grad = True
            tensor.node = node = Node()
            node.op = call
            node.inputs = sources
            node.meta = meta
            node.rules = rules
            node.order = next(clock)
            node.device = device
            node.shape = out.shape
            node.dtype = out.dtype
        else:
            tensor._requires_grad = False
            tensor.node = None
        for observer in observers:
            observer.made(name, inputs, meta, tensor)
        return tensor

    vars(call).update(
        name=name,
        body=run,
        kinds=kinds,
        one_dtype=one_dtype,
        free=free,
        beyond=beyond,
        kinked=kinked,
        shapes=shapes,
        unfit=unfit,
        places=places,
        takes_numbers=not (one_dtype or shapes or variadic),  # whether a Python number may stand for an array
        others=[p.name for p in parameters if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD],
        walked=set(),  # the devices on which its rules have given proper arrays
        __signature__=signature.replace(parameters=parameters),  # as callers see it
    )
    OPS[name] = call
    return call


def _any_rule(sources: Sequence[Any], rules: Sequence[Rule | None]) -> bool:
    """Whether a rule gives a gradient to an input that requires one."""
    for source, rule in zip(sources, rules):
        if rule is not None and (type(source) is Node or isinstance(source, Variable)):
            return True
    return False


_committing = over_forks(threading.RLock())


def backward(tensor: Variable, gradient: Variable | None, retain_graph: bool, create_graph: bool) -> None:
    """Add the gradient of `tensor` with respect to every leaf it was computed from to that leaf's `grad`."""
    if not tensor._requires_grad:
        raise RuntimeError(
            "backward: the tensor does not depend on any tensor with requires_grad=True (or was computed under "
            "no_grad); create a leaf with Tensor(..., requires_grad=True) and compute from it"
        )
    words.flags("backward", retain_graph=retain_graph, create_graph=create_graph)
    grads = _walk([tensor], [seeded(tensor, gradient, create_graph)], None, retain_graph, create_graph)
    with _committing:
        for leaf in grads:
            if leaf.grad is not None and leaf.grad.shape != leaf.shape:
                raise ValueError(
                    f"backward: {checks.describe(leaf)} has a grad of shape {leaf.grad.shape}; set it to None first"
                )
        for leaf, g in grads.items():
            new = g if create_graph else wrap(g, leaf.device)
            if new is gradient:  # the caller has `gradient`, and may write into it
                new = g.copy()
            if leaf.grad is not None:
                with GradMode(create_graph):
                    new = leaf.grad + new
            leaf.grad = new


@words.worded
def grad(
    outputs: OneTensor | Iterable[Any],
    inputs: OneTensor | Iterable[Any],
    grad_outputs: OneTensor | Iterable[Any] | None = None,
    *,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[OneTensor, ...]:
    """The gradients of the sum of `outputs` with respect to `inputs`; no `grad` is touched.

    Args:
        outputs: a tensor or a sequence of tensors.
        inputs: a tensor or a sequence of tensors that the outputs were computed from; they need not be leaves.
        grad_outputs: the gradient of each output; None, or left out, for one-element outputs.
        retain_graph: keep the graph for another walk; by default as `create_graph`.
        create_graph: record the walk, so that the gradients can be differentiated in turn.
        allow_unused: give None for an input that the outputs do not depend on.

    Raises:
        RuntimeError: an output or input does not require a gradient, the graph was freed, or an input is not used.

    >>> x = Tensor(3.0, requires_grad=True)
    >>> (g,) = tinytorch.grad(x * x * x, x, create_graph=True)
    >>> (h,) = tinytorch.grad(g, x)
    >>> g.item(), h.item()
    (27.0, 18.0)
    """
    roots = [outputs] if isinstance(outputs, Variable) else list(outputs)
    wanted = [inputs] if isinstance(inputs, Variable) else list(inputs)
    seeds = [grad_outputs] if grad_outputs is None or isinstance(grad_outputs, Variable) else list(grad_outputs)
    if grad_outputs is None:
        seeds = [None] * len(roots)
    if len(seeds) != len(roots):
        raise ValueError(f"grad: {len(roots)} outputs need as many grad_outputs, not {len(seeds)}")
    for what, tensors in (("output", roots), ("input", wanted)):
        for i, t in enumerate(tensors):
            if not isinstance(t, Variable) or not t._requires_grad:
                raise RuntimeError(f"grad: {what} {i} does not require a gradient: {checks.describe(t)}")
    keep = create_graph if retain_graph is None else retain_graph
    words.flags("grad", retain_graph=keep, create_graph=create_graph, allow_unused=allow_unused)
    start = [seeded(t, g, create_graph) for t, g in zip(roots, seeds)]
    grads = _walk(roots, start, wanted, keep, create_graph)
    found = [grads.get(place_of(t)) for t in wanted]
    missing = [i for i, g in enumerate(found) if g is None]
    if missing and not allow_unused:
        raise RuntimeError(
            f"grad: the outputs do not depend on input {missing[0]} ({checks.describe(wanted[missing[0]])}); "
            "pass allow_unused=True to get None for it"
        )
    if create_graph:
        return tuple(found)  # type: ignore[arg-type]
    return tuple([None if g is None else wrap(g, t.device) for g, t in zip(found, wanted)])  # type: ignore[misc]


def _walk(
    roots: Sequence[Variable], seeds: Sequence[Any], wanted: Sequence[Variable] | None, retain: bool, create: bool
) -> dict[Place, Any]:
    """Gradients (arrays; tensors if `create`) of the wanted tensors, or of all leaves if `wanted` is None."""
    starts = [place_of(t) for t in roots]
    asked = {place_of(t) for t in wanted or ()}
    through = None if wanted is None else leading_to(asked, starts)
    needed = None if through is None else asked | through
    values = replayed(starts) if create else None
    grads: dict[Place, Any] = {}  # of places that are still to be walked through
    found: dict[Place, Any] = {}
    heap: list[tuple[int, Node]] = []
    with GradMode(create) if create else nullcontext():
        for place, seed in zip(starts, seeds):
            _accumulate(grads, heap, place, seed)
        while heap:
            node = heappop(heap)[1]
            g = grads.pop(node)
            if type(g) is Parts:
                g = g.whole(node.device)
            if through is not None:
                if node in asked:
                    found[node] = g
                if node not in through:
                    continue
            current = node.device.current
            if current is None:
                _pull(node, node.rules, g, grads, heap, needed, values)
            else:  # the rules are an argument too: a device may have to keep what they read
                current(_pull, node, node.rules, g, grads, heap, needed, values)
            if not retain:
                node.rules, node.inputs, node.meta = None, (), {}
        for place, g in grads.items():
            if type(g) is Parts:
                grads[place] = g.whole(place.device)
    if wanted is None:
        return grads
    found.update((place, g) for place, g in grads.items() if place in asked)
    return found


def _pull(
    node: Node,
    rules: tuple[Rule | None, ...] | None,
    g: Any,
    grads: dict[Place, Any],
    heap: list[tuple[int, Node]],
    needed: set[Place] | None,
    values: dict[Node, Any] | None,
) -> None:
    """Add what a node with the gradient g gives to the gradients of its inputs."""
    if rules is None:
        raise RuntimeError(FREED)
    dev: Any = node.device
    kind, known = dev.array_type, dev in node.op.walked
    if values is not None:
        dev, rules = taped_rules(node, values)
        kind = Variable.result
    for at, (source, rule) in enumerate(zip(node.inputs, rules)):
        if rule is None:
            continue
        if type(source) is Node:
            like: Any = source
        elif isinstance(source, Variable) and source._requires_grad:  # a leaf may no longer require one
            like = source.array
        else:
            continue
        if needed is not None and source not in needed:
            continue
        try:
            gx = rule(g)
            if values is not None:
                like = values.get(source, source)
            if type(gx) is not kind or not known:
                gx = expected(node, at, gx, values is not None)
            if gx.shape != like.shape:
                gx = run_on(dev, unbroadcast, dev, node, at, gx, like.shape)
            if gx.dtype is not like.dtype and gx.dtype != like.dtype:
                gx = run_on(dev, cast, dev, node, at, gx, like.dtype)
        except Exception as error:
            error.add_note(
                f"in the gradient rules of {getattr(node, 'made_at', node.op.name)}, for a result of shape {node.shape}"
            )
            raise
        # a rule of `transfer` gives an array of another device
        if values is None and dev.large and type(gx) is dev.array_type and gx.nbytes >= dev.large:
            dev.hold(gx)
        for observer in observers:
            observer.pulled(node, source, gx)
        _accumulate(grads, heap, source, gx)
    if not known:
        node.op.walked.add(node.device)


def _accumulate(grads: dict[Place, Any], heap: list[tuple[int, Node]], place: Place, g: Any) -> None:
    """Add g to the gradient of a place. At its first gradient a node is lined up for the walk."""
    if place not in grads:
        grads[place] = g
        if type(place) is Node:
            heappush(heap, (place.order, place))
    elif type(g) is Parts or type(grads[place]) is Parts:
        grads[place] = collected(grads[place], g, place.device)
    elif (current := place.device.current) is None:
        grads[place] = grads[place] + g
    else:
        grads[place] = current(operator.add, grads[place], g)


if not TYPE_CHECKING:  # a type checker takes a module with `__getattr__` to have every attribute

    def __getattr__(name: str) -> Any:
        raise missing("autograd", name, "module 'tinytorch.autograd'", sys.modules[__name__])
