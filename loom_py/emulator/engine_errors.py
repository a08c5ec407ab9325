"""From an engine's errors to what Azure would answer."""

from __future__ import annotations

from collections.abc import Callable

from loom_py.emulator.wire_errors import (
    WireError,
    bad_key,
    content_filtered,
    context_length,
    deployment_not_found,
    gateway_error,
    invalid_request,
    rate_limited,
    resource_not_found,
    server_error,
    timed_out,
)
from loom_py.errors import (
    AuthenticationError,
    CircuitOpenError,
    ContentFilterError,
    ContextLengthError,
    DeploymentNotFoundError,
    IncompleteResponseError,
    InvalidRequestError,
    LoomError,
    NotFoundError,
    PermissionDeniedError,
    ProviderError,
    RateLimitError,
    RequestTimeoutError,
    ScriptError,
    ServiceUnavailableError,
)
from loom_py.messages import Response, TokenUsage

__all__ = ["as_response", "as_wire_error"]


def as_response(error: Exception) -> Response | None:
    """The answer for errors that Azure tells with a finish reason rather than a status."""
    if isinstance(error, ContentFilterError) and error.side == "completion":
        return Response(error.partial_text, error.tokens_used or TokenUsage(), finish_reason="content_filter")
    if isinstance(error, IncompleteResponseError):
        return Response("", error.tokens_used or TokenUsage(), finish_reason="length")
    return None


def as_wire_error(error: Exception, request_id: str, *, quirks: bool = True) -> WireError:
    """The error answer for ``error``. What is not a provider's error is Azure's bland 500."""
    if isinstance(error, WireError):
        return error
    if isinstance(error, RateLimitError):
        code = error.provider_code or "RateLimitReached"
        return rate_limited(error.message, error.retry_after, code, quirks=quirks)
    for kind, encode in _ENCODERS:
        if isinstance(error, kind):
            return encode(error)
    if isinstance(error, (ServiceUnavailableError, CircuitOpenError)):
        return _unavailable(error, request_id)
    if isinstance(error, ScriptError):
        return server_error(request_id, str(error))  # a mistake in a test, which should read why
    return server_error(request_id)


def _unavailable(error: LoomError, request_id: str) -> WireError:
    status = error.http_status or 503
    answer = server_error(request_id, error.message, status=status if status >= 500 else 503)
    if error.retry_after is not None:
        answer.headers["retry-after"] = str(-int(-error.retry_after // 1))
    return answer


def _context_length(error: LoomError) -> WireError:
    assert isinstance(error, ContextLengthError)
    if error.limit is None or error.used is None:
        return context_length(error.message)
    return context_length(
        f"This model's maximum context length is {error.limit} tokens. However, your messages resulted in "
        f"{error.used} tokens. Please reduce the length of the messages."
    )


def _invalid(error: LoomError) -> WireError:
    assert isinstance(error, InvalidRequestError)
    code = error.provider_code
    if code is None and error.code != InvalidRequestError.code:
        code = error.code
    return invalid_request(error.message, error.param, code)


def _filtered(error: LoomError) -> WireError:
    assert isinstance(error, ContentFilterError)
    return content_filtered(error.categories)


def _forbidden(error: LoomError) -> WireError:
    code = error.provider_code if isinstance(error, ProviderError) else None
    return gateway_error(403, code or "403", error.message)


_ENCODERS: tuple[tuple[type[LoomError], Callable[[LoomError], WireError]], ...] = (
    (ContentFilterError, _filtered),
    (ContextLengthError, _context_length),
    (InvalidRequestError, _invalid),
    (RequestTimeoutError, lambda _: timed_out()),
    (AuthenticationError, lambda _: bad_key()),
    (PermissionDeniedError, _forbidden),
    (DeploymentNotFoundError, lambda _: deployment_not_found()),
    (NotFoundError, lambda _: resource_not_found()),
)
