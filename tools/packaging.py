"""An installation puts `tinytorch` and `pytest_tinytorch` on the path, and nothing else of a checkout.

A wheel has `backends`, `milestones` and the tour inside `tinytorch`; there a checkout has links, or finds the folders
beside it. An editable installation is a folder with two links: the checkout itself would put `tests`, `benchmarks`,
`conftest` and more on everybody's path.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

INSTALLED = "tinytorch", "pytest_tinytorch.py"
INSIDE = {"backends": "backends", "milestones": "milestones", "tests/test_tour.py": "test_tour.py"}


class Packaging(BuildHookInterface):  # type: ignore[type-arg]
    """The part of the build that pyproject.toml cannot describe."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before a wheel is built; `version` is "editable" for an editable installation."""
        root = Path(self.root)
        if version != "editable":
            build_data["force_include"] |= {str(root / a): f"tinytorch/{b}" for a, b in INSIDE.items()}
            return
        config = self.build_config.target_config
        folder = root / config["dev-mode-dirs"][0]
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            for name in INSTALLED:
                (folder / name).symlink_to(root / name)
        except OSError:  # a system without links: an import hook, unseen by type checkers and editors
            config["dev-mode-dirs"], config["dev-mode-exact"] = [], True
