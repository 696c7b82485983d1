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
import inspect
import itertools
import math
import operator
import sys
import threading
import types
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self, TypeVar, overload

import numpy as np

from tinytorch import shapes, words
from tinytorch.backends import Array, Device, device_of
from tinytorch.backends import device as find_device
from tinytorch.backends.forks import over_forks
from tinytorch.dtypes import number
from tinytorch.spelled import missing
from tinytorch.words import OneTensor

Rule = Callable[[Any], Any]

OPS: dict[str, Callable[..., Any]] = {}  # every op by name: a test demands a case for each

_NUMBERS = (bool, int, float)
_KINDS = {"b": "bool", "i": "integer", "u": "integer", "f": "floating"}
_clock = itertools.count(0, -1)  # order of creation, newest smallest: what a heap pops first
_new = object.__new__
_unseen = object()


class _Mode(threading.local):
    def __init__(self) -> None:
        self.enabled = True
        self.outer: list[bool] = []


_mode = _Mode()


class Node:
    """How a recorded tensor was made: by which op, from what, and the gradient rule of each of these.

    The tensors between the ops of a graph are not kept: a rule keeps what it needs, and nothing else does.
    """

    __slots__ = ("__weakref__", "device", "dtype", "inputs", "made_at", "meta", "op", "order", "rules", "shape")

    op: Any  # the function: `op.name` is its name
    inputs: Sequence[Any]  # for each: its Node, a leaf, an array that needs no gradient, or a number
    meta: dict[str, Any]  # the keyword arguments
    rules: tuple[Rule | None, ...] | None  # one per input; None once the walk back has freed them
    order: int  # when it was made
    made_at: Any  # by which line of the user's code, if `tinytorch.debug()` was on
    device: Device  # these three are the result's
    shape: tuple[int, ...]
    dtype: Any

    def __repr__(self) -> str:
        return f"<node of {self.op.name}, shape {tuple(self.shape)}>"


class Size(int):
    """The number of elements: an integer that says what to write where PyTorch's `x.size()` is meant."""

    __slots__ = ()

    def __call__(self, *args: Any) -> NoReturn:
        """Raise TypeError: a length is in the shape."""
        written = f"x.shape[{args[0]!r}]" if args else "x.shape"
        raise TypeError(f"size: x.size is the number of elements, an integer; write {written}")


