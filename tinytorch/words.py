"""Errors about arguments in words: the annotation of a parameter says which kind the argument must be.

Arguments are compared with the annotations once something has failed, or before the call, where a wrong argument would
do harm only later (`checked`). `int` means integers but no bools, `float` means numbers. In `ops` tensors are
positional and everything else has a name: there a positional-only `Any` means a Tensor.
"""

from __future__ import annotations

import collections.abc
import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

import numpy as np

from tinytorch.backends import Device
from tinytorch.dtypes import as_dtype

F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound=type)

OWN = (IndexError, OverflowError, NotImplementedError, TypeError, ValueError, BufferError, MemoryError, RuntimeError)
FAILED = (*OWN, AttributeError, KeyError, ZeroDivisionError)  # errors that a wrong argument may raise, anywhere


if typing.TYPE_CHECKING:  # for type checkers OneTensor is the class Tensor
    from tinytorch.tensor import Tensor

    OneTensor = Tensor
else:

    class OneTensor:
        """Stands for `Tensor` where the class itself is out of reach."""


def fits(value: Any, kind: Any) -> bool:
    """Whether a value is of the kind that an annotation names."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return True
    if kind is OneTensor:
        return hasattr(value, "node") and hasattr(value, "array")
    if kind is None or kind is type(None):
        return value is None
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, k) for k in inner)
    if kind is bool:
        return isinstance(value, bool | np.bool)
    if kind in (int, float):
        if hasattr(value, "dtype") and getattr(value, "shape", None) == ():  # a tensor or array with one number
            return not isinstance(value.dtype, np.dtype) or value.dtype.kind in ("iu" if kind is int else "biuf")
        return isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
    if origin is tuple:
        if not isinstance(value, tuple | list):
            return False
        if inner[1:] == (...,):
            return all(fits(x, inner[0]) for x in value)
        return all(map(fits, value, inner))  # a wrong length is a wrong value, not a wrong kind
    if origin is collections.abc.Sequence:
        sequence = isinstance(value, collections.abc.Sequence) or (isinstance(value, np.ndarray) and value.ndim > 0)
        return sequence and not isinstance(value, str | bytes) and all(fits(x, inner[0]) for x in value)
    if origin is collections.abc.Iterable:
        return isinstance(value, collections.abc.Iterable) and not isinstance(value, str | bytes)
    kind = origin or kind
    return isinstance(value, kind) if isinstance(kind, type) else True


_SAID: dict[Any, str] = {
    int: "an integer",
    float: "a number",
    bool: "True or False",
    str: "a string",
    type(None): "None",
    OneTensor: "a Tensor",
    type: "a class",
    collections.abc.Callable: "a function",
    collections.abc.Mapping: "a dict",
    Device: "a device",
}


def spelled(kind: Any) -> str:
    """An annotation in words: "an integer, a tuple of integers or None"."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        *first, last = dict.fromkeys(spelled(k) for k in inner)
        return f"{', '.join(first)} or {last}" if first else last
    if origin is tuple:
        one = inner[1:] == (...,)
        return f"a tuple of {_plural(inner[0])}" if one else f"a tuple of {len(inner)} ({_plural(inner[0])})"
    if origin in (collections.abc.Sequence, collections.abc.Iterable):
        return f"a sequence of {_plural(inner[0])}" if inner[0] is not Any else "a sequence"
    kind = origin or kind
    return _SAID.get(kind) or f"a {getattr(kind, '__name__', kind)}"


def _plural(kind: Any) -> str:
    if kind in (int, float, str):
        return {int: "integers", float: "numbers", str: "strings"}[kind]
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return " or ".join(_plural(k) for k in typing.get_args(kind))
    what, of, rest = spelled(kind).removeprefix("a ").removeprefix("an ").partition(" of ")
    return f"{what}s{of}{rest}"


