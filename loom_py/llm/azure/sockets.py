"""asyncio's own connections beneath the async transport.

The transport's default network layer serves several event loops through a library of cancel scopes, and
every read and write pays for it. This one knows asyncio alone: a read of what has come already waits for
nothing, a timeout is one timer, and the head of a request leaves together with the first of its body.
Failures are the transport's own kinds, as it expects them of any network layer.
"""

from __future__ import annotations

import asyncio
import select
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import httpcore2

from loom_py.llm.azure.deadline import LEAST
from loom_py.llm.azure.dialling import dial

__all__ = ["AsyncBackend", "AsyncStream", "use_asyncio_sockets"]

MOST_BUFFERED = 262_144
"""Bytes that have come and were not read yet, from which on nothing more is taken off the network."""

WRITTEN_TOGETHER = 65_536
"""Bytes of a body up to which it is copied to leave in one piece with its head."""


class AsyncStream(asyncio.Protocol):
    """One connection. One task at a time reads, and one writes.

    ``connected_by`` is when it must have been set up, TLS included, by `time.monotonic`.
    """

    def __init__(self, connected_by: float | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._connected_by = connected_by
        self._transport: Any = None
        self._pieces: deque[bytes] = deque()
        self._buffered = 0
        self._is_paused = False
        self._ended = False
        self._closed = False
        self._failure: Exception | None = None
        self._head = b""
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._is_full = False
        self._poll: Callable[[int], list[tuple[int, int]]] | None = None

    # ── what asyncio tells ───────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._pieces.append(data)
        self._buffered += len(data)
        if self._buffered >= MOST_BUFFERED and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()
        _wake(self._reader)

    def eof_received(self) -> bool:
        self._ended = True
        _wake(self._reader)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self._failure = exc
        _wake(self._reader)
        _wake(self._writer)

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        _wake(self._writer)

    # ── what the transport asks ──────────────────────────────────────────────────────────

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        """The next bytes, at most ``max_bytes``; none at the end."""
        self._flush()
        if not self._pieces:
            if not self._ended and not self._closed:
                self._reader = self._loop.create_future()
                try:
                    await self._wait(self._reader, timeout, httpcore2.ReadTimeout)
                finally:
                    self._reader = None
            if not self._pieces:
                if self._closed or self._failure is not None:
                    raise httpcore2.ReadError(str(self._failure or "the connection is closed"))
                return b""
        return self._take(max_bytes)

    def _take(self, max_bytes: int) -> bytes:
        """Of what has come, as much as may be taken at once."""
        pieces = self._pieces
        if len(pieces) > 1 and self._buffered <= max_bytes:
            data = b"".join(pieces)
            pieces.clear()
        else:
            data = pieces.popleft()
            if len(data) > max_bytes:
                pieces.appendleft(data[max_bytes:])
                data = data[:max_bytes]
        self._buffered -= len(data)
        if self._is_paused and self._buffered < MOST_BUFFERED:
            self._is_paused = False
            if not self._ended:
                self._transport.resume_reading()
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Hand over ``buffer``; wait until the network has taken most of what it was given."""
        if not buffer:
            return
        if self._closed or (self._ended and self._failure is not None):
            raise httpcore2.WriteError(str(self._failure or "the connection is closed"))
        if self._head:
            if len(buffer) <= WRITTEN_TOGETHER:
                buffer = self._head + buffer
                self._head = b""
            else:
                self._flush()
        elif buffer.endswith(b"\r\n\r\n") and len(buffer) <= WRITTEN_TOGETHER:
            self._head = buffer  # a body may follow at once; if none does, the next read sends it
            return
        self._transport.write(buffer)
        while self._is_full and not self._ended:
            self._writer = self._loop.create_future()
            try:
                await self._wait(self._writer, timeout, httpcore2.WriteTimeout)
            finally:
                self._writer = None
        if self._failure is not None:
            raise httpcore2.WriteError(str(self._failure))

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    async def _wait(
        self,
        future: asyncio.Future[None],
        timeout: float | None,  # noqa: ASYNC109
        late: type[Exception],
    ) -> None:
        """Wait for ``future``; raises ``late`` if it takes longer than ``timeout`` seconds."""
        if timeout is None:
            await future
            return
        timer = self._loop.call_later(timeout, _fail, future, late)
        try:
            await future
        finally:
            timer.cancel()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> AsyncStream:
        """This connection, encrypted from now on; it gets what TCP left of the time to connect."""
        if self._connected_by is not None:
            left = max(self._connected_by - time.monotonic(), LEAST)
            timeout = left if timeout is None else min(timeout, left)
        try:
            async with asyncio.timeout(timeout):
                self._transport = await self._loop.start_tls(
                    self._transport, self, ssl_context, server_hostname=server_hostname
                )
        except TimeoutError as exc:
            await self.aclose()
            raise httpcore2.ConnectTimeout(str(exc)) from exc
        except OSError as exc:
            await self.aclose()
            raise httpcore2.ConnectError(str(exc)) from exc
        if self._transport is None:  # what asyncio gives where the connection was lost meanwhile
            raise httpcore2.ConnectError("the connection was lost while TLS was set up")
        return self

    async def aclose(self) -> None:
        """Close the connection without a farewell."""
        self._closed = True
        _wake(self._reader)
        _wake(self._writer)
        if self._transport is not None:
            self._transport.abort()
            await asyncio.sleep(0)  # in which asyncio closes the socket

    def get_extra_info(self, info: str) -> Any:
        """What the transport wants to know of a connection: its addresses, its socket, whether it ended."""
        if info == "is_readable":
            return bool(self._pieces) or self._ended or self._has_news()
        names = {"client_addr": "sockname", "server_addr": "peername"}
        return self._transport.get_extra_info(names.get(info, info))

    def _has_news(self) -> bool:
        """Whether there is something on the socket that asyncio has not read yet."""
        if self._poll is None:
            descriptor: int = self._transport.get_extra_info("socket").fileno()
            if descriptor < 0 or not hasattr(select, "poll"):
                return descriptor < 0
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            self._poll = poll.poll
        return bool(self._poll(0))


class AsyncBackend:
    """What opens the connections; ``other`` is the network layer for all that is not TCP."""

    def __init__(self, other: Any) -> None:
        self._other = other

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the transport's own interface
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> AsyncStream:
        """A connection to ``host``. Raises ``ConnectError`` and ``ConnectTimeout`` of the transport."""
        end = None if timeout is None else time.monotonic() + timeout
        try:
            async with asyncio.timeout(timeout):
                connected = await dial(host, port, local_address)
                for option in socket_options or ():
                    connected.setsockopt(*option)
                _, stream = await asyncio.get_running_loop().create_connection(
                    lambda: AsyncStream(end), sock=connected
                )
        except TimeoutError as exc:
            raise httpcore2.ConnectTimeout(str(exc)) from exc
        except (OSError, UnicodeError) as exc:  # a name that no host can have is no Unicode problem
            raise httpcore2.ConnectError(str(exc)) from exc
        return stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._other, name)


def use_asyncio_sockets(client: Any) -> None:
    """Let a new ``httpx2.AsyncClient`` of ours connect by asyncio; another kind of transport stays."""
    for transport in (getattr(client, "_transport", None), *getattr(client, "_mounts", {}).values()):
        pool = getattr(transport, "_pool", None)
        backend = getattr(pool, "_network_backend", None)
        if backend is not None:
            pool._network_backend = AsyncBackend(backend)  # type: ignore[union-attr]


def _wake(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)


def _fail(future: asyncio.Future[None], kind: type[Exception]) -> None:
    if not future.done():
        future.set_exception(kind("timed out"))
