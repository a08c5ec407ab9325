"""Connections to one server, kept for the next request and handed out in order of arrival.

The pools of the transport look at every connection whenever a request comes or goes, so a request costs the
more, the more others there are. These find a connection at once: the one that was used last, else a new one,
else whichever is given back first to those who wait longest. The connections are the transport's own.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, TypeAlias

import httpcore2

__all__ = ["AsyncPool", "Pool"]

_Connection: TypeAlias = Any
_Waiter: TypeAlias = Any


class _Connections:
    """Which connections there are, which of them rest, and who waits for one. Safe to use from threads.

    What is given back never waits for the lock: a stream that the garbage collector closes may have
    interrupted the very code that holds it. Whoever holds it sees to that when it is done.
    """

    def __init__(self, connect: Callable[[Any], _Connection], *, most: int, keepalive: float) -> None:
        self._connect = connect
        self._most = most
        self._keepalive = keepalive
        self._lock = threading.Lock()
        self._all: set[_Connection] = set()
        self._idle: deque[tuple[_Connection, float]] = deque()
        self._waiting: deque[tuple[_Waiter, Any]] = deque()
        self._returned: deque[_Connection] = deque()

    def take(
        self, origin: Any, waiter: Callable[[], _Waiter]
    ) -> tuple[_Connection, _Waiter, list[_Connection]]:
        """A connection, or else something to wait for; and those that are to be closed."""
        with self._lock:
            connection, waiting, useless = self._taken(origin, waiter)
        if self._returned:
            useless += self._settle()
        return connection, waiting, useless

    def _taken(
        self, origin: Any, waiter: Callable[[], _Waiter]
    ) -> tuple[_Connection, _Waiter, list[_Connection]]:
        useless = self._rested()
        while self._idle:
            connection, _ = self._idle.pop()
            if not (connection.is_closed() or connection.has_expired()):
                return connection, None, useless
            self._all.discard(connection)
            useless.append(connection)
        if len(self._all) < self._most:
            return self._new(origin), None, useless
        waiting = waiter()
        self._waiting.append((waiting, origin))
        return None, waiting, useless

    def give_back(self, connection: _Connection | None) -> list[_Connection]:
        """Let the next have ``connection``, if there is one; those that are to be closed."""
        if connection is not None:
            self._returned.append(connection)
        return self._settle()

    def _settle(self) -> list[_Connection]:
        """Hand on what was given back, unless somebody does so already; those that are to be closed."""
        useless: list[_Connection] = []
        while self._returned and self._lock.acquire(blocking=False):
            try:
                while self._returned:
                    useless += self._handed_on(self._returned.popleft())
            finally:
                self._lock.release()
        return useless

    def _handed_on(self, connection: _Connection) -> list[_Connection]:
        useless = self._rested()
        if connection.is_closed() or not connection.is_idle() or connection not in self._all:
            self._all.discard(connection)
            useless.append(connection)
            connection = None
        while self._waiting:
            waiter, origin = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(connection or self._new(origin))
                return useless
        if connection is not None:
            self._idle.append((connection, time.monotonic()))
        return useless

    def give_up(self, waiter: _Waiter) -> _Connection:
        """Wait no longer; the connection that had just been handed over, if one was."""
        with self._lock:
            for entry in self._waiting:
                if entry[0] is waiter:
                    self._waiting.remove(entry)
                    return None
        return None if waiter.cancelled() else waiter.result()

    def clear(self) -> list[_Connection]:
        """Forget all connections; they are to be closed."""
        with self._lock:
            found = list(self._all)
            self._all.clear()
            self._idle.clear()
        return found + self._settle()

    def _new(self, origin: Any) -> _Connection:
        connection = self._connect(origin)
        self._all.add(connection)
        return connection

    def _rested(self) -> list[_Connection]:
        """Take out what has not been used for too long."""
        found: list[_Connection] = []
        end = time.monotonic() - self._keepalive
        while self._idle and self._idle[0][1] < end:
            connection, _ = self._idle.popleft()
            self._all.discard(connection)
            found.append(connection)
        return found


class Pool:
    """In the place of an ``httpcore2.ConnectionPool``: connections made by ``connect``, for threads.

    There are at most ``most``; one that has rested for ``keepalive`` seconds is closed.
    """

    def __init__(self, connect: Callable[[Any], _Connection], *, most: int, keepalive: float) -> None:
        self._connections = _Connections(connect, most=most, keepalive=keepalive)

    def handle_request(self, request: httpcore2.Request) -> httpcore2.Response:
        """The answer, its body unread. Raises what ``httpcore2`` raises."""
        while True:
            connection = self._take(request)
            try:
                answer = connection.handle_request(request)
            except httpcore2.ConnectionNotAvailable:
                self.give_back(connection)
            except BaseException:
                self.give_back(connection)
                raise
            else:
                body = _Body(answer.stream, self, connection)
                return httpcore2.Response(
                    answer.status, headers=answer.headers, content=body, extensions=answer.extensions
                )

    def _take(self, request: httpcore2.Request) -> _Connection:
        connection, waiter, useless = self._connections.take(request.url.origin, Future)
        try:
            _close(useless)
            return connection or waiter.result(_patience(request))
        except BaseException as exc:
            self.give_back(connection or self._connections.give_up(waiter))
            if isinstance(exc, TimeoutError):
                raise httpcore2.PoolTimeout("every connection was in use") from exc
            raise

    def give_back(self, connection: _Connection | None) -> None:
        """A request is over."""
        _close(self._connections.give_back(connection))

    def close(self) -> None:
        """Close every connection. A later request opens new ones."""
        _close(self._connections.clear())


class _Body:
    """The body of an answer; once it is closed, its connection serves the next."""

    def __init__(self, stream: Any, pool: Pool, connection: _Connection) -> None:
        self._stream = stream
        self._pool = pool
        self._connection = connection

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._stream)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                self._stream.close()
            finally:
                self._pool.give_back(connection)


def _close(connections: Iterable[_Connection]) -> None:
    for connection in connections:
        if not connection.is_closed():
            connection.close()


class AsyncPool:
    """`Pool`, for the tasks of one event loop."""

    def __init__(self, connect: Callable[[Any], _Connection], *, most: int, keepalive: float) -> None:
        self._connections = _Connections(connect, most=most, keepalive=keepalive)

    async def handle_async_request(self, request: httpcore2.Request) -> httpcore2.Response:
        """The answer, its body unread. Raises what ``httpcore2`` raises."""
        while True:
            connection = await self._take(request)
            try:
                answer = await connection.handle_async_request(request)
            except httpcore2.ConnectionNotAvailable:
                await self.give_back(connection)
            except BaseException:
                await self.give_back(connection)
                raise
            else:
                body = _AsyncBody(answer.stream, self, connection)
                return httpcore2.Response(
                    answer.status, headers=answer.headers, content=body, extensions=answer.extensions
                )

    async def _take(self, request: httpcore2.Request) -> _Connection:
        make = asyncio.get_running_loop().create_future
        connection, waiter, useless = self._connections.take(request.url.origin, make)
        try:
            if useless:
                await _aclose(useless)
            if connection is None:
                async with asyncio.timeout(_patience(request)):
                    connection = await waiter
            return connection
        except BaseException as exc:
            await self.give_back(connection or self._connections.give_up(waiter))
            if isinstance(exc, TimeoutError):
                raise httpcore2.PoolTimeout("every connection was in use") from exc
            raise

    async def give_back(self, connection: _Connection | None) -> None:
        """A request is over."""
        await _aclose(self._connections.give_back(connection))

    async def aclose(self) -> None:
        """Close every connection. A later request opens new ones."""
        await _aclose(self._connections.clear())


class _AsyncBody:
    """`_Body`, async."""

    def __init__(self, stream: Any, pool: AsyncPool, connection: _Connection) -> None:
        self._stream = stream
        self._pool = pool
        self._connection = connection

    def __aiter__(self) -> AsyncIterator[bytes]:
        iterator: AsyncIterator[bytes] = self._stream.__aiter__()
        return iterator

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                await self._stream.aclose()
            finally:
                await self._pool.give_back(connection)


async def _aclose(connections: Iterable[_Connection]) -> None:
    """Close all of them, also when this is cancelled meanwhile."""
    cancelled: asyncio.CancelledError | None = None
    for connection in connections:
        if not connection.is_closed():
            try:
                await connection.aclose()
            except asyncio.CancelledError as exc:
                cancelled = exc
    if cancelled is not None:
        raise cancelled


def _patience(request: httpcore2.Request) -> float | None:
    """Seconds to wait for a connection."""
    seconds: float | None = request.extensions.get("timeout", {}).get("pool")
    return seconds
