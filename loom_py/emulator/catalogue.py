"""Every failure of Azure OpenAI the emulator can act out, by a short name.

`FAILURES` are answers that replace the model's; `TWISTS` let the model answer and spoil that.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from loom_py.emulator import throttling, wire_errors
from loom_py.emulator.faults import Answer
from loom_py.emulator.wire_errors import WireError, gateway_error, invalid_request

__all__ = ["CONNECTION_DROP", "FAILURES", "TWISTS", "Situation", "failure", "failure_names"]


@dataclass(frozen=True, slots=True)
class Situation:
    """What a failure's wording depends on. ``retry_after`` (s) replaces the usual wait of a 429."""

    request_id: str
    deployment: str
    model: str
    region: str = "eastus"
    api_version: str = "2024-10-21"
    operation: str = "ChatCompletions_Create"
    retry_after: float | None = None
    quirks: bool = True


Failure: TypeAlias = Callable[[Situation], WireError | Answer]


def _throttled(style: throttling.ThrottleStyle, wait: float, kind: str = "tokens") -> Failure:
    def make(at: Situation) -> WireError:
        return throttling.throttled(
            style,
            at.deployment,
            at.region,
            wait if at.retry_after is None else at.retry_after,
            kind="requests" if kind == "requests" else "tokens",
            api_version=at.api_version,
            operation=at.operation,
        )

    return make


def _day_long(at: Situation) -> WireError:
    wait = 86_400 if at.retry_after is None else at.retry_after
    return throttling.throttled(
        "2025", at.deployment, at.region, wait, kind="tokens", api_version=at.api_version
    )


def _without_retry_after(at: Situation) -> WireError:
    message = (
        f"Requests to the {at.operation} Operation under Azure OpenAI API version {at.api_version} have "
        "exceeded token rate limit of your current OpenAI S0 pricing tier. Please go here: "
        "https://aka.ms/oai/quotaincrease if you would like to further increase the default rate limit."
    )
    headers = {"x-rate-limit-reset-tokens": "55", "policy-id": "DeploymentRatelimit-Token"}
    return gateway_error(429, "429", message, headers)


def _sentinels(_: Situation) -> WireError:
    headers = {
        "x-ratelimit-limit-tokens": "-1",
        "x-ratelimit-remaining-tokens": "-1",
        "x-ratelimit-reset-tokens": "0",
    }
    return gateway_error(429, "too_many_requests", "Too Many Requests", headers)


def _top_level(status: int, message: str) -> Failure:
    return lambda _: WireError(status, {"statusCode": status, "message": message})


def _gateway(status: int, code: str, message: str) -> Failure:
    return lambda _: gateway_error(status, code, message)


def _html(status: int, title: str) -> Failure:
    page = (
        f"<html><head><title>{title}</title></head><body><center><h1>{title}</h1></center>"
        "<hr><center>nginx</center></body></html>"
    )
    if status < 400:
        return lambda _: Answer(status, {"content-type": "text/html"}, page)
    return lambda _: WireError(status, page, media_type="text/html")


def _apim_500(_: Situation) -> WireError:
    body = {"statusCode": 500, "message": "Internal server error", "activityId": str(uuid.uuid4())}
    return WireError(500, body)


def _empty(status: int) -> Failure:
    return lambda _: WireError(status, b"", media_type=None)


def _error_with_200(at: Situation) -> Answer:
    body = wire_errors.server_error(at.request_id).body
    return Answer(200, {"content-type": "application/json"}, body)


def _refused(message: str, param: str | None, code: str | None) -> Failure:
    return lambda at: invalid_request(message.replace("{model}", at.model or at.deployment), param, code)


def _filtered(at: Situation) -> WireError:
    return wire_errors.content_filtered({"violence": {"filtered": True, "severity": "high"}})


def _jailbreak(at: Situation) -> WireError:
    """The variant with ``inner_error`` and a category without a severity."""
    error = wire_errors.content_filtered()
    inner = error.body["error"].pop("innererror")
    results = {**inner["content_filter_result"], "jailbreak": {"filtered": True, "detected": True}}
    error.body["error"]["inner_error"] = {"code": inner["code"], "content_filter_results": results}
    return error


def _filtered_bare(at: Situation) -> WireError:
    error = wire_errors.content_filtered()
    del error.body["error"]["innererror"]
    return error


