"""The official client's connections, and what is sent over them: our own bytes, byte for byte.

The client's models of a request drop what they do not know of a tool's schema (nested properties, ``anyOf``),
so the body is written here; host, headers, key and pooling are the client's.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import httpx
import ollama

from loom_ollama.config import OllamaConfig

__all__ = ["Connections", "Patience"]

PATH = "/api/chat"

CLOCKS_DIFFER = 0.002
"""Seconds by which a timer may ring before its time."""


class Patience:
    """How long one attempt may take: ``read`` seconds for each piece, and ``end`` seconds for it all."""

    __slots__ = ("connect", "end", "read", "total")

    def __init__(self, read: float, connect: float | None, total: float | None) -> None:
        self.read = read
        self.connect = read if connect is None else connect
        self.total = total
        self.end = None if total is None else time.monotonic() + total

    def left(self) -> float | None:
        """Seconds until it must be over. Raises `TimeoutError` when it is."""
        if self.end is None:
            return None
        left = self.end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    @property
    def was(self) -> float:
        """Seconds that were waited for what did not come."""
        is_over = self.end is not None and time.monotonic() >= self.end - CLOCKS_DIFFER
        return self.total if is_over and self.total is not None else self.read

    def httpx(self) -> httpx.Timeout:
        """The same for the transport."""
        left = self.left()
        read = self.read if left is None else min(self.read, left)
        connect = self.connect if left is None else min(self.connect, left)
        return httpx.Timeout(read, connect=connect)


class _Client(ollama.Client):
    @contextmanager
    def send(
        self, content: bytes, headers: Mapping[str, str], patience: Patience
    ) -> Iterator[httpx.Response]:
        with self._client.stream(
            "POST", PATH, content=content, headers=dict(headers), timeout=patience.httpx()
        ) as answer:
            yield answer


class _AsyncClient(ollama.AsyncClient):
    @asynccontextmanager
    async def send(
        self, content: bytes, headers: Mapping[str, str], patience: Patience
    ) -> AsyncIterator[httpx.Response]:
        async with self._client.stream(
            "POST", PATH, content=content, headers=dict(headers), timeout=patience.httpx()
        ) as answer:
            yield answer


class Connections:
    """One client for threads, and one for each event loop; made when they are needed."""

    def __init__(self, config: OllamaConfig) -> None:
        self._config = config
        self.forget()
        _everyone.add(self)

    def forget(self) -> None:
        """Let go of all connections without closing them."""
        self._lock = threading.Lock()
        self._client: _Client | None = None
        self._async: WeakKeyDictionary[asyncio.AbstractEventLoop, _AsyncClient] = WeakKeyDictionary()

    def sync(self) -> _Client:
        """The client for blocking calls."""
        with self._lock:
            if self._client is None:
                self._client = _Client(**self._settings())
            return self._client

    def of_loop(self) -> _AsyncClient:
        """The client of the running event loop, whose sockets belong to it."""
        loop = asyncio.get_running_loop()
        with self._lock:
            client = self._async.get(loop)
            if client is None:
                client = self._async[loop] = _AsyncClient(**self._settings())
            return client

    def close(self) -> None:
        """Close the blocking connections; a later call opens new ones."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()  # type: ignore[no-untyped-call]

    async def aclose(self) -> None:
        """Close the connections of this event loop, and the blocking ones."""
        with self._lock:
            client = self._async.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.close()  # type: ignore[no-untyped-call]
        self.close()

    def _settings(self) -> dict[str, Any]:
        config = self._config
        headers = dict(config.headers)
        if config.api_key is not None:
            headers["authorization"] = f"Bearer {config.api_key.get_secret_value()}"
        return {"host": config.host, "headers": headers, "follow_redirects": False}


_everyone: WeakSet[Connections] = WeakSet()


def _forget_parents() -> None:
    """A forked child must not read from its parent's sockets: it would get another's answer."""
    for connections in list(_everyone):
        connections.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parents)