def shown(value: Any) -> str:
    """A given value, in a few words. The values of arrays are not read."""
    if value is None:
        return "None"
    if isinstance(value, type):
        return f"the class {value.__name__}; make an instance, as in {value.__name__}(...)"
    if isinstance(value, types.FunctionType | types.BuiltinFunctionType | types.MethodType):
        return f"the function {value.__name__}"
    if isinstance(value, str | bytes | bool | int | float):
        text = repr(value)
        return f"{type(value).__name__} ({text if len(text) <= 40 else text[:37] + '...'})"
    if isinstance(value, tuple | list) and all(type(v) in _ATOMS for v in value) and len(repr(value)) <= 40:
        return f"{type(value).__name__} {value!r}"
    cls = type(value)
    name = (
        cls.__qualname__
        if cls.__module__.startswith(("builtins", "tinytorch"))
        else f"{cls.__module__}.{cls.__qualname__}"
    )
    return f"{name} of shape {tuple(value.shape)}" if isinstance(getattr(value, "shape", None), tuple) else name


def flags(name: str, **given: Any) -> None:
    """Refuse everything but True and False: the string "False", say, is true for Python."""
    for argument, value in given.items():
        if not isinstance(value, _BOOLS):
            raise TypeError(f"{name}: {argument} is True or False, not {shown(value)}")


_BOOLS = (bool, np.bool)
_ATOMS = {type(None), bool, int, float, str}
_signature = functools.cache(inspect.signature)


def _is_method(function: Callable[..., Any]) -> bool:
    return next(iter(_signature(function).parameters), "") == "self"


def _title(function: Callable[..., Any], args: Any) -> str:
    """The name at the start of a function's errors: its own, or of the class whose constructor it is."""
    return type(args[0]).__name__ if function.__name__ == "__init__" else function.__name__


@functools.cache
def kinds(function: Callable[..., Any]) -> dict[str, Any]:
    """The kind of each parameter of a function, by its annotations."""
    try:
        found = typing.get_type_hints(function)
    except Exception:  # an annotation imported for type checkers only
        found = {}
    out = {}
    for p in _signature(function).parameters.values():
        kind = found.get(p.name, Any)
        tensor = p.kind in (p.POSITIONAL_ONLY, p.VAR_POSITIONAL) and p.name != "dtype"
        if tensor and kind is Any and function.__module__.startswith("tinytorch.ops"):
            kind = OneTensor
        out[p.name] = kind
    return out


def misfit(name: str, function: Callable[..., Any], given: Mapping[str, Any]) -> TypeError | None:
    """The error that an argument is of a wrong kind; None if all are right."""
    expected = kinds(function)
    for argument, value in given.items():
        kind = expected.get(argument.partition("[")[0], Any)
        if not fits(value, kind):
            if typing.get_origin(kind) is collections.abc.Sequence and fits(value, collections.abc.Sequence[Any]):
                (kind,) = typing.get_args(kind)  # the kind of an item is wrong
                nth = next(i for i, v in enumerate(value) if not fits(v, kind))
                argument, value = f"{argument}[{nth}]", value[nth]
            hint = "; make it one with tinytorch.asarray(...)" if kind is OneTensor else ""
            if hasattr(type(value), "__float__") and not hasattr(value, "shape") and fits(1.0, kind):
                hint = f"; write float({value!r})"
            return TypeError(f"{name}: {argument} is {spelled(kind)}, not {shown(value)}{hint}")
        if argument == "dtype" and value is not None:
            try:
                as_dtype(value)
            except TypeError as error:
                return TypeError(f"{name}: {error}")
    return None


def given(function: Callable[..., Any], args: Any, kwargs: Any) -> dict[str, Any]:
    """Each argument by name; the arguments of `*arrays` as "arrays[0]" and so on.

    Raises:
        TypeError: an argument is missing, or the function has no such argument.
    """
    out: dict[str, Any] = {}
    signature = _signature(function)
    try:
        found = signature.bind(*args, **kwargs).arguments
    except TypeError as error:
        raise TypeError(_unbound(str(error), function, args, kwargs)) from None
    for argument, value in found.items():
        kind = signature.parameters[argument].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            out |= {f"{argument}[{i}]": v for i, v in enumerate(value)}
        else:
            out |= value if kind is inspect.Parameter.VAR_KEYWORD else {argument: value}
    return out


