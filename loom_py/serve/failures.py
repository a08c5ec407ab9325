"""Errors as OpenAI's clients know them, and no more of them than a caller should know."""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from typing import Any, NamedTuple

from loom_py import errors as e

__all__ = ["Failure", "HTTPError", "failure_of"]


class HTTPError(e.LoomError):
    """The server itself refuses: its message is for the caller."""

    def __init__(
        self, status: int, message: str, *, code: str, param: str | None = None, **facts: Any
    ) -> None:
        super().__init__(message, code=code, http_status=status, **facts)
        self.param = param


class Failure(NamedTuple):
    """What a caller is told: the status, the body's ``error`` and, in seconds, when to come again."""

    status: int
    error: dict[str, Any]
    retry_after: float | None = None

    @property
    def body(self) -> bytes:
        """The body of the answer."""
        return json.dumps({"error": self.error}, ensure_ascii=False).encode("utf-8", "replace")

    @property
    def headers(self) -> dict[str, str]:
        """The headers that belong to it."""
        found = {"content-type": "application/json"}
        if self.retry_after is not None and math.isfinite(self.retry_after):
            found["retry-after"] = str(max(1, math.ceil(self.retry_after)))
        if self.status == 401:
            found["www-authenticate"] = "Bearer"
        return found


class _Shown(NamedTuple):
    """How one kind of error is shown: its status, and a message where its own is the operator's."""

    status: int
    message: str | None = None
    type: str = "server_error"


_BAD = "invalid_request_error"
_AWAY = "the model cannot be reached now"

_MODEL_ERRORS: dict[type[e.LoomError], _Shown] = {
    e.ContextLengthError: _Shown(400, type=_BAD),
    e.InvalidRequestError: _Shown(400, type=_BAD),
    e.ContentFilterError: _Shown(400, type=_BAD),
    e.RateLimitError: _Shown(429, "the model has too much to do now", "rate_limit_error"),
    e.QueueError: _Shown(429, "the model has too much to do now", "rate_limit_error"),
    e.PriceUnknownError: _Shown(402, "what the model costs is not known, so no budget can pay for it"),
    e.BudgetError: _Shown(503, "the budget cannot be read now"),
    e.AuthenticationError: _Shown(502, "the model's service refused this server"),
    e.PermissionDeniedError: _Shown(502, "the model's service refused this server"),
    e.NotFoundError: _Shown(502, "the model's service does not know what this server asked for"),
    e.RequestTimeoutError: _Shown(504, "the model did not answer in time"),
    e.DeadlineExceededError: _Shown(504, "the answer took too long"),
    e.CircuitOpenError: _Shown(503, _AWAY),
    e.ServiceUnavailableError: _Shown(503, _AWAY),
    e.StreamInterruptedError: _Shown(502, "the model's answer broke off"),
    e.MalformedResponseError: _Shown(502, "the model's service sent no sensible answer"),
    e.IncompleteResponseError: _Shown(502, "the token limit was used up before there was an answer"),
    e.RefusalError: _Shown(422, "the model declined to answer", _BAD),
    e.OutputValidationError: _Shown(502, "the model's answer does not fit what was asked for"),
    e.LimitExceededError: _Shown(500, "the agent reached one of its limits"),
    e.AgentClosedError: _Shown(503, "the server is stopping"),
    e.ProviderError: _Shown(502, "the model's service failed"),
}
"""Errors out of an agent, the first that fits by the order of their classes. What concerns the operator
alone (endpoints, deployments, the server's own credential) stays in the log."""


_CANNOT = {
    "messages": "the model does not read images",
    "reasoning_effort": "the model does not reason: leave reasoning_effort out",
    "stop": "the model takes no stop sequences: leave stop out",
    "tool_choice": "tool_choice names a tool that the model is not offered",
    "tools": "the model takes no tools",
}
"""What is told of a field with which the model can do nothing. The error's own words name a deployment."""


def failure_of(error: BaseException, *, from_agent: bool, given: Collection[str] = frozenset()) -> Failure:
    """What the caller is told of ``error``; ``from_agent`` says that the model failed, not the request.

    ``given`` are the fields that the request chose itself: a setting that the model cannot have is the
    caller's mistake where it is one of them, and the server's where it is not.
    """
    if isinstance(error, e.LoomError) and (not from_agent or isinstance(error, HTTPError)):
        return _own(error)
    if isinstance(error, e.ConfigError) and error.field is not None and error.field in given:
        problem = _CANNOT.get(error.field, f"the model cannot do what {error.field} asks for: leave it out")
        return _own(HTTPError(400, problem, code="unsupported_parameter", param=error.field))
    if isinstance(error, e.BudgetExceededError):
        return _unpaid(error)
    if isinstance(error, e.RetriesExhausted) and error.last is not None:
        found = failure_of(error.last, from_agent=True, given=given)
        return found._replace(retry_after=error.retry_after)
    for kind in type(error).__mro__:
        if (shown := _MODEL_ERRORS.get(kind)) is not None:
            assert isinstance(error, e.LoomError)
            message = shown.message or error.message
            told = {
                "message": message,
                "type": shown.type,
                "param": getattr(error, "param", None),
                "code": error.code,
            }
            return Failure(shown.status, told, error.retry_after)
    return Failure(500, _told("the server failed", "server_error", None, "internal_error"))


def _unpaid(error: e.BudgetExceededError) -> Failure:
    """A budget refused. The time of a new one is told where that one, and only that one, would do."""
    left, again = error.limit - error.spent, error.retry_after
    if left <= 0:
        message = "the budget is spent"
    elif error.needed <= left:
        message, again = "calls under way hold what is left of the budget; come again when they ended", None
    else:
        message = "what is left of the budget cannot pay for this call; ask for fewer tokens (max_tokens)"
    if error.needed > error.limit:
        again = None
    return Failure(402, _told(message, "insufficient_quota", None, error.code), again)


def _own(error: e.LoomError) -> Failure:
    """An error this server raised about the request."""
    status = error.http_status or 500
    kind = {429: "rate_limit_error"}.get(status, _BAD if status < 500 else "server_error")
    message = f"{error.message}. {error.hint}" if error.hint else error.message
    return Failure(status, _told(message, kind, getattr(error, "param", None), error.code), error.retry_after)


def _told(message: str, kind: str, param: str | None, code: str) -> dict[str, Any]:
    return {"message": message, "type": kind, "param": param, "code": code}
