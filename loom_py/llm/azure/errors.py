"""Azure's error answers, understood: every body and header becomes one typed error.

`RULES` is the whole classification, as data: the first row that fits decides. A row names the
status, the code, the parameter and a pattern in the message, each optional. Nothing in this file
raises while it reads an error: whatever is not understood is kept as text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from loom_py.errors import (
    AuthenticationError,
    ContentFilterError,
    ContextLengthError,
    DeploymentNotFoundError,
    InvalidRequestError,
    NetworkAccessError,
    NotFoundError,
    PermissionDeniedError,
    ProviderError,
    RateLimitError,
    RequestTimeoutError,
    ServiceUnavailableError,
    UnsupportedParameterError,
)
from loom_py.llm.azure.headers import header, request_id, retry_after

__all__ = ["RULES", "Failure", "error_from_answer", "error_from_body", "filter_verdicts", "is_error"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the classification. Empty conditions fit everything."""

    error: type[ProviderError]
    hint: str | None = None
    status: tuple[int, ...] = ()
    codes: tuple[str, ...] = ()
    param: str | None = None
    message: str | None = None

    def fits(self, failure: Failure) -> bool:
        return (
            (not self.status or failure.status in self.status)
            and (not self.codes or not failure.codes.isdisjoint(self.codes))
            and (self.param is None or re.fullmatch(self.param, failure.param) is not None)
            and (self.message is None or re.search(self.message, failure.message, re.IGNORECASE) is not None)
        )


@dataclass(frozen=True, slots=True)
class Failure:
    """An error answer, taken apart. ``inner`` is the code of its inner error.

    ``status`` is what the rules look at; a body that came with status 200 may only suggest it.
    """

    status: int | None
    message: str
    code: str = ""
    inner: str = ""
    type: str = ""
    param: str = ""
    verdicts: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def codes(self) -> frozenset[str]:
        """Both codes in lower case."""
        return frozenset((self.code.lower(), self.inner.lower())) - {""}


_KEY = (
    "Check that the API key belongs to this endpoint's resource and has not been regenerated"
    " (Azure portal: Keys and Endpoint)."
)
_RENEW = (
    "Get a fresh Entra token for the scope https://cognitiveservices.azure.com/.default;"
    " tokens live about an hour, a credential object refreshes them by itself."
)
_ROLE = (
    "Give the identity the role 'Cognitive Services OpenAI User' on the resource;"
    " a new assignment takes about five minutes."
)
_TOOLS_NEED_RESPONSES = (
    "This model takes function tools with reasoning on the responses API only:"
    " use surface='responses', or set reasoning_effort='none'."
)

USED_UP = frozenset({"insufficient_quota", "billing_not_active", "billing_hard_limit_reached"})
"""Codes of a quota or an account that no waiting fills again."""
TOO_LARGE = r"\ARequest too large for "
"""How OpenAI begins the 429 for a request that no minute has room for (its guide to rate limits)."""