class Variable:
    """What the tape knows of a tensor: its array, its device, and its node if an op made it. `Tensor` adds the rest."""

    __slots__ = ("__weakref__", "_requires_grad", "array", "changed", "device", "grad", "made_at", "node", "shared")

    array: Array  # of the device's library; never written into, only replaced, by `assign`
    changed: int  # when it was last replaced; not there if it never was
    device: Device
    grad: Any
    made_at: Any  # by which line of the user's code, where that is known: see `Tensor.origin`
    node: Node | None  # None for a leaf
    shared: bool  # detached or sliced from another tensor, whose values it shows
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
        return Size(math.prod(self.array.shape))

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the elements, as a NumPy dtype, whatever the library: `x.dtype == tinytorch.float32`."""
        return self.device.dtype_of(self.array)

    def assign(self, array: Array, node: Node | None = None) -> None:
        """Take on another array, and the node that made it. Graphs recorded before go on with the old one."""
        self.array = array
        self.changed = next(_clock)
        if node is not None:
            self.node, self._requires_grad = node, True


_set_array: Callable[[Variable, Array], None] = vars(Variable)["array"].__set__
_set_changed: Callable[[Variable, int], None] = vars(Variable)["changed"].__set__


def assign_all(pairs: Iterable[tuple[Sequence[Variable], Sequence[Array]]], *others: tuple[Any, str, Any]) -> None:
    """`assign` tensors their arrays, and set attributes of other objects, given as (object, name, value).

    It is all one call into C, during which Python runs no handler of a signal, and without free threading no other
    thread: nobody sees a part of it, and an interrupt comes before or after.
    """
    now, changes = itertools.repeat(next(_clock)), []  # type: Any, list[Iterable[None]]
    for tensors, arrays in pairs:
        changes += map(_set_array, tensors, arrays), map(_set_changed, tensors, now)
    deque(itertools.chain(*changes, itertools.starmap(object.__setattr__, others)), maxlen=0)


# Recording --------------------------------------------------------------------------------------------------------


@overload
def op(body: Callable[..., Any], /) -> Callable[..., Any]: ...


@overload
def op(
    *,
    kinds: str = "biuf",
    same: bool = False,
    apart: tuple[int, ...] = (),
    beyond: str = "refused",
    moves: bool = False,
    kinked: bool = False,
    wants: str = "",
) -> Callable[[Callable[..., Any]], Callable[..., Any]]: ...


def op(
    body: Callable[..., Any] | None = None,
    /,
    *,
    kinds: str = "biuf",
    same: bool = False,
    apart: tuple[int, ...] = (),
    beyond: str = "refused",
    moves: bool = False,
    kinked: bool = False,
    wants: str = "",
) -> Any:
    """Make a public, recorded function of an op's body.

    The body takes the device, then the arrays (positional-only), then everything else. It returns its result and one
    rule per array: a function from the gradient of the result to the gradient of that array, or None where there is
    none. It uses standard names, array operators and the device's extension points, never looks at values, and
    changes nothing that it was given. In place of an array a Python number may be given, or None where the body allows
    it.

    Args:
        kinds: the kinds of dtype it takes, as NumPy abbreviates them: b(ool), i(nteger), u(nsigned), f(loating).
        same: the arrays must have one dtype; otherwise dtypes of one kind mix, as the standard promotes them.
        apart: positions of arrays whose dtype has nothing to do with the others', such as indices.
        beyond: what becomes of a Python integer outside the range of the integer dtype that it meets: it is "refused",
            "compared" as the infinity of its sign, with the arrays as float32, or "divided" as a float.
        moves: the result lives on the device given as the argument `device`.
        kinked: it is linear but for kinks, as max(x, 0) is: its gradient depends on the arrays, and that one's is zero.
        wants: the shapes it takes, for error messages.
    """
    if body is None:
        settings = {"beyond": beyond, "moves": moves, "kinked": kinked}
        return functools.partial(op, kinds=kinds, same=same, apart=apart, wants=wants, **settings)
    run: Callable[..., Any] = body
    name = run.__name__.lstrip("_")
    signature = inspect.signature(run)
    parameters = list(signature.parameters.values())[1:]
    variadic = parameters[0].kind is inspect.Parameter.VAR_POSITIONAL
    count = sys.maxsize if variadic else sum(p.kind is inspect.Parameter.POSITIONAL_ONLY for p in parameters)
    others = [p.name for p in parameters if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    places = [p for p in parameters if p.kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL)]
    numbers = not (same or wants or variadic)  # whether one may stand for an array
    plain: set[tuple[str, type]] = set()  # keyword arguments and types found right
    # dtypes found right, of all inputs or a tuple of each one's -> what makes such arrays fit; None if they do already
    checked: dict[Device, dict[Any, Any]] = defaultdict(dict)

    @functools.wraps(run)
    def call(*inputs: Any, **meta: Any) -> Any:
        if len(inputs) > count:
            meta = _named(name, others, inputs[count:], meta)
            inputs = inputs[:count]
        for k, v in meta.items():
            if (k, type(v)) not in plain:
                meta = _checked_meta(name, run, meta, plain)
                break
        device = dtype = None  # type: Any
        tracked, uniform = False, True
        arrays, sources = [], []
        for x in inputs:
            if isinstance(x, Variable):
                array = x.array
                if x.device is not device:
                    if device is not None:
                        raise ValueError(_different_devices(name, inputs))
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
                number = x if x is None or type(x) in _NUMBERS else _plain(name, places, inputs, x)
                arrays.append(number)
                sources.append(number)
        if device is None:
            raise _no_tensor(name, places, inputs)
        if not uniform:
            dtype = tuple([x.array.dtype if isinstance(x, Variable) else type(x) for x in inputs])
        fit = checked[device].get(dtype, _unseen)
        new = fit is _unseen
        if new:
            _check_places(name, places, numbers, apart, inputs)
            _check_dtypes(name, kinds, same, apart, inputs, arrays)
            fit = None if uniform else _fitting(device, arrays, apart, beyond)
        try:
            if fit is not None:
                arrays = run_on(device, fit, arrays)
            if device.current is None:
                result = run(device, *arrays, **meta) if meta else run(device, *arrays)
            else:
                result = device.current(run, device, *arrays, **meta)
        except (*_ERRORS, AttributeError, RuntimeError) as error:
            if isinstance(error, _ERRORS) and _any_large(inputs):
                return call(*(_as_float(x) if type(x) is int else x for x in inputs), **meta)
            told = _explained(error, call, wants, inputs, meta)
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
        tensor.shared = False
        rules = result[1:] if tracked and _mode.enabled else ()
        if rules and (None not in rules or _any_rule(sources, rules)):
            tensor._requires_grad = True
            tensor.node = node = Node()
            node.op = call
            node.inputs = sources
            node.meta = meta
            node.rules = rules
            node.order = next(_clock)
            node.device = device
            node.shape = out.shape
            node.dtype = out.dtype
        else:
            tensor._requires_grad = False
            tensor.node = None
        for observer in _observers:
            observer.made(name, inputs, meta, tensor)
        return tensor

    call.name = name  # type: ignore[attr-defined]
    call.body = run  # type: ignore[attr-defined]
    call.apart = apart  # type: ignore[attr-defined]
    call.beyond = beyond  # type: ignore[attr-defined]
    call.walked = set()  # type: ignore[attr-defined]  # the devices on which its rules were seen to give proper arrays
    call.kinked = kinked  # type: ignore[attr-defined]
    call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # as callers see it
    OPS[name] = call
    return call


def _is_array(x: Any) -> bool:
    return x is not None and type(x) not in _NUMBERS


def _converted(device: Device, arrays: Sequence[Any], apart: tuple[int, ...], dtype: Any) -> list[Any]:
    """The arrays as the dtype, but those at the positions `apart`, numbers and None."""
    xp = device.xp
    return [a if i in apart or not _is_array(a) else xp.astype(a, dtype, copy=False) for i, a in enumerate(arrays)]


def _fitting(device: Device, arrays: Sequence[Any], apart: tuple[int, ...], beyond: str) -> Any:
    """The function that makes arrays of these dtypes, and numbers, fit each other; None if there is nothing to do.

    It is called with the device current.
    """
    mixing = {i: a for i, a in enumerate(arrays) if i not in apart}
    found = {device.dtype_of(a) for a in mixing.values() if _is_array(a)}
    numbers = [i for i, a in mixing.items() if type(a) is int]
    if not found:
        return None
    dtype, convert = np.result_type(*found), None
    if len(found) > 1:  # libraries would promote on their own, but not all alike: PyTorch leaves 0-d arrays out
        convert = functools.partial(_converted, device, apart=apart, dtype=device.dtype(dtype))
    if not numbers or dtype.kind not in "iu":
        return convert
    low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)

    def fit(arrays: list[Any]) -> list[Any]:
        for i in numbers:
            n = arrays[i]
            if not low <= n <= high:
                if beyond == "refused":
                    raise OverflowError(
                        f"{n} is out of range for {dtype.name}, [{low}, {high}]; convert the tensor with .astype(...)"
                    )
                if beyond == "compared":  # with floats, among which even infinity is exact
                    arrays = _converted(device, arrays, apart, device.dtype("float32"))
                    n = math.inf if n > 0 else -math.inf
                arrays = [*arrays[:i], float(n), *arrays[i + 1 :]]
            elif n >= 2**63:  # not every library takes such a Python number
                arrays = [*arrays[:i], device.from_numpy(np.asarray(n, dtype)), *arrays[i + 1 :]]
        return arrays if convert is None else convert(arrays)

    return fit


def _as_float(n: int) -> float:
    """The integer as a float, infinite if it is too large for one."""
    try:
        return float(n)
    except OverflowError:
        return math.inf if n > 0 else -math.inf


def _any_large(inputs: Sequence[Any]) -> bool:
    """Whether one of the inputs is an integer that int64 does not hold and there are floating tensors: it is a float.

    Not every library takes such a number for one.
    """
    floating = any(isinstance(x, Variable) and x.dtype.kind == "f" for x in inputs)
    return floating and any(type(x) is int and not -(2**63) <= x < 2**63 for x in inputs)


def _any_rule(sources: Sequence[Any], rules: Sequence[Rule | None]) -> bool:
    """Whether an input that requires a gradient gets one."""
    for source, rule in zip(sources, rules):
        if rule is not None and (type(source) is Node or isinstance(source, Variable)):
            return True
    return False


class Observer:
    """Is told of everything that is computed inside `with observer:`, on all threads: what debugging tools are made of.

    A subclass overrides what it wants to know. It must not keep or change what it is shown longer than it needs to.

    >>> class Names(tinytorch.autograd.Observer):
    ...     def made(self, op, inputs, meta, result):
    ...         print(op, result.shape)
    >>> with Names():
    ...     y = tinytorch.exp(Tensor([1.0, 2.0])).sum()
    exp (2,)
    sum ()
    """

    def made(self, op: str, inputs: Sequence[Any], meta: dict[str, Any], result: Any) -> None:
        """An op has made a tensor of its inputs (tensors and numbers) and keyword arguments."""

    def pulled(self, node: Node, source: Any, gradient: Any) -> None:
        """A rule of the node has given the gradient of one of its inputs (a Node, or a leaf), an array or a tensor."""

    def left(self, how: str, tensor: Any, values: Any) -> None:
        """A tensor's values have left the graph, by its method `how`: "detach", "numpy", "item" or "tolist"."""

    def __enter__(self) -> Self:
        _observers.append(self)
        return self

    def __exit__(self, *exc: object) -> None:
        _observers.remove(self)


