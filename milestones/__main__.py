"""Run the milestones: python -m milestones [CHAPTER ...] [--device NAME] [--seed N]

Prints one table, and exits with 1 if any gate failed.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

# Before NumPy is imported. The matrices are small: threads that wait for each other cost more than they save, and many
# times more where other programs keep the cores busy.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table

from tinytorch import backends
from tinytorch.verify import Report, Run

CHAPTERS = ("perceptron", "xor", "mlp_digits", "cnn_digits", "transformer_copy")
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


def arguments() -> argparse.ArgumentParser:
    """What may be asked for."""
    parser = argparse.ArgumentParser(prog="python -m milestones", description="Train the milestones and judge them.")
    parser.add_argument("chapters", nargs="*", metavar="CHAPTER", help=f"which to run: {', '.join(CHAPTERS)}; or all")
    parser.add_argument(
        "--device",
        action="append",
        metavar="NAME",
        help="such as cpu, cuda, cuda:1 or strict:device1; 'all' for every usable one, 'auto' for a GPU if there is "
        "one; may be repeated (default: TINYTORCH_DEVICE, else cpu)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of initial weights, data and order (default: 0)")
    parser.add_argument("--gates", action="store_true", help="list every gate with what was measured")
    parser.add_argument(
        "--write", type=Path, metavar="FILE", help=f"put the table into FILE, between {START} and {END}"
    )
    return parser


def chosen_devices(names: list[str] | None) -> list[backends.Device]:
    """The devices by these names, each once.

    Raises:
        ValueError: there is no such device.
        backends.Unavailable: it cannot be used here.
    """
    found: list[backends.Device] = []
    for name in names or [None]:  # type: ignore[list-item]
        found += backends.usable_devices() if name == "all" else [backends.device(name)]
    return list(dict.fromkeys(found))


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


def main(argv: list[str] | None = None) -> int:
    """Run the chapters asked for and print the table; 0 if all gates passed, 1 if not, 2 if that cannot be done."""
    options = arguments().parse_args(argv)
    unknown = [name for name in options.chapters if name not in CHAPTERS]
    console = Console(width=None if sys.stdout.isatty() else 150)
    if unknown:
        console.print(f"no chapter {', '.join(unknown)}; there are {', '.join(CHAPTERS)}", style="red")
        return 2
    try:
        devices = chosen_devices(options.device)
    except (ValueError, backends.Unavailable) as error:
        console.print(str(error), style="red", markup=False)
        return 2
    chapters = [importlib.import_module(f"tinytorch.milestones.{name}") for name in options.chapters or CHAPTERS]
    start = time.perf_counter()
    reports = [report for device in devices for report in train_all(chapters, device, options.seed, console)]
    seconds = time.perf_counter() - start

    passed, gates = (sum(n) for n in zip(*(report.counted for report in reports)))
    summary = f"{passed} of {gates} gates passed, seed {options.seed}, {seconds:.1f} s"
    table = Table(title="Do they learn?", caption=summary, box=SIMPLE_HEAD)
    for column in COLUMNS:
        left = column in ("milestone", "device", "verdict")
        table.add_column(column, justify="left" if left else "right", overflow="fold")
    rows = [cells(r.name, j.run, j.ok) for r in reports for subject in r.subjects for j in subject.judged]
    for row in rows:
        table.add_row(*row, style="red" if row[-1] == "FAILED" else None)
    console.print(table)
    for report in reports:
        for line in report.lines() if options.gates else [f"FAIL  {failure}" for failure in report.failures]:
            console.print(f"{report.name} on {report.device}: {line}", markup=False, highlight=False)
    if options.write:
        write(options.write, rows, summary)
    return 0 if all(report.ok for report in reports) else 1


def train_all(chapters: list[ModuleType], device: backends.Device, seed: int, console: Console) -> list[Report]:
    """The reports of the chapters, with a bar for each run while it trains."""
    look = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.4f}"),
        TimeElapsedColumn(),
    )
    with Bars(*look, console=console) as bars:

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
                return chapter.train(device, seed, progress=reporter(chapter.TITLE))
            except Exception as error:  # the other chapters and devices still run
                console.print_exception()
                report = Report(chapter.TITLE, device)
                report.claim("ran to its end", False, f"{type(error).__name__}: {error}")
                return report

        return [train(chapter) for chapter in chapters]


def write(path: Path, rows: list[tuple[str, ...]], summary: str) -> None:
    """Put the table, as Markdown, and the summary between the two marks in a file.

    Raises:
        ValueError: the marks are not there.
    """
    text = path.read_text()
    if text.count(START) != 1 or text.count(END) != 1:
        raise ValueError(f"{path} needs {START} and {END}, once each")
    lines = [COLUMNS, ("---",) * len(COLUMNS), *rows]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    path.write_text(f"{text[: text.index(START)]}{START}\n{table}\n\n{summary}\n{text[text.index(END) :]}")


if __name__ == "__main__":
    sys.exit(main())
