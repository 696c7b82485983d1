"""A training function driven from update to update: `run_once` and `compare` are made of this."""

from __future__ import annotations

import types
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from tinytorch import random
from tinytorch.nn import Module
from tinytorch.tensor import Tensor
from tinytorch.verify.handle import Handle
from tinytorch.words import shown

Train = Callable[[Handle], Iterator[Tensor]]

HOW = """a training function is a generator:

    def train(run):
        model = ...
        optimizer = ...
        run.watch(model, optimizer)
        for x, y in run.batches(loader, epochs=10):
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            yield loss
            optimizer.step()
"""


def drive(
    train: Train, handle: Handle, look: Callable[[], AbstractContextManager[Any]] = nullcontext
) -> Generator[Tensor, None, None]:
    """The loss of each update, after the walk back. Asking for the next loss makes the optimizer's step.

    The caller has to enter the device for each update, since several training functions may be driven in turn.

    Args:
        look: makes the context in which the training function runs on to its next update.

    Raises:
        TypeError: the training function is no generator, or yields something other than a one-element tensor.
        RuntimeError: the training function has not called `watch`; or a gate or control changes the batches, and the
            training function does not get them from `run.batches`.
    """
    random.manual_seed(handle.seed)
    steps = train(handle)
    if not isinstance(steps, Iterator):
        raise TypeError(f"verify: {HOW}This one returned {type(steps).__name__}")
    try:
        while True:
            with look():
                loss = next(steps, None)
            if loss is None or handle.updates == handle.limit:
                break
            if not isinstance(loss, Tensor) or loss.size != 1:
                raise TypeError(f"verify: yield the loss, a one-element Tensor, not {loss!r}; {HOW}")
            if handle.model is None:
                raise RuntimeError(f"verify: call `run.watch(model)` before the first `yield`; {HOW}")
            handle.updates += 1
            yield loss
    finally:
        getattr(steps, "close", lambda: None)()
    if handle.model is None:
        raise RuntimeError(f"verify: the training function called no `run.watch(model)`; {HOW}")
    if handle.misses_batches:
        raise RuntimeError(f"verify: a gate or control changes the batches, so use `run.batches`; {HOW}")


def expect_train(name: str, train: Any) -> None:
    """Raise TypeError if `train` cannot be a training function. The commonest mistake is to give the model."""
    if isinstance(train, type | Module | types.BuiltinFunctionType):
        raise TypeError(f"{name}: train is a function, not {shown(train)}; {HOW}")
