"""One pool of connections to each server: for all clients of the process, and for those of an event loop.

A client of ours has a transport of its own that holds nothing but a share in those pools. Cookies, hooks
and credentials stay with the client; a connection carries none of them. A pool is closed with the last client
that uses it, and at the latest with its event loop. A forked child opens connections of its own.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Hashable
from contextlib import suppress
from typing import Any, Generic, TypeAlias, TypeVar
from urllib.request import getproxies
from weakref import WeakSet, WeakValueDictionary

import httpx2

from loom_py.llm.azure.deadline import bound_reads
from loom_py.llm.azure.pools import AsyncPool, Pool
from loom_py.llm.azure.sockets import use_asyncio_sockets
from loom_py.llm.azure.transports import CONNECTIONS, KEEPALIVE, has_aiohttp, tls_context

__all__ = ["AsyncSharedTransport", "SharedTransport"]

T = TypeVar("T")

_Origin: TypeAlias = tuple[bytes, bytes, int | None]


class _Shared(Generic[T]):
    """A pool of connections to one server, and who uses it."""

    __slots__ = ("__weakref__", "closing", "holders", "transport", "whole")

    def __init__(self, transport: T, whole: Any) -> None:
        self.transport = transport
        self.whole = whole
        self.holders: WeakSet[Any] = WeakSet()
        self.closing: AsyncGenerator[None, None] | None = None


_lock = threading.RLock()
_pools: WeakValueDictionary[Hashable, _Shared[Any]] = WeakValueDictionary()
_forks = 0
_inherited: list[object] = []


def _begin_anew() -> None:
    """A forked child has its parent's connections too: it may neither use them nor say goodbye."""
    global _lock, _pools, _forks
    _inherited.extend(_pools.values())
    _lock, _pools, _forks = threading.RLock(), WeakValueDictionary(), _forks + 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


class _Shares(Generic[T]):
    """The pools that one client uses, by the server they lead to; ``make`` makes one for a URL."""

    def __init__(self, make: Callable[[httpx2.URL], _Shared[T]], *settings: Hashable) -> None:
        self._make = make
        self._settings = settings
        self._pools: dict[_Origin, _Shared[T]] = {}
        self._forks = _forks

    def transport(self, url: httpx2.URL) -> T:
        """What sends a request to ``url``."""
        if self._forks != _forks:
            self._pools, self._forks = {}, _forks
        origin = (url.raw_scheme, url.raw_host, url.port)
        shared = self._pools.get(origin)
        return (shared or self._join(origin, url)).transport

    def _join(self, origin: _Origin, url: httpx2.URL) -> _Shared[T]:
        with _lock:
            key = (*self._settings, *origin)
            shared: _Shared[T] | None = _pools.get(key)
            if shared is None:
                shared = _pools[key] = self._make(url)
            shared.holders.add(self)
            self._pools[origin] = shared
            return shared

    def leave(self) -> list[_Shared[T]]:
        """Use the pools no more; those that nobody uses now."""
        with _lock:
            mine, self._pools = self._pools, {}
            if self._forks != _forks:
                return []
            last = []
            for origin, shared in mine.items():
                shared.holders.discard(self)
                if not shared.holders:
                    _pools.pop((*self._settings, *origin), None)
                    last.append(shared)
            return last


class SharedTransport(httpx2.BaseTransport):
    """A client's share in the pools of the process."""

    def __init__(self) -> None:
        self._shares = _Shares(_blocking, *getproxies().items())

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """The answer to ``request``, its body unread. Raises errors of httpx2."""
        return self._shares.transport(request.url).handle_request(request)

    def close(self) -> None:
        """Close the connections, unless others use them too."""
        for shared in self._shares.leave():
            shared.whole.close()


class AsyncSharedTransport(httpx2.AsyncBaseTransport):
    """A client's share in the pools of the running event loop, by aiohttp where it can be used."""

    def __init__(self, *, fast: bool) -> None:
        proxies = getproxies()
        # What goes through a proxy stays on httpx2's own transport, which knows all kinds of them.
        is_direct = not any(proxies.get(scheme) for scheme in ("http", "https", "all"))
        make = _by_aiohttp if fast and is_direct and has_aiohttp() else _by_asyncio
        self._shares = _Shares(make, make, asyncio.get_running_loop(), *proxies.items())

    def handle_async_request(self, request: httpx2.Request) -> Coroutine[Any, Any, httpx2.Response]:
        """The answer to ``request``, its body unread. Raises errors of httpx2."""
        return self._shares.transport(request.url).handle_async_request(request)

    async def aclose(self) -> None:
        """Close the connections, unless others use them too."""
        for shared in self._shares.leave():
            await shared.whole.aclose()
            if shared.closing is not None:
                await shared.closing.aclose()


def _blocking(url: httpx2.URL) -> _Shared[httpx2.BaseTransport]:
    whole = httpx2.Client(verify=tls_context())
    bound_reads(whole)
    transport: Any = whole._transport_for_url(url)
    if hasattr(transport, "_pool"):
        connect = transport._pool.create_connection
        transport._pool = Pool(connect, most=CONNECTIONS, keepalive=KEEPALIVE)
    return _Shared(transport, whole)


def _by_asyncio(url: httpx2.URL) -> _Shared[httpx2.AsyncBaseTransport]:
    whole = httpx2.AsyncClient(verify=tls_context())
    use_asyncio_sockets(whole)
    transport: Any = whole._transport_for_url(url)
    if hasattr(transport, "_pool"):
        connect = transport._pool.create_connection
        transport._pool = AsyncPool(connect, most=CONNECTIONS, keepalive=KEEPALIVE)
    return _closing(_Shared(transport, whole))


def _by_aiohttp(_: httpx2.URL) -> _Shared[httpx2.AsyncBaseTransport]:
    from loom_py.llm.azure.aiohttp_transport import AiohttpTransport

    transport = AiohttpTransport(tls_context(), connections=CONNECTIONS, keepalive=KEEPALIVE)
    return _closing(_Shared(transport, transport))


def _closing(shared: _Shared[T]) -> _Shared[T]:
    """``shared``, to be closed with the running event loop."""
    shared.closing = _closed_with_loop(shared.whole)
    with suppress(StopIteration):
        shared.closing.__anext__().send(None)
    return shared


async def _closed_with_loop(whole: Any) -> AsyncGenerator[None, None]:
    """Begun and never read on: an event loop closes what was begun on it, and with this the connections.

    What nobody refers to any more is closed by the loop in the same way.
    """
    try:
        yield
    finally:
        await whole.aclose()
