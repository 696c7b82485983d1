"""Programs: a training step written down once as straight-line array code, and run from then on without the tape."""

from tinytorch.program.compiled import Compiled as Compiled
from tinytorch.program.compiled import compile as compile
from tinytorch.program.program import Program as Program
from tinytorch.program.noting import CannotCompile as CannotCompile
