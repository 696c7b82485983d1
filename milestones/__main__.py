"""Run the milestones: python -m milestones [CHAPTER ...] [--device NAME] [--seed N]

Prints one table, and exits with 1 if any gate failed. `python -m tinytorch milestones` is the same.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

# Before NumPy is imported. The matrices are small: threads that wait for each other cost more than they save, and much
# more while other programs keep the cores busy.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from tinytorch import backends
from tinytorch.commands import STATUS, Parser, at_least, chosen_devices, output, process
from tinytorch.junit import junit
from tinytorch.milestones import CHAPTERS
from tinytorch.starting import INTERRUPTED
from tinytorch.table import Table, console, say
from tinytorch.verify import Report, Run

COLUMNS = (
    "milestone",
    "device",
    "loss drop",
    "accuracy",
    "gradients",
    "weights moved",
    "updates",
    "seconds",
    "verdict",
)
START, END = "<!-- milestones -->", "<!-- /milestones -->"


def arguments(prog: str) -> Parser:
    """The parser of the command."""
    parser = Parser(prog=prog, description="Train the milestones and judge them.", epilog=STATUS)
    parser.add_argument("chapters", nargs="*", metavar="CHAPTER", help=f"which to run: {', '.join(CHAPTERS)}; or all")
    parser.add_devices(
        "such as cpu, cuda, cuda:1 or strict:device1; 'all' for every usable one, 'auto' for a GPU if there is one; "
        "may be repeated (default: TINYTORCH_DEVICE, else cpu)"
    )
    parser.add_argument(
        "--seed", type=at_least(0), default=0, metavar="N", help="of initial weights, data and order (default: 0)"
    )
    parser.add_argument("--compile", action="store_true", help="train with compiled steps")
    parser.add_argument("--gates", action="store_true", help="list every gate with what was measured")
    parser.add_argument("--json", action="store_true", help="print everything that was measured as JSON")
    parser.add_argument("--junit", type=output, metavar="FILE", help="write the verdicts as test cases for a CI system")
    parser.add_argument(
        "--write", type=output, metavar="FILE", help=f"put the table into FILE, between {START} and {END}"
    )
    parser.add_version()
    return parser


def parsed(argv: list[str] | None, prog: str) -> tuple[Namespace, list[backends.Device]]:
    """The options. Options that cannot be met end the process before anything is trained."""
    parser = arguments(prog)
    options = parser.parse_args(argv)
    unknown = [name for name in options.chapters if name not in CHAPTERS]
    if unknown:
        parser.error(f"no chapter {', '.join(unknown)}; there are {', '.join(CHAPTERS)}")
    try:
        if options.write:
            around(options.write)
        return options, list(dict.fromkeys(chosen_devices(options.device)))
    except (ValueError, OSError, backends.Unavailable) as error:
        parser.refuse(str(error))


def cells(title: str, run: Run, ok: bool) -> tuple[str, ...]:
    """A row of the table."""
    first = run.gradients[0]
    return (
        f"{title}: {run.name}",
        run.device.name,
        f"{run.loss_drop:.1%}",
        f"{run.metric:.1%}",
        f"{sum(g > 0 for g in first.values())}/{len(first)}",
        f">= {min(run.moved.values()):.2f} x",
        f"{run.updates:,}",
        f"{run.seconds:.1f}",
        "learned" if ok else "FAILED",
    )


def main(argv: list[str] | None = None, prog: str = "python -m milestones") -> int:
    """Run the given chapters and print the table; 0 if all gates passed, 1 if not, 130 after an interrupt."""
    options, devices = parsed(argv, prog)
    names = list(dict.fromkeys(options.chapters)) or CHAPTERS
    chapters = [importlib.import_module(f"tinytorch.milestones.{name}") for name in names]
    screen = console()
    start, reports, interrupted = time.perf_counter(), list[Report](), False
    try:
        for device in devices:
            bars = console(sys.stderr) if options.json else screen
            for report in train_all(chapters, device, options.seed, bars, options.compile):
                reports.append(report)
    except KeyboardInterrupt:
        interrupted = True
    passed, gates = (sum(report.counted[i] for report in reports) for i in (0, 1))
    summary = f"{passed} of {gates} gates passed, seed {options.seed}, {time.perf_counter() - start:.1f} s"
    ok = all(report.ok for report in reports) and not interrupted
    if options.junit:
        suites = [(f"{r.name} on {r.device}: {name}", cases) for r in reports for name, cases in r.cases()]
        options.junit.write_text(junit("milestones", suites))
    if options.json:
        found = {"ok": ok, "seed": options.seed, "passed": passed, "gates": gates, "interrupted": interrupted}
        print(json.dumps(found | {"reports": [r.to_dict() for r in reports]}, indent=2, default=str))
    elif reports:
        show(reports, summary, options.gates, screen)
    if interrupted:
        print(f"interrupted: {len(reports)} of {len(chapters) * len(devices)} chapters are done", file=sys.stderr)
        return INTERRUPTED
    if options.write:
        write(options.write, rows_of(reports), summary)
    return 0 if ok else 1


def rows_of(reports: list[Report]) -> list[tuple[str, ...]]:
    """The rows of the table, one for each model."""
    return [cells(r.name, j.run, j.ok) for r in reports for subject in r.subjects for j in subject.judged]


def show(reports: list[Report], summary: str, gates: bool, screen: Any) -> None:
    """Print the table, and the failures or all gates."""
    right = [column for column in COLUMNS if column not in ("milestone", "device", "verdict")]
    table = Table(*COLUMNS, title="Do they learn?", caption=summary, right=right)
    for row in rows_of(reports):
        table.add_row(*row, style="red" if row[-1] == "FAILED" else None)
    screen.print(table, soft_wrap=True)
    for report in reports:
        for line in report.lines() if gates else [f"FAIL  {failure}" for failure in report.failures]:
            say(screen, f"{report.name} on {report.device}: {line}")


def train_all(
    chapters: list[ModuleType], device: backends.Device, seed: int, screen: Any, compile: bool = False
) -> Iterator[Report]:
    """The reports of the chapters, with a bar for each run while it trains."""
    look = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.4f}", markup=False),
        TimeElapsedColumn(),
    )
    with Bars(*look, console=screen) as bars:

        def reporter(title: str) -> Callable[[Run], None]:
            tasks: dict[int, tuple[Run, object]] = {}

            def report(run: Run) -> None:
                if id(run) not in tasks:
                    name = f"{title}: {run.name} on {run.device}"
                    tasks[id(run)] = run, bars.add_task(name, total=run.total, loss=run.last_loss)
                if run.updates % max(run.total // 50, 1) == 0 or run.updates == run.total:
                    bars.update(tasks[id(run)][1], completed=run.updates, loss=run.last_loss)  # type: ignore[arg-type]

            return report

        def train(chapter: ModuleType) -> Report:
            try:
                return chapter.train(device, seed, progress=reporter(chapter.TITLE), compile=compile)
            except Exception as error:  # the other chapters and devices still run
                if not isinstance(error, OSError):  # the error of an unreadable file says all
                    screen.print_exception()
                report = Report(chapter.TITLE, device)
                report.claim("ran to its end", False, f"{type(error).__name__}: {error}")
                return report

        yield from map(train, chapters)


def around(path: Path) -> tuple[str, str]:
    """The text of a file before the first mark, and the text after the second mark.

    Raises:
        ValueError: the marks are not there.
        OSError: there is no such file.
    """
    text = path.read_text("utf-8")
    if text.count(START) != 1 or text.count(END) != 1:
        raise ValueError(f"{path} needs {START} and {END}, once each")
    return text[: text.index(START)], text[text.index(END) + len(END) :]


def write(path: Path, rows: list[tuple[str, ...]], summary: str) -> None:
    """Put the table, as Markdown, and the summary between the two marks in a file."""
    above, below = around(path)
    lines = [COLUMNS, ("---",) * len(COLUMNS), *rows]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    path.write_text(f"{above}{START}\n{table}\n\n{summary}\n{END}{below}", "utf-8")


if __name__ == "__main__":
    sys.exit(process(main))
