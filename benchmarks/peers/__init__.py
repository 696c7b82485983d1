"""The peers: each module has `NAME`, `variants()`, and `build(workload, variant)`, which returns a `Step` or None.

A step is two functions. The first does the work once and returns the loss, or the output of inference, as something
that `numpy.asarray` understands. It may return before the work is done, if reading the value waits. The second function
goes back to the initial weights. If a variant equals another variant, `build` returns None.
"""

from collections.abc import Callable
from typing import Any

Step = tuple[Callable[[], Any], Callable[[], None]]
