"""What the server answers: whole, line by line, or with the error that its model raised."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.types import Send

from loom_py.emulator.exchange import ABORT
from loom_py.errors import (
    AuthenticationError,
    ConnectionFailedError,
    ContextLengthError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RequestTimeoutError,
    StreamInterruptedError,
)

__all__ = ["JSON", "NDJSON", "OllamaAnswer", "Reply", "answer_of"]

NDJSON = "application/x-ndjson"
JSON = "application/json; charset=utf-8"


class OllamaAnswer(Exception):  # noqa: N818 - an answer, which a model may raise to give it
    """An answer of the server in place of the model's; an engine may raise it."""

    def __init__(
        self, status: int, body: Any, *, headers: Mapping[str, str] | None = None, kind: str = JSON
    ) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.headers = dict(headers or {})
        self.kind = kind


class Reply:
    """The answer on its way out."""

    def __init__(self, request: Request, send: Send) -> None:
        self._request = request
        self._send = send
        self.started = False
        self.lines = 0
        self.cut_after: int | None = None

    def abort(self) -> None:
        """Drop the connection."""
        self._request.scope.get(ABORT, lambda: None)()

    async def whole(
        self, status: int, content: bytes, kind: str, headers: Mapping[str, str] | None = None
    ) -> None:
        await self._start(status, kind, {**(headers or {}), "content-length": str(len(content))})
        await self._send({"type": "http.response.body", "body": content, "more_body": False})

    async def json(self, data: Any) -> None:
        await self.whole(200, json.dumps(data, ensure_ascii=False).encode(), JSON)

    async def line(self, data: Any) -> None:
        if self.cut_after is not None and self.lines >= self.cut_after:
            raise StreamInterruptedError("this stream was to be cut")
        self.lines += 1
        await self.write(json.dumps(data, ensure_ascii=False).encode() + b"\n")

    async def write(self, content: bytes) -> None:
        if not self.started:
            await self._start(200, NDJSON, {})
        await self._send({"type": "http.response.body", "body": content, "more_body": True})

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _start(self, status: int, kind: str, headers: Mapping[str, str]) -> None:
        self.started = True
        raw = {"content-type": kind, **{name.lower(): value for name, value in headers.items()}}
        pairs = [(name.encode(), value.encode("latin-1")) for name, value in raw.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": pairs})


_STATUSES = (
    (AuthenticationError, 401),
    (PermissionDeniedError, 403),
    (NotFoundError, 404),
    (RequestTimeoutError, 504),
    (RateLimitError, 429),
    (InvalidRequestError, 400),
)


def answer_of(error: Exception, model: str, reply: Reply) -> Exception:
    """What the server does when its model raises ``error``."""
    if isinstance(error, OllamaAnswer):
        return error
    if isinstance(error, (StreamInterruptedError, ConnectionFailedError)):
        reply.abort()
        return asyncio.CancelledError()  # type: ignore[return-value]
    said = str(getattr(error, "message", error))
    if isinstance(error, ContextLengthError):
        return OllamaAnswer(400, {"error": "the input length exceeds the context length"})
    if isinstance(error, NotFoundError):
        return OllamaAnswer(404, {"error": f"model '{model}' not found"})
    status = next((number for kind, number in _STATUSES if isinstance(error, kind)), 500)
    wait = getattr(error, "retry_after", None)
    headers = {} if wait is None else {"retry-after": f"{wait:g}"}
    return OllamaAnswer(status, {"error": said}, headers=headers)
