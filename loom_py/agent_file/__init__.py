"""Agents as YAML files; needs the extra ``yaml``.

::

    kind: Agent
    name: shop
    llm: {provider: azure-openai, endpoint: https://myresource.openai.azure.com, deployment_id: gpt-4o}
    backend: sqlite:///shop.db
    tools: [shop_tools]
    system_prompt: You help people in a shop.
    resilience:
      circuit_breakers: {failure_threshold: 3}
    budget: {usd: 0.50, per: chat}

`load` gives an `AgentFile`, whose `AgentFile.steps` are the builder's methods to call;
``AgentBuilder.from_yaml`` calls them. `check` tells everything that is wrong with a file, with line and
column. Loading a file imports the modules it names, so load only files you trust.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loom_py.agent_file.file import AgentFile, Keys, Step
    from loom_py.agent_file.loading import check, load, load_all
    from loom_py.agent_file.problems import FileProblem
    from loom_py.agent_file.schema import json_schema

__all__ = ["AgentFile", "FileProblem", "Keys", "Step", "check", "json_schema", "load", "load_all"]

_HOMES = {
    "AgentFile": "file",
    "FileProblem": "problems",
    "Keys": "file",
    "Step": "file",
    "check": "loading",
    "json_schema": "schema",
    "load": "loading",
    "load_all": "loading",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
