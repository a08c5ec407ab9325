"""The suite inside a plugin's own tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PLUGIN_TESTS = """
import pytest
from loom_py import Response, BaseProvider
from loom_py.conformance import BaseAdapter, conformance_tests, pytest_params
from contextlib import contextmanager

class Mute(BaseProvider):
    model = "mute-1"

    def chat(self, messages, tools=(), *, options=None):
        return Response("")

class Adapter(BaseAdapter):
    name = "mute"
    capabilities = frozenset({"text"})

    @contextmanager
    def provider(self, script):
        yield Mute()

test_conformance = conformance_tests(Adapter, only=["chat/text", "chat/empty-text", "tools/one-call"])

@pytest.mark.parametrize("case", pytest_params("scripted", only="json/*"))
def test_json(case):
    case.check()
"""


def test_each_scenario_is_a_test_that_passes_fails_or_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "test_mute.py").write_text(PLUGIN_TESTS, "utf-8")
    command = [sys.executable, "-m", "pytest", "-v", "-rs", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    lines = {line.split()[0]: line.split()[1] for line in done.stdout.splitlines() if "::" in line[:40]}
    assert lines["test_mute.py::test_conformance[chat/text]"] == "FAILED"
    assert lines["test_mute.py::test_conformance[chat/empty-text]"] == "PASSED"
    assert lines["test_mute.py::test_conformance[tools/one-call]"] == "SKIPPED"
    assert lines["test_mute.py::test_json[json/events]"] == "PASSED"
    assert "mute does not have: call_ids, tools" in done.stdout
    assert "chat/text: The text of a reply arrives, by each of the four verbs." in done.stdout
    assert "expected the text 'It rains in Oslo.'; saw ''" in done.stdout
