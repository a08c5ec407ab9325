"""Async requests by aiohttp, whose parser is written in C: extra ``fast``.

A transport of httpx2 like any other: the SDK on top of it does not know. Failures come out as the kinds
that httpx2's own transport raises, so that a call fails in the same way on both.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import weakref
from collections.abc import AsyncIterator, Iterator

import aiohttp
import httpx2
from yarl import URL

__all__ = ["AiohttpTransport"]

MOST_HEAD = 65_536
"""Bytes of one line of an answer's head; aiohttp's own limit is shorter than what gateways send."""

MOST_HEADERS = 1_000
"""Header lines of an answer."""

EXACT = 1e9
"""Seconds from which on aiohttp may round a timeout up."""

SWITCHING = 101
"""The status of an answer that belongs to another protocol; httpx2's own transport takes it for a fault."""

PIECE = 262_144
"""Bytes of a large body that are handed over at once."""

_KINDS: tuple[tuple[type[BaseException], type[httpx2.TransportError]], ...] = (
    (aiohttp.ConnectionTimeoutError, httpx2.ConnectTimeout),
    (aiohttp.ServerTimeoutError, httpx2.ReadTimeout),
    (aiohttp.ClientConnectorError, httpx2.ConnectError),
    (aiohttp.ServerDisconnectedError, httpx2.RemoteProtocolError),
    (aiohttp.ClientResponseError, httpx2.RemoteProtocolError),
    (aiohttp.ClientPayloadError, httpx2.RemoteProtocolError),
    (aiohttp.InvalidURL, httpx2.UnsupportedProtocol),
    (aiohttp.ClientConnectionError, httpx2.ReadError),
    (TimeoutError, httpx2.ReadTimeout),
    (OSError, httpx2.ReadError),
    (ValueError, httpx2.LocalProtocolError),
)
"""What aiohttp raises -> what it is for httpx2; the first that fits."""


class AiohttpTransport(httpx2.AsyncBaseTransport):
    """Sends requests of one event loop. Connections are kept for ``keepalive`` seconds of rest."""

    def __init__(self, tls: ssl.SSLContext, *, connections: int, keepalive: float) -> None:
        self._tls = tls
        self._connections = connections
        self._keepalive = keepalive
        self._connector: aiohttp.TCPConnector | None = None
        self._session: aiohttp.ClientSession | None = None
        self._forgotten: weakref.finalize[[], AiohttpTransport]

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._connector = _Connector(
                limit=self._connections, keepalive_timeout=self._keepalive, ssl=self._tls
            )
            self._session = aiohttp.ClientSession(
                connector=self._connector,
                cookie_jar=aiohttp.DummyCookieJar(),  # the client above keeps the cookies
                auto_decompress=False,  # and decodes
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
                max_line_size=MOST_HEAD,
                max_field_size=MOST_HEAD,
                max_headers=MOST_HEADERS,
            )
            # One that was never closed would complain when it goes, as no other transport does.
            self._forgotten = weakref.finalize(self, self._session.detach)
        return self._session

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """The answer to ``request``, its body unread. Raises errors of httpx2."""
        seconds = request.extensions.get("timeout", {})
        with _errors_of_httpx2():
            answer = await self._opened().request(
                request.method,
                URL(str(request.url), encoded=True),
                data=_data(await request.aread()),
                headers=_text(request.headers),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(
                    total=None,
                    connect=seconds.get("pool"),
                    sock_connect=seconds.get("connect"),
                    sock_read=seconds.get("read"),
                    ceil_threshold=EXACT,
                ),
            )
        if answer.status == SWITCHING:
            answer.close()
            raise httpx2.RemoteProtocolError("the server switched to another protocol, unasked")
        return httpx2.Response(
            answer.status,
            headers=list(answer.raw_headers),
            stream=_Body(answer),
            extensions={
                "http_version": b"HTTP/1.1",
                "reason_phrase": (answer.reason or "").encode("ascii", "replace"),
            },
        )

    async def aclose(self) -> None:
        """Close every connection."""
        session, self._session = self._session, None
        connector, self._connector = self._connector, None
        if session is not None and connector is not None:
            self._forgotten.detach()
            session.detach()  # it may have been forgotten already, and would then close nothing
            await connector.close()
            await asyncio.sleep(0)  # in which asyncio closes the sockets


class _Connector(aiohttp.TCPConnector):
    """A pool that was never closed goes without a word, as httpx2's own does."""

    def __del__(self, _warnings: object = None) -> None:
        pass


class _Body(httpx2.AsyncByteStream):
    """The body of an answer as it comes, still encoded."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        content = self._answer.content
        with _errors_of_httpx2():
            while data := await content.readany():
                yield data

    async def aclose(self) -> None:
        self._answer.close()


def _text(headers: httpx2.Headers) -> list[tuple[str, str]]:
    """The headers as they are, which httpx would decode with a good deal of looking first."""
    try:
        return [(name.decode("ascii"), value.decode("ascii")) for name, value in headers.raw]
    except UnicodeDecodeError:
        return headers.multi_items()


def _data(body: bytes) -> bytes | AsyncIterator[bytes] | None:
    """A body as aiohttp takes it: a large one in pieces, between which other work gets its turn."""
    if len(body) <= PIECE:
        return body or None
    return _pieces(body)


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), PIECE):
        yield body[start : start + PIECE]


@contextlib.contextmanager
def _errors_of_httpx2() -> Iterator[None]:
    try:
        yield
    except Exception as exc:
        kind = next((kind for raised, kind in _KINDS if isinstance(exc, raised)), None)
        if kind is None:
            raise
        raise kind(str(exc) or type(exc).__name__) from exc
