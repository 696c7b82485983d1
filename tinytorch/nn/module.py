"""Module: the base of all layers. Parameters, buffers and submodules are simply attributes of a module.

The file is long because all that a module can do is one class.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from typing import Any, NamedTuple, ParamSpec, Protocol, Self, TypeVar

import numpy as np

from tinytorch import words
from tinytorch.backends import Device
from tinytorch.intake import device_and_dtype
from tinytorch.origin import Origin, caller, raised_here
from tinytorch.spelled import missing
from tinytorch.tape.observer import Observer
from tinytorch.tensor import Tensor, host_values
from tinytorch.words import bound, expecting

P = ParamSpec("P")
R = TypeVar("R", covariant=True)


class _Forward(Protocol[P, R]):
    """For type checkers: calling a module has the arguments and the result of `forward`."""

    def forward(self, *args: P.args, **kwargs: P.kwargs) -> R: ...


class Parameter(Tensor):
    """A Tensor that a module learns: `Module.parameters` finds attributes of this class.

    A parameter requires a gradient unless `requires_grad=False`. Error messages name a parameter by its path in the
    module.

    >>> from tinytorch.nn import Parameter
    >>> Parameter([1.0, 2.0]).requires_grad
    True
    """

    __slots__ = ("name",)

    def __init__(
        self, data: Any, dtype: Any = None, device: str | Device | None = None, requires_grad: bool = True
    ) -> None:
        super().__init__(data, dtype, device, requires_grad)
        self.name = ""


_ATOMS = frozenset({str, bytes, int, float, bool, complex, type(None)})  # types that cannot hold a module
_CONTAINERS = frozenset({dict, list, tuple, set, frozenset})
_FEW = 32  # containers of up to so many elements are looked into each time


def _look_into(container: Any, known: Set[int]) -> tuple[bool, bool]:
    """Whether nested containers hold a module or parameter with an id that is not known; and if not, whether the
    containers are a tree of plain containers, strings and numbers.

    The types of all elements are looked at first, and then only elements of types that can hold something.
    """
    stack, seen, plain = [container], set(), True
    while stack:
        x = stack.pop()
        if id(x) in seen:
            plain = False
            continue
        seen.add(id(x))
        elements = x.values() if isinstance(x, dict) else x
        for kind in {type(x), *map(type, elements)} - _ATOMS:
            plain = plain and kind in _CONTAINERS
            if issubclass(kind, Parameter | Module):
                if any(type(y) is kind and id(y) not in known for y in elements):
                    return True, False
            elif issubclass(kind, dict | list | tuple | set | frozenset):
                stack += [y for y in elements if type(y) is kind]
    return False, plain


def _copied(x: Any) -> Any:
    """A copy of a tree of plain containers. Strings and numbers are not copied."""
    if isinstance(x, dict):
        return {key: _copied(value) for key, value in x.items()}
    return type(x)(map(_copied, x)) if type(x) in _CONTAINERS else x


def _elements(x: Any) -> list[Any]:
    """The elements of a container as a list: lists of identical objects compare much faster than dicts."""
    return x if isinstance(x, list) else list(x.values() if isinstance(x, dict) else x)


class _Comparing(Observer):
    """Notes whether a tensor is compared: a tensor can be equal to the number that it has replaced."""

    tensors = False

    def made(self, op: str, inputs: Sequence[Any], meta: dict[str, Any], result: Any) -> None:
        self.tensors = True


def _unchanged(container: Any, held: list[Any]) -> bool:
    """Whether the container still holds the elements `held`. For identical objects the answer comes at once."""
    with _Comparing() as comparing:
        try:
            return _elements(container) == held and not comparing.tensors
        except Exception:  # an element cannot be compared
            return False


def _located(module: Module, args: Any, kwargs: Any, error: Any) -> Exception:
    """An error of the library in a call of the module, as an error that names the layer.

    The innermost module notes itself in the error. Each module around it replaces the path to the innermost one, and
    the names of its parameters, by the path from there. Errors of the user's own code stay as they are.
    """
    inner, text, called = getattr(error, "layer", (None, "", []))
    if inner is None:
        if not (hasattr(error, "said_by") or raised_here(error)):
            return error
        if type(module).__module__.startswith("tinytorch.nn."):
            error = words.retold(type(module).__name__, type(module).forward, (module, *args), kwargs, error)
        error.layer = module, str(error), [(p, p.name) for p in vars(module).values() if isinstance(p, Parameter)]
        return error
    if type(module).__module__.startswith("tinytorch.nn."):  # perhaps an argument of this module is wrong
        forward = type(module).forward
        own = words.misfit(type(module).__name__, forward, words.given(forward, (module, *args), kwargs))
        if own is not None:
            return own
    try:
        path = next((path for path, m in module.named_modules() if m is inner), "")
        list(module.named_parameters())  # this names parameters by their paths from here
    except TypeError:  # modules in a plain list: elsewhere an error of its own
        path = ""
    if path:
        for parameter, name in called:
            text = text.replace(f" {name!r} on ", f" {parameter.name!r} on ")
        settings = "" if any(inner.children()) else inner.extra_repr()
        error.args = (f"{text}; in layer {path}, {type(inner).__name__}({settings})",)
    return error


class LoadResult(NamedTuple):
    """The names that `load_state_dict` could not match."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """A layer or a model: set parameters, buffers and submodules as attributes, and define `forward`.

    >>> class Scale(tinytorch.nn.Module):
    ...     def __init__(self):
    ...         self.factor = tinytorch.nn.Parameter([2.0])
    ...     def forward(self, x):
    ...         return x * self.factor
    >>> scale = Scale()
    >>> scale(Tensor([3.0])).item(), [name for name, _ in scale.named_parameters()]
    (6.0, ['factor'])
    """

    training: bool = True
    _buffers: tuple[str, ...] = ()
    made_at: Origin  # by which line of the user's code
    _looked_into: dict[str, tuple[Any, list[Any]]]  # large plain containers, and copies of their elements

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        if (args or kwargs) and cls.__init__ is object.__init__:
            raise TypeError(f"{cls.__name__}: takes no settings; write {cls.__name__}(), and call that")
        self = object.__new__(cls)
        object.__setattr__(self, "made_at", caller(cls.__name__))
        object.__setattr__(self, "_looked_into", {})
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        old = self.__dict__.get(name)
        if isinstance(old, Parameter) and value is not None and not isinstance(value, Parameter):
            what = "a plain Tensor" if isinstance(value, Tensor) else words.shown(value)
            raise TypeError(
                f"{type(self).__name__}.{name} is a Parameter, and {what} in its place would not be learned; "
                f"assign a Parameter, or {name}.data = ... for new values"
            )
        if isinstance(value, Parameter) and not value.name:
            value.name = name
        object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        if hasattr(type(self), name):  # a property with an error of its own
            return object.__getattribute__(self, name)
        own = "" if type(self).__module__.startswith("tinytorch.nn.") else "own "
        raise missing(f"{own}module", name, type(self).__name__, self)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The output of the module. Calling the module calls `forward`."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def __call__(self: _Forward[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            out = self.forward(*args, **kwargs)
        except Exception as error:
            told = _located(self, args, kwargs, error)  # type: ignore[arg-type]
            if told is error:
                raise
            raise told.with_traceback(error.__traceback__) from None
        if out is None:
            raise TypeError(f"{type(self).__name__}: forward returned None; end it with `return ...`")
        return out

    # Finding parts ------------------------------------------------------------------------------------------------

    def _members(self) -> Iterator[tuple[str, Any]]:
        """The attributes, in order of definition, and in a container the modules that it holds."""
        return iter(vars(self).items())

    @bound
    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly in this module, with their names."""
        for name, member in self._members():
            if isinstance(member, Module):
                yield name, member

    @bound
    def children(self) -> Iterator[Module]:
        """The modules directly in this module."""
        return (module for _, module in self.named_children())

    @expecting
    def named_modules(self, prefix: str = "", remove_duplicate: bool = True) -> Iterator[tuple[str, Module]]:
        """This module and all within, with the path to each. With `remove_duplicate` each module comes once.

        If a module is within itself, because a child refers to its parent, each comes once in any case.

        Raises:
            TypeError: a plain list, tuple, set or dict holds modules or parameters that are not found otherwise.
        """
        found: dict[int, Module] = {}
        stack: list[tuple[str, Module]] = [(prefix, self)]
        once = remove_duplicate or self._holds_itself()
        while stack:
            path, module = stack.pop()
            if not once or id(module) not in found:
                found[id(module)] = module
                yield path, module
                inner = [(f"{path}.{name}" if path else name, child) for name, child in module.named_children()]
                stack += reversed(inner)
        known = found.keys() | {id(x) for m in found.values() for _, x in m._members() if isinstance(x, Parameter)}
        for module in found.values():
            module._check_containers(known)

    def _check_containers(self, known: Set[int]) -> None:
        """Raise TypeError if an attribute is a plain container of modules or parameters that are not known.

        A large container, such as a vocabulary, is looked into once, and later compared with a copy: much faster.
        """
        for name, member in vars(self).items():
            if isinstance(member, list | tuple | set | frozenset | dict) and name != "_looked_into":
                container, held = self._looked_into.get(name, (None, []))
                if container is member and _unchanged(member, held):
                    continue
                other, plain = _look_into(member, known)
                if other:
                    raise TypeError(
                        f"{type(self).__name__}.{name} is a {type(member).__name__} of modules or parameters, which "
                        "are not found there; make it a ModuleList, or set each as an attribute"
                    )
                if plain and len(member) > _FEW:
                    with suppress(RecursionError):
                        self._looked_into[name] = member, _copied(_elements(member))

    def _holds_itself(self) -> bool:
        """Whether this module, or a module within, is within itself: a child may refer to its parent."""
        above: set[int] = set()
        done: set[int] = set()
        stack: list[tuple[Module, bool]] = [(self, False)]
        while stack:
            module, left = stack.pop()
            if left:
                above.remove(id(module))
                done.add(id(module))
            elif id(module) in above:
                return True
            elif id(module) not in done:
                above.add(id(module))
                stack += [(module, True), *((child, False) for child in module.children())]
        return False

    @bound
    def modules(self) -> Iterator[Module]:
        """This module and all within, each once."""
        return (module for _, module in self.named_modules())

    def _named_tensors(self, remove_duplicate: bool = True) -> Iterator[tuple[str, Tensor]]:
        """(path, tensor) of all parameters and buffers. A tensor of several modules comes once for each."""
        for path, module in self.named_modules(remove_duplicate=remove_duplicate):
            for name, member in module._members():
                if isinstance(member, Parameter) or (name in module._buffers and member is not None):
                    if not isinstance(member, Tensor):
                        raise TypeError(f"{type(module).__name__}.{name} is a buffer: a Tensor or None, not {member!r}")
                    yield (f"{path}.{name}" if path else name), member

    @bound
    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """The parameters of this module and all within, each once, with its path."""
        found: dict[int, tuple[str, Parameter]] = {}
        for path, tensor in self._named_tensors():
            if isinstance(tensor, Parameter) and id(tensor) not in found:
                found[id(tensor)] = path, tensor
                if path.count(".") >= tensor.name.count("."):  # the path from the outermost module is the name
                    tensor.name = path
        return iter(found.values())

    @bound
    def parameters(self) -> Iterator[Parameter]:
        """The parameters of this module and all within, each once."""
        return (parameter for _, parameter in self.named_parameters())

    @expecting
    def register_buffer(self, name: str, tensor: Tensor | None) -> None:
        """Set a tensor as an attribute that moves with the module and is in `state_dict`, but is not learned."""
        setattr(self, name, tensor)
        self._buffers = tuple(dict.fromkeys([*self._buffers, name]))

    @bound
    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """The buffers of this module and all within, each once, with its path."""
        found = {id(t): (path, t) for path, t in reversed(list(self._named_tensors())) if not isinstance(t, Parameter)}
        return reversed(found.values())

    @bound
    def buffers(self) -> Iterator[Tensor]:
        """The buffers of this module and all within."""
        return (tensor for _, tensor in self.named_buffers())

    # Changing all at once -----------------------------------------------------------------------------------------

    @expecting
    def train(self, mode: bool = True) -> Self:
        """Set training mode here and in all modules within, for layers such as `Dropout`; returns the module."""
        for module in self.modules():
            module.training = mode
        return self

    @bound
    def eval(self) -> Self:
        """Leave training mode: `train(False)`."""
        return self.train(False)

    @bound
    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self.parameters():
            parameter.grad = None

    @expecting
    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Set whether the parameters require a gradient: `False` freezes them."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    @expecting
    def apply(self, function: Callable[[Module], Any]) -> Self:
        """Call the function on all modules within, then on this one; returns the module."""
        for module in reversed(list(self.modules())):
            function(module)
        return self

    @bound
    def to(self, *args: Any, device: Any = None, dtype: Any = None) -> Self:
        """Move all parameters, gradients and buffers to a device, to a floating dtype, or both; returns the module.

        Parameters stay the same objects, so that an optimizer goes on. The optimizer's state moves at the next step.

        >>> model = tinytorch.Linear(2, 1).to("cpu", tinytorch.float64)
        >>> model.weight.dtype
        dtype('float64')
        """
        if len(args) == 1 and isinstance(args[0], Tensor):
            args = (args[0].device, args[0].dtype)
        where, kind = device_and_dtype("to", args, device, dtype)
        if kind is not None and kind.kind != "f":
            raise TypeError(f"to: a module has a floating dtype, not {kind.name}")
        found = {id(t): t for _, t in self._named_tensors()}

        def moved(t: Tensor) -> Tensor:
            return t.detach().to(device=where, dtype=kind if t.dtype.kind == "f" else None)

        new = [(t, moved(t), None if t.grad is None else moved(t.grad)) for t in found.values()]
        for t, values, grad in new:  # only now: had a move failed, nothing would be changed
            t.assign(values.array)
            t.device, t.grad = values.device, grad
        return self

    @bound
    def cpu(self) -> Self:
        """Move everything to the device "cpu": `to("cpu")`."""
        return self.to("cpu")

    @expecting
    def cuda(self, index: int | None = None) -> Self:
        """Move everything to a CUDA device, the current one unless an index is given."""
        return self.to("cuda" if index is None else f"cuda:{index}")

    # Saving and loading -------------------------------------------------------------------------------------------

    def _packed(self) -> dict[str, tuple[str, ...]]:
        """Entries of the state that join several parameters along the first axis: entry -> paths below this module."""
        return {}

    def _layout(self) -> dict[str, list[Tensor]]:
        """The state: for each entry its tensor, or the tensors that it joins."""
        layout: dict[str, list[Tensor]] = {}
        packed: dict[str, str] = {}
        for path, module in self.named_modules(remove_duplicate=False):
            lead = f"{path}." if path else ""
            packed |= {lead + part: lead + entry for entry, parts in module._packed().items() for part in parts}
        for path, t in self._named_tensors(remove_duplicate=False):
            layout.setdefault(packed.get(path, path), []).append(t)
        return layout

    @bound
    def state_dict(self) -> dict[str, np.ndarray[Any, Any]]:
        """All parameters and buffers as NumPy arrays, by PyTorch's names. The arrays are copies.

        >>> sorted(tinytorch.Linear(2, 1).state_dict())
        ['bias', 'weight']
        """
        return {
            entry: np.concatenate([t.detach().numpy() for t in tensors])  # along the first axis
            if len(tensors) > 1
            else tensors[0].detach().numpy()
            for entry, tensors in self._layout().items()
        }

    @expecting
    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> LoadResult:
        """Set parameters and buffers to the values of a `state_dict`, ours or PyTorch's.

        Args:
            state_dict: arrays or tensors by name; they are converted to the dtypes of the module, also from bfloat16.
            strict: every name must match; otherwise names that do not match are returned, and skipped.

        Raises:
            KeyError: `strict`, and names are missing or unexpected.
            TypeError: an array holds no numbers.
            ValueError: an array has another shape. After any error the module is as it was.
        """
        layout = self._layout()
        missing = [name for name in layout if name not in state_dict]
        unexpected = [name for name in state_dict if name not in layout]
        if strict and (missing or unexpected):
            raise KeyError(
                f"load_state_dict: missing {missing or 'nothing'}, unexpected {unexpected or 'nothing'}; "
                "pass strict=False to load the rest"
            )
        new: list[tuple[Tensor, Tensor]] = []
        wrong: list[str] = []
        for name, tensors in layout.items():
            if name in missing:
                continue
            value = state_dict[name]
            try:
                array = host_values(value, tensors[0].dtype)
            except (TypeError, ValueError) as error:
                kind = TypeError if isinstance(error, TypeError) else ValueError
                raise kind(f"load_state_dict: {name}: {error}") from error
            first = sum(t.shape[0] for t in tensors) if len(tensors) > 1 else None
            shape = tensors[0].shape if first is None else (first, *tensors[0].shape[1:])
            if array.shape != shape:
                wrong.append(f"{name} is {array.shape}, not {shape}")
                continue
            ends: Any = np.cumsum([t.shape[0] for t in tensors])[:-1] if first is not None else []
            # part: t.shape
            for t, part in zip(tensors, np.split(array, ends) if first is not None else [array], strict=True):
                new.append((t, Tensor(part, t.dtype, t.device)))
        if wrong:
            raise ValueError(f"load_state_dict: {'; '.join(wrong)}")
        for t, values in new:
            t.assign(values.array)
        return LoadResult(missing, unexpected)

    # Showing ------------------------------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """The module's own settings, as a text for `repr`."""
        return ""

    def __repr__(self) -> str:
        shown = _showing.modules
        if shown is None and self._holds_itself():
            _showing.modules = set()
            try:
                return repr(self)
            finally:
                _showing.modules = None
        if shown is not None:
            if id(self) in shown:
                return f"{type(self).__name__}(...)"
            shown.add(id(self))
        lines = [f"({name}): " + repr(child).replace("\n", "\n  ") for name, child in self.named_children()]
        if not lines:
            return f"{type(self).__name__}({self.extra_repr()})"
        return f"{type(self).__name__}({self.extra_repr()}\n  " + "\n  ".join(lines) + "\n)"


class _Showing(threading.local):
    """The modules that `repr` of a module within itself has shown so far, and does not show again."""

    modules: set[int] | None = None


_showing = _Showing()
