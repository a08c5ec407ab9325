"""The page on conformance: its tables are whole, and its commands are understood."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from loom_py.conformance import FAILURES, FEATURES, scenarios
from loom_py.conformance.__main__ import build_parser

PAGE = (Path(__file__).parents[2] / "docs" / "conformance.md").read_text("utf-8")
COMMANDS = re.findall(r"^python -m loom_py\.conformance(.*)$", PAGE, re.MULTILINE)


def rows(head: str) -> dict[str, str]:
    """The table of the page whose first column is headed so."""
    table = PAGE.partition(f"| {head} |")[2].partition("\n\n")[0]
    return dict(re.findall(r"^\| `([^`]+)` \| (.*) \|$", table, re.MULTILINE))


def test_the_table_of_groups_is_whole() -> None:
    assert list(rows("Group")) == list(dict.fromkeys(found.group for found in scenarios()))


def test_the_tables_of_capabilities_and_failures_are_those_of_the_code() -> None:
    assert rows("Failure") == dict(FAILURES)
    assert rows("Capability") == {name: FEATURES[name] for name in FEATURES if name not in FAILURES}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_are_understood(command: str) -> None:
    options = build_parser().parse_args(shlex.split(command))
    assert options.list or options.adapter
    scenarios(options.only)


def test_the_page_shows_commands() -> None:
    assert len(COMMANDS) >= 4
