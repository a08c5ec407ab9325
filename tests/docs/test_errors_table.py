"""The page of errors says what `loom_py.errors` says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from loom_py import errors

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "errors.md"


def _written_afresh() -> str:
    program = (
        "import errors_table, sys; sys.stdout.reconfigure(encoding='utf-8');"
        " print(errors_table.page(errors_table.PAGE.read_text('utf-8')), end='')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT / "scripts",
        env=None,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    return done.stdout


def test_the_committed_table_is_up_to_date() -> None:
    assert PAGE.read_text("utf-8") == _written_afresh(), "run python scripts/errors_table.py"


def test_every_public_error_has_its_row() -> None:
    page = PAGE.read_text("utf-8")
    missing = [name for name in errors.__all__ if name != "Problem" and f"`{name}` |" not in page]
    assert missing == []
