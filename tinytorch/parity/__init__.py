"""Is this device right? Does its library compute every op as it should, and does the same training come to the same?

`examine` looks at every op, its gradient and gradient of a gradient: `python -m tinytorch doctor --device NAME` does it
for any registered device, also a third party's, and prints the card. `compare` trains by one function on several
devices and names the first result that differs: `python -m tinytorch compare`.
"""

from tinytorch.parity.examiner import Card, Fault, examine
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
    "NotTheSameRun",
    "Other",
    "Step",
    "compare",
    "difference",
    "examine",
]