def _unbound(text: str, function: Callable[..., Any], args: Any, kwargs: Any) -> str:
    """The text about arguments that do not fit, with the function's arguments if one is unknown or too many."""
    names = [p for p in _signature(function).parameters if p != "self"]
    if names[:1] == ["shape"] and "too many" in text and all(type(a) is int for a in args):
        return f"the shape is one argument: {function.__name__}({args})"
    unknown = [k for k in kwargs if f"{k!r}" in text] if "unexpected" in text else []
    if unknown:
        text = f"there is no argument {unknown[0]!r}"
    return f"{text}; there are {', '.join(names) or 'none'}" if unknown or "too many" in text else text


def retold(name: str, function: Callable[..., Any], args: Any, kwargs: Any, error: Exception) -> Exception:
    """The error of a call, beginning with the function's name, and naming the wrong argument if one is wrong.

    An error that is not about an argument, such as an AttributeError with all arguments right, stays as it is.
    """
    text = str(error)
    if text.startswith(f"{name}: ") and any(f" {argument} " in text for argument in kinds(function)):
        return error  # told already
    try:
        wrong_kind = misfit(name, function, given(function, args, kwargs))
    except TypeError as wrong:
        return TypeError(f"{name}: {wrong}")
    if wrong_kind is not None:
        return wrong_kind
    who = text.partition(":")[0].partition("(")[0].replace("_", "").lower()
    names = {name, type(args[0]).__name__} if _is_method(function) else {name}
    alike = who in {n.replace("_", "").lower() for n in names}
    if alike or not isinstance(error, OWN) or hasattr(error, "__notes__"):  # errors in an op's rule have notes
        return error
    kind = next(k for k in OWN if isinstance(error, k))
    if kind is RuntimeError and type(error) is not RuntimeError:  # such as Unavailable, or out of memory
        return error
    inner = getattr(error, "said_by", "")
    told: Any = kind(f"{name}: {text.removeprefix(f'{inner}: ' if inner else 'Tensor: ')}")
    told.said_by = name
    return told


def tell(name: str, function: Callable[..., Any], args: Any, kwargs: Any, error: Exception) -> NoReturn:
    """Raise the error of a call as `retold` makes it, with the first error's traceback alone."""
    told = retold(name, function, args, kwargs, error)
    if told is error:
        raise error
    raise told.with_traceback(error.__traceback__) from None


def worded(function: F) -> F:
    """A decorator of a function made of others: errors begin with the function's name, and name the wrong argument."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except FAILED as error:
            tell(_title(function, args), function, args, kwargs, error)

    return call  # type: ignore[return-value]


def bound(function: F) -> F:
    """A decorator: the error of an argument too many, missing or unknown begins with the function's name."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except TypeError as error:
            if error.__traceback__ is None or error.__traceback__.tb_next is not None:
                raise  # of the call itself
            raise retold(_title(function, args), function, args, kwargs, error) from None

    return call  # type: ignore[return-value]


def expecting(function: F) -> F:
    """A decorator: arguments of a wrong kind are refused before the call. Errors of the call, as of user code, stay."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        name = _title(function, args)
        try:
            wrong = misfit(name, function, given(function, args, kwargs))
        except TypeError as error:
            raise TypeError(f"{name}: {error}") from None
        if wrong is not None:
            raise wrong
        return function(*args, **kwargs)

    return call  # type: ignore[return-value]


def constructor(by: Callable[[F], F]) -> Callable[[C], C]:
    """A decorator of a class: its generated constructor is decorated by `by`."""

    def decorate(cls: C) -> C:
        cls.__init__ = by(cls.__init__)  # type: ignore[misc]
        return cls

    return decorate


def checked(function: F) -> F:
    """`worded` where a wrong argument may do harm later: after a call without an error arguments are checked, too."""
    if function.__name__ != "__init__":
        return worded(expecting(function))

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        name = _title(function, args)
        try:
            function(*args, **kwargs)
            wrong = misfit(name, function, given(function, args, kwargs))  # after the call: its error is better
        except FAILED as error:
            tell(name, function, args, kwargs, error)
        if wrong is not None:
            raise wrong

    return call  # type: ignore[return-value]
