"""Does my model learn, and would I notice if it did not?

`verify` runs a training loop, judges the run by gates, and breaks the loop on purpose to see that the gates notice.
`diagnose` looks at one forward and backward pass, and names every mistake. The module `sabotage` has classic bugs to
try both on; it has to be imported by itself.
"""

from tinytorch.verify import controls, gates
from tinytorch.verify.controls import Control
from tinytorch.verify.diagnosis import Diagnosis, diagnose
from tinytorch.verify.gates import Found, Gate
from tinytorch.verify.mistakes import Finding
from tinytorch.verify.report import Report, Verdict
from tinytorch.verify.handle import Handle
from tinytorch.verify.measuring import run_once
from tinytorch.verify.run import Run
from tinytorch.verify.verifying import verify

__all__ = [
    "Control",
    "Diagnosis",
    "Finding",
    "Found",
    "Gate",
    "Handle",
    "Report",
    "Run",
    "Verdict",
    "controls",
    "diagnose",
    "gates",
    "run_once",
    "verify",
]
