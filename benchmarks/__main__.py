"""Measure tinytorch beside its peers, on the same work: python -m benchmarks [PART ...]

`ops` are single ops and layers. `steps` are training steps of the milestones (W1 to W5), of larger models (S1 to S3)
and of other layers (E1 to E3, not written by hand), and inference (I1, I2); the first losses of all peers must agree.
`scaling` is how time grows with size. `extension` has the CPU's own ways beside the standard-only defaults. `cliffs` is
work that once took many times PyTorch's time. By default ops and steps. A peer that is not installed is left out by
name. Trust ratios, not times.
"""

from __future__ import annotations

import sys

from benchmarks import cliffs, extension, ops, scaling
from benchmarks.measure import compare, started
from benchmarks.workloads import WORKLOADS
from tinytorch.commands import STATUS, Parser, at_least, process

PARTS = ["ops", "steps", "scaling", "extension", "cliffs"]
PEERS = [
    "numpy_hand",
    "tinytorch_",
    "tinytorch_compiled",
    "torch_eager",
    "torch_compile",
    "jax_jit",
]  # there is tinytorch_kept, too


def steps(peers: list[str], workloads: list[str], rounds: int, seconds: float, cpu: int) -> None:
    """One table of times, and two of ratios."""
    found, names = {}, []
    for name in workloads:
        with started(peers, cpu=cpu) as running:
            found[name] = compare(running, WORKLOADS[name], rounds, seconds)
        peers, names = [peer.module for peer in running], [peer.name for peer in running]
        each = ", ".join(f"{peer} {us:,.1f} ({variant})" for peer, (us, variant) in found[name].items())
        print(f"{name}: {WORKLOADS[name].title}: {each}", flush=True)
    for title, base in (("microseconds", ""), *((f"ratio to {n}", n) for n in ("NumPy by hand", "PyTorch eager"))):
        if base and base not in names:
            continue
        print(f"\n{title:<24}" + "".join(f"{n:>17}" for n in names))
        for name, times in found.items():
            row = f"{name:<24}"
            for n in names:
                us, floor = (times[k][0] if k in times else float("nan") for k in (n, base))
                row += f"{us / floor:>17.2f}" if base else f"{us:>17,.1f}"
            print(row)


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, measure and print."""
    parser = Parser(prog="python -m benchmarks", description=__doc__, epilog=STATUS)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: ops steps)")
    parser.add_argument("--rows", default="", help="of cliffs and extension those whose names begin so, as sort,gelu")
    parser.add_argument("--before", default="", help="another checkout, whose tinytorch is measured beside this one")
    parser.add_argument("--workloads", default=",".join(WORKLOADS), help="some of the steps, as W1,S2")
    parser.add_argument("--peers", default=",".join(PEERS), help=f"some of {', '.join(PEERS)}")
    parser.add_argument("--rounds", type=at_least(1), default=7)
    parser.add_argument("--seconds", type=at_least(0, float), default=0.3, help="for each peer, workload and round")
    parser.add_argument("--cpu", type=at_least(-1), default=-1, help="the core to run on; any unless given")
    parser.add_version()
    options = parser.parse_args(argv)
    peers, workloads = options.peers.split(","), options.workloads.split(",")
    for names, known in ((options.parts, PARTS), (workloads, WORKLOADS), (peers, [*PEERS, "tinytorch_kept"])):
        if unknown := [name for name in names if name not in known]:
            parser.error(f"no {', '.join(unknown)}; there are {', '.join(known)}")
    for part in options.parts or ["ops", "steps"]:
        if part == "ops":
            ops.main()
        elif part == "steps":
            steps(peers, workloads, options.rounds, options.seconds, options.cpu)
        elif part == "scaling":
            scaling.main()
        elif part == "extension":
            extension.main(options.rows)
        else:
            cliffs.main(options.rows, options.before, options.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(process(main))
