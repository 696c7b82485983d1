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
inputs and rules: that is the tape. `backward` goes from the newest tensor to the oldest, asks each for the gradients of
its inputs, and adds them up. Broadcasting is undone here, once, so that no rule has to.

For gradients of gradients the body is run again, this time on the tensors themselves, with a device whose namespace is
tinytorch's own: the rules it returns are then made of ops, and are recorded like everything else.
"""

from __future__ import annotations

import functools
import heapq
import inspect
import itertools
import math
import operator
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import ContextDecorator
from typing import Any, ClassVar, overload

import numpy as np

from backends import Array, Device

Rule = Callable[[Any], Any]

OPS: dict[str, Callable[..., Any]] = {}  # every op by name: a test demands a case for each

_NUMBERS = (bool, int, float)
_KINDS = {"b": "bool", "i": "integer", "u": "integer", "f": "floating"}
_clock = itertools.count(0, -1)  # order of creation, newest smallest: what a heap pops first
_new = object.__new__


class _Mode(threading.local):
    def __init__(self) -> None:
        self.enabled = True
        self.outer: list[bool] = []


_mode = _Mode()


class Variable:
    """What the tape knows of a tensor: its array and device, and, if an op made it, how. `Tensor` adds the rest."""

    __slots__ = (
        "__weakref__",
        "_requires_grad",
        "array",  # of the device's library
        "arrays",  # the arrays its op ran on, and what else it was given, in order
        "device",
        "grad",
        "inputs",  # the tensors its op was given, and what else, in order
        "meta",  # the keyword arguments of its op
        "op",
        "order",  # when it was made
        "rules",  # one per input; None if no op was recorded (a leaf), _FREED after backward, SHARED if detached
    )

    array: Array
    device: Device
    grad: Any
    op: Any
    inputs: tuple[Any, ...]
    arrays: Sequence[Any]
    meta: dict[str, Any]
    rules: tuple[Rule | None, ...] | None
    order: int
    _requires_grad: bool
    result: ClassVar[type[Any]]  # the class of what ops return: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis."""
        return tuple(self.array.shape)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return int(self.array.ndim)

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the elements, as a NumPy dtype, whatever the library: `x.dtype == tinytorch.float32`."""
        return self.device.dtype_of(self.array)


_FREED: tuple[Rule, ...] = (lambda g: g,)  # told apart by identity, never called
SHARED: tuple[Rule, ...] = (lambda g: g,)  # in place of rules: a detached tensor, which shares its array with another


# Recording --------------------------------------------------------------------------------------------------------


@overload
def op(body: Callable[..., Any], /) -> Callable[..., Any]: ...


@overload
def op(
    *, kinds: str = "biuf", same: bool = False, apart: tuple[int, ...] = (), wants: str = ""
) -> Callable[[Callable[..., Any]], Callable[..., Any]]: ...


def op(
    body: Callable[..., Any] | None = None,
    /,
    *,
    kinds: str = "biuf",
    same: bool = False,
    apart: tuple[int, ...] = (),
    wants: str = "",
) -> Any:
    """Make a public, recorded function of an op's body.

    The body takes the device, then the arrays (positional-only), then everything else. It returns its result and one
    rule per array: a function from the gradient of the result to the gradient of that array, or None where there is
    none. It uses standard names, array operators and the device's extension points, never looks at values and mutates
    nothing. In place of an array a Python number may be given, or None where the body allows it.

    Args:
        kinds: the kinds of dtype it takes, as NumPy abbreviates them: b(ool), i(nteger), u(nsigned), f(loating).
        same: the arrays must have one dtype; otherwise dtypes of one kind mix, as the standard promotes them.
        apart: positions of arrays whose dtype has nothing to do with the others', such as indices.
        wants: the shapes it takes, for error messages.
    """
    if body is None:
        return functools.partial(op, kinds=kinds, same=same, apart=apart, wants=wants)
    name = body.__name__.lstrip("_")
    parameters = list(inspect.signature(body).parameters.values())[1:]
    variadic = parameters[0].kind is inspect.Parameter.VAR_POSITIONAL
    count = sys.maxsize if variadic else sum(p.kind is inspect.Parameter.POSITIONAL_ONLY for p in parameters)
    others = [p.name for p in parameters if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    checked: dict[Device, set[Any]] = defaultdict(
        set
    )  # dtypes that were found right: of all inputs, or a tuple of each
    run: Callable[..., Any] = body

    @functools.wraps(body)
    def call(*inputs: Any, **meta: Any) -> Any:
        if len(inputs) > count:
            meta = _named(name, others, inputs[count:], meta)
            inputs = inputs[:count]
        device = dtype = lead = None
        tracked, uniform = False, True
        arrays = []
        for x in inputs:
            if isinstance(x, Variable):
                array = x.array
                if device is None:
                    device, dtype, lead = x.device, array.dtype, array
                elif x.device is not device:
                    raise ValueError(_different_devices(name, inputs))
                elif array.dtype is not dtype:
                    uniform = False
                if x._requires_grad:
                    tracked = True
                arrays.append(array)
            else:
                uniform = False
                arrays.append(x if x is None or type(x) in _NUMBERS else _plain(name, x))
        if device is None:
            raise TypeError(f"{name}: takes at least one Tensor, not {', '.join(type(x).__name__ for x in inputs)}")
        if not uniform:
            dtype = tuple([x.array.dtype if isinstance(x, Variable) else type(x) for x in inputs])
        if dtype not in checked[device]:
            _check_dtypes(name, kinds, same, apart, device.dtype_of(lead), inputs, arrays)
            checked[device].add(dtype)
        try:
            if device.current is None:
                result = run(device, *arrays, **meta)
            else:
                result = device.current(run, device, *arrays, **meta)
        except (TypeError, ValueError, IndexError, RuntimeError) as error:
            raise _explained(error, name, wants, inputs, meta) from error
        out, home = result[0], meta.get("device", device) if meta else device
        tensor = _new(Variable.result)
        tensor.array = out if type(out) is home.array_type else home.asarray(out)
        tensor.device = home
        tensor.grad = tensor.rules = None
        tensor._requires_grad = False
        if tracked and _mode.enabled:
            rules = result[1:]
            if None not in rules or _any_rule(inputs, rules):
                tensor._requires_grad = True
                tensor.op = call
                tensor.inputs = inputs
                tensor.arrays = arrays
                tensor.meta = meta
                tensor.rules = rules
                tensor.order = next(_clock)
        return tensor

    call.body = body  # type: ignore[attr-defined]
    OPS[name] = call
    return call


def _any_rule(inputs: Sequence[Any], rules: Sequence[Rule | None]) -> bool:
    """Whether an input that requires a gradient gets one."""
    return any(rule is not None and isinstance(x, Variable) and x._requires_grad for x, rule in zip(inputs, rules))


def shared(function: Rule) -> Rule:
    """A step that several rules of one op have in common: computed once for each gradient that comes in.

    ```python
    ds = shared(lambda g: ...)
    return out, lambda g: ds(g) @ k, lambda g: ds(g).mT @ q
    ```
    """
    known: list[Any] = [None, None]

    def call(g: Any) -> Any:
        if known[0] is not g:
            known[:] = g, function(g)
        return known[1]

    return call


class set_grad_enabled(ContextDecorator):
    """Record ops, or do not, inside a `with` block or a decorated function, on this thread."""

    def __init__(self, mode: bool) -> None:
        self.mode = mode

    def __enter__(self) -> None:
        _mode.outer.append(_mode.enabled)
        _mode.enabled = self.mode

    def __exit__(self, *exc: object) -> None:
        _mode.enabled = _mode.outer.pop()


def no_grad() -> set_grad_enabled:
    """Do not record ops inside a `with` block, or a function it decorates, on this thread.

    >>> x = Tensor([1.0], requires_grad=True)
    >>> with tinytorch.no_grad():
    ...     (x * 2).requires_grad
    False
    """
    return set_grad_enabled(False)


def enable_grad() -> set_grad_enabled:
    """Record ops again inside a `no_grad` block."""
    return set_grad_enabled(True)


def is_grad_enabled() -> bool:
    """Whether ops of this thread are recorded now."""
    return _mode.enabled


# Walking back -----------------------------------------------------------------------------------------------------


class _Taped:
    """A device whose arrays are tensors: what an op's body is given when its rules are to be recorded.

    Its namespace is tinytorch, and its extension points are the ops of the same name.
    """

    def __init__(self, device: Device, xp: Any) -> None:
        self.native = device
        self.xp = xp
        self.dtype = np.dtype
        self.default_int = device.default_int

    def __getattr__(self, name: str) -> Any:
        return getattr(self.xp, name)


def backward(tensor: Variable, gradient: Variable | None, retain_graph: bool, create_graph: bool) -> None:
    """Add the gradient of `tensor` with respect to every leaf it was computed from to that leaf's `grad`."""
    if not tensor._requires_grad:
        raise RuntimeError(
            "backward: the tensor does not depend on any tensor with requires_grad=True (or was computed under "
            "no_grad); create a leaf with Tensor(..., requires_grad=True) and compute from it"
        )
    grads = _walk([tensor], [_seed(tensor, gradient, create_graph)], None, retain_graph, create_graph)
    with set_grad_enabled(create_graph):
        for leaf, g in grads.items():
            new = g if create_graph else wrap(g, leaf.device)
            leaf.grad = new if leaf.grad is None else leaf.grad + new


