"""How all plots look: readable on a light and on a dark page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt

__all__ = ["COLORS", "panels", "save"]

COLORS = {"good": "#1a9988", "bad": "#d1495b", "wait": "#e0a030", "line": "#3b6fb6", "muted": "#8a8f98"}
"""What each color stands for: answered, failed, waiting, a measured line, and what is only context."""

_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "loom_py",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.25,
    "text.color": "#6b7079",
    "axes.labelcolor": "#6b7079",
    "xtick.color": "#6b7079",
    "ytick.color": "#6b7079",
    "axes.edgecolor": "#8a8f98",
    "legend.frameon": False,
}


def panels(rows: int, *, height: float = 2.2) -> tuple[Any, list[Any]]:
    """A figure with ``rows`` plots above each other that share the time axis, in seconds."""
    mpl.rcParams.update(_STYLE)
    figure, axes = plt.subplots(rows, 1, sharex=True, figsize=(8, height * rows), layout="constrained")
    every = [axes] if rows == 1 else list(axes)
    every[-1].set_xlabel("seconds")
    return figure, every


def save(figure: Any, path: Path) -> None:
    """Write the figure as SVG, the same bytes for the same run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    plt.close(figure)