_observers: list[Observer] = []


def leaving(how: str, tensor: Variable, values: Any) -> Any:
    """Tell the observers that the values of a tensor leave the graph; returns the values."""
    for observer in _observers:
        observer.left(how, tensor, values)
    return values


def expect_tensors(name: str, *inputs: Any) -> None:
    """Raise TypeError unless all are tensors."""
    for x in inputs:
        if not isinstance(x, Variable):
            raise TypeError(f"{name}: takes Tensors, not {words.shown(x)}; make it one with tinytorch.asarray(...)")


def expect_one_device(name: str, *inputs: Any) -> None:
    """Raise ValueError, as an op does, if the tensors among the inputs are on different devices."""
    if len({x.device for x in inputs if isinstance(x, Variable)}) > 1:
        raise ValueError(_different_devices(name, inputs))


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


class _GradMode:
    """Record ops, or do not, inside a `with` block or a decorated function, on this thread.

    Of a decorated generator or coroutine it holds while that runs, and not for others while it waits.
    """

    def __init__(self, mode: bool) -> None:
        self.mode = mode

    def __repr__(self) -> str:
        return f"<gradients {'on' if self.mode else 'off'}>"

    def __enter__(self) -> None:
        _mode.outer.append(_mode.enabled)
        _mode.enabled = self.mode

    def __exit__(self, *exc: object) -> None:
        _mode.enabled = _mode.outer.pop()

    def __call__(self, function: Any) -> Any:
        if not callable(function):
            name = "enable_grad" if self.mode else "no_grad"
            raise TypeError(f"{name}: function is a function to decorate, not {words.shown(function)}")
        mode = _GradMode(self.mode)
        if inspect.isasyncgenfunction(function):

            @functools.wraps(function)
            async def call_async_generator(*args: Any, **kwargs: Any) -> Any:
                steps = function(*args, **kwargs)
                step = steps.asend(None)
                try:
                    while True:
                        out = await _in_mode(mode, step.__await__())
                        try:
                            step = steps.asend((yield out))
                        except GeneratorExit:
                            raise
                        except BaseException as error:
                            step = steps.athrow(error)
                except StopAsyncIteration:
                    return
                finally:
                    await _in_mode(mode, steps.aclose().__await__())

            return call_async_generator
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def call_coroutine(*args: Any, **kwargs: Any) -> Any:
                return await _in_mode(mode, function(*args, **kwargs).__await__())

            return call_coroutine
        if inspect.isgeneratorfunction(function):

            @functools.wraps(function)
            def call_generator(*args: Any, **kwargs: Any) -> Any:
                return (yield from _steps_in_mode(mode, function(*args, **kwargs)))

            return call_generator

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with mode:
                return function(*args, **kwargs)

        return call


