"""What the service and the network say went wrong, as loom_py's own errors."""

from __future__ import annotations

import json
import math
from typing import Any

import httpx2

from loom_acme.config import AcmeConfig
from loom_py.errors import (
    AuthenticationError,
    ConnectionFailedError,
    ContentFilterError,
    ContextLengthError,
    InvalidRequestError,
    LoomError,
    NotFoundError,
    PermissionDeniedError,
    ProviderError,
    RateLimitError,
    RequestTimeoutError,
    ServiceUnavailableError,
)

__all__ = ["answer_error", "network_error"]

CODES: dict[str, type[ProviderError]] = {
    "context_length": ContextLengthError,
    "content_filter": ContentFilterError,
}
"""The service's own codes, where they say more than the status."""

STATUSES: dict[int, type[ProviderError]] = {
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    408: RequestTimeoutError,
    429: RateLimitError,
    504: RequestTimeoutError,
}


def answer_error(answer: httpx2.Response, config: AcmeConfig) -> ProviderError:
    """The error that an answer other than 200 stands for; its body has been read."""
    status = answer.status_code
    said, code = _words(answer)
    kind = CODES.get(code) or STATUSES.get(status)
    if kind is None:
        kind = ServiceUnavailableError if status >= 500 else InvalidRequestError
    secret = config.api_key.get_secret_value()
    return kind(
        (said or f"HTTP {status}").replace(secret, "***"),
        http_status=status if status >= 400 else None,
        provider_code=code or None,
        retry_after=_seconds(answer.headers.get("retry-after")),
        request_id=answer.headers.get("x-request-id"),
        deployment=config.model,
    )


def network_error(exc: Exception, config: AcmeConfig) -> LoomError:
    """The error of a request that got no whole answer."""
    if isinstance(exc, (httpx2.TimeoutException, TimeoutError)):
        return RequestTimeoutError("no answer in time", deployment=config.model)
    if isinstance(exc, httpx2.ConnectError):
        said = f"{config.base_url} cannot be reached"
        return ConnectionFailedError(said, deployment=config.model, sent=False)
    if isinstance(exc, (httpx2.LocalProtocolError, UnicodeEncodeError)):
        return InvalidRequestError(
            "the request cannot be sent: a header holds what none may", deployment=config.model, sent=False
        )
    if isinstance(exc, httpx2.HTTPError):
        return ConnectionFailedError("the connection broke off", deployment=config.model)
    return ProviderError(f"the call failed: {type(exc).__name__}", deployment=config.model)


def _words(answer: httpx2.Response) -> tuple[str, str]:
    """The service's message and code, from ``{"error": {"message": …, "code": …}}``."""
    try:
        error: Any = json.loads(answer.content)["error"]
        return str(error.get("message") or ""), str(error.get("code") or "")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return "", ""


def _seconds(text: str | None) -> float | None:
    """The seconds of a ``retry-after``; ``None`` for what is no number of them."""
    try:
        seconds = float(text or "nan")
    except ValueError:
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
