"""Anthropic's error answers, and which of them an error of the model behind the emulator is."""

from __future__ import annotations

from typing import Any

from loom_py.emulator.wire_errors import WireError
from loom_py.errors import (
    AuthenticationError,
    ContextLengthError,
    InvalidRequestError,
    LoomError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RequestTimeoutError,
    ServiceUnavailableError,
)

__all__ = ["api_error", "as_wire_error", "body_of", "invalid", "type_of_status"]

_STATUS: dict[int, tuple[str, str]] = {
    400: ("invalid_request_error", "The request is invalid."),
    401: ("authentication_error", "invalid x-api-key"),
    402: ("billing_error", "There is a problem with your billing."),
    403: ("permission_error", "Your API key does not have permission to use the specified resource."),
    404: ("not_found_error", "Not Found"),
    408: ("timeout_error", "Request timed out."),
    409: ("conflict_error", "The request conflicts with another one."),
    413: ("request_too_large", "Request exceeds the maximum size"),
    429: (
        "rate_limit_error",
        "This request would exceed your organization's rate limit of 50 requests per minute.",
    ),
    500: ("api_error", "Internal server error"),
    504: ("timeout_error", "Request timed out."),
    529: ("overloaded_error", "Overloaded"),
}

_KINDS: tuple[tuple[type[LoomError], int], ...] = (
    (AuthenticationError, 401),
    (PermissionDeniedError, 403),
    (NotFoundError, 404),
    (InvalidRequestError, 400),
    (RateLimitError, 429),
    (RequestTimeoutError, 504),
    (ServiceUnavailableError, 500),
)


def type_of_status(status: int) -> tuple[str, str]:
    """The type and the usual message of an error with this status."""
    return _STATUS.get(status) or ("api_error" if status >= 500 else "invalid_request_error", "")


def api_error(status: int, kind: str, message: str) -> WireError:
    """An error of the service; the request id is put in where it is sent."""
    return WireError(status, body_of(kind, message), headers={"x-should-retry": _should_retry(status)})


def _should_retry(status: int) -> str:
    return "true" if status in {408, 409, 429} or status >= 500 else "false"


def body_of(kind: str, message: str) -> dict[str, Any]:
    """The JSON of an error, as an answer and as an event of a stream."""
    return {"type": "error", "error": {"type": kind, "message": message}}


def invalid(message: str) -> WireError:
    """A request that the service refuses (400)."""
    return api_error(400, "invalid_request_error", message)


def as_wire_error(error: Exception) -> WireError:
    """The answer that stands for what the model behind the emulator raised."""
    if isinstance(error, WireError):
        return error
    if isinstance(error, ContextLengthError):
        used, limit = error.used or 200_123, error.limit or 200_000
        return invalid(f"prompt is too long: {used} tokens > {limit} maximum")
    status = next((status for kind, status in _KINDS if isinstance(error, kind)), 500)
    if isinstance(error, ServiceUnavailableError) and error.http_status == 529:
        status = 529
    kind, usual = type_of_status(status)
    said = error.message if isinstance(error, LoomError) else usual
    found = api_error(status, kind, said or usual)
    wait = getattr(error, "retry_after", None)
    if wait is not None:
        found.headers["retry-after"] = f"{wait:g}"
    return found