FAILURES: dict[str, Failure] = {
    "400": _refused("The request is invalid.", None, None),
    "401-key": lambda _: wire_errors.bad_key(),
    "401-token": lambda _: wire_errors.bad_token(),
    "401-scoped-token": _top_level(
        401,
        "Unauthorized. Access token is missing, invalid, audience is incorrect "
        "(urn:ms.scopedToken or urn:ms.faceSessionToken), or have expired.",
    ),
    "401-rbac": _gateway(401, "PermissionDenied", "Principal does not have access to API/Operation."),
    "403-vnet": _gateway(403, "403", "Access denied due to Virtual Network/Firewall rules."),
    "403-endpoint": _gateway(
        403,
        "403",
        "A Virtual Network is configured for this resource. Please use the correct endpoint for making "
        "requests. Check https://aka.ms/cogsvc-vnet for more details.",
    ),
    "403-private": _gateway(403, "403", "Public access is disabled. Please configure private endpoint."),
    "403-blocked": _gateway(403, "403", "The resource has been temporarily blocked."),
    "404-deployment": lambda at: wire_errors.deployment_not_found(at.quirks),
    "404-resource": lambda _: wire_errors.resource_not_found(),
    "408": lambda _: wire_errors.timed_out(),
    "424": _gateway(424, "FailedDependency", "The request to the model failed."),
    "429-2023": _throttled("2023", 22),
    "429-2025": _throttled("2025", 45),
    "429-2026": _throttled("2026", 1),
    "429-apim": _throttled("apim", 5),
    "429-requests": _throttled("2025", 1, "requests"),
    "429-no-retry-after": _without_retry_after,
    "429-day": _day_long,
    "429-sentinels": _sentinels,
    "429-capacity": _gateway(
        429, "429", "System is experiencing high demand and cannot process your request. Please retry later."
    ),
    "429-ptu": lambda at: throttling.provisioned_full(1.5 if at.retry_after is None else at.retry_after),
    "500": lambda at: wire_errors.server_error(at.request_id),
    "500-apim": _apim_500,
    "502-html": _html(502, "502 Bad Gateway"),
    "503": _gateway(503, "ServiceUnavailable", "The service is temporarily unable to process your request."),
    "503-empty": _empty(503),
    "504-html": _html(504, "504 Gateway Time-out"),
    "200-error": _error_with_200,
    "200-html": _html(200, "Sign in"),
    "200-empty": lambda _: Answer(200),
    "200-broken-json": lambda _: Answer(200, {"content-type": "application/json"}, '{"choices": [{"mess'),
    "content-filter-prompt": _filtered,
    "content-filter-jailbreak": _jailbreak,
    "content-filter-bare": _filtered_bare,
    "context-length": lambda _: wire_errors.context_length(
        "This model's maximum context length is 128000 tokens. However, your messages resulted in 192041 "
        "tokens. Please reduce the length of the messages."
    ),
    "context-length-completion": lambda _: wire_errors.context_length(
        "This model's maximum context length is 32768 tokens. However, you requested 35969 tokens (9969 in "
        "the messages, 26000 in the completion). Please reduce the length of the messages or completion."
    ),
    "operation-not-supported": lambda at: WireError(
        400,
        {
            "error": {
                "code": "OperationNotSupported",
                "message": "The chatCompletion operation does not work with the specified model, "
                f"{at.model or at.deployment}. Please choose different model and try again.",
            }
        },
    ),
    "unsupported-max-tokens": _refused(
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' "
        "instead.",
        "max_tokens",
        "unsupported_parameter",
    ),
    "unsupported-temperature": _refused(
        "Unsupported value: 'temperature' does not support 0.0 with this model. Only the default (1) value "
        "is supported.",
        "temperature",
        "unsupported_value",
    ),
    "unsupported-temperature-null-code": _refused(
        "Unsupported value: 'temperature' does not support 0.0 with this model. Only the default (1) value "
        "is supported.",
        "temperature",
        None,
    ),
    "tools-need-responses": _refused(
        "Function tools with reasoning_effort are not supported for {model} in /v1/chat/completions. To use "
        "function tools, use /v1/responses or set reasoning_effort to 'none'.",
        "reasoning_effort",
        None,
    ),
    "bad-tool-name": _refused(
        "Invalid 'tools[0].function.name': string does not match pattern. Expected a string that matches "
        "the pattern '^[a-zA-Z0-9_\\.-]+$'.",
        "tools[0].function.name",
        "invalid_value",
    ),
}
"""Name -> the answer. Those that begin with a number answer with that status."""

TWISTS = frozenset(
    {
        "json-for-stream",
        "content-filter-completion",
        "content-filter-async",
        "content-filter-down",
        "stream-error",
        "broken-sse",
        "empty-length",
    }
)
"""Ways to spoil the model's own answer; those of streams leave other answers alone."""


CONNECTION_DROP = "connection-drop"
"""Not an answer at all: the connection is closed."""


def failure_names() -> list[str]:
    """Every name a fault rule may use, sorted."""
    return sorted({*FAILURES, *TWISTS, CONNECTION_DROP})


def failure(name: str, at: Situation) -> WireError | Answer:
    """The answer called ``name``, worded for the situation. Raises `KeyError` for a twist."""
    return FAILURES[name](at)
