"""python -m tinytorch: see `tinytorch.cli`."""

import sys

from tinytorch.cli import main

if __name__ == "__main__":
    sys.exit(main())
