"""The checks of ops, and their errors: the op, the given inputs, the allowed inputs, and the fix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinytorch import shapes, words
from tinytorch.dtypes import NUMBERS, number, promoted
from tinytorch.tape.variable import Variable

_KINDS = {"b": "bool", "i": "integer", "u": "integer", "f": "floating"}


def describe(x: Any) -> str:
    """A tensor in an error message: "float32 (3, 2) 'weight' on cpu"."""
    if not isinstance(x, Variable):
        return repr(x)
    name = getattr(x, "name", "")
    label = f" {name!r}" if name else ""
    return f"{x.dtype.name} {x.shape}{label} on {x.device}"


ERRORS = (
    IndexError,
    OverflowError,
    ZeroDivisionError,
    NotImplementedError,
    TypeError,
    ValueError,
    MemoryError,
)

_IN_WORDS = {  # a part of an error of Python or NumPy -> the error in our words
    "slice indices must be integers": "where a slice starts and stops are integers; write n // 2, not n / 2",
    "not implemented for": "the library of the device has no such function of this dtype; convert with .astype(...)",
}


def explained(error: Exception, op: Any, inputs: Sequence[Any], meta: dict[str, Any]) -> Exception:
    """A library's error as one with the op and what was given; the error as it is, if it shows a bug."""
    name, text = op.name, str(error)
    wrong = words.misfit(name, op.body, meta) or _missing(op, inputs, meta)
    if wrong is not None:
        return wrong
    # PyTorch raises RuntimeError where shapes do not fit, and a subclass where memory is out
    if not isinstance(error, ERRORS) and type(error) is not RuntimeError:
        return error
    kind: Any = next((k for k in ERRORS if isinstance(error, k)), ValueError)
    axis, ndim = meta.get("axis"), getattr(inputs[0], "ndim", 0)
    for i in axis if isinstance(axis, tuple) else (axis,):
        if isinstance(i, int) and not -ndim <= i < ndim:
            kind = IndexError  # as in NumPy and PyTorch; JAX raises ValueError
            text = f"axis {i} is outside [{-ndim}, {ndim}) for {ndim} dimensions"
            break
    given = ", ".join([*map(describe, inputs), *(f"{k}={v!r}" for k, v in meta.items())])
    unfit = shapes.misfit(op, inputs, meta)
    if unfit is not None:
        kind, text = ValueError, unfit
    text = next((ours for theirs, ours in _IN_WORDS.items() if theirs in text), text)
    if text.startswith(f"{name}: "):
        text = text[len(name) + 2 :]
    hint = f"; {name} takes {op.shapes}" if op.shapes else ""
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


def checked_meta(op: Any, meta: dict[str, Any], seen: set[tuple[str, type]]) -> dict[str, Any]:
    """The keyword arguments, with Python numbers for NumPy's and tuples for lists; right types are added to `seen`."""
    name, kinds = op.name, words.kinds(op.body)
    for k in meta:
        if k not in kinds:
            known = ", ".join(list(kinds)[1:])
            hint = "; names are the array API's: axis, keepdims" if k in ("dim", "keepdim") else ""
            if "out" in meta:  # as np.mean(x) calls x.mean
                fix = f"for np.{name} write tinytorch.{name}(x), or np.{name}(x.numpy())"
                raise TypeError(f"{name}: there is no argument 'out'; {fix}")
            raise TypeError(f"{name}: there is no argument {k!r}; there are {known}{hint}")
    wrong = words.misfit(name, op.body, meta)
    if wrong is not None:
        raise wrong
    out = {}
    for k, v in meta.items():
        if getattr(v, "shape", None) == () and hasattr(v, "item") and kinds[k] is not Any:
            v = v.item()
        elif type(v) is list:
            v = tuple(v)
        else:
            seen.add((k, type(v)))
        out[k] = v
    return out


def different_devices(name: str, inputs: Sequence[Any]) -> str:
    """The error text that inputs are on different devices, and which input to move."""
    tensors = [x for x in inputs if isinstance(x, Variable)]
    a = tensors[0]
    b = next(x for x in tensors if x.device is not a.device)
    (which, there), also = ("second", a), ""
    if getattr(b, "name", "") and not getattr(a, "name", ""):  # data go where the model is
        (which, there), also = ("first", b), f", or the model with model.to('{a.device}')"
    elif getattr(a, "name", "") and not getattr(b, "name", ""):
        also = f", or the model with model.to('{b.device}')"
    return (
        f"{name}: {describe(a)} and {describe(b)} are on different devices; "
        f"move the {which} one with .to('{there.device}'){also}"
    )


