"""``loom`` as a user runs it: a process of its own, in a home of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from loom_py import AzureEmulator, ScriptedProvider
from loom_py.llm.scripted import Answer, ScriptedRequest, call
from tests.cli.terminal import Loom
from tests.cli.warm import Warm

_NOT_KEPT = ("LOOM_", "XDG_", "ANTHROPIC", "AZURE_", "COLUMNS", "LINES", "PYTHON", "NO_COLOR")

KEY = "emulated-key-0123456789"
DEPLOYMENT = "gpt-4o-deployment"
MODEL = "gpt-4o-2024-11-20"

TOOLS = '''
import time
from loom_py import tool

@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"rain in {city}\\n\\nand wind"

@tool
def wait() -> str:
    """Take long."""
    time.sleep(60)
    return "done"
'''

AGENT = """
kind: Agent
name: helper
llm:
  provider: azure-openai
  endpoint: {endpoint}
  deployment_id: gpt-4o-deployment
tools: [helper_tools]
resilience: {{retries: {{max_attempts: 1}}}}
"""


def _answer(request: ScriptedRequest) -> Answer:
    last = request.messages[-1]
    if last.role == "tool":
        return f"It says: {last.text}"
    if "weather" in last.text:
        return call("weather", city="Oslo")
    if "wait" in last.text:
        return call("wait")
    if "remember" in last.text:
        said = [message.text for message in request.messages if message.role == "user"]
        return f"You said {len(said)} things"
    if "evil" in last.text:
        return "before \x1b]0;owned\x07\x1b[2J after"
    if "long" in last.text:
        return " ".join(f"word{number}" for number in range(400))
    return f"You said: {last.text}"


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    waiting = Warm()
    yield waiting
    waiting.close()


@pytest.fixture
def loom(tmp_path: Path, warm: Warm) -> Loom:
    folder = tmp_path / "work"
    folder.mkdir()
    kept = {
        name: value
        for name, value in os.environ.items()
        if "OPENAI" not in name and not name.startswith(_NOT_KEPT)
    }
    kept |= {
        "HOME": str(tmp_path / "home"),
        "PYTHONIOENCODING": "utf-8",
        "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring",
    }
    return Loom(folder, warm, kept)


@pytest.fixture
def azure() -> Iterator[AzureEmulator]:
    with AzureEmulator(
        ScriptedProvider(_answer), deployments={DEPLOYMENT: MODEL}, api_keys=[KEY], chunk_delay=0.01
    ) as emulator:
        yield emulator


@pytest.fixture
def agent(loom: Loom, azure: AzureEmulator) -> str:
    """An agent's file, with the key of its service in the environment."""
    (loom.folder / "helper_tools.py").write_text(TOOLS, "utf-8")
    (loom.folder / "agent.yaml").write_text(AGENT.format(endpoint=azure.endpoint), "utf-8")
    loom.environment["AZURE_OPENAI_API_KEY"] = KEY
    return "agent.yaml"


@pytest.fixture
def keyring_in(loom: Loom) -> Callable[[], dict[str, Any]]:
    """A keyring that lasts from one process to the next, as a desktop's does; gives what is in it."""
    import json

    file = loom.folder.parent / "ring.json"
    module = loom.folder.parent / "modules" / "ring_of_the_test.py"
    module.parent.mkdir()
    module.write_text(
        "import json, pathlib\n"
        "from keyring.backend import KeyringBackend\n"
        "from keyring.errors import PasswordDeleteError\n"
        f"FILE = pathlib.Path({str(file)!r})\n"
        "class Ring(KeyringBackend):\n"
        "    priority = 1\n"
        "    def _all(self): return json.loads(FILE.read_text()) if FILE.exists() else {}\n"
        "    def get_password(self, service, name): return self._all().get(f'{service}/{name}')\n"
        "    def set_password(self, service, name, key):\n"
        "        FILE.write_text(json.dumps(self._all() | {f'{service}/{name}': key}))\n"
        "    def delete_password(self, service, name):\n"
        "        kept = self._all()\n"
        "        if kept.pop(f'{service}/{name}', None) is None: raise PasswordDeleteError(name)\n"
        "        FILE.write_text(json.dumps(kept))\n",
        "utf-8",
    )
    loom.environment |= {
        "PYTHONPATH": str(module.parent),
        "PYTHON_KEYRING_BACKEND": "ring_of_the_test.Ring",
    }
    return lambda: dict(json.loads(file.read_text())) if file.exists() else {}
