"""Which HTTP transport the async verbs use: aiohttp where it is there (extra ``fast``), else httpx2's own."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

from loom_py._json import has_orjson
from loom_py.errors import MissingDependencyError

if TYPE_CHECKING:
    import httpx2

__all__ = ["check_fast", "has_aiohttp", "new_async_client", "new_client", "tls_context"]

CONNECTIONS = 1_000
"""Connections to one server at most, of the process or of an event loop; the SDK's number for a client."""

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


def new_client(make: Callable[..., httpx2.Client]) -> httpx2.Client:
    """A client on the connections that the process shares; ``make`` is the SDK's own way to make one."""
    from loom_py.llm.azure.sharing import SharedTransport

    return make(transport=SharedTransport())


def new_async_client(make: Callable[..., httpx2.AsyncClient], *, fast: bool) -> httpx2.AsyncClient:
    """`new_client`, on the connections that the clients of the running event loop share."""
    from loom_py.llm.azure.sharing import AsyncSharedTransport

    return make(transport=AsyncSharedTransport(fast=fast))
