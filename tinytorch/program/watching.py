"""Side effects of a function are refused during a recording, since a program would not repeat them.

Python tells a profiler of each call of a function. So what the user's own lines call is seen: the clock, files, the
environment, `print`. What only changes objects that the function's names lead to is seen afterwards, by `Reach`.
"""

from __future__ import annotations

import builtins
import functools
import os
import sys
import sysconfig
import threading
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tinytorch.origin import is_ours
from tinytorch.program.recorder import Recorder
from tinytorch.tape.variable import Variable

_HOMES = tuple(sysconfig.get_paths()[k] for k in ("stdlib", "purelib", "platlib"))
_BUILTINS = {"print", "input", "open", "exec", "eval", "globals", "locals", "breakpoint"}
_MODULES = {
    "time": "it reads the clock",
    "datetime": "it reads the clock",
    "os": "it asks the operating system",
    "posix": "it asks the operating system",
    "nt": "it asks the operating system",
    "_io": "it reads or writes a file",
    "logging": "it writes to a log",
    "warnings": "it warns",
    "random": "it draws random numbers that are not tinytorch's",
    "secrets": "it draws random numbers that are not tinytorch's",
    "uuid": "it draws random numbers that are not tinytorch's",
}


@functools.lru_cache(10_000)
def of_user(file: str) -> bool:
    """Whether a file of code is the user's."""
    return not (is_ours(file) or file.startswith((*_HOMES, "<frozen")) or "site-packages" in file)


def _module_of(function: Any) -> str:
    """Where a function of C comes from: its module, or that of the class whose method it is."""
    owner = getattr(function, "__self__", None)
    if isinstance(owner, types.ModuleType):
        return owner.__name__
    kind = owner if isinstance(owner, type) else type(owner)
    return kind.__module__


def _of_c(function: Any) -> str | None:
    """The side effect of a function of C, in words."""
    module, name = _module_of(function), function.__name__
    if module == "builtins" and name in _BUILTINS and function is getattr(builtins, name, None):
        return f"it calls {name}()"
    return _MODULES.get(module)


def _of_python(frame: Any) -> str | None:
    """The side effect of a function of the standard library, in words, from its frame."""
    file = frame.f_code.co_filename
    if is_ours(file) or of_user(file):
        return None
    module = frame.f_globals.get("__name__", "").partition(".")[0]
    if module in ("_collections_abc", "collections"):  # the get of os.environ
        module = type(frame.f_locals.get("self")).__module__
    return _MODULES.get(module)


@contextmanager
def watched(recorder: Recorder) -> Iterator[None]:
    """Refuse side effects and raw arrays of tensors in this block, on this thread."""

    def refused(frame: Any, why: str, fix: str) -> None:
        recorder.where = f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"
        raise recorder.refused(why, fix)

    def called(frame: Any, event: str, arg: Any) -> None:
        caller = frame if event == "c_call" else frame.f_back if event == "call" else None
        if caller is None or not of_user(caller.f_code.co_filename):
            return
        why = _of_c(arg) if event == "c_call" else _of_python(frame)
        if why is not None:
            refused(caller, why, "do that outside: a program only computes")

    slot, thread = vars(Variable)["array"], threading.get_ident()

    def array(tensor: Any) -> Any:
        frame = sys._getframe(1)
        if threading.get_ident() == thread and of_user(frame.f_code.co_filename):
            refused(frame, "it uses the raw array of a tensor", "compute with the tensor itself")
        return slot.__get__(tensor)

    if sys.getprofile() is not None:  # somebody measures this: there is one place for such a function
        yield
        return
    setattr(Variable, "array", property(array, slot.__set__))  # noqa: B010
    sys.setprofile(called)
    try:
        yield
    finally:
        sys.setprofile(None)
        setattr(Variable, "array", slot)  # noqa: B010
