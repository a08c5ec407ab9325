"""What importing costs and touches, seen from a fresh interpreter."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import loom_py

SDK = {"openai", "httpx2", "aiohttp", "uvloop"}
OPTIONAL = {
    *("sqlalchemy", "sqlglot", "starlette", "uvicorn", "redis", "genai_prices", "toktok", "yaml"),
    *("typer", "keyring", "prompt_toolkit", "prometheus_client", "boto3", "anthropic", "ollama"),
}
CORE = {"pydantic", "pydantic_core", "structlog", "tenacity"}

SCRIPTED = "AgentBuilder().with_llm(ScriptedProvider(['hello'])).build()"
AZURE = "AgentBuilder().with_azure_openai_llm('https://r.openai.azure.com', 'gpt-4o', 'key').build()"


def _modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(' '.join(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def test_importing_loom_py_imports_no_dependency_at_all() -> None:
    modules = _modules_after("import loom_py")
    assert not (SDK | OPTIONAL | CORE) & modules
    assert {name for name in modules if name.startswith("loom_py.")} == {"loom_py._version"}


def test_the_builder_imports_no_dependency_before_it_builds() -> None:
    modules = _modules_after("from loom_py import AgentBuilder; AgentBuilder().with_retries()")
    assert not (SDK | OPTIONAL | CORE | {"asyncio", "ssl", "sqlite3"}) & modules


@pytest.mark.parametrize("name", ["Message", "Response", "ChatOptions", "LoomError", "TextDelta"])
def test_what_an_application_passes_around_imports_no_dependency(name: str) -> None:
    modules = _modules_after(f"from loom_py import {name}")
    assert not (SDK | OPTIONAL | CORE | {"asyncio"}) & modules


def test_an_agent_without_tools_and_budgets_imports_neither_pydantic_nor_what_budgets_need() -> None:
    modules = _modules_after(f"from loom_py import AgentBuilder, ScriptedProvider; {SCRIPTED}.chat('hi')")
    assert not (SDK | OPTIONAL | {"pydantic", "pydantic_core", "sqlite3"}) & modules
    assert not {"loom_py.resilience.budget", "loom_py.resilience.spending", "loom_py.guardrails"} & modules


def test_building_an_agent_imports_structlog_no_sooner_than_its_first_chat() -> None:
    statement = f"from loom_py import AgentBuilder, ScriptedProvider; {SCRIPTED}"
    assert "structlog" not in _modules_after(statement)
    assert "structlog" in _modules_after(f"{statement}.chat('hi')")


def test_the_first_tool_imports_pydantic() -> None:
    assert "pydantic" not in _modules_after("from loom_py import tool")
    assert "pydantic" in _modules_after("from loom_py import tool; tool(lambda: 1, name='one')")


def test_building_an_agent_imports_no_sdk_until_the_first_call() -> None:
    modules = _modules_after(f"from loom_py import AgentBuilder; {AZURE}")
    assert not (SDK | OPTIONAL) & modules


def test_every_public_name_can_be_imported_with_the_core_alone() -> None:
    hidden = (
        "import sys; sys.modules.update(dict.fromkeys(('starlette', 'uvicorn', 'sqlalchemy', 'sqlglot')))"
    )
    assert "loom_py.emulator.server" in _modules_after(f"{hidden}; from loom_py import *")


def test_every_public_name_can_be_imported() -> None:
    for name in loom_py.__all__:
        assert getattr(loom_py, name) is not None
    assert set(loom_py.__all__) <= set(dir(loom_py))


def test_type_checkers_see_every_public_name_where_it_is_imported_from() -> None:
    source = Path(loom_py.__file__).read_text(encoding="utf-8")
    (block,) = (node for node in ast.parse(source).body if isinstance(node, ast.If))
    seen = {
        alias.asname or alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert set(seen) == set(loom_py.__all__) - {"__version__"}
    for name, module in seen.items():
        assert module == f"loom_py.{loom_py._HOME_OF[name]}"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="AgentBulider"):
        _ = loom_py.AgentBulider
