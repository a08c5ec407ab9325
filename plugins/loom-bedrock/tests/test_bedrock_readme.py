"""The README's offline example runs and prints what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest


def test_the_readmes_example_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    (code,) = (block for block in blocks if "BedrockEmulator" in block)
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.splitlines() == re.findall(r"# → (.*)", code)


WITHOUT = """
import sys
sys.modules["starlette"] = None  # as if it were not installed
try:
    from loom_bedrock.emulator import BedrockEmulator
except Exception as error:
    print(error)
"""


def test_without_its_extra_the_emulator_says_what_to_install() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=False)
    assert "pip install 'loom-py[emulator]'" in done.stdout, done.stderr
