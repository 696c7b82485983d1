"""The errors of array libraries that cannot be imported, in one form for all libraries."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tinytorch.backends.device import Unavailable


@contextmanager
def library(title: str, fix: str, *modules: str) -> Iterator[None]:
    """A `with` block that imports a library; `title` is its name in errors.

    Args:
        fix: the command that installs the library.
        modules: the library's own modules. If one of these is missing, the library is not installed; if another module
            is missing, it is installed but cannot be imported.

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
