"""Anthropic's error answers, understood: every body and header becomes one typed error.

`RULES` is the whole classification, as data: the first row that fits decides. Source: the page "Errors" of
Anthropic's documentation, the error types of the SDK, and wordings seen in public reports.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from loom_anthropic.headers import request_id, retry_after
from loom_py.errors import (
    AuthenticationError,
    ContentFilterError,
    ContextLengthError,
    DeploymentNotFoundError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    ProviderError,
    RateLimitError,
    RequestTimeoutError,
    ServiceUnavailableError,
    UnsupportedParameterError,
)

__all__ = ["RULES", "Failure", "error_from_answer", "error_from_body", "is_error"]

MAX_MESSAGE = 2000
"""Characters of a server's message that are kept; a gateway may send a whole page."""

_STATUS_OF_TYPE = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""The status that an error of each type has where it is an answer of its own."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the classification. Empty conditions fit everything; ``type`` is matched whole."""

    error: type[ProviderError]
    hint: str | None = None
    status: tuple[int, ...] = ()
    type: str = ""
    message: str | None = None
    retryable: bool | None = None

    def fits(self, failure: Failure) -> bool:
        return (
            (not self.status or failure.status in self.status)
            and (not self.type or failure.type == self.type)
            and (self.message is None or re.search(self.message, failure.message, re.IGNORECASE) is not None)
        )


@dataclass(frozen=True, slots=True)
class Failure:
    """An error answer, taken apart. ``status`` is what was received, or what the type stands for."""

    status: int | None
    message: str
    type: str = ""
    code: str = ""
    request_id: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


_BILLING = "Add credit in the Claude Console (Plans & Billing), or raise the spend limit there."
_SAMPLING = "Leave temperature and top_p out: this model, or this version of the API, does not take them."

RULES: tuple[Rule, ...] = (
    Rule(ContentFilterError, message=r"blocked by content filtering|usage polic(y|ies)"),
    Rule(ContextLengthError, message=r"prompt is too long|exceeds? (the )?context (limit|window)"),
    Rule(
        PermissionDeniedError,
        _BILLING,
        (400, 402, 403, 429),
        message=r"credit balance is too low|usage limits|spend limit|billing",
        retryable=False,
    ),
    Rule(PermissionDeniedError, _BILLING, (402,)),
    Rule(PermissionDeniedError, _BILLING, type="billing_error"),
    Rule(
        AuthenticationError,
        "Check the key (api_key=, ANTHROPIC_API_KEY) or the token (auth_token=) in the Claude Console.",
        (401,),
    ),
    Rule(AuthenticationError, type="authentication_error"),
    Rule(
        PermissionDeniedError,
        "The key's workspace may not do this: see its models and limits in the Claude Console.",
        (403,),
    ),
    Rule(
        DeploymentNotFoundError,
        "Check the model's name, and that it is not retired: client.models.list() has those that are served.",
        (404,),
        message=r"\bmodel\b",
    ),
    Rule(NotFoundError, "Check base_url: it is the URL before /v1/messages.", (404,)),
    Rule(NotFoundError, type="not_found_error"),
    Rule(
        InvalidRequestError,
        "The API takes 32 MB: send fewer or smaller images, or name them by URL.",
        (413,),
    ),
    Rule(RequestTimeoutError, "Ask for less at once, or stream the answer.", (408, 504)),
    Rule(RequestTimeoutError, "Ask for less at once, or stream the answer.", type="timeout_error"),
    Rule(RateLimitError, status=(429,)),
    Rule(RateLimitError, type="rate_limit_error"),
    Rule(UnsupportedParameterError, _SAMPLING, (400,), message=r"\b(temperature|top_p|top_k)\b"),
    Rule(
        UnsupportedParameterError,
        None,
        (400,),
        message=r"extra inputs are not permitted|not supported (for|by|on) this model"
        r"|deprecated for this model|does not support",
    ),
    Rule(InvalidRequestError, status=(400, 405, 415, 422)),
    Rule(
        ProviderError,
        "The server sends callers elsewhere: use the service's own URL as base_url.",
        tuple(range(300, 400)),
    ),
    Rule(ServiceUnavailableError, status=(409,)),
    Rule(ServiceUnavailableError, status=tuple(range(500, 600))),
    Rule(InvalidRequestError, type="invalid_request_error"),
)