def _steps_in_mode(mode: _GradMode, steps: Any) -> Any:
    """A generator that runs each step of another in the mode, and waits in whatever its caller's is."""
    send: Callable[[Any], Any] = steps.send
    value: Any = None
    while True:
        try:
            with mode:
                out = send(value)
        except StopIteration as stop:
            return stop.value
        try:
            value, send = (yield out), steps.send
        except GeneratorExit:
            with mode:
                steps.close()
            raise
        except BaseException as error:
            value, send = error, steps.throw


_in_mode: Any = types.coroutine(_steps_in_mode)  # the same, to be awaited


F = TypeVar("F", bound=Callable[..., Any])


@overload
def no_grad(function: F) -> F: ...


@overload
def no_grad() -> _GradMode: ...


@words.bound
def no_grad(function: Callable[..., Any] | None = None) -> Any:
    """Do not record ops inside a `with` block, or a function it decorates, on this thread.

    >>> x = Tensor([1.0], requires_grad=True)
    >>> with tinytorch.no_grad():
    ...     (x * 2).requires_grad
    False
    """
    return _GradMode(False) if function is None else _GradMode(False)(function)


@words.bound
def enable_grad(function: Callable[..., Any] | None = None) -> Any:
    """Record ops again inside a `no_grad` block, or a function it decorates."""
    return _GradMode(True) if function is None else _GradMode(True)(function)


class set_grad_enabled(_GradMode):
    """Record ops, or do not, from now on, on this thread; as a context manager only until the end of the block.

    As a decorator it holds while the function runs.

    >>> with tinytorch.set_grad_enabled(False):
    ...     tinytorch.is_grad_enabled()
    False
    """

    @words.expecting
    def __init__(self, mode: bool) -> None:
        super().__init__(bool(mode))
        self._outer = _mode.enabled
        _mode.enabled = self.mode

    def __enter__(self) -> None:
        _mode.enabled = self.mode

    def __exit__(self, *exc: object) -> None:
        _mode.enabled = self._outer

    def __call__(self, function: Any) -> Any:
        """The function, in the mode; outside it the mode is as it was before."""
        _mode.enabled = self._outer
        return super().__call__(function)


@words.bound
def is_grad_enabled() -> bool:
    """Whether ops of this thread are recorded now."""
    return _mode.enabled


# Walking back -----------------------------------------------------------------------------------------------------


class _Taped:
    """A device whose arrays are tensors: what an op's body is given when its rules are to be recorded.

    Its namespace is tinytorch, and its extension points are the ops of the same name, or else their standard defaults.
    """

    def __init__(self, device: Device, xp: Any) -> None:
        self.native = device
        self.xp = xp
        self.dtype = np.dtype
        self.dtype_of = operator.attrgetter("dtype")
        self.default_int = device.default_int

    def __getattr__(self, name: str) -> Any:
        return getattr(self.xp.ops, name, None) or functools.partial(getattr(Device, name), self)


_committing = over_forks(threading.RLock())


