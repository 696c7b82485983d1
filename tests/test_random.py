"""Random numbers: the same seed gives the same bits, on every device; and their distributions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinytorch


def draws(device=None):
    """Some of everything that is drawn."""
    made = [
        tinytorch.rand(3, 4, device=device),
        tinytorch.randn(5, device=device),
        tinytorch.randint(-3, 9, (7,), device=device),
        tinytorch.randperm(11, device=device),
        tinytorch.Dropout()(tinytorch.ones(13, device=device)),
    ]
    return [x.tolist() for x in made]


def test_a_seed_is_not_negative():
    with pytest.raises(ValueError, match="manual_seed: a seed is not negative: -1"):
        tinytorch.manual_seed(-1)


def test_a_seed_starts_all_randomness_anew():
    tinytorch.manual_seed(3)
    first, second = draws(), draws()
    assert first != second
    np.random.seed(0)  # noqa: NPY002 - somebody else's randomness has nothing to do with it
    tinytorch.manual_seed(3)
    assert [draws(), draws()] == [first, second]
    tinytorch.manual_seed(4)
    assert draws() != first


def test_the_same_numbers_on_every_device(other):
    tinytorch.manual_seed(3)
    here = draws("cpu")
    tinytorch.manual_seed(3)
    assert draws(other) == here


def test_without_a_seed_it_is_0():
    code = "import tinytorch; print(tinytorch.rand(3).tolist())"
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    tinytorch.manual_seed(0)
    assert done.stdout.strip() == str(tinytorch.rand(3).tolist())


def test_shapes_and_dtypes(device):
    for draw in (tinytorch.rand, tinytorch.randn):
        for x in (draw(2, 3, device=device), draw((2, 3), device=device)):
            assert (x.shape, x.dtype, x.device.name) == ((2, 3), tinytorch.float32, device)
        assert draw(device=device).shape == ()
        assert draw(0, 3, device=device).shape == (0, 3)
        assert draw(2, device=device, requires_grad=True).is_leaf
        assert draw(2, dtype="float64", device="cpu").dtype == tinytorch.float64
    x = tinytorch.randint(5, size=(2, 3), device=device)
    assert (x.shape, x.dtype) == ((2, 3), x.device.default_int)
    assert tinytorch.randint(5).shape == ()


def test_uniform():
    values = tinytorch.rand(10_000).numpy()
    assert (values.min() >= 0.0, values.max() < 1.0) == (True, True)
    assert values.mean() == pytest.approx(0.5, abs=0.02)
    assert values.var() == pytest.approx(1 / 12, rel=0.05)


def test_normal():
    values = tinytorch.randn(10_000).numpy()
    assert values.mean() == pytest.approx(0.0, abs=0.05)
    assert values.std() == pytest.approx(1.0, rel=0.05)
    assert np.mean(np.abs(values) < 1) == pytest.approx(0.683, abs=0.02)


def test_integers():
    assert set(tinytorch.randint(-2, 3, (1000,)).tolist()) == {-2, -1, 0, 1, 2}
    assert set(tinytorch.randint(3, size=(1000,)).tolist()) == {0, 1, 2}
    for bounds in ((0,), (-1,), (3, 3), (5, 2)):
        with pytest.raises(ValueError, match=r"randint: there are no integers in \["):
            tinytorch.randint(*bounds)


def test_permutations(device):
    order = tinytorch.randperm(100, device=device)
    assert sorted(order.tolist()) == list(range(100)) != order.tolist()
    assert tinytorch.randperm(0, device=device).shape == (0,)
