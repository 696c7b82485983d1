"""`x[key]` and `x[key] = value`.

The gradient of slices is added up at their places in zeros (`Device.add_parts`), the gradient of integer indices is a
sum of rows (`Device.scatter_add`), and an assignment is a copy with other values (`Device.put`). Nothing is mutated
here, so that immutable libraries work as they are. Memory and time are proportional to the arrays.

The file is long because reading and assigning take the same kinds of keys.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tinytorch import shapes
from tinytorch.autograd import op
from tinytorch.backends import Array, Device
from tinytorch.backends.standard import Key
from tinytorch.intake import to_array
from tinytorch.ops.elementwise import clip, where
from tinytorch.ops.index import checked_index, nonzero, taken
from tinytorch.ops.reduce import cumulative_sum
from tinytorch.ops.shape import astype, broadcast_to, reshape
from tinytorch.tape.checks import expect_one_device
from tinytorch.tape.modes import is_grad_enabled
from tinytorch.tape.parts import Parts
from tinytorch.tape.variable import Variable, run_on, wrap
from tinytorch.words import OneTensor

# Slices -----------------------------------------------------------------------------------------------------------


class _Part(NamedTuple):
    """The elements of one axis that a basic index takes: `length`, from `start`, by `step`; in reverse if `reverse`."""

    start: int
    step: int
    length: int
    reverse: bool

    def forwards(self) -> slice:
        """The elements in ascending order. Bounds are inside the axis: the standard leaves others undefined."""
        last = self.start + (self.length - 1) * self.step
        return slice(self.start, last + 1, self.step) if self.length else slice(0, 0, 1)


def _parts(key: tuple[Any, ...], shape: tuple[int, ...]) -> tuple[list[_Part], tuple[Any, ...], tuple[int, ...]]:
    """A basic key, axis by axis; a key for the same elements with positive steps; and the axes of the result to flip.

    Raises:
        IndexError: too many indices, or an index outside its axis.
    """
    axes = sum(k is not None and k is not Ellipsis for k in key)
    if axes > len(shape) or sum(k is Ellipsis for k in key) > 1:
        raise IndexError(f"{axes} indices for {len(shape)} dimensions, or more than one '...'")
    parts: list[_Part] = []
    taken: list[Any] = []
    flipped: list[int] = []
    place = 0
    for k in key if Ellipsis in key else (*key, Ellipsis):
        if k is None:
            taken.append(None)
            place += 1
            continue
        missing = len(shape) - axes if k is Ellipsis else 1
        for n in shape[len(parts) : len(parts) + missing]:
            if isinstance(k, int):
                if not -n <= k < n:
                    raise IndexError(f"index {k} is outside axis {len(parts)} of length {n}")
                parts.append(_Part(k % n, 1, 1, False))
                taken.append(k % n)
                continue
            start, stop, step = (slice(None) if k is Ellipsis else k).indices(n)
            length = len(range(start, stop, step))
            reverse = step < 0 and length > 1
            if step < 0:
                start, step = start + (length - 1) * step, -step
            if reverse:
                flipped.append(place)
            parts.append(_Part(max(start, 0), step, length, reverse))
            taken.append(parts[-1].forwards())
            place += 1
    return parts, tuple(taken), tuple(flipped)


def _sliced(dev: Any, x: Array, taken: tuple[Any, ...], flipped: tuple[int, ...]) -> Array:
    """x[key] from the results of `_parts`: not every library has negative steps."""
    return dev.xp.flip(x[taken], axis=flipped) if flipped else x[taken]  # x[key].shape


def _forwards(dev: Any, g: Array, parts: list[_Part]) -> Array:
    """The gradient of a slice, with an axis for each axis of x, and elements in the order of x."""
    g = dev.xp.reshape(g, tuple([p.length for p in parts]))  # an axis for each of x, 1 for an integer
    backwards = tuple([i for i, p in enumerate(parts) if p.reverse])
    return dev.xp.flip(g, axis=backwards) if backwards else g


_WHOLE = slice(None)


def _rows(key: tuple[Any, ...], shape: tuple[int, ...]) -> Key | None:
    """The slices of a key of integers and whole axes only, as in x[:, i]; None for any other key.

    `_parts`, for any key, takes three times as long.
    """
    out = []
    for k, n in zip(key, shape):
        if k == _WHOLE:
            out.append(slice(0, n, 1))
        elif type(k) is int and -n <= k < n:
            k %= n
            out.append(slice(k, k + 1, 1))
        else:
            return None
    return tuple(out)


@op
def _getitem(dev: Device, x: Array, /, key: tuple[Any, ...]) -> Any:
    shape, rows = x.shape, _rows(key, x.shape)
    if rows is not None:
        lengths = tuple([k.stop - k.start for k in rows])
        return x[key], lambda g: Parts(dev.xp.reshape(g, lengths), rows, shape)  # x[key].shape; g with 1 for an integer
    parts, taken, flipped = _parts(key, shape)

    def of_x(g: Array) -> Parts:
        return Parts(_forwards(dev, g, parts), tuple([p.forwards() for p in parts]), shape)  # g with 1 for an integer

    return _sliced(dev, x, taken, flipped), of_x  # x[key].shape


@op
def _add_parts(dev: Device, *parts: Array, keys: Sequence[Key], shape: tuple[int, ...]) -> Any:
    rules = [lambda g, key=key: g[key] for key in keys]  # each of its part's shape
    return dev.add_parts(list(parts), list(keys), shape), *rules  # shape


def add_parts(parts: Sequence[Any], keys: Sequence[Key], shape: tuple[int, ...]) -> Any:
    """Zeros of the shape, with each part added at its key: the gradient of all slices of one tensor.

    Args:
        parts: tensors with as many axes as the shape.
        keys: for each part, a slice for each axis, with a positive step, and a start and stop that are not negative.

    >>> key = (slice(0, 2),), (slice(1, 3),)
    >>> tinytorch.ops.add_parts([Tensor([1.0, 2.0]), Tensor([10.0, 20.0])], key, (4,))
    tensor([ 1., 12., 20.,  0.])
    """
    for part, key in zip(parts, keys, strict=True):
        there = tuple(len(range(*k.indices(n))) for k, n in zip(key, shape, strict=True))
        if part.shape != there:
            raise ValueError(f"add_parts: the part of shape {part.shape} belongs at a key of shape {there}")
    return _add_parts(*parts, keys=keys, shape=shape)


# x[key] and x[key] = value ----------------------------------------------------------------------------------------


def getitem(x: Any, key: Any) -> OneTensor:
    """x[key], for integers, slices, `...`, None, integer tensors and boolean tensors, as in NumPy.

    Integer tensors stand in front, where they broadcast with integers; or one integer tensor stands among slices. A
    boolean tensor stands for the indices of its True elements, as one integer tensor for each of its axes. The values
    of a boolean tensor are read, since the shape of the result depends on them.

    Raises:
        IndexError: an index is outside its axis, or the key mixes what cannot be mixed.

    >>> x = Tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> x[:, 1]
    tensor([2., 4.])
    >>> x[Tensor([1, 1, 0])].shape
    (3, 2)
    >>> x[x > 1.5]
    tensor([2., 3., 4.])
    """
    keys = (key, *(_WHOLE,) * (x.ndim - 1)) if type(key) is int and x.ndim else _keys(x, key)
    arrays = [i for i, k in enumerate(keys) if isinstance(k, Variable)]
    if not arrays:
        part = _getitem(x, key=keys)  # no axis for an integer, a slice's length, 1 for None
        part.is_view = True  # so that x[i][j] = value is refused: it would not reach x
        return part
    first, last = arrays[0], arrays[-1]
    lead, rest = keys[: last + 1], keys[last + 1 :]
    if keys[first].dtype.kind == "b":
        mask = keys[first]
        rows = reshape(x, (math.prod(x.shape[: mask.ndim]), *x.shape[mask.ndim :]))  # (M, ...), M = mask.size
        return taken(rows, nonzero(reshape(mask, (-1,)))[0])  # (K, ...), K of the mask are true
    if all(isinstance(k, int | Variable) for k in lead):
        y = _gather(x, lead)  # (*broadcast indices, ...)
        kept = y.ndim - (x.ndim - len(lead))  # dimensions of the broadcast indices
        # (*broadcast indices, ...)
        return y if all(k == slice(None) for k in rest) else _getitem(y, key=(*(slice(None),) * kept, *rest))
    if len(arrays) > 1 or any(isinstance(k, int) for k in keys):
        raise IndexError(
            "getitem: integer tensors stand in front, or one of them among slices; index in two steps, as in x[i][:, j]"
        )
    sliced = _getitem(x, key=(*keys[:first], slice(None), *keys[first + 1 :]))  # (..., n, ...), n at axis `first`
    places = checked_index(keys[first], sliced.shape[first], "getitem", negative=True)
    y = taken(sliced, reshape(places, (-1,)), axis=first)  # (..., places.size, ...)
    return reshape(y, (*sliced.shape[:first], *places.shape, *sliced.shape[first + 1 :]))  # (..., *places.shape, ...)


def _keys(x: Any, key: Any) -> tuple[Any, ...]:
    """The key as a tuple of integers, slices, None and tensors that covers every axis."""
    keys: list[Any] = []
    axes, masks = 0, False
    for k in key if isinstance(key, tuple) else (key,):
        if isinstance(k, list | np.ndarray):
            try:
                k = wrap(*to_array(k, x.device.default_int if len(k) == 0 else None, x.device, None))
            except (TypeError, ValueError):
                raise IndexError(
                    f"getitem: an index is an integer, a slice, '...', None, a Tensor or a list of integers, not {k!r}"
                ) from None
        if isinstance(k, Variable):
            expect_one_device("x[...]", x, k)
            kind = x.device.dtype_of(k.array).kind
            if kind not in "biu":
                raise IndexError(
                    f"getitem: an index tensor holds integers or booleans, not {k.device.dtype_of(k.array)}"
                )
            masks = masks or kind == "b"
            axes += k.ndim if kind == "b" else 1
        elif isinstance(k, bool | np.bool):
            raise IndexError("getitem: an index is not a bool; for a new axis write None")
        elif isinstance(k, int | np.integer):
            k = int(k)
            axes += 1
        elif isinstance(k, slice):
            axes += 1
        elif k is not None and k is not Ellipsis:
            raise IndexError(
                f"getitem: an index is an integer, a slice, '...', None or a Tensor, not {type(k).__name__} ({k!r})"
            )
        keys.append(k)
    dots = [i for i, k in enumerate(keys) if k is Ellipsis]
    if axes > x.ndim or len(dots) > 1:
        raise IndexError(f"getitem: {axes} indices and {len(dots)} '...' for {x.ndim} dimensions")
    at = dots[0] if dots else len(keys)
    every = (*keys[:at], *(_WHOLE,) * (x.ndim - axes), *keys[at + 1 :])
    return _unmasked(x, every) if masks else every


def _unmasked(x: Any, keys: tuple[Any, ...]) -> tuple[Any, ...]:
    """The keys, with the indices of its True elements in place of each mask. A single mask in front stays as it is.

    Raises:
        IndexError: the shape of a mask does not fit the axes that the mask stands for.
    """
    out: list[Any] = []
    axis = 0
    for i, k in enumerate(keys):
        if not isinstance(k, Variable) or k.dtype.kind != "b":
            out.append(k)
            axis += k is not None
            continue
        lengths = x.shape[axis : axis + k.ndim]
        if any(m not in (0, n) for m, n in zip(k.shape, lengths)):
            raise IndexError(
                f"getitem: a mask of shape {tuple(k.shape)} does not fit shape {tuple(x.shape)} at axis {axis}; "
                "it must have the lengths of the axes it stands for, or 0"
            )
        alone = i == 0 and not any(isinstance(other, Variable) or other != _WHOLE for other in keys[1:])
        if k.ndim == 0 and not alone:
            raise IndexError("getitem: a mask without axes stands alone; index in two steps, as in x[mask][:, i]")
        out.extend([k] if alone else nonzero(k))
        axis += k.ndim
    return tuple(out)


def _flat(x: Any, lead: tuple[Any, ...]) -> tuple[Any, Any]:
    """x with the indexed leading axes as one axis, and one index into that axis for all of `lead`."""
    rest = x.shape[len(lead) :]
    unfit = shapes.broadcast([k.shape for k in lead if isinstance(k, Variable)]) if len(lead) > 1 else None
    if unfit:
        raise IndexError(f"getitem: integer tensors of shapes {unfit}")
    flat: Any = 0
    for k, n in zip(lead, x.shape):
        if isinstance(k, int) and not -n <= k < n:
            raise IndexError(f"index {k} is outside an axis of length {n}")
        # (*broadcast indices,)
        flat = flat * n + (k % n if isinstance(k, int) else checked_index(k, n, "getitem", negative=True))
    return reshape(x, (math.prod(x.shape[: len(lead)]), *rest)), flat  # (M, ...), (*broadcast indices,)


def _gather(x: Any, lead: tuple[Any, ...]) -> Any:
    """x[lead], with `lead` integers and integer tensors."""
    rows, flat = _flat(x, lead)  # (M, ...), (*broadcast indices,)
    return reshape(taken(rows, reshape(flat, (-1,))), (*flat.shape, *rows.shape[1:]))  # (*broadcast indices, ...)


def may_change(x: Any, written: str, instead: str) -> None:
    """Raise RuntimeError if the tensor must not be changed now.

    A leaf that requires a gradient may be changed only under `no_grad`, a recorded tensor only outside `no_grad`:
    otherwise a gradient would belong to values that are gone.
    """
    if x._requires_grad and x.node is None and is_grad_enabled():
        raise RuntimeError(
            f"{written}: x is a leaf that requires a gradient, which would be lost; do it under tinytorch.no_grad(), "
            f"or write {instead}"
        )
    if x.node is not None and not is_grad_enabled():
        raise RuntimeError(f"{written}: x is part of a graph, and this would not be recorded; write {instead}")


def setitem(x: Any, key: Any, value: Any) -> None:
    """x[key] = value, for a key that `x[key]` takes: integers, slices, `...`, None, integer and boolean tensors.

    The tensor gets a new array: views of x, and graphs recorded before, keep the old values. The assignment is
    recorded, so that gradients reach the value. Where an index occurs twice, the last value stays. With a mask and a
    value with axes, the number of True elements is read.

    Raises:
        RuntimeError: x is a leaf that requires a gradient; or x was detached or sliced from another tensor, and that
            tensor would not see the change.
        IndexError: an index is outside its axis, or the key mixes what cannot be mixed.
    """
    may_change(x, "x[...] = value", "x = tinytorch.where(mask, value, x)")
    if x.is_view:
        raise RuntimeError(
            "x[...] = value: x was detached or sliced from another tensor, which would not see the change; write into "
            "x.copy(), or into the other tensor: x[i, j] = value instead of x[i][j] = value, and under "
            "tinytorch.no_grad() if it is a leaf that requires a gradient"
        )
    expect_one_device("x[...] = value", x, value)
    keys = _keys(x, key)
    arrays = [i for i, k in enumerate(keys) if isinstance(k, Variable)]
    lead, rest = (keys[: arrays[-1] + 1], keys[arrays[-1] + 1 :]) if arrays else ((), keys)
    alone = all(k == _WHOLE for k in rest)
    if not arrays:
        new = _setitem(x, value, key=keys)
    elif keys[arrays[0]].dtype.kind == "b":
        new = _masked(x, keys[0], value)
    elif alone and all(isinstance(k, int | Variable) for k in lead):
        new = _at_rows(x, lead, value)
    else:
        new = _at_places(x, keys, value)
    new = new.to(x.dtype)
    x.assign(new.array, new.node)


def _spread(value: Any, shape: tuple[int, ...]) -> Any:
    """The value of an assignment, broadcast to the shape of x[key]."""
    unfit = shapes.repeated(value.shape, shape)
    if unfit:
        raise ValueError(f"setitem: the value {unfit}")
    return broadcast_to(value, shape)  # shape


def _at_places(x: Any, keys: tuple[Any, ...], value: Any) -> Any:
    """x with the value at a key of any integers, slices and integer tensors that `getitem` takes; see `_at_rows`."""
    n, device = x.size, x.device
    dtype = device.dtype(device.default_int)
    each = wrap(run_on(device, functools.partial(device.xp.arange, n, dtype=dtype, device=device.native)), device)
    places = getitem(reshape(each, x.shape), keys)  # x[key].shape: where in flattened x the picked elements are
    return reshape(_at_rows(reshape(x, (n,)), (places,), value), x.shape)  # x.shape


def _at_rows(x: Any, lead: tuple[Any, ...], value: Any) -> Any:
    """x with the value at `lead`, integers and integer tensors. Where an index occurs twice, the last value stays."""
    rows, flat = _flat(x, lead)  # (M, ...), (*broadcast indices,)
    if flat.size == 0:
        return x
    if isinstance(value, Variable) and value.ndim:
        value = _spread(value, (*flat.shape, *rows.shape[1:]))  # (*broadcast indices, ...)
        value = reshape(value, (flat.size, *rows.shape[1:]))  # (N, ...), N = flat.size
    return reshape(_put(rows, value, reshape(flat, (-1,))), x.shape)  # x.shape


def _masked(x: Any, mask: Any, value: Any) -> Any:
    """x with the value where the mask is True. The value broadcasts against x[mask]."""
    if mask.size == 0:  # the mask selects nothing, and may have another shape than x
        return x
    rest = x.shape[mask.ndim :]
    wide = reshape(mask, (*mask.shape, *(1,) * len(rest)))  # (*mask.shape, 1, ...)
    if not isinstance(value, Variable) or value.ndim == 0:
        return where(wide, value, x)
    nth = cumulative_sum(astype(reshape(mask, (-1,)), x.device.default_int))  # (mask.size,): 1, 2, ... where True
    rows = _spread(value, (int(nth[-1]), *rest))  # (K, *rest), K of the mask are true
    if rows.size == 0:
        return x
    chosen = taken(rows, clip(nth - 1, min=0))  # (mask.size, *rest)
    return where(wide, reshape(chosen, (*mask.shape, *rest)), x)  # x.shape


def _filled(dev: Any, ndim: int, value: float, dtype: Any) -> Array:
    """A number as an array of `ndim` axes of length one."""
    return dev.xp.full((1,) * ndim, value, dtype=dtype, device=dev.native)  # (1, ..., 1)


@op(unfit=shapes.assigned)
def _setitem(dev: Device, x: Array, value: Array, /, key: tuple[Any, ...]) -> Any:
    xp, ndim = dev.xp, x.ndim
    parts, taken, flipped = _parts(key, x.shape)
    forwards = tuple([p.forwards() for p in parts])
    if isinstance(value, bool | int | float):
        block = _filled(dev, ndim, value, x.dtype)  # (1, ..., 1)
    else:
        lengths = iter([p.length for p in parts])
        each = [(k, 1 if k is None else next(lengths)) for k in taken]
        shape = tuple([n for k, n in each if not isinstance(k, int)])
        # an axis for each of x
        block = _forwards(dev, xp.broadcast_to(xp.astype(value, x.dtype, copy=False), shape), parts)
    return (
        dev.put(x, forwards, block),  # x.shape
        lambda g: dev.put(g, forwards, _filled(dev, ndim, 0.0, g.dtype)),  # x.shape
        lambda g: _sliced(dev, g, taken, flipped),  # x[key].shape
    )


@op(free=(2,))
def _put(dev: Device, x: Array, value: Array, indices: Array, /) -> Any:
    """Rows of x replaced by `value`, (N, ...), without axes, or a number, at the indices (N,)."""
    xp, ndim, size, count = dev.xp, x.ndim, x.shape[0], indices.shape[0]

    def of_value(g: Array) -> Array:  # (size, ...) -> (N, ...); of equal indices the last gets it
        places = xp.arange(count, dtype=indices.dtype, device=dev.native)
        last = dev.put(xp.zeros((size,), dtype=indices.dtype, device=dev.native), indices, places)  # (size,)
        stayed = xp.reshape(xp.take(last, indices) == places, (-1, *(1,) * (ndim - 1)))  # (N, 1, ...)
        return xp.where(stayed, xp.take(g, indices, axis=0), 0.0)  # (N, ...)

    if isinstance(value, bool | int | float):
        rows = _filled(dev, ndim, value, x.dtype)  # (1, ..., 1)
    else:
        rows = xp.astype(xp.reshape(value, value.shape or (1,) * ndim), x.dtype, copy=False)  # (N, ...), (1, ..., 1)
    return (
        dev.put(x, indices, rows),  # (size, ...)
        lambda g: dev.put(g, indices, _filled(dev, ndim, 0.0, g.dtype)),  # (size, ...)
        of_value,  # (N, ...)
        None,
    )


def put(x: Any, key: Any, values: Any) -> Any:
    """A copy of x with `x[key] = values`: `Device.put` for tensors.

    Args:
        key: a slice with a positive step for each axis; or integers (N,) for the first axis. Of equal integers the
            last stays.

    >>> tinytorch.ops.put(Tensor([1.0, 2.0, 3.0]), Tensor([0, 2]), Tensor([10.0, 30.0]))
    tensor([10.,  2., 30.])
    """
    if isinstance(key, tuple):
        return _setitem(x, values, key=key)
    unfit = shapes.repeated(shapes.of(values), (*key.shape, *x.shape[1:]))
    if unfit:
        raise ValueError(f"put: the values {unfit}")
    return _put(x, values, key)
