"""An elementwise function written out as C++. The function is run once on symbols, which note every operation.

Only the functions that `Device.fused` allows can be written out: functions of arrays of one floating dtype (`T` in
C++), conditions, and Python numbers, which are double until they meet an array, as in the array API standard. Anything
else raises an error, and the caller runs the function as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

_FUNCTIONS = {  # the standard's name -> C++; the arguments {0}, {1}, ... are of type T
    "abs": "fabs({0})",
    "clip": "{0} < {1} ? {1} : {0} > {2} ? {2} : {0}",  # a NaN stays
    "exp": "exp({0})",
    "expm1": "expm1({0})",
    "log": "log({0})",
    "log1p": "log1p({0})",
    "maximum": "{0} != {0} || {0} > {1} ? {0} : {1}",  # a NaN of either stays
    "minimum": "{0} != {0} || {0} < {1} ? {0} : {1}",
    "negative": "-{0}",
    "reciprocal": "T(1) / {0}",
    "sign": "{0} != {0} ? {0} : T(({0} > T(0)) - ({0} < T(0)))",
    "sqrt": "sqrt({0})",
    "square": "{0} * {0}",
    "tanh": "tanh({0})",
}


class Symbol:
    """A variable in the C++: its name, and its type, which is T, bool, or double for a Python number."""

    def __init__(self, kernel: Kernel, kind: str, name: str) -> None:
        self.kernel, self.kind, self.name = kernel, kind, name

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype("bool") if self.kind == "bool" else self.kernel.dtype

    def __bool__(self) -> bool:
        raise TypeError("a function that is fused looks at no value")

    def __neg__(self) -> Symbol:
        return self.kernel.note(self.kind, f"-{self.name}")

    def __pow__(self, exponent: Any) -> Symbol:
        if exponent == 2:
            return self.kernel.combined("*", self, self)
        return self.kernel.note("T", f"pow({self.kernel.number(self)}, {self.kernel.number(exponent)})")


def _binary(sign: str, turned: bool = False) -> Callable[[Symbol, Any], Symbol]:
    def call(a: Symbol, b: Any) -> Symbol:
        return a.kernel.combined(sign, b, a) if turned else a.kernel.combined(sign, a, b)

    return call


for _name, _sign in {"add": "+", "sub": "-", "mul": "*", "truediv": "/"}.items():
    setattr(Symbol, f"__{_name}__", _binary(_sign))
    setattr(Symbol, f"__r{_name}__", _binary(_sign, turned=True))
for _name, _sign in {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}.items():
    setattr(Symbol, f"__{_name}__", _binary(_sign))


class Kernel:
    """The C++ of a function of so many arrays, and of numbers with the given names.

    Attributes:
        lines: the body.
        single: whether the function returns an array, and not a tuple.
        outputs: the number of arrays that the function returns.
    """

    def __init__(self, function: Callable[..., Any], arrays: int, numbers: Sequence[str], dtype: np.dtype[Any]) -> None:
        if dtype.kind != "f":
            raise TypeError(f"only floating dtypes are fused, not {dtype}")
        self.lines: list[str] = []
        self.dtype = dtype
        given = [self.note("T", f"in{i}") for i in range(arrays)]
        named = {name: Symbol(self, "double", f"n_{name}") for name in numbers}
        found = function(_Device(self), *given, **named)
        self.single = type(found) is not tuple
        results = (found,) if self.single else found
        self.outputs = len(results)
        self.lines += [f"out{i} = {self.number(x)};" for i, x in enumerate(results)]
        self.takes = ", ".join([*(f"T in{i}" for i in range(arrays)), *(f"float64 n_{name}" for name in numbers)])
        self.returns = ", ".join(f"T out{i}" for i in range(self.outputs))

    def note(self, kind: str, value: str) -> Symbol:
        """A new variable with the value."""
        name = f"v{len(self.lines)}"
        self.lines.append(f"const {kind} {name} = {value};")
        return Symbol(self, kind, name)

    def number(self, x: Any) -> str:
        """A symbol or a Python number, as an expression of the type T."""
        if isinstance(x, Symbol):
            return x.name if x.kind == "T" else f"T({x.name})"
        return f"T({_literal(x)})"

    def combined(self, sign: str, a: Any, b: Any) -> Symbol:
        """a sign b: of type T if a or b is of type T, of type double if both are numbers."""
        kinds = {x.kind if isinstance(x, Symbol) else "double" for x in (a, b)}
        if kinds == {"double"}:
            one, two = (x.name if isinstance(x, Symbol) else _literal(x) for x in (a, b))
        else:
            one, two = self.number(a), self.number(b)
        kind = "bool" if sign in ("<", "<=", ">", ">=", "==", "!=") else "double" if kinds == {"double"} else "T"
        return self.note(kind, f"{one} {sign} {two}")


def _literal(x: float) -> str:
    """A Python number as a double of C++."""
    if not isinstance(x, int | float):
        raise TypeError(f"a function that is fused calculates with arrays and Python numbers, not {type(x).__name__}")
    value = float(x)
    if value != value:
        return 'nan("")'
    if value in (float("inf"), float("-inf")):
        return f"({'-' if value < 0 else ''}1.0 / 0.0)"
    return f"({value!r})"


class _Device:
    """The stand-in for a device while a function is written out."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.xp = SimpleNamespace(
            bool=np.dtype("bool"),
            astype=self._astype,
            where=self._where,
            **{name: self._function(template) for name, template in _FUNCTIONS.items()},
        )
        self.erf = self._function("erf({0})")

    def fused(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return function

    def dtype_of(self, x: Symbol) -> np.dtype[Any]:
        return x.dtype

    def _function(self, template: str) -> Callable[..., Symbol]:
        return lambda *xs: self.kernel.note("T", template.format(*map(self.kernel.number, xs)))

    def _where(self, condition: Symbol, a: Any, b: Any) -> Symbol:
        return self.kernel.note("T", f"{condition.name} ? {self.kernel.number(a)} : {self.kernel.number(b)}")

    def _astype(self, x: Symbol, dtype: Any) -> Symbol:
        if dtype == self.kernel.dtype:
            return self.kernel.note("T", self.kernel.number(x))
        if dtype == np.dtype("bool"):
            return self.kernel.note("bool", f"{x.name} != 0")  # NaN is true
        raise TypeError(f"a function that is fused keeps its dtype {self.kernel.dtype}, and makes no {dtype}")
