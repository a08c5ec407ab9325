"""Quotas: what is counted, when it is refused, and in whose words."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, get_args

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loom_py.emulator import AzureEmulator, Ptu, Quota, VirtualClock
from loom_py.emulator.decode import decode_request
from loom_py.emulator.quotas import Bucket, Grant, Meter, Refusal, estimated_tokens
from loom_py.emulator.throttling import ThrottleStyle
from loom_py.llm.scripted import ScriptedProvider, ScriptedRequest, reply
from loom_py.messages import Response, TokenUsage

USER = {"role": "user", "content": "x" * 40}  # 10 tokens


class Client:
    def __init__(self, azure: AzureEmulator, http: httpx2.Client, clock: VirtualClock) -> None:
        self.azure = azure
        self.http = http
        self.clock = clock

    def ask(self, deployment: str = "chat", **body: Any) -> httpx2.Response:
        path = f"/openai/deployments/{deployment}/chat/completions?api-version=2025-01-01"
        return self.http.post(path, json={"messages": [USER], **body})

    def statuses(self, count: int) -> list[int]:
        return [self.ask().status_code for _ in range(count)]


@contextmanager
def limited(quota: Quota | Ptu, engine: Any = None) -> Iterator[Client]:
    clock = VirtualClock()
    settings: Any = {"deployments": ["chat", "other"], "quotas": {"chat": quota}, "clock": clock}
    with (
        AzureEmulator(engine, region="westeurope", **settings) as azure,
        httpx2.Client(base_url=azure.endpoint, headers={"api-key": azure.api_key}, verify=False) as http,
    ):
        yield Client(azure, http, clock)


# ── counting ─────────────────────────────────────────────────────────────────────────────


def test_the_estimate_is_a_quarter_of_the_characters_and_the_token_limit() -> None:
    messages = [{"role": "user", "content": "abcde"}]
    assert estimated_tokens(decode_request({"messages": messages})) == 2
    assert estimated_tokens(decode_request({"messages": messages, "max_tokens": 100})) == 102
    assert estimated_tokens(decode_request({"messages": messages, "max_completion_tokens": 7})) == 9


def test_the_estimate_counts_the_arguments_of_calls() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Berlin"}'}}
    messages = [
        {"role": "user", "content": "What's the weather in Berlin? Use the tool."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "Current weather in Berlin: 15C, wind 10 km/h"},
    ]
    assert estimated_tokens(decode_request({"messages": messages})) == 26


def test_tokens_are_limited_over_a_sliding_minute() -> None:
    with limited(Quota(tokens_per_minute=30)) as client:
        assert client.statuses(2) == [200, 200]
        client.clock.advance(20)
        assert client.statuses(2) == [200, 429]
        client.clock.advance(39.9)
        assert client.ask().status_code == 429
        client.clock.advance(0.1)
        assert client.statuses(3) == [200, 200, 429]
        client.clock.advance(20)
        assert client.statuses(2) == [200, 429]


def test_a_large_max_tokens_uses_up_the_quota_early() -> None:
    with limited(Quota(tokens_per_minute=1000)) as client:
        assert client.ask(max_tokens=980).status_code == 200
        assert client.ask(max_tokens=20).status_code == 429
        assert client.ask().status_code == 200  # ten more do fit


def test_requests_are_limited_over_slices() -> None:
    with limited(Quota(requests_per_minute=60, slice_seconds=1)) as client:
        assert client.statuses(2) == [200, 429]
        client.clock.advance(1)
        assert client.statuses(2) == [200, 429]
    with limited(Quota(requests_per_minute=12, slice_seconds=10)) as client:
        assert client.statuses(3) == [200, 200, 429]
        client.clock.advance(10)
        assert client.ask().status_code == 200


def test_a_slice_never_allows_more_than_a_minute_does() -> None:
    with limited(Quota(requests_per_minute=3, slice_seconds=1)) as client:  # a slice's share is rounded up
        taken = 0
        for _ in range(60):
            taken += client.ask().status_code == 200
            client.clock.advance(1)
        assert taken == 3


def test_other_deployments_keep_their_room() -> None:
    with limited(Quota(requests_per_minute=1)) as client:
        assert client.statuses(2) == [200, 429]
        assert client.ask("other").status_code == 200


def test_a_refused_request_counts_only_if_so_configured() -> None:
    with limited(Quota(requests_per_minute=6)) as client:
        assert client.statuses(2) == [200, 429]
        client.clock.advance(9)
        assert client.ask().status_code == 429
        client.clock.advance(1)
        assert client.ask().status_code == 200
    with limited(Quota(requests_per_minute=6, count_refused=True)) as client:
        assert client.statuses(2) == [200, 429]
        client.clock.advance(9)
        assert client.ask().status_code == 429
        client.clock.advance(9)
        assert client.ask().status_code == 429
        client.clock.advance(10)
        assert client.ask().status_code == 200


def test_a_request_the_model_refuses_has_used_quota() -> None:
    with limited(Quota(requests_per_minute=120, slice_seconds=1)) as client:
        refused = client.ask(n=2)
        assert refused.status_code == 400
        assert refused.headers["x-ratelimit-remaining-requests"] == "119"
        assert client.statuses(2) == [200, 429]


def test_without_a_quota_nothing_is_refused() -> None:
    with limited(Quota()) as client:
        assert set(client.statuses(30)) == {200}


def test_the_headers_tell_the_true_limit_and_what_is_left() -> None:
    with limited(Quota(tokens_per_minute=100, requests_per_minute=600)) as client:
        client.ask()
        headers = client.ask().headers
        told = {name: value for name, value in headers.items() if name.startswith("x-ratelimit-")}
        assert told == {
            "x-ratelimit-abusepenalty-active": "False",
            "x-ratelimit-key": "chat",
            "x-ratelimit-limit-requests": "600",
            "x-ratelimit-limit-tokens": "100",
            "x-ratelimit-remaining-requests": "598",
            "x-ratelimit-remaining-tokens": "80",
            "x-ratelimit-renewalperiod-requests": "60",
            "x-ratelimit-renewalperiod-tokens": "60",
            "x-ratelimit-reset-requests": "0",
            "x-ratelimit-reset-tokens": "0",
        }
        client.clock.advance(60)
        assert client.ask().headers["x-ratelimit-remaining-tokens"] == "90"


def test_resetting_the_emulator_gives_the_quota_back() -> None:
    with limited(Quota(requests_per_minute=1)) as client:
        assert client.statuses(2) == [200, 429]
        client.azure.reset()
        assert client.ask().status_code == 200


@given(
    st.lists(st.tuples(st.floats(0, 30), st.integers(0, 60)), max_size=40),
    st.integers(1, 100),
    st.integers(1, 30),
    st.sampled_from([1.0, 10.0]),
)
def test_no_window_ever_holds_more_than_its_limit(
    arrivals: list[tuple[float, int]], tpm: int, rpm: int, slice_seconds: float
) -> None:
    clock = VirtualClock()
    meter = Meter(Quota(tpm, rpm, slice_seconds), clock)
    admitted: list[tuple[float, int]] = []
    for pause, tokens in arrivals:
        clock.advance(pause)
        if isinstance(meter.admit(tokens), Grant):
            admitted.append((clock.now(), tokens))
    for start, _ in admitted:
        minute = [tokens for at, tokens in admitted if start <= at < start + 60 - 1e-3]
        assert sum(minute) <= tpm
        assert len(minute) <= rpm
        inside = [at for at, _ in admitted if start <= at < start + slice_seconds - 1e-3]
        assert len(inside) <= math.ceil(rpm * slice_seconds / 60)


@given(st.lists(st.tuples(st.floats(0, 20), st.integers(1, 50)), min_size=1, max_size=30))
def test_after_the_wait_it_was_told_a_request_fits(arrivals: list[tuple[float, int]]) -> None:
    clock = VirtualClock()
    meters: list[Meter | Bucket] = [Meter(Quota(50, 20), clock), Bucket(Ptu(50), clock)]
    for pause, tokens in arrivals:
        clock.advance(pause)
        for meter in meters:
            outcome = meter.admit(tokens)
            if isinstance(outcome, Refusal):
                clock.advance(outcome.wait)
                assert isinstance(meter.admit(tokens), Grant)


# ── the wordings ─────────────────────────────────────────────────────────────────────────


def refused(quota: Quota) -> httpx2.Response:
    with limited(quota) as client:
        client.ask()
        client.clock.advance(15.5)
        return client.ask()


def test_the_429_of_2026_sends_zero_milliseconds() -> None:
    response = refused(Quota(tokens_per_minute=10))
    assert response.status_code == 429
    message = "Your requests to chat for chat in westeurope have exceeded rate limit."
    assert response.json() == {"error": {"code": "RateLimitReached", "message": message, "details": message}}
    assert response.headers["retry-after"] == "45"
    assert response.headers["retry-after-ms"] == "0"
    assert response.headers["x-ms-region"] == "westeurope"
    assert "x-request-id" not in response.headers


def test_the_429_of_2026_may_tell_the_truth() -> None:
    headers = refused(Quota(tokens_per_minute=10, zero_retry_after_ms=False)).headers
    assert (headers["retry-after"], headers["retry-after-ms"]) == ("45", "44500")


def test_the_429_of_2025_says_the_wait_in_a_sentence() -> None:
    response = refused(Quota(tokens_per_minute=10, style="2025"))
    assert response.json()["error"] == {
        "code": "429",
        "message": "Your requests to chat for chat in westeurope have exceeded the token rate limit for your "
        "current AIServices S0 pricing tier. This request was for ChatCompletions_Create under Azure OpenAI "
        "API version 2025-01-01. Please retry after 45 seconds.",
    }
    assert response.headers["retry-after"] == "45"


@pytest.mark.parametrize(
    ("quota", "noun", "policy"),
    [
        (Quota(tokens_per_minute=10, style="2023"), "token", "Token"),
        (Quota(requests_per_minute=1, style="2023"), "call", "Call"),
    ],
)
def test_the_429_of_2023_has_no_retry_after(quota: Quota, noun: str, policy: str) -> None:
    response = refused(quota)
    message = response.json()["error"]["message"]
    assert f"have exceeded {noun} rate limit of your current OpenAI S0 pricing tier" in message
    assert "Please retry after 45 seconds." in message
    assert not [name for name in response.headers if name.startswith("retry-after")]
    assert response.headers["policy-id"] == f"DeploymentRatelimit-{policy}"


def test_the_429_of_the_gateway_has_no_error_object() -> None:
    response = refused(Quota(requests_per_minute=1, style="apim"))
    assert response.json() == {
        "statusCode": 429,
        "message": "Rate limit is exceeded. Try again in 45 seconds.",
    }
    assert response.headers["retry-after"] == "45"


@pytest.mark.parametrize("style", get_args(ThrottleStyle))
def test_a_stream_is_refused_in_json_too(style: ThrottleStyle) -> None:
    with limited(Quota(requests_per_minute=1, style=style)) as client:
        client.ask(stream=True)
        response = client.ask(stream=True)
    assert (response.status_code, response.headers["content-type"]) == (429, "application/json")


# ── provisioned throughput ───────────────────────────────────────────────────────────────


def test_provisioned_throughput_refuses_at_full_utilisation_with_a_true_wait() -> None:
    with limited(Ptu(tokens_per_minute=60), speaking(TokenUsage(90, 10))) as client:
        assert client.ask().status_code == 200
        full = client.ask()
        assert full.status_code == 429
        milliseconds = int(full.headers["retry-after-ms"])
        assert 40_000 < milliseconds <= 40_002
        assert full.headers["retry-after"] == "41"
        client.clock.advance(milliseconds / 1000)
        assert client.ask().status_code == 200


def speaking(usage: TokenUsage) -> ScriptedProvider:
    def answer(request: ScriptedRequest) -> Response:
        return reply("said", tokens=usage)

    return ScriptedProvider(answer)


@pytest.mark.parametrize("stream", [False, True])
def test_provisioned_throughput_corrects_its_estimate_and_cached_input_is_free(stream: bool) -> None:
    with limited(Ptu(tokens_per_minute=1000), speaking(TokenUsage(500, 100, cached_input=400))) as client:
        assert client.ask(max_tokens=990, stream=stream).status_code == 200  # filled to the brim
        headers = client.ask().headers
        assert headers["azure-openai-deployment-utilization"] == "21.0%"  # 200 used, 10 estimated


# ── settings ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "settings",
    [
        {"tokens_per_minute": 0},
        {"requests_per_minute": -1},
        {"slice_seconds": 0},
        {"slice_seconds": 61},
        {"style": "2024"},
    ],
)
def test_a_quota_that_makes_no_sense_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="|".join(settings)):
        Quota(**settings)


def test_a_quota_of_an_unknown_deployment_is_refused() -> None:
    with pytest.raises(ValueError, match="quotas names deployments that do not exist: nope"):
        AzureEmulator(quotas={"nope": Ptu(1)})
