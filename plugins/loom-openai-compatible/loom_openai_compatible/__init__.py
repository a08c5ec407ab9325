"""Any server with OpenAI's ``/v1`` API as a provider of loom_py: vLLM, llama.cpp, LM Studio, LiteLLM, ….

It is `loom_py.llm.openai` with a lenient reader, for servers that do not keep to all of OpenAI's wire.
"""

from __future__ import annotations

from typing import Any

from loom_openai_compatible.client import OpenAICompatibleClient
from loom_openai_compatible.config import OpenAICompatibleConfig

__all__ = ["OpenAICompatibleClient", "OpenAICompatibleConfig", "create_provider"]


def create_provider(model: str | None = None, **settings: Any) -> OpenAICompatibleClient:
    """The ``openai-compatible`` provider of the registry. Settings as for `OpenAICompatibleClient`."""
    return OpenAICompatibleClient(model=model, **settings)
