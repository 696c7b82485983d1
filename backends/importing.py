"""An array library that cannot be imported, said in one way for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tinytorch.backends.device import Unavailable


@contextmanager
def library(title: str, fix: str, *modules: str) -> Iterator[None]:
    """A block that imports the library with that title.

    Args:
        fix: the command that installs it.
        modules: what it consists of: if one of these is missing it is not installed; if they miss something, it is.

    Raises:
        Unavailable: in place of ImportError, with the reason and the fix.
    """
    try:
        yield
    except ImportError as error:
        if error.name in modules:
            raise Unavailable(f"{title} is not installed", fix) from error
        said = str(error).strip().partition("\n")[0]
        raise Unavailable(f"{title} is installed but cannot be imported: {said}", fix) from error
