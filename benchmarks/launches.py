"""The operations of a step on a CUDA device, counted exactly: launches = kernels + matrix products + memsets; copies.

    python -m benchmarks.launches [--workloads W3a,S3] [--compile] [--names]

CuPy has no place to count launches. So the steps run in another process whose driver prints each operation: the driver
that runs CuPy's kernels on a CPU does so if the environment says CUDA_ON_CPU_TRACE=1. The driver of a GPU does not:
there `nsys profile` counts launches.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

_ROOT = Path(__file__).parents[1]
_LINE = re.compile(r"^\[cuda_on_cpu\] dev\d+ stream \S+ (\S+)$")
_COPIES = re.compile("memcpy")
_WAITS = re.compile("event|stream|synchronize|hostFunc|callback", re.IGNORECASE)
_CODE = """
import sys, tinytorch
from benchmarks.peers import tinytorch_, tinytorch_compiled
from benchmarks.workloads import WORKLOADS

for name in sys.argv[3:]:
    with tinytorch.device(sys.argv[1]):
        peer = tinytorch_compiled if sys.argv[2] == "compiled" else tinytorch_
        step, _ = peer.build(WORKLOADS[name])
        for _ in range(5):
            step()
        print(f"begin {name}", file=sys.stderr, flush=True)
        step()
        print("end", file=sys.stderr, flush=True)
"""


class NotCounted(RuntimeError):
    """No device here can have its launches counted."""


def operations(code: str, *arguments: str) -> dict[str, Counter[str]]:
    """The operations of a script on the device, between its lines "begin NAME" and "end" on the error stream.

    Raises:
        NotCounted: the script fails, or the driver does not print operations.
    """
    env = {**os.environ, "CUDA_ON_CPU_TRACE": "1"}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=_ROOT, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotCounted(f"the steps did not run: {done.stderr.strip().splitlines()[-1]}")
    found: dict[str, Counter[str]] = {}
    now: Counter[str] = Counter()
    for line in done.stderr.splitlines():
        if line.startswith("begin "):
            now = found[line.removeprefix("begin ")] = Counter()
        elif line == "end":
            now = Counter()
        else:
            now.update(_LINE.findall(line))
    if not any(found.values()):
        raise NotCounted("the driver does not print its operations; count them with nsys profile")
    return found


def counted(workloads: list[str], device: str = "cuda:0", *, compiled: bool = False) -> dict[str, Counter[str]]:
    """The operations of the sixth step of each workload, after all setting up. Raises as `operations`."""
    return operations(_CODE, device, "compiled" if compiled else "eager", *workloads)


def summary(operations: Counter[str]) -> dict[str, int]:
    """Launches, of these matrix products and memsets, and copies."""
    copies = sum(n for name, n in operations.items() if _COPIES.search(name))
    other = sum(n for name, n in operations.items() if _WAITS.search(name))
    return {
        "launches": sum(operations.values()) - copies - other,
        "products": sum(n for name, n in operations.items() if re.match("gemm|.gemm|dot|.dot", name)),
        "memsets": operations["memset"] + operations["memsetAsync"],
        "copies": copies,
    }


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.launches", description=__doc__)
    parser.add_argument("--workloads", default="W1,W2,W3m,W3a,W4a,W4b,W5,S1,S2,S3", help="some of them, as W3a,S3")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--compile", action="store_true", help="of compiled steps")
    parser.add_argument("--names", action="store_true", help="what is launched, too")
    options = parser.parse_args()
    found = counted(options.workloads.split(","), options.device, compiled=options.compile)
    print(f"{'':5}" + "".join(f"{name:>10}" for name in ("launches", "products", "memsets", "copies")))
    for name, operations in found.items():
        print(f"{name:5}" + "".join(f"{n:10}" for n in summary(operations).values()))
        for operation, n in operations.most_common() if options.names else []:
            print(f"    {n:4} {operation}")


if __name__ == "__main__":
    main()
