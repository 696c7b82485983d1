"""What a namespace has by the array API standard besides functions: its version, constants and inspection."""

from __future__ import annotations

from math import e, inf, nan, pi
from typing import Any

import numpy as np

from tinytorch.backends import Device, default_device
from tinytorch.backends import device as _device
from tinytorch.backends import usable_devices as _usable
from tinytorch.dtypes import ALL, isdtype, of_kind
from tinytorch.words import bound

__all__ = ["__array_api_version__", "__array_namespace_info__", "e", "inf", "nan", "newaxis", "pi"]

__array_api_version__ = "2024.12"
newaxis = None


class __array_namespace_info__:
    """What there is: devices, dtypes, defaults. Source: array API standard 2024.12, "Inspection".

    >>> tinytorch.__array_namespace_info__().default_device()
    device('cpu')
    """

    @bound
    def capabilities(self) -> dict[str, Any]:
        """What most devices can do: the strict devices have neither boolean indexing nor data-dependent shapes."""
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}

    @bound
    def default_device(self) -> Device:
        """The device of new tensors."""
        return default_device()

    @bound
    def devices(self) -> list[Device]:
        """The devices usable on this machine."""
        return _usable()

    @bound
    def default_dtypes(self, *, device: str | Device | None = None) -> dict[str, np.dtype[Any]]:
        """The dtypes that Python numbers get on the device."""
        dev = _device(device)
        return {"real floating": of_kind(dev, "f"), "integral": of_kind(dev, "i"), "indexing": dev.default_int}

    @bound
    def dtypes(self, *, device: str | Device | None = None, kind: Any = None) -> dict[str, np.dtype[Any]]:
        """The dtypes of the device, by name; with `kind`, the dtypes of that kind (see `isdtype`)."""
        dev = _device(device)
        found = {}
        for dtype in ALL:
            try:
                dev.dtype(dtype)
            except TypeError:
                continue
            if kind is None or isdtype(dtype, kind):
                found[dtype.name] = dtype
        return found
