"""The README's examples run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from loom_anthropic import AnthropicEmulator
from loom_py import ScriptedProvider

README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_first_example_asks_claude_with_the_key_of_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with AnthropicEmulator(ScriptedProvider(["It rains."])) as api:
        monkeypatch.setenv("ANTHROPIC_API_KEY", api.api_key)
        monkeypatch.setenv("ANTHROPIC_BASE_URL", api.base_url)
        names: dict[str, Any] = {}
        exec(compile(BLOCKS[0], "README.md", "exec"), names)
        names["agent"].close()
        assert api.requests[-1].body["tools"][0]["name"] == "weather"
    assert capsys.readouterr().out == "It rains.\n"


def test_the_offline_example_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    exec(compile(BLOCKS[1], "README.md", "exec"), names)
    names["claude"].close()
    assert capsys.readouterr().out.splitlines() == re.findall(r"# → (.*)", BLOCKS[1])


WITHOUT = """
import sys
sys.modules["starlette"] = None  # as if it were not installed
try:
    from loom_anthropic.emulator import AnthropicEmulator
except Exception as error:
    print(error)
"""


def test_without_its_extra_the_emulator_says_what_to_install() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=False)
    assert "pip install 'loom-py[emulator]'" in done.stdout, done.stderr
