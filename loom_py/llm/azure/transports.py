"""Which HTTP transport the async verbs use: aiohttp where it is there (extra ``fast``), else httpx2's own."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING
from urllib.request import getproxies

from loom_py._json import has_orjson
from loom_py.errors import MissingDependencyError

if TYPE_CHECKING:
    import httpx2

__all__ = ["check_fast", "new_async_client", "tls_context"]

CONNECTIONS = 1_000
"""Connections of one pool at most, as the SDK has it."""

KEEPALIVE = 5.0
"""Seconds for which an idle connection is kept, as the SDK has it."""


@cache
def tls_context() -> ssl.SSLContext:
    """One TLS context for the process: reading the certificates is most of a client's cost."""
    import httpx2

    return httpx2.create_ssl_context()


@cache
def has_aiohttp() -> bool:
    """Whether aiohttp is installed."""
    return find_spec("aiohttp") is not None


def check_fast() -> None:
    """Raise `MissingDependencyError` unless all of the extra ``fast`` is installed."""
    if not (has_aiohttp() and has_orjson()):
        raise MissingDependencyError(
            "fast=True needs aiohttp and orjson", hint="Run pip install 'loom-py[fast]', or leave fast= out."
        )


def new_async_client(make: Callable[..., httpx2.AsyncClient], *, fast: bool) -> httpx2.AsyncClient:
    """A client for the running event loop; ``make`` is the SDK's own way to make one.

    What goes through a proxy of the environment stays on httpx2's own transport, which knows them all.
    """
    if fast and has_aiohttp() and not _has_proxy():
        from loom_py.llm.azure.aiohttp_transport import AiohttpTransport

        transport = AiohttpTransport(tls_context(), connections=CONNECTIONS, keepalive=KEEPALIVE)
        return make(transport=transport)
    from loom_py.llm.azure.sockets import use_asyncio_sockets

    client = make(verify=tls_context())
    use_asyncio_sockets(client)
    return client


def _has_proxy() -> bool:
    return any(getproxies().get(scheme) for scheme in ("http", "https", "all"))
