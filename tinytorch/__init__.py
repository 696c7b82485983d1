"""tinytorch: automatic differentiation and neural network layers on any array library.

The same code runs on NumPy ("cpu"), on CuPy ("cuda"), and on any other library of the Python array API standard.
`tinytorch` is itself a namespace of that standard (2024.12, without complex dtypes, `linalg` and `fft`).

>>> import tinytorch
>>> from tinytorch import Linear, Tensor
>>> x = Tensor([[1.0, 2.0]])
>>> Linear(2, 3)(x).shape
(1, 3)
"""

from tinytorch import starting  # isort: skip

starting.begin()

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if not Path(__file__).with_name("backends").is_dir():  # a checkout on a system without links: the folder at its top
    __path__.append(str(Path(__file__).resolve().parents[1]))

from tinytorch.backends import (
    Device,
    Stream,
    Unavailable,
    default_device,
    device,
    devices,
    map_tree,
    set_default_device,
)
from tinytorch import backends as backends
from tinytorch.backends.forks import importing
from tinytorch import creation, data, dtypes, namespace, nn, ops, optim, random, testing, words
from tinytorch.autograd import grad
from tinytorch.tape.modes import enable_grad, is_grad_enabled, no_grad, set_grad_enabled
from tinytorch.creation import *
from tinytorch.dtypes import *
from tinytorch.namespace import *
from tinytorch.nn import *
from tinytorch.ops.elementwise import *
from tinytorch.ops.index import *
from tinytorch.ops.layer import *
from tinytorch.ops.linalg import *
from tinytorch.ops.loss import *
from tinytorch.ops.reduce import *
from tinytorch.ops.shape import *
from tinytorch.ops.window import *
from tinytorch.optim import *
from tinytorch.origin import debug
from tinytorch.program import CannotCompile
from tinytorch.program import compile as compile
from tinytorch.random import *
from tinytorch.spelled import KNOWN, Imports, missing
from tinytorch.tensor import Tensor

__version__ = "0.1.0"

__all__ = [
    "CannotCompile",
    "Device",
    "Stream",
    "Tensor",
    "Unavailable",
    "compile",
    "data",
    "debug",
    "default_device",
    "device",
    "devices",
    "enable_grad",
    "grad",
    "is_grad_enabled",
    "nn",
    "no_grad",
    "ops",
    "optim",
    "random",
    "set_default_device",
    "set_grad_enabled",
    "testing",
    "to",
    "verify",
]
__all__ += creation.__all__
__all__ += dtypes.__all__
__all__ += namespace.__all__
__all__ += nn.__all__
__all__ += ops.__all__
__all__ += optim.__all__
__all__ += random.__all__

# `from tinytorch import *` does not replace Python's own functions, such as sum; tinytorch.sum is not among its names
__all__.remove("abs")
__all__.remove("all")
__all__.remove("any")
__all__.remove("bool")
__all__.remove("compile")
__all__.remove("max")
__all__.remove("min")
__all__.remove("pow")
__all__.remove("round")
__all__.remove("sum")


if TYPE_CHECKING:  # a type checker takes a module with `__getattr__` to have every attribute
    from tinytorch import verify
else:

    def __getattr__(name: str) -> Any:
        if name == "verify":  # imported at the first use: a tenth of the import time, for verification only
            with importing:
                return importlib.import_module("tinytorch.verify")
        raise missing("tinytorch", name, "module 'tinytorch'", sys.modules[__name__])

    KNOWN.update({name: f"tinytorch.{name}" for name in [*__all__, *ops.__all__]})
    KNOWN.update({name: f"tinytorch.nn.init.{name}" for name in nn.init.__all__})
    KNOWN.update({name: f"tinytorch.data.{name}" for name in data.__all__})
    if Imports not in sys.meta_path:
        sys.meta_path.append(Imports)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


@words.bound
def to(tree: Any, device: str | Device) -> Any:
    """Nested dicts, lists and tuples, with all tensors and modules in them moved to the device; all else stays.

    A tensor or module that stands twice in the tree is moved once, and stands twice in the result.

    >>> batch = {"x": Tensor([1.0]), "y": (Tensor([2]), "a label")}
    >>> tinytorch.to(batch, "cpu")["y"][1]
    'a label'
    """
    return map_tree(lambda x: x.to(device=device) if isinstance(x, Tensor | Module) else x, tree)
