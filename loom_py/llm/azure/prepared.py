"""Requests of the SDK that differ in their content alone, built once.

The SDK works out a request's URL, query and headers anew for each call, though they are the same as those of
the call before. `KeptRequests` lets it do so once for each credential and each set of headers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import httpx2

__all__ = ["KeptRequests", "keep_requests"]

KEPT = 16
"""How many requests are kept: tokens are renewed, and their old ones must not pile up."""

READ_TIMEOUT = "x-stainless-read-timeout"
"""The header in which the SDK says how long it waits, in seconds."""


class _Kept(NamedTuple):
    url: httpx2.URL
    headers: httpx2.Headers
    extensions: dict[str, Any]


class KeptRequests:
    """Builds requests in the place of a client's own method, which it asks whenever there is news."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._build = client._build_request
        self._kept: dict[tuple[Any, ...], _Kept] = {}

    def __call__(self, options: Any, *, retries_taken: int = 0) -> httpx2.Request:
        """The request for ``options``, whose content is bytes."""
        content, timeout, client = options.content, options.timeout, self._client
        is_usual = isinstance(content, bytes) and isinstance(timeout, httpx2.Timeout)
        if not is_usual or client._client.cookies:
            return self._built(options, retries_taken)
        asked: Any = options.headers
        key = (options.url, retries_taken, client.api_key, *asked.items())
        kept = self._kept.get(key)
        if kept is None:
            request = self._built(options, retries_taken)
            if len(self._kept) >= KEPT:
                self._kept.clear()
            self._kept[key] = _Kept(request.url, request.headers.copy(), dict(request.extensions))
            return request
        headers = kept.headers.copy()
        headers["Content-Length"] = str(len(content))
        if READ_TIMEOUT in headers and not _names(asked, READ_TIMEOUT):
            headers[READ_TIMEOUT] = str(timeout.read)
        extensions = {**kept.extensions, "timeout": timeout.as_dict()}
        stream = httpx2.ByteStream(content)
        request = httpx2.Request("POST", kept.url, headers=headers, stream=stream, extensions=extensions)
        request.read()
        return request

    def _built(self, options: Any, retries_taken: int) -> httpx2.Request:
        request: httpx2.Request = self._build(options, retries_taken=retries_taken)
        return request


def keep_requests(client: Any) -> None:
    """Let a new client of the SDK keep its requests; nobody else may use it or its ``http_client``."""
    client._build_request = KeptRequests(client)


def _names(headers: Any, name: str) -> bool:
    return any(key.lower() == name for key in headers)
