"""The official SDK's clients for OpenAI's own API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loom_py.llm.azure.auth import TokenSource
from loom_py.llm.openai.config import OpenAIConfig

if TYPE_CHECKING:
    import httpx2
    from openai import AsyncOpenAI, OpenAI

__all__ = ["OpenAISDK"]


class OpenAISDK:
    """Clients for one model, which have nothing from the environment that the configuration has not."""

    def __init__(self, config: OpenAIConfig, keys: TokenSource | None) -> None:
        self._config = config
        self._keys = keys

    def client(self, http: httpx2.Client, *, is_v1: bool) -> OpenAI:
        """A client that sends through ``http``."""
        from openai import OpenAI

        client = OpenAI(http_client=http, **self._settings(is_async=False))
        self._settle(client)
        return client

    def async_client(self, http: httpx2.AsyncClient, *, is_v1: bool) -> AsyncOpenAI:
        """`client`, async."""
        from openai import AsyncOpenAI

        client = AsyncOpenAI(http_client=http, **self._settings(is_async=True))
        self._settle(client)
        return client

    def _settings(self, *, is_async: bool) -> dict[str, Any]:
        config = self._config
        key: Any = config.api_key.get_secret_value() if config.api_key is not None else None
        if self._keys is not None:
            key = self._keys.atoken if is_async else self._keys.token
        return {
            "base_url": config.base_url,
            "api_key": key,
            "timeout": config.timeout,
            "max_retries": 0,
        }

    def _settle(self, client: Any) -> None:
        """What the SDK reads from variables by itself is taken back; its own of them were asked before."""
        config = self._config
        client.organization, client.project = config.organization, config.project
        client.admin_api_key = None
        client._custom_headers = {}
