"""Every error body Azure is known to send, and every one it might."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loom_py import errors as e
from loom_py.llm.azure.errors import error_from_answer, error_from_body


def answer(status: int, body: Any, headers: dict[str, str] | None = None) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return error_from_answer(status, headers or {}, content)


def said(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, **more}}


TABLE: list[Any] = [
    # 401
    (
        401,
        said(
            "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a"
            " valid key for an active subscription.",
            code="401",
        ),
        e.AuthenticationError,
        "API key",
    ),
    (
        401,
        {
            "statusCode": 401,
            "message": "Unauthorized. Access token is missing, invalid, audience is incorrect"
            " (https://cognitiveservices.azure.com), or have expired.",
        },
        e.AuthenticationError,
        "fresh Entra token",
    ),
    (
        401,
        said("Principal does not have access to API/Operation.", code="PermissionDenied"),
        e.AuthenticationError,
        "Cognitive Services OpenAI User",
    ),
    (
        401,
        said("The principal `x` lacks the required data action `…/action` to perform `POST …`."),
        e.AuthenticationError,
        "Cognitive Services OpenAI User",
    ),
    # 403
    (
        403,
        said("Access denied due to Virtual Network/Firewall rules.", code="AccessDenied"),
        e.NetworkAccessError,
        "firewall",
    ),
    (
        403,
        said("A Virtual Network is configured for this resource. Please use the correct endpoint …"),
        e.NetworkAccessError,
        "sub-domain",
    ),
    (
        403,
        said("Public access is disabled. Please configure private endpoint."),
        e.NetworkAccessError,
        "private endpoint",
    ),
    (403, said("Your resource has been temporarily blocked."), e.PermissionDeniedError, "blocked"),
    (403, said("Forbidden"), e.PermissionDeniedError, "Cognitive Services OpenAI User"),
    # 404
    (
        404,
        said(
            "The API deployment for this resource does not exist. If you created the deployment …",
            code="DeploymentNotFound",
            type="invalid_request_error",
        ),
        e.DeploymentNotFoundError,
        "five minutes",
    ),
    (404, said("Resource not found", code="404"), e.NotFoundError, "api_version"),
    (404, b"", e.NotFoundError, "api_version"),
    # 408, 429
    (408, said("The operation was timeout.", code="Timeout"), e.RequestTimeoutError, "timeout="),
    (429, said("Your requests have exceeded rate limit.", code="RateLimitReached"), e.RateLimitError, None),
    (429, {"statusCode": 429, "message": "Rate limit is exceeded."}, e.RateLimitError, None),
    (429, b"<html><title>Too many</title></html>", e.RateLimitError, None),
    # 5xx
    (
        500,
        said("The server had an error processing your request.", type="server_error", param=None, code=None),
        e.ServiceUnavailableError,
        None,
    ),
    (
        500,
        {"statusCode": 500, "message": "Internal server error", "activityId": "a"},
        e.ServiceUnavailableError,
        None,
    ),
    (502, b"<html><head><title>502 Bad Gateway</title></head></html>", e.ServiceUnavailableError, None),
    (503, b"", e.ServiceUnavailableError, None),
    (504, b"<html>", e.ServiceUnavailableError, None),
    (409, said("conflict"), e.ServiceUnavailableError, None),
    # 400
    (
        400,
        said(
            "The response was filtered: the prompt triggered Azure OpenAI's content management policy.",
            code="content_filter",
            param="prompt",
        ),
        e.ContentFilterError,
        "Rephrase",
    ),
    (
        400,
        said(
            "The chatCompletion operation does not work with the specified model, text-embedding-ada-002.",
            code="OperationNotSupported",
        ),
        e.InvalidRequestError,
        "chat model",
    ),
    (
        400,
        said("'$.input' is invalid.", type="invalid_request_error", code=None),
        e.InvalidRequestError,
        None,
    ),
    (
        400,
        said(
            "'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
            code="unsupported_parameter",
            param="max_tokens",
        ),
        e.UnsupportedParameterError,
        "model_name=",
    ),
    (
        400,
        said("Unsupported value: 'temperature' does not support 0.2 with this model.", param="temperature"),
        e.UnsupportedParameterError,
        "model_name=",
    ),
    (
        400,
        said(
            "Function tools with reasoning_effort are not supported for gpt-5.6-terra in /v1/….",
            param="reasoning_effort",
        ),
        e.UnsupportedParameterError,
        "reasoning_effort='none'",
    ),
    (
        400,
        said(
            "Invalid 'tools[0].function.name': string does not match pattern.",
            code="invalid_value",
            param="tools[0].function.name",
        ),
        e.InvalidRequestError,
        "letters",
    ),
    (
        400,
        said(
            "Invalid 'tools[0].function.description': string too long.",
            code="string_above_max_length",
            param="tools[0].function.description",
        ),
        e.InvalidRequestError,
        None,
    ),
    (
        400,
        said(
            "Invalid 'messages[1].content': string too long.",
            code="string_above_max_length",
            param="messages[1].content",
        ),
        e.ContextLengthError,
        "Shorten",
    ),
    (
        400,
        {"requestid": "1", "errortype": "Authorization Middleware Error", "message": "no"},
        e.InvalidRequestError,
        None,
    ),
    (400, said("prompt is too long: 9 tokens"), e.ContextLengthError, "Shorten"),
    (400, said("input exceeds context limit"), e.ContextLengthError, "Shorten"),
    (400, said("bad", code="invalid_api_key"), e.InvalidRequestError, None),
    (429, said("prompt is too long"), e.RateLimitError, None),
    (307, b"", e.ProviderError, "endpoint"),
    (418, said("teapot"), e.ProviderError, None),
]


@pytest.mark.parametrize(("status", "body", "kind", "hint"), TABLE)
def test_a_body_becomes_the_right_error(status: int, body: Any, kind: type[Any], hint: str | None) -> None:
    error = answer(status, body, {"apim-request-id": "id-1"})
    assert type(error) is kind
    assert error.http_status == status
    assert error.request_id == "id-1"
    assert error.message
    if hint is not None:
        assert hint in error.hint
    copied = pickle.loads(pickle.dumps(error))
    assert (type(copied), copied.to_dict()) == (kind, error.to_dict())


@pytest.mark.parametrize(
    ("status", "retryable"),
    [(401, False), (403, False), (404, False), (400, False), (408, True), (429, True)],
)
def test_what_may_succeed_later_says_so(status: int, retryable: bool) -> None:
    assert answer(status, said("no")).retryable is retryable


# ── the content filter ───────────────────────────────────────────────────────────────────

HATE = {"hate": {"filtered": True, "severity": "high"}, "violence": {"filtered": False, "severity": "safe"}}
PROMPT = "The response was filtered due to the prompt triggering our content management policy."


@pytest.mark.parametrize(
    "error",
    [
        {"code": "content_filter", "innererror": {"code": "ContentFiltered", "content_filter_result": HATE}},
        {"code": "content_filter", "inner_error": {"code": "NewCode", "content_filter_results": HATE}},
        {"code": None, "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": HATE}},
        {"code": "BadRequest", "innererror": {"code": "ContentFiltered", "content_filter_result": HATE}},
        {
            "code": "400",
            "innererror": {
                "code": "Unheard-of",
                "content_filter_results": [{"content_filter_results": HATE}],
            },
        },
    ],
)
def test_the_filter_s_verdicts_are_found_in_every_shape(error: dict[str, Any]) -> None:
    found = answer(400, {"error": {"message": PROMPT, **error}})
    assert type(found) is e.ContentFilterError
    assert (found.side, found.filtered, found.categories) == ("prompt", ("hate",), HATE)


@pytest.mark.parametrize(
    "inner",
    [
        None,
        "text",
        [],
        {},
        {"content_filter_result": None},
        {"content_filter_result": {"custom_blocklists": [{"filtered": True, "id": "b"}]}},
        {"content_filter_result": {"jailbreak": {"filtered": True, "detected": True}}},
        {"content_filter_result": {"hate": {"filtered": True, "severity": "unheard-of"}, "x": None}},
    ],
)
def test_no_shape_of_verdicts_hides_the_filter(inner: Any) -> None:
    found = answer(400, said(PROMPT, code="content_filter", innererror=inner))
    assert type(found) is e.ContentFilterError
    assert isinstance(found.filtered, tuple)


def test_a_filter_that_is_down_is_no_violation() -> None:
    error = error_from_body(said("The contents are not filtered", code="content_filter_error"))
    assert type(error) is e.ServiceUnavailableError
    assert error.retryable


# ── numbers ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("message", "limit", "used"),
    [
        (
            "This model's maximum context length is 128000 tokens. Your messages resulted in 192041 tokens.",
            128000,
            192041,
        ),
        (
            "maximum context length is 32,768 tokens. However, you requested 35969 tokens (9969 in …).",
            32768,
            35969,
        ),
        ("Too long.", None, None),
        (f"maximum context length is {'9' * 5000} tokens", None, None),
    ],
)
def test_too_long_says_how_much(message: str, limit: int | None, used: int | None) -> None:
    error = answer(400, said(message, code="context_length_exceeded"))
    assert type(error) is e.ContextLengthError
    if limit is not None:
        assert (error.limit, error.used) == (limit, used)


@pytest.mark.parametrize(
    ("message", "headers", "kind", "wait"),
    [
        ("have exceeded token rate limit of your current OpenAI S0 pricing tier.", {}, "tokens", None),
        ("have exceeded call rate limit. Please retry after 22 seconds.", {}, "requests", 22.0),
        ("exceeded the token rate limit for your tier. Please retry after 45 seconds.", {}, "tokens", 45.0),
        ("System is experiencing high demand", {}, "capacity", None),
        ("Please retry after 86400 seconds.", {}, "daily", 86400.0),
        ("no", {"policy-id": "DeploymentRatelimit-Token", "x-rate-limit-reset-tokens": "55"}, "tokens", 55.0),
        ("no", {"Retry-After": "1", "Retry-After-Ms": "0"}, None, 1.0),
        ("no", {"x-ratelimit-reset-tokens": "-1", "x-ratelimit-reset-requests": "0"}, None, None),
    ],
)
def test_a_rate_limit_says_which_and_for_how_long(
    message: str, headers: dict[str, str], kind: str | None, wait: float | None
) -> None:
    error = answer(429, said(message, code="429"), headers)
    assert (type(error), error.kind, error.retry_after) == (e.RateLimitError, kind, wait)


def test_a_service_s_failure_obeys_retry_after_and_no_reset_header() -> None:
    assert answer(503, b"", {"retry-after": "4"}).retry_after == 4.0
    assert answer(500, b"", {"x-ratelimit-reset-tokens": "30"}).retry_after is None


# ── errors that came with status 200 or in a stream ──────────────────────────────────────


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (
            said("Invalid deployment", type="invalid_request_error", code="DeploymentNotFound"),
            e.DeploymentNotFoundError,
            404,
        ),
        (said("slow down", code="429"), e.RateLimitError, 429),
        (said("slow down", code=429), e.RateLimitError, 429),
        (said("slow down", code="rate_limit_exceeded"), e.RateLimitError, 429),
        (said("boom", type="server_error"), e.ServiceUnavailableError, 503),
        (said("boom", code="502"), e.ServiceUnavailableError, 502),
        (said("filtered", code="content_filter", status=400), e.ContentFilterError, 400),
        (said("wrong", type="invalid_request_error"), e.InvalidRequestError, 400),
        (said("what?"), e.ProviderError, None),
        ({"error": "plain text"}, e.ProviderError, None),
        ({"error": ["a", "list"]}, e.ProviderError, None),
    ],
)
def test_an_error_without_a_status_finds_its_own(body: Any, kind: type[Any], status: int | None) -> None:
    error = error_from_body(body)
    assert (type(error), error.http_status) == (kind, status)


# ── anything at all ──────────────────────────────────────────────────────────────────────


def test_a_page_is_named_by_its_title_and_not_repeated() -> None:
    page = b"<!DOCTYPE html><html><head><title> Gateway\nTime-out </title></head>" + b"x" * 10_000
    error = answer(504, page)
    assert "Gateway" in error.message
    assert len(error.message) < 200


@pytest.mark.parametrize(
    "body", [b'{"error": {"message": "cut', b"\xff\xfe\x00", b"null", b"[]", b'"text"', b"plain text", b"  "]
)
def test_a_body_that_is_no_object_is_described(body: bytes) -> None:
    assert answer(500, body).message.startswith("HTTP 500 with ")


def test_a_huge_message_is_cut() -> None:
    assert len(answer(400, said("deployment " * 1_000_000)).message) < 2100


def test_an_endlessly_nested_body_is_survived() -> None:
    assert answer(400, b"[" * 200_000).http_status == 400
    assert answer(400, b'{"error":{"message":' + b'{"a":' * 900 + b"1" + b"}" * 902).http_status == 400


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "error",
                    "code",
                    "message",
                    "type",
                    "param",
                    "innererror",
                    "inner_error",
                    "status",
                    "statusCode",
                    "content_filter_result",
                    "content_filter_results",
                    "details",
                    "filtered",
                    "hate",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=15,
)
bodies = st.one_of(st.binary(max_size=60), json_values.map(lambda value: json.dumps(value).encode()))
some_headers = st.dictionaries(
    st.sampled_from(["Retry-After", "retry-after-ms", "policy-id", "x-request-id", "content-type"])
    | st.text(),
    st.text(),
)


@given(st.integers(400, 599), some_headers, bodies)
def test_no_answer_can_make_the_reading_of_it_fail(status: int, headers: dict[str, str], body: bytes) -> None:
    error = error_from_answer(status, headers, body)
    assert isinstance(error, e.ProviderError)
    assert error.http_status == status
    assert str(error)
    json.dumps(error.to_dict())


@given(st.dictionaries(st.sampled_from(["error", "message", "code"]), json_values))
def test_no_error_object_can_make_the_reading_of_it_fail(data: dict[str, Any]) -> None:
    assert isinstance(error_from_body(data), e.ProviderError)
