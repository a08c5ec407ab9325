"""``python -m loom_py.conformance``: what it prints, writes, and answers the shell."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from loom_py.conformance.__main__ import main

BROKEN = """
from contextlib import contextmanager
from loom_py import Response, BaseProvider
from loom_py.conformance import BaseAdapter

class Mute(BaseProvider):
    def chat(self, messages, tools=(), *, options=None):
        return Response("")

class Adapter(BaseAdapter):
    name = "mute"
    capabilities = frozenset({"text"})

    @contextmanager
    def provider(self, script):
        yield Mute()
"""


def test_all_passed_is_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = tmp_path / "out.json", tmp_path / "out.xml"
    code = main(
        ["scripted", "--only", "chat/*", "--json", str(files[0]), "--junit", str(files[1]), "--plain"]
    )
    assert code == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[0].startswith("passed   chat/text")
    assert printed.splitlines()[-1].startswith("scripted: ")
    assert json.loads(files[0].read_text("utf-8"))["ok"] is True
    assert ET.fromstring(files[1].read_text("utf-8")).tag == "testsuites"


def test_some_failed_is_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mute_adapter.py").write_text(BROKEN, "utf-8")
    monkeypatch.chdir(tmp_path)
    assert main(["mute_adapter:Adapter", "--only", "chat/text", "--only", "chat/empty-text"]) == 1
    assert "expected the text 'It rains in Oslo.'; saw ''" in " ".join(
        capsys.readouterr().out.replace("│", " ").split()
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "which adapter?"),
        (["nonsense"], "no adapter 'nonsense'"),
        (["scripted", "--only", "chat/nonsense"], "no scenario matches"),
        (["scripted", "--timeout", "0"], "more than 0 seconds"),
        (["scripted", "--only", "chat/text", "--json", "/no/such/folder/x.json"], "cannot be written"),
    ],
)
def test_wrong_usage_is_2(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert told in capsys.readouterr().err


def test_the_scenarios_are_listed_without_an_adapter(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list", "--only", "streaming/*"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("streaming/") for line in lines)
    cut = next(line for line in lines if line.startswith("streaming/cut-stream-is-an-error "))
    assert cut.endswith("and has no final response.  [needs cut_stream]")


def test_it_runs_as_a_module_and_leaves_nothing_behind() -> None:
    command = [sys.executable, "-W", "error", "-m", "loom_py.conformance", "azure", "--only", "errors/*"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "azure: 20 passed, of 20" in done.stdout
    assert done.stderr == ""


def test_importing_the_package_imports_neither_openai_nor_pytest() -> None:
    use = "import loom_py.conformance as c, sys; c.run; c.Adapter"
    code = f"{use}; print({{'openai', 'pytest'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
