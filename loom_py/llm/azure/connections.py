"""The SDK's clients of one deployment: built when first needed, kept, and closed.

The official SDK does authentication, routing, connection pools and timeouts. A request is our
own bytes through its ``post`` and the answer comes back as raw bytes with its headers, so that
nothing Azure says is lost and no SDK model is built on the way.
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from loom_py._concurrency import current_loop
from loom_py.llm.azure.auth import TokenSource
from loom_py.llm.azure.config import AzureOpenAIConfig
from loom_py.llm.azure.debug import WireDebug

if TYPE_CHECKING:
    import ssl

    import httpx2
    from openai import AsyncAzureOpenAI, AzureOpenAI

__all__ = ["CONNECT_TIMEOUT", "Connections", "HttpRequest"]

CONNECT_TIMEOUT = 5.0
"""Seconds to wait for a connection, as the SDK's own default."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request to the deployment; ``timeout`` is in seconds, for each wait on the network."""

    content: bytes
    headers: dict[str, str]
    timeout: float
    stream: bool = False


class Connections:
    """Posts requests through the SDK; clients given by the user are used and never closed."""

    def __init__(
        self,
        config: AzureOpenAIConfig,
        tokens: TokenSource | None,
        http_client: httpx2.Client | None,
        async_http_client: httpx2.AsyncClient | None,
        debug: WireDebug,
    ) -> None:
        self._config = config
        self._tokens = tokens
        self._http_client = http_client
        self._async_http_client = async_http_client
        self._debug = debug
        self._path = f"/deployments/{quote(config.deployment_id, safe='')}/chat/completions"
        self._lock = threading.Lock()
        self._sync_client: AzureOpenAI | None = None
        self._async_clients: dict[asyncio.AbstractEventLoop | None, AsyncAzureOpenAI] = {}

    # ── requests ─────────────────────────────────────────────────────────────────────────

    def post(self, request: HttpRequest) -> httpx2.Response:
        """The answer to a request; of a stream its body is unread. Raises what the SDK raises."""
        import httpx2
        from openai import Stream

        answer: Any = self._sync().post(
            self._path,
            content=request.content,
            cast_to=httpx2.Response,
            options={"headers": request.headers, "timeout": _timeout(request.timeout)},
            stream=request.stream,
            stream_cls=Stream[Any],
        )
        return cast("httpx2.Response", answer)

    async def apost(self, request: HttpRequest) -> httpx2.Response:
        """`post`, async."""
        import httpx2
        from openai import AsyncStream

        answer: Any = await self._async().post(
            self._path,
            content=request.content,
            cast_to=httpx2.Response,
            options={"headers": request.headers, "timeout": _timeout(request.timeout)},
            stream=request.stream,
            stream_cls=AsyncStream[Any],
        )
        return cast("httpx2.Response", answer)

    # ── the SDK's clients ────────────────────────────────────────────────────────────────

    def _sync(self) -> AzureOpenAI:
        with self._lock:
            if self._sync_client is None:
                from openai import AzureOpenAI, DefaultHttpxClient

                http_client = self._http_client or DefaultHttpxClient(verify=_tls())
                self._debug.listen(http_client)
                client = AzureOpenAI(http_client=http_client, **self._settings(is_async=False))
                client.organization = client.project = None  # the environment's, for another service
                self._sync_client = client
            return self._sync_client

    def _async(self) -> AsyncAzureOpenAI:
        """The async client of the running event loop; connections cannot cross loops."""
        loop = None if self._async_http_client is not None else current_loop()
        with self._lock:
            client = self._async_clients.get(loop)
            if client is None:
                from openai import AsyncAzureOpenAI, DefaultAsyncHttpxClient

                self._forget_closed_loops()
                http_client = self._async_http_client or DefaultAsyncHttpxClient(verify=_tls())
                self._debug.alisten(http_client)
                client = AsyncAzureOpenAI(http_client=http_client, **self._settings(is_async=True))
                client.organization = client.project = None  # the environment's, for another service
                self._async_clients[loop] = client
            return client

    def _forget_closed_loops(self) -> None:
        """Connections of a loop that was closed cannot be closed any more, only let go."""
        for loop in [loop for loop in self._async_clients if loop is not None and loop.is_closed()]:
            del self._async_clients[loop]

    def _settings(self, *, is_async: bool) -> dict[str, Any]:
        config = self._config
        settings: dict[str, Any] = {
            "azure_endpoint": config.endpoint,
            "api_version": config.api_version,
            "max_retries": 0,
            "timeout": _timeout(config.timeout),
        }
        if config.api_key is not None:
            settings["api_key"] = config.api_key.get_secret_value()
        elif self._tokens is not None:
            settings["azure_ad_token_provider"] = self._tokens.atoken if is_async else self._tokens.token
        elif config.entra_token is not None:
            settings["azure_ad_token"] = config.entra_token.get_secret_value()
        return settings

    # ── closing ──────────────────────────────────────────────────────────────────────────

    def close(self) -> None:
        """Close the sync connections."""
        with self._lock:
            client, self._sync_client = self._sync_client, None
            self._forget_closed_loops()
        if client is None:
            return
        if self._http_client is None:
            client.close()
        else:
            self._debug.unlisten(self._http_client)

    async def aclose(self) -> None:
        """Close the connections of this event loop and the sync ones."""
        self.close()
        loop = None if self._async_http_client is not None else current_loop()
        with self._lock:
            client = self._async_clients.pop(loop, None)
        if client is None:
            return
        if self._async_http_client is None:
            await client.close()
        else:
            self._debug.unlisten(self._async_http_client)


def _timeout(seconds: float) -> httpx2.Timeout:
    import httpx2

    return httpx2.Timeout(seconds, connect=min(seconds, CONNECT_TIMEOUT))


@cache
def _tls() -> ssl.SSLContext:
    """One TLS context for the process: reading the certificates is most of a client's cost."""
    import httpx2

    return httpx2.create_ssl_context()
