"""Failures of a script as loom_py's own errors, for fake services that speak in those."""

from __future__ import annotations

from loom_py.conformance.script import Answer
from loom_py.errors import (
    AuthenticationError,
    ConnectionFailedError,
    ContentFilterError,
    ContextLengthError,
    IncompleteResponseError,
    InvalidRequestError,
    LoomError,
    MalformedResponseError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RequestTimeoutError,
    ServiceUnavailableError,
    StreamInterruptedError,
)

__all__ = ["error_of"]

_KINDS: dict[str, type[LoomError]] = {
    "unauthorized": AuthenticationError,
    "forbidden": PermissionDeniedError,
    "not_found": NotFoundError,
    "invalid_request": InvalidRequestError,
    "context_length": ContextLengthError,
    "content_filter": ContentFilterError,
    "rate_limited": RateLimitError,
    "server_error": ServiceUnavailableError,
    "unreachable": ConnectionFailedError,
    "timeout": RequestTimeoutError,
    "malformed": MalformedResponseError,
}


def error_of(answer: Answer) -> LoomError | None:
    """The error a provider owes for ``answer``; ``None`` for one it owes a response for."""
    failure = answer.failure
    if failure is None:
        if answer.finish_reason == "length" and not (answer.text or answer.calls):
            return IncompleteResponseError("the token limit left no text", tokens_used=answer.usage)
        return None
    said = f"the service failed: {failure}"
    if failure.kind in {"cut_stream", "empty_stream", "stream_error"}:
        return StreamInterruptedError(said, partial_text=failure.after_text)
    kind = _KINDS.get(failure.kind, ServiceUnavailableError)
    if kind is ContentFilterError:
        side = "completion" if failure.after_text else "prompt"
        return ContentFilterError(said, side=side, partial_text=failure.after_text, tokens_used=answer.usage)
    return kind(said, retry_after=failure.retry_after)
