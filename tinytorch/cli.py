"""The command line: python -m tinytorch devices | doctor | compare | milestones | sabotage | tour

The work of the commands is done by the registry of devices, `tinytorch.parity` and the milestones. Here the work is
called, and its results are shown.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tinytorch
from tinytorch import backends
from tinytorch.commands import STATUS, Parser, at_least, chosen_devices, output
from tinytorch.junit import Case, junit
from tinytorch.parity import (
    BrokenTraining,
    Card,
    Comparison,
    Fault,
    NotTheSameRun,
    Other,
    Step,
    compare,
    examine,
)
from tinytorch.progress import Progress
from tinytorch.starting import INTERRUPTED
from tinytorch.table import Table, console, say
from tinytorch.verify.drive import Train

SHOWN = 10  # updates in a table; --json has all
PROG = "python -m tinytorch"
CHAPTERS = {"milestones": "tinytorch.milestones.__main__", "sabotage": "tinytorch.milestones.sabotage"}

RECIPE = """
A recipe of your own is a function named as MODULE:FUNCTION, a training loop as `tinytorch.verify` takes it, which
yields the loss of every update before the optimizer's step:

    def train(run):
        model = Linear(3, 1).to(run.dtype)
        ...
        run.watch(model, optimizer)
        ...
            loss.backward()
            yield loss
            optimizer.step()
