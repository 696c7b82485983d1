"""Seeing reads of a device's values on the host. Ops and rules should not read: a read waits for all work."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tinytorch.backends import Device

# Values of an array become Python's or NumPy's by these methods, and by `Device.to_numpy`
IMPLICIT = (
    "__array__",
    "__bool__",
    "__buffer__",
    "__complex__",
    "__dlpack__",
    "__float__",
    "__index__",
    "__int__",
    "__iter__",
    "item",
    "numpy",
    "tolist",
)


def _package(where: Any) -> str:
    """The top-level package of a module, or of the code with these globals."""
    name = where.get("__name__", "") if isinstance(where, dict) else getattr(where, "__name__", "")
    return str(name).partition(".")[0]


class Reads:
    """Notes reads inside `with reads.noted() as found:`.

    Reads by the library's own code do not count. Reads by `Device.check_index` and `check_unit` do not, either. A read
    by `to_numpy` is noted once, as "to_numpy".
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self.sees_implicit = True  # whether the methods of the device's arrays can be watched
        self._found: list[str] | None = None

    @contextmanager
    def noted(self) -> Iterator[list[str]]:
        """Note the names of the methods that read."""
        found: list[str] = []
        self._found = found
        try:
            yield found
        finally:
            self._found = None

    @contextmanager
    def watching(self) -> Iterator[Reads]:
        """Replace the methods that read by watching ones, inside the block."""
        kind, own = self.device.array_type, {"array_api_compat", self.device.library, _package(self.device.xp)}
        replaced: list[tuple[str, Any]] = []  # name, and the class's own method; None if inherited

        def watched(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
            def call(array: Any, *args: Any, **kwargs: Any) -> Any:
                if self._found is not None and _package(sys._getframe(1).f_globals) not in own:
                    self._found.append(name)
                return method(array, *args, **kwargs)

            return call

        def unnoticed(method: Callable[..., Any], as_name: str = "") -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                found = self._found
                if found is not None and as_name:
                    found.append(as_name)
                self._found = None
                try:
                    return method(*args, **kwargs)
                finally:
                    self._found = found

            return call

        for name in IMPLICIT:
            if hasattr(kind, name):
                try:
                    mine = vars(kind).get(name)
                    setattr(kind, name, watched(name, getattr(kind, name)))
                    replaced.append((name, mine))
                except TypeError:  # NumPy's class cannot be changed
                    self.sees_implicit = False
        vars(self.device).update(
            to_numpy=unnoticed(self.device.to_numpy, "to_numpy"),
            check_index=unnoticed(self.device.check_index),
            check_unit=unnoticed(self.device.check_unit),
        )
        try:
            yield self
        finally:
            for name in ("to_numpy", "check_index", "check_unit"):
                del vars(self.device)[name]
            for name, mine in replaced:
                if mine is None:
                    delattr(kind, name)
                else:
                    setattr(kind, name, mine)
