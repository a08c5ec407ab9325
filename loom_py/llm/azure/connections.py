"""The SDK's clients of one deployment or model: built when first needed, kept, and closed.

The official SDK does authentication, routing, connection pools and timeouts. A request is our
own bytes through its ``post`` and the answer comes back as raw bytes with its headers, so that
nothing the service says is lost and no SDK model is built on the way.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from loom_py._concurrency import close_bridged, current_loop, is_bridge
from loom_py.llm.azure.deadline import LEAST, deadline
from loom_py.llm.azure.debug import WireDebug
from loom_py.llm.azure.surfaces import Route
from loom_py.llm.azure.transports import new_async_client, new_client

if TYPE_CHECKING:
    import httpx2
    from openai import AsyncOpenAI, OpenAI

__all__ = [
    "CONNECT_TIMEOUT",
    "SDK",
    "Answer",
    "AsyncPieces",
    "Connections",
    "HttpRequest",
    "Patience",
    "Pieces",
]

CONNECT_TIMEOUT = 5.0
"""Seconds to wait for a connection, as the SDK's own default."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request to the service, and how long it may take, in seconds.

    ``timeout`` is for a whole answer, and for each event of a stream; ``connect_timeout`` for the
    connection. ``end`` is when all must be over, by `time.monotonic`, and ``total_timeout`` how long that
    was when the call began.
    """

    route: Route
    content: bytes
    headers: dict[str, str]
    timeout: float
    connect_timeout: float = CONNECT_TIMEOUT
    total_timeout: float | None = None
    end: float | None = None

    @property
    def patience(self) -> float:
        """Seconds to wait for an answer from now on."""
        return (
            self.timeout if self.end is None else max(min(self.timeout, self.end - time.monotonic()), LEAST)
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: its status, its headers and its decoded body."""

    status_code: int
    headers: Mapping[str, str]
    content: bytes


class Patience:
    """How long an answer may take: ``seconds`` for all of it, or anew with each sign of progress.

    The transport bounds each wait on the network; this bounds a server that sends a byte now and
    then and never an answer. Nothing may go on after ``end``, progress or not.
    """

    __slots__ = ("_end", "_progress", "_seconds", "_since")

    def __init__(self, seconds: float, end: float | None = None) -> None:
        self._seconds = seconds
        self._end = end
        self._progress = 0
        self._since = time.monotonic()

    @property
    def over(self) -> float:
        """When it is over unless there is progress, by `time.monotonic`."""
        over = self._since + self._seconds
        return over if self._end is None else min(over, self._end)

    def check(self, progress: int = 0) -> None:
        """Raise `TimeoutError` ``seconds`` after ``progress`` last grew, or after the end."""
        now = time.monotonic()
        if self._end is not None and now > self._end:
            raise TimeoutError("the answer was not over in time")
        if progress != self._progress:
            self._progress, self._since = progress, now
        elif now - self._since > self._seconds:
            raise TimeoutError(f"no progress for {self._seconds:g} s")


class Pieces:
    """The body of an answer as it comes, each piece awaited as long as ``patience`` has."""

    def __init__(self, answer: httpx2.Response, patience: Patience) -> None:
        self._body = answer.iter_bytes()
        self._patience = patience

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        with deadline(self._patience.over):
            return next(self._body)


class AsyncPieces:
    """`Pieces`, async."""

    def __init__(self, answer: httpx2.Response, patience: Patience) -> None:
        self._body = answer.aiter_bytes()
        self._patience = patience

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        step = self._body.__anext__()
        try:  # what has come already needs no timer
            awaited = step.send(None)
        except StopIteration as stop:
            return cast("bytes", stop.value)
        async with asyncio.timeout(max(self._patience.over - time.monotonic(), LEAST)):
            return await _Begun(step, awaited)


