"""Azure OpenAI as a provider: configuration, authentication, wire format and client."""

from __future__ import annotations

from typing import Any

from loom_py.llm.azure.auth import KeyVaultSecret
from loom_py.llm.azure.client import AzureOpenAIClient
from loom_py.llm.azure.config import DEFAULT_API_VERSION, AzureOpenAIConfig

__all__ = [
    "DEFAULT_API_VERSION",
    "AzureOpenAIClient",
    "AzureOpenAIConfig",
    "KeyVaultSecret",
    "create_provider",
]


def create_provider(model: str | None = None, **settings: Any) -> AzureOpenAIClient:
    """The ``azure-openai`` provider of the registry; ``model`` is the deployment."""
    if model is not None:
        settings.setdefault("deployment_id", model)
    return AzureOpenAIClient(**settings)
