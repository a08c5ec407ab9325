"""OpenAI's own API as a provider: configuration, credentials, errors and client.

The wire is the one of `loom_py.llm.azure`, whose `WireClient` this client shares.
"""

from __future__ import annotations

from typing import Any

from loom_py.llm.openai.client import OpenAIClient
from loom_py.llm.openai.config import DEFAULT_BASE_URL, OpenAIConfig

__all__ = ["DEFAULT_BASE_URL", "OpenAIClient", "OpenAIConfig", "create_provider"]


def create_provider(model: str | None = None, **settings: Any) -> OpenAIClient:
    """The ``openai`` provider of the registry. Settings as for `OpenAIClient`."""
    return OpenAIClient(model=model, **settings)
