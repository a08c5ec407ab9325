"""Error answers as typed errors with their facts."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest

from loom_anthropic.errors import error_from_answer
from loom_anthropic.headers import facts, retry_after
from loom_py.errors import (
    AuthenticationError,
    ContentFilterError,
    ContextLengthError,
    DeploymentNotFoundError,
    InvalidRequestError,
    LoomError,
    NotFoundError,
    PermissionDeniedError,
    ProviderError,
    RateLimitError,
    RequestTimeoutError,
    ServiceUnavailableError,
    UnsupportedParameterError,
)

BAD = "invalid_request_error"


def error(
    status: int, kind: str = "", message: str = "", headers: dict[str, str] | None = None
) -> ProviderError:
    body = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_body"}
    return error_from_answer(status, headers or {}, json.dumps(body).encode())


@pytest.mark.parametrize(
    ("status", "kind", "message", "expected", "retryable"),
    [
        (400, BAD, "max_tokens: Field required", InvalidRequestError, False),
        (400, BAD, "prompt is too long: 2 tokens > 1 maximum", ContextLengthError, False),
        (400, BAD, "Your credit balance is too low", PermissionDeniedError, False),
        (400, BAD, "You have reached your specified API usage limits.", PermissionDeniedError, False),
        (400, BAD, "Output blocked by content filtering policy", ContentFilterError, False),
        (400, BAD, "temperature: Extra inputs are not permitted", UnsupportedParameterError, False),
        (400, BAD, '"thinking.type" is not supported for this model.', UnsupportedParameterError, False),
        (401, "authentication_error", "invalid x-api-key", AuthenticationError, False),
        (402, "billing_error", "Pay first", PermissionDeniedError, False),
        (403, "permission_error", "Not yours", PermissionDeniedError, False),
        (404, "not_found_error", "model: claude-9", DeploymentNotFoundError, False),
        (404, "not_found_error", "Not Found", NotFoundError, False),
        (413, "request_too_large", "Request exceeds the maximum size", InvalidRequestError, False),
        (429, "rate_limit_error", "50 requests per minute", RateLimitError, True),
        (500, "api_error", "Internal server error", ServiceUnavailableError, True),
        (504, "timeout_error", "Too slow", RequestTimeoutError, True),
        (529, "overloaded_error", "Overloaded", ServiceUnavailableError, True),
        (418, "", "I'm a teapot", ProviderError, False),
    ],
)  # fmt: skip
def test_each_answer_is_its_error(
    status: int, kind: str, message: str, expected: type[LoomError], retryable: bool
) -> None:
    found = error(status, kind, message)
    assert type(found) is expected
    assert (found.http_status, found.retryable) == (status, retryable)
    assert found.message == message
    assert found.request_id == "req_body"
    assert found.provider_code == (kind or None)


def test_the_numbers_of_a_prompt_that_is_too_long() -> None:
    first = error(400, BAD, "prompt is too long: 212,345 tokens > 200,000 maximum")
    second = error(
        400,
        BAD,
        "input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000, decrease input length",
    )
    assert isinstance(first, ContextLengthError)
    assert (first.used, first.limit) == (212_345, 200_000)
    assert isinstance(second, ContextLengthError)
    assert (second.used, second.limit) == (209_573, 200_000)


def test_the_part_that_was_refused_is_named() -> None:
    found = error(400, BAD, "messages.1.content.0.tool_use.id: String should match")
    assert isinstance(found, InvalidRequestError)
    assert found.param == "messages.1.content.0.tool_use.id"
    found = error(400, BAD, "`temperature` is deprecated for this model.")
    assert isinstance(found, UnsupportedParameterError)
    assert found.param == "temperature"


def test_the_stable_code_of_an_error_comes_before_its_type() -> None:
    body = {
        "type": "error",
        "error": {"type": "billing_error", "message": "x", "details": {"error_code": "spend_limit_reached"}},
    }
    assert error_from_answer(402, {}, json.dumps(body).encode()).provider_code == "spend_limit_reached"


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("rate limit of 50 requests per minute", "requests"),
        ("rate limit of 40,000 input tokens per minute", "tokens"),
        ("Number of concurrent connections has exceeded", "requests"),
        ("acceleration limit", "capacity"),
        ("slow down", None),
    ],
)
def test_a_rate_limit_says_which_limit_it_was(message: str, kind: str | None) -> None:
    found = error(429, "rate_limit_error", message)
    assert isinstance(found, RateLimitError)
    assert found.kind == kind


def test_waits_come_from_the_header_or_the_reset_of_what_is_used_up() -> None:
    now = dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.UTC).timestamp()
    resets = {
        "anthropic-ratelimit-requests-remaining": "0",
        "anthropic-ratelimit-requests-reset": "2026-11-23T12:00:09Z",
        "anthropic-ratelimit-input-tokens-remaining": "0",
        "anthropic-ratelimit-input-tokens-reset": "2026-11-23T12:00:30Z",
        "anthropic-ratelimit-output-tokens-remaining": "5",
        "anthropic-ratelimit-output-tokens-reset": "2026-11-23T12:01:00Z",
    }
    assert retry_after(resets, clock=lambda: now) == 30
    assert retry_after({**resets, "retry-after": "4"}, clock=lambda: now) == 4
    assert retry_after(resets, clock=lambda: now, resets=False) is None
    assert retry_after({"anthropic-ratelimit-requests-remaining": "0"}, clock=lambda: now) is None
    odd = {**resets, "anthropic-ratelimit-input-tokens-reset": "soon"}
    assert retry_after(odd, clock=lambda: now) == 9


def test_rate_limits_have_the_names_that_a_limiter_knows() -> None:
    headers = {
        "request-id": "req_1",
        "anthropic-ratelimit-requests-limit": "50",
        "anthropic-ratelimit-requests-remaining": "49",
        "anthropic-ratelimit-input-tokens-limit": "40000",
        "anthropic-ratelimit-input-tokens-remaining": "39000",
    }
    found = facts(headers)
    assert found["limit_requests"] == "50"
    assert found["remaining_requests"] == "49"
    assert (found["limit_tokens"], found["remaining_tokens"]) == ("40000", "39000")
    tight = facts(
        {**headers, "anthropic-ratelimit-tokens-limit": "8000", "anthropic-ratelimit-tokens-remaining": "1"}
    )
    assert (tight["limit_tokens"], tight["remaining_tokens"]) == ("8000", "1")
    assert facts({}) == {}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html><title>502 Bad Gateway</title>",
        b"[1]",
        b'{"error": 3}',
        b'{"error": "x"}',
        b"\xff\xfe",
        b"{" * 9000,
    ],
)
def test_bodies_of_gateways_are_described_and_never_raise(body: bytes) -> None:
    found = error_from_answer(502, {"request-id": "req_9"}, body)
    assert isinstance(found, ServiceUnavailableError)
    assert found.message
    assert found.request_id == "req_9"


def test_a_page_of_a_message_is_cut() -> None:
    found: Any = error(500, "api_error", "x" * 10_000)
    assert len(found.message) < 3000
