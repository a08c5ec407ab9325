"""What reading a file needs of a process: few packages, and nothing left behind by many threads."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from loom_py.agent_file import load

Write = Callable[..., Path]


def run(code: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, encoding="utf-8", timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


WITHOUT = "import sys\nfor name in {names!r}: sys.modules[name] = None\n"


def test_without_pyyaml_the_extra_is_named(write: Write) -> None:
    code = WITHOUT.format(names=["yaml"]) + (
        "from loom_py import AgentBuilder, errors\n"
        "try: AgentBuilder.from_yaml(sys.argv[1])\n"
        "except errors.MissingDependencyError as exc: print(exc.message, exc.hint)\n"
    )
    path = write("kind: Agent\nllm: azure-openai\n")
    assert run(code, path) == "agents as YAML need the package PyYAML pip install 'loom-py[yaml]'\n"


def test_reading_a_file_needs_no_other_optional_package_and_not_the_sdk(write: Write) -> None:
    names = ["openai", "httpx2", "sqlalchemy", "sqlglot", "redis", "starlette", "uvicorn", "rich", "typer"]
    code = WITHOUT.format(names=names) + (
        "from loom_py.agent_file import check, json_schema\n"
        "json_schema()\n"
        "print([problem.message for problem in check(sys.argv[1], env={})])\n"
    )
    path = write(
        """\
        kind: Agent
        llm: {provider: azure-openai, endpoint: https://x.openai.azure.com, deployment: d}
        resilience: {circuit_breakers: , failover: [azure-openai:b]}
        budget: {usd: 1}
        guardrails:
        backend: sqlite:///x.db
        """
    )
    assert run(code, path) == "['a SQL backend needs the package sqlalchemy, which is not installed']\n"


def test_importing_loom_py_does_not_import_yaml() -> None:
    code = "import sys, loom_py\nloom_py.AgentBuilder()\nprint([n for n in sys.modules if n == 'yaml'])"
    assert run(code) == "[]\n"


def test_many_threads_may_load_files_whose_modules_have_one_name(write: Write) -> None:
    paths = []
    for number in range(8):
        write(
            f"def tool_{number}(x: int) -> int:\n    '''Get.'''\n    return x\n", f"f{number}/shared_name.py"
        )
        text = f"kind: Agent\nname: a{number}\nllm: azure-openai\ntools: shared_name:tool_{number}\n"
        paths.append(write(text, f"f{number}/agent.yaml"))
    before = list(sys.path)
    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(lambda path: load(path, env={}).name, paths * 3))
    assert names == [f"a{number}" for number in range(8)] * 3
    assert sys.path == before
