"""The loopback OpenAI, asked by the official client and by plain HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import openai as sdk
import pytest

from loom_py import ScriptedProvider
from loom_py.emulator import ContentFilters, FaultPlan, FaultRule, OpenAIEmulator, Quota
from loom_py.emulator.openai_dialect import duration
from loom_py.llm.scripted import call

HELLO: Any = [{"role": "user", "content": "Hello there"}]


@pytest.fixture
def emulator() -> Iterator[OpenAIEmulator]:
    with OpenAIEmulator(models={"gpt-4o": "gpt-4o-2024-08-06", "gpt-5": "gpt-5-2025-08-07"}) as running:
        yield running


@pytest.fixture
def client(emulator: OpenAIEmulator) -> Iterator[sdk.OpenAI]:
    with sdk.OpenAI(
        base_url=emulator.base_url,
        api_key=emulator.api_key,
        max_retries=0,
        http_client=httpx2.Client(verify=False),
    ) as made:
        yield made


def test_the_official_client_gets_a_completion_without_azures_annotations(
    emulator: OpenAIEmulator, client: sdk.OpenAI
) -> None:
    answer = client.chat.completions.with_raw_response.create(model="gpt-4o", messages=HELLO)
    completion = answer.parse()
    assert completion.choices[0].message.content == "Hello there"
    assert (completion.model, completion.service_tier) == ("gpt-4o-2024-08-06", "default")
    assert "content_filter" not in answer.text
    assert "prompt_filter_results" not in answer.text
    headers = answer.headers
    assert headers["x-request-id"].startswith("req_")
    assert headers["openai-organization"] == "org-emulator"
    assert int(headers["x-ratelimit-remaining-requests"]) < int(headers["x-ratelimit-limit-requests"])
    assert headers["x-ratelimit-reset-requests"].endswith("s")
    assert not [name for name in headers if name.startswith(("x-ms", "apim", "azureml"))]


def test_the_official_client_reads_a_stream_of_calls(emulator: OpenAIEmulator, client: sdk.OpenAI) -> None:
    emulator.engine = ScriptedProvider([call("look_up", q="größe")])
    schema = {"type": "object", "properties": {"q": {"type": "string"}}}
    tools: Any = [{"type": "function", "function": {"name": "look_up", "parameters": schema}}]
    chunks = list(
        client.chat.completions.create(
            model="gpt-4o", messages=HELLO, tools=tools, stream=True, stream_options={"include_usage": True}
        )
    )
    assert chunks[0].model == "gpt-4o-2024-08-06"
    assert "content_filter" not in json.dumps([chunk.to_dict() for chunk in chunks])
    pieces = [
        piece for chunk in chunks for choice in chunk.choices for piece in choice.delta.tool_calls or ()
    ]
    text = "".join(piece.function.arguments or "" for piece in pieces if piece.function)
    assert json.loads(text) == {"q": "größe"}
    assert chunks[-1].usage is not None


@pytest.mark.parametrize("stream", [False, True])
def test_the_responses_api_names_the_snapshot_and_no_filter(
    emulator: OpenAIEmulator, client: sdk.OpenAI, stream: bool
) -> None:
    answer: Any = client.responses.create(model="gpt-5", input="Hello there", stream=stream)
    whole = list(answer)[-1].response if stream else answer
    assert (whole.output_text, whole.model) == ("Hello there", "gpt-5-2025-08-07")
    assert "content_filters" not in whole.to_dict()


def test_models_are_listed_and_told_one_by_one(client: sdk.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["gpt-4o", "gpt-5"]
    assert client.models.retrieve("gpt-5").owned_by == "openai"
    with pytest.raises(sdk.NotFoundError) as caught:
        client.models.retrieve("gpt-9")
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("headers", "code", "says"),
    [
        ({}, None, "You didn't provide an API key"),
        ({"api-key": "sk-emulator-key"}, None, "You didn't provide an API key"),
        (
            {"authorization": "Bearer sk-wrong-0123456789"},
            "invalid_api_key",
            "Incorrect API key provided: sk-",
        ),
    ],
)
@pytest.mark.parametrize(("method", "path"), [("POST", "/chat/completions"), ("GET", "/models")])
def test_only_a_bearer_key_is_a_key(
    emulator: OpenAIEmulator, method: str, path: str, headers: dict[str, str], code: str | None, says: str
) -> None:
    body = {"model": "gpt-4o", "messages": HELLO}
    with httpx2.Client(verify=False) as http:
        answer = http.request(method, f"{emulator.base_url}{path}", headers=headers, json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["code"]) == (401, "invalid_request_error", code)
    assert error["message"].startswith(says)
    assert "sk-wrong-0123456789" not in answer.text


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "says"),
    [
        ("POST", "/v1/completions", 404, None, "Invalid URL (POST /v1/completions)"),
        ("POST", "/openai/v1/chat/completions", 404, None, "Invalid URL (POST /openai/v1/chat/completions)"),
        ("GET", "/v1/chat/completions", 405, "method_not_supported", "Not allowed to GET"),
        ("POST", "/v1/models", 405, "method_not_supported", "Not allowed to POST"),
    ],
)
def test_other_paths_and_methods_are_refused_in_openais_words(
    emulator: OpenAIEmulator, method: str, path: str, status: int, code: str | None, says: str
) -> None:
    with httpx2.Client(verify=False, headers={"authorization": f"Bearer {emulator.api_key}"}) as http:
        answer = http.request(
            method, f"{emulator.endpoint}{path}", json={"model": "gpt-4o", "messages": HELLO}
        )
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code)
    assert error["message"].startswith(says)


def test_an_unknown_model_and_none_at_all_are_told_apart(client: sdk.OpenAI) -> None:
    with pytest.raises(sdk.NotFoundError, match="The model `gpt-9` does not exist"):
        client.chat.completions.create(model="gpt-9", messages=HELLO)
    with pytest.raises(sdk.BadRequestError, match="you must provide a model parameter"):
        client.chat.completions.create(model="", messages=HELLO)


@pytest.mark.parametrize(
    ("status", "kind", "code", "says"),
    [
        (401, sdk.AuthenticationError, "invalid_api_key", "Incorrect API key"),
        (404, sdk.NotFoundError, "model_not_found", "The model `gpt-4o`"),
        (429, sdk.RateLimitError, "rate_limit_exceeded", "Rate limit reached for gpt-4o"),
        (500, sdk.InternalServerError, None, "The server had an error"),
    ],
)
def test_a_scripted_failure_is_worded_as_openai_words_it(
    emulator: OpenAIEmulator, client: sdk.OpenAI, status: int, kind: type, code: str | None, says: str
) -> None:
    emulator.fail_next(status)
    with pytest.raises(kind) as caught:
        client.chat.completions.create(model="gpt-4o", messages=HELLO)
    assert isinstance(caught.value, sdk.APIStatusError)
    assert caught.value.code == code
    assert says in caught.value.message
    assert "azure" not in caught.value.message.lower()


def test_what_a_test_says_of_a_failure_goes_out_as_it_says(
    emulator: OpenAIEmulator, client: sdk.OpenAI
) -> None:
    emulator.fail_next(429, code="insufficient_quota", message="No money left.")
    with pytest.raises(sdk.RateLimitError) as caught:
        client.chat.completions.create(model="gpt-4o", messages=HELLO)
    assert (caught.value.code, caught.value.body) == (
        "insufficient_quota",
        {"message": "No money left.", "type": "requests", "param": None, "code": "insufficient_quota"},
    )


def test_a_quota_refuses_with_the_wait_in_words_and_headers() -> None:
    with (
        OpenAIEmulator(
            models=["gpt-4o"], quotas={"gpt-4o": Quota(100_000, requests_per_minute=1)}
        ) as emulator,
        sdk.OpenAI(base_url=emulator.base_url, api_key=emulator.api_key, max_retries=0) as client,
    ):
        client.chat.completions.create(model="gpt-4o", messages=HELLO)
        with pytest.raises(sdk.RateLimitError) as caught:
            client.chat.completions.create(model="gpt-4o", messages=HELLO)
    assert caught.value.type == "requests"
    assert "requests per min (RPM): Limit 1. Please try again in" in caught.value.message
    assert 0 < int(caught.value.response.headers["retry-after"]) <= 61


def test_a_filtered_prompt_is_an_invalid_prompt() -> None:
    filters = ContentFilters(prompt=["attack"])
    with (
        OpenAIEmulator(models=["gpt-4o"], filters=filters) as emulator,
        sdk.OpenAI(base_url=emulator.base_url, api_key=emulator.api_key, max_retries=0) as client,
        pytest.raises(sdk.BadRequestError) as caught,
    ):
        client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "attack!"}])
    assert caught.value.code == "invalid_prompt"
    assert "content_filter_result" not in caught.value.response.text


def test_an_error_in_a_stream_has_openais_words_and_a_plan_works_as_everywhere() -> None:
    plan = FaultPlan(rules=(FaultRule(error="stream-error", nth=1),))
    with (
        OpenAIEmulator(models=["gpt-4o"], faults=plan) as emulator,
        sdk.OpenAI(base_url=emulator.base_url, api_key=emulator.api_key, max_retries=0) as client,
        pytest.raises(sdk.APIError, match=r"help\.openai\.com"),
    ):
        list(client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.12, "120ms"), (1.2, "1.2s"), (59.9996, "1m0s"), (360, "6m0s"), (3723.5, "1h2m3.5s")],
)
def test_durations_are_written_as_openai_writes_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text
