"""How time grows: with depth, width, batch and sequence length, beside PyTorch; and with the size of a graph."""

from __future__ import annotations

import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np

import tinytorch
from benchmarks.measure import compare, started
from benchmarks.workloads import WORKLOADS, Workload


def mlp(depth: int = 3, width: int = 64, batch: int = 32) -> Workload:
    """A net of equally wide layers."""
    return Workload("", "", "mlp", batch=batch, sizes=(width,) * (depth + 1))


def gpt(sequence: int) -> Workload:
    """Two blocks on sequences of a length."""
    return Workload(
        "", "", "transformer", batch=4, sequence=sequence, vocabulary=65, width=64, hidden=256, blocks=2, causal=True
    )  # fmt: skip


CURVES: dict[str, tuple[Callable[[int], Workload], tuple[int, ...]]] = {
    "depth of an MLP": (lambda n: mlp(depth=n, width=32), (1, 3, 10, 30, 100, 300, 1000)),
    "width of an MLP": (lambda n: mlp(width=n), (8, 32, 128, 512, 1024)),
    "batch of an MLP": (lambda n: mlp(batch=n), (1, 8, 64, 512, 4096)),
    "sequence length of a GPT": (gpt, (8, 32, 128, 512)),
}


def curves() -> None:
    """One training step (Adam) for each size, and its ratio to PyTorch's."""
    peers = ["tinytorch_", "tinytorch_kept", "torch_eager"]
    for title, (make, sizes) in CURVES.items():
        print(f"\n{title:<28}{'tinytorch':>12}{'kept':>21}{'PyTorch':>21}    microseconds a step")
        for n in sizes:
            with started(peers) as running:
                times = [us for us, _ in compare(running, make(n), 5, 0.1).values()]
            peers = [peer.module for peer in running]
            ratios = [f"{us / times[2]:>7.2f} x" for us in times[:2]] if len(times) == 3 else ["", ""]
            print(f"{n:<28}" + "".join(f"{us:>12,.0f}{ratio}" for us, ratio in zip(times, [*ratios, ""])), flush=True)


def graph() -> None:
    """A chain of ops: the time and the memory that recording it and walking back take for each node."""
    print(f"\n{'nodes of a graph':<28}{'record':>12}{'backward':>12}{'memory':>12}    us, us and bytes a node")
    for n in (1_000, 10_000, 100_000):
        x = tinytorch.Tensor(np.ones(1, "float32"), requires_grad=True)
        best: Any = (float("inf"), 0.0)
        for _ in range(5):
            x.grad, y, start = None, x, time.process_time()
            for _ in range(n):
                y = y + x
            middle = time.process_time()
            y.backward()
            best = min(best, (time.process_time() - start, middle - start))
        tracemalloc.start()
        y = x
        for _ in range(n):
            y = y + x
        y.backward()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        total, recorded = best
        print(f"{n:<28,}{recorded / n * 1e6:>12.2f}{(total - recorded) / n * 1e6:>12.2f}{peak / n:>12,.0f}")


def threads(rounds: int = 5) -> None:
    """One thread and two, on the larger workloads."""
    print(f"\n{'threads':<28}{'one':>12}{'two':>12}    microseconds a step")
    for module in ("tinytorch_", "torch_eager"):
        for name in ("S1", "S2", "S3"):
            with started([module], 1) as alone:
                if not alone:
                    break
                with started([module], 2) as pair:
                    title = f"{alone[0].name} {name}"
                    pair[0].name += ", two"
                    one, two = (t for t, _ in compare([*alone, *pair], WORKLOADS[name], rounds, 0.3).values())
            print(f"{title:<28}{one:>12,.0f}{two:>12,.0f}{two / one:>9.2f} x", flush=True)


def memory(name: str = "S3") -> None:
    """The peak of resident memory over five steps, in a process of its own, and the part after the imports."""
    print(f"\n{'memory of ' + name:<28}{'peak':>12}{'of steps':>12}    MB")
    for module in ("tinytorch_", "tinytorch_kept", "torch_eager"):
        code = f"""
from pathlib import Path
from benchmarks.peers import {module} as peer
from benchmarks.workloads import WORKLOADS
peak = lambda: int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024
before = peak()
step, _ = peer.build(WORKLOADS["{name}"], peer.variants()[0])
for _ in range(5):
    step()
print(peak(), peak() - before)"""
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        if run.returncode:
            print(f"{module} is left out: {run.stderr.strip().splitlines()[-1]}")
        else:
            print(f"{module:<28}" + "".join(f"{float(mb):>12,.0f}" for mb in run.stdout.split()))


def imports() -> None:
    """The time of `import tinytorch` in a new interpreter, and whether it imports a GPU library."""
    code = "import sys, time; t = time.process_time(); import numpy; n = time.process_time(); import tinytorch; "
    code += "gpu = {'cupy', 'torch', 'jax', 'dpnp', 'dpctl'} & sys.modules.keys(); "
    code += "print(n - t, time.process_time() - n, *gpu or ['none'])"
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split() for _ in range(9)
    ]
    numpy, ours = (min(float(r[i]) for r in runs) * 1e3 for i in (0, 1))
    print(f"\nimport tinytorch: {numpy + ours:.0f} ms of processor time, of which NumPy {numpy:.0f} ms")
    print(f"GPU libraries it brought in: {runs[0][2]}")


def main() -> None:
    """Measure and print."""
    imports()
    graph()
    memory()
    curves()
    threads()
