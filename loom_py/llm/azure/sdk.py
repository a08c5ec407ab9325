"""The official SDK's clients for Azure: which class, which URL, and which credential."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loom_py.llm.azure.auth import TokenSource
from loom_py.llm.azure.config import AzureOpenAIConfig

if TYPE_CHECKING:
    import httpx2
    from openai import AsyncOpenAI, OpenAI

__all__ = ["AzureSDK", "forget_environment"]


class AzureSDK:
    """Clients of one deployment, on the v1 API and on the classic one."""

    def __init__(
        self, config: AzureOpenAIConfig, tokens: TokenSource | None, keys: TokenSource | None
    ) -> None:
        self._config = config
        self._tokens = tokens
        self._keys = keys

    def client(self, http: httpx2.Client, *, is_v1: bool) -> OpenAI:
        """A client that sends through ``http``."""
        from openai import AzureOpenAI, OpenAI

        kind: Any = OpenAI if is_v1 else AzureOpenAI
        client: OpenAI = kind(http_client=http, **self._settings(is_v1, is_async=False))
        forget_environment(client)
        return client

    def async_client(self, http: httpx2.AsyncClient, *, is_v1: bool) -> AsyncOpenAI:
        """`client`, async."""
        from openai import AsyncAzureOpenAI, AsyncOpenAI

        kind: Any = AsyncOpenAI if is_v1 else AsyncAzureOpenAI
        client: AsyncOpenAI = kind(http_client=http, **self._settings(is_v1, is_async=True))
        forget_environment(client)
        return client

    def _settings(self, is_v1: bool, *, is_async: bool) -> dict[str, Any]:
        config = self._config
        settings: dict[str, Any] = {"max_retries": 0, "timeout": config.timeout}
        tokens = None if self._tokens is None else self._tokens.atoken if is_async else self._tokens.token
        static = config.entra_token.get_secret_value() if config.entra_token is not None else None
        key: Any = config.api_key.get_secret_value() if config.api_key is not None else None
        if self._keys is not None:
            key = self._keys.atoken if is_async else self._keys.token
        if is_v1:
            # On v1 a key and a token travel alike; the SDK asks a function for each request.
            return settings | {
                "base_url": f"{config.endpoint}/openai/v1/",
                "api_key": key or tokens or static,
            }
        settings |= {"azure_endpoint": config.endpoint, "api_version": config.api_version}
        if key is not None:
            settings["api_key"] = key
        elif tokens is not None:
            settings["azure_ad_token_provider"] = tokens
        elif static is not None:
            settings["azure_ad_token"] = static
        return settings


def forget_environment(client: Any) -> None:
    """Take back what the SDK reads from variables that are meant for another service.

    ``OPENAI_CUSTOM_HEADERS`` may even hold that service's credential.
    """
    client.organization = client.project = None
    client._custom_headers = {}