RULES: tuple[Rule, ...] = (
    # content and length, by code or by their wording: also in streams and in 200s
    Rule(
        ContentFilterError,
        codes=(
            "content_filter",
            "responsibleaipolicyviolation",
            "contentfiltered",
            "content_policy_violation",
            "image_content_policy_violation",
            "invalid_prompt",
        ),
    ),
    Rule(
        ServiceUnavailableError,
        "The content filter itself was unavailable; try again.",
        codes=("content_filter_error",),
    ),
    Rule(ContentFilterError, status=(400,), message=r"content management policy"),
    Rule(ContextLengthError, codes=("context_length_exceeded",)),
    Rule(ContextLengthError, codes=("string_above_max_length",), param=r"messages\b.*content\b.*"),
    Rule(
        ContextLengthError,
        status=(400, 413),
        message=r"maximum context length|prompt is too long|exceeds? (the )?context (limit|window|length)"
        r"|exceeds? the configured limit of [\d,]+ tokens",
    ),
    # 401: address, key, token, role
    Rule(NetworkAccessError, codes=("ip_not_authorized",)),
    Rule(AuthenticationError, _ROLE, (401,), codes=("permissiondenied",)),
    Rule(AuthenticationError, _ROLE, (401,), message=r"principal|data action"),
    Rule(
        AuthenticationError,
        "The identity belongs to another tenant than the resource: sign in to the resource's tenant.",
        (401,),
        message=r"tenant",
    ),
    Rule(AuthenticationError, _RENEW, (401,), message=r"token|audience|expired"),
    Rule(AuthenticationError, _KEY, (401,)),
    # 403: network or rights
    Rule(
        NetworkAccessError,
        "The resource admits selected networks only: call from inside the network or add this address"
        " to its firewall.",
        (403,),
        message=r"virtual network/firewall|firewall rules",
    ),
    Rule(
        NetworkAccessError,
        "Use the resource's own custom sub-domain as the endpoint"
        " (https://NAME.openai.azure.com), not a regional one.",
        (403,),
        message=r"virtual network is configured",
    ),
    Rule(
        NetworkAccessError,
        "Public access is off: call through the resource's private endpoint.",
        (403,),
        message=r"public access is disabled|private endpoint",
    ),
    Rule(
        PermissionDeniedError,
        "The resource is blocked: see its notices in the Azure portal or ask Azure support.",
        (403,),
        message=r"temporarily blocked",
    ),
    Rule(
        NetworkAccessError,
        "This address is not admitted: add it to the resource's (or the gateway's) allowed addresses.",
        (403,),
        message=r"\bIP\b.*(not allowed|not permitted|denied|blocked)",
    ),
    Rule(
        PermissionDeniedError,
        "API keys are switched off for this resource: use credential= with a Microsoft Entra identity.",
        (403,),
        codes=("authenticationtypedisabled",),
    ),
    Rule(
        PermissionDeniedError,
        "API keys are switched off for this resource: use credential= with a Microsoft Entra identity.",
        (403,),
        message=r"key based authentication is disabled",
    ),
    Rule(RateLimitError, "The gateway's call quota is used up.", (403,), message=r"out of call volume quota"),
    Rule(
        PermissionDeniedError,
        "The subscription is disabled: see its state in the Azure portal.",
        (403,),
        message=r"subscription .*disabled",
    ),
    Rule(PermissionDeniedError, _ROLE, (403,)),
    # 404: deployment, or path and API version
    Rule(
        DeploymentNotFoundError,
        "Check the deployment's name (not the model's) in the resource behind this endpoint; a new"
        " deployment takes up to five minutes.",
        codes=("deploymentnotfound", "model_not_found", "unknown_model"),
    ),
    Rule(
        DeploymentNotFoundError,
        "Check the deployment's name (not the model's) in the resource behind this endpoint.",
        (404,),
        message=r"(deployment|model) .*does not exist|unknown model",
    ),
    Rule(
        NotFoundError,
        "The path or the API version is wrong, not the deployment: check that the endpoint is the"
        " resource's base URL and that api_version exists.",
        (404,),
    ),
    # 408, 429
    Rule(RequestTimeoutError, "Raise timeout=, or ask for less at once.", (408,)),
    Rule(RequestTimeoutError, "Raise timeout=, or ask for less at once.", codes=("timeout",)),
    Rule(
        RateLimitError,
        "The quota itself is used up, and waiting does not help: raise it in the Azure portal.",
        codes=tuple(USED_UP),
    ),
    Rule(
        RateLimitError,
        "This one request is larger than the quota of a minute: shorten it, or lower max_tokens.",
        (429,),
        message=TOO_LARGE,
    ),
    Rule(RateLimitError, status=(429,)),
    Rule(RateLimitError, codes=("429", "ratelimitreached", "rate_limit_exceeded", "too_many_requests")),
    # 400: what the model or the gateway dislikes
    Rule(
        UnsupportedParameterError,
        _TOOLS_NEED_RESPONSES,
        (400,),
        message=r"function tools with reasoning_effort",
    ),
    Rule(
        UnsupportedParameterError,
        "Name the model with model_name= so that unsuitable parameters are left out.",
        (400,),
        codes=("unsupported_parameter", "unsupported_value"),
    ),
    Rule(
        UnsupportedParameterError,
        "Name the model with model_name= so that unsuitable parameters are left out.",
        (400,),
        param=r".+",
        message=r"^unsupported|is not supported with this model",
    ),
    Rule(
        InvalidRequestError,
        "Name tools with letters, digits, '_' and '-' only, at most 64 characters.",
        (400,),
        message=r"(tools|tool_calls)\[\d+\]\.(function\.)?name",
    ),
    Rule(
        InvalidRequestError,
        "A call takes 128 tools at most: give this agent fewer, or spread them over several agents.",
        (400,),
        message=r"'tools': array too long",
    ),
    Rule(
        InvalidRequestError,
        "The deployment is of the model the message names; use a deployment of a chat model.",
        (400,),
        codes=("operationnotsupported",),
    ),
    Rule(
        InvalidRequestError,
        "Set api_version= to one that this model and surface know, or use the v1 API (api='v1').",
        (400,),
        message=r"api[- ]versions?\b",
    ),
    Rule(InvalidRequestError, status=(400, 405, 413, 415, 422)),
    # redirects that were not followed
    Rule(
        ProviderError,
        "The server sends callers elsewhere: use the resource's own URL as the endpoint.",
        tuple(range(300, 400)),
    ),
    # the service's own failures
    Rule(ServiceUnavailableError, status=(409, 424)),
    Rule(ServiceUnavailableError, status=tuple(range(500, 600))),
    Rule(ServiceUnavailableError, codes=("server_error", "internalservererror", "serviceunavailable")),
)

