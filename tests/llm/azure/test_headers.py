"""What headers say, and how little of it can be trusted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loom_py.llm.azure.headers import facts, header, request_id, retry_after

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def wait(headers: dict[str, str], message: str = "", **settings: Any) -> float | None:
    return retry_after(headers, message, NOW.timestamp, **settings)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "1"}, 1.0),
        ({"retry-after": "1", "retry-after-ms": "0"}, 1.0),
        ({"Retry-After": "1", "Retry-After-Ms": "0"}, 1.0),
        ({"retry-after-ms": "300"}, 0.3),
        ({"retry-after-ms": "1500", "retry-after": "1"}, 1.5),
        ({"x-ms-retry-after-ms": "250"}, 0.25),
        ({"retry-after": "86400"}, 86400.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "0"}, None),
        ({"retry-after": "abc"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": format_datetime(NOW + timedelta(seconds=30), usegmt=True)}, 30.0),
        ({"retry-after": "Mon, 23 Nov 2026 12:00:20"}, 20.0),
        ({"retry-after": format_datetime(NOW - timedelta(seconds=30), usegmt=True)}, None),
        ({"retry-after": "Mon, 99 Nov 99999 12:00:20 GMT"}, None),
        ({"x-ratelimit-reset-tokens": "2"}, 2.0),
        ({"x-rate-limit-reset-tokens": "55"}, 55.0),
        ({"x-ratelimit-reset-requests": "500"}, 0.5),
        ({"x-ratelimit-reset-tokens": "6m0s"}, 360.0),
        ({"x-ratelimit-reset-tokens": "120ms"}, 0.12),
        ({"x-ratelimit-reset-tokens": "-1", "x-ratelimit-reset-requests": "0"}, None),
        ({"x-ratelimit-reset-tokens": "2", "retry-after": "7"}, 7.0),
        ({"x-ratelimit-reset-tokens": "soon"}, None),
    ],
)
def test_the_wait_is_read_from_wherever_it_is_said(headers: dict[str, str], seconds: float | None) -> None:
    found = wait(headers)
    assert found == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        ("Please retry after 45 seconds.", 45.0),
        ("Please retry after 1 second", 1.0),
        ("Rate limit is exceeded. Try again in 9 seconds.", 9.0),
        ("retry after 250 ms", 0.25),
        ("retry after 250 milliseconds", 0.25),
        ("Try again in 2 minutes", 120.0),
        ("Please try again in 1m30s.", 90.0),
        ("Please try again in 6.5s.", 6.5),
        ("Please retry after 1 hour", 3600.0),
        ("try again in 1 day", 86400.0),
        ("Please retry after 12. Then call us.", 12.0),
        ("Please retry your request", None),
        ("it failed after 45 seconds", None),
        ("retry after " + "9" * 500, None),
    ],
)
def test_the_wait_is_read_from_the_sentence(message: str, seconds: float | None) -> None:
    assert wait({}, message) == seconds


def test_the_longest_wait_counts() -> None:
    assert wait({"retry-after": "1", "retry-after-ms": "0"}, "Please retry after 22 seconds.") == 22.0


def test_reset_headers_mean_nothing_where_no_quota_was_exceeded() -> None:
    assert wait({"x-ratelimit-reset-tokens": "30"}, resets=False) is None
    assert wait({"x-ratelimit-reset-tokens": "30", "retry-after": "3"}, resets=False) == 3.0


@given(
    st.dictionaries(
        st.sampled_from(["retry-after", "retry-after-ms", "Retry-After", "x-ratelimit-reset-tokens"]),
        st.one_of(st.text(), st.floats().map(str), st.datetimes().map(format_datetime)),
    ),
    st.one_of(st.text(), st.text("0123456789mhsd ", max_size=30).map("retry after ".__add__)),
)
def test_a_wait_is_a_positive_number_or_nothing(headers: dict[str, str], message: str) -> None:
    found = wait(headers, message)
    assert found is None or 0 < found < float("inf")


def test_the_model_s_own_request_id_comes_before_the_gateway_s() -> None:
    both = {"X-Request-Id": "model", "apim-request-id": "gateway"}
    assert request_id(both) == "model"
    assert request_id({"apim-request-id": "gateway", "x-request-id": ""}) == "gateway"
    assert request_id({}) is None
    assert header({"X-MS-Region": "East US"}, "x-ms-region") == "East US"


def test_the_facts_are_those_that_were_sent() -> None:
    assert facts({"x-ms-region": "Sweden", "x-ratelimit-remaining-tokens": "7", "apim-request-id": "a"}) == {
        "region": "Sweden",
        "remaining_tokens": "7",
        "request_id": "a",
    }