class _Begun:
    """A step that was begun and waits for ``awaited``; to be awaited in the same task."""

    __slots__ = ("_awaited", "_step")

    def __init__(self, step: Any, awaited: Any) -> None:
        self._step = step
        self._awaited = awaited

    def __await__(self) -> Generator[Any, Any, bytes]:
        step, awaited = self._step, self._awaited
        try:
            while True:
                try:
                    said = yield awaited
                except BaseException as exc:  # noqa: BLE001 - a cancellation above all
                    awaited = step.throw(exc)
                else:
                    awaited = step.send(said)
        except StopIteration as stop:
            return cast("bytes", stop.value)


class SDK(Protocol):
    """Makes the SDK's clients of one service, with its credentials. ``is_v1`` is that of the `Route`."""

    def client(self, http: httpx2.Client, *, is_v1: bool) -> OpenAI:
        """A client that sends through ``http``, and never again by itself."""
        ...

    def async_client(self, http: httpx2.AsyncClient, *, is_v1: bool) -> AsyncOpenAI:
        """`client`, async."""
        ...


class Connections:
    """Posts requests through the SDK; clients given by the user are used and never closed."""

    def __init__(
        self,
        sdk: SDK,
        http_client: httpx2.Client | None,
        async_http_client: httpx2.AsyncClient | None,
        debug: WireDebug,
        *,
        fast: bool = True,
    ) -> None:
        self._sdk = sdk
        self._fast = fast
        self._http_client = http_client
        self._async_http_client = async_http_client
        self._debug = debug
        self._lock = threading.Lock()
        self._sync_http: httpx2.Client | None = None
        self._sync_clients: dict[bool, OpenAI] = {}
        self._async_pools: dict[asyncio.AbstractEventLoop | None, _AsyncPool] = {}

    # ── requests ─────────────────────────────────────────────────────────────────────────

    def open(self, request: HttpRequest) -> httpx2.Response:
        """The answer to a request, its body unread. Raises what the SDK raises."""
        patience = request.patience
        with deadline(time.monotonic() + patience):
            return self._open(request, patience)

    def post(self, request: HttpRequest) -> Answer:
        """The whole answer to a request. Raises `TimeoutError` where it drips in too slowly."""
        seconds = request.patience
        patience = Patience(seconds)
        with deadline(patience.over):
            answer = self._open(request, seconds)
            try:
                pieces = []
                for piece in answer.iter_bytes():
                    pieces.append(piece)
                    patience.check()
                return Answer(answer.status_code, answer.headers, b"".join(pieces))
            finally:
                answer.close()

    async def apost(self, request: HttpRequest) -> Answer:
        """`post`, async."""
        seconds = request.patience
        with _late_alone():
            async with asyncio.timeout(seconds):
                answer = await self._aopen(request, seconds)
                try:
                    return Answer(answer.status_code, answer.headers, await answer.aread())
                finally:
                    await answer.aclose()

    async def aopen(self, request: HttpRequest) -> httpx2.Response:
        """`open`, async."""
        seconds = request.patience
        with _late_alone():
            async with asyncio.timeout(seconds):
                return await self._aopen(request, seconds)

    def _open(self, request: HttpRequest, seconds: float) -> httpx2.Response:
        import httpx2
        from openai import Stream

        answer: Any = self._sync(request.route.is_v1).post(
            request.route.path,
            content=request.content,
            cast_to=httpx2.Response,
            options=_options(request, seconds),
            stream=True,
            stream_cls=Stream[Any],
        )
        return cast("httpx2.Response", answer)

    async def _aopen(self, request: HttpRequest, seconds: float) -> httpx2.Response:
        import httpx2
        from openai import AsyncStream

        answer: Any = await self._async(request.route.is_v1).post(
            request.route.path,
            content=request.content,
            cast_to=httpx2.Response,
            options=_options(request, seconds),
            stream=True,
            stream_cls=AsyncStream[Any],
        )
        return cast("httpx2.Response", answer)

    # ── the SDK's clients ────────────────────────────────────────────────────────────────

    def _sync(self, is_v1: bool) -> OpenAI:
        """The client of one API; both share one pool of connections."""
        ready = self._sync_clients.get(is_v1)
        if ready is not None:
            return ready
        with self._lock:
            if is_v1 not in self._sync_clients:
                from openai import DefaultHttpxClient

                from loom_py.llm.azure.prepared import keep_requests

                if self._sync_http is None:
                    self._sync_http = self._http_client or new_client(DefaultHttpxClient)
                    self._debug.listen(self._sync_http)
                client = self._sdk.client(self._sync_http, is_v1=is_v1)
                if self._http_client is None:
                    keep_requests(client)
                self._sync_clients[is_v1] = client
            return self._sync_clients[is_v1]

    def _async(self, is_v1: bool) -> AsyncOpenAI:
        """The async client of the running event loop; connections cannot cross loops."""
        loop = None if self._async_http_client is not None else current_loop()
        pool = self._async_pools.get(loop)
        if pool is not None and (ready := pool.clients.get(is_v1)) is not None:
            return ready
        with self._lock:
            pool = self._async_pools.get(loop)
            if pool is None:
                from openai import DefaultAsyncHttpxClient

                self._forget_closed_loops()
                pool = _AsyncPool(
                    self._async_http_client or new_async_client(DefaultAsyncHttpxClient, fast=self._fast)
                )
                self._debug.alisten(pool.http)
                self._async_pools[loop] = pool
            if is_v1 not in pool.clients:
                from loom_py.llm.azure.prepared import keep_requests

                client = self._sdk.async_client(pool.http, is_v1=is_v1)
                if self._async_http_client is None:
                    keep_requests(client)
                pool.clients[is_v1] = client
            return pool.clients[is_v1]

    def _forget_closed_loops(self) -> None:
        """Connections of a loop that was closed cannot be closed any more, only let go."""
        for loop in [loop for loop in self._async_pools if loop is not None and loop.is_closed()]:
            del self._async_pools[loop]

    # ── closing ──────────────────────────────────────────────────────────────────────────

    def close(self) -> None:
        """Close the sync connections, and those that blocking calls had on the background event loop."""
        with self._lock:
            http, self._sync_http = self._sync_http, None
            self._sync_clients.clear()
            self._forget_closed_loops()
            bridged = next((loop for loop in self._async_pools if is_bridge(loop)), None)
            pool = None if bridged is None else self._async_pools.pop(bridged)
        if pool is not None:
            close_bridged(pool.http.aclose())
        if http is None:
            return
        if self._http_client is None:
            http.close()
        else:
            self._debug.unlisten(http)

    async def aclose(self) -> None:
        """Close the connections of this event loop and the sync ones."""
        self.close()
        loop = None if self._async_http_client is not None else current_loop()
        with self._lock:
            pool = self._async_pools.pop(loop, None)
        if pool is None:
            return
        if self._async_http_client is None:
            await pool.http.aclose()
        else:
            self._debug.unlisten(pool.http)


class _late_alone:  # noqa: N801 - reads as the statement it is used in
    """A timeout inside says no more than that: not what was being read when it struck."""

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, exc: BaseException | None, traceback: object) -> None:
        if isinstance(exc, TimeoutError):
            exc.__context__ = exc.__cause__ = None


class _AsyncPool:
    """The connections of one event loop, and the SDK's clients that share them."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self.http = http
        self.clients: dict[bool, AsyncOpenAI] = {}


def _options(request: HttpRequest, seconds: float) -> Any:
    """What the SDK is told of a request. It copies each default that is left out, which takes longer."""
    return {
        "headers": request.headers,
        "timeout": _timeout(seconds, request.connect_timeout),
        "max_retries": 0,
        "params": _NO_PARAMS,
        "security": _SECURITY,
    }


_NO_PARAMS: dict[str, object] = {}
_SECURITY = {"bearer_auth": True, "admin_api_key_auth": True}
"""The kinds of credentials that a request may carry: the SDK's own default."""


def _timeout(seconds: float, connect: float = CONNECT_TIMEOUT) -> httpx2.Timeout:
    import httpx2

    return httpx2.Timeout(seconds, connect=min(seconds, connect))
