"""One request on its way: its connection, its deadline, and how it is broken off.

boto3 blocks, and has no way to end a call from outside. Here every connection knows the exchange it
serves, so that another thread can shut its socket down: the call then fails at once, and its thread and
its connection are free.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import math
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias

from botocore.awsrequest import (  # type: ignore[import-untyped]  # botocore ships no types
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSHTTPSConnection,
    AWSHTTPSConnectionPool,
)

__all__ = ["POOLS", "Exchange", "current_exchange"]

Reason: TypeAlias = Literal["timeout", "cancelled"]

_here = threading.local()


def current_exchange() -> Exchange | None:
    """The exchange whose request this thread is sending."""
    return getattr(_here, "exchange", None)


class BrokenOffError(OSError):
    """The exchange was broken off before its connection was made."""


class Exchange:
    """One request, from its first byte to the last of its answer.

    ``connect_timeout`` is in seconds; ``end`` is when all must be over, by `time.monotonic`. ``sent`` says
    whether a connection stood and the request may have reached Bedrock, ``reason`` why it was broken off.
    """

    def __init__(
        self, *, connect_timeout: float, end: float = math.inf, headers: Mapping[str, str] | None = None
    ) -> None:
        self.connect_timeout = connect_timeout
        self.end = end
        self.headers = dict(headers or {})
        self.sent = False
        self.reason: Reason | None = None
        self.deadline = math.inf
        self.over = False
        self.watched_until: float | None = None
        self._lock = threading.Lock()
        self._connection: _Tracked | None = None
        self._socket: socket.socket | None = None

    @contextlib.contextmanager
    def sending(self) -> Iterator[None]:
        """Requests that this thread sends belong to this exchange."""
        _here.exchange = self
        try:
            yield
        finally:
            _here.exchange = None

    def within(self, seconds: float) -> None:
        """Break it off unless there is word from it in so many seconds, and by its ``end`` in any case."""
        self.deadline = min(time.monotonic() + seconds, self.end)
        _watch(self)

    def rest(self) -> None:
        """Nothing is awaited just now."""
        self.deadline = math.inf

    def check(self) -> None:
        """Raises `BrokenOffError` where it was broken off."""
        if self.reason is not None:
            raise BrokenOffError(f"broken off: {self.reason}")

    def connected(self, connection: _Tracked) -> None:
        """``connection`` serves this exchange from now on."""
        with self._lock:
            self.check()
            connection.exchange = self
            self._connection, self._socket = connection, connection.sock
            self.sent = True

    def break_off(self, reason: Reason) -> None:
        """Hang up, from any thread. What waits for the answer fails at once."""
        with self._lock:
            if self.over or self.reason is not None:
                return
            self.reason = reason
            connection, connected = self._connection, self._socket
            if connection is not None and connection.exchange is self and connected is not None:
                with contextlib.suppress(OSError):  # it is closed already
                    socket.socket.shutdown(getattr(connected, "socket", connected), socket.SHUT_RDWR)

    def finish(self) -> None:
        """The answer is there, or will not come: its connection may serve others."""
        with self._lock:
            self.over = True
            self.deadline = math.inf
            if self._connection is not None and self._connection.exchange is self:
                self._connection.exchange = None
            self._connection = self._socket = None


# ── connections that know whom they serve ────────────────────────────────────────────────


class _Tracked:
    """A connection of botocore's that tells the exchange in whose name a request is sent."""

    exchange: Exchange | None = None
    sock: Any
    timeout: Any

    def connect(self) -> None:
        exchange = current_exchange()
        if exchange is not None:
            exchange.check()
            left = max(exchange.end - time.monotonic(), 0.001)
            self.timeout = min(exchange.connect_timeout, left)
        super().connect()  # type: ignore[misc]  # that of the connection it is mixed into

    def request(self, *args: Any, **kwargs: Any) -> Any:
        exchange = current_exchange()
        if exchange is not None:
            if self.sock is None:
                self.connect()
            exchange.connected(self)
        return super().request(*args, **kwargs)  # type: ignore[misc]


class _HTTPConnection(_Tracked, AWSHTTPConnection):  # type: ignore[misc]  # botocore is untyped
    """A tracked connection in clear."""


class _HTTPSConnection(_Tracked, AWSHTTPSConnection):  # type: ignore[misc]
    """A tracked connection over TLS."""


class _HTTPPool(AWSHTTPConnectionPool):  # type: ignore[misc]
    ConnectionCls = _HTTPConnection


class _HTTPSPool(AWSHTTPSConnectionPool):  # type: ignore[misc]
    ConnectionCls = _HTTPSConnection


POOLS = {"http": _HTTPPool, "https": _HTTPSPool}
"""What botocore's sessions make connections with, by scheme."""


# ── deadlines ────────────────────────────────────────────────────────────────────────────

IDLE_SECONDS = 10.0
"""How long the thread that watches deadlines stays when there are none."""

LEAST_KEPT = 512
"""Deadlines that are kept before those of finished calls are cleared away."""

_condition = threading.Condition()
_heap: list[tuple[float, int, Exchange]] = []
_numbers = itertools.count()
_watching = False
_most = LEAST_KEPT


def _forget_thread() -> None:
    """A forked child has none of its parent's threads."""
    global _condition, _watching
    _condition, _watching = threading.Condition(), False
    _heap.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_thread)


def _watch(exchange: Exchange) -> None:
    """Break ``exchange`` off when its deadline has passed, unless it was moved or is over by then.

    A deadline that is moved to a later time costs nothing: it is looked up when the earlier one passes.
    """
    global _watching
    with _condition:
        if exchange.watched_until is not None and exchange.watched_until <= exchange.deadline:
            return
        _push(exchange)
        if not _watching:
            _watching = True
            threading.Thread(target=_keep_watch, name="loom-bedrock-deadlines", daemon=True).start()
        elif _heap[0][2] is exchange:
            _condition.notify()


def _push(exchange: Exchange) -> None:
    global _most
    if len(_heap) > _most:  # most of them are over, but were not due yet
        _heap[:] = [entry for entry in _heap if not entry[2].over]
        heapq.heapify(_heap)
        _most = max(LEAST_KEPT, 2 * len(_heap))
    exchange.watched_until = exchange.deadline
    heapq.heappush(_heap, (exchange.deadline, next(_numbers), exchange))


def _keep_watch() -> None:
    global _watching
    while True:
        with _condition:
            while _heap and _heap[0][2].over:
                heapq.heappop(_heap)
            now = time.monotonic()
            if not _heap:
                if not _condition.wait(IDLE_SECONDS) and not _heap:
                    _watching = False
                    return
                continue
            if _heap[0][0] > now:
                _condition.wait(min(_heap[0][0] - now, threading.TIMEOUT_MAX))
                continue
            _, _, exchange = heapq.heappop(_heap)
            exchange.watched_until = None
            is_late = exchange.deadline <= now
            if not is_late and exchange.deadline < math.inf:
                _push(exchange)
        if is_late:
            exchange.break_off("timeout")
        del exchange