def backward(tensor: Variable, gradient: Variable | None, retain_graph: bool, create_graph: bool) -> None:
    """Add the gradient of `tensor` with respect to every leaf it was computed from to that leaf's `grad`."""
    if not tensor._requires_grad:
        raise RuntimeError(
            "backward: the tensor does not depend on any tensor with requires_grad=True (or was computed under "
            "no_grad); create a leaf with Tensor(..., requires_grad=True) and compute from it"
        )
    words.flags("backward", retain_graph=retain_graph, create_graph=create_graph)
    grads = _walk([tensor], [_seed(tensor, gradient, create_graph)], None, retain_graph, create_graph)
    with _committing:
        for leaf in grads:
            if leaf.grad is not None and leaf.grad.shape != leaf.shape:
                raise ValueError(
                    f"backward: {describe(leaf)} has a grad of shape {leaf.grad.shape}; set it to None first"
                )
        for leaf, g in grads.items():
            new = g if create_graph else wrap(g, leaf.device)
            if new is gradient:  # somebody else has it, and may write into it
                new = g.copy()
            if leaf.grad is not None:
                with _GradMode(create_graph):
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
                raise RuntimeError(f"grad: {what} {i} does not require a gradient: {describe(t)}")
    keep = create_graph if retain_graph is None else retain_graph
    words.flags("grad", retain_graph=keep, create_graph=create_graph, allow_unused=allow_unused)
    start = [_seed(t, g, create_graph) for t, g in zip(roots, seeds)]
    grads = _walk(roots, start, wanted, keep, create_graph)
    found = [grads.get(_place(t)) for t in wanted]
    missing = [i for i, g in enumerate(found) if g is None]
    if missing and not allow_unused:
        raise RuntimeError(
            f"grad: the outputs do not depend on input {missing[0]} ({describe(wanted[missing[0]])}); "
            "pass allow_unused=True to get None for it"
        )
    if create_graph:
        return tuple(found)
    return tuple(None if g is None else wrap(g, t.device) for g, t in zip(found, wanted))


def wrap(array: Array, device: Device, node: Node | None = None) -> Any:
    """A tensor around an array that lives on the device."""
    tensor = _new(Variable.result)
    tensor.array = array if type(array) is device.array_type else device.asarray(array)
    tensor.device = device
    tensor.grad = None
    tensor.node = node
    tensor.shared = False
    tensor._requires_grad = node is not None
    return tensor


def run_on(device: Device, function: Callable[..., Any], *args: Any) -> Any:
    """Call the function with the device current, where that matters."""
    return function(*args) if device.current is None else device.current(function, *args)


Place = Any  # where a gradient is collected: a Node, or a leaf


def _place(tensor: Variable) -> Place:
    return tensor if tensor.node is None else tensor.node


class Parts:
    """What the rule of slicing gives: the gradient of an array that is zero but for `part` at `key`.

    The engine collects those of one array and makes one array of them all (`Device.add_parts`) when it is needed: with
    an array of zeros for each slice, a loop over the rows of x would take as many times the size of x.

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


def _collected(g: Any, other: Any, device: Device) -> Any:
    """The sum of two gradients of one array, of which one or both are parts: parts, while they are fewer than it."""
    if type(g) is not Parts:
        g, other = other, g
    if type(other) is not Parts:
        other = Parts(other, tuple(slice(0, n, 1) for n in g.shape), g.shape)
    g.parts += other.parts
    g.keys += other.keys
    g.size += other.size
    return g.whole(device) if g.size > 2 * math.prod(g.shape) + 64 else g


def _walk(
    roots: Sequence[Variable], seeds: Sequence[Any], wanted: Sequence[Variable] | None, retain: bool, create: bool
) -> dict[Place, Any]:
    """Gradients (arrays; tensors if `create`) of the wanted tensors, or of all leaves if `wanted` is None."""
    starts = [_place(t) for t in roots]
    asked = {_place(t) for t in wanted or ()}
    through = None if wanted is None else _leading_to(asked, starts)
    needed = None if through is None else asked | through
    values = _replayed(starts) if create else None
    grads: dict[Place, Any] = {}  # of what has not been walked through yet
    found: dict[Place, Any] = {}
    heap: list[tuple[int, Node]] = []
    with _GradMode(create) if create else nullcontext():
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
            else:  # the rules for themselves, since a device may have to keep what they read
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
    """Add to the gradients of a node's inputs what comes from this node, whose own is g."""
    if rules is None:
        raise RuntimeError(_FREED)
    dev: Any = node.device
    kind, known = dev.array_type, dev in node.op.walked
    if values is not None:
        dev, rules = _taped_rules(node, values)
        kind = Variable.result
    for at, (source, rule) in enumerate(zip(node.inputs, rules)):
        if rule is None:
            continue
        if type(source) is Node:
            like: Any = source
        elif isinstance(source, Variable) and source._requires_grad:  # a leaf may have been switched off since
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
                gx = _expected(node, at, gx, values is not None)
            if gx.shape != like.shape:
                gx = _unbroadcast(dev.xp, node, at, gx, like.shape)
            if gx.dtype is not like.dtype and gx.dtype != like.dtype:
                gx = _cast(dev, node, at, gx, like.dtype)
        except Exception as error:
            error.add_note(
                f"in the gradient rules of {getattr(node, 'made_at', node.op.name)}, for a result of shape {node.shape}"
            )
            raise
        if values is None and dev.large and type(gx) is dev.array_type and gx.nbytes >= dev.large:  # not moved away
            dev.hold(gx)
        for observer in _observers:
            observer.pulled(node, source, gx)
        _accumulate(grads, heap, source, gx)
    if not known:
        node.op.walked.add(node.device)


def _accumulate(grads: dict[Place, Any], heap: list[tuple[int, Node]], place: Place, g: Any) -> None:
    """Add g to the gradient of a place; the first time, line a node up to be walked through."""
    if place not in grads:
        grads[place] = g
        if type(place) is Node:
            heappush(heap, (place.order, place))
    elif type(g) is Parts or type(grads[place]) is Parts:
        grads[place] = _collected(grads[place], g, place.device)
    elif place.device.current is None:
        grads[place] = grads[place] + g
    else:
        grads[place] = place.device.current(operator.add, grads[place], g)


