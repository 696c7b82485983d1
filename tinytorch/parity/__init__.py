"""Is this device right? Does its library compute every op correctly, and does one training run give equal results?

`examine` checks every op, its gradient and the gradient of the gradient. `python -m tinytorch doctor --device NAME`
does so for any registered device, also a third party's, and prints the card. `compare` trains by one function on
several devices, and names the first result that differs: `python -m tinytorch compare`. `compare_program` does so for a
compiled function and eager mode, line by line.
"""

from tinytorch.parity.examiner import Card, Fault, examine
from tinytorch.parity.programs import FirstLine, compare_program
from tinytorch.parity.runs import (
    BrokenTraining,
    Comparison,
    Difference,
    First,
    NotTheSameRun,
    Other,
    Step,
    compare,
    difference,
)

__all__ = [
    "BrokenTraining",
    "Card",
    "Comparison",
    "Difference",
    "Fault",
    "First",
    "FirstLine",
    "NotTheSameRun",
    "Other",
    "Step",
    "compare",
    "compare_program",
    "difference",
    "examine",
]
