"""The CPU of each client over that of the plain SDK. It draws a report; without one it measures first."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.figures import PLAIN
from scripts.plots.style import COLORS, panels, save

METRICS = ("plain_call", "tool_rounds", "stream_chunks", "long_history", "in_flight")
REPORT = "LOOM_BENCHMARKS_JSON"
"""The variable that names a report of ``python -m benchmarks --json FILE``."""


def draw(path: Path) -> None:
    """Draw the report named by ``LOOM_BENCHMARKS_JSON``, or one that is measured now."""
    if name := os.environ.get(REPORT):
        draw_report(json.loads(Path(name).read_text()), path)
        return
    from benchmarks.lineup import ours
    from benchmarks.race import Race
    from benchmarks.suite import run

    with Race(ours()) as race:
        draw_report(run(race, only=METRICS).to_dict(), path)


def draw_report(report: Mapping[str, Any], path: Path) -> None:
    """Bars of CPU over the plain SDK's, on a logarithmic scale: to the left is less."""
    figures = [report["figures"][name] for name in METRICS if name in report["figures"]]
    names = [name for name in report["contenders"] if name != PLAIN and "client" not in name]
    figure, (axis,) = panels(1, height=0.9 + 0.13 * len(figures) * (len(names) + 1))
    width = 0.86 / max(len(names), 1)
    for row, each in enumerate(figures):
        for index, name in enumerate(names):
            if name not in each["ratios"]:
                continue
            ratio = 1 / each["ratios"][name] if each["more_is_better"] else each["ratios"][name]
            place = row - 0.43 + (index + 0.5) * width
            axis.barh(place, ratio - 1, width * 0.9, left=1, color=_color(name), linewidth=0)
            side = -1 if ratio < 1 else 1
            axis.annotate(
                f"{ratio:.2g}  {name}" if side > 0 else f"{name}  {ratio:.2g}",
                (ratio, place),
                xytext=(4 * side, 0),
                textcoords="offset points",
                va="center",
                ha="left" if side > 0 else "right",
                fontsize=7.5,
            )
    _label(axis, figures)
    save(figure, path)


def _label(axis: Any, figures: list[Mapping[str, Any]]) -> None:
    axis.set_xscale("log")
    axis.set_xlim(0.0006, 16)
    ticks = [0.01, 0.03, 0.1, 0.3, 1, 3]
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
    axis.axvline(1, color=COLORS["muted"], linewidth=1)
    titles = [f"{each['title']},\nper run" if each["more_is_better"] else each["title"] for each in figures]
    axis.set_yticks(range(len(figures)), titles)
    axis.set_ylim(len(figures) - 0.5, -0.5)
    axis.grid(visible=False, axis="y")
    axis.set_xlabel("CPU over that of the plain openai SDK; to the left is less")


def _color(name: str) -> str:
    if not name.startswith("loom_py"):
        return COLORS["muted"]
    return COLORS["good"] if "fast" in name else COLORS["line"]
