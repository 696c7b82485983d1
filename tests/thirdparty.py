"""A device of another package, on NumPy, with any fault that the doctor and `compare` have to see."""

from __future__ import annotations

from typing import Any

from tinytorch.backends import registry
from tinytorch.backends.cpu import CpuDevice

xp = CpuDevice.xp


class Namespace:
    """NumPy's namespace with some functions replaced; functions replaced by None are absent."""

    def __init__(self, **functions: Any) -> None:
        self._functions = functions

    def __getattr__(self, name: str) -> Any:
        found = self._functions.get(name, getattr(xp, name))
        if found is None:
            raise AttributeError(f"no {name}", name=name, obj=self)
        return found


class ThirdParty(CpuDevice):
    memory = None
    family = "third"

    @classmethod
    def canonical(cls, index):
        return cls.family

    @classmethod
    def available(cls):
        return [cls.family]

    @classmethod
    def of(cls, array):
        return cls.family

    def to_numpy(self, array):
        return xp.asarray(array, copy=True)


def register(monkeypatch, methods=None, **functions):
    """Make the device "third" known for one test: with methods replaced, and functions of its namespace."""
    cls = type("Third", (ThirdParty,), {"xp": Namespace(**functions), **(methods or {})})
    monkeypatch.setattr(registry, "_devices", dict(registry._devices))
    monkeypatch.setattr(registry, "_families", registry._families | {"third": registry.Family(cls)})
    return registry.device("third")
