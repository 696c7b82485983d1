"""Whether ops are recorded: a mode of each thread."""

from __future__ import annotations

import functools
import inspect
import threading
import types
from collections.abc import Callable
from typing import Any, TypeVar, overload

from tinytorch import words


class _Mode(threading.local):
    def __init__(self) -> None:
        self.enabled = True
        self.outer: list[bool] = []


grad_mode = _Mode()  # of this thread


class GradMode:
    """Record ops, or do not, inside a `with` block or a decorated function, on this thread.

    In a decorated generator or coroutine the mode holds while its code runs, and not while it waits.
    """

    def __init__(self, mode: bool) -> None:
        self.mode = mode

    def __repr__(self) -> str:
        return f"<gradients {'on' if self.mode else 'off'}>"

    def __enter__(self) -> None:
        grad_mode.outer.append(grad_mode.enabled)
        grad_mode.enabled = self.mode

    def __exit__(self, *exc: object) -> None:
        grad_mode.enabled = grad_mode.outer.pop()

    def __call__(self, function: Any) -> Any:
        """The function, running in the mode.

        Raises:
            TypeError: `function` is no function.
        """
        if not callable(function):
            name = "enable_grad" if self.mode else "no_grad"
            raise TypeError(f"{name}: function is a function to decorate, not {words.shown(function)}")
        mode = GradMode(self.mode)
        if inspect.isasyncgenfunction(function):

            @functools.wraps(function)
            async def call_async_generator(*args: Any, **kwargs: Any) -> Any:
                steps = function(*args, **kwargs)
                step = steps.asend(None)
                try:
                    while True:
                        out = await _in_mode(mode, step.__await__())
                        try:
                            step = steps.asend((yield out))
                        except GeneratorExit:
                            raise
                        except BaseException as error:
                            step = steps.athrow(error)
                except StopAsyncIteration:
                    return
                finally:
                    await _in_mode(mode, steps.aclose().__await__())

            return call_async_generator
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def call_coroutine(*args: Any, **kwargs: Any) -> Any:
                return await _in_mode(mode, function(*args, **kwargs).__await__())

            return call_coroutine
        if inspect.isgeneratorfunction(function):

            @functools.wraps(function)
            def call_generator(*args: Any, **kwargs: Any) -> Any:
                return (yield from _steps_in_mode(mode, function(*args, **kwargs)))

            return call_generator

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with mode:
                return function(*args, **kwargs)

        return call


def _steps_in_mode(mode: GradMode, steps: Any) -> Any:
    """A generator that runs each step of another in the mode, and waits in the caller's mode."""
    send: Callable[[Any], Any] = steps.send
    value: Any = None
    while True:
        try:
            with mode:
                out = send(value)
        except StopIteration as stop:
            return stop.value
        try:
            value, send = (yield out), steps.send
        except GeneratorExit:
            with mode:
                steps.close()
            raise
        except BaseException as error:
            value, send = error, steps.throw


_in_mode: Any = types.coroutine(_steps_in_mode)  # as a coroutine


F = TypeVar("F", bound=Callable[..., Any])


@overload
def no_grad(function: F) -> F: ...


@overload
def no_grad() -> GradMode: ...


@words.bound
def no_grad(function: Callable[..., Any] | None = None) -> Any:
    """Do not record ops inside a `with` block or a decorated function, on this thread.

    >>> x = Tensor([1.0], requires_grad=True)
    >>> with tinytorch.no_grad():
    ...     (x * 2).requires_grad
    False
    """
    return GradMode(False) if function is None else GradMode(False)(function)


@words.bound
def enable_grad(function: Callable[..., Any] | None = None) -> Any:
    """Record ops again inside a `no_grad` block, in a `with` block or a decorated function."""
    return GradMode(True) if function is None else GradMode(True)(function)


class set_grad_enabled(GradMode):
    """Record ops, or do not, from now on, on this thread.

    As a context manager the mode ends with the block, as a decorator with the call of the function.

    >>> with tinytorch.set_grad_enabled(False):
    ...     tinytorch.is_grad_enabled()
    False
    """

    @words.expecting
    def __init__(self, mode: bool) -> None:
        super().__init__(bool(mode))
        self._outer = grad_mode.enabled
        grad_mode.enabled = self.mode

    def __enter__(self) -> None:
        grad_mode.enabled = self.mode

    def __exit__(self, *exc: object) -> None:
        grad_mode.enabled = self._outer

    def __call__(self, function: Any) -> Any:
        """The function, running in the mode. The mode outside the function is again as before."""
        grad_mode.enabled = self._outer
        return super().__call__(function)


@words.bound
def is_grad_enabled() -> bool:
    """Whether ops of this thread are recorded now."""
    return grad_mode.enabled
