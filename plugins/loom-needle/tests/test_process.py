"""A fresh process: nothing is reported to the model's maker, and the decisions are the same."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from loom_needle import NeedleProvider
from loom_py.messages import Message, ToolSpec

SCRIPT = """
import json, sys, time
from loom_needle import NeedleProvider
from loom_py.messages import Message, ToolSpec
assert "needle" not in sys.modules
tools = [ToolSpec(*spec) for spec in json.loads(sys.argv[1])]
response = NeedleProvider().chat([Message.user(sys.argv[2])], tools)
time.sleep(0.5)  # a report would be sent from a thread
print(json.dumps([[call.name, call.arguments] for call in response.tool_calls] + [response.metadata]))
"""
QUESTION = "What is the weather in Oslo and in Bergen?"


@pytest.mark.usefixtures("engine")
def test_a_fresh_process_reports_nothing_and_decides_the_same(tools: list[ToolSpec], tmp_path: Path) -> None:
    specs = json.dumps([[tool.name, tool.description, tool.parameters] for tool in tools])
    silenced = ("NEEDLE_TELEMETRY", "DO_NOT_TRACK", "CI")
    environment = {name: value for name, value in os.environ.items() if name not in silenced}
    with socket.create_server(("127.0.0.1", 0)) as maker:
        maker.setblocking(False)
        url = f"http://127.0.0.1:{maker.getsockname()[1]}/"
        child = subprocess.run(
            [sys.executable, "-c", SCRIPT, specs, QUESTION],
            env={**environment, "HOME": str(tmp_path), "NEEDLE_TELEMETRY_URL": url},
            capture_output=True,
            text=True,
            timeout=100,
            check=True,
        )
        with pytest.raises(BlockingIOError):
            maker.accept()
    assert list(tmp_path.iterdir()) == []
    assert child.stderr == ""

    here = NeedleProvider().chat([Message.user(QUESTION)], tools)
    assert json.loads(child.stdout) == [
        *([call.name, call.arguments] for call in here.tool_calls),
        here.metadata,
    ]
