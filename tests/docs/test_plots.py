"""Every plot is drawn from a run that works, and a page shows it."""

from __future__ import annotations

import re
import shutil
from importlib import import_module
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
NAMES = sorted(
    path.stem
    for path in (ROOT / "scripts" / "plots").glob("*.py")
    if "def draw(path: Path)" in path.read_text("utf-8")
)
MEASURED = {"performance"}
"""Drawn from a report of the benchmarks, which take minutes: not here."""

REHEARSED = [name for name in NAMES if name not in MEASURED]

PROGRAMS = {"shared_state": "redis-server"}
"""What a plot needs besides this process."""


@pytest.fixture
def _scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.mark.usefixtures("_scripts")
def test_every_plot_is_known_to_the_command() -> None:
    assert import_module("scripts.plots.__main__").names() == NAMES


@pytest.mark.usefixtures("_scripts")
@pytest.mark.parametrize("name", REHEARSED)
def test_the_plot_is_drawn_from_a_run(name: str, tmp_path: Path) -> None:
    if (program := PROGRAMS.get(name)) and shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    path = tmp_path / "plots" / "drawn.svg"
    import_module(f"scripts.plots.{name}").draw(path)
    assert path.read_text("utf-8").count("<path") > 10


@pytest.mark.parametrize("name", REHEARSED)
def test_a_page_shows_the_plot_and_tells_what_is_on_it(name: str) -> None:
    file = f"plots/{name.replace('_', '-')}.svg"
    assert (DOCS / file).is_file(), f"python -m scripts.plots {name}"
    shown = re.findall(
        rf"!\[([^\]]+)\]\({re.escape(file)}\)", "".join(page.read_text("utf-8") for page in DOCS.glob("*.md"))
    )
    assert len(shown) == 1
    assert len(shown[0]) > 30


@pytest.mark.parametrize("path", sorted((DOCS / "plots").glob("*")), ids=lambda path: path.name)
def test_no_picture_is_left_over(path: Path) -> None:
    assert path.suffix == ".svg"
    assert path.stem.replace("-", "_") in NAMES