_KINDS = (
    ("daily", r"by ?day|per day|per 86400 ?s|daily|call volume quota"),
    ("tokens", r"ratelimit-token|tokens?[ -](rate )?limit|tokens? per min(ute)?\b"),
    ("requests", r"ratelimit-(request|call)|(call|request) rate limit|requests? per min(ute)?\b"),
    ("capacity", r"high demand|capacity|overloaded|utili[sz]ation|provisioned"),
)

_NAMED_PARAMETER = re.compile(r"unsupported (?:parameter|value): '([\w.]+)'", re.IGNORECASE)

MAX_MESSAGE = 2000
"""Characters of a server's message that are kept; a gateway may send a whole page."""

_STATUS_OF_TYPE = {"invalid_request_error": 400, "server_error": 500}


def error_from_answer(status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
    """The typed error for an HTTP answer with an error status. Never raises."""
    return _error(_take_apart(status, headers, body), status)


def error_from_body(data: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> ProviderError:
    """The typed error for an error object that came with status 200 or inside a stream."""
    failure = _from_json(None, data, headers or {})
    error = data.get("error")
    inside = error.get("status") if isinstance(error, Mapping) else None
    claims = (inside, data.get("statusCode"), data.get("status"), failure.code)
    claimed = next((int(text) for text in map(_text, claims) if re.fullmatch(r"[45]\d\d", text)), None)
    suggested = claimed or _STATUS_OF_TYPE.get(failure.type)
    return _error(replace(failure, status=suggested), claimed)


def _take_apart(status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        data = None
    if isinstance(data, Mapping):
        return _from_json(status, data, headers)
    return Failure(status, f"HTTP {status} with {_describe(body)}", headers=headers)


def _describe(body: bytes) -> str:
    text = body[:2000].decode("utf-8", "replace").strip()
    if not text:
        return "an empty body"
    if "<html" in text.lower() or text.startswith("<"):
        title = re.search(r"<title>\s*(.*?)\s*</title>", text, re.IGNORECASE | re.DOTALL)
        return f"an HTML page ({title[1]!r}) instead of JSON" if title else "an HTML page instead of JSON"
    return f"a body that is not a JSON object: {text[:200]!r}"


def _from_json(status: int | None, data: Mapping[str, Any], headers: Mapping[str, str]) -> Failure:
    """The ``{"error": {…}}`` of the service, or the flat object of a gateway in front of it."""
    error = data.get("error")
    if isinstance(error, Mapping):
        source = error
    elif isinstance(error, str):
        source = {**data, "message": data.get("message") or error}
    else:
        source = data
    inner = source.get("innererror") or source.get("inner_error")
    code = _text(source.get("code"))
    message = next(
        (text for key in ("message", "detail", "details") if (text := _text(source.get(key)))),
        "" if status is None else f"HTTP {status}",
    )
    return Failure(
        status,
        _short(message) or "the service reported an error without a message",
        code or _text(source.get("statusCode")),
        _text(inner.get("code")) if isinstance(inner, Mapping) else "",
        _text(source.get("type") or source.get("errortype")),
        _text(source.get("param")) or _named_parameter(message),
        _inner_verdicts(inner),
        headers,
    )


def is_error(data: Mapping[str, Any]) -> bool:
    """Whether JSON that came with status 200, or in a stream, is an error: of the service, which says
    ``error``, or the flat object of a gateway in front of it."""
    if data.get("error"):
        return True
    is_flat = ("statusCode" in data or "code" in data) and "message" in data
    return is_flat and not data.keys() & {"choices", "output", "type", "id"}


def _named_parameter(message: str) -> str:
    """The parameter that a message names where the error's own field is empty."""
    found = _NAMED_PARAMETER.search(message)
    return found[1] if found else ""


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return "" if value is None else str(value)
    except RecursionError:
        return ""


def _short(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE else f"{text[:MAX_MESSAGE]}…"


def _inner_verdicts(inner: Any) -> dict[str, Any]:
    if not isinstance(inner, Mapping):
        return {}
    return filter_verdicts(inner.get("content_filter_result") or inner.get("content_filter_results"))


def filter_verdicts(found: Any) -> dict[str, Any]:
    """Filter results by category, from any of the shapes they come in."""
    if isinstance(found, Mapping):
        return dict(found)
    if isinstance(found, list):
        merged: dict[str, Any] = {}
        for entry in found:
            if isinstance(entry, Mapping):
                inside = entry.get("content_filter_results") or entry.get("content_filter_result")
                merged.update(inside if isinstance(inside, Mapping) else {})
        return merged
    return {}


def _error(failure: Failure, status: int | None) -> ProviderError:
    rule = next((rule for rule in RULES if rule.fits(failure)), Rule(ProviderError))
    facts: dict[str, Any] = {
        "http_status": status,
        "request_id": request_id(failure.headers),
        "provider_code": failure.code or failure.inner or None,
    }
    if rule.hint is not None:
        facts["hint"] = rule.hint
    if issubclass(rule.error, ContentFilterError):
        facts |= {"categories": failure.verdicts, "side": "prompt"}
    elif issubclass(rule.error, InvalidRequestError):
        facts["param"] = failure.param or None
        if issubclass(rule.error, ContextLengthError):
            facts |= _context_length(failure.message)
    elif rule.error in {RateLimitError, ServiceUnavailableError}:
        limited = rule.error is RateLimitError
        facts["retry_after"] = retry_after(failure.headers, failure.message, resets=limited)
        if limited:
            facts["kind"] = _rate_limit_kind(failure, facts["retry_after"])
            if facts["kind"] == "credit" or re.search(TOO_LARGE, failure.message):
                facts["retryable"] = False
    return rule.error(failure.message, **facts)


def _rate_limit_kind(failure: Failure, wait: float | None) -> str | None:
    """Which limit refused the call, as far as the answer tells."""
    if not failure.codes.isdisjoint(USED_UP):
        return "credit"
    if wait is not None and wait >= 3600:
        return "daily"
    said = f"{header(failure.headers, 'policy-id') or ''} {failure.message}"
    return next((kind for kind, pattern in _KINDS if re.search(pattern, said, re.IGNORECASE)), None)


def _context_length(message: str) -> dict[str, int]:
    """The numbers in Azure's two wordings of "too long"."""
    found: dict[str, int] = {}
    if limit := re.search(r"(?:maximum context length is|configured limit of) ([\d,]+)", message):
        found["limit"] = int(limit[1].replace(",", ""))
    if used := re.search(r"(?:resulted in|requested) ([\d,]+) tokens", message):
        found["used"] = int(used[1].replace(",", ""))
    return found
