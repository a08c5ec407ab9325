"""What importing costs and touches, seen from a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys

import pytest

import loom_py


def _modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(' '.join(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def test_importing_loom_py_imports_no_sdk_and_no_optional_package() -> None:
    modules = _modules_after("import loom_py")
    heavy = {"openai", "httpx2", "pydantic", "sqlalchemy", "sqlglot", "starlette", "uvicorn", "structlog"}
    assert not heavy & modules


def test_building_an_agent_imports_no_sdk_until_the_first_call() -> None:
    chain = "AgentBuilder().with_azure_openai_llm('https://r.openai.azure.com', 'gpt-4o', 'key').build()"
    modules = _modules_after(f"from loom_py import AgentBuilder; {chain}")
    assert not {"openai", "httpx2", "sqlalchemy", "sqlglot", "starlette"} & modules


def test_every_public_name_can_be_imported() -> None:
    for name in loom_py.__all__:
        assert getattr(loom_py, name) is not None
    assert set(loom_py.__all__) <= set(dir(loom_py))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="AgentBulider"):
        _ = loom_py.AgentBulider
