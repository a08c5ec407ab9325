"""A deadline for blocking reads, whatever drips in meanwhile.

The transport bounds each read of a socket, so a server that sends a byte now and then could hold a
blocking call for ever before its headers are complete. Inside `deadline` every read of a client
prepared by `bound_reads` gets only the time that is left. Async calls have `asyncio.timeout`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

__all__ = ["bound_reads", "deadline"]

LEAST = 0.001
"""Seconds for a read after the deadline: enough to fail as a timeout of the transport."""

_end: ContextVar[float | None] = ContextVar("loom_py_read_deadline", default=None)


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Bound all reads inside to ``seconds`` in all."""
    token = _end.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _end.reset(token)


class _Stream:
    """A connection whose reads know the deadline."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        end = _end.get()
        if end is not None:
            left = max(end - time.monotonic(), LEAST)
            timeout = left if timeout is None else min(timeout, left)
        data: bytes = self._stream.read(max_bytes, timeout)
        return data

    def start_tls(self, *args: Any, **kwargs: Any) -> _Stream:
        return _Stream(self._stream.start_tls(*args, **kwargs))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Backend:
    """What opens connections, with each of them made to know the deadline."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def connect_tcp(self, *args: Any, **kwargs: Any) -> _Stream:
        return _Stream(self._backend.connect_tcp(*args, **kwargs))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)


def bound_reads(client: Any) -> None:
    """Prepare a new ``httpx2.Client`` of ours; one with another kind of transport stays as it is."""
    transports = [getattr(client, "_transport", None), *getattr(client, "_mounts", {}).values()]
    for transport in transports:
        pool = getattr(transport, "_pool", None)
        backend = getattr(pool, "_network_backend", None)
        if backend is not None:
            pool._network_backend = _Backend(backend)  # type: ignore[union-attr]