"""


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns its exit status."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] and argv[0] in CHAPTERS:  # these commands read the rest themselves
        command: Callable[..., int] = importlib.import_module(CHAPTERS[argv[0]]).main
        return command(argv[1:], prog=f"{PROG} {argv[0]}")
    options = arguments().parse_args(argv)
    try:
        return int(options.run(options))
    except NotTheSameRun as error:
        return _complain(error, 1)
    except (BrokenTraining, ValueError, TypeError, NotImplementedError, OSError, backends.Unavailable) as error:
        return _complain(error, 2)


def arguments() -> Parser:
    """The parser of all commands."""
    parser = Parser(prog=PROG, description=f"tinytorch {tinytorch.__version__}", epilog=STATUS)
    parser.add_version()
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    devices = commands.add_parser("devices", help="list every known device, and why those that are not usable are not")
    devices.add_argument("--json", action="store_true", help="print the list as JSON")
    devices.add_argument("--junit", type=output, metavar="FILE", help="write it as test cases for a CI system")
    devices.set_defaults(run=list_devices)

    doctor = commands.add_parser("doctor", help="check every op and gradient on a device, also one of another package")
    doctor.add_devices(
        "any registered device, such as torch:cpu; may be repeated, and 'all' is every usable one", required=True
    )
    doctor.add_argument("--op", action="append", default=[], metavar="NAME", help="check only this; may be repeated")
    doctor.add_argument("--json", action="store_true", help="print everything that was found as JSON, by device")
    doctor.add_argument("--junit", type=output, metavar="FILE", help="write it as test cases for a CI system")
    doctor.set_defaults(run=call_doctor)

    comparing = commands.add_parser(
        "compare",
        help="train the same on several devices, and say by how much and where they differ",
        epilog=RECIPE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    comparing.add_argument("recipes", nargs="+", metavar="RECIPE", help="a milestone, such as xor, or module:function")
    comparing.add_devices(
        "such as cpu, torch:cpu or jax:cpu:0; to be repeated, or 'all'; the first is what the others are compared with",
        required=True,
    )
    comparing.add_argument("--seed", type=at_least(0), default=0, help="of weights, data and masks (default: 0)")
    comparing.add_argument("--updates", type=at_least(1), default=50, help="how many to compare (default: 50)")
    comparing.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="(default: float32)")
    comparing.add_argument(
        "--tolerance",
        type=at_least(0, float),
        metavar="X",
        help="fail if a loss is farther away than this, relatively",
    )
    comparing.add_argument("--json", action="store_true", help="print every update as JSON")
    comparing.add_argument("--junit", type=output, metavar="FILE", help="write each run as a test case for a CI system")
    comparing.set_defaults(run=compare_devices)

    commands.add_parser(
        "milestones", help="train five chapters of history, and judge whether they learn", add_help=False
    )
    commands.add_parser("sabotage", help="break them in every known way, and see which gate notices", add_help=False)
    tour = commands.add_parser("tour", help="copy the whole API in one sitting, a file of tests, into this folder")
    tour.add_argument("file", nargs="?", type=output, default=Path("test_tour.py"), help="(default: test_tour.py)")
    tour.set_defaults(run=copy_tour)
    return parser


def list_devices(options: argparse.Namespace) -> int:
    """`devices`: every known device and its state."""
    default = tinytorch.default_device().name
    with Progress(always=True) as progress:
        found = []
        for info in tinytorch.devices():
            progress.say(f"looking for devices: {info.name}")
            hardware = backends.device(info.name).hardware if info.usable else ""
            found.append(info._asdict() | {"hardware": hardware, "default": info.name == default})
    if options.junit:
        cases = [Case(d["name"], "" if d["usable"] else "skipped", "; ".join([d["reason"], d["fix"]])) for d in found]
        options.junit.write_text(junit("tinytorch devices", [("devices", cases)]))
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    table = Table("device", "library", "state", "how to mend it")
    for d in found:
        notes = ["usable", d["hardware"], "the default" if d["default"] else ""]
        state = ", ".join(filter(None, notes)) if d["usable"] else d["reason"]
        table.add_row(d["name"], d["library"], state, d["fix"])
    console().print(table, soft_wrap=True)
    return 0


def call_doctor(options: argparse.Namespace) -> int:
    """`doctor`: the faults of devices."""
    cards: dict[str, Card] = {}
    devices = list(dict.fromkeys(chosen_devices(options.device)))
    try:
        for device in devices:
            with Progress(always=True) as progress:
                cards[device.name] = examine(
                    device,
                    options.op,
                    lambda i, n: progress.say(f"examining {device}: {i} of {n} rows"),  # noqa: B023
                )
            if not options.json:
                show_card(cards[device.name], console())
    except KeyboardInterrupt as stop:
        interrupted = f"{len(cards)} of {len(devices)} devices are done"
        for card in stop.args:  # the card as it is at the interrupt
            interrupted += f", and a part of {card.device}"
            cards[card.device] = card
            if not options.json:
                show_card(card, console())
    else:
        interrupted = ""
    if options.junit:
        options.junit.write_text(junit("tinytorch doctor", [(name, cases_of(card)) for name, card in cards.items()]))
    if options.json:
        print(json.dumps({name: _plain(card) | {"ok": card.ok} for name, card in cards.items()}, indent=2))
    if interrupted:
        return _complain(f"interrupted: {interrupted}", INTERRUPTED)
    return 0 if all(card.ok for card in cards.values()) else 1


def cases_of(card: Card) -> list[Case]:
    """A test case for each op and stage, and for everything else that failed or is unsupported."""
    cases = {(what, name): Case(f"{name}, {what}") for what, names in card.checked.items() for name in names}
    for kind, findings in (("skipped", card.unsupported), ("failure", card.failed)):
        texts: dict[tuple[str, str], list[str]] = {}
        for f in findings:
            texts.setdefault((f.what, f.name), []).append(str(f))
        cases |= {(what, name): Case(f"{name}, {what}", kind, "\n".join(t)) for (what, name), t in texts.items()}
    return list(cases.values())


def copy_tour(options: argparse.Namespace) -> int:
    """`tour`: a file to read from top to bottom, and to run."""
    here = Path(__file__).resolve().parent
    installed, repository = here / "test_tour.py", here.parent / "tests/test_tour.py"
    if options.file.exists():
        raise ValueError(f"tour: {options.file} is there already; name another file: {PROG} tour FILE")
    options.file.write_text((installed if installed.exists() else repository).read_text("utf-8"), "utf-8")
    print(f"{options.file}: read it from top to bottom; `python -m pytest {options.file}` runs it (pip install pytest)")
    return 0


def show_card(card: Card, screen: Any) -> None:
    """Print the card."""
    columns = "ops", "passed", "failed", "unsupported"
    table = Table(*columns, title=f"{card.device}: {card.library} {card.version}", right=columns[1:])
    for what in card.checked:
        counts = card.count(what)
        table.add_row(what, *map(str, counts.values()), style="red" if counts["failed"] else None)
    screen.print(table, soft_wrap=True)
    states: dict[str, list[str]] = {}
    for dtype, state in card.dtypes.items():
        states.setdefault(state, []).append(dtype)
    facts = [(", ".join(names), state) for state, names in states.items()]
    facts += [("duplicate indices", f"scatter_add {card.scatter}"), ("indices out of range", card.index_check)]
    copies = [f"{row} ({', '.join(calls)})" for row, calls in card.host_copies.items()]
    seen = "" if card.sees_implicit else f"; implicit conversions of {card.library}'s arrays cannot be seen"
    facts.append(("host copies in ops and rules", (", ".join(copies) or "none") + seen))
    for title, findings in (("FAILED", card.failed), ("unsupported", card.unsupported)):
        groups: dict[tuple[str, str], list[Fault]] = {}
        for f in findings:
            groups.setdefault((f.name, f.what), []).append(f)
        for same in groups.values():
            more = f" (and {len(same) - 1} more)" if len(same) > 1 else ""
            facts.append((title, f"{same[0]}{more}"))
    for name, text in facts:
        style = "red" if name == "FAILED" or text.startswith("fails") else None
        say(screen, f"{name}: {text}", style)
    failed = sorted({f.name for f in card.failed})
    verdict = f"fails: {', '.join(failed)}" if failed else "nothing fails"
    say(screen, f"{card.device}: {verdict}; {card.seconds:.1f} s", "red" if failed else "green")


def compare_devices(options: argparse.Namespace) -> int:
    """`compare`: the same training run on several devices."""
    devices = chosen_devices(options.device)
    recipes = {name: find_recipe(name) for name in options.recipes}
    found: dict[str, Comparison] = {}
    try:
        with Progress(always=True) as progress:
            for name, recipe in recipes.items():
                found[name] = compare(
                    recipe,
                    devices,
                    seed=options.seed,
                    updates=options.updates,
                    dtype=options.dtype,
                    progress=lambda i, n: progress.say(f"comparing {name}: {i} of {n} updates"),  # noqa: B023
                )
    except KeyboardInterrupt:
        interrupted = True
    else:
        interrupted = False
    if options.junit:
        suites = [(name, [_case(run, options.tolerance) for run in f.others]) for name, f in found.items()]
        options.junit.write_text(junit("tinytorch compare", suites))
    if options.json:
        print(json.dumps({name: _plain(comparison) for name, comparison in found.items()}, indent=2))
    else:
        for name, comparison in found.items():
            show_comparison(name, comparison, console())
    if interrupted:
        return _complain(f"interrupted: {len(found)} of {len(recipes)} recipes are done", INTERRUPTED)
    return 0 if options.tolerance is None else judge(found, options.tolerance)


def judge(found: dict[str, Comparison], tolerance: float) -> int:
    """0 if no loss is farther away than the tolerance, relatively; else 1, with a line for each run that is."""
    runs = [(name, run) for name, comparison in found.items() for run in comparison.others]
    name, run = max(runs, key=lambda x: _worst(x[1]).loss_difference.relative)
    case = _case(run, tolerance)
    return _complain(f"{name}, {case.text}", 1) if case.kind else 0


def _worst(run: Other) -> Step:
    """The update whose loss is farthest away."""
    return max(run.steps, key=lambda step: step.loss_difference.relative)


def _case(run: Other, tolerance: float | None) -> Case:
    """A run as a test case. With a tolerance, the case fails if a loss is farther away."""
    worst = _worst(run)
    if tolerance is None or worst.loss_difference.relative <= tolerance:
        return Case(run.device)
    off = f"off by {worst.loss_difference.relative:.1e}, relatively, more than {tolerance:g}"
    return Case(run.device, "failure", f"update {worst.update}: the loss on {run.device} is {off}")


def find_recipe(name: str) -> Train:
    """The function named `module:function`, also of a module in the current folder, or the main run of a milestone.

    Raises:
        ValueError: there is no such function or milestone; the message says what to do.
    """
    module, _, function = name.partition(":")
    if function:
        sys.path.insert(0, os.getcwd())
        try:
            own: Train = getattr(importlib.import_module(module), function)
        except (Exception, SystemExit) as error:  # importing a module may raise anything
            kind = "" if isinstance(error, ImportError | AttributeError) else f"{type(error).__name__}: "
            raise ValueError(f"compare: {name} cannot be imported: {kind}{error}") from error
        finally:
            sys.path.remove(os.getcwd())
        return own
    known = importlib.import_module("tinytorch.milestones").CHAPTERS
    if name not in known:
        raise ValueError(f"compare: no milestone {name!r}; there are {', '.join(known)}, and recipes: module:function")
    learn: Train = importlib.import_module(f"tinytorch.milestones.{name}").learn
    return learn


def show_comparison(name: str, found: Comparison, screen: Any) -> None:
    """Print a table of some updates, and the first differences."""
    columns = (
        "update",
        f"loss on {found.reference}",
        "device",
        "loss: ULP",
        "loss: relative",
        "parameters: ULP",
        "parameters: relative",
        "farthest",
    )
    table = Table(
        *columns,
        title=f"{name}, {found.dtype}, seed {found.seed}",
        caption=f"{found.weights} initial weights and {found.inputs} inputs (batches, masks, ...) are bit-identical",
        right=[column for column in columns if column not in ("device", "farthest")],
    )
    for i in _some(len(found.losses)):
        for run in found.others:
            step = run.steps[i]
            cells = [f"{x:.3g}" for x in (*step.loss_difference, *step.parameters)]
            table.add_row(step.update, f"{found.losses[i]:.6f}", run.device, *cells, step.worst)
    screen.print(table, soft_wrap=True)
    for run in found.others:
        say(screen, f"{run.device} {f'first differs in {run.first}' if run.first else 'does not differ in any result'}")


def _some(n: int) -> list[int]:
    """About SHOWN indices of a sequence, with the first and the last."""
    return sorted({round(i * (n - 1) / (SHOWN - 1)) for i in range(SHOWN)}) if n else []


def _complain(error: object, status: int) -> int:
    say(console(sys.stderr), str(error), "red")
    return status


def _plain(x: Any) -> Any:
    """A value for JSON: named tuples and dataclasses become objects, numbers that are not finite become null."""
    if dataclasses.is_dataclass(x) and not isinstance(x, type):
        return {f.name: _plain(getattr(x, f.name)) for f in dataclasses.fields(x)}
    if hasattr(x, "_asdict"):
        return {k: _plain(v) for k, v in x._asdict().items()}
    if isinstance(x, dict):
        return {k: _plain(v) for k, v in x.items()}
    if isinstance(x, Sequence) and not isinstance(x, str):
        return [_plain(v) for v in x]
    return None if isinstance(x, float) and not math.isfinite(x) else x