_KINDS = (
    ("daily", r"per day|daily"),
    ("tokens", r"tokens? per minute|tokens"),
    ("requests", r"requests? per minute|concurrent|number of request"),
    ("capacity", r"acceleration|overloaded|capacity"),
)
_PARAMETER = re.compile(r"\A([a-z_]+(?:\.[\w-]+)*): ")
_NAMED = re.compile(r"[`'\"]([a-z_]+(?:\.[a-z_]+)*)[`'\"]")


def error_from_answer(status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
    """The typed error for an HTTP answer with an error status. Never raises."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        data = None
    if isinstance(data, Mapping):
        return _error(_failure(status, data, headers))
    return _error(Failure(status, f"HTTP {status} with {_describe(body)}", headers=headers))


def error_from_body(data: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> ProviderError:
    """The typed error for an error object that came with status 200 or inside a stream."""
    return _error(_failure(None, data, headers or {}))


def is_error(data: Mapping[str, Any]) -> bool:
    """Whether JSON that came with status 200, or in a stream, is an error."""
    return data.get("type") == "error" or bool(data.get("error"))


def _failure(status: int | None, data: Mapping[str, Any], headers: Mapping[str, str]) -> Failure:
    error = data.get("error")
    source = error if isinstance(error, Mapping) else data
    details = source.get("details")
    kind = _text(source.get("type"))
    message = _text(source.get("message")) or (_text(error) if isinstance(error, str) else "")
    named = data.get("request_id")
    return Failure(
        status or _STATUS_OF_TYPE.get(kind),
        _short(message) or ("the service reported an error without a message"),
        kind,
        _text(details.get("error_code")) if isinstance(details, Mapping) else "",
        named if isinstance(named, str) else None,
        headers,
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _short(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE else f"{text[:MAX_MESSAGE]}…"


def _describe(body: bytes) -> str:
    text = body[:2000].decode("utf-8", "replace").strip()
    if not text:
        return "an empty body"
    if text.startswith("<"):
        title = re.search(r"<title>\s*(.*?)\s*</title>", text, re.IGNORECASE | re.DOTALL)
        return f"an HTML page ({title[1]!r}) instead of JSON" if title else "an HTML page instead of JSON"
    return f"a body that is not a JSON object: {text[:200]!r}"


def _error(failure: Failure) -> ProviderError:
    rule = next((rule for rule in RULES if rule.fits(failure)), Rule(ProviderError))
    facts: dict[str, Any] = {
        "http_status": failure.status,
        "request_id": request_id(failure.headers) or failure.request_id,
        "provider_code": failure.code or failure.type or None,
        "retryable": rule.retryable,
    }
    if rule.hint is not None:
        facts["hint"] = rule.hint
    if rule.error is ContentFilterError:
        facts["side"] = "completion" if "output" in failure.message.lower() else "prompt"
    elif issubclass(rule.error, InvalidRequestError):
        facts["param"] = _parameter(failure.message)
        if rule.error is ContextLengthError:
            facts |= _context_length(failure.message)
    elif rule.error in {RateLimitError, ServiceUnavailableError}:
        limited = rule.error is RateLimitError
        facts["retry_after"] = retry_after(failure.headers, failure.message, resets=limited)
        if limited:
            facts["kind"] = _limit_kind(failure.message)
    return rule.error(failure.message, **facts)


def _parameter(message: str) -> str | None:
    """The part of the request that a message names, before its colon or in quotes."""
    found = _PARAMETER.match(message) or _NAMED.search(message)
    return found[1] if found else None


def _limit_kind(message: str) -> str | None:
    """Which limit refused the call, as far as the message tells."""
    return next((kind for kind, pattern in _KINDS if re.search(pattern, message, re.IGNORECASE)), None)


def _context_length(message: str) -> dict[str, int]:
    """The numbers in the two wordings of "too long"."""
    if found := re.search(r"([\d,]+) tokens > ([\d,]+)", message):
        return {"used": _number(found[1]), "limit": _number(found[2])}
    if found := re.search(r"([\d,]+) \+ ([\d,]+) > ([\d,]+)", message):
        return {"used": _number(found[1]) + _number(found[2]), "limit": _number(found[3])}
    return {}


def _number(text: str) -> int:
    return int(text.replace(",", "") or 0)
