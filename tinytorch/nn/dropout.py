"""Dropout."""

from __future__ import annotations

from tinytorch import ops, random
from tinytorch.nn.module import Module
from tinytorch.nn.settings import check_number
from tinytorch.tape.variable import wrap
from tinytorch.tensor import Tensor
from tinytorch.words import checked


class Dropout(Module):
    """In training each element is zero with probability p, and the others are divided by 1 - p. Otherwise x is
    returned.

    The mask comes from the generator of `manual_seed`: all devices get equal masks. Source: Srivastava et al. (2014).

    >>> tinytorch.Dropout(0.5).eval()(tinytorch.ones(3))
    tensor([1., 1., 1.])
    """

    @checked
    def __init__(self, p: float = 0.5) -> None:
        check_number("Dropout", "p", p, 0, 1)
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype.kind != "f":
            raise TypeError(f"Dropout: takes floating dtypes, not {x.dtype.name}; convert with .astype(...)")
        if not self.training or self.p == 0:
            return x
        mask = wrap(random.drawn("dropout", x.shape, x.dtype, x.device, p=self.p), x.device)
        return ops.masked_scale(x, mask)

    def extra_repr(self) -> str:
        return f"p={self.p}"