def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    *,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Any, ...]:
    """The gradients of the sum of `outputs` with respect to `inputs`, without touching anybody's `grad`.

    Args:
        outputs: a tensor or a sequence of tensors.
        inputs: a tensor or a sequence of tensors that the outputs were computed from; they need not be leaves.
        grad_outputs: the gradient of each output; may be left out, or None, for one-element outputs.
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
                raise RuntimeError(f"grad: {what} {i} does not require a gradient: {_describe(t)}")
    keep = create_graph if retain_graph is None else retain_graph
    start = [_seed(t, g, create_graph) for t, g in zip(roots, seeds)]
    grads = _walk(roots, start, wanted, keep, create_graph)
    missing = [i for i, t in enumerate(wanted) if t not in grads]
    if missing and not allow_unused:
        raise RuntimeError(
            f"grad: the outputs do not depend on input {missing[0]} ({_describe(wanted[missing[0]])}); "
            "pass allow_unused=True to get None for it"
        )
    found = [grads.get(t) for t in wanted]
    if create_graph:
        return tuple(found)
    return tuple(None if g is None else wrap(g, t.device) for g, t in zip(found, wanted))


def wrap(array: Array, device: Device, requires_grad: bool = False) -> Any:
    """A leaf tensor around an array that lives on the device."""
    tensor = _new(Variable.result)
    tensor.array = array if type(array) is device.array_type else device.asarray(array)
    tensor.device = device
    tensor.grad = tensor.rules = None
    tensor._requires_grad = requires_grad
    return tensor


def _walk(
    roots: Sequence[Variable], seeds: Sequence[Any], wanted: Sequence[Variable] | None, retain: bool, create: bool
) -> dict[Variable, Any]:
    """Gradients (arrays; tensors if `create`) of the wanted tensors, or of all leaves if `wanted` is None."""
    needed, through = (None, None) if wanted is None else _leading_to(wanted, roots)
    asked = set(wanted or ())
    grads: dict[Variable, Any] = {}  # of tensors not yet walked through
    found: dict[Variable, Any] = {}
    heap: list[tuple[int, Variable]] = []
    with set_grad_enabled(create):
        for t, seed in zip(roots, seeds):
            _accumulate(grads, heap, t, seed)
        while heap:
            t = heapq.heappop(heap)[1]
            g = grads.pop(t)
            if t in asked:
                found[t] = g
            if through is not None and t not in through:
                continue
            if t.rules is _FREED:
                raise RuntimeError(_GONE)
            if t.device.current is None:
                _pull(t, g, grads, heap, needed, create)
            else:
                t.device.current(_pull, t, g, grads, heap, needed, create)
            if not retain:
                t.rules, t.inputs, t.arrays, t.meta = _FREED, (), (), {}
    if wanted is None:
        return grads
    found.update((t, g) for t, g in grads.items() if t in asked)
    return found


def _pull(
    t: Any,
    g: Any,
    grads: dict[Variable, Any],
    heap: list[tuple[int, Variable]],
    needed: set[Variable] | None,
    create: bool,
) -> None:
    """Add to the gradients of a tensor's inputs what comes from this tensor, whose own is g."""
    if create:
        dev, rules = _replayed(t)
    else:
        dev, rules = t.device, t.rules
    for x, array, rule in zip(t.inputs, t.arrays, rules):
        if rule is None or not isinstance(x, Variable) or not x._requires_grad:
            continue
        if needed is not None and x not in needed:
            continue
        gx = rule(g)
        like = x if create else array
        if gx.shape != like.shape:
            gx = _unbroadcast(dev.xp, gx, like.shape)
        if gx.dtype != like.dtype:
            gx = dev.xp.astype(gx if create else dev.asarray(gx), like.dtype)
        _accumulate(grads, heap, x, gx)


