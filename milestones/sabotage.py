"""Which gate catches which bug? python -m milestones.sabotage [BUG ...] [--write FILE] [--healthy SEEDS]

Each bug of `tinytorch.verify.sabotage` is let loose on each model that runs the bug's code. A table shows which gates
fail, and whether `diagnose` finds something, before the first update or after it. The models are those of the chapters,
and a small language model with a causal mask and dropout, which no chapter uses. With --healthy nothing is broken: then
no gate of any chapter may fail, and `diagnose` must find nothing.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tinytorch import (
    Adam,
    CrossEntropyLoss,
    Embedding,
    Linear,
    PositionalEncoding,
    Sequential,
    Tensor,
    TransformerEncoderLayer,
    device,
)
from tinytorch.commands import STATUS, Parser, at_least, output, process
from tinytorch.data import DataLoader, TensorDataset
from tinytorch.milestones import cnn_digits, mlp_digits, perceptron, transformer_copy, xor
from tinytorch.milestones.common import accuracy
from tinytorch.nn import Module
from tinytorch.progress import Progress
from tinytorch.starting import INTERRUPTED
from tinytorch.table import Table, console, plain
from tinytorch.verify import Finding, Report, Run, diagnose, gates, sabotage, verify
from tinytorch.verify.drive import Train, drive
from tinytorch.verify.handle import Handle

CHAPTERS = (perceptron, xor, mlp_digits, cnn_digits, transformer_copy)
VOCABULARY, LENGTH, D_MODEL = 10, 8, 32
LIKELY = 0.9  # how often the next token follows from the last one


class CausalLayer(Module):
    """An encoder layer in which no position sees a later one."""

    def __init__(self) -> None:
        self.layer = TransformerEncoderLayer(D_MODEL, 2, 2 * D_MODEL, dropout=0.1, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, D_MODEL) -> the same."""
        return self.layer(x, is_causal=True)


def text(count: int, seed: int) -> Tensor:
    """Sequences, (count, LENGTH + 1): after a token comes the next number or, one time in ten, any number."""
    rng = np.random.Generator(np.random.Philox(seed))
    tokens = rng.integers(VOCABULARY, size=(count, LENGTH + 1))
    for t in range(1, LENGTH + 1):
        follows = rng.random(count) < LIKELY
        tokens[follows, t] = (tokens[follows, t - 1] + 1) % VOCABULARY
    return Tensor(tokens.tolist())


def learn_language(run: Handle) -> Iterator[Tensor]:
    """Predict the next token. More than 91 % cannot be right: a model that gets more has seen the answer."""
    train_text, test_text = text(640, run.seed), text(400, run.seed + 1000)
    x, y, test_x, test_y = train_text[:, :-1], train_text[:, 1:], test_text[:, :-1], test_text[:, 1:]
    model = Sequential(
        [
            Embedding(VOCABULARY, D_MODEL),
            PositionalEncoding(D_MODEL, LENGTH),
            CausalLayer(),
            Linear(D_MODEL, VOCABULARY),
        ]
    )
    criterion = CrossEntropyLoss()
    optimizer = Adam(model.parameters(), lr=0.01)

    def loss_of(x: Tensor, y: Tensor) -> Tensor:
        return criterion(model(x).reshape(-1, VOCABULARY), y.reshape(-1))

    run.watch(
        model, optimizer, loss=lambda: loss_of(x, y), metric=lambda: accuracy(model(test_x).argmax(axis=-1), test_y)
    )
    for a, b in run.batches(DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True), epochs=10):
        optimizer.zero_grad()
        loss = loss_of(a, b)
        loss.backward()
        yield loss
        optimizer.step()


def language(**settings: Any) -> Report:
    """Learn to predict the next token, and be judged."""
    exempt = transformer_copy.KEY_BIAS
    judges = [
        gates.metric(0.85, most=0.95, name="accuracy"),
        gates.updates(200),
        gates.nonzero_gradients(exempt=exempt),
        gates.movement(exempt=exempt),
    ]
    return verify(learn_language, name="language", gates=judges, **settings)


MODELS: dict[str, Callable[..., Report]] = {
    "P": perceptron.verified,
    "X": xor.verified,
    "M": mlp_digits.verified,
    "C": cnn_digits.verified,
    "B": partial(transformer_copy.verified, build=transformer_copy.block),
    "T": partial(transformer_copy.verified, task="reverse"),
    "L": language,
}
LEGEND = """P the perceptron on two clouds of points, X XOR 2-4-1, M the MLP and C the CNN on digits, B the transformer
block that copies, T attention that reverses, L a small causal language model with dropout (no chapter has these)"""

