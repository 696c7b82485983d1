"""einsum of three or more operands: in the order that takes the fewest multiplications."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tinytorch
from tinytorch import Tensor
from tinytorch.autograd import Observer
from tinytorch.ops import linalg
from tinytorch.testing import assert_close

SHAPES = {  # subscripts: lengths of the axes, and the multiplications of the best order
    "ij,jk,kl->il": ({"i": 40, "j": 40, "k": 40, "l": 1}, 2 * 40 * 40),
    "ij,jk,k->i": ({"i": 40, "j": 40, "k": 40}, 2 * 40 * 40),
    "i,ij,jk->k": ({"i": 40, "j": 40, "k": 40}, 2 * 40 * 40),
    "ij,jk,kl,lm->im": ({"i": 2, "j": 30, "k": 30, "l": 30, "m": 30}, 3 * 2 * 30 * 30),
    "ij,jk,kl,lm,mn,no->io": ({"i": 20, "j": 20, "k": 20, "l": 20, "m": 20, "n": 20, "o": 1}, 5 * 20 * 20),
    "...ij,...jk,...k->...i": ({"i": 20, "j": 20, "k": 20}, 2 * 20 * 20),
    "bi,ij,bj->b": ({"b": 3, "i": 20, "j": 20}, 3 * 20 * 20 + 3 * 20),
    "i,j,k->k": ({"i": 30, "j": 30, "k": 30}, 60),
}


class Multiplications(Observer):
    count = 0

    def made(self, op, inputs, meta, result):
        if op == "matmul":
            self.count += math.prod(result.shape) * inputs[0].shape[-1]


def arrays(subscripts):
    rng = np.random.Generator(np.random.Philox(0))
    lengths = SHAPES[subscripts][0]
    terms = subscripts.partition("->")[0].replace("...", "").split(",")
    return [rng.standard_normal([lengths[c] for c in term]).astype("float32") for term in terms]


@pytest.mark.parametrize("subscripts", SHAPES)
def test_the_order_takes_the_fewest_multiplications(subscripts, device):
    given = arrays(subscripts)
    operands = [Tensor(a, device=device, requires_grad=True) for a in given]
    with Multiplications() as multiplications:
        y = tinytorch.einsum(subscripts, *operands)
    assert multiplications.count <= SHAPES[subscripts][1]
    expected = np.einsum(subscripts, *(a.astype("float64") for a in given))
    scale = float(abs(expected).max())
    assert_close(y, Tensor(expected, "float32", device), rtol=1e-4, atol=1e-4 * scale)
    for x, g in zip(operands, tinytorch.grad(y.sum(), operands), strict=True):  # y is linear in each
        assert (g * x).sum().item() == pytest.approx(expected.sum(), rel=1e-3, abs=1e-3 * scale)
        assert g.shape == x.shape


def test_the_order_is_found_once(monkeypatch):
    calls = []
    find = np.einsum_path
    monkeypatch.setattr(np, "einsum_path", lambda *args, **kwargs: calls.append(args[0]) or find(*args, **kwargs))
    linalg._path.cache_clear()
    a, b, c = (tinytorch.ones((3, 3)) for _ in range(3))
    for _ in range(3):
        tinytorch.einsum("ij,jk,kl->il", a, b, c)
        tinytorch.einsum("xy,yz->xz", a, b)
    assert calls == ["ab,bc,cd->ad"]


@pytest.mark.parametrize(
    "subscripts",
    ["i,i,i->i", "ij,ij,ij->ij", "ij,jk,ki->", "ii,ij,jk->k", "i,j,k->ijk", "δθ,θλ,λ->δ", "...i,ij,jk->...k", "i,j,j"],
)
@pytest.mark.parametrize("length", [0, 1, 3])
def test_three_operands_are_as_in_numpy(subscripts, length, device):
    rng = np.random.Generator(np.random.Philox(0))
    terms = subscripts.partition("->")[0].replace("...", "**").split(",")
    given = [rng.standard_normal((length,) * len(term)).astype("float32") for term in terms]
    plain = subscripts.translate(str.maketrans("δθλ", "abc"))
    y = tinytorch.einsum(subscripts, *(Tensor(a, device=device) for a in given))
    assert_close(y, Tensor(np.einsum(plain, *given), "float32", device), rtol=1e-4, atol=1e-4)


def test_lengths_of_one_broadcast_among_three():
    a, b, c = np.ones((1, 3)), np.full((2, 3), 2.0), np.full((2, 1), 3.0)
    y = tinytorch.einsum("ij,ij,ij->i", *(Tensor(x, "float32") for x in (a, b, c)))
    assert y.tolist() == [18.0, 18.0]


def test_lengths_that_do_not_fit_are_named():
    a = tinytorch.ones((2, 3))
    with pytest.raises(ValueError, match="einsum: axis 'j' has lengths 3 and 2"):
        tinytorch.einsum("ij,jk,kl->il", a, a, a)
