"""The page of errors says what `loom_py.errors` says."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

from loom_py import errors
from loom_py.errors import LoomError

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "errors.md"
NO_ERRORS = {"FailedAttempt", "Problem"}
"""What the module has besides errors."""


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
    missing = [name for name in errors.__all__ if name not in NO_ERRORS and f"`{name}` |" not in page]
    assert missing == []


def _own_fields(kind: type[LoomError]) -> set[str]:
    """What ``kind`` adds to its parent: arguments of its own, and properties."""
    arguments = set(inspect.signature(kind).parameters)
    inherited = {*inspect.signature(kind.__mro__[1]).parameters, "facts", "what"}
    properties = {name for name, value in vars(kind).items() if isinstance(value, property)}
    return (arguments - inherited) | properties


def test_the_fields_of_their_own_are_all_there_are() -> None:
    lines = [line for line in PAGE.read_text("utf-8").splitlines() if line.count(" | ") == 2]
    told = {}
    for line in lines:
        name, fields = line.strip("| ").split(" | ")[:2]
        if name.startswith("`"):
            told[name.strip("`")] = set(re.findall(r"`(\w+)`", fields))
    kinds = [getattr(errors, name) for name in errors.__all__ if name not in {*NO_ERRORS, "LoomError"}]
    assert told == {kind.__name__: own for kind in kinds if (own := _own_fields(kind))}
