"""Every example runs as its reader would run it: a process of its own, offline."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from shutil import which

import pytest

from loom_py import AzureEmulator

EXAMPLES = Path(__file__).parents[2] / "examples"

OUTPUT = {
    "agent_file.py": "Oslo, 9 degrees.\nlimits.max_turns: 2 (flag)\n",
    "quickstart.py": "model gpt-4o-2024-11-20",
    "tools.py": "Error (tool_error): no city named 'Roma'\\nSuggestion: use one of Oslo, Rome",
    "streaming.py": '[asks stock with {"product": "Desk Lamp"}]\n[stock says 12]\nThere are',
    "async_many.py": "100 answers",
    "sessions.py": "Your name is Ada.\nYou have not told me your name.\nkept: ada, somebody-else\n",
    "retries.py": "a day's quota\n  RateLimitError, retry after 86400.0 s: 1 requests, 0.0 s\n",
    "circuit_breakers.py": " 57 s  open → half-open  a failed probe\n 58 s  half-open → closed\n",
    "rate_limit.py": "40 requests, 0 refused, 180 s\n",
    "timeouts.py": "\ntotal=0.5: stream_interrupted, 1 requests, 0.",
    "failover.py": "6 refusals, france 94 answers\nstatus: ok\n",
    "budget.py": "50 at once, some refused: True, within the budget: True\n",
    "on_call.py": "no_deployment: ['first', 'second'], retry after 300 s\n",
    "serve.py": "models: ['shop']\nThere are 12 lamps.",
    "shared_state.py": "none by the other one" if which("redis-server") else "There is no redis-server here",
    "own_provider.py": "A PROVIDER BY NAME, WITH ITS MODEL, STREAMED [shout-2, cost None]",
    "structured_output.py": "delivery, urgency 5, due 2026-11-03\n1 correction",
    "guardrails.py": "Did you mean dep_delay",
    "costs.py": "ada: 0.0073557 USD, calls: 2\nbob: 0.003168 USD, calls: 1\n",
    "rehearse_an_outage.py": "minute 2: answered 1, retries_exhausted 3\n",
    "own_backend.py": "tools: notes_list_resources, notes_describe_resource, notes_query",
    "sql_agent.py": "── query_database failed\nError (query_refused): DELETE is not allowed",
}
"""What each example prints, in part."""

NOT_RUN_HERE = {"agent_file_tools.py", "demo.py", "flight_tools.py", "offline.py"}
"""The demo has a test of its own; the others are imported by examples."""


def _run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if "OPENAI" not in name} | more
    environment["PYTHONIOENCODING"] = "utf-8"
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, encoding="utf-8", timeout=60
    )


def test_every_example_is_known_to_this_file() -> None:
    scripts = {path.name for path in EXAMPLES.glob("*.py")}
    assert scripts == OUTPUT.keys() | NOT_RUN_HERE | {"test_with_fixture.py"}


@pytest.mark.parametrize("name", OUTPUT)
def test_the_example_runs_and_prints_what_it_promises(name: str) -> None:
    done = _run("-W", "error", str(EXAMPLES / name))
    assert done.returncode == 0, done.stderr
    assert OUTPUT[name] in done.stdout
    assert done.stderr == ""


def test_an_example_talks_to_the_deployment_that_the_environment_names() -> None:
    with AzureEmulator() as azure:
        done = _run(
            str(EXAMPLES / "quickstart.py"),
            AZURE_OPENAI_ENDPOINT=azure.endpoint,
            AZURE_OPENAI_DEPLOYMENT="gpt-4o-deployment",
            AZURE_OPENAI_API_KEY=azure.api_key,
        )
        assert [request.status for request in azure.requests] == [200]
    assert done.stdout.startswith("What is the difference between warp and weft?\n"), done.stderr


def test_the_pytest_example_passes_under_pytest(tmp_path: Path) -> None:
    done = _run(
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        f"--rootdir={tmp_path}",
        str(EXAMPLES / "test_with_fixture.py"),
    )
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


@pytest.mark.parametrize("name", sorted([*OUTPUT, "test_with_fixture.py", "offline.py"]))
def test_the_example_is_short_and_explains_itself(name: str) -> None:
    text = (EXAMPLES / name).read_text("utf-8")
    assert text.startswith('"""')
    assert len(text.splitlines()) <= 60
