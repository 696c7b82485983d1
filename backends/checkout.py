"""A folder of a checkout that is imported by its place, not by its name: every module still exists once only."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class _Alias(MetaPathFinder, Loader):
    """Finds the submodules of one package as those of another."""

    def __init__(self, place: str, name: str) -> None:
        self.place, self.name = place, name

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname.startswith(self.place + ".") else None

    def exec_module(self, module: ModuleType) -> None:
        place = module.__name__
        sys.modules[place] = importlib.import_module(self.name + place.removeprefix(self.place))


def alias(place: str, name: str) -> None:
    """Make the package `place`, which is being imported, and its modules those of the package `name`."""
    sys.modules[place] = importlib.import_module(name)
    for known in [m for m in sys.modules if m.startswith(name + ".")]:
        sys.modules[place + known.removeprefix(name)] = sys.modules[known]
    sys.meta_path.insert(0, _Alias(place, name))  # for modules that are not imported yet