LIVES_IN = {  # bug -> the models that run its code; the code of other bugs is run by all models
    "conv_gradient_zero": "C",
    "conv_gradient_tenth": "C",
    "conv_gradient_transposed": "C",
    "kernel_transposed": "C",
    "relu_gradient_everywhere": "MCBL",
    "tanh_gradient_forgotten": "X",
    "key_gradient_missing": "BTL",
    "layer_norm_statistics_constant": "BL",
    "repeated_tokens_overwrite": "BTL",
    "graph_cut": "XMCBTL",
    "causal_mask_off_by_one": "L",
    "positions_ignored": "BTL",
    "dropout_always_on": "L",
    "labels_misaligned": "PXMCBTL",
    "same_batch_again": "MCBTL",
    "epochs_cut_short": "MCBTL",
    "held_out_transposed": "MC",
    "softmax_before_loss": "MCBTL",
    "sigmoid_twice": "PX",
    "logits_as_probabilities": "PX",
    "labels_one_hot": "MCBTL",
    "labels_floating": "MCBTL",
    "labels_off_by_one": "MCBTL",
    "eval_mode_left_on": "L",
    "weights_start_large": "XMC",
    "dtypes_mixed": "MC",
    "data_not_normalised": "MC",
}
LEARNERS: dict[str, Train] = {  # the models for `diagnose`
    "P": perceptron.learn,
    "X": xor.learn,
    "M": mlp_digits.learn,
    "C": partial(mlp_digits.learn, build=cnn_digits.network),
    "B": partial(transformer_copy.learn, build=transformer_copy.block),
    "T": partial(transformer_copy.learn, task="reverse"),
    "L": learn_language,
}
REFUSED = (TypeError, ValueError, IndexError, AttributeError)  # errors of the library for wrong use


def models_of(bug: str) -> str:
    """The letters of the models that run a bug's code."""
    return LIVES_IN.get(bug, "".join(MODELS))


def diagnosed(model: str, seed: int = 0) -> list[Finding]:
    """What `diagnose` finds in a model before its first update, and after it."""
    found: list[Finding] = []
    for updates in (0, 1):
        run = Handle(device(None), seed, limit=updates)
        with suppress(*REFUSED):  # `diagnose` finds the cause
            deque(drive(LEARNERS[model], run), maxlen=0)
        loss = run.loss_function()
        if loss is not None:
            run.model.zero_grad()
            found += diagnose(run.model, loss, run.optimizer)
    return found


def caught_by(bug: str, model: str, **settings: Any) -> set[str]:
    """The gates of a model that a bug makes fail; "diagnose" if that finds it, "error" if the library refuses."""
    caught: set[str] = set()
    with sabotage.BUGS[bug]():
        try:
            if diagnosed(model):
                caught.add("diagnose")
            report = MODELS[model](**settings)
        except REFUSED:
            return caught | {"error"}
    return caught | {gate for subject in report.subjects for judged in subject.judged for gate in judged.failed}


Matrix = dict[str, dict[str, str]]  # bug -> gate -> letters of the models in which the gate fails


def row(bug: str, say: Callable[[str], Any] = lambda text: None, **settings: Any) -> dict[str, str]:
    """For each gate that a bug makes fail, the models in which the gate fails."""
    found: dict[str, str] = {}
    for model in models_of(bug):
        what = f"{bug} in {model}"
        say(what)
        show = partial(_shown, say, what)
        for gate in caught_by(bug, model, **{"progress": show} | settings):
            found[gate] = found.get(gate, "") + model
    return {gate: found[gate] for gate in gate_names() if gate in found}


def _shown(say: Callable[[str], Any], what: str, run: Run) -> None:
    say(f"{what}: {run.name}, update {run.updates} of {run.total}")


def gate_names() -> list[str]:
    """All gates, in the order of the chapters, and the other catchers: "diagnose" and "error"."""
    every = [*gates.common(), gates.overfit(), gates.metric(0.5), gates.gap(), gates.updates(1)]
    return [*(g.name for g in every), "hidden", "separable", "filters", "parameters", "attention", "diagnose", "error"]


