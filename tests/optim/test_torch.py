"""Optimizers against PyTorch's in float64: the same parameters after each of 50 steps, and states that go both ways."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import tinytorch
from tests.comparison import compare
from tinytorch import Tensor
from tinytorch.nn import Parameter

torch = pytest.importorskip("torch", reason="PyTorch is not installed: python -m tox -e torch compares with it")

STEPS, TOLERANCE = 50, 1e-10
SETTINGS = [
    ("SGD", {"lr": 0.05}),
    ("SGD", {"lr": 0.05, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.02, "momentum": 0.9}),
    ("SGD", {"lr": 0.02, "momentum": 0.8, "dampening": 0.3, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.02, "momentum": 0.9, "nesterov": True}),
    ("SGD", {"lr": 0.02, "momentum": 0.7, "nesterov": True, "weight_decay": 0.1}),
    ("Adam", {}),
    ("Adam", {"lr": 0.05, "betas": (0.8, 0.9), "eps": 1e-3}),
    ("Adam", {"lr": 0.05, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.05, "betas": (0.0, 0.0)}),
    ("AdamW", {}),
    ("AdamW", {"lr": 0.05, "weight_decay": 0.3}),
    ("AdamW", {"lr": 0.05, "betas": (0.7, 0.99), "eps": 1e-4, "weight_decay": 0.0}),
]
SOME = [SETTINGS[3], SETTINGS[4], SETTINGS[8], SETTINGS[11]]


def every(settings: list[Any]) -> Any:
    ids = [f"{name}-{'-'.join(f'{k}={v}' for k, v in kwargs.items())}" for name, kwargs in settings]
    return pytest.mark.parametrize(("name", "kwargs"), settings, ids=ids)


class Both:
    """The same problem twice, a with b and c apart: three parameters, ours and PyTorch's."""

    def __init__(self, name: str, kwargs: dict[str, Any], grouped: bool = False) -> None:
        rng = np.random.Generator(np.random.Philox(3))
        start = [0.5 * rng.standard_normal(shape) for shape in ((3, 4), (4, 2), ())]
        self.target = rng.standard_normal((3, 2))
        self.ours = [Parameter(x, "float64") for x in start]
        self.theirs = [torch.nn.Parameter(torch.tensor(x)) for x in start]
        self.name, self.kwargs = name, kwargs
        self.optimizer, self.reference = self.made(grouped)

    def made(self, grouped: bool = False) -> tuple[Any, Any]:
        def groups(p: list[Any]) -> list[Any]:
            return [{"params": p[:1], "lr": 0.03}, {"params": p[1:], "weight_decay": 0.2}] if grouped else p

        ours = getattr(tinytorch, self.name)(groups(self.ours), **self.kwargs)
        return ours, getattr(torch.optim, self.name)(groups(self.theirs), **self.kwargs)

    def step(self, times: int = STEPS, without: Any = lambda i: (), clip: tuple[float, float] | None = None) -> None:
        for i in range(times):
            for (a, b, c), optimizer, target in (
                (self.ours, self.optimizer, Tensor(self.target)),
                (self.theirs, self.reference, torch.tensor(self.target)),
            ):
                optimizer.zero_grad()
                (((a @ b) * c - target) ** 2).mean().backward()
                for j in without(i):
                    (a, b, c)[j].grad = None
            if clip is not None:
                norm = tinytorch.optim.clip_grad_norm_(self.ours, *clip)
                compare("values", norm, torch.nn.utils.clip_grad_norm_(self.theirs, *clip))
            self.optimizer.step()
            self.reference.step()
            self.compare()

    def compare(self) -> None:
        for ours, theirs in zip(self.ours, self.theirs, strict=True):
            compare("parameters after optimizer steps", ours, theirs, TOLERANCE)


@every(SETTINGS)
def test_the_same_trajectory(name, kwargs):
    Both(name, kwargs).step()


@every(SOME)
def test_groups_with_settings_of_their_own(name, kwargs):
    Both(name, kwargs, grouped=True).step()


@every(SOME)
def test_a_rate_that_changes(name, kwargs):
    both = Both(name, kwargs, grouped=True)
    for rate in (0.1, 0.001, 0.02):
        for optimizer in (both.optimizer, both.reference):
            optimizer.param_groups[1]["lr"] = rate
        both.step(10)


@every(SOME)
def test_gradients_that_come_and_go(name, kwargs):
    both = Both(name, kwargs)
    both.step(without=lambda i: (2,) if i < 5 else (i % 3,) if i % 4 else (0, 1, 2) if i % 8 else ())


@every(SOME)
def test_values_set_by_hand(name, kwargs):
    both = Both(name, kwargs)
    for value in (0.5, -1.0):
        both.step(5)
        both.ours[0].data = tinytorch.full((3, 4), value, dtype="float64")
        both.theirs[0].data = torch.full((3, 4), value, dtype=torch.float64)
    both.step(5)


@every([("SGD", {"lr": 0.02}), ("SGD", {"lr": 0.02, "momentum": 0.9})])
def test_a_momentum_that_changes(name, kwargs):
    both = Both(name, kwargs)
    for momentum in (0.5, 0.0, 0.9):
        both.step(5)
        for optimizer in (both.optimizer, both.reference):
            optimizer.param_groups[0]["momentum"] = momentum
    both.step(5)


@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.5, math.inf])
@pytest.mark.parametrize("max_norm", [0.5, 3.0])
def test_clipped_gradients(max_norm, norm_type):
    both = Both("SGD", {"lr": 0.05, "momentum": 0.9})
    both.step(20, clip=(max_norm, norm_type), without=lambda i: (i % 7,) if i % 7 < 3 else ())


@every(SETTINGS)
def test_pytorch_goes_on_from_our_state_and_we_from_pytorch_s(name, kwargs):
    both = Both(name, kwargs, grouped=True)
    both.step(5, without=lambda i: (1,))  # one parameter without a state
    both.step(5, without=lambda i: (1,) if i < 3 else ())
    ours, theirs = both.optimizer.state_dict(), both.reference.state_dict()
    both.kwargs = {"lr": 7.0}  # the states know better
    both.optimizer, both.reference = both.made(grouped=True)
    both.optimizer.load_state_dict(theirs)
    state = {
        i: {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in entries.items()}
        for i, entries in ours["state"].items()
    }
    both.reference.load_state_dict({**ours, "state": state})
    both.step(10)