_FREED = (
    "backward: this part of the graph was freed by an earlier backward; call the first one with retain_graph=True, or "
    "compute the output again"
)


def _reachable(starts: Iterable[Place]) -> list[Node]:
    """The nodes that the starts were computed from, and those among the starts, oldest first."""
    found: set[Node] = set()
    stack = [place for place in starts if type(place) is Node]
    while stack:
        node = stack.pop()
        if node not in found:
            found.add(node)
            stack += [source for source in node.inputs if type(source) is Node]
    return sorted(found, key=operator.attrgetter("order"), reverse=True)


def _leading_to(asked: set[Place], starts: Iterable[Place]) -> set[Node]:
    """The nodes that a way from a start back to a place that was asked for goes through."""
    needed, through = set(asked), set()
    oldest = max((place.order if type(place) is Node else 1 for place in asked), default=1)
    for node in _reachable(starts):
        if node.rules is None and node.order < oldest:  # who knows what it was made of
            raise RuntimeError(_FREED)
        if not needed.isdisjoint(source for source in node.inputs if isinstance(source, Node | Variable)):
            needed.add(node)
            through.add(node)
    return through


def _replayed(starts: Iterable[Place]) -> dict[Node, Any]:
    """The tensor of each node, computed again from the leaves: a graph does not keep them."""
    values: dict[Node, Any] = {}
    for node in _reachable(starts):
        if node.rules is None:
            raise RuntimeError(_FREED)
        device, arrays = node.device, []
        for source in node.inputs:
            if isinstance(source, Variable):
                if getattr(source, "changed", 0) < node.order:
                    raise RuntimeError(
                        f"backward: {describe(source)} was changed after {node.op.name} used it, by an optimizer "
                        "step or an assignment; take gradients with create_graph=True before changing it"
                    )
                device = source.device
                arrays.append(source.array)
            elif type(source) is Node:
                device = source.device
                arrays.append(values[source].array)
            else:
                arrays.append(source)
        made_by: Any = node.op
        fit = _fitting(device, arrays, made_by.apart, made_by.beyond)
        arrays = arrays if fit is None else run_on(device, fit, arrays)
        body = functools.partial(node.op.body, device, *arrays, **node.meta)
        out = run_on(device, body)[0]
        values[node] = wrap(out, node.device, node)
    return values


def _taped_rules(node: Node, values: dict[Node, Any]) -> tuple[_Taped, tuple[Rule | None, ...]]:
    """The rules of a node made of ops: its body run on the tensors themselves."""
    given = [values[s] if type(s) is Node else s for s in node.inputs]
    device = next(x.device for x in given if isinstance(x, Variable))
    plain = (Variable, *_NUMBERS, type(None))
    tensors = [x if isinstance(x, plain) else wrap(x, device) for x in given]
    xp = next(iter(values.values())).__array_namespace__()
    dev, op = _Taped(device, xp), node.op
    rules = op.body(dev, *tensors, **node.meta)[1:]
    if op.kinked:
        apart = op.apart
        on = [x for i, x in enumerate(tensors) if i not in apart and isinstance(x, Variable)]
        rules = tuple([rule and functools.partial(_kinked, xp, rule, on) for rule in rules])
    return dev, rules


def _kinked(xp: Any, rule: Rule, inputs: Sequence[Any], g: Any) -> Any:
    """What the rule makes of g, as something that depends on the inputs of its op, too."""
    return xp.ops.flat_in(rule(g), *inputs)


def _unbroadcast(xp: Any, node: Node, at: int, g: Any, shape: tuple[int, ...]) -> Any:
    """The gradient of an array of that shape, from the gradient of what it was broadcast to.

    Raises:
        ValueError: an array of that shape cannot be broadcast to the gradient's.
    """
    extra = g.ndim - len(shape)
    if extra < 0 or any(n not in (1, m) for n, m in zip(shape, g.shape[extra:])):
        raise ValueError(
            f"{_rule(node, at)} gave a gradient of shape {tuple(g.shape)} for an input of shape {tuple(shape)}; it "
            "has the shape of the input, or of what that was broadcast to"
        )
    axes = (*range(extra), *(i + extra for i, n in enumerate(shape) if n == 1 and g.shape[i + extra] != 1))
    return xp.reshape(xp.sum(g, axis=axes), shape)


def _cast(dev: Any, node: Node, at: int, g: Any, dtype: Any) -> Any:
    """The gradient as the dtype of the input. Raises TypeError if it is not floating."""
    found = dev.dtype_of(g)
    if found.kind != "f":
        raise TypeError(
            f"{_rule(node, at)} gave a gradient of dtype {found.name}, which is not floating; where a rule "
            "selects, write xp.where(condition, g, 0.0)"
        )
    return dev.xp.astype(g, dtype)