def page(found: Matrix) -> str:
    """The table as Markdown."""
    columns = gate_names()
    rows = [["bug", "lives in", *columns], ["---"] * (len(columns) + 2)]
    rows += [[f"`{bug}`", models_of(bug), *(row.get(gate, "") for gate in columns)] for bug, row in found.items()]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    meanings = "\n".join(f"* `{bug}`: {function.__doc__}" for bug, function in sabotage.BUGS.items())
    return f"""# Which gate catches which bug

Written by `python -m milestones.sabotage --write docs/sabotage.md`. Each bug of `tinytorch.verify.sabotage` was let
loose on the models that run the code it lives in, from seed 0. A letter says in which of them the gate failed, or
`diagnose` found something before the first update or after it, or the library refused it with an error:
{LEGEND}.

{table}

{meanings}
"""


def read(text: str) -> Matrix:
    """The table that a page has."""
    header, _, *body = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line[:1] == "|"
    ]
    return {
        row[0].strip("`"): {gate: cell for gate, cell in zip(header[2:], row[2:], strict=True) if cell} for row in body
    }


def healthy(seeds: int, say: Callable[[str], Any] = lambda text: None) -> tuple[int, list[str]]:
    """All chapters from so many seeds: the number of verdicts (a diagnosis is one), and the failures."""
    count, failures = 0, []
    for seed in range(seeds):
        for chapter in CHAPTERS:
            report = chapter.train(seed=seed, progress=partial(_shown, say, chapter.TITLE))
            count += report.counted[1]
            failures += [f"{report.name}, seed {seed}: {f}" for f in report.failures]
        for model in LEARNERS:
            say(f"diagnose {model}, seed {seed}")
            count += 1
            failures += [f"diagnose {model}, seed {seed}: {f}" for f in diagnosed(model, seed)]
    return count, failures


def main(argv: list[str] | None = None, prog: str = "python -m milestones.sabotage") -> int:
    """Print the table, or the false alarms; 1 if a bug is not caught or a healthy run fails."""
    parser = Parser(prog=prog, description="Which gate catches which bug?", epilog=STATUS)
    parser.add_argument("bugs", nargs="*", metavar="BUG", help=f"which: {', '.join(sabotage.BUGS)}; or all")
    parser.add_argument("--write", type=output, metavar="FILE", help="put the rows into the table of a file")
    parser.add_argument(
        "--healthy", type=at_least(1), metavar="SEEDS", help="break nothing, and count the gates that fail"
    )
    parser.add_version()
    options = parser.parse_args(argv)
    if unknown := [bug for bug in options.bugs if bug not in sabotage.BUGS]:
        parser.error(f"no bug {', '.join(unknown)}; there are {', '.join(sabotage.BUGS)}")
    if options.write and options.write.exists():
        try:
            read(options.write.read_text())
        except ValueError:
            parser.refuse(f"{options.write} has no table like that of docs/sabotage.md; name a new file")
    with Progress(always=True) as progress:
        if options.healthy:
            return count_alarms(options.healthy, progress)
        return show_matrix(options.bugs or list(sabotage.BUGS), options.write, progress)


def count_alarms(seeds: int, progress: Progress) -> int:
    """Print the false alarms; 1 if there are any."""
    count, failures = healthy(seeds, progress.say)
    progress.clear()
    for failure in failures:
        print(plain(failure))
    runs = f"{len(CHAPTERS)} chapters, {seeds} seeds, {progress.seconds:.0f} s"
    print(f"{len(failures)} false alarms in {count} verdicts: {runs}")
    return int(bool(failures))


def show_matrix(bugs: Sequence[str], write: Path | None, progress: Progress) -> int:
    """Print what catches each bug, and put it into the table of a file; 1 if nothing catches one."""
    found: Matrix = {}
    table = Table("bug", "lives in", "caught by")
    with suppress(KeyboardInterrupt):
        for i, bug in enumerate(bugs):
            found[bug] = row(bug, lambda text, i=i: progress.say(f"{i} of {len(bugs)} bugs done, now {text}"))  # type: ignore[misc]
            caught = ", ".join(f"{gate} {models}" for gate, models in found[bug].items())
            table.add_row(bug, models_of(bug), caught or "NOT CAUGHT", style=None if caught else "red")
            if write:  # at once, so that an interrupt loses nothing
                rows = (read(write.read_text()) if write.exists() else {}) | found
                write.write_text(page({bug: rows[bug] for bug in sabotage.BUGS if bug in rows}))
    progress.clear()
    console().print(table, soft_wrap=True)
    missed = [bug for bug, gates in found.items() if not gates]
    print(f"{len(found) - len(missed)} of {len(found)} bugs caught, {progress.seconds:.0f} s")
    if len(found) < len(bugs):
        print(f"interrupted: {len(found)} of {len(bugs)} bugs are done", file=sys.stderr)
        return INTERRUPTED
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(process(main))