def _accumulate(grads: dict[Variable, Any], heap: list[tuple[int, Variable]], t: Variable, g: Any) -> None:
    """Add g to the gradient of t; the first time, line t up to be walked through."""
    if t not in grads:
        grads[t] = g
        if t.rules is not None:
            heapq.heappush(heap, (t.order, t))
    elif t.device.current is None:
        grads[t] = grads[t] + g
    else:
        grads[t] = t.device.current(operator.add, grads[t], g)


def _replayed(t: Any) -> tuple[_Taped, tuple[Rule, ...]]:
    """The op's body run again on the tensors themselves: its rules are then made of ops."""
    for x, array in zip(t.inputs, t.arrays):
        if isinstance(x, Variable) and x.array is not array:
            raise RuntimeError(
                f"backward: {_describe(x)} was changed after {t.op.__name__} used it, by an optimizer step or an "
                "assignment; take gradients with create_graph=True before changing it"
            )
    dev = _Taped(t.device, t.__array_namespace__())
    return dev, t.op.body(dev, *t.inputs, **t.meta)[1:]


def _unbroadcast(xp: Any, g: Any, shape: tuple[int, ...]) -> Any:
    """The gradient of an array of that shape, from the gradient of what it was broadcast to."""
    extra = g.ndim - len(shape)
    axes = (*range(extra), *(i + extra for i, n in enumerate(shape) if n == 1 and g.shape[i + extra] != 1))
    return xp.reshape(xp.sum(g, axis=axes), shape)


