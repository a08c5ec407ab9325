"""Answers that are errors: credentials, paths, bodies, engines, and what a test scripts."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from openai import AuthenticationError as SDKAuthenticationError
from openai import AzureOpenAI

from loom_py.emulator import AzureEmulator
from loom_py.errors import (
    AuthenticationError,
    CircuitOpenError,
    ConnectionFailedError,
    ContentFilterError,
    ContextLengthError,
    DeploymentNotFoundError,
    IncompleteResponseError,
    InvalidRequestError,
    LoomError,
    NetworkAccessError,
    NotFoundError,
    RateLimitError,
    RequestTimeoutError,
    ServiceUnavailableError,
    StreamInterruptedError,
    UnsupportedParameterError,
)
from loom_py.llm.scripted import ScriptedProvider
from loom_py.messages import TokenUsage

DEPLOYMENT = "gpt-4o-deployment"
PATH = f"/openai/deployments/{DEPLOYMENT}/chat/completions"
BODY: Any = {"messages": [{"role": "user", "content": "Hi"}]}
Ask = Callable[..., httpx2.Response]


# ── the gateway ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("stream", [False, True])
def test_a_wrong_key_is_401_in_json(http: httpx2.Client, stream: bool) -> None:
    body = {**BODY, "stream": stream}
    response = http.post(f"{PATH}?api-version=1", json=body, headers={"api-key": "wrong"})
    assert response.status_code == 401
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {
        "error": {
            "code": "401",
            "message": "Access denied due to invalid subscription key or wrong API endpoint. Make sure to "
            "provide a valid key for an active subscription and use a correct regional API endpoint for your "
            "resource.",
        }
    }
    assert "apim-request-id" in response.headers
    assert "x-ms-region" not in response.headers
    assert "x-request-id" not in response.headers


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer nonsense"}, {"authorization": "Basic x"}])
def test_no_credential_or_a_wrong_token_is_401_at_the_top_level(
    azure: AzureEmulator, headers: dict[str, str]
) -> None:
    response = httpx2.post(f"{azure.endpoint}{PATH}?api-version=1", json=BODY, headers=headers)
    assert response.status_code == 401
    assert response.json() == {
        "statusCode": 401,
        "message": "Unauthorized. Access token is missing, invalid, audience is incorrect "
        "(https://cognitiveservices.azure.com), or have expired.",
    }


def test_a_key_is_no_token_on_the_classic_path(azure: AzureEmulator) -> None:
    headers = {"authorization": f"Bearer {azure.api_key}"}
    response = httpx2.post(f"{azure.endpoint}{PATH}?api-version=1", json=BODY, headers=headers)
    assert response.status_code == 401


def test_the_sdk_raises_its_own_error_for_a_wrong_key(azure: AzureEmulator) -> None:
    with (
        AzureOpenAI(azure_endpoint=azure.endpoint, api_key="no", api_version="1", max_retries=0) as client,
        pytest.raises(SDKAuthenticationError, match="Access denied"),
    ):
        client.chat.completions.create(model=DEPLOYMENT, messages=BODY["messages"])


@pytest.mark.parametrize("quirks", [False, True])
def test_an_unknown_deployment_is_404_and_without_content_type_if_quirky(quirks: bool) -> None:
    with AzureEmulator(quirks=quirks) as azure:
        response = httpx2.post(
            f"{azure.endpoint}/openai/deployments/nope/chat/completions?api-version=1",
            json=BODY,
            headers={"api-key": azure.api_key},
        )
    assert response.status_code == 404
    assert response.json() == {
        "error": {
            "type": "invalid_request_error",
            "code": "DeploymentNotFound",
            "message": "The API deployment for this resource does not exist. If you created the "
            "deployment within the last 5 minutes, please wait a moment and try again.",
        }
    }
    assert ("content-type" in response.headers) is not quirks


@pytest.mark.parametrize(
    "url",
    [PATH, f"/openai{PATH}?api-version=1", f"{PATH}/?api-version=1", "/", "/health", f"{PATH}?api-version="],
)
def test_a_wrong_path_or_no_api_version_is_404(http: httpx2.Client, url: str) -> None:
    response = http.post(url, json=BODY)
    assert response.status_code == 404
    assert response.json() == {"error": {"code": "404", "message": "Resource not found"}}


def test_probes_get_a_404(http: httpx2.Client) -> None:
    assert http.get(f"{PATH}?api-version=1").status_code == 404
    head = http.head(f"{PATH}?api-version=1")
    assert (head.status_code, head.content) == (404, b"")


def test_other_methods_are_405(http: httpx2.Client) -> None:
    response = http.put(f"{PATH}?api-version=1", json=BODY)
    assert (response.status_code, response.headers["allow"]) == (405, "POST")


def test_a_body_that_is_too_large_is_413_and_the_next_request_is_served() -> None:
    with (
        AzureEmulator(max_body=1000) as azure,
        httpx2.Client(base_url=azure.endpoint, headers={"api-key": azure.api_key}) as http,
    ):
        large = {"messages": [{"role": "user", "content": "x" * 1500}]}
        response = http.post(f"{PATH}?api-version=1", json=large)
        assert (response.status_code, response.json()["error"]["code"]) == (413, "413")
        assert http.post(f"{PATH}?api-version=1", json=BODY).status_code == 200


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b'{"messages": "Hi"}', b'{"messages": [{"role": "user"}]}']
)
def test_a_bad_body_is_400_from_the_model(http: httpx2.Client, raw: bytes) -> None:
    response = http.post(f"{PATH}?api-version=1", content=raw)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert response.headers["ms-azureml-model-error-statuscode"] == "400"


def test_the_v1_path_wants_a_model(http: httpx2.Client) -> None:
    response = http.post("/openai/v1/chat/completions", json=BODY)
    assert response.status_code == 400
    assert "must provide a model" in response.json()["error"]["message"]


# ── the engine's errors ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("error", "status", "path", "value"),
    [
        (RateLimitError("busy"), 429, "error.message", "busy"),
        (RateLimitError("busy", provider_code="429"), 429, "error.code", "429"),
        (ServiceUnavailableError("down"), 503, "error.message", "down"),
        (ServiceUnavailableError("down", http_status=500), 500, "error.type", "server_error"),
        (ConnectionFailedError("no route"), 503, "error.type", "server_error"),
        (CircuitOpenError("open", retry_after=4), 503, "error.message", "open"),
        (RequestTimeoutError("slow"), 408, "error.code", "Timeout"),
        (AuthenticationError("no"), 401, "error.code", "401"),
        (
            NetworkAccessError("Public access is disabled."),
            403,
            "error.message",
            "Public access is disabled.",
        ),
        (DeploymentNotFoundError("gone"), 404, "error.code", "DeploymentNotFound"),
        (NotFoundError("gone"), 404, "error.message", "Resource not found"),
        (InvalidRequestError("bad", param="top_p"), 400, "error.param", "top_p"),
        (InvalidRequestError("bad", provider_code="invalid_value"), 400, "error.code", "invalid_value"),
        (InvalidRequestError("bad"), 400, "error.code", None),
        (UnsupportedParameterError("bad", param="x"), 400, "error.code", "unsupported_parameter"),
        (ContextLengthError("too long"), 400, "error.code", "context_length_exceeded"),
        (ContentFilterError("no"), 400, "error.code", "content_filter"),
        (StreamInterruptedError("cut"), 500, "error.type", "server_error"),
        (LoomError("odd"), 500, "error.type", "server_error"),
        (ValueError("secret detail"), 500, "error.type", "server_error"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_an_engines_error_becomes_azures(
    azure: AzureEmulator, ask: Ask, error: Exception, status: int, path: str, value: str | None
) -> None:
    azure.engine = ScriptedProvider([error, error])
    for stream in (False, True):
        response = ask(stream=stream)
        found = response.json()
        for key in path.split("."):
            found = found[key]
        assert (response.status_code, found) == (status, value)
        assert azure.requests[-1].error is error
        assert "secret detail" not in response.text
        assert "Traceback" not in response.text


@pytest.mark.parametrize(
    ("wait", "seconds", "milliseconds"),
    [(None, "1", "0"), (2, "2", "2000"), (0.25, "1", "250"), (86400, "86400", "86400000")],
)
def test_a_rate_limit_says_how_long_to_wait(
    azure: AzureEmulator, ask: Ask, wait: float | None, seconds: str, milliseconds: str
) -> None:
    azure.engine = ScriptedProvider([RateLimitError("busy", retry_after=wait)])
    headers = ask().headers
    assert (headers["retry-after"], headers["retry-after-ms"]) == (seconds, milliseconds)


def test_a_filtered_prompt_tells_its_categories_and_uses_quota(azure: AzureEmulator, ask: Ask) -> None:
    violence = {"violence": {"filtered": True, "severity": "medium"}}
    azure.engine = ScriptedProvider([ContentFilterError("no", categories=violence)])
    response = ask()
    error = response.json()["error"]
    assert (error["param"], error["status"]) == ("prompt", 400)
    result = error["innererror"]["content_filter_result"]
    assert result["violence"] == violence["violence"]
    assert result["hate"] == {"filtered": False, "severity": "safe"}
    assert "x-ratelimit-remaining-tokens" in response.headers


def test_a_filtered_answer_is_a_200_without_content(azure: AzureEmulator, ask: Ask) -> None:
    error = ContentFilterError("no", side="completion", tokens_used=TokenUsage(3, 2))
    azure.engine = ScriptedProvider([error])
    response = ask()
    choice = response.json()["choices"][0]
    assert (response.status_code, choice["finish_reason"]) == (200, "content_filter")
    assert choice["message"] == {"role": "assistant"}
    assert response.json()["usage"]["total_tokens"] == 5


def test_an_incomplete_answer_is_a_200_with_finish_reason_length(azure: AzureEmulator, ask: Ask) -> None:
    azure.engine = ScriptedProvider([IncompleteResponseError("thought too long")])
    choice = ask().json()["choices"][0]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("length", "")


def test_a_context_length_error_gives_its_numbers(azure: AzureEmulator, ask: Ask) -> None:
    azure.engine = ScriptedProvider([ContextLengthError("too long", limit=128000, used=192041)])
    assert (
        ask()
        .json()["error"]["message"]
        .startswith(
            "This model's maximum context length is 128000 tokens. However, your messages resulted in 192041 "
        )
    )


def test_a_script_that_ran_out_says_so(azure: AzureEmulator, ask: Ask) -> None:
    azure.engine = ScriptedProvider([])
    response = ask()
    assert response.status_code == 500
    assert "beyond the script" in response.json()["error"]["message"]


# ── scripted trouble ─────────────────────────────────────────────────────────────────────


def test_scripted_failures_come_in_order_and_then_stop(azure: AzureEmulator, ask: Ask) -> None:
    azure.fail_next(429, times=2)
    azure.fail_next(500)
    assert [ask().status_code for _ in range(4)] == [429, 429, 500, 200]
    assert [request.status for request in azure.requests] == [429, 429, 500, 200]


def test_a_scripted_429_is_the_one_of_2026(azure: AzureEmulator, ask: Ask) -> None:
    azure.fail_next(429)
    response = ask()
    assert (response.headers["retry-after"], response.headers["retry-after-ms"]) == ("1", "0")
    assert response.json()["error"]["code"] == "RateLimitReached"
    assert "x-request-id" not in response.headers


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 418, 429, 499, 500, 502, 503, 504])
def test_every_status_has_a_body(azure: AzureEmulator, ask: Ask, status: int) -> None:
    azure.fail_next(status, code="my_code", message="my message")
    response = ask()
    assert response.status_code == status
    assert (response.json()["error"]["code"], response.json()["error"]["message"]) == (
        "my_code",
        "my message",
    )


@pytest.mark.parametrize(
    ("body", "content_type", "text"),
    [
        ("<html>Bad gateway</html>", "text/html", "<html>Bad gateway</html>"),
        (b'{"statusCode": 429}', "application/json", '{"statusCode": 429}'),
        ({"statusCode": 500, "activityId": "a"}, "application/json", '{"statusCode":500,"activityId":"a"}'),
        (b"", None, ""),
    ],
)
def test_a_scripted_failure_may_have_any_body(
    azure: AzureEmulator, ask: Ask, body: Any, content_type: str | None, text: str
) -> None:
    azure.fail_next(502, body=body, headers={"Retry-After": "7"})
    response = ask()
    assert (response.text, response.headers.get("content-type")) == (text, content_type)
    assert response.headers["retry-after"] == "7"


def test_a_fault_may_wait_for_one_deployment() -> None:
    with (
        AzureEmulator(deployments=["a", "b"]) as azure,
        httpx2.Client(base_url=azure.endpoint, headers={"api-key": azure.api_key}) as http,
    ):
        azure.fail_next(503, deployment="b")
        statuses = [
            http.post(f"/openai/deployments/{name}/chat/completions?api-version=1", json=BODY).status_code
            for name in "abab"
        ]
    assert statuses == [200, 503, 200, 200]


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"<html>login</html>", {"content-type": "text/html"}),
        (b"", {"content-type": "application/json"}),
        (json.dumps({"error": {"code": "x"}}).encode(), {"content-type": "application/json"}),
    ],
)
def test_a_raw_answer_goes_out_as_it_is(
    azure: AzureEmulator, ask: Ask, body: bytes, headers: dict[str, str]
) -> None:
    azure.answer_next(headers=headers, body=body)
    response = ask()
    assert (response.status_code, response.content) == (200, body)
    assert response.headers["content-type"] == headers["content-type"]


def test_a_delay_comes_before_whatever_else_is_scripted(azure: AzureEmulator, ask: Ask) -> None:
    azure.delay_next(0.1)
    azure.fail_next(500)
    began = time.perf_counter()
    assert ask().status_code == 500
    assert time.perf_counter() - began >= 0.1


def test_reset_forgets_what_was_scripted_and_recorded(azure: AzureEmulator, ask: Ask) -> None:
    ask()
    azure.fail_next(500)
    azure.reset()
    assert azure.requests == []
    assert ask().status_code == 200


@pytest.mark.parametrize("status", [0, 200, 399, 600])
def test_a_failure_must_be_an_error_status(azure: AzureEmulator, status: int) -> None:
    with pytest.raises(ValueError, match="400 to 599"):
        azure.fail_next(status)


def test_times_must_be_at_least_one(azure: AzureEmulator) -> None:
    with pytest.raises(ValueError, match="times"):
        azure.fail_next(500, times=0)
