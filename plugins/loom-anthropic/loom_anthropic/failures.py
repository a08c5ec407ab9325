"""What the SDK and its transport raise, as errors of ours."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from loom_anthropic.config import AnthropicConfig
from loom_anthropic.connections import HttpRequest
from loom_anthropic.errors import error_from_answer
from loom_anthropic.headers import request_id
from loom_anthropic.prices import ClaudePrices
from loom_anthropic.stream import StreamDecoder
from loom_py.errors import (
    ConnectionFailedError,
    LoomError,
    MalformedResponseError,
    ProviderError,
    RequestTimeoutError,
)

if TYPE_CHECKING:
    import httpx2

__all__ = ["Failures", "transport_failure"]

CLOCKS_DIFFER = 0.002
"""Seconds by which a timer may ring before its time."""

SHORTEST_SECRET = 6
"""Characters from which a credential is looked for in texts; a shorter one would be found in words."""


class Failures:
    """Whatever goes wrong in calls of one model, as errors of ours that know all there is to know."""

    def __init__(self, config: AnthropicConfig, prices: ClaudePrices) -> None:
        self._config = config
        self._prices = prices
        self._secrets = [secret.get_secret_value() for secret in config.secrets if secret is not None]

    def of(self, exc: Exception, request: HttpRequest) -> LoomError:
        """The typed error for whatever the SDK or its transport raised."""
        if isinstance(exc, LoomError):
            return self.complete(exc, {})
        answer, body = _refusal_behind(exc)
        if answer is not None:
            error = error_from_answer(answer.status_code, answer.headers, body)
            return self.complete(error, answer.headers)
        return self.complete(transport_failure(exc, self._config.base_url, request), {})

    def of_stream(
        self, exc: Exception, request: HttpRequest, decoder: StreamDecoder, answer: httpx2.Response | None
    ) -> LoomError | None:
        """The error of a stream that broke; ``None`` where all of the answer had come before."""
        if answer is None:
            return self.of(exc, request)
        if isinstance(exc, LoomError):
            return self.complete(exc, answer.headers, decoder.model)
        if decoder.is_whole:
            return None
        failure = transport_failure(exc, self._config.base_url, request)
        says_more = isinstance(failure, (MalformedResponseError, RequestTimeoutError))
        if decoder.assembler.has_output or not says_more:
            failure = decoder.assembler.interrupted(f"the stream broke off: {failure.message}")
        return self.complete(failure, answer.headers, decoder.model)

    def complete(self, error: LoomError, headers: Mapping[str, str], model: str = "") -> LoomError:
        """``error`` with what only the client knows, and without any credential in its text."""
        error.deployment = error.deployment or self._config.model
        error.request_id = error.request_id or request_id(headers)
        error.message = self._mask(error.message)
        error.args = (error.message,)
        if error.cost_usd is None:
            error.cost_usd = self._prices.cost(error.tokens_used, model).usd
        return error

    def _mask(self, text: str) -> str:
        for secret in self._secrets:
            if len(secret) >= SHORTEST_SECRET:
                text = text.replace(secret, "***")
        return text


def _refusal_behind(exc: Exception) -> tuple[httpx2.Response | None, bytes]:
    """The answer with an error status that led to ``exc``, and its body.

    The body is empty where it broke off or cannot be decoded: the status and the headers had come before,
    and they say most of it.
    """
    import anthropic
    import httpx2

    if isinstance(exc, anthropic.APIStatusError):
        try:
            return exc.response, exc.response.content
        except httpx2.StreamError:
            return exc.response, b""
    behind: BaseException | None = exc
    for _ in range(20):
        if behind is None:
            break
        if isinstance(behind, httpx2.HTTPStatusError):
            return behind.response, b""
        behind = behind.__context__ or behind.__cause__
    return None, b""


def transport_failure(exc: Exception, base_url: str, request: HttpRequest) -> LoomError:
    """The typed error for a ``request`` that got no whole answer."""
    import anthropic
    import httpx2

    cause = exc.__cause__ or exc
    if isinstance(exc, (anthropic.APITimeoutError, httpx2.TimeoutException, TimeoutError)):
        return _timed_out(request, connecting=isinstance(cause, httpx2.ConnectTimeout))
    if broken := next((error for error in (exc, cause) if isinstance(error, httpx2.DecodingError)), None):
        return MalformedResponseError(
            f"the answer's content encoding is broken: {broken}",
            hint="Look for a proxy between here and the API that compresses answers.",
        )
    if isinstance(cause, (httpx2.LocalProtocolError, httpx2.UnsupportedProtocol)):
        return ProviderError(
            f"the request cannot be sent: {cause}",
            hint="Check extra_headers and base_url.",
            sent=False,
        )
    if isinstance(exc, (anthropic.APIConnectionError, httpx2.RequestError)):
        return ConnectionFailedError(
            f"the connection to {base_url} failed: {type(cause).__name__}: {cause}",
            hint="Check base_url and this machine's network.",
            sent=not isinstance(cause, httpx2.ConnectError),
        )
    return ProviderError(f"the call failed: {type(exc).__name__}: {exc}")


def _timed_out(request: HttpRequest, *, connecting: bool) -> RequestTimeoutError:
    if request.end is not None and time.monotonic() >= request.end - CLOCKS_DIFFER:
        return RequestTimeoutError(
            f"timed out: the call was not over after {request.total_timeout:g} s",
            hint="Raise total_timeout=, or ask for less at once.",
        )
    if connecting:
        return RequestTimeoutError(
            f"timed out connecting after {min(request.timeout, request.connect_timeout):g} s",
            hint="Check that the API can be reached from this machine.",
            sent=False,
        )
    return RequestTimeoutError(
        f"timed out waiting for an answer after {request.timeout:g} s",
        hint="Raise timeout=, or ask for less at once.",
    )
