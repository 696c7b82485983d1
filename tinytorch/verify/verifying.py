"""`verify`: train, judge by gates, break on purpose, and see that the gates notice."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from tinytorch.backends import Device
from tinytorch.backends import device as _device
from tinytorch.progress import Progress
from tinytorch.tensor import Tensor
from tinytorch.verify.controls import Control
from tinytorch.verify.drive import Train, expect_train
from tinytorch.verify.gates import Gate, common
from tinytorch.verify.measuring import run_once
from tinytorch.verify.report import Controlled, Judged, Report, Subject, judge
from tinytorch.verify.run import Run
from tinytorch.words import expecting


@expecting
def verify(
    train: Train,
    *,
    gates: Iterable[Gate] = (),
    controls: Iterable[Control] = (),
    seeds: int | Sequence[int] = 1,
    enough: int | None = None,
    device: str | Device | None = None,
    compile: bool = False,
    name: str = "",
    progress: Callable[[Run], Any] | None = None,
) -> Report:
    """Whether a model learns, and whether these gates would notice if it did not.

    Args:
        train: your training loop, as a generator: see `run_once`.
        gates: gates beside those of `gates.common`. A gate with the name of a common gate takes its place.
        controls: ways to break the run, each with the gate that must then fail.
        seeds: which seeds, or how many.
        enough: the number of seeds for which all gates must pass; by default all.
        device: where to train.
        compile: whether what `train` gives to `run.compiled` is compiled.
        name: of the model, for the report.
        progress: called with the `Run` at each update of a healthy run. Without `progress` a terminal shows what is
            being done, if that takes longer than a second.

    Raises:
        ValueError: a control names an unknown gate, two gates have one name, a seed comes twice, or no seed or no gate
            would have to pass.
        TypeError: a gate is no `Gate`, or a control no `Control`.

    >>> from tinytorch.verify import controls, gates, verify
    >>> x = Tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> y = Tensor([[0.0], [1.0], [1.0], [0.0]])
    >>> def train(run):
    ...     model = tinytorch.Sequential(tinytorch.Linear(2, 4), tinytorch.Tanh(), tinytorch.Linear(4, 1))
    ...     optimizer = tinytorch.Adam(model.parameters(), lr=0.1)
    ...     run.watch(model, optimizer, metric=lambda: ((model(x) > 0) == (y > 0.5)).astype("float32").mean())
    ...     for step in range(100):
    ...         optimizer.zero_grad()
    ...         loss = tinytorch.binary_cross_entropy_with_logits(model(x), y)
    ...         loss.backward()
    ...         yield loss
    ...         optimizer.step()
    >>> report = verify(train, gates=[gates.metric(1.0)], controls=[controls.remove("1"), controls.freeze("0")])
    >>> report.ok
    True
    """
    expect_train("verify", train)
    gates, controls = _all("gates", gates, Gate), _all("controls", controls, Control)
    mine = {g.name: g for g in gates}
    if len(mine) < len(gates):
        twice = next(g.name for g in gates if mine[g.name] is not g)
        raise ValueError(
            f"verify: two gates are named {twice!r}; give one another name, as in gates.movement(name=...)"
        )
    demanded = set(mine)
    judged_by = [mine.pop(g.name, g) for g in common()] + list(mine.values())
    known = {g.name for g in judged_by}
    for control in controls:
        if control.fails not in known:
            raise ValueError(
                f"verify: {control.name!r} must make the gate {control.fails!r} fail, but there is none: there are "
                f"{', '.join(sorted(known))}"
            )
    where, title = _device(device), name or getattr(train, "__name__", "model")
    numbers = _seeds(seeds)
    enough = len(numbers) if enough is None else operator.index(enough)
    if not 1 <= enough <= len(numbers):
        raise ValueError(
            f"verify: {enough} of {len(numbers)} seeds shall pass, which proves nothing; let seeds be 1 or more, and "
            "enough from 1 to the number of seeds"
        )

    with Progress(on=progress is None) as line:

        def judged(by: list[Gate], control: Control | None = None) -> list[Judged]:
            what = f"{title} {control.name}" if control is not None else title
            show = progress if control is None else None
            found = []
            for seed in numbers:

                def say(run: Run, seed: int = seed) -> None:
                    of = f" of {run.total}" if run.total else ""
                    line.say(f"{what} on {where}, seed {seed}: update {run.updates}{of}")

                how: Any = {"device": where, "control": control, "compile": compile, "name": title}
                run = run_once(train, seed=seed, progress=show or say, **how)
                found.append(judge(run, by, demanded, lambda gate, what=what: line.say(f"{what}: is {gate}?")))  # type: ignore[misc]
            return found

        subject = Subject(title, judged(judged_by), [], enough)
        for control in controls:
            broken = judged([g for g in judged_by if g.name == control.fails], control)
            pairs = zip(subject.judged, broken, strict=True)
            same = [b.run.seed for a, b in pairs if a.run.updates and _same(a.run, b.run)]
            subject.controls.append(Controlled(control, broken, same))
    return Report(title, where, [subject])


def _all(what: str, given: Any, kind: type[Any]) -> list[Any]:
    """The gates or controls as a list.

    Raises:
        TypeError: an entry is something else, such as a function that was not called.
    """
    if isinstance(given, kind | Tensor) or not isinstance(given, Iterable):
        raise TypeError(f"verify: {what} is a list of them: {what}=[...], not {given!r}")
    found = list(given)
    for x in found:
        if not isinstance(x, kind):
            call = f"; call it: {what}.{x.__name__}(...)" if callable(x) and hasattr(x, "__name__") else ""
            raise TypeError(f"verify: {what}=[...] takes {kind.__name__}s, not {x!r}{call}")
    return found


def _seeds(seeds: int | Sequence[int]) -> list[int]:
    given = seeds if isinstance(seeds, Sequence | np.ndarray) else range(seeds)
    try:
        len(given)
    except OverflowError:
        raise ValueError(f"verify: seeds says how many, or which; {seeds} are too many") from None
    numbers = [operator.index(s) for s in given]
    if any(n < 0 for n in numbers):
        raise ValueError(f"verify: a seed is not negative: {min(numbers)}")
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"verify: a seed comes twice, and would give the same run again: {numbers}")
    return numbers


def _same(a: Run, b: Run) -> bool:
    """Whether two runs from one seed are equal in every measurement."""

    def seen(run: Run) -> str:  # as text, where NaN equals NaN
        return repr((run.losses, run.before, run.after, run.metric, run.train_metric, run.moved, run.gradients))

    return seen(a) == seen(b)
