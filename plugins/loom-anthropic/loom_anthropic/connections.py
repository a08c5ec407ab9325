"""Requests to Anthropic's API through its SDK, with the SDK's own retries and discoveries switched off."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakSet

from loom_anthropic.config import AnthropicConfig
from loom_py._concurrency import close_bridged, current_loop, is_bridge
from loom_py.llm.azure.connections import Answer, Patience
from loom_py.llm.azure.deadline import LEAST, deadline
from loom_py.llm.azure.transports import new_async_client, new_client

if TYPE_CHECKING:
    import httpx2
    from anthropic import Anthropic, AsyncAnthropic

__all__ = ["CONNECT_TIMEOUT", "Connections", "HttpRequest"]

CONNECT_TIMEOUT = 5.0
"""Seconds to wait for a connection, as the SDK's own default."""

PATH = "/v1/messages"


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request as it is sent, and how long it may take, in seconds.

    ``timeout`` is for a whole answer, and for each event of a stream; ``connect_timeout`` for the
    connection. ``end`` is when all must be over, by `time.monotonic`, and ``total_timeout`` how long that
    was when the call began.
    """

    content: bytes
    headers: Mapping[str, str]
    timeout: float
    connect_timeout: float = CONNECT_TIMEOUT
    total_timeout: float | None = None
    end: float | None = None

    @property
    def patience(self) -> float:
        """Seconds to wait for an answer from now on."""
        import time

        left = self.timeout if self.end is None else min(self.timeout, self.end - time.monotonic())
        return max(left, LEAST)


class Connections:
    """Posts requests through the SDK; clients given by the user are used and never closed.

    Making one loads the SDK.
    """

    def __init__(
        self,
        config: AnthropicConfig,
        http_client: httpx2.Client | None,
        async_http_client: httpx2.AsyncClient | None,
    ) -> None:
        import anthropic  # noqa: F401 - now, for it takes long, and a call has its time

        self._config = config
        self._http_client = http_client
        self._async_http_client = async_http_client
        self.forget()
        _everyone.add(self)

    def forget(self) -> None:
        """Let go of all connections without closing them."""
        self._lock = threading.Lock()
        self._sync: tuple[httpx2.Client, Anthropic] | None = None
        self._async: dict[asyncio.AbstractEventLoop | None, tuple[httpx2.AsyncClient, AsyncAnthropic]] = {}

    # ── requests ─────────────────────────────────────────────────────────────────────────

    def open(self, request: HttpRequest) -> httpx2.Response:
        """The answer to a request, its body unread. Raises what the SDK raises."""
        patience = Patience(request.patience)
        with deadline(patience.over):
            return self._open(request)

    def post(self, request: HttpRequest) -> Answer:
        """The whole answer to a request. Raises `TimeoutError` where it drips in too slowly."""
        patience = Patience(request.patience)
        with deadline(patience.over):
            answer = self._open(request)
            try:
                pieces = []
                for piece in answer.iter_bytes():
                    pieces.append(piece)
                    patience.check()
                return Answer(answer.status_code, answer.headers, b"".join(pieces))
            finally:
                answer.close()

    async def aopen(self, request: HttpRequest) -> httpx2.Response:
        """`open`, async."""
        async with asyncio.timeout(request.patience):
            return await self._aopen(request)

    async def apost(self, request: HttpRequest) -> Answer:
        """`post`, async."""
        async with asyncio.timeout(request.patience):
            answer = await self._aopen(request)
            try:
                return Answer(answer.status_code, answer.headers, await answer.aread())
            finally:
                await answer.aclose()

    def _open(self, request: HttpRequest) -> httpx2.Response:
        import httpx2
        from anthropic import Stream

        answer: Any = self._client().post(
            PATH,
            content=request.content,
            cast_to=httpx2.Response,
            options=_options(request),
            stream=True,
            stream_cls=Stream[Any],
        )
        return cast("httpx2.Response", answer)

    async def _aopen(self, request: HttpRequest) -> httpx2.Response:
        import httpx2
        from anthropic import AsyncStream

        answer: Any = await self._aclient().post(
            PATH,
            content=request.content,
            cast_to=httpx2.Response,
            options=_options(request),
            stream=True,
            stream_cls=AsyncStream[Any],
        )
        return cast("httpx2.Response", answer)

    # ── the SDK's clients ────────────────────────────────────────────────────────────────

    def _client(self) -> Anthropic:
        with self._lock:
            if self._sync is None:
                from anthropic import Anthropic, DefaultHttpxClient

                http = self._http_client
                if http is None:
                    http = new_client(DefaultHttpxClient)
                client = Anthropic(http_client=http, **self._settings())
                _forget_environment(client)
                self._sync = http, client
            return self._sync[1]

    def _aclient(self) -> AsyncAnthropic:
        """The async client of the running event loop; connections cannot cross loops."""
        loop = None if self._async_http_client is not None else current_loop()
        with self._lock:
            if loop not in self._async:
                from anthropic import AsyncAnthropic, DefaultAsyncHttpxClient

                self._forget_closed_loops()
                http = self._async_http_client or new_async_client(
                    DefaultAsyncHttpxClient, fast=self._config.fast is not False
                )
                client = AsyncAnthropic(http_client=http, **self._settings())
                _forget_environment(client)
                self._async[loop] = http, client
            return self._async[loop][1]

    def _settings(self) -> dict[str, Any]:
        """What the SDK's clients are made with: exactly one credential, so that it looks for no other."""
        config = self._config
        credential: dict[str, Any] = {}
        if config.api_key is not None:
            credential["api_key"] = config.api_key.get_secret_value()
        elif config.auth_token is not None:
            credential["auth_token"] = config.auth_token.get_secret_value()
        return {
            "base_url": config.base_url,
            "max_retries": 0,
            "timeout": config.timeout,
            "open_telemetry": False,
            **credential,
        }

    def _forget_closed_loops(self) -> None:
        """Connections of a loop that was closed cannot be closed any more, only let go."""
        for loop in [loop for loop in self._async if loop is not None and loop.is_closed()]:
            del self._async[loop]

    # ── closing ──────────────────────────────────────────────────────────────────────────

    def close(self) -> None:
        """Close the sync connections, and those that blocking calls had on the background event loop."""
        with self._lock:
            sync, self._sync = self._sync, None
            self._forget_closed_loops()
            bridged = next((loop for loop in self._async if is_bridge(loop)), None)
            pool = None if bridged is None else self._async.pop(bridged)
        if pool is not None:
            close_bridged(pool[0].aclose())
        if sync is not None and self._http_client is None:
            sync[0].close()

    async def aclose(self) -> None:
        """Close the connections of this event loop and the sync ones."""
        self.close()
        loop = None if self._async_http_client is not None else current_loop()
        with self._lock:
            pool = self._async.pop(loop, None)
        if pool is not None and self._async_http_client is None:
            await pool[0].aclose()


def _forget_environment(client: Any) -> None:
    """Take back what the SDK reads from ``ANTHROPIC_CUSTOM_HEADERS``: nobody asked for it here."""
    client._custom_headers = {}


def _options(request: HttpRequest) -> Any:
    import httpx2

    seconds = request.patience
    return {
        "headers": {"content-type": "application/json", **request.headers},
        "timeout": httpx2.Timeout(seconds, connect=min(seconds, request.connect_timeout)),
        "max_retries": 0,
    }


_everyone: WeakSet[Connections] = WeakSet()


def _forget_parents() -> None:
    """A forked child must not read from its parent's sockets: it would get another's answer."""
    for connections in list(_everyone):
        connections.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parents)
