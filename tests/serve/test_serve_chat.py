"""Chats over HTTP, as OpenAI's own client, curl and plain HTTP have them."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import time
from collections.abc import Callable
from typing import Any

import httpx2
import openai
import pytest
from pydantic import BaseModel

from loom_py import Agent, AgentBuilder, ScriptedProvider
from loom_py.errors import ServiceUnavailableError
from loom_py.llm.scripted import ScriptedRequest
from loom_py.messages import ImagePart
from loom_py.serve import serving
from loom_py.serve.wire import ChatRequest

Ask = Callable[..., dict[str, Any]]
MISSING = "missing_required_parameter"
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"of": {"type": "string"}}, "required": ["of"]},
    },
}


def _user(content: Any) -> Any:
    return [{"role": "user", "content": content}]


def _events(text: str) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


# ── OpenAI's client ──────────────────────────────────────────────────────────────────────


def test_openais_client_gets_an_answer_with_its_usage(client: openai.OpenAI) -> None:
    found = client.chat.completions.create(model="helper", messages=_user("grüße 🌍"))
    assert found.choices[0].message.content == "echo grüße 🌍"
    assert found.choices[0].finish_reason == "stop"
    assert found.model == "helper"
    assert found.id.startswith("chatcmpl-")
    assert found.usage is not None
    assert (found.usage.prompt_tokens, found.usage.completion_tokens, found.usage.total_tokens) == (10, 5, 15)


def test_a_stream_has_a_role_then_text_then_a_reason_and_the_usage_if_asked(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="helper", messages=_user("slow 3"), stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == "word0 word1 word2 "
    assert [chunk.choices[0].finish_reason for chunk in chunks[-3:-1]] == [None, "stop"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 15
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_stream_comes_as_it_is_made_and_not_at_its_end(url: str, ask: Ask) -> None:
    with httpx2.stream("POST", f"{url}/v1/chat/completions", json=ask("slow 40", stream=True)) as answer:
        lines = answer.iter_lines()
        assert '"role":"assistant"' in next(lines)
        began = time.perf_counter()
        assert any("word0" in next(lines) for _ in range(4))
        assert time.perf_counter() - began < 1  # all of it takes 2 s
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"


def test_a_stream_without_stream_options_has_no_usage(http: httpx2.Client, ask: Ask) -> None:
    text = http.post("/v1/chat/completions", json=ask(stream=True)).text
    assert text.endswith("data: [DONE]\n\n")
    assert all("usage" not in event for event in _events(text))


async def test_the_async_client_has_many_chats_at_once(url: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client:

        async def one(number: int) -> str:
            stream = await client.chat.completions.create(
                model="helper", messages=_user(f"number {number}"), stream=True
            )
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

        assert await asyncio.gather(*map(one, range(20))) == [f"echo number {n}" for n in range(20)]


def test_the_models_are_listed_and_looked_up(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["helper"]
    assert client.models.retrieve("helper").owned_by == "loom_py"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nobody")


def test_several_agents_are_models_of_their_names(agent: Agent) -> None:
    with (
        AgentBuilder().with_llm(ScriptedProvider(lambda _: "the other")).build() as other,
        serving({"first": agent, "team/second": other}) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="x") as client,
    ):
        assert [model.id for model in client.models.list()] == ["first", "team/second"]
        assert client.models.retrieve("team/second").id == "team/second"
        found = client.chat.completions.create(model="team/second", messages=_user("hi"))
        assert found.choices[0].message.content == "the other"


def test_curl_gets_an_answer_and_a_stream(url: str, ask: Ask) -> None:
    def curl(body: dict[str, Any]) -> str:
        arguments = [
            "curl",
            "-sS",
            "-N",
            f"{url}/v1/chat/completions",
            "-H",
            "content-type: application/json",
        ]
        return subprocess.run(
            [*arguments, "-d", json.dumps(body)], capture_output=True, text=True, check=True, timeout=20
        ).stdout

    assert json.loads(curl(ask()))["choices"][0]["message"]["content"] == "echo hello"
    assert curl(ask(stream=True)).endswith("data: [DONE]\n\n")


# ── the conversation ─────────────────────────────────────────────────────────────────────


def test_the_clients_history_is_what_the_agent_hears(client: openai.OpenAI) -> None:
    messages: Any = [
        {"role": "developer", "content": "be brief"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "my name"}, {"type": "text", "text": " is Ada"}],
        },
        {"role": "assistant", "content": "noted", "refusal": None, "annotations": []},
        {"role": "user", "content": "history"},
    ]
    found = client.chat.completions.create(model="helper", messages=messages).choices[0].message.content
    assert found == "system: be brief | user: my name is Ada | assistant: noted | user: history"


def test_nothing_is_remembered_without_a_session(client: openai.OpenAI, agent: Agent) -> None:
    for _ in range(2):
        found = client.chat.completions.create(model="helper", messages=_user("history"))
        assert found.choices[0].message.content == "user: history"
    assert agent.sessions() == ()


def test_images_and_options_reach_the_model() -> None:
    seen: list[ScriptedRequest] = []

    def model(request: ScriptedRequest) -> str:
        seen.append(request)
        return "a cat"

    pixel = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
    content: Any = [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": pixel, "detail": "low"}},
    ]
    with (
        AgentBuilder().with_llm(ScriptedProvider(model)).with_name("eye").build() as agent,
        serving(agent) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="x") as client,
    ):
        client.chat.completions.create(
            model="eye",
            messages=[{"role": "user", "content": content}],
            temperature=0.2,
            max_completion_tokens=50,
            stop=["END"],
            seed=7,
            response_format={"type": "json_object"},
            frequency_penalty=0.5,
            user="ada",
            metadata={"team": "x"},
        )
    options = seen[0].options
    assert (options.temperature, options.max_tokens, options.stop, options.seed) == (0.2, 50, ["END"], 7)
    assert options.response_format == {"type": "json_object"}
    assert options.extra_body == {"frequency_penalty": 0.5}
    assert options.user == "ada"
    image = seen[0].messages[-1].content[1]
    assert isinstance(image, ImagePart)
    assert (image.url, image.detail) == (pixel, "low")


# ── tools ────────────────────────────────────────────────────────────────────────────────


def test_the_agents_own_tools_run_on_the_server_unseen(http: httpx2.Client, ask: Ask) -> None:
    found = http.post("/v1/chat/completions", json=ask("stock")).json()
    assert found["choices"][0]["message"]["content"] == "echo 12 of Oslo"
    assert "tool_calls" not in found["choices"][0]["message"]
    assert found["usage"]["total_tokens"] == 30
    assert "loom" not in found
    text = http.post("/v1/chat/completions", json=ask("stock", stream=True)).text
    assert all("loom" not in event and event["choices"] for event in _events(text))


def test_whoever_asks_is_told_of_tools_usage_and_cost(http: httpx2.Client, ask: Ask) -> None:
    told = {"X-Loom-Events": "true"}
    text = http.post("/v1/chat/completions", json=ask("stock", stream=True), headers=told).text
    events = [event["loom"] for event in _events(text) if "loom" in event]
    assert [event["type"] for event in events] == [
        "tool_call_started",
        "tool_call_completed",
        "tool_result",
        "final",
    ]
    assert events[2]["result"]["content"] == "12 of Oslo"
    assert events[-1]["cost_usd"] == "0.008"
    whole = http.post("/v1/chat/completions", json=ask("stock"), headers=told).json()["loom"]
    assert [event["type"] for event in whole["events"]] == [event["type"] for event in events[:-1]]
    assert whole["cost_usd"] == "0.008"
    assert whole["tool_executions"] == 1


def test_a_server_may_keep_what_happens_to_itself(start: Callable[..., str], ask: Ask) -> None:
    url = start(show_events=False)
    found = httpx2.post(
        f"{url}/v1/chat/completions", json=ask("stock"), headers={"X-Loom-Events": "true"}, verify=False
    )
    assert "loom" not in found.json()


def test_policies_are_told_of_too(ask: Ask) -> None:
    failing: list[Any] = [ServiceUnavailableError("down"), "well"]
    builder = (
        AgentBuilder()
        .with_llm(ScriptedProvider(failing))
        .with_retries(initial_seconds=0.01, jitter_seconds=0.0)
    )
    with builder.with_name("helper").build() as agent, serving(agent) as url:
        found = httpx2.post(f"{url}/v1/chat/completions", json=ask(), headers={"X-Loom-Events": "1"}).json()
    policy = [event for event in found["loom"]["events"] if event["type"] == "policy"]
    assert [event["name"] for event in policy] == ["retry_scheduled"]


@pytest.mark.parametrize("stream", [False, True])
def test_the_callers_tools_are_returned_to_the_caller(client: openai.OpenAI, stream: bool) -> None:
    messages = _user("weather and stock")
    if stream:
        chunks = list(
            client.chat.completions.create(model="helper", messages=messages, tools=[WEATHER], stream=True)
        )
        assert chunks[-1].choices[0].finish_reason == "tool_calls"
        calls: Any = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()]
        assert [call.index for call in calls] == [0]
    else:
        found = client.chat.completions.create(model="helper", messages=messages, tools=[WEATHER])
        assert found.choices[0].finish_reason == "tool_calls"
        assert found.choices[0].message.content is None
        calls = found.choices[0].message.tool_calls
    (call,) = calls  # the agent's own is left out
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"of": "Oslo"})
    function = {"name": call.function.name, "arguments": call.function.arguments}
    messages += [
        {"role": "assistant", "tool_calls": [{"id": call.id, "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": call.id, "content": "rain"},
    ]
    found = client.chat.completions.create(model="helper", messages=messages, tools=[WEATHER])
    assert found.choices[0].message.content == "echo rain"


def test_tool_choice_none_offers_the_model_no_tool_of_the_callers(client: openai.OpenAI) -> None:
    found = client.chat.completions.create(
        model="helper", messages=_user("weather"), tools=[WEATHER], tool_choice="none"
    )
    assert found.choices[0].message.content == "echo weather"


def test_a_callers_tool_may_not_bear_the_name_of_an_own_one(client: openai.OpenAI) -> None:
    clash: Any = {"type": "function", "function": {"name": "stock"}}
    with pytest.raises(openai.BadRequestError, match="the agent has a tool of that name itself: stock"):
        client.chat.completions.create(model="helper", messages=_user("x"), tools=[clash])


# ── what goes wrong ──────────────────────────────────────────────────────────────────────


def test_an_error_of_the_model_says_no_more_than_a_caller_should_know(http: httpx2.Client, ask: Ask) -> None:
    found = http.post("/v1/chat/completions", json=ask("away"))
    assert found.status_code == 502  # and not 401: the caller's own key is right
    assert found.json()["error"] == {
        "message": "the model's service refused this server",
        "type": "server_error",
        "param": None,
        "code": "unauthorized",
    }
    assert found.headers["x-request-id"].startswith("req_")


def test_an_error_nobody_expects_is_told_without_its_words(http: httpx2.Client, ask: Ask) -> None:
    found = http.post("/v1/chat/completions", json=ask("fail"))
    assert found.status_code == 502
    assert "upstream-secret" not in found.text
    assert found.json()["error"]["message"] == "the model's service failed"


def test_a_busy_model_says_when_to_come_again(client: openai.OpenAI) -> None:
    with pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(model="helper", messages=_user("busy"))
    assert caught.value.response.headers["retry-after"] == "8"


def test_an_error_before_the_first_event_of_a_stream_has_its_own_status(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model="helper", messages=_user("away"), stream=True)
    assert caught.value.status_code == 502


def test_an_error_within_a_stream_is_its_last_event(
    client: openai.OpenAI, http: httpx2.Client, ask: Ask
) -> None:
    stream = client.chat.completions.create(model="helper", messages=_user("cut 2"), stream=True)
    assert [next(stream).choices[0].delta.content for _ in range(3)] == ["", "word0 ", "word1 "]
    with pytest.raises(openai.APIError, match="the model's answer broke off"):
        next(stream)
    text = http.post("/v1/chat/completions", json=ask("cut 1", stream=True)).text
    assert text.split("\n\n")[-2].startswith("event: error\ndata: {")
    assert "[DONE]" not in text
    assert "upstream-secret" not in text


def test_an_answer_that_takes_too_long_is_ended(start: Callable[..., str], ask: Ask) -> None:
    url = start(request_timeout=0.2)
    found = httpx2.post(f"{url}/v1/chat/completions", json=ask("slow 100"))
    assert found.status_code == 504
    assert found.json()["error"]["code"] == "deadline_exceeded"
    text = httpx2.post(f"{url}/v1/chat/completions", json=ask("slow 100", stream=True)).text
    assert '"code":"deadline_exceeded"' in text


def test_too_many_chats_at_once_are_told_to_come_again(start: Callable[..., str], ask: Ask) -> None:
    url = start(max_concurrency=1)
    with httpx2.stream("POST", f"{url}/v1/chat/completions", json=ask("slow 40", stream=True)) as first:
        assert first.status_code == 200
        found = httpx2.post(f"{url}/v1/chat/completions", json=ask())
        assert (found.status_code, found.headers["retry-after"]) == (503, "1")
        assert found.json()["error"]["code"] == "server_busy"
    _until(lambda: httpx2.post(f"{url}/v1/chat/completions", json=ask()).status_code == 200)


def _until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_hangs_up_ends_its_chat_at_once(url: str, ask: Ask, agent: Agent, stream: bool) -> None:
    provider: Any = agent.provider
    address = f"{url}/v1/chat/completions"
    with httpx2.Client(timeout=httpx2.Timeout(5, read=0.3)) as http:
        if stream:
            with http.stream("POST", address, json=ask("slow 2000", stream=True)) as answer:
                next(answer.iter_lines())
        else:
            with pytest.raises(httpx2.ReadTimeout):
                http.post(address, json=ask("slow 2000"))
    _until(lambda: provider.cancelled == 1)
    assert provider.ended == 0
    _until(lambda: next(iter(agent.health().deployments.values())).in_flight == 0)


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"n": 2}, "n", "unsupported_parameter"),
        ({"logprobs": True}, "logprobs", "unsupported_parameter"),
        ({"functions": [{}]}, "functions", "unsupported_parameter"),
        ({"modalities": ["audio"]}, "modalities", "unsupported_parameter"),
        ({"moderation": {"model": "x"}}, "moderation", "unsupported_parameter"),
        ({"colour": "red"}, "colour", "unknown_parameter"),
        ({"a colour\n": "red"}, None, "unknown_parameter"),
        ({"model": 5}, "model", "invalid_request_error"),
        ({"messages": []}, "messages", "invalid_request_error"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role", "invalid_request_error"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "invalid_request_error"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "messages", "invalid_request_error"),
        (
            {"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]},
            "messages[0].tool_call_id",
            "invalid_request_error",
        ),
        ({"messages": [None]}, "messages[0]", "invalid_request_error"),
        (
            {"messages": _user([{"type": "input_audio"}])},
            "messages[0].content[0].type",
            "invalid_request_error",
        ),
        (
            {"messages": _user([{"type": "text"}])},
            "messages[0].content[0].text",
            "missing_required_parameter",
        ),
        ({"messages": _user([{"text": "x"}])}, "messages[0].content[0].type", "missing_required_parameter"),
        ({"messages": _user(5)}, "messages[0].content", "invalid_request_error"),
        ({"stop": ["a", None]}, "stop[1]", "invalid_request_error"),
        ({"logit_bias": {"a secret": "x"}}, "logit_bias", "invalid_request_error"),
        ({"tools": [WEATHER], "tool_choice": {"type": "any"}}, "tool_choice.type", "invalid_request_error"),
        ({"temperature": 3}, "temperature", "invalid_request_error"),
        ({"max_tokens": 0}, "max_tokens", "invalid_request_error"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "invalid_request_error"),
        ({"tool_choice": "required"}, "tool_choice", "invalid_request_error"),
        ({"tools": [WEATHER, WEATHER]}, "tools", "invalid_request_error"),
        ({"model": "nobody"}, "model", "model_not_found"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(
    http: httpx2.Client, ask: Ask, change: dict[str, Any], param: str, code: str
) -> None:
    found = http.post("/v1/chat/completions", json=ask() | change)
    error = found.json()["error"]
    assert found.status_code == (404 if code == "model_not_found" else 400), error
    assert (error["param"], error["code"]) == (param, code)
    assert error["type"] == "invalid_request_error"
    assert len(error["message"]) > 15


@pytest.mark.parametrize(
    "change", [{"temperature": "a password"}, {"messages": _user([{"type": "a password"}])}]
)
def test_what_is_refused_is_not_quoted(http: httpx2.Client, ask: Ask, change: dict[str, Any]) -> None:
    found = http.post("/v1/chat/completions", json=ask() | change)
    assert found.status_code == 400
    assert "password" not in found.text


def test_every_setting_of_openais_client_is_known() -> None:
    from openai.types.chat.completion_create_params import CompletionCreateParamsBase

    assert set(CompletionCreateParamsBase.__annotations__) | {"stream"} == set(ChatRequest.model_fields)


def test_openais_client_reads_an_answer_as_a_model_of_pydantics() -> None:
    class City(BaseModel):
        name: str

    with (
        AgentBuilder()
        .with_llm(ScriptedProvider(lambda _: '{"name": "Oslo"}'))
        .with_name("map")
        .build() as agent,
        serving(agent) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="x") as client,
    ):
        found = client.chat.completions.parse(model="map", messages=_user("?"), response_format=City)
        assert found.choices[0].message.parsed == City(name="Oslo")
        with client.chat.completions.stream(model="map", messages=_user("?"), response_format=City) as stream:
            assert stream.get_final_completion().choices[0].message.parsed == City(name="Oslo")


def test_another_api_of_openais_says_where_chats_go(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="Chats go to /v1/chat/completions"):
        client.responses.create(model="helper", input="hello")