def named(op: Any, values: Sequence[Any], meta: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments, with the arguments that were given by position after the arrays."""
    if len(values) > len(op.others):
        raise TypeError(f"{op.name}: {len(values) - len(op.others)} positional arguments too many")
    given = dict(zip(op.others, values))
    twice = given.keys() & meta.keys()
    if twice:
        raise TypeError(f"{op.name}: {', '.join(sorted(twice))} given twice")
    return given | meta


def called(op: Any, i: int) -> str:
    """The i-th array as the op's author called it: "x2", or "arrays[1]"."""
    last = op.places[-1]
    return f"{last.name}[{i}]" if last.kind is last.VAR_POSITIONAL else str(op.places[i].name)


def as_number(op: Any, inputs: Sequence[Any], x: Any) -> Any:
    """The Python number that a given number of any kind stands for. Raises TypeError if x is no number."""
    if isinstance(x, np.generic | int | float):
        return number(op.name, x)
    which = next(i for i, given in enumerate(inputs) if given is x)
    raise TypeError(
        f"{op.name}: {called(op, which)} is a Tensor or a Python number, not {words.shown(x)}; "
        "make it a Tensor with tinytorch.asarray(...)"
    )


def no_tensor(op: Any, inputs: Sequence[Any]) -> TypeError:
    """The error that there is no tensor among the inputs."""
    if not inputs:
        return TypeError(f"{op.name}: takes at least one Tensor, {op.places[0].name}")
    which = "one of " * (len(inputs) > 1) + " and ".join(called(op, i) for i in range(len(inputs)))
    given = ", ".join(map(words.shown, inputs))
    return TypeError(f"{op.name}: {which} is a Tensor, not {given}; make it one with tinytorch.asarray(...)")


def check_places(op: Any, inputs: Sequence[Any]) -> None:
    """Raise TypeError where a number or None stands for an array that must be there."""
    places = op.places
    for i, x in enumerate(inputs):
        if isinstance(x, Variable) or (x is None and places[-1].default is None and places[i].default is None):
            continue
        first = places[-1].default is None and places[i].default is not None  # x of clip(x, min, max)
        number_fits = op.takes_numbers and i not in op.free and not first
        if x is None or not number_fits:
            also = " or a Python number" if number_fits else ""
            ends = "; does a forward end without `return`?" if x is None else ""
            ends = "; write x is None" if x is None and op.name in ("equal", "not_equal") else ends
            raise TypeError(
                f"{op.name}: {called(op, i)} is a Tensor{also}, not {words.shown(x)}"
                + (ends or "; make it one with tinytorch.asarray(...)")
            )


def check_dtypes(op: Any, inputs: Sequence[Any], arrays: Sequence[Any]) -> None:
    """Raise TypeError unless the dtypes are right, by one rule for all devices, whatever their libraries would do."""
    lead = next(x.dtype for x in inputs if isinstance(x, Variable))
    mixing = [x for i, x in enumerate(inputs) if i not in op.free]
    dtypes = {x.device.dtype_of(x.array) for x in mixing if isinstance(x, Variable)}
    allowed = ""
    if lead.kind not in op.kinds:
        allowed = " or ".join(dict.fromkeys(_KINDS[k] for k in op.kinds)) + " dtypes"
    elif op.one_dtype and len(dtypes) > 1:
        allowed = "one dtype"
    elif dtypes and promoted(dtypes) is None:
        allowed = "dtypes of one kind (bool, integer or floating; not uint64 with a signed one)"
    if allowed:
        raise TypeError(f"{op.name}: {', '.join(map(describe, mixing))}: takes {allowed}; convert with .astype(...)")
    for i, x in enumerate(arrays):
        if type(x) in NUMBERS and i not in op.free and dtypes and promoted(dtypes, [type(x)]) is None:
            raise TypeError(
                f"{op.name}: the {type(x).__name__} {x!r} does not go with {', '.join(d.name for d in dtypes)}; "
                "convert the tensor with .astype(...)"
            )


def expect_tensors(name: str, *inputs: Any) -> None:
    """Raise TypeError unless all are tensors."""
    for x in inputs:
        if not isinstance(x, Variable):
            raise TypeError(f"{name}: takes Tensors, not {words.shown(x)}; make it one with tinytorch.asarray(...)")


def expect_one_device(name: str, *inputs: Any) -> None:
    """Raise ValueError, as an op does, if the tensors among the inputs are on different devices."""
    if len({x.device for x in inputs if isinstance(x, Variable)}) > 1:
        raise ValueError(different_devices(name, inputs))
