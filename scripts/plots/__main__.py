"""Draw the plots into ``docs/plots/``."""

from __future__ import annotations

import pkgutil
import sys
from importlib import import_module
from pathlib import Path

from scripts import plots

TARGET = Path(__file__).parents[2] / "docs" / "plots"
NO_PLOTS = {"__main__", "style", "virtual"}


def names() -> list[str]:
    """Every plot there is."""
    return sorted(found.name for found in pkgutil.iter_modules(plots.__path__) if found.name not in NO_PLOTS)


def main(wanted: list[str]) -> None:
    """Draw the plots of these names, or all of them."""
    for name in wanted or names():
        path = TARGET / f"{name.replace('_', '-')}.svg"
        import_module(f"scripts.plots.{name}").draw(path)
        print(path)


if __name__ == "__main__":
    main(sys.argv[1:])
