"""Helpers of layers: checks of settings, and parameters without values yet."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinytorch.backends import Device
from tinytorch.creation import empty
from tinytorch.nn.module import Parameter


def check_sizes(layer: str, **sizes: Any) -> None:
    """Raise TypeError or ValueError unless each of the sizes of a layer is an integer, at least 1."""
    for name, n in sizes.items():
        integer = isinstance(n, int | np.integer) and not isinstance(n, bool)
        if not integer or n < 1:
            raise (ValueError if integer else TypeError)(f"{layer}: {name} is an integer, at least 1, not {n!r}")


def check_number(layer: str, name: str, value: Any, least: float, most: float = math.inf) -> None:
    """Raise TypeError or ValueError unless a setting of a layer is a number in [least, most]."""
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not number or not least <= value <= most or math.isinf(value):
        bounds = f"between {least} and {most}" if most < math.inf else f"at least {least}"
        raise (ValueError if number else TypeError)(f"{layer}: {name} is a number {bounds}, not {value!r}")


def new_parameter(*shape: int, device: str | Device | None, dtype: Any) -> Parameter:
    """A parameter without values yet."""
    return Parameter(empty(shape, dtype=dtype, device=device))
