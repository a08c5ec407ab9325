"""What the Responses API refuses, and the shapes that were recorded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import AuthenticationError as SDKAuthenticationError
from openai import AzureOpenAI, OpenAI

from loom_py.emulator import AzureEmulator, Quota
from loom_py.errors import RateLimitError
from loom_py.llm.scripted import ScriptedProvider
from loom_py.messages import Message

CORPUS = Path(__file__).parents[3] / "shared" / "azure_corpus" / "exchanges"
MODEL = "reasoner"
V1 = "/openai/v1/responses"
CLASSIC = "/openai/responses?api-version=2025-04-01-preview"
TOOL: Any = {
    "type": "function",
    "name": "weather",
    "description": "The weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}


@pytest.fixture
def azure() -> Iterator[AzureEmulator]:
    with AzureEmulator(deployments={MODEL: "gpt-5-nano-2025-08-07", "chat": "gpt-4o-2024-11-20"}) as emulator:
        yield emulator


@pytest.fixture
def sdk(azure: AzureEmulator) -> Iterator[OpenAI]:
    with OpenAI(
        base_url=f"{azure.endpoint}/openai/v1/",
        api_key=azure.api_key,
        max_retries=0,
        http_client=httpx2.Client(verify=False),
    ) as client:
        yield client


@pytest.fixture
def http(azure: AzureEmulator) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=azure.endpoint, headers={"api-key": azure.api_key}, verify=False) as client:
        yield client


# ── refusals ─────────────────────────────────────────────────────────────────────────────


def test_the_classic_path_wants_an_api_version(http: httpx2.Client) -> None:
    answer = http.post("/openai/responses", json={"model": "chat", "input": "Hi"})
    assert (answer.status_code, answer.json()["error"]["message"]) == (404, "Resource not found")


def test_the_azure_client_takes_the_classic_path(azure: AzureEmulator) -> None:
    with AzureOpenAI(
        azure_endpoint=azure.endpoint, api_key=azure.api_key, api_version="2025-04-01-preview"
    ) as client:
        assert client.responses.create(model="chat", input="Hi").output_text == "Hi"
    assert azure.requests[0].path == "/openai/responses"


def test_an_unknown_model_is_no_deployment(http: httpx2.Client) -> None:
    answer = http.post(V1, json={"model": "nope", "input": "Hi"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "DeploymentNotFound")
    assert http.post(V1, json={"input": "Hi"}).status_code == 400


def test_a_wrong_key_is_401(azure: AzureEmulator) -> None:
    with (
        OpenAI(base_url=f"{azure.endpoint}/openai/v1/", api_key="wrong", max_retries=0) as client,
        pytest.raises(SDKAuthenticationError),
    ):
        client.responses.create(model="chat", input="Hi")


CALL = {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"}


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({}, "input", "Missing required parameter: 'input'."),
        ({"input": 5}, "input", "expected a string or array of objects, but got an integer"),
        ({"input": ["x"]}, "input[0]", "expected an object"),
        ({"input": [{"role": "robot", "content": "x"}]}, "input[0]", "Invalid value: 'robot'"),
        ({"input": [{"type": "magic"}]}, "input[0].type", "Invalid value: 'magic'"),
        ({"input": [{"role": "user"}]}, "input[0].content", "Missing required parameter"),
        ({"input": [{"role": "user", "content": [{"type": "text"}]}]}, None, "Invalid value: 'text'"),
        ({"input": [{"type": "function_call", "name": "x"}]}, "input[0].call_id", "Missing required"),
        ({"input": [CALL]}, "input", "No tool output found for function call c1."),
        (
            {"input": [{"type": "function_call_output", "call_id": "c9", "output": "x"}]},
            "input",
            "No tool call found for function call output with call_id c9.",
        ),
        ({"input": "x", "messages": []}, "messages", "this parameter has moved to 'input'"),
        ({"input": "x", "max_tokens": 5}, "max_tokens", "has moved to 'max_output_tokens'"),
        ({"input": "x", "reasoning_effort": "low"}, "reasoning_effort", "'reasoning.effort'"),
        ({"input": "x", "max_output_tokens": 3}, "max_output_tokens", "Expected a value >= 16"),
        ({"input": "x", "tools": [{"type": "function"}]}, "tools[0].name", "Missing required"),
        ({"input": "x", "tools": [{**TOOL, "name": "a b"}]}, "tools[0].name", "does not match pattern"),
        ({"input": "x", "tool_choice": "maybe"}, "tool_choice", "Invalid value: 'maybe'"),
        ({"input": "x", "tool_choice": "required"}, "tool_choice", "only allowed when 'tools'"),
        ({"input": "x", "stream": "yes"}, "stream", "expected a boolean"),
        ({"input": "x", "temperature": 3}, "temperature", "Expected a value <= 2"),
        ({"input": "x", "reasoning": "low"}, "reasoning", "expected an object"),
        ({"input": "x", "temperature": 0.5, "model": MODEL}, "temperature", "is not supported with this"),
        ({"input": "x", "text": 5}, "text", "expected an object"),
        ({"input": "x", "include": 5, "model": MODEL}, "include", "expected an array of strings"),
        ({"input": "x", "previous_response_id": 5}, "previous_response_id", "expected a string"),
    ],
)
def test_a_bad_request_is_refused_in_azures_words(
    http: httpx2.Client, body: dict[str, Any], param: str | None, message: str
) -> None:
    answer = http.post(V1, json={"model": "chat", **body})
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (400, "invalid_request_error")
    assert message in error["message"]
    assert param is None or error["param"] == param


RECORDED = [path for path in sorted(CORPUS.glob("*_200_responses*.json")) if CORPUS.is_dir()]


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_a_recorded_request_gets_an_answer_of_the_recorded_shape(path: Path) -> None:
    exchange = json.loads(path.read_text("utf-8"))
    recorded, body = exchange["response"]["json"], exchange["request"]["body"]
    with (
        AzureEmulator(deployments=[body["model"]]) as azure,
        httpx2.Client(base_url=azure.endpoint, headers={"api-key": azure.api_key}, verify=False) as http,
    ):
        answer = http.post(V1, json={**body, "stream": False})
    assert answer.status_code == 200
    shown = answer.json()
    newer = {"frequency_penalty", "presence_penalty", "prompt_cache_retention", "moderation", "tool_usage"}
    assert recorded.keys() - newer <= shown.keys()
    assert [item["type"] for item in shown["output"] if item["type"] == "message"] == ["message"]
    (said,) = [item for item in shown["output"] if item["type"] == "message"]
    (known,) = [item for item in recorded["output"] if item["type"] == "message"]
    assert known.keys() - {"phase"} <= said.keys()
    assert known["content"][0].keys() == said["content"][0].keys()
    assert shown["usage"].keys() == recorded["usage"].keys()


def test_engine_errors_and_quotas_are_those_of_the_other_api(http: httpx2.Client) -> None:
    engine = ScriptedProvider([RateLimitError("slow down", retry_after=3)])
    with (
        AzureEmulator(engine, deployments=["chat"]) as azure,
        httpx2.Client(base_url=azure.endpoint, headers={"api-key": azure.api_key}) as client,
    ):
        limited = client.post(V1, json={"model": "chat", "input": "Hi", "stream": True})
    assert (limited.status_code, limited.headers["retry-after"]) == (429, "3")
    quota = Quota(requests_per_minute=1, style="2025")
    with (
        AzureEmulator(deployments=["chat"], quotas={"chat": quota}) as azure,
        httpx2.Client(base_url=azure.endpoint, headers={"api-key": azure.api_key}) as client,
    ):
        answers = [client.post(CLASSIC, json={"model": "chat", "input": "Hi"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert "This request was for Responses_Create" in answers[1].json()["error"]["message"]


def test_messages_are_decoded_as_text_where_they_can_be(azure: AzureEmulator, http: httpx2.Client) -> None:
    engine = azure.engine = ScriptedProvider(["ok"])
    items = [{"role": "assistant", "content": "A"}, {"role": "user", "content": "B"}]
    http.post(V1, json={"model": "chat", "input": items})
    assert engine.requests[0].messages == (Message.assistant("A"), Message.user("B"))