def _leading_to(wanted: Sequence[Variable], roots: Iterable[Variable]) -> tuple[set[Variable], set[Variable]]:
    """The tensors on a path from a root back to a wanted one, and those of them that the path goes on from."""
    found: set[Variable] = set()
    stack = list(roots)
    while stack:
        t = stack.pop()
        if t not in found:
            found.add(t)
            if t.rules is _FREED and any(w.rules is None or w.order > t.order for w in wanted):
                raise RuntimeError(_GONE)  # who knows what it was made of
            if t.rules is not None:
                stack += [x for x in t.inputs if isinstance(x, Variable) and x._requires_grad]
    needed, through = set(wanted), set()
    for t in sorted((t for t in found if t.rules is not None), key=lambda t: -t.order):
        if any(isinstance(x, Variable) and x in needed for x in t.inputs):
            needed.add(t)
            through.add(t)
    return needed, through


def _seed(t: Any, gradient: Any, create: bool) -> Any:
    """The gradient that a walk from `t` starts with."""
    if gradient is None:
        if t.size != 1:
            raise RuntimeError(
                f"backward: the gradient of a tensor of shape {t.shape} must be given, as in "
                "y.backward(tinytorch.ones_like(y)); only a one-element tensor starts from 1"
            )
        gradient = t.__array_namespace__().ones_like(t)
    if not isinstance(gradient, Variable):
        raise TypeError(f"backward: the gradient is a Tensor, not {type(gradient).__name__}")
    for what in ("shape", "dtype", "device"):
        given, needed = getattr(gradient, what), getattr(t, what)
        if given != needed:
            raise ValueError(f"backward: the gradient has {what} {given}, the tensor {needed}; they must be the same")
    return gradient if create else gradient.array


