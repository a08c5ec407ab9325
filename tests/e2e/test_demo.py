"""The demo as a newcomer runs it: a process of its own, offline."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
HIDE_NEEDLE = (
    "import sys; sys.modules['needle'] = None; import runpy; runpy.run_path({!r}, run_name='__main__')"
)


def _run(*command: str) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("AZURE_OPENAI_")}
    environment |= {"COLUMNS": "160", "PYTHONPATH": str(ROOT / "examples")}
    result = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, timeout=100, env=environment, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def _check(output: str) -> None:
    for expected in (
        "most_delayed_airline(airport='JFK')",
        "Endeavor Air Inc. had the highest average departure delay from JFK: 19.1 minutes",
        "159 of the 304 flights from JFK on 8 February 2013 were cancelled (52%).",
        "get_airline_delay(airline='JetBlue')",
        "get_airline_delay(airline='Delta')",
        "as gpt-4o-2024-11-20",
        "3 answers, 4 tool calls",
    ):
        assert expected in output


def test_the_demo_answers_its_questions_from_the_database() -> None:
    _check(_run(str(ROOT / "examples" / "demo.py")))


def test_the_demo_says_so_and_goes_on_where_the_local_model_is_missing() -> None:
    output = _run("-c", HIDE_NEEDLE.format(str(ROOT / "examples" / "demo.py")))
    assert "The local model is not here" in output
    _check(output)
