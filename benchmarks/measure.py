"""Timing: peers in processes of their own, in interleaved rounds, compared by ratios.

Each workload gets new processes: earlier work of a process decides how much memory its C library keeps, and so whether
large arrays cost page faults.
A time means little on a machine with other work. The ratio of two times of one round means more. So rounds go
A B C A B C, and each peer counts by its median over the quieter half of the rounds, the same rounds for all.
On one thread the time is processor time, which stands still while others have the core; on more it is time by the
clock.
"""

from __future__ import annotations

import importlib
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

import numpy as np

from benchmarks.workloads import Workload

RESET = 300  # after so many steps training starts again: an overfitted net has denormal numbers, which are slow
CHECKED = 5  # losses that are compared


def seconds_of(step: Callable[[], Any], reset: Callable[[], None], seconds: float) -> float:
    """The median time of a step, over blocks of steps."""
    clock = time.process_time if os.environ["OMP_NUM_THREADS"] == "1" else time.perf_counter
    reset()
    start, n = clock(), 0
    while n == 0 or clock() < start + seconds / 4:
        value = step()
        n += 1
        if n % RESET == 0:
            reset()
    host(value)
    size = max(1, min(RESET // 2, round(0.002 * n / (clock() - start))))
    times: list[float] = []
    end, done = clock() + seconds, RESET
    while not times or clock() < end:
        done += size
        if done > RESET:
            reset()
            host(step())
            done = size + 1
        start = clock()
        for _ in range(size):
            value = step()
        host(value)  # waits for the value
        times.append((clock() - start) / size)
    return statistics.median(times)


def host(value: Any) -> np.ndarray[Any, Any]:
    """A loss or an output of any peer."""
    return np.asarray(value.detach().numpy() if hasattr(value, "detach") else value)


def serve(peer: str, pipe: Any, cpu: int) -> None:
    """The loop of a peer's process: build a workload and time it, as the pipe asks."""
    if cpu >= 0 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {cpu})
    try:
        module = importlib.import_module(f"benchmarks.peers.{peer}")
    except ImportError as error:
        pipe.send(str(error))
        return
    pipe.send(module.NAME)
    steps: dict[str, Any] = {}
    for work, variant, seconds in iter(pipe.recv, None):
        try:
            if seconds is None:  # the first losses of each variant
                steps, values = {}, {}
                for v in module.variants():
                    built = module.build(work, v)
                    if built is not None:
                        steps[v] = built
                        each = [host(built[0]()) for _ in range(CHECKED)]
                        values[v] = [float(a) if work.optimizer else float((a.astype("d") ** 2).mean()) for a in each]
                pipe.send(values)
            else:
                step, reset = steps[variant]
                pipe.send(seconds_of(step, reset, seconds))
        except Exception as error:
            pipe.send(f"{type(error).__name__}: {error}")


class Peer:
    """A peer in its own process."""

    def __init__(self, module: str, threads: int, cpu: int) -> None:
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ[name] = str(threads)
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(module, theirs, cpu), daemon=True)
        self.process.start()
        self.module, self.name = module, self.pipe.recv()
        self.missing = "" if self.process.is_alive() and "No module" not in self.name else self.name

    def ask(self, *request: Any) -> Any:
        """The answer of the peer; a string is an error."""
        self.pipe.send(request)
        return self.pipe.recv()

    def close(self) -> None:
        """End the process."""
        if not self.missing:
            self.pipe.send(None)
        self.process.join()


@contextmanager
def started(modules: Sequence[str], threads: int = 1, cpu: int = -1) -> Iterator[list[Peer]]:
    """The installed peers, each in a new process."""
    peers = [Peer(module, threads, cpu) for module in modules]
    for peer in peers:
        if peer.missing:
            print(f"{peer.module} is left out: {peer.missing}")
    try:
        yield [peer for peer in peers if not peer.missing]
    finally:
        for peer in peers:
            peer.close()


def compare(peers: list[Peer], work: Workload, rounds: int, seconds: float) -> dict[str, tuple[float, str]]:
    """Microseconds per step of each peer, and its fastest variant.

    Raises:
        AssertionError: the first losses of two peers differ.
    """
    built = {peer: peer.ask(work, "", None) for peer in peers}
    for peer, values in built.items():
        if isinstance(values, str):
            print(f"  {peer.name} is left out of {work.title}: {values}")
    runs = [(peer, v) for peer, values in built.items() if not isinstance(values, str) for v in values]
    reference = next(iter(built[runs[0][0]].values()))
    for peer, v in runs:
        found = built[peer][v]
        if not np.allclose(found, reference, rtol=1e-3, atol=1e-5):
            raise AssertionError(f"{peer.name} ({v}): {found}, not {reference}")
    times = {run: [] for run in runs}  # type: ignore[var-annotated]
    for _ in range(rounds):
        for peer, v in runs:
            answer = peer.ask(work, v, seconds)
            if isinstance(answer, str):
                raise RuntimeError(f"{peer.name} ({v}) on {work.title}: {answer}")
            times[peer, v].append(answer)
    loud = [statistics.median(t[i] / min(t) for t in times.values()) for i in range(rounds)]
    quiet = sorted(range(rounds), key=loud.__getitem__)[: (rounds + 1) // 2]
    out: dict[str, tuple[float, str]] = {}
    for (peer, v), t in times.items():
        us = statistics.median(t[i] for i in quiet) * 1e6
        out[peer.name] = min(out.get(peer.name, (us, v)), (us, v))
    return out
