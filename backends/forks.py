"""Locks that are free in a process that was forked, whatever other threads were doing.

A lock that another thread holds at a fork stays held in the child for good, since that thread is not there. So whoever
forks takes these locks first, and lets go of them in both processes: then nobody was halfway, and the child finds no
work half done either. Of two locks that one thread takes, the outer one comes later here: forking takes it first.

What tinytorch imports on first use is covered. An `import` statement that another thread is in at the fork is not: the
lock of that module is Python's, and stays held in the child, which waits for ever where it imports the same module, as
tinytorch.parity or NumPy. So import before threads are started, or start processes with "spawn" or "forkserver".
"""

from __future__ import annotations

import os
import threading
from typing import Any

_locks: list[Any] = []  # that a fork waits for
_taken: list[Any] = []  # by the thread that forks now


def _take() -> None:
    global _taken
    while True:
        locks = _locks[::-1]
        for lock in locks:
            lock.acquire()
        if len(locks) == len(_locks):  # none was made meanwhile, by a module that another thread has imported
            break
        for lock in locks:
            lock.release()
    _taken = locks


def _let_go() -> None:
    for lock in _taken:
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_take, after_in_parent=_let_go, after_in_child=_let_go)


def over_forks(lock: Any) -> Any:
    """The lock; from now on a fork waits for it.

    The thread that forks may hold it itself if it is re-entrant, as the lock of NumPy's generators is from 2.4 on.
    """
    _locks.append(lock)
    return lock


importing = over_forks(threading.RLock())  # while a module is imported on first use: Python's own locks stay held, too