def _expected(node: Node, at: int, g: Any, taped: bool) -> Any:
    """What a rule gave, as an array of the input's device (or a tensor, if `taped`).

    Raises:
        TypeError: it is something else, or of another library.
        ValueError: it is on another device.
    """
    device: Device = node.inputs[at].device
    if type(g) is Parts:
        return g.whole(device) if _observers else g  # who look at arrays
    if isinstance(g, np.generic) and device.library == "numpy":  # its 0-d results: `wrap` makes arrays of them
        return g
    if isinstance(g, device.array_type) and not taped:
        found: Any = find_device(device.of(g))
    elif isinstance(g, Variable) and taped:
        found = g.device
    elif isinstance(g, Variable) or not hasattr(g, "shape") or not hasattr(g, "dtype"):
        what = "a Tensor" if isinstance(g, Variable) else repr(g) if g is None else f"a {type(g).__name__}"
        raise TypeError(
            f"{_rule(node, at)} gave {what} instead of an array; where there is no gradient, the body returns None in "
            "place of the rule"
        )
    else:
        found = device_of(g)
    if found is not device and (found.library != device.library or type(found) is type(device)):
        raise ValueError(
            f"{_rule(node, at)} gave an array on {found} for an input on {device}; make arrays with device=dev.native"
        )
    return g if taped or type(g) is device.array_type else device.asarray(g)


def _rule(node: Node, at: int) -> str:
    """Which rule of a node is wrong, in an error message."""
    source = node.inputs[at]
    parameters = list(inspect.signature(node.op).parameters.values())
    first = parameters[0]
    name = f"{first.name}[{at}]" if first.kind is inspect.Parameter.VAR_POSITIONAL else parameters[at].name
    label = f" {source.name!r}" if getattr(source, "name", "") else ""
    return f"{node.op.name}: the gradient rule of {name}{label}"


def _seed(t: Any, gradient: Any, create: bool) -> Any:
    """The gradient that a walk from `t` starts with."""
    if gradient is None:
        if t.size != 1:
            raise RuntimeError(
                f"backward: the gradient of a tensor of shape {t.shape} must be given, as in "
                "y.backward(tinytorch.ones_like(y)); only a one-element tensor starts from 1"
            )
        one = run_on(t.device, t.device.xp.ones_like, t.array)
        return wrap(one, t.device) if create else one
    if not isinstance(gradient, Variable):
        raise TypeError(f"backward: the gradient is a Tensor, not {type(gradient).__name__}")
    if gradient.device is not t.device:
        raise ValueError(_different_devices("backward", (t, gradient)))
    for what in ("shape", "dtype"):
        given, needed = getattr(gradient, what), getattr(t, what)
        if given != needed:
            raise ValueError(f"backward: the gradient has {what} {given}, the tensor {needed}; they must be the same")
    return gradient if create else gradient.array


# Saying what is wrong ---------------------------------------------------------------------------------------------


def describe(x: Any) -> str:
    """A tensor in an error message: "float32 (3, 2) 'weight' on cpu"."""
    if not isinstance(x, Variable):
        return repr(x)
    name = getattr(x, "name", "")
    label = f" {name!r}" if name else ""
    return f"{x.dtype.name} {x.shape}{label} on {x.device}"


_ERRORS = (
    IndexError,
    OverflowError,
    ZeroDivisionError,
    NotImplementedError,
    TypeError,
    ValueError,
    MemoryError,
)


_IN_WORDS = {  # what is in the words of Python or NumPy -> what is meant
    "slice indices must be integers": "where a slice starts and stops are integers; write n // 2, not n / 2",
}


def _explained(error: Exception, op: Any, wants: str, inputs: Sequence[Any], meta: dict[str, Any]) -> Exception:
    """The library's error as one of the standard's, with the op and what it was given; or the error, if it is a bug."""
    name, text = op.name, str(error)
    wrong = words.misfit(name, op.body, meta) or _missing(op, inputs, meta)
    if wrong is not None:
        return wrong
    # a RuntimeError is what PyTorch raises where shapes do not fit; out of memory is a subclass
    if not isinstance(error, _ERRORS) and type(error) is not RuntimeError:
        return error
    kind: Any = next((k for k in _ERRORS if isinstance(error, k)), ValueError)
    axis, ndim = meta.get("axis"), getattr(inputs[0], "ndim", 0)
    for i in axis if isinstance(axis, tuple) else (axis,):
        if isinstance(i, int) and not -ndim <= i < ndim:
            kind = IndexError  # what NumPy and PyTorch raise themselves, but JAX does not
            text = f"axis {i} is outside [{-ndim}, {ndim}) for {ndim} dimensions"
            break
    given = ", ".join([*map(describe, inputs), *(f"{k}={v!r}" for k, v in meta.items())])
    unfit = shapes.misfit(op, inputs, meta)
    if unfit is not None:
        kind, text = ValueError, unfit
    text = next((ours for theirs, ours in _IN_WORDS.items() if theirs in text), text)
    if text.startswith(f"{name}: "):
        text = text[len(name) + 2 :]
    hint = f"; {name} takes {wants}" if wants else ""
    told: Any = kind(f"{name}({given}): {text}{hint}")
    told.said_by = name
    return told


def _missing(op: Any, inputs: Sequence[Any], meta: dict[str, Any]) -> TypeError | None:
    """The error that an argument is missing, if one is."""
    try:
        op.__signature__.bind(*inputs, **meta)
    except TypeError as error:
        return TypeError(f"{op.name}: {error}")
    return None