_GONE = (
    "backward: this part of the graph was freed by an earlier backward; call the first one with retain_graph=True, "
    "or compute the output again"
)


# Saying what is wrong ---------------------------------------------------------------------------------------------


def _describe(x: Any) -> str:
    """A tensor in an error message: "float32 (3, 2) 'weight' on cpu"."""
    if not isinstance(x, Variable):
        return repr(x)
    name = getattr(x, "name", "")
    label = f" {name!r}" if name else ""
    return f"{x.dtype.name} {x.shape}{label} on {x.device}"


def _explained(error: Exception, name: str, wants: str, inputs: Sequence[Any], meta: dict[str, Any]) -> Exception:
    """The library's error as one of the standard's, with the op and what it was given."""
    kind = next((k for k in (IndexError, TypeError, NotImplementedError) if isinstance(error, k)), ValueError)
    given = ", ".join([*map(_describe, inputs), *(f"{k}={v!r}" for k, v in meta.items())])
    text = str(error)
    if text.startswith(f"{name}: "):
        text = text[len(name) + 2 :]
    return kind(f"{name}({given}): {text}" + (f"; {name} takes {wants}" if wants else ""))


def _different_devices(name: str, inputs: Sequence[Any]) -> str:
    tensors = [x for x in inputs if isinstance(x, Variable)]
    a = tensors[0]
    b = next(x for x in tensors if x.device is not a.device)
    return f"{name}: {_describe(a)} and {_describe(b)} are on different devices; move one with .to('{a.device}')"


def _named(name: str, others: Sequence[str], values: Sequence[Any], meta: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments, with the positional ones after the arrays among them."""
    if len(values) > len(others):
        raise TypeError(f"{name}: {len(values) - len(others)} positional arguments too many")
    given = dict(zip(others, values))
    twice = given.keys() & meta.keys()
    if twice:
        raise TypeError(f"{name}: {', '.join(sorted(twice))} given twice")
    return given | meta


_WEAK = {(bool, "bool"), (int, "integer"), (int, "floating"), (float, "floating")}  # numbers that go with a kind


def _plain(name: str, x: Any) -> Any:
    """The Python number that an argument which is no Tensor stands for."""
    if isinstance(x, np.generic) and x.dtype.kind in _KINDS:
        return x.item()
    if isinstance(x, _NUMBERS):
        return x
    raise TypeError(
        f"{name}: takes Tensors and Python numbers, not {type(x).__module__}.{type(x).__qualname__}; "
        "make it a Tensor with tinytorch.asarray(...)"
    )


def _check_dtypes(
    name: str,
    kinds: str,
    same: bool,
    apart: tuple[int, ...],
    lead: np.dtype[Any],
    inputs: Sequence[Any],
    arrays: Sequence[Any],
) -> None:
    """Raise TypeError unless the dtypes are right: the same on every device, whatever its library would do."""
    mixing = [x for i, x in enumerate(inputs) if i not in apart]
    dtypes = {x.device.dtype_of(x.array) for x in mixing if isinstance(x, Variable)}
    found = {_KINDS[d.kind] for d in dtypes}
    allowed = ""
    if lead.kind not in kinds:
        allowed = " or ".join(dict.fromkeys(_KINDS[k] for k in kinds)) + " dtypes"
    elif same and len(dtypes) > 1:
        allowed = "one dtype"
    elif len(found) > 1 or (np.dtype("uint64") in dtypes and any(d.kind == "i" for d in dtypes)):
        allowed = "dtypes of one kind (bool, integer or floating; not uint64 with a signed one)"
    if allowed:
        raise TypeError(f"{name}: {', '.join(map(_describe, mixing))}: takes {allowed}; convert with .astype(...)")
    for i, x in enumerate(arrays):
        if type(x) in _NUMBERS and i not in apart and found and (type(x), *found) not in _WEAK:
            raise TypeError(
                f"{name}: the {type(x).__name__} {x!r} does not go with {', '.join(d.name for d in dtypes)}; "
                "convert the tensor with .astype(...)"
            )
