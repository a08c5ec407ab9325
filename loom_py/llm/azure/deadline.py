"""A deadline for blocking reads and writes, whatever drips in meanwhile.

The transport bounds each use of a socket by itself, so a server that sends a byte now and then could
hold a blocking call for ever before its headers are complete. Inside `deadline` everything that a client
prepared by `bound_reads` does on a connection gets only the time that is left. Async calls have
`asyncio.timeout`.
"""

from __future__ import annotations

import time
from contextvars import ContextVar, Token
from typing import Any

__all__ = ["LEAST", "bound_reads", "deadline"]

LEAST = 0.001
"""Seconds for a read after the deadline: enough to fail as a timeout of the transport."""

WRITTEN_AT_ONCE = 65_536
"""Bytes of a request that are handed to the transport in one piece."""

_end: ContextVar[float | None] = ContextVar("loom_py_read_deadline", default=None)


class deadline:  # noqa: N801 - reads as the statement it is used in
    """Bound all that is read and written inside to end at the ``end`` of `time.monotonic`."""

    __slots__ = ("_end", "_token")
    _token: Token[float | None]

    def __init__(self, end: float) -> None:
        self._end = end

    def __enter__(self) -> None:
        self._token = _end.set(self._end)

    def __exit__(self, *_: object) -> None:
        _end.reset(self._token)


def _left(timeout: float | None, end: float | None) -> float | None:
    """The shorter of ``timeout`` and the time until ``end``."""
    if end is None:
        return timeout
    left = max(end - time.monotonic(), LEAST)
    return left if timeout is None else min(timeout, left)


class _Stream:
    """A connection whose reads and writes know the deadline; until ``connected_by`` it may be set up."""

    def __init__(self, stream: Any, connected_by: float | None = None) -> None:
        self._stream = stream
        self._connected_by = connected_by

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data: bytes = self._stream.read(max_bytes, _left(timeout, _end.get()))
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), WRITTEN_AT_ONCE):  # the transport bounds each piece alone
            piece = buffer[start : start + WRITTEN_AT_ONCE] if len(buffer) > WRITTEN_AT_ONCE else buffer
            self._stream.write(piece, _left(timeout, _end.get()))

    def start_tls(
        self, ssl_context: Any, server_hostname: Any = None, timeout: float | None = None
    ) -> _Stream:
        timeout = _left(_left(timeout, self._connected_by), _end.get())
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, timeout), self._connected_by)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Backend:
    """What opens connections, with each of them made to know the deadline."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def connect_tcp(self, host: str, port: int, timeout: float | None = None, **kwargs: Any) -> _Stream:
        end = None if timeout is None else time.monotonic() + timeout
        stream = self._backend.connect_tcp(host, port, timeout=_left(timeout, _end.get()), **kwargs)
        return _Stream(stream, end)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)


def bound_reads(client: Any) -> None:
    """Prepare a new ``httpx2.Client`` of ours; one with another kind of transport stays as it is."""
    for transport in (getattr(client, "_transport", None), *getattr(client, "_mounts", {}).values()):
        pool = getattr(transport, "_pool", None)
        backend = getattr(pool, "_network_backend", None)
        if backend is not None:
            pool._network_backend = _Backend(backend)  # type: ignore[union-attr]
