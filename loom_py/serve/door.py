"""What every request passes: its id, whom it says it calls, and an answer whatever happens."""

from __future__ import annotations

import re
import uuid
from urllib.parse import unquote

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from loom_py._log import get_logger
from loom_py.serve.chat import where_of
from loom_py.serve.exchange import REQUEST_ID
from loom_py.serve.failures import HTTPError, failure_of

__all__ = ["Door"]

_ONCE = frozenset({b"authorization", b"content-type", b"content-encoding", b"x-session-id"})
"""Headers that say who calls and what is read. Of two, each side of a proxy might believe another one."""

_ABSOLUTE = re.compile(rb"https?://([^/@]+)(/.*)?", re.IGNORECASE | re.DOTALL)

_log = get_logger()


class Door:
    """Middleware around everything. ``hosts`` are the names a Host header may have, ``None`` for any.

    ``max_header`` bounds a request's head, in bytes: a parser may bound only one that is not whole yet.
    """

    def __init__(self, app: ASGIApp, *, hosts: frozenset[str] | None, max_header: int) -> None:
        self._app = app
        self._max_header = max_header
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry point."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope[REQUEST_ID] = request_id = f"req_{uuid.uuid4().hex}"
        started = False

        async def marked(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                headers["x-content-type-options"] = "nosniff"
            await send(message)

        try:
            self._check(scope)
            await self._app(scope, receive, marked)
        except Exception as error:  # noqa: BLE001 - nobody behind this one answers
            if not isinstance(error, HTTPError):
                _log.warning(
                    "request_broke",
                    request_id=request_id,
                    error=type(error).__name__,
                    where=where_of(error),
                )
            if not started:
                await self._answer(marked, error)

    def _check(self, scope: Scope) -> None:
        """Raises `HTTPError` for a head, a path or a host that cannot be meant."""
        names = [name for name, _ in scope["headers"]]
        if b"content-length" in names and b"transfer-encoding" in names:
            message = "a body has a content-length or a transfer-encoding, not both"
            raise HTTPError(400, message, code="invalid_http")
        if twice := next((name for name in _ONCE if names.count(name) > 1), None):
            raise HTTPError(400, f"the header {twice.decode()} was sent twice", code="invalid_http")
        head = sum(len(name) + len(value) + 4 for name, value in scope["headers"])
        if head + len(scope.get("raw_path") or scope["path"]) + len(scope["query_string"]) > self._max_header:
            message = f"the request's head may have at most {self._max_header:,} bytes"
            raise HTTPError(431, message, code="headers_too_large")
        _to_origin_form(scope)
        if not scope["path"].isprintable():
            raise HTTPError(400, "the path holds characters that no path has", code="invalid_path")
        if self._hosts is not None and _name(Headers(scope=scope).get("host", "")) not in self._hosts:
            raise HTTPError(
                403,
                "this server answers to its own name alone",
                code="host_not_allowed",
                hint="Call it as http://127.0.0.1, or name the host in allowed_hosts.",
            )

    async def _answer(self, send: Send, error: Exception) -> None:
        failure = failure_of(error, from_agent=False)
        headers = [(name.encode(), value.encode()) for name, value in failure.headers.items()]
        headers.append((b"content-length", str(len(failure.body)).encode()))
        headers.append((b"connection", b"close"))  # what was refused here may not have been read
        await send({"type": "http.response.start", "status": failure.status, "headers": headers})
        await send({"type": "http.response.body", "body": failure.body})


def _to_origin_form(scope: Scope) -> None:
    """Take a target such as ``http://localhost/health``, which every server must (RFC 9112, section 3.2.2).

    What it names is whom the request calls, whatever the Host header says.
    """
    found = _ABSOLUTE.fullmatch(scope.get("raw_path") or b"")
    if found is None:
        return
    host, path = found[1], found[2] or b"/"
    scope["raw_path"], scope["path"] = path, unquote(path.decode("latin-1"))
    scope["headers"] = [pair for pair in scope["headers"] if pair[0] != b"host"] + [(b"host", host)]


def _name(host: str) -> str:
    """A Host header without the port."""
    if host.startswith("["):
        return host.partition("]")[0].lower() + "]"
    return host.partition(":")[0].lower()
