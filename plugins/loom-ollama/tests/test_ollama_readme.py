"""The README's examples run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from loom_ollama import OllamaEmulator
from loom_py import ScriptedProvider

BLOCKS = re.findall(
    r"```python\n(.*?)```", (Path(__file__).parent.parent / "README.md").read_text("utf-8"), re.DOTALL
)


def test_the_first_example_asks_the_model_that_ollama_serves(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with OllamaEmulator(ScriptedProvider(["It rains."])) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.host)
        names: dict[str, Any] = {}
        exec(compile(BLOCKS[0], "README.md", "exec"), names)
        names["agent"].close()
        assert server.requests[-1].body["tools"]
    assert capsys.readouterr().out == "It rains.\n"


def test_the_offline_example_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(BLOCKS[1], "README.md", "exec"), {})
    assert capsys.readouterr().out.splitlines() == re.findall(r"# → (.*)", BLOCKS[1])


WITHOUT = """
import sys
sys.modules["starlette"] = None  # as if it were not installed
try:
    from loom_ollama.emulator import OllamaEmulator
except Exception as error:
    print(error)
"""


def test_without_its_extra_the_emulator_says_what_to_install() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=False)
    assert "pip install 'loom-py[emulator]'" in done.stdout, done.stderr
