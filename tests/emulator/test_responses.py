"""The Responses API, on both of its paths."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import BadRequestError, OpenAI

from loom_py.emulator import AzureEmulator, ContentFilters, FaultPlan, FaultRule
from loom_py.errors import StreamInterruptedError
from loom_py.llm.scripted import ScriptedProvider, call, reply
from loom_py.messages import ImagePart, TokenUsage

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


def events(response: httpx2.Response) -> list[Any]:
    found = []
    for block in response.text.split("\n\n"):
        if block:
            name, data = block.split("\n")
            event = json.loads(data.removeprefix("data: "))
            assert name == f"event: {event['type']}"
            found.append(event)
    return found


# ── whole answers ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", [V1, CLASSIC])
def test_both_paths_answer_with_a_response_object(http: httpx2.Client, path: str) -> None:
    answer = http.post(path, json={"model": "chat", "input": "Hello there"})
    body = answer.json()
    assert answer.status_code == 200
    assert (body["object"], body["status"], body["error"]) == ("response", "completed", None)
    assert body["id"].startswith("resp_")
    (message,) = body["output"]
    assert (message["type"], message["role"], message["status"]) == ("message", "assistant", "completed")
    assert message["content"] == [
        {"type": "output_text", "annotations": [], "logprobs": [], "text": "Hello there"}
    ]


def test_the_body_names_the_deployment_and_only_a_header_the_model(http: httpx2.Client) -> None:
    answer = http.post(V1, json={"model": MODEL, "input": "Hi"})
    assert answer.json()["model"] == MODEL
    assert answer.headers["x-ms-served-model"] == "gpt-5-nano-2025-08-07"


def test_usage_has_the_shape_of_this_api(azure: AzureEmulator, http: httpx2.Client) -> None:
    usage = TokenUsage(50, 20, cached_input=30, cache_writes=5, reasoning=12)
    azure.engine = ScriptedProvider([reply("hi", tokens=usage)])
    assert http.post(V1, json={"model": MODEL, "input": "Hi"}).json()["usage"] == {
        "input_tokens": 50,
        "input_tokens_details": {"cached_tokens": 30, "cache_write_tokens": 5},
        "output_tokens": 20,
        "output_tokens_details": {"reasoning_tokens": 12},
        "total_tokens": 70,
    }


def test_the_answer_repeats_the_settings(http: httpx2.Client) -> None:
    settings = {
        "instructions": "Be brief.",
        "max_output_tokens": 100,
        "tools": [TOOL],
        "tool_choice": {"type": "function", "name": "weather"},
        "parallel_tool_calls": False,
        "store": False,
        "metadata": {"a": "b"},
        "text": {"format": {"type": "json_object"}},
        "reasoning": {"effort": "low"},
    }
    body = http.post(V1, json={"model": "chat", "input": "Hi", **settings}).json()
    expected = {
        **settings,
        "text": {"format": {"type": "json_object"}, "verbosity": "medium"},
        "reasoning": {"effort": "low", "summary": None},
    }
    assert {key: body[key] for key in settings} == expected


def test_the_engine_gets_the_conversation(azure: AzureEmulator, http: httpx2.Client) -> None:
    engine = azure.engine = ScriptedProvider(["done"])
    items = [
        {"role": "developer", "content": "Rules"},
        {"role": "user", "content": [{"type": "input_text", "text": "Look"}, image("https://x/y.png")]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAAopaque"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Moment"}]},
        {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"city":"Oslo"}'},
        {"type": "function_call", "call_id": "c2", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c2", "output": "sun"},
        {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "rain"}]},
    ]
    body = {"model": MODEL, "input": items, "instructions": "Be brief.", "tools": [TOOL]}
    assert http.post(V1, json={**body, "reasoning": {"effort": "high"}}).status_code == 200
    request = engine.requests[0]
    roles = ["system", "system", "user", "assistant", "tool", "tool"]
    assert [message.role for message in request.messages] == roles
    assert request.messages[0].text == "Be brief."
    assert request.messages[2].content[1] == ImagePart(url="https://x/y.png")
    assistant = request.messages[3]
    assert (assistant.text, [call.id for call in assistant.tool_calls]) == ("Moment", ["c1", "c2"])
    assert assistant.provider_data == {"reasoning_items": [items[2]]}
    assert (request.messages[5].text, request.messages[5].tool_call_id) == ("rain", "c1")
    assert request.options.reasoning_effort == "high"
    assert request.tools[0].name == "weather"


def image(url: str) -> dict[str, str]:
    return {"type": "input_image", "image_url": url, "detail": "auto"}


def test_a_model_that_reasons_gives_an_opaque_item_to_be_sent_back(sdk: OpenAI) -> None:
    first = sdk.responses.create(
        model=MODEL, input="What?", include=["reasoning.encrypted_content"], store=False
    )
    reasoning, message = first.output
    assert reasoning.type == "reasoning"
    assert reasoning.encrypted_content
    assert message.type == "message"
    history: Any = ["", *(item.model_dump(exclude_none=True) for item in first.output)]
    history[0] = {"role": "user", "content": "What?"}
    again = sdk.responses.create(
        model=MODEL, input=[*history, {"role": "user", "content": "More"}], store=False
    )
    assert again.output_text == "More"


def test_reasoning_is_not_shown_unless_asked_for(http: httpx2.Client) -> None:
    output = http.post(V1, json={"model": MODEL, "input": "Hi"}).json()["output"]
    assert [item["type"] for item in output] == ["reasoning", "message"]
    assert "encrypted_content" not in output[0]


def test_an_engines_own_reasoning_items_go_out_as_they_are(azure: AzureEmulator, http: httpx2.Client) -> None:
    item = {"id": "rs_x", "type": "reasoning", "summary": [], "encrypted_content": "mine"}
    azure.engine = ScriptedProvider([replace(reply("hi"), provider_data={"reasoning_items": [item]})])
    assert http.post(V1, json={"model": "chat", "input": "Hi"}).json()["output"][0] == item


def test_tools_are_called_and_answered_by_the_sdk(azure: AzureEmulator, sdk: OpenAI) -> None:
    azure.engine = ScriptedProvider([call("weather", city="Oslo"), "It rains."])
    first = sdk.responses.create(model=MODEL, input="Weather?", tools=[TOOL])
    asked = first.output[-1]
    assert asked.type == "function_call"
    assert (asked.name, json.loads(asked.arguments)) == ("weather", {"city": "Oslo"})
    assert not [item for item in first.output if item.type == "message"]
    second = sdk.responses.create(
        model=MODEL,
        input=[{"type": "function_call_output", "call_id": asked.call_id, "output": "rain"}],
        previous_response_id=first.id,
        tools=[TOOL],
    )
    assert second.output_text == "It rains."


def test_a_stored_response_is_continued_without_its_instructions(azure: AzureEmulator, sdk: OpenAI) -> None:
    engine = azure.engine = ScriptedProvider(["one", "two", "three"])
    first = sdk.responses.create(model="chat", input="1", instructions="Count.")
    second = sdk.responses.create(model="chat", input="2", previous_response_id=first.id)
    sdk.responses.create(model="chat", input="3", previous_response_id=second.id)
    assert [message.text for message in engine.requests[2].messages] == ["1", "one", "2", "two", "3"]


@pytest.mark.parametrize("stored", ["never", "unstored"])
def test_a_response_that_was_not_stored_cannot_be_continued(sdk: OpenAI, stored: str) -> None:
    identity = "resp_never"
    if stored == "unstored":
        identity = sdk.responses.create(model="chat", input="1", store=False).id
    with pytest.raises(BadRequestError) as caught:
        sdk.responses.create(model="chat", input="2", previous_response_id=identity)
    assert caught.value.code == "previous_response_not_found"
    assert caught.value.param == "previous_response_id"


def test_an_answer_that_ran_into_the_limit_is_incomplete(azure: AzureEmulator, sdk: OpenAI) -> None:
    azure.engine = ScriptedProvider([reply("half an ans", finish_reason="length")])
    answer = sdk.responses.create(model="chat", input="Hi")
    assert answer.status == "incomplete"
    assert answer.incomplete_details
    assert answer.incomplete_details.reason == "max_output_tokens"
    assert answer.output_text == "half an ans"


def test_a_filtered_answer_is_incomplete_and_says_which_side() -> None:
    filters = ContentFilters(completion=["secret"], prompt=["bomb"])
    with (
        AzureEmulator(deployments=["chat"], filters=filters) as azure,
        httpx2.Client(base_url=azure.endpoint, headers={"api-key": azure.api_key}) as http,
    ):
        body = http.post(V1, json={"model": "chat", "input": "the secret"}).json()
        streamed = events(http.post(V1, json={"model": "chat", "input": "the secret", "stream": True}))[-1]
        refused = http.post(V1, json={"model": "chat", "input": "bomb"})
    assert refused.json()["error"]["code"] == "content_filter"
    for answer in (body, streamed["response"]):
        assert answer["incomplete_details"] == {"reason": "content_filter"}
        prompt, completion = answer["content_filters"]
        assert (prompt["source_type"], prompt["blocked"]) == ("prompt", False)
        assert (completion["source_type"], completion["blocked"]) == ("completion", True)
        assert completion["content_filter_results"]["violence"]["filtered"] is True
    assert streamed["type"] == "response.incomplete"


# ── streams ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", [V1, CLASSIC])
def test_a_stream_opens_fills_and_closes_each_item(http: httpx2.Client, path: str) -> None:
    answer = http.post(path, json={"model": "chat", "input": "Hello there", "stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    found = events(answer)
    assert [event["type"].removeprefix("response.") for event in found] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    assert "".join(event.get("delta", "") for event in found) == "Hello there"
    assert found[0]["response"]["status"] == "in_progress"
    whole = found[-1]["response"]
    assert whole["usage"]["total_tokens"] > 0
    assert whole["output"][0] == found[-2]["item"]
    assert whole["output"][0]["content"][0]["text"] == "Hello there"


def test_the_sdk_reads_a_stream_with_reasoning_text_and_calls(azure: AzureEmulator, sdk: OpenAI) -> None:
    azure.engine = ScriptedProvider(
        [reply("Moment.", tool_calls=[call("weather", city="Oslo"), call("weather", city="Bergen")])]
    )
    with sdk.responses.stream(model=MODEL, input="Weather?", tools=[TOOL]) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_response()
    assert "response.function_call_arguments.delta" in kinds
    assert [item.type for item in final.output] == ["reasoning", "message", "function_call", "function_call"]
    assert final.output_text == "Moment."
    arguments = [json.loads(item.arguments) for item in final.output if item.type == "function_call"]
    assert arguments == [{"city": "Oslo"}, {"city": "Bergen"}]
    assert len({item.model_dump()["id"] for item in final.output}) == 4


def test_a_streamed_response_can_be_continued(azure: AzureEmulator, sdk: OpenAI) -> None:
    engine = azure.engine = ScriptedProvider(["one", "two"])
    with sdk.responses.stream(model="chat", input="1") as stream:
        first = stream.get_final_response()
    sdk.responses.create(model="chat", input="2", previous_response_id=first.id)
    assert [message.text for message in engine.requests[1].messages] == ["1", "one", "2"]


def test_a_stream_and_a_whole_answer_say_the_same(azure: AzureEmulator, http: httpx2.Client) -> None:
    azure.engine = ScriptedProvider([reply("Moment.", tool_calls=[call("weather", city="Oslo")])] * 2)
    body = {"model": MODEL, "input": "Weather?", "tools": [TOOL]}
    whole = http.post(V1, json=body).json()
    streamed = events(http.post(V1, json={**body, "stream": True}))[-1]["response"]

    def anonymous(value: Any) -> Any:
        if isinstance(value, dict):
            names = {"id", "call_id", "created_at", "completed_at"}
            return {key: anonymous(item) for key, item in value.items() if key not in names}
        return [anonymous(item) for item in value] if isinstance(value, list) else value

    assert anonymous(whole) == anonymous(streamed)


def test_an_error_in_a_stream_is_an_event(azure: AzureEmulator, http: httpx2.Client) -> None:
    azure.faults = FaultPlan(rules=[FaultRule(error="stream-error")])
    last = events(http.post(V1, json={"model": "chat", "input": "Hello there", "stream": True}))[-1]
    assert (last["type"], "had an error" in last["message"]) == ("error", True)


def test_an_engine_that_breaks_off_drops_the_connection(azure: AzureEmulator, http: httpx2.Client) -> None:
    azure.engine = ScriptedProvider([StreamInterruptedError("gone", partial_text="half ")])
    with pytest.raises(httpx2.RemoteProtocolError):
        http.post(V1, json={"model": "chat", "input": "Hi", "stream": True})
