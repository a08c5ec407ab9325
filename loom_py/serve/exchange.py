"""One request and its answer over ASGI: the body with its limits, and one writer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from loom_py.serve.failures import HTTPError

__all__ = ["REQUEST_ID", "ClientGoneError", "Exchange"]

REQUEST_ID = "loom_py.request_id"


class ClientGoneError(Exception):
    """The client has hung up."""


class Exchange:
    """One request: its headers, its body, and the answer. Used by the tasks of one request.

    ``max_body`` is in bytes, ``body_timeout`` in seconds.
    """

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        max_body: int,
        body_timeout: float,
    ) -> None:
        self.headers = Headers(scope=scope)
        self.request_id: str = scope.get(REQUEST_ID, "")
        self.started = False
        self._receive = receive
        self._send = send
        self._max_body = max_body
        self._body_timeout = body_timeout
        self._writing = asyncio.Lock()

    # ── the request ──────────────────────────────────────────────────────────────────────

    async def json_body(self) -> bytes:
        """The whole body, which must be JSON. Raises `HTTPError`, and `ClientGoneError`.

        A page on the internet can send a form to any address, but JSON only where it is allowed to: so a
        body that does not say that it is JSON is not read.
        """
        kind, _, _ = self.headers.get("content-type", "").partition(";")
        if kind.strip().lower() != "application/json":
            raise HTTPError(
                415, "send the body as content-type application/json", code="unsupported_media_type"
            )
        if self.headers.get("content-encoding", "identity").lower() != "identity":
            raise HTTPError(415, "send the body without content-encoding", code="unsupported_media_type")
        length = self.headers.get("content-length", "")
        if length.isascii() and length.isdigit() and (len(length) > 18 or int(length) > self._max_body):
            raise self._too_large()
        try:
            async with asyncio.timeout(self._body_timeout):
                return await self._read()
        except TimeoutError:
            message = f"the body did not arrive within {self._body_timeout:g} s"
            raise HTTPError(408, message, code="request_timeout") from None

    async def _read(self) -> bytes:
        body = bytearray()
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            body += message.get("body", b"")
            if len(body) > self._max_body:
                raise self._too_large()
            if not message.get("more_body", False):
                return bytes(body)

    def _too_large(self) -> HTTPError:
        return HTTPError(413, f"the body may have at most {self._max_body:,} bytes", code="request_too_large")

    async def gone(self) -> None:
        """Return once the client has hung up. Only after the body was read."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    # ── the answer ───────────────────────────────────────────────────────────────────────

    async def answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        """The whole answer."""
        await self._begin(status, {"content-length": str(len(body)), **headers})
        await self._write({"type": "http.response.body", "body": body})

    async def begin_stream(self) -> None:
        """The head of a stream of events."""
        await self._begin(
            200,
            {
                "content-type": "text/event-stream; charset=utf-8",
                "cache-control": "no-cache, no-transform",
                "x-accel-buffering": "no",
            },
        )

    async def stream(self, data: bytes, *, more: bool = True) -> None:
        """A piece of the stream."""
        await self._write({"type": "http.response.body", "body": data, "more_body": more})

    async def _begin(self, status: int, headers: Mapping[str, str]) -> None:
        self.started = True
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await self._write({"type": "http.response.start", "status": status, "headers": raw})

    async def _write(self, message: Message) -> None:
        """Send, one at a time. Raises `ClientGoneError` where the server says that nobody is there."""
        try:
            async with self._writing:
                await self._send(message)
        except OSError:  # of servers that keep to ASGI 2.4; others say nothing
            raise ClientGoneError from None