def _checked_meta(
    name: str, body: Callable[..., Any], meta: dict[str, Any], plain: set[tuple[str, type]]
) -> dict[str, Any]:
    """The keyword arguments, with Python numbers for NumPy's and tuples for lists; right ones are noted by type."""
    kinds = words.kinds(body)
    for k in meta:
        if k not in kinds:
            known = ", ".join(list(kinds)[1:])
            hint = "; names are the array API's: axis, keepdims" if k in ("dim", "keepdim") else ""
            if "out" in meta:  # as np.mean(x) calls x.mean
                fix = f"for np.{name} write tinytorch.{name}(x), or np.{name}(x.numpy())"
                raise TypeError(f"{name}: there is no argument 'out'; {fix}")
            raise TypeError(f"{name}: there is no argument {k!r}; there are {known}{hint}")
    wrong = words.misfit(name, body, meta)
    if wrong is not None:
        raise wrong
    out = {}
    for k, v in meta.items():
        if getattr(v, "shape", None) == () and hasattr(v, "item") and kinds[k] is not Any:
            v = v.item()
        elif type(v) is list:
            v = tuple(v)
        else:
            plain.add((k, type(v)))
        out[k] = v
    return out


def _different_devices(name: str, inputs: Sequence[Any]) -> str:
    tensors = [x for x in inputs if isinstance(x, Variable)]
    a = tensors[0]
    b = next(x for x in tensors if x.device is not a.device)
    (which, there), also = ("second", a), ""
    if getattr(b, "name", "") and not getattr(a, "name", ""):  # data go where the model is, unless it is to be moved
        (which, there), also = ("first", b), f", or the model with model.to('{a.device}')"
    elif getattr(a, "name", "") and not getattr(b, "name", ""):
        also = f", or the model with model.to('{b.device}')"
    return (
        f"{name}: {describe(a)} and {describe(b)} are on different devices; "
        f"move the {which} one with .to('{there.device}'){also}"
    )


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


def _called(places: Sequence[inspect.Parameter], i: int) -> str:
    """The i-th array as the op's author called it: "x2", or "arrays[1]"."""
    last = places[-1]
    return f"{last.name}[{i}]" if last.kind is last.VAR_POSITIONAL else places[i].name


def _plain(name: str, places: Sequence[inspect.Parameter], inputs: Sequence[Any], x: Any) -> Any:
    """The Python number that an argument which is no Tensor stands for."""
    if isinstance(x, np.generic | int | float):
        return number(name, x)
    which = next(i for i, given in enumerate(inputs) if given is x)
    raise TypeError(
        f"{name}: {_called(places, which)} is a Tensor or a Python number, not {words.shown(x)}; "
        "make it a Tensor with tinytorch.asarray(...)"
    )


def _no_tensor(name: str, places: Sequence[inspect.Parameter], inputs: Sequence[Any]) -> TypeError:
    if not inputs:
        return TypeError(f"{name}: takes at least one Tensor, {places[0].name}")
    which = "one of " * (len(inputs) > 1) + " and ".join(_called(places, i) for i in range(len(inputs)))
    given = ", ".join(map(words.shown, inputs))
    return TypeError(f"{name}: {which} is a Tensor, not {given}; make it one with tinytorch.asarray(...)")


def _check_places(
    name: str,
    places: Sequence[inspect.Parameter],
    numbers: bool,
    apart: tuple[int, ...],
    inputs: Sequence[Any],
) -> None:
    """Raise TypeError where a number or None stands for an array that must be there."""
    for i, x in enumerate(inputs):
        if isinstance(x, Variable) or (x is None and places[-1].default is None and places[i].default is None):
            continue
        if x is None or i in apart or not numbers:
            also = " or a Python number" if numbers and i not in apart else ""
            ends = "; does a forward end without `return`?" if x is None else ""
            raise TypeError(
                f"{name}: {_called(places, i)} is a Tensor{also}, not {words.shown(x)}"
                + (ends or "; make it one with tinytorch.asarray(...)")
            )


def _check_dtypes(
    name: str,
    kinds: str,
    same: bool,
    apart: tuple[int, ...],
    inputs: Sequence[Any],
    arrays: Sequence[Any],
) -> None:
    """Raise TypeError unless the dtypes are right: the same on every device, whatever its library would do."""
    lead = next(x.dtype for x in inputs if isinstance(x, Variable))
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
        raise TypeError(f"{name}: {', '.join(map(describe, mixing))}: takes {allowed}; convert with .astype(...)")
    for i, x in enumerate(arrays):
        if type(x) in _NUMBERS and i not in apart and found and (type(x), *found) not in _WEAK:
            raise TypeError(
                f"{name}: the {type(x).__name__} {x!r} does not go with {', '.join(d.name for d in dtypes)}; "
                "convert the tensor with .astype(...)"
            )


if not TYPE_CHECKING:  # a type checker takes a module with `__getattr__` to have every attribute

    def __getattr__(name: str) -> Any:
        raise missing("autograd", name, "module 'tinytorch.autograd'", sys.modules[__name__])
