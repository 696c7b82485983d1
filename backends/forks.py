"""Locks that are free in a forked process, whatever other threads were doing at the fork.

A lock that another thread holds at a fork stays held in the child for good: the child has no such thread. So a fork
takes the locks of this file first, and releases them in both processes. The child then finds no lock held and no work
half done. Of two locks that one thread takes, the outer lock is registered later: a fork takes it first.

Modules that tinytorch imports at the first use are covered. An `import` statement of another thread during the fork is
not: Python's own lock of that module stays held, and a child that imports the module waits for ever. So import
before threads are started, or start processes with "spawn" or "forkserver".
"""

from __future__ import annotations

import os
import threading
from typing import Any

_locks: list[Any] = []  # a fork waits for these
_taken: list[Any] = []  # the thread that forks holds these


def _take() -> None:
    global _taken
    while True:
        locks = _locks[::-1]
        for lock in locks:
            lock.acquire()
        if len(locks) == len(_locks):  # no module that another thread imports has made a lock meanwhile
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

    The thread that forks may hold a re-entrant lock itself. (The lock of NumPy's generators is re-entrant from 2.4 on.)
    """
    _locks.append(lock)
    return lock


importing = over_forks(threading.RLock())  # for imports at the first use: Python's own locks would stay held, too
